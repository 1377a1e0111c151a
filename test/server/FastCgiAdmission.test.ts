/**
 * How much runs at once: connections, requests, handlers.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiAdmission, FastCgiRecord as R, FastCgiResponse, FastCgiServer } from "effect-fastcgi"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import {
  connect,
  exchange,
  opening,
  page,
  play,
  received,
  type Record,
  serve,
  settle,
  tags,
  takeLogs
} from "./support/serving.ts"

/** Handlers that say when they start and wait to be let go, by request id. */
const gates = () => {
  const waiting = new Map<number, Deferred.Deferred<void>>()
  const started: Array<number> = []
  return {
    started,
    release: (id: number) => Deferred.succeed(waiting.get(id)!, undefined),
    handlers: {
      responder: (request: { readonly requestId: number }) =>
        Effect.gen(function*() {
          started.push(request.requestId)
          const gate = yield* Deferred.make<void>()
          waiting.set(request.requestId, gate)
          yield* Deferred.await(gate)
          return FastCgiResponse.make(`done ${request.requestId}`)
        }),
      authorizer: () => Effect.never
    }
  }
}

const unavailable =
  /^Status: 503 Service Unavailable\r\nContent-Type: text\/plain; charset=utf-8\r\nRetry-After: 1\r\n\r\n/

describe("maxRequests", () => {
  for (const role of [1, 2]) {
    const gate = gates()
    play(
      `refuses what is beyond with 503, and leaves the others alone (role ${role})`,
      serve(gate.handlers, {
        admission: { maxRequests: 2 }
      }),
      () =>
        Effect.gen(function*() {
          const admission = yield* FastCgiAdmission.FastCgiAdmission
          const peer = yield* connect
          yield* peer.send(...opening(1), R.stdin(1), ...opening(2), R.stdin(2))
          yield* exchange(peer)
          assert.strictEqual(admission.requestsUnsafe(), 2)
          // SPEC 6.2: not before PARAMS have ended.
          const [begin, params, end] = opening(3, { role })
          assert.deepStrictEqual(yield* exchange(peer, begin, params), [])
          yield* peer.send(end, R.stdin(3))
          const refused = yield* peer.reply(3)
          assert.match(refused.stdout, unavailable)
          assert.strictEqual(refused.protocolStatus, R.ProtocolStatus.RequestComplete)
          assert.strictEqual(admission.requestsUnsafe(), 2)
          // On another connection as well: requests are counted for the whole server.
          const other = yield* connect
          yield* other.send(...opening(3, { role }), R.stdin(3))
          assert.match((yield* other.reply(3)).stdout, unavailable)
          assert.strictEqual((yield* takeLogs).length, 1, "said once, not each time")
          yield* gate.release(1)
          assert.strictEqual((yield* peer.reply(1)).stdout, page("done 1"))
          yield* other.send(...opening(3), R.stdin(3))
          yield* exchange(other)
          yield* gate.release(2)
          yield* gate.release(3)
          assert.strictEqual((yield* peer.reply(2)).stdout, page("done 2"))
          assert.strictEqual((yield* other.reply(3)).stdout, page("done 3"))
        })
    )
  }

  const gate = gates()
  play(
    "refuses with OVERLOADED where that is asked for",
    serve(gate.handlers, {
      admission: { maxRequests: 1 },
      overload: "protocolStatus"
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1), R.stdin(1))
        assert.deepStrictEqual(yield* exchange(peer, ...opening(2), R.stdin(2)), [
          R.endRequest(2, 0, R.ProtocolStatus.Overloaded)
        ])
        yield* takeLogs
      })
  )

  const many = gates()
  play("refuses the 1025th with 503 by default, on one connection", serve(many.handlers), () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.setCapacity(1 << 30)
      for (let id = 1; id <= 1024; id++) yield* peer.send(...opening(id))
      yield* exchange(peer)
      yield* peer.send(...opening(2000))
      assert.match((yield* peer.reply(2000)).stdout, unavailable)
      yield* takeLogs
    }))

  const begun = gates()
  play(
    "counts what runs, from the end of its PARAMS until it has ended",
    serve(begun.handlers, {
      admission: { maxRequests: 1 }
    }),
    () =>
      Effect.gen(function*() {
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        const peer = yield* connect
        yield* exchange(peer, R.beginRequest(1, 1, { keepConnection: true }))
        assert.strictEqual(admission.requestsUnsafe(), 0)
        // Whoever begins requests and goes no further takes nobody's place.
        const other = yield* connect
        yield* exchange(other, ...opening(1))
        assert.strictEqual(admission.requestsUnsafe(), 1)
        yield* exchange(other, R.abortRequest(1))
        assert.strictEqual(admission.requestsUnsafe(), 0)
      })
  )

  play(
    "is never passed by requests that are answered at once",
    serve({
      responder: () => Effect.succeed(FastCgiResponse.make(""))
    }, { admission: { maxRequests: 1 } }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.setCapacity(1 << 30)
        for (let id = 1; id <= 300; id++) yield* peer.send(...opening(id), R.stdin(id))
        for (let id = 1; id <= 300; id++) assert.match((yield* peer.reply(id)).stdout, /^Status: 200/)
      })
  )
})

