/**
 * Runs `request`.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import type * as Scope from "effect/Scope"
import type { CgiHead } from "../../cgi/CgiResponse.ts"
import type { RequestOptions } from "../commands/request.ts"
import { type CommandFailure, ExitCode, fail, unwritable, usage } from "../internal/failure.ts"
import * as Output from "../internal/output.ts"
import * as Target from "../internal/target.ts"
import { exchange, type Outcome, type Receiver } from "./answer.ts"
import { makeMessage, type Message } from "./message.ts"
import { traced } from "./trace.ts"

/** Sends the request that the command line describes, and shows the answer. */
export const run = (options: RequestOptions): Effect.Effect<void, CommandFailure, FileSystem.FileSystem> => {
  const answered = Effect.scoped(Effect.gen(function*() {
    if (options.raw && (options.json || options.head || options.include)) {
      return yield* usage("--raw excludes --json, --head and --include: nothing of the answer is looked at.")
    }
    const target = yield* Target.parse(options.address)
    const message = yield* makeMessage(options)
    return yield* options.json ? asJson(target, message, options) : shown(target, message, options)
  }))
  return options.timeout === undefined ? answered : Effect.timeoutOrElse(answered, {
    duration: options.timeout,
    orElse: () =>
      fail(ExitCode.Timeout, `The answer was not complete within ${Duration.format(options.timeout!)} (--timeout).`)
  })
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const isBad = (head: CgiHead | undefined, options: RequestOptions): boolean =>
  head !== undefined && (options.role === "authorizer" ? head.status !== 200 : head.status >= 400)

const judge = ({ appStatus, head }: Outcome, options: RequestOptions): Effect.Effect<void, CommandFailure> =>
  !options.fail
    ? Effect.void
    : isBad(head, options)
    ? fail(ExitCode.Found, `The application answered with ${head!.status} ${head!.statusText} (--fail).`)
    : appStatus !== 0
    ? fail(ExitCode.Found, `The application ended the request with appStatus ${appStatus} (--fail).`)
    : Effect.void

const shown = Effect.fnUntraced(function*(
  target: Target.Target,
  message: Message,
  options: RequestOptions
): Effect.fn.Return<void, CommandFailure, FileSystem.FileSystem | Scope.Scope> {
  const write = options.output === undefined || options.output === "-"
    ? undefined
    : yield* fileWriter(options.output)
  let stderr = ""
  // php-fpm ends no line.
  let openLine = false
  const endLine = Effect.suspend(() => {
    if (!openLine) return Effect.void
    openLine = false
    return Output.writeError("\n")
  })
  const isTerminal = process.stdout.isTTY && process.stderr.isTTY
  // On a terminal the body does not go on in a line of STDERR, and what is no text does not go there.
  const toTerminal = (bytes: Uint8Array) =>
    bytes.includes(0)
      ? usage("The body is binary, and would garble the terminal: -o FILE writes it to a file, and | cat shows it.")
      : Effect.andThen(isTerminal ? endLine : Effect.void, Output.write(bytes))
  const receiver: Receiver = {
    tap: options.verbose ? traced : undefined,
    raw: options.raw,
    onHead: (head) =>
      Effect.as(
        options.include || options.head
          ? Effect.andThen(isTerminal ? endLine : Effect.void, Output.write(headText(head)))
          : Effect.void,
        !(options.fail && isBad(head, options))
      ),
    onBody: write ?? (process.stdout.isTTY ? toTerminal : Output.write),
    onStderr: (bytes) => {
      stderr = (stderr + Buffer.from(bytes).toString("latin1")).slice(-stderrKept)
      // With -v it is among the records.
      if (options.verbose) return Effect.void
      openLine = bytes.at(-1) !== 0x0a
      return Output.writeError(bytes)
    }
  }
  const outcome = yield* Effect.ensuring(exchange(target, message, receiver), endLine)
  if (options.verbose) yield* Output.note(summary(target, outcome))
  if (outcome.head !== undefined && /Primary script unknown/.test(stderr)) {
    yield* Output.note(
      "effect-fastcgi: php-fpm runs the file that SCRIPT_FILENAME names, and has found none: give --script FILE, or " +
        "--root DIRECTORY and the URL below it."
    )
  }
  yield* judge(outcome, options)
})

// The part of the application's STDERR that is checked.
const stderrKept = 4096

const summary = (target: Target.Target, outcome: Outcome): string => {
  const { appStatus, answered, bodySize, connected, ended, head } = outcome
  const status = head === undefined ? "an answer" : `${head.status} ${head.statusText}`
  return `* ${target.name}: ${status}, ${Output.bytes(bodySize)} of body, appStatus ${appStatus}: connected after ` +
    `${Output.milliseconds(connected)}, answered after ${Output.milliseconds(answered)}, complete after ` +
    Output.milliseconds(ended)
}

const latin1 = (text: string): Uint8Array => Buffer.from(text, "latin1")

const headText = (head: CgiHead): Uint8Array =>
  latin1(
    [`Status: ${head.status} ${head.statusText}`, ...head.headers.map(([name, value]) => `${name}: ${value}`), "", ""]
      .join("\n")
  )

const fileWriter = Effect.fnUntraced(function*(
  path: string
): Effect.fn.Return<Receiver["onBody"], CommandFailure, FileSystem.FileSystem | Scope.Scope> {
  const failed = unwritable(path)
  const files = yield* FileSystem.FileSystem
  const file = yield* Effect.mapError(files.open(path, { flag: "w" }), failed)
  return (bytes) => Effect.mapError(file.writeAll(bytes), failed)
})

const asJson = Effect.fnUntraced(function*(
  target: Target.Target,
  message: Message,
  options: RequestOptions
): Effect.fn.Return<void, CommandFailure, Scope.Scope> {
  const body: Array<Uint8Array> = []
  const stderr: Array<Uint8Array> = []
  const keep = (chunks: Array<Uint8Array>) => (bytes: Uint8Array) =>
    Effect.sync(() => {
      chunks.push(bytes)
    })
  const outcome = yield* exchange(target, message, {
    tap: options.verbose ? traced : undefined,
    onHead: () => Effect.succeed(true),
    onBody: keep(body),
    onStderr: keep(stderr)
  })
  const { answered, appStatus, bodySize, connected, ended, head, protocolStatus } = outcome
  const content = Buffer.concat(body)
  const text = content.toString("utf8")
  yield* Output.line(Output.json(
    {
      status: head?.status,
      statusText: head?.statusText,
      headers: head?.headers,
      ...(Buffer.from(text).equals(content) ? { body: text } : { bodyBase64: content.toString("base64") }),
      bodySize,
      stderr: Buffer.concat(stderr).toString("utf8"),
      appStatus,
      protocolStatus,
      milliseconds: { connected: round(connected), answered: round(answered), ended: round(ended) }
    },
    2
  ))
  yield* judge(outcome, options)
})

const round = (value: number): number => Math.round(value * 1000) / 1000
