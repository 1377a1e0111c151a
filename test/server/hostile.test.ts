/**
 * What peers send that mean harm, or are broken: the process lives, others are answered, and what a connection can make the
 * server keep stays within the bound that docs/specification.md states.
 */
import { assert, describe } from "@effect/vitest"
import { FastCgiAdmission, FastCgiEncoder, FastCgiParams, FastCgiRecord as R, FastCgiResponse } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Stream from "effect/Stream"
import { cpuTime } from "../support/cpuTime.ts"
import { heap, held } from "./support/memory.ts"
import {
  bodyOf,
  bytes,
  connect,
  exchange,
  type Handlers,
  opening,
  page,
  type Peer,
  play,
  type Responder,
  serve,
  settle,
  takeLogs
} from "./support/serving.ts"
import { allBytes, concat, readRecords } from "./support/wire.ts"

const KiB = 1024
const MiB = 1024 * 1024

const answer = (request: Responder) =>
  Stream.mkUint8Array(request.stdin).pipe(
    Effect.map((body) => FastCgiResponse.make(`${body.length} bytes`)),
    Effect.catch((error) => Effect.succeed(FastCgiResponse.make(error.reason._tag)))
  )

const answers: Handlers = {
  responder: answer,
  authorizer: () => Effect.succeed(FastCgiResponse.allow()),
  filter: (request) => Effect.as(Stream.runDrain(Stream.ignore(request.data)), FastCgiResponse.make("filtered"))
}

/** Asserts that another connection is served. */
const othersAreAnswered = Effect.scoped(Effect.gen(function*() {
  const other = yield* connect
  yield* other.request({ stdin: "abc" })
  assert.strictEqual((yield* other.reply()).stdout, page("3 bytes"))
}))

/** Sends, and waits until the server has taken it all. */
const sendAll = (peer: Peer, content: Uint8Array) =>
  Effect.gen(function*() {
    yield* peer.sendBytes(content)
    for (let turns = 0; turns < 1000 && (yield* peer.pending) > 0; turns++) yield* Effect.yieldNow
  })

/** A record written by hand, which may be none. */
const raw = (type: number, id: number, content: Uint8Array, padding = 0): Uint8Array => {
  const record = new Uint8Array(8 + content.length + padding)
  record.set([1, type, id >> 8, id & 255, content.length >> 8, content.length & 255, padding, 0])
  record.set(content, 8)
  return record
}

describe("names of GET_VALUES", () => {
  const names = (count: number, name: Uint8Array) =>
    R.getValues(FastCgiParams.encodePairs(Array.from({ length: count }, () => [name, ""] as const)))

  for (const [what, byte] of [["ASCII", 0x41], ["no UTF-8", 0xff]] as const) {
    const name = Uint8Array.of(byte)
    play(
      `more than 1,024 of them, ${what}, end the connection, and no other`,
      serve(answers),
      () =>
        Effect.gen(function*() {
          const peer = yield* connect
          const start = cpuTime()
          yield* peer.send(names(21_800, name))
          assert.deepStrictEqual(yield* peer.drain, [])
          assert.isBelow(cpuTime() - start, 1000, "milliseconds")
          assert.match((yield* takeLogs)[0].message, /GET_VALUES asks for 21800 variables, at most 1024 are answered/)
          yield* othersAreAnswered
        })
    )

    play(
      `1,024 of them, ${what}, that nobody knows, are answered with nothing`,
      serve(answers),
      () =>
        Effect.gen(function*() {
          const peer = yield* connect
          yield* peer.send(names(1024, name))
          assert.deepStrictEqual(yield* exchange(peer), [])
          assert.deepStrictEqual(yield* takeLogs, [])
        })
    )
  }

  play(
    "are compared as the bytes of UTF-8",
    serve(answers, { values: { "é": "1", "\ufeffb": "2" } }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        const asked = R.getValues(FastCgiParams.encodePairs([["b", ""], ["\ufeffb", ""], ["é", ""]]))
        const [record] = yield* exchange(peer, asked)
        assert.ok(record._tag === "GetValuesResult")
        assert.deepStrictEqual(record.content, FastCgiParams.encodePairs([["é", "1"], ["\ufeffb", "2"]]))
      })
  )
})

