/**
 * Several requests at a time on one connection (SPEC 3.3, 5.5, appendix B).
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { ProtocolStatus, RecordType } from "../../protocol/FastCgiRecord.ts"
import {
  answered,
  type Case,
  expect,
  multiplexes,
  must,
  open,
  requireMultiplexing,
  serves,
  should,
  type Subject
} from "../Case.ts"
import { describe, NotApplicable, type Peer, type Reply } from "../Peer.ts"
import * as Wire from "../wire.ts"

const [one, two] = [Wire.utf8("the body of the first"), Wire.utf8("the second's body")]

// The second of two concurrent requests may be refused by who says that it does not multiplex, or says nothing.
function* secondAnswered(t: Subject, reply: Reply, body: Uint8Array) {
  if (reply.outcome === "ended" && reply.protocolStatus === ProtocolStatus.CantMpxConn) {
    yield* expect(multiplexes(t) !== true, "CANT_MPX_CONN, although FCGI_MPXS_CONNS is 1")
    yield* expect(reply.stdout.length === 0, "STDOUT came with CANT_MPX_CONN")
    return "CANT_MPX_CONN"
  }
  return yield* answered(reply, { body }, "the second")
}

function* sendInterleaved(peer: Peer, keep: readonly [boolean, boolean]) {
  yield* peer.send(
    Wire.begin({ id: 1, keep: keep[0] }),
    Wire.begin({ id: 2, keep: keep[1] }),
    Wire.params({ id: 2, stdin: two }),
    Wire.params({ id: 1, stdin: one }),
    Wire.stdin(1, one.subarray(0, 5)),
    Wire.stdin(2, two.subarray(0, 9)),
    Wire.stdin(1, one.subarray(5)),
    Wire.stdin(2, two.subarray(9)),
    Wire.stdin(2),
    Wire.stdin(1)
  )
}

export const multiplexing: ReadonlyArray<Case> = [
  must("5.5-c", "two requests interleaved on one connection: both answered, or CANT_MPX_CONN", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* sendInterleaved(peer, [true, true])
    const second = yield* secondAnswered(t, yield* peer.reply(2), two)
    yield* answered(yield* peer.reply(1), { body: one }, "the first")
    return second === "CANT_MPX_CONN" ? "the first is answered, the second gets CANT_MPX_CONN" : "both are answered"
  }),

  must("5.5-c", "two requests sent one behind the other in one write", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ id: 1, stdin: one }), Wire.request({ id: 2, stdin: two }))
    yield* answered(yield* peer.reply(1), { body: one }, "the first")
    const second = yield* secondAnswered(t, yield* peer.reply(2), two)
    return second === "CANT_MPX_CONN" ? "the first is answered, the second gets CANT_MPX_CONN" : "both are answered"
  }),

  must("3.3-h", "64 requests interleaved record by record, with bodies", ["/echo"], function*(t) {
    yield* requireMultiplexing(t)
    const peer = yield* t.connect
    const ids = Array.from({ length: 64 }, (_, index) => index + 1)
    const body = (id: number) => Wire.pattern(1000 + id)
    yield* peer.send(...ids.map((id) => Wire.begin({ id })))
    yield* peer.send(...ids.map((id) => Wire.params({ id, stdin: body(id) })))
    yield* peer.send(...ids.map((id) => Wire.stdin(id, body(id).subarray(0, 300))))
    yield* peer.send(...ids.toReversed().map((id) => Wire.stdin(id, body(id).subarray(300))))
    yield* peer.send(...ids.map((id) => Wire.stdin(id)))
    for (const id of ids) yield* answered(yield* peer.reply(id), { body: body(id) }, `request ${id}`)
    return "64 answers, each with its own body"
  }),

  must("B-4", "a request that takes long does not hold up one that does not", ["/echo", "/sleep"], function*(t) {
    yield* requireMultiplexing(t)
    const peer = yield* t.connect
    yield* peer.send(
      Wire.request({ id: 1, uri: `/sleep?ms=${2 * Duration.toMillis(t.deadline)}` }),
      Wire.request({ id: 2, stdin: two })
    )
    return yield* answered(yield* peer.reply(2), { body: two }, "the quick one")
  }),

  should("3.3-n", "a body that is not read does not hold up the other request", ["/echo", "/sleep"], function*(t) {
    yield* requireMultiplexing(t)
    const peer = yield* t.connect
    const stdin = Wire.pattern(512 * 1024)
    yield* peer.send(
      Wire.head({ id: 1, stdin, uri: `/sleep?ms=${2 * Duration.toMillis(t.deadline)}` }),
      Wire.head({ id: 2, stdin: two }),
      Wire.stream(RecordType.Stdin, 1, stdin),
      Wire.stdin(1),
      Wire.stdin(2, two),
      Wire.stdin(2)
    )
    return yield* answered(yield* peer.reply(2), { body: two }, "the other, its body behind 512 KiB")
  }),

  open("3.3-n", "a request that begins behind 512 KiB of a body that is not read", ["/echo", "/sleep"], function*(t) {
    yield* requireMultiplexing(t)
    const peer = yield* t.connect
    const stdin = Wire.pattern(512 * 1024)
    yield* peer.send(
      Wire.head({ id: 1, stdin, uri: `/sleep?ms=${2 * Duration.toMillis(t.deadline)}` }),
      Wire.stream(RecordType.Stdin, 1, stdin),
      Wire.stdin(1),
      Wire.request({ id: 2, stdin: two })
    )
    const reply = yield* peer.reply(2)
    return reply.outcome === "silence" ? "waits until the handler has ended" : describe(reply)
  }),

  should("6.1-c", "a large response does not hold up a small one", ["/echo", "/large"], function*(t) {
    yield* requireMultiplexing(t)
    const peer = yield* t.connect
    const size = 32 * 1024 * 1024
    yield* peer.send(Wire.request({ id: 1, uri: `/large?n=${size}` }), Wire.request({ id: 2, stdin: two }))
    yield* answered(yield* peer.reply(2), { body: two }, "the small one")
    const before = peer.log.reduce((sum, record) => sum + (record.requestId === 1 ? record.content.length : 0), 0)
    yield* expect(before < size, "it came after all of the large one")
    return `it came after ${Math.round(before / 1024)} KiB of the large one`
  }),

  should("5.1-e", "a request without KEEP_CONN does not end the one beside it", ["/echo"], function*(t) {
    yield* requireMultiplexing(t)
    const peer = yield* t.connect
    yield* peer.send(
      Wire.head({ id: 1, stdin: one, keep: true }),
      Wire.stdin(1, one.subarray(0, 5)),
      Wire.request({ id: 2, stdin: two, keep: false })
    )
    const second = yield* secondAnswered(t, yield* peer.reply(2), two)
    if (second === "CANT_MPX_CONN") return second
    yield* peer.during(t.quiet)
    yield* peer.send(Wire.stdin(1, one.subarray(5)), Wire.stdin(1))
    yield* answered(yield* peer.reply(1), { body: one }, "the one beside it")
    const state = yield* peer.ended()
    yield* expect(state !== "open", "both are answered, but the connection is still open")
    return "both are answered, then the connection is closed"
  }),

  should("5.1-e", "two interleaved requests without KEEP_CONN are both answered", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* sendInterleaved(peer, [false, false])
    const second = yield* secondAnswered(t, yield* peer.reply(2), two)
    yield* answered(yield* peer.reply(1), { body: one }, "the first")
    const state = yield* peer.ended()
    yield* expect(state === "closed", `the connection is ${state}`)
    return second === "CANT_MPX_CONN"
      ? "CANT_MPX_CONN for the second"
      : "both are answered, then the connection is closed"
  }),

  open("5.5-d", "one request more than FCGI_MAX_REQS", ["/echo"], function*(t) {
    yield* requireMultiplexing(t)
    const max = Number(t.values.get("FCGI_MAX_REQS"))
    if (!(max >= 1 && max <= 5000)) {
      return yield* new NotApplicable({ message: "FCGI_MAX_REQS is not answered, or above 5,000" })
    }
    const peer = yield* t.connect
    yield* peer.sendAll(
      Array.from(
        { length: max },
        (_, index) => Wire.concat([Wire.head({ id: index + 1, stdin: one }), Wire.stdin(index + 1, one.subarray(0, 3))])
      )
    )
    yield* peer.send(Wire.request({ id: max + 1, stdin: two }))
    return `request ${max + 1}: ${describe(yield* peer.reply(max + 1))}`
  }),

  must("3.3-h", "an id is free again while other requests are active", ["/echo"], function*(t) {
    yield* requireMultiplexing(t)
    const peer = yield* t.connect
    yield* peer.send(Wire.head({ id: 1, stdin: one }), Wire.stdin(1, one.subarray(0, 5)))
    for (const what of ["first", "second", "third"]) yield* serves(peer, 2, `the ${what} request with id 2`)
    yield* peer.send(Wire.stdin(1, one.subarray(5)), Wire.stdin(1))
    return yield* Effect.flatMap(peer.reply(1), (reply) => answered(reply, { body: one }, "the one beside them"))
  })
]
