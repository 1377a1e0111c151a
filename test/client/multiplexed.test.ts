/** A pool that multiplexes, in front of our own server. */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiResponse, FastCgiServer } from "effect-fastcgi"
import { FastCgiHttpClient, FastCgiPool } from "effect-fastcgi/client"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { withinMemory } from "../support/within.ts"
import { isGivenUp, numbers, sixtyFour } from "./sixtyFour.ts"
import { watched } from "./wire.ts"

describe("64 requests on one connection", () => {
  it.effect("each get their own answer, with some among them given up, and again", () =>
    Effect.gen(function*() {
      const counts = { running: 0, interrupted: 0 }
      let all = Deferred.makeUnsafe<void>()
      // Nobody is answered before all of them run, and then the last first.
      const app = FastCgiServer.serve({
        responder: ({ params }) =>
          Effect.gen(function*() {
            const [kind, number] = params.get("SCRIPT_NAME")!.slice(1).split("/")
            if (++counts.running === 64) Deferred.doneUnsafe(all, Effect.void)
            yield* Deferred.await(all)
            for (let turn = 64; turn > Number(number); turn--) yield* Effect.yieldNow
            return FastCgiResponse.make(
              kind === "endless"
                ? Stream.fromEffectRepeat(Effect.succeed(new Uint8Array(10_000))).pipe(
                  Stream.ensuring(Effect.sync(() => counts.interrupted++))
                )
                : number!
            )
          })
      }).pipe(Layer.provideMerge(FastCgiTest.layerMemory))
      yield* Effect.gen(function*() {
        const { connect } = yield* FastCgiTest.FastCgiMemory
        const { connect: counted, wire } = watched(connect)
        const pool = yield* FastCgiPool.make({
          connect: counted,
          keepConnection: true,
          maxRequests: 64,
          maxConnections: 1
        })
        const client = yield* FastCgiHttpClient.fromPool(pool)
        const givenUp = numbers.filter(isGivenUp).length
        for (let times = 1; times <= 3; times++) {
          yield* sixtyFour(client, {
            answering: (n) => `http://x.test/answering/${n}`,
            endless: (n) => `http://x.test/endless/${n}`
          }).pipe(withinMemory(() => `64 answers: ${JSON.stringify([counts, wire, pool.statesUnsafe()])}`))
          // The server has been told, the ids are free, and nothing waits.
          yield* Effect.repeat(Effect.yieldNow, { while: () => pool.statesUnsafe()[0]!.idle === 0 }).pipe(
            withinMemory(() => `an idle connection: ${JSON.stringify([counts, wire, pool.statesUnsafe()])}`)
          )
          assert.deepStrictEqual(wire, {
            open: 1,
            mostOpen: 1,
            opened: 1,
            mostAtOnce: 64,
            aborted: times * givenUp
          })
          assert.strictEqual(counts.interrupted, times * givenUp)
          assert.strictEqual(pool.waitingUnsafe(), 0)
          counts.running = 0
          all = Deferred.makeUnsafe()
        }
      }).pipe(Effect.provide(app))
    }))
})
