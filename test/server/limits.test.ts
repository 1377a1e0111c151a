/**
 * Limits exactly at and one past, and what hostile peers send.
 */
import { assert, describe } from "@effect/vitest"
import { FastCgiAdmission, FastCgiEncoder, FastCgiParams, FastCgiRecord as R, FastCgiResponse } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import {
  bodyOf,
  bytes,
  connect,
  exchange,
  getParams,
  type Handlers,
  opening,
  page,
  type Peer,
  play,
  serve,
  settle,
  tags,
  takeLogs
} from "./support/serving.ts"
import { concat } from "./support/wire.ts"

const handlers: Handlers = {
  responder: (request) =>
    Effect.map(
      Stream.mkUint8Array(request.stdin),
      (body) => FastCgiResponse.make(`${[...request.params].length} params, ${body.length} bytes`)
    ),
  authorizer: () => Effect.succeed(FastCgiResponse.allow())
}

/** A pair that takes `size` bytes with its lengths. */
const pair = (size: number) => {
  const content = FastCgiParams.encodePairs([["A", "v".repeat(size - 6)]])
  assert.strictEqual(content.length, size)
  return content
}

const request = (peer: Peer, params: Uint8Array, role = 1) =>
  Effect.andThen(
    peer.send(R.beginRequest(1, role, { keepConnection: true }), R.params(1, params), R.params(1), R.stdin(1)),
    peer.reply(1)
  )

const tooLarge = "Status: 431 Request Header Fields Too Large\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" +
  "431 Request Header Fields Too Large\n"

describe("maxParamsSize", () => {
  for (const size of [200, 70_000]) {
    play(`at ${size}, and one past it`, serve(handlers, { maxParamsSize: size }), () =>
      Effect.gen(function*() {
        const peer = yield* connect
        assert.strictEqual((yield* request(peer, pair(size))).stdout, page("1 params, 0 bytes"))
        assert.strictEqual((yield* request(peer, pair(size + 1))).stdout, tooLarge)
        assert.match((yield* takeLogs)[0].message, /refused FastCGI request 1: PARAMS take at least \d+ bytes/)
        // An Authorizer is denied by the same answer.
        assert.strictEqual((yield* request(peer, pair(size + 1), 2)).stdout, tooLarge)
        // The next request on the connection works.
        assert.strictEqual((yield* request(peer, getParams)).stdout, page("3 params, 0 bytes"))
      }))
  }

  play("counts declared lengths before anything has come for them", serve(handlers), () =>
    Effect.gen(function*() {
      const peer = yield* connect
      // CVE-2025-23016: two lengths of 0x7fffffff.
      const huge = new Uint8Array(8).fill(0xff)
      assert.strictEqual((yield* request(peer, huge)).stdout, tooLarge)
      assert.strictEqual((yield* request(peer, Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0))).stdout, tooLarge)
      assert.strictEqual((yield* request(peer, getParams)).stdout, page("3 params, 0 bytes"))
      yield* takeLogs
    }))

  play(
    "skips as much of PARAMS again, and then closes the connection",
    serve(handlers),
    () =>
      Effect.gen(function*() {
        const size = (of: R.FastCgiRecord) => FastCgiEncoder.encode(of).length - 8
        const record = R.params(1, pair(65_000))
        const most = Math.floor(2 * 1024 * 1024 / size(record))
        const rest = 2 * 1024 * 1024 - most * size(record)
        for (const beyond of [0, 1]) {
          const peer = yield* connect
          yield* peer.send(R.beginRequest(1, 1, { keepConnection: true }))
          for (let i = 0; i < most; i++) yield* peer.send(record)
          yield* peer.send(R.params(1, new Uint8Array(rest + beyond)))
          if (beyond === 0) {
            yield* peer.send(R.params(1), R.stdin(1))
            assert.strictEqual((yield* peer.reply()).stdout, tooLarge)
            assert.strictEqual((yield* takeLogs).length, 1)
          } else {
            assert.deepStrictEqual(yield* peer.drain, [])
          }
        }
      })
  )
})

