/**
 * What `status` does.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as FastCgiClient from "../../client/FastCgiClient.ts"
import * as FastCgiPhp from "../../client/FastCgiPhp.ts"
import type { StatusOptions } from "../commands/health.ts"
import { clientFailure, type CommandFailure, ExitCode, fail, sentence, usage } from "../internal/failure.ts"
import * as Output from "../internal/output.ts"
import * as Target from "../internal/target.ts"
import { printable } from "../records/lines.ts"
import { again } from "./again.ts"

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
    ? "not known of a UNIX socket"
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

const encode = Schema.encodeEffect(FastCgiPhp.FastCgiPhpStatus)

const ask = (target: Target.Target, options: StatusOptions): Effect.Effect<string, CommandFailure> =>
  Effect.gen(function*() {
    const client = yield* FastCgiClient.make({ connect: target.connect, keepConnection: false })
    const status = yield* FastCgiPhp.status(client, {
      path: options.path,
      timeout: options.timeout,
      full: options.workers || options.json || options.openmetrics
    })
    if (options.openmetrics) return FastCgiPhp.openMetrics(status)
    if (options.json) return `${JSON.stringify(yield* Effect.orDie(encode(status)), undefined, 2)}\n`
    return `${table(status, options.workers, Output.painter(process.stdout)).join("\n")}\n`
  }).pipe(
    Effect.scoped,
    Effect.catchTags({
      FastCgiClientError: (error) => Effect.fail(clientFailure(error)),
      FastCgiPhpError: (error) =>
        fail(
          ExitCode.Found,
          sentence(error.message) +
            (error.reason._tag === "NotConfigured"
              ? ` Set pm.status_path = ${options.path} in the pool's configuration, or give --path.`
              : "")
        )
    })
  )

const elapsed = (seconds: number): string => {
  const parts = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]] as const
  const at = parts.findIndex(([size]) => seconds >= size)
  if (at === -1) return "0 s"
  return parts.slice(at, at + 2).map(([size, unit], i) => {
    const rest = i === 0 ? seconds : seconds % parts[at]![0]
    return `${Math.floor(rest / size)} ${unit}`
  }).join(" ")
}
