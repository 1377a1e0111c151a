/** A pool: who waits, where requests go, what is sent again, and what is told of it. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import * as Tracer from "effect/Tracer"
import * as FastCgiClient from "../../src/client/FastCgiClient.ts"
import * as FastCgiClientMetrics from "../../src/client/FastCgiClientMetrics.ts"
import * as FastCgiHttpClient from "../../src/client/FastCgiHttpClient.ts"
import * as FastCgiPool from "../../src/client/FastCgiPool.ts"
import * as FastCgiParams from "../../src/protocol/FastCgiParams.ts"
import * as Record from "../../src/protocol/FastCgiRecord.ts"
import type * as Application from "./application.ts"
import { answer, bytesOf, params, reasonOf, textOfStream } from "./application.ts"
import { applications, reasonOf as httpReasonOf, untilRequest, url } from "./applications.ts"

const turns = Effect.repeat(Effect.yieldNow, { times: 20 })

const serve = (app: Application.Application, n: number, body: string) =>
  Effect.andThen(untilRequest(app, n), app.send(...answer(1, `\r\n${body}`)))

/** The text of the answer to a request, in the background. */
const asked = (client: FastCgiClient.FastCgiClient, request: FastCgiClient.FastCgiClientRequest<never> = { params }) =>
  Effect.forkScoped(
    Effect.scoped(Effect.flatMap(client.request(request), ({ stdout }) => textOfStream(stdout))),
    { startImmediately: true }
  )

const post: FastCgiClient.FastCgiClientRequest<never> = { params: [["REQUEST_METHOD", "POST"]] }

