/**
 * What may come, and what may not be sent, at each step of a request (SPEC 3.3, 4.1, 6.1, 6.2).
 */
import { assert, describe } from "@effect/vitest"
import { FastCgiParams, FastCgiRecord as R, FastCgiResponse } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Stream from "effect/Stream"
import {
  connect,
  exchange,
  getParams,
  type Handlers,
  opening,
  page,
  play,
  received,
  serve,
  settle,
  tags,
  takeLogs
} from "./support/serving.ts"

const text = (content: string) => new TextEncoder().encode(content)

const echo: Handlers = {
  responder: (request) => Effect.succeed(FastCgiResponse.make(request.stdin)),
  authorizer: () => Effect.succeed(FastCgiResponse.allow())
}

describe("one id", () => {
  play("is a request of its own on every connection where it is active", serve(echo), () =>
    Effect.gen(function*() {
      const one = yield* connect
      const other = yield* connect
      for (const peer of [one, other]) yield* peer.send(...opening(1), R.stdin(1, text("a")))
      yield* other.send(R.abortRequest(1))
      yield* one.send(R.stdin(1, text("b")), R.stdin(1))
      assert.strictEqual((yield* one.reply()).stdout, "Status: 200 OK\r\n\r\nab")
      assert.strictEqual((yield* other.reply()).appStatus, 1)
    }))
})

describe("GET_VALUES", () => {
  const gate = Latch.makeUnsafe()
  play(
    "is answered before, during and after a request, between any two of its records",
    serve({
      responder: (request) =>
        Stream.mkUint8Array(request.stdin).pipe(
          Effect.andThen(gate.await),
          Effect.as(FastCgiResponse.make("done"))
        )
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        for (const record of [...opening(1), R.stdin(1, text("body")), R.stdin(1)]) {
          // `exchange` asks, and returns what came before the answer.
          assert.deepStrictEqual(yield* exchange(peer), [])
          assert.deepStrictEqual(yield* exchange(peer, record), [])
        }
        gate.openUnsafe()
        assert.strictEqual((yield* peer.reply()).stdout, page("done"))
        assert.deepStrictEqual(yield* exchange(peer), [])
      })
  )
})

describe("variables of the application's own", () => {
  play(
    "are answered where they are asked for, and change no limit",
    serve(echo, { values: { APP_VERSION: "1.2.3", FCGI_MAX_REQS: "1000000" }, admission: { maxRequests: 7 } }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        const ask = (...names: ReadonlyArray<string>) =>
          Effect.gen(function*() {
            yield* peer.send(R.getValues(FastCgiParams.encodePairs(names.map((name) => [name, ""]))))
            const record = yield* received(peer)
            assert.ok(record._tag === "GetValuesResult")
            const values = FastCgiParams.fromBytes(record.content)
            assert.ok(!("_tag" in values))
            return [...values]
          })
        assert.deepStrictEqual(yield* ask("APP_VERSION", "FCGI_MAX_REQS", "constructor"), [
          ["APP_VERSION", "1.2.3"],
          ["FCGI_MAX_REQS", "7"]
        ])
        assert.deepStrictEqual(yield* ask("FCGI_MPXS_CONNS"), [["FCGI_MPXS_CONNS", "1"]])
      })
  )
})

describe("output", () => {
  play("begins while STDIN is still coming", serve(echo), () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(...opening(1))
      assert.strictEqual((yield* received(peer))._tag, "Stdout")
      for (const piece of ["one", "two", "three"]) {
        yield* peer.send(R.stdin(1, text(piece)))
        assert.deepStrictEqual(yield* received(peer), R.stdout(1, text(piece)))
      }
      yield* peer.send(R.stdin(1))
      assert.deepStrictEqual(tags([yield* received(peer), yield* received(peer)]), ["Stdout 1", "EndRequest 1"])
    }))

  const refusals: ReadonlyArray<readonly [string, RegExp, Parameters<typeof serve>[1], R.FastCgiRecord]> = [
    ["too many requests", /^Status: 503 /, { admission: { maxRequests: 1 } }, R.params(2, getParams)],
    ["params that are too large", /^Status: 431 /, { maxParamsSize: 10 }, R.params(2, getParams)],
    ["input that came too early", /^Status: 400 /, {}, R.stdin(2, text("early"))],
    ["params that are cut", /^Status: 400 /, {}, R.params(2, Uint8Array.of(9))]
  ]
  for (const [why, status, options, record] of refusals) {
    for (const role of [1, 2]) {
      play(
        `waits for the end of PARAMS, also to refuse ${why} (role ${role})`,
        serve(echo, options),
        () =>
          Effect.gen(function*() {
            const peer = yield* connect
            // Too many are those that run: the first runs, and has begun to answer.
            const runs = options?.admission !== undefined
            const [begin, ...rest] = opening(1)
            yield* peer.send(begin, ...runs ? rest : [])
            if (runs) yield* received(peer)
            assert.deepStrictEqual(
              yield* exchange(peer, R.beginRequest(2, role, { keepConnection: true }), record),
              []
            )
            yield* settle
            assert.deepStrictEqual(yield* exchange(peer), [])
            yield* peer.send(R.params(2))
            assert.match((yield* peer.reply(2)).stdout, status)
            assert.strictEqual((yield* takeLogs).length, 1)
            yield* peer.send(...runs ? [] : [R.params(1)], R.stdin(1))
            const { appStatus, stdout } = yield* peer.reply(1)
            assert.strictEqual(appStatus, 0)
            assert.match(stdout, runs ? /^$/ : /^Status: 200 /)
          })
      )
    }
  }
})
