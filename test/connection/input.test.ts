/**
 * What arrives for handlers: fragments, backpressure without windows (docs/architecture.md, Input), and lengths.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiEncoder, FastCgiParams, FastCgiRecord as R, FastCgiRequestError, FastCgiResponse } from "effect-fastcgi"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { InputStream } from "../../src/connection/internal/inputStream.ts"
import { cut, oneByOne, random } from "../protocol/support/cuts.ts"
import {
  bytes,
  connect,
  exchange,
  getParams,
  type Handlers,
  opening,
  page,
  play,
  question,
  received,
  type Record,
  serve,
  settle,
  takeLogs
} from "../server/support/serving.ts"
import { allBytes, concat, readRecords } from "../server/support/wire.ts"

const KiB = 1024
const MiB = 1024 * 1024

const text = (content: string) => new TextEncoder().encode(content)

const encode = (records: ReadonlyArray<Record>) => concat(records.map((record) => FastCgiEncoder.encode(record)))

/** Reads STDIN to its end or failure: how many bytes came, and how it ended. */
const measure = (stdin: Stream.Stream<Uint8Array, FastCgiRequestError.FastCgiRequestError>) =>
  Effect.suspend(() => {
    let size = 0
    return Stream.runForEach(stdin, (chunk) =>
      Effect.sync(() => {
        size += chunk.length
      })).pipe(
        Effect.match({
          onFailure: (error) => `${size} ${error.reason._tag}`,
          onSuccess: () => `${size} complete`
        })
      )
  })

describe("a conversation", () => {
  const handlers: Handlers = {
    responder: (request) =>
      Effect.gen(function*() {
        const body = yield* Stream.mkUint8Array(request.stdin)
        return FastCgiResponse.make(`${request.params.get("REQUEST_URI")} ${new TextDecoder().decode(body)}`)
      }).pipe(Effect.catch((error) => Effect.succeed(FastCgiResponse.make(error.reason._tag)))),
    authorizer: (request) => Effect.succeed(FastCgiResponse.allow({ WHO: request.params.get("WHO") ?? "" })),
    filter: (request) =>
      Effect.gen(function*() {
        const stdin = yield* Stream.mkUint8Array(request.stdin)
        const data = yield* Stream.mkUint8Array(request.data)
        return FastCgiResponse.make(`${stdin.length} ${data.length}`)
      })
  }

  const padded = (record: Record, padding: number) => {
    const plain = FastCgiEncoder.encode(record, { alignment: 1 })
    const out = new Uint8Array(plain.length + padding)
    out.set(plain)
    out[6] = padding
    out.fill(0xee, plain.length)
    return out
  }

  const conversation = concat([
    encode([question, R.unrecognized(77)]),
    encode([...opening(1, { params: { REQUEST_URI: "/" + "long".repeat(40), REQUEST_METHOD: "POST" } })]),
    encode([R.stdin(1, text("bo"))]),
    padded(R.stdin(1, text("dy")), 255),
    encode(opening(2, { role: 2, params: { WHO: "ann" } })),
    padded(R.stdin(1), 3),
    encode([R.stdin(9, text("nobody")), R.abortRequest(9)]),
    encode(opening(3, { role: 3 })),
    encode([R.stdin(3, bytes(300)), R.stdin(3), R.data(3, bytes(500)), R.data(3), ...opening(4, { role: 4 })]),
    encode([R.beginRequest(7, 1, { keepConnection: true }), R.params(7, getParams), R.stdin(7), R.params(7)]),
    encode([...opening(5), R.abortRequest(5)]),
    encode([...opening(6, { keepConnection: false, params: { REQUEST_URI: "/end" } }), R.stdin(6)])
  ])

  const answers = (pieces: ReadonlyArray<Uint8Array>) =>
    Effect.gen(function*() {
      const peer = yield* connect
      for (const piece of pieces) {
        yield* peer.sendBytes(piece)
        yield* Effect.yieldNow
        yield* Effect.yieldNow
      }
      const records = readRecords(yield* allBytes(peer))
      yield* takeLogs
      // What is read at once is answered in an order of its own, but every request gets the same.
      const byId = new Map<number, string>()
      for (const { content, id, type } of records) {
        byId.set(id, `${byId.get(id) ?? ""}${type}:${new TextDecoder("latin1").decode(content)}\n`)
      }
      return Object.fromEntries(byId)
    })

  const expected = (answer: Effect.Success<ReturnType<typeof answers>>) => {
    assert.deepStrictEqual(Object.keys(answer), ["0", "1", "2", "3", "4", "5", "6", "7"])
    assert.include(answer[1], "/longlonglong")
    assert.include(answer[1], " body\n")
    assert.include(answer[2], "Variable-WHO: ann\r\n")
    assert.include(answer[3], "300 500\n")
    assert.include(answer[7], "Status: 400")
    return answer
  }

  play("gets the same answers whatever cuts it: one byte at a time", serve(handlers), () =>
    Effect.gen(function*() {
      const whole = expected(yield* answers([conversation]))
      assert.deepStrictEqual(yield* answers(oneByOne(conversation)), whole)
    }))

  play("gets the same answers whatever cuts it: in two, at every byte", serve(handlers), () =>
    Effect.gen(function*() {
      const whole = expected(yield* answers([conversation]))
      for (let at = 1; at < conversation.length; at++) {
        assert.deepStrictEqual(yield* answers(cut(conversation, [at])), whole, `cut at ${at}`)
      }
    }))

  play("gets the same answers whatever cuts it: anywhere", serve(handlers), () =>
    Effect.gen(function*() {
      const whole = expected(yield* answers([conversation]))
      for (let seed = 1; seed <= 100; seed++) {
        const next = random(seed)
        const points = Array.from(
          { length: 1 + Math.floor(next() * 30) },
          () => Math.floor(next() * conversation.length)
        )
        assert.deepStrictEqual(yield* answers(cut(conversation, points)), whole, `seed ${seed}`)
      }
    }))
})

