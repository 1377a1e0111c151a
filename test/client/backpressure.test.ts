import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import * as FastCgiClient from "../../src/client/FastCgiClient.ts"
import type { FastCgiClientError } from "../../src/client/FastCgiClientError.ts"
import { InputStream } from "../../src/connection/internal/inputStream.ts"
import * as Record from "../../src/protocol/FastCgiRecord.ts"
import * as Application from "./application.ts"
import { answer, params, reasonOf, textOfStream } from "./application.ts"

describe("backpressure", () => {
  const chunk = new Uint8Array(16 * 1024)

  it.effect("stops reading while an answer is not read, and delivers all of it afterwards", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const response = yield* client.request({ params })
      const total = 256
      yield* app.send(...Array.from({ length: total }, () => Record.stdout(1, chunk)), Record.endRequest(1))
      // The client takes what it may hold; the rest stays pending at the application.
      yield* settled(() => app.transport.pendingUnsafe())
      const taken = total * chunk.length - app.transport.pendingUnsafe()
      assert.isAbove(taken, 256 * 1024)
      assert.isBelow(taken, 600 * 1024)
      const size = yield* Stream.runFold(response.stdout, () => 0, (size, bytes) => size + bytes.length)
      assert.strictEqual(size, total * chunk.length)
    }))

  for (const way of ["half-closes", "closes"] as const) {
    it.effect(`delivers all of an answer that is read late, although its application ${way} behind it`, () =>
      Effect.gen(function*() {
        const app = yield* Application.make()
        const client = yield* FastCgiClient.make(app)
        const response = yield* client.request({ params })
        yield* app.untilTag("Stdin")
        const total = 100
        yield* app.send(...Array.from({ length: total }, () => Record.stdout(1, chunk)), Record.endRequest(1))
        yield* way === "closes" ? Effect.sync(() => app.transport.destroyUnsafe()) : app.close
        yield* settled(() => app.transport.pendingUnsafe())
        const size = yield* Stream.runFold(response.stdout, () => 0, (size, bytes) => size + bytes.length)
        assert.strictEqual(size, total * chunk.length)
        assert.deepStrictEqual(yield* response.end, { appStatus: 0, protocolStatus: 0 })
      }))
  }

  it.effect("the body waits while the application does not read it", () =>
    Effect.gen(function*() {
      const app = yield* Application.make({ reading: false })
      const client = yield* FastCgiClient.make(app)
      let produced = 0
      yield* client.request({
        params,
        stdin: Stream.fromEffectRepeat(Effect.sync(() => {
          produced += chunk.length
          return chunk
        }))
      })
      yield* settled(() => produced)
      assert.isBelow(produced, 1024 * 1024)
      assert.isAbove(produced, 128 * 1024)
    }))

  it.effect("on a multiplexed connection, a sleeping reader does not hold others up below the budget", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make({ ...app, maxRequests: 2 })
      yield* client.request({ params })
      const second = yield* client.request({ params })
      yield* app.send(...Array.from({ length: 40 }, () => Record.stdout(1, chunk)), ...answer(2, "at once"))
      assert.strictEqual(yield* textOfStream(second.stdout), "at once")
    }))

  it.effect("beyond the budget the sleeping request is aborted after stallTimeout, and the others go on", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make({ ...app, maxRequests: 2, stallTimeout: "30 seconds" })
      const sleeping = yield* client.request({ params })
      const second = yield* client.request({ params })
      yield* app.send(...Array.from({ length: 100 }, () => Record.stdout(1, chunk)), ...answer(2, "later"))
      yield* settled(() => app.transport.pendingUnsafe())
      assert.isAbove(app.transport.pendingUnsafe(), 0)
      yield* TestClock.adjust("29 seconds")
      assert.isFalse(app.received.some((record) => record._tag === "AbortRequest"))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* textOfStream(second.stdout), "later")
      assert.strictEqual((yield* app.untilTag("AbortRequest")).requestId, 1)
      assert.strictEqual(reasonOf(yield* Effect.exit(Stream.runDrain(sleeping.stdout))), "Stalled")
    }))

  it.effect("an answer that has ended holds nobody up, read or not", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const first = yield* client.request({ params })
      yield* app.send(...Array.from({ length: 16 }, () => Record.stdout(1, chunk)), Record.endRequest(1))
      yield* first.end
      const second = yield* client.request({ params })
      yield* app.send(...answer(1, "second"))
      assert.strictEqual(yield* textOfStream(second.stdout), "second")
      const size = yield* Stream.runFold(first.stdout, () => 0, (size, bytes) => size + bytes.length)
      assert.strictEqual(size, 16 * chunk.length)
    }))

  it.effect("what is not read keeps no more than four times its size in memory, whatever the reads were", () =>
    Effect.gen(function*() {
      for (const size of [1, 1024, 1025, 4096, 8192, 16_383, 16_384, 65_535]) {
        const buffer = new InputStream<FastCgiClientError>({
          onConsumed: () => {},
          onAwaited: () => {},
          onTouched: () => {}
        })
        let unread = 0
        while (unread < 256 * 1024) {
          // A fragment of a read of 64 KiB whose rest was for nobody.
          buffer.offer(new Uint8Array(64 * 1024).subarray(0, size))
          unread += size
          if (size === 1 && unread === 20_000) break
        }
        const chunks = yield* buffer.pull
        const kept = new Set(chunks.map((chunk) => chunk.buffer))
        const bytes = Array.from(kept).reduce((sum, { byteLength }) => sum + byteLength, 0)
        assert.strictEqual(chunks.reduce((sum, chunk) => sum + chunk.length, 0), unread)
        assert.isAtMost(bytes, 4 * unread + 4096, `fragments of ${size} bytes`)
      }
    }))

  it.effect("STDERR that nobody reads is bounded and holds nothing up", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const response = yield* client.request({ params })
      yield* app.send(...Array.from({ length: 200 }, () => Record.stderr(1, chunk)), ...answer(1, "ok"))
      assert.strictEqual(yield* textOfStream(response.stdout), "ok")
      const kept = yield* Stream.runFold(response.stderr, () => 0, (size, bytes) => size + bytes.length)
      assert.isAtMost(kept, 96 * 1024)
      assert.isAtLeast(kept, 64 * 1024)
    }))
})

// Waits until a number has stopped changing for a while of the scheduler's turns.
const settled = (value: () => number) =>
  Effect.gen(function*() {
    let last = NaN
    for (let same = 0; same < 50;) {
      yield* Effect.yieldNow
      const now = value()
      same = now === last ? same + 1 : 0
      last = now
    }
  })