describe("lengths that are not there", () => {
  // Two lengths of 50, and eight bytes where a hundred should be.
  const liar = Uint8Array.of(50, 50, ...bytes(8))

  play("a pair of 50 and 50 in ten bytes of PARAMS is a truncated pair", serve(answers), () =>
    Effect.gen(function*() {
      const peer = yield* connect
      for (const role of [1, 2]) {
        yield* peer.send(R.beginRequest(1, role, { keepConnection: true }), R.params(1, liar), R.params(1), R.stdin(1))
        assert.match((yield* peer.reply()).stdout, /^Status: 400 /)
      }
      // Nor does the pair reach into the next record, or the next request.
      yield* peer.send(...opening(1), R.stdin(1))
      assert.strictEqual((yield* peer.reply()).stdout, page("0 bytes"))
      assert.match((yield* takeLogs)[0].message, /PARAMS end inside pair 1, after 10 bytes/)
    }))

  for (
    const [name, content] of [
      ["a pair of 50 and 50 in ten bytes", liar],
      ["two lengths of 0x7fffffff", new Uint8Array(8).fill(0xff)]
    ] as const
  ) {
    play(`${name} of GET_VALUES ends the connection, and no other`, serve(answers), () =>
      Effect.gen(function*() {
        const before = held()
        const peer = yield* connect
        yield* peer.send(R.getValues(content))
        assert.deepStrictEqual(yield* peer.drain, [])
        assert.strictEqual((yield* takeLogs).length, 1)
        assert.isBelow(held() - before, MiB)
        yield* othersAreAnswered
      }))
  }
})

describe("application records with id 0", () => {
  play("are ignored, and end neither the connection nor a request on it", serve(answers), () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(...opening(1), R.stdin(1, bytes(3)))
      for (const type of [2, 3, 4, 5, 6, 7, 8]) {
        for (const content of type === 3 ? [bytes(8)] : [new Uint8Array(0), bytes(8), bytes(65_535)]) {
          yield* peer.sendBytes(raw(type, 0, content, 7))
          assert.deepStrictEqual(yield* exchange(peer), [], `type ${type}`)
        }
      }
      yield* peer.send(R.stdin(1))
      assert.strictEqual((yield* peer.reply()).stdout, page("3 bytes"))
    }))
})

describe("every type of record", () => {
  const finalize = Latch.makeUnsafe()
  const handlers: Handlers = {
    ...answers,
    responder: (request) => {
      switch (request.params.get("DO")) {
        case "wait":
          return Effect.never
        case "linger":
          return Effect.onInterrupt(Effect.never, () => finalize.await)
        case "stream":
          return Effect.succeed(FastCgiResponse.make(Stream.forever(Stream.make(bytes(5000)))))
        default:
          return answer(request)
      }
    }
  }
  const to = (what: string, role = 1) => opening(1, { role, params: { DO: what, CONTENT_LENGTH: "10" } })

  const states: ReadonlyArray<readonly [string, (peer: Peer) => Effect.Effect<unknown>]> = [
    ["before any request", () => Effect.void],
    ["in PARAMS", (peer) => peer.send(to("")[0], R.params(1, Uint8Array.of(3, 1, 65)))],
    ["in STDIN", (peer) => peer.send(...to(""), R.stdin(1, bytes(3)))],
    ["after STDIN, while the handler works", (peer) => peer.send(...to("wait"), R.stdin(1))],
    [
      "while the handler writes to a peer that reads nothing",
      (peer) => Effect.andThen(peer.setCapacity(0), peer.send(...to("stream"), R.stdin(1)))
    ],
    [
      "while an aborted handler finalizes",
      (peer) => Effect.andThen(peer.send(...to("linger")), Effect.andThen(settle, peer.send(R.abortRequest(1))))
    ],
    ["in the STDIN of a Filter", (peer) => peer.send(...to("", 3), R.stdin(1, bytes(3)))],
    ["in the DATA of a Filter", (peer) => peer.send(...to("", 3), R.stdin(1), R.data(1, bytes(3)))],
    ["after END_REQUEST", (peer) => peer.send(...to(""), R.stdin(1, bytes(10)), R.stdin(1))],
    ["while the connection lingers", (peer) =>
      peer.send(
        R.beginRequest(1, 1),
        R.params(1, FastCgiParams.encodePairs([["CONTENT_LENGTH", "0"]])),
        R.params(1),
        R.stdin(1, bytes(3))
      )],
    ["after an unknown role", (peer) => peer.send(R.beginRequest(1, 9, { keepConnection: true }))]
  ]

  for (const [state, reach] of states) {
    play(`${state} kills nothing and keeps nothing`, serve(handlers), () =>
      Effect.gen(function*() {
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        for (const type of [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 100, 255]) {
          for (const id of [0, 1, 2]) {
            for (const length of [0, 1, 8, 65_535]) {
              finalize.closeUnsafe()
              yield* Effect.scoped(Effect.gen(function*() {
                const peer = yield* connect
                yield* reach(peer)
                yield* settle
                yield* peer.sendBytes(raw(type, id, bytes(length, type), length === 1 ? 255 : 0))
                yield* settle
                finalize.openUnsafe()
              }))
              yield* settle
              assert.strictEqual(admission.requestsUnsafe(), 0, `type ${type}, id ${id}, ${length} bytes`)
              assert.strictEqual(admission.connectionsUnsafe(), 0, `type ${type}, id ${id}, ${length} bytes`)
            }
          }
        }
        yield* othersAreAnswered
        for (const { level } of yield* takeLogs) assert.strictEqual(level, "Warn")
      }))
  }
})

