/**
 * Connections that end where nobody expects it: at every byte of a request, and ten thousand times at random. What `play`
 * checks after each test is the point: no request, connection, fiber or timer is left, and nothing has been logged.
 */
import { assert, describe } from "@effect/vitest"
import { FastCgiAdmission, FastCgiEncoder, FastCgiRecord as R, FastCgiResponse } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Stream from "effect/Stream"
import { random } from "../protocol/support/cuts.ts"
import { replay, seedOr } from "../protocol/support/fuzz.ts"
import { heap } from "./support/memory.ts"
import {
  assertIdle,
  bytes,
  connect,
  type Handlers,
  idleFibers,
  Observed,
  opening,
  type Peer,
  play,
  type Record,
  type Responder,
  serve,
  settle
} from "./support/serving.ts"
import { concat } from "./support/wire.ts"

const encode = (records: ReadonlyArray<Record>) => concat(records.map((record) => FastCgiEncoder.encode(record)))

/** Counts handlers in, and their finalizers out. */
const counted = () => {
  const count = { started: 0, finalized: 0, interrupted: 0 }
  const around = <A, E, R2>(handler: Effect.Effect<A, E, R2>) =>
    Effect.suspend(() => {
      count.started++
      return Effect.onExit(handler, (exit) =>
        Effect.sync(() => {
          count.finalized++
          if (Exit.hasInterrupts(exit)) count.interrupted++
        }))
    })
  return { count, around }
}

const ways: ReadonlyArray<readonly [string, (peer: Peer) => Effect.Effect<void>]> = [
  ["closes", (peer) => peer.close],
  ["resets", (peer) => peer.reset],
  ["half-closes", (peer) => Effect.andThen(peer.end, peer.closed)]
]

describe("a peer", () => {
  for (const [way, leave] of ways) {
    for (const keepConnection of [true, false]) {
      for (
        const [kind, role, body] of [
          ["a responder that reads and waits", 1, [R.stdin(1, bytes(40)), R.stdin(1)]],
          ["a responder that streams", 4, [R.stdin(1, bytes(40)), R.stdin(1)]],
          ["an authorizer", 2, []],
          ["a filter", 3, [R.stdin(1, bytes(10)), R.stdin(1), R.data(1, bytes(10)), R.data(1)]]
        ] as const
      ) {
        const { around, count } = counted()
        const handlers: Handlers = {
          responder: (request) =>
            request.params.get("STREAM") === undefined
              ? around(Effect.andThen(Stream.runDrain(request.stdin), Effect.never))
              : Effect.gen(function*() {
                count.started++
                yield* Effect.addFinalizer((exit) =>
                  Effect.sync(() => {
                    count.finalized++
                    if (Exit.hasInterrupts(exit)) count.interrupted++
                  })
                )
                return FastCgiResponse.make(Stream.forever(Stream.make(bytes(5000))))
              }),
          authorizer: () => around(Effect.never),
          filter: (request) =>
            around(Effect.andThen(
              Effect.all([Stream.runDrain(request.stdin), Stream.runDrain(request.data)]),
              Effect.never
            ))
        }
        const params = role === 4 ? { STREAM: "1" } : { REQUEST_METHOD: "GET" }
        const sent = encode([...opening(1, { role: role === 4 ? 1 : role, keepConnection, params }), ...body])
        play(
          `that ${way} at any byte of a request to ${kind} leaves nothing behind, keepConnection ${keepConnection}`,
          serve(handlers),
          () =>
            Effect.gen(function*() {
              const admission = yield* FastCgiAdmission.FastCgiAdmission
              const observed = yield* Observed
              for (let at = 0; at <= sent.length; at++) {
                const peer = yield* connect
                yield* peer.sendBytes(sent.slice(0, at))
                // Now with the bytes read, now with the end right behind them.
                if (at % 2 === 0) yield* settle
                yield* leave(peer)
                yield* settle
                // Interrupted and gone, without any time passing.
                assert.strictEqual(count.finalized, count.started, `finalizers, at ${at}`)
                assert.strictEqual(admission.requestsUnsafe(), 0, `requests, at ${at}`)
                assert.strictEqual(admission.connectionsUnsafe(), 0, `connections, at ${at}`)
                assert.strictEqual(observed.fibers(), idleFibers, `fibers, at ${at}`)
              }
              assert.isAbove(count.started, 0)
              assert.strictEqual(count.interrupted, count.started)
            })
        )
      }
    }
  }

  const { around, count } = counted()
  const finalize = Latch.makeUnsafe()
  play(
    "that goes while its requests wait for a permit, write, or cannot be interrupted at once leaves nothing behind",
    serve({
      responder: (request) => {
        switch (request.params.get("DO")) {
          case "write":
            return Effect.as(
              Effect.yieldNow,
              FastCgiResponse.make(Stream.forever(Stream.make(bytes(5000))))
            )
          case "linger":
            return around(Effect.onInterrupt(Effect.never, () => finalize.await))
          default:
            return around(Effect.never)
        }
      }
    }, { admission: { concurrency: 3 } }),
    () =>
      Effect.gen(function*() {
        for (const [, leave] of ways) {
          const peer = yield* connect
          yield* peer.setCapacity(0)
          // In one read: of what comes when a peer takes too little, nothing begins.
          yield* peer.send(
            ...["write", "linger", "wait", "write", "linger", "wait"].flatMap((what, i) => [
              ...opening(i + 1, { params: { DO: what } }),
              R.stdin(i + 1)
            ])
          )
          yield* settle
          yield* peer.setCapacity(1 << 20)
          yield* leave(peer)
          yield* settle
          const admission = yield* FastCgiAdmission.FastCgiAdmission
          // The connection counts until its last handler has ended.
          assert.strictEqual(admission.connectionsUnsafe(), 1)
          finalize.openUnsafe()
          yield* settle
          assert.strictEqual(admission.connectionsUnsafe(), 0)
          // What waited was never started.
          assert.deepStrictEqual(count, { started: 2, finalized: 2, interrupted: 2 })
          count.started = count.finalized = count.interrupted = 0
          finalize.closeUnsafe()
        }
      })
  )
})

