import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, describe, it } from "@effect/vitest"
import * as ByteSize from "effect/ByteSize"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import { existsSync } from "node:fs"
import { createServer, type IncomingMessage, request as nodeRequest, type Server } from "node:http"
import { connect as connectHttp2, createServer as createHttp2Server, type Http2Server } from "node:http2"
import { connect as connectNet } from "node:net"
import * as FastCgiGateway from "../../src/client/FastCgiGateway.ts"
import type { FastCgiTransport } from "../../src/connection/FastCgiTransport.ts"
import * as Record from "../../src/protocol/FastCgiRecord.ts"
import { within } from "../support/within.ts"
import * as Application from "./application.ts"
import { answer, bytesOf, textOf } from "./application.ts"

// A gateway on a real port, and the application behind it that answers its first connection.
const start = Effect.fnUntraced(
  function*(
    options?: Partial<FastCgiGateway.FastCgiGatewayOptions<{ message: string }>> & {
      readonly onConnect?: () => void
    },
    server: () => Server | Http2Server = createServer,
    application?: Parameters<typeof Application.make>[0]
  ) {
    const scope = yield* Effect.scope
    const first = Deferred.makeUnsafe<Application.Application>()
    const connect: Effect.Effect<FastCgiTransport> = Effect.gen(function*() {
      options?.onConnect?.()
      const app = yield* Scope.provide(Application.make(application), scope)
      yield* Deferred.succeed(first, app)
      return app.client
    })
    const context = yield* Layer.build(
      FastCgiGateway.layer({ connect, ...options }).pipe(
        Layer.provideMerge(
          NodeHttpServer.layerServer(server, { host: "127.0.0.1", port: 0, gracefulShutdownTimeout: 100 })
        )
      )
    )
    const { port } = Context.get(context, HttpServer.HttpServer).address as { readonly port: number }
    const app = Effect.tap(
      Deferred.await(first),
      (app) => application?.reading === false ? Effect.void : app.untilTag("BeginRequest")
    )
    return { url: `http://127.0.0.1:${port}`, port, app }
  }
)

interface Raw {
  readonly status: number
  readonly statusText: string
  readonly headers: ReadonlyArray<string>
  readonly body: string
}

// With node:http, which shows headers as they came.
const raw = (
  port: number,
  options: { readonly path?: string; readonly method?: string; readonly headers?: Record<string, string> } = {}
) =>
  Effect.callback<Raw, Error>((resume) => {
    const request = nodeRequest({ host: "127.0.0.1", port, agent: false, path: "/", ...options }, (response) => {
      let body = ""
      response.setEncoding("latin1")
      response.on("data", (data: string) => body += data)
      response.on("error", (error) => resume(Effect.fail(error)))
      response.on("end", () =>
        resume(Effect.succeed({
          status: response.statusCode!,
          statusText: response.statusMessage!,
          headers: response.rawHeaders,
          body
        })))
    })
    request.on("error", (error) => resume(Effect.fail(error)))
    request.end()
    return Effect.sync(() => request.destroy())
  })

const all = (response: Raw, name: string): ReadonlyArray<string> =>
  response.headers.filter((_, i) => i % 2 === 1 && response.headers[i - 1].toLowerCase() === name)

const reply = (stdout: string, options?: Parameters<typeof raw>[1]) =>
  Effect.gen(function*() {
    const { app, port } = yield* start()
    const [response] = yield* Effect.all([
      raw(port, options),
      Effect.flatMap(app, (app) => app.send(...answer(1, stdout)))
    ], { concurrency: "unbounded" })
    return response
  })

const silent = Logger.layer([])

