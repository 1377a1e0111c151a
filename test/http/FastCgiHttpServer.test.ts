/**
 * What an HTTP app sees of a FastCGI request beyond HTTP: the path that it is mounted at, and what the web server says.
 */
import { assert, it } from "@effect/vitest"
import { FastCgiHttpServer } from "effect-fastcgi/http"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import { getText, serve, status, statusText } from "./suite/support.ts"

/** Answers with what the app sees. */
const seen = Effect.gen(function*() {
  const request = yield* HttpServerRequest.HttpServerRequest
  const { variables } = Option.getOrThrow(yield* FastCgiHttpServer.origin)
  return yield* HttpServerResponse.json({
    method: request.method,
    url: request.url,
    originalUrl: request.originalUrl,
    authorization: request.headers["authorization"],
    remoteAddress: Option.getOrUndefined(request.remoteAddress),
    remoteUser: variables.remoteUser,
    verified: variables.ssl?.clientVerified,
    subject: variables.ssl?.clientSubject,
    notAfter: variables.ssl?.clientNotAfter
  })
})

const Routes = Layer.mergeAll(
  HttpRouter.add("*", "/*", seen),
  HttpRouter.add(
    "GET",
    "/users/:name",
    Effect.map(HttpRouter.params, ({ name }) => HttpServerResponse.text(name ?? ""))
  )
)

const ask = (params: Readonly<Record<string, string>>) =>
  Effect.gen(function*() {
    const peer = yield* (yield* FastCgiTest.FastCgiMemory).peer
    yield* peer.request({ params: { REQUEST_METHOD: "GET", HTTP_HOST: "example.test", ...params } })
    const { stdout } = yield* peer.reply()
    return stdout.slice(stdout.indexOf("\r\n\r\n") + 4)
  })

const see = (params: Readonly<Record<string, string>>) =>
  Effect.map(ask(params), (body) => JSON.parse(body) as Record<string, unknown>)

const mounted = FastCgiTest.layerTestWith({ server: { basePath: "/app" } })

it.effect("takes the base path off url, and leaves it in originalUrl", () =>
  Effect.gen(function*() {
    yield* serve(Routes)
    for (
      const [target, url] of [
        ["/app/x%2Fy?a=/b", "/x%2Fy?a=/b"],
        ["/app", "/"],
        ["/app?a", "/?a"],
        ["/%61pp/x", "/x"],
        ["/apple", "/apple"],
        ["/other/app/x", "/other/app/x"]
      ] as const
    ) {
      const request = yield* see({ REQUEST_URI: target, SCRIPT_NAME: "/app", PATH_INFO: "/x/y" })
      assert.strictEqual(request["url"], url)
      assert.strictEqual(request["originalUrl"], `http://example.test${target}`)
    }
    assert.strictEqual(yield* ask({ REQUEST_URI: "/app/users/J%C3%BCrgen" }), "Jürgen")
    // Of a web server that says the path only in its decoded form.
    const { url } = yield* see({ SCRIPT_NAME: "/app", PATH_INFO: "/a b", QUERY_STRING: "q" })
    assert.strictEqual(url, "/a%20b?q")
  }).pipe(Effect.scoped, Effect.provide(mounted)))

it.effect("makes an absolute URL of a request without a Host header", () =>
  Effect.gen(function*() {
    yield* serve(HttpRouter.add(
      "*",
      "/*",
      Effect.map(HttpServerRequest.HttpServerRequest, (request) =>
        HttpServerResponse.jsonUnsafe([
          request.originalUrl,
          Option.getOrUndefined(HttpServerRequest.toURL(request))?.href,
          request.headers["host"]
        ]))
    ))
    const server = { SERVER_NAME: "a.test", SERVER_PORT: "8443", HTTPS: "on", REQUEST_URI: "/x?y" }
    for (const params of [server, { ...server, HTTP_HOST: "" }]) {
      const peer = yield* (yield* FastCgiTest.FastCgiMemory).peer
      yield* peer.request({ params })
      const { stdout } = yield* peer.reply()
      assert.deepStrictEqual(JSON.parse(stdout.slice(stdout.indexOf("\r\n\r\n"))), [
        "https://a.test:8443/x?y",
        "https://a.test:8443/x?y",
        "a.test:8443"
      ])
    }
  }).pipe(Effect.scoped, Effect.provide(FastCgiTest.layerTest)))