describe("maxConnections", () => {
  const gate = gates()
  play(
    "holds further connections unread until another one has closed",
    serve(gate.handlers, {
      admission: { maxConnections: 2 }
    }),
    () =>
      Effect.gen(function*() {
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        const peers = [yield* connect, yield* connect, yield* connect, yield* connect]
        for (const [i, peer] of peers.entries()) yield* peer.send(...opening(i + 1), R.stdin(i + 1))
        yield* settle
        assert.deepStrictEqual(gate.started, [1, 2])
        assert.strictEqual(admission.connectionsUnsafe(), 2)
        assert.deepStrictEqual((yield* takeLogs).map(({ message }) => message), [
          "a FastCGI connection waits: there are 2 already (maxConnections)"
        ])
        yield* peers[1].close
        yield* settle
        assert.deepStrictEqual(gate.started, [1, 2, 3])
        yield* peers[0].reset
        yield* settle
        assert.deepStrictEqual(gate.started, [1, 2, 3, 4])
        yield* gate.release(4)
        assert.strictEqual((yield* peers[3].reply(4)).stdout, page("done 4"))
      })
  )

  const lost = gates()
  play(
    "is not used up by held connections that have gone",
    serve(lost.handlers, {
      admission: { maxConnections: 1 }
    }),
    () =>
      Effect.gen(function*() {
        const first = yield* connect
        yield* first.send(...opening(1), R.stdin(1))
        const gone = yield* connect
        yield* gone.send(...opening(2), R.stdin(2))
        const reset = yield* connect
        const last = yield* connect
        yield* last.send(...opening(4), R.stdin(4))
        yield* gone.close
        yield* reset.reset
        yield* first.close
        yield* settle
        assert.strictEqual(lost.started.at(-1), 4)
        assert.strictEqual((yield* takeLogs).length, 1)
      })
  )
})

