/**
 * What holds for all records, all bytes and all ways to cut them.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiDecoder, FastCgiEncoder, FastCgiParams, type FastCgiRecord } from "effect-fastcgi"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { concat, cut, random } from "./support/cuts.ts"

type Record = FastCgiRecord.FastCgiRecord

const integer = (minimum: number, maximum: number): Arbitrary.Arbitrary<number> =>
  Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum, maximum })))

const oneOf = <A extends string | number>(...values: ReadonlyArray<A>): Arbitrary.Arbitrary<A> =>
  Arbitrary.schema(Schema.Literals(values)) as unknown as Arbitrary.Arbitrary<A>

const byte = integer(0, 255)

const filled = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, index) => index * 31 + seed)

/** Contents of all sizes, those around the borders of the format more often than chance would have it. */
const content = Arbitrary.map(
  Arbitrary.all([oneOf("small", "border", "large"), integer(0, 40), oneOf(65534, 65535, 65536, 131070, 131071), byte]),
  ([size, small, border, seed]) =>
    filled(size === "small" ? small : size === "border" ? border : 20_000 + small * 997, seed)
)

const record: Arbitrary.Arbitrary<Record> = Arbitrary.map(
  Arbitrary.all({
    tag: oneOf(
      "BeginRequest",
      "AbortRequest",
      "EndRequest",
      "Params",
      "Stdin",
      "Stdout",
      "Stderr",
      "Data",
      "GetValues",
      "GetValuesResult",
      "UnknownType",
      "Unrecognized"
    ),
    id: integer(1, 65535),
    word: integer(0, 65535),
    byte,
    unknown: integer(12, 255),
    status: integer(0, 0xffffffff),
    content
  }),
  ({ byte, content, id, status, tag, unknown, word }): Record => {
    switch (tag) {
      case "BeginRequest":
        return { _tag: tag, requestId: id, role: word, flags: byte }
      case "AbortRequest":
        return { _tag: tag, requestId: id }
      case "EndRequest":
        return { _tag: tag, requestId: id, appStatus: status, protocolStatus: byte }
      case "GetValues":
      case "GetValuesResult":
        return { _tag: tag, requestId: 0, content: content.subarray(0, 65535) }
      case "UnknownType":
        return { _tag: tag, requestId: 0, type: byte }
      case "Unrecognized":
        return { _tag: tag, requestId: id, type: unknown }
      default:
        return { _tag: tag, requestId: id, content }
    }
  }
)

const records = Arbitrary.array(record, { maxLength: 12 })

interface Outcome {
  readonly records: ReadonlyArray<unknown>
  readonly error: string | undefined
}

const isStream = (record: Record): record is FastCgiRecord.Stdin =>
  record._tag === "Params" || record._tag === "Stdin" || record._tag === "Data" || record._tag === "Stdout" ||
  record._tag === "Stderr"

/** What was decoded, with neighbouring fragments of one stream put together: all that a reader of the stream can see. */
const join = (decoded: ReadonlyArray<Record>): ReadonlyArray<unknown> => {
  const joined: Array<{ readonly record: Record; readonly parts: Array<Uint8Array> }> = []
  for (const record of decoded) {
    const last = joined.at(-1)
    if (
      isStream(record) && record.content.length > 0 && last !== undefined && last.parts.length > 0 &&
      last.record._tag === record._tag && last.record.requestId === record.requestId
    ) {
      last.parts.push(record.content)
    } else {
      joined.push({ record, parts: isStream(record) && record.content.length > 0 ? [record.content] : [] })
    }
  }
  return joined.map(({ parts, record }) =>
    "content" in record
      ? { ...record, content: Buffer.from(parts.length > 0 ? concat(parts) : record.content).toString("latin1") }
      : record
  )
}

const decode = (chunks: Iterable<Uint8Array>, options?: FastCgiDecoder.FastCgiDecoderOptions): Outcome => {
  const decoder = FastCgiDecoder.make(options)
  const decoded: Array<Record> = []
  for (const chunk of chunks) {
    const error = decoder.push(chunk, decoded)
    if (error !== undefined) return { records: join(decoded), error: error.message }
  }
  return { records: join(decoded), error: decoder.end()?.message }
}

const pointsOf = (seed: number, length: number): ReadonlyArray<number> => {
  const next = random(seed)
  return Array.from({ length: 1 + Math.floor(next() * 30) }, () => Math.floor(next() * (length + 1)))
}

/** A record with padding of any length, which the encoder never writes. */
const padded = (record: Record, padding: number): Uint8Array => {
  const bytes = FastCgiEncoder.encode(record, { alignment: 1 })
  if (bytes.length > 8 + 65535) return bytes
  bytes[6] = padding
  return concat([bytes, new Uint8Array(padding).fill(1)])
}

describe("records", () => {
  it.prop("that were encoded decode to themselves", { records, alignment: oneOf(1, 8) }, ({ alignment, records }) => {
    const bytes = concat(records.map((record) => FastCgiEncoder.encode(record, { alignment: alignment as 1 | 8 })))
    const decoded = decode([bytes])
    assert.isUndefined(decoded.error)
    assert.deepStrictEqual(decoded.records, join(records))
  }, { arbitrary: { runs: 150 } })

  it.prop(
    "are the same however they are padded and cut",
    { records, paddings: Arbitrary.array(byte, { minLength: 12, maxLength: 12 }), seed: integer(0, 1_000_000) },
    ({ paddings, records, seed }) => {
      const bytes = concat(records.map((record, index) => padded(record, paddings[index])))
      const decoded = decode(cut(bytes, pointsOf(seed, bytes.length)))
      assert.isUndefined(decoded.error)
      assert.deepStrictEqual(decoded.records, join(records))
    },
    { arbitrary: { runs: 150 } }
  )

  it.prop("that are aligned start at multiples of 8 bytes", { records }, ({ records }) => {
    for (const record of records) assert.strictEqual(FastCgiEncoder.encode(record).length % 8, 0)
  }, { arbitrary: { runs: 100 } })
})

