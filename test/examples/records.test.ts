/**
 * What the board shows of a connection is what has crossed it, wherever reads and writes have cut the bytes, and a connection
 * that is recorded carries the same bytes as one that is not.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiEncoder, FastCgiParams, FastCgiRecord, type FastCgiTransport } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Records from "../../examples/board/Records.ts"

const params = FastCgiParams.fromEntries([["REQUEST_METHOD", "GET"], ["REQUEST_URI", "/"]])
const others = FastCgiParams.fromEntries([["REQUEST_METHOD", "GET"], ["REQUEST_URI", "/other"]])

const encode = (...records: ReadonlyArray<FastCgiRecord.FastCgiRecord>) =>
  new Uint8Array(records.flatMap((record) => [...FastCgiEncoder.encode(record)]))

const request = (id: number, pairs: FastCgiParams.FastCgiParams) =>
  encode(
    FastCgiRecord.beginRequest(id, FastCgiRecord.Role.Responder, { keepConnection: true }),
    FastCgiRecord.params(id, pairs.bytes),
    FastCgiRecord.params(id),
    FastCgiRecord.stdin(id)
  )

const response = (id: number, body: string) =>
  encode(
    FastCgiRecord.stdout(id, new TextEncoder().encode(body)),
    FastCgiRecord.stdout(id),
    FastCgiRecord.endRequest(id)
  )

/** A transport that a test plays the peer of. */
const makeTransport = () => {
  let reader: FastCgiTransport.FastCgiTransportReader | undefined
  let observer: FastCgiTransport.FastCgiTransportObserver | undefined
  const written: Array<number> = []
  const transport: FastCgiTransport.FastCgiTransport = {
    peer: Option.none(),
    pull: Effect.never,
    flowUnsafe: (given) => {
      reader = given
    },
    pauseUnsafe: () => {},
    resumeUnsafe: () => {},
    observeUnsafe: (given) => {
      observer = given
    },
    writeUnsafe: (chunks) => {
      for (const chunk of chunks) written.push(...chunk)
    },
    pendingUnsafe: () => 0,
    endUnsafe: () => {},
    destroyUnsafe: () => {},
    resetUnsafe: () => {}
  }
  return {
    transport,
    written,
    read: (bytes: Uint8Array) => reader!.onRead([bytes]),
    close: () => observer!.onClose()
  }
}

const connected = Effect.gen(function*() {
  const { record } = yield* Records.Records
  const peer = makeTransport()
  const transport = record(peer.transport)
  const taken: Array<number> = []
  let closed = 0
  transport.flowUnsafe({
    onRead: (chunks) => {
      for (const chunk of chunks) taken.push(...chunk)
    },
    onReadEnd: () => {},
    onReadDefect: () => {}
  })
  transport.observeUnsafe({ onDrain: () => {}, onClose: () => closed++ })
  return { ...peer, transport, taken, closed: () => closed }
})

const bytesOf = ({ records }: Records.Passed) =>
  new Uint8Array(records.flatMap(({ header, padding, start }) => [...header, ...start, ...padding]))

const ended = Effect.fnUntraced(function*(key: string) {
  const records = yield* Records.Records
  return Option.getOrThrow(yield* records.ended(key))
})

const provided = Effect.provide(Records.layer)

