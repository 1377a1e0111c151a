/**
 * The status page: what it counts, who gets it, and that it answers whatever the limits are.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiRecord as R, FastCgiResponse, FastCgiServer, FastCgiStatus } from "effect-fastcgi"
import { FastCgiPhp } from "effect-fastcgi/client"
import { FastCgiHttpServer } from "effect-fastcgi/http"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import { bodyOf, connect, opening, type Peer, serve, settle } from "./support/serving.ts"

const pages = FastCgiStatus.layer({ path: "/status", pingPath: "/ping" })

const local = { REQUEST_METHOD: "GET", REMOTE_ADDR: "127.0.0.1" }

/** The answer of the server to a request with these params, on a connection of its own. */
const ask = (params: Readonly<Record<string, string>>) =>
  Effect.gen(function*() {
    const peer = yield* connect
    yield* peer.send(...opening(1, { params }), R.stdin(1))
    return (yield* peer.reply(1)).stdout
  }).pipe(Effect.scoped)

const page = (query = "", others: Readonly<Record<string, string>> = {}) =>
  ask({ ...local, SCRIPT_NAME: "/status", QUERY_STRING: query, ...others })

const json = (query = "json") =>
  Effect.map(page(query), (stdout) => JSON.parse(bodyOf(stdout)) as Readonly<Record<string, unknown>>)

/** A test with a server of its own, counters included. */
const test = <E>(
  name: string,
  server: Layer.Layer<FastCgiTest.FastCgiMemory, unknown, never>,
  body: () => Effect.Effect<unknown, E, FastCgiTest.FastCgiMemory>
) =>
  it.effect(name, () =>
    Effect.suspend(body).pipe(
      Effect.provide(server),
      Effect.provide(Logger.layer([])),
      Effect.provideService(Metric.MetricRegistry, new Map())
    ))

const send = (peer: Peer, id: number, uri: string) =>
  peer.send(...opening(id, { params: { REQUEST_METHOD: "GET", REQUEST_URI: uri, REMOTE_USER: "ann" } }), R.stdin(id))

const gate = Latch.makeUnsafe()

const app = serve({
  responder: ({ params }) =>
    Effect.suspend(() => {
      switch (params.get("REQUEST_URI")) {
        case "/fail":
          return Effect.fail("no")
        case "/wait?secret=1":
          return Effect.as(gate.await, FastCgiResponse.make("at last"))
        case "/later":
          return Effect.as(FastCgiServer.afterResponse(gate.await), FastCgiResponse.make("now"))
        default:
          return Effect.succeed(FastCgiResponse.make("hello"))
      }
    })
}, { admission: { maxRequests: 3, concurrency: 2 } })

