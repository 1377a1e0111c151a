/**
 * A logger that writes the log lines of a request to its STDERR stream. The web server puts them into its error log, beside the
 * request (SPEC 5.3). Off unless its layer is provided.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import type * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import type { ApplicationRequest } from "../server/internal/applicationRequest.ts"
import { ServerRequest } from "./internal/serverRequest.ts"

/**
 * Options of `make` and `layer`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiLoggerOptions {
  /**
   * Formats a line. Default `Logger.formatLogFmt` without its timestamp, which the web server adds. Line breaks and other control
   * characters are replaced.
   */
  readonly format?: Logger.Logger<unknown, string> | undefined
  /** The lowest level that is written, of the levels that Effect's `MinimumLogLevel` lets through. Default all of them. */
  readonly minimumLogLevel?: LogLevel.LogLevel | undefined
  /** The most bytes of a line; longer lines are cut. Default 1024: nginx cuts at 2 KiB, including its own words. */
  readonly maxLineSize?: number | undefined
  /** The most lines of a request. Default 50. */
  readonly maxLines?: number | undefined
}

/**
 * Creates the logger.
 *
 * **Details**
 *
 * The request is the one in the context of the fiber that logs, so lines of fibers that a handler has forked count as well. No
 * fiber waits for a line: unsent lines stay in memory, which `maxLines` and `maxLineSize` bound for each request. The line after
 * the last one says that more were left out.
 *
 * Lines from before the response are sent together with its head: in front of the head when both fit into 4 KiB, otherwise behind
 * it. nginx puts the bytes in front of the head into the buffer for the head (`fastcgi_buffer_size`), and answers 502 when that
 * buffer is full. Lines from while the body is being sent go out at once.
 *
 * Several loggers, one for each level for instance, share the 4 KiB, and their lines stay in order. Each has its own `maxLines`.
 *
 * The logger writes nothing outside of a request, over another HTTP server than `FastCgiHttpServer`, and after the request has been
 * answered. The response is the same with and without the logger.
 *
 * **Gotchas**
 *
 * Lines of a request that is interrupted before its answer are lost, because its client has gone away or the web server no longer
 * waits. Keep another logger beside this one.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options?: FastCgiLoggerOptions): Logger.Logger<unknown, void> => {
  const format = options?.format ?? withoutTimestamp
  const minimum = options?.minimumLogLevel
  const maxLines = options?.maxLines ?? 50
  const buffer = new Uint8Array(options?.maxLineSize ?? 1024)
  // How many lines of a request there have been.
  const counts = new WeakMap<ApplicationRequest, number>()
  return Logger.make((entry) => {
    const request = requestOf(entry.fiber.context)
    if (request === undefined || !request.isOpen) return
    if (minimum !== undefined && !LogLevel.isGreaterThanOrEqualTo(entry.logLevel, minimum)) return
    const count = counts.get(request) ?? 0
    if (count > maxLines) return
    counts.set(request, count + 1)
    logOf(request).write(count === maxLines ? leftOut : encode(format.log(entry), buffer))
  })
}

/**
 * Adds this logger to the loggers in the context.
 *
 * **Example** (Warnings in the web server's error log)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as HttpRouter from "effect/http/HttpRouter"
 * import * as HttpServerResponse from "effect/http/HttpServerResponse"
 * import * as Layer from "effect/Layer"
 * import { FastCgiLogger } from "effect-fastcgi/http"
 * import { NodeFastCgi } from "effect-fastcgi/node"
 *
 * const Routes = HttpRouter.add(
 *   "GET",
 *   "/",
 *   Effect.as(Effect.logWarning("the disk is nearly full"), HttpServerResponse.text("Hello"))
 * )
 *
 * export const Server = HttpRouter.serve(Routes).pipe(
 *   Layer.provide(NodeFastCgi.layer({ path: "/run/app/app.sock" })),
 *   Layer.provide(FastCgiLogger.layer({ minimumLogLevel: "Warn" }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: FastCgiLoggerOptions): Layer.Layer<never> =>
  Logger.layer([make(options)], { mergeWithExisting: true })

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const withoutTimestamp = Logger.map(Logger.formatLogFmt, (line) => line.replace(/^timestamp=\S+ /, ""))

const requestOf = (context: Context.Context<never>): ApplicationRequest | undefined => {
  const request = Option.getOrUndefined(Context.getOption(context, HttpServerRequest))
  return request instanceof ServerRequest ? request.request : undefined
}

// By default nginx takes one page in front of the body, and needs some of it itself.
const maxBeforeBody = 3900

// A header, and padding to a multiple of 8 that is never empty.
const maxRecordOverhead = 16

// One for all loggers of a request: what is in front of its head is in one buffer of nginx's.
const logs = new WeakMap<ApplicationRequest, RequestLog>()

const logOf = (request: ApplicationRequest): RequestLog => {
  let log = logs.get(request)
  if (log === undefined) logs.set(request, log = new RequestLog(request))
  return log
}

// The lines of one request.
class RequestLog {
  private readonly request: ApplicationRequest
  private held: Array<Uint8Array> = []
  private heldSize = 0

  constructor(request: ApplicationRequest) {
    this.request = request
    if (request.hasHead) return
    request.onHead((headLength) => {
      if (headLength === undefined || headLength + this.heldSize <= maxBeforeBody) this.release()
    })
  }

  write(line: Uint8Array): void {
    if (this.request.hasHead) {
      this.request.stderr(line)
    } else {
      this.held.push(line)
      this.heldSize += line.length + maxRecordOverhead
    }
  }

  private release(): void {
    // Each its own record: nginx and Apache log a record as a line.
    for (const line of this.held) this.request.stderr(line)
    this.held = []
    this.heldSize = 0
  }
}

const encoder = new TextEncoder()

const leftOut = encoder.encode("effect-fastcgi: more log lines of this request are left out\n")

const cut = encoder.encode("...\n")

const lineEnd = 0x0a

// oxlint-disable-next-line no-control-regex -- control characters are the point
const control = /[\x00-\x1f\x7f-\x9f\u2028\u2029]+/g

// The bytes of a line that is at most as long as the buffer, and its end.
const encode = (text: string, buffer: Uint8Array): Uint8Array => {
  const oneLine = text.trimEnd().replace(control, " ")
  const { read, written } = encoder.encodeInto(oneLine, buffer)
  const whole = read === oneLine.length
  const bytes = new Uint8Array(written + (whole ? 1 : cut.length))
  bytes.set(buffer.subarray(0, written))
  if (whole) bytes[written] = lineEnd
  else bytes.set(cut, written)
  return bytes
}
