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
    assert.strictEqual(text.utf8ToLatin1("é€"), "Ã©â\u0082¬")
    assert.strictEqual(text.copy(characters), characters)
    assert.strictEqual(text.decodeUtf8(text.utf8("é€😀")), "é€😀")
    assert.isUndefined(text.decodeUtf8(Uint8Array.of(0xc3)))
    assert.isUndefined(text.decodeUtf8(Uint8Array.of(0xc0, 0x80)))
  }

  it("is the same with Buffer and without it", async () => {
    check(Text)
    vi.resetModules()
    vi.stubGlobal("Buffer", undefined)
    const without: typeof Text = await import("../../src/protocol/internal/text.ts")
    assert.notStrictEqual(without.latin1, Text.latin1)
    check(without)
  })
})
