/**
 * Work behind a response: begins when the request is over, holds nobody up, is waited for, counted and limited.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiMetrics, FastCgiRecord as R, FastCgiRequest, FastCgiResponse, FastCgiServer } from "effect-fastcgi"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { bodyOf, connect, opening, play, serve, settle, takeLogs } from "./support/serving.ts"

const { afterResponse } = FastCgiServer
const hello = FastCgiResponse.make("hello")

const running = Effect.map(Metric.value(FastCgiMetrics.afterResponse), ({ value }) => value)
const failed = Effect.map(Metric.value(FastCgiMetrics.afterResponseFailed), ({ count }) => count)

describe("afterResponse", () => {
  const order: Array<string> = []
  const gate = Latch.makeUnsafe()

  play(
    "begins when the response is complete, with the services of the handler and a scope of its own",
    serve({
      responder: Effect.gen(function*() {
        const { params } = yield* FastCgiRequest.CurrentResponder
        yield* Effect.addFinalizer(() => Effect.sync(() => order.push("scope of the request")))
        yield* afterResponse(Effect.gen(function*() {
          yield* Effect.addFinalizer(() => Effect.sync(() => order.push("scope of the work")))
          yield* gate.await
          order.push(`work for ${params.get("REQUEST_URI")}, ${(yield* FastCgiRequest.CurrentResponder).role}`)
        }))
        order.push("handler")
        return hello
      })
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        assert.strictEqual(bodyOf((yield* peer.reply()).stdout), "hello")
        yield* settle
        assert.deepStrictEqual(order.splice(0), ["handler", "scope of the request"])
        assert.strictEqual(yield* running, 1)
        // The id is free: the next request has it.
        yield* peer.request()
        assert.strictEqual(bodyOf((yield* peer.reply()).stdout), "hello")
        assert.strictEqual(yield* running, 2)
        yield* gate.open
        yield* settle
        assert.deepStrictEqual(order.splice(0), [
          "handler",
          "scope of the request",
          "work for /, 1",
          "scope of the work",
          "work for /, 1",
          "scope of the work"
        ])
        assert.strictEqual(yield* running, 0)
      })
  )

  play(
    "is logged and counted when it fails, with the request that it belongs to",
    serve({ responder: Effect.as(afterResponse(Effect.fail("the mail server is away")), hello) }),
    () =>
      Effect.gen(function*() {
        const before = yield* failed
        const peer = yield* connect
        yield* peer.request()
        yield* peer.reply()
        yield* settle
        assert.strictEqual((yield* failed) - before, 1)
        const [log, ...others] = yield* takeLogs
        assert.deepStrictEqual(others, [])
        assert.strictEqual(log!.message, "work after a FastCGI response failed")
        assert.include(log!.cause, "the mail server is away")
        assert.deepStrictEqual(log!.annotations, { "http.method": "GET", "http.url": "/" })
      })
  )

  let done = 0
  const count = Effect.sync(() => {
    done++
  })

  play(
    "is done when the handler fails, and when the web server gives the request up",
    serve({
      responder: ({ params }) =>
        Effect.andThen(
          afterResponse(count),
          params.get("REQUEST_URI") === "/fail" ? Effect.fail("no") : Effect.never
        )
    }),
    () =>
      Effect.gen(function*() {
        done = 0
        const peer = yield* connect
        yield* peer.send(...opening(1, { params: { REQUEST_URI: "/fail" } }), R.stdin(1))
        yield* peer.reply()
        yield* settle
        assert.strictEqual(done, 1)
        yield* takeLogs
        yield* peer.send(...opening(2))
        yield* settle
        assert.strictEqual(done, 1)
        yield* peer.send(R.abortRequest(2))
        yield* settle
        assert.strictEqual(done, 2)
        const gone = yield* connect
        yield* gone.send(...opening(3))
        yield* settle
        yield* gone.reset
        yield* settle
        assert.strictEqual(done, 3)
      })
  )

  const release = Deferred.makeUnsafe<void>()

  play(
    "is done before the response where there is too much of it, which is counted and logged",
    serve({ responder: Effect.as(afterResponse(Deferred.await(release)), hello) }, { maxAfterResponse: 2 }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        for (let id = 1; id <= 3; id++) yield* peer.send(...opening(id), R.stdin(id))
        yield* peer.reply(1)
        yield* peer.reply(2)
        yield* settle
        assert.strictEqual(yield* running, 2)
        const third = yield* Effect.forkChild(peer.reply(3))
        yield* settle
        assert.isUndefined(third.pollUnsafe())
        const logs = yield* takeLogs
        assert.deepStrictEqual(logs.map(({ message }) => message), [
          "a FastCGI response waits for work that was to follow it: there is too much of it (maxAfterResponse)"
        ])
        yield* Deferred.succeed(release, undefined)
        assert.strictEqual(bodyOf((yield* Fiber.join(third)).stdout), "hello")
        yield* settle
        assert.strictEqual(yield* running, 0)
      })
  )

  const drained = (seconds: number) =>
    Effect.gen(function*() {
      const ends: Array<string> = []
      const scope = yield* Scope.make()
      const work = Effect.sleep(`${seconds} seconds`).pipe(
        Effect.andThen(Effect.sync(() => ends.push("done"))),
        Effect.onInterrupt(() => Effect.sync(() => ends.push("interrupted")))
      )
      const memory = yield* Layer.buildWithScope(
        FastCgiServer.serve({ responder: Effect.as(afterResponse(work), hello) }).pipe(
          Layer.provideMerge(FastCgiTest.layerMemory)
        ),
        scope
      )
      yield* Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        yield* peer.reply()
      }).pipe(Effect.provideContext(memory), Effect.scoped)
      const closing = yield* Effect.forkChild(Scope.close(scope, yield* Effect.exit(Effect.void)))
      yield* settle
      yield* TestClock.adjust("19 seconds")
      yield* settle
      const before = [...ends]
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.join(closing)
      return [before, ends]
    })

  it.effect("is waited for by a server that stops", () =>
    Effect.map(drained(15), (ends) => assert.deepStrictEqual(ends, [["done"], ["done"]])))

  it.effect("is interrupted by a server that has waited for long enough", () =>
    Effect.map(drained(60), (ends) => assert.deepStrictEqual(ends, [[], ["interrupted"]])))

  const seen: Array<string> = []
  const Routes = HttpRouter.add(
    "GET",
    "/later",
    Effect.as(
      afterResponse(Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ url }) =>
        Effect.sync(() => {
          seen.push(url)
        }))),
      HttpServerResponse.text("now")
    )
  )

  it.effect("of a request that a stop interrupts does not hold the stop up, however late the request ends", () =>
    Effect.gen(function*() {
      const late = Latch.makeUnsafe()
      let begun = 0
      const server = FastCgiServer.serve({
        responder: Effect.gen(function*() {
          yield* afterResponse(Effect.andThen(Effect.sync(() => begun++), Effect.never))
          return yield* Effect.onInterrupt(Effect.never, () => late.await)
        })
      }, { gracefulShutdownTimeout: "5 seconds" }).pipe(Layer.provideMerge(FastCgiTest.layerMemory))
      const scope = yield* Scope.make()
      const services = yield* Layer.buildWithScope(server, scope)
      const peer = yield* Effect.provide(connect, services)
      yield* peer.request()
      yield* settle
      const stopped = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      yield* TestClock.adjust("7 seconds")
      yield* settle
      assert.isUndefined(stopped.pollUnsafe())
      yield* late.open
      yield* settle
      // The peer does not close its end.
      yield* TestClock.adjust("1 minute")
      yield* settle
      assert.isDefined(stopped.pollUnsafe())
      assert.strictEqual(begun, 0)
    }))

  it.effect("works in an HTTP app", () =>
    Effect.gen(function*() {
      const response = yield* HttpClient.get("/later")
      assert.strictEqual(yield* response.text, "now")
      yield* settle
      assert.deepStrictEqual(seen, ["/later"])
    }).pipe(Effect.provide(
      HttpRouter.serve(Routes, { disableLogger: true }).pipe(Layer.provideMerge(FastCgiTest.layerTest))
    )))

  it.effect("is forked at once where no server runs the fiber", () =>
    Effect.gen(function*() {
      done = 0
      yield* afterResponse(count)
      yield* settle
      assert.strictEqual(done, 1)
    }))
})
