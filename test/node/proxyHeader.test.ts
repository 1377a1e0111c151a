/**
 * Headers of the PROXY protocol, and what only looks like one.
 */
import { assert, describe, it } from "@effect/vitest"
import { maxProxyHeaderSize, parseProxyHeader } from "../../src/node/internal/proxyHeader.ts"

const text = (line: string): Uint8Array => Buffer.from(line, "latin1")

const signature = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]

const binary = (command: number, family: number, body: ReadonlyArray<number>, length = body.length): Uint8Array =>
  Uint8Array.of(...signature, command, family, length >> 8, length & 0xff, ...body)

const inet = [192, 0, 2, 1, 192, 0, 2, 2, 0xc7, 0x38, 0x23, 0x28]
const inet6 = [0x20, 0x01, 0x0d, 0xb8, ...Array(11).fill(0), 1, ...Array(16).fill(0), 0xc7, 0x38, 0x23, 0x28]

const valid: ReadonlyArray<readonly [string, Uint8Array, string | undefined]> = [
  ["TCP4", text("PROXY TCP4 192.0.2.1 192.0.2.2 51000 9000\r\n"), "192.0.2.1 51000"],
  ["TCP6", text("PROXY TCP6 2001:db8::1 ::1 51000 9000\r\n"), "2001:db8::1 51000"],
  [
    "the longest line",
    text(`PROXY TCP6 ${Array(8).fill("ffff").join(":")} ${Array(8).fill("ffff").join(":")} 65535 65535\r\n`),
    `${Array(8).fill("ffff").join(":")} 65535`
  ],
  ["UNKNOWN", text("PROXY UNKNOWN\r\n"), undefined],
  ["UNKNOWN with more", text("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), undefined],
  ["version 2 over IPv4", binary(0x21, 0x11, inet), "192.0.2.1 51000"],
  ["version 2 over IPv6", binary(0x21, 0x21, inet6), "2001:db8:0:0:0:0:0:1 51000"],
  ["version 2 with more behind the addresses", binary(0x21, 0x11, [...inet, 4, 0, 1, 0]), "192.0.2.1 51000"],
  ["version 2 over UNIX", binary(0x21, 0x31, Array(216).fill(0)), undefined],
  ["LOCAL", binary(0x20, 0x00, []), undefined],
  ["LOCAL with addresses", binary(0x20, 0x11, inet), undefined]
]

const invalid: ReadonlyArray<readonly [string, Uint8Array]> = [
  ["a record of FastCGI", Uint8Array.of(1, 1, 0, 1, 0, 8, 0, 0)],
  ["HTTP", text("POST / HTTP/1.1\r\n")],
  ["a word that begins alike", text("PROXYING ")],
  ["a line without an end", text("PROXY TCP4 " + "1".repeat(200))],
  ["LF alone", text("PROXY TCP4 192.0.2.1 192.0.2.2 51000 9000\n")],
  ["a host name", text("PROXY TCP4 localhost 192.0.2.2 51000 9000\r\n")],
  ["the other family", text("PROXY TCP4 ::1 ::1 51000 9000\r\n")],
  ["no port", text("PROXY TCP4 192.0.2.1 192.0.2.2 51000\r\n")],
  ["a port with a zero", text("PROXY TCP4 192.0.2.1 192.0.2.2 051000 9000\r\n")],
  ["a port that is none", text("PROXY TCP4 192.0.2.1 192.0.2.2 65536 9000\r\n")],
  ["more than there is", text("PROXY TCP4 192.0.2.1 192.0.2.2 51000 9000 1\r\n")],
  ["two spaces", text("PROXY TCP4  192.0.2.1 192.0.2.2 51000 9000\r\n")],
  ["another protocol", text("PROXY UDP4 192.0.2.1 192.0.2.2 51000 9000\r\n")],
  ["another signature", Uint8Array.of(...signature.slice(0, 11), 0x0b, 0x21, 0x11, 0, 12, ...inet)],
  ["version 3", binary(0x31, 0x11, inet)],
  ["another command", binary(0x22, 0x11, inet)],
  ["another family", binary(0x21, 0x41, inet)],
  ["addresses that do not fit", binary(0x21, 0x21, inet)],
  ["a length without end", binary(0x21, 0x11, inet, 65535)]
]

describe("a PROXY header", () => {
  for (const [name, bytes, source] of valid) {
    it(`is read, however it is cut: ${name}`, () => {
      const more = Buffer.concat([bytes, Uint8Array.of(1, 1, 0, 1)])
      for (let size = 0; size < bytes.length; size++) {
        assert.isUndefined(parseProxyHeader(more.subarray(0, size)), `${size}`)
      }
      for (const whole of [bytes, more]) {
        const header = parseProxyHeader(whole)
        assert.strictEqual(header?._tag, "ProxyHeader")
        if (header?._tag !== "ProxyHeader") return
        assert.strictEqual(header.size, bytes.length)
        assert.strictEqual(header.source && `${header.source.remoteAddress} ${header.source.remotePort}`, source)
      }
    })
  }

  for (const [name, bytes] of invalid) {
    it(`is none: ${name}`, () => {
      // It is refused where it cannot become one any more, and never waited for without end.
      assert.strictEqual(parseProxyHeader(bytes)?._tag, "NoProxyHeader")
      const endless = Buffer.concat([bytes, Buffer.alloc(maxProxyHeaderSize, bytes.at(-1))])
      assert.strictEqual(parseProxyHeader(endless)?._tag, "NoProxyHeader")
    })
  }

  it("is none in any other bytes, and never throws", () => {
    let seed = 1
    const next = () => (seed = (seed * 1664525 + 1013904223) >>> 0) >>> 24
    for (let round = 0; round < 5000; round++) {
      const bytes = Uint8Array.from({ length: round % 64 }, next)
      if (round % 2 === 0) bytes.set(signature.slice(0, bytes.length))
      const parsed = parseProxyHeader(bytes)
      if (parsed === undefined) assert.isBelow(bytes.length, 16 + maxProxyHeaderSize)
    }
  })
})
