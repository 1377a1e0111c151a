/** Responses: heads, cookies, every kind of body, files, and bodies that must not be sent. */
import { assert } from "@effect/vitest"
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as NodeBuffer from "node:buffer"
import { Readable } from "node:stream"
import type { Cases } from "./support.ts"
import {
  assertSameBytes,
  encode,
  get,
  getJson,
  getText,
  head,
  pattern,
  pieces,
  post,
  request,
  route,
  send,
  serve,
  status,
  statusText,
  testUnless,
  textStream
} from "./support.ts"

/** A Readable that says when it has been destroyed; it never ends by itself. */
const endlessReadable = (closed: Deferred.Deferred<void>, first?: Uint8Array): Readable => {
  let pushed = first === undefined
  return new Readable({
    read() {
      if (!pushed) {
        pushed = true
        this.push(first)
      }
    },
    destroy(error, callback) {
      Deferred.doneUnsafe(closed, Effect.void)
      callback(error)
    }
  })
}

/** Serves the same response to every request. */
const always = (response: HttpServerResponse.HttpServerResponse) => HttpServer.serveEffect(Effect.succeed(response))

const makeFile = (name: string, content: Uint8Array) =>
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const file = path.join(yield* fs.makeTempDirectoryScoped(), name)
    yield* fs.writeFile(file, content)
    return file
  })