describe("the records of the board", () => {
  it.effect("are the bytes that have passed, cut anywhere", () =>
    Effect.gen(function*() {
      const records = yield* Records.Records
      const incoming = request(1, params)
      const outgoing = response(1, "Status: 200\r\n\r\nHello")
      for (let size = 1; size <= incoming.length; size++) {
        const { read, taken, transport, written } = yield* connected
        for (let at = 0; at < incoming.length; at += size) read(incoming.subarray(at, at + size))
        assert.deepStrictEqual(new Uint8Array(taken), incoming)
        const begun = Option.getOrThrow(yield* records.current({ requestId: 1, params }))
        assert.deepStrictEqual(bytesOf(begun.received), incoming)
        assert.strictEqual(begun.request, "GET /")
        assert.strictEqual(begun.pairs, 2)
        assert.deepStrictEqual(begun.sent, { records: [], omitted: 0, bytes: 0, batches: 0 })
        assert.strictEqual(begun.ended, false)
        for (let at = 0; at < outgoing.length; at += size) transport.writeUnsafe([outgoing.subarray(at, at + size)])
        assert.deepStrictEqual(new Uint8Array(written), outgoing)
        const all = yield* ended(begun.key)
        assert.deepStrictEqual(bytesOf(all.sent), outgoing)
        assert.strictEqual(all.sent.bytes, outgoing.length)
        assert.strictEqual(all.received.bytes, incoming.length)
        assert.strictEqual(all.ended, true)
        assert.isAtLeast(all.answeredAfter!, 0)
      }
    }).pipe(provided))

  it.effect("of one request are not those of another one with its id, on this connection or the next", () =>
    Effect.gen(function*() {
      const records = yield* Records.Records
      const one = yield* connected
      const two = yield* connected
      one.read(request(1, others))
      two.read(request(1, params))
      two.read(request(2, params))
      const found = Option.getOrThrow(yield* records.current({ requestId: 1, params }))
      assert.deepStrictEqual(bytesOf(found.received), request(1, params))
      // Nobody else is given them.
      assert.isTrue(Option.isNone(yield* records.current({ requestId: 1, params })))
      two.transport.writeUnsafe([response(2, "two"), response(1, "one")])
      assert.deepStrictEqual(bytesOf((yield* ended(found.key)).sent), response(1, "one"))
      // The id is free again, and used again.
      two.read(request(1, others))
      one.read(request(3, params))
      assert.isTrue(Option.isNone(yield* records.current({ requestId: 2, params })))
      assert.isTrue(Option.isSome(yield* records.current({ requestId: 3, params })))
    }).pipe(provided))

  it.effect("end with the connection, and are forgotten with it", () =>
    Effect.gen(function*() {
      const records = yield* Records.Records
      const { close, closed, read } = yield* connected
      read(request(1, params))
      read(request(2, params))
      const found = Option.getOrThrow(yield* records.current({ requestId: 1, params }))
      close()
      assert.strictEqual(closed(), 1)
      assert.strictEqual((yield* ended(found.key)).ended, true)
      assert.isTrue(Option.isNone(yield* records.current({ requestId: 2, params })))
    }).pipe(provided))

  it.effect("are few of a long response, and the first bytes of long ones", () =>
    Effect.gen(function*() {
      const records = yield* Records.Records
      const { read, transport } = yield* connected
      read(request(1, params))
      const { key } = Option.getOrThrow(yield* records.current({ requestId: 1, params }))
      const chunk = encode(FastCgiRecord.stdout(1, new Uint8Array(1000)))
      for (let i = 0; i < 1000; i++) transport.writeUnsafe([chunk])
      transport.writeUnsafe([encode(FastCgiRecord.stdout(1), FastCgiRecord.endRequest(1))])
      const { sent } = yield* ended(key)
      assert.strictEqual(sent.records.length, 12)
      assert.strictEqual(sent.omitted, 990)
      assert.strictEqual(sent.batches, 1001)
      assert.strictEqual(sent.bytes, 1000 * chunk.length + 8 + 16)
      assert.strictEqual(sent.records[0]!.start.length, 64)
      assert.strictEqual(sent.records.at(-1)!.type, FastCgiRecord.RecordType.EndRequest)
    }).pipe(provided))

  it.effect("pass over what is no FastCGI, and keep the last hundred pages", () =>
    Effect.gen(function*() {
      const records = yield* Records.Records
      const stranger = yield* connected
      const http = new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n")
      stranger.read(http)
      assert.deepStrictEqual(new Uint8Array(stranger.taken), http)
      const { read, transport } = yield* connected
      const keys: Array<string> = []
      for (let i = 0; i < 101; i++) {
        read(request(1, params))
        keys.push(Option.getOrThrow(yield* records.current({ requestId: 1, params })).key)
        transport.writeUnsafe([response(1, "x")])
      }
      assert.isTrue(Option.isNone(yield* records.ended(keys[0]!)))
      assert.isTrue(Option.isSome(yield* records.ended(keys[1]!)))
    }).pipe(provided))
})