describe("a connection that carries one request", () => {
  const gate = Latch.makeUnsafe()
  const gated: Handlers = {
    responder: (request) =>
      Effect.andThen(gate.await, Effect.map(measure(request.stdin), (result) => FastCgiResponse.make(result)))
  }

  play(
    "is paused at inputHighWaterMark, for as long as its handler likes, and loses nothing",
    serve(gated),
    () =>
      Effect.gen(function*() {
        gate.closeUnsafe()
        const peer = yield* connect
        yield* peer.send(...opening(1, { keepConnection: false }))
        let sent = 0
        for (let i = 0; i < 512; i++) {
          yield* peer.send(R.stdin(1, bytes(8 * KiB)))
          sent += 8 * KiB + 8
          yield* settle
        }
        const taken = sent - (yield* peer.pending)
        // What the server read up to its limit, one read more at most, and 64 KiB that wait in the transport.
        assert.isAtLeast(taken, 64 * KiB)
        assert.isAtMost(taken, 64 * KiB + 64 * KiB + 64 * KiB)
        yield* TestClock.adjust("1 hour")
        // After a second without a read, up to `maxBufferedInput`.
        const later = sent - (yield* peer.pending)
        assert.isAtLeast(later, MiB)
        assert.isAtMost(later, MiB + 64 * KiB + 64 * KiB + 64 * KiB)
        gate.openUnsafe()
        yield* peer.send(R.stdin(1))
        assert.strictEqual((yield* peer.reply()).stdout, page(`${4 * MiB} complete`))
      })
  )

  play(
    "takes as much as a lower inputHighWaterMark says",
    serve(gated, { inputHighWaterMark: 1000 }),
    () =>
      Effect.gen(function*() {
        gate.closeUnsafe()
        const peer = yield* connect
        yield* peer.send(...opening(1, { keepConnection: false }))
        yield* settle
        let sent = 0
        for (let i = 0; i < 200; i++) {
          yield* peer.send(R.stdin(1, bytes(1000)))
          sent += 1008
          yield* settle
        }
        assert.isAtMost(sent - (yield* peer.pending), 64 * KiB + 3 * 1008)
        gate.openUnsafe()
        yield* peer.send(R.stdin(1))
        assert.strictEqual((yield* peer.reply()).stdout, page("200000 complete"))
      })
  )

  play(
    "carries a large body to a handler that reads",
    serve({ responder: (request) => Effect.map(measure(request.stdin), (result) => FastCgiResponse.make(result)) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1))
        const block = bytes(MiB)
        for (let i = 0; i < 64; i++) {
          yield* peer.send(R.stdin(1, block))
          while ((yield* peer.pending) > 0) yield* Effect.yieldNow
        }
        yield* peer.send(R.stdin(1))
        assert.strictEqual((yield* peer.reply()).stdout, page(`${64 * MiB} complete`))
      })
  )

  play(
    "skips the body of a request that was answered early, however large",
    serve({
      responder: (request) =>
        request.requestId === 1
          ? Effect.succeed(FastCgiResponse.make("too large", { status: 413 }))
          : Effect.map(measure(request.stdin), (result) => FastCgiResponse.make(result))
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1))
        assert.match((yield* peer.reply()).stdout, /^Status: 413/)
        for (let i = 0; i < 100; i++) {
          yield* peer.send(R.stdin(1, bytes(64_000)))
          yield* settle
          assert.strictEqual(yield* peer.pending, 0)
        }
        yield* peer.send(R.stdin(1), ...opening(2), R.stdin(2, text("abc")), R.stdin(2))
        assert.strictEqual((yield* peer.reply(2)).stdout, page("3 complete"))
      })
  )

  const seen = Deferred.makeUnsafe<void>()
  play(
    "that is paused goes on when the request ends without having read its body",
    serve({ responder: () => Effect.as(Deferred.await(seen), FastCgiResponse.make("done")) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1))
        for (let i = 0; i < 200; i++) yield* peer.send(R.stdin(1, bytes(8 * KiB)))
        yield* settle
        assert.isAbove(yield* peer.pending, 0)
        yield* Deferred.succeed(seen, undefined)
        assert.strictEqual((yield* peer.reply()).stdout, page("done"))
        yield* settle
        assert.strictEqual(yield* peer.pending, 0)
        yield* peer.send(R.stdin(1), ...opening(1), R.stdin(1))
        assert.strictEqual((yield* peer.reply()).stdout, page("done"))
      })
  )
})

