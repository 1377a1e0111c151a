/**
 * The counters of servers, as metrics of Effect: how much is open, how much there has been, and which limits have been reached. They
 * are in the `MetricRegistry` of the server's context, one set for all its servers. Everything that reads the registry sees them: an
 * exporter, `Metric.snapshot`, `Metric.value`.
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import * as Registered from "../connection/internal/totals.ts"

/**
 * Connections that are open and read. Connections that `maxConnections` holds back do not count.
 *
 * @category metrics
 * @since 0.1.0
 */
export const connections: Metric.Gauge<number> = Metric.gauge("fastcgi_connections", {
  description: "FastCGI connections that are open"
})

/**
 * Connections that have been accepted.
 *
 * @category metrics
 * @since 0.1.0
 */
export const connectionsAccepted: Metric.Counter<number> = Metric.counter("fastcgi_connections_accepted", {
  description: "FastCGI connections that have been accepted",
  incremental: true
})

/**
 * How often a listener of Node could not accept a connection, usually because the process had no file descriptor left. It counts each
 * time the listener notices this, not each connection that the operating system closed.
 *
 * @category metrics
 * @since 0.1.0
 */
export const acceptFailures: Metric.Counter<number> = Metric.counter("fastcgi_accept_failures", {
  description: "How often a FastCGI listener could not accept connections",
  incremental: true
})

/**
 * Connections that were closed because the peer broke the protocol: bytes that are no FastCGI, or an id in use.
 *
 * @category metrics
 * @since 0.1.0
 */
export const connectionErrors: Metric.Counter<number> = Metric.counter("fastcgi_connection_errors", {
  description: "FastCGI connections that were closed because the peer broke the protocol",
  incremental: true
})

/**
 * Requests that have been admitted.
 *
 * @category metrics
 * @since 0.1.0
 */
export const requests: Metric.Counter<number> = Metric.counter("fastcgi_requests", {
  description: "FastCGI requests that have been admitted",
  incremental: true
})

/**
 * Requests that have been admitted and have not ended.
 *
 * @category metrics
 * @since 0.1.0
 */
export const requestsOpen: Metric.Gauge<number> = Metric.gauge("fastcgi_requests_open", {
  description: "FastCGI requests that have been admitted and have not ended"
})

/**
 * Requests whose handler was interrupted because the web server had aborted them.
 *
 * @category metrics
 * @since 0.1.0
 */
export const requestsAborted: Metric.Counter<number> = Metric.counter("fastcgi_requests_aborted", {
  description: "FastCGI requests that the web server gave up while their handler was running",
  incremental: true
})

/**
 * Requests that failed in their handler or in the body of their response. Each is logged with its cause, as an error. In an HTTP app
 * this is a failure or a defect that is answered with 5xx, whatever middleware stands before it. A missing route does not count, and
 * neither does a status of 500 that the app has chosen.
 *
 * @category metrics
 * @since 0.1.0
 */
export const requestsFailed: Metric.Counter<number> = Metric.counter("fastcgi_requests_failed", {
  description: "FastCGI requests whose handler or response body failed",
  incremental: true
})

/**
 * Requests that took longer than the `slowTimeout` of `FastCgiSlowLog`.
 *
 * @category metrics
 * @since 0.1.0
 */
export const requestsSlow: Metric.Counter<number> = Metric.counter("fastcgi_requests_slow", {
  description: "FastCGI requests that took longer than slowTimeout",
  incremental: true
})

/**
 * Effects of `FastCgiServer.afterResponse` that wait for their response to end, or run.
 *
 * @category metrics
 * @since 0.1.0
 */
export const afterResponse: Metric.Gauge<number> = Metric.gauge("fastcgi_after_response", {
  description: "Effects that run, or will, when their FastCGI response is complete"
})

/**
 * Effects of `FastCgiServer.afterResponse` that failed. Each is logged with its cause, as an error.
 *
 * @category metrics
 * @since 0.1.0
 */
export const afterResponseFailed: Metric.Counter<number> = Metric.counter("fastcgi_after_response_failed", {
  description: "Effects that failed after their FastCGI response was complete",
  incremental: true
})

/**
 * How often each limit has been reached, by the name of its option (`FastCgiLimits.FastCgiLimit`).
 *
 * @category metrics
 * @since 0.1.0
 */
export const limitsReached: Metric.Frequency = Metric.frequency("fastcgi_limits_reached", {
  description: "How often the limits of FastCGI servers have been reached, by option"
})

/**
 * Values that change with every connection and request: plain numbers, read on demand. An update of a metric would cost a look-up in
 * the registry each time.
 *
 * @internal
 */
export interface Totals {
  connections: number
  connectionsAccepted: number
  requests: number
  requestsOpen: number
  afterResponse: number
}

/** @internal */
export const totals: (context: Context.Context<never>) => Totals = Registered.totalsOf((context) => {
  const totals: Totals = { connections: 0, connectionsAccepted: 0, requests: 0, requestsOpen: 0, afterResponse: 0 }
  Registered.gauge(context, connections, () => totals.connections)
  Registered.counter(context, connectionsAccepted, () => totals.connectionsAccepted)
  Registered.counter(context, requests, () => totals.requests)
  Registered.gauge(context, requestsOpen, () => totals.requestsOpen)
  Registered.gauge(context, afterResponse, () => totals.afterResponse)
  // A limit that has not been reached is 0, and not missing.
  for (const metric of [connectionErrors, requestsAborted, requestsFailed, afterResponseFailed, limitsReached]) {
    metric.valueUnsafe(context)
  }
  return totals
})