it.effect("tells what the web server says apart from what the client says", () =>
  Effect.gen(function*() {
    yield* serve(Routes)
    assert.deepStrictEqual(
      yield* see({
        REQUEST_METHOD: "PROPFIND",
        REQUEST_URI: "/who",
        HTTPS: "on",
        REMOTE_ADDR: "192.0.2.7",
        REMOTE_USER: "alice",
        REDIRECT_HTTP_AUTHORIZATION: "Basic YWxpY2U6eA==",
        SSL_CLIENT_VERIFY: "SUCCESS",
        SSL_CLIENT_S_DN: "CN=alice",
        SSL_CLIENT_V_END: "Nov  4 09:05:00 2026 GMT"
      }),
      {
        method: "PROPFIND",
        url: "/who",
        originalUrl: "https://example.test/who",
        authorization: "Basic YWxpY2U6eA==",
        remoteAddress: "192.0.2.7",
        remoteUser: "alice",
        verified: true,
        subject: "CN=alice",
        notAfter: "2026-11-04T09:05:00.000Z"
      }
    )
    const spoofed = yield* see({
      REQUEST_URI: "/who",
      HTTP_REMOTE_USER: "root",
      HTTP_X_FORWARDED_PROTO: "https",
      HTTP_SSL_CLIENT_VERIFY: "SUCCESS"
    })
    assert.deepStrictEqual(spoofed, { method: "GET", url: "/who", originalUrl: "http://example.test/who" })
  }).pipe(Effect.scoped, Effect.provide(FastCgiTest.layerTest)))

it.effect("answers 400 where a variable holds CR, LF or NUL, before the app sees it, and logs its name alone", () => {
  const lines: Array<string> = []
  const reached: Array<string> = []
  const log = Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])
  return Effect.gen(function*() {
    yield* serve(HttpRouter.add(
      "*",
      "/*",
      Effect.map(HttpServerRequest.HttpServerRequest, (request) => {
        reached.push(request.url)
        return HttpServerResponse.text("seen")
      })
    ))
    const memory = yield* FastCgiTest.FastCgiMemory
    const peer = yield* memory.peer
    for (
      const name of [
        "REQUEST_METHOD",
        "REQUEST_URI",
        "HTTP_X_NAME",
        "HTTP_HOST",
        "CONTENT_TYPE",
        "SERVER_NAME",
        "REMOTE_USER"
      ]
    ) {
      for (const bad of ["\r", "\n", "\0"]) {
        yield* peer.request({ params: { REQUEST_METHOD: "GET", REQUEST_URI: "/", [name]: `/a${bad}secret: b` } })
        assert.match((yield* peer.reply()).stdout, /^Status: 400 Bad Request\r\n/, name)
      }
    }
    assert.deepStrictEqual(reached, [])
    assert.match(lines.join("\n"), /^refused FastCGI request 1: REQUEST_METHOD holds CR, LF or NUL$/)
    // The connection goes on.
    yield* peer.request({ params: { REQUEST_URI: "/next", SCRIPT_NAME: "/a\r\nb" } })
    assert.match((yield* peer.reply()).stdout, /seen$/)
    assert.deepStrictEqual(reached, ["/next"])
  }).pipe(Effect.scoped, Effect.provide(FastCgiTest.layerTest), Effect.provide(log))
})

it.effect("origin is what a test provides, over FastCGI and in front of a request of another HTTP server", () =>
  Effect.gen(function*() {
    yield* serve(Routes)
    const { method, remoteUser, url } = yield* see({ REQUEST_URI: "/who", REMOTE_USER: "bob" })
    assert.deepStrictEqual({ method, remoteUser, url }, { method: "GET", remoteUser: "ann", url: "/who" })
    const remoteUserOf = FastCgiHttpServer.origin.pipe(
      Effect.map(Option.map(({ request, variables }) => [request.params.get("REMOTE_USER"), variables.remoteUser])),
      Effect.provideService(
        HttpServerRequest.HttpServerRequest,
        HttpServerRequest.fromWeb(new Request("http://localhost/"))
      )
    )
    assert.deepStrictEqual(yield* remoteUserOf, Option.some(["ann", "ann"]))
    assert.deepStrictEqual(
      yield* Effect.provide(remoteUserOf, FastCgiTest.layerOrigin({ REMOTE_USER: "eve" })),
      Option.some(["eve", "eve"])
    )
  }).pipe(
    Effect.scoped,
    Effect.provide([FastCgiTest.layerTest, FastCgiTest.layerOrigin({ REMOTE_USER: "ann" })])
  ))