describe("a handler that reads now and then, on a connection that is not kept", () => {
  for (const late of ["0 millis", "5 seconds"] as const) {
    let started = false
    let read = 0
    play(
      `gets no more read ahead for it than one that reads all the time, when it has begun after ${late}`,
      serve({
        responder: (request) =>
          Effect.sleep(late).pipe(
            Effect.andThen(Stream.runForEachArray(request.stdin, (chunks) => {
              started = true
              read += chunks.reduce((size, chunk) => size + chunk.length, 0)
              return Effect.sleep("900 millis")
            })),
            Effect.as(FastCgiResponse.make("done"))
          )
      }),
      () =>
        Effect.gen(function*() {
          const peer = yield* connect
          yield* exchange(peer, ...opening(1, { keepConnection: false }))
          for (let i = 0; i < 512; i++) yield* peer.send(R.stdin(1, bytes(8 * KiB)))
          yield* settle
          yield* TestClock.adjust(late)
          let turns = 0
          for (; turns < 40; turns++) {
            yield* TestClock.adjust("100 millis")
            yield* settle
            const taken = 512 * (8 * KiB + 8) - (yield* peer.pending)
            if (taken > 3.5 * MiB) break
            // Its limit, one read more at most, what waits in the transport, and headers.
            assert.isAtMost(taken - read, 4 * 64 * KiB, `after ${turns} turns`)
          }
          assert.isTrue(started)
          assert.isAbove(turns, 20)
          yield* peer.reset
        })
    )
  }
})

describe("a connection whose requests have overlapped", () => {
  const gate = Latch.makeUnsafe()
  play(
    "keeps all input of a request that is alone on it, for as long as its handler likes",
    serve({
      responder: (request) =>
        Effect.andThen(gate.await, Effect.map(measure(request.stdin), (result) => FastCgiResponse.make(result)))
    }, { maxBufferedInput: 256 * KiB }),
    () =>
      Effect.gen(function*() {
        gate.closeUnsafe()
        const peer = yield* connect
        yield* exchange(peer, ...opening(1), R.stdin(1), ...opening(2), R.stdin(2))
        gate.openUnsafe()
        yield* peer.reply(1)
        yield* peer.reply(2)
        gate.closeUnsafe()
        yield* peer.send(...opening(1))
        for (let sent = 0; sent < MiB; sent += 16 * KiB) yield* peer.send(R.stdin(1, bytes(16 * KiB)))
        yield* settle
        assert.isAbove(yield* peer.pending, 0)
        yield* TestClock.adjust("1 hour")
        gate.openUnsafe()
        yield* peer.send(R.stdin(1))
        assert.strictEqual((yield* peer.reply(1)).stdout, page(`${MiB} complete`))
      })
  )
})

