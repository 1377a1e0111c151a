import { assert, describe, it } from "@effect/vitest"
import { FastCgiDecoder, FastCgiRecord } from "effect-fastcgi"
import { ascii, concat, cut, oneByOne } from "./support/cuts.ts"

type Record = FastCgiRecord.FastCgiRecord

/** A record as bytes, written without the encoder. */
const bytesOf = (
  type: number,
  requestId: number,
  content: ReadonlyArray<number> | Uint8Array,
  padding: ReadonlyArray<number> = [],
  header: { readonly version?: number; readonly reserved?: number } = {}
): Uint8Array =>
  Uint8Array.of(
    header.version ?? 1,
    type,
    requestId >> 8,
    requestId & 255,
    content.length >> 8,
    content.length & 255,
    padding.length,
    header.reserved ?? 0,
    ...content,
    ...padding
  )

const decodeAll = (
  chunks: Iterable<Uint8Array>,
  options?: FastCgiDecoder.FastCgiDecoderOptions
): { readonly records: Array<Record>; readonly error: FastCgiDecoder.FastCgiDecodeError | undefined } => {
  const decoder = FastCgiDecoder.make(options)
  const records: Array<Record> = []
  for (const chunk of chunks) {
    const error = decoder.push(chunk, records)
    if (error !== undefined) return { records, error }
  }
  return { records, error: decoder.end() }
}

/** Records with the fragments of one record's content put together, which is what fragmentation must not change. */
const joined = (records: ReadonlyArray<Record>): ReadonlyArray<unknown> => {
  const result: Array<Record> = []
  for (const record of records) {
    const last = result.at(-1)
    if (
      "content" in record && last !== undefined && "content" in last && last._tag === record._tag &&
      last.requestId === record.requestId && record.content.length > 0 && last.content.length > 0
    ) {
      result[result.length - 1] = { ...last, content: concat([last.content, record.content]) }
    } else {
      result.push("content" in record ? { ...record, content: record.content.slice() } : record)
    }
  }
  return result
}

const kindOf = (error: FastCgiDecoder.FastCgiDecodeError | undefined): string | undefined => error?.reason._tag

/** One of each type, with bytes that show when a field is read from the wrong place. */
const samples: ReadonlyArray<readonly [name: string, bytes: (padding: ReadonlyArray<number>) => Uint8Array, Record]> = [
  [
    "BEGIN_REQUEST",
    (padding) => bytesOf(1, 0x1234, [0x0a, 0x0b, 0x0d, 9, 9, 9, 9, 9], padding),
    { _tag: "BeginRequest", requestId: 0x1234, role: 0x0a0b, flags: 0x0d }
  ],
  ["ABORT_REQUEST", (padding) => bytesOf(2, 7, [], padding), { _tag: "AbortRequest", requestId: 7 }],
  [
    "END_REQUEST",
    (padding) => bytesOf(3, 7, [0xfe, 0xdc, 0xba, 0x98, 3, 9, 9, 9], padding),
    { _tag: "EndRequest", requestId: 7, appStatus: 0xfedcba98, protocolStatus: 3 }
  ],
  ["PARAMS", (padding) => bytesOf(4, 7, [1, 0, 65], padding), FastCgiRecord.params(7, Uint8Array.of(1, 0, 65))],
  ["STDIN", (padding) => bytesOf(5, 7, [1, 2], padding), FastCgiRecord.stdin(7, Uint8Array.of(1, 2))],
  ["STDOUT", (padding) => bytesOf(6, 7, [1, 2], padding), FastCgiRecord.stdout(7, Uint8Array.of(1, 2))],
  ["STDERR", (padding) => bytesOf(7, 7, [1, 2], padding), FastCgiRecord.stderr(7, Uint8Array.of(1, 2))],
  ["DATA", (padding) => bytesOf(8, 7, [1, 2], padding), FastCgiRecord.data(7, Uint8Array.of(1, 2))],
  ["the empty PARAMS", (padding) => bytesOf(4, 7, [], padding), FastCgiRecord.params(7)],
  ["the empty STDIN", (padding) => bytesOf(5, 7, [], padding), FastCgiRecord.stdin(7)],
  ["GET_VALUES", (padding) => bytesOf(9, 0, [1, 0, 65], padding), FastCgiRecord.getValues(Uint8Array.of(1, 0, 65))],
  ["the empty GET_VALUES", (padding) => bytesOf(9, 0, [], padding), FastCgiRecord.getValues(new Uint8Array(0))],
  [
    "GET_VALUES_RESULT",
    (padding) => bytesOf(10, 0, [1, 1, 65, 49], padding),
    FastCgiRecord.getValuesResult(Uint8Array.of(1, 1, 65, 49))
  ],
  ["UNKNOWN_TYPE", (padding) => bytesOf(11, 0, [42, 9, 9, 9, 9, 9, 9, 9], padding), FastCgiRecord.unknownType(42)],
  ["a type nobody knows", (padding) => bytesOf(99, 7, [1, 2, 3], padding), FastCgiRecord.unrecognized(99, 7)]
]

