/**
 * The life of a process that is a FastCGI application: the signals that end it, its exit code, and what it says when it
 * fails.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import { Console } from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import { LogToStderr } from "effect/References"
import * as Runtime from "effect/Runtime"
import * as SchemaIssue from "effect/SchemaIssue"
import * as NodeConsole from "node:console"
import * as Os from "node:os"
import { FastCgiListenerError } from "../server/FastCgiListener.ts"
import { isOutputLost } from "./internal/stdio.ts"
import { workerEnd } from "./internal/workers/workerEnd.ts"

/**
 * Options of `runMain`.
 *
 * @category options
 * @since 0.1.0
 */
export interface RunMainOptions {
  /**
   * How long the process may take to end after the first signal; then it is ended as by a second one. It has to be longer
   * than the server's `gracefulShutdownTimeout`. Default none: only a handler or a finalizer that cannot be interrupted and
   * never ends takes longer, and whoever has sent the signal may end that.
   */
  readonly shutdownTimeout?: Duration.Input | undefined
  /** Leaves a failure unreported: the program has reported it itself. Default false. */
  readonly disableErrorReporting?: boolean | undefined
  /** Chooses the exit code of a program that has ended, except after a signal. Default `Runtime.defaultTeardown`. */
  readonly teardown?: Runtime.Teardown | undefined
}