describe("ten thousand idle connections", () => {
  play(
    "are open, and cost 16 KiB each at most, while requests are answered",
    serve(answers),
    () =>
      Effect.gen(function*() {
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        yield* othersAreAnswered
        const before = held()
        const peers: Array<Peer> = []
        for (let i = 0; i < 10_000; i++) {
          const peer = yield* connect
          peers.push(peer)
          // Half of them have had an answer.
          if (i % 2 === 0) {
            yield* peer.request()
            yield* peer.reply()
          }
        }
        yield* settle
        // Both ends are in this process, and the scripted peer is the larger one.
        assert.isBelow(held() - before, 10_000 * 16 * KiB)
        assert.strictEqual(admission.connectionsUnsafe(), 10_000)
        yield* othersAreAnswered
        for (const peer of peers) yield* peer.close
        yield* settle
        assert.strictEqual(admission.connectionsUnsafe(), 0)
      })
  )
})

describe("what is sent", () => {
  play(
    "has zeros for padding and reserved bytes, whatever was in memory before",
    serve({
      ...answers,
      responder: (request) =>
        Effect.as(
          request.stderr("e".repeat(1 + request.requestId)),
          FastCgiResponse.make(new Uint8Array(request.requestId * 37).fill(0xff))
        )
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.setCapacity(1 << 30)
        for (let id = 1; id <= 300; id++) {
          yield* peer.send(
            R.getValues(FastCgiParams.encodePairs([["FCGI_MPXS_CONNS", ""]])),
            R.unrecognized(100),
            ...opening(id),
            R.stdin(id)
          )
        }
        yield* peer.send(R.beginRequest(301, 9))
        // `readRecords` fails on a reserved byte, on padding and on reserved bytes of END_REQUEST that are not zero.
        const records = readRecords(yield* allBytes(peer))
        assert.deepStrictEqual([...new Set(records.map(({ type }) => type))].sort((a, b) => a - b), [3, 6, 7, 10, 11])
        for (const { content, type } of records) {
          if (type === 11) assert.deepStrictEqual([...content], [100, 0, 0, 0, 0, 0, 0, 0])
        }
      })
  )
})

describe("a record of one id", () => {
  const encode = (...records: ReadonlyArray<R.FastCgiRecord>) =>
    concat(records.map((record) => FastCgiEncoder.encode(record)))
  const repeat = (content: Uint8Array, times: number) => concat(Array.from({ length: times }, () => content))
  const many = 50_000

  /** What it costs to send something many times, when a connection has begun like this. */
  const costOf = (others: Uint8Array, content: Uint8Array) =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.setCapacity(1 << 30)
      yield* sendAll(peer, others)
      yield* settle
      const start = cpuTime()
      yield* sendAll(peer, repeat(content, many))
      yield* settle
      const taken = cpuTime() - start
      assert.strictEqual(yield* peer.pending, 0)
      // Nobody reads what it answers: that would cost more than it does.
      yield* peer.reset
      return taken
    })

  const begun = (id: number, role: number) => R.beginRequest(id, role, { keepConnection: true })
  const cases = [
    [
      "60,000 others whose input is due",
      encode(...Array.from({ length: 60_000 }, (_, i) => begun(i + 1, 9))),
      encode(begun(65_000, 9))
    ],
    [
      "1,000 others in PARAMS",
      encode(...Array.from({ length: 1000 }, (_, i) => begun(i + 1, 1))),
      encode(begun(2000, 1), R.abortRequest(2000))
    ]
  ] as const
  for (const [name, others, content] of cases) {
    play(`costs no more beside ${name}`, serve(answers), () =>
      Effect.gen(function*() {
        const nothing = new Uint8Array(0)
        yield* costOf(nothing, content)
        const alone = yield* costOf(nothing, content)
        const beside = yield* costOf(others, content)
        assert.isBelow(beside, 3 * alone + 20, `milliseconds, and ${alone} alone`)
      }))
  }
})