const after = bytesOf(5, 9, [77])
const afterRecord = FastCgiRecord.stdin(9, Uint8Array.of(77))

describe("FastCgiDecoder", () => {
  describe("records (SPEC 3.3, 8)", () => {
    for (const [name, bytes, record] of samples) {
      it(`decodes ${name} at every fragmentation, with and without padding`, () => {
        for (const padding of [[], [0], [1, 1, 1, 1, 1], Array.from({ length: 255 }, () => 1)]) {
          const all = concat([bytes(padding), after])
          assert.deepStrictEqual(decodeAll([all]), { records: [record, afterRecord], error: undefined })
          assert.deepStrictEqual(joined(decodeAll(oneByOne(all)).records), [record, afterRecord])
          for (let point = 1; point < all.length; point++) {
            const { error, records } = decodeAll(cut(all, [point]))
            assert.isUndefined(error)
            assert.deepStrictEqual(joined(records), [record, afterRecord], `cut at ${point}`)
          }
        }
      })
    }

    it("decodes many records of one chunk, and a record that begins in the chunk that ends another", () => {
      const all = concat(samples.map(([, bytes]) => bytes([])))
      const wanted = samples.map(([, , record]) => record)
      assert.deepStrictEqual(decodeAll([all]).records, wanted)
      assert.deepStrictEqual(joined(decodeAll(cut(all, [20, 21, 50, 90])).records), wanted)
    })

    it("passes content on as it arrives, as views into the chunk", () => {
      const bytes = bytesOf(5, 1, [1, 2, 3, 4, 5, 6])
      const chunks = cut(bytes, [10, 13])
      const decoder = FastCgiDecoder.make()
      const records: Array<Record> = []
      const seen: Array<number> = []
      for (const chunk of chunks) {
        decoder.push(chunk, records)
        seen.push(records.length)
      }
      assert.deepStrictEqual(seen, [1, 2, 3])
      assert.deepStrictEqual(records.map((record) => "content" in record ? [...record.content] : []), [
        [1, 2],
        [3, 4, 5],
        [6]
      ])
      records.forEach((record, index) => {
        assert.strictEqual((record as FastCgiRecord.Stdin).content.buffer, chunks[index].buffer)
      })
    })

    it("ignores the reserved bytes and unknown flags", () => {
      const bytes = bytesOf(1, 1, [0, 1, 0xff, 1, 2, 3, 4, 5], [], { reserved: 255 })
      const { records } = decodeAll([bytes])
      assert.deepStrictEqual(records, [{ _tag: "BeginRequest", requestId: 1, role: 1, flags: 255 }])
      assert.isTrue(FastCgiRecord.keepConnection(records[0] as FastCgiRecord.BeginRequest))
      assert.isFalse(FastCgiRecord.keepConnection({ _tag: "BeginRequest", requestId: 1, role: 1, flags: 0xfe }))
    })

    it("skips the content of ABORT_REQUEST and of unknown types, whatever is in it", () => {
      const forged = concat([bytesOf(1, 5, [0, 1, 0, 0, 0, 0, 0, 0]), bytesOf(2, 5, [])])
      for (const type of [2, 0, 12, 255]) {
        const { error, records } = decodeAll(oneByOne(concat([bytesOf(type, 3, forged, [1, 1]), after])))
        assert.isUndefined(error)
        assert.strictEqual(records.length, 2)
        assert.strictEqual(records[0]._tag, type === 2 ? "AbortRequest" : "Unrecognized")
        assert.strictEqual(records[0].requestId, 3)
      }
    })

    it("holds the longest content: 65535 bytes with 255 bytes of padding", () => {
      const content = Uint8Array.from({ length: 65535 }, (_, index) => index)
      const all = concat([bytesOf(6, 65535, content, Array.from({ length: 255 }, () => 6)), after])
      assert.deepStrictEqual(joined(decodeAll(cut(all, [3, 9, 40_000, 65_600])).records), [
        FastCgiRecord.stdout(65535, content),
        afterRecord
      ])
    })

    it("keeps a discrete record that came in pieces when the pieces are overwritten", () => {
      const decoder = FastCgiDecoder.make()
      const records: Array<Record> = []
      const buffer = new Uint8Array(4)
      const bytes = bytesOf(9, 0, [2, 0, 65, 66])
      for (let at = 0; at < bytes.length; at += 4) {
        buffer.set(bytes.subarray(at, at + 4))
        decoder.push(buffer.subarray(0, Math.min(4, bytes.length - at)), records)
      }
      buffer.fill(0)
      assert.deepStrictEqual(records[0]._tag, "GetValues")
    })

    it("takes empty chunks for nothing", () => {
      const all = concat([bytesOf(9, 0, [1, 0, 65], [0, 0]), after])
      const chunks = oneByOne(all).flatMap((chunk) => [new Uint8Array(0), chunk, new Uint8Array(0)])
      assert.deepStrictEqual(decodeAll(chunks).records, decodeAll([all]).records)
    })
  })

  describe("errors", () => {
    const good = bytesOf(5, 1, [1, 2, 3])
    const goodRecord = FastCgiRecord.stdin(1, Uint8Array.of(1, 2, 3))

    const cases: ReadonlyArray<
      readonly [FastCgiDecoder.FastCgiDecodeErrorReason["_tag"], bytes: Uint8Array, says: RegExp, firstBad: number]
    > = [
      ["UnsupportedVersion", bytesOf(5, 1, [], [], { version: 2 }), /version 2, expected 1/, 1],
      ["UnsupportedVersion", bytesOf(5, 1, [], [], { version: 0 }), /version 0, expected 1/, 1],
      ["UnsupportedVersion", ascii("GET / HTTP/1.1\r\n\r\n"), /looks like HTTP\)$/, 1],
      ["UnsupportedVersion", Uint8Array.of(0x16, 3, 1, 0, 1, 2, 3, 4), /looks like TLS/, 1],
      ["NullRequestId", bytesOf(1, 0, [0, 1, 0, 0, 0, 0, 0, 0]), /request id 0/, 8],
      [
        "ContentLength",
        bytesOf(1, 3, [0, 1, 0, 0, 0, 0, 0]),
        /BEGIN_REQUEST content is 7 bytes, expected 8 \(request 3\)/,
        8
      ],
      ["ContentLength", bytesOf(1, 3, [0, 1, 0, 0, 0, 0, 0, 0, 0]), /BEGIN_REQUEST content is 9 bytes/, 8],
      ["ContentLength", bytesOf(1, 3, []), /BEGIN_REQUEST content is 0 bytes/, 8],
      ["ContentLength", bytesOf(3, 3, [0, 1, 0, 0, 0, 0, 0]), /END_REQUEST content is 7 bytes/, 8],
      ["ContentLength", bytesOf(11, 0, [1]), /UNKNOWN_TYPE content is 1 bytes/, 8]
    ]

    for (const [kind, bad, says, firstBad] of cases) {
      it(`${kind}: ${says.source}`, () => {
        for (const chunks of [[concat([good, bad, good])], oneByOne(concat([good, bad, good]))]) {
          const { error, records } = decodeAll(chunks)
          assert.strictEqual(kindOf(error), kind)
          assert.match(error!.message, says)
          assert.deepStrictEqual(joined(records), [goodRecord], "what was good before is delivered, nothing after")
        }
        // As soon as it is certain: at the byte that makes it so, not one earlier or later.
        const decoder = FastCgiDecoder.make()
        const records: Array<Record> = []
        const seen = oneByOne(bad).findIndex((chunk) => decoder.push(chunk, records) !== undefined)
        assert.strictEqual(seen, firstBad - 1)
      })
    }

    it("ContentTooLong: one byte more than maxDiscreteContent, known before any of it has come", () => {
      for (const type of [9, 10]) {
        const limit = { maxDiscreteContent: 16 }
        const exactly = bytesOf(type, 0, new Uint8Array(16))
        const more = bytesOf(type, 0, new Uint8Array(17))
        assert.isUndefined(decodeAll([exactly], limit).error)
        const decoder = FastCgiDecoder.make(limit)
        const records: Array<Record> = []
        assert.isUndefined(decoder.push(more.subarray(0, 7), records))
        const error = decoder.push(more.subarray(7, 8), records)
        assert.strictEqual(kindOf(error), "ContentTooLong")
        assert.match(error!.message, /17 bytes, at most 16/)
      }
      assert.isUndefined(decodeAll([bytesOf(9, 0, new Uint8Array(65535))]).error, "all fits by default")
    })

    it("TruncatedRecord: the bytes end anywhere inside a record, and only there", () => {
      const all = concat([bytesOf(5, 1, [1, 2, 3], [0, 0]), bytesOf(1, 2, [0, 1, 0, 0, 0, 0, 0, 0])])
      for (let length = 0; length <= all.length; length++) {
        for (const chunks of [[all.subarray(0, length)], oneByOne(all.subarray(0, length))]) {
          const { error } = decodeAll(chunks)
          const between = length === 0 || length === 13 || length === all.length
          assert.strictEqual(kindOf(error), between ? undefined : "TruncatedRecord", `after ${length} bytes`)
        }
      }
      assert.match(decodeAll([all.subarray(0, 5)]).error!.message, /after 5 of 8 bytes/)
      assert.match(decodeAll([all.subarray(0, 10)]).error!.message, /type 5 \(request 1\), 3 bytes before its end/)
    })

    it("is dead after an error, and after the end", () => {
      const decoder = FastCgiDecoder.make()
      const records: Array<Record> = []
      assert.isDefined(decoder.push(Uint8Array.of(9), records))
      assert.isUndefined(decoder.push(good, records))
      assert.isUndefined(decoder.end())
      assert.deepStrictEqual(records, [])

      const ended = FastCgiDecoder.make()
      assert.isUndefined(ended.end())
      assert.isUndefined(ended.push(good, records))
      assert.deepStrictEqual(records, [])
    })

    it("leaves ids and order to the connection: nothing here looks at them", () => {
      const all = concat([
        bytesOf(5, 0, [1]),
        bytesOf(6, 0, []),
        bytesOf(2, 0, []),
        bytesOf(9, 4, []),
        bytesOf(3, 0, [
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          0
        ])
      ])
      assert.isUndefined(decodeAll([all]).error)
      assert.strictEqual(decodeAll([all]).records.length, 5)
    })
  })
})
