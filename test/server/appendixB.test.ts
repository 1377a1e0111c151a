/**
 * The four message flows of Appendix B, byte for byte: what the specification lets the web server send, and what leaves.
 *
 * Our answers differ from the examples where the specification leaves the choice: the header block begins with `Status`
 * (SPEC 6.1 has no other way to say it, and lighttpd and Apache take its absence for leave), records are padded to 8 bytes,
 * STDERR records by at least one (HAProxy 2.6), and STDERR ends before STDOUT.
 */
import { assert, describe } from "@effect/vitest"
import { FastCgiResponse } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Stream from "effect/Stream"
import { golden, goldenBytes, hex, zeros } from "../protocol/support/golden.ts"
import { connect, play, serve, settle } from "./support/serving.ts"
import { allBytes } from "./support/wire.ts"

const text = (content: string) => new TextEncoder().encode(content)

const html = { "Content-type": "text/html" }

const pairs = ["0b02", "'SERVER_PORT80'", "0b0e", "'SERVER_ADDR199.170.183.42'"]

/** The whole header block, which takes 43 bytes, padded to 48. */
const head = (id: string) => [
  `01 06 ${id} 002b 05 00`,
  "'Status: 200 OK'",
  "0d0a",
  "'Content-type: text/html'",
  "0d0a0d0a",
  zeros(5)
]

/** The header block and `<html>\n<head>` in one record of 56 bytes. */
const whole = (id: string) => [
  `01 06 ${id} 0038 00 00`,
  "'Status: 200 OK'",
  "0d0a",
  "'Content-type: text/html'",
  "0d0a0d0a",
  "'<html>'",
  "0a",
  "'<head>'"
]

const ended = (id: string, appStatus = "00000000") => [
  `01 06 ${id} 0000 00 00`,
  `01 03 ${id} 0008 00 00`,
  appStatus,
  "00 000000"
]

describe("a server plays Appendix B", () => {
  const seen: Array<string> = []
  const simple = serve({
    responder: (request) =>
      Effect.map(Stream.mkUint8Array(request.stdin), (body) => {
        seen.push(
          [...request.params].map(([name, value]) => `${name}=${value}`).join(" ") + "|" +
            new TextDecoder().decode(body)
        )
        return FastCgiResponse.make(text("<html>\n<head>"), { headers: html })
      })
  })

  play("example 1: a simple request with no data on stdin", simple, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.sendBytes(goldenBytes(
        "01 01 0001 0008 00 00",
        "0001 00 0000000000",
        "01 04 0001 002a 00 00",
        ...pairs,
        "01 04 0001 0000 00 00",
        "01 05 0001 0000 00 00"
      ))
      // KEEP_CONN is not set: the server closes.
      assert.strictEqual(hex(yield* allBytes(peer)), golden(...whole("0001"), ...ended("0001")))
      assert.deepStrictEqual(seen.splice(0), ["SERVER_PORT=80 SERVER_ADDR=199.170.183.42|"])
    }))

  play("example 2: data on stdin, and a pair that two PARAMS records share", simple, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.sendBytes(goldenBytes(
        "01 01 0001 0008 00 00",
        "0001 00 0000000000",
        // The first record ends within the name, behind SER.
        "01 04 0001 0014 00 00",
        "0b02",
        "'SERVER_PORT80'",
        "0b0e",
        "'SER'",
        "01 04 0001 0016 00 00",
        "'VER_ADDR199.170.183.42'",
        "01 04 0001 0000 00 00",
        "01 05 0001 0019 00 00",
        "'quantity=100&item=3047936'",
        "01 05 0001 0000 00 00"
      ))
      assert.strictEqual(hex(yield* allBytes(peer)), golden(...whole("0001"), ...ended("0001")))
      assert.deepStrictEqual(seen.splice(0), [
        "SERVER_PORT=80 SERVER_ADDR=199.170.183.42|quantity=100&item=3047936"
      ])
    }))

  play(
    "example 3: STDERR between two STDOUT records, and exit status 938",
    serve({
      responder: (request) =>
        Effect.succeed(FastCgiResponse.make(
          Stream.concat(
            Stream.make(text("<ht")),
            Stream.fromEffect(Effect.as(request.stderr("config error: missing SI_UID\n"), text("ml>\n<head>")))
          ),
          { headers: html, appStatus: 938 }
        ))
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.sendBytes(goldenBytes(
          "01 01 0001 0008 00 00",
          "0001 00 0000000000",
          "01 04 0001 002a 00 00",
          ...pairs,
          "01 04 0001 0000 00 00",
          "01 05 0001 0000 00 00"
        ))
        assert.strictEqual(
          hex(yield* allBytes(peer)),
          golden(
            ...head("0001"),
            "01 06 0001 0003 05 00",
            "'<ht'",
            zeros(5),
            "01 07 0001 001d 03 00",
            "'config error: missing SI_UID'",
            "0a",
            zeros(3),
            "01 06 0001 000a 06 00",
            "'ml>'",
            "0a",
            "'<head>'",
            zeros(6),
            "01 07 0001 0000 08 00",
            zeros(8),
            ...ended("0001", "000003aa")
          )
        )
      })
  )

  const difficult = Latch.makeUnsafe()
  play(
    "example 4: two requests on one connection, finished out of order",
    serve({
      responder: (request) =>
        Effect.succeed(FastCgiResponse.make(
          request.requestId === 1
            ? Stream.fromEffect(Effect.as(difficult.await, text("<html>\n<head>")))
            : text("<html>\n<head>"),
          { headers: html }
        ))
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.sendBytes(goldenBytes(
          "01 01 0001 0008 00 00",
          "0001 01 0000000000",
          "01 04 0001 002a 00 00",
          ...pairs,
          "01 04 0001 0000 00 00",
          "01 01 0002 0008 00 00",
          "0001 01 0000000000",
          "01 04 0002 002a 00 00",
          ...pairs,
          "01 05 0001 0000 00 00"
        ))
        assert.strictEqual(hex(yield* peer.receiveBytes), golden(...head("0001")))
        yield* peer.sendBytes(goldenBytes("01 04 0002 0000 00 00", "01 05 0002 0000 00 00"))
        assert.strictEqual(hex(yield* peer.receiveBytes), golden(...whole("0002"), ...ended("0002")))
        yield* settle
        difficult.openUnsafe()
        assert.strictEqual(
          hex(yield* peer.receiveBytes),
          golden("01 06 0001 000d 03 00", "'<html>'", "0a", "'<head>'", zeros(3), ...ended("0001"))
        )
      })
  )
})
