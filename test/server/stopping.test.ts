/**
 * What is told when a server stops: handlers that would go on for ever, and whoever watches the log of a stop that takes long.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiConnection, FastCgiResponse, FastCgiServer, FastCgiTransport } from "effect-fastcgi"
import { FastCgiClient } from "effect-fastcgi/client"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { bodyOf, connect, observe, settle, takeLogs } from "./support/serving.ts"

const { stopping } = FastCgiServer

const get = { params: { REQUEST_METHOD: "GET", REQUEST_URI: "/" } }

/** A request to a server that is then told to stop: the peer that sent it, and the stop. */
const stopped = Effect.fnUntraced(function*(server: Layer.Layer<FastCgiTest.FastCgiMemory>) {
  const scope = yield* Scope.make()
  const services = yield* Layer.buildWithScope(observe(server), scope)
  const peer = yield* Effect.provide(connect, services)
  yield* peer.request(get)
  yield* settle
  const stop = yield* Effect.forkChild(Scope.close(scope, Exit.void))
  yield* settle
  return { peer, stop, logs: Effect.provide(takeLogs, services) }
})

describe("stopping", () => {
  it.effect("ends the wait of a handler when its server is told to stop", () =>
    Effect.gen(function*() {
      const { peer, stop } = yield* stopped(
        FastCgiServer.serve({ responder: Effect.as(stopping, FastCgiResponse.make("goodbye")) }).pipe(
          Layer.provideMerge(FastCgiTest.layerMemory)
        )
      )
      assert.strictEqual(bodyOf((yield* peer.reply()).stdout), "goodbye")
      yield* peer.close
      yield* Fiber.join(stop)
    }))

  it.effect("ends a live stream of an HTTP app as if it had come to its end", () =>
    Effect.gen(function*() {
      const live = Stream.make(": alive\n\n").pipe(
        Stream.concat(Stream.never),
        Stream.interruptWhen(stopping),
        Stream.encodeText
      )
      const { peer, stop } = yield* stopped(
        HttpRouter.serve(HttpRouter.add("GET", "/", HttpServerResponse.stream(live)), { disableLogger: true }).pipe(
          Layer.provideMerge(FastCgiTest.layerTest)
        )
      )
      const reply = yield* peer.reply()
      assert.strictEqual(bodyOf(reply.stdout), ": alive\n\n")
      assert.strictEqual(reply.stderr, "")
      yield* peer.close
      yield* Fiber.join(stop)
    }))

  it.effect("comes at once to a handler that asks during the stop", () =>
    Effect.gen(function*() {
      const { peer, stop } = yield* stopped(
        FastCgiServer.serve({
          responder: Effect.as(Effect.andThen(Effect.sleep("1 second"), stopping), FastCgiResponse.make("late"))
        }).pipe(Layer.provideMerge(FastCgiTest.layerMemory))
      )
      yield* TestClock.adjust("1 second")
      assert.strictEqual(bodyOf((yield* peer.reply()).stdout), "late")
      yield* peer.close
      yield* Fiber.join(stop)
    }))

  it.effect("comes to the handlers of one connection that is told to stop", () =>
    Effect.gen(function*() {
      const { client, server } = yield* FastCgiTransport.makePair()
      const serving = yield* Effect.forkChild(
        FastCgiConnection.serve(server, { responder: Effect.as(stopping, FastCgiResponse.make("goodbye")) })
      )
      const { request } = yield* FastCgiClient.make({ connect: Effect.succeed(client) })
      const { stdout } = yield* request({ params: [["REQUEST_METHOD", "GET"]] })
      yield* settle
      const stop = yield* Effect.forkChild(Fiber.interrupt(serving))
      assert.include(yield* Stream.mkString(Stream.decodeText(stdout)), "goodbye")
      yield* Fiber.join(stop)
    }).pipe(Effect.scoped))

  it.effect("never comes where no server runs the fiber", () =>
    Effect.gen(function*() {
      const waiting = yield* Effect.forkChild(stopping)
      yield* settle
      assert.isUndefined(waiting.pollUnsafe())
      yield* Fiber.interrupt(waiting)
    }))
})

describe("a stop that takes longer than a second", () => {
  const server = FastCgiServer.serve({ responder: Effect.as(Effect.sleep("5 seconds"), FastCgiResponse.make("done")) })

  it.effect("says what it waits for, and for how long", () =>
    Effect.gen(function*() {
      const { logs, peer, stop } = yield* stopped(Layer.provideMerge(server, FastCgiTest.layerMemory))
      yield* TestClock.adjust("999 millis")
      yield* settle
      assert.deepStrictEqual(yield* logs, [])
      yield* TestClock.adjust("1 millis")
      yield* settle
      assert.deepStrictEqual((yield* logs).map(({ level, message }) => [level, message]), [
        ["Info", "stopping: 1 FastCGI requests on 1 connections have another 19s to finish (gracefulShutdownTimeout)"]
      ])
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(bodyOf((yield* peer.reply()).stdout), "done")
      yield* peer.close
      yield* Fiber.join(stop)
      assert.deepStrictEqual(yield* logs, [])
    }))

  it.effect("is silent about connections without a request", () =>
    Effect.gen(function*() {
      const { logs, peer, stop } = yield* stopped(
        FastCgiServer.serve({ responder: Effect.succeed(FastCgiResponse.make("done")) }).pipe(
          Layer.provideMerge(FastCgiTest.layerMemory)
        )
      )
      yield* TestClock.adjust("10 seconds")
      yield* settle
      yield* peer.close
      yield* Fiber.join(stop)
      assert.deepStrictEqual(yield* logs, [])
    }))
})
