/**
 * Middleware around a server and around routes: order, pre-response handlers, logger, tracer, CORS, trusted proxies.
 */
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as References from "effect/References"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import type { Cases } from "./support.ts"
import {
  empty,
  encode,
  get,
  getJson,
  getText,
  method,
  post,
  request,
  route,
  send,
  sendText,
  serve,
  serveLogged,
  status,
  testUnless,
  textStream
} from "./support.ts"

/** A tracer whose spans come out of a queue when they end. */
const recordingTracer = Effect.map(Queue.unbounded<Tracer.NativeSpan>(), (ended) => ({
  ended,
  tracer: Tracer.make({
    span(options) {
      const span = new Tracer.NativeSpan(options)
      const end = span.end.bind(span)
      span.end = (endTime, exit) => {
        end(endTime, exit)
        if (span.kind === "server") Queue.offerUnsafe(ended, span)
      }
      return span
    }
  })
}))

interface Entry {
  readonly message: unknown
  readonly cause: string
  readonly annotations: Readonly<Record<string, unknown>>
}

const recordingLogger = Effect.map(Queue.unbounded<Entry>(), (entries) => ({
  entries,
  layer: Logger.layer([
    Logger.make(({ cause, fiber, message }) => {
      Queue.offerUnsafe(entries, {
        message: Array.isArray(message) ? message[0] : message,
        cause: Cause.pretty(cause),
        annotations: fiber.getRef(References.CurrentLogAnnotations)
      })
    })
  ])
}))

