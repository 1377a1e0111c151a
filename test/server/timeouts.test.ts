/**
 * Times that a server gives its peers and its handlers: each is exact, is counted and logged once, and costs nobody else
 * anything.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiAdmission, FastCgiMetrics, FastCgiRecord as R, FastCgiResponse } from "effect-fastcgi"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import {
  bytes,
  connect,
  exchange,
  type Handlers,
  observe,
  Observed,
  opening,
  page,
  play,
  received,
  serve,
  settle,
  tags,
  takeLogs
} from "./support/serving.ts"

const hello: Handlers = {
  responder: () => Effect.succeed(FastCgiResponse.make("hello")),
  authorizer: () => Effect.succeed(FastCgiResponse.allow())
}

const unavailable =
  "Status: 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\n\r\n" +
  "503 Service Unavailable\n"

/** How often the limit has been reached since `before`. */
const reached = (limit: string) =>
  Effect.map(Metric.value(FastCgiMetrics.limitsReached), ({ occurrences }) => occurrences.get(limit) ?? 0)

describe("idleTimeout", () => {
  play("is off unless it is set", serve(hello), () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* exchange(peer)
      yield* TestClock.adjust("1000 hours")
      yield* peer.request()
      assert.strictEqual((yield* peer.reply()).stdout, page("hello"))
      yield* TestClock.adjust("1000 hours")
      assert.deepStrictEqual(yield* exchange(peer), [])
    }))

  play(
    "closes a connection on which nothing has ever begun",
    serve(hello, { idleTimeout: "10 seconds" }),
    () =>
      Effect.gen(function*() {
        const before = yield* reached("idleTimeout")
        const peer = yield* connect
        const half = yield* connect
        // Silence after half a header.
        yield* half.sendBytes(Uint8Array.of(1, 1, 0))
        yield* settle
        yield* TestClock.adjust("9999 millis")
        assert.deepStrictEqual(yield* exchange(peer), [])
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(yield* peer.drain, [])
        assert.deepStrictEqual(yield* half.drain, [])
        assert.strictEqual((yield* reached("idleTimeout")) - before, 2)
      })
  )

  play(
    "is measured from the end of the last request",
    serve(hello, { idleTimeout: "10 seconds" }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* TestClock.adjust("9 seconds")
        yield* peer.request()
        yield* peer.reply()
        yield* TestClock.adjust("9999 millis")
        yield* peer.request()
        assert.strictEqual((yield* peer.reply()).stdout, page("hello"))
        yield* TestClock.adjust("9999 millis")
        assert.deepStrictEqual(yield* exchange(peer), [])
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(yield* peer.drain, [])
      })
  )

  const gate = Deferred.makeUnsafe<void>()
  play(
    "does not touch a connection with a request, however long that takes",
    serve({ responder: () => Effect.as(Deferred.await(gate), FastCgiResponse.make("late")) }, {
      idleTimeout: "10 seconds"
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        yield* exchange(peer)
        yield* TestClock.adjust("10 hours")
        yield* Deferred.succeed(gate, undefined)
        assert.strictEqual((yield* peer.reply()).stdout, page("late"))
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(yield* peer.drain, [])
      })
  )
})

