/**
 * The access log: what a line is, in the formats of Apache and of php-fpm, and which requests have one.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiAccessLog, FastCgiRecord as R, FastCgiResponse, FastCgiStatus } from "effect-fastcgi"
import { FastCgiHttpServer } from "effect-fastcgi/http"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { connect, exchange, opening, serve, type ServeOptions, tags } from "./support/serving.ts"

const start = Date.UTC(2026, 10, 28, 10, 31, 18)

const params = {
  REQUEST_METHOD: "POST",
  REQUEST_URI: "/form?id=7&x=%20",
  SCRIPT_NAME: "/form",
  SCRIPT_FILENAME: "/srv/form",
  QUERY_STRING: "id=7&x=%20",
  SERVER_PROTOCOL: "HTTP/1.1",
  SERVER_NAME: "example.org",
  SERVER_PORT: "443",
  SERVER_ADDR: "192.0.2.1",
  REMOTE_ADDR: "203.0.113.7",
  REMOTE_USER: "ann",
  CONTENT_LENGTH: "5",
  CONTENT_TYPE: "text/plain",
  HTTPS: "on",
  HTTP_HOST: "www.example.org",
  HTTP_REFERER: "https://example.org/\"<script>",
  HTTP_USER_AGENT: "Mozilla/5.0 (\\)\n\u0001\u007fcafé",
  HTTP_COOKIE: "a=1; session=31415; b=2",
  HTTP_TRACEPARENT: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
}

const app = (log: Partial<FastCgiAccessLog.FastCgiAccessLogOptions>, options?: ServeOptions) => {
  const lines: Array<string> = []
  const layer = FastCgiAccessLog.layer({
    write: (line) => lines.push(line),
    process: { pid: 41, parentPid: 40, memory: () => 3 * 1024 * 1024 },
    ...log
  })
  return {
    lines,
    server: serve({
      responder: ({ params }) => {
        switch (params.get("REQUEST_URI")) {
          case "/fail":
            return Effect.fail("no")
          case "/never":
            return Effect.never
          case "/raw":
            return Effect.succeed(FastCgiResponse.raw({
              stdout: Stream.make("Content-Type: text/html\nX-A: 1\nStat", "us: 404 No\n", "\nnot here", "!").pipe(
                Stream.encodeText
              ),
              end: Effect.succeed({ appStatus: 0 })
            }))
          case "/odd":
            return Effect.succeed(FastCgiResponse.raw({
              stdout: Stream.encodeText(Stream.succeed("Status: 2x0 OK\n\n")),
              end: Effect.succeed({ appStatus: 0 })
            }))
          default:
            return Effect.as(
              Effect.sleep("1234567 micros"),
              FastCgiResponse.make("created", {
                status: 201,
                headers: { "X-Cache": ["HIT", "from \"here\""], "Content-Type": "text/plain" }
              })
            )
        }
      }
    }, options).pipe(
      Layer.provide(layer),
      Layer.provide(FastCgiStatus.layer({ path: "/status" })),
      Layer.provide(Logger.layer([]))
    )
  }
}

/** The line of one request with this format. */
const lineOf = (format: string, others: Readonly<Record<string, string>> = {}) => {
  const { lines, server } = app({ format })
  return Effect.gen(function*() {
    yield* TestClock.setTime(start)
    const peer = yield* connect
    yield* peer.send(...opening(1, { params: { ...params, ...others } }), R.stdin(1, new Uint8Array(5)), R.stdin(1))
    yield* TestClock.adjust("2 seconds")
    yield* peer.reply(1)
    assert.strictEqual(lines.length, 1)
    assert.isTrue(lines[0]!.endsWith("\n"))
    return lines[0]!.slice(0, -1)
  }).pipe(Effect.scoped, Effect.provide(server))
}