describe("the exact limits of what is read ahead", () => {
  // More than waits in the transport, so that what the server does not take is pending.
  const more = R.stdin(1, new Uint8Array(60_000))
  const gate = Latch.makeUnsafe()
  const second = Latch.makeUnsafe()
  const exact = serve({
    responder: (request) =>
      request.requestId === 1
        ? Effect.andThen(gate.await, Effect.map(measure(request.stdin), (result) => FastCgiResponse.make(result)))
        : Effect.as(second.await, FastCgiResponse.make("without its input"))
  }, { inputHighWaterMark: 1000, maxBufferedInput: 1000 })

  for (const [size, paused] of [[999, false], [1000, true]] as const) {
    play(
      `${size} of 1000 bytes that nobody reads ${paused ? "stop" : "do not stop"} the peer`,
      exact,
      () =>
        Effect.gen(function*() {
          gate.closeUnsafe()
          const peer = yield* connect
          yield* exchange(peer, ...opening(1), R.stdin(1, bytes(size)))
          yield* peer.send(more, more)
          yield* settle
          assert.strictEqual((yield* peer.pending) > 0, paused)
          gate.openUnsafe()
          yield* peer.send(R.stdin(1))
          assert.strictEqual((yield* peer.reply()).stdout, page(`${size + 120_000} complete`))
        })
    )
  }

  for (const [left, paused] of [[500, false], [501, true]] as const) {
    play(
      `${left} bytes that are left of 1000 ${paused ? "do not let" : "let"} the peer go on`,
      exact,
      () =>
        Effect.gen(function*() {
          gate.closeUnsafe()
          const peer = yield* connect
          second.closeUnsafe()
          yield* exchange(peer, ...opening(1), ...opening(2))
          yield* peer.send(R.stdin(1, bytes(left)), R.stdin(2, bytes(1000 - left)))
          yield* settle
          yield* peer.send(more, more)
          yield* settle
          assert.isAbove(yield* peer.pending, 0, "stopped")
          // What it had not read is dropped with it.
          second.openUnsafe()
          yield* peer.reply(2)
          yield* settle
          assert.strictEqual((yield* peer.pending) > 0, paused)
        })
    )
  }
})

describe("a connection whose peer has been told that it may multiplex", () => {
  const gate = Latch.makeUnsafe()
  play(
    "drops unread input of its only request after stallTimeout: another request may stand behind it",
    serve({
      responder: (request) =>
        request.requestId === 1
          ? Effect.as(gate.await, FastCgiResponse.make("first"))
          : Effect.succeed(FastCgiResponse.make("second"))
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(R.getValues(FastCgiParams.encodePairs([["FCGI_MPXS_CONNS", ""]])))
        yield* received(peer)
        yield* peer.send(...opening(1))
        for (let i = 0; i < 40; i++) yield* peer.send(R.stdin(1, bytes(32 * 1024)))
        yield* peer.send(...opening(2), R.stdin(2))
        yield* settle
        yield* TestClock.adjust("29999 millis")
        assert.isAbove(yield* peer.pending, 0)
        yield* TestClock.adjust("1 millis")
        assert.strictEqual((yield* peer.reply(2)).stdout, page("second"))
        assert.match((yield* takeLogs)[0].message, /^dropped input of FastCGI request 1: .* other requests/)
        yield* gate.open
        yield* peer.send(R.stdin(1))
        assert.strictEqual((yield* peer.reply(1)).stdout, page("first"))
      })
  )
})

