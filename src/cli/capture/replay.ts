/**
 * Runs `replay`.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Pull from "effect/Pull"
import * as Stream from "effect/Stream"
import type { ReplayOptions } from "../commands/capture.ts"
import { CommandFailure, ExitCode, fail, sentence, usage } from "../internal/failure.ts"
import * as Output from "../internal/output.ts"
import * as Target from "../internal/target.ts"
import { printable } from "../records/lines.ts"
import { type Answered, answerOf, Answers, differences } from "./answers.ts"
import { read } from "./file.ts"
import { CaptureSource } from "./source.ts"

/** Sends the web server's side of a capture, and shows what became of each request. */
export const run = (options: ReplayOptions): Effect.Effect<void, CommandFailure, FileSystem.FileSystem> =>
  Effect.gen(function*() {
    const target = yield* Target.parse(options.address, options.timeout)
    const scripts = yield* load(options)
    if (scripts.length === 0) return yield* usage(`${options.file} holds nothing that a web server has sent.`)
    const ignored = new Set(["date", ...options.ignore.map((name) => name.toLowerCase())])
    const tally = { same: 0, differs: 0, answered: 0, aborted: 0, none: 0 }
    for (const script of scripts) {
      const came = yield* play(target, script, options.timeout)
      for (const [i, recorded] of script.recorded.requests.entries()) {
        const verdict = judge(recorded, came.requests[i], script.answered, ignored)
        tally[verdict.result]++
        yield* Output.line(
          options.json
            ? Output.json({ connection: script.number, request: i + 1, name: recorded.name, ...verdict })
            : text(script.number, recorded, verdict)
        )
      }
    }
    if (!options.json) {
      yield* Output.note(
        [
          Output.counted(scripts.length, "connection"),
          `${Output.counted(tally.same, "answer")} the same`,
          `${tally.differs} differ`,
          `${tally.none} missing`,
          ...(tally.answered > 0 ? [`${tally.answered} without a recorded one`] : []),
          ...(tally.aborted > 0 ? [`${tally.aborted} given up`] : [])
        ].join(", ")
      )
    }
    if (tally.differs + tally.none > 0) return yield* fail(ExitCode.Found)
  })

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

/** The bytes of the web server on a connection, in parts, each with the number of answers that must come before. */
interface Script {
  readonly number: number
  readonly steps: Array<{ readonly after: number; readonly bytes: Uint8Array }>
  /** How many answers the web server had when it closed its direction; `undefined` where it did not. */
  closesAfter: number | undefined
  readonly recorded: Answers
  /** Whether the capture has the application's side. */
  readonly answered: boolean
}

const load = (
  options: ReplayOptions
): Effect.Effect<ReadonlyArray<Script>, CommandFailure, FileSystem.FileSystem> =>
  Effect.gen(function*() {
    const source = new CaptureSource()
    const scripts = new Map<number, Script>()
    let problem: string | undefined
    const take = (events: ReturnType<CaptureSource["push"]>) => {
      for (const event of events) {
        if (event._tag === "Problem") {
          problem ??= event.problem
          continue
        }
        const { number } = event.connection
        if (options.connection !== undefined && options.connection !== number) continue
        const script = scripts.get(number) ??
          { number, steps: [], closesAfter: undefined, recorded: new Answers(), answered: source.isPcap }
        scripts.set(number, script)
        switch (event._tag) {
          case "Bytes": {
            const { bytes, fromClient } = event
            const { answered } = script.recorded
            script.recorded.push(fromClient, bytes)
            // Views into a capture that is read on would keep all of it.
            if (fromClient) script.steps.push({ after: answered, bytes: bytes.slice() })
            break
          }
          case "Lost":
            problem ??= `connection ${number} misses ${event.count} bytes`
            break
          case "Ended":
            if (event.fromClient) script.closesAfter = script.recorded.answered
        }
      }
    }
    yield* Stream.runForEach(read(options.file, false), (chunk) => Effect.sync(() => take(source.push(chunk))))
    take(source.end())
    if (problem !== undefined) {
      return yield* fail(ExitCode.Protocol, sentence(`Cannot replay ${options.file}: ${problem}`))
    }
    return Array.from(scripts.values()).filter(({ recorded }) => recorded.requests.length > 0)
      .map((script) => source.isPcap ? script : split(script))
  })

