/**
 * Every way in which a peer can make the server keep memory, each with the bound that docs/specification.md ("Memory") states,
 * and what has to hold for honest peers all the same.
 */
import { assert, describe } from "@effect/vitest"
import { FastCgiAdmission, FastCgiEncoder, FastCgiParams, FastCgiRecord as R, FastCgiResponse } from "effect-fastcgi"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { held } from "./support/memory.ts"
import {
  bodyOf,
  bytes,
  connect,
  type Handlers,
  opening,
  page,
  type Peer,
  play,
  received,
  serve,
  settle,
  takeLogs
} from "./support/serving.ts"
import { concat } from "./support/wire.ts"

const KiB = 1024
const MiB = 1024 * KiB

const encode = (records: ReadonlyArray<R.FastCgiRecord>) =>
  concat(records.map((record) => FastCgiEncoder.encode(record)))

const repeat = (content: Uint8Array, times: number) => concat(Array.from({ length: times }, () => content))

const pageSize = 100_000

const pages: Handlers = {
  responder: (request) =>
    Effect.succeed(FastCgiResponse.make(request.params.get("SMALL") === undefined ? bytes(pageSize) : "small"))
}

/** Sends in parts, as a socket would bring it, and lets the server take what it takes. */
const flood = (peer: Peer, content: Uint8Array) =>
  Effect.gen(function*() {
    for (let at = 0; at < content.length; at += 64 * KiB) {
      yield* peer.sendBytes(content.slice(at, at + 64 * KiB))
      yield* Effect.yieldNow
      yield* Effect.yieldNow
    }
    yield* settle
  })

const small = opening(1, { params: { SMALL: "1" } })

/** Asserts that another connection is served, and at once. */
const othersAreServed = Effect.scoped(Effect.gen(function*() {
  const other = yield* connect
  yield* other.send(...small, R.stdin(1))
  assert.strictEqual(bodyOf((yield* other.reply()).stdout), "small")
}))

describe("a peer that sends and reads nothing", () => {
  const get = encode([...opening(1), R.stdin(1)])
  const floods: ReadonlyArray<readonly [string, Uint8Array, number]> = [
    ["pipelined requests for a page of 100 kB under one id", get, pageSize],
    [
      "requests for a page under many ids, whose PARAMS come together",
      encode([
        ...Array.from({ length: 200 }, (_, i) => opening(i + 1)[0]),
        ...Array.from({ length: 200 }, (_, i) => opening(i + 1).slice(1)).flat()
      ]),
      pageSize
    ],
    ["BEGIN_REQUEST and ABORT_REQUEST", encode([R.beginRequest(1, 1, { keepConnection: true }), R.abortRequest(1)]), 0],
    ["requests of a role that nobody handles", encode([R.beginRequest(1, 9, { keepConnection: true })]), 0],
    [
      "requests with empty PARAMS",
      encode([R.beginRequest(1, 1, { keepConnection: true }), R.params(1), R.stdin(1)]),
      pageSize
    ],
    [
      "requests that are refused",
      encode([R.beginRequest(1, 1, { keepConnection: true }), R.params(1, Uint8Array.of(9)), R.params(1), R.stdin(1)]),
      0
    ],
    ["GET_VALUES", encode([R.getValues(FastCgiParams.encodePairs([["FCGI_MPXS_CONNS", ""]]))]), 0],
    ["records of unknown types", encode([R.unrecognized(100)]), 0]
  ]
  for (const [name, records, page] of floods) {
    play(`is held up by the output that waits for it: ${name}`, serve(pages), () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.setCapacity(0)
        const before = held()
        yield* flood(peer, repeat(records, Math.ceil(2 * MiB / records.length)))
        const pending = yield* peer.pending
        assert.isAbove(pending, MiB, "the server has taken all of it")
        // outputHighWaterMark and one answer, and the read that waits with what its records take.
        assert.isBelow(held() - before - pending, 64 * KiB + page + 64 * KiB + 12 * 64 * KiB)
        yield* othersAreServed
        yield* takeLogs
      }))
  }

  play("gets all of it, in order, when it reads on", serve(pages), () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.setCapacity(0)
      const ids = Array.from({ length: 50 }, (_, i) => i + 1)
      yield* peer.sendBytes(encode([
        ...ids.map((id) => opening(id)[0]),
        ...ids.flatMap((id) => [...opening(id).slice(1), R.stdin(id)])
      ]))
      for (let i = 0; i < 50; i++) yield* peer.send(...opening(100), R.stdin(100))
      yield* settle
      yield* peer.setCapacity(64 * KiB)
      const ended: Array<number> = []
      while (ended.length < 100) {
        const record = yield* received(peer)
        if (record._tag === "EndRequest") ended.push(record.requestId)
      }
      assert.deepStrictEqual(ended.filter((id) => id !== 100), ids)
    }))

  play(
    "and a sibling that downloads do not starve each other",
    serve({
      responder: (request) =>
        request.requestId === 1
          ? Effect.succeed(FastCgiResponse.make(bytes(20 * MiB)))
          : Effect.succeed(FastCgiResponse.make("small"))
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.setCapacity(0)
        yield* peer.send(...opening(1), R.stdin(1))
        yield* settle
        yield* peer.send(...opening(2), R.stdin(2))
        yield* settle
        yield* peer.setCapacity(8 * KiB)
        // The small answer does not wait for the end of the large one.
        const order: Array<number> = []
        for (const id of [2, 1]) {
          assert.strictEqual((yield* peer.reply(id)).appStatus, 0)
          order.push(id)
        }
        assert.deepStrictEqual(order, [2, 1])
      })
  )
})

