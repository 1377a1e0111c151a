/**
 * What a fetch handler meets behind a web server, without one: a listener in memory, and a script or a client.
 */
import { assert, describe, it } from "@effect/vitest"
import { getConnInfo } from "@hono/node-server/conninfo"
import { FastCgiAdmission } from "effect-fastcgi"
import { FastCgiHttpClient } from "effect-fastcgi/client"
import { NodeFastCgiApp } from "effect-fastcgi/node"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"
import { Hono } from "hono"
import { within } from "../support/within.ts"

const server = (handler: NodeFastCgiApp.FetchHandler) =>
  Layer.provideMerge(
    NodeFastCgiApp.layerFetchServer(handler, { basePath: "/app" }),
    Layer.mergeAll(FastCgiTest.layerMemory, FastCgiAdmission.layer(), Logger.layer([]))
  )

const test = <A, E>(
  name: string,
  handler: NodeFastCgiApp.FetchHandler,
  run: Effect.Effect<A, E, FastCgiTest.FastCgiMemory | Scope.Scope>
) => it.live(name, () => within("the end of the case")(Effect.scoped(Effect.provide(run, server(handler)))))

const client = Effect.flatMap(
  FastCgiTest.FastCgiMemory,
  (memory) => FastCgiHttpClient.make({ connect: memory.connect, remoteAddress: "192.0.2.7", remotePort: 4711 })
)

const get = (url: string) => Effect.flatMap(client, (client) => client.get(`http://app.test${url}`))

const peer = Effect.flatMap(FastCgiTest.FastCgiMemory, (memory) => memory.peer)

const deferred = <A>() => {
  const deferred = Deferred.makeUnsafe<A>()
  return {
    resolve: (value: A) => {
      Deferred.doneUnsafe(deferred, Effect.succeed(value))
    },
    value: Deferred.await(deferred)
  }
}

describe("NodeFastCgiApp for fetch handlers", () => {
  const app = new Hono<{ Bindings: NodeFastCgiApp.FetchEnvironment }>()
    .get("/sync", (c) => c.text("at once"))
    .get("/async", async (c) => c.json({ user: c.env.variables.remoteUser ?? null, url: c.req.url }))
    .get("/who", (c) => c.json(getConnInfo(c).remote))
    .post("/echo", async (c) => c.body(await c.req.arrayBuffer()))
    .get("/cookies", (c) => {
      c.header("set-cookie", "a=1", { append: true })
      c.header("set-cookie", "b=2", { append: true })
      return c.redirect("/elsewhere", 303)
    })
    .get("/throws", () => {
      throw new Error("thrown")
    })
  test(
    "serves Hono, with synchronous and asynchronous routes, getConnInfo and the CGI variables",
    (request, env) => app.fetch(request, env),
    Effect.gen(function*() {
      assert.strictEqual(yield* Effect.flatMap(get("/app/sync"), (response) => response.text), "at once")
      assert.deepStrictEqual(yield* Effect.flatMap(get("/app/async?a=b"), (response) => response.json), {
        user: null,
        url: "http://app.test/async?a=b"
      })
      assert.deepStrictEqual(yield* Effect.flatMap(get("/app/who"), (response) => response.json), {
        address: "192.0.2.7",
        port: 4711,
        addressType: "IPv4"
      })
      const echoed = yield* (yield* client).execute(
        HttpClientRequest.bodyUint8Array(HttpClientRequest.post("http://app.test/app/echo"), new Uint8Array(300_000))
      )
      assert.strictEqual((yield* echoed.arrayBuffer).byteLength, 300_000)
      const redirect = yield* get("/app/cookies")
      assert.strictEqual(redirect.status, 303)
      assert.deepStrictEqual(Object.keys(redirect.cookies.cookies), ["a", "b"])
      assert.strictEqual((yield* get("/app/throws")).status, 500)
      assert.strictEqual((yield* get("/app/none")).status, 404)
      const head = yield* (yield* client).head("http://app.test/app/sync")
      assert.strictEqual(head.status, 200)
    })
  )

  test(
    "answers for what a handler must not do",
    (request) => {
      switch (new URL(request.url).pathname) {
        case "/throws":
          throw new Error("thrown")
        case "/rejects":
          return Promise.reject(new Error("rejected"))
        case "/nothing":
          return undefined as never
        case "/used": {
          const response = new Response("used")
          response.body!.getReader()
          return response
        }
        default:
          return Response.error()
      }
    },
    Effect.gen(function*() {
      for (const url of ["/throws", "/rejects", "/nothing", "/used", "/error"]) {
        assert.strictEqual((yield* get(url)).status, 500, url)
      }
    })
  )

  test(
    "answers 400 to what no Request can hold",
    () => new Response("taken"),
    Effect.gen(function*() {
      for (const params of [{ HTTP_HOST: "a b" }, { REQUEST_METHOD: "TRACE" }, { HTTP_X_BAD: "a\nb" }]) {
        const script = yield* peer
        yield* script.request({ params: { REQUEST_METHOD: "GET", REQUEST_URI: "/", ...params } })
        assert.match((yield* script.reply()).stdout, /^Status: 400 /)
      }
    })
  )

  const before = deferred<string>()
  test(
    "aborts request.signal when the client goes away, and waits for nobody",
    (request) => {
      request.signal.addEventListener("abort", () => before.resolve(request.signal.reason.name))
      return new Promise(() => {})
    },
    Effect.gen(function*() {
      const script = yield* peer
      yield* script.request()
      yield* Effect.yieldNow
      yield* script.reset
      assert.strictEqual(yield* before.value, "AbortError")
    })
  )

  const during = deferred<string>()
  const cancelled = deferred<void>()
  test(
    "aborts request.signal also when the response has begun",
    (request) => {
      request.signal.addEventListener("abort", () => during.resolve("aborted"))
      return new Response(
        new ReadableStream({
          start: (controller) => controller.enqueue(new TextEncoder().encode("first")),
          cancel: () => cancelled.resolve()
        })
      )
    },
    Effect.gen(function*() {
      const script = yield* peer
      yield* script.request()
      yield* script.receive
      yield* script.reset
      assert.strictEqual(yield* during.value, "aborted")
      yield* cancelled.value
    })
  )

  const dropped = deferred<void>()
  const signals: Array<AbortSignal> = []
  test(
    "cancels a body that is not sent, and aborts nothing that has been answered",
    (request) => {
      signals.push(request.signal)
      return new Response(new ReadableStream({ cancel: () => dropped.resolve() }), { headers: { "x-a": "b" } })
    },
    Effect.gen(function*() {
      const head = yield* (yield* client).head("http://app.test/")
      assert.strictEqual(head.headers["x-a"], "b")
      yield* dropped.value
      assert.isFalse(signals[0]!.aborted)
    })
  )

  test(
    "knows the variables of a Request",
    (request) => {
      assert.isUndefined(NodeFastCgiApp.variables(new Request("http://app.test")))
      return new Response(NodeFastCgiApp.variables(request)?.remoteAddress ?? "")
    },
    Effect.gen(function*() {
      assert.strictEqual(yield* Effect.flatMap(get("/"), (response) => response.text), "192.0.2.7")
    })
  )
})
