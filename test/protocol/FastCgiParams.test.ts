import { assert, describe, it } from "@effect/vitest"
import { FastCgiParams } from "effect-fastcgi"
import { cpuTime } from "../support/cpuTime.ts"
import { ascii, concat, cut, oneByOne } from "./support/cuts.ts"

type Params = FastCgiParams.FastCgiParams

const bytes = (...values: ReadonlyArray<number | string>): Uint8Array =>
  concat(values.map((value) => typeof value === "string" ? ascii(value) : Uint8Array.of(value)))

const decode = (
  chunks: Iterable<Uint8Array>,
  limits?: FastCgiParams.FastCgiParamsLimits
): Params | FastCgiParams.FastCgiParamsError => {
  const decoder = FastCgiParams.makeDecoder(limits)
  for (const chunk of chunks) {
    const error = decoder.push(chunk)
    if (error !== undefined) return error
  }
  return decoder.end()
}

const decoded = (chunks: Iterable<Uint8Array>, limits?: FastCgiParams.FastCgiParamsLimits): Params => {
  const params = decode(chunks, limits)
  if ("_tag" in params) assert.fail(`${params.reason._tag}: ${params.message}`)
  return params
}

const kind = (result: Params | FastCgiParams.FastCgiParamsError | undefined): string =>
  result === undefined ? "nothing" : "_tag" in result ? result.reason._tag : "params"