describe("a line", () => {
  const agent = String.raw`Mozilla/5.0 (\\)\n\x01\x7fcaf\xc3\xa9`
  const referer = String.raw`https://example.org/\"<script>`
  for (
    const [format, line] of [
      ["common", "203.0.113.7 - ann [28/Nov/2026:10:31:18 +0000] \"POST /form?id=7&x=%20 HTTP/1.1\" 201 7"],
      [
        "combined",
        "203.0.113.7 - ann [28/Nov/2026:10:31:18 +0000] \"POST /form?id=7&x=%20 HTTP/1.1\" 201 7 " +
        `"${referer}" "${agent}"`
      ],
      ["php-fpm", "203.0.113.7 - ann 28/Nov/2026:10:31:18 +0000 \"POST /form?id=7&x=%20\" 201"],
      ["%D %T %{ms}T %{us}T %{s}T", "1234567 1 1234 1234567 1"],
      [
        "%a %A %B %b %H %k %l %m %p %P %q %U %v %V %X %f",
        "203.0.113.7 192.0.2.1 7 7 HTTP/1.1 1 - POST 443 41 " +
        "?id=7&x=%20 /form example.org www.example.org + /srv/form"
      ],
      [
        "%{X-Cache}o|%{x-none}o|%{content-type}i|%{Host}i|%{HTTPS}e|%{NONE}e|%{session}C|%{n}n",
        String.raw`HIT, from \"here\"|-|text/plain|www.example.org|on|-|31415|-`
      ],
      ["%I %O %S %>s %<s %%", "5 92 97 201 201 %"],
      ["%200,201{Host}i %!201{Host}i %404{Host}i", "www.example.org - -"],
      [
        "%{%Y-%m-%dT%H:%M:%S%z}t %{end:%T}t %{sec}t %{msec}t %{end:msec_frac}t %{begin:usec_frac}t %{%a %e %b %y}t",
        "2026-11-28T10:31:18+0000 10:31:19 1795861878 1795861878000 234 000000 Sat 28 Nov 26"
      ],
      [
        "php-fpm:%R %u %t \"%m %r%Q%q\" %s %f %{milli}d %{kilo}M %C%% %n %p %P %l",
        "203.0.113.7 ann 28/Nov/2026:10:31:18 +0000 \"POST /form?id=7&x=%20\" 201 /srv/form 1234.567 3072 0.00% www 41 40 5"
      ],
      [
        "php-fpm:%d %{micro}d %T %{%H}t %{HTTPS}e %{X-Cache}o %{mega}M",
        String.raw`1.235 1234567 28/Nov/2026:10:31:19 +0000 10 on HIT, from \"here\" 3`
      ]
    ] as const
  ) {
    it.effect(`of ${JSON.stringify(format)}`, () =>
      Effect.map(lineOf(format), (found) => assert.strictEqual(found, line)))
  }

  it.effect("of \"json\" has OpenTelemetry's names", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(JSON.parse(yield* lineOf("json")), {
        "timestamp": "2026-11-28T10:31:18.000Z",
        "client.address": "203.0.113.7",
        "user.name": "ann",
        "http.request.method": "POST",
        "url.scheme": "https",
        "server.address": "www.example.org",
        "url.path": "/form",
        "url.query": "id=7&x=%20",
        "network.protocol.version": "1.1",
        "http.request.body.size": 5,
        "http.response.status_code": 201,
        "http.response.body.size": 7,
        "http.server.request.duration": 1.234567,
        "user_agent.original": "Mozilla/5.0 (\\)\n\u0001\u007fcafé",
        "http.request.header.referer": "https://example.org/\"<script>",
        "http.request.header.traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
      })
    }))

  it.effect("of \"json\" has the values that the application has, plain ones and others", () =>
    Effect.gen(function*() {
      const values = (others: Readonly<Record<string, string>>, ...keys: ReadonlyArray<string>) =>
        Effect.map(lineOf("json", others), (line) => {
          const found = JSON.parse(line)
          return keys.map((key) => found[key])
        })
      for (
        const [uri, path, query] of [
          ["/", "/", undefined],
          ["/?", "/", ""],
          ["/a?b?c", "/a", "b?c"],
          ["/a\"b?c\\d", "/a\"b", "c\\d"],
          ["/a?c\"d", "/a", "c\"d"],
          ["/caf\u00e9?x y", "/caf%C3%A9", "x%20y"],
          ["http://example.org/x?y", "/x", "y"],
          ["", "/form", "id=7&x=%20"]
        ] as const
      ) {
        assert.deepStrictEqual(yield* values({ REQUEST_URI: uri }, "url.path", "url.query"), [path, query], uri)
      }
      for (
        const [name, key] of [["REQUEST_METHOD", "http.request.method"], [
          "SERVER_PROTOCOL",
          "network.protocol.version"
        ]]
      ) {
        const expected = name === "REQUEST_METHOD" ? ["GET", "PATCH", "A\"B"] : ["HTTP/2.0", "2.0", "HTTP/\"\\"]
        for (const value of expected) {
          assert.deepStrictEqual(yield* values({ [name!]: value }, key!), [value.replace("HTTP/", "")], value)
        }
      }
      assert.deepStrictEqual(yield* values({ REQUEST_METHOD: "get" }, "http.request.method"), ["GET"])
      assert.deepStrictEqual(yield* values({ REQUEST_METHOD: "" }, "http.request.method"), ["GET"])
      assert.deepStrictEqual(yield* values({ HTTPS: "", REQUEST_SCHEME: "http" }, "url.scheme"), ["http"])
      assert.deepStrictEqual(yield* values({ HTTPS: "", REQUEST_SCHEME: "https" }, "url.scheme"), ["https"])
      assert.deepStrictEqual(yield* values({ HTTPS: "off" }, "url.scheme"), ["http"])
      assert.deepStrictEqual(yield* values({ HTTP_HOST: "" }, "server.address"), ["example.org"])
      assert.deepStrictEqual(yield* values({ REMOTE_USER: "" }, "user.name"), [undefined])
      assert.deepStrictEqual(yield* values({ REMOTE_USER: "J\u00fcrgen" }, "user.name"), ["J\u00fcrgen"])
    }))

  it.effect("is one line, whatever a client sends", () =>
    Effect.gen(function*() {
      for (const format of ["combined", "php-fpm", "json", "%{X}e %{A}i %{a}C %r %U %q %V"]) {
        const evil = "\" - \r\n\u2028\u0085127.0.0.1 \u001b[31m\u009b31m\u202e\u007f"
        const line = yield* lineOf(format, {
          REQUEST_METHOD: evil,
          REQUEST_URI: evil,
          SERVER_PROTOCOL: evil,
          QUERY_STRING: evil,
          REMOTE_USER: evil,
          HTTP_HOST: evil,
          HTTP_A: evil,
          HTTP_COOKIE: `a=${evil}`,
          X: evil
        })
        // oxlint-disable-next-line no-control-regex -- control characters are the point
        assert.notMatch(line, format === "json" ? /[\x00-\x1f\x7f-\x9f\u2028-\u202e]/ : /[^ -~]/, format)
      }
    }))
})

