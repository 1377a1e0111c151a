/**
 * The counters of clients, gateways and pools, as metrics of Effect: how much is open, how much there has been, and how long it took.
 * They are in the `MetricRegistry` of the pool's context: one set for all its pools, and one with the attribute `upstream` for each
 * upstream that has a name.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import * as Registered from "../connection/internal/totals.ts"
import type { FastCgiClientErrorReason } from "./FastCgiClientError.ts"

/**
 * Connections that are open.
 *
 * @category metrics
 * @since 0.1.0
 */
export const connections: Metric.Gauge<number> = Metric.gauge("fastcgi_client_connections", {
  description: "Connections to FastCGI applications that are open"
})

/**
 * Connections that are open and carry no request.
 *
 * @category metrics
 * @since 0.1.0
 */
export const connectionsIdle: Metric.Gauge<number> = Metric.gauge("fastcgi_client_connections_idle", {
  description: "Connections to FastCGI applications that are open and carry no request"
})

/**
 * Connections that have been opened.
 *
 * @category metrics
 * @since 0.1.0
 */
export const connectionsOpened: Metric.Counter<number> = Metric.counter("fastcgi_client_connections_opened", {
  description: "Connections to FastCGI applications that have been opened",
  incremental: true
})

/**
 * Connections that could not be opened.
 *
 * @category metrics
 * @since 0.1.0
 */
export const connectFailures: Metric.Counter<number> = Metric.counter("fastcgi_client_connect_failures", {
  description: "Connections to FastCGI applications that could not be opened",
  incremental: true
})

/**
 * Requests that have been sent. A request that is sent again counts again.
 *
 * @category metrics
 * @since 0.1.0
 */
export const requests: Metric.Counter<number> = Metric.counter("fastcgi_client_requests", {
  description: "Requests that have been sent to FastCGI applications",
  incremental: true
})

/**
 * Requests that have been sent and have not ended.
 *
 * @category metrics
 * @since 0.1.0
 */
export const requestsOpen: Metric.Gauge<number> = Metric.gauge("fastcgi_client_requests_open", {
  description: "Requests to FastCGI applications that have been sent and have not ended"
})

/**
 * Requests that wait for a connection, because all are in use.
 *
 * @category metrics
 * @since 0.1.0
 */
export const requestsWaiting: Metric.Gauge<number> = Metric.gauge("fastcgi_client_requests_waiting", {
  description: "Requests that wait for a connection to a FastCGI application"
})

/**
 * Requests that were sent again, because their connection was lost before any byte of an answer.
 *
 * @category metrics
 * @since 0.1.0
 */
export const requestsRepeated: Metric.Counter<number> = Metric.counter("fastcgi_client_requests_repeated", {
  description: "Requests that have been sent to a FastCGI application again",
  incremental: true
})

/**
 * How often requests failed that had been sent or waited for a connection, by the tag of the reason of their `FastCgiClientError`. A
 * request that was given up is `Aborted`, and no failure of the application.
 *
 * @category metrics
 * @since 0.1.0
 */
export const failures: Metric.Frequency = Metric.frequency("fastcgi_client_failures", {
  description: "How often requests to FastCGI applications have failed, by reason"
})

// In seconds: from the time of a UNIX socket up to the usual timeouts.
const boundaries = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, Infinity]

/**
 * Seconds that opening a connection took.
 *
 * @category metrics
 * @since 0.1.0
 */
export const connectTime: Metric.Histogram<number> = Metric.histogram("fastcgi_client_connect_seconds", {
  description: "Seconds that opening a connection to a FastCGI application took",
  boundaries
})

/**
 * Seconds that requests waited for a connection. Requests that did not wait are not counted.
 *
 * @category metrics
 * @since 0.1.0
 */
export const waitTime: Metric.Histogram<number> = Metric.histogram("fastcgi_client_wait_seconds", {
  description: "Seconds that requests waited for a connection to a FastCGI application",
  boundaries
})

/**
 * Seconds from sending a request to the head of its response, for HTTP clients and gateways.
 *
 * @category metrics
 * @since 0.1.0
 */
export const headTime: Metric.Histogram<number> = Metric.histogram("fastcgi_client_head_seconds", {
  description: "Seconds from sending a request to the head of its response",
  boundaries
})

/**
 * Seconds from sending a request to its end, whether it succeeded or not.
 *
 * @category metrics
 * @since 0.1.0
 */
export const endTime: Metric.Histogram<number> = Metric.histogram("fastcgi_client_end_seconds", {
  description: "Seconds from sending a request to its end",
  boundaries
})

/** @internal Values that change with every connection and request: plain numbers, read on demand. */
export class Totals {
  connections = 0
  idle = 0
  opened = 0
  connectFailures = 0
  requests = 0
  requestsOpen = 0
  waiting = 0
  repeated = 0
  readonly connectTime = new Registered.Histogram(boundaries)
  readonly waitTime = new Registered.Histogram(boundaries)
  readonly headTime = new Registered.Histogram(boundaries)
  readonly endTime = new Registered.Histogram(boundaries)
  private readonly context: Context.Context<never>

  constructor(context: Context.Context<never>) {
    this.context = context
  }

  failed(reason: FastCgiClientErrorReason["_tag"]): void {
    failures.updateUnsafe(reason, this.context)
  }
}

/** @internal The totals of an upstream, or of all upstreams without a name. */
export const totals = (context: Context.Context<never>, upstream: string | undefined): Totals => {
  if (upstream === undefined) return registered(context)
  const attributes = { ...Context.get(context, Metric.CurrentMetricAttributes), upstream }
  return registered(Context.add(context, Metric.CurrentMetricAttributes, attributes))
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const registered = Registered.totalsOf((context) => {
  const totals = new Totals(context)
  Registered.gauge(context, connections, () => totals.connections)
  Registered.gauge(context, connectionsIdle, () => totals.idle)
  Registered.counter(context, connectionsOpened, () => totals.opened)
  Registered.counter(context, connectFailures, () => totals.connectFailures)
  Registered.counter(context, requests, () => totals.requests)
  Registered.gauge(context, requestsOpen, () => totals.requestsOpen)
  Registered.gauge(context, requestsWaiting, () => totals.waiting)
  Registered.counter(context, requestsRepeated, () => totals.repeated)
  Registered.histogram(context, connectTime, totals.connectTime)
  Registered.histogram(context, waitTime, totals.waitTime)
  Registered.histogram(context, headTime, totals.headTime)
  Registered.histogram(context, endTime, totals.endTime)
  // A failure that has not happened is 0, and not missing.
  failures.valueUnsafe(context)
  return totals
})
