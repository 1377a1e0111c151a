/**
 * What a server counts of an HTTP app: handlers that failed, and not what the app answers for itself.
 */
import { assert, it } from "@effect/vitest"
import { FastCgiMetrics } from "effect-fastcgi"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Stream from "effect/Stream"

const Routes = Layer.mergeAll(
  HttpRouter.add("GET", "/fine", HttpServerResponse.text("fine")),
  HttpRouter.add("GET", "/500", HttpServerResponse.empty({ status: 500 })),
  HttpRouter.add("GET", "/die", Effect.die(new Error("no"))),
  HttpRouter.add("GET", "/fail", Effect.orDie(Effect.fail("no"))),
  // After its head has arrived: a GET that got nothing is sent once more.
  HttpRouter.add(
    "GET",
    "/break",
    HttpServerResponse.stream(
      Stream.concat(
        Stream.make(new Uint8Array(9)),
        Stream.fromEffect(Effect.andThen(Effect.repeat(Effect.yieldNow, { times: 50 }), Effect.fail(new Error("no"))))
      )
    )
  )
)

it.effect("handlers that fail and bodies that break are counted once, a missing route and a status of 500 are not", () =>
  Effect.gen(function*() {
    const before = (yield* Metric.value(FastCgiMetrics.requestsFailed)).count
    for (
      const [url, failed] of [["/fine", 0], ["/missing", 0], ["/500", 0], ["/die", 1], ["/fail", 2], [
        "/break",
        3
      ]] as const
    ) {
      yield* Effect.exit(Effect.flatMap(HttpClient.get(url), (response) => response.text))
      yield* Effect.repeat(Effect.yieldNow, { times: 20 })
      assert.strictEqual((yield* Metric.value(FastCgiMetrics.requestsFailed)).count - before, failed, url)
    }
  }).pipe(
    Effect.provide(HttpRouter.serve(Routes, { disableLogger: true }).pipe(Layer.provideMerge(FastCgiTest.layerTest))),
    Effect.provide(Logger.layer([]))
  ))
