import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import * as FastCgiHttpClient from "../../src/client/FastCgiHttpClient.ts"
import * as FastCgiParams from "../../src/protocol/FastCgiParams.ts"
import * as Record from "../../src/protocol/FastCgiRecord.ts"
import { within } from "../support/within.ts"
import type * as Application from "./application.ts"
import { answer, bytesOf, make as makeApplication, textOf } from "./application.ts"
import { applications, reasonOf, untilRequest, url } from "./applications.ts"

describe("pools connections", () => {
  const serve = (app: Application.Application, n: number, body: string) =>
    Effect.andThen(untilRequest(app, n), app.send(...answer(1, `\r\n${body}`)))

  it.effect("and reuses the one that was used last", () =>
    Effect.gen(function*() {
      const { connect, nth, opened } = yield* applications()
      const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true })
      const text = Effect.forkScoped(Effect.flatMap(client.get(url), (response) => response.text))
      const first = yield* text
      const second = yield* text
      yield* serve(yield* nth(2), 1, "2")
      yield* Fiber.join(second)
      yield* serve(yield* nth(1), 1, "1")
      yield* Fiber.join(first)
      const third = yield* text
      yield* serve(yield* nth(1), 2, "3")
      assert.strictEqual(yield* Fiber.join(third), "3")
      assert.strictEqual(opened.length, 2)
    }))

  it.effect("and begins no request on one whose application says unasked that it takes no more", () =>
    Effect.gen(function*() {
      const { connect, nth, opened } = yield* applications()
      const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true, maxRequests: 10 })
      const text = Effect.forkScoped(Effect.flatMap(client.get(url), (response) => response.text))
      const first = yield* text
      const app = yield* nth(1)
      yield* untilRequest(app, 1)
      yield* app.send(Record.getValuesResult(FastCgiParams.encodePairs([["FCGI_MPXS_CONNS", "0"]])))
      yield* Effect.repeat(Effect.yieldNow, { times: 20 })
      const second = yield* text
      yield* serve(yield* nth(2), 1, "2")
      assert.strictEqual(yield* Fiber.join(second), "2")
      // What runs on it goes on, and is the last.
      yield* app.send(...answer(1, "\r\n1"))
      assert.strictEqual(yield* Fiber.join(first), "1")
      yield* app.untilEnd
      assert.strictEqual(opened.length, 2)
    }))

  it.effect("and forgets one that its application closes as soon as it is opened", () =>
    Effect.gen(function*() {
      let released = 0
      const connect = Effect.acquireRelease(
        Effect.gen(function*() {
          const app = yield* makeApplication()
          app.transport.destroyUnsafe()
          return app.client
        }),
        () => Effect.sync(() => released++)
      )
      const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true })
      for (const attempt of [1, 2, 3]) {
        const exit = yield* Effect.exit(client.post(url))
        assert.isTrue(Exit.isFailure(exit))
        yield* Effect.repeat(Effect.yieldNow, { times: 20 })
        assert.isAtLeast(released, attempt)
      }
    }))

  it.effect("and opens one for each request without keepConnection", () =>
    Effect.gen(function*() {
      const { connect, nth, opened } = yield* applications()
      const client = yield* FastCgiHttpClient.make({ connect })
      for (let i = 1; i <= 3; i++) {
        const fiber = yield* Effect.forkScoped(Effect.flatMap(client.get(url), (response) => response.text))
        const app = yield* nth(i)
        yield* serve(app, 1, String(i))
        assert.strictEqual(yield* Fiber.join(fiber), String(i))
        yield* app.untilEnd
      }
      assert.strictEqual(opened.length, 3)
    }))

  it.effect("and keeps no more than maxIdle of them, nor longer than idleTimeout", () =>
    Effect.gen(function*() {
      const { connect, nth } = yield* applications()
      const client = yield* FastCgiHttpClient.make({
        connect,
        keepConnection: true,
        maxIdle: 2,
        idleTimeout: "1 minute"
      })
      const fibers = yield* Effect.forEach([1, 2, 3], () =>
        Effect.forkScoped(Effect.flatMap(client.get(url), (response) => response.text)))
      const apps = yield* Effect.forEach([1, 2, 3], nth)
      for (const app of apps) {
        yield* serve(app, 1, "x")
      }
      yield* Effect.forEach(fibers, Fiber.join)
      yield* apps[0].untilEnd
      assert.isFalse(apps[1].client.closedUnsafe())
      assert.isFalse(apps[2].client.closedUnsafe())
      yield* TestClock.adjust("2 minutes")
      yield* apps[1].untilEnd
      yield* apps[2].untilEnd
    }))

  it.effect("and shares one between requests with maxRequests", () =>
    Effect.gen(function*() {
      const { connect, nth, opened } = yield* applications()
      const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true, maxRequests: 8 })
      const fibers = yield* Effect.forEach(Array.from({ length: 8 }, (_, i) => i), (i) =>
        Effect.forkScoped(Effect.flatMap(client.get(`http://x/${i}`), (response) => response.text)))
      const app = yield* nth(1)
      yield* untilRequest(app, 8)
      assert.strictEqual(opened.length, 1)
      for (let id = 8; id >= 1; id--) {
        yield* app.send(...answer(id, `\r\n${app.params(id).get("REQUEST_URI")}`))
      }
      assert.deepStrictEqual(
        yield* Effect.forEach(fibers, Fiber.join),
        Array.from({ length: 8 }, (_, i) =>
          `/${i}`)
      )
    }))

  it.effect("and opens one for all the requests that come while it is being opened, with maxRequests", () =>
    Effect.gen(function*() {
      const { connect, nth } = yield* applications()
      const gate = yield* Deferred.make<void>()
      let connects = 0
      const client = yield* FastCgiHttpClient.make({
        connect: Effect.suspend(() => {
          connects++
          return Effect.andThen(Deferred.await(gate), connect)
        }),
        keepConnection: true,
        maxRequests: 8
      })
      const fibers = yield* Effect.forEach(
        Array.from({ length: 8 }),
        () =>
          Effect.forkScoped(Effect.flatMap(client.get(url), (response) => response.text), { startImmediately: true })
      )
      yield* Deferred.done(gate, Exit.void)
      const app = yield* nth(1)
      yield* untilRequest(app, 8)
      for (let id = 1; id <= 8; id++) yield* app.send(...answer(id, "\r\nx"))
      yield* Effect.forEach(fibers, Fiber.join)
      assert.strictEqual(connects, 1)
    }))

  it.effect("and sends what may not run twice on one that has been idle for 50 ms, or on a new one in its place", () =>
    Effect.gen(function*() {
      const { connect, nth, opened } = yield* applications()
      const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true })
      const post = Effect.forkScoped(Effect.flatMap(client.post(url), (response) => response.text))
      const first = yield* post
      yield* serve(yield* nth(1), 1, "1")
      yield* Fiber.join(first)
      yield* TestClock.adjust("49 millis")
      const second = yield* post
      yield* serve(yield* nth(2), 1, "2")
      assert.strictEqual(yield* Fiber.join(second), "2")
      // php-fpm has a worker for each connection that is open, and perhaps no other.
      yield* (yield* nth(1)).untilEnd
      yield* TestClock.adjust("50 millis")
      const third = yield* post
      yield* serve(yield* nth(2), 2, "3")
      assert.strictEqual(yield* Fiber.join(third), "3")
      // A GET waits for nothing: it is sent again if it is lost.
      const fourth = yield* Effect.forkScoped(Effect.flatMap(client.get(url), (response) => response.text))
      yield* serve(yield* nth(2), 3, "4")
      assert.strictEqual(yield* Fiber.join(fourth), "4")
      assert.strictEqual(opened.length, 2)
    }))

  it.effect("and does so where the next request follows at once upon an answer that took its time", () =>
    Effect.gen(function*() {
      const { connect, nth, opened } = yield* applications()
      const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true })
      const post = Effect.flatMap(client.post(url), (response) => response.text)
      const both = yield* Effect.forkScoped(Effect.all([post, post]))
      const app = yield* nth(1)
      yield* untilRequest(app, 1)
      yield* TestClock.adjust("1 seconds")
      yield* app.send(...answer(1, "\r\n1"))
      yield* serve(yield* nth(2), 1, "2")
      assert.deepStrictEqual(yield* Fiber.join(both), ["1", "2"])
      assert.strictEqual(opened.length, 2)
    }))

  for (
    const [what, stdout] of [
      ["has all of its Content-Length", [Record.stdout(1, bytesOf("Content-Length: 1\r\n\r\nx"))]],
      ["has no body", [Record.stdout(1, bytesOf("Status: 204\r\n\r\n"))]],
      ["has the end of STDOUT", [Record.stdout(1, bytesOf("\r\nx")), Record.stdout(1)]]
    ] as const
  ) {
    it.effect(`and closes one whose answer ${what} and is not ended for 30 seconds`, () =>
      Effect.gen(function*() {
        const { connect, nth } = yield* applications()
        const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true })
        const text = yield* Effect.forkScoped(Effect.flatMap(client.get(url), (response) => response.text))
        const app = yield* nth(1)
        yield* untilRequest(app, 1)
        yield* app.send(...stdout)
        yield* Fiber.join(text)
        yield* TestClock.adjust("29 seconds")
        assert.isFalse(app.client.closedUnsafe())
        yield* TestClock.adjust("1 seconds")
        yield* app.untilEnd
      }))
  }

  it.effect("and keeps one whose answer is ended later than it is complete", () =>
    Effect.gen(function*() {
      const { connect, nth, opened } = yield* applications()
      const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true })
      const first = yield* Effect.forkScoped(Effect.flatMap(client.get(url), (response) => response.text))
      const app = yield* nth(1)
      yield* untilRequest(app, 1)
      yield* app.send(Record.stdout(1, bytesOf("Content-Length: 1\r\n\r\nx")))
      yield* Fiber.join(first)
      yield* TestClock.adjust("29 seconds")
      yield* app.send(Record.endRequest(1))
      yield* TestClock.adjust("1 seconds")
      const second = yield* Effect.forkScoped(Effect.flatMap(client.get(url), (response) => response.text))
      yield* serve(app, 2, "2")
      assert.strictEqual(yield* Fiber.join(second), "2")
      assert.strictEqual(opened.length, 1)
    }))

  it.effect("and closes one whose application sends more than 64 KiB behind its answer", () =>
    Effect.gen(function*() {
      const { connect, nth } = yield* applications()
      const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true })
      const text = yield* Effect.forkScoped(Effect.flatMap(client.get(url), (response) => response.text))
      const app = yield* nth(1)
      yield* untilRequest(app, 1)
      yield* app.send(Record.stdout(1, bytesOf("Content-Length: 1\r\n\r\nx")))
      assert.strictEqual(yield* Fiber.join(text), "x")
      yield* app.send(Record.stdout(1, new Uint8Array(32 * 1024)), Record.stdout(1, new Uint8Array(32 * 1024)))
      yield* Effect.repeat(Effect.yieldNow, { times: 20 })
      assert.isFalse(app.client.closedUnsafe())
      yield* app.send(Record.stdout(1, new Uint8Array(1)))
      yield* app.untilEnd
    }))

  for (const [repeats, maxRepeats] of [[0, 0], [1, undefined], [3, 3]] as const) {
    it.effect(`and sends a request again when its first connection dies, ${repeats} times with maxRepeats: ${maxRepeats}`, () =>
      Effect.gen(function*() {
        const { connect, nth, opened } = yield* applications()
        const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true, maxRepeats })
        const exit = yield* Effect.forkScoped(Effect.exit(client.get(url)))
        for (let n = 1; n <= repeats + 1; n++) {
          const app = yield* nth(n)
          yield* untilRequest(app)
          yield* app.close
          yield* Effect.repeat(Effect.yieldNow, { times: 20 })
          if (n > repeats) break
          yield* TestClock.adjust("99 millis")
          assert.strictEqual(opened.length, n)
          yield* TestClock.adjust("1 millis")
        }
        const died = within(() => "the failure of a request whose connections died")(Fiber.join(exit))
        assert.strictEqual(reasonOf(yield* died), "TransportError ConnectionLost")
        assert.strictEqual(opened.length, repeats + 1)
      }))
  }

  it.effect("and sends none of many that were lost together more often than one that was lost alone", () =>
    Effect.gen(function*() {
      const { connect, nth, opened } = yield* applications()
      const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true, maxConnections: 1, maxRequests: 8 })
      const exits = yield* Effect.forEach(
        Array.from({ length: 8 }),
        () => Effect.forkScoped(Effect.exit(client.get(url)))
      )
      // One of them ends the application each time.
      const close = (n: number): Effect.Effect<never> =>
        Effect.gen(function*() {
          const app = yield* nth(n)
          yield* Effect.repeat(Effect.yieldNow, { times: 20 })
          yield* app.close
          return yield* close(n + 1)
        })
      yield* Effect.forkScoped(close(1))
      yield* Effect.repeat(TestClock.adjust("100 millis"), {
        while: () => exits.some((exit) => exit.pollUnsafe() === undefined)
      }).pipe(within(() => "the failures of requests whose connections died"))
      for (const exit of exits) assert.strictEqual(reasonOf(yield* Fiber.join(exit)), "TransportError ConnectionLost")
      const sent = opened.flatMap(({ received }) => received.filter(({ _tag }) => _tag === "BeginRequest"))
      assert.isAtMost(sent.length, 8 * 3)
    }))

  it.effect("but not what may not run twice", () =>
    Effect.gen(function*() {
      const { connect, nth, opened } = yield* applications()
      const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true })
      const exit = yield* Effect.forkScoped(Effect.exit(client.post(url)))
      const app = yield* nth(1)
      yield* untilRequest(app, 1)
      yield* app.close
      assert.strictEqual(reasonOf(yield* Fiber.join(exit)), "TransportError ConnectionLost")
      assert.strictEqual(opened.length, 1)
    }))

  // An application that closes a kept connection when the second request arrives.
  const dying = (request: HttpClientRequest.HttpClientRequest, before: ReadonlyArray<Record.FastCgiRecord>) =>
    Effect.gen(function*() {
      const { connect, nth, opened } = yield* applications()
      const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true })
      const first = yield* Effect.forkScoped(Effect.flatMap(client.get(url), (response) => response.text))
      const app = yield* nth(1)
      yield* serve(app, 1, "first")
      yield* Fiber.join(first)
      // Long enough for what may not run twice.
      yield* TestClock.adjust("50 millis")
      const second = yield* Effect.forkScoped(
        Effect.exit(Effect.flatMap(client.execute(request), (response) => response.text))
      )
      yield* app.untilTag("BeginRequest", 2)
      yield* app.send(...before)
      yield* app.close
      return { second, opened, nth }
    })

  it.effect("and sends a request again when a kept connection died under it", () =>
    Effect.gen(function*() {
      const put = HttpClientRequest.put(url, { body: HttpBody.text("again") })
      const { nth, second } = yield* dying(put, [])
      const fresh = yield* nth(2)
      yield* untilRequest(fresh)
      assert.strictEqual(textOf(fresh.stdin(1)), "again")
      yield* fresh.send(...answer(1, "\r\nfine"))
      assert.deepStrictEqual(yield* Fiber.join(second), Exit.succeed("fine"))
    }))

  it.effect("and once more where the new one dies as well, but not for ever", () =>
    Effect.gen(function*() {
      const { nth, opened, second } = yield* dying(HttpClientRequest.get(url), [])
      for (const n of [2, 3]) {
        const fresh = yield* nth(n)
        yield* untilRequest(fresh)
        yield* fresh.close
        yield* Effect.repeat(Effect.yieldNow, { times: 20 })
        yield* TestClock.adjust("100 millis")
      }
      assert.strictEqual(reasonOf(yield* Fiber.join(second)), "TransportError ConnectionLost")
      assert.strictEqual(opened.length, 3)
    }))

  for (
    const [name, request, before] of [
      ["a POST", HttpClientRequest.post(url), []],
      ["a streamed body", HttpClientRequest.put(url, { body: HttpBody.stream(Stream.make(bytesOf("once"))) }), []],
      ["a request that has had output", HttpClientRequest.get(url), [Record.stdout(1, bytesOf("Sta"))]]
    ] as const
  ) {
    it.effect(`but never ${name}`, () =>
      Effect.gen(function*() {
        const { opened, second } = yield* dying(request, before)
        assert.match(reasonOf(yield* Fiber.join(second))!, /TransportError (ConnectionLost|Truncated)/)
        assert.strictEqual(opened.length, 1)
      }))
  }

  it.effect("and never uses one that was closed while idle", () =>
    Effect.gen(function*() {
      const { connect, nth } = yield* applications()
      const client = yield* FastCgiHttpClient.make({ connect, keepConnection: true })
      const first = yield* Effect.forkScoped(Effect.flatMap(client.get(url), (response) => response.text))
      const app = yield* nth(1)
      yield* serve(app, 1, "first")
      yield* Fiber.join(first)
      yield* app.close
      yield* app.untilEnd
      const second = yield* Effect.forkScoped(Effect.flatMap(client.post(url), (response) => response.text))
      yield* serve(yield* nth(2), 1, "second")
      assert.strictEqual(yield* Fiber.join(second), "second")
    }))
})
