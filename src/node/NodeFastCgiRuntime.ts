/**
 * The life of a process that is a FastCGI application: the signals that end it, its exit code, and its message when it fails.
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
   * How long the process may take to end after the first signal. Beyond it, the process ends as after a second signal. It must be
   * longer than the server's `gracefulShutdownTimeout`. Default none: only a handler or a finalizer that cannot be interrupted and
   * never ends takes longer, and whoever sent the signal may kill the process.
   */
  readonly shutdownTimeout?: Duration.Input | undefined
  /** Does not report a failure, because the program reports it itself. Default false. */
  readonly disableErrorReporting?: boolean | undefined
  /** Chooses the exit code of a program that has ended, except after a signal. Default `Runtime.defaultTeardown`. */
  readonly teardown?: Runtime.Teardown | undefined
}

/**
 * Runs a program as the main program of this process, and ends the process with it.
 *
 * **When to use**
 *
 * Use it instead of `NodeRuntime.runMain` for every program that serves FastCGI, however it is started.
 *
 * **Details**
 *
 * - SIGTERM, SIGINT and SIGUSR1 interrupt the program. Its layers are closed: a server stops accepting, lets running requests
 *   finish for `gracefulShutdownTimeout`, and interrupts the rest. The exit code is 0, because the process did as it was told.
 * - A second signal ends the process at once, with 128 plus the number of the signal: 143 for SIGTERM. A signal within half a
 *   second of the first counts as the same one, because `npm` and `multiwatch` pass on a signal that the application has already
 *   got from the terminal.
 * - A failure is reported in one message on stderr, without a stack trace unless it is a defect. The exit code is 1, or the
 *   `Runtime.errorExitCode` of the error.
 * - Logs go to stderr (`References.LogToStderr`): where a web server starts an application, stdout is /dev/null, or even the
 *   listening socket. In these cases Effect's `Console` also writes to stderr, and so do loggers that ignore that setting, such as
 *   `Logger.consoleJson`. `console.log` does not. The program goes on when nobody reads its stdout or stderr any more.
 *
 * **Gotchas**
 *
 * Until it is called, while the program's modules are being loaded, signals do what they do to any Node program. SIGTERM and SIGINT
 * end it. SIGUSR1 opens Node's debugger. When `runMain` finds a debugger open that neither `--inspect` nor NODE_OPTIONS can have
 * asked for, it closes the debugger, and the program ends as after SIGUSR1. Do not use `node --disable-sigusr1`: Node then blocks
 * the signal, and the program never gets it.
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

// Whether SIGUSR1 came before anything listened for it. The signal then opened the debugger, on a port where every user of the host
// may run code in this process. multiwatch, for one, sends no other signal, and waits.
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

// Writes to a pipe whose reader has gone away, to a terminal that was closed, or to a listening socket are lost, and do nothing else.
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

// People who start the program read this. The place in a library where an expected error was made tells them nothing.
const describeFailure = (error: unknown): string => {
  // The message itself says what was tried.
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

// Names the variable, and what its value must be.
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

// A bug, which its stack trace finds: the frames that are the program's own.
const describeDefect = (cause: Cause.Cause<never>): string =>
  Cause.pretty(cause).split("\n").filter((line) => !/^\s+at .*(?:node_modules|node:internal)/.test(line)).join("\n")