describe("maxParamsCount", () => {
  const pairs = (count: number) => FastCgiParams.encodePairs(Array.from({ length: count }, (_, i) => [`N${i}`, ""]))

  play("at 10, and one past it", serve(handlers, { maxParamsCount: 10 }), () =>
    Effect.gen(function*() {
      const peer = yield* connect
      assert.strictEqual((yield* request(peer, pairs(10))).stdout, page("10 params, 0 bytes"))
      assert.strictEqual((yield* request(peer, pairs(11))).stdout, tooLarge)
      assert.match((yield* takeLogs)[0].message, /more than 10 pairs/)
      assert.strictEqual((yield* request(peer, pairs(0))).stdout, page("0 params, 0 bytes"))
    }))

  play("refuses a million tiny params", serve(handlers), () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(R.beginRequest(1, 1, { keepConnection: true }))
      // Two bytes each: an empty name and an empty value.
      for (let i = 0; i < 20; i++) {
        yield* peer.send(R.params(1, new Uint8Array(100_000)))
        yield* settle
      }
      yield* peer.send(R.params(1), R.stdin(1))
      assert.strictEqual((yield* peer.reply()).stdout, tooLarge)
      yield* takeLogs
    }))
})

describe("PARAMS", () => {
  for (
    const [name, content] of [
      ["inside a value", getParams.subarray(0, getParams.length - 1)],
      ["inside a name", Uint8Array.of(4, 0, 65, 65)],
      ["inside a length", Uint8Array.of(0x80, 0, 0)],
      ["between the lengths", Uint8Array.of(4)]
    ] as const
  ) {
    play(`that end ${name} are answered with 400`, serve(handlers), () =>
      Effect.gen(function*() {
        const peer = yield* connect
        assert.match((yield* request(peer, content)).stdout, /^Status: 400 Bad Request\r\n/)
        assert.match((yield* request(peer, content, 2)).stdout, /^Status: 400 Bad Request\r\n/)
        assert.match((yield* takeLogs)[0].message, /PARAMS end inside pair/)
        assert.strictEqual((yield* request(peer, getParams)).stdout, page("3 params, 0 bytes"))
      }))
  }

  play("may be empty", serve(handlers), () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(R.beginRequest(1, 1, { keepConnection: true }), R.params(1), R.stdin(1))
      assert.strictEqual((yield* peer.reply()).stdout, page("0 params, 0 bytes"))
    }))
})

