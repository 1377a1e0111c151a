/**
 * How a command ends when it does not end well: an exit code that scripts and health checks can tell apart, and one sentence
 * on stderr.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type { PlatformError } from "effect/PlatformError"
import * as Runtime from "effect/Runtime"
import type { FastCgiClientError } from "../../client/FastCgiClientError.ts"

/** The exit codes of all commands. docs/tools.md has the table. */
export const ExitCode = {
  /** The result is bad: a status of 400 or more, a missed "must", an answer that differs. */
  Found: 1,
  /** The command line, or a file that it names, cannot be understood. */
  Usage: 2,
  /** Nobody answers at the address. */
  Unreachable: 3,
  /** The time is up. */
  Timeout: 4,
  /** The answer is not proper FastCGI and CGI, or broke off. */
  Protocol: 5
} as const

/** A code of `ExitCode`. */
export type ExitCode = typeof ExitCode[keyof typeof ExitCode]

/** Ends the command with the code. `message` goes to stderr; without one the command has said everything. */
export class CommandFailure extends Data.TaggedError("CommandFailure")<{
  readonly code: ExitCode
  readonly message: string
}> {
  override readonly [Runtime.errorReported] = false
  override get [Runtime.errorExitCode](): number {
    return this.code
  }
}

/** Fails with the code and the message. */
export const fail = (code: ExitCode, message = ""): Effect.Effect<never, CommandFailure> =>
  Effect.fail(new CommandFailure({ code, message }))

/** Fails because of the command line. */
export const usage = (message: string): Effect.Effect<never, CommandFailure> => fail(ExitCode.Usage, message)

/** Fails because of a file that the command line names. */
export const unreadable = (file: string) => (error: PlatformError): CommandFailure =>
  new CommandFailure({ code: ExitCode.Usage, message: `Cannot read ${file}: ${why(error, "file")}` })

/** Fails because of a file that the command was to write. */
export const unwritable = (file: string) => (error: PlatformError): CommandFailure =>
  new CommandFailure({ code: ExitCode.Usage, message: `Cannot write ${file}: ${why(error, "directory")}` })

/** Turns a request's failure into a message and an exit code. */
export const clientFailure = (error: FastCgiClientError): CommandFailure => {
  const { reason } = error
  const code = reason._tag === "Timeout" || isTimeout(error.cause)
    ? ExitCode.Timeout
    : reason._tag === "ConnectFailed"
    ? ExitCode.Unreachable
    : ExitCode.Protocol
  return new CommandFailure({ code, message: sentence(error.message) })
}

/** A message as a sentence. */
export const sentence = (message: string): string =>
  message.charAt(0).toUpperCase() + message.slice(1) + (/[.!?]$/.test(message) ? "" : ".")

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const why = (error: PlatformError, missing: string): string => {
  switch (error.reason._tag) {
    case "NotFound":
      return `there is no such ${missing}.`
    case "PermissionDenied":
      return "this user may not do that."
    default:
      return sentence(error.message)
  }
}

// The connector's own error, behind ConnectFailed.
const isTimeout = (cause: unknown): boolean =>
  typeof cause === "object" && cause !== null && "reason" in cause && typeof cause.reason === "object" &&
  cause.reason !== null && "_tag" in cause.reason && cause.reason._tag === "Timeout"
