/**
 * A Filter writes nothing before all of STDIN has come (SPEC 6.4), whatever its handler does.
 */
import { assert, describe } from "@effect/vitest"
import { FastCgiRecord as R, FastCgiResponse } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import {
  bytes,
  connect,
  exchange,
  opening,
  page,
  type Peer,
  play,
  type Record,
  serve,
  settle,
  tags,
  takeLogs,
  untilAnswered
} from "./support/serving.ts"

const filter = { role: R.Role.Filter, params: { REQUEST_METHOD: "POST", FCGI_DATA_LENGTH: "4" } }
const text = (content: string) => new TextEncoder().encode(content)

// Sends, lets the handler do all that it can, and expects that nothing is heard of it.
const silently = (peer: Peer, ...records: ReadonlyArray<Record>) =>
  Effect.gen(function*() {
    yield* peer.send(...records)
    yield* settle
    assert.deepStrictEqual(yield* untilAnswered(peer), [])
  })

describe("a Filter that", () => {
  play(
    "answers without reading STDIN is heard when all of STDIN has come",
    serve({ filter: () => Effect.succeed(FastCgiResponse.make("cached")) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* silently(peer, ...opening(1, filter), R.stdin(1, bytes(1000)))
        // More than is ever buffered: what nobody will read does not hold the connection up.
        for (let i = 0; i < 64; i++) yield* silently(peer, R.stdin(1, bytes(60_000)))
        yield* peer.send(R.stdin(1))
        assert.strictEqual((yield* peer.reply()).stdout, page("cached"))
        assert.deepStrictEqual(yield* exchange(peer, R.data(1, text("data")), R.data(1)), [])
      })
  )

  play(
    "fails before it has read STDIN is answered for when all of STDIN has come",
    serve({ filter: () => Effect.fail("broken") }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* silently(peer, ...opening(1, filter), R.stdin(1, bytes(1000)))
        yield* peer.send(R.stdin(1))
        const reply = yield* peer.reply()
        assert.include(reply.stdout, "Status: 500")
        assert.strictEqual(reply.appStatus, 1)
        assert.strictEqual((yield* takeLogs).length, 1)
        yield* peer.send(R.data(1))
      })
  )

  play(
    "writes to STDERR before it reads is heard afterwards, in order",
    serve({
      filter: (request) =>
        Effect.gen(function*() {
          yield* request.stderr("early ")
          const stdin = yield* Stream.runFold(request.stdin, () => 0, (size, chunk) => size + chunk.length)
          yield* request.stderr("late")
          return FastCgiResponse.make(`${stdin}`)
        })
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* silently(peer, ...opening(1, filter), R.stdin(1, bytes(1000)))
        yield* peer.send(R.stdin(1))
        const reply = yield* peer.reply()
        assert.strictEqual(reply.stderr, "early late")
        assert.strictEqual(reply.stdout, page("1000"))
        yield* peer.send(R.data(1))
      })
  )

  play(
    "leaves STDIN to the body of its response gets none there",
    serve({
      filter: (request) =>
        Effect.succeed(FastCgiResponse.make(
          Stream.map(Stream.catch(request.stdin, (error) => Stream.make(text(error.reason._tag))), (chunk) => chunk)
        ))
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1, filter), R.stdin(1, bytes(1000)))
        yield* settle
        yield* peer.send(R.stdin(1))
        assert.include((yield* peer.reply()).stdout, "InputDiscarded")
        yield* peer.send(R.data(1))
      })
  )

  play(
    "waits for STDIN is aborted like any other",
    serve({ filter: () => Effect.succeed(FastCgiResponse.make("cached")) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* silently(peer, ...opening(1, filter), R.stdin(1, bytes(1000)))
        assert.deepStrictEqual(tags(yield* exchange(peer, R.abortRequest(1))), ["Stdout 1", "EndRequest 1"])
      })
  )

  play(
    "reads DATA before STDIN gets it, although STDIN is more than is read ahead",
    serve({
      filter: (request) =>
        Effect.gen(function*() {
          const data = yield* Stream.mkUint8Array(request.data)
          const stdin = yield* Effect.match(Stream.mkUint8Array(request.stdin), {
            onFailure: (error) => error.reason._tag,
            onSuccess: (content) => String(content.length)
          })
          return FastCgiResponse.make(`${data.length} ${stdin}`)
        })
    }, { stallTimeout: "30 seconds" }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        // Below a mebibyte both are kept.
        for (let i = 0; i < 100; i++) yield* peer.send(...(i === 0 ? opening(1, filter) : []), R.stdin(1, bytes(8000)))
        yield* peer.send(R.stdin(1), R.data(1, bytes(4)), R.data(1))
        assert.strictEqual((yield* peer.reply()).stdout, page("4 800000"))
        // Beyond it, STDIN stands in the way of DATA, and is dropped.
        for (let i = 0; i < 300; i++) yield* peer.send(...(i === 0 ? opening(1, filter) : []), R.stdin(1, bytes(8000)))
        yield* peer.send(R.stdin(1), R.data(1, bytes(4)), R.data(1))
        yield* settle
        assert.isAbove(yield* peer.pending, 0)
        yield* TestClock.adjust("30 seconds")
        assert.strictEqual((yield* peer.reply()).stdout, page("4 InputDiscarded"))
        assert.match(
          (yield* takeLogs)[0].message,
          /bytes of input stood unread for 30000 ms and held up its DATA \(stallTimeout\)$/
        )
      })
  )
})