describe("a long queue", () => {
  it("for permits is worked off without calls inside of each other, as many as the stack holds or more", () => {
    const admission = FastCgiAdmission.makeUnsafe({ concurrency: 1 })
    const order: Array<number> = []
    let first = () => {}
    admission.handleUnsafe((release) => {
      first = release
    })
    for (let i = 0; i < 100_000; i++) {
      // What is answered at once has ended before the queue goes on.
      admission.handleUnsafe((release) => {
        order.push(i)
        release()
      })
    }
    first()
    assert.strictEqual(order.length, 100_000)
    assert.isTrue(order.every((number, i) => number === i))
  })

  const gate = gates()
  play(
    "of connections that are lost is forgotten, while others are held",
    serve(gate.handlers, { admission: { maxConnections: 1 } }),
    () =>
      Effect.gen(function*() {
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        const first = yield* connect
        yield* first.send(...opening(1), R.stdin(1))
        for (let i = 0; i < 5000; i++) {
          const gone = yield* connect
          yield* gone.send(...opening(2), R.stdin(2))
          yield* gone.reset
        }
        const last = yield* connect
        yield* last.send(...opening(3), R.stdin(3))
        yield* settle
        yield* first.close
        yield* settle
        assert.deepStrictEqual(gate.started, [1, 3])
        assert.strictEqual(admission.connectionsUnsafe(), 1)
        yield* takeLogs
      })
  )
})

describe("concurrency", () => {
  const gate = gates()
  play(
    "lets handlers wait, in order, over all connections",
    serve(gate.handlers, { admission: { concurrency: 2 } }),
    () =>
      Effect.gen(function*() {
        const one = yield* connect
        const other = yield* connect
        yield* one.send(...[1, 2, 3].flatMap((id) => [...opening(id), R.stdin(id)]))
        yield* exchange(one)
        yield* other.send(...[4, 5].flatMap((id) => [...opening(id), R.stdin(id)]))
        yield* exchange(other)
        assert.deepStrictEqual(gate.started, [1, 2])
        yield* gate.release(2)
        assert.strictEqual((yield* one.reply(2)).stdout, page("done 2"))
        assert.deepStrictEqual(gate.started, [1, 2, 3])
        yield* gate.release(1)
        yield* one.reply(1)
        assert.deepStrictEqual(gate.started, [1, 2, 3, 4])
        // The last one is aborted while it waits, and never starts.
        assert.deepStrictEqual(tags(yield* exchange(other, R.abortRequest(5))), ["Stdout 5", "EndRequest 5"])
        yield* gate.release(3)
        yield* one.reply(3)
        yield* gate.release(4)
        yield* other.reply(4)
        assert.deepStrictEqual(gate.started, [1, 2, 3, 4])
      })
  )

  const closing = gates()
  play(
    "forgets those that wait on a connection that closes",
    serve(closing.handlers, { admission: { concurrency: 1 } }),
    () =>
      Effect.gen(function*() {
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        const first = yield* connect
        yield* first.send(...opening(1), R.stdin(1))
        yield* exchange(first)
        const second = yield* connect
        yield* second.send(...opening(2), R.stdin(2))
        yield* exchange(second)
        yield* second.close
        yield* settle
        assert.strictEqual(admission.requestsUnsafe(), 1)
        yield* first.close
        yield* settle
        assert.deepStrictEqual(closing.started, [1])
        assert.strictEqual(admission.requestsUnsafe(), 0)
        // The permits are back.
        const third = yield* connect
        yield* third.send(...opening(3), R.stdin(3))
        yield* exchange(third)
        assert.deepStrictEqual(closing.started, [1, 3])
      })
  )

  play(
    "is not passed by handlers that answer at once, and gives each its turn",
    serve({
      responder: (request) => Effect.succeed(FastCgiResponse.make(String(request.requestId)))
    }, { admission: { concurrency: 1 } }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.setCapacity(1 << 30)
        const ids = Array.from({ length: 200 }, (_, i) => i + 1)
        yield* peer.send(...ids.flatMap((id) => [...opening(id), R.stdin(id)]))
        for (const id of ids) assert.strictEqual((yield* peer.reply(id)).stdout, page(String(id)))
      })
  )

  const finalize = Deferred.makeUnsafe<void>()
  play(
    "gives a permit back when the handler has ended, its finalizers included",
    serve({
      responder: (request) =>
        request.requestId === 1
          ? Effect.onInterrupt(Effect.never, () => Deferred.await(finalize))
          : Effect.succeed(FastCgiResponse.make("second"))
    }, { admission: { concurrency: 1 } }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1), R.stdin(1), ...opening(2), R.stdin(2))
        assert.deepStrictEqual(yield* exchange(peer, R.abortRequest(1)), [])
        yield* Deferred.succeed(finalize, undefined)
        assert.strictEqual((yield* received(peer)).requestId, 1)
        assert.strictEqual((yield* peer.reply(2)).stdout, page("second"))
      })
  )
})