describe("a multiplexed connection", () => {
  const gate = Latch.makeUnsafe()
  const handlers: Handlers = {
    responder: (request) =>
      Effect.gen(function*() {
        if (request.params.get("WAIT") !== undefined) yield* gate.await
        return FastCgiResponse.make(yield* measure(request.stdin))
      })
  }
  const waits = { params: { WAIT: "1" } }
  const options = { stallTimeout: "30 seconds", maxBufferedInput: 256 * KiB } as const

  /** Two requests on one connection, the first of which does not read and has `size` bytes. */
  const stall = (size: number) =>
    Effect.gen(function*() {
      gate.closeUnsafe()
      const peer = yield* connect
      yield* peer.send(...opening(1, waits), ...opening(2))
      for (let sent = 0; sent < size; sent += 16 * KiB) yield* peer.send(R.stdin(1, bytes(16 * KiB)))
      return peer
    })

  play(
    "reads on to maxBufferedInput past a handler that does not read",
    serve(handlers, options),
    () =>
      Effect.gen(function*() {
        const peer = yield* stall(240 * KiB)
        yield* peer.send(R.stdin(2, bytes(1000)), R.stdin(2))
        assert.strictEqual((yield* peer.reply(2)).stdout, page("1000 complete"))
        // GET_VALUES and aborts pass as well.
        assert.deepStrictEqual(yield* exchange(peer), [])
        gate.openUnsafe()
        yield* peer.send(R.stdin(1))
        assert.strictEqual((yield* peer.reply(1)).stdout, page(`${240 * KiB} complete`))
      })
  )

  play(
    "reads on as far before its second request, when its peer has asked whether it may have several",
    serve(handlers, options),
    () =>
      Effect.gen(function*() {
        gate.closeUnsafe()
        const peer = yield* connect
        yield* peer.send(R.getValues(FastCgiParams.encodePairs([["FCGI_MPXS_CONNS", ""]])))
        assert.strictEqual((yield* received(peer))._tag, "GetValuesResult")
        yield* peer.send(...opening(1, waits))
        for (let sent = 0; sent < 240 * KiB; sent += 16 * KiB) {
          yield* peer.send(R.stdin(1, bytes(16 * KiB)))
          yield* settle
        }
        yield* peer.send(...opening(2), R.stdin(2, bytes(1000)), R.stdin(2))
        assert.strictEqual((yield* peer.reply(2)).stdout, page("1000 complete"))
        gate.openUnsafe()
        yield* peer.send(R.stdin(1))
        assert.strictEqual((yield* peer.reply(1)).stdout, page(`${240 * KiB} complete`))
      })
  )

  play(
    "pauses at maxBufferedInput and drops the input of the stalled request after stallTimeout",
    serve(handlers, options),
    () =>
      Effect.gen(function*() {
        const peer = yield* stall(1024 * KiB)
        yield* peer.send(R.stdin(2, bytes(1000)), R.stdin(2))
        yield* settle
        assert.isAbove(yield* peer.pending, 0)
        yield* TestClock.adjust("29999 millis")
        yield* settle
        assert.isAbove(yield* peer.pending, 0)
        yield* TestClock.adjust("1 millis")
        assert.strictEqual((yield* peer.reply(2)).stdout, page("1000 complete"))
        const logs = yield* takeLogs
        assert.strictEqual(logs.length, 1)
        assert.match(
          logs[0].message,
          /^dropped input of FastCGI request 1: \d+ bytes of input stood unread for 30000 ms .*\(stallTimeout\)$/
        )
        // The handler lives on and finds out when it reads.
        gate.openUnsafe()
        assert.strictEqual((yield* peer.reply(1)).stdout, page("0 InputDiscarded"))
        yield* peer.send(R.stdin(1), ...opening(1), R.stdin(1, bytes(5)), R.stdin(1))
        assert.strictEqual((yield* peer.reply(1)).stdout, page("5 complete"))
      })
  )

  play(
    "drops nothing when the handler reads before stallTimeout",
    serve(handlers, options),
    () =>
      Effect.gen(function*() {
        const peer = yield* stall(1024 * KiB)
        yield* settle
        yield* TestClock.adjust("29 seconds")
        gate.openUnsafe()
        yield* peer.send(R.stdin(1), R.stdin(2))
        assert.strictEqual((yield* peer.reply(1)).stdout, page(`${1024 * KiB} complete`))
        assert.strictEqual((yield* peer.reply(2)).stdout, page("0 complete"))
        yield* TestClock.adjust("1 minute")
      })
  )

  play(
    "drops as many stalled requests at once as it takes to go on",
    serve(handlers, { ...options, maxBufferedInput: 100 * KiB }),
    () =>
      Effect.gen(function*() {
        gate.closeUnsafe()
        const peer = yield* connect
        yield* peer.send(...opening(1, waits), ...opening(2, waits), ...opening(3, waits), ...opening(4))
        for (let i = 0; i < 30; i++) {
          for (const id of [1, 2, 3]) yield* peer.send(R.stdin(id, bytes(8 * KiB)))
        }
        yield* peer.send(R.stdin(4, bytes(10)), R.stdin(4))
        yield* settle
        // Each time the budget is full again, the next one loses its input; the sibling waits for at most that.
        for (let i = 0; i < 3 && (yield* peer.pending) > 0; i++) yield* TestClock.adjust("30 seconds")
        assert.strictEqual((yield* peer.reply(4)).stdout, page("10 complete"))
        yield* takeLogs
        gate.openUnsafe()
        yield* peer.send(R.stdin(1), R.stdin(2), R.stdin(3))
        const results = []
        for (const id of [1, 2, 3]) results.push((yield* peer.reply(id)).stdout)
        assert.include(results, page("0 InputDiscarded"))
      })
  )

  play(
    "takes the input of an aborted request out of the budget",
    serve(handlers, options),
    () =>
      Effect.gen(function*() {
        const peer = yield* stall(200 * KiB)
        yield* settle
        yield* peer.send(R.abortRequest(1))
        yield* peer.reply(1)
        yield* peer.send(...opening(1, waits))
        for (let i = 0; i < 15; i++) yield* peer.send(R.stdin(1, bytes(16 * KiB)))
        yield* settle
        assert.strictEqual(yield* peer.pending, 0)
        gate.openUnsafe()
        yield* peer.send(R.stdin(1), R.stdin(2))
        assert.strictEqual((yield* peer.reply(1)).stdout, page(`${240 * KiB} complete`))
      })
  )
})

