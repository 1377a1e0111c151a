import { assert, describe, it } from "@effect/vitest"
import * as ByteSize from "effect/ByteSize"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Cookies from "effect/http/Cookies"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import * as FastCgiHttpClient from "../../src/client/FastCgiHttpClient.ts"
import * as Record from "../../src/protocol/FastCgiRecord.ts"
import { cpuTime } from "../support/cpuTime.ts"
import { within } from "../support/within.ts"
import { answer, type Application, bytesOf, concat, textOf } from "./application.ts"
import { applications, errorOf, reasonOf, untilRequest, url } from "./applications.ts"

// What a client makes of one answer.
const respond = (stdout: string | ReadonlyArray<Uint8Array>, request = HttpClientRequest.get(url)) =>
  Effect.gen(function*() {
    const { connect, nth } = yield* applications()
    const client = yield* FastCgiHttpClient.make({ connect })
    const response = yield* Effect.forkScoped(client.execute(request))
    const app = yield* nth(1)
    yield* untilRequest(app)
    if (typeof stdout === "string") yield* app.send(...answer(1, stdout))
    else yield* app.send(...stdout.map((bytes) => Record.stdout(1, bytes)), Record.endRequest(1))
    return yield* Fiber.join(response)
  })

describe("FastCgiHttpClient", () => {
  describe("requests", () => {
    it.effect("become params as nginx sends them", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const client = yield* FastCgiHttpClient.make({
          connect,
          documentRoot: "/srv/www",
          remoteAddress: "192.0.2.7",
          params: { APP_ENV: "test" }
        })
        yield* Effect.forkScoped(client.get("https://example.test:8443/a%20b/c.php?x=%20y#hash", {
          headers: { "x-thing": "1", "proxy": "evil", connection: "close" }
        }))
        const app = yield* nth(1)
        yield* untilRequest(app)
        const params = app.params(1).toRecord()
        assert.strictEqual(params["REQUEST_METHOD"], "GET")
        assert.strictEqual(params["REQUEST_URI"], "/a%20b/c.php?x=%20y")
        assert.strictEqual(params["QUERY_STRING"], "x=%20y")
        assert.strictEqual(params["SCRIPT_NAME"], "/a b/c.php")
        assert.strictEqual(params["SCRIPT_FILENAME"], "/srv/www/a b/c.php")
        assert.strictEqual(params["HTTP_HOST"], "example.test:8443")
        assert.strictEqual(params["SERVER_NAME"], "example.test")
        assert.strictEqual(params["SERVER_PORT"], "8443")
        assert.strictEqual(params["HTTPS"], "on")
        assert.strictEqual(params["REMOTE_ADDR"], "192.0.2.7")
        assert.strictEqual(params["HTTP_X_THING"], "1")
        assert.strictEqual(params["APP_ENV"], "test")
        for (const name of ["HTTP_PROXY", "HTTP_CONNECTION", "CONTENT_LENGTH", "CONTENT_TYPE"]) {
          assert.isFalse(app.params(1).has(name), name)
        }
        const begin = app.received[0] as Record.BeginRequest
        assert.isFalse(Record.keepConnection(begin))
      }))

    it.effect("to a path outside of the root, or with a NUL, are not sent", () =>
      Effect.gen(function*() {
        const { connect, opened } = yield* applications()
        const client = yield* FastCgiHttpClient.make({ connect, documentRoot: "/srv/www" })
        for (const path of ["..%2fx", "a/..%2f..%2fetc%2fx.php", "x.php%00.png"]) {
          const error = errorOf(yield* Effect.exit(client.get(`http://example.test/${path}`)))
          assert.strictEqual(error?.reason._tag, "InvalidUrlError", path)
        }
        assert.strictEqual(opened.length, 0)
      }))

    const blob = new Blob(["blob"], { type: "text/x-blob" })
    const bodies: ReadonlyArray<
      readonly [
        name: string,
        body: () => HttpBody.HttpBody,
        sent: string,
        type: string | undefined,
        length: string | undefined
      ]
    > = [
      ["empty", () => HttpBody.empty, "", undefined, "0"],
      ["text", () => HttpBody.text("grüße"), "grüße", "text/plain", "7"],
      ["json", () => HttpBody.jsonUnsafe({ a: 1 }), `{"a":1}`, "application/json", "7"],
      ["bytes", () => HttpBody.uint8Array(bytesOf("bytes")), "bytes", "application/octet-stream", "5"],
      ["urlParams", () => HttpBody.urlParams({ a: "1 2" }), "a=1+2", "application/x-www-form-urlencoded", "5"],
      [
        "a stream",
        () => HttpBody.stream(Stream.make(bytesOf("str"), bytesOf("eam")), "x/y"),
        "stream",
        "x/y",
        undefined
      ],
      [
        "a stream of known length",
        () => HttpBody.stream(Stream.make(bytesOf("str"), bytesOf("eam")), "x/y", 6),
        "stream",
        "x/y",
        "6"
      ],
      ["a raw string", () => HttpBody.raw("raw"), "raw", "text/plain;charset=UTF-8", "3"],
      ["a raw Blob", () => HttpBody.raw(blob), "blob", "text/x-blob", "4"],
      [
        "raw URLSearchParams",
        () => HttpBody.raw(new URLSearchParams({ a: "b" })),
        "a=b",
        "application/x-www-form-urlencoded;charset=UTF-8",
        "3"
      ],
      [
        "a raw ReadableStream",
        () => HttpBody.raw(new Blob(["web"]).stream(), { contentType: "x/web" }),
        "web",
        "x/web",
        undefined
      ],
      ["a raw view", () => HttpBody.raw(new Uint16Array([0x4241])), "AB", undefined, "2"],
      [
        "a raw async iterable",
        () =>
          HttpBody.raw({
            async *[Symbol.asyncIterator]() {
              yield "one"
              yield bytesOf("two")
            }
          }, { contentType: "x/it" }),
        "onetwo",
        "x/it",
        undefined
      ]
    ]
    for (const [name, body, sent, type, length] of bodies) {
      it.effect(`send a body: ${name}`, () =>
        Effect.gen(function*() {
          const { connect, nth } = yield* applications()
          const client = yield* FastCgiHttpClient.make({ connect })
          yield* Effect.forkScoped(client.execute(HttpClientRequest.post(url, { body: body() })))
          const app = yield* nth(1)
          yield* untilRequest(app)
          assert.strictEqual(textOf(app.stdin(1)), sent)
          assert.strictEqual(app.params(1).get("CONTENT_TYPE"), type)
          assert.strictEqual(app.params(1).get("CONTENT_LENGTH"), length)
        }))
    }

    it.effect("send FormData as multipart/form-data with its length", () =>
      Effect.gen(function*() {
        const form = new FormData()
        form.append("name", "gr\u00fc\u00dfe\nline")
        form.append("file", new File(["content"], `na"me.txt`, { type: "text/x-file" }))
        form.append("blob", new Blob([new Uint8Array(70_000)]))
        const { connect, nth } = yield* applications()
        const client = yield* FastCgiHttpClient.make({ connect })
        yield* Effect.forkScoped(client.execute(HttpClientRequest.post(url, { body: HttpBody.formData(form) })))
        const app = yield* nth(1)
        yield* untilRequest(app)
        const stdin = app.stdin(1)
        assert.strictEqual(app.params(1).get("CONTENT_LENGTH"), String(stdin.length))
        const parsed = yield* Effect.promise(() =>
          new Response(stdin.slice(), { headers: { "content-type": app.params(1).get("CONTENT_TYPE")! } }).formData()
        )
        assert.strictEqual(parsed.get("name"), "grüße\r\nline")
        const file = parsed.get("file") as File
        assert.strictEqual(file.name, `na"me.txt`)
        assert.strictEqual(file.type, "text/x-file")
        assert.strictEqual(yield* Effect.promise(() => file.text()), "content")
        assert.strictEqual((parsed.get("blob") as File).size, 70_000)
      }))

    it.effect("gather a body of unknown length where a script is named, or with gatherBody", () =>
      Effect.gen(function*() {
        for (
          const [options, length] of [
            [{ gatherBody: true }, "6"],
            [{ documentRoot: "/srv/www" }, "6"],
            [{ scriptFilename: "/srv/www/a.php" }, "6"],
            [{ params: { SCRIPT_FILENAME: "/srv/www/a.php" } }, "6"],
            [{ documentRoot: "/srv/www", gatherBody: false }, undefined]
          ] as const
        ) {
          const { connect, nth } = yield* applications()
          const client = yield* FastCgiHttpClient.make({ connect, ...options })
          yield* Effect.forkScoped(client.execute(HttpClientRequest.post(url, {
            body: HttpBody.stream(Stream.make(bytesOf("str"), bytesOf("eam")), "x/y")
          })))
          const app = yield* nth(1)
          yield* untilRequest(app)
          assert.strictEqual(app.params(1).get("CONTENT_LENGTH"), length)
          assert.strictEqual(textOf(app.stdin(1)), "stream")
        }
      }))

    it.effect("fail when a body to be gathered is longer than is kept, and there is no file system", () =>
      Effect.gen(function*() {
        const { connect, nth, opened } = yield* applications()
        const client = yield* FastCgiHttpClient.make({ connect, gatherBody: true, maxGatheredSize: 5 })
        const send = (...chunks: ReadonlyArray<string>) =>
          client.execute(
            HttpClientRequest.post(url, { body: HttpBody.stream(Stream.fromIterable(chunks.map(bytesOf))) })
          )
        const error = errorOf(yield* Effect.exit(send("str", "eam")))
        assert.strictEqual(error?.reason._tag, "EncodeError")
        assert.include(error?.message, "longer than the 5 bytes")
        assert.strictEqual(opened.length, 0)
        yield* Effect.forkScoped(send("str", "ea"))
        yield* untilRequest(yield* nth(1))
      }))

    for (const [how, length] of [["shorter", 7], ["longer", 5]] as const) {
      it.effect(`fail when a body is ${how} than its declared length, and never look complete`, () =>
        Effect.gen(function*() {
          const { connect, nth } = yield* applications()
          const client = yield* FastCgiHttpClient.make({ connect })
          const exit = yield* Effect.exit(client.execute(HttpClientRequest.post(url, {
            // Two turns, so that the request has left when its body turns out to be wrong.
            body: HttpBody.stream(
              Stream.tap(Stream.make(bytesOf("str"), bytesOf("eam")), () => Effect.yieldNow),
              "x/y",
              length
            )
          })))
          assert.strictEqual(reasonOf(exit), "EncodeError BodyFailed")
          const app = yield* nth(1)
          yield* app.untilEnd
          assert.isFalse(app.received.some((record) => record._tag === "Stdin" && record.content.length === 0))
        }))
    }
  })

  describe("responses", () => {
    it.effect("have status, headers, cookies, url and text", () =>
      Effect.gen(function*() {
        const response = yield* respond(
          "Status: 404 Nope\r\nContent-Type: text/plain; charset=utf-8\r\nX-A: 1\r\nX-A: 2\r\n" +
            "Set-Cookie: a=1; Path=/\r\n" +
            "Set-Cookie: b=2; HttpOnly\r\nConnection: close\r\n\r\ngrüße"
        )
        assert.strictEqual(response.status, 404)
        assert.strictEqual(response.url, url)
        assert.strictEqual(response.headers["content-type"], "text/plain; charset=utf-8")
        assert.strictEqual(response.headers["x-a"], "1, 2")
        assert.isUndefined(response.headers["connection"])
        assert.deepStrictEqual(Cookies.toRecord(response.cookies), { a: "1", b: "2" })
        assert.strictEqual(yield* response.text, "grüße")
        // As often as one likes.
        assert.strictEqual(yield* response.text, "grüße")
        assert.strictEqual((yield* response.arrayBuffer).byteLength, 7)
      }))

    it.effect("are read as JSON, URL parameters, form data and bytes", () =>
      Effect.gen(function*() {
        const head = "Content-Type: application/json\r\n\r\n"
        assert.deepStrictEqual(yield* (yield* respond(`${head}{"a":[1]}`)).json, { a: [1] })
        assert.strictEqual(yield* (yield* respond(head)).json, null)
        const exit = yield* Effect.exit((yield* respond(`${head}{`)).json)
        assert.strictEqual(errorOf(exit)?.reason._tag, "DecodeError")
        const params = yield* (yield* respond("\r\n?a=1&b=%20")).urlParamsBody
        assert.deepStrictEqual(Array.from(params), [["?a", "1"], ["b", " "]])
        const form = yield* (yield* respond(
          "Content-Type: multipart/form-data; boundary=x\r\n\r\n" +
            "--x\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\nv\r\n--x--\r\n"
        )).formData
        assert.strictEqual(form.get("n"), "v")
      }))

    it.effect("are streamed as they come", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const client = yield* FastCgiHttpClient.make({ connect })
        const fiber = yield* Effect.forkScoped(client.get(url))
        const app = yield* nth(1)
        yield* app.send(Record.stdout(1, bytesOf("Content-Type: text/event-stream\r\n\r\n")))
        const response = yield* Fiber.join(fiber)
        const pull = yield* Stream.toPull(response.stream)
        for (let i = 0; i < 3; i++) {
          yield* app.send(Record.stdout(1, bytesOf(`data: ${i}\n\n`)))
          assert.strictEqual(textOf(concat(yield* pull)), `data: ${i}\n\n`)
        }
      }))

    it.effect("may have their head in any number of records", () =>
      Effect.gen(function*() {
        const bytes = bytesOf("Status: 201 Created\r\nX-A: b\r\n\r\nbody")
        const response = yield* respond(Array.from(bytes, (_, i) => bytes.subarray(i, i + 1)))
        assert.strictEqual(response.status, 201)
        assert.strictEqual(yield* response.text, "body")
      }))

    it.effect("end at their Content-Length; what follows is dropped", () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* (yield* respond("Content-Length: 4\r\n\r\nbodyXXXX")).text, "body")
        assert.strictEqual(
          yield* (yield* respond([bytesOf("Content-Length: 4\r\n\r\nbo"), bytesOf("dyXX"), bytesOf("XX")])).text,
          "body"
        )
      }))

    it.effect("are complete at their Content-Length although the connection is lost then", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const client = yield* FastCgiHttpClient.make({ connect })
        const fiber = yield* Effect.forkScoped(Effect.flatMap(client.get(url), (response) => response.text))
        const app = yield* nth(1)
        yield* app.send(Record.stdout(1, bytesOf("Content-Length: 4\r\n\r\nbody")))
        yield* app.close
        assert.strictEqual(yield* Fiber.join(fiber), "body")
      }))

    for (const method of ["HEAD", "GET"] as const) {
      for (const status of method === "HEAD" ? [200] : [204, 205, 304]) {
        it.effect(`have no body: ${method} ${status}, and leave the connection usable`, () =>
          Effect.gen(function*() {
            const { connect, nth, opened } = yield* applications()
            const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true })
            const fiber = yield* Effect.forkScoped(client.execute(HttpClientRequest.make(method)(url)))
            const app = yield* nth(1)
            yield* untilRequest(app)
            yield* app.send(...answer(1, `Status: ${status} X\r\nContent-Length: 5\r\n\r\nWRONG`))
            const response = yield* Fiber.join(fiber)
            assert.strictEqual(response.status, status)
            assert.strictEqual(response.headers["content-length"], "5")
            assert.strictEqual(yield* response.text, "")
            const next = yield* Effect.forkScoped(client.get(url))
            yield* untilRequest(app, 2)
            yield* app.send(...answer(1, "\r\nnext"))
            assert.strictEqual(yield* (yield* Fiber.join(next)).text, "next")
            assert.strictEqual(opened.length, 1)
          }))
      }
    }

    it.effect("have the first line of a header that is no list, and none that Connection names", () =>
      Effect.gen(function*() {
        const response = yield* respond(
          "Connection: x-a\r\nX-A: 1\r\nContent-Type: text/html\r\nContent-Type: text/plain\r\n\r\n"
        )
        assert.strictEqual(response.headers["content-type"], "text/html")
        assert.isUndefined(response.headers["x-a"])
      }))

    it.effect("have cookies, whatever spaces are in them, in no time", () =>
      Effect.gen(function*() {
        const spaces = " ".repeat(16_000)
        const response = yield* respond(
          `Set-Cookie: a=x${spaces}y; Path=/\r\nSet-Cookie: b${spaces}c=1\r\nSet-Cookie: d=1${spaces}%; Path=/${spaces}x\r\n` +
            "Set-Cookie: e = 1%202 ;HttpOnly\r\nSet-Cookie: ;f=1\r\nSet-Cookie: none\r\n\r\n"
        )
        const start = cpuTime()
        const { cookies } = response.cookies
        assert.isBelow(cpuTime() - start, 300, "milliseconds")
        assert.deepStrictEqual(Object.keys(cookies), ["a", "d", "e"])
        assert.strictEqual(cookies.a.value, `x${spaces}y`)
        assert.deepStrictEqual(cookies.a.options, { path: "/" })
        assert.strictEqual(cookies.d.value, `1${spaces}%`)
        assert.deepStrictEqual([cookies.e.value, cookies.e.valueEncoded], ["1 2", "1%202"])
        assert.deepStrictEqual(cookies.e.options, { httpOnly: true })
      }))

    it.effect("cannot be read twice as a stream", () =>
      Effect.gen(function*() {
        const response = yield* respond("\r\nbody")
        yield* Stream.runDrain(response.stream)
        const exit = yield* Effect.exit(Stream.runDrain(response.stream))
        assert.strictEqual(errorOf(exit)?.reason._tag, "DecodeError")
      }))

    it.effect("work with the combinators of HttpClient", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const client = (yield* FastCgiHttpClient.make({ connect, keepConnection: true })).pipe(
          HttpClient.followRedirects(),
          HttpClient.filterStatusOk
        )
        const fiber = yield* Effect.forkScoped(client.get(url))
        const app = yield* nth(1)
        yield* untilRequest(app)
        yield* app.send(...answer(1, "Status: 302 Found\r\nLocation: /other\r\n\r\n"))
        const second = yield* nth(1)
        yield* untilRequest(second, 2)
        yield* second.send(...answer(1, "Status: 500 Oops\r\n\r\n"))
        const exit = yield* Fiber.await(fiber)
        assert.strictEqual(errorOf(exit)?.reason._tag, "StatusCodeError")
        assert.strictEqual(errorOf(exit)?.response?.url, "http://example.test/other")
      }))
  })

  describe("fails", () => {
    for (
      const [name, records, expected] of [
        ["an END_REQUEST without an answer", [Record.endRequest(1, 7)], "TransportError BadHead"],
        ["an answer that is no CGI response", answer(1, "<html>\r\nno colon\r\n\r\n"), "TransportError BadHead"],
        ["half a head", answer(1, "Status: 200 OK\r\nX-"), "TransportError BadHead"],
        ["a Content-Length that is none", answer(1, "Content-Length: -5\r\n\r\n"), "TransportError BadHead"],
        [
          "two different lengths",
          answer(1, "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
          "TransportError BadHead"
        ],
        ["a 101", answer(1, "Status: 101 Switching Protocols\r\n\r\n"), "TransportError BadHead"],
        [
          "an overloaded application",
          [Record.endRequest(1, 0, Record.ProtocolStatus.Overloaded)],
          "TransportError Overloaded"
        ]
      ] as const
    ) {
      it.effect(`with ${expected} on ${name}`, () =>
        Effect.gen(function*() {
          const { connect, nth } = yield* applications()
          const client = yield* FastCgiHttpClient.make({ connect })
          const fiber = yield* Effect.forkScoped(client.get(url))
          const app = yield* nth(1)
          yield* untilRequest(app)
          yield* app.send(...records)
          assert.strictEqual(reasonOf(yield* Fiber.await(fiber)), expected)
          yield* app.untilEnd
        }))
    }

    it.effect("when there is no connection, in words", () =>
      Effect.gen(function*() {
        const client = yield* FastCgiHttpClient.make({
          connect: Effect.fail({ message: "nothing listens on app.sock" })
        })
        const exit = yield* Effect.exit(client.get(url))
        assert.strictEqual(reasonOf(exit), "TransportError ConnectFailed")
        assert.include(errorOf(exit)!.message, "nothing listens on app.sock")
      }))

    it.effect("reading a body that is cut: by a close, by END_REQUEST before its Content-Length", () =>
      Effect.gen(function*() {
        for (const end of ["close", "reset", "END_REQUEST"] as const) {
          for (const length of ["", "Content-Length: 10\r\n"]) {
            const { connect, nth } = yield* applications()
            const client = yield* FastCgiHttpClient.make({ connect })
            const fiber = yield* Effect.forkScoped(client.get(url))
            const app = yield* nth(1)
            yield* app.send(Record.stdout(1, bytesOf(`${length}\r\nhalf`)))
            const response = yield* Fiber.join(fiber)
            yield* end === "END_REQUEST" ? app.send(Record.endRequest(1)) : app[end]
            const exit = yield* Effect.exit(response.text)
            if (end === "END_REQUEST" && length === "") assert.deepStrictEqual(exit, Exit.succeed("half"))
            else {
              assert.strictEqual(
                reasonOf(exit),
                end === "reset" ? "DecodeError ConnectionLost" : "DecodeError Truncated",
                `${end} ${length}`
              )
            }
          }
        }
      }))

    it.effect("after headTimeout, counted from the end of the request's body", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const client = yield* FastCgiHttpClient.make({ connect, headTimeout: "10 seconds" })
        const gate = Deferred.makeUnsafe<void>()
        const fiber = yield* Effect.forkScoped(Effect.exit(client.post(url, {
          body: HttpBody.stream(Stream.fromEffect(Effect.as(Deferred.await(gate), bytesOf("slow"))))
        })))
        const app = yield* nth(1)
        yield* app.untilTag("BeginRequest")
        yield* TestClock.adjust("1 minute")
        assert.isUndefined(fiber.pollUnsafe())
        yield* Deferred.done(gate, Exit.void)
        yield* untilRequest(app)
        yield* TestClock.adjust("9 seconds")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("1 second")
        assert.strictEqual(reasonOf(yield* Fiber.join(fiber)), "TransportError Timeout")
        yield* app.untilEnd
      }))

    it.effect("after bodyTimeout, counted anew for each part of the response", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const client = yield* FastCgiHttpClient.make({ connect, bodyTimeout: "5 seconds" })
        const fiber = yield* Effect.forkScoped(client.get(url))
        const app = yield* nth(1)
        yield* untilRequest(app)
        // The head has its own limit.
        yield* TestClock.adjust("1 minute")
        yield* app.send(Record.stdout(1, bytesOf("\r\n")))
        const response = yield* Fiber.join(fiber)
        const reading = yield* Effect.forkScoped(Effect.exit(response.text), { startImmediately: true })
        for (let i = 0; i < 3; i++) {
          yield* TestClock.adjust("4 seconds")
          yield* app.send(Record.stdout(1, bytesOf("part")))
        }
        yield* TestClock.adjust("4 seconds")
        assert.isUndefined(reading.pollUnsafe())
        yield* TestClock.adjust("1 second")
        assert.strictEqual(reasonOf(yield* within("the end of reading")(Fiber.join(reading))), "DecodeError Timeout")
        yield* within("the end of the connection to the application")(app.untilEnd)
      }))

    it.effect("after bodyTimeout, where the application takes nothing of the request's body", () =>
      Effect.gen(function*() {
        for (
          const body of [
            HttpBody.uint8Array(new Uint8Array(3_000_000)),
            HttpBody.stream(Stream.make(new Uint8Array(3_000_000)))
          ]
        ) {
          const { connect, opened } = yield* applications({ capacity: 1000, reading: false })
          const client = yield* FastCgiHttpClient.make({ connect, bodyTimeout: "5 seconds" })
          const fiber = yield* Effect.forkScoped(Effect.exit(client.post(url, { body })), { startImmediately: true })
          yield* TestClock.adjust("4 seconds")
          assert.isUndefined(fiber.pollUnsafe())
          yield* TestClock.adjust("1 second")
          assert.strictEqual(
            reasonOf(yield* within("the end of the request")(Fiber.join(fiber))),
            "TransportError Timeout"
          )
          assert.isTrue(opened[0].client.closedUnsafe())
        }
      }))

    it.effect("not after bodyTimeout, where the application takes a part of the request's body in that time", () =>
      Effect.gen(function*() {
        const { connect, opened } = yield* applications({ capacity: 150_000, reading: false })
        const client = yield* FastCgiHttpClient.make({ connect, bodyTimeout: "5 seconds" })
        const body = HttpBody.uint8Array(new Uint8Array(3_000_000))
        const fiber = yield* Effect.forkScoped(Effect.exit(client.post(url, { body })), { startImmediately: true })
        for (let taken = 0, due = 0; taken < 3_000_000;) {
          yield* TestClock.adjust("4 seconds")
          for (due = Math.min(due + 400_000, 3_000_000); taken < due;) {
            const chunks = yield* within("a part of the body")(Effect.orDie(opened[0].transport.pull))
            for (const chunk of chunks) taken += chunk.length
          }
        }
        yield* opened[0].send(...answer(1, "\r\n"))
        assert.isTrue(Exit.isSuccess(yield* within("the answer")(Fiber.join(fiber))))
      }))

    it.effect("after connectTimeout", () =>
      Effect.gen(function*() {
        const client = yield* FastCgiHttpClient.make({ connect: Effect.never, connectTimeout: "3 seconds" })
        const fiber = yield* Effect.forkScoped(Effect.exit(client.get(url)))
        yield* TestClock.adjust("3 seconds")
        assert.strictEqual(reasonOf(yield* Fiber.join(fiber)), "TransportError Timeout")
      }))
  })

  describe("gives a request up", () => {
    it.effect("when it is interrupted", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true })
        const fiber = yield* Effect.forkScoped(client.get(url))
        const app = yield* nth(1)
        yield* untilRequest(app)
        yield* Fiber.interrupt(fiber)
        yield* app.untilEnd
      }))

    it.effect("when the reader of the response stops", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true })
        const fiber = yield* Effect.forkScoped(client.get(url))
        const app = yield* nth(1)
        yield* app.send(Record.stdout(1, bytesOf("\r\nendless")))
        const response = yield* Fiber.join(fiber)
        yield* Stream.runDrain(Stream.take(response.stream, 1))
        yield* app.untilEnd
      }))

    it.effect("when a response that is read as a whole is longer than MaxBodySize, and not before", () =>
      Effect.gen(function*() {
        const reads = ["arrayBuffer", "text", "json", "urlParamsBody", "formData"] as const
        for (const name of reads) {
          for (const head of ["", "Content-Length: 1000000000000\r\n"]) {
            const { connect, nth } = yield* applications()
            const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true })
            const fiber = yield* Effect.forkScoped(client.get(url))
            const app = yield* nth(1)
            yield* app.send(Record.stdout(1, bytesOf(`${head}\r\n123456`)))
            const response = yield* Fiber.join(fiber)
            const reading = yield* Effect.forkScoped(
              Effect.exit(Effect.asVoid<unknown, HttpClientError.HttpClientError, never>(response[name])),
              { startImmediately: true }
            )
            // No END_REQUEST ever comes.
            yield* app.send(Record.stdout(1, bytesOf("78901")))
            const error = errorOf(yield* within(`the end of ${name}`)(Fiber.join(reading)))
            assert.strictEqual(error?.reason._tag, "DecodeError", name)
            assert.include(error?.message, "longer than 10 bytes", name)
            yield* within(`the end of the connection to the application (${name})`)(app.untilEnd)
          }
        }
        const whole = yield* respond("Content-Length: 10\r\n\r\n1234567890")
        assert.strictEqual(yield* whole.text, "1234567890")
        const stream = yield* respond("\r\n12345678901")
        assert.strictEqual((yield* Stream.runCollect(stream.stream)).length, 1)
      }).pipe(Effect.provideService(HttpIncomingMessage.MaxBodySize, ByteSize.bytes(10))))

    it.effect("when reading the response is interrupted", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true })
        const fiber = yield* Effect.forkScoped(Effect.flatMap(client.get(url), (response) => response.text))
        const app = yield* nth(1)
        yield* app.send(Record.stdout(1, bytesOf("\r\nendless")))
        yield* Effect.yieldNow
        yield* Fiber.interrupt(fiber)
        yield* app.untilEnd
      }))

    it.effect("when the scope of HttpClient.withScope closes", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const client = HttpClient.withScope(yield* FastCgiHttpClient.make({ connect, keepConnection: true }))
        yield* Effect.scoped(Effect.gen(function*() {
          const fiber = yield* Effect.forkScoped(client.get(url))
          const app = yield* nth(1)
          yield* app.send(Record.stdout(1, bytesOf("\r\nendless")))
          yield* Fiber.join(fiber)
        }))
        yield* (yield* nth(1)).untilEnd
      }))

    it.effect("not when the answer has begun and nothing more of its body is taken", () =>
      Effect.gen(function*() {
        const { connect, opened } = yield* applications({ capacity: 1000, reading: false })
        const client = yield* FastCgiHttpClient.make({ connect, bodyTimeout: "5 seconds" })
        const fiber = yield* Effect.forkScoped(
          client.post(url, { body: HttpBody.uint8Array(new Uint8Array(3_000_000)) }),
          { startImmediately: true }
        )
        yield* opened[0].send(Record.stdout(1, bytesOf("Status: 413 Too Large\r\n\r\n")))
        const response = yield* Fiber.join(fiber)
        const reading = yield* Effect.forkScoped(response.text, { startImmediately: true })
        for (let i = 0; i < 3; i++) {
          yield* TestClock.adjust("4 seconds")
          yield* opened[0].send(Record.stdout(1, bytesOf("part")))
        }
        yield* opened[0].send(Record.stdout(1), Record.endRequest(1))
        assert.strictEqual(yield* Fiber.join(reading), "partpartpart")
      }))

    it.effect("while its body is still being sent, when the response is complete", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true })
        const fiber = yield* Effect.forkScoped(Effect.flatMap(
          client.post(url, { body: HttpBody.stream(Stream.never) }),
          (response) => response.text
        ))
        const app = yield* nth(1)
        yield* app.send(Record.stdout(1, bytesOf("Content-Length: 3\r\n\r\n413")))
        assert.strictEqual(yield* Fiber.join(fiber), "413")
        yield* app.untilEnd
      }))
  })

  describe("logs STDERR", () => {
    // The lines that a request leaves in the log, each with its annotations.
    const logOf = (
      act: (app: Application) => Effect.Effect<unknown>,
      options?: Partial<FastCgiHttpClient.FastCgiHttpClientOptions>,
      target = url
    ) =>
      Effect.gen(function*() {
        const lines: Array<readonly [string, unknown]> = []
        const logger = Logger.make(({ fiber, logLevel, message }) => {
          lines.push([`${logLevel} ${String(message)}`, { ...fiber.getRef(References.CurrentLogAnnotations) }])
        })
        yield* Effect.gen(function*() {
          const { connect, nth } = yield* applications()
          const client = yield* FastCgiHttpClient.make({ connect, ...options })
          const fiber = yield* Effect.forkScoped(client.get(target))
          const app = yield* nth(1)
          yield* act(app)
          yield* app.send(...answer(1, "\r\n"))
          yield* Fiber.join(fiber)
          yield* app.untilEnd
        }).pipe(Effect.provide(Logger.layer([logger])))
        return lines
      })

    const messagesOf = (act: (app: Application) => Effect.Effect<unknown>) =>
      Effect.map(logOf(act), (lines) => lines.map(([line]) => line))

    it.effect("line by line, as warnings", () =>
      Effect.gen(function*() {
        const lines = yield* messagesOf((app) =>
          app.send(Record.stderr(1, bytesOf("one\ntw")), Record.stderr(1, bytesOf("o\r\n\n\r\nthr\u00fce")))
        )
        assert.deepStrictEqual(lines, ["Warn one", "Warn two", "Warn thr\u00fce"])
      }))

    it.effect("with the request and the script that wrote it", () =>
      Effect.gen(function*() {
        const stderr = (app: Application) => app.send(Record.stderr(1, bytesOf("odd\n")))
        assert.deepStrictEqual(yield* logOf(stderr), [
          ["Warn odd", { fastcgi: "stderr", request: "GET /path?q=1" }]
        ])
        assert.deepStrictEqual(yield* logOf(stderr, { documentRoot: "/srv/www" }), [
          ["Warn odd", { fastcgi: "stderr", request: "GET /path?q=1", script: "/srv/www/path" }]
        ])
        const [[, annotations]] = yield* logOf(
          stderr,
          { documentRoot: "/srv/www" },
          `http://example.test/%0a%1b[2J${"x".repeat(10_000)}`
        )
        const { request, script } = annotations as { readonly request: string; readonly script: string }
        assert.strictEqual(request.length, 257)
        assert.match(script, /^\/srv\/www\/\\x0a\\x1b\[2Jx+…$/)
        assert.isBelow(script.length, 300)
      }))

    it.effect("without the control characters that would forge a line or reach the reader's terminal", () =>
      Effect.gen(function*() {
        const lines = yield* messagesOf((app) =>
          app.send(Record.stderr(
            1,
            bytesOf("a\x1b]0;title\x07\x1b[2Jb\rc\0d\te\u009bf\u2028g\u202eh\x7f\n")
          ))
        )
        assert.deepStrictEqual(lines, [
          "Warn a\\x1b]0;title\\x07\\x1b[2Jb\\x0dc\\x00d\te\\x9bf\\u2028g\\u202eh\\x7f"
        ])
      }))

    it.effect("up to 64 KiB of a request in ten seconds, and says how much it has left out", () =>
      Effect.gen(function*() {
        const record = Record.stderr(1, bytesOf(`${"x".repeat(99)}\n`.repeat(600)))
        const written = 100 * record.content.length
        const lines = yield* messagesOf((app) =>
          Effect.gen(function*() {
            for (let i = 0; i < 100; i++) {
              yield* app.send(record)
              yield* Effect.yieldNow
            }
            yield* TestClock.adjust("10 seconds")
            yield* app.send(Record.stderr(1, bytesOf("later\n")))
          })
        )
        const shown = lines.filter((line) => line === `Warn ${"x".repeat(99)}`).length
        assert.isAtLeast(shown, 280)
        assert.isAtMost(lines.reduce((size, line) => size + line.length, 0), 64 * 1024)
        assert.strictEqual(lines.at(-1), "Warn later")
        assert.strictEqual(lines.at(-2), `Warn ${written - shown * 100} bytes of STDERR have been left out`)
        assert.strictEqual(lines.length, shown + 2)
      }))

    it.effect("in pieces where a line has no end", () =>
      Effect.gen(function*() {
        const lines = yield* messagesOf((app) => app.send(Record.stderr(1, bytesOf("x".repeat(20_000)))))
        assert.deepStrictEqual(lines.map((line) => line.length - "Warn ".length), [8192, 8192, 20_000 - 2 * 8192])
      }))
  })
})
