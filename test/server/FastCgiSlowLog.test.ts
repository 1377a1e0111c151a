/**
 * The slow log: one record of a request that takes too long, made while it does.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiMetrics, FastCgiRecord as R, FastCgiResponse, FastCgiSlowLog } from "effect-fastcgi"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as TestClock from "effect/testing/TestClock"
import { connect, observe, opening, serve, settle, takeLogs } from "./support/serving.ts"

const query = Effect.fn("query")(function*(table: string) {
  yield* Effect.sleep("2 seconds")
  return yield* Effect.sleep("10 seconds").pipe(Effect.withSpan(`rows of ${table}`))
})

const slow = Effect.gen(function*() {
  yield* Effect.sleep("1 second").pipe(Effect.withSpan("session"))
  yield* query("users")
})

const slowCount = Effect.map(Metric.value(FastCgiMetrics.requestsSlow), ({ count }) => count)

describe("the slow log", () => {
  it.effect("has one record of a request, with its spans and the frames of its fiber", () => {
    const app = observe(
      serve({
        responder: ({ params }) =>
          Effect.as(
            params.get("REQUEST_URI") === "/fast"
              ? Effect.sleep("4 seconds")
              : Effect.withSpan(slow, "handler"),
            FastCgiResponse.make("hello")
          )
      }, { admission: { concurrency: 1 } }).pipe(
        Layer.provide(FastCgiSlowLog.layer({ slowTimeout: "5 seconds", traceDepth: 3 }))
      )
    )
    return Effect.gen(function*() {
      const before = yield* slowCount
      const peer = yield* connect
      const send = (id: number, uri: string) =>
        peer.send(...opening(id, { params: { REQUEST_METHOD: "GET", REQUEST_URI: uri } }), R.stdin(id))
      yield* send(1, "/fast")
      yield* TestClock.adjust("4 seconds")
      yield* peer.reply(1)
      assert.deepStrictEqual(yield* takeLogs, [])
      yield* send(1, "/users?token=secret")
      yield* send(2, "/fast")
      yield* TestClock.adjust("5 seconds")
      yield* settle
      const [record, waiting, ...others] = yield* takeLogs
      assert.deepStrictEqual(others, [])
      assert.strictEqual(record!.level, "Warn")
      assert.strictEqual(record!.message, "a FastCGI request takes longer than 5s (slowTimeout)")
      const { "fastcgi.stack": stack, ...annotations } = record!.annotations
      assert.deepStrictEqual(annotations, {
        "http.method": "GET",
        "http.url": "/users",
        "fastcgi.duration": 5000,
        "fastcgi.queue_time": 0,
        "fastcgi.state": "running",
        "fastcgi.spans": [
          "handler: 5000.0 ms, open",
          "  session: 1000.0 ms",
          "  query: 4000.0 ms, open",
          "    rows of users: 2000.0 ms, open"
        ]
      })
      const frames = stack as ReadonlyArray<string>
      assert.deepStrictEqual(
        frames.map((frame) => frame.split(" (")[0]),
        ["rows of users", "query", "query (definition)"].map((name) => name.split(" (")[0])
      )
      assert.match(frames[0]!, /FastCgiSlowLog\.test\.ts:\d+/)
      assert.deepStrictEqual(waiting!.annotations, {
        "http.method": "GET",
        "http.url": "/fast",
        "fastcgi.duration": 5000,
        "fastcgi.queue_time": 5000,
        "fastcgi.state": "waiting"
      })
      assert.strictEqual((yield* slowCount) - before, 2)
      yield* TestClock.adjust("60 seconds")
      yield* peer.reply(1)
      yield* peer.reply(2)
      assert.deepStrictEqual(yield* takeLogs, [])
    }).pipe(Effect.scoped, Effect.provide(app))
  })

  it.effect("is provided to an HTTP app, whose request has a span", () => {
    const started = Latch.makeUnsafe()
    const app = observe(
      HttpRouter.serve(
        HttpRouter.add("GET", "/slow", Effect.as(Effect.andThen(started.open, slow), HttpServerResponse.text("hello"))),
        { disableLogger: true }
      ).pipe(
        Layer.provideMerge(FastCgiTest.layerTest),
        Layer.provide(FastCgiSlowLog.layer({ slowTimeout: "2 seconds" }))
      )
    )
    return Effect.gen(function*() {
      const asked = yield* Effect.forkChild(HttpClient.get("/slow"))
      yield* started.await
      yield* TestClock.adjust("2 seconds")
      yield* settle
      const logs = yield* takeLogs
      yield* TestClock.adjust("20 seconds")
      yield* Fiber.join(asked)
      const record = logs.find(({ level }) => level === "Warn")
      assert.deepStrictEqual(record!.annotations["fastcgi.spans"], [
        "GET: 2000.0 ms, open",
        "  session: 1000.0 ms",
        "  query: 1000.0 ms, open"
      ])
    }).pipe(Effect.provide(app))
  })

  it.effect("has its settings in the environment", () =>
    Effect.gen(function*() {
      const config = (env: Record<string, string>) =>
        Effect.provide(FastCgiSlowLog.config, ConfigProvider.layer(ConfigProvider.fromEnv({ env })))
      assert.isUndefined(yield* config({}))
      assert.deepStrictEqual(
        yield* config({ FASTCGI_SLOW_TIMEOUT: "5 seconds", FASTCGI_SLOW_TRACE_DEPTH: "7" }),
        { slowTimeout: Duration.seconds(5), traceDepth: 7 }
      )
      const error = yield* Effect.flip(config({ FASTCGI_SLOW_TIMEOUT: "5" }))
      assert.include(String(error.cause), "FASTCGI_SLOW_TIMEOUT=\"5\": expected a duration with its unit")
    }))
})
