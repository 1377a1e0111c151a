/**
 * What other implementations get wrong, measured with libfcgi, VSGI, Perl's FCGI, Go's net/http/fcgi, npm's node-fastcgi
 * 2.0.0 and php-fpm 8.2: each failure is the name of a test here, which shows that it does not happen.
 */
import { assert, describe } from "@effect/vitest"
import { FastCgiEncoder, FastCgiParams, FastCgiRecord as R, FastCgiResponse } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Stream from "effect/Stream"
import { held } from "./support/memory.ts"
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
  received,
  serve,
  settle,
  tags,
  takeLogs
} from "./support/serving.ts"

const text = (content: string) => new TextEncoder().encode(content)

/** Says its param X and its body, or why there is no body. */
const echo: Handlers = {
  responder: (request) =>
    Stream.mkUint8Array(request.stdin).pipe(
      Effect.match({ onFailure: (error) => error.reason._tag, onSuccess: (body) => new TextDecoder().decode(body) }),
      Effect.map((body) => FastCgiResponse.make(`${request.params.get("X") ?? "-"} ${body}`))
    )
}

const opened = (id: number, x: string, options: { readonly length?: number } = {}) =>
  opening(id, {
    params: { X: x, ...(options.length === undefined ? {} : { CONTENT_LENGTH: String(options.length) }) }
  })

/** A record with padding, which the encoder adds to no discrete or empty record. */
const padded = (record: R.FastCgiRecord, padding: number) => {
  const plain = FastCgiEncoder.encode(record, { alignment: 1 })
  const whole = new Uint8Array(plain.length + padding).fill(0xee)
  whole.set(plain)
  whole[6] = padding
  return whole
}

const ask = (peer: Peer, ...names: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    yield* peer.send(R.getValues(FastCgiParams.encodePairs(names.map((name) => [name, ""]))))
    const record = yield* received(peer)
    assert.ok(record._tag === "GetValuesResult")
    const values = FastCgiParams.fromBytes(record.content)
    assert.ok(!("_tag" in values))
    return Object.fromEntries(values)
  })