describe("a request that begins in a read of its own", () => {
  const running = 20_000
  const reads = 500
  const begin = FastCgiEncoder.encode(R.beginRequest(60_000, 1, { keepConnection: true }))
  const abort = FastCgiEncoder.encode(R.abortRequest(60_000))

  play(
    "costs no more beside thousands that run",
    serve({ responder: () => Effect.never }, { admission: { maxRequests: running } }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.setCapacity(1 << 30)
        const turn = Effect.repeat(Effect.yieldNow, { times: 3 })
        const cost = Effect.gen(function*() {
          const start = cpuTime()
          for (let i = 0; i < reads; i++) {
            yield* peer.sendBytes(begin)
            yield* turn
            yield* peer.sendBytes(abort)
            yield* turn
          }
          return cpuTime() - start
        })
        const least = Effect.map(Effect.all([cost, cost, cost]), (costs) => Math.min(...costs))
        const alone = yield* least
        const others = Array.from({ length: running }, (_, i) => opening(i + 1)).flat()
        yield* sendAll(peer, concat(others.map((record) => FastCgiEncoder.encode(record))))
        yield* settle
        // Collections of what has just begun are none of its cost.
        heap()
        assert.isBelow(yield* least, 3 * alone + 60, `milliseconds, and ${alone} alone`)
      })
  )
})

describe("what a connection can make the server keep", () => {
  const maxRequests = 32
  const maxParamsSize = 128 * KiB
  const maxBufferedInput = 512 * KiB
  const outputHighWaterMark = 64 * KiB
  const chunk = 64 * KiB
  const read = 64 * KiB

  // docs/specification.md, "Memory"
  const perRequest = 2 * maxParamsSize + read + chunk + 8 * KiB
  const bound = maxRequests * perRequest + maxBufferedInput * 8 / 7 + outputHighWaterMark + 256 * KiB + 64 * KiB

  const writing = Latch.makeUnsafe()
  play(
    "stays within the bound, with every request, all params, all input and all output that it can have",
    serve({
      responder: () => Effect.as(writing.await, FastCgiResponse.make(Stream.forever(Stream.sync(() => bytes(chunk)))))
    }, { maxParamsSize, maxBufferedInput, outputHighWaterMark, admission: { maxRequests: maxRequests / 2 } }),
    () =>
      Effect.gen(function*() {
        const before = held()
        const peer = yield* connect
        yield* peer.setCapacity(0)
        // Half of the requests run, with params of the largest size in pieces of an odd one, and half are in PARAMS.
        const params = FastCgiParams.encodePairs([["A", "v".repeat(maxParamsSize - 6)]])
        for (let id = 1; id <= maxRequests; id++) {
          yield* peer.send(R.beginRequest(id, 1, { keepConnection: true }))
          const end = id % 2 === 0 ? params.length : params.length - 1
          for (let at = 0; at < end; at += 10_007) {
            yield* sendAll(peer, FastCgiEncoder.encode(R.params(id, params.slice(at, Math.min(at + 10_007, end)))))
          }
          if (id % 2 === 0) yield* sendAll(peer, FastCgiEncoder.encode(R.params(id)))
        }
        // All of them want to write at the same time.
        writing.openUnsafe()
        yield* settle
        // Reads of which an eighth is input, and the rest is skipped but would be kept with it.
        const rest = raw(5, 999, new Uint8Array(read - 8192 - 16))
        for (let i = 0; i < 200; i++) {
          yield* sendAll(peer, concat([raw(5, 2 + 2 * (i % 16), bytes(8192)), rest]))
        }
        const pending = yield* peer.pending
        const grown = held() - before - pending
        assert.isBelow(grown, bound)
        // Far from it without limits: 200 reads of 64 KiB alone would be more. And it is there: the params at least.
        assert.isAbove(grown, maxRequests * maxParamsSize / 2)
        yield* othersUnderLoad
        yield* peer.close
        yield* settle
        assert.isBelow(held() - before, 2 * MiB)
        yield* takeLogs
      })
  )

  // All requests are taken, so others get the answer for that, and at once.
  const othersUnderLoad = Effect.scoped(Effect.gen(function*() {
    const other = yield* connect
    yield* other.request()
    assert.match(bodyOf((yield* other.reply()).stdout), /^503 /)
  }))
})