describe("a server", () => {
  // A server with a listener of its own, whose handlers never answer, and a peer of it.
  const start = Effect.gen(function*() {
    const context = yield* Layer.build(
      FastCgiServer.serve({ responder: () => Effect.never }).pipe(
        Layer.provideMerge(Layer.fresh(FastCgiTest.layerMemory))
      )
    )
    const peer = yield* Context.get(context, FastCgiTest.FastCgiMemory).peer
    yield* peer.setCapacity(1 << 30)
    return peer
  })
  const refusals = (records: ReadonlyArray<Record>) =>
    records.flatMap((record) => record._tag === "EndRequest" ? [record.requestId] : [])

  it.effect("has an admission of its own, with the defaults, where none is provided", () =>
    Effect.gen(function*() {
      const [first, second] = [yield* start, yield* start]
      for (let id = 1; id <= 1025; id++) yield* first.send(...opening(id))
      assert.deepStrictEqual(refusals(yield* exchange(first)), [1025])
      for (let id = 1; id <= 1025; id++) yield* second.send(...opening(id))
      assert.deepStrictEqual(refusals(yield* exchange(second)), [1025])
    }))

  it.effect("shares the admission that is provided with the others that it is provided to", () =>
    Effect.gen(function*() {
      const [first, second] = [yield* start, yield* start]
      assert.deepStrictEqual(refusals(yield* exchange(first, ...opening(1))), [])
      assert.deepStrictEqual(refusals(yield* exchange(second, ...opening(1))), [1])
      assert.strictEqual((yield* FastCgiAdmission.FastCgiAdmission).requestsUnsafe(), 1)
    }).pipe(Effect.provide(FastCgiAdmission.layer({ maxRequests: 1 }))))
})

describe("FastCgiAdmission.makeUnsafe", () => {
  it("has 1024 requests and no other limit by default", () => {
    const admission = FastCgiAdmission.makeUnsafe()
    assert.deepStrictEqual([admission.maxConnections, admission.maxRequests, admission.concurrency], [
      "unbounded",
      1024,
      "unbounded"
    ])
    for (let i = 0; i < 1024; i++) assert.isTrue(admission.beginUnsafe())
    assert.isFalse(admission.beginUnsafe())
    admission.endUnsafe()
    assert.isTrue(admission.beginUnsafe())
  })

  for (const gate of ["connectUnsafe", "handleUnsafe"] as const) {
    it(`${gate}: what gives up while it waits is never started, a release twice is once`, () => {
      const admission = FastCgiAdmission.makeUnsafe({ maxConnections: 1, concurrency: 1 })
      const releases = new Map<string, () => void>()
      const enter = (name: string) => admission[gate]((release) => releases.set(name, release))
      const started = () => [...releases.keys()]
      const giveUp = enter("first")
      const giveUpSecond = enter("second")
      enter("third")
      giveUpSecond()
      giveUpSecond()
      assert.deepStrictEqual(started(), ["first"])
      // It runs: there is no place in the queue to be given up.
      giveUp()
      assert.deepStrictEqual(started(), ["first"])
      releases.get("first")!()
      releases.get("first")!()
      assert.deepStrictEqual(started(), ["first", "third"])
      enter("fourth")
      assert.deepStrictEqual(started(), ["first", "third"])
      releases.get("third")!()
      releases.get("fourth")!()
      assert.deepStrictEqual(started(), ["first", "third", "fourth"])
      assert.strictEqual(admission.connectionsUnsafe(), 0)
    })
  }
})