describe("handlerTimeout", () => {
  for (const role of [1, 2]) {
    const ended = Deferred.makeUnsafe<Exit.Exit<unknown, unknown>>()
    const never = Effect.onExit(Effect.never, (exit) => Deferred.succeed(ended, exit))
    play(
      `answers 503 and interrupts the handler (role ${role})`,
      serve({ responder: () => never, authorizer: () => never }, { handlerTimeout: "10 seconds" }),
      () =>
        Effect.gen(function*() {
          const before = yield* reached("handlerTimeout")
          const peer = yield* connect
          assert.deepStrictEqual(yield* exchange(peer, ...opening(1, { role })), [])
          yield* TestClock.adjust("9999 millis")
          assert.deepStrictEqual(yield* exchange(peer), [])
          yield* TestClock.adjust("1 millis")
          assert.deepStrictEqual(yield* peer.reply(), {
            stdout: unavailable,
            stderr: "effect-fastcgi: the handler has not answered in time (handlerTimeout)",
            appStatus: 1,
            protocolStatus: 0
          })
          assert.isTrue(Exit.hasInterrupts(yield* Deferred.await(ended)))
          assert.deepStrictEqual((yield* takeLogs).map(({ message }) => message), [
            "interrupted FastCGI request 1: it was not answered in time (handlerTimeout)"
          ])
          assert.strictEqual((yield* reached("handlerTimeout")) - before, 1)
          // The connection goes on.
          assert.deepStrictEqual(yield* exchange(peer, R.stdin(1)), [])
        })
    )
  }

  const release = Deferred.makeUnsafe<void>()
  play(
    "does not wait for a handler that can not be interrupted",
    serve({
      responder: () => Effect.uninterruptible(Effect.as(Deferred.await(release), FastCgiResponse.make("late")))
    }, { handlerTimeout: "10 seconds" }),
    () =>
      Effect.gen(function*() {
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        const peer = yield* connect
        yield* exchange(peer, ...opening(1), R.stdin(1))
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual((yield* peer.reply()).stdout, unavailable)
        assert.strictEqual(admission.requestsUnsafe(), 0)
        yield* Deferred.succeed(release, undefined)
        // What it says now reaches nobody.
        assert.deepStrictEqual(yield* exchange(peer), [])
        yield* takeLogs
      })
  )

  play(
    "is measured for each of the requests that overlap",
    serve({ responder: () => Effect.never }, { handlerTimeout: "10 seconds" }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* exchange(peer, ...opening(1), R.stdin(1))
        yield* TestClock.adjust("6 seconds")
        yield* exchange(peer, ...opening(2), R.stdin(2))
        yield* TestClock.adjust("4 seconds")
        assert.strictEqual((yield* peer.reply(1)).stdout, unavailable)
        yield* TestClock.adjust("5999 millis")
        assert.deepStrictEqual(yield* exchange(peer), [])
        yield* TestClock.adjust("1 millis")
        assert.strictEqual((yield* peer.reply(2)).stdout, unavailable)
        yield* takeLogs
      })
  )

  play(
    "leaves a response alone that has begun",
    serve({
      responder: () =>
        Effect.succeed(
          FastCgiResponse.make(
            Stream.concat(Stream.make(bytes(3)), Stream.fromEffect(Effect.as(Effect.sleep("1 hour"), bytes(4))))
          )
        )
    }, { handlerTimeout: "10 seconds" }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* exchange(peer, ...opening(1), R.stdin(1))
        yield* TestClock.adjust("1 hour")
        assert.strictEqual((yield* peer.reply()).appStatus, 0)
      })
  )

  play(
    "counts the wait for a permit, and takes it from nobody",
    serve({
      responder: (request) =>
        request.requestId === 1 ? Effect.as(Effect.sleep("9 seconds"), FastCgiResponse.make("one")) : Effect.never
    }, { handlerTimeout: "10 seconds", admission: { concurrency: 1 } }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* exchange(peer, ...opening(1), R.stdin(1), ...opening(2), R.stdin(2), ...opening(3), R.stdin(3))
        yield* TestClock.adjust("9 seconds")
        assert.strictEqual((yield* peer.reply(1)).stdout, page("one"))
        // 2 runs for a second, 3 has waited for ten.
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* peer.reply(2)).stdout, unavailable)
        assert.strictEqual((yield* peer.reply(3)).stdout, unavailable)
        yield* takeLogs
      })
  )

  it.effect("leaves no timer running when the server has stopped", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { fibers } = Context.get(
        yield* Layer.buildWithScope(
          observe(serve({ responder: () => Effect.never }, { handlerTimeout: "500 millis" })).pipe(
            Layer.tap((context) =>
              Effect.gen(function*() {
                const peer = yield* connect
                yield* exchange(peer, ...opening(1))
                yield* peer.send(R.abortRequest(1))
                assert.strictEqual((yield* peer.reply()).appStatus, 1)
                yield* peer.close
              }).pipe(Effect.scoped, Effect.provideContext(context))
            )
          ),
          scope
        ),
        Observed
      )
      yield* settle
      yield* Scope.close(scope, Exit.void)
      yield* settle
      assert.strictEqual(fibers(), 0)
    }))
})

describe("writeTimeout", () => {
  const endless: Handlers = {
    responder: (request) =>
      request.params.get("REQUEST_URI") === "/small"
        ? Effect.succeed(FastCgiResponse.make("small"))
        : Effect.succeed(FastCgiResponse.make(Stream.forever(Stream.make(bytes(10_000)))))
  }

  play("is off unless it is set", serve(endless), () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.request()
      yield* settle
      yield* TestClock.adjust("1000 hours")
      const admission = yield* FastCgiAdmission.FastCgiAdmission
      assert.strictEqual(admission.requestsUnsafe(), 1)
    }))

  play(
    "resets a connection whose peer takes nothing, and no other",
    serve(endless, { writeTimeout: "10 seconds" }),
    () =>
      Effect.gen(function*() {
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        const before = yield* reached("writeTimeout")
        const stuck = yield* connect
        yield* stuck.request()
        yield* settle
        const other = yield* connect
        yield* TestClock.adjust("9999 millis")
        assert.strictEqual(admission.requestsUnsafe(), 1)
        yield* TestClock.adjust("1 millis")
        yield* settle
        assert.strictEqual(admission.requestsUnsafe(), 0)
        assert.strictEqual((yield* reached("writeTimeout")) - before, 1)
        assert.match(
          (yield* takeLogs)[0].message,
          /^closed a FastCGI connection: the peer has taken none of \d+ bytes for 10000 ms \(writeTimeout\)$/
        )
        yield* other.request({ params: { REQUEST_URI: "/small" } })
        assert.strictEqual((yield* other.reply()).stdout, page("small"))
      })
  )

  play(
    "leaves a peer alone that takes little",
    serve(endless, { writeTimeout: "10 seconds" }),
    () =>
      Effect.gen(function*() {
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        const peer = yield* connect
        yield* peer.request()
        yield* settle
        for (let i = 0; i < 20; i++) {
          yield* TestClock.adjust("9 seconds")
          yield* peer.receiveBytes
          yield* settle
        }
        assert.strictEqual(admission.requestsUnsafe(), 1)
      })
  )
})

