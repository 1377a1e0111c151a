/**
 * Records: headers, lengths, padding, reserved bytes, streams and their splits (SPEC 3.3).
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { RecordType } from "../../protocol/FastCgiRecord.ts"
import {
  aftermath,
  answered,
  type Case,
  expect,
  must,
  open,
  serves,
  servesElsewhere,
  should,
  type Subject
} from "../Case.ts"
import { describe, type Peer } from "../Peer.ts"
import * as Wire from "../wire.ts"

const body = Wire.utf8("a body of a few words")

// Sends these bytes, which make a request with the id 1 and `body`, and expects the echo.
const echoes = (peer: Peer, bytes: Uint8Array, what?: string) =>
  Effect.andThen(peer.send(bytes), Effect.flatMap(peer.reply(1), (reply) => answered(reply, { body }, what)))

const options = { stdin: body } as const
const paramsRecord = (recordOptions?: Wire.RecordOptions) =>
  Wire.record(RecordType.Params, 1, Wire.pairs(options), recordOptions)
const paramsEnd = (recordOptions?: Wire.RecordOptions) => Wire.record(RecordType.Params, 1, Wire.nothing, recordOptions)

// A request in which one kind of record has padding that is not zero. Without CONTENT_LENGTH, which would keep padding
// that is taken for content from the handler.
const padded = (which: "begin" | "params" | "paramsEnd" | "stdin" | "stdinEnd", padding: number): Uint8Array => {
  const at = (name: string): Wire.RecordOptions => name === which ? { padding, fill: 0xaa } : {}
  return Wire.concat([
    Wire.begin(options, at("begin")),
    Wire.record(
      RecordType.Params,
      1,
      Wire.pairs({ ...options, params: { CONTENT_LENGTH: undefined } }),
      at("params")
    ),
    paramsEnd(at("paramsEnd")),
    Wire.stdin(1, body, at("stdin")),
    Wire.stdin(1, Wire.nothing, at("stdinEnd"))
  ])
}

// The connection is closed before request 1 has come to an end.
function* refused(t: Subject, peer: Peer) {
  const reply = yield* peer.reply(1)
  yield* expect(reply.outcome === "closed" || reply.outcome === "reset", describe(reply))
  yield* servesElsewhere(t)
  return describe(reply)
}

const paddingCase = (which: Parameters<typeof padded>[0], name: string): Case =>
  must("3.3-d", `padding of ${name} is skipped`, ["/echo"], function*(t) {
    // A connection for each, so that what one leaves behind is not taken for the next.
    for (const padding of [1, 8, 255]) {
      const peer = yield* t.connect
      yield* echoes(peer, padded(which, padding), padding === 1 ? "1 byte" : `${padding} bytes`)
      yield* peer.close
    }
    return "1, 8 and 255 bytes are skipped"
  })

export const framing: ReadonlyArray<Case> = [
  must("3.1-a", "ids and lengths are big-endian: id 0x0102, content of 0x0201 bytes", ["/echo"], function*(t) {
    const peer = yield* t.connect
    const stdin = Wire.pattern(0x0201)
    yield* peer.send(Wire.request({ id: 0x0102, stdin }))
    return yield* answered(yield* peer.reply(0x0102), { body: stdin })
  }),

  must("3.3-a", "a request that arrives one byte at a time is answered", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.sendCut(Wire.request(options), 1)
    return yield* answered(yield* peer.reply(1), { body })
  }),

  must("3.3-a", "records cut inside header, content and padding are put together", ["/echo"], function*(t) {
    for (const size of [3, 7, 13]) {
      const peer = yield* t.connect
      yield* peer.sendCut(padded("stdin", 5), size)
      yield* answered(yield* peer.reply(1), { body }, `pieces of ${size}`)
      yield* peer.close
    }
    return "pieces of 3, 7 and 13 bytes are put together"
  }),

  must("3.3-b", "a record of version 2 is not taken for version 1", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(
      Wire.begin(options, { version: 2 }),
      paramsRecord({ version: 2 }),
      paramsEnd({ version: 2 }),
      Wire.stdin(1, body, { version: 2 }),
      Wire.stdin(1, Wire.nothing, { version: 2 })
    )
    return yield* refused(t, peer)
  }),

  must("3.3-b", "a STDIN record of version 2 in a request of version 1 is not taken", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.head(options), Wire.stdin(1, body, { version: 2 }), Wire.stdin(1))
    return yield* refused(t, peer)
  }),

  must("3.3-c", "a STDIN record with 65535 bytes of content is taken whole", ["/echo"], function*(t) {
    const peer = yield* t.connect
    const stdin = Wire.pattern(65535)
    yield* Effect.all([
      peer.sendAll([Wire.head({ stdin }), Wire.stdin(1, stdin, { padding: 1 }), Wire.stdin(1)]),
      Effect.flatMap(peer.reply(1), (reply) => answered(reply, { body: stdin }))
    ], { concurrency: 2 })
    return "65535 bytes came back"
  }),

  must("3.3-c", "a PARAMS record with 65535 bytes of content is taken whole", ["/params"], function*(t) {
    const peer = yield* t.connect
    const base = { uri: "/params" } as const
    const room = 65535 - Wire.pairs(base).length
    // One byte for the length of the name, four for that of the value.
    const value = "v".repeat(room - 5 - "X_LONG".length)
    yield* peer.send(Wire.request({ ...base, params: { X_LONG: value } }))
    const reply = yield* peer.reply(1)
    yield* answered(reply)
    yield* expect(Wire.latin1(reply.body).includes("76".repeat(value.length)), `${value.length} bytes were cut short`)
    return `a value of ${value.length} bytes came through`
  }),

  paddingCase("begin", "BEGIN_REQUEST"),
  paddingCase("params", "PARAMS with content"),
  paddingCase("paramsEnd", "the empty PARAMS record"),
  paddingCase("stdin", "STDIN with content"),
  paddingCase("stdinEnd", "the empty STDIN record"),

  should("3.3-e", "records are a multiple of 8 bytes long", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request(options))
    yield* answered(yield* peer.reply(1), { body })
    const odd = peer.log.filter((record) => (record.content.length + record.padding.length) % 8 !== 0)
    yield* expect(odd.length === 0, `${odd.length} of ${peer.log.length} records are not`)
    return `${peer.log.length} records`
  }),

  should("3.3-f", "padding that is sent is zero", ["/echo"], function*(t) {
    const log: Array<Wire.WireRecord> = []
    // Bodies of several lengths, so that there is something to pad.
    for (const length of [1, 2, 3, 4, 5, 6, 7]) {
      const peer = yield* t.connect
      const stdin = body.subarray(0, length)
      yield* peer.send(Wire.request({ stdin }))
      yield* answered(yield* peer.reply(1), { body: stdin })
      log.push(...peer.log)
      yield* peer.close
    }
    const dirty = log.filter((record) => record.padding.some((byte) => byte !== 0))
    const padding = log.reduce((size, record) => size + record.padding.length, 0)
    yield* expect(dirty.length === 0, `${dirty.length} records have padding that is not zero`)
    return padding === 0 ? "no padding at all" : `${padding} bytes of zero`
  }),

  must("3.3-f", "reserved bytes are ignored", ["/echo"], function*(t) {
    const peer = yield* t.connect
    const reserved = { reserved: 0xff }
    const bytes = Wire.concat([
      Wire.record(RecordType.BeginRequest, 1, Wire.beginContent(1, 1, 0xff), reserved),
      paramsRecord(reserved),
      paramsEnd(reserved),
      Wire.stdin(1, body, reserved),
      Wire.stdin(1, Wire.nothing, reserved)
    ])
    return yield* echoes(peer, bytes)
  }),

  must("3.3-f", "reserved bytes that are sent are zero", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* echoes(peer, Wire.request(options))
    yield* expect(peer.log.every((record) => record.reserved === 0), "a reserved byte of a header is not zero")
    const end = peer.log.find((record) => record.type === RecordType.EndRequest)?.content ?? Wire.nothing
    yield* expect(end.length === 8, `END_REQUEST has ${end.length} bytes of content`)
    yield* expect(end.subarray(5).every((byte) => byte === 0), "a reserved byte of END_REQUEST is not zero")
    return "zero in headers and in END_REQUEST"
  }),

  must("3.3-m", "STDOUT ends with one empty record, and END_REQUEST is last", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ keep: false, stdin: body }))
    const reply = yield* peer.reply(1)
    yield* answered(reply, { body })
    yield* peer.ended()
    const stdout = peer.log.filter((record) => record.type === RecordType.Stdout)
    const empty = stdout.filter((record) => record.content.length === 0).length
    yield* expect(empty === 1, `${empty} empty STDOUT records`)
    yield* expect(stdout[stdout.length - 1].content.length === 0, "STDOUT goes on after its empty record")
    yield* expect(peer.log[peer.log.length - 1].type === RecordType.EndRequest, "a record follows END_REQUEST")
    return "as written"
  }),

  must("3.3-n", "STDIN means the same in records of any size", ["/echo"], function*(t) {
    const stdin = Wire.pattern(3000)
    for (const size of [1, 2, 1000, 3000]) {
      const peer = yield* t.connect
      yield* peer.send(Wire.head({ stdin }), Wire.stream(RecordType.Stdin, 1, stdin, { size }), Wire.stdin(1))
      yield* answered(yield* peer.reply(1), { body: stdin }, `records of ${size}`)
      yield* peer.close
    }
    return "records of 1, 2, 1000 and 3000 bytes"
  }),

  open("3.3-o", "STDIN after the end of STDIN, while the request is active", ["/sleep"], function*(t) {
    const peer = yield* t.connect
    const wait = Duration.toMillis(t.quiet)
    yield* peer.send(
      Wire.request({ uri: `/sleep?ms=${wait}` }),
      Wire.stdin(1, body),
      Wire.stdin(1)
    )
    const came = yield* aftermath(peer, 1)
    const next = yield* Effect.option(serves(peer, 2))
    return next._tag === "Some" ? `${came}; the next request is answered` : `${came}; the next request is not answered`
  }),

  open("3.3-o", "PARAMS after the end of PARAMS", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(
      Wire.head(options),
      paramsRecord(),
      paramsEnd(),
      Wire.stdin(1, body),
      Wire.stdin(1)
    )
    return yield* aftermath(peer, 1)
  }),

  must("5.3-a", "a request with 1,000,000 bytes of STDIN and its echo are complete", ["/echo"], function*(t) {
    const peer = yield* t.connect
    const stdin = Wire.pattern(1_000_000)
    const [, came] = yield* Effect.all([
      peer.sendAll([Wire.head({ stdin }), Wire.stream(RecordType.Stdin, 1, stdin), Wire.stdin(1)]),
      Effect.flatMap(peer.reply(1), (reply) => answered(reply, { body: stdin }))
    ], { concurrency: 2 })
    return came
  })
]
