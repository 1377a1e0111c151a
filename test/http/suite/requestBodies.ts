/** Request bodies: every way to read one, in every size, whole and streamed. */
import { assert } from "@effect/vitest"
import * as ByteSize from "effect/ByteSize"
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as UrlParams from "effect/http/UrlParams"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Zlib from "node:zlib"
import type { Cases } from "./support.ts"
import {
  assertSameBytes,
  empty,
  encode,
  get,
  getText,
  method,
  pattern,
  pieces,
  post,
  request,
  route,
  send,
  sendText,
  serve,
  status,
  testUnless,
  textStream
} from "./support.ts"

const json = HttpServerResponse.jsonUnsafe

const Todo = Schema.Struct({ id: Schema.FiniteFromString, title: Schema.String })

const readText = Effect.flatMap(request, (request) => request.text)

const echoText = Effect.map(readText, (text) => HttpServerResponse.text(text))

const echoBytes = Effect.map(
  Effect.flatMap(request, (request) => request.arrayBuffer),
  (buffer) => HttpServerResponse.uint8Array(new Uint8Array(buffer))
)

const countBytes = Effect.map(
  Effect.flatMap(request, (request) => Stream.runFold(request.stream, () => 0, (sum, bytes) => sum + bytes.length)),
  (size) => HttpServerResponse.text(String(size))
)

const limited = <A, E, R>(size: number, self: Effect.Effect<A, E, R>) =>
  Effect.provideService(self, HttpServerRequest.MaxBodySize, ByteSize.fromInputUnsafe(size))

