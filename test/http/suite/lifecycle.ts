/**
 * The life of a request: scopes, client aborts, interruption, and what a closing server does with requests in flight.
 */
import { assert } from "@effect/vitest"
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerError from "effect/http/HttpServerError"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import type { Cases, ShutdownOptions, Test } from "./support.ts"
import {
  empty,
  encode,
  get,
  getText,
  head,
  makeTest,
  pattern,
  post,
  request,
  route,
  send,
  serve,
  serveLogged,
  status,
  testUnless,
  textStream
} from "./support.ts"

const interruptedByClient = (exit: Exit.Exit<unknown, unknown>): boolean =>
  Exit.isFailure(exit) &&
  exit.cause.reasons.some((reason: Cause.Reason<unknown>) =>
    reason._tag === "Interrupt" && reason.annotations.has(HttpServerError.ClientAbort.key)
  )

/**
 * Without it node:http keeps a connection that was busy when the server closed, and waits some seconds for its client.
 */
const connectionClose = { connection: "close" }

/** A route that says that it has started, waits for `release`, and answers. */
const gated = (started: Deferred.Deferred<void>, release: Deferred.Deferred<void>) =>
  route(
    "GET",
    "/gated",
    Deferred.succeed(started, undefined).pipe(
      Effect.andThen(Deferred.await(release)),
      Effect.as(HttpServerResponse.text("finished", { headers: connectionClose }))
    )
  )

