/**
 * Peers that speak something else, send half of something, or never stop (SPEC 7).
 */
import * as Effect from "effect/Effect"
import { RecordType } from "../../protocol/FastCgiRecord.ts"
import { aftermath, type Case, expect, must, serves, servesElsewhere, should } from "../Case.ts"
import { describe } from "../Peer.ts"
import * as Wire from "../wire.ts"

const body = Wire.utf8("a body")

const mebibytes = (bytes: number): string => `${Math.round(bytes / 1024 / 1024)} MiB`

// Bytes that are no records. The connection should be closed; the server has to live.
const garbage = (what: string, bytes: Uint8Array): Case =>
  should("3.3-b", `${what}: the connection is closed, others are answered`, ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(bytes)
    const state = yield* peer.ended()
    yield* servesElsewhere(t)
    yield* expect(state !== "open", "the connection stays open")
    return state === "closed" ? "closed" : `ended with ${state}`
  })

// TLS 1.2 record with a ClientHello of 512 bytes.
const tls = Wire.concat([Uint8Array.of(0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3), Wire.pattern(505)])

export const robustness: ReadonlyArray<Case> = [
  garbage("an HTTP request", Wire.utf8("GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n")),
  garbage("a TLS ClientHello", tls),
  garbage("4 KiB of zero bytes", new Uint8Array(4096)),

  should("3.3-a", "half a header and then nothing, on 32 connections, keeps nobody waiting", ["/echo"], function*(t) {
    for (let count = 0; count < 32; count++) {
      const peer = yield* t.connect
      yield* peer.send(Uint8Array.of(1, 1, 0))
    }
    return yield* servesElsewhere(t, "connection 33")
  }),

  must("3.3-i", "1,000 records of every type for ids that are not active kill nothing", ["/echo"], function*(t) {
    const peer = yield* t.connect
    const stray: Array<Uint8Array> = []
    // 1 is BEGIN_REQUEST, which would make the ids active.
    for (let type = 2; type <= 11; type++) {
      for (let id = 1000; id < 1100; id++) stray.push(Wire.record(type, id, Wire.pattern(8), { padding: 8 }))
    }
    yield* Effect.timeoutOption(peer.sendAll(stray), t.deadline)
    const came = yield* aftermath(yield* Effect.as(peer.send(Wire.request({ stdin: body })), peer), 1)
    yield* servesElsewhere(t)
    return `the request behind them: ${came}`
  }),

  should("3.3-j", "60,000 BEGIN_REQUEST records that are never followed by PARAMS take no memory to speak of", [
    "/echo"
  ], function*(t) {
    const peer = yield* t.connect
    const begins = Wire.concat(Array.from({ length: 60_000 }, (_, index) => Wire.begin({ id: index + 1 })))
    const [, growth] = yield* t.measureMemory(
      Effect.andThen(Effect.timeoutOption(peer.sendAll([begins]), t.deadline), peer.during(t.quiet))
    )
    yield* servesElsewhere(t)
    const came = growth === undefined ? "" : `, memory grew by ${mebibytes(growth)}`
    yield* expect(growth === undefined || growth < 64 * 1024 * 1024, `taken${came}`)
    return `${peer.state === "open" ? "taken" : `connection ${peer.state}`}${came}`
  }),

  should("3.4-d", "200 MiB of PARAMS take no memory to speak of", ["/echo"], function*(t) {
    const peer = yield* t.connect
    const value = "v".repeat(60_000)
    const pairs = Wire.pairs({ uri: "/echo", params: { X_LARGE: value } })
    const chunk = Wire.record(RecordType.Params, 1, pairs)
    const size = 200 * 1024 * 1024
    const [came, growth] = yield* t.measureMemory(Effect.gen(function*() {
      yield* Effect.timeoutOption(
        peer.sendAll([
          Wire.begin(),
          ...Array.from({ length: Math.ceil(size / chunk.length) }, () => chunk),
          Wire.record(RecordType.Params, 1),
          Wire.stdin(1)
        ]),
        t.patience
      )
      return describe(yield* peer.reply(1))
    }))
    yield* servesElsewhere(t)
    const text = growth === undefined ? came : `${came}, memory grew by ${mebibytes(growth)}`
    yield* expect(growth === undefined || growth < 128 * 1024 * 1024, text)
    yield* expect(growth !== undefined || !came.startsWith("200"), `${text}, taken`)
    return text
  }),

  should("3.4-d", "1,000,000 tiny PARAMS take no memory to speak of", ["/echo"], function*(t) {
    const peer = yield* t.connect
    const pair = Wire.concat(Array.from({ length: 10_000 }, () => Uint8Array.of(1, 1, 0x61, 0x62)))
    const chunk = Wire.record(RecordType.Params, 1, pair)
    const [came, growth] = yield* t.measureMemory(Effect.gen(function*() {
      yield* Effect.timeoutOption(
        peer.sendAll([
          Wire.begin(),
          Wire.record(RecordType.Params, 1, Wire.pairs()),
          ...Array.from({ length: 100 }, () => chunk),
          Wire.record(RecordType.Params, 1),
          Wire.stdin(1)
        ]),
        t.patience
      )
      return describe(yield* peer.reply(1))
    }))
    yield* servesElsewhere(t)
    const text = growth === undefined ? came : `${came}, memory grew by ${mebibytes(growth)}`
    yield* expect(growth === undefined || growth < 64 * 1024 * 1024, text)
    return text
  }),

  should("5.3-a", "a web server that does not read a response of 100 MiB holds up no other connection", [
    "/echo",
    "/large"
  ], function*(t) {
    const peer = yield* t.connect
    const [, growth] = yield* t.measureMemory(Effect.gen(function*() {
      yield* peer.send(Wire.request({ uri: "/large?n=104857600" }))
      yield* Effect.sleep(t.quiet)
      yield* servesElsewhere(t)
    }))
    yield* peer.close
    yield* expect(
      growth === undefined || growth < 64 * 1024 * 1024,
      `another connection is answered, memory grew by ${mebibytes(growth ?? 0)}`
    )
    return `another connection is answered${growth === undefined ? "" : `, memory grew by ${mebibytes(growth)}`}`
  }),

  must("7-e", "after all of this the server still answers", ["/echo"], function*(t) {
    return yield* serves(yield* t.connect)
  })
]