describe("the status page", () => {
  test(
    "says what there has been and what runs, exactly, while the server takes no further request",
    app.pipe(Layer.provide(pages)),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        for (let i = 0; i < 5; i++) {
          yield* send(peer, 1, "/")
          yield* peer.reply(1)
        }
        yield* send(peer, 1, "/fail")
        yield* peer.reply(1)
        yield* send(peer, 1, "/later")
        yield* peer.reply(1)
        yield* send(peer, 1, "/wait?secret=1")
        yield* settle
        yield* peer.send(R.abortRequest(1))
        yield* peer.reply(1)
        const before = yield* json()
        assert.deepStrictEqual(
          [before["requests"], before["requests open"], before["active processes"], before["idle processes"]],
          [8, 0, 0, 1]
        )
        // Two run, one waits for its turn, one is refused.
        for (let id = 1; id <= 4; id++) yield* send(peer, id, "/wait?secret=1")
        assert.include((yield* peer.reply(4)).stdout, "Status: 503")
        yield* TestClock.adjust("3 seconds")
        assert.deepStrictEqual(yield* json(), {
          "pool": "www",
          "process manager": "static",
          "start time": 0,
          "start since": 3,
          "accepted conn": 11,
          "listen queue": 0,
          "max listen queue": 0,
          "listen queue len": 0,
          "idle processes": 0,
          "active processes": 1,
          "total processes": 1,
          "max active processes": 1,
          "max children reached": 1,
          "slow requests": 0,
          "requests": 11,
          "requests open": 3,
          "requests waiting": 1,
          "requests running": 2,
          "requests responding": 0,
          "max requests open": 3,
          "requests aborted": 1,
          "requests failed": 1,
          // That of the page.
          "connections": 2,
          "connections waiting": 0,
          "connections accepted": 3,
          "connections refused": 0,
          "connection errors": 0,
          "accept failures": 0,
          "after response": 1,
          "after response failed": 0,
          "memory": 0,
          "event loop delay": 0,
          "limits reached": { maxRequests: 1 }
        })
        const full = yield* json("full&json")
        assert.deepStrictEqual(
          (full["open requests"] as ReadonlyArray<Record<string, unknown>>).map((one) => [
            one["request"],
            one["state"],
            one["request duration"],
            one["queue time"],
            one["request uri"],
            one["user"]
          ]),
          [
            [1, "Running", 3_000_000, 0, "/wait", "ann"],
            [2, "Running", 3_000_000, 0, "/wait", "ann"],
            [3, "Waiting", 3_000_000, 3_000_000, "/wait", "ann"]
          ]
        )
        yield* gate.open
        for (let id = 1; id <= 3; id++) yield* peer.reply(id)
        const after = yield* json()
        assert.deepStrictEqual([after["requests"], after["requests open"], after["max requests open"]], [11, 0, 3])
      }).pipe(Effect.scoped)
  )

  test("is what php-fpm's clients read", app.pipe(Layer.provide(pages)), () =>
    Effect.gen(function*() {
      const decode = Schema.decodeUnknownEffect(Schema.fromJsonString(FastCgiPhp.FastCgiPhpStatus))
      const status = yield* decode(bodyOf(yield* page("json&full")))
      assert.strictEqual(status.pool, "www")
      assert.strictEqual(status.totalProcesses, 1)
      assert.deepStrictEqual(status.processes.map(({ state }) => state), ["Idle"])
    }))

  test(
    "is text like php-fpm's, HTML, XML or OpenMetrics",
    app.pipe(Layer.provide(pages)),
    () =>
      Effect.gen(function*() {
        yield* TestClock.setTime(Date.UTC(2026, 10, 28, 10, 31, 18))
        const text = yield* page()
        assert.include(text, "Content-Type: text/plain; charset=utf-8\r\n")
        assert.include(text, "Cache-Control: no-cache, no-store")
        assert.match(
          bodyOf(text),
          /^pool: +www\nprocess manager: +static\nstart time: +01\/Jan\/1970:00:00:00 \+0000\n/
        )
        const html = yield* page("html&full")
        assert.include(html, "Content-Type: text/html; charset=utf-8\r\n")
        assert.include(html, "<tr><th scope=\"row\">accepted conn</th><td>0</td></tr>")
        const xml = yield* page("xml&full")
        assert.include(xml, "Content-Type: text/xml; charset=utf-8\r\n")
        assert.include(xml, "<accepted-conn>0</accepted-conn>")
        const metrics = yield* page("openmetrics")
        assert.include(metrics, "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n")
        assert.match(metrics, /\nfastcgi_requests_total\{pool="www"\} 0\n[^]*\n# EOF\n$/)
      })
  )

  test(
    "shows nothing of a client as HTML or as a line of its own",
    app.pipe(Layer.provide(pages)),
    () =>
      Effect.gen(function*() {
        yield* gate.close
        const peer = yield* connect
        yield* peer.send(...opening(1, {
          params: {
            REQUEST_METHOD: "<b>",
            REQUEST_URI: "/wait?secret=1",
            REMOTE_USER: "<script>\nstate: Idle\u2028\"'"
          }
        }))
        yield* settle
        const html = bodyOf(yield* page("html&full"))
        assert.include(html, "&lt;script&gt;?state: Idle?&quot;&#39;")
        assert.notInclude(html, "<b>")
        assert.include(bodyOf(yield* page("full")), "user:                        <script>?state: Idle?\"'\n")
        assert.notInclude(bodyOf(yield* page("full")), "secret")
        yield* gate.open
        yield* peer.reply(1)
      }).pipe(Effect.scoped)
  )

  test(
    "is answered to HEAD without its body, and no other method",
    app.pipe(Layer.provide(pages)),
    () =>
      Effect.gen(function*() {
        assert.strictEqual(bodyOf(yield* page("", { REQUEST_METHOD: "HEAD" })), "")
        assert.strictEqual(bodyOf(yield* page("", { REQUEST_METHOD: "POST" })), "hello")
      })
  )

  test("answers the ping", app.pipe(Layer.provide(pages)), () =>
    Effect.gen(function*() {
      assert.strictEqual(bodyOf(yield* ask({ ...local, SCRIPT_NAME: "/ping" })), "pong")
      assert.strictEqual(bodyOf(yield* ask({ ...local, SCRIPT_NAME: "", PATH_INFO: "/ping" })), "pong")
      assert.strictEqual(bodyOf(yield* ask({ ...local, SCRIPT_NAME: "/ping", REMOTE_ADDR: "203.0.113.7" })), "hello")
    }))

  const reaches = (params: Readonly<Record<string, string>>) =>
    Effect.map(
      ask({ REQUEST_METHOD: "GET", SCRIPT_NAME: "/status", ...params }),
      (stdout) => bodyOf(stdout) !== "hello"
    )

  test(
    "is not for visitors: they get what the application has there",
    app.pipe(Layer.provide(pages)),
    () =>
      Effect.gen(function*() {
        for (
          const params of [
            {},
            { REMOTE_ADDR: "" },
            { REMOTE_ADDR: "203.0.113.7" },
            { REMOTE_ADDR: "unix:" },
            { REMOTE_ADDR: "localhost" },
            { REMOTE_ADDR: "127.0.0.1", HTTP_X_FORWARDED_FOR: "203.0.113.7" },
            { REMOTE_ADDR: "127.0.0.1", HTTP_FORWARDED: "for=203.0.113.7" },
            { REMOTE_ADDR: "::ffff:127.0.0.1", HTTP_X_REAL_IP: "203.0.113.7" },
            { REMOTE_ADDR: "::1", HTTP_VIA: "1.1 cdn" }
          ] as ReadonlyArray<Readonly<Record<string, string>>>
        ) {
          assert.isFalse(yield* reaches(params), JSON.stringify(params))
        }
        for (const REMOTE_ADDR of ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"]) {
          assert.isTrue(yield* reaches({ REMOTE_ADDR }), REMOTE_ADDR)
        }
      })
  )

  test(
    "is for those who are allowed",
    app.pipe(Layer.provide(FastCgiStatus.layer({ path: "/status", allow: ["192.0.2.0/24"] }))),
    () =>
      Effect.gen(function*() {
        assert.isTrue(yield* reaches({ REMOTE_ADDR: "192.0.2.8" }))
        // nginx's realip module puts the client there, and passes on what it found it in.
        assert.isTrue(yield* reaches({ REMOTE_ADDR: "192.0.2.8", HTTP_X_FORWARDED_FOR: "192.0.2.8" }))
        assert.isFalse(yield* reaches({ REMOTE_ADDR: "127.0.0.1" }))
      })
  )

  const Routes = HttpRouter.add("GET", "/*", HttpServerResponse.text("the app"))
  const httpApp = (inner: Layer.Layer<never>, outer: Layer.Layer<never>) =>
    HttpRouter.serve(Routes, { disableLogger: true }).pipe(
      Layer.provide(Layer.provide(FastCgiHttpServer.layerServer(), inner)),
      Layer.provide(outer),
      Layer.provideMerge(FastCgiTest.layerMemory)
    )

  for (
    const [where, server] of [
      [
        "the app",
        httpApp(
          Layer.empty,
          Layer.orDie(Layer.effectDiscard(Effect.void).pipe(Layer.provideMerge(pages))) as Layer.Layer<never>
        )
      ],
      ["the server", httpApp(Layer.orDie(pages) as Layer.Layer<never>, Layer.empty)]
    ] as const
  ) {
    test(`of an HTTP app is provided to ${where}`, server, () =>
      Effect.gen(function*() {
        assert.match(bodyOf(yield* page()), /^pool: +www/)
        assert.strictEqual(bodyOf(yield* ask({ ...local, REQUEST_URI: "/", SCRIPT_NAME: "/" })), "the app")
        assert.strictEqual((yield* json())["requests"], 1)
      }))
  }

  const failure = (options: FastCgiStatus.FastCgiStatusOptions) =>
    Effect.map(Effect.flip(Effect.scoped(Layer.build(FastCgiStatus.layer(options)))), ({ message }) => message)

  it.effect("refuses options that are wrong", () =>
    Effect.gen(function*() {
      assert.strictEqual(
        yield* failure({ path: "status" }),
        "path \"status\": expected \"/\" and letters, digits, \"/\", \"-\", \"_\", \".\" or \"~\" behind it"
      )
      assert.include(yield* failure({ pingPath: "/" }), "pingPath \"/\": expected")
      assert.strictEqual(
        yield* failure({ path: "/a", pingPath: "/a" }),
        "the status page and the ping have the same path, /a. Give one of them another path."
      )
      assert.include(yield* failure({ path: "/a", allow: ["localhost"] }), "allow has \"localhost\"")
      assert.include(yield* failure({ path: "/a", allow: [] }), "allow")
    }))

  it.effect("has its settings in the environment", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* FastCgiStatus.config, {
        path: "/status",
        pingPath: "/ping",
        pingResponse: "alive",
        allow: ["192.0.2.1", "10.0.0.0/8"],
        pool: "shop"
      })
    }).pipe(Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({
      env: {
        FASTCGI_STATUS_PATH: "/status",
        FASTCGI_PING_PATH: "/ping",
        FASTCGI_PING_RESPONSE: "alive",
        FASTCGI_STATUS_ALLOW: "192.0.2.1,10.0.0.0/8",
        FASTCGI_POOL: "shop"
      }
    })))))
})