describe("FastCgiGateway", () => {
  it.live("passes on status, reason and headers, and adds nothing that the application did not send", () =>
    Effect.gen(function*() {
      const response = yield* reply("Status: 299 My Own\r\nX-A: 1\r\nContent-Length: 4\r\n\r\nbody")
      assert.strictEqual(response.status, 299)
      assert.strictEqual(response.statusText, "My Own")
      assert.strictEqual(response.body, "body")
      assert.deepStrictEqual(all(response, "x-a"), ["1"])
      assert.deepStrictEqual(all(response, "content-length"), ["4"])
      assert.deepStrictEqual(all(response, "content-type"), [])
    }))

  it.live("keeps every Set-Cookie line as it is: same names, unknown attributes, odd values", () =>
    Effect.gen(function*() {
      const lines = [
        "a=1; Path=/one",
        "a=2; Path=/two; HttpOnly; SameSite=Lax",
        "b=\"quoted value\"; Expires=Thu, 01 Jan 2099 00:00:00 GMT; New-Attribute=x",
        "c=a=b=c",
        "d="
      ]
      const response = yield* reply(lines.map((line) => `Set-Cookie: ${line}\r\n`).join("") + "\r\n")
      assert.deepStrictEqual(all(response, "set-cookie"), lines)
    }))

  it.live("drops headers of one hop and those that are for nginx", () =>
    Effect.gen(function*() {
      const response = yield* reply(
        "X-A: 1\r\nConnection: x-a, X-C\r\nKeep-Alive: timeout=5\r\nTransfer-Encoding: identity\r\nUpgrade: h2c\r\n" +
          "X-Accel-Buffering: no\r\nX-Accel-Redirect: /secret\r\nX-B: kept\r\nX-C: 2\r\n\r\nbody"
      )
      for (const name of ["upgrade", "x-accel-buffering", "x-accel-redirect", "x-a", "x-c"]) {
        assert.deepStrictEqual(all(response, name), [], name)
      }
      // Its length is known when all of it has come together with the head.
      assert.deepStrictEqual(all(response, "transfer-encoding"), [])
      assert.deepStrictEqual(all(response, "content-length"), ["4"])
      assert.deepStrictEqual(all(response, "x-b"), ["kept"])
      assert.strictEqual(response.body, "body")
    }))

  it.live("keeps the first line of a header that is no list, and joins those of one that is", () =>
    Effect.gen(function*() {
      const response = yield* reply(
        "Location: /a\r\nContent-Type: text/html\r\nVary: a\r\nETag: \"1\"\r\nLocation: /b\r\n" +
          "content-type: text/plain\r\nVary: b\r\nETag: \"2\"\r\n\r\n"
      )
      assert.strictEqual(response.status, 302)
      assert.deepStrictEqual(all(response, "location"), ["/a"])
      assert.deepStrictEqual(all(response, "content-type"), ["text/html"])
      assert.deepStrictEqual(all(response, "etag"), [`"1"`])
      assert.deepStrictEqual(all(response, "vary"), ["a, b"])
    }))

  it.live("passes on no body in a transfer coding that would be lost: 501 for the client, 502 for the application", () =>
    Effect.gen(function*() {
      let connects = 0
      const { port } = yield* start({ onConnect: () => connects++ })
      for (const coding of ["gzip, chunked", "deflate, gzip, chunked"]) {
        const response = yield* raw(port, { method: "POST", headers: { "transfer-encoding": coding } })
        assert.strictEqual(response.status, 501, coding)
      }
      assert.strictEqual(connects, 0)
      for (const coding of ["gzip, chunked", "GZIP", "x-compress"]) {
        const response = yield* reply(`Transfer-Encoding: ${coding}\r\n\r\n\x1f\x8b`)
        assert.strictEqual(response.status, 502, coding)
      }
    }).pipe(Effect.provide(silent)))

  it.live("refuses a host that is none: 400", () =>
    Effect.gen(function*() {
      let connects = 0
      const { port } = yield* start({ onConnect: () => connects++, serverName: "a.test" })
      for (const host of ["x\"><script>", "a/b", "a@b", "[::1", "a:65536"]) {
        const response = yield* raw(port, { headers: { host } })
        assert.strictEqual(response.status, 400, host)
        assert.notInclude(response.body, host)
      }
      assert.strictEqual(connects, 0)
    }))

  it.live("passes on a redirect, and header values byte by byte", () =>
    Effect.gen(function*() {
      const response = yield* reply("Status: 303 See Other\r\nLocation: /next?a=b\r\nX-Latin: caf\u00e9\r\n\r\n")
      assert.strictEqual(response.status, 303)
      assert.deepStrictEqual(all(response, "location"), ["/next?a=b"])
      // UTF-8 in, the same bytes out.
      assert.deepStrictEqual(all(response, "x-latin"), ["caf\u00c3\u00a9"])
    }))

  for (const [method, status] of [["HEAD", 200], ["GET", 304]] as const) {
    it.live(`answers ${method} ${status} without a body and with its Content-Length`, () =>
      Effect.gen(function*() {
        const response = yield* reply(`Status: ${status} X\r\nContent-Length: 1234\r\nETag: "x"\r\n\r\n`, { method })
        assert.strictEqual(response.status, status)
        assert.strictEqual(response.body, "")
        assert.deepStrictEqual(all(response, "content-length"), ["1234"])
        assert.deepStrictEqual(all(response, "etag"), [`"x"`])
      }))
  }

  it.live("tells the application about the request and the connection", () =>
    Effect.gen(function*() {
      const { app, port } = yield* start()
      const [, params] = yield* Effect.all([
        raw(port, {
          path: "/a%20b?c=%20d",
          headers: {
            cookie: "x=y",
            "x-a": "1",
            te: "trailers",
            proxy: "evil",
            host: "app.test",
            connection: "close, x-b",
            "x-b": "2"
          }
        }),
        Effect.gen(function*() {
          const running = yield* app
          yield* running.untilTag("Stdin")
          const params = running.params(1).toRecord()
          yield* running.send(...answer(1, "\r\n"))
          return params
        })
      ], { concurrency: "unbounded" })
      assert.strictEqual(params["REQUEST_METHOD"], "GET")
      assert.strictEqual(params["REQUEST_URI"], "/a%20b?c=%20d")
      assert.strictEqual(params["SCRIPT_NAME"], "/a b")
      assert.strictEqual(params["QUERY_STRING"], "c=%20d")
      assert.strictEqual(params["SERVER_PROTOCOL"], "HTTP/1.1")
      assert.strictEqual(params["GATEWAY_INTERFACE"], "CGI/1.1")
      assert.strictEqual(params["REMOTE_ADDR"], "127.0.0.1")
      assert.match(params["REMOTE_PORT"], /^\d+$/)
      assert.strictEqual(params["SERVER_ADDR"], "127.0.0.1")
      assert.strictEqual(params["SERVER_PORT"], String(port))
      assert.strictEqual(params["SERVER_NAME"], "app.test")
      assert.strictEqual(params["HTTP_HOST"], "app.test")
      assert.strictEqual(params["HTTP_COOKIE"], "x=y")
      assert.strictEqual(params["HTTP_X_A"], "1")
      for (
        const name of [
          "HTTP_PROXY",
          "HTTP_TE",
          "HTTP_CONNECTION",
          "HTTP_X_B",
          "HTTPS",
          "CONTENT_LENGTH",
          "CONTENT_TYPE"
        ]
      ) {
        assert.isUndefined(params[name], name)
      }
    }))

  it.live("refuses a target that leaves the root, is no path, or holds NUL, without connecting", () =>
    Effect.gen(function*() {
      let connects = 0
      const connect = Effect.suspend(() => {
        connects++
        return Effect.fail({ message: "not to be asked" })
      })
      const { port } = yield* start({ connect, documentRoot: "/srv/www" })
      for (
        const [method, path] of [
          ["GET", "/../x"],
          ["GET", "/a/../../x?y"],
          ["GET", "/%2e%2e/x"],
          ["GET", "/..%2f..%2fetc%2fx.php"],
          ["POST", "/x/%2E./..%2Fx"],
          ["GET", "/doku.php%00.png"],
          ["OPTIONS", "*"],
          ["GET", "http://a.test/..%2f..%2fx"]
        ]
      ) {
        const response = yield* raw(port, { method, path })
        assert.strictEqual(response.status, 400, path)
        assert.include(response.body, "400 Bad Request", path)
      }
      assert.strictEqual(connects, 0)
    }))

  it.live("tells the application a path that is resolved below the root, and the target as it is", () =>
    Effect.gen(function*() {
      const { app, port } = yield* start({ documentRoot: "/srv/www" })
      const path = "/a/..//b%2f%2e%2e/./c%2Fd?e=/../"
      const [, params] = yield* Effect.all([
        raw(port, { path }),
        Effect.gen(function*() {
          const running = yield* app
          yield* running.untilTag("Stdin")
          const params = running.params(1).toRecord()
          yield* running.send(...answer(1, "\r\n"))
          return params
        })
      ], { concurrency: "unbounded" })
      assert.strictEqual(params["SCRIPT_FILENAME"], "/srv/www/c/d")
      assert.strictEqual(params["SCRIPT_NAME"], "/c/d")
      assert.strictEqual(params["REQUEST_URI"], path)
      assert.strictEqual(params["QUERY_STRING"], "e=/../")
    }))

  it.live("streams in both directions at once", () =>
    Effect.gen(function*() {
      const { app, port } = yield* start()
      const request = nodeRequest({ host: "127.0.0.1", port, agent: false, method: "POST" })
      request.write("first")
      const running = yield* app
      yield* running.until((record) => record._tag === "Stdin" && record.content.length > 0)
      assert.isFalse(running.params(1).has("CONTENT_LENGTH"))
      yield* running.send(Record.stdout(1, bytesOf("Content-Type: text/event-stream\r\n\r\ndata: 0\n\n")))
      const response = yield* Effect.callback<IncomingMessage>((resume) => {
        request.on("response", (response) => resume(Effect.succeed(response)))
      })
      const next = Effect.callback<string>((resume) => {
        response.once("data", (data) => resume(Effect.succeed(String(data))))
      })
      assert.strictEqual(yield* next, "data: 0\n\n")
      // The answer has begun; the body goes on.
      request.write("second")
      yield* running.until((record) => record._tag === "Stdin" && record.content.length > 0, 2)
      const event = yield* Effect.forkScoped(next, { startImmediately: true })
      yield* running.send(Record.stdout(1, bytesOf("data: 1\n\n")))
      assert.strictEqual(yield* Fiber.join(event), "data: 1\n\n")
      request.end("third")
      yield* running.until((record) => record._tag === "Stdin" && record.content.length === 0)
      assert.strictEqual(textOf(running.stdin(1)), "firstsecondthird")
      yield* running.send(Record.stdout(1), Record.endRequest(1))
    }))

  describe("gathers a body of unknown length", () => {
    const pattern = (size: number) => Uint8Array.from({ length: size }, (_, i) => i * 31 >> 3)

    // What the application is told and gets of a request whose body is sent in chunks.
    const chunked = (options: Parameters<typeof start>[0], chunks: ReadonlyArray<Uint8Array>) =>
      Effect.gen(function*() {
        const { app, port } = yield* start(options)
        const [status, got] = yield* Effect.all([
          post(port, chunks),
          Effect.gen(function*() {
            const running = yield* app
            yield* running.until((record) => record._tag === "Stdin" && record.content.length === 0)
            const got = { length: running.params(1).get("CONTENT_LENGTH"), body: running.stdin(1) }
            yield* running.send(...answer(1, "\r\n"))
            return got
          })
        ], { concurrency: "unbounded" })
        assert.strictEqual(status, 200)
        return got
      })

    const post = (port: number, chunks: ReadonlyArray<Uint8Array>, headers: Record<string, string> = {}) =>
      Effect.callback<number, Error>((resume) => {
        const request = nodeRequest({ host: "127.0.0.1", port, agent: false, method: "POST", headers }, (response) => {
          response.resume()
          resume(Effect.succeed(response.statusCode!))
        })
        request.on("error", (error) => resume(Effect.fail(error)))
        for (const chunk of chunks) request.write(chunk)
        request.end()
        return Effect.sync(() => request.destroy())
      })

    it.live("where a script is named, and not where the application may read it as it comes", () =>
      Effect.gen(function*() {
        const chunks = [bytesOf("a=1&"), bytesOf("b=2")]
        for (
          const options of [
            { documentRoot: "/srv/www" },
            { scriptFilename: "/srv/www/index.php" },
            { params: { SCRIPT_FILENAME: "/srv/www/index.php" } },
            { gatherBody: true }
          ]
        ) {
          assert.deepStrictEqual(yield* chunked(options, chunks), { length: "7", body: bytesOf("a=1&b=2") })
        }
        for (const options of [{}, { documentRoot: "/srv/www", gatherBody: false }]) {
          assert.deepStrictEqual(yield* chunked(options, chunks), { length: undefined, body: bytesOf("a=1&b=2") })
        }
        assert.deepStrictEqual(yield* chunked({ documentRoot: "/srv/www" }, []), {
          length: "0",
          body: new Uint8Array(0)
        })
      }))

    // A FileSystem that tells of the files it makes, and that they are gone.
    const watched = Effect.gen(function*() {
      const fileSystem = yield* FileSystem.FileSystem
      const made: Array<string> = []
      const removed = Deferred.makeUnsafe<void>()
      const makeTempFileScoped: FileSystem.FileSystem["makeTempFileScoped"] = (options) =>
        Effect.gen(function*() {
          yield* Effect.addFinalizer(() => Deferred.succeed(removed, undefined))
          const path = yield* fileSystem.makeTempFileScoped(options)
          made.push(path)
          return path
        })
      return { made, removed: Deferred.await(removed), fileSystem: { ...fileSystem, makeTempFileScoped } }
    }).pipe(Effect.provide(NodeFileSystem.layer))

    it.live("in memory up to a limit, and beyond it in a file that is gone with the request", () =>
      Effect.gen(function*() {
        for (
          const [sizes, files] of [
            [[100], 0],
            [[60, 40], 0],
            [[101], 1],
            [[60, 41], 1],
            [[1, 2, 98, 99, 1, 1, 100, 300, 5], 1],
            [[250, 1], 1]
          ] as const
        ) {
          const { fileSystem, made, removed } = yield* watched
          const body = pattern(sizes.reduce<number>((sum, size) => sum + size, 0))
          let at = 0
          const chunks = sizes.map((size) => body.subarray(at, at += size))
          const got = yield* chunked({ documentRoot: "/srv/www", maxGatheredSize: 100 }, chunks).pipe(
            Effect.provideService(FileSystem.FileSystem, fileSystem)
          )
          assert.deepStrictEqual(got, { length: String(body.length), body }, String(sizes))
          assert.strictEqual(made.length, files, String(sizes))
          if (files === 0) continue
          yield* within("the removal of the temporary file")(removed)
          assert.isFalse(existsSync(made[0]))
        }
      }))

    it.live("and refuses what is too long where there is no file system: 413", () =>
      Effect.gen(function*() {
        const layer = NodeHttpServer.layerServer(createServer, { host: "127.0.0.1", port: 0 })
        const context = yield* Layer.build(
          FastCgiGateway.layer({
            connect: Effect.fail({ message: "not to be asked" }),
            documentRoot: "/srv/www",
            maxGatheredSize: 100
          }).pipe(Layer.provideMerge(layer))
        )
        const { port } = Context.get(context, HttpServer.HttpServer).address as { readonly port: number }
        assert.strictEqual(yield* post(port, [pattern(60), pattern(41)]), 413)
        assert.strictEqual(yield* post(port, [pattern(60), pattern(40)]), 502)
      }).pipe(Effect.provide(silent)))

    it.live("over HTTP/2 as well, where no header tells of it", () =>
      Effect.gen(function*() {
        const { app, port } = yield* start({ documentRoot: "/srv/www" }, createHttp2Server)
        const session = yield* Effect.acquireRelease(
          Effect.sync(() => connectHttp2(`http://127.0.0.1:${port}`)),
          (session) => Effect.sync(() => session.destroy())
        )
        const stream = session.request({ ":method": "POST", ":path": "/a" })
        stream.write("first ")
        stream.end("second")
        const running = yield* app
        yield* running.until((record) => record._tag === "Stdin" && record.content.length === 0)
        assert.strictEqual(textOf(running.stdin(1)), "first second")
        assert.strictEqual(running.params(1).get("CONTENT_LENGTH"), "12")
        yield* running.send(...answer(1, "\r\n"))
      }))

    it.live("of a server that is not node:http, and that tells no more than the method", () =>
      Effect.gen(function*() {
        for (const [method, body] of [["POST", "first second"], ["PUT", undefined], ["GET", undefined]] as const) {
          const app = yield* Application.make()
          const gateway = yield* FastCgiGateway.make({ connect: app.connect, documentRoot: "/srv/www" })
          const request = new Request("http://a.test/a", {
            method,
            ...body === undefined ? undefined : { body: new Blob([body]).stream(), duplex: "half" }
          })
          yield* gateway.pipe(
            Effect.provideService(HttpServerRequest.HttpServerRequest, HttpServerRequest.fromWeb(request)),
            Effect.forkScoped
          )
          yield* app.until((record) => record._tag === "Stdin" && record.content.length === 0)
          assert.strictEqual(textOf(app.stdin(1)), body ?? "")
          assert.strictEqual(
            app.params(1).get("CONTENT_LENGTH"),
            body === undefined ? undefined : String(body.length)
          )
        }
      }))

    it.live("and takes no more than MaxBodySize, whether or not the length is declared or gathered: 413", () =>
      Effect.gen(function*() {
        let connects = 0
        const { port } = yield* start({
          onConnect: () => connects++
        }).pipe(Effect.provideService(HttpIncomingMessage.MaxBodySize, ByteSize.bytes(100)))
        assert.strictEqual(yield* post(port, [pattern(101)], { "content-length": "101" }), 413)
        assert.strictEqual(connects, 0)
        const streamed = post(port, [pattern(60), pattern(41)])
        assert.strictEqual(yield* within("an answer to a streamed body that is too long")(streamed), 413)
        const { port: gathering } = yield* start({ documentRoot: "/srv/www" }).pipe(
          Effect.provideService(HttpIncomingMessage.MaxBodySize, ByteSize.bytes(100))
        )
        assert.strictEqual(yield* post(gathering, [pattern(60), pattern(41)]), 413)
      }).pipe(Effect.provide(silent)))

    it.live("and answers a declared length that nobody takes at once", () =>
      Effect.gen(function*() {
        const { port } = yield* start()
        for (const length of ["1073741825", "1000000000000000", "9007199254740993"]) {
          const head = yield* within(`an answer to a declared length of ${length}`)(
            Effect.callback<string>((resume) => {
              const socket = connectNet(port, "127.0.0.1", () => {
                socket.write(`POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${length}\r\n\r\nabc`)
              })
              socket.once("data", (data) => resume(Effect.succeed(String(data))))
              return Effect.sync(() => socket.destroy())
            })
          )
          assert.match(head, /^HTTP\/1\.1 413 /)
        }
      }))
  })

  describe("waits for the next part of a body only so long", () => {
    it.live("as the client keeps it waiting: 408, gathered or not", () =>
      Effect.gen(function*() {
        for (const options of [{ gatherBody: true }, { gatherBody: false }]) {
          const { port } = yield* start({ bodyTimeout: 50, ...options })
          for (const head of ["Content-Length: 100", "Transfer-Encoding: chunked"]) {
            const answer = yield* within(`an answer to a request whose body stops (${head})`)(
              Effect.callback<string>((resume) => {
                const socket = connectNet(port, "127.0.0.1", () => {
                  socket.write(`POST /a HTTP/1.1\r\nHost: a.test\r\n${head}\r\n\r\n3\r\nabc\r\n`)
                })
                socket.once("data", (data) => resume(Effect.succeed(String(data))))
                return Effect.sync(() => socket.destroy())
              })
            )
            assert.match(answer, /^HTTP\/1\.1 408 /)
          }
        }
      }).pipe(Effect.provide(silent)))

    it.live("as the application takes none of a request's: 504", () =>
      Effect.gen(function*() {
        for (const headers of [{ "content-length": "4000000" }, { "transfer-encoding": "chunked" }]) {
          const { app, port } = yield* start({ bodyTimeout: 50, gatherBody: false }, undefined, {
            capacity: 1000,
            reading: false
          })
          const request = nodeRequest({ host: "127.0.0.1", port, agent: false, method: "POST", headers })
          request.on("error", () => {})
          request.end(new Uint8Array(4_000_000))
          const response = yield* within("an answer to a request whose body the application does not take")(
            Effect.callback<IncomingMessage>((resume) => {
              request.on("response", (response) => resume(Effect.succeed(response)))
            })
          )
          assert.strictEqual(response.statusCode, 504)
          response.resume()
          assert.isTrue((yield* app).client.closedUnsafe())
        }
      }).pipe(Effect.provide(silent)))

    it.live("as the application sends none of a response's: the response is cut", () =>
      Effect.gen(function*() {
        for (const head of ["", "Content-Length: 100\r\n"]) {
          const { app, port } = yield* start({ bodyTimeout: 50 })
          const [error] = yield* Effect.all([
            within("the end of the response")(Effect.flip(raw(port))),
            Effect.flatMap(app, (app) => app.send(Record.stdout(1, bytesOf(`${head}\r\nhalf`))))
          ], { concurrency: "unbounded" })
          assert.match(error.message, /aborted|hang up|reset/)
          yield* within("the end of the connection to the application")((yield* app).untilEnd)
        }
      }).pipe(Effect.provide(silent)))
  })

  it.live("closes the application's connection when the client goes away, before the answer and in its middle", () =>
    Effect.gen(function*() {
      for (const begun of [false, true]) {
        const { app, port } = yield* start()
        const request = nodeRequest({ host: "127.0.0.1", port, agent: false })
        request.on("error", () => {})
        request.end()
        const running = yield* app
        if (begun) {
          yield* running.send(Record.stdout(1, bytesOf("\r\nbegun")))
          yield* Effect.callback<void>((resume) => {
            request.on("response", (response) => {
              response.on("error", () => {})
              response.once("data", () => resume(Effect.void))
            })
          })
        }
        request.destroy()
        yield* running.untilEnd
      }
    }).pipe(Effect.provide(silent)))

  it.live("cuts the client's response when the application's is cut", () =>
    Effect.gen(function*() {
      for (const head of ["\r\n", "Content-Length: 100\r\n\r\n"]) {
        const { app, port } = yield* start()
        const [error] = yield* Effect.all([
          Effect.flip(raw(port)),
          Effect.gen(function*() {
            const running = yield* app
            yield* running.send(Record.stdout(1, bytesOf(`${head}half`)))
            yield* running.close
          })
        ], { concurrency: "unbounded" })
        assert.match(error.message, /aborted|hang up|reset/)
      }
    }).pipe(Effect.provide(silent)))

  describe("says in words, and leaves the details to the log,", () => {
    const page = (
      options: Parameters<typeof start>[0],
      act: (app: Application.Application) => Effect.Effect<unknown>,
      request?: Parameters<typeof raw>[1]
    ) =>
      Effect.gen(function*() {
        const lines: Array<string> = []
        const logger = Logger.make(({ logLevel, message }) => {
          lines.push(`${logLevel} ${String(message)}`)
        })
        const { app, port } = yield* Effect.provide(start(options), Logger.layer([logger]))
        const [response] = yield* Effect.all([raw(port, request), Effect.forkScoped(Effect.flatMap(app, act))], {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(all(response, "content-type"), ["text/html; charset=utf-8"])
        assert.deepStrictEqual(all(response, "cache-control"), ["no-store"])
        return { ...response, log: lines.join("\n") }
      })

    const close = (app: Application.Application) => app.close

    it.live("that nothing listens there: 502", () =>
      Effect.gen(function*() {
        const response = yield* page(
          { connect: Effect.fail({ message: "Nothing listens on <app>\n\x1b.sock" }) },
          close
        )
        assert.strictEqual(response.status, 502)
        assert.include(response.body, "cannot be reached")
        assert.notInclude(response.body, ".sock")
        assert.include(response.log, "Warn GET /: 502: Nothing listens on <app>\\x0a\\x1b.sock")
      }))

    it.live("that the application closed the connection: 502", () =>
      Effect.gen(function*() {
        // A GET would be sent again.
        const response = yield* page({}, close, { method: "POST" })
        assert.strictEqual(response.status, 502)
        assert.include(response.body, "The application closed the connection before it answered")
        assert.include(response.log, "502: the application closed the connection before it answered")
      }))

    it.live("that it is overloaded: 503", () =>
      Effect.gen(function*() {
        const response = yield* page({}, (app) => app.send(Record.endRequest(1, 0, Record.ProtocolStatus.Overloaded)))
        assert.strictEqual(response.status, 503)
        assert.include(response.body, "overloaded")
        assert.include(response.log, "FCGI_OVERLOADED")
      }))

    it.live("that it took too long: 504", () =>
      Effect.gen(function*() {
        const response = yield* page({ headTimeout: 50 }, () => Effect.void)
        assert.strictEqual(response.status, 504)
        assert.include(response.body, "did not answer in time")
        assert.include(response.log, "did not answer within 50ms")
      }))

    it.live("that it does not speak FastCGI: 502", () =>
      Effect.gen(function*() {
        const response = yield* page({}, (app) => app.sendBytes(bytesOf("HTTP/1.1 400 Bad Request\r\n\r\n")))
        assert.strictEqual(response.status, 502)
        assert.include(response.body, "This is not a FastCGI application")
        assert.match(response.log, /does not answer in FastCGI: .* \(this looks like HTTP\)$/m)
      }))

    it.live("that the answer is none: 502", () =>
      Effect.gen(function*() {
        const response = yield* page({}, (app) => app.send(...answer(1, "<html>PHP Fatal error in /srv/a.php\n\n", 0)))
        assert.strictEqual(response.status, 502)
        assert.include(response.body, "answer is no response")
        assert.notInclude(response.body, "/srv/a.php")
        assert.include(response.log, "is not a CGI response")
      }))
  })
})