describe("FastCgiPool", () => {
  describe("lets requests wait", () => {
    it.effect("in order, for one of maxConnections", () =>
      Effect.gen(function*() {
        const { connect, nth, opened } = yield* applications()
        const pool = yield* FastCgiPool.make({ connect, keepConnection: true, maxConnections: 1 })
        const texts = yield* Effect.forEach(["a", "b", "c"], (path) =>
          asked(pool, { params: [["REQUEST_METHOD", "GET"], ["SCRIPT_NAME", path]] }))
        assert.strictEqual(pool.waitingUnsafe(), 2)
        const app = yield* nth(1)
        for (const n of [1, 2, 3]) {
          yield* serve(app, n, String(n))
        }
        assert.deepStrictEqual(yield* Effect.forEach(texts, Fiber.join), ["\r\n1", "\r\n2", "\r\n3"])
        assert.strictEqual(opened.length, 1)
        assert.strictEqual(pool.waitingUnsafe(), 0)
      }))

    it.effect("whose connections are not kept, too", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const pool = yield* FastCgiPool.make({ connect, maxConnections: 2 })
        const texts = yield* Effect.forEach([1, 2, 3, 4], () => asked(pool))
        for (const n of [1, 2, 3, 4]) {
          assert.isAtMost(pool.statesUnsafe()[0].connections, 2)
          yield* serve(yield* nth(n), 1, String(n))
        }
        assert.deepStrictEqual(yield* Effect.forEach(texts, Fiber.join), [1, 2, 3, 4].map((n) => `\r\n${n}`))
        assert.deepStrictEqual(pool.statesUnsafe(), [
          { name: undefined, connections: 0, idle: 0, opening: 0, usable: true }
        ])
      }))

    it.effect("and fails those beyond maxWaiting, and those that wait for longer than waitTimeout", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const pool = yield* FastCgiPool.make({
          connect,
          keepConnection: true,
          maxConnections: 1,
          maxWaiting: 1,
          waitTimeout: "5 seconds"
        })
        const first = yield* asked(pool)
        const second = yield* asked(pool)
        const third = yield* Effect.flip(Effect.scoped(pool.request({ params })))
        assert.strictEqual(third.reason._tag, "PoolFull")
        assert.strictEqual(third.message, "all connections are in use, and 1 requests wait for one already")
        yield* TestClock.adjust("5 seconds")
        const waited = yield* Effect.flip(Fiber.join(second))
        assert.strictEqual(waited.reason._tag, "PoolTimeout")
        assert.strictEqual(waited.message, "no connection to the application got free within 5s")
        // Its place in the queue is free again.
        const fourth = yield* asked(pool)
        const app = yield* nth(1)
        yield* serve(app, 1, "1")
        yield* serve(app, 2, "4")
        assert.deepStrictEqual([yield* Fiber.join(first), yield* Fiber.join(fourth)], ["\r\n1", "\r\n4"])
      }))

    it.effect("and lets those go that are interrupted", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const pool = yield* FastCgiPool.make({ connect, keepConnection: true, maxConnections: 1 })
        const [first, second, third] = yield* Effect.forEach([1, 2, 3], () => asked(pool))
        yield* Fiber.interrupt(second)
        assert.strictEqual(pool.waitingUnsafe(), 1)
        const app = yield* nth(1)
        yield* serve(app, 1, "1")
        yield* serve(app, 2, "3")
        assert.deepStrictEqual([yield* Fiber.join(first), yield* Fiber.join(third)], ["\r\n1", "\r\n3"])
      }))

    it.effect("and passes on the connection that an interrupted request was to get", () =>
      Effect.gen(function*() {
        const { connect, nth, opened } = yield* applications()
        const gate = yield* Deferred.make<void>()
        const pool = yield* FastCgiPool.make({
          connect: Effect.andThen(Deferred.await(gate), connect),
          keepConnection: true,
          maxConnections: 1
        })
        const first = yield* asked(pool)
        const second = yield* asked(pool)
        yield* Fiber.interrupt(first)
        yield* Deferred.done(gate, Exit.void)
        yield* serve(yield* nth(1), 1, "2")
        assert.strictEqual(yield* Fiber.join(second), "\r\n2")
        assert.strictEqual(opened.length, 1)
      }))

    it.effect("and tells of a bug of connect, which is no closed pool", () =>
      Effect.gen(function*() {
        const pool = yield* FastCgiPool.make({ connect: Effect.die("a bug"), maxConnections: 1 })
        for (const _ of [1, 2]) {
          const exit = yield* Effect.exit(Effect.scoped(pool.request({ params })))
          assert.deepStrictEqual(exit, Exit.die("a bug"))
        }
      }))

    it.effect("and stops connecting when nobody waits", () =>
      Effect.gen(function*() {
        const interrupted = yield* Deferred.make<void>()
        const pool = yield* FastCgiPool.make({
          connect: Effect.onInterrupt(Effect.never, () => Deferred.done(interrupted, Exit.void))
        })
        yield* Fiber.interrupt(yield* asked(pool))
        yield* Deferred.await(interrupted)
        assert.strictEqual(pool.statesUnsafe()[0].opening, 0)
      }))

    it.effect("and fails them when the pool is closed, and what comes afterwards", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(FastCgiPool.make({ connect, maxConnections: 1, minIdle: 1 }), scope)
        const exits = yield* Effect.forEach([1, 2, 3], () => asked(pool))
        yield* untilRequest(yield* nth(1))
        yield* Scope.close(scope, Exit.void)
        for (const exit of exits) assert.strictEqual(reasonOf(yield* Fiber.await(exit)), "Closed")
        assert.strictEqual(reasonOf(yield* Effect.exit(Effect.scoped(pool.request({ params })))), "Closed")
      }))
  })

  it.effect("never has more than maxConnections, and multiplexes only with maxRequests", () =>
    Effect.gen(function*() {
      const { connect, opened } = yield* applications()
      const pool = yield* FastCgiPool.make({ connect, keepConnection: true, maxConnections: 4 })
      const texts = yield* Effect.forEach(Array.from({ length: 64 }), () => asked(pool))
      for (let served = 0; served < 64;) {
        assert.isAtMost(opened.length, 4)
        for (const app of opened) {
          const begun = app.received.filter(({ _tag }) => _tag === "BeginRequest").length
          const ended = app.received.filter((record) => record._tag === "Stdin" && record.content.length === 0).length
          if (begun > ended) continue
          yield* app.send(...answer(1, "\r\nx"))
          yield* turns
          served++
        }
      }
      assert.isTrue((yield* Effect.forEach(texts, Fiber.join)).every((text) => text === "\r\nx"))
    }))

  it.effect("closes a connection behind its last request, which says that it is the last", () =>
    Effect.gen(function*() {
      const { connect, nth, opened } = yield* applications()
      const pool = yield* FastCgiPool.make({ connect, keepConnection: true, maxRequestsPerConnection: 2 })
      for (const [n, request] of [[1, 1], [1, 2], [2, 1]]) {
        const text = yield* asked(pool)
        yield* serve(yield* nth(n), request, "x")
        yield* Fiber.join(text)
      }
      const [app] = opened
      yield* app.untilEnd
      const keeps = app.received.flatMap((record) => record._tag === "BeginRequest" ? [record.flags] : [])
      assert.deepStrictEqual(keeps, [1, 0])
    }))

  it.effect("ends those on a multiplexed connection before it closes it behind the last", () =>
    Effect.gen(function*() {
      const { connect, nth, opened } = yield* applications()
      const pool = yield* FastCgiPool.make({
        connect,
        keepConnection: true,
        maxRequests: 8,
        maxRequestsPerConnection: 2
      })
      const texts = yield* Effect.forEach([1, 2, 3], () => asked(pool))
      const app = yield* nth(1)
      yield* untilRequest(app, 2)
      yield* app.send(...answer(2, "\r\n2"))
      yield* turns
      assert.isFalse(app.client.closedUnsafe())
      yield* app.send(...answer(1, "\r\n1"))
      yield* app.untilEnd
      yield* serve(yield* nth(2), 1, "3")
      assert.deepStrictEqual(yield* Effect.forEach(texts, Fiber.join), ["\r\n1", "\r\n2", "\r\n3"])
      assert.strictEqual(opened.length, 2)
    }))

  it.effect("has minIdle connections ready, and another for each that is lost", () =>
    Effect.gen(function*() {
      const { connect, opened } = yield* applications()
      let refused = false
      const pool = yield* FastCgiPool.make({
        connect: Effect.suspend(() => refused ? Effect.fail("refused") : connect),
        keepConnection: true,
        minIdle: 2
      })
      yield* turns
      assert.strictEqual(opened.length, 2)
      yield* opened[0].close
      yield* turns
      assert.strictEqual(opened.length, 3)
      refused = true
      yield* opened[1].close
      yield* turns
      refused = false
      assert.deepInclude(pool.statesUnsafe()[0], { connections: 1, idle: 1, opening: 0 })
      yield* TestClock.adjust("1 seconds")
      yield* turns
      assert.strictEqual(opened.length, 4)
      assert.deepInclude(pool.statesUnsafe()[0], { connections: 2, idle: 2 })
    }))

  it.effect("closes an idle connection for one whose application has no worker for it", () =>
    Effect.gen(function*() {
      const { connect, nth } = yield* applications()
      const pool = yield* FastCgiPool.make({ connect, keepConnection: true })
      const first = yield* asked(pool)
      yield* asked(pool)
      yield* untilRequest(yield* nth(2), 1)
      const app = yield* nth(1)
      yield* serve(app, 1, "1")
      yield* Fiber.join(first)
      yield* TestClock.adjust("99 millis")
      assert.isFalse(app.client.closedUnsafe())
      yield* TestClock.adjust("1 millis")
      yield* app.untilEnd
    }))

  describe("with several upstreams", () => {
    const several = Effect.fnUntraced(function*(options?: Partial<FastCgiPool.FastCgiPoolOptions<string>>) {
      const [a, b] = [yield* applications(), yield* applications()]
      const refuses = { a: false, b: false }
      const lines: Array<string> = []
      const logger = Logger.make(({ message }) => {
        lines.push(String(message))
      })
      const pool = yield* Effect.provide(
        FastCgiPool.make<string>({
          connect: [
            { name: "a", connect: Effect.suspend(() => refuses.a ? Effect.fail("a refuses") : a.connect) },
            { name: "b", connect: Effect.suspend(() => refuses.b ? Effect.fail("b refuses") : b.connect) }
          ],
          keepConnection: true,
          ...options
        }),
        Logger.layer([logger])
      )
      return { pool, a, b, refuses, lines }
    })

    it.effect("goes to the next where one cannot be reached, and asks that one again after failTimeout", () =>
      Effect.gen(function*() {
        const { a, b, lines, pool, refuses } = yield* several()
        refuses.a = true
        const first = yield* asked(pool, post)
        yield* serve(yield* b.nth(1), 1, "b")
        assert.strictEqual(yield* Fiber.join(first), "\r\nb")
        assert.deepStrictEqual(pool.statesUnsafe().map(({ name, usable }) => [name, usable]), [
          ["a", false],
          ["b", true]
        ])
        assert.deepStrictEqual(lines, ["the FastCGI upstream a has failed, and gets no requests for a while"])
        refuses.a = false
        const second = yield* asked(pool)
        yield* serve(yield* b.nth(1), 2, "b")
        yield* Fiber.join(second)
        assert.strictEqual(a.opened.length, 0)
        yield* TestClock.adjust("10001 millis")
        // One of the next tries it.
        const next = yield* Effect.forEach([1, 2], () => asked(pool))
        yield* serve(yield* a.nth(1), 1, "a")
        yield* serve(yield* b.nth(1), 3, "b")
        assert.deepStrictEqual((yield* Effect.forEach(next, Fiber.join)).toSorted(), ["\r\na", "\r\nb"])
        assert.isTrue(pool.statesUnsafe()[0].usable)
        assert.deepStrictEqual(lines.slice(1), ["the FastCGI upstream a gets requests again"])
      }))

    it.effect("fails with the last error where none can be reached, and then tries all of them again", () =>
      Effect.gen(function*() {
        const { a, pool, refuses } = yield* several()
        refuses.a = refuses.b = true
        for (let i = 0; i < 3; i++) {
          const error = yield* Effect.flip(Effect.scoped(pool.request({ params })))
          assert.strictEqual(error.reason._tag, "ConnectFailed")
          assert.match(error.message, /[ab] refuses/)
        }
        refuses.a = false
        const text = yield* asked(pool)
        yield* serve(yield* a.nth(1), 1, "a")
        assert.strictEqual(yield* Fiber.join(text), "\r\na")
      }))

    it.effect("sends what is lost before its answer to another, where it may run twice", () =>
      Effect.gen(function*() {
        const { a, b, pool } = yield* several()
        const text = yield* asked(pool)
        const app = yield* a.nth(1)
        yield* untilRequest(app)
        yield* app.close
        yield* serve(yield* b.nth(1), 1, "b")
        assert.strictEqual(yield* Fiber.join(text), "\r\nb")
        assert.isFalse(pool.statesUnsafe()[0].usable)
      }))

    it.effect("and what one refuses as overloaded, whatever it is, once to each", () =>
      Effect.gen(function*() {
        const { a, b, pool } = yield* several()
        const http = yield* FastCgiHttpClient.fromPool(pool)
        for (const n of [1, 2]) {
          const exit = yield* Effect.forkScoped(
            Effect.exit(Effect.flatMap(http.post(url), (response) => response.text))
          )
          const [first, second] = n === 1 ? [a, b] : [b, a]
          const overloaded = Record.endRequest(1, 0, Record.ProtocolStatus.Overloaded)
          const app = yield* first.nth(1)
          yield* untilRequest(app, n)
          yield* app.send(overloaded)
          const other = yield* second.nth(1)
          yield* untilRequest(other, n)
          if (n === 1) yield* other.send(...answer(1, "\r\nok"))
          else yield* other.send(overloaded)
          if (n === 1) assert.deepStrictEqual(yield* Fiber.join(exit), Exit.succeed("ok"))
          else assert.strictEqual(httpReasonOf(yield* Fiber.join(exit)), "TransportError Overloaded")
          // So that a POST may go out on a kept connection.
          yield* TestClock.adjust("50 millis")
        }
      }))

    it.effect("leaves out one that does not answer in time", () =>
      Effect.gen(function*() {
        const { a, b, pool } = yield* several()
        const http = yield* FastCgiHttpClient.fromPool(pool, { headTimeout: "1 second" })
        const exit = yield* Effect.forkScoped(Effect.exit(http.get(url)))
        yield* untilRequest(yield* a.nth(1))
        yield* turns
        yield* TestClock.adjust("1 second")
        assert.strictEqual(httpReasonOf(yield* Fiber.join(exit)), "TransportError Timeout")
        assert.deepStrictEqual(pool.statesUnsafe().map(({ usable }) => usable), [false, true])
        assert.strictEqual(b.opened.length, 0)
      }))

    it.effect("pings them, each on a connection of its own, and leaves out one that is dead", () =>
      Effect.gen(function*() {
        const { a, b, lines, pool } = yield* several({ ping: { interval: "3 seconds", timeout: "1 second" } })
        const round = (n: number, ...answers: ReadonlyArray<string | undefined>) =>
          Effect.gen(function*() {
            // The one that was answered last time is sent a second before the other.
            yield* TestClock.adjust(n === 5 ? "2 seconds" : "3 seconds")
            for (const [i, stdout] of answers.entries()) {
              if (n === 5 && i === 1) yield* TestClock.adjust("1 second")
              const app = yield* (i === 0 ? a : b).nth(n)
              yield* untilRequest(app)
              assert.strictEqual(app.params(1).get("SCRIPT_NAME"), "/ping")
              if (stdout !== undefined) yield* app.send(...answer(1, stdout))
            }
            yield* turns
            if (answers.includes(undefined)) {
              yield* TestClock.adjust("1 second")
              yield* turns
            }
            return pool.statesUnsafe().map(({ usable }) => usable)
          })
        assert.deepStrictEqual(yield* round(1, "Status: 404\r\n\r\n", "\r\npong"), [true, true])
        assert.deepStrictEqual(yield* round(2, "Status: 500\r\n\r\n", "\r\npong"), [false, true])
        assert.deepStrictEqual(yield* round(3, "\r\npong", "no head\r\n\r\n"), [true, false])
        assert.deepStrictEqual(yield* round(4, "\r\npong", undefined), [true, false])
        assert.deepStrictEqual(yield* round(5, "\r\npong", "\r\n"), [true, true])
        assert.deepStrictEqual(lines, [
          "the FastCGI upstream a has failed, and gets no requests for a while",
          "the FastCGI upstream a gets requests again",
          "the FastCGI upstream b has failed, and gets no requests for a while",
          "the FastCGI upstream b gets requests again"
        ])
        assert.deepStrictEqual(pool.statesUnsafe().map(({ connections }) => connections), [0, 0])
      }))
  })

  describe("as FastCgiClient", () => {
    const lost = Effect.fnUntraced(function*(request: FastCgiClient.FastCgiClientRequest<never>) {
      const { connect, nth, opened } = yield* applications()
      const pool = yield* FastCgiPool.make({ connect, keepConnection: true })
      const text = yield* asked(pool, request)
      const app = yield* nth(1)
      yield* app.untilTag("BeginRequest")
      yield* turns
      yield* app.close
      yield* turns
      yield* TestClock.adjust("100 millis")
      return { text, nth, opened }
    })

    it.effect("sends a GET and an Authorizer's request again", () =>
      Effect.gen(function*() {
        for (const request of [{ params }, { role: Record.Role.Authorizer, params: [["A", "b"]] as const }]) {
          const { nth, text } = yield* lost(request)
          const app = yield* nth(2)
          yield* app.send(...answer(1, "\r\nagain"))
          assert.strictEqual(yield* Fiber.join(text), "\r\nagain")
        }
      }))

    it.effect("but no POST, none without a method, and no body that is streamed", () =>
      Effect.gen(function*() {
        for (
          const request of [
            post,
            { params: [["SCRIPT_NAME", "/"]] },
            { params, stdin: Stream.make(bytesOf("x")) }
          ] as ReadonlyArray<FastCgiClient.FastCgiClientRequest<never>>
        ) {
          const { opened, text } = yield* lost(request)
          assert.strictEqual(reasonOf(yield* Fiber.await(text)), "ConnectionLost")
          assert.strictEqual(opened.length, 1)
        }
      }))

    it.effect("returns what may run twice with the first of its answer, or its end, and anything else at once", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const pool = yield* FastCgiPool.make({ connect })
        const { stdout } = yield* pool.request(post)
        yield* (yield* nth(1)).send(...answer(1, "\r\nlater"))
        assert.strictEqual(yield* textOfStream(stdout), "\r\nlater")
        const get = yield* Effect.forkScoped(pool.request({ params: FastCgiParams.fromEntries(params) }))
        const app = yield* nth(2)
        yield* turns
        assert.isUndefined(get.pollUnsafe())
        yield* app.send(Record.stdout(1, bytesOf("\r\nfir")))
        const first = yield* Fiber.join(get)
        yield* app.send(Record.stdout(1, bytesOf("st")), Record.endRequest(1, 3))
        assert.strictEqual(yield* textOfStream(first.stdout), "\r\nfirst")
        assert.deepStrictEqual(yield* first.end, { appStatus: 3, protocolStatus: 0 })
        const none = yield* Effect.forkScoped(pool.request({ params }))
        yield* (yield* nth(3)).send(Record.endRequest(1, 4))
        assert.deepStrictEqual(yield* (yield* Fiber.join(none)).end, { appStatus: 4, protocolStatus: 0 })
      }))

    it.effect("is a service, with a pool of its own or a shared one", () =>
      Effect.gen(function*() {
        const { connect, nth, opened } = yield* applications()
        const options = { connect, keepConnection: true, maxConnections: 1 }
        const program = Effect.gen(function*() {
          const text = yield* asked(yield* FastCgiClient.FastCgiClient)
          yield* serve(yield* nth(opened.length || 1), 1, "x")
          return yield* Fiber.join(text)
        }).pipe(Effect.scoped)
        assert.strictEqual(yield* Effect.provide(program, FastCgiClient.layer(options)), "\r\nx")
        const shared = Layer.provideMerge(FastCgiClient.layerFromPool, FastCgiPool.layer(options))
        yield* Effect.gen(function*() {
          const text = yield* asked(yield* FastCgiClient.FastCgiClient)
          yield* serve(yield* nth(2), 1, "x")
          yield* Fiber.join(text)
          assert.deepInclude((yield* FastCgiPool.FastCgiPool).statesUnsafe()[0], { connections: 1, idle: 1 })
        }).pipe(Effect.provide(shared), Effect.scoped)
      }))
  })

  describe("traces", () => {
    // A span as a tracer of OpenTelemetry would make it.
    const spans: Array<Tracer.NativeSpan> = []
    const tracer = Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      }
    })
    const traced = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      effect.pipe(Effect.withSpan("parent"), Effect.provideService(Tracer.Tracer, tracer))

    it.effect("a request, and tells the application", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const pool = yield* FastCgiPool.make({ connect: [{ name: "a", connect }], keepConnection: true })
        const entries = [["REQUEST_METHOD", "GET"], ["SCRIPT_NAME", "/a"], ["HTTP_TRACEPARENT", "old"]] as const
        for (const [n, given] of [entries, FastCgiParams.fromEntries(entries)].entries()) {
          spans.length = 0
          const text = yield* Effect.forkScoped(traced(
            Effect.scoped(Effect.flatMap(pool.request({ params: given }), ({ stdout }) => textOfStream(stdout)))
          ))
          const app = yield* nth(1)
          yield* serve(app, n + 1, "x")
          yield* Fiber.join(text)
          const [parent, span] = spans
          assert.strictEqual(span.name, "fastcgi.request")
          assert.strictEqual(span.kind, "client")
          assert.strictEqual(span.traceId, parent.traceId)
          assert.strictEqual(span.status._tag, "Ended")
          assert.deepStrictEqual(Object.fromEntries(span.attributes), {
            "http.request.method": "GET",
            "url.path": "/a",
            "fastcgi.upstream": "a",
            "fastcgi.connection.reused": n === 1
          })
          const [begin] = app.received.filter(({ _tag }) => _tag === "BeginRequest").slice(-1)
          const at = app.received.indexOf(begin)
          const record = app.received.slice(at).find(({ _tag }) => _tag === "Params") as Record.Params
          const sent = FastCgiParams.fromBytes(record.content) as FastCgiParams.FastCgiParams
          assert.strictEqual(sent.get("HTTP_TRACEPARENT"), `00-${span.traceId}-${span.spanId}-01`)
        }
      }))

    it.effect("nothing where nobody does, and passes on what was given", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const pool = yield* FastCgiPool.make({ connect })
        const text = yield* asked(pool, { params: [...params, ["HTTP_TRACEPARENT", "given"]] })
        const app = yield* nth(1)
        yield* serve(app, 1, "x")
        yield* Fiber.join(text)
        assert.strictEqual(app.params(1).get("HTTP_TRACEPARENT"), "given")
      }))

    it.effect("the requests of an HttpClient with its own spans", () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const client = yield* FastCgiHttpClient.make({ connect })
        spans.length = 0
        const text = yield* Effect.forkScoped(traced(Effect.flatMap(client.get(url), (response) => response.text)))
        const app = yield* nth(1)
        yield* serve(app, 1, "x")
        yield* Fiber.join(text)
        const span = spans[1]
        assert.deepStrictEqual(spans.map(({ name }) => name), ["parent", "GET"])
        assert.strictEqual(app.params(1).get("HTTP_TRACEPARENT"), `00-${span.traceId}-${span.spanId}-01`)
      }))
  })

  it.effect("counts what there is, what there was, and how long it took", () =>
    Effect.gen(function*() {
      const { connect, nth } = yield* applications()
      let refused = false
      const slow = Effect.suspend(() => refused ? Effect.fail("refused") : Effect.delay(connect, "2 millis"))
      const pool = yield* FastCgiPool.make({
        connect: [{ name: "a", connect: slow }],
        keepConnection: true,
        maxConnections: 1,
        maxWaiting: 1
      })
      const http = yield* FastCgiHttpClient.fromPool(pool)
      const get = Effect.forkScoped(Effect.flatMap(http.get(url), (response) => response.text), {
        startImmediately: true
      })
      const first = yield* get
      const second = yield* get
      yield* Effect.exit(http.get(url))
      yield* TestClock.adjust("2 millis")
      const app = yield* nth(1)
      yield* untilRequest(app)
      const ofA = Metric.withAttributes({ upstream: "a" })
      const value = <A, S>(metric: Metric.Metric<A, S>) => Metric.value(metric)
      assert.strictEqual((yield* value(FastCgiClientMetrics.requestsWaiting)).value, 1)
      assert.strictEqual((yield* value(ofA(FastCgiClientMetrics.connections))).value, 1)
      assert.strictEqual((yield* value(ofA(FastCgiClientMetrics.requestsOpen))).value, 1)
      yield* TestClock.adjust("3 millis")
      yield* app.send(Record.stdout(1, bytesOf("\r\n1")))
      yield* turns
      yield* TestClock.adjust("4 millis")
      yield* app.send(Record.stdout(1), Record.endRequest(1))
      yield* untilRequest(app, 2)
      yield* app.close
      refused = true
      yield* Fiber.join(first)
      yield* Fiber.await(second)
      const times = (metric: Metric.Metric<number, Metric.HistogramState>) =>
        Effect.map(value(metric), ({ count, max, sum }) => [count, Math.round(max * 1000), Math.round(sum * 1000)])
      assert.deepStrictEqual(yield* times(ofA(FastCgiClientMetrics.connectTime)), [1, 2, 2])
      assert.deepStrictEqual(yield* times(ofA(FastCgiClientMetrics.headTime)), [1, 3, 3])
      assert.deepStrictEqual(yield* times(ofA(FastCgiClientMetrics.endTime)), [2, 7, 7])
      assert.deepStrictEqual(yield* times(FastCgiClientMetrics.waitTime), [1, 9, 9])
      const count = (metric: Metric.Counter<number>) => Effect.map(value(ofA(metric)), ({ count }) => count)
      assert.strictEqual(yield* count(FastCgiClientMetrics.requests), 2)
      assert.strictEqual(yield* count(FastCgiClientMetrics.requestsRepeated), 1)
      assert.strictEqual(yield* count(FastCgiClientMetrics.connectionsOpened), 1)
      assert.strictEqual(yield* count(FastCgiClientMetrics.connectFailures), 1)
      for (
        const gauge of [
          ofA(FastCgiClientMetrics.connections),
          ofA(FastCgiClientMetrics.connectionsIdle),
          ofA(FastCgiClientMetrics.requestsOpen),
          FastCgiClientMetrics.requestsWaiting
        ]
      ) assert.strictEqual((yield* value(gauge)).value, 0)
      assert.deepStrictEqual(
        Array.from((yield* value(ofA(FastCgiClientMetrics.failures))).occurrences),
        [["ConnectionLost", 1]]
      )
      assert.deepStrictEqual(
        Array.from((yield* value(FastCgiClientMetrics.failures)).occurrences),
        [["PoolFull", 1]]
      )
      const buckets = (yield* value(ofA(FastCgiClientMetrics.endTime))).buckets
      assert.deepStrictEqual(buckets.slice(0, 6).map(([, count]) => count), [1, 1, 1, 1, 2, 2])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))
})
