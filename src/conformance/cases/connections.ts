/**
 * Request ids and connections: who may use which id when, and who closes (SPEC 3.3, 3.5, 5.1).
 */
import * as Effect from "effect/Effect"
import { ProtocolStatus, RecordType, Role } from "../../protocol/FastCgiRecord.ts"
import { aftermath, answered, type Case, expect, must, open, serves, servesElsewhere, should } from "../Case.ts"
import { describe, NotApplicable } from "../Peer.ts"
import * as Wire from "../wire.ts"

const body = Wire.utf8("a body")

export const connections: ReadonlyArray<Case> = [
  must("3.3-l", "the ids 7 and 65535 are as good as 1", ["/echo"], function*(t) {
    for (const id of [7, 65535]) {
      const peer = yield* t.connect
      yield* serves(peer, id, `id ${id}`)
      yield* expect(peer.log.every((record) => record.requestId === id), `a record of another id than ${id} came`)
      yield* peer.close
    }
    return "both are answered"
  }),

  must("3.3-g", "the same id on two connections are two requests", ["/echo"], function*(t) {
    const [first, second] = [yield* t.connect, yield* t.connect]
    const [one, two] = [Wire.utf8("first body"), Wire.utf8("second")]
    yield* first.send(Wire.head({ stdin: one }), Wire.stdin(1, one.subarray(0, 4)))
    yield* second.send(Wire.head({ stdin: two }), Wire.stdin(1, two.subarray(0, 4)))
    yield* second.send(Wire.stdin(1, two.subarray(4)), Wire.stdin(1))
    yield* first.send(Wire.stdin(1, one.subarray(4)), Wire.stdin(1))
    yield* answered(yield* first.reply(1), { body: one }, "the first")
    yield* answered(yield* second.reply(1), { body: two }, "the second")
    return "both are answered"
  }),

  must("3.3-h", "an id is free again after END_REQUEST", ["/echo"], function*(t) {
    const peer = yield* t.connect
    for (const what of ["the first request", "the second", "the third"]) yield* serves(peer, 5, what)
    return "three requests with one id"
  }),

  must("3.3-i", "records of ids that are not active are ignored", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(
      Wire.stdin(5, Wire.utf8("stray")),
      Wire.stdin(5),
      Wire.record(RecordType.Params, 6, Wire.pairs()),
      Wire.record(RecordType.Params, 6),
      Wire.record(RecordType.Data, 7, Wire.utf8("stray")),
      Wire.abort(8),
      Wire.request({ stdin: body })
    )
    yield* answered(yield* peer.reply(1), { body }, "the request behind them")
    const strays = peer.log.filter((record) => record.requestId !== 1).length
    yield* expect(strays === 0, `${strays} records came for them`)
    return "nothing came for them, the request behind them is answered"
  }),

  must("3.3-i", "STDIN that comes after an early END_REQUEST is ignored", ["/params"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.head({ uri: "/params", stdin: "open", params: { CONTENT_LENGTH: "11" } }))
    const early = yield* peer.reply(1)
    if (early.outcome === "silence") {
      return yield* new NotApplicable({ message: "no answer before the end of STDIN" })
    }
    yield* answered(early, {}, "the early answer")
    yield* peer.send(Wire.stdin(1, Wire.utf8("late, late")), Wire.stdin(1))
    yield* serves(peer, 2, "the next request")
    yield* serves(peer, 1, "the next request of the same id")
    return "answered early; what follows is answered too"
  }),

  open("3.3-j", "BEGIN_REQUEST for an id that is active", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.head({ stdin: body }), Wire.begin(), Wire.params({ stdin: body }), Wire.stdin(1, body))
    yield* peer.send(Wire.stdin(1))
    const came = yield* aftermath(peer, 1)
    yield* servesElsewhere(t)
    return came
  }),

  open("3.3-l", "BEGIN_REQUEST with id 0", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ id: 0, stdin: body }))
    const came = yield* aftermath(peer, 0)
    yield* servesElsewhere(t)
    return came
  }),

  open("3.3-l", "PARAMS and STDIN with id 0", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(
      Wire.record(RecordType.Params, 0, Wire.pairs()),
      Wire.stdin(0, body),
      Wire.request({ stdin: body })
    )
    const came = yield* aftermath(peer, 1)
    const replies = peer.log.filter((record) => record.requestId === 0)
    return `${
      replies.length === 0 ? "ignored" : `answered with a record of type ${replies[0].type}`
    }; the request behind them: ${came}`
  }),

  open("5.1-a", "BEGIN_REQUEST with 7 bytes of content", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(
      Wire.record(RecordType.BeginRequest, 1, Wire.beginContent(Role.Responder, 1).subarray(0, 7)),
      Wire.params({ stdin: body }),
      Wire.stdin(1, body),
      Wire.stdin(1)
    )
    const came = yield* aftermath(peer, 1)
    yield* servesElsewhere(t)
    return came
  }),

  should("5.1-f", "unknown flags of BEGIN_REQUEST are ignored", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(
      Wire.record(RecordType.BeginRequest, 1, Wire.beginContent(Role.Responder, 0xff)),
      Wire.params({ stdin: body }),
      Wire.stdin(1, body),
      Wire.stdin(1)
    )
    yield* answered(yield* peer.reply(1), { body })
    yield* serves(peer)
    return "answered, and the connection is kept"
  }),

  must("5.1-c", "without KEEP_CONN the connection is closed after the response", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ keep: false, stdin: body }))
    yield* answered(yield* peer.reply(1), { body })
    const state = yield* peer.ended()
    yield* expect(state !== "open", "the connection is still open")
    yield* expect(state === "closed", `the connection ended with ${state}`)
    return "closed"
  }),

  must("5.1-c", "it is closed only after 1 MiB of response has arrived", ["/large"], function*(t) {
    const peer = yield* t.connect
    const size = 1024 * 1024
    yield* peer.send(Wire.request({ uri: `/large?n=${size}`, keep: false }))
    // The server has written what fits and wants to close before anything is read here.
    yield* Effect.sleep(t.quiet)
    const reply = yield* peer.reply(1)
    const came = yield* answered(reply)
    yield* expect(reply.body.length === size, came)
    yield* peer.ended()
    return came
  }),

  must("5.1-c", "it is closed without losing the response when STDIN was not read", ["/params"], function*(t) {
    const peer = yield* t.connect
    const stdin = Wire.pattern(300_000)
    const [, reply] = yield* Effect.all([
      peer.sendAll([
        Wire.head({ uri: "/params", keep: false, stdin }),
        Wire.stream(RecordType.Stdin, 1, stdin),
        Wire.stdin(1)
      ]),
      peer.reply(1)
    ], { concurrency: 2 })
    return yield* answered(reply)
  }),

  must("5.1-d", "with KEEP_CONN the connection is not closed", ["/echo"], function*(t) {
    const peer = yield* t.connect
    for (let count = 1; count <= 20; count++) yield* serves(peer, 1, `request ${count}`)
    yield* peer.during(t.quiet)
    yield* expect(peer.state === "open", `${peer.state} after 20 requests`)
    yield* serves(peer, 1, "request 21")
    return "21 requests on one connection"
  }),

  must("5.1-d", "the last request of a kept connection may do without KEEP_CONN", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* serves(peer)
    yield* peer.send(Wire.request({ keep: false, stdin: body }))
    yield* answered(yield* peer.reply(1), { body })
    yield* expect((yield* peer.ended()) === "closed", "the connection is still open")
    return "closed after it"
  }),

  must("3.5-a", "a connection that the web server closes when it is idle does no harm", ["/echo"], function*(t) {
    for (let count = 0; count < 20; count++) {
      const peer = yield* t.connect
      if (count % 2 === 0) yield* serves(peer)
      yield* peer.close
    }
    return yield* servesElsewhere(t)
  }),

  should("3.2-e", "two connections are answered at the same time", ["/echo"], function*(t) {
    const held = yield* t.connect
    yield* held.send(Wire.head({ stdin: body }), Wire.stdin(1, body.subarray(0, 2)))
    yield* servesElsewhere(t)
    yield* held.send(Wire.stdin(1, body.subarray(2)), Wire.stdin(1))
    return yield* answered(yield* held.reply(1), { body })
  }),

  should("3.2-e", "64 idle connections keep nobody from being answered", ["/echo"], function*(t) {
    for (let count = 0; count < 64; count++) {
      const peer = yield* t.connect
      yield* serves(peer, 1, `connection ${count + 1}`)
    }
    return yield* servesElsewhere(t, "connection 65")
  }),

  open("3.5-a", "the web server half-closes after the request", ["/sleep"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ uri: "/sleep?ms=20", keep: false }))
    yield* peer.end
    return describe(yield* peer.reply(1))
  }),

  must("5.5-b", "a request ends with REQUEST_COMPLETE and appStatus 0", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ stdin: body }))
    const reply = yield* peer.reply(1)
    yield* answered(reply, { body })
    const end = reply.records[reply.records.length - 1].content
    yield* expect(end.length === 8, `END_REQUEST has ${end.length} bytes of content`)
    return "8 bytes of zero"
  }),

  must("5.5-a", "appStatus is an unsigned 32-bit number", ["/appstatus"], function*(t) {
    const peer = yield* t.connect
    const came: Array<number> = []
    for (const appStatus of [938, 0x7fffffff, 0xfedcba98]) {
      yield* peer.send(Wire.request({ uri: `/appstatus?n=${appStatus}` }))
      yield* answered(yield* peer.reply(1), { appStatus }, `${appStatus}`)
      came.push(appStatus)
    }
    return came.join(", ")
  }),

  must("5.5-e", "the roles 0, 4 and 65535 are refused with UNKNOWN_ROLE", ["/echo"], function*(t) {
    for (const role of [0, 4, 65535]) {
      const peer = yield* t.connect
      yield* peer.send(Wire.request({ role }))
      const reply = yield* peer.reply(1)
      yield* expect(
        reply.outcome === "ended" && reply.protocolStatus === ProtocolStatus.UnknownRole,
        `role ${role}: ${describe(reply)}`
      )
      yield* expect(reply.stdout.length === 0, `role ${role}: STDOUT came with it`)
      yield* peer.close
    }
    return "UNKNOWN_ROLE for each"
  }),

  should("5.5-e", "a kept connection is of use after UNKNOWN_ROLE", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ role: 4 }))
    const reply = yield* peer.reply(1)
    yield* expect(reply.protocolStatus === ProtocolStatus.UnknownRole, describe(reply))
    return yield* serves(peer)
  }),

  must("B-1", "example 1 of appendix B: a request with one PARAMS record", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ keep: false, params: { SERVER_PORT: "80", SERVER_ADDR: "199.170.183.42" } }))
    return yield* answered(yield* peer.reply(1), { body: Wire.nothing })
  })
]
