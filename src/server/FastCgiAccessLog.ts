/**
 * A line for every answered request, in the formats of Apache and php-fpm, or as JSON.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as CgiRequest from "../cgi/CgiRequest.ts"
import { compile, type CompiledFormat, type Entry, type ProcessInfo } from "./internal/accessFormat.ts"
import type { Observation } from "./internal/observation.ts"
import { makePicker } from "./internal/pickParams.ts"
import * as Watch from "./internal/watch.ts"

/**
 * The format of a line.
 *
 * - `"common"`, `"combined"`: Apache's formats of these names; nginx's `combined` is the same
 * - `"php-fpm"`: php-fpm's default format, `%R - %u %t "%m %r%Q%q" %s`
 * - `"json"`: an object with OpenTelemetry's names
 * - `"php-fpm:..."`: a format string of php-fpm's `access.format`
 * - any other: a format string of Apache's `LogFormat`
 *
 * @category models
 * @since 0.1.0
 */
export type FastCgiAccessLogFormat = string

/**
 * A format string has an unknown directive. `message` has the directive and its place.
 *
 * @category errors
 * @since 0.1.0
 */
export class FastCgiAccessLogError extends Data.TaggedError("FastCgiAccessLogError")<{
  readonly message: string
}> {}

/**
 * Options of `layer`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiAccessLogOptions {
  /** The format of a line. Default `"combined"`. */
  readonly format?: FastCgiAccessLogFormat | undefined
  /**
   * Takes the lines, each with its line feed. It is called synchronously, between two records, so it must be quick and must not throw.
   * `"stderr"` writes to the STDERR of the request, and so to the web server's error log.
   */
  readonly write: ((line: string) => void) | "stderr"
  /** The name of the pool (php-fpm's `%n`). Default `www`. */
  readonly pool?: string | undefined
  /** The values of php-fpm's `%p`, `%P` and `%M`. Default 0; `NodeFastCgiAccessLog` has the real ones. */
  readonly process?: {
    readonly pid: number
    readonly parentPid: number
    /** Bytes. */
    readonly memory: () => number
  } | undefined
}

/**
 * Writes a line for every request of the servers that the layer is provided to, when the request is over, however it ended. Requests
 * that `maxRequests` has refused have a line too. A request that was aborted before its answer has no status. The pages of
 * `FastCgiStatus` have no lines.
 *
 * **Details**
 *
 * Control characters, quotes, backslashes and bytes beyond ASCII in values of the client are written as `\x..`, as Apache does. So each
 * request has exactly one line, and a quoted value ends at its closing quote. A missing value is `-`. Times are in UTC.
 *
 * Several layers make several logs.
 *
 * **Example** (A log in memory)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import { FastCgiAccessLog, FastCgiResponse, FastCgiServer } from "effect-fastcgi"
 * import { NodeFastCgiListener } from "effect-fastcgi/node"
 *
 * const lines: Array<string> = []
 *
 * export const HelloLive = FastCgiServer.serve({ responder: Effect.succeed(FastCgiResponse.make("Hello\n")) }).pipe(
 *   Layer.provide(NodeFastCgiListener.layerUnix({ path: "/run/hello.sock" })),
 *   Layer.provide(FastCgiAccessLog.layer({ format: "common", write: (line) => lines.push(line) }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: FastCgiAccessLogOptions): Layer.Layer<never, FastCgiAccessLogError> =>
  Watch.layer(Watch.places.accessLog, watcher(options))

/**
 * Says what is wrong with a format, or returns `undefined` for a valid one.
 *
 * @category predicates
 * @since 0.1.0
 */
export const check = (format: FastCgiAccessLogFormat): Result.Result<void, FastCgiAccessLogError> =>
  Result.map(compiled(format), () => undefined)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const formats: Readonly<Record<string, string>> = {
  "common": "%h %l %u %t \"%r\" %>s %b",
  "combined": "%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\"",
  "php-fpm": "php-fpm:%R - %u %t \"%m %r%Q%q\" %s"
}

const phpPrefix = "php-fpm:"

const compiled = (format: FastCgiAccessLogFormat): Result.Result<CompiledFormat, FastCgiAccessLogError> => {
  if (format === "json") return Result.succeed(json)
  const text = Object.hasOwn(formats, format) ? formats[format] : format
  const result = text.startsWith(phpPrefix)
    ? compile(text.slice(phpPrefix.length), "php-fpm")
    : compile(text, "apache")
  return "problem" in result
    ? Result.fail(new FastCgiAccessLogError({ message: `the format of the access log: ${result.problem}` }))
    : Result.succeed(result)
}

const watcher = (options: FastCgiAccessLogOptions): Effect.Effect<Watch.Watcher, FastCgiAccessLogError> =>
  Effect.gen(function*() {
    const format = yield* Effect.fromResult(compiled(options.format ?? "combined"))
    const clock = yield* Clock.Clock
    const process: ProcessInfo = {
      ...(options.process ?? { pid: 0, parentPid: 0, memory: () => 0 }),
      pool: options.pool ?? "www"
    }
    const pick = makePicker(format.names)
    const line = (observation: Observation): string =>
      format.line({
        observation,
        time: clock.currentTimeMillisUnsafe(),
        values: format.names.length === 0 ? [] : pick(observation.request.params),
        process
      }) + "\n"
    const { write } = options
    if (write !== "stderr") return { onEnded: (observation) => write(line(observation)) }
    return { onLast: (observation) => observation.request.stderr(encoder.encode(line(observation))) }
  })

const encoder = new TextEncoder()

// The names of OpenTelemetry's conventions for HTTP.
const json: CompiledFormat = {
  names: [],
  line({ observation, time }: Entry) {
    const { bodySize, duration, queueTime, request: { isBrokenOff, isGivenUp, params }, status } = observation
    const [path, query] = splitUrl(CgiRequest.url(params))
    const optional = (name: string) => {
      const value = params.get(name)
      return value === "" ? undefined : value
    }
    return JSON.stringify({
      "timestamp": DateTime.formatIso(DateTime.makeUnsafe(Math.floor(time - duration))),
      "client.address": optional("REMOTE_ADDR"),
      "user.name": optional("REMOTE_USER"),
      "http.request.method": CgiRequest.method(params),
      "url.scheme": CgiRequest.scheme(params),
      "server.address": optional("HTTP_HOST") ?? optional("SERVER_NAME"),
      "url.path": path,
      "url.query": query,
      "network.protocol.version": optional("SERVER_PROTOCOL")?.replace(/^HTTP\//, ""),
      "http.request.body.size": CgiRequest.contentLength(params),
      "http.response.status_code": status === 0 ? undefined : status,
      "http.response.body.size": bodySize,
      "http.server.request.duration": seconds(duration),
      "fastcgi.queue.duration": queueTime === 0 ? undefined : seconds(queueTime),
      "error.type": isBrokenOff ? "response_cut_off" : isGivenUp ? "aborted" : undefined,
      "user_agent.original": optional("HTTP_USER_AGENT"),
      "http.request.header.referer": optional("HTTP_REFERER"),
      "http.request.header.x-request-id": optional("HTTP_X_REQUEST_ID"),
      "http.request.header.traceparent": optional("HTTP_TRACEPARENT")
    })
  }
}

const seconds = (millis: number): number => Math.round(millis * 1000) / 1e6

const splitUrl = (url: string): readonly [path: string, query: string | undefined] => {
  const at = url.indexOf("?")
  return at === -1 ? [url, undefined] : [url.slice(0, at), url.slice(at + 1)]
}
