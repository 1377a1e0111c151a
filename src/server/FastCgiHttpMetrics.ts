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

const methods = new Set(["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"])

const names = ["REQUEST_METHOD", "HTTPS", "REQUEST_SCHEME", "CONTENT_LENGTH"]
const [method, https, requestScheme, contentLength] = [0, 1, 2, 3]

interface Series {
  readonly duration: Metric.Histogram<number>
  readonly queue: Metric.Histogram<number>
  readonly requestSize: Metric.Histogram<number>
  readonly responseSize: Metric.Histogram<number>
}

const makeWatcher = (options: FastCgiHttpMetricsOptions | undefined): Effect.Effect<Watch.Watcher> =>
  Effect.contextWith((context: Context.Context<never>) => {
    const durations = options?.durationBoundaries ?? defaultDurations
    const sizes = options?.sizeBoundaries ?? defaultSizes

    const histogram =
      (name: string, unit: string, boundaries: ReadonlyArray<number>, description: string) =>
      (attributes: Readonly<Record<string, string>>) =>
        Metric.histogram(name, { description, boundaries, attributes: { ...attributes, unit } })

    const duration = histogram(
      "http.server.request.duration",
      "seconds",
      durations,
      "How long HTTP requests have taken, in seconds"
    )
    const queue = histogram(
      "fastcgi.server.queue.duration",
      "seconds",
      durations,
      "How long handlers of FastCGI requests have waited for their turn, in seconds"
    )
    const requestSize = histogram(
      "http.server.request.body.size",
      "bytes",
      sizes,
      "Bytes of the bodies of HTTP requests"
    )
    const responseSize = histogram(
      "http.server.response.body.size",
      "bytes",
      sizes,
      "Bytes of the bodies of HTTP responses"
    )

    const params = new ParamsPicker(names)
    const series = new Map<string, Series>()
    const seriesOf = (method: string, scheme: string, status: number): Series => {
      const key = `${method} ${scheme} ${status}`
      let known = series.get(key)
      if (known !== undefined) return known
      const attributes = {
        "http.request.method": method,
        "url.scheme": scheme,
        ...(status === 0 ? {} : { "http.response.status_code": String(status) }),
        ...(status === 0 ? { "error.type": "aborted" } : status >= 500 ? { "error.type": String(status) } : {})
      }
      series.set(
        key,
        known = {
          duration: duration(attributes),
          queue: queue(attributes),
          requestSize: requestSize(attributes),
          responseSize: responseSize(attributes)
        }
      )
      return known
    }

    let active = 0
    const register = (metric: Metric.Gauge<number>, value: () => number) =>
      Metric.registerUnsafe(metric, context, { get: () => ({ value: value() }), update: nothing, modify: nothing })
    register(
      Metric.gauge("http.server.active_requests", { description: "HTTP requests that have not ended" }),
      () => active
    )

    const process = Context.getOption(context, FastCgiProcess)
    const servers = new Set<Watch.WatchedServer>()
    if (Option.isSome(process)) {
      const { listenQueue } = process.value
      register(
        Metric.gauge("fastcgi_listen_queue", {
          description: "Connections that the operating system holds until they are accepted"
        }),
        () => {
          let waiting = 0
          for (const { addresses } of servers) {
            for (const address of addresses) waiting += Option.getOrUndefined(listenQueue(address))?.waiting ?? 0
          }
          return waiting
        }
      )
    }

    return Effect.succeed<Watch.Watcher>({
      onServer(server) {
        servers.add(server)
        return () => servers.delete(server)
      },
      onAdmitted() {
        active++
      },
      onEnded(observation) {
        if (!observation.isRefused) active--
        params.pick(observation.request.params)
        const name = params.has(method) ? params.text(method) : "GET"
        const secure = (params.hasValue(https) && params.text(https) !== "off") ||
          params.text(requestScheme) === "https"
        const one = seriesOf(methods.has(name) ? name : "_OTHER", secure ? "https" : "http", observation.status)
        one.duration.updateUnsafe(observation.duration / 1000, context)
        one.queue.updateUnsafe(observation.queueTime / 1000, context)
        const length = params.text(contentLength)
        if (length !== "" && /^\d{1,15}$/.test(length)) one.requestSize.updateUnsafe(Number(length), context)
        one.responseSize.updateUnsafe(observation.bodySize, context)
      }
    })
  })

const nothing = (): void => {}
