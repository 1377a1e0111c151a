/**
 * Management records: GET_VALUES at any time, and types that nobody knows (SPEC 4).
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as FastCgiParams from "../../protocol/FastCgiParams.ts"
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
import { type Peer, Unmet } from "../Peer.ts"
import * as Wire from "../wire.ts"

const names = ["FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"]

const body = Wire.utf8("the body around it")

// The pairs of a GET_VALUES_RESULT.
const valuesOf = (record: Wire.WireRecord): Effect.Effect<ReadonlyArray<readonly [string, string]>, Unmet> =>
  Effect.suspend(() => {
    if (record.type !== RecordType.GetValuesResult) {
      return Effect.fail(new Unmet({ message: `a record of type ${record.type} came instead of GET_VALUES_RESULT` }))
    }
    const params = FastCgiParams.fromBytes(record.content)
    return "_tag" in params
      ? Effect.fail(new Unmet({ message: `GET_VALUES_RESULT is no pairs: ${params.message}` }))
      : Effect.succeed([...params])
  })

const result = (peer: Peer) => Effect.flatMap(peer.management, valuesOf)

const listed = (values: ReadonlyArray<readonly [string, string]>): string =>
  values.length === 0 ? "an empty result" : values.map(([name, value]) => `${name.slice(5)}=${value}`).join(" ")

// A request around a query: before, in the middle of PARAMS, while STDIN is open, between two requests.
const during = (
  row: string,
  title: string,
  before: ReadonlyArray<Uint8Array>,
  after: ReadonlyArray<Uint8Array>
): Case =>
  must(row, title, ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(...before, Wire.getValues(["FCGI_MPXS_CONNS"]))
    const values = yield* result(peer)
    yield* peer.send(...after)
    yield* answered(yield* peer.reply(1), { body }, "the request")
    return `${listed(values)}, then the request is answered`
  })

const options = { stdin: body } as const

// UNKNOWN_TYPE for this type, id 0 and reserved bytes of zero.
const unknownType = (peer: Peer, type: number): Effect.Effect<void, Unmet> =>
  Effect.flatMap(peer.management, (record) =>
    Effect.andThen(
      expect(record.type === RecordType.UnknownType, `a record of type ${record.type} came instead of UNKNOWN_TYPE`),
      expect(
        record.content.length === 8 && record.content[0] === type && record.content.subarray(1).every((byte) => !byte),
        `UNKNOWN_TYPE holds [${record.content.join(" ")}]`
      )
    ))

const askOne = (row: string, name: string): Case =>
  must(row, `${name} has a decimal value when it is answered`, [], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.getValues([name]))
    const values = yield* result(peer)
    const value = values.find((pair) => pair[0] === name)?.[1]
    if (value === undefined) return "not answered"
    const good = name === "FCGI_MPXS_CONNS" ? /^[01]$/ : /^\d+$/
    yield* expect(good.test(value), `the value is "${value}"`)
    return value
  })

export const management: ReadonlyArray<Case> = [
  must("4.1-b", "GET_VALUES is answered at once by one GET_VALUES_RESULT with id 0", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.getValues(names))
    const values = yield* result(peer)
    yield* serves(peer)
    const results = peer.log.filter((record) => record.type === RecordType.GetValuesResult).length
    yield* expect(results === 1, `${listed(values)} in ${results} records`)
    return listed(values)
  }),

  must("4.1-b", "only the names that are asked for are answered", [], function*(t) {
    const came: Array<string> = []
    for (const name of names) {
      const peer = yield* t.connect
      yield* peer.send(Wire.getValues([name]))
      const values = yield* result(peer)
      yield* expect(
        values.every((pair) => pair[0] === name),
        `${name.slice(5)} is asked for, ${listed(values)} is answered`
      )
      came.push(listed(values))
      yield* peer.close
    }
    return came.join(", ")
  }),

  must("4.1-c", "a name that is not known is omitted", [], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.getValues(["FCGI_MPXS_CONNS", "X_NOBODY_KNOWS"]))
    const values = yield* result(peer)
    yield* expect(values.every((pair) => pair[0] !== "X_NOBODY_KNOWS"), "it is answered")
    return listed(values)
  }),

  must("4.1-c", "a query of unknown names only has an empty result", [], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.getValues(["X_NOBODY_KNOWS"]))
    const values = yield* result(peer)
    yield* expect(values.length === 0, listed(values))
    return "an empty result"
  }),

  open("4.1-c", "a query of no names", [], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.getValues([]))
    return yield* Effect.match(result(peer), { onSuccess: listed, onFailure: (unmet) => unmet.message })
  }),

  askOne("4.1-d", "FCGI_MAX_CONNS"),
  askOne("4.1-e", "FCGI_MAX_REQS"),
  askOne("4.1-f", "FCGI_MPXS_CONNS"),

  during("4.1-g", "GET_VALUES before the first request", [], [Wire.request(options)]),
  during("4.1-g", "GET_VALUES between two PARAMS records", [
    Wire.begin(options),
    Wire.record(RecordType.Params, 1, Wire.pairs(options).subarray(0, 20))
  ], [
    Wire.record(RecordType.Params, 1, Wire.pairs(options).subarray(20)),
    Wire.record(RecordType.Params, 1),
    Wire.stdin(1, body),
    Wire.stdin(1)
  ]),
  during("4.1-g", "GET_VALUES while STDIN is open", [Wire.head(options), Wire.stdin(1, body.subarray(0, 5))], [
    Wire.stdin(1, body.subarray(5)),
    Wire.stdin(1)
  ]),

  must("4.1-g", "GET_VALUES between two requests on a kept connection", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* serves(peer, 1, "the first request")
    yield* peer.send(Wire.getValues(["FCGI_MPXS_CONNS"]))
    const values = yield* result(peer)
    yield* serves(peer, 1, "the second request")
    return `${listed(values)}, both requests are answered`
  }),

  must("4.1-h", "GET_VALUES is answered while a handler does something else", ["/sleep"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ uri: "/sleep?ms=60000" }), Wire.getValues(["FCGI_MPXS_CONNS"]))
    const values = yield* result(peer)
    return listed(values)
  }),

  must("3.3-d", "padding of GET_VALUES is skipped", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(
      Wire.getValues(["FCGI_MPXS_CONNS"], { padding: 255, fill: 0xaa }),
      Wire.request({ stdin: body })
    )
    yield* answered(yield* peer.reply(1), { body }, "the request behind it")
    return "255 bytes are skipped"
  }),

  must("4.2-a", "management types 12, 100 and 255 are answered with UNKNOWN_TYPE", [], function*(t) {
    const peer = yield* t.connect
    for (const type of [12, 100, 255]) {
      yield* peer.send(Wire.record(type, 0))
      yield* unknownType(peer, type)
    }
    return "UNKNOWN_TYPE for each"
  }),

  must("4.2-a", "content and padding of an unknown management record are skipped", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(
      Wire.record(99, 0, Wire.pattern(300), { padding: 9, fill: 0xaa }),
      Wire.request({ stdin: body })
    )
    yield* answered(yield* peer.reply(1), { body }, "the request behind it")
    yield* unknownType(peer, 99)
    return "UNKNOWN_TYPE, and the request behind it is answered"
  }),

  must("4.2-a", "an unknown management record in the middle of a request", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.head(options), Wire.record(99, 0), Wire.stdin(1, body), Wire.stdin(1))
    yield* answered(yield* peer.reply(1), { body }, "the request")
    yield* unknownType(peer, 99)
    return "UNKNOWN_TYPE, and the request is answered"
  }),

  should("4.2-b", "a record of an unknown type with an id other than 0 is ignored", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(
      Wire.head(options),
      Wire.record(99, 1, Wire.pattern(20), { padding: 4 }),
      Wire.record(99, 7),
      Wire.stdin(1, body),
      Wire.stdin(1)
    )
    yield* answered(yield* peer.reply(1), { body })
    return "the request around it is answered"
  }),

  open("3.3-l", "GET_VALUES with an id other than 0", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(
      Wire.record(RecordType.GetValues, 3, FastCgiParams.encodePairs([["FCGI_MPXS_CONNS", ""]])),
      Wire.request(options)
    )
    const came = yield* aftermath(peer, 1)
    const answer = peer.log.find((record) => record.type === RecordType.GetValuesResult)
    return `${
      answer === undefined ? "ignored" : `answered with id ${answer.requestId}`
    }; the request behind it: ${came}`
  }),

  open("A-a", "records that only applications send", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(
      Wire.record(RecordType.GetValuesResult, 0),
      Wire.record(RecordType.UnknownType, 0, new Uint8Array(8)),
      Wire.record(RecordType.Stdout, 1, Wire.utf8("x")),
      Wire.record(RecordType.Stderr, 1, Wire.utf8("x")),
      Wire.record(RecordType.EndRequest, 1, new Uint8Array(8)),
      Wire.request(options)
    )
    const came = yield* aftermath(peer, 1)
    const replies = peer.log.filter((record) => record.requestId === 0).length
    return `${replies === 0 ? "not answered" : `${replies} replies`}; the request behind them: ${came}`
  }),

  should("4.1-g", "2,000 GET_VALUES in one write are all answered", ["/echo"], function*(t) {
    const peer = yield* t.connect
    const query = Wire.getValues(["FCGI_MPXS_CONNS"])
    yield* Effect.all([
      peer.sendAll([Wire.concat(Array.from({ length: 2000 }, () => query)), Wire.request(options)]),
      Effect.flatMap(peer.reply(1), (reply) => answered(reply, { body }, "the request behind them"))
    ], { concurrency: 2 })
    const results = peer.log.filter((record) => record.type === RecordType.GetValuesResult).length
    yield* expect(results === 2000, `${results} results`)
    return "2,000 results"
  }),

  flood("GET_VALUES", () => Wire.getValues(["FCGI_MPXS_CONNS"])),
  flood("management records of unknown type", () => Wire.record(99, 0))
]

// A peer that asks and asks and reads nothing.
function flood(what: string, make: () => Uint8Array): Case {
  return should(
    "4.1-g",
    `256 MiB of ${what}, no reply being read, take no memory to speak of`,
    ["/echo"],
    function*(t) {
      const peer = yield* t.connect
      const one = make()
      const count = Math.ceil(65536 / one.length)
      const chunk = Wire.concat(Array.from({ length: count }, () => one))
      const [sent, growth] = yield* t.measureMemory(sendUnread(t, peer, chunk, 256 * 1024 * 1024))
      yield* servesElsewhere(t)
      const grown = growth === undefined ? "" : `, memory grew by ${Math.round(growth / 1024 / 1024)} MiB`
      const came = `${sent}${grown}`
      yield* expect(growth === undefined || growth < 128 * 1024 * 1024, came)
      return came
    }
  )
}

// Sends until the server takes no more: for so long that one which is only slow would have taken the next part.
const sendUnread = (t: Subject, peer: Peer, chunk: Uint8Array, size: number): Effect.Effect<string> => {
  const part = Array.from({ length: Math.ceil(1024 * 1024 / chunk.length) }, () => chunk)
  const patience = Duration.times(t.quiet, 10)
  const send = (left: number): Effect.Effect<string> =>
    left <= 0
      ? Effect.succeed("all of it is taken")
      : Effect.flatMap(Effect.timeoutOption(peer.sendAll(part), patience), (sent) =>
        peer.lost
          ? Effect.succeed("connection closed")
          : Option.isSome(sent)
          ? send(left - part.length * chunk.length)
          : Effect.succeed("not all of it is taken"))
  return send(size)
}
