/**
 * Random conversations between this package's client and its server: both read and write at their own pace, requests are
 * given up at random, and every other one gets what it asked for. A failure names its seed: `FUZZ_SEED=… npx vitest run
 * test/client/model.test.ts` plays that conversation alone, and `FUZZ_CASES` plays more, one for each 5,000 of them.
 */
import { assert, describe } from "@effect/vitest"
import { FastCgiRecord, FastCgiResponse } from "effect-fastcgi"
import { FastCgiClient } from "effect-fastcgi/client"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { random } from "../protocol/support/cuts.ts"
import { replay, seeds } from "../protocol/support/fuzz.ts"
import { bytes, type Handlers, play, serve, settle } from "../server/support/serving.ts"
import { concat } from "./application.ts"

const handlers: Handlers = {
  responder: (request) =>
    request.params.get("DO") === "whole"
      ? Effect.map(Stream.mkUint8Array(request.stdin), (body) => FastCgiResponse.make(body))
      : Effect.succeed(FastCgiResponse.make(request.stdin)),
  authorizer: () => Effect.succeed(FastCgiResponse.allow()),
  filter: (request) => Effect.succeed(FastCgiResponse.make(request.data))
}

const head = "Status: 200 OK\r\n\r\n".length

const conversation = (seed: number) =>
  Effect.gen(function*() {
    const next = random(seed)
    const below = (limit: number) => Math.floor(next() * limit)
    const { connect } = yield* FastCgiTest.FastCgiMemory
    const client = yield* FastCgiClient.make({ connect, maxRequests: 1 + below(16) })
    const turns = (most: number) => {
      const times = below(most)
      return times === 0 ? Effect.void : Effect.repeat(Effect.yieldNow, { times })
    }
    const one = (number: number) =>
      Effect.gen(function*() {
        const role = [1, 1, 1, 2, 3][below(5)]
        const pieces = Array.from({ length: below(6) }, (_, i) => bytes(below(i === 0 ? 30_000 : 3000), number + i))
        const body = concat(pieces)
        const slowly = next() < 0.5
          ? body
          : Stream.mapEffect(Stream.fromIterable(pieces), (piece) => Effect.as(turns(4), piece))
        const params: Array<[string, string]> = [["N", String(number)], ["DO", next() < 0.5 ? "whole" : "stream"]]
        if (next() < 0.5) params.push([role === 3 ? "FCGI_DATA_LENGTH" : "CONTENT_LENGTH", String(body.length)])
        const response = yield* client.request(
          role === FastCgiRecord.Role.Filter ? { role, params, data: slowly } : { role, params, stdin: slowly }
        )
        const received: Array<Uint8Array> = []
        yield* Stream.runForEach(response.stdout, (chunk) =>
          Effect.andThen(
            turns(3),
            Effect.sync(() => {
              received.push(chunk)
            })
          ))
        assert.deepStrictEqual(yield* response.end, { appStatus: 0, protocolStatus: 0 })
        const stdout = concat(received)
        const expected = role === FastCgiRecord.Role.Authorizer ? new Uint8Array(0) : body
        if (Buffer.compare(stdout.subarray(head), expected) !== 0) {
          assert.fail(`request ${number} got ${stdout.length - head} bytes, expected ${expected.length}`)
        }
      }).pipe(Effect.scoped)
    const running: Array<Fiber.Fiber<void, unknown>> = []
    for (let number = 0; number < 40; number++) {
      const fiber = yield* Effect.forkScoped(one(number), { startImmediately: next() < 0.5 })
      yield* turns(10)
      // With one request to a connection, giving it up is closing the connection, under whatever waits.
      if (next() < 0.2 && client.activeUnsafe() > 1) yield* Fiber.interrupt(fiber)
      else running.push(fiber)
    }
    for (const fiber of running) {
      yield* Fiber.join(fiber)
    }
    return running.length
  }).pipe(Effect.scoped)

describe("random conversations of client and server", () => {
  play("give every request what it asked for, and leave nothing behind", serve(handlers), () =>
    Effect.gen(function*() {
      const { first, last } = seeds(5000)
      for (let seed = first; seed <= last; seed++) {
        const exit = yield* Effect.exit(conversation(seed))
        if (Exit.isFailure(exit)) assert.fail(`${replay(seed, "client/model.test.ts")}: ${Cause.pretty(exit.cause)}`)
        yield* settle
      }
    }))
})
