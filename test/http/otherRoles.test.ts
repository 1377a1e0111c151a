/**
 * An HTTP app beside handlers for the other roles on one listener.
 */
import { assert, describe, it } from "@effect/vitest"
import { type FastCgiListener, FastCgiMetrics, FastCgiRecord, FastCgiRequest, FastCgiResponse } from "effect-fastcgi"
import { FastCgiHttpServer } from "effect-fastcgi/http"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpRouter from "effect/http/HttpRouter"
import type * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Stream from "effect/Stream"
import { serve } from "./suite/support.ts"

const { Role } = FastCgiRecord

/** Who may have what, by the name in the request. */
class Permissions extends Context.Service<Permissions, ReadonlySet<string>>()("test/Permissions") {}

const permissions = Layer.succeed(Permissions, new Set(["ann"]))

const handlers = {
  authorizer: Effect.gen(function*() {
    const { params } = yield* FastCgiRequest.CurrentAuthorizer
    const user = params.get("REMOTE_USER") ?? ""
    if (user === "broken") return yield* Effect.fail("the list of users is gone")
    return (yield* Permissions).has(user)
      ? FastCgiResponse.allow({ AUTH_USER: user })
      : FastCgiResponse.deny(FastCgiResponse.make("no", { status: 403 }))
  }),
  filter: (request: FastCgiRequest.Filter) =>
    Effect.succeed(FastCgiResponse.make(Stream.map(request.data, (chunk) => chunk.map((byte) => byte ^ 0x20))))
}

const Routes = HttpRouter.add("GET", "/app", HttpServerResponse.text("app"))

const ask = (request: FastCgiTest.PeerRequest) =>
  Effect.gen(function*() {
    const peer = yield* (yield* FastCgiTest.FastCgiMemory).peer
    yield* peer.request(request)
    return yield* peer.reply()
  })

describe("an HTTP app with handlers for the other roles", () => {
  const logged: Array<string> = []
  const log = Logger.layer([Logger.make(({ message }) => void logged.push(String(message)))])

  it.effect("answers a Responder, an Authorizer and a Filter on one listener", () =>
    Effect.gen(function*() {
      yield* serve(Routes)
      const app = yield* HttpClient.get("/app")
      assert.strictEqual(yield* app.text, "app")
      const allowed = yield* ask({ role: Role.Authorizer, params: { REMOTE_USER: "ann" } })
      assert.strictEqual(allowed.stdout, "Status: 200 OK\r\nVariable-AUTH_USER: ann\r\n\r\n")
      const denied = yield* ask({ role: Role.Authorizer, params: { REMOTE_USER: "bob" } })
      assert.match(denied.stdout, /^Status: 403 Forbidden\r\n[^]*no$/)
      const peer = yield* (yield* FastCgiTest.FastCgiMemory).peer
      yield* peer.request({ role: Role.Filter, params: { FCGI_DATA_LENGTH: "4" } })
      yield* peer.send(FastCgiRecord.data(1, new TextEncoder().encode("file")), FastCgiRecord.data(1))
      assert.match((yield* peer.reply()).stdout, /\r\n\r\nFILE$/)
    }).pipe(
      Effect.scoped,
      Effect.provide(FastCgiTest.layerTestWith({}, handlers).pipe(Layer.provide(permissions)))
    ))

  it.effect("denies where its Authorizer fails, counts and logs that, and where a variable is no single line", () =>
    Effect.gen(function*() {
      yield* serve(Routes)
      const failed = yield* ask({ role: Role.Authorizer, params: { REMOTE_USER: "broken" } })
      assert.match(failed.stdout, /^Status: 500 /)
      assert.strictEqual(failed.appStatus, 1)
      assert.strictEqual((yield* Metric.value(FastCgiMetrics.requestsFailed)).count, 1)
      assert.deepStrictEqual(logged, ["a FastCGI handler failed"])
      const forged = yield* ask({ role: Role.Authorizer, params: { REMOTE_USER: "ann\r\nX: y" } })
      assert.match(forged.stdout, /^Status: 400 /)
      assert.strictEqual(yield* (yield* HttpClient.get("/app")).text, "app")
    }).pipe(
      Effect.scoped,
      Effect.provide(FastCgiTest.layerTestWith({}, handlers).pipe(Layer.provide([permissions, log]))),
      Effect.provide(log),
      Effect.provideService(Metric.MetricRegistry, new Map())
    ))

  it.effect("answers a role without a handler with UNKNOWN_ROLE, and denies an Authorizer's beside it", () =>
    Effect.gen(function*() {
      yield* serve(Routes)
      const filter = yield* ask({ role: Role.Filter })
      assert.deepStrictEqual([filter.stdout, filter.protocolStatus], ["", FastCgiRecord.ProtocolStatus.UnknownRole])
      const authorizer = yield* ask({ role: Role.Authorizer })
      assert.match(authorizer.stdout, /^Status: 403 /)
      assert.strictEqual(authorizer.protocolStatus, FastCgiRecord.ProtocolStatus.UnknownRole)
    }).pipe(Effect.scoped, Effect.provide(FastCgiTest.layerTest)))

  it("requires what its handlers require", () => {
    const server: Layer.Layer<HttpServer.HttpServer, never, FastCgiListener.FastCgiListener | Permissions> =
      FastCgiHttpServer.layerServer({}, handlers)
    assert.isTrue(Layer.isLayer(server))
    // @ts-expect-error: Permissions is missing
    const none: Layer.Layer<unknown, unknown> = FastCgiTest.layerTestWith({}, handlers)
    assert.isTrue(Layer.isLayer(none))
    const wrong = {
      // @ts-expect-error: an Authorizer decides, it does not answer
      authorizer: () => Effect.succeed(FastCgiResponse.make("hello"))
    } satisfies FastCgiHttpServer.FastCgiHttpServerHandlers<never, never, never, never>
    assert.isFunction(wrong.authorizer)
  })
})
