/**
 * What a request that does not read costs: the others on its connection, the memory of the server, and itself.
 */
import { assert, describe } from "@effect/vitest"
import { FastCgiEncoder, FastCgiRecord as R, FastCgiResponse } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { held } from "../server/support/memory.ts"
import {
  bytes,
  connect,
  type Handlers,
  opening,
  page,
  type Peer,
  play,
  serve,
  settle,
  takeLogs
} from "../server/support/serving.ts"
import { concat } from "../server/support/wire.ts"

const KiB = 1024
const MiB = 1024 * 1024
const GiB = 1024 * 1024 * 1024

const gate = Latch.makeUnsafe()

/** Reads its body, some requests after the gate has opened, and says how much that was. */
const handlers: Handlers = {
  responder: (request) =>
    Effect.gen(function*() {
      if (request.params.get("WAIT") !== undefined) yield* gate.await
      let size = 0
      yield* Stream.runForEachArray(request.stdin, (chunks) =>
        Effect.sync(() => {
          for (const chunk of chunks) size += chunk.length
        }))
      return FastCgiResponse.make(`${size} bytes`)
    }).pipe(Effect.catch((error) => Effect.succeed(FastCgiResponse.make(error.reason._tag))))
}

const waits = { params: { WAIT: "1" } }

const stdin = (id: number, size: number) => FastCgiEncoder.encode(R.stdin(id, bytes(size)))

/** Sends, and waits until the server has taken it all. */
const sendAll = (peer: Peer, content: Uint8Array) =>
  Effect.gen(function*() {
    yield* peer.sendBytes(content)
    while ((yield* peer.pending) > 0) yield* Effect.yieldNow
  })

/** Turns of the scheduler until a body of 100 KiB has been sent and answered. */
const turns = (peer: Peer, id: number) =>
  Effect.gen(function*() {
    const body = stdin(id, 10 * KiB)
    const reply = yield* Effect.forkChild(peer.reply(id), { startImmediately: true })
    yield* peer.send(...opening(id))
    for (let i = 0; i < 10; i++) yield* peer.sendBytes(body)
    yield* peer.send(R.stdin(id))
    let count = 0
    for (; reply.pollUnsafe() === undefined; count++) yield* Effect.yieldNow
    assert.strictEqual((yield* Fiber.join(reply)).stdout, page(`${100 * KiB} bytes`))
    return count
  })

describe("a request that does not read", () => {
  play(
    "lets its sibling finish within twice the time that it takes alone, until the budget is full",
    serve(handlers),
    () =>
      Effect.gen(function*() {
        gate.closeUnsafe()
        const alone = yield* turns(yield* connect, 1)
        const peer = yield* connect
        yield* peer.send(...opening(1, waits))
        const body = stdin(1, 20 * KiB)
        for (let unread = 0; unread < 880; unread += 20) {
          // The stalled request's own input is in the way, as much as what the sibling sends.
          yield* sendAll(peer, body)
          assert.isAtMost(yield* turns(peer, 2), 2 * alone, `${unread} KiB unread`)
        }
        gate.openUnsafe()
        yield* peer.send(R.stdin(1))
        assert.strictEqual((yield* peer.reply(1)).stdout, page(`${880 * KiB} bytes`))
      })
  )

  play(
    "lets its sibling finish within twice the time that it takes alone, once the deadline is over",
    serve(handlers, { stallTimeout: "30 seconds" }),
    () =>
      Effect.gen(function*() {
        gate.closeUnsafe()
        const alone = yield* turns(yield* connect, 1)
        const peer = yield* connect
        yield* peer.send(...opening(1, waits), ...opening(3))
        for (let sent = 0; sent < 2 * MiB; sent += 50 * KiB) yield* peer.sendBytes(stdin(1, 50 * KiB))
        yield* settle
        assert.isAbove(yield* peer.pending, 0)
        yield* TestClock.adjust("30 seconds")
        yield* settle
        assert.strictEqual(yield* peer.pending, 0)
        assert.isAtMost(yield* turns(peer, 2), 2 * alone)
        assert.match((yield* takeLogs)[0].message, /held up the other requests/)
        gate.openUnsafe()
        yield* peer.send(R.stdin(1), R.stdin(3))
        assert.strictEqual((yield* peer.reply(1)).stdout, page("InputDiscarded"))
        assert.strictEqual((yield* peer.reply(3)).stdout, page("0 bytes"))
      })
  )

  // Fragments that a web server sends, and those that would keep the most memory for what is counted.
  const shapes: ReadonlyArray<readonly [string, () => Uint8Array]> = [
    ["records of 8 KiB, alone in their reads", () => stdin(1, 8184)],
    ["records of 65535 bytes", () => stdin(1, 65_535)],
    ["reads of which an eighth is its input", () => concat([stdin(1, 8192), stdin(999, 65_536 - 8192 - 16)])],
    [
      "one-byte records behind one of 8 KiB",
      () => concat([stdin(1, 8192), ...Array.from({ length: 6000 }, () => stdin(1, 1))])
    ],
    ["one-byte records", () => concat(Array.from({ length: 8000 }, () => stdin(1, 1)))]
  ]
  for (const [shape, make] of shapes) {
    play(
      `holds no more memory than its budget and a constant, in ${shape}`,
      serve(handlers, { maxBufferedInput: MiB }),
      () =>
        Effect.gen(function*() {
          gate.closeUnsafe()
          const peer = yield* connect
          yield* peer.send(...opening(1, waits), ...opening(2))
          yield* settle
          const chunk = make()
          const before = held()
          for (let i = 0; i < 1000 && (yield* peer.pending) === 0; i++) {
            yield* peer.sendBytes(chunk.slice())
            yield* settle
          }
          // What waits in the transport is the web server's.
          const grown = held() - before - (yield* peer.pending) - 64 * KiB
          // A seventh more than what is counted, and a read.
          assert.isAtMost(grown, MiB * 8 / 7 + 256 * KiB)
          gate.openUnsafe()
          yield* settle
        })
    )
  }
})