describe("a handler", () => {
  const doings: ReadonlyArray<
    readonly [string, (request: Responder) => Effect.Effect<FastCgiResponse.FastCgiResponse, unknown>]
  > = [
    ["waits", () => Effect.never],
    ["reads", (request) => Effect.as(Stream.runDrain(request.stdin), FastCgiResponse.make("read"))],
    ["waits for room to write", (request) => Effect.forever(request.stderr("e".repeat(8000)))],
    [
      "has begun fibers of its own",
      () => Effect.andThen(Effect.all([Effect.never, Effect.never], { concurrency: 2 }), Effect.never)
    ]
  ]
  for (const [doing, handler] of doings) {
    for (
      const [way, leave] of [
        ...ways.slice(0, 2),
        ["aborts", (peer: Peer) => peer.send(R.abortRequest(1))] as const
      ]
    ) {
      const { around, count } = counted()
      play(
        `that ${doing} is interrupted, and its finalizer has run, a turn after its peer ${way}`,
        serve({ responder: (request) => around(Effect.suspend(() => handler(request))) }),
        () =>
          Effect.gen(function*() {
            const peer = yield* connect
            yield* peer.setCapacity(0)
            yield* peer.send(...opening(1), R.stdin(1, bytes(10)))
            yield* settle
            assert.deepStrictEqual(count, { started: 1, finalized: 0, interrupted: 0 })
            yield* leave(peer)
            yield* Effect.yieldNow
            assert.deepStrictEqual(count, { started: 1, finalized: 1, interrupted: 1 })
          })
      )
    }
  }
})