export const requestBodies: Cases = (test, capabilities) => {
  test("reads a body as text, UTF-8 decoded", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(echoText)
      assert.strictEqual(yield* sendText(HttpClientRequest.bodyText(post("/"), "grüße 日本 🎉")), "grüße 日本 🎉")
    }))

  test("decodes UTF-8 whose characters are cut between chunks", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(echoText)
      const bytes = encode("é日🎉")
      const oneByOne = Stream.fromIterable(Array.from(bytes, (byte) => Uint8Array.of(byte)))
      assert.strictEqual(yield* sendText(HttpClientRequest.bodyStream(post("/"), oneByOne)), "é日🎉")
    }))

  test("drops a byte order mark from text and replaces bytes that are not UTF-8", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(echoText)
      const bytes = Uint8Array.of(0xef, 0xbb, 0xbf, 0x61, 0xff, 0x62)
      assert.strictEqual(yield* sendText(HttpClientRequest.bodyUint8Array(post("/"), bytes)), "a\ufffdb")
    }))

  test("reads a body as JSON", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(Effect.map(Effect.flatMap(request, (request) => request.json), json))
      const body = { a: [1, "two", null], b: { c: true } }
      const response = yield* send(HttpClientRequest.bodyJsonUnsafe(post("/"), body))
      assert.deepStrictEqual(yield* response.json, body)
    }))

  test("answers 400 to a body that is not JSON", () =>
    Effect.gen(function*() {
      yield* serve(route("POST", "/", Effect.map(Effect.flatMap(request, (request) => request.json), json)))
      assert.strictEqual(yield* status(send(HttpClientRequest.bodyText(post("/"), "{\"a\":"))), 400)
    }))

  test("reads a body as bytes, exactly those sent", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(echoBytes)
      const all = Uint8Array.from({ length: 256 }, (_, i) => i)
      const response = yield* send(HttpClientRequest.bodyUint8Array(post("/"), all))
      assertSameBytes(yield* response.arrayBuffer, all)
    }))

  test("reads a body as URL parameters, a leading question mark being data", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(Effect.map(
        Effect.flatMap(request, (request) => request.urlParamsBody),
        (params) => json(Array.from(params))
      ))
      const form = HttpClientRequest.bodyText(
        post("/"),
        "?a=1&b=x+y%26z&b=%C3%A4&c",
        "application/x-www-form-urlencoded"
      )
      const response = yield* send(form)
      assert.deepStrictEqual(yield* response.json, [["?a", "1"], ["b", "x y&z"], ["b", "ä"], ["c", ""]])
    }))

  test("reads an empty body as empty text, null, no bytes, no parameters and an empty stream", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(Effect.gen(function*() {
        const { url } = yield* request
        const { arrayBuffer, json: jsonBody, stream, text, urlParamsBody } = yield* request
        switch (url) {
          case "/text":
            return json(yield* text)
          case "/json":
            return json(yield* jsonBody)
          case "/bytes":
            return json((yield* arrayBuffer).byteLength)
          case "/params":
            return json(Array.from(yield* urlParamsBody))
          default:
            return json((yield* Stream.runCollect(stream)).length)
        }
      }))
      for (const empty of [HttpClientRequest.get("/"), post("/"), HttpClientRequest.bodyText(post("/"), "")]) {
        const at = (url: string) => sendText(HttpClientRequest.setUrl(empty, url))
        assert.strictEqual(yield* at("/text"), "\"\"")
        assert.strictEqual(yield* at("/json"), "null")
        assert.strictEqual(yield* at("/bytes"), "0")
        assert.strictEqual(yield* at("/params"), "[]")
        assert.strictEqual(yield* at("/stream"), "0")
      }
    }))

  test("keeps a body that has been read: text twice, then bytes, JSON and parameters of the same", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(Effect.gen(function*() {
        const req = yield* request
        const first = yield* req.text
        const second = yield* req.text
        const bytes = yield* req.arrayBuffer
        const parsed = yield* req.json
        const params = yield* req.urlParamsBody
        return json([first, second, bytes.byteLength, parsed, Array.from(params)])
      }))
      const response = yield* send(HttpClientRequest.bodyText(post("/"), "12"))
      assert.deepStrictEqual(yield* response.json, ["12", "12", 2, 12, [["12", ""]]])
    }))

  test("decodes JSON, URL-encoded and JSON-in-a-field bodies with schemas", () =>
    Effect.gen(function*() {
      yield* serve(Layer.mergeAll(
        route("POST", "/json", Effect.map(HttpServerRequest.schemaBodyJson(Todo), json)),
        route("POST", "/params", Effect.map(HttpServerRequest.schemaBodyUrlParams(Todo), json)),
        route("POST", "/form", Effect.map(HttpServerRequest.schemaBodyForm(Todo), json)),
        route("POST", "/field", Effect.map(HttpServerRequest.schemaBodyFormJson(Todo)("todo"), json))
      ))
      const todo = { id: "7", title: "seven" }
      const expected = "{\"id\":7,\"title\":\"seven\"}"
      assert.strictEqual(yield* sendText(HttpClientRequest.bodyJsonUnsafe(post("/json"), todo)), expected)
      assert.strictEqual(yield* sendText(HttpClientRequest.bodyUrlParams(post("/params"), todo)), expected)
      assert.strictEqual(yield* sendText(HttpClientRequest.bodyUrlParams(post("/form"), todo)), expected)
      assert.strictEqual(
        yield* sendText(HttpClientRequest.bodyUrlParams(post("/field"), { todo: JSON.stringify(todo) })),
        expected
      )
    }))

  test("answers 400 to bodies that do not fit their schema", () =>
    Effect.gen(function*() {
      yield* serve(Layer.mergeAll(
        route("POST", "/json", Effect.map(HttpServerRequest.schemaBodyJson(Todo), json)),
        route("POST", "/params", Effect.map(HttpServerRequest.schemaBodyUrlParams(Todo), json)),
        route("POST", "/form", Effect.map(HttpServerRequest.schemaBodyForm(Todo), json))
      ))
      assert.strictEqual(yield* status(send(HttpClientRequest.bodyJsonUnsafe(post("/json"), { id: 7 }))), 400)
      assert.strictEqual(yield* status(send(HttpClientRequest.bodyUrlParams(post("/params"), { id: "7" }))), 400)
      assert.strictEqual(yield* status(send(HttpClientRequest.bodyUrlParams(post("/form"), { id: "x" }))), 400)
      assert.strictEqual(yield* status(send(post("/json"))), 400)
    }))

  test("takes a body with PUT, PATCH, DELETE and PROPFIND", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(echoText)
      for (const name of ["PUT", "PATCH", "DELETE", "PROPFIND"]) {
        assert.strictEqual(yield* sendText(HttpClientRequest.bodyText(method(name, "/"), name)), name)
      }
    }))

  test("carries 10 MB each way without changing a byte", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(echoBytes)
      const bytes = pattern(10_000_000)
      const response = yield* send(HttpClientRequest.bodyUint8Array(post("/"), bytes))
      assertSameBytes(yield* response.arrayBuffer, bytes)
    }))

  test("carries bodies around the sizes at which records and buffers end", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(echoBytes)
      for (const size of [1, 7, 8, 9, 16_383, 16_384, 65_527, 65_528, 65_535, 65_536, 65_537, 131_071, 262_145]) {
        const bytes = pattern(size, size)
        const response = yield* send(HttpClientRequest.bodyUint8Array(post("/"), bytes))
        assertSameBytes(yield* response.arrayBuffer, bytes)
      }
    }))

  test("receives a streamed request body of unknown length", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(echoBytes)
      const bytes = pattern(1_000_003)
      const stream = Stream.fromIterable(pieces(bytes))
      const response = yield* send(HttpClientRequest.bodyStream(post("/"), stream))
      assertSameBytes(yield* response.arrayBuffer, bytes)
    }))

  testUnless(test, capabilities.streamLengthLost)(
    "receives a streamed request body with its declared length",
    () =>
      Effect.gen(function*() {
        yield* HttpServer.serveEffect(Effect.gen(function*() {
          const req = yield* request
          const buffer = yield* req.arrayBuffer
          return json([req.headers["content-length"], buffer.byteLength])
        }))
        const stream = textStream("12345", "67890")
        const response = yield* send(HttpClientRequest.bodyStream(post("/"), stream, { contentLength: 10 }))
        assert.deepStrictEqual(yield* response.json, ["10", 10])
      })
  )

  test("hands a streamed body to the handler while it is still being sent", () =>
    Effect.gen(function*() {
      const received = yield* Queue.unbounded<string>()
      yield* HttpServer.serveEffect(Effect.flatMap(request, (request) =>
        Stream.decodeText(request.stream).pipe(
          Stream.runForEach((text) => Queue.offer(received, text)),
          Effect.as(empty)
        )))
      const chunks = yield* Queue.unbounded<Uint8Array, Cause.Done>()
      const response = yield* Effect.forkChild(
        status(send(HttpClientRequest.bodyStream(post("/"), Stream.fromQueue(chunks))))
      )
      for (const word of ["first", "second", "third"]) {
        yield* Queue.offer(chunks, encode(word))
        assert.strictEqual(yield* Queue.take(received), word)
      }
      yield* Queue.end(chunks)
      assert.strictEqual(yield* Fiber.join(response), 204)
    }))

  test("streams a large body through the handler's stream", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(countBytes)
      const response = yield* sendText(HttpClientRequest.bodyUint8Array(post("/"), pattern(3_000_001)))
      assert.strictEqual(response, "3000001")
    }))

  test("echoes a stream back piece by piece, both directions open", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(Effect.map(request, (request) => HttpServerResponse.stream(request.stream)))
      const chunks = yield* Queue.unbounded<Uint8Array, Cause.Done>()
      const echoed = yield* Queue.unbounded<string>()
      yield* Queue.offer(chunks, encode("one"))
      const reader = yield* Effect.forkChild(
        Effect.flatMap(
          send(HttpClientRequest.bodyStream(post("/"), Stream.fromQueue(chunks))),
          (response) => Stream.runForEach(Stream.decodeText(response.stream), (text) => Queue.offer(echoed, text))
        )
      )
      assert.strictEqual(yield* Queue.take(echoed), "one")
      for (const word of ["two", "three", "four"]) {
        yield* Queue.offer(chunks, encode(word))
        assert.strictEqual(yield* Queue.take(echoed), word)
      }
      yield* Queue.end(chunks)
      yield* Fiber.join(reader)
    }))

  test("echoes 4 MB through streams on both sides", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(Effect.map(request, (request) => HttpServerResponse.stream(request.stream)))
      const bytes = pattern(4_000_003)
      const response = yield* send(HttpClientRequest.bodyStream(post("/"), Stream.fromIterable(pieces(bytes))))
      assertSameBytes(yield* response.arrayBuffer, bytes)
    }))

  test("answers without reading a small body, and the next request is served", () =>
    Effect.gen(function*() {
      yield* serve(route("POST", "/", HttpServerResponse.text("no thanks")))
      for (let i = 0; i < 3; i++) {
        assert.strictEqual(yield* sendText(HttpClientRequest.bodyUint8Array(post("/"), pattern(50_000))), "no thanks")
      }
    }))

  test("answers without reading a 5 MB body, and the client gets the whole answer", () =>
    Effect.gen(function*() {
      yield* serve(Layer.mergeAll(
        route("POST", "/", HttpServerResponse.text("too large", { status: 413 })),
        route("GET", "/", HttpServerResponse.text("still here"))
      ))
      const response = yield* send(HttpClientRequest.bodyUint8Array(post("/"), pattern(5_000_000)))
      assert.strictEqual(response.status, 413)
      assert.strictEqual(yield* response.text, "too large")
      assert.strictEqual(yield* getText("/"), "still here")
    }))

  test("answers after the first piece of a body whose rest the client has not sent yet", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(Effect.flatMap(request, (request) =>
        Effect.map(
          Stream.runHead(request.stream),
          (first) => HttpServerResponse.text(`got ${first._tag === "Some" ? first.value.length : 0}`)
        )))
      const rest = yield* Deferred.make<void>()
      const body = Stream.concat(
        Stream.make(encode("12345")),
        Stream.fromEffect(Effect.as(Deferred.await(rest), encode("")))
      )
      assert.strictEqual(yield* sendText(HttpClientRequest.bodyStream(post("/"), body)), "got 5")
      yield* Deferred.succeed(rest, undefined)
    }))

  for (
    const [name, read] of [
      ["text", Effect.flatMap(request, (request) => Effect.asVoid(request.text))],
      ["json", Effect.flatMap(request, (request) => Effect.asVoid(request.json))],
      ["arrayBuffer", Effect.flatMap(request, (request) => Effect.asVoid(request.arrayBuffer))],
      ["urlParamsBody", Effect.flatMap(request, (request) => Effect.asVoid(request.urlParamsBody))]
    ] as const
  ) {
    test(`answers 413 when ${name} exceeds MaxBodySize, with and without a declared length`, () =>
      Effect.gen(function*() {
        yield* serve(route("POST", "/", Effect.as(limited(100, read), empty)))
        const fits = encode(`"${"x".repeat(98)}"`)
        const exceeds = encode(`"${"x".repeat(99)}"`)
        const declared = (body: Uint8Array) => status(send(HttpClientRequest.bodyUint8Array(post("/"), body)))
        const undeclared = (body: Uint8Array) =>
          status(send(HttpClientRequest.bodyStream(post("/"), Stream.fromIterable(pieces(body, 17)))))
        assert.strictEqual(yield* declared(fits), 204)
        assert.strictEqual(yield* declared(exceeds), 413)
        assert.strictEqual(yield* undeclared(fits), 204)
        assert.strictEqual(yield* undeclared(exceeds), 413)
        assert.strictEqual(yield* declared(fits), 204)
      }))
  }

  test("obeys a MaxBodySize given around the server", () =>
    Effect.gen(function*() {
      yield* limited(10, serve(route("POST", "/", echoText)))
      assert.strictEqual(yield* sendText(HttpClientRequest.bodyText(post("/"), "0123456789")), "0123456789")
      assert.strictEqual(yield* status(send(HttpClientRequest.bodyText(post("/"), "0123456789a"))), 413)
    }))

  test("gives a body over the limit as a typed error that a handler can catch", () =>
    Effect.gen(function*() {
      yield* serve(route(
        "POST",
        "/",
        limited(10, echoText).pipe(
          Effect.catchTag("HttpServerError", (error) =>
            Effect.succeed(json({
              reason: error.reason._tag,
              kind: error.reason._tag === "RequestParseError" ? error.reason.reason : null
            })))
        )
      ))
      const answer = yield* sendText(HttpClientRequest.bodyUint8Array(post("/"), pattern(1_000_000)))
      assert.deepStrictEqual(JSON.parse(answer), { reason: "RequestParseError", kind: "BodyTooLarge" })
    }))

  test("does not limit the raw stream by MaxBodySize", () =>
    Effect.gen(function*() {
      yield* serve(route("POST", "/", limited(10, countBytes)))
      assert.strictEqual(yield* sendText(HttpClientRequest.bodyUint8Array(post("/"), pattern(200_000))), "200000")
    }))

  test("gives a Web handler a Web request and sends its Web response", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(HttpEffect.fromWebHandler(async (request) => {
        const text = await request.text()
        return new Response(`${request.method} ${new URL(request.url).pathname} ${text}`, {
          status: 201,
          headers: { "x-web": request.headers.get("x-asked") ?? "" }
        })
      }))
      const response = yield* send(
        HttpClientRequest.bodyText(HttpClientRequest.setHeader(post("/web?x=1"), "x-asked", "yes"), "body")
      )
      assert.strictEqual(response.status, 201)
      assert.strictEqual(response.headers["x-web"], "yes")
      assert.strictEqual(yield* response.text, "POST /web body")
    }))

  test("decompresses a request body through the middleware", () =>
    Effect.gen(function*() {
      yield* serve(route("POST", "/", HttpMiddleware.decompression()(echoText)))
      const request = post("/").pipe(
        HttpClientRequest.bodyUint8Array(Zlib.gzipSync("a".repeat(10_000)), "text/plain"),
        HttpClientRequest.setHeader("content-encoding", "gzip")
      )
      assert.strictEqual(yield* sendText(request), "a".repeat(10_000))
    }))

  test("ends the body's stream with a failure when the client goes away in the middle", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const ended = yield* Deferred.make<string>()
      yield* serve(route(
        "POST",
        "/",
        Effect.flatMap(request, (request) =>
          request.stream.pipe(
            Stream.runForEach(() => Deferred.succeed(started, undefined)),
            Effect.as(empty),
            Effect.onExit((exit) => Deferred.succeed(ended, exit._tag))
          ))
      ))
      const body = Stream.concat(Stream.make(pattern(1000)), Stream.never)
      const client = yield* Effect.forkChild(send(HttpClientRequest.bodyStream(post("/"), body)))
      yield* Deferred.await(started)
      yield* Fiber.interrupt(client)
      assert.strictEqual(yield* Deferred.await(ended), "Failure")
    }))

  test("serves 64 requests at once, each its own body", () =>
    Effect.gen(function*() {
      const all = 64
      let arrived = 0
      const everybody = yield* Deferred.make<void>()
      yield* serve(route(
        "POST",
        "/:id",
        Effect.gen(function*() {
          const req = yield* request
          const buffer = yield* req.arrayBuffer
          // Nobody is answered before everybody is here, so all 64 are in flight together.
          if (++arrived === all) yield* Deferred.succeed(everybody, undefined)
          yield* Deferred.await(everybody)
          return HttpServerResponse.uint8Array(new Uint8Array(buffer), { headers: { "x-url": req.url } })
        })
      ))
      yield* Effect.forEach(
        Array.from({ length: all }, (_, id) => id),
        (id) =>
          Effect.gen(function*() {
            const bytes = pattern(10_000 + id * 137, id)
            const response = yield* send(HttpClientRequest.bodyUint8Array(post(`/${id}`), bytes))
            assert.strictEqual(response.headers["x-url"], `/${id}`)
            assertSameBytes(yield* response.arrayBuffer, bytes)
          }),
        { concurrency: "unbounded" }
      )
    }))

  test("answers others while one handler waits", () =>
    Effect.gen(function*() {
      const waiting = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      yield* serve(Layer.mergeAll(
        route(
          "GET",
          "/slow",
          Deferred.succeed(waiting, undefined).pipe(
            Effect.andThen(Deferred.await(release)),
            Effect.as(HttpServerResponse.text("slow"))
          )
        ),
        route("GET", "/fast", HttpServerResponse.text("fast"))
      ))
      const slow = yield* Effect.forkChild(getText("/slow"))
      yield* Deferred.await(waiting)
      for (let i = 0; i < 5; i++) assert.strictEqual(yield* getText("/fast"), "fast")
      assert.isUndefined(slow.pollUnsafe())
      yield* Deferred.succeed(release, undefined)
      assert.strictEqual(yield* Fiber.join(slow), "slow")
    }))

  test("sends a urlParams body that the client built from HttpBody", () =>
    Effect.gen(function*() {
      yield* serve(route("POST", "/", Effect.map(HttpServerRequest.schemaBodyUrlParams(Todo), json)))
      const client = yield* HttpClient.HttpClient
      const response = yield* client.post("/", {
        body: HttpBody.urlParams(UrlParams.fromInput({ id: "1", title: "a&b=c" }))
      })
      assert.deepStrictEqual(yield* response.json, { id: 1, title: "a&b=c" })
      assert.strictEqual(yield* status(get("/")), 404)
    }))
}
