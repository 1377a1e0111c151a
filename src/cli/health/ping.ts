/**
 * Runs `ping`.
 */
import * as Effect from "effect/Effect"
import type { PingOptions } from "../commands/health.ts"
import { type CommandFailure, ExitCode, fail } from "../internal/failure.ts"
import * as Output from "../internal/output.ts"
import * as Target from "../internal/target.ts"
import { again } from "./again.ts"
import { getPage, type Page } from "./page.ts"

/** Asks for the page, once or again and again, and says what came. */
export const run = (options: PingOptions): Effect.Effect<void, CommandFailure> =>
  Effect.gen(function*() {
    const target = yield* Target.parse(options.address, options.timeout)
    const tally = new Tally()
    const once = attempt(target, options)
    if (options.watch === undefined) {
      const pong = yield* once
      yield* show(target, pong, options)
      return pong.good ? undefined : yield* fail(ExitCode.Found)
    }
    const watched = Effect.matchEffect(once, {
      onSuccess: (pong) => Effect.andThen(Effect.sync(() => tally.add(pong)), show(target, pong, options)),
      onFailure: (failure) =>
        Effect.andThen(
          Effect.sync(() => tally.add(undefined)),
          options.json
            ? Output.line(Output.json({ good: false, exitCode: failure.code, error: failure.message }))
            : Output.line(`${clock()}  ${failure.message}`)
        )
    })
    yield* Effect.ensuring(
      again(watched, options.watch),
      Effect.suspend(() => options.json ? Effect.void : Output.note(tally.text))
    )
  })

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

interface Pong extends Page {
  readonly good: boolean
}

// The most bytes of the page that are kept.
const maxSize = 1024

const defaultPath = "/ping"

const attempt = (target: Target.Target, options: PingOptions): Effect.Effect<Pong, CommandFailure> => {
  const { path = defaultPath, response, timeout } = options
  return Effect.map(getPage(target, { path, timeout, maxSize }), (page) => {
    const strict = options.path !== undefined || response !== undefined
    const expected = page.status === 200 && (response === undefined || page.text.trimEnd() === response)
    return { ...page, good: !strict || expected }
  })
}

const clock = (): string => new Date().toTimeString().slice(0, 8)

const show = (target: Target.Target, pong: Pong, options: PingOptions): Effect.Effect<void> => {
  if (options.json) {
    const { milliseconds, ...rest } = pong
    return Output.line(Output.json({ ...rest, milliseconds: Math.round(milliseconds * 1000) / 1000 }))
  }
  const paint = Output.painter(process.stdout)
  const path = options.path ?? defaultPath
  const what = pong.status === 200
    ? pong.text.length <= 40 && /^[\x20-\x7e]+$/.test(pong.text.trimEnd())
      ? `answers ${path} with ${JSON.stringify(pong.text.trimEnd())}`
      : `answers ${path} with 200`
    : `answers ${path} with ${pong.status} ${pong.statusText}`
  const why = !pong.good
    ? options.response === undefined ? ", not with 200" : `, not with ${Output.json(options.response)}`
    : pong.status === 200
    ? ""
    : ": it answers, but has no such page"
  const line = `${target.name} ${what} after ${Output.milliseconds(pong.milliseconds)}${why}`
  const time = options.watch === undefined ? "" : `${clock()}  `
  return Output.line(`${time}${pong.good ? line : paint("bad", line)}`)
}

/** The summary of many pings. */
class Tally {
  private asked = 0
  private good = 0
  private least = Infinity
  private most = 0
  private sum = 0

  add(pong: Pong | undefined): void {
    this.asked++
    if (pong === undefined) return
    if (pong.good) this.good++
    this.least = Math.min(this.least, pong.milliseconds)
    this.most = Math.max(this.most, pong.milliseconds)
    this.sum += pong.milliseconds
  }

  get text(): string {
    const times = this.most === 0
      ? ""
      : `, ${[this.least, this.sum / this.asked, this.most].map(Output.milliseconds).join(" / ")} (least, mean, most)`
    return `\n${this.asked} asked, ${this.good} good${times}`
  }
}