describe("maxRequestsPerConnection", () => {
  play(
    "closes a connection after its last request, and says so behind the answer",
    serve({ responder: () => Effect.succeed(FastCgiResponse.make("hello")) }, { maxRequestsPerConnection: 3 }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        for (let i = 0; i < 2; i++) {
          yield* peer.send(...opening(1), R.stdin(1))
          assert.strictEqual((yield* peer.reply()).stdout, page("hello"))
        }
        yield* peer.send(...opening(1), R.stdin(1))
        assert.deepStrictEqual(tags(yield* peer.drain), ["Stdout 1", "Stdout 1", "EndRequest 1", "GetValuesResult 0"])
      })
  )

  play(
    "tells a peer that multiplexes at once, and answers what runs",
    serve(
      {
        responder: (request) => Effect.as(Stream.runDrain(request.stdin), FastCgiResponse.make("hello"))
      },
      { maxRequestsPerConnection: 2 }
    ),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1), ...opening(2))
        assert.strictEqual((yield* received(peer))._tag, "GetValuesResult")
        yield* peer.send(R.stdin(1), R.stdin(2))
        assert.strictEqual((yield* peer.reply(1)).stdout, page("hello"))
        assert.strictEqual((yield* peer.reply(2)).stdout, page("hello"))
        yield* peer.closed
      })
  )
})

describe("maxConcurrentRequestsPerConnection", () => {
  const gate = Deferred.makeUnsafe<void>()
  const gated = { responder: () => Effect.as(Deferred.await(gate), FastCgiResponse.make("done")) }
  play(
    "refuses with 503 what is beyond it on one connection, and nothing on another",
    serve(gated, { maxConcurrentRequestsPerConnection: 2 }),
    () =>
      Effect.gen(function*() {
        const before = yield* reached("maxConcurrentRequestsPerConnection")
        const peer = yield* connect
        const other = yield* connect
        yield* exchange(peer, ...opening(1), R.stdin(1), ...opening(2), R.stdin(2))
        yield* peer.send(...opening(3), R.stdin(3))
        assert.strictEqual((yield* peer.reply(3)).stdout, unavailable)
        yield* exchange(other, ...opening(1), R.stdin(1))
        assert.strictEqual((yield* reached("maxConcurrentRequestsPerConnection")) - before, 1)
        assert.deepStrictEqual((yield* takeLogs).map(({ message }) => message), [
          "refused a FastCGI request: its connection has 2 already (maxConcurrentRequestsPerConnection)"
        ])
        yield* Deferred.succeed(gate, undefined)
        for (const id of [1, 2]) assert.strictEqual((yield* peer.reply(id)).stdout, page("done"))
        assert.strictEqual((yield* other.reply(1)).stdout, page("done"))
        yield* peer.send(...opening(3), R.stdin(3))
        assert.strictEqual((yield* peer.reply(3)).stdout, page("done"))
      })
  )

  play(
    "refuses with OVERLOADED where that is asked for",
    serve({ responder: () => Effect.never }, { maxConcurrentRequestsPerConnection: 1, overload: "protocolStatus" }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* exchange(peer, ...opening(1))
        assert.deepStrictEqual(yield* exchange(peer, ...opening(2)), [
          R.endRequest(2, 0, R.ProtocolStatus.Overloaded)
        ])
        yield* takeLogs
      })
  )
})

describe("maxRequestsInParams", () => {
  play("at 3, and one past it", serve(hello, { maxRequestsInParams: 3 }), () =>
    Effect.gen(function*() {
      const before = yield* reached("maxRequestsInParams")
      const peer = yield* connect
      const begin = (id: number) => R.beginRequest(id, 1, { keepConnection: true })
      assert.deepStrictEqual(yield* exchange(peer, begin(1), begin(2), begin(3)), [])
      yield* peer.send(R.params(2), R.stdin(2))
      yield* peer.reply(2)
      assert.deepStrictEqual(yield* exchange(peer, begin(4)), [])
      yield* peer.send(begin(5))
      assert.deepStrictEqual(tags(yield* peer.drain), [])
      assert.strictEqual((yield* reached("maxRequestsInParams")) - before, 1)
      assert.match((yield* takeLogs)[0].message, /3 requests have begun .* \(maxRequestsInParams\)$/)
    }))
})