describe("a peer that reads nothing before it has sent everything", () => {
  const size = 8 * MiB

  const sendAll = (peer: Effect.Success<typeof connect>) =>
    Effect.gen(function*() {
      yield* peer.setCapacity(0)
      yield* peer.send(...opening(1))
      for (let sent = 0; sent < size; sent += 64_000) yield* peer.send(R.stdin(1, bytes(Math.min(64_000, size - sent))))
      yield* peer.send(R.stdin(1))
      yield* settle
    })

  const writer: Handlers = {
    responder: (request) =>
      Effect.succeed(FastCgiResponse.make(
        Stream.concat(
          Stream.take(Stream.forever(Stream.make(bytes(64_000))), size / 64_000),
          Stream.fromEffect(Effect.map(measure(request.stdin), text))
        )
      ))
  }

  play(
    "meets a handler that writes before it reads: resolved after stallTimeout",
    serve(writer),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* sendAll(peer)
        // 1 MiB has been read past the blocked handler, and no more.
        const pending = yield* peer.pending
        assert.isAbove(pending, size - 1.3 * MiB)
        assert.isBelow(pending, size - 0.9 * MiB)
        yield* TestClock.adjust("30 seconds")
        yield* settle
        assert.strictEqual(yield* peer.pending, 0)
        assert.match((yield* takeLogs)[0].message, /held up the response/)
        // Now it reads, and gets a whole response.
        yield* peer.setCapacity(1 << 30)
        const reply = yield* peer.reply()
        assert.strictEqual(reply.appStatus, 0)
        assert.isTrue(reply.stdout.endsWith("0 InputDiscarded"))
      })
  )

  play(
    "meets a handler that has read only a part",
    serve({
      responder: (request) =>
        Effect.gen(function*() {
          yield* Stream.runDrain(Stream.take(request.stdin, 1))
          return FastCgiResponse.make(Stream.take(Stream.forever(Stream.make(bytes(64_000))), 20))
        })
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* sendAll(peer)
        yield* TestClock.adjust("30 seconds")
        yield* settle
        yield* takeLogs
        assert.strictEqual(yield* peer.pending, 0)
        yield* peer.setCapacity(1 << 30)
        assert.strictEqual((yield* peer.reply()).appStatus, 0)
      })
  )

  const resumed = Latch.makeUnsafe()
  play(
    "only at first, so that nothing is lost of what the handler reads an hour later",
    serve({
      responder: (request) =>
        Effect.gen(function*() {
          yield* Effect.forEach(Array.from({ length: 20 }, () => "e".repeat(8000)), (line) => request.stderr(line))
          yield* resumed.await
          return FastCgiResponse.make(yield* measure(request.stdin))
        })
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* sendAll(peer)
        yield* TestClock.adjust("20 seconds")
        yield* peer.setCapacity(1 << 30)
        yield* settle
        yield* TestClock.adjust("1 hour")
        resumed.openUnsafe()
        assert.strictEqual((yield* peer.reply()).stdout, page(`${size} complete`))
      })
  )

  play(
    "is not one that reads slowly: nothing is lost to a handler that writes for an hour",
    serve({
      responder: (request) =>
        Effect.succeed(FastCgiResponse.make(
          Stream.concat(
            Stream.take(Stream.forever(Stream.make(bytes(50_000))), 200),
            Stream.fromEffect(Effect.map(measure(request.stdin), text))
          )
        ))
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* sendAll(peer)
        let size = 0
        for (let i = 0; i < 150; i++) {
          yield* peer.setCapacity(70_000)
          size += (yield* peer.receiveBytes).length
          yield* peer.setCapacity(0)
          yield* TestClock.adjust("25 seconds")
        }
        yield* peer.setCapacity(1 << 30)
        let tail = ""
        for (;;) {
          const record = yield* received(peer).pipe(Effect.exit)
          if (Exit.isFailure(record) || record.value._tag === "EndRequest") break
          if (record.value._tag === "Stdout" && record.value.content.length > 0) {
            tail = new TextDecoder().decode(record.value.content)
          }
        }
        assert.isAbove(size, 1_000_000)
        assert.isTrue(tail.endsWith(`${8 * MiB} complete`), tail.slice(-40))
      })
  )
})