describe("the access log", () => {
  const { lines, server } = app({ format: "%r %s %b %X" }, { admission: { maxRequests: 1 } })

  it.effect("has every request: failed, aborted, lost, refused, raw, and no status page", () =>
    Effect.gen(function*() {
      const send = (id: number, uri: string, others: Readonly<Record<string, string>> = {}) => [
        ...opening(id, {
          params: { REQUEST_METHOD: "GET", REQUEST_URI: uri, SERVER_PROTOCOL: "HTTP/1.1", ...others }
        }),
        R.stdin(id)
      ]
      const taken = () => lines.splice(0).map((line) => line.trimEnd())
      const peer = yield* connect
      yield* peer.send(...send(1, "/fail"))
      yield* peer.reply(1)
      assert.deepStrictEqual(taken(), ["GET /fail HTTP/1.1 500 26 +"])
      yield* peer.send(...send(1, "/raw"))
      yield* peer.reply(1)
      assert.deepStrictEqual(taken(), ["GET /raw HTTP/1.1 404 9 +"])
      yield* peer.send(...send(1, "/odd"))
      yield* peer.reply(1)
      assert.deepStrictEqual(taken(), ["GET /odd HTTP/1.1 - - +"])
      yield* peer.send(...send(1, "/never"), ...send(2, "/other"))
      yield* peer.reply(2)
      assert.deepStrictEqual(taken(), ["GET /other HTTP/1.1 503 24 +"])
      yield* peer.send(R.abortRequest(1))
      yield* peer.reply(1)
      assert.deepStrictEqual(taken(), ["GET /never HTTP/1.1 - - X"])
      const gone = yield* connect
      yield* gone.send(...send(1, "/never"))
      yield* Effect.repeat(Effect.yieldNow, { times: 40 })
      yield* gone.reset
      yield* Effect.repeat(Effect.yieldNow, { times: 40 })
      assert.deepStrictEqual(taken(), ["GET /never HTTP/1.1 - - X"])
      yield* peer.send(...send(1, "/status", { SCRIPT_NAME: "/status", REMOTE_ADDR: "127.0.0.1" }))
      assert.include((yield* peer.reply(1)).stdout, "accepted conn")
      assert.deepStrictEqual(taken(), [])
    }).pipe(Effect.scoped, Effect.provide(server)))

  const toStderr = app({ format: "%m %U %s", write: "stderr" })

  const inSeveralFormats = toStderr.server.pipe(
    Layer.provide(FastCgiAccessLog.layer({ format: "%s again", write: "stderr" }))
  )

  for (
    const [name, server, expected] of [
      ["goes to STDERR of the request", toStderr.server, "GET /raw 404\n"],
      ["goes there in each of several formats", inSeveralFormats, "404 again\nGET /raw 404\n"]
    ] as const
  ) {
    it.effect(name, () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(
          ...opening(1, { params: { REQUEST_METHOD: "GET", REQUEST_URI: "/raw", SERVER_PROTOCOL: "HTTP/1.1" } }),
          R.stdin(1)
        )
        const { stderr } = yield* peer.reply(1)
        assert.strictEqual(stderr, expected)
      }).pipe(Effect.scoped, Effect.provide(server)))
  }

  for (
    const [overload, expected] of [
      ["status", ["Stderr 2", "Stdout 2", "Stderr 2", "Stdout 2", "EndRequest 2"]],
      ["protocolStatus", ["Stderr 2", "Stderr 2", "EndRequest 2"]]
    ] as const
  ) {
    const full = app({ format: "%m %U %s", write: "stderr" }, { admission: { maxRequests: 1 }, overload })
    it.effect(`goes to STDERR of a request that is refused (overload: ${overload})`, () =>
      Effect.gen(function*() {
        const peer = yield* connect
        const params = { REQUEST_METHOD: "GET", REQUEST_URI: "/never", SERVER_PROTOCOL: "HTTP/1.1" }
        yield* peer.send(...opening(1, { params }), R.stdin(1))
        const records = yield* exchange(peer, ...opening(2, { params }), R.stdin(2))
        assert.deepStrictEqual(tags(records).toSorted(), [...expected].toSorted())
        const log = records.flatMap((record) => record._tag === "Stderr" ? [record.content] : [])
        assert.strictEqual(Buffer.concat(log).toString(), "GET /never 503\n")
        assert.strictEqual(log.at(-1)!.length, 0)
      }).pipe(Effect.scoped, Effect.provide(full.server)))
  }

  it.effect("is provided to an HTTP app, several times, beside or below one another", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const log = (name: string) =>
        FastCgiAccessLog.layer({ format: `${name} %U %s`, write: (line) => lines.push(line.trimEnd()) })
      yield* Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        yield* peer.reply()
      }).pipe(
        Effect.scoped,
        Effect.provide(
          HttpRouter.serve(HttpRouter.add("GET", "/", HttpServerResponse.text("hello")), { disableLogger: true }).pipe(
            Layer.provide(Layer.provide(FastCgiHttpServer.layerServer(), log("a"))),
            Layer.provide(log("b")),
            Layer.provideMerge(FastCgiTest.layerMemory),
            Layer.provide(log("c"))
          )
        )
      )
      assert.deepStrictEqual(lines.sort(), ["a / 200", "b / 200", "c / 200"])
    }))

  it("refuses a format that has no such directive", () => {
    const message = (format: string) =>
      Result.match(FastCgiAccessLog.check(format), {
        onFailure: ({ message }) => message,
        onSuccess: () => "fine"
      })
    assert.strictEqual(
      message("%h %y"),
      "the format of the access log: \"%y\" at 4 is no directive of Apache's LogFormat"
    )
    assert.strictEqual(
      message("%{Host"),
      "the format of the access log: \"%\" at 1 is no directive of Apache's LogFormat"
    )
    assert.strictEqual(message("%i"), "the format of the access log: \"%i\" at 1 is no directive of Apache's LogFormat")
    assert.strictEqual(
      message("php-fpm:%h"),
      "the format of the access log: \"%h\" at 1 is no directive of php-fpm's access.format"
    )
    assert.include(message("%{%Q}t"), "\"%{%Q}t\" at 1")
    for (const format of ["php-fpm:%{giga}M", "php-fpm:%{constructor}M", "%{constructor}T", "%{%{}t"]) {
      assert.include(message(format), "is no directive of", format)
    }
    assert.strictEqual(message("combined"), "fine")
  })
})
