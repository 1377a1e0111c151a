/**
 * What a server counts: in the registry of its context, whatever reads it.
 */
import { assert, it } from "@effect/vitest"
import { FastCgiMetrics, FastCgiRecord as R, FastCgiResponse } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Stream from "effect/Stream"
import { connect, exchange, opening, play, serve, settle, takeLogs } from "./support/serving.ts"

/** What has been counted since, and what is open now. */
const read = Effect.gen(function*() {
  const counts = yield* Effect.all([
    Metric.value(FastCgiMetrics.connectionsAccepted),
    Metric.value(FastCgiMetrics.requests),
    Metric.value(FastCgiMetrics.requestsAborted),
    Metric.value(FastCgiMetrics.requestsFailed),
    Metric.value(FastCgiMetrics.connectionErrors)
  ])
  const open = yield* Effect.all([Metric.value(FastCgiMetrics.connections), Metric.value(FastCgiMetrics.requestsOpen)])
  return [...counts.map(({ count }) => count), ...open.map(({ value }) => value)]
})

const since = (before: ReadonlyArray<number>) => Effect.map(read, (now) => now.map((value, i) => value - before[i]))

play(
  "connections and requests, open and in all",
  serve({
    responder: (request) => {
      switch (request.params.get("REQUEST_URI")) {
        case "/never":
          return Effect.never
        case "/fail":
          return Effect.fail("no")
        case "/break":
          return Effect.succeed(FastCgiResponse.make(Stream.fail("no")))
        default:
          return Effect.succeed(FastCgiResponse.make("hello"))
      }
    }
  }),
  () =>
    Effect.gen(function*() {
      const before = yield* read
      const peer = yield* connect
      const other = yield* connect
      yield* settle
      assert.deepStrictEqual(yield* since(before), [2, 0, 0, 0, 0, 2, 0])
      yield* exchange(peer, ...opening(1), R.stdin(1), ...opening(2, { params: { REQUEST_URI: "/never" } }))
      assert.deepStrictEqual(yield* since(before), [2, 2, 0, 0, 0, 2, 1])
      yield* exchange(peer, R.abortRequest(2))
      assert.deepStrictEqual(yield* since(before), [2, 2, 1, 0, 0, 2, 0])
      yield* exchange(peer, ...opening(1, { params: { REQUEST_URI: "/fail" } }), R.stdin(1))
      assert.deepStrictEqual(yield* since(before), [2, 3, 1, 1, 0, 2, 0])
      yield* peer.request({ params: { REQUEST_URI: "/break" } })
      yield* peer.closed
      assert.deepStrictEqual(yield* since(before), [2, 4, 1, 2, 0, 1, 0])
      yield* other.sendBytes(Uint8Array.of(9))
      yield* other.closed
      yield* other.close
      yield* settle
      assert.deepStrictEqual(yield* since(before), [2, 4, 1, 2, 1, 0, 0])
      yield* takeLogs
    })
)

it.effect("are in a registry of their own where there is one, and stay when the server has gone", () =>
  Effect.gen(function*() {
    const registry = new Map()
    const ids = () => [...registry.values()].map(({ id }) => id).sort()
    yield* Effect.provide(
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        yield* peer.reply()
        assert.deepStrictEqual(ids(), [
          "fastcgi_after_response",
          "fastcgi_after_response_failed",
          "fastcgi_connection_errors",
          "fastcgi_connections",
          "fastcgi_connections_accepted",
          "fastcgi_limits_reached",
          "fastcgi_requests",
          "fastcgi_requests_aborted",
          "fastcgi_requests_failed",
          "fastcgi_requests_open"
        ])
        assert.strictEqual((yield* Metric.value(FastCgiMetrics.requests)).count, 1)
      }).pipe(Effect.scoped),
      serve({ responder: () => Effect.succeed(FastCgiResponse.make("hello")) })
    ).pipe(Effect.provideService(Metric.MetricRegistry, registry))
    assert.strictEqual(ids().length, 10)
    yield* settle
    yield* Effect.gen(function*() {
      assert.strictEqual((yield* Metric.value(FastCgiMetrics.requests)).count, 1)
      assert.strictEqual((yield* Metric.value(FastCgiMetrics.connections)).value, 0)
    }).pipe(Effect.provideService(Metric.MetricRegistry, registry))
  }))