describe("CONTENT_LENGTH", () => {
  const reader = serve({
    responder: (request) => Effect.map(measure(request.stdin), (result) => FastCgiResponse.make(result))
  })

  const cases: ReadonlyArray<readonly [string, string | undefined, number, string]> = [
    ["as much as was announced", "10", 10, "10 complete"],
    ["less than was announced", "10", 9, "9 TruncatedBody"],
    ["nothing of what was announced", "10", 0, "0 TruncatedBody"],
    ["more than was announced", "10", 11, "10 complete"],
    ["much more than was announced", "10", 50_000, "10 complete"],
    ["a body where none was announced", "0", 10, "0 complete"],
    ["an empty body", "0", 0, "0 complete"],
    ["a body without a length", undefined, 10, "10 complete"],
    ["a body with an empty length", "", 10, "10 complete"],
    ["a body of unknown length, as Caddy says it", "-1", 10, "10 complete"]
  ]
  for (const [name, length, size, result] of cases) {
    for (const fragment of [1 << 16, 1, 3]) {
      if (size > 100 && fragment === 1) continue
      play(
        `${name} (${size} bytes of ${JSON.stringify(length)}, ${fragment} at a time)`,
        reader,
        () =>
          Effect.gen(function*() {
            const peer = yield* connect
            yield* peer.send(...opening(1, length === undefined ? {} : { params: { CONTENT_LENGTH: length } }))
            for (let at = 0; at < size; at += fragment) {
              yield* peer.send(R.stdin(1, bytes(Math.min(fragment, size - at))))
              if (size < 100) yield* Effect.yieldNow
            }
            yield* peer.send(R.stdin(1))
            assert.strictEqual((yield* peer.reply()).stdout, page(result))
          })
      )
    }
  }

  play("ends the body before STDIN has ended", reader, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(...opening(1, { params: { CONTENT_LENGTH: "4" } }), R.stdin(1, text("body")))
      assert.strictEqual((yield* peer.reply()).stdout, page("4 complete"))
      assert.deepStrictEqual(yield* exchange(peer, R.stdin(1, text("more")), R.stdin(1)), [])
    }))

  play(
    "lets a body be read once: the second time it is empty",
    serve({
      responder: (request) =>
        Effect.gen(function*() {
          const first = yield* measure(request.stdin)
          const second = yield* measure(request.stdin)
          return FastCgiResponse.make(`${first}, ${second}`)
        })
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        for (const length of [{}, { CONTENT_LENGTH: "4" }]) {
          yield* peer.send(...opening(1, { params: length }), R.stdin(1, text("body")), R.stdin(1))
          assert.strictEqual((yield* peer.reply()).stdout, page("4 complete, 0 complete"))
        }
      })
  )

  play(
    "does not let a second reader take the place of one that waits",
    serve({
      responder: (request) =>
        Effect.gen(function*() {
          const first = yield* Effect.forkChild(measure(request.stdin))
          yield* Effect.yieldNow
          const second = yield* Effect.exit(measure(request.stdin))
          assert.isTrue(Exit.hasDies(second))
          return FastCgiResponse.make(yield* Fiber.join(first))
        })
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1))
        yield* exchange(peer)
        yield* peer.send(R.stdin(1, text("body")), R.stdin(1))
        assert.strictEqual((yield* peer.reply()).stdout, page("4 complete"))
      })
  )

  play(
    "lets a body be read in parts",
    serve({
      responder: (request) =>
        Effect.gen(function*() {
          const [first] = yield* Stream.runCollect(Stream.take(request.stdin, 1))
          const rest = yield* measure(request.stdin)
          return FastCgiResponse.make(`${first.length}, ${rest}`)
        })
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1), R.stdin(1, text("body")))
        yield* exchange(peer)
        yield* peer.send(R.stdin(1, text("and more")), R.stdin(1))
        assert.strictEqual((yield* peer.reply()).stdout, page("4, 8 complete"))
      })
  )

  play(
    "loses nothing to a read that was interrupted while it waited",
    serve({
      responder: (request) =>
        Effect.gen(function*() {
          const first = yield* Effect.timeoutOption(measure(request.stdin), "1 second")
          return FastCgiResponse.make(`${first._tag}, ${yield* measure(request.stdin)}`)
        })
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1))
        yield* exchange(peer)
        yield* TestClock.adjust("1 second")
        yield* peer.send(R.stdin(1, text("body")), R.stdin(1))
        assert.strictEqual((yield* peer.reply()).stdout, page("None, 4 complete"))
      })
  )
})