describe("paramsTimeout", () => {
  for (const role of [1, 2]) {
    play(
      `answers what is not there in time with 408, and goes on (role ${role})`,
      serve(handlers, {
        paramsTimeout: "10 seconds"
      }),
      () =>
        Effect.gen(function*() {
          const admission = yield* FastCgiAdmission.FastCgiAdmission
          const peer = yield* connect
          const [begin, params, end] = opening(1, { role })
          assert.deepStrictEqual(yield* exchange(peer, begin, params), [])
          yield* TestClock.adjust("9999 millis")
          assert.deepStrictEqual(yield* exchange(peer), [])
          yield* TestClock.adjust("1 millis")
          const reply = yield* peer.reply()
          assert.match(reply.stdout, /^Status: 408 Request Timeout\r\n/)
          assert.strictEqual(admission.requestsUnsafe(), 0)
          assert.match((yield* takeLogs)[0].message, /PARAMS were not complete after 10000 ms/)
          // What still comes belongs to nothing.
          assert.deepStrictEqual(yield* exchange(peer, end, R.stdin(1)), [])
          assert.strictEqual((yield* request(peer, getParams)).stdout, page("3 params, 0 bytes"))
          yield* TestClock.adjust("1 hour")
        })
    )
  }

  play(
    "does not touch requests whose PARAMS have come",
    serve({ responder: () => Effect.never }, {
      paramsTimeout: "10 seconds"
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1), R.beginRequest(2, 1, { keepConnection: true }))
        yield* exchange(peer)
        yield* peer.send(R.params(2))
        yield* exchange(peer)
        yield* TestClock.adjust("1 hour")
        assert.deepStrictEqual(yield* exchange(peer), [])
      })
  )

  play(
    "is measured for each request of a connection",
    serve(handlers, {
      paramsTimeout: "10 seconds"
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* exchange(peer, R.beginRequest(1, 1, { keepConnection: true }))
        yield* TestClock.adjust("5 seconds")
        yield* exchange(peer, R.beginRequest(2, 1, { keepConnection: true }))
        yield* TestClock.adjust("5 seconds")
        assert.match((yield* peer.reply(1)).stdout, /^Status: 408/)
        yield* TestClock.adjust("4999 millis")
        assert.deepStrictEqual(yield* exchange(peer), [])
        yield* TestClock.adjust("1 millis")
        assert.match((yield* peer.reply(2)).stdout, /^Status: 408/)
        yield* takeLogs
      })
  )

  play(
    "bounds how many requests of a connection can be in PARAMS",
    serve(handlers, {
      admission: { maxRequests: "unbounded" }
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        for (let id = 1; id <= 1024; id++) yield* peer.send(R.beginRequest(id, 1, { keepConnection: true }))
        assert.deepStrictEqual(yield* exchange(peer), [])
        yield* peer.send(R.beginRequest(1025, 1, { keepConnection: true }))
        assert.deepStrictEqual(yield* peer.drain, [])
        assert.match((yield* takeLogs)[0].message, /1024 requests have begun/)
      })
  )
})

const httpRefusal = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 110\r\n" +
  "Connection: close\r\n\r\nThis port speaks FastCGI and no HTTP: a web server goes in front of it (nginx: " +
  "fastcgi_pass, not proxy_pass).\n"

// All that the server sends until it closes its end.
const text = (peer: Peer) =>
  Effect.gen(function*() {
    let all = ""
    while (true) {
      const bytes = yield* Effect.option(peer.receiveBytes)
      if (Option.isNone(bytes)) return all
      all += new TextDecoder().decode(bytes.value)
    }
  })

