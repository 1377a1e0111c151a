/**
 * Name-value pairs: their four forms, cuts anywhere, binary values, and lengths that promise more than comes (SPEC 3.4).
 */
import * as Effect from "effect/Effect"
import { RecordType } from "../../protocol/FastCgiRecord.ts"
import { aftermath, answered, type Case, expect, expectParams, must, open, servesElsewhere } from "../Case.ts"
import type { Peer } from "../Peer.ts"
import * as Wire from "../wire.ts"

const uri = "/params"

// A length in one byte or in four, whatever its size.
const length = (size: number, bytes: 1 | 4): Uint8Array =>
  bytes === 1
    ? Uint8Array.of(size)
    : Uint8Array.of(size >>> 24 | 0x80, size >>> 16, size >>> 8, size)

const pair = (name: string, value: string, nameForm: 1 | 4, valueForm: 1 | 4): Uint8Array =>
  Wire.concat([length(name.length, nameForm), length(value.length, valueForm), bytesOf(name), bytesOf(value)])

const bytesOf = (text: string): Uint8Array => Uint8Array.from(text, (character) => character.charCodeAt(0))

const asIs = (name: string, value: string): Uint8Array =>
  pair(name, value, name.length < 128 ? 1 : 4, value.length < 128 ? 1 : 4)

// Asks /params with pairs besides the usual ones, PARAMS being cut at these places of the additional bytes.
const ask = (peer: Peer, extra: Uint8Array, cuts: ReadonlyArray<number> = []) => {
  const records = [Wire.begin(), Wire.record(RecordType.Params, 1, Wire.pairs({ uri }))]
  let from = 0
  for (const to of [...cuts, extra.length]) {
    if (to > from) records.push(Wire.record(RecordType.Params, 1, extra.subarray(from, to)))
    from = to
  }
  records.push(Wire.record(RecordType.Params, 1), Wire.stdin(1))
  return Effect.andThen(peer.send(Wire.concat(records)), peer.reply(1))
}

const longName = `X_${"N".repeat(200)}`
const longValue = "v".repeat(300)

// BEGIN_REQUEST and PARAMS of a request whose pairs go wrong, and what becomes of it. The server has to live.
const hostile = (row: string, title: string, content: Uint8Array): Case =>
  must(row, title, ["/echo"], function*(t) {
    const peer = yield* t.connect
    const [came, growth] = yield* t.measureMemory(Effect.gen(function*() {
      yield* peer.send(
        Wire.begin(),
        Wire.record(RecordType.Params, 1, Wire.concat([Wire.pairs(), content])),
        Wire.record(RecordType.Params, 1),
        Wire.stdin(1)
      )
      return yield* aftermath(peer, 1)
    }))
    yield* servesElsewhere(t)
    yield* expect(
      growth === undefined || growth < 64 * 1024 * 1024,
      `${came}, memory grew by ${Math.round((growth ?? 0) / 1024 / 1024)} MiB`
    )
    return came
  })

