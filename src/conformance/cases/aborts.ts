/**
 * Requests that are given up: ABORT_REQUEST at every step, and connections that go away (SPEC 5.4).
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { ProtocolStatus, RecordType } from "../../protocol/FastCgiRecord.ts"
import {
  answered,
  type Case,
  type Counters,
  type Endpoint,
  expect,
  must,
  open,
  requireMultiplexing,
  serves,
  servesElsewhere,
  should,
  type Subject
} from "../Case.ts"
import { describe, type Peer, Unmet } from "../Peer.ts"
import * as Wire from "../wire.ts"

const body = Wire.utf8("a body that will not be read to its end")
const options = { stdin: body } as const

// END_REQUEST for request 1, and no other record of it after that. The next request on the connection takes longer than
// what was aborted would have taken; a server that does not keep the connection is judged elsewhere.
function* endsOnce(t: Subject, peer: Peer) {
  const reply = yield* peer.reply(1)
  yield* expect(
    reply.outcome === "ended" && reply.protocolStatus === ProtocolStatus.RequestComplete,
    describe(reply)
  )
  if (t.endpoints.has("/sleep")) {
    yield* peer.send(Wire.request({ id: 2, uri: `/sleep?ms=${2 * Duration.toMillis(t.quiet)}` }))
    yield* peer.reply(2)
  } else {
    yield* peer.during(t.quiet)
  }
  const isEnd = (record: Wire.WireRecord) => record.requestId === 1 && record.type === RecordType.EndRequest
  const late = peer.log.slice(peer.log.findIndex(isEnd) + 1).filter((record) => record.requestId === 1)
  const came = `END_REQUEST, appStatus ${reply.appStatus}`
  yield* expect(
    late.length === 0,
    late.some(isEnd) ? `${came}, and a second END_REQUEST later` : `${came}, and ${late.length} records of it later`
  )
  return came
}

const step = (
  title: string,
  before: (t: Subject) => ReadonlyArray<Uint8Array>,
  needs: ReadonlyArray<Endpoint> = ["/echo"],
  first?: (peer: Peer) => Effect.Effect<unknown, Unmet>
): Case =>
  must("5.4-a", `ABORT_REQUEST ${title} is answered with one END_REQUEST`, needs, function*(t) {
    const peer = yield* t.connect
    yield* peer.send(...before(t))
    if (first !== undefined) yield* first(peer)
    yield* peer.send(Wire.abort(1))
    return yield* endsOnce(t, peer)
  })

// Waits until there is output.
const output = (peer: Peer): Effect.Effect<unknown, Unmet> =>
  Effect.flatMap(
    peer.find((record) => record.type === RecordType.Stdout && record.content.length > 0 ? record : undefined),
    (found) => found === undefined ? Effect.fail(peer.silent("no output came")) : Effect.void
  )

const half = Wire.pairs(options).subarray(0, 30)

const sleeping = (t: Subject) => Wire.request({ uri: `/sleep?ms=${Duration.toMillis(t.quiet)}` })

// Waits until this many handlers have been told since.
const aborted = (t: Subject, before: Counters, count = 1): Effect.Effect<string, Unmet> => {
  const look: Effect.Effect<string, Unmet> = Effect.flatMap(t.counters, (now) =>
    now.aborted >= before.aborted + count
      ? Effect.succeed(count === 1 ? "it is told" : `all ${count} handlers are told`)
      : now.ended > before.ended
      ? Effect.fail(new Unmet({ message: "the handler has ended as if nothing had happened" }))
      : Effect.andThen(Effect.sleep(10), look))
  return Effect.timeoutOrElse(look, {
    duration: t.deadline,
    orElse: () => Effect.fail(new Unmet({ message: count === 1 ? "it is not told" : "not all handlers are told" }))
  })
}

// Waits until this many handlers have started since.
const started = (t: Subject, before: Counters, count = 1): Effect.Effect<void, Unmet> => {
  const look: Effect.Effect<void, Unmet> = Effect.flatMap(
    t.counters,
    (now) => now.started >= before.started + count ? Effect.void : Effect.andThen(Effect.sleep(10), look)
  )
  return Effect.timeoutOrElse(look, {
    duration: t.deadline,
    orElse: () => Effect.fail(new Unmet({ message: "the handler does not start" }))
  })
}

export const aborts: ReadonlyArray<Case> = [
  step("right after BEGIN_REQUEST", () => [Wire.begin(options)]),
  step("between two PARAMS records", () => [Wire.begin(options), Wire.record(RecordType.Params, 1, half)]),
  step("after PARAMS, STDIN not begun", () => [Wire.head(options)]),
  step("while STDIN is open", () => [Wire.head(options), Wire.stdin(1, body.subarray(0, 10))]),
  step(
    "after output has begun",
    () => [Wire.head(options), Wire.stdin(1, body.subarray(0, 10))],
    ["/echo"],
    output
  ),
  step("while the handler works, all input having come", (t) => [sleeping(t)], ["/sleep"]),
  step("sent twice", (t) => [sleeping(t), Wire.abort(1)], ["/sleep"]),

  must("5.1-d", "a kept connection is of use after ABORT_REQUEST", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.head(options), Wire.stdin(1, body.subarray(0, 10)), Wire.abort(1))
    const reply = yield* peer.reply(1)
    yield* expect(reply.outcome === "ended", describe(reply))
    yield* serves(peer, 2)
    return yield* serves(peer, 1, "the next request of the same id")
  }),

  must("3.3-d", "padding of ABORT_REQUEST is skipped", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.abort(9, { padding: 255, fill: 0xaa }), Wire.request({ stdin: body }))
    yield* answered(yield* peer.reply(1), { body }, "the request behind it")
    return "255 bytes are skipped"
  }),

  must("5.4-a", "ABORT_REQUEST is answered long before the handler would have ended", ["/sleep"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ uri: `/sleep?ms=${4 * Duration.toMillis(t.deadline)}` }), Wire.abort(1))
    const reply = yield* peer.reply(1)
    yield* expect(reply.outcome === "ended", describe(reply))
    return `END_REQUEST, appStatus ${reply.appStatus}`
  }),

  open("5.4-f", "ABORT_REQUEST right behind the end of the request", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ stdin: body }), Wire.abort(1))
    return describe(yield* peer.reply(1))
  }),

  must("5.4-f", "ABORT_REQUEST for a request that has ended is ignored", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* serves(peer)
    yield* peer.send(Wire.abort(1))
    yield* serves(peer, 2)
    const ends = peer.log.filter((record) => record.requestId === 1 && record.type === RecordType.EndRequest).length
    yield* expect(ends === 1, `${ends} END_REQUEST records`)
    return "ignored"
  }),

  must("5.4-a", "ABORT_REQUEST leaves the other requests of the connection alone", ["/echo"], function*(t) {
    yield* requireMultiplexing(t)
    const peer = yield* t.connect
    yield* peer.send(
      Wire.head({ id: 1, stdin: body }),
      Wire.head({ id: 2, stdin: body }),
      Wire.stdin(1, body.subarray(0, 3)),
      Wire.stdin(2, body.subarray(0, 3)),
      Wire.abort(1)
    )
    const gone = yield* peer.reply(1)
    yield* expect(gone.outcome === "ended", `the aborted one: ${describe(gone)}`)
    yield* peer.send(Wire.stdin(2, body.subarray(3)), Wire.stdin(2))
    return yield* answered(yield* peer.reply(2), { body }, "the other")
  }),

  should(
    "5.4-b",
    "the handler of an aborted request is told while it reads STDIN",
    ["/echo", "/counters"],
    function*(t) {
      const before = yield* t.counters
      const peer = yield* t.connect
      yield* peer.send(Wire.head(options), Wire.stdin(1, body.subarray(0, 10)))
      yield* started(t, before)
      yield* peer.send(Wire.abort(1))
      return yield* aborted(t, before)
    }
  ),

  should("5.4-b", "the handler of an aborted request is told while it works", ["/sleep", "/counters"], function*(t) {
    const before = yield* t.counters
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ uri: `/sleep?ms=${4 * Duration.toMillis(t.deadline)}` }))
    yield* started(t, before)
    yield* peer.send(Wire.abort(1))
    return yield* aborted(t, before)
  }),

  must("5.4-d", "closing the connection aborts a handler that reads STDIN", ["/echo", "/counters"], function*(t) {
    const before = yield* t.counters
    const peer = yield* t.connect
    yield* peer.send(Wire.head(options), Wire.stdin(1, body.subarray(0, 10)))
    yield* started(t, before)
    yield* peer.close
    return yield* aborted(t, before)
  }),

  should("5.4-d", "closing the connection aborts a handler that works", ["/sleep", "/counters"], function*(t) {
    const before = yield* t.counters
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ uri: `/sleep?ms=${4 * Duration.toMillis(t.deadline)}` }))
    yield* started(t, before)
    yield* peer.close
    return yield* aborted(t, before)
  }),

  should("5.4-d", "closing the connection aborts all of its requests", ["/sleep", "/counters"], function*(t) {
    yield* requireMultiplexing(t)
    const before = yield* t.counters
    const peer = yield* t.connect
    const uri = `/sleep?ms=${4 * Duration.toMillis(t.deadline)}`
    for (const id of [1, 2, 3, 4]) yield* peer.send(Wire.request({ id, uri }))
    yield* started(t, before, 4)
    yield* peer.close
    return yield* aborted(t, before, 4)
  }),

  should("5.4-d", "closing the connection aborts a handler that writes", ["/large", "/counters"], function*(t) {
    const before = yield* t.counters
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ uri: "/large?n=104857600" }))
    yield* started(t, before)
    yield* peer.close
    return yield* aborted(t, before)
  }),

  must("5.4-d", "connections that close at every step of a request do no harm", ["/echo"], function*(t) {
    const bytes = Wire.request(options)
    for (let at = 0; at <= bytes.length; at += 13) {
      const peer = yield* t.connect
      yield* peer.send(bytes.subarray(0, at))
      yield* peer.close
    }
    return yield* servesElsewhere(t)
  })
]
