/**
 * Durations and sizes as metrics, with the names of OpenTelemetry.
 */
import { assert, it } from "@effect/vitest"
import { FastCgiHttpMetrics, FastCgiRecord as R, FastCgiResponse, FastCgiStatus } from "effect-fastcgi"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import { connect, opening, serve, settle } from "./support/serving.ts"

const process = Layer.succeed(FastCgiStatus.FastCgiProcess, {
  pid: 1,
  startedAt: 0,
  memory: () => 0,
  cpu: () => 0,
  eventLoopDelay: () => 0,
  listenQueue: () => Option.some({ waiting: 7, length: 511 })
})

const app = serve({
  responder: ({ params }) =>
    params.get("REQUEST_URI") === "/fail" ? Effect.fail("no") : Effect.as(
      Effect.sleep("300 millis"),
      FastCgiResponse.make("x".repeat(1000), { status: params.get("REQUEST_METHOD") === "POST" ? 201 : 200 })
    )
}, { admission: { concurrency: 1 } }).pipe(
  Layer.provide(FastCgiHttpMetrics.layer()),
  Layer.provide(process),
  Layer.provide(Logger.layer([]))
)

it.effect("durations, sizes, queue times and what runs, by method, scheme and status", () =>
  Effect.gen(function*() {
    const peer = yield* connect
    const send = (id: number, params: Readonly<Record<string, string>>) =>
      peer.send(...opening(id, { params }), R.stdin(id))
    const snapshot = Effect.map(Metric.snapshot, (all) => all.filter(({ id }) => /^http|queue/.test(id)))
    yield* send(1, { REQUEST_METHOD: "GET", REQUEST_URI: "/", HTTPS: "on" })
    yield* send(2, { REQUEST_METHOD: "POST", REQUEST_URI: "/", CONTENT_LENGTH: "5000" })
    yield* settle
    const value = (id: string) =>
      Effect.map(snapshot, (all) => all.filter((one) => one.id === id).map(({ state }) => state))
    assert.deepStrictEqual(yield* value("http.server.active_requests"), [{ value: 2 }])
    assert.deepStrictEqual(yield* value("fastcgi_listen_queue"), [{ value: 7 }])
    yield* TestClock.adjust("300 millis")
    yield* peer.reply(1)
    yield* TestClock.adjust("300 millis")
    yield* peer.reply(2)
    yield* send(1, { REQUEST_METHOD: "FOO", REQUEST_URI: "/fail" })
    yield* peer.reply(1)
    yield* send(1, { REQUEST_METHOD: "GET", REQUEST_URI: "/" })
    yield* settle
    yield* peer.send(R.abortRequest(1))
    yield* peer.reply(1)
    const histograms = (yield* snapshot).flatMap((one) =>
      one.type === "Histogram" ? [[one.id, one.attributes, one.state.count, one.state.sum] as const] : []
    )
    const attributes: ReadonlyArray<Readonly<Record<string, string>>> = [
      { "http.request.method": "GET", "url.scheme": "https", "http.response.status_code": "200" },
      { "http.request.method": "POST", "url.scheme": "http", "http.response.status_code": "201" },
      {
        "http.request.method": "_OTHER",
        "url.scheme": "http",
        "http.response.status_code": "500",
        "error.type": "500"
      },
      { "http.request.method": "GET", "url.scheme": "http", "error.type": "aborted" }
    ]
    const seconds = (id: string, sums: ReadonlyArray<number>) =>
      sums.map((sum, i) => [id, { ...attributes[i]!, unit: "seconds" }, 1, sum] as const)
    const of = (id: string) => histograms.filter(([one]) => one === id)
    assert.deepStrictEqual(
      of("http.server.request.duration"),
      seconds("http.server.request.duration", [0.3, 0.6, 0, 0])
    )
    assert.deepStrictEqual(
      of("fastcgi.server.queue.duration"),
      seconds("fastcgi.server.queue.duration", [0, 0.3, 0, 0])
    )
    assert.deepStrictEqual(of("http.server.request.body.size").map(([, , count, sum]) => [count, sum]), [[1, 5000]])
    assert.deepStrictEqual(
      of("http.server.response.body.size").map(([, , count, sum]) => [count, sum]),
      [[1, 1000], [1, 1000], [1, 26], [1, 0]]
    )
    assert.deepStrictEqual(yield* value("http.server.active_requests"), [{ value: 0 }])
  }).pipe(
    Effect.scoped,
    Effect.provide(app),
    Effect.provideService(Metric.MetricRegistry, new Map())
  ))

it.effect("are asked for in the environment", () =>
  Effect.gen(function*() {
    const metrics = (env: Record<string, string>) =>
      Effect.gen(function*() {
        yield* Layer.build(FastCgiHttpMetrics.layerConfig)
        return (yield* Metric.snapshot).map(({ id }) => id)
      }).pipe(
        Effect.scoped,
        Effect.provideService(Metric.MetricRegistry, new Map()),
        Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env })))
      )
    assert.deepStrictEqual(yield* metrics({}), [])
    assert.deepStrictEqual(yield* metrics({ FASTCGI_HTTP_METRICS: "no" }), [])
    assert.deepStrictEqual(yield* metrics({ FASTCGI_HTTP_METRICS: "yes" }), ["http.server.active_requests"])
    assert.match(
      String(yield* Effect.flip(metrics({ FASTCGI_HTTP_METRICS: "maybe" }))),
      /FASTCGI_HTTP_METRICS="maybe": expected true or false/
    )
  }))
