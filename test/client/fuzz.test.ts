/**
 * What applications answered, damaged: whatever comes, every request ends with what it got or a typed error, and the
 * connection is closed. A failure names its seed: `FUZZ_SEED=… npx vitest run test/client/fuzz.test.ts` plays that one alone,
 * and `FUZZ_CASES` plays more, a connection for each 500 of them.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiClient, type FastCgiClientError } from "effect-fastcgi/client"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { cut, random } from "../protocol/support/cuts.ts"
import { replay, seeds } from "../protocol/support/fuzz.ts"
import { list, read } from "../vectors/vectors.ts"
import * as Application from "./application.ts"
import { concat, params } from "./application.ts"

const recorded = list("server-side").filter((file) => file.endsWith(".bin"))
  .map((file) => read(`server-side/${file}`).slice(0, 5000))
  .filter((bytes) => bytes.length > 0)

const telling = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x7f, 0x80, 0xff]

const damaged = (next: () => number): Uint8Array => {
  const below = (limit: number) => Math.floor(next() * limit)
  const seed = () => recorded[below(recorded.length)]
  let bytes: Uint8Array = seed().slice()
  for (let times = below(6); times > 0; times--) {
    const at = below(bytes.length)
    switch (below(5)) {
      case 0:
        bytes[at] = below(256)
        break
      case 1:
        bytes[at] = telling[below(telling.length)]
        break
      case 2:
        bytes = concat([bytes.subarray(0, at), bytes.subarray(Math.min(bytes.length, at + below(100)))])
        break
      case 3:
        bytes = concat([seed(), bytes])
        break
      case 4:
        bytes = concat([bytes, seed()])
        break
    }
    if (bytes.length === 0) bytes = seed().slice()
  }
  return bytes
}

/** Whether it is an end that an application can be met with: a success, or a typed error. */
const isEnd = (exit: Exit.Exit<unknown, FastCgiClientError.FastCgiClientError>): boolean =>
  Exit.isSuccess(exit) ||
  exit.cause.reasons.every((reason) => Cause.isFailReason(reason) && reason.error._tag === "FastCgiClientError")

const conversation = (seed: number) =>
  Effect.gen(function*() {
    const next = random(seed)
    const bytes = damaged(next)
    const points = Array.from({ length: Math.floor(next() * 8) }, () => Math.floor(next() * bytes.length))
    const app = yield* Application.make()
    const client = yield* FastCgiClient.make({ ...app, maxRequests: 7 })
    const reading: Array<Fiber.Fiber<boolean>> = []
    for (let requests = 1 + Math.floor(next() * 7); requests > 0; requests--) {
      const stdin = next() < 0.2 ? Stream.never : new Uint8Array(Math.floor(next() * 200))
      const response = yield* client.request({ params, stdin })
      const givenUp = next() < 0.2
      reading.push(
        yield* Effect.forkScoped(
          Effect.gen(function*() {
            if (givenUp) return true
            const stdout = yield* Effect.exit(Stream.runDrain(response.stdout))
            const end = yield* Effect.exit(response.end)
            return isEnd(stdout) && isEnd(end)
          }),
          { startImmediately: true }
        )
      )
    }
    const values = yield* Effect.forkScoped(Effect.exit(client.getValues(["FCGI_MAX_REQS"])), {
      startImmediately: true
    })
    for (const piece of cut(bytes, points)) {
      yield* app.sendBytes(piece)
      if (next() < 0.5) yield* Effect.yieldNow
    }
    yield* next() < 0.5 ? app.close : app.reset
    yield* TestClock.adjust("10 seconds")
    for (const fiber of reading) assert.isTrue(yield* Fiber.join(fiber))
    assert.isTrue(isEnd(yield* Fiber.join(values)))
    yield* client.closed
    assert.strictEqual(client.activeUnsafe(), 0)
  }).pipe(Effect.scoped)

describe("an application that answers what applications answered, damaged", () => {
  it.effect("ends every request with what it got, or with a typed error", () =>
    Effect.gen(function*() {
      const { first, last } = seeds(500)
      for (let seed = first; seed <= last; seed++) {
        const exit = yield* Effect.exit(conversation(seed))
        if (Exit.isFailure(exit)) assert.fail(`${replay(seed, "client/fuzz.test.ts")}: ${Cause.pretty(exit.cause)}`)
      }
    }))
})
