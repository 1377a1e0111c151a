import { assert, describe, it } from "@effect/vitest"
import { FastCgiEncoder, FastCgiParams, FastCgiRecord } from "effect-fastcgi"
import { ascii, concat } from "./support/cuts.ts"
import { golden, hex, zeros } from "./support/golden.ts"

const encode = FastCgiEncoder.encode

describe("FastCgiEncoder", () => {
  describe("the examples of the specification, Appendix B", () => {
    const params = FastCgiParams.encodePairs([["SERVER_PORT", "80"], ["SERVER_ADDR", "199.170.183.42"]])

    it("lengths before names before values: \\013\\002SERVER_PORT80\\013\\016SERVER_ADDR199.170.183.42", () => {
      assert.strictEqual(hex(params), golden("0b02", "'SERVER_PORT80'", "0b0e", "'SERVER_ADDR199.170.183.42'"))
    })

    it("B.1: a simple request with no data on stdin", () => {
      const bytes = concat([
        encode(FastCgiRecord.beginRequest(1, FastCgiRecord.Role.Responder)),
        encode(FastCgiRecord.params(1, params)),
        encode(FastCgiRecord.params(1)),
        encode(FastCgiRecord.stdin(1))
      ])
      assert.strictEqual(
        hex(bytes),
        golden(
          "01 01 0001 0008 00 00",
          "0001 00 0000000000",
          // 42 bytes of pairs, and 6 to the next boundary.
          "01 04 0001 002a 06 00",
          "0b02",
          "'SERVER_PORT80'",
          "0b0e",
          "'SERVER_ADDR199.170.183.42'",
          zeros(6),
          "01 04 0001 0000 00 00",
          "01 05 0001 0000 00 00"
        )
      )
    })

    it("B.1: and its response", () => {
      const bytes = concat([
        encode(FastCgiRecord.stdout(1, ascii("Content-type: text/html\r\n\r\n<html>\n<head>"))),
        encode(FastCgiRecord.stdout(1)),
        encode(FastCgiRecord.endRequest(1, 0, FastCgiRecord.ProtocolStatus.RequestComplete))
      ])
      assert.strictEqual(
        hex(bytes),
        golden(
          "01 06 0001 0028 00 00",
          "'Content-type: text/html'",
          "0d0a0d0a",
          "'<html>'",
          "0a",
          "'<head>'",
          "01 06 0001 0000 00 00",
          "01 03 0001 0008 00 00",
          "00000000 00 000000"
        )
      )
    })

    it("B.2: data on stdin, and params in two records that cut a name", () => {
      const bytes = concat([
        encode(FastCgiRecord.params(1, params.subarray(0, 18))),
        encode(FastCgiRecord.params(1, params.subarray(18))),
        encode(FastCgiRecord.stdin(1, ascii("quantity=100&item=3047936")))
      ])
      assert.strictEqual(
        hex(bytes),
        golden(
          "01 04 0001 0012 06 00",
          "0b02",
          "'SERVER_PORT80'",
          "0b0e",
          "'S'",
          zeros(6),
          "01 04 0001 0018 00 00",
          "'ERVER_ADDR199.170.183.42'",
          "01 05 0001 0019 07 00",
          "'quantity=100&item=3047936'",
          zeros(7)
        )
      )
    })

    it("B.3: an error on stderr and exit status 938", () => {
      const bytes = concat([
        encode(FastCgiRecord.stderr(1, ascii("config error: missing SI_UID\n"))),
        encode(FastCgiRecord.stderr(1)),
        encode(FastCgiRecord.endRequest(1, 938))
      ])
      assert.strictEqual(
        hex(bytes),
        golden(
          "01 07 0001 001d 03 00",
          "'config error: missing SI_UID'",
          "0a",
          zeros(3),
          "01 07 0001 0000 00 00",
          "01 03 0001 0008 00 00",
          "000003aa 00 000000"
        )
      )
    })

    it("B.4: two requests on one connection that is kept", () => {
      const bytes = concat([
        encode(FastCgiRecord.beginRequest(1, FastCgiRecord.Role.Responder, { keepConnection: true })),
        encode(FastCgiRecord.beginRequest(2, FastCgiRecord.Role.Responder, { keepConnection: true })),
        encode(FastCgiRecord.endRequest(2)),
        encode(FastCgiRecord.endRequest(1))
      ])
      assert.strictEqual(
        hex(bytes),
        golden(
          "01 01 0001 0008 00 00",
          "0001 01 0000000000",
          "01 01 0002 0008 00 00",
          "0001 01 0000000000",
          "01 03 0002 0008 00 00",
          "00000000 00 000000",
          "01 03 0001 0008 00 00",
          "00000000 00 000000"
        )
      )
    })
  })

  describe("the other records (SPEC 4, 5)", () => {
    it("write every field where the specification has it", () => {
      assert.strictEqual(
        hex(encode({ _tag: "BeginRequest", requestId: 0xfffe, role: 0x0102, flags: 0xa5 })),
        golden("01 01 fffe 0008 00 00", "0102 a5 0000000000")
      )
      assert.strictEqual(hex(encode(FastCgiRecord.abortRequest(258))), golden("01 02 0102 0000 00 00"))
      assert.strictEqual(
        hex(encode(FastCgiRecord.endRequest(1, 0xfffffffe, 3))),
        golden("01 03 0001 0008 00 00", "fffffffe 03 000000")
      )
      assert.strictEqual(
        hex(encode(FastCgiRecord.endRequest(1, -1))),
        golden("01 03 0001 0008 00 00", "ffffffff 00 000000"),
        "an exit status below zero is the 32-bit number of the same bits"
      )
      assert.strictEqual(
        hex(
          encode(FastCgiRecord.getValues(FastCgiParams.encodePairs([["FCGI_MAX_REQS", ""], ["FCGI_MPXS_CONNS", ""]])))
        ),
        golden("01 09 0000 0020 00 00", "0d00", "'FCGI_MAX_REQS'", "0f00", "'FCGI_MPXS_CONNS'")
      )
      assert.strictEqual(
        hex(encode(FastCgiRecord.getValuesResult(FastCgiParams.encodePairs([["FCGI_MPXS_CONNS", "1"]])))),
        golden("01 0a 0000 0012 06 00", "0f01", "'FCGI_MPXS_CONNS1'", zeros(6))
      )
      assert.strictEqual(
        hex(encode(FastCgiRecord.unknownType(200))),
        golden("01 0b 0000 0008 00 00", "c8 00000000000000")
      )
      assert.strictEqual(
        hex(encode(FastCgiRecord.data(1, ascii("abcdefgh")))),
        golden("01 08 0001 0008 00 00", "'abcdefgh'")
      )
      assert.strictEqual(hex(encode(FastCgiRecord.unrecognized(77, 3))), golden("01 4d 0003 0000 00 00"))
    })
  })

  describe("padding (SPEC 3.3)", () => {
    const streams = [
      FastCgiRecord.params,
      FastCgiRecord.stdin,
      FastCgiRecord.data,
      FastCgiRecord.stdout,
      FastCgiRecord.stderr
    ]

    it("brings every record of a stream to a multiple of 8 bytes, with zeros", () => {
      for (const stream of streams) {
        for (let length = 0; length <= 40; length++) {
          const bytes = encode(stream(1, new Uint8Array(length).fill(255)))
          assert.strictEqual(bytes.length % 8, 0)
          assert.strictEqual(bytes[6], bytes.length - 8 - length)
          assert.isBelow(bytes[6], 8)
          assert.isTrue(bytes.subarray(8 + length).every((byte) => byte === 0))
          assert.strictEqual(bytes[7], 0)
        }
      }
    })

    it("is left out with alignment 1", () => {
      for (let length = 0; length <= 40; length++) {
        const bytes = encode(FastCgiRecord.stdout(1, new Uint8Array(length)), { alignment: 1 })
        assert.strictEqual(bytes.length, 8 + length)
        assert.strictEqual(bytes[6], 0)
      }
    })

    it("never follows BEGIN_REQUEST or an empty record: libfcgi and php-fpm lose data on it", () => {
      assert.strictEqual(encode(FastCgiRecord.beginRequest(1, 1)).length, 16)
      for (const stream of streams) assert.strictEqual(encode(stream(1)).length, 8)
      assert.strictEqual(encode(FastCgiRecord.getValues(new Uint8Array(0))).length, 8)
    })

    it("paddingTo8 is what is missing to the next multiple", () => {
      assert.deepStrictEqual([0, 1, 7, 8, 9, 65535].map(FastCgiEncoder.paddingTo8), [0, 7, 1, 0, 7, 1])
    })
  })

  describe("long contents", () => {
    // What the headers say, walked without the decoder.
    const headers = (
      bytes: Uint8Array
    ): Array<readonly [type: number, id: number, content: number, padding: number]> => {
      const found: Array<readonly [number, number, number, number]> = []
      for (let at = 0; at < bytes.length;) {
        const length = bytes[at + 4] << 8 | bytes[at + 5]
        found.push([bytes[at + 1], bytes[at + 2] << 8 | bytes[at + 3], length, bytes[at + 6]])
        at += 8 + length + bytes[at + 6]
      }
      return found
    }

    it("are split at 65535 bytes, and nothing empty follows, which would end the stream", () => {
      const expected: ReadonlyArray<readonly [number, ReadonlyArray<readonly [number, number]>]> = [
        [65534, [[65534, 2]]],
        [65535, [[65535, 1]]],
        [65536, [[65535, 1], [1, 7]]],
        [131070, [[65535, 1], [65535, 1]]],
        [131071, [[65535, 1], [65535, 1], [1, 7]]],
        [200000, [[65535, 1], [65535, 1], [65535, 1], [3395, 5]]]
      ]
      for (const [length, records] of expected) {
        const content = Uint8Array.from({ length }, (_, index) => index * 7)
        const bytes = encode(FastCgiRecord.stdout(3, content))
        assert.deepStrictEqual(headers(bytes), records.map(([size, padding]) => [6, 3, size, padding] as const))
        const back: Array<Uint8Array> = []
        let at = 0
        for (const [size, padding] of records) {
          back.push(bytes.subarray(at + 8, at + 8 + size))
          at += 8 + size + padding
        }
        assert.strictEqual(Buffer.compare(concat(back), content), 0)
        assert.deepStrictEqual(
          headers(encode(FastCgiRecord.stdout(3, content), { alignment: 1 })).map((
            [, , size, padding]
          ) => [size, padding]),
          records.map(([size]) => [size, 0])
        )
      }
    })

    it("of GET_VALUES do not fit into one record, and there is no other way", () => {
      assert.strictEqual(encode(FastCgiRecord.getValues(new Uint8Array(65535))).length, 8 + 65535 + 1)
      assert.throws(() => encode(FastCgiRecord.getValues(new Uint8Array(65536))), RangeError, /65536 bytes/)
      assert.throws(() => encode(FastCgiRecord.getValuesResult(new Uint8Array(65536))), RangeError)
    })
  })

  it("refuses ids that two bytes do not hold", () => {
    assert.strictEqual(hex(encode(FastCgiRecord.abortRequest(65535))), golden("01 02 ffff 0000 00 00"))
    for (const id of [-1, 65536, Number.NaN, 1.5]) {
      assert.throws(() => encode(FastCgiRecord.abortRequest(id)), RangeError, /request id/)
    }
  })

  it("writes headers and END_REQUEST into bytes that are there, whatever was in them", () => {
    const bytes = new Uint8Array(30).fill(255)
    FastCgiEncoder.writeHeader(bytes, 2, 6, 0x0102, 0x0304, 5)
    FastCgiEncoder.writeEndRequest(bytes, 12, 9, 0x01020304, 2)
    assert.strictEqual(
      hex(bytes),
      golden("ffff", "01 06 0102 0304 05 00", "ffff", "01 03 0009 0008 00 00", "01020304 02 000000", "ffff")
    )
    assert.strictEqual(FastCgiEncoder.endRequestLength, 16)
  })
})