// Of one direction alone it is not known what the web server waited for: it gets each answer before the next request begins,
// unless that began while another was being sent.
const split = (script: Script): Script => {
  const bytes = Buffer.concat(script.steps.map(({ bytes }) => bytes))
  const answers = new Answers()
  const steps: Script["steps"] = []
  let from = 0
  for (let at = 0; at + 8 <= bytes.length;) {
    const end = Math.min(bytes.length, at + 8 + bytes.readUInt16BE(at + 4) + bytes[at + 6]!)
    const begins = bytes[at + 1] === 1 && answers.requests.every(({ sent }) => sent)
    if (begins && at > from) {
      steps.push({ after: steps.length === 0 ? 0 : asked(steps), bytes: bytes.subarray(from, at) })
      from = at
    }
    answers.push(true, bytes.subarray(at, end))
    at = end
  }
  steps.push({ after: steps.length === 0 ? 0 : asked(steps), bytes: bytes.subarray(from) })
  return { ...script, steps }
}

const asked = (steps: Script["steps"]): number => {
  const answers = new Answers()
  for (const { bytes } of steps) answers.push(true, bytes)
  return answers.asked
}

const play = (
  target: Target.Target,
  script: Script,
  timeout: Duration.Duration
): Effect.Effect<Answers, CommandFailure> =>
  Effect.scoped(Effect.gen(function*() {
    const transport = yield* Effect.mapError(
      target.connect,
      (error) =>
        error._tag === "CommandFailure"
          ? error
          : new CommandFailure({ code: ExitCode.Unreachable, message: error.message })
    )
    const answers = new Answers()
    let closed = false
    let wake: (() => void) | undefined
    const told = () => {
      // A woken reader may wait again at once.
      const waiter = wake
      wake = undefined
      waiter?.()
    }
    const close = () => {
      closed = true
      told()
    }
    transport.observeUnsafe({ onDrain: told, onClose: close })
    const receive: Effect.Effect<void> = Effect.suspend(() =>
      Pull.matchEffect(transport.pull, {
        onSuccess: (chunks) => {
          for (const chunk of chunks) answers.push(false, chunk)
          told()
          return receive
        },
        onDone: () => Effect.sync(close),
        onFailure: () => Effect.sync(close)
      })
    )
    yield* Effect.forkScoped(receive)
    const until = (condition: () => boolean): Effect.Effect<boolean> => {
      const wait: Effect.Effect<void> = Effect.suspend(() =>
        closed || condition() ? Effect.void : Effect.andThen(
          Effect.callback<void>((resume) => {
            wake = () => resume(Effect.void)
          }),
          wait
        )
      )
      return Effect.map(Effect.timeoutOption(wait, timeout), (done) => done._tag === "Some" && condition())
    }
    for (const { after, bytes } of script.steps) {
      if (!(yield* until(() => answers.answered >= after))) return answers
      answers.push(true, bytes)
      transport.writeUnsafe([bytes])
      if (!(yield* until(() => transport.pendingUnsafe() === 0))) return answers
    }
    if (script.closesAfter !== undefined) {
      // Where it closed without having waited, it gave up.
      yield* until(() => answers.answered >= script.closesAfter!)
      if (script.closesAfter < script.recorded.asked) transport.endUnsafe()
    }
    const due = script.answered ? script.recorded.answered : answers.asked
    yield* until(() => answers.answered >= due)
    return answers
  }))

interface Verdict {
  readonly result: "same" | "differs" | "answered" | "aborted" | "none"
  readonly status: string | undefined
  readonly bodySize: number
  readonly differences: ReadonlyArray<string>
}

// `aborted`: the capture would have the answer if there had been one.
const judge = (
  recorded: Answered,
  came: Answered | undefined,
  aborted: boolean,
  ignored: ReadonlySet<string>
): Verdict => {
  const answer = came === undefined ? undefined : answerOf(came)
  const common = { status: answer?.status, bodySize: answer?.body.length ?? 0 }
  if (recorded.end === undefined) {
    const result = aborted ? "aborted" : came?.end === undefined ? "none" : "answered"
    return { ...common, result, differences: [] }
  }
  if (came === undefined || came.end === undefined) return { ...common, result: "none", differences: [] }
  const found = differences(recorded, came, ignored)
  return { ...common, result: found.length === 0 ? "same" : "differs", differences: found }
}

const text = (connection: number, recorded: Answered, verdict: Verdict): string => {
  const paint = Output.painter(process.stdout)
  const what = {
    same: "the same",
    differs: "differs",
    answered: "answered",
    aborted: "was given up",
    none: "no answer"
  }[verdict.result]
  const color = verdict.result === "differs" || verdict.result === "none" ? "bad" : "good"
  const answer = verdict.result === "none" || verdict.result === "aborted"
    ? ""
    : `: ${verdict.status ?? "no header block"}, ${Output.bytes(verdict.bodySize)}`
  return [
    `#${connection} ${printable(recorded.name)}: ${paint(color, what)}${answer}`,
    ...verdict.differences.map((line) => `     ${printable(line)}`)
  ].join("\n")
}