describe("ten thousand connections", () => {
  const { around, count } = counted()

  const handler = (request: Responder) => {
    switch (request.params.get("DO")) {
      case "read":
        return around(Effect.as(Stream.runDrain(request.stdin), FastCgiResponse.make("read")))
      case "wait":
        return around(Effect.never)
      case "stream":
        return Effect.succeed(FastCgiResponse.make(Stream.forever(Stream.make(bytes(3000)))))
      case "log":
        return around(Effect.andThen(request.stderr("a word"), Effect.succeed(FastCgiResponse.make("logged"))))
      default:
        return Effect.succeed(FastCgiResponse.make("at once"))
    }
  }

  play(
    "that break off at random leave no more than none",
    serve({
      responder: (request) => Effect.catch(handler(request), () => Effect.succeed(FastCgiResponse.make("short"))),
      authorizer: () => around(Effect.never)
    }),
    () =>
      Effect.gen(function*() {
        const seed = seedOr(20_260_101)
        const next = random(seed)
        const pick = <A>(choices: ReadonlyArray<A>): A => choices[Math.floor(next() * choices.length)]
        const one = Effect.gen(function*() {
          const peer = yield* connect
          yield* peer.setCapacity(pick([0, 1, 100, 10_000, 1 << 20]))
          const records: Array<Record> = []
          for (let id = 1; id <= 1 + Math.floor(next() * 4); id++) {
            records.push(
              ...opening(id, {
                role: next() < 0.2 ? 2 : 1,
                keepConnection: next() < 0.7,
                params: { DO: pick(["read", "wait", "stream", "log", "now"]), CONTENT_LENGTH: pick(["", "300"]) }
              }),
              R.stdin(id, bytes(pick([0, 1, 300, 5000]))),
              ...(next() < 0.2 ? [R.abortRequest(id)] : [R.stdin(id)])
            )
          }
          const sent = encode(records)
          const length = next() < 0.3 ? sent.length : Math.floor(next() * sent.length)
          const middle = Math.floor(next() * length)
          yield* peer.sendBytes(sent.slice(0, middle))
          if (next() < 0.5) yield* Effect.yieldNow
          yield* peer.sendBytes(sent.slice(middle, length))
          for (let turns = Math.floor(next() * 6); turns > 0; turns--) yield* Effect.yieldNow
          yield* pick([peer.close, peer.reset, peer.end])
          if (next() < 0.3) yield* settle
        }).pipe(Effect.scoped)
        const many = (times: number) => Effect.repeat(one, { times: times - 1 })
        yield* many(2000)
        yield* settle
        const before = heap()
        yield* many(8000)
        yield* assertIdle
        assert.strictEqual(count.finalized, count.started, replay(seed, "server/disconnects.test.ts"))
        assert.isAbove(count.started, 5000)
        // Half a kilobyte that each of them left would be 4 MB.
        assert.isBelow(heap() - before, 3_000_000, replay(seed, "server/disconnects.test.ts"))
      })
  )
})

describe("a hundred thousand requests", () => {
  const { around, count } = counted()
  const reading = (request: Responder) =>
    around(Effect.as(Stream.runDrain(request.stdin), FastCgiResponse.make("read")))

  play(
    "that are aborted or lose their connection at a random step leave no more than none",
    serve({
      responder: (request) =>
        request.params.get("DO") === "read"
          ? Effect.catch(reading(request), () => Effect.succeed(FastCgiResponse.make("short")))
          : around(Effect.never),
      authorizer: () => around(Effect.never)
    }, { paramsTimeout: "10 minutes" }),
    () =>
      Effect.gen(function*() {
        const seed = seedOr(20_260_102)
        const next = random(seed)
        const below = (limit: number) => Math.floor(next() * limit)
        let begun = 0
        // Up to 64 requests that are on a connection at the same time, each at a step of its own when it ends, by an abort
        // or with the connection.
        const one = Effect.gen(function*() {
          const peer = yield* connect
          yield* peer.setCapacity(1 << 20)
          const requests = 1 + below(64)
          const rest: Array<Array<Record>> = []
          for (let id = 1; id <= requests; id++) {
            const records = [
              ...opening(id, { role: next() < 0.2 ? 2 : 1, params: { DO: next() < 0.5 ? "read" : "wait" } }),
              R.stdin(id, bytes(20)),
              R.stdin(id)
            ]
            rest.push(records.slice(0, 1 + below(records.length)))
          }
          begun += requests
          const records: Array<Record> = []
          while (rest.length > 0) {
            const at = below(rest.length)
            const record = rest[at].shift()!
            records.push(record)
            if (rest[at].length > 0) continue
            rest.splice(at, 1)
            if (next() < 0.5) records.push(R.abortRequest(record.requestId))
          }
          const middle = below(records.length)
          yield* peer.send(...records.slice(0, middle))
          if (next() < 0.5) yield* Effect.yieldNow
          yield* peer.send(...records.slice(middle))
          for (let turns = below(4); turns > 0; turns--) yield* Effect.yieldNow
          yield* [peer.close, peer.reset, peer.end][below(3)]
        }).pipe(Effect.scoped)
        const until = (requests: number) =>
          Effect.andThen(Effect.whileLoop({ while: () => begun < requests, body: () => one, step: () => {} }), settle)
        yield* until(20_000)
        const before = heap()
        yield* until(120_000)
        yield* assertIdle
        assert.strictEqual(count.finalized, count.started, replay(seed, "server/disconnects.test.ts"))
        assert.isAbove(count.started, 30_000)
        // Thirty bytes that each of them left would be 3 MB.
        assert.isBelow(heap() - before, 3_000_000, replay(seed, "server/disconnects.test.ts"))
      })
  )
})
