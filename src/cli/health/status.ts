/**
 * Runs `status`.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as FastCgiPhp from "../../client/FastCgiPhp.ts"
import { StatusJson } from "../../server/internal/statusFigures.ts"
import type { StatusOptions } from "../commands/health.ts"
import { CommandFailure, ExitCode, usage } from "../internal/failure.ts"
import * as Output from "../internal/output.ts"
import * as Target from "../internal/target.ts"
import { printable } from "../records/lines.ts"
import { again } from "./again.ts"
import { ownTable } from "./ownStatus.ts"
import { getPage } from "./page.ts"
import { elapsed } from "./time.ts"

/** Asks php-fpm for its status, once or again and again, and shows it. */
export const run = (options: StatusOptions): Effect.Effect<void, CommandFailure> =>
  Effect.gen(function*() {
    if (options.json && options.openmetrics) return yield* usage("--json and --openmetrics exclude each other.")
    const target = yield* Target.parse(options.address, options.timeout)
    const redraw = options.watch !== undefined && process.stdout.isTTY && !options.json && !options.openmetrics
    // From the first line on, and nothing below what is shown.
    const clear = redraw ? "\x1b[H\x1b[J" : ""
    const shown = Effect.flatMap(ask(target, options), (text) => Output.write(clear + text))
    yield* again(
      options.watch === undefined
        ? shown
        : Effect.catch(shown, (failure) => Output.write(`${clear}${failure.message}\n`)),
      options.watch
    )
  })

/** The status of a pool as a person reads it. */
export const table = (
  status: FastCgiPhp.FastCgiPhpStatus,
  workers: boolean,
  paint: (color: Output.Color, text: string) => string = (_, text) => text
): ReadonlyArray<string> => {
  const full = status.idleProcesses === 0
  const queue = status.listenQueueLen === 0
    ? "unknown for a UNIX socket"
    : `${status.listenQueue} wait of ${status.listenQueueLen} that may, ${status.maxListenQueue} at most so far`
  const rows = [
    ["Pool", `${printable(status.pool)}, ${status.processManager}, up ${elapsed(status.startSince)}`],
    [
      "Workers",
      paint(
        full ? "warn" : "good",
        `${status.activeProcesses} of ${status.totalProcesses} busy${full ? ", none is free" : ""}`
      ) + `, ${status.maxActiveProcesses} at most so far`
    ],
    ["Connections", `${status.acceptedConn} accepted`],
    ["Queue", queue],
    ["Limit reached", `${status.maxChildrenReached} times (pm.max_children)`],
    ["Slow requests", String(status.slowRequests)],
    ...(status.memoryPeak === undefined ? [] : [["Memory peak", Output.bytes(status.memoryPeak)]])
  ]
  const head = Output.columns(rows)
  if (!workers) return head
  const cells = status.processes.map((process) => [
    String(process.pid),
    process.state,
    String(process.requests),
    Output.milliseconds(process.requestDuration / 1000),
    process.lastRequestCpu === 0 ? "-" : `${Math.round(process.lastRequestCpu)} %`,
    process.lastRequestMemory === 0 ? "-" : Output.bytes(process.lastRequestMemory),
    printable(`${process.requestMethod} ${process.requestUri}`)
  ])
  const [title, ...lines] = Output.columns([
    ["PID", "STATE", "REQUESTS", "TIME", "CPU", "MEMORY", "REQUEST"],
    ...cells
  ])
  return [...head, "", paint("bold", title!), ...lines]
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// A worker takes up to 1 KiB of the page.
const maxSize = 16 * 1024 * 1024

const decode = Schema.decodeUnknownEffect(Schema.fromJsonString(FastCgiPhp.FastCgiPhpStatus))
const decodeOwn = Schema.decodeUnknownOption(Schema.fromJsonString(StatusJson))

const ask = (target: Target.Target, options: StatusOptions): Effect.Effect<string, CommandFailure> =>
  Effect.gen(function*() {
    const text = yield* getText(target, options, "json&full")
    const own = decodeOwn(text)
    if (options.openmetrics && Option.isSome(own)) return yield* getText(target, options, "openmetrics")
    const status = yield* Effect.mapError(
      decode(text),
      () => notThePage(`The answer to ${options.path} is no status of php-fpm 8.2 or later, or of this package.`)
    )
    if (options.openmetrics) return FastCgiPhp.openMetrics(status)
    if (options.json) return `${Output.json(JSON.parse(text), 2)}\n`
    const paint = Output.painter(process.stdout)
    const lines = Option.isSome(own)
      ? ownTable(own.value, options.workers, paint)
      : table(status, options.workers, paint)
    return `${lines.join("\n")}\n`
  })

const getText = (
  target: Target.Target,
  { path, timeout }: StatusOptions,
  query: string
): Effect.Effect<string, CommandFailure> =>
  Effect.flatMap(getPage(target, { path, query, timeout, maxSize }), ({ status, statusText, text }) =>
    status === 200
      ? Effect.succeed(text)
      : Effect.fail(notThePage(
        status === 404 || status === 403
          ? `The application has no page ${path}: it answers ${status} ${statusText}. php-fpm shows it by ` +
            `pm.status_path = ${path} in the pool's configuration, an application of this package by ` +
            `NodeFastCgiStatus.layer({ path: "${path}" }). Or give another --path.`
          : `The application answers ${path} with ${status} ${statusText}.`
      )))

const notThePage = (message: string): CommandFailure => new CommandFailure({ code: ExitCode.Found, message })