describe("requests in PARAMS", () => {
  const begins = (from: number, count: number) =>
    encode(Array.from({ length: count }, (_, i) => R.beginRequest(from + i, 1, { keepConnection: true })))

  play("take nobody's place", serve(pages, { admission: { maxRequests: 10 } }), () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* flood(peer, begins(1, 1000))
      yield* othersAreServed
    }))

  play(
    "are limited over all connections, and cost the peer that has most of them its connection",
    serve(pages),
    () =>
      Effect.gen(function*() {
        const before = held()
        const honest = yield* connect
        yield* honest.send(...small.slice(0, 2))
        yield* settle
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        const peers: Array<Peer> = []
        for (let i = 0; i < 50; i++) {
          const peer = yield* connect
          peers.push(peer)
          yield* flood(peer, begins(1, 1023))
        }
        assert.isBelow(held() - before, 4 * MiB)
        yield* othersAreServed
        // The one that has come far is not among those that are closed.
        yield* honest.send(...small.slice(2), R.stdin(1))
        assert.strictEqual(bodyOf((yield* honest.reply()).stdout), "small")
        for (const peer of peers) yield* peer.close
        yield* honest.close
        yield* settle
        assert.strictEqual(admission.connectionsUnsafe(), 0)
        assert.strictEqual((yield* takeLogs).length, 1)
      })
  )

  play(
    "of as many connections as there may be cost the one its connection that has begun first",
    serve(pages, {
      maxRequestsInParams: 20
    }),
    () =>
      Effect.gen(function*() {
        const peers: Array<Peer> = []
        for (let i = 0; i < 20; i++) {
          const peer = yield* connect
          peers.push(peer)
          yield* flood(peer, begins(1, 1))
        }
        yield* othersAreServed
        assert.deepStrictEqual(yield* peers[0].drain, [])
        yield* peers[1].send(...small.slice(1), R.stdin(1))
        assert.strictEqual(bodyOf((yield* peers[1].reply()).stdout), "small")
        yield* takeLogs
      })
  )
})

