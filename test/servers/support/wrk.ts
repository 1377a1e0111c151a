/**
 * Load by wrk, for as long as a test needs it.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { fileURLToPath } from "node:url"
import * as WebServers from "../../support/webServers.ts"
import type * as Application from "./application.ts"

const script = fileURLToPath(new URL("../load.lua", import.meta.url))

export interface Options {
  readonly wrk: string
  readonly port: number
  readonly connections?: number | undefined
  readonly headers?: ReadonlyArray<string> | undefined
  /** Seconds; then it ends by itself. Default: far more than a test takes. */
  readonly duration?: number | undefined
}

// --timeout: an answer that comes later counts as lost. On a busy machine one may take long.
const program = (
  { connections = 16, duration = 600, headers = [], port, wrk }: Options
): WebServers.ProgramOptions => ({
  name: "wrk",
  command: wrk,
  args: [
    ...["-t1", `-c${connections}`, `-d${duration}s`, "--timeout", "60s"],
    ...headers.flatMap((header) => ["-H", header]),
    ...["-s", script, `http://127.0.0.1:${port}/hello`]
  ]
})

/** Fails when a request has not got the right answer. Gives how many have. */
const right = (log: string): number => {
  const result = /RESULT requests=(\d+) wrong=(\d+) broken=(\d+)/.exec(log)
  assert.isNotNull(result, log)
  assert.deepStrictEqual(result!.slice(2), ["0", "0"], log)
  return Number(result![1])
}

/** Starts clients that ask again and again. What it gives stops them, and fails when one has not got the right answer. */
export const start = (
  options: Options
): Effect.Effect<Effect.Effect<number, WebServers.ProgramError>, WebServers.ProgramError, Scope.Scope> =>
  Effect.map(WebServers.start(program(options)), (wrk) => Effect.map(wrk.stop("SIGINT"), () => right(wrk.log())))

/** Asks for a second, or for so many. Fails when a request has not got the right answer. Gives how many have. */
export const run = (options: Options): Effect.Effect<number, WebServers.ProgramError> =>
  Effect.map(WebServers.run(program({ duration: 1, ...options })), ({ log }) => right(log))

/** Waits until the application has handled so many requests. */
export const handled = (
  application: Application.Application,
  count: number
): Effect.Effect<void, WebServers.ProgramError> =>
  Effect.asVoid(WebServers.eventually(
    `${count} requests under load`,
    Effect.filterOrFail(application.measure, ({ handled }) => handled >= count, ({ handled }) => `${handled} so far`)
  ))
