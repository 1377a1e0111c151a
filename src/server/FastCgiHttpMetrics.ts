/**
 * Durations and sizes of requests, as metrics with the names of OpenTelemetry's conventions for HTTP servers, beside the counters of
 * `FastCgiMetrics`. Off unless the layer is provided, because they cost CPU for each request.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Registered from "../connection/internal/totals.ts"
import * as Settings from "../settings/settings.ts"
import { FastCgiProcess } from "./FastCgiStatus.ts"
import { ParamsPicker } from "./internal/pickParams.ts"
import * as Watch from "./internal/watch.ts"

/**
 * Options of `layer`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiHttpMetricsOptions {
  /** Upper bounds of the buckets of durations, in seconds. Default those of OpenTelemetry's conventions, 0.005 to 10. */
  readonly durationBoundaries?: ReadonlyArray<number> | undefined
  /** Upper bounds of the buckets of sizes, in bytes. Default 256 to 256 MiB, each four times the one before. */
  readonly sizeBoundaries?: ReadonlyArray<number> | undefined
}

/**
 * Records these metrics for the servers that the layer is provided to, in the `MetricRegistry` of the context:
 *
 * - `http.server.request.duration`, seconds: from the end of the params until the response is complete
 * - `http.server.request.body.size` and `http.server.response.body.size`, bytes
 * - `fastcgi.server.queue.duration`, seconds: how long handlers have waited for their turn (`concurrency`)
 * - `http.server.active_requests`: requests that have not ended
 * - `fastcgi_listen_queue`: connections that the operating system holds until they are accepted, where the platform knows it
 *   (`NodeFastCgiStatus.layerProcess` on Linux)
 *
 * **Details**
 *
 * Attributes are `http.request.method` (`_OTHER` for a method that is neither in RFC 9110 nor PATCH), `url.scheme` and
 * `http.response.status_code`. `error.type` is the status from 500 on, or `aborted` when the request was aborted before its answer.
 * There is no route, because the server does not know it. So there are at most some hundred series, whatever clients send.
 *
 * **Example** (An app with these metrics)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import { FastCgiHttpMetrics, FastCgiResponse, FastCgiServer } from "effect-fastcgi"
 * import { NodeFastCgiListener, NodeFastCgiStatus } from "effect-fastcgi/node"
 *
 * export const HelloLive = FastCgiServer.serve({ responder: Effect.succeed(FastCgiResponse.make("Hello\n")) }).pipe(
 *   Layer.provide(NodeFastCgiListener.layerUnix({ path: "/run/hello.sock" })),
 *   Layer.provide(FastCgiHttpMetrics.layer()),
 *   Layer.provide(NodeFastCgiStatus.layerProcess)
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: FastCgiHttpMetricsOptions): Layer.Layer<never> =>
  Watch.layer(Watch.places.metrics, makeWatcher(options))

/**
 * Whether the environment asks for the metrics: `FASTCGI_HTTP_METRICS` is true or false, yes or no. Default false.
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<boolean> = Config.map(
  Settings.flag("FASTCGI_HTTP_METRICS"),
  (asked) => asked === true
)

/**
 * Provides what `layer` does where `config` asks for it, and nothing elsewhere.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<never, Config.ConfigError> = Layer.unwrap(
  Effect.map(config, (asked) => asked ? layer() : Layer.empty)
)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const defaultDurations = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
const defaultSizes = Array.from({ length: 11 }, (_, power) => 256 * 4 ** power)

// The last one is for all others.
const methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "_OTHER"]

const names = ["REQUEST_METHOD", "HTTPS", "REQUEST_SCHEME", "CONTENT_LENGTH"]
const [method, https, requestScheme, contentLength] = [0, 1, 2, 3]

/** The requests of a method, a scheme and a status. */
class Series {
  readonly duration: Registered.Histogram
  readonly queue: Registered.Histogram
  readonly responseSize: Registered.Histogram
  private requestSizes: Registered.Histogram | undefined
  private readonly context: Context.Context<never>
  private readonly attributes: Readonly<Record<string, string>>
  private readonly sizes: ReadonlyArray<number>