describe("an input stream", () => {
  const none = () => new FastCgiRequestError.FastCgiRequestError({ reason: { _tag: "InputDiscarded" }, message: "" })

  /** Bytes that the buffers of the chunks take, each counted once. */
  const pinned = (chunks: ReadonlyArray<Uint8Array>) =>
    [...new Set(chunks.map((chunk) => chunk.buffer))].reduce((sum, buffer) => sum + buffer.byteLength, 0)

  const make = () => {
    let consumed = 0
    const buffer = new InputStream<FastCgiRequestError.FastCgiRequestError>({
      onConsumed: (size) => {
        consumed += size
      },
      onAwaited: () => {},
      onTouched: (stream) => stream.wake()
    })
    return { buffer, consumed: () => consumed }
  }

  it.effect("keeps nothing of a read alive, and little more than it holds, whatever the fragments", () =>
    Effect.gen(function*() {
      for (const length of [1, 10, 100, 1000, 4095, 4096, 8192, 65_536]) {
        const { buffer } = make()
        let held = 0
        for (let i = 0; i < 1000 && held < 1_000_000; i++) {
          const read = new Uint8Array(65_536)
          held += buffer.offer(read.subarray(65_536 - length))
        }
        assert.strictEqual(buffer.unread, held)
        const chunks = yield* buffer.pull
        assert.strictEqual(concat(chunks).length, held)
        assert.isAtMost(pinned(chunks), held + 4096)
        assert.isAtMost(chunks.length, held / Math.min(length, 4096) + 1)
        assert.isAtMost(chunks.length, held / 2048 + 2)
      }
    }))

  it.effect("keeps the order of small and large fragments, and every byte", () =>
    Effect.gen(function*() {
      for (let seed = 1; seed <= 50; seed++) {
        const next = random(seed)
        const { buffer, consumed } = make()
        const expected: Array<Uint8Array> = []
        const got: Array<Uint8Array> = []
        let read = bytes(65_536, seed)
        let at = 0
        for (let i = 0; i < 200; i++) {
          const length = Math.floor(next() ** 4 * 20_000)
          if (at + length > read.length) {
            read = bytes(next() < 0.5 ? 65_536 : 20_000, seed + i)
            at = 0
          }
          const fragment = read.subarray(at, at + length)
          at += length
          if (length > 0) {
            buffer.offer(fragment)
            expected.push(fragment)
          }
          if (next() < 0.1 && buffer.unread > 0) got.push(...yield* buffer.pull)
        }
        buffer.end()
        const rest = yield* Effect.exit(buffer.pull)
        if (Exit.isSuccess(rest)) got.push(...rest.value)
        assert.isTrue(Buffer.compare(concat(got), concat(expected)) === 0, `seed ${seed}`)
        assert.strictEqual(consumed(), concat(expected).length)
        assert.strictEqual(buffer.unread, 0)
      }
    }))

  it.effect("hands out what does not change when the next read takes the same memory", () =>
    Effect.gen(function*() {
      const read = new Uint8Array(65_536)
      for (const length of [1, 10, 4095, 4096, 65_536]) {
        const { buffer } = make()
        const pulled: Array<Uint8Array> = []
        for (const value of [1, 2, 3]) {
          buffer.offer(read.subarray(0, length).fill(value))
          buffer.offer(read.subarray(0, length).fill(value + 10))
          pulled.push(concat(yield* buffer.pull))
        }
        for (const [index, bytes] of pulled.entries()) {
          assert.isTrue(bytes.subarray(0, length).every((byte) => byte === index + 1))
          assert.isTrue(bytes.subarray(length).every((byte) => byte === index + 11))
        }
      }
    }))

  it.effect("fails after discard, unless everything had been pulled", () =>
    Effect.gen(function*() {
      const { buffer, consumed } = make()
      buffer.offer(bytes(10))
      buffer.discard(none)
      assert.strictEqual(consumed(), 10)
      assert.strictEqual(buffer.offer(bytes(10)), 0)
      buffer.end()
      assert.isTrue(Exit.isFailure(yield* Effect.exit(buffer.pull)))
      const read = make().buffer
      read.offer(bytes(10))
      read.end()
      yield* read.pull
      read.discard(none)
      const exit = yield* Effect.exit(read.pull)
      assert.isTrue(
        Exit.isFailure(exit) &&
          exit.cause.reasons.every((reason) => reason._tag === "Fail" && Cause.isDone(reason.error))
      )
    }))
})