export const pairs: ReadonlyArray<Case> = [
  must("3.4-a", "lengths of 127 and 128 bytes, names and values", ["/params"], function*(t) {
    const peer = yield* t.connect
    const expected = [
      [`X_${"A".repeat(125)}`, "a".repeat(127)],
      [`X_${"B".repeat(126)}`, "b".repeat(128)],
      [`X_${"C".repeat(125)}`, "c".repeat(128)],
      [`X_${"D".repeat(126)}`, "d".repeat(127)]
    ] as const
    const reply = yield* ask(peer, Wire.concat(expected.map(([name, value]) => asIs(name, value))))
    return yield* expectParams(reply, expected)
  }),

  must("3.4-a", "a short length in four bytes is understood", ["/params"], function*(t) {
    const peer = yield* t.connect
    const expected = [["X_NAME", "four"], ["X_VALUE", "bytes"], ["X_BOTH", ""]] as const
    const reply = yield* ask(
      peer,
      Wire.concat([
        pair("X_NAME", "four", 4, 1),
        pair("X_VALUE", "bytes", 1, 4),
        pair("X_BOTH", "", 4, 4)
      ])
    )
    return yield* expectParams(reply, expected)
  }),

  must("3.4-b", "pairs of the forms 11, 14, 41 and 44", ["/params"], function*(t) {
    const peer = yield* t.connect
    const expected = [
      ["X_11", "v"],
      ["X_14", longValue],
      [`${longName}41`, "v"],
      [`${longName}44`, longValue]
    ] as const
    const reply = yield* ask(peer, Wire.concat(expected.map(([name, value]) => asIs(name, value))))
    return yield* expectParams(reply, expected)
  }),

  must("3.4-c", "a value of all bytes from 0x01 to 0xff comes through", ["/params"], function*(t) {
    const peer = yield* t.connect
    const value = Wire.latin1(Uint8Array.from({ length: 255 }, (_, index) => index + 1))
    return yield* expectParams(yield* ask(peer, asIs("X_BINARY", value)), [["X_BINARY", value]])
  }),

  open("6.1-g", "a value with a NUL", ["/params"], function*(t) {
    const peer = yield* t.connect
    const value = "before\0after"
    const reply = yield* ask(peer, asIs("X_NUL", value))
    return yield* Effect.match(expectParams(reply, [["X_NUL", value]]), {
      onSuccess: () => "comes through",
      onFailure: (unmet) => unmet.message
    })
  }),

  must("3.4-e", "a pair that straddles two PARAMS records, cut anywhere", ["/params"], function*(t) {
    const expected = [["X_CUT", longValue], ["X_NEXT", "1"]] as const
    const bytes = Wire.concat(expected.map(([name, value]) => asIs(name, value)))
    const places = [[1, "between the lengths"], [3, "inside a length"], [7, "inside the name"], [
      10,
      "before the value"
    ], [
      40,
      "inside the value"
    ]] as const
    for (const [cut, place] of places) {
      const peer = yield* t.connect
      const reply = yield* ask(peer, bytes, [cut])
      yield* Effect.mapError(expectParams(reply, expected), (unmet) => unmet.prefixed(`cut ${place}`))
      yield* peer.close
    }
    return `cut ${places.map(([, place]) => place).join(", ")}`
  }),

  must("3.4-e", "PARAMS in records of one byte", ["/params"], function*(t) {
    const peer = yield* t.connect
    const content = Wire.concat([Wire.pairs({ uri }), asIs("X_CUT", longValue)])
    yield* peer.send(
      Wire.begin(),
      Wire.stream(RecordType.Params, 1, content, { size: 1 }),
      Wire.record(RecordType.Params, 1),
      Wire.stdin(1)
    )
    return yield* expectParams(yield* peer.reply(1), [["X_CUT", longValue]])
  }),

  must("5.2-a", "an empty value, and pairs in any order", ["/params"], function*(t) {
    const peer = yield* t.connect
    const expected = [["X_EMPTY", ""], ["X_FULL", "1"]] as const
    const content = Wire.concat([...expected.map(([name, value]) => asIs(name, value)), Wire.pairs({ uri })])
    yield* peer.send(
      Wire.begin(),
      Wire.record(RecordType.Params, 1, content),
      Wire.record(RecordType.Params, 1),
      Wire.stdin(1)
    )
    return yield* expectParams(yield* peer.reply(1), expected)
  }),

  open("5.2-a", "a name that comes twice", ["/params"], function*(t) {
    const peer = yield* t.connect
    const reply = yield* ask(peer, Wire.concat([asIs("X_TWICE", "first"), asIs("X_TWICE", "second")]))
    yield* answered(reply)
    const lines = Wire.latin1(reply.body)
    const hex = (text: string) => [...text].map((character) => character.charCodeAt(0).toString(16)).join("")
    const first = lines.toLowerCase().includes(hex("first"))
    const second = lines.toLowerCase().includes(hex("second"))
    return first && second
      ? "both are kept"
      : first
      ? "the first is kept"
      : second
      ? "the last is kept"
      : "none is kept"
  }),

  hostile(
    "3.4-d",
    "a pair with two lengths of 0x7fffffff takes no memory and kills nothing",
    Uint8Array.of(
      ...[0xff, 0xff, 0xff, 0xff],
      ...[0xff, 0xff, 0xff, 0xff],
      ...bytesOf("X_NAME")
    )
  ),
  hostile(
    "3.4-d",
    "a name of 0x7fffffff bytes takes no memory and kills nothing",
    Uint8Array.of(
      ...[0xff, 0xff, 0xff, 0xff, 1],
      ...bytesOf("X_NAME")
    )
  ),
  hostile(
    "3.4-d",
    "a pair of 50 and 50 bytes in ten bytes kills nothing",
    Uint8Array.of(50, 50, ...bytesOf("X_NAME=="))
  ),
  hostile("3.4-d", "PARAMS that end inside a length kill nothing", Uint8Array.of(0x80, 0))
]