  constructor(
    context: Context.Context<never>,
    attributes: Readonly<Record<string, string>>,
    durations: ReadonlyArray<number>,
    sizes: ReadonlyArray<number>
  ) {
    this.context = context
    this.attributes = attributes
    this.sizes = sizes
    this.duration = this.histogram(
      "http.server.request.duration",
      "seconds",
      durations,
      "How long HTTP requests have taken, in seconds"
    )
    this.queue = this.histogram(
      "fastcgi.server.queue.duration",
      "seconds",
      durations,
      "How long handlers of FastCGI requests have waited for their turn, in seconds"
    )
    this.responseSize = this.histogram(
      "http.server.response.body.size",
      "bytes",
      sizes,
      "Bytes of the bodies of HTTP responses"
    )
  }

  /** There is none until a request has a body. */
  get requestSize(): Registered.Histogram {
    return this.requestSizes ??= this.histogram(
      "http.server.request.body.size",
      "bytes",
      this.sizes,
      "Bytes of the bodies of HTTP requests"
    )
  }

  private histogram(name: string, unit: string, boundaries: ReadonlyArray<number>, description: string) {
    const counts = new Registered.Histogram(boundaries)
    const metric = Metric.histogram(name, { description, boundaries, attributes: { ...this.attributes, unit } })
    Registered.histogram(this.context, metric, counts)
    return counts
  }
}

/** What is recorded in a context, by all servers of it: plain numbers, which are read on demand. */
interface Recorded {
  active: number
  readonly servers: Set<Watch.WatchedServer>
  readonly series: Map<number, Series>
}

const recorded = Registered.totalsOf((context): Recorded => {
  const recorded: Recorded = { active: 0, servers: new Set(), series: new Map() }
  Registered.gauge(
    context,
    Metric.gauge("http.server.active_requests", { description: "HTTP requests that have not ended" }),
    () => recorded.active
  )
  return recorded
})

const makeWatcher = (options: FastCgiHttpMetricsOptions | undefined): Effect.Effect<Watch.Watcher> =>
  Effect.contextWith((context: Context.Context<never>) => {
    const durations = options?.durationBoundaries?.toSorted((a, b) => a - b) ?? defaultDurations
    const sizes = options?.sizeBoundaries?.toSorted((a, b) => a - b) ?? defaultSizes
    const totals = recorded(context)
    const params = new ParamsPicker(names)
    const seriesOf = (key: number): Series => {
      let series = totals.series.get(key)
      if (series === undefined) {
        totals.series.set(key, series = new Series(context, attributesOf(key), durations, sizes))
      }
      return series
    }
    const process = Context.getOption(context, FastCgiProcess)
    if (Option.isSome(process)) {
      const { listenQueue } = process.value
      Registered.gauge(
        context,
        Metric.gauge("fastcgi_listen_queue", {
          description: "Connections that the operating system holds until they are accepted"
        }),
        () => {
          let waiting = 0
          for (const { addresses } of totals.servers) {
            for (const address of addresses) waiting += Option.getOrUndefined(listenQueue(address))?.waiting ?? 0
          }
          return waiting
        }
      )
    }

    return Effect.succeed<Watch.Watcher>({
      onServer(server) {
        totals.servers.add(server)
        return () => totals.servers.delete(server)
      },
      onAdmitted() {
        totals.active++
      },
      onEnded(observation) {
        if (!observation.isRefused) totals.active--
        params.pick(observation.request.params)
        const one = seriesOf(keyOf(params, observation.status))
        one.duration.add(observation.duration / 1000)
        one.queue.add(observation.queueTime / 1000)
        if (params.hasValue(contentLength)) {
          const length = params.text(contentLength)
          if (/^\d{1,15}$/.test(length)) one.requestSize.add(Number(length))
        }
        one.responseSize.add(observation.bodySize)
      }
    })
  })

const maxStatus = 999

const keyOf = (params: ParamsPicker, status: number): number => {
  const isSecure = (params.hasValue(https) && !params.is(https, "off")) || params.is(requestScheme, "https")
  return (methodOf(params) * 2 + (isSecure ? 1 : 0)) * (maxStatus + 1) + status
}

const methodOf = (params: ParamsPicker): number => {
  if (!params.has(method)) return 0
  let at = 0
  while (at < methods.length - 1 && !params.is(method, methods[at])) at++
  return at
}

const attributesOf = (key: number): Readonly<Record<string, string>> => {
  const status = key % (maxStatus + 1)
  const kind = (key - status) / (maxStatus + 1)
  return {
    "http.request.method": methods[Math.floor(kind / 2)],
    "url.scheme": kind % 2 === 1 ? "https" : "http",
    ...(status === 0 ? {} : { "http.response.status_code": String(status) }),
    ...(status === 0 ? { "error.type": "aborted" } : status >= 500 ? { "error.type": String(status) } : {})
  }
}
