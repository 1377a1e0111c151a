/**
 * An HTTP response that breaks off behind its head: whatever else happens on its connection, no END_REQUEST calls it complete.
 */
import { assert, it } from "@effect/vitest"
import { FastCgiAdmission, FastCgiRecord as R } from "effect-fastcgi"
import { FastCgiHttpServer } from "effect-fastcgi/http"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { connect, exchange, opening, settle, tags } from "../server/support/serving.ts"

const bytes = Stream.make(new Uint8Array(10))

const server = (gate: Deferred.Deferred<void>) =>
  HttpServer.serve(Effect.gen(function*() {
    const request = yield* HttpServerRequest
    switch (request.url) {
      case "/at-once":
        return HttpServerResponse.stream(Stream.concat(bytes, Stream.fail("no")))
      case "/later":
        return HttpServerResponse.stream(
          Stream.concat(bytes, Stream.fromEffect(Effect.andThen(Effect.yieldNow, Effect.fail("no"))))
        )
      default:
        return yield* Effect.as(Deferred.await(gate), HttpServerResponse.text("fine"))
    }
  })).pipe(
    Layer.provide(FastCgiHttpServer.layerServer()),
    Layer.provideMerge([FastCgiTest.layerMemory, FastCgiAdmission.layer()])
  )

for (const url of ["/at-once", "/later"]) {
  const params = { REQUEST_METHOD: "GET", REQUEST_URI: url, SERVER_PROTOCOL: "HTTP/1.1" }

  it.effect(`${url}, alone on its connection`, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(...opening(1, { params }), R.stdin(1))
      yield* settle
      assert.notInclude(tags(yield* peer.drain), "EndRequest 1")
    }).pipe(Effect.scoped, Effect.provide(server(Deferred.makeUnsafe()))))

  const gate = Deferred.makeUnsafe<void>()
  it.effect(`${url}, beside another request`, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      const fine = { ...params, REQUEST_URI: "/" }
      const said = yield* exchange(
        peer,
        ...opening(3, { params: fine }),
        R.stdin(3),
        ...opening(1, { params }),
        R.stdin(1)
      )
      yield* settle
      const more = yield* exchange(peer)
      assert.include(tags([...said, ...more]), "Stdout 1")
      assert.notInclude(tags([...said, ...more]), "EndRequest 1")
      yield* Deferred.succeed(gate, undefined)
      assert.match((yield* peer.reply(3)).stdout, /fine$/)
      assert.deepStrictEqual(yield* peer.drain, [])
    }).pipe(Effect.scoped, Effect.provide(server(gate))))
}
