/**
 * How long a body may be: maxBodySize of a server, and of a handler.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiMetrics, FastCgiParams, FastCgiRecord as R, FastCgiRequest, FastCgiResponse } from "effect-fastcgi"
import { FastCgiHttpServer } from "effect-fastcgi/http"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { bodyOf, bytes, connect, page, type Peer, play, serve, takeLogs } from "./support/serving.ts"

const post = (length: number | undefined): ReadonlyArray<R.FastCgiRecord> => [
  R.beginRequest(1, R.Role.Responder, { keepConnection: true }),
  R.params(
    1,
    FastCgiParams.encodePairs([
      ["REQUEST_METHOD", "POST"],
      ["REQUEST_URI", "/"],
      ...(length === undefined ? [] : [["CONTENT_LENGTH", String(length)] as const])
    ])
  ),
  R.params(1)
]

/** The answer to a body of so many bytes, whose length is announced or not. */
const answer = (peer: Peer, size: number, announced: boolean) =>
  Effect.gen(function*() {
    yield* peer.send(...post(announced ? size : undefined), R.stdin(1, bytes(size)), R.stdin(1))
    return (yield* peer.reply()).stdout
  })

const tooLarge = /^Status: 413 Content Too Large\r\n[^]*\r\n\r\n413 Content Too Large\n$/

const count = <E>(body: Stream.Stream<Uint8Array, E>) =>
  Stream.runFold(body, () => 0, (size, chunk) => size + chunk.length)

const size = (request: FastCgiRequest.Responder | FastCgiRequest.Filter) =>
  Effect.map(count(request.stdin), (size) => FastCgiResponse.make(String(size)))

const reached = Effect.map(
  Metric.value(FastCgiMetrics.limitsReached),
  ({ occurrences }) => occurrences.get("maxBodySize") ?? 0
)

describe("maxBodySize", () => {
  play(
    "answers for a handler that reads more with 413, counts and logs it",
    serve({ responder: size, filter: size }, { maxBodySize: 1000 }),
    () =>
      Effect.gen(function*() {
        const before = yield* reached
        const peer = yield* connect
        for (const announced of [true, false]) {
          assert.strictEqual(yield* answer(peer, 1000, announced), page("1000"))
          assert.match(yield* answer(peer, 1001, announced), tooLarge)
          assert.strictEqual(yield* answer(peer, 0, announced), page("0"))
        }
        yield* peer.send(
          R.beginRequest(1, R.Role.Filter, { keepConnection: true }),
          R.params(1, FastCgiParams.encodePairs([["FCGI_DATA_LENGTH", "0"]])),
          R.params(1),
          R.stdin(1, bytes(1001)),
          R.stdin(1),
          R.data(1)
        )
        assert.match((yield* peer.reply()).stdout, tooLarge)
        assert.strictEqual((yield* reached) - before, 3)
        assert.deepStrictEqual(
          (yield* takeLogs).map(({ level, message }) => `${level} ${message}`),
          ["Warn a FastCGI request has a body of more than 1000 bytes (maxBodySize)"]
        )
      })
  )

  play(
    "refuses what announces more before it has come",
    serve({ responder: size }, { maxBodySize: 1000 }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...post(1_000_000_000))
        assert.match((yield* peer.reply()).stdout, tooLarge)
        yield* takeLogs
      })
  )

  play(
    "leaves a handler alone that does not read, or that answers something else",
    serve({
      responder: (request) =>
        request.params.get("CONTENT_LENGTH") === "2000"
          ? Effect.succeed(FastCgiResponse.make("not read"))
          : Effect.catchReason(
            size(request),
            "FastCgiRequestError",
            "BodyTooLarge",
            ({ maxBodySize }) => Effect.succeed(FastCgiResponse.make(`at most ${maxBodySize}`))
          )
    }, { maxBodySize: 1000 }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        assert.strictEqual(yield* answer(peer, 2000, true), page("not read"))
        assert.strictEqual(yield* answer(peer, 2001, true), page("at most 1000"))
        yield* takeLogs
      })
  )

  play(
    "lets pass what is long where it is unbounded, and 500 stays what another failure is answered with",
    serve({
      responder: (request) => Effect.andThen(size(request), Effect.fail(new Error("no")))
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        assert.match(yield* answer(peer, 60_000, false), /^Status: 500 /)
        yield* takeLogs
      })
  )

  play(
    "of a handler is FastCgiRequest.limitBody, below the server's",
    serve({
      responder: (request) =>
        Effect.map(count(FastCgiRequest.limitBody(request, 10)), (size) => FastCgiResponse.make(String(size)))
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        for (const announced of [true, false]) {
          assert.strictEqual(yield* answer(peer, 10, announced), page("10"))
          assert.match(yield* answer(peer, 11, announced), tooLarge)
        }
      })
  )
})

describe("an HTTP app", () => {
  const Routes = HttpRouter.add(
    "POST",
    "/",
    Effect.gen(function*() {
      const request = yield* HttpServerRequest.HttpServerRequest
      const how = new URL(request.originalUrl).search
      if (how === "?text") return HttpServerResponse.text(String((yield* request.text).length))
      if (how === "?origin") {
        const origin = Option.getOrThrow(yield* FastCgiHttpServer.origin)
        return HttpServerResponse.text(String(yield* count(origin.request.stdin)))
      }
      return HttpServerResponse.text(String(yield* count(request.stream)))
    })
  )

  const ask = (how: string, size: number) =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.request({
        params: { REQUEST_METHOD: "POST", REQUEST_URI: `/${how}`, HTTP_HOST: "localhost" },
        stdin: bytes(size)
      })
      const { stdout } = yield* peer.reply()
      return `${stdout.slice(8, 11)} ${bodyOf(stdout)}`
    })

  it.effect("is held to maxBodySize whatever it reads its body with, and answers 413", () =>
    Effect.gen(function*() {
      yield* Layer.build(HttpRouter.serve(Routes, { disableLogger: true, disableListenLog: true }))
      const before = yield* reached
      for (const how of ["?text", "?stream"]) {
        assert.strictEqual(yield* ask(how, 1000), "200 1000")
        assert.strictEqual(yield* ask(how, 1001), "413 ")
      }
      assert.strictEqual(yield* ask("?origin", 1000), "200 1000")
      assert.match(yield* ask("?origin", 1001), /^500 /)
      assert.strictEqual((yield* reached) - before, 3)
    }).pipe(
      Effect.scoped,
      Effect.provide(FastCgiTest.layerTestWith({ server: { maxBodySize: 1000 } }))
    ))
})
