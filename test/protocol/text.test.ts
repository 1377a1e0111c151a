import { afterEach, assert, describe, it, vi } from "@effect/vitest"
import * as Text from "../../src/protocol/internal/text.ts"

const all = Uint8Array.from({ length: 256 }, (_, byte) => byte)
const characters = Array.from(all, (byte) => String.fromCharCode(byte)).join("")

describe("text", () => {
  afterEach(() => {
    vi.unstubAllGlobals()
    vi.resetModules()
  })

  const check = (text: typeof Text): void => {
    assert.strictEqual(text.latin1(all, 0, 256), characters)
    assert.strictEqual(text.latin1(all, 10, 12), "\n\v")
    assert.strictEqual(text.latin1(all, 5, 5), "")
    // Longer than one call takes arguments.
    const long = new Uint8Array(300_000).fill(0xe9)
    assert.strictEqual(text.latin1(long, 1, 300_000), "é".repeat(299_999))
    assert.deepStrictEqual(text.latin1Bytes(characters), all)
    const written = new Uint8Array(5)
    text.writeLatin1(written, 1, "a\u{e9}\u{141}")
    text.writeLatin1(written, 5, "")
    assert.deepStrictEqual(written, Uint8Array.of(0, 0x61, 0xe9, 0x41, 0))
    assert.strictEqual(text.utf8ToLatin1("é€"), "Ã©â\u0082¬")
    assert.strictEqual(text.copy(characters), characters)
    assert.strictEqual(text.decodeUtf8(text.utf8("é€😀")), "é€😀")
    assert.isUndefined(text.decodeUtf8(Uint8Array.of(0xc3)))
    assert.isUndefined(text.decodeUtf8(Uint8Array.of(0xc0, 0x80)))
  }

  it("takes for UTF-8 what a fatal TextDecoder takes", () => {
    const fatal = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
    const expected = (bytes: Uint8Array): string | undefined => {
      try {
        return fatal.decode(bytes)
      } catch {
        return undefined
      }
    }
    const edges = [0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee]
    edges.push(0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff)
    let valid = 0
    const look = (...bytes: ReadonlyArray<number>) => {
      const found = Text.decodeUtf8(Uint8Array.from(bytes))
      assert.strictEqual(found, expected(Uint8Array.from(bytes)), bytes.map((byte) => byte.toString(16)).join(" "))
      if (found !== undefined) valid++
    }
    look()
    for (const a of edges) {
      look(a)
      for (const b of edges) {
        look(a, b)
        for (const c of edges) {
          look(a, b, c)
          if (a >= 0xe0) { for (const d of edges) look(a, b, c, d) }
        }
      }
    }
    assert.isAbove(valid, 1000)
    assert.strictEqual(Text.decodeUtf8(Uint8Array.of(0xef, 0xbb, 0xbf, 0x61)), "\ufeffa")
  })

  it("is the same with Buffer and without it", async () => {
    check(Text)
    vi.resetModules()
    vi.stubGlobal("Buffer", undefined)
    const without: typeof Text = await import("../../src/protocol/internal/text.ts")
    assert.notStrictEqual(without.latin1, Text.latin1)
    check(without)
  })
})
