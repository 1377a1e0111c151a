/**
 * The lines of the access log as bytes: every byte at every place, and params found among names like theirs.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiParams } from "effect-fastcgi"
import { LineWriter, literalOf } from "../../src/server/internal/lineWriter.ts"
import { ParamsPicker } from "../../src/server/internal/pickParams.ts"

/** What `write` writes, into memory that has to grow for it. */
const written = (write: (line: LineWriter) => void): string => {
  const memory = { bytes: new Uint8Array(1), length: 0 }
  new LineWriter(memory).line(["", ""].map(literalOf), [write], undefined)
  return Buffer.from(memory.bytes.subarray(0, memory.length)).toString("latin1").slice(0, -1)
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length)

const escapes: Readonly<Record<number, string>> = {
  0x09: "\\t",
  0x0a: "\\n",
  0x0d: "\\r",
  0x22: "\\\"",
  0x5c: "\\\\"
}

const escaped = (byte: number): string =>
  escapes[byte] ??
    (byte < 0x20 || byte > 0x7e ? `\\x${byte.toString(16).padStart(2, "0")}` : String.fromCharCode(byte))

describe("a line as bytes", () => {
  it("escapes every byte at every place of a value", () => {
    for (let size = 1; size <= 9; size++) {
      for (let at = 0; at < size; at++) {
        for (let byte = 0; byte < 256; byte++) {
          const value = new Uint8Array(size).fill(0x61)
          value[at] = byte
          const expected = "a".repeat(at) + escaped(byte) + "a".repeat(size - at - 1)
          const found = written((line) => line.escaped(viewOf(value), 0, size))
          if (found !== expected) assert.strictEqual(found, expected, `${byte} at ${at} of ${size}`)
          const isPlain = escaped(byte).length === 1
          let wasPlain: boolean | undefined
          const json = written((line) => {
            wasPlain = line.plainJson(viewOf(value), 0, size)
          })
          if (wasPlain !== isPlain || json !== (isPlain ? `"${expected}"` : "")) {
            assert.fail(`JSON: ${byte} at ${at} of ${size}: ${wasPlain}, ${json}`)
          }
        }
      }
    }
  })

  it("escapes bytes beside one another", () => {
    const all = Uint8Array.from({ length: 1024 }, (_, at) => at * 7 + (at >> 8))
    assert.strictEqual(written((line) => line.escaped(viewOf(all), 0, 1024)), [...all].map(escaped).join(""))
  })

  it("has texts of any length as they are", () => {
    for (const text of ["", "a", "ab", "abc", "abcd", "abcde", "%\"\\é"]) {
      const memory = { bytes: new Uint8Array(1), length: 0 }
      new LineWriter(memory).line([literalOf(text)], [], undefined)
      assert.strictEqual(Buffer.from(memory.bytes.subarray(0, memory.length)).toString(), `${text}\n`)
    }
  })

  it("has numbers as JavaScript writes them", () => {
    for (const value of [0, 1, 9, 10, 99, 12_345, 999_999_999, 1_000_000_000, 2 ** 53 - 1]) {
      assert.strictEqual(written((line) => line.integer(value)), String(value))
    }
    for (const value of [0, 1, 10, 120, 999_999, 1_000_000, 1_234_567, 1_500_000, 86_400_000_001]) {
      assert.strictEqual(written((line) => line.millionths(value)), String(value / 1e6))
    }
    for (const value of [0, 7, 70, 123, 999]) {
      assert.strictEqual(written((line) => line.digits(value, 3)), String(value).padStart(3, "0"))
    }
  })
})

describe("the places of params", () => {
  const names = ["A", "AB", "ABC", "ABCD", "REMOTE_ADDR", "REMOTE_PORT", "HTTP_X_REQUEST_ID", "NONE", "L".repeat(200)]
  const found = (entries: ReadonlyArray<readonly [string, string]>) => {
    const picker = new ParamsPicker(names)
    // What an earlier request has left is not seen.
    picker.pick(FastCgiParams.fromEntries(names.map((name) => [name, "before"])))
    picker.pick(FastCgiParams.fromEntries(entries))
    return Object.fromEntries(names.flatMap((name, at) => picker.has(at) ? [[name, picker.text(at)]] : []))
  }

  it("are those of the names, whatever else has their beginning, their end or their length", () => {
    const own = names.slice(0, -2).map((name, at) => [name, `value ${at}`] as const)
    const others = names.flatMap((
      name
    ) => [`${name}X`, `X${name}`, name.toLowerCase(), name.slice(1), "X".repeat(name.length)])
      .filter((name) => !names.includes(name))
      .map((name) => [name, "another"] as const)
    assert.deepStrictEqual(found([...others, ...own]), Object.fromEntries(own))
    assert.deepStrictEqual(found([...own, ...others]), Object.fromEntries(own))
    // The same first and last four bytes, and the same length.
    assert.deepStrictEqual(found([["REMOXX_ADDR", "another"], ["HTTP_X_REQUEXT_ID", "another"]]), {})
  })

  it("are those of the last of several, with lengths of one byte and of four", () => {
    assert.deepStrictEqual(found([["A", "1"], ["A", "x".repeat(1000)]]), { A: "x".repeat(1000) })
    assert.deepStrictEqual(found([["A", "x".repeat(70_000)], ["A", ""]]), { A: "" })
    assert.deepStrictEqual(found([["L".repeat(200), "long"], ["AB", "é"]]), { "AB": "Ã©", ["L".repeat(200)]: "long" })
    assert.deepStrictEqual(found([]), {})
  })

  it("tell whether a value is a text, or begins with it", () => {
    const picker = new ParamsPicker(["A", "B", "NONE"])
    picker.pick(FastCgiParams.fromEntries([["A", "HTTP/1.1"], ["B", ""]]))
    assert.deepStrictEqual(
      [picker.is(0, "HTTP/1.1"), picker.is(0, "HTTP/1"), picker.is(1, ""), picker.is(1, "x"), picker.is(2, "x")],
      [true, false, true, false, false]
    )
    assert.deepStrictEqual([picker.startsWith(0, "HTTP/"), picker.startsWith(0, "HTTQ"), picker.startsWith(1, "H")], [
      true,
      false,
      false
    ])
  })
})