/**
 * Runs a program as the main program of this process, and ends the process with it.
 *
 * **When to use**
 *
 * Instead of `NodeRuntime.runMain` for everything that serves FastCGI, however it is started.
 *
 * **Details**
 *
 * - SIGTERM, SIGINT and SIGUSR1 interrupt the program. Its layers are closed: a server stops accepting, lets running
 *   requests finish for `gracefulShutdownTimeout`, interrupts the rest. The exit code is 0 then: it has done as it was
 *   told.
 * - A second signal ends the process at once, with 128 plus the number of the signal: 143 for SIGTERM. One within half a
 *   second of the first is the same one once more, because `npm` and `multiwatch` pass on what a terminal has sent to the
 *   application already.
 * - A failure is reported in one message on stderr, without a stack trace unless it is a defect, and the exit code is 1,
 *   or what `Runtime.errorExitCode` of the error says.
 * - Logs go to stderr (`References.LogToStderr`): where a web server starts an application, stdout is /dev/null, or even
 *   the listening socket. There Effect's `Console` is stderr as well, and with it loggers that do not look at that setting,
 *   such as `Logger.consoleJson`; `console.log` is not. A stdout or stderr that nobody reads any more ends nothing.
 *
 * **Gotchas**
 *
 * Until it is called, while the program's modules are being loaded, signals do what they do to any Node program. SIGTERM
 * and SIGINT end it. SIGUSR1 opens Node's debugger: when that is open although neither `--inspect` nor NODE_OPTIONS can have
 * asked for it, it is closed again, and the program ends as the signal meant it. `node --disable-sigusr1` must not be used:
 * Node blocks the signal then, and nobody gets it.
 *
 * **Example** (An app that a web server starts)
 *
 * ```ts
 * import { NodeFastCgi, NodeFastCgiRuntime } from "effect-fastcgi/node"
 * import * as HttpRouter from "effect/http/HttpRouter"
 * import * as HttpServerResponse from "effect/http/HttpServerResponse"
 * import * as Layer from "effect/Layer"
 *
 * const Routes = HttpRouter.add("GET", "/", HttpServerResponse.text("Hello"))
 *
 * export const main = () =>
 *   HttpRouter.serve(Routes).pipe(
 *     Layer.provide(NodeFastCgi.layer()),
 *     Layer.launch,
 *     NodeFastCgiRuntime.runMain
 *   )
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const runMain: {
  (options?: RunMainOptions): <A, E>(effect: Effect.Effect<A, E>) => void
  <A, E>(effect: Effect.Effect<A, E>, options?: RunMainOptions): void
} = dual(
  (args) => Effect.isEffect(args[0]),
  <A, E>(effect: Effect.Effect<A, E>, options: RunMainOptions = {}): void => {
    ignoreErrors()
    const reporting = options.disableErrorReporting === true ? effect : Effect.onError(effect, report)
    const main = workerEnd()?.runs(reporting) ?? reporting
    const logging = Effect.provideService(main, LogToStderr, true)
    withSignals(options.shutdownTimeout)(
      isOutputLost() ? Effect.provideService(logging, Console, onStderr()) : logging,
      {
        disableErrorReporting: true,
        teardown: options.teardown
      }
    )
  }
)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const signals = ["SIGTERM", "SIGINT", "SIGUSR1"] as const

// In milliseconds. A signal this soon after the first is the same one on another way.
const echo = 500

const withSignals = (shutdownTimeout: Duration.Input | undefined) =>
  Runtime.makeRunMain(({ fiber, teardown }) => {
    let since: number | undefined
    let ended = false

    const force = (signal: typeof signals[number]) => process.exit(128 + Os.constants.signals[signal])

    const receive = (signal: typeof signals[number]) => {
      // Something keeps the process alive although its program has ended.
      if (ended) process.exit()
      if (since !== undefined) {
        if (performance.now() - since >= echo) force(signal)
        return
      }
      since = performance.now()
      if (shutdownTimeout !== undefined) {
        setTimeout(force, Duration.toMillis(shutdownTimeout), signal).unref()
      }
      fiber.interruptUnsafe(fiber.id)
    }

    for (const signal of signals) process.on(signal, receive)
    // A signal that has just come opens the debugger in a moment.
    if (closeDebugger()) receive("SIGUSR1")
    else setImmediate(() => closeDebugger() && receive("SIGUSR1"))

    fiber.addObserver((exit) => {
      ended = true
      const stopped = since !== undefined && (exit._tag === "Success" || Cause.hasInterruptsOnly(exit.cause))
      if (stopped) process.exit(0)
      teardown(exit, (code) => {
        if (code !== 0 || since !== undefined) process.exit(code)
      })
    })
  })

// Whether SIGUSR1 has come before anybody listened for it: that opens the debugger, on a port where every user of the host
// may run code in this process. multiwatch, for one, sends nothing else, and waits.
const closeDebugger = (): boolean => {
  const inspector = process.getBuiltinModule("node:inspector")
  if (inspector?.url() === undefined || isDebuggerWanted()) return false
  inspector.close()
  return true
}

// Editors open it by a module that NODE_OPTIONS has Node load.
const isDebuggerWanted = (): boolean =>
  process.execArgv.some((option) => /^--inspect(-brk|-wait)?(=|$)/.test(option)) ||
  (process.env["NODE_OPTIONS"] ?? "") !== ""

const onStderr = (): Console => new NodeConsole.Console(process.stderr, process.stderr)

// A pipe whose reader has gone away, a terminal that was closed, a listening socket: what is written to it is lost, and
// nothing else.
const ignoreErrors = (): void => {
  for (const name of ["stdout", "stderr"] as const) {
    try {
      process[name].on("error", () => {})
    } catch {
      // Nothing that Node can write to.
    }
  }
}

const report = (cause: Cause.Cause<unknown>): Effect.Effect<void> => {
  if (Cause.hasInterruptsOnly(cause)) return Effect.void
  if (!Runtime.getErrorReported(Cause.squash(cause))) return Effect.void
  return Effect.logError(
    cause.reasons.flatMap((reason) =>
      reason._tag === "Fail"
        ? describeFailure(reason.error)
        : reason._tag === "Die"
        ? describeDefect(Cause.die(reason.defect))
        : []
    ).join("\n")
  )
}

// Whoever has started the program reads this; where in which library an expected error was made tells them nothing.
const describeFailure = (error: unknown): string => {
  // Says by itself what was tried.
  if (error instanceof FastCgiListenerError) return error.message
  if (error instanceof Config.ConfigError) return describeConfigError(error)
  const parts: Array<string> = []
  for (const pretty of chain(Cause.prettyErrors(Cause.fail(error))[0])) {
    const text = pretty.message === "" ? pretty.name : pretty.message
    if (!parts.some((part) => part.includes(text))) {
      parts.push(
        parts.length === 0 && text !== pretty.name && pretty.name !== "Error" ? `${pretty.name}: ${text}` : text
      )
    }
  }
  return parts.join(": ")
}

// Which variable, and what it has to be.
const describeConfigError = ({ cause }: Config.ConfigError): string =>
  cause._tag === "SourceError"
    ? cause.message
    : configIssues(cause.issue).issues.map(({ message, path = [] }) =>
      `${path.map((part) => typeof part === "object" ? part.key : part).map(String).join("_")}: ${message}`
    ).join("\n")

const configIssues = SchemaIssue.makeFormatterStandardSchemaV1()

function* chain(error: unknown): Generator<Error> {
  while (error instanceof Error) {
    yield error
    error = error.cause
  }
}

// A bug, which its stack finds: the frames that are the program's own.
const describeDefect = (cause: Cause.Cause<never>): string =>
  Cause.pretty(cause).split("\n").filter((line) => !/^\s+at .*(?:node_modules|node:internal)/.test(line)).join("\n")
