/**
 * The four message flows of Appendix B, byte for byte, from the web server's side: what the client sends, and what it makes
 * of the answers in the specification.
 *
 * The client pads PARAMS and STDIN to 8 bytes. Of example 2 it sends the pairs in one record, because php-fpm and others
 * lose a pair that two records share; it cuts only a pair that no record can hold.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiClient } from "effect-fastcgi/client"
import * as Effect from "effect/Effect"
import { golden, goldenBytes, hex, zeros } from "../protocol/support/golden.ts"
import * as Application from "./application.ts"
import { bytesOf, concat, textOfStream } from "./application.ts"

const params = [["SERVER_PORT", "80"], ["SERVER_ADDR", "199.170.183.42"]] as const

/** BEGIN_REQUEST and PARAMS of a Responder request. */
const opening = (id: string, flags: string) => [
  `01 01 ${id} 0008 00 00`,
  `0001 ${flags} 0000000000`,
  `01 04 ${id} 002a 06 00`,
  "0b02",
  "'SERVER_PORT80'",
  "0b0e",
  "'SERVER_ADDR199.170.183.42'",
  zeros(6),
  `01 04 ${id} 0000 00 00`
]

const head = ["'Content-type: text/html'", "0d0a0d0a"]
const page = ["'<html>'", "0a", "'<head>'"]

/** The records of the specification have no padding. */
const answer = (id: string) => [
  `01 06 ${id} 0028 00 00`,
  ...head,
  ...page,
  `01 06 ${id} 0000 00 00`,
  `01 03 ${id} 0008 00 00`,
  "00000000 00 000000"
]

const text = "Content-type: text/html\r\n\r\n<html>\n<head>"

describe("a client plays Appendix B", () => {
  it.effect("example 1: a simple request with no data on stdin", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make({ ...app, keepConnection: false })
      const response = yield* client.request({ params })
      yield* app.untilTag("Stdin")
      assert.strictEqual(hex(concat(app.bytes)), golden(...opening("0001", "00"), "01 05 0001 0000 00 00"))
      yield* app.sendBytes(goldenBytes(...answer("0001")))
      assert.strictEqual(yield* textOfStream(response.stdout), text)
      assert.deepStrictEqual(yield* response.end, { appStatus: 0, protocolStatus: 0 })
    }))

  it.effect("example 2: data on stdin", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make({ ...app, keepConnection: false })
      const response = yield* client.request({ params, stdin: bytesOf("quantity=100&item=3047936") })
      yield* app.until((record) => record._tag === "Stdin" && record.content.length === 0)
      assert.strictEqual(
        hex(concat(app.bytes)),
        golden(
          ...opening("0001", "00"),
          "01 05 0001 0019 07 00",
          "'quantity=100&item=3047936'",
          zeros(7),
          "01 05 0001 0000 00 00"
        )
      )
      yield* app.sendBytes(goldenBytes(...answer("0001")))
      assert.strictEqual(yield* textOfStream(response.stdout), text)
    }))

  it.effect("example 3: STDERR between two STDOUT records, and exit status 938", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make({ ...app, keepConnection: false })
      const response = yield* client.request({ params })
      yield* app.untilTag("Stdin")
      yield* app.sendBytes(goldenBytes(
        "01 06 0001 001e 00 00",
        ...head,
        "'<ht'",
        "01 07 0001 001d 00 00",
        "'config error: missing SI_UID'",
        "0a",
        "01 06 0001 000a 00 00",
        "'ml>'",
        "0a",
        "'<head>'",
        "01 06 0001 0000 00 00",
        "01 07 0001 0000 00 00",
        "01 03 0001 0008 00 00",
        "000003aa 00 000000"
      ))
      assert.strictEqual(yield* textOfStream(response.stdout), text)
      assert.strictEqual(yield* textOfStream(response.stderr), "config error: missing SI_UID\n")
      assert.deepStrictEqual(yield* response.end, { appStatus: 938, protocolStatus: 0 })
    }))

  it.effect("example 4: two requests on one connection, finished out of order", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make({ ...app, maxRequests: 2 })
      const first = yield* client.request({ params })
      const second = yield* client.request({ params })
      yield* app.untilTag("Stdin", 2)
      assert.strictEqual(
        hex(concat(app.bytes)),
        golden(
          ...opening("0001", "01"),
          "01 05 0001 0000 00 00",
          ...opening("0002", "01"),
          "01 05 0002 0000 00 00"
        )
      )
      yield* app.sendBytes(goldenBytes("01 06 0001 001b 00 00", ...head, ...answer("0002")))
      assert.strictEqual(yield* textOfStream(second.stdout), text)
      assert.strictEqual(client.activeUnsafe(), 1)
      yield* app.sendBytes(goldenBytes(
        "01 06 0001 000d 00 00",
        ...page,
        "01 06 0001 0000 00 00",
        "01 03 0001 0008 00 00",
        "00000000 00 000000"
      ))
      assert.strictEqual(yield* textOfStream(first.stdout), text)
      assert.isTrue(client.openUnsafe())
    }))
})