export const lifecycle: Cases = (test, capabilities) => {
  test("closes the request's scope after the response has been sent", () =>
    Effect.gen(function*() {
      const events = yield* Queue.unbounded<string>()
      yield* serve(route(
        "GET",
        "/",
        Effect.gen(function*() {
          yield* Effect.addFinalizer((exit) => Queue.offer(events, `scope ${exit._tag}`))
          yield* Queue.offer(events, "handler")
          return HttpServerResponse.text("done")
        })
      ))
      assert.strictEqual(yield* getText("/"), "done")
      assert.strictEqual(yield* Queue.take(events), "handler")
      assert.strictEqual(yield* Queue.take(events), "scope Success")
    }))

  test("closes the scope of a failed request with its failure", () =>
    Effect.gen(function*() {
      const closed = yield* Deferred.make<string>()
      yield* serve(route(
        "GET",
        "/",
        Effect.addFinalizer((exit) => Deferred.succeed(closed, exit._tag)).pipe(Effect.andThen(Effect.fail("no")))
      ))
      assert.strictEqual(yield* status(get("/")), 500)
      assert.strictEqual(yield* Deferred.await(closed), "Failure")
    }))

  test("keeps the request's scope open until a streamed body has ended", () =>
    Effect.gen(function*() {
      const events = yield* Queue.unbounded<string>()
      yield* serve(route(
        "GET",
        "/",
        Effect.gen(function*() {
          yield* Effect.addFinalizer(() => Queue.offer(events, "scope"))
          return HttpServerResponse.stream(
            textStream("a", "b", "c").pipe(
              Stream.rechunk(1),
              Stream.tap(() => Queue.offer(events, "chunk")),
              Stream.ensuring(Queue.offer(events, "stream"))
            )
          )
        })
      ))
      assert.strictEqual(yield* getText("/"), "abc")
      assert.deepStrictEqual(yield* Queue.takeN(events, 5), ["chunk", "chunk", "chunk", "stream", "scope"])
    }))

  test("interrupts the handler as ClientAbort when the client goes away, and runs its finalizers", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const ended = yield* Deferred.make<Exit.Exit<unknown, unknown>>()
      const closed = yield* Deferred.make<Exit.Exit<unknown, unknown>>()
      yield* serve(route(
        "GET",
        "/",
        Effect.gen(function*() {
          yield* Effect.addFinalizer((exit) => Deferred.succeed(closed, exit))
          yield* Deferred.succeed(started, undefined)
          return yield* Effect.onExit(Effect.never, (exit) => Deferred.succeed(ended, exit))
        })
      ))
      const client = yield* Effect.forkChild(get("/"))
      yield* Deferred.await(started)
      yield* Fiber.interrupt(client)
      assert.isTrue(interruptedByClient(yield* Deferred.await(ended)))
      assert.isTrue(interruptedByClient(yield* Deferred.await(closed)))
    }))

  test("interrupts a handler that waits for more of a body whose client goes away", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const ended = yield* Deferred.make<Exit.Exit<unknown, unknown>>()
      yield* serve(route(
        "POST",
        "/",
        Effect.flatMap(request, (request) =>
          Stream.runForEach(request.stream, () =>
            Deferred.succeed(started, undefined)).pipe(
              Effect.andThen(Effect.never),
              Effect.onExit((exit) => Deferred.succeed(ended, exit))
            ))
      ))
      const body = Stream.concat(Stream.make(pattern(100)), Stream.never)
      const client = yield* Effect.forkChild(send(HttpClientRequest.bodyStream(post("/"), body)))
      yield* Deferred.await(started)
      yield* Fiber.interrupt(client)
      assert.isTrue(Exit.isFailure(yield* Deferred.await(ended)))
    }))

  test("interrupts a streaming response when the client goes away, and closes its scope", () =>
    Effect.gen(function*() {
      const streamEnded = yield* Deferred.make<Exit.Exit<unknown, unknown>>()
      const scopeClosed = yield* Deferred.make<void>()
      yield* serve(route(
        "GET",
        "/",
        Effect.gen(function*() {
          yield* Effect.addFinalizer(() => Deferred.succeed(scopeClosed, undefined))
          return HttpServerResponse.stream(
            Stream.concat(textStream("first"), Stream.never).pipe(
              Stream.onExit((exit) => Deferred.succeed(streamEnded, exit))
            )
          )
        })
      ))
      const response = yield* get("/")
      yield* Stream.runHead(response.stream)
      assert.isTrue(Exit.isFailure(yield* Deferred.await(streamEnded)))
      yield* Deferred.await(scopeClosed)
    }))

  test("stops a response that the client no longer reads, however much of it is left", () =>
    Effect.gen(function*() {
      const ended = yield* Deferred.make<void>()
      const chunk = pattern(65_536)
      yield* serve(route(
        "GET",
        "/",
        HttpServerResponse.stream(
          Stream.forever(Stream.make(chunk)).pipe(Stream.ensuring(Deferred.succeed(ended, undefined)))
        )
      ))
      const response = yield* get("/")
      yield* Stream.runDrain(Stream.take(response.stream, 3))
      yield* Deferred.await(ended)
    }))

  test("leaves other requests alone when one client goes away", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const aborted = yield* Deferred.make<void>()
      const waiting = yield* Deferred.make<void>()
      yield* serve(Layer.mergeAll(
        gated(started, release),
        route(
          "GET",
          "/abort",
          Deferred.succeed(waiting, undefined).pipe(
            Effect.andThen(Effect.never),
            Effect.onInterrupt(() => Deferred.succeed(aborted, undefined))
          )
        )
      ))
      const kept = yield* Effect.forkChild(getText("/gated"))
      const gone = yield* Effect.forkChild(get("/abort"))
      yield* Deferred.await(started)
      yield* Deferred.await(waiting)
      yield* Fiber.interrupt(gone)
      yield* Deferred.await(aborted)
      assert.isUndefined(kept.pollUnsafe())
      yield* Deferred.succeed(release, undefined)
      assert.strictEqual(yield* Fiber.join(kept), "finished")
    }))

  test("interrupts a routed handler, but neither an uninterruptible route nor a plain served effect", () =>
    Effect.gen(function*() {
      const interruptItself = Effect.withFiber<HttpServerResponse.HttpServerResponse>((fiber) => {
        fiber.interruptUnsafe(fiber.id)
        return Effect.as(Effect.yieldNow, HttpServerResponse.text("went on"))
      })
      const scope = yield* Scope.make()
      yield* serve(Layer.mergeAll(
        route("GET", "/routed", interruptItself),
        route("GET", "/uninterruptible", interruptItself, { uninterruptible: true })
      )).pipe(Scope.provide(scope))
      assert.strictEqual(yield* status(get("/routed")), 503)
      assert.strictEqual(yield* getText("/uninterruptible"), "went on")
    }))

  test("does not interrupt a plain served effect, unless it says that it is interruptible", () =>
    Effect.gen(function*() {
      const interruptItself = Effect.withFiber<HttpServerResponse.HttpServerResponse>((fiber) => {
        fiber.interruptUnsafe(fiber.id)
        return Effect.as(Effect.yieldNow, HttpServerResponse.text("went on"))
      })
      yield* HttpServer.serveEffect(
        Effect.flatMap(
          request,
          (request) => request.url === "/plain" ? interruptItself : Effect.interruptible(interruptItself)
        )
      )
      assert.strictEqual(yield* getText("/plain"), "went on")
      assert.strictEqual(yield* status(get("/interruptible")), 503)
    }))

  test("finishes an uninterruptible handler whose client has gone away", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const finished = yield* Deferred.make<void>()
      yield* HttpServer.serveEffect(
        Deferred.succeed(started, undefined).pipe(
          Effect.andThen(Deferred.await(release)),
          Effect.andThen(Deferred.succeed(finished, undefined)),
          // Ends as soon as the abort has arrived, at once if it already has.
          Effect.andThen(Effect.interruptible(Effect.never))
        )
      )
      const client = yield* Effect.forkChild(get("/"))
      yield* Deferred.await(started)
      yield* Fiber.interrupt(client)
      yield* Deferred.succeed(release, undefined)
      yield* Deferred.await(finished)
    }))

  test("keeps serving after many clients have gone away", () =>
    Effect.gen(function*() {
      const started = yield* Queue.unbounded<void>()
      const ended = yield* Queue.unbounded<void>()
      yield* serve(Layer.mergeAll(
        route(
          "GET",
          "/never",
          Queue.offer(started, undefined).pipe(
            Effect.andThen(Effect.never),
            Effect.ensuring(Queue.offer(ended, undefined))
          )
        ),
        route("GET", "/ok", HttpServerResponse.text("ok"))
      ))
      const clients = yield* Effect.forEach(Array.from({ length: 20 }), () => Effect.forkChild(get("/never")))
      yield* Queue.takeN(started, 20)
      yield* Fiber.interruptAll(clients)
      yield* Queue.takeN(ended, 20)
      assert.strictEqual(yield* getText("/ok"), "ok")
    }))

  for (const [name, serve_] of [["", serve], [", with the default middleware", serveLogged]] as const) {
    test(`closes gracefully: a request in flight is finished and the close waits for it${name}`, () =>
      Effect.gen(function*() {
        const started = yield* Deferred.make<void>()
        const release = yield* Deferred.make<void>()
        const scope = yield* Scope.make()
        yield* Scope.provide(serve_(gated(started, release)), scope)
        const client = yield* Effect.forkChild(getText("/gated"))
        yield* Deferred.await(started)
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
        assert.isUndefined(closing.pollUnsafe())
        assert.isUndefined(client.pollUnsafe())
        yield* Deferred.succeed(release, undefined)
        assert.strictEqual(yield* Fiber.join(client), "finished")
        yield* Fiber.join(closing)
      }))
  }

  test("closes gracefully: a streamed response in flight is sent to its end", () =>
    Effect.gen(function*() {
      const chunks = yield* Queue.unbounded<Uint8Array, Cause.Done>()
      const scope = yield* Scope.make()
      const streamed = HttpServerResponse.stream(Stream.fromQueue(chunks), { headers: connectionClose })
      yield* Scope.provide(serve(route("GET", "/", streamed)), scope)
      yield* Queue.offer(chunks, encode("before "))
      const response = yield* get("/")
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* Queue.offer(chunks, encode("after"))
      yield* Queue.end(chunks)
      assert.strictEqual(yield* response.text, "before after")
      yield* Fiber.join(closing)
    }))

  test("closes at once when nothing is in flight, with no clock moving", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* Scope.provide(serve(route("GET", "/", HttpServerResponse.text("ok"))), scope)
      assert.strictEqual(yield* getText("/"), "ok")
      assert.strictEqual(yield* status(head("/")), 200)
      yield* Scope.close(scope, Exit.void)
    }))

  test("refuses new requests once it has closed", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* Scope.provide(serve(route("GET", "/", HttpServerResponse.text("ok"))), scope)
      assert.strictEqual(yield* getText("/"), "ok")
      yield* Scope.close(scope, Exit.void)
      const exit = yield* Effect.exit(status(get("/")))
      if (Exit.isSuccess(exit)) assert.isAtLeast(exit.value, 500)
    }))

  test("interrupts what still runs after 20 seconds, and runs its finalizers before it has closed", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      let finalized = false
      const scope = yield* Scope.make()
      yield* Scope.provide(
        serve(route(
          "GET",
          "/",
          Deferred.succeed(started, undefined).pipe(
            Effect.andThen(Effect.never),
            Effect.ensuring(Effect.sync(() => {
              finalized = true
            }))
          )
        )),
        scope
      )
      const client = yield* Effect.forkChild(Effect.exit(status(get("/"))))
      yield* Deferred.await(started)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* TestClock.adjust("19 seconds")
      assert.isUndefined(closing.pollUnsafe())
      assert.isFalse(finalized)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closing)
      assert.isTrue(finalized)
      // The client gets the 503, or loses the connection, but is not left waiting.
      const seen = yield* Fiber.join(client)
      if (Exit.isSuccess(seen)) assert.strictEqual(seen.value, 503)
    }))

  const { layerWith } = capabilities
  const testWith = (options: ShutdownOptions): Test =>
    layerWith === undefined ? testUnless(test, "no layer with options") : makeTest(layerWith(options))

  testWith({ gracefulShutdownTimeout: "3 seconds" })(
    "waits for gracefulShutdownTimeout and no longer",
    () =>
      Effect.gen(function*() {
        const started = yield* Deferred.make<void>()
        const scope = yield* Scope.make()
        yield* Scope.provide(
          serve(route("GET", "/", Effect.andThen(Deferred.succeed(started, undefined), Effect.never))),
          scope
        )
        const client = yield* Effect.forkChild(Effect.exit(status(get("/"))))
        yield* Deferred.await(started)
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
        yield* TestClock.adjust("2999 millis")
        assert.isUndefined(closing.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        yield* Fiber.join(closing)
        yield* Fiber.join(client)
      })
  )

  testWith({ disablePreemptiveShutdown: true })(
    "interrupts at once with disablePreemptiveShutdown",
    () =>
      Effect.gen(function*() {
        const started = yield* Deferred.make<void>()
        const interrupted = yield* Deferred.make<void>()
        const scope = yield* Scope.make()
        yield* Scope.provide(
          serve(route(
            "GET",
            "/",
            Deferred.succeed(started, undefined).pipe(
              Effect.andThen(Effect.never),
              Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
            )
          )),
          scope
        )
        const client = yield* Effect.forkChild(Effect.exit(status(get("/"))))
        yield* Deferred.await(started)
        yield* Scope.close(scope, Exit.void)
        yield* Deferred.await(interrupted)
        yield* Fiber.join(client)
      })
  )

  test("says where it listens", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.HttpServer
      assert.isTrue(HttpServer.formatAddress(server.address).length > 0)
      yield* serve(route("GET", "/", empty))
      assert.strictEqual(yield* status(get("/")), 204)
    }))
}