describe("FastCgiParams", () => {
  describe("lengths (SPEC 3.4)", () => {
    it("take one byte up to 127 and four from 128 on", () => {
      const name127 = "N".repeat(127)
      const name128 = "N".repeat(128)
      const value127 = "v".repeat(127)
      const value128 = "v".repeat(128)
      const cases = [
        [name127, value127, bytes(127, 127)],
        [name127, value128, bytes(127, 0x80, 0, 0, 128)],
        [name128, value127, bytes(0x80, 0, 0, 128, 127)],
        [name128, value128, bytes(0x80, 0, 0, 128, 0x80, 0, 0, 128)]
      ] as const
      for (const [name, value, lengths] of cases) {
        const wire = concat([lengths, ascii(name + value)])
        assert.deepStrictEqual(FastCgiParams.encodePairs([[name, value]]), wire)
        assert.deepStrictEqual([...decoded([wire])], [[name, value]])
        assert.deepStrictEqual([...decoded(oneByOne(wire))], [[name, value]])
      }
    })

    it("of 70,000 bytes have all their bytes in the right order", () => {
      const wire = FastCgiParams.encodePairs([["A", "v".repeat(70_000)]])
      assert.deepStrictEqual([...wire.subarray(0, 5)], [1, 0x80, 1, 0x11, 0x70])
      assert.strictEqual(decoded([wire]).get("A")!.length, 70_000)
    })

    it("are accepted in four bytes where one would do", () => {
      const wire = bytes(0x80, 0, 0, 1, 0x80, 0, 0, 2, "Axy", 0x80, 0, 0, 1, 0, "B", 1, 0x80, 0, 0, 0, "C")
      for (const chunks of [[wire], oneByOne(wire)]) {
        const params = decoded(chunks)
        assert.deepStrictEqual([...params], [["A", "xy"], ["B", ""], ["C", ""]])
        assert.strictEqual(params.get("B"), "")
        assert.strictEqual(params.get("C"), "")
      }
    })

    it("of zero are a name, or a value, of nothing", () => {
      const params = decoded([bytes(0, 0, 0, 1, "x", 1, 0, "A")])
      assert.deepStrictEqual([...params], [["", ""], ["", "x"], ["A", ""]])
      assert.strictEqual(params.get(""), "x")
      assert.strictEqual(params.get("A"), "")
      assert.strictEqual(params.get("B"), undefined)
    })
  })

  describe("pieces (SPEC 3.3)", () => {
    const pairs: ReadonlyArray<readonly [string, string]> = [
      ["SERVER_PORT", "80"],
      ["N".repeat(200), "v".repeat(300)],
      ["EMPTY", ""],
      ["LONG", "x".repeat(128)]
    ]
    const wire = FastCgiParams.encodePairs(pairs)

    it("may end anywhere, inside a length too", () => {
      for (let first = 0; first <= wire.length; first++) {
        assert.deepStrictEqual([...decoded(cut(wire, [first]))], pairs, `cut at ${first}`)
        assert.deepStrictEqual([...decoded(cut(wire, [first, first + 1, first + 7]))], pairs, `cut around ${first}`)
      }
      assert.deepStrictEqual([...decoded(oneByOne(wire))], pairs)
    })

    it("may be overwritten when the next one has come, because only one piece is kept as it is", () => {
      const decoder = FastCgiParams.makeDecoder()
      const first = wire.slice(0, 5)
      const rest = wire.slice(5)
      decoder.push(first)
      decoder.push(rest)
      first.fill(0)
      rest.fill(0)
      assert.deepStrictEqual([...decoder.end() as Params], pairs)
    })

    it("do not keep a large read buffer in memory for a few params", () => {
      const read = new Uint8Array(64 * 1024)
      read.set(wire, 100)
      const params = decoded([read.subarray(100, 100 + wire.length)])
      assert.deepStrictEqual([...params], pairs)
      assert.isAtMost(params.bytes.buffer.byteLength, 4 * wire.length)
    })

    it("that end inside a pair are an error that says where", () => {
      const boundaries = new Set([0, 15, 15 + 8 + 500, 15 + 8 + 500 + 7, wire.length])
      for (let length = 0; length <= wire.length; length++) {
        for (const chunks of [[wire.subarray(0, length)], cut(wire.subarray(0, length), [length >> 1])]) {
          assert.strictEqual(kind(decode(chunks)), boundaries.has(length) ? "params" : "Truncated", `${length} bytes`)
        }
      }
      assert.match(
        (decode([wire.subarray(0, 16)]) as FastCgiParams.FastCgiParamsError).message,
        /pair 2, after 16 bytes/
      )
      assert.match(
        (decode([wire.subarray(0, 30)]) as FastCgiParams.FastCgiParamsError).message,
        /pair 2, after 30 bytes/
      )
    })
  })

  describe("limits", () => {
    it("maxParamsSize counts all bytes, lengths included: exactly at, and one past", () => {
      const wire = FastCgiParams.encodePairs([["A", "1"], ["B", "x".repeat(200)]])
      for (const chunks of [[wire], oneByOne(wire)]) {
        assert.strictEqual(kind(decode(chunks, { maxParamsSize: wire.length })), "params")
        assert.strictEqual(kind(decode(chunks, { maxParamsSize: wire.length - 1 })), "TooLarge")
      }
    })

    it("a declared length is refused as soon as it is declared, before anything is kept for it", () => {
      const limits = { maxParamsSize: 1000 }
      const fits = FastCgiParams.makeDecoder(limits)
      // 4 + 1 bytes of lengths, 5 of the name: 990 are left for the value.
      assert.isUndefined(fits.push(bytes(5, 0x80, 0, 3, 0xde)))
      const exceeds = FastCgiParams.makeDecoder(limits)
      assert.isUndefined(exceeds.push(bytes(5, 0x80, 0, 3)))
      const error = exceeds.push(bytes(0xdf))
      assert.strictEqual(kind(error), "TooLarge")
      assert.match(error!.message, /1001 bytes, at most 1000.*maxParamsSize/)
    })

    it("lengths of 0x7fffffff are numbers like any other: no overflow, no allocation", () => {
      const huge = [0xff, 0xff, 0xff, 0xff]
      for (const lengths of [[...huge, ...huge], [0, ...huge], [...huge, 0]]) {
        assert.strictEqual(kind(FastCgiParams.makeDecoder().push(bytes(...lengths))), "TooLarge")
        // Without a limit in the way the sum is still right, so that the end finds the pair cut short.
        const before = process.memoryUsage().arrayBuffers
        assert.strictEqual(kind(decode([bytes(...lengths)], { maxParamsSize: Infinity })), "Truncated")
        assert.isBelow(process.memoryUsage().arrayBuffers - before, 1024 * 1024)
      }
    })

    it("a small pair behind one that is too long does not hide it", () => {
      assert.strictEqual(kind(decode([bytes(1, 0, "A", 0x80, 0x10, 0, 1, 0, "B", 1, 0, "C")])), "TooLarge")
    })

    it("maxParamsCount counts pairs: exactly at, and one past", () => {
      const wire = FastCgiParams.encodePairs(Array.from({ length: 10 }, (_, index) => [`N${index}`, ""] as const))
      for (const chunks of [[wire], oneByOne(wire)]) {
        assert.strictEqual(kind(decode(chunks, { maxParamsCount: 10 })), "params")
        assert.strictEqual(kind(decode(chunks, { maxParamsCount: 9 })), "TooMany")
      }
    })

    it("are 1 MiB and 10,000 pairs by default", () => {
      assert.strictEqual(FastCgiParams.defaultMaxParamsSize, 1024 * 1024)
      assert.strictEqual(FastCgiParams.defaultMaxParamsCount, 10_000)
      const value = "x".repeat(1024 * 1024 - 6)
      assert.strictEqual(kind(decode([FastCgiParams.encodePairs([["A", value]])])), "params")
      assert.strictEqual(kind(decode([FastCgiParams.encodePairs([["A", value + "x"]])])), "TooLarge")
      const empties = (count: number) => new Uint8Array(2 * count)
      assert.strictEqual(kind(decode([empties(10_000)])), "params")
      assert.strictEqual(kind(decode([empties(10_001)])), "TooMany")
    })

    it("bound the memory that one byte at a time can take", () => {
      const decoder = FastCgiParams.makeDecoder({ maxParamsSize: 64 * 1024 })
      const piece = new Uint8Array(1)
      decoder.push(bytes(0, 0x80, 0, 0xff, 0xfb))
      let accepted = 5
      while (decoder.push(piece) === undefined) accepted++
      assert.strictEqual(accepted, 64 * 1024)
    })
  })

  describe("text", () => {
    it("is UTF-8, or Latin-1 where it is not valid UTF-8", () => {
      const params = decoded([bytes(1, 2, "A", 0xc3, 0xa9, 1, 1, "B", 0xe9, 1, 3, "C", 0xe2, 0x82, "x")])
      assert.strictEqual(params.get("A"), "é")
      assert.strictEqual(params.get("B"), "é")
      assert.strictEqual(params.get("C"), "â\u0082x")
      assert.deepStrictEqual([...params], [["A", "é"], ["B", "é"], ["C", "â\u0082x"]])
      assert.strictEqual(params.getLatin1("A"), "\u00c3\u00a9")
      assert.deepStrictEqual(params.getBytes("A"), Uint8Array.of(0xc3, 0xa9))
    })

    it("keeps a byte order mark, NUL, CR and LF: values are binary safe", () => {
      const all = Uint8Array.from({ length: 256 }, (_, byte) => byte)
      const params = FastCgiParams.fromEntries([["BYTES", all], ["BOM", Uint8Array.of(0xef, 0xbb, 0xbf, 65)]])
      assert.deepStrictEqual(params.getBytes("BYTES"), all)
      assert.strictEqual(params.getLatin1("BYTES"), String.fromCharCode(...all))
      assert.strictEqual(params.get("BOM"), "\ufeffA")
      assert.deepStrictEqual(decoded(oneByOne(params.bytes)).getBytes("BYTES"), all)
    })

    it("of names finds what the listing names, in UTF-8 and in Latin-1", () => {
      const params = decoded([bytes(3, 1, 0xc3, 0xa9, "A1", 2, 1, 0xe9, "B2")])
      assert.deepStrictEqual([...params], [["éA", "1"], ["éB", "2"]])
      for (const [name, value] of params) {
        assert.strictEqual(params.get(name), value)
        assert.isTrue(params.has(name))
        assert.deepStrictEqual(params.getAll(name), [value])
      }
      assert.isFalse(params.has("é"))
    })
  })

  describe("lookups", () => {
    it("take the last of a name that came twice; getAll has all, in order", () => {
      const params = FastCgiParams.fromEntries([["A", "1"], ["HTTP_COOKIE", "a=1"], ["A", ""], ["HTTP_COOKIE", "b=2"]])
      assert.strictEqual(params.get("HTTP_COOKIE"), "b=2")
      assert.strictEqual(params.getLatin1("HTTP_COOKIE"), "b=2")
      assert.deepStrictEqual(params.getBytes("HTTP_COOKIE"), ascii("b=2"))
      assert.strictEqual(params.get("A"), "")
      assert.deepStrictEqual(params.getAll("HTTP_COOKIE"), ["a=1", "b=2"])
      assert.deepStrictEqual(params.getAll("B"), [])
      assert.deepStrictEqual({ ...params.toRecord() }, { A: "", HTTP_COOKIE: "b=2" })
    })

    it("compare whole names: neither a part, nor one that runs into its value", () => {
      const params = FastCgiParams.fromEntries([["REQUEST_METHOD_X", "1"], ["REQ", "UEST_METHOD"], ["X", "A"]])
      assert.isFalse(params.has("REQUEST_METHOD"))
      assert.isFalse(params.has("REQUEST"))
      assert.isFalse(params.has("XA"))
      assert.isFalse(params.has("request_method_x"))
      assert.strictEqual(params.get("REQ"), "UEST_METHOD")
    })

    it("of __proto__ and constructor are lookups like any other", () => {
      const none = FastCgiParams.fromEntries([["A", "1"]])
      assert.isUndefined(none.get("__proto__"))
      assert.isUndefined(none.get("constructor"))
      const params = FastCgiParams.fromEntries([["__proto__", "x"], ["constructor", "y"], ["toString", "z"]])
      const record = params.toRecord()
      assert.isNull(Object.getPrototypeOf(record))
      assert.deepStrictEqual(Object.entries(record), [["__proto__", "x"], ["constructor", "y"], ["toString", "z"]])
      assert.strictEqual(params.get("__proto__"), "x")
      assert.isUndefined(({} as { readonly x?: unknown }).x)
    })

    it("walk the pairs in order, as text or as places in one text", () => {
      const pairs = [["A", "1"], ["BB", ""], ["", "é"], ["C".repeat(130), "d".repeat(130)]] as const
      const params = FastCgiParams.fromEntries(pairs)
      const seen: Array<readonly [string, string]> = []
      params.forEachLatin1((name, value) => seen.push([name, value]))
      const latin1 = pairs.map(([name, value]) => [name, value === "é" ? "\u00c3\u00a9" : value] as const)
      assert.deepStrictEqual(seen, latin1)
      const scanned: Array<readonly [string, string]> = []
      params.scanLatin1((text, start, valueStart, end) =>
        scanned.push([text.substring(start, valueStart), text.substring(valueStart, end)])
      )
      assert.deepStrictEqual(scanned, latin1)
    })

    it("of no params find nothing", () => {
      for (
        const params of [FastCgiParams.empty, decoded([]), decoded([new Uint8Array(0)]), FastCgiParams.fromEntries([])]
      ) {
        assert.deepStrictEqual([...params], [])
        assert.isUndefined(params.get("A"))
        assert.isFalse(params.has(""))
        assert.strictEqual(params.bytes.length, 0)
      }
    })
  })

  describe("bytes that are no UTF-8", () => {
    // 21,845 pairs of one such byte and nothing, and as many of an ASCII letter, as a record of 64 KiB holds them.
    const record = (byte: number) =>
      decoded([concat(Array.from({ length: 21_845 }, () => bytes(1, 0, byte)))], { maxParamsCount: 30_000 })

    it("cost about what ASCII costs, and no exception each", () => {
      const took = (params: Params): number => {
        const start = cpuTime()
        let pairs = 0
        for (const [name] of params) pairs += name.length
        assert.strictEqual(pairs, 21_845)
        assert.lengthOf(Object.keys(params.toRecord()), 1)
        assert.lengthOf(params.getAll("B"), 0)
        return cpuTime() - start
      }
      const fastest = (byte: number) => Math.min(...Array.from({ length: 5 }, () => took(record(byte))))
      const ascii = fastest(0x41)
      assert.isBelow(fastest(0xff), Math.max(10 * ascii, 50), "milliseconds")
    })

    it("are Latin-1 beside UTF-8, name by name and value by value", () => {
      const params = decoded([bytes(2, 1, 0xc3, 0xa9, 0xe9, 1, 2, 0xe9, 0xc3, 0xa9)])
      assert.deepStrictEqual([...params], [["é", "é"], ["é", "é"]])
    })
  })

  describe("fromBytes", () => {
    it("decodes pairs that are there in one piece", () => {
      const params = FastCgiParams.fromBytes(bytes(14, 1, "FCGI_MAX_CONNS", "1", 0, 0))
      assert.deepStrictEqual([...params as Params], [["FCGI_MAX_CONNS", "1"], ["", ""]])
    })

    it("calls pairs cut short truncated, however long they claim to be", () => {
      assert.strictEqual(kind(FastCgiParams.fromBytes(bytes(2, 1, "A"))), "Truncated")
      assert.strictEqual(kind(FastCgiParams.fromBytes(bytes(2))), "Truncated")
      assert.strictEqual(
        kind(FastCgiParams.fromBytes(bytes(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))),
        "Truncated"
      )
    })
  })
})