describe("a request alone on its connection", () => {
  play(
    "that does not read for an hour gets every byte of 1 GiB",
    serve({
      responder: (request) =>
        Effect.gen(function*() {
          yield* Effect.sleep("1 hour")
          let size = 0
          let sum = 0
          yield* Stream.runForEachArray(request.stdin, (chunks) =>
            Effect.sync(() => {
              for (const chunk of chunks) {
                // The first and the last byte of each, so that bytes out of place do not go unseen.
                sum = (sum * 31 + chunk[0] + chunk[chunk.length - 1]) >>> 0
                size += chunk.length
              }
            }))
          return FastCgiResponse.make(`${size} bytes, ${sum}`)
        })
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1))
        // The same record all over again: what is measured is the server, not the making of bytes.
        const record = stdin(1, 64 * KiB - 16)
        let sent = 0
        for (let i = 0; i < 64; i++) {
          yield* peer.sendBytes(record)
          yield* settle
          sent += 64 * KiB - 16
        }
        assert.isAbove(yield* peer.pending, 2 * MiB)
        yield* TestClock.adjust("59 minutes")
        yield* settle
        assert.isAbove(yield* peer.pending, 2 * MiB)
        yield* TestClock.adjust("1 minutes")
        const before = held()
        for (; sent < GiB; sent += 64 * KiB - 16) yield* sendAll(peer, record)
        assert.isBelow(held() - before, MiB)
        yield* peer.send(R.stdin(1))
        assert.match((yield* peer.reply()).stdout, new RegExp(`\r\n\r\n${sent} bytes, `))
        assert.isAtLeast(sent, GiB)
      })
  )

  const ends: Array<string> = []
  const watched = serve({
    responder: () =>
      Effect.onExit(Effect.never, (exit) =>
        Effect.sync(() => {
          ends.push(Exit.hasInterrupts(exit) ? "interrupted" : exit._tag)
        }))
  })
  play(
    "is interrupted when its peer ends behind what it has not read, on a connection that is kept",
    watched,
    () =>
      Effect.gen(function*() {
        for (const how of ["end", "close", "reset"] as const) {
          ends.length = 0
          const peer = yield* connect
          yield* peer.send(...opening(1))
          for (let i = 0; i < 80; i++) yield* peer.sendBytes(stdin(1, 10 * KiB))
          yield* settle
          yield* peer[how]
          yield* settle
          assert.deepStrictEqual(ends, ["interrupted"], how)
        }
      })
  )

  play(
    "is interrupted when its peer ends behind what it has not read for a second, on one that is not",
    watched,
    () =>
      Effect.gen(function*() {
        ends.length = 0
        const peer = yield* connect
        yield* peer.send(...opening(1, { keepConnection: false }))
        for (let i = 0; i < 80; i++) yield* peer.sendBytes(stdin(1, 10 * KiB))
        yield* peer.end
        yield* settle
        assert.deepStrictEqual(ends, [])
        yield* TestClock.adjust("1 second")
        yield* settle
        assert.deepStrictEqual(ends, ["interrupted"])
      })
  )

  play(
    "holds up nobody on its connection while it is within the budget, although the peer has not asked whether it may multiplex",
    serve({
      responder: (request) => request.requestId === 1 ? Effect.never : Effect.succeed(FastCgiResponse.make("beside"))
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1))
        for (let i = 0; i < 20; i++) yield* peer.sendBytes(stdin(1, 10 * KiB))
        for (let id = 2; id < 10; id++) {
          yield* peer.send(...opening(id), R.stdin(id))
          assert.strictEqual((yield* peer.reply(id)).stdout, page("beside"))
        }
      })
  )

  play("is interrupted by ABORT_REQUEST behind what it has not read", watched, () =>
    Effect.gen(function*() {
      ends.length = 0
      const peer = yield* connect
      yield* peer.send(...opening(1))
      for (let i = 0; i < 80; i++) yield* peer.sendBytes(stdin(1, 10 * KiB))
      yield* peer.send(R.abortRequest(1))
      assert.strictEqual((yield* peer.reply()).appStatus, 1)
      assert.deepStrictEqual(ends, ["interrupted"])
    }))

  play(
    "is interrupted whatever it has not read when its peer closes, as over a UNIX socket",
    watched,
    () =>
      Effect.gen(function*() {
        ends.length = 0
        const peer = yield* connect
        yield* peer.send(...opening(1))
        for (let i = 0; i < 1000; i++) yield* peer.sendBytes(stdin(1, 10 * KiB))
        yield* settle
        assert.isAbove(yield* peer.pending, 8 * MiB)
        yield* peer.close
        yield* settle
        assert.deepStrictEqual(ends, ["interrupted"])
      })
  )
})