export const middleware: Cases = (test, capabilities) => {
  test("runs middleware from the outside in and back, around the sending of the response", () =>
    Effect.gen(function*() {
      const events = yield* Queue.unbounded<string>()
      const wrap = (name: string) => <E, R>(app: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>) =>
        Queue.offer(events, `${name} in`).pipe(
          Effect.andThen(app),
          Effect.tap((response) => Queue.offer(events, `${name} out ${response.status}`))
        )
      yield* HttpServer.serveEffect(
        Effect.as(Queue.offer(events, "handler"), HttpServerResponse.text("ok", { status: 201 })),
        (app) => wrap("outer")(wrap("inner")(app))
      )
      assert.strictEqual(yield* status(get("/")), 201)
      assert.deepStrictEqual(yield* Queue.takeN(events, 5), [
        "outer in",
        "inner in",
        "handler",
        "inner out 201",
        "outer out 201"
      ])
    }))

  test("lets router middleware change the response, and provide services", () =>
    Effect.gen(function*() {
      const stamp = HttpRouter.middleware(
        (app) => Effect.map(app, HttpServerResponse.setHeader("x-stamp", "yes")),
        { global: true }
      )
      yield* serve(Layer.mergeAll(
        route("GET", "/", Effect.map(request, (request) => HttpServerResponse.text(request.url))),
        stamp
      ))
      const response = yield* get("/")
      assert.strictEqual(response.headers["x-stamp"], "yes")
      assert.strictEqual(yield* response.text, "/")
    }))

  test("sends the response of middleware that never calls the app", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(
        Effect.succeed(HttpServerResponse.text("app")),
        (app) =>
          Effect.flatMap(request, (request) =>
            request.url === "/closed" ? Effect.succeed(HttpServerResponse.text("closed", { status: 503 })) : app)
      )
      const response = yield* get("/closed")
      assert.strictEqual(response.status, 503)
      assert.strictEqual(yield* response.text, "closed")
      assert.strictEqual(yield* getText("/open"), "app")
    }))

  testUnless(test, capabilities.cutOffTakesTheNext)(
    "reports a response that cannot be sent, or breaks off, to the middleware as a failure",
    () =>
      Effect.gen(function*() {
        const exits = yield* Queue.unbounded<boolean>()
        const withLength = (response: HttpServerResponse.HttpServerResponse, length: number) =>
          HttpServerResponse.setHeader(response, "content-length", String(length))
        const broken: Record<string, HttpServerResponse.HttpServerResponse> = {
          "/header": HttpServerResponse.text("body", { headers: { "x-a": "b\r\nc: d" } }),
          "/status": HttpServerResponse.text("body", { status: 101 }),
          "/text/short": withLength(HttpServerResponse.text("12345"), 10),
          "/text/long": withLength(HttpServerResponse.text("1234567890"), 5),
          "/bytes/short": withLength(HttpServerResponse.uint8Array(encode("12345")), 10),
          "/raw/short": HttpServerResponse.raw("12345", { contentLength: 10 }),
          "/empty": HttpServerResponse.empty({ status: 200, headers: { "content-length": "5" } }),
          "/stream/short": HttpServerResponse.stream(textStream("12345"), { contentLength: 10 }),
          "/stream/long": HttpServerResponse.stream(textStream("12345", "67890"), { contentLength: 5 }),
          "/stream/fails": HttpServerResponse.stream(Stream.concat(textStream("12345"), Stream.fail("late")))
        }
        yield* HttpServer.serveEffect(
          Effect.map(request, (request) => broken[request.url] ?? HttpServerResponse.text("fine")),
          Effect.onExit((exit) => Queue.offer(exits, Exit.isFailure(exit)))
        )
        for (const url of Object.keys(broken)) {
          // Not a GET: a client may send that again when its connection is lost before anything has come back.
          yield* Effect.exit(sendText(post(url)))
          assert.isTrue(yield* Queue.take(exits), url)
        }
        assert.strictEqual(yield* sendText(post("/fine")), "fine")
        assert.isFalse(yield* Queue.take(exits))
      })
  )

  test("answers 500 to middleware that fails before the app", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(
        Effect.succeed(HttpServerResponse.text("app")),
        (app) => Effect.flatMap(request, (request) => request.url === "/fails" ? Effect.fail("no") : app)
      )
      assert.strictEqual(yield* status(get("/fails")), 500)
      assert.strictEqual(yield* getText("/works"), "app")
    }))

  for (const [name, serve_] of [["", serve], [", with the default middleware", serveLogged]] as const) {
    test(`applies pre-response handlers in order, to error responses too${name}`, () =>
      Effect.gen(function*() {
        const append = (value: string) =>
          HttpEffect.appendPreResponseHandler((_, response) =>
            Effect.succeed(
              HttpServerResponse.setHeader(response, "x-seen", `${response.headers["x-seen"] ?? ""}${value}`)
            )
          )
        yield* serve_(Layer.mergeAll(
          route("GET", "/", Effect.andThen(append("1"), Effect.as(append("2"), HttpServerResponse.text("ok")))),
          route("GET", "/fails", Effect.andThen(append("e"), Effect.fail("no"))),
          route(
            "GET",
            "/replaced",
            Effect.as(
              HttpEffect.appendPreResponseHandler(() =>
                Effect.succeed(HttpServerResponse.text("other", { status: 202 }))
              ),
              HttpServerResponse.text("first")
            )
          )
        ))
        assert.strictEqual((yield* get("/")).headers["x-seen"], "12")
        const failed = yield* get("/fails")
        assert.strictEqual(failed.status, 500)
        assert.strictEqual(failed.headers["x-seen"], "e")
        const replaced = yield* get("/replaced")
        assert.strictEqual(replaced.status, 202)
        assert.strictEqual(yield* replaced.text, "other")
        assert.isUndefined((yield* get("/nowhere")).headers["x-seen"])
      }))
  }

  const brokenHandler = route(
    "GET",
    "/",
    Effect.as(HttpEffect.appendPreResponseHandler(() => Effect.die("broken handler")), HttpServerResponse.text("ok"))
  )

  test("answers 500 when a pre-response handler dies, with the default middleware", () =>
    Effect.gen(function*() {
      yield* serveLogged(brokenHandler)
      assert.strictEqual(yield* status(get("/")), 500)
    }))

  testUnless(test, capabilities.unansweredPreResponseFailure)(
    "answers 500 when a pre-response handler dies",
    () =>
      Effect.gen(function*() {
        yield* serve(brokenHandler)
        assert.strictEqual(yield* status(get("/")), 500)
      })
  )

  test("logs method, path and status of each response, and the cause of a failure", () =>
    Effect.gen(function*() {
      const { entries, layer } = yield* recordingLogger
      yield* Effect.provide(
        serveLogged(Layer.mergeAll(
          route("GET", "/ok", HttpServerResponse.text("ok")),
          route("POST", "/fails", Effect.die(new Error("the reason"))),
          route("GET", "/quiet", empty).pipe(Layer.provide(HttpRouter.disableLogger)),
          route("GET", "/last", HttpServerResponse.stream(textStream("1", "2")))
        )),
        layer
      )
      assert.strictEqual(yield* getText("/ok?secret=1"), "ok")
      const ok = yield* Queue.take(entries)
      assert.strictEqual(ok.message, "Sent HTTP response")
      assert.deepStrictEqual(ok.annotations, { "http.method": "GET", "http.url": "/ok", "http.status": 200 })
      assert.strictEqual(yield* status(send(post("/fails"))), 500)
      // A server may log the cause by itself; the line of the response is the one with the status.
      const response = Effect.repeat(Queue.take(entries), { until: (entry) => "http.status" in entry.annotations })
      const failed = yield* response
      assert.deepStrictEqual(failed.annotations, { "http.method": "POST", "http.url": "/fails", "http.status": 500 })
      assert.include(failed.cause, "the reason")
      assert.strictEqual(yield* status(get("/quiet")), 204)
      assert.strictEqual(yield* getText("/last"), "12")
      assert.strictEqual((yield* response).annotations["http.url"], "/last")
    }))

  for (const [name, serve_] of [["", serve], [", with the default middleware", serveLogged]] as const) {
    test(`traces a request as a server span with method, URL, addresses, agent, route and status${name}`, () =>
      Effect.gen(function*() {
        const { ended, tracer } = yield* recordingTracer
        yield* Effect.provideService(
          serve_(route("GET", "/todos/:id", HttpServerResponse.text("ok", { status: 203 }))),
          Tracer.Tracer,
          tracer
        )
        assert.strictEqual(yield* status(get("/todos/1?q=x", { "user-agent": "suite" })), 203)
        const span = yield* Queue.take(ended)
        assert.strictEqual(span.kind, "server")
        assert.strictEqual(span.name, "GET")
        const attribute = (key: string) => span.attributes.get(key)
        assert.strictEqual(attribute("http.request.method"), "GET")
        assert.strictEqual(attribute("http.route"), "/todos/:id")
        assert.strictEqual(attribute("http.response.status_code"), 203)
        assert.strictEqual(attribute("url.path"), "/todos/1")
        assert.strictEqual(attribute("url.query"), "q=x")
        assert.strictEqual(attribute("url.scheme"), "http")
        assert.strictEqual(attribute("user_agent.original"), "suite")
        assert.isString(attribute("server.address"))
        assert.match(String(attribute("client.address")), /127\.0\.0\.1|::1/)
        assert.strictEqual(span.status._tag, "Ended")
      }))
  }

  test("takes the parent of its span from the client's traceparent", () =>
    Effect.gen(function*() {
      const { ended, tracer } = yield* recordingTracer
      yield* Effect.provideService(
        serve(route(
          "GET",
          "/",
          Effect.map(Effect.currentSpan, (span) =>
            HttpServerResponse.jsonUnsafe({
              traceId: span.traceId,
              parent: Option.getOrUndefined(span.parent)?.spanId
            }))
        )),
        Tracer.Tracer,
        tracer
      )
      const traceId = "0af7651916cd43dd8448eb211c80319c"
      const sent = HttpClientRequest.setHeader(
        HttpClientRequest.get("/"),
        "traceparent",
        `00-${traceId}-b7ad6b7169203331-01`
      )
      const response = yield* Effect.provideService(send(sent), Tracer.DisablePropagation, true)
      assert.deepStrictEqual(yield* response.json, { traceId, parent: "b7ad6b7169203331" })
      assert.strictEqual((yield* Queue.take(ended)).traceId, traceId)
    }))

  test("carries the client's own span to the server", () =>
    Effect.gen(function*() {
      const { ended, tracer } = yield* recordingTracer
      yield* Effect.provideService(serve(route("GET", "/", empty)), Tracer.Tracer, tracer)
      const outer = yield* Effect.useSpan("outer", (span) =>
        Effect.as(Effect.provideService(get("/"), Tracer.ParentSpan, span), span))
      const span = yield* Queue.take(ended)
      assert.strictEqual(span.traceId, outer.traceId)
    }))

  test("ends the span of a 500 and of a failure as failed", () =>
    Effect.gen(function*() {
      const { ended, tracer } = yield* recordingTracer
      yield* Effect.provideService(
        serve(Layer.mergeAll(
          route("GET", "/500", HttpServerResponse.empty({ status: 500 })),
          route("GET", "/fails", Effect.die("broken")),
          route("GET", "/404", HttpServerResponse.empty({ status: 404 }))
        )),
        Tracer.Tracer,
        tracer
      )
      for (
        const [url, code, exit] of [["/500", 500, "Failure"], ["/fails", 500, "Failure"], [
          "/404",
          404,
          "Success"
        ]] as const
      ) {
        assert.strictEqual(yield* status(get(url)), code)
        const span = yield* Queue.take(ended)
        assert.strictEqual(span.attributes.get("http.response.status_code"), code)
        assert.isTrue(span.status._tag === "Ended" && span.status.exit._tag === exit, url)
      }
    }))

  test("traces nothing where the tracer is disabled", () =>
    Effect.gen(function*() {
      const { ended, tracer } = yield* recordingTracer
      yield* serve(Layer.mergeAll(route("GET", "/health", empty), route("GET", "/app", empty))).pipe(
        Effect.provideService(Tracer.Tracer, tracer),
        Effect.provideService(HttpMiddleware.TracerDisabledWhen, (request: HttpServerRequest.HttpServerRequest) =>
          request.url === "/health")
      )
      assert.strictEqual(yield* status(get("/health")), 204)
      assert.strictEqual(yield* status(get("/app")), 204)
      assert.strictEqual((yield* Queue.take(ended)).attributes.get("url.path"), "/app")
    }))

  test("answers CORS preflights and adds CORS headers to every response, errors too", () =>
    Effect.gen(function*() {
      yield* serve(Layer.mergeAll(
        route("GET", "/", HttpServerResponse.text("ok")),
        route("GET", "/fails", Effect.fail("no")),
        HttpRouter.cors({
          allowedOrigins: ["https://a.example", "https://b.example"],
          allowedMethods: ["GET", "PUT"],
          exposedHeaders: ["x-exposed"],
          maxAge: 600,
          credentials: true
        })
      ))
      const preflight = yield* send(HttpClientRequest.setHeaders(method("OPTIONS", "/"), {
        origin: "https://b.example",
        "access-control-request-method": "PUT",
        "access-control-request-headers": "x-a, x-b"
      }))
      assert.strictEqual(preflight.status, 204)
      assert.strictEqual(preflight.headers["access-control-allow-origin"], "https://b.example")
      assert.strictEqual(preflight.headers["access-control-allow-methods"], "GET, PUT")
      assert.strictEqual(preflight.headers["access-control-allow-headers"], "x-a, x-b")
      assert.strictEqual(preflight.headers["access-control-max-age"], "600")
      for (const url of ["/", "/fails", "/nowhere"]) {
        const response = yield* get(url, { origin: "https://a.example" })
        assert.strictEqual(response.headers["access-control-allow-origin"], "https://a.example", url)
        assert.strictEqual(response.headers["access-control-allow-credentials"], "true", url)
        assert.strictEqual(response.headers["access-control-expose-headers"], "x-exposed", url)
        assert.include(response.headers["vary"] ?? "", "Origin", url)
      }
      const stranger = yield* get("/", { origin: "https://evil.example" })
      assert.isUndefined(stranger.headers["access-control-allow-origin"])
    }))

  test("takes client address, host and scheme from X-Forwarded headers of a trusted proxy only", () =>
    Effect.gen(function*() {
      const seen = Effect.map(request, (request) =>
        HttpServerResponse.jsonUnsafe({
          remote: Option.getOrNull(request.remoteAddress),
          peer: Option.getOrNull(request.peerAddress) !== null,
          url: Option.getOrUndefined(HttpServerRequest.toURL(request))?.href
        }))
      const trusting = HttpMiddleware.xForwardedHeaders({ trustedProxies: () => true })
      const doubting = HttpMiddleware.xForwardedHeaders({ trustedProxies: () => false })
      yield* serve(Layer.mergeAll(route("GET", "/trusted", trusting(seen)), route("GET", "/doubted", doubting(seen))))
      const forwarded = {
        "x-forwarded-for": "192.0.2.9",
        "x-forwarded-host": "public.example",
        "x-forwarded-proto": "https"
      }
      assert.deepStrictEqual(yield* getJson("/trusted?a=1", forwarded), {
        remote: "192.0.2.9",
        peer: true,
        url: "https://public.example/trusted?a=1"
      })
      const doubted = (yield* getJson("/doubted", forwarded)) as { remote: string; url: string }
      assert.notStrictEqual(doubted.remote, "192.0.2.9")
      assert.isFalse(doubted.url.includes("public.example"))
    }))

  test("parses search parameters for an app without a router", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(
        HttpMiddleware.searchParamsParser(
          Effect.map(HttpServerRequest.ParsedSearchParams, (params) => HttpServerResponse.jsonUnsafe(params))
        )
      )
      assert.deepStrictEqual(yield* getJson("/?a=1&b=2&b=%C3%A4&c="), { a: "1", b: ["2", "ä"], c: "" })
    }))

  test("compresses bodies of every kind that the client accepts compressed", () =>
    Effect.gen(function*() {
      const long = "compress me ".repeat(1000)
      yield* serve(Layer.mergeAll(
        route("GET", "/text", HttpMiddleware.compression()(Effect.succeed(HttpServerResponse.text(long)))),
        route(
          "GET",
          "/stream",
          HttpMiddleware.compression()(
            Effect.succeed(HttpServerResponse.stream(textStream(long), { contentType: "text/plain" }))
          )
        )
      ))
      for (const url of ["/text", "/stream"]) {
        const plain = yield* get(url, { "accept-encoding": "identity" })
        assert.isUndefined(plain.headers["content-encoding"])
        assert.strictEqual(yield* plain.text, long)
        const compressed = yield* get(url, { "accept-encoding": "gzip" })
        assert.strictEqual(compressed.headers["content-encoding"], "gzip")
        assert.include(compressed.headers["vary"] ?? "", "Accept-Encoding")
        // Some clients decompress by themselves.
        const bytes = new Uint8Array(yield* compressed.arrayBuffer)
        const text = bytes[0] === 0x1f && bytes[1] === 0x8b ? yield* gunzip(bytes) : bytes
        assert.deepStrictEqual(Buffer.from(text), Buffer.from(encode(long)))
      }
    }))
}

const gunzip = (bytes: Uint8Array<ArrayBuffer>) =>
  Effect.promise(async () =>
    new Uint8Array(
      await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer()
    )
  )
