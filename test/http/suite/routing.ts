/** Routing, and what a handler sees of a request: URL, headers, cookies, addresses. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Cases } from "./support.ts"
import { empty, get, getJson, getText, head, method, request, route, send, serve, status } from "./support.ts"

const echoUrl = Effect.map(request, (request) => HttpServerResponse.text(request.url))

const json = HttpServerResponse.jsonUnsafe

/** Everything a handler can ask a request for without its body. */
const describeRequest = Effect.map(request, (request) =>
  json({
    method: request.method,
    url: request.url,
    originalUrl: request.originalUrl,
    toURL: Option.getOrUndefined(HttpServerRequest.toURL(request))?.href,
    headers: request.headers,
    cookies: request.cookies
  }))

interface Described {
  readonly method: string
  readonly url: string
  readonly originalUrl: string
  readonly toURL: string
  readonly headers: Record<string, string>
  readonly cookies: Record<string, string>
}

const described = (url: string, headers: Record<string, string> = {}) =>
  Effect.map(getJson(url, headers), (body) => body as unknown as Described)

export const routing: Cases = (test) => {
  test("decodes path parameters with a schema", () =>
    Effect.gen(function*() {
      yield* serve(route(
        "GET",
        "/todos/:id",
        Effect.map(
          HttpRouter.schemaPathParams(Schema.Struct({ id: Schema.FiniteFromString })),
          ({ id }) => json({ next: id + 1 })
        )
      ))
      assert.deepStrictEqual(yield* getJson("/todos/41"), { next: 42 })
    }))

  test("answers 400 when a path parameter does not decode", () =>
    Effect.gen(function*() {
      yield* serve(route(
        "GET",
        "/todos/:id",
        Effect.map(HttpRouter.schemaPathParams(Schema.Struct({ id: Schema.FiniteFromString })), json)
      ))
      assert.strictEqual(yield* status(get("/todos/first")), 400)
    }))

  test("decodes search parameters, a repeated one as an array", () =>
    Effect.gen(function*() {
      yield* serve(route(
        "GET",
        "/search",
        Effect.map(
          HttpServerRequest.schemaSearchParams(
            Schema.Struct({ q: Schema.String, tag: Schema.Array(Schema.String), none: Schema.String })
          ),
          json
        )
      ))
      assert.deepStrictEqual(yield* getJson("/search?q=a+b%26c&tag=x&tag=y&none="), {
        q: "a b&c",
        tag: ["x", "y"],
        none: ""
      })
    }))

  test("answers 400 when a search parameter is missing", () =>
    Effect.gen(function*() {
      yield* serve(route(
        "GET",
        "/search",
        Effect.map(HttpServerRequest.schemaSearchParams(Schema.Struct({ q: Schema.String })), json)
      ))
      assert.strictEqual(yield* status(get("/search?p=1")), 400)
    }))

  test("decodes headers and cookies with schemas, and answers 400 without them", () =>
    Effect.gen(function*() {
      yield* serve(route(
        "GET",
        "/",
        Effect.gen(function*() {
          const headers = yield* HttpServerRequest.schemaHeaders(Schema.Struct({ "x-count": Schema.FiniteFromString }))
          const cookies = yield* HttpServerRequest.schemaCookies(Schema.Struct({ session: Schema.String }))
          return json({ count: headers["x-count"], session: cookies.session })
        })
      ))
      assert.deepStrictEqual(yield* getJson("/", { "x-count": "3", cookie: "session=s1" }), { count: 3, session: "s1" })
      assert.strictEqual(yield* status(get("/", { "x-count": "3" })), 400)
      assert.strictEqual(yield* status(get("/", { "x-count": "many", cookie: "session=s1" })), 400)
    }))

  test("answers 404 for a path and for a method nobody routes", () =>
    Effect.gen(function*() {
      yield* serve(route("GET", "/here", empty))
      assert.strictEqual(yield* status(get("/there")), 404)
      assert.strictEqual(yield* status(HttpClient.post("/here")), 404)
      assert.strictEqual(yield* status(get("/here")), 204)
    }))

  test("answers HEAD with the GET route", () =>
    Effect.gen(function*() {
      yield* serve(route("GET", "/here", Effect.map(request, (request) => HttpServerResponse.text(request.method))))
      const response = yield* head("/here")
      assert.strictEqual(response.status, 200)
      assert.strictEqual(response.headers["content-length"], "4")
      assert.strictEqual(yield* response.text, "")
    }))

  test("routes each method to its own handler", () =>
    Effect.gen(function*() {
      const methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] as const
      yield* serve(Layer.mergeAll(
        route("GET", "/m", HttpServerResponse.text("GET route")),
        ...methods.slice(1).map((name) => route(name, "/m", HttpServerResponse.text(`${name} route`)))
      ))
      for (const name of methods) {
        const response = yield* send(method(name, "/m"))
        assert.strictEqual(yield* response.text, `${name} route`)
      }
    }))

  test("passes a method it does not know on to the app", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(Effect.map(request, (request) => HttpServerResponse.text(request.method)))
      for (const name of ["PROPFIND", "REPORT", "MKCALENDAR"]) {
        const response = yield* send(method(name, "/"))
        assert.strictEqual(yield* response.text, name)
      }
    }))

  test("slices the prefix off the URL of a mounted app", () =>
    Effect.gen(function*() {
      yield* serve(HttpRouter.use((router) => router.prefixed("/child").add("*", "*", echoUrl)))
      assert.strictEqual(yield* getText("/child/1"), "/1")
      assert.strictEqual(yield* getText("/child/1/2?a=b"), "/1/2?a=b")
      assert.strictEqual(yield* getText("/child"), "/")
      assert.strictEqual(yield* getText("/child/"), "/")
      assert.strictEqual(yield* status(get("/child1/")), 404)
    }))

  test("keeps originalUrl whole under a prefix", () =>
    Effect.gen(function*() {
      yield* serve(HttpRouter.use((router) => router.prefixed("/child").add("GET", "/*", describeRequest)))
      const seen = yield* described("/child/leaf?a=1")
      assert.strictEqual(seen.url, "/leaf?a=1")
      assert.isTrue(seen.originalUrl.endsWith("/child/leaf?a=1"))
    }))

  test("reads the body of a request whose URL a prefix has changed", () =>
    Effect.gen(function*() {
      yield* serve(HttpRouter.use((router) =>
        router.prefixed("/child").add(
          "POST",
          "/echo",
          Effect.map(Effect.flatMap(request, (request) => request.text), (text) => HttpServerResponse.text(text))
        )
      ))
      const response = yield* send(HttpClientRequest.bodyText(HttpClientRequest.post("/child/echo"), "through"))
      assert.strictEqual(yield* response.text, "through")
    }))

  test("matches wildcards and nested prefixes", () =>
    Effect.gen(function*() {
      yield* serve(Layer.mergeAll(
        route("GET", "/files/*", echoUrl),
        HttpRouter.use((router) =>
          router.prefixed("/a").prefixed("/b").add("GET", "/c", HttpServerResponse.text("abc"))
        )
      ))
      assert.strictEqual(yield* getText("/files/x/y/z.txt"), "/files/x/y/z.txt")
      assert.strictEqual(yield* getText("/a/b/c").pipe(Effect.orElseSucceed(() => "")), "abc")
    }))

  test("obeys RouterConfig", () =>
    Effect.gen(function*() {
      yield* serve(route("GET", "/:param", empty)).pipe(
        Effect.provideService(HttpRouter.RouterConfig, { maxParamLength: 5 })
      )
      assert.strictEqual(yield* status(get("/123456")), 404)
      assert.strictEqual(yield* status(get("/12345")), 204)
    }))

  test("leaves the path percent-encoded in url and decodes path parameters", () =>
    Effect.gen(function*() {
      yield* serve(route(
        "GET",
        "/p/:name",
        Effect.gen(function*() {
          const { url } = yield* request
          return json({ url, name: (yield* HttpRouter.params)["name"] })
        })
      ))
      assert.deepStrictEqual(yield* getJson("/p/a%20b%3Fc%23d"), { url: "/p/a%20b%3Fc%23d", name: "a b?c#d" })
      assert.deepStrictEqual(yield* getJson("/p/a%2Fb"), { url: "/p/a%2Fb", name: "a/b" })
      assert.deepStrictEqual(yield* getJson("/p/%E2%82%AC"), { url: "/p/%E2%82%AC", name: "€" })
    }))

  test("receives a non-ASCII path as percent-encoded UTF-8", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(echoUrl)
      assert.strictEqual(yield* getText("/grüße/日本?q=ä"), "/gr%C3%BC%C3%9Fe/%E6%97%A5%E6%9C%AC?q=%C3%A4")
    }))

  test("passes on a path that does not decode", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(echoUrl)
      assert.strictEqual(yield* getText("/100%/%ff%zz"), "/100%/%ff%zz")
    }))

  test("passes on an empty query and one with further question marks", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(echoUrl)
      assert.strictEqual(yield* getText("/x?a=1?b=2&&c"), "/x?a=1?b=2&&c")
      assert.strictEqual(yield* getText("/x;v=1,2/y"), "/x;v=1,2/y")
    }))

  test("passes on a URL of 7000 characters", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(echoUrl)
      const url = `/long?q=${"abcdefg".repeat(1000)}`
      assert.strictEqual(yield* getText(url), url)
    }))

  test("says the absolute URL of a request", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(describeRequest)
      const seen = yield* described("/a/b?c=d", { "x-any": "1" })
      const host = seen.headers["host"]
      assert.isDefined(host)
      assert.strictEqual(seen.method, "GET")
      assert.strictEqual(seen.url, "/a/b?c=d")
      assert.strictEqual(seen.originalUrl, `http://${host}/a/b?c=d`)
      assert.strictEqual(seen.toURL, `http://${host}/a/b?c=d`)
    }))

  test("gives headers lower-case names, whatever the client wrote", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(describeRequest)
      const seen = yield* described("/", { "X-MiXed-Case": "Value Kept", "x-lower": "1" })
      assert.strictEqual(seen.headers["x-mixed-case"], "Value Kept")
      assert.strictEqual(seen.headers["x-lower"], "1")
      assert.isUndefined(seen.headers["X-MiXed-Case"])
    }))

  test("keeps empty header values, inner spaces, commas and quotes", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(describeRequest)
      const seen = yield* described("/", { "x-empty": "", "x-list": "a, \"b, c\",  d", "x-eq": "k=v; k2=v2" })
      assert.strictEqual(seen.headers["x-empty"], "")
      assert.strictEqual(seen.headers["x-list"], "a, \"b, c\",  d")
      assert.strictEqual(seen.headers["x-eq"], "k=v; k2=v2")
    }))

  test("reads header bytes above ASCII as latin1, as node:http does", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(describeRequest)
      const seen = yield* described("/", { "x-name": "caf\u00e9" })
      assert.strictEqual(seen.headers["x-name"], "caf\u00e9")
    }))

  test("carries a hundred headers and one of 6000 characters", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(describeRequest)
      const sent: Record<string, string> = { "x-long": "v".repeat(6000) }
      for (let i = 0; i < 100; i++) sent[`x-header-${i}`] = `value ${i}`
      const seen = yield* described("/", sent)
      for (const name of Object.keys(sent)) assert.strictEqual(seen.headers[name], sent[name])
    }))

  test("passes content-type on and gives no content-type or content-length to a GET", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(describeRequest)
      const plain = yield* described("/")
      assert.isUndefined(plain.headers["content-type"])
      assert.isUndefined(plain.headers["content-length"])
      const response = yield* send(
        HttpClientRequest.bodyText(HttpClientRequest.post("/"), "12345", "text/x-special; charset=utf-8")
      )
      const { headers } = (yield* response.json) as unknown as Described
      assert.strictEqual(headers["content-type"], "text/x-special; charset=utf-8")
      assert.strictEqual(headers["content-length"], "5")
    }))

  test("parses request cookies, quoted and encoded ones too", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(describeRequest)
      const { cookies } = yield* described("/", { cookie: "a=1; b=two%20words; c=\"quoted\"; d=x=y" })
      assert.deepStrictEqual(cookies, { a: "1", b: "two words", c: "quoted", d: "x=y" })
      assert.deepStrictEqual((yield* described("/")).cookies, {})
    }))

  test("knows the address of the peer", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(Effect.map(request, (request) =>
        json({
          remote: Option.getOrNull(request.remoteAddress),
          peer: Option.getOrNull(request.peerAddress),
          protocol: request.protocol ?? null
        })))
      const seen = (yield* getJson("/")) as { remote: string; peer: string; protocol: unknown }
      assert.match(seen.remote, /^(?:::ffff:)?127\.0\.0\.1$|^::1$/)
      assert.strictEqual(seen.peer, seen.remote)
      assert.isNull(seen.protocol)
    }))

  test("modify gives a view with other url, headers and address, and leaves the request as it was", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(Effect.map(request, (request) => {
        const headers = { ...request.headers, "x-added": "yes" }
        const changed = request.modify({
          url: "/changed",
          headers: headers as unknown as typeof request.headers,
          remoteAddress: Option.some("192.0.2.7"),
          protocol: "https"
        })
        const again = changed.modify({ url: "/again" })
        const unknown = changed.modify({ remoteAddress: Option.none() })
        return json({
          urls: [request.url, changed.url, again.url],
          added: [request.headers["x-added"] ?? null, changed.headers["x-added"], again.headers["x-added"]],
          remote: [
            Option.getOrNull(changed.remoteAddress),
            Option.getOrNull(again.remoteAddress),
            Option.getOrNull(unknown.remoteAddress)
          ],
          protocol: [request.protocol ?? null, changed.protocol, again.protocol],
          scheme: Option.getOrUndefined(HttpServerRequest.toURL(again))?.protocol,
          sameOriginal: again.originalUrl === request.originalUrl,
          sameMethod: again.method === request.method
        })
      }))
      assert.deepStrictEqual(yield* getJson("/first"), {
        urls: ["/first", "/changed", "/again"],
        added: [null, "yes", "yes"],
        remote: ["192.0.2.7", "192.0.2.7", null],
        protocol: [null, "https", "https"],
        scheme: "https:",
        sameOriginal: true,
        sameMethod: true
      })
    }))

  test("shows itself without secrets", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(
        Effect.map(request, (request) => json({ text: String(request), shown: request.toJSON() }))
      )
      const shown = yield* getText("/path?sig=hidden-token&a=1", { authorization: "Bearer hidden-bearer" })
      assert.isFalse(shown.includes("hidden-token"))
      assert.isFalse(shown.includes("hidden-bearer"))
      assert.isTrue(shown.includes("ServerRequest(GET /path?"))
    }))

  test("fails upgrade on an ordinary request with a typed error", () =>
    Effect.gen(function*() {
      yield* serve(Layer.mergeAll(
        route(
          "GET",
          "/caught",
          Effect.flatMap(request, (request) =>
            Effect.scoped(Effect.matchEffect(request.upgrade, {
              onFailure: (error) => Effect.succeed(json({ tag: error._tag, reason: error.reason._tag })),
              onSuccess: () => Effect.succeed(HttpServerResponse.text("upgraded"))
            })))
        ),
        route("GET", "/thrown", Effect.flatMap(request, (request) => Effect.as(request.upgradeWith({}), empty)))
      ))
      assert.deepStrictEqual(yield* getJson("/caught"), { tag: "HttpServerError", reason: "RequestParseError" })
      // NodeHttpServer says 400; 426 tells the client what it could have asked for (RFC 9110 §15.5.22).
      assert.include([400, 426], yield* status(get("/thrown")))
    }))
}