describe("small output that a peer does not take", () => {
  play(
    "keeps its bytes, and not what other connections have sent beside it",
    serve({
      responder: () => Effect.succeed(FastCgiResponse.make(bytes(1000)))
    }),
    () =>
      Effect.gen(function*() {
        const memory = yield* FastCgiTest.FastCgiMemory
        const stuck = yield* memory.peer
        yield* stuck.setCapacity(0)
        const busy = yield* memory.peer
        const question = encode([R.getValues(FastCgiParams.encodePairs([["FCGI_MPXS_CONNS", ""]]))])
        const before = held()
        for (let i = 0; i < 2000; i++) {
          yield* stuck.sendBytes(question)
          for (let k = 0; k < 25; k++) {
            yield* busy.send(...opening(1), R.stdin(1))
            yield* busy.reply()
          }
        }
        assert.isBelow(held() - before, 2 * MiB)
        yield* stuck.setCapacity(1 << 30)
        for (let i = 0; i < 2000; i++) assert.strictEqual((yield* stuck.receive)._tag, "GetValuesResult")
      })
  )
})

describe("ids whose input is due", () => {
  const all = Array.from({ length: 65_535 }, (_, i) => i + 1)
  const kinds: ReadonlyArray<readonly [string, (id: number) => ReadonlyArray<R.FastCgiRecord>]> = [
    ["requests refused by a protocol status", (id) => [R.beginRequest(id, 9, { keepConnection: true })]],
    ["requests that have been answered", (id) => opening(id, { params: { SMALL: "1" } })]
  ]
  for (const [name, records] of kinds) {
    play(`take two bits each: ${name}`, serve(pages), () =>
      Effect.gen(function*() {
        const endAll = (peer: Peer) =>
          Effect.gen(function*() {
            for (let at = 0; at < all.length; at += 1000) {
              const ids = all.slice(at, at + 1000)
              yield* peer.send(...ids.flatMap(records))
              for (const id of ids) yield* peer.reply(id)
            }
            yield* settle
          })
        // What the first of all leaves is code.
        yield* Effect.scoped(Effect.flatMap(connect, endAll))
        const peer = yield* connect
        const before = held()
        yield* endAll(peer)
        assert.isBelow(held() - before, 16 * KiB + 128 * KiB)
        // Each is known all the same: what comes late is dropped, and the id serves again.
        yield* peer.send(...all.slice(0, 1000).map((id) => R.stdin(id, bytes(10))), R.stdin(65_535))
        yield* peer.send(...opening(65_535, { params: { SMALL: "1" } }), R.stdin(65_535))
        assert.strictEqual(bodyOf((yield* peer.reply(65_535)).stdout), "small")
      }))
  }
})

describe("connections that are not read", () => {
  play(
    "take 8 KiB each, counting both ends, and nothing when they are lost",
    serve(pages, { admission: { maxConnections: 1 } }),
    () =>
      Effect.gen(function*() {
        const first = yield* connect
        yield* first.send(...small, R.stdin(1))
        yield* first.reply()
        // All of them send the same bytes, which are the sender's.
        const sent = repeat(encode([...small, R.stdin(1)]), 100)
        const wait = Effect.scoped(Effect.gen(function*() {
          const before = held()
          const waiting: Array<Peer> = []
          for (let i = 0; i < 1000; i++) {
            const peer = yield* connect
            waiting.push(peer)
            yield* peer.sendBytes(sent)
          }
          yield* settle
          assert.isBelow(held() - before, 1000 * 8 * KiB)
          for (const peer of waiting) yield* peer.reset
          yield* settle
        }))
        // What the first of all leaves is code.
        yield* wait
        yield* settle
        const before = held()
        yield* wait
        yield* settle
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        assert.strictEqual(admission.connectionsUnsafe(), 1)
        assert.isBelow(held() - before, 256 * KiB)
        yield* takeLogs
      })
  )
})

describe("admission", () => {
  const gate = Latch.makeUnsafe()
  play(
    "counts a request that is refused nowhere else than as a limit",
    serve({
      responder: () => Effect.as(gate.await, FastCgiResponse.make("done"))
    }, { admission: { maxRequests: 1 } }),
    () =>
      Effect.gen(function*() {
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        const peer = yield* connect
        yield* peer.send(...opening(1), R.stdin(1), ...opening(2), R.stdin(2))
        assert.match((yield* peer.reply(2)).stdout, /^Status: 503 /)
        assert.strictEqual(admission.requestsUnsafe(), 1)
        gate.openUnsafe()
        assert.strictEqual((yield* peer.reply(1)).stdout, page("done"))
        yield* takeLogs
      })
  )
})
