/**
 * What `ping` does.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { CgiHead } from "../../cgi/CgiResponse.ts"
import { Role } from "../../protocol/FastCgiRecord.ts"
import type { PingOptions } from "../commands/health.ts"
import { type CommandFailure, ExitCode, fail } from "../internal/failure.ts"
import * as Output from "../internal/output.ts"
import * as Target from "../internal/target.ts"
import { exchange } from "../request/answer.ts"
import { again } from "./again.ts"

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
            ? Output.line(JSON.stringify({ good: false, exitCode: failure.code, error: failure.message }))
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

interface Pong {
  readonly good: boolean
  readonly status: number
  readonly statusText: string
  readonly text: string
  /** Until the answer was complete. */
  readonly milliseconds: number
}

// What is kept of the page.
const textKept = 1024

const defaultPath = "/ping"

const attempt = (target: Target.Target, options: PingOptions): Effect.Effect<Pong, CommandFailure> =>
  Effect.suspend(() => asked(target, options))

const asked = (target: Target.Target, options: PingOptions): Effect.Effect<Pong, CommandFailure> => {
  const path = options.path ?? defaultPath
  let text = ""
  let found: CgiHead | undefined
  return exchange(target, {
    method: "GET",
    request: {
      role: Role.Responder,
      // php-fpm knows its pages by SCRIPT_NAME, and looks at no request without SCRIPT_FILENAME.
      params: [
        ["REQUEST_METHOD", "GET"],
        ["SCRIPT_FILENAME", path],
        ["SCRIPT_NAME", path],
        ["REQUEST_URI", path],
        ["QUERY_STRING", ""],
        ["SERVER_PROTOCOL", "HTTP/1.1"],
        ["GATEWAY_INTERFACE", "CGI/1.1"],
        ["SERVER_NAME", "localhost"],
        ["SERVER_PORT", "80"],
        ["HTTP_HOST", "localhost"],
        ["HTTP_USER_AGENT", "effect-fastcgi"],
        ["REMOTE_ADDR", "127.0.0.1"]
      ]
    }
  }, {
    onHead: (head) =>
      Effect.sync(() => {
        found = head
        return true
      }),
    onBody: (bytes) =>
      Effect.sync(() => {
        text = (text + Buffer.from(bytes).toString("utf8")).slice(0, textKept)
      }),
    onStderr: () => Effect.void
  }).pipe(
    Effect.scoped,
    Effect.map((outcome): Pong => {
      const { status, statusText } = found!
      const strict = options.path !== undefined || options.response !== undefined
      const expected = status === 200 && (options.response === undefined || text.trimEnd() === options.response)
      return { good: !strict || expected, status, statusText, text, milliseconds: outcome.ended }
    }),
    Effect.timeoutOrElse({
      duration: options.timeout,
      orElse: () =>
        fail(
          ExitCode.Timeout,
          `${target.name} did not answer ${path} within ${Duration.format(options.timeout)}: it hangs, or all of its ` +
            "workers are busy."
        )
    })
  )
}

const clock = (): string => new Date().toTimeString().slice(0, 8)

const show = (target: Target.Target, pong: Pong, options: PingOptions): Effect.Effect<void> => {
  if (options.json) {
    const { milliseconds, ...rest } = pong
    return Output.line(JSON.stringify({ ...rest, milliseconds: Math.round(milliseconds * 1000) / 1000 }))
  }
  const paint = Output.painter(process.stdout)
  const path = options.path ?? defaultPath
  const what = pong.status === 200
    ? pong.text.length <= 40 && /^[\x20-\x7e]+$/.test(pong.text.trimEnd())
      ? `answers ${path} with ${JSON.stringify(pong.text.trimEnd())}`
      : `answers ${path} with 200`
    : `answers ${path} with ${pong.status} ${pong.statusText}`
  const why = !pong.good
    ? options.response === undefined ? ", not with 200" : `, not with ${JSON.stringify(options.response)}`
    : pong.status === 200
    ? ""
    : ": it is there, and has no such page"
  const line = `${target.name} ${what} after ${Output.milliseconds(pong.milliseconds)}${why}`
  const time = options.watch === undefined ? "" : `${clock()}  `
  return Output.line(`${time}${pong.good ? line : paint("bad", line)}`)
}

/** What many pings came to. */
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
