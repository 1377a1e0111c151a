/**
 * HTTP responses of which nothing, or nothing but the head, is sent.
 */
import { assert, it } from "@effect/vitest"
import { FastCgiAdmission, FastCgiRecord as R } from "effect-fastcgi"
import { FastCgiHttpServer } from "effect-fastcgi/http"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import { connect, exchange, opening } from "../server/support/serving.ts"
import { withinMemory } from "../support/within.ts"

const server = (app: Effect.Effect<HttpServerResponse.HttpServerResponse>) =>
  HttpServer.serve(app).pipe(
    Layer.provide(FastCgiHttpServer.layerServer()),
    Layer.provideMerge([FastCgiTest.layerMemory, FastCgiAdmission.layer()])
  )

for (const kind of ["a web stream", "a stream of Node"]) {
  const gate = Deferred.makeUnsafe<void>()
  const cancelled = Deferred.makeUnsafe<void>()
  const cancel = () => {
    Deferred.doneUnsafe(cancelled, Effect.void)
  }
  const body = kind === "a web stream"
    ? new ReadableStream({ cancel })
    : { destroy: cancel, [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }) }

  it.effect(`a request that was aborted before its response was ready leaves no file open: ${kind}`, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* exchange(peer, ...opening(1), R.stdin(1))
      yield* exchange(peer, R.abortRequest(1))
      yield* Deferred.succeed(gate, undefined)
      yield* withinMemory("the body of the response to be cancelled")(Deferred.await(cancelled))
    }).pipe(
      Effect.scoped,
      Effect.provide(server(Effect.uninterruptible(Effect.as(Deferred.await(gate), HttpServerResponse.raw(body)))))
    ))
}

for (const [method, length] of [["GET", "0"], ["HEAD", undefined]] as const) {
  it.effect(`${method} of an empty response says ${length === undefined ? "nothing of" : "what is"} its length`, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.request({ params: { REQUEST_METHOD: method, REQUEST_URI: "/", SERVER_PROTOCOL: "HTTP/1.1" } })
      const { stdout } = yield* withinMemory("the answer")(peer.reply())
      assert.strictEqual(/^content-length: (.*)\r$/im.exec(stdout)?.[1], length)
    }).pipe(Effect.scoped, Effect.provide(server(Effect.succeed(HttpServerResponse.empty({ status: 200 }))))))
}