/** Bytes that look enough like records to get somewhere: the first byte of every eight is often the version. */
const noise = Arbitrary.map(
  Arbitrary.all([Arbitrary.array(byte, { maxLength: 400 }), integer(0, 3), integer(0, 1_000_000)]),
  ([bytes, order, seed]) => {
    const next = random(seed)
    return Uint8Array.from(bytes, (value, index) => {
      const place = index % 8
      if (order === 0) return value
      if (place === 0) return next() < 0.98 ? 1 : value
      if (place === 1) return value % 13
      // Short contents and short padding, so that there is a second record.
      if (place === 4) return next() < 0.9 ? 0 : value
      if (place === 5) return order === 1 ? 8 : value & 0x18
      if (place === 6) return order === 1 ? 0 : value & 8
      return value
    })
  }
)

describe("arbitrary bytes", () => {
  it.prop("never throw, and decode to the same at any fragmentation", { noise, seed: integer(0, 1_000_000) }, ({
    noise,
    seed
  }) => {
    const options = { maxDiscreteContent: 64 }
    const whole = decode([noise], options)
    assert.deepStrictEqual(decode(cut(noise, noise.keys()), options), whole)
    assert.deepStrictEqual(decode(cut(noise, pointsOf(seed, noise.length)), options), whole)
    // Eight bytes make a record at best, and contents are what came.
    assert.isAtMost(whole.records.length, noise.length / 8)
  }, { arbitrary: { runs: 500, size: 400 } })

  it("make the decoder keep no more than one header and one content of maxDiscreteContent", () => {
    // 64 connections, each with a GET_VALUES that has begun and never ends.
    const header = Uint8Array.of(1, 9, 0, 0, 0xff, 0xff, 0, 0, 7)
    const held: Array<FastCgiDecoder.FastCgiDecoder> = []
    const before = process.memoryUsage().arrayBuffers
    for (let i = 0; i < 64; i++) {
      const decoder = FastCgiDecoder.make()
      decoder.push(header, [])
      held.push(decoder)
    }
    assert.isAtMost(process.memoryUsage().arrayBuffers - before, held.length * (65535 + 8) + 1024 * 1024)
    // And none of it where the limit is lower than what is declared.
    const refused = FastCgiDecoder.make({ maxDiscreteContent: 1024 })
    assert.strictEqual(refused.push(header, [])?.reason._tag, "ContentTooLong")
  })
})

const word = Arbitrary.map(
  Arbitrary.all([oneOf(0, 1, 5, 126, 127, 128, 129, 300), Arbitrary.array(byte, { maxLength: 20 })]),
  ([length, bytes]) => length % 2 === 0 ? filled(length, bytes.length) : Uint8Array.from(bytes)
)

const pairs = Arbitrary.array(Arbitrary.all([word, word]), { maxLength: 20 })

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1")

const pairsOf = (params: FastCgiParams.FastCgiParams): ReadonlyArray<readonly [string, string]> => {
  const found: Array<readonly [string, string]> = []
  params.forEachLatin1((name, value) => found.push([name, value]))
  return found
}

const decodeParams = (
  chunks: Iterable<Uint8Array>,
  limits?: FastCgiParams.FastCgiParamsLimits
): ReadonlyArray<readonly [string, string]> | string => {
  const decoder = FastCgiParams.makeDecoder(limits)
  for (const chunk of chunks) {
    const error = decoder.push(chunk)
    if (error !== undefined) return error.reason._tag
  }
  const params = decoder.end()
  return "_tag" in params ? params.reason._tag : pairsOf(params)
}

describe("params", () => {
  it.prop("that were encoded decode to themselves at any fragmentation", { pairs, seed: integer(0, 1_000_000) }, ({
    pairs,
    seed
  }) => {
    const bytes = FastCgiParams.encodePairs(pairs)
    const wanted = pairs.map(([name, value]) => [text(name), text(value)] as const)
    assert.deepStrictEqual(decodeParams([bytes]), wanted)
    assert.deepStrictEqual(decodeParams(cut(bytes, pointsOf(seed, bytes.length))), wanted)
    // Every name is found, with its last value.
    const params = FastCgiParams.fromEntries(pairs)
    const last = new Map(wanted)
    for (const [name, value] of last) assert.strictEqual(params.getLatin1(name), value)
  }, { arbitrary: { runs: 200 } })

  it.prop(
    "never throw on arbitrary bytes, and keep no more than their limit",
    { bytes: Arbitrary.array(byte, { maxLength: 300 }), limit: integer(0, 300), seed: integer(0, 1_000_000) },
    ({ bytes, limit, seed }) => {
      const wire = Uint8Array.from(bytes)
      const limits = { maxParamsSize: limit, maxParamsCount: 20 }
      const single = decodeParams(cut(wire, wire.keys()), limits)
      if (typeof single !== "string") {
        assert.isAtMost(wire.length, limit)
        assert.isAtMost(single.length, 20)
        assert.deepStrictEqual(decodeParams(cut(wire, pointsOf(seed, wire.length)), limits), single)
      } else {
        // Which limit is met first depends on what is seen at once; that one is met does not.
        assert.isString(decodeParams(cut(wire, pointsOf(seed, wire.length)), limits))
      }
    },
    { arbitrary: { runs: 500, size: 300 } }
  )
})