describe("bytes that are not FastCGI", () => {
  for (
    const [name, sent, hint, answer] of [
      ["HTTP", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", /this looks like HTTP\): use fastcgi_pass/, httpRefusal],
      ["the first byte of HTTP", "P", /this looks like HTTP\): use fastcgi_pass/, httpRefusal],
      ["HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", /this looks like HTTP\): use fastcgi_pass/, httpRefusal],
      ["TLS", "\x16\x03\x01\x02\x00\x01", /this looks like TLS/, ""],
      ["zeros", "\0\0\0\0\0\0\0\0", /starts with version 0/, ""],
      ["one byte", "\xff", /starts with version 255/, ""]
    ] as const
  ) {
    play(
      `close the connection, and are logged once with a hint (${name})`,
      serve(handlers),
      () =>
        Effect.gen(function*() {
          for (let i = 0; i < 20; i++) {
            const peer = yield* connect
            yield* peer.sendBytes(Uint8Array.from(sent, (character) => character.charCodeAt(0)))
            assert.strictEqual(yield* text(peer), answer)
            yield* peer.end
          }
          const logs = yield* takeLogs
          assert.strictEqual(logs.length, 1)
          assert.strictEqual(logs[0].level, "Warn")
          assert.match(logs[0].message, hint)
          // Ten seconds later it may be said again.
          yield* TestClock.adjust("10 seconds")
          const peer = yield* connect
          yield* peer.sendBytes(Uint8Array.of(0xff))
          yield* peer.closed
          assert.strictEqual((yield* takeLogs).length, 1)
        })
    )
  }

  play("do not cost the requests their answers that came before", serve(handlers), () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.sendBytes(concat([
        ...[...opening(1, { role: 2 }), ...opening(2)].map((record) => FastCgiEncoder.encode(record)),
        Uint8Array.of(9, 9, 9)
      ]))
      const records = yield* peer.drain
      assert.deepStrictEqual(tags(records).slice(0, 3), ["Stdout 1", "Stdout 1", "EndRequest 1"])
      yield* takeLogs
    }))

  for (
    const [name, sent] of [
      ["BEGIN_REQUEST with id 0", Uint8Array.of(1, 1, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)],
      ["BEGIN_REQUEST of 7 bytes", Uint8Array.of(1, 1, 0, 1, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0)],
      ["BEGIN_REQUEST of 9 bytes", Uint8Array.of(1, 1, 0, 1, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0)],
      ["BEGIN_REQUEST of 0 bytes", Uint8Array.of(1, 1, 0, 1, 0, 0, 0, 0)]
    ] as const
  ) {
    play(`close the connection: ${name}`, serve(handlers), () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.sendBytes(sent)
        assert.deepStrictEqual(yield* peer.drain, [])
        assert.strictEqual((yield* takeLogs).length, 1)
      }))
  }

  play("may be hidden in records that are skipped", serve(handlers), () =>
    Effect.gen(function*() {
      const peer = yield* connect
      // 65535 bytes of content and 255 of padding, full of records that would do harm.
      const forged = concat([
        FastCgiEncoder.encode(R.beginRequest(1, 1, { keepConnection: true })),
        FastCgiEncoder.encode(R.params(1)),
        FastCgiEncoder.encode(R.stdin(1)),
        FastCgiEncoder.encode(R.abortRequest(2)),
        FastCgiEncoder.encode(R.unrecognized(99))
      ])
      const record = (type: number, id: number) => {
        const whole = new Uint8Array(8 + 65_535 + 255)
        for (let at = 8; at + forged.length <= whole.length; at += forged.length) whole.set(forged, at)
        whole.set([1, type, id >> 8, id & 255, 255, 255, 255, 0])
        return whole
      }
      yield* peer.setCapacity(1 << 30)
      yield* exchange(peer, ...opening(2))
      for (const type of [2, 4, 5, 6, 7, 8, 12, 200]) yield* peer.sendBytes(record(type, 9))
      assert.deepStrictEqual(yield* exchange(peer), [])
      yield* peer.send(R.stdin(2, bytes(7)), R.stdin(2))
      assert.strictEqual(bodyOf((yield* peer.reply(2)).stdout), "3 params, 7 bytes")
    }))
})

describe("many", () => {
  play(
    "one-byte records of input cost no more than they hold",
    serve({ responder: () => Effect.never }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1), ...opening(2))
        const records = concat(Array.from({ length: 8192 }, () => FastCgiEncoder.encode(R.stdin(1, bytes(1)))))
        const before = process.memoryUsage().arrayBuffers
        for (let i = 0; i < 40; i++) {
          yield* peer.sendBytes(records.slice())
          yield* settle
        }
        assert.strictEqual(yield* peer.pending, 0)
        // 320 KiB are unread; 5 MB have come.
        assert.isBelow(process.memoryUsage().arrayBuffers - before, 16 * 1024 * 1024)
      })
  )

  play("connections that are silent after half a header hold nobody up", serve(handlers), () =>
    Effect.gen(function*() {
      const admission = yield* FastCgiAdmission.FastCgiAdmission
      for (let i = 0; i < 1000; i++) {
        const silent = yield* connect
        yield* silent.sendBytes(Uint8Array.of(1, 1, 0))
      }
      const peer = yield* connect
      assert.strictEqual((yield* request(peer, getParams)).stdout, page("3 params, 0 bytes"))
      assert.strictEqual(admission.connectionsUnsafe(), 1001)
    }))
})