it.effect("origin is none over another HTTP server", () =>
  Effect.gen(function*() {
    assert.deepStrictEqual(yield* FastCgiHttpServer.origin, Option.none())
  }).pipe(
    Effect.provideService(
      HttpServerRequest.HttpServerRequest,
      HttpServerRequest.fromWeb(new Request("http://localhost/"))
    )
  ))

it.effect("sends a raw Response of the web: its status, headers and body, with what is set beside it over them", () =>
  Effect.gen(function*() {
    const reused = new Response("once")
    const dropped: Array<string> = []
    const endless = (name: string) =>
      new Response(
        new ReadableStream({
          pull: (controller) => controller.enqueue(new Uint8Array(1000)),
          cancel: () => {
            dropped.push(name)
          }
        })
      )
    yield* serve(Layer.mergeAll(
      HttpRouter.add(
        "GET",
        "/whole",
        Effect.sync(() =>
          HttpServerResponse.raw(
            new Response("grüße", {
              status: 418,
              statusText: "Teapot",
              headers: [["x-inner", "1"], ["x-both", "inner"], ["set-cookie", "a=1; Path=/"], ["set-cookie", "b=2"]]
            })
          ).pipe(
            HttpServerResponse.setHeader("x-both", "outer"),
            HttpServerResponse.setCookieUnsafe("c", "3")
          )
        )
      ),
      HttpRouter.add("GET", "/empty", Effect.sync(() => HttpServerResponse.raw(new Response(null, { status: 201 })))),
      HttpRouter.add("GET", "/204", Effect.sync(() => HttpServerResponse.raw(new Response(null, { status: 204 })))),
      HttpRouter.add("GET", "/outer204", Effect.sync(() => HttpServerResponse.raw(endless("204"), { status: 204 }))),
      HttpRouter.add("GET", "/head", Effect.sync(() => HttpServerResponse.raw(endless("head")))),
      HttpRouter.add("GET", "/reused", HttpServerResponse.raw(reused)),
      HttpRouter.add("GET", "/error", Effect.sync(() => HttpServerResponse.raw(Response.error())))
    ))
    const whole = yield* HttpClient.get("/whole")
    assert.strictEqual(whole.status, 418)
    assert.strictEqual(statusText(whole), "Teapot")
    assert.strictEqual(whole.headers["content-type"], "text/plain;charset=UTF-8")
    assert.strictEqual(whole.headers["x-inner"], "1")
    assert.strictEqual(whole.headers["x-both"], "outer")
    assert.deepStrictEqual(
      Object.values(whole.cookies.cookies).map(({ name, value }) => `${name}=${value}`).sort(),
      ["a=1", "b=2", "c=3"]
    )
    assert.strictEqual(yield* whole.text, "grüße")
    const empty = yield* HttpClient.get("/empty")
    assert.strictEqual(empty.status, 201)
    assert.strictEqual(yield* empty.text, "")
    assert.strictEqual(yield* status(HttpClient.get("/204")), 204)
    assert.strictEqual(yield* status(HttpClient.get("/outer204")), 204)
    assert.strictEqual(yield* status(HttpClient.head("/head")), 200)
    assert.deepStrictEqual(dropped, ["204", "head"])
    assert.strictEqual(yield* getText("/reused"), "once")
    assert.strictEqual(yield* status(HttpClient.get("/reused")), 500)
    assert.strictEqual(yield* status(HttpClient.get("/error")), 500)
  }).pipe(Effect.provide([FastCgiTest.layerTest, Logger.layer([])])))