export const responses: Cases = (test, capabilities) => {
  test("sends text, HTML, JSON, URL parameters and bytes with their types and lengths", () =>
    Effect.gen(function*() {
      yield* serve(Layer.mergeAll(
        route("GET", "/text", HttpServerResponse.text("grüße")),
        route("GET", "/html", HttpServerResponse.html("<p>hi</p>")),
        route("GET", "/json", HttpServerResponse.json({ a: 1 })),
        route("GET", "/schema", HttpServerResponse.schemaJson(Schema.Struct({ n: Schema.FiniteFromString }))({ n: 3 })),
        route("GET", "/params", HttpServerResponse.urlParams({ a: "1 2", b: "&" })),
        route("GET", "/bytes", HttpServerResponse.uint8Array(Uint8Array.of(0, 255, 10), { contentType: "x/y" }))
      ))
      for (
        const [url, type, body] of [
          ["/text", "text/plain", "grüße"],
          ["/html", "text/html", "<p>hi</p>"],
          ["/json", "application/json", "{\"a\":1}"],
          ["/schema", "application/json", "{\"n\":\"3\"}"],
          ["/params", "application/x-www-form-urlencoded", "a=1+2&b=%26"]
        ] as const
      ) {
        const response = yield* get(url)
        assert.strictEqual(response.status, 200)
        assert.strictEqual(response.headers["content-type"], type)
        assert.strictEqual(response.headers["content-length"], String(encode(body).length))
        assert.strictEqual(yield* response.text, body)
      }
      const bytes = yield* get("/bytes")
      assert.strictEqual(bytes.headers["content-type"], "x/y")
      assertSameBytes(yield* bytes.arrayBuffer, Uint8Array.of(0, 255, 10))
    }))

  test("sends templates and streamed templates", () =>
    Effect.gen(function*() {
      yield* serve(Layer.mergeAll(
        route("GET", "/about", HttpServerResponse.html`<b>${Effect.succeed("<i></i>")}</b>`),
        route("GET", "/stream", HttpServerResponse.htmlStream`<b>${Stream.make("<i></i>", 12, "x")}</b>`)
      ))
      assert.strictEqual(yield* getText("/about"), "<b><i></i></b>")
      assert.strictEqual(yield* getText("/stream"), "<b><i></i>12x</b>")
    }))

  test("sends every final status", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(
        Effect.map(request, (request) => HttpServerResponse.empty({ status: Number(request.url.slice(1)) }))
      )
      for (const code of [200, 201, 202, 204, 205, 206, 304, 400, 401, 404, 409, 418, 429, 500, 503, 599]) {
        assert.strictEqual(yield* status(get(`/${code}`)), code)
      }
    }))

  test("sends a status text of its own, and the standard one by default", () =>
    Effect.gen(function*() {
      yield* serve(Layer.mergeAll(
        route("GET", "/own", HttpServerResponse.text("", { status: 299, statusText: "Nearly There" })),
        route("GET", "/default", HttpServerResponse.text("", { status: 404 }))
      ))
      assert.strictEqual(statusText(yield* get("/own")), "Nearly There")
      assert.strictEqual(statusText(yield* get("/default")), "Not Found")
    }))

  test("sends a redirect for the client to follow", () =>
    Effect.gen(function*() {
      yield* serve(route("GET", "/from", HttpServerResponse.redirect("/to?a=b", { status: 303 })))
      const response = yield* get("/from").pipe(
        // Without it fetch follows by itself; other clients take no notice.
        Effect.provideService(FetchHttpClient.RequestInit, { redirect: "manual" })
      )
      assert.strictEqual(response.status, 303)
      assert.strictEqual(response.headers["location"], "/to?a=b")
      assert.strictEqual(yield* response.text, "")
    }))

  test("sends headers as they are given, empty and long ones too", () =>
    Effect.gen(function*() {
      const long = "x".repeat(3000)
      yield* serve(route(
        "GET",
        "/",
        HttpServerResponse.text("body", {
          headers: {
            "X-Mixed": "Value",
            "x-empty": "",
            "x-long": long,
            "cache-control": "no-store, max-age=0",
            "content-type": "text/special"
          }
        })
      ))
      const { headers } = yield* get("/")
      assert.strictEqual(headers["x-mixed"], "Value")
      assert.strictEqual(headers["x-empty"], "")
      assert.strictEqual(headers["x-long"], long)
      assert.strictEqual(headers["cache-control"], "no-store, max-age=0")
      assert.strictEqual(headers["content-type"], "text/special")
    }))

  test("sends header characters up to U+00FF as latin1", () =>
    Effect.gen(function*() {
      // With a text body node:http writes head and body in one piece, and the head as UTF-8: not a thing to copy.
      yield* always(HttpServerResponse.uint8Array(encode("body"), { headers: { "x-latin": "caf\u00e9" } }))
      assert.strictEqual((yield* get("/")).headers["x-latin"], "caf\u00e9")
    }))

  test("sends each cookie in a Set-Cookie header of its own, a header given by hand after them", () =>
    Effect.gen(function*() {
      const response = HttpServerResponse.empty({ headers: { "set-cookie": "hand=made" } }).pipe(
        HttpServerResponse.setCookieUnsafe("plain", "value"),
        HttpServerResponse.setCookieUnsafe("spaced", "a b;c=d"),
        HttpServerResponse.setCookieUnsafe("full", "x", {
          httpOnly: true,
          secure: true,
          sameSite: "lax",
          path: "/app",
          domain: "example.com",
          expires: new Date(Date.UTC(2030, 0, 1)),
          maxAge: "5 minutes"
        })
      )
      yield* always(response)
      const { cookies } = yield* get("/")
      assert.deepStrictEqual(Object.keys(cookies.cookies), ["plain", "spaced", "full", "hand"])
      const shown = (name: string) => {
        const cookie = cookies.cookies[name]
        assert.isDefined(cookie)
        return cookie
      }
      assert.strictEqual(shown("plain").value, "value")
      assert.strictEqual(shown("spaced").value, "a b;c=d")
      assert.strictEqual(shown("hand").value, "made")
      const options = shown("full").options
      assert.strictEqual(options?.httpOnly, true)
      assert.strictEqual(options?.secure, true)
      assert.strictEqual(options?.sameSite, "lax")
      assert.strictEqual(options?.path, "/app")
      assert.strictEqual(options?.domain, "example.com")
      assert.strictEqual(options?.expires?.toISOString(), "2030-01-01T00:00:00.000Z")
    }))

  test("sends forty cookies", () =>
    Effect.gen(function*() {
      let response = HttpServerResponse.text("ok")
      for (let i = 0; i < 40; i++) response = HttpServerResponse.setCookieUnsafe(response, `c${i}`, `v${i}`)
      yield* always(response)
      const { cookies } = yield* get("/")
      for (let i = 0; i < 40; i++) assert.strictEqual(cookies.cookies[`c${i}`]?.value, `v${i}`)
    }))

  test("answers HEAD with the head of GET and no body", () =>
    Effect.gen(function*() {
      const opened = yield* Deferred.make<void>()
      yield* serve(Layer.mergeAll(
        route("GET", "/text", HttpServerResponse.text("12345", { headers: { "x-a": "b" } })),
        route(
          "GET",
          "/stream",
          HttpServerResponse.stream(Stream.onStart(textStream("12345"), Deferred.succeed(opened, undefined)), {
            contentLength: 5
          })
        )
      ))
      for (const url of ["/text", "/stream"]) {
        const response = yield* head(url)
        assert.strictEqual(response.status, 200)
        assert.strictEqual(response.headers["content-length"], "5")
        assert.strictEqual(yield* response.text, "")
      }
      // Another request on the same connection would trip over a body that was sent after all.
      assert.strictEqual(yield* getText("/text"), "12345")
      assert.isFalse(yield* Deferred.isDone(opened), "the body of a HEAD response was opened")
    }))

  test("sends no body and no length with 204 and 205", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(Effect.map(request, (request) =>
        HttpServerResponse.text("not sent", { status: Number(request.url.slice(1)), headers: { "x-kept": "1" } })))
      for (const code of [204, 205]) {
        const response = yield* get(`/${code}`)
        assert.strictEqual(response.status, code)
        assert.strictEqual(response.headers["x-kept"], "1")
        assert.include([undefined, "0"], response.headers["content-length"])
        assert.strictEqual(yield* response.text, "")
      }
    }))

  test("sends no body with 304 and keeps its headers", () =>
    Effect.gen(function*() {
      yield* always(HttpServerResponse.text("not sent", { status: 304, headers: { etag: "\"e1\"" } }))
      for (const url of ["/a", "/b"]) {
        const response = yield* get(url, { "if-none-match": "\"e1\"" })
        assert.strictEqual(response.status, 304)
        assert.strictEqual(response.headers["etag"], "\"e1\"")
        assert.strictEqual(yield* response.text, "")
      }
    }))

  test("sends an empty 200 as a complete response", () =>
    Effect.gen(function*() {
      yield* always(HttpServerResponse.empty({ status: 200 }))
      const response = yield* get("/")
      assert.strictEqual(response.status, 200)
      assert.strictEqual(yield* response.text, "")
    }))

  test("streams a response without a length", () =>
    Effect.gen(function*() {
      const bytes = pattern(10_000_001)
      yield* HttpServer.serveEffect(Effect.sync(() => HttpServerResponse.stream(Stream.fromIterable(pieces(bytes)))))
      const response = yield* get("/")
      assert.isUndefined(response.headers["content-length"])
      assertSameBytes(yield* response.arrayBuffer, bytes)
    }))

  test("streams a response with its length, and the client's stream reads it", () =>
    Effect.gen(function*() {
      const bytes = pattern(300_007)
      yield* HttpServer.serveEffect(Effect.sync(() =>
        HttpServerResponse.stream(Stream.fromIterable(pieces(bytes, 7_001)), {
          contentLength: bytes.length,
          contentType: "application/pdf"
        })
      ))
      const response = yield* get("/")
      assert.strictEqual(response.headers["content-length"], "300007")
      assert.strictEqual(response.headers["content-type"], "application/pdf")
      assertSameBytes(Buffer.concat(yield* Stream.runCollect(response.stream)), bytes)
    }))

  test("streams empty bodies and empty chunks", () =>
    Effect.gen(function*() {
      yield* serve(Layer.mergeAll(
        route("GET", "/none", HttpServerResponse.stream(Stream.empty)),
        route("GET", "/zero", HttpServerResponse.stream(Stream.empty, { contentLength: 0 })),
        route("GET", "/chunks", HttpServerResponse.stream(textStream("", "a", "", "", "b", "")))
      ))
      assert.strictEqual(yield* getText("/none"), "")
      assert.strictEqual(yield* getText("/zero"), "")
      assert.strictEqual(yield* getText("/chunks"), "ab")
    }))

  test("sends server-sent events one by one, the first before the stream has ended", () =>
    Effect.gen(function*() {
      const events = yield* Queue.unbounded<Uint8Array, Cause.Done>()
      const received = yield* Queue.unbounded<string>()
      yield* serve(route(
        "GET",
        "/events",
        HttpServerResponse.stream(Stream.fromQueue(events), {
          contentType: "text/event-stream",
          headers: { "cache-control": "no-store" }
        })
      ))
      yield* Queue.offer(events, encode("data: 0\n\n"))
      const response = yield* get("/events", { accept: "text/event-stream" })
      assert.strictEqual(response.headers["content-type"], "text/event-stream")
      const reader = yield* Effect.forkChild(
        Stream.runForEach(Stream.decodeText(response.stream), (text) => Queue.offer(received, text))
      )
      assert.strictEqual(yield* Queue.take(received), "data: 0\n\n")
      for (let i = 1; i < 10; i++) {
        yield* Queue.offer(events, encode(`data: ${i}\n\n`))
        assert.strictEqual(yield* Queue.take(received), `data: ${i}\n\n`)
      }
      yield* Queue.end(events)
      yield* Fiber.join(reader)
    }))

  testUnless(test, capabilities.headWaitsForBody)(
    "sends the head of a streamed response before its first chunk",
    () =>
      Effect.gen(function*() {
        const events = yield* Queue.unbounded<Uint8Array, Cause.Done>()
        yield* serve(route("GET", "/events", HttpServerResponse.stream(Stream.fromQueue(events))))
        const response = yield* get("/events")
        assert.strictEqual(response.status, 200)
        yield* Queue.offer(events, encode("late"))
        yield* Queue.end(events)
        assert.strictEqual(yield* response.text, "late")
      })
  )

  test("does not run ahead of a client that reads slowly, and loses nothing", () =>
    Effect.gen(function*() {
      const size = 65_536
      const chunk = pattern(size)
      let produced = 0
      yield* serve(route(
        "GET",
        "/",
        HttpServerResponse.stream(
          Stream.fromIterable(Array.from({ length: 1024 }, () => chunk)).pipe(
            Stream.rechunk(1),
            Stream.tap(() => Effect.sync(() => produced++))
          )
        )
      ))
      const response = yield* get("/")
      let read = 0
      let furthest = 0
      yield* Stream.runForEach(response.stream, (bytes) =>
        Effect.sync(() => {
          read += bytes.length
          furthest = Math.max(furthest, produced * size - read)
        }))
      assert.strictEqual(read, 1024 * size)
      // Buffers on the way hold a few MB; a server that does not wait would be 64 MB ahead at once.
      assert.isBelow(furthest, 32 * 1024 * 1024)
    }))

  test("sends raw strings and bytes, with and without a length", () =>
    Effect.gen(function*() {
      yield* serve(Layer.mergeAll(
        route("GET", "/string", HttpServerResponse.raw("grüße", { contentType: "text/x-raw" })),
        route("GET", "/length", HttpServerResponse.raw("12345", { contentLength: 5 })),
        route("GET", "/bytes", HttpServerResponse.raw(pattern(100_000))),
        route("GET", "/nothing", HttpServerResponse.raw(undefined, { status: 202 }))
      ))
      const string = yield* get("/string")
      assert.strictEqual(string.headers["content-type"], "text/x-raw")
      assert.strictEqual(yield* string.text, "grüße")
      const length = yield* get("/length")
      assert.strictEqual(length.headers["content-length"], "5")
      assert.strictEqual(yield* length.text, "12345")
      assertSameBytes(yield* (yield* get("/bytes")).arrayBuffer, pattern(100_000))
      assert.strictEqual(yield* status(get("/nothing")), 202)
    }))

  test("sends a raw Node Readable of bytes and of strings", () =>
    Effect.gen(function*() {
      const bytes = pattern(500_009)
      yield* serve(Layer.mergeAll(
        route("GET", "/bytes", Effect.sync(() => HttpServerResponse.raw(Readable.from(pieces(bytes, 9_973))))),
        route("GET", "/strings", Effect.sync(() => HttpServerResponse.raw(Readable.from(["grü", "ße"])))),
        route("GET", "/empty", Effect.sync(() => HttpServerResponse.raw(Readable.from([]))))
      ))
      assertSameBytes(yield* (yield* get("/bytes")).arrayBuffer, bytes)
      assert.strictEqual(yield* getText("/strings"), "grüße")
      assert.strictEqual(yield* getText("/empty"), "")
    }))

  test("destroys a raw Readable that is not sent: HEAD, 204, 304, a head that is refused", () =>
    Effect.gen(function*() {
      const closed = new Map<string, Deferred.Deferred<void>>()
      for (const url of ["/head", "/204", "/304", "/refused", "/status"]) closed.set(url, yield* Deferred.make<void>())
      yield* HttpServer.serveEffect(Effect.map(request, ({ url }) => {
        const readable = endlessReadable(closed.get(url)!, encode("never sent"))
        switch (url) {
          case "/204":
            return HttpServerResponse.raw(readable, { status: 204 })
          case "/304":
            return HttpServerResponse.raw(readable, { status: 304 })
          case "/refused":
            return HttpServerResponse.raw(readable, { headers: { "x-bad": "a\r\nb" } })
          case "/status":
            return HttpServerResponse.raw(readable, { status: 700 })
          default:
            return HttpServerResponse.raw(readable)
        }
      }))
      assert.strictEqual(yield* status(head("/head")), 200)
      assert.strictEqual(yield* status(get("/204")), 204)
      assert.strictEqual(yield* status(get("/304")), 304)
      assert.strictEqual(yield* status(get("/refused")), 500)
      assert.strictEqual(yield* status(get("/status")), 500)
      for (const done of closed.values()) yield* Deferred.await(done)
    }))

  test("destroys a raw Readable when the client goes away", () =>
    Effect.gen(function*() {
      const closed = yield* Deferred.make<void>()
      yield* serve(
        route("GET", "/", Effect.sync(() => HttpServerResponse.raw(endlessReadable(closed, encode("first")))))
      )
      const response = yield* get("/")
      assert.isTrue((yield* Stream.runHead(response.stream))._tag === "Some")
      yield* Deferred.await(closed)
    }))

  test("sends FormData as multipart/form-data", () =>
    Effect.gen(function*() {
      yield* serve(route(
        "GET",
        "/",
        Effect.sync(() => {
          const form = new FormData()
          form.append("name", "grüße")
          form.append("file", new File([pattern(10_000)], "data.bin", { type: "application/x-data" }))
          return HttpServerResponse.formData(form, { headers: { "x-form": "yes" } })
        })
      ))
      const response = yield* get("/")
      assert.match(response.headers["content-type"] ?? "", /^multipart\/form-data; *boundary=/)
      assert.strictEqual(response.headers["x-form"], "yes")
      const form = yield* response.formData
      assert.strictEqual(form.get("name"), "grüße")
      const file = form.get("file")
      assert.instanceOf(file, File)
      assert.strictEqual(file.name, "data.bin")
      assertSameBytes(yield* Effect.promise(() => file.arrayBuffer()), pattern(10_000))
    }))

  test("sends a file with type, length, etag and last-modified, and its head for HEAD", () =>
    Effect.gen(function*() {
      const content = pattern(200_003)
      const file = yield* makeFile("page.css", content)
      yield* serve(route("GET", "/file", HttpServerResponse.file(file)))
      const response = yield* get("/file")
      assert.strictEqual(response.status, 200)
      assert.strictEqual(response.headers["content-type"], "text/css")
      assert.strictEqual(response.headers["content-length"], "200003")
      assert.match(response.headers["etag"] ?? "", /^(?:W\/)?".+"$/)
      assert.isFalse(Number.isNaN(Date.parse(response.headers["last-modified"] ?? "")))
      assertSameBytes(yield* response.arrayBuffer, content)
      const onlyHead = yield* head("/file")
      assert.strictEqual(yield* onlyHead.text, "")
      for (const name of ["content-type", "content-length", "etag", "last-modified"]) {
        assert.strictEqual(onlyHead.headers[name], response.headers[name])
      }
    }))

  test("sends a part of a file, an empty file, and a Web file", () =>
    Effect.gen(function*() {
      const file = yield* makeFile("data.txt", encode("0123456789"))
      const nothing = yield* makeFile("empty.txt", new Uint8Array(0))
      const web = new NodeBuffer.File(["web file"], "web.txt", { type: "text/plain", lastModified: 1_700_000_000_000 })
      yield* serve(Layer.mergeAll(
        route("GET", "/part", HttpServerResponse.file(file, { offset: 3, bytesToRead: 4, status: 206 })),
        route("GET", "/empty", HttpServerResponse.file(nothing)),
        route("GET", "/web", HttpServerResponse.fileWeb(web))
      ))
      const part = yield* get("/part")
      assert.strictEqual(part.status, 206)
      assert.strictEqual(part.headers["content-length"], "4")
      assert.strictEqual(yield* part.text, "3456")
      const empty = yield* get("/empty")
      assert.strictEqual(empty.headers["content-length"], "0")
      assert.strictEqual(yield* empty.text, "")
      const fromWeb = yield* get("/web")
      assert.strictEqual(fromWeb.headers["content-length"], "8")
      assert.strictEqual(fromWeb.headers["last-modified"], "Tue, 14 Nov 2023 22:13:20 GMT")
      assert.strictEqual(yield* fromWeb.text, "web file")
    }))

  test("answers 500 for a file that is not there", () =>
    Effect.gen(function*() {
      const file = yield* makeFile("gone.txt", encode("x"))
      yield* serve(route("GET", "/", HttpServerResponse.file(`${file}.not`)))
      assert.strictEqual(yield* status(get("/")), 500)
    }))

  test("sends many responses one after another on kept connections", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(
        Effect.map(request, (request) => HttpServerResponse.jsonUnsafe({ url: request.url }))
      )
      for (let i = 0; i < 50; i++) assert.deepStrictEqual(yield* getJson(`/${i}`), { url: `/${i}` })
    }))

  test("answers a POST with an early 100 KB response while its body is still on the way", () =>
    Effect.gen(function*() {
      const answer = pattern(100_000)
      yield* serve(route("POST", "/", HttpServerResponse.uint8Array(answer)))
      const response = yield* send(HttpClientRequest.bodyUint8Array(post("/"), pattern(200_000)))
      assertSameBytes(yield* response.arrayBuffer, answer)
    }))
}