describe("it does not happen that", () => {
  play(
    "two ids interleaved: the second is refused (libfcgi), the slower one lost (node-fastcgi), or both (php-fpm)",
    serve(echo),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        const [begin1, params1, end1] = opened(1, "one")
        const [begin2, params2, end2] = opened(2, "two")
        for (
          const record of [begin1, begin2, params2, params1, end1, R.stdin(1, text("a")), end2, R.stdin(2, text("b"))]
        ) yield* peer.send(record)
        yield* peer.send(R.stdin(2, text("B")), R.stdin(2))
        assert.strictEqual((yield* peer.reply(2)).stdout, page("two bB"))
        yield* peer.send(R.stdin(1, text("A")), R.stdin(1))
        assert.strictEqual((yield* peer.reply(1)).stdout, page("one aA"))
      })
  )

  play(
    "two requests pipelined: the second is silently dropped (libfcgi, VSGI, Perl)",
    serve(echo),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        const pipelined = [...opened(1, "one"), R.stdin(1, text("a")), R.stdin(1)]
        yield* peer.send(...pipelined, ...opened(1, "two"), R.stdin(1, text("b")), R.stdin(1))
        assert.strictEqual((yield* peer.reply(1)).stdout, page("one a"))
        assert.strictEqual((yield* peer.reply(1)).stdout, page("two b"))
        yield* peer.send(...opened(1, "three"), R.stdin(1), ...opened(2, "four"), R.stdin(2))
        assert.strictEqual((yield* peer.reply(2)).stdout, page("four "))
        assert.strictEqual((yield* peer.reply(1)).stdout, page("three "))
      })
  )

  play(
    "GET_VALUES: the answer waits for the next record (libfcgi), comes twice (Go), or ends the connection (php-fpm)",
    serve(echo, { multiplexing: false, admission: { maxRequests: 7, maxConnections: 5 } }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        // Nothing follows, and what is asked is what is answered: not always MPXS=1 (Go), not only that (php-fpm).
        assert.deepStrictEqual(yield* ask(peer, "FCGI_MAX_REQS", "FCGI_MPXS_CONNS", "FCGI_MAX_CONNS"), {
          FCGI_MAX_REQS: "7",
          FCGI_MPXS_CONNS: "0",
          FCGI_MAX_CONNS: "5"
        })
        assert.deepStrictEqual(yield* ask(peer, "FCGI_MAX_REQS"), { FCGI_MAX_REQS: "7" })
        assert.deepStrictEqual(yield* exchange(peer), [], "no second answer")
        yield* peer.send(...opened(1, "open"), R.stdin(1))
        assert.strictEqual((yield* peer.reply()).stdout, page("open "))
      })
  )

  const results: Array<string> = []
  play(
    "ABORT in STDIN: a plain end of input (libfcgi), two END_REQUEST (Go), a closed connection (node-fastcgi), " +
      "an empty body (php-fpm)",
    serve({
      responder: (request) =>
        request.params.get("X") === "next"
          ? Effect.succeed(FastCgiResponse.make("next"))
          : Effect.as(Stream.runDrain(request.stdin), FastCgiResponse.make("it took the body for complete")).pipe(
            Effect.onExit((exit) =>
              Effect.sync(() => {
                results.push(Exit.hasInterrupts(exit) ? "interrupted" : exit._tag)
              })
            )
          )
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opened(1, "aborted", { length: 10 }), R.stdin(1, text("abc")))
        yield* settle
        assert.deepStrictEqual(tags(yield* exchange(peer, R.abortRequest(1), R.stdin(1, text("late")), R.stdin(1))), [
          "Stdout 1",
          "EndRequest 1"
        ])
        assert.deepStrictEqual(results, ["interrupted"])
        yield* peer.send(...opened(1, "next"), R.stdin(1))
        assert.strictEqual((yield* peer.reply()).stdout, page("next"))
        assert.deepStrictEqual(yield* exchange(peer), [])
      })
  )

  play(
    "unknown type with id 0: content taken for records (libfcgi), no answer (Go), the process exits (node-fastcgi), " +
      "a reset (php-fpm)",
    serve(echo),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        const forged = FastCgiEncoder.encode(R.beginRequest(9, 1, { keepConnection: true }))
        for (const type of [12, 13, 99, 255]) {
          yield* peer.sendBytes(Uint8Array.of(1, type, 0, 0, 0, forged.length, 4, 0, ...forged, 1, 1, 1, 1))
          assert.deepStrictEqual(yield* received(peer), R.unknownType(type))
        }
        yield* peer.send(...opened(1, "alive"), R.stdin(1))
        assert.strictEqual((yield* peer.reply()).stdout, page("alive "))
        // Had the forged request begun, this would end it.
        assert.deepStrictEqual(yield* exchange(peer, R.abortRequest(9)), [])
      })
  )

  play(
    "wrong version: an end or a cut body with a normal reply (libfcgi), served as if it were right (node-fastcgi, php-fpm)",
    serve(echo),
    () =>
      Effect.gen(function*() {
        const whole = [...opened(1, "wrong", { length: 6 }), R.stdin(1, text("before"))]
        for (let at = 0; at < whole.length; at++) {
          const peer = yield* connect
          yield* peer.send(...whole.slice(0, at))
          yield* settle
          const record = FastCgiEncoder.encode(whole[at]).slice()
          record[0] = 2
          yield* peer.sendBytes(record)
          yield* peer.send(...whole.slice(at + 1), R.stdin(1))
          assert.deepStrictEqual(tags(yield* peer.drain), [], `record ${at}`)
        }
        assert.match((yield* takeLogs)[0].message, /starts with version 2, expected 1/)
      })
  )

  play(
    "100 MB of PARAMS are taken (libfcgi, Go, node-fastcgi, php-fpm: 100 to 343 MB of memory)",
    serve(echo),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(R.beginRequest(1, 1, { keepConnection: true }))
        const before = held()
        // One pair of 100 MB, as its lengths say: nothing is kept for it.
        yield* peer.send(R.params(1, Uint8Array.of(1, 0x86, 0, 0, 0, 65)))
        const value = FastCgiEncoder.encode(R.params(1, bytes(65_535)))
        for (let sent = 0; sent < 2 * 1024 * 1024; sent += 65_535) {
          yield* peer.sendBytes(value)
          while ((yield* peer.pending) > 0) yield* Effect.yieldNow
        }
        assert.isBelow(held() - before, 1024 * 1024)
        // Twice the limit: the connection is closed, and no other.
        assert.deepStrictEqual(yield* peer.drain, [])
        const other = yield* connect
        yield* other.send(...opened(1, "next"), R.stdin(1))
        assert.strictEqual((yield* other.reply()).stdout, page("next "))
        assert.strictEqual((yield* takeLogs).length, 1)
      })
  )

  play(
    "a pair split over PARAMS records: wrong values (node-fastcgi), a reset (php-fpm)",
    serve(echo),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        const params = FastCgiParams.encodePairs([["X", "v".repeat(130)], ["Y", "w"]])
        for (let at = 1; at < params.length; at++) {
          yield* peer.send(
            R.beginRequest(1, 1, { keepConnection: true }),
            R.params(1, params.subarray(0, at)),
            R.params(1, params.subarray(at)),
            R.params(1),
            R.stdin(1)
          )
          assert.strictEqual((yield* peer.reply()).stdout, page(`${"v".repeat(130)} `), `cut at ${at}`)
        }
      })
  )

  play(
    "padding on BEGIN_REQUEST or on the empty PARAMS: params or body are lost (libfcgi, php-fpm)",
    serve(echo),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        const [begin, params, end] = opened(1, "padded")
        for (const padding of [1, 7, 8, 255]) {
          for (const record of [begin, params, end, R.stdin(1, text("body")), R.stdin(1)]) {
            yield* peer.sendBytes(padded(record, padding))
          }
          assert.strictEqual((yield* peer.reply()).stdout, page("padded body"), `padding ${padding}`)
        }
      })
  )

  play(
    "cut STDIN: an ordinary short body (libfcgi, node-fastcgi, php-fpm), or an error too late (Go)",
    serve(echo, { allowHalfOpen: true }),
    () =>
      Effect.gen(function*() {
        // The web server ends STDIN early.
        const peer = yield* connect
        yield* peer.send(...opened(1, "short", { length: 10 }), R.stdin(1, text("12345")), R.stdin(1))
        assert.strictEqual((yield* peer.reply()).stdout, page("short TruncatedBody"))
        // It closes within STDIN, whose length nobody announced.
        yield* peer.send(...opened(1, "cut"), R.stdin(1, text("12345")))
        yield* peer.end
        assert.strictEqual((yield* peer.reply()).stdout, page("cut ConnectionClosed"))
      })
  )

  const answering = Latch.makeUnsafe()
  play(
    "the client half-closes after the request: the connection is closed without a reply (Go)",
    serve({
      responder: (request) =>
        request.params.get("X") === "later"
          ? Effect.as(answering.await, FastCgiResponse.make("later"))
          : Effect.succeed(FastCgiResponse.make("at once"))
    }, { allowHalfOpen: true }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opened(1, "now"), R.stdin(1), ...opened(2, "later"), R.stdin(2))
        yield* peer.end
        assert.strictEqual((yield* peer.reply(1)).stdout, page("at once"))
        yield* settle
        answering.openUnsafe()
        assert.strictEqual((yield* peer.reply(2)).stdout, page("later"))
        yield* peer.closed
      })
  )

  play(
    "kept connections: all but as many as there are workers starve (libfcgi, php-fpm)",
    serve(echo),
    () =>
      Effect.gen(function*() {
        const kept: Array<Peer> = []
        for (let i = 0; i < 16; i++) {
          const peer = yield* connect
          yield* peer.send(...opening(1, { params: { X: String(i) } }), R.stdin(1))
          assert.strictEqual(bodyOf((yield* peer.reply()).stdout), `${i} `)
          kept.push(peer)
        }
        // All of them stay open, half of them with a request that waits for its body, and every one is answered again.
        for (const peer of kept.slice(8)) yield* peer.send(R.beginRequest(1, 1, { keepConnection: true }))
        for (const peer of kept.slice(0, 8)) {
          yield* peer.send(...opened(1, "again"), R.stdin(1))
          assert.strictEqual((yield* peer.reply()).stdout, page("again "))
        }
        for (const peer of kept.slice(8)) {
          yield* peer.send(R.params(1, getParams), R.params(1), R.stdin(1))
          assert.strictEqual((yield* peer.reply()).stdout, page("- "))
        }
      })
  )
})
