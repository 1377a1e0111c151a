/**
 * A line for every answered request, in the formats of Apache and php-fpm, or as JSON.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { millisecondsOf } from "../connection/internal/timers.ts"
import { compile, type CompiledFormat } from "./internal/accessFormat.ts"
import { json } from "./internal/accessJson.ts"
import { LineWriter, literalOf } from "./internal/lineWriter.ts"
import type { Observation } from "./internal/observation.ts"
import { ParamsPicker } from "./internal/pickParams.ts"
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
 * Takes lines as bytes in UTF-8, some at a time. They are written into its memory, one behind the
 * other, which costs half of what lines as text do.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiAccessLogSink {
  /** The memory. It is replaced by a larger copy where a line has no room, and may be replaced by `onLine`. */
  bytes: Uint8Array
  /** How many bytes of it are lines that have not been taken. Who takes them sets it back. */
  length: number
  /** So many lines more have been written, each with its line feed. It must be quick and not throw. */
  readonly onLines: (count: number) => void
  /** Calls `write` once, as late as lines may be written: the requests that have ended until then are written then. */
  readonly later: (write: () => void) => void
}

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
   * Takes the lines, each with its line feed, as text or as bytes. It is called synchronously, between two records, so it must be quick and must not throw.
   * `"stderr"` writes to the STDERR of the request, and so to the web server's error log.
   */
  readonly write: ((line: string) => void) | FastCgiAccessLogSink | "stderr"
  /** What each line begins with, such as the `<6>` by which the journal knows a level. Default nothing. */
  readonly prefix?: string | undefined
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
  Watch.layer(Watch.places.accessLog, makeWatcher(options))

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
  if (format === "json") return Result.succeed(json())
  const text = Object.hasOwn(formats, format) ? formats[format] : format
  const result = text.startsWith(phpPrefix)
    ? compile(text.slice(phpPrefix.length), "php-fpm")
    : compile(text, "apache")
  return "problem" in result
    ? Result.fail(new FastCgiAccessLogError({ message: `the format of the access log: ${result.problem}` }))
    : Result.succeed(result)
}

const makeWatcher = (
  options: FastCgiAccessLogOptions
): Effect.Effect<Watch.Watcher, FastCgiAccessLogError, Scope.Scope> =>
  Effect.gen(function*() {
    const format = yield* Effect.fromResult(compiled(options.format ?? "combined"))
    const clock = yield* Clock.Clock
    const wallTime = makeWallTime(clock)
    const params = new ParamsPicker(format.names)
    const process = {
      ...(options.process ?? { pid: 0, parentPid: 0, memory: () => 0 }),
      pool: options.pool ?? "www"
    }
    const { write } = options
    const sink = typeof write === "object" ? write : { bytes: new Uint8Array(1024), length: 0 }
    const lines = new LineWriter(sink)
    const [first, ...others] = format.texts
    const texts = [`${options.prefix ?? ""}${first}`, ...others].map(literalOf)
    const make = (observation: Observation): void => {
      params.pick(observation.request.params)
      lines.line(texts, format.writes, {
        observation,
        startedAt: wallTime(observation.admittedAt),
        params,
        process
      })
    }
    const take = (): Uint8Array => {
      const line = sink.bytes.slice(0, sink.length)
      sink.length = 0
      return line
    }
    if (write === "stderr") {
      return {
        needsEnd: false,
        onLast(observation) {
          make(observation)
          observation.request.stderr(take())
        }
      }
    }
    if (typeof write === "function") {
      return {
        needsEnd: format.needsEnd,
        onEnded(observation) {
          make(observation)
          write(decoder.decode(take()))
        }
      }
    }
    const ended: Array<Observation> = []
    let size = 0
    const makeAll = (): void => {
      const count = ended.length
      for (let i = 0; i < count; i++) make(ended[i])
      ended.length = size = 0
      if (count > 0) write.onLines(count)
    }
    yield* Effect.addFinalizer(() => Effect.sync(makeAll))
    return {
      needsEnd: format.needsEnd,
      onEnded(observation) {
        const count = ended.push(observation)
        size += observation.request.params.size
        if (count === maxEnded || size > maxEndedSize) makeAll()
        else if (count === 1) write.later(makeAll)
      }
    }
  })

// Lines that are made one behind the other cost half of what each costs beside its request: what they run and look at stays in
// the caches of the processor. Requests that have ended are kept until then: so many, and so many bytes of params.
const maxEnded = 64
const maxEndedSize = 256 * 1024

const decoder = new TextDecoder()

// Times of the monotonic clock in milliseconds since 1970. The other clock is read once a second.
const makeWallTime = (clock: Clock.Clock) => {
  let offset = 0
  let until = -Infinity
  return (time: number): number => {
    if (time >= until) {
      const now = millisecondsOf(clock)
      offset = clock.currentTimeMillisUnsafe() - now
      until = now + 1000
    }
    return time + offset
  }
}
