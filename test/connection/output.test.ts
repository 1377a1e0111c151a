/**
 * What leaves a connection, byte by byte: records, writes, and who waits for whom.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiAdmission, FastCgiRecord as R, FastCgiResponse, type FastCgiTransport } from "effect-fastcgi"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { OutputQueue } from "../../src/connection/internal/outputQueue.ts"
import {
  bytes,
  connect,
  exchange,
  opening,
  page,
  play,
  received,
  type Responder,
  serve,
  settle,
  takeLogs
} from "../server/support/serving.ts"
import { allBytes, concat, contentOf, readRecords } from "../server/support/wire.ts"

const { EndRequest, Stderr, Stdout } = R.RecordType

const text = (content: string) => new TextEncoder().encode(content)

const emptyEnd = (records: ReadonlyArray<{ type: number; content: Uint8Array }>) =>
  records.slice(-2).map(({ content, type }) => [type, content.length])

/** A stream that has all its chunks at once. */
const streamOf = (...chunks: ReadonlyArray<Uint8Array>) => Stream.fromIterable(chunks)

describe("a response", () => {
  play(
    "that is ready at once leaves in one write: head and body in one record, the end of STDOUT, END_REQUEST",
    serve({ responder: () => Effect.succeed(FastCgiResponse.make("hello")) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        // Written down by hand: 8-byte boundaries, padding and reserved bytes zero.
        const head = "Status: 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhello"
        assert.strictEqual(head.length, 64)
        assert.deepStrictEqual(
          yield* peer.receiveBytes,
          concat([
            Uint8Array.of(1, 6, 0, 1, 0, 64, 0, 0),
            text(head),
            Uint8Array.of(1, 6, 0, 1, 0, 0, 0, 0),
            Uint8Array.of(1, 3, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
          ])
        )
      })
  )

  play(
    "that is ready a turn later leaves in one write, too",
    serve({ responder: () => Effect.as(Effect.yieldNow, FastCgiResponse.make("hello!")) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        const records = readRecords(yield* peer.receiveBytes)
        assert.deepStrictEqual(records.map(({ content, padding, type }) => [type, content.length, padding]), [
          [Stdout, 65, 7],
          [Stdout, 0, 0],
          [EndRequest, 8, 0]
        ])
      })
  )

  play(
    "of a stream that has everything at once leaves in one write, too",
    serve({ responder: () => Effect.succeed(FastCgiResponse.make(streamOf(text("a"), text("b"), text("c")))) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        const records = readRecords(yield* peer.receiveBytes)
        assert.deepStrictEqual(emptyEnd(records), [[Stdout, 0], [EndRequest, 8]])
        assert.strictEqual(
          new TextDecoder().decode(contentOf(records, Stdout, 1)),
          "Status: 200 OK\r\n\r\nabc"
        )
      })
  )

  play(
    "of many requests that come in one read leaves in one write",
    serve({ responder: (request) => Effect.succeed(FastCgiResponse.make(String(request.requestId))) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...[1, 2, 3].flatMap((id) => [...opening(id), R.stdin(id)]))
        const records = readRecords(yield* peer.receiveBytes)
        assert.deepStrictEqual(records.map(({ id, type }) => [type, id]), [
          [Stdout, 1],
          [Stdout, 1],
          [EndRequest, 1],
          [Stdout, 2],
          [Stdout, 2],
          [EndRequest, 2],
          [Stdout, 3],
          [Stdout, 3],
          [EndRequest, 3]
        ])
      })
  )

  const headBytes = "Status: 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nX-Long: \r\n\r\n".length
  for (const length of [100, 2040, 2048, 20_000, 65_535 - headBytes]) {
    const value = "v".repeat(length)
    play(
      `has its whole header block in one record (${length} bytes)`,
      serve({
        responder: () => Effect.succeed(FastCgiResponse.make("b".repeat(100), { headers: { "X-Long": value } }))
      }),
      () =>
        Effect.gen(function*() {
          const peer = yield* connect
          yield* peer.setCapacity(1 << 30)
          yield* peer.request({ keepConnection: false })
          const [first] = readRecords(yield* allBytes(peer))
          assert.include(new TextDecoder("latin1").decode(first.content), `X-Long: ${value}\r\n\r\n`)
        })
    )
  }

  for (const length of [65_536, 2_000_000]) {
    play(
      `with a header block that no record can hold is answered with 500, and the log has the cause (${length} bytes)`,
      serve({
        responder: (request) =>
          Effect.succeed(
            request.requestId === 1
              ? FastCgiResponse.make("body", { headers: { "X-Long": "v".repeat(length - headBytes) } })
              : FastCgiResponse.make("fine")
          )
      }),
      () =>
        Effect.gen(function*() {
          const peer = yield* connect
          yield* peer.send(...opening(1), R.stdin(1), ...opening(2), R.stdin(2))
          const reply = yield* peer.reply(1)
          assert.match(reply.stdout, /^Status: 500 Internal Server Error\r\n/)
          assert.notInclude(reply.stdout, "vvv")
          assert.strictEqual(reply.appStatus, 1)
          assert.strictEqual((yield* peer.reply(2)).stdout, page("fine"))
          const logs = yield* takeLogs
          assert.strictEqual(logs.length, 1)
          assert.include(logs[0].cause, `the header block is ${length} bytes, at most 65535 fit into a record`)
        })
    )
  }

  const headLength = "Status: 200 OK\r\n\r\n".length
  const textHeadLength = "Status: 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n".length
  const sizes = [
    0,
    1,
    7,
    8,
    2047,
    2048,
    2049,
    2048 - headLength,
    2049 - headLength,
    2048 - textHeadLength,
    2049 - textHeadLength,
    65_534,
    65_535,
    65_536,
    65_534 - headLength,
    65_535 - headLength,
    65_536 - headLength,
    2 * 65_535 - headLength,
    2 * 65_535 - headLength + 1,
    1024 * 1024 + 3
  ]
  const kinds: ReadonlyArray<
    readonly [string, (length: number) => string | Uint8Array | Stream.Stream<Uint8Array>, number]
  > = [
    ["bytes", bytes, headLength],
    ["text", (length) => "t".repeat(length), textHeadLength],
    ["a stream of one chunk", (length) => streamOf(bytes(length)), headLength],
    [
      "a stream of two",
      (length) => streamOf(bytes(length).subarray(0, length >> 1), bytes(length).subarray(length >> 1)),
      headLength
    ]
  ]
  for (const [kind, make, skipped] of kinds) {
    play(
      `arrives whole and aligned, whatever its size, as ${kind}`,
      serve({
        responder: (request) => Effect.succeed(FastCgiResponse.make(make(Number(request.params.get("SIZE")))))
      }),
      () =>
        Effect.gen(function*() {
          for (const size of sizes) {
            const peer = yield* connect
            yield* peer.setCapacity(1 << 30)
            yield* peer.send(...opening(1, { keepConnection: false, params: { SIZE: String(size) } }), R.stdin(1))
            const sent = yield* allBytes(peer)
            assert.strictEqual(sent.length % 8, 0)
            const records = readRecords(sent)
            assert.deepStrictEqual(emptyEnd(records), [[Stdout, 0], [EndRequest, 8]])
            assert.isTrue(records.slice(0, -2).every(({ content }) => content.length > 0), "one empty STDOUT record")
            // HAProxy 2.6 counts both in 16 bits, and takes what follows for records when that is too little.
            assert.isTrue(records.every(({ content, padding }) => content.length + padding < 65_536), "record too long")
            const body = contentOf(records, Stdout, 1).subarray(skipped)
            const expected = kind === "text" ? text("t".repeat(size)) : bytes(size)
            assert.strictEqual(body.length, size)
            assert.isTrue(Buffer.compare(body, expected) === 0, `body of ${size} bytes`)
          }
        })
    )
  }

  for (
    const [name, body] of [
      ["two bytes", "é".repeat(1000)],
      ["three bytes", "€".repeat(700)],
      ["four bytes", "😀".repeat(600)],
      ["lone surrogates", "a\ud800b\udc00c"],
      ["a mixture behind much ASCII", "a".repeat(1990) + "é€😀"],
      ["a mixture above one record", "é€😀".repeat(20_000)]
    ] as const
  ) {
    play(
      `of text is UTF-8: characters of ${name}`,
      serve({ responder: () => Effect.succeed(FastCgiResponse.make(body)) }),
      () =>
        Effect.gen(function*() {
          const peer = yield* connect
          yield* peer.setCapacity(1 << 30)
          yield* peer.request({ keepConnection: false })
          const stdout = contentOf(readRecords(yield* allBytes(peer)), Stdout, 1)
          assert.isTrue(Buffer.compare(stdout.subarray(textHeadLength), text(body)) === 0)
        })
    )
  }

  play(
    "has header values of one byte per character",
    serve({
      responder: () => Effect.succeed(FastCgiResponse.make(undefined, { headers: { "X-Latin": "caf\xe9 \xff" } }))
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        const [first] = readRecords(yield* peer.receiveBytes)
        assert.isTrue(Buffer.from(first.content).includes(Buffer.from("X-Latin: caf\xe9 \xff\r\n", "latin1")))
      })
  )

  play(
    "is made of bytes that may be changed once they have been taken",
    serve({
      responder: () => {
        const block = new Uint8Array(100)
        return Effect.succeed(FastCgiResponse.make(
          Stream.fromIterable([1, 2, 3]).pipe(
            Stream.map((value) => block.fill(value).slice())
          )
        ))
      }
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request({ keepConnection: false })
        const stdout = contentOf(readRecords(yield* allBytes(peer)), Stdout, 1).subarray(headLength)
        assert.deepStrictEqual(stdout, concat([1, 2, 3].map((value) => new Uint8Array(100).fill(value))))
      })
  )

  const writers: Array<Responder> = []
  const done = Deferred.makeUnsafe<void>()
  play(
    "is not mixed up with what other connections send in the same turn",
    serve({
      responder: (request) => {
        writers.push(request)
        return Effect.as(Deferred.await(done), FastCgiResponse.make(""))
      }
    }),
    () =>
      Effect.gen(function*() {
        const peers = [yield* connect, yield* connect, yield* connect]
        for (const peer of peers) {
          yield* peer.setCapacity(1 << 30)
          yield* peer.request()
          // The requests arrive in the order of the connections, whatever carries them.
          yield* settle
        }
        const sizes = [1, 10, 3000, 7, 2048, 2049, 0, 30_000, 5, 100]
        for (const size of sizes) {
          for (const [i, writer] of writers.entries()) yield* writer.stderr(String(i).repeat(size))
        }
        yield* Deferred.succeed(done, undefined)
        const total = sizes.reduce((sum, size) => sum + size, 0)
        for (const [i, peer] of peers.entries()) {
          assert.isTrue((yield* peer.reply()).stderr === String(i).repeat(total), `connection ${i}`)
        }
      })
  )

  play(
    "keeps STDOUT and STDERR in the order they were written",
    serve({
      responder: (request) =>
        Effect.succeed(FastCgiResponse.make(
          Stream.fromIterable(["a", "b", "c"]).pipe(
            Stream.rechunk(1),
            Stream.mapEffect((letter) => Effect.as(request.stderr(letter), text(letter)))
          )
        ))
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request({ keepConnection: false })
        const records = readRecords(yield* allBytes(peer))
        const order = records.filter(({ content, type }) => type !== EndRequest && content.length === 1)
        assert.deepStrictEqual(order.map(({ content, type }) => [type, String.fromCharCode(content[0])]), [
          [Stderr, "a"],
          [Stdout, "a"],
          [Stderr, "b"],
          [Stdout, "b"],
          [Stderr, "c"],
          [Stdout, "c"]
        ])
        // Both streams are ended, before the request is.
        assert.deepStrictEqual(records.slice(-3).map(({ content, type }) => [type, content.length]), [
          [Stderr, 0],
          [Stdout, 0],
          [EndRequest, 8]
        ])
      })
  )
})

describe("under backpressure", () => {
  /** Requests that write chunks until they are stopped, and count them. */
  const written = new Map<number, number>()
  const writers = serve({
    // Not at once: what comes in one read begins, although the first of them fills the queue.
    responder: (request) =>
      Effect.map(Effect.yieldNow, () => {
        written.set(request.requestId, 0)
        return FastCgiResponse.make(Stream.fromEffectRepeat(Effect.sync(() => {
          written.set(request.requestId, written.get(request.requestId)! + 1)
          return new Uint8Array(10_000).fill(request.requestId)
        })))
      })
  })

  play(
    "a peer that reads nothing stops its connection, with bounded memory, and no other",
    writers,
    () =>
      Effect.gen(function*() {
        written.clear()
        const peer = yield* connect
        yield* peer.setCapacity(0)
        yield* peer.send(...[1, 2, 3, 4].flatMap((id) => [...opening(id), R.stdin(id)]))
        yield* settle
        yield* settle
        // 64 KiB are pending, and each writer has one chunk more.
        const before = [...written.values()].reduce((sum, count) => sum + count, 0)
        assert.isAtMost(before * 10_000, 64 * 1024 + 5 * 10_000)
        const other = yield* connect
        yield* other.setCapacity(300_000)
        yield* other.send(...opening(9), R.stdin(9))
        yield* settle
        assert.isAtLeast(written.get(9)!, 30)
        assert.strictEqual([...written.values()].reduce((sum, count) => sum + count, 0) - written.get(9)!, before)
      })
  )

  // The head is a record of 32 bytes, each chunk one of 1008.
  for (const [outputHighWaterMark, count] of [[32 + 3 * 1008, 3], [33 + 3 * 1008, 4]] as const) {
    let made = 0
    play(
      `a response waits as soon as ${outputHighWaterMark} bytes are pending`,
      serve({
        responder: () =>
          Effect.succeed(FastCgiResponse.make(Stream.fromEffectRepeat(Effect.sync(() => {
            made++
            return bytes(1000)
          }))))
      }, { outputHighWaterMark }),
      () =>
        Effect.gen(function*() {
          const peer = yield* connect
          yield* peer.setCapacity(0)
          yield* peer.request()
          yield* settle
          yield* peer.setCapacity(1)
          assert.strictEqual(made, count)
        })
    )
  }

  play("the streams of one connection take turns", writers, () =>
    Effect.gen(function*() {
      written.clear()
      const ids = [1, 2, 3, 4, 5, 6, 7, 8]
      const peer = yield* connect
      yield* peer.setCapacity(20_000)
      yield* peer.send(...ids.flatMap((id) => [...opening(id), R.stdin(id)]))
      const received = new Map<number, number>(ids.map((id) => [id, 0]))
      let tail = new Uint8Array(0)
      for (let size = 0; size < 4_000_000;) {
        const chunk = yield* peer.receiveBytes
        size += chunk.length
        tail = concat([tail, chunk]) as Uint8Array<ArrayBuffer>
        // Whole records so far.
        let at = 0
        for (;;) {
          if (tail.length - at < 8) break
          const end = at + 8 + (tail[at + 4] << 8 | tail[at + 5]) + tail[at + 6]
          if (end > tail.length) break
          const id = tail[at + 2] << 8 | tail[at + 3]
          received.set(id, received.get(id)! + (end - at))
          at = end
        }
        tail = tail.slice(at)
      }
      const sizes = [...received.values()]
      assert.isAtMost(Math.max(...sizes) - Math.min(...sizes), 100_000, sizes.join(" "))
    }))

  play(
    "whoever waited for room goes on when the others have been aborted",
    writers,
    () =>
      Effect.gen(function*() {
        written.clear()
        const peer = yield* connect
        yield* peer.setCapacity(0)
        yield* peer.send(...[1, 2, 3].flatMap((id) => [...opening(id), R.stdin(id)]))
        yield* settle
        yield* peer.send(R.abortRequest(1), R.abortRequest(2))
        yield* settle
        const before = written.get(3)!
        yield* peer.setCapacity(1_000_000)
        yield* settle
        assert.isAbove(written.get(3)!, before)
      })
  )

  const finished = Deferred.makeUnsafe<void>()
  play(
    "STDERR waits as STDOUT does",
    serve({
      responder: (request) =>
        Effect.forEach(Array.from({ length: 40 }, () => "e".repeat(8000)), (line) => request.stderr(line)).pipe(
          Effect.andThen(Deferred.succeed(finished, undefined)),
          Effect.as(FastCgiResponse.make(""))
        )
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.setCapacity(0)
        yield* peer.request()
        yield* settle
        assert.isFalse(yield* Deferred.isDone(finished))
        yield* peer.setCapacity(1 << 30)
        const reply = yield* peer.reply()
        assert.strictEqual(reply.stderr.length, 40 * 8000)
      })
  )

  play(
    "the answer to GET_VALUES waits behind what was written before, and nothing else",
    serve({ responder: () => Effect.succeed(FastCgiResponse.make(Stream.forever(Stream.make(new Uint8Array(5000))))) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.setCapacity(10_000)
        yield* peer.send(...opening(1), R.stdin(1))
        yield* settle
        const before = yield* exchange(peer)
        const size = before.reduce((sum, record) => sum + (record._tag === "Stdout" ? record.content.length : 0), 0)
        assert.isBelow(size, 200_000)
      })
  )

  play(
    "a peer that takes a byte at a time gets the same",
    serve({
      responder: (request) =>
        Effect.andThen(
          request.stderr("a word to the log"),
          Effect.succeed(FastCgiResponse.make(streamOf(bytes(3000), bytes(10), bytes(1)), { appStatus: 3 }))
        )
    }, { outputHighWaterMark: 100 }),
    () =>
      Effect.gen(function*() {
        const whole = yield* connect
        yield* whole.request({ keepConnection: false })
        const peer = yield* connect
        yield* peer.setCapacity(1)
        yield* peer.request({ keepConnection: false })
        assert.deepStrictEqual(yield* allBytes(peer), yield* allBytes(whole))
      })
  )
})

describe("a long body that is there as a whole", () => {
  const megabyte = 1024 * 1024
  const whole = bytes(20 * megabyte)
  const long = serve({
    responder: (request) => Effect.succeed(FastCgiResponse.make(request.requestId === 1 ? whole : "short"))
  }, { writeTimeout: "10 seconds" })

  play(
    "is sent unchanged, by shares: what comes meanwhile is answered before its end",
    long,
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        yield* received(peer)
        yield* peer.send(...opening(2), R.stdin(2))
        const ends: Array<number> = []
        const body: Array<Uint8Array> = []
        while (ends.length < 2) {
          const record = yield* received(peer)
          if (record._tag === "EndRequest") ends.push(record.requestId)
          else if (record._tag === "Stdout" && record.requestId === 1) body.push(record.content)
        }
        assert.deepStrictEqual(ends, [2, 1])
        assert.isTrue(Buffer.from(concat(body).subarray(-whole.length)).equals(whole))
      })
  )

  play(
    "may take longer than writeTimeout, when its peer takes some of it now and then",
    long,
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        let received = 0
        while (received < 19 * megabyte) {
          for (let taken = 0; taken < megabyte;) {
            const chunk = yield* peer.receiveBytes
            taken += chunk.length
            received += chunk.length
          }
          yield* TestClock.adjust("9 seconds")
        }
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        assert.strictEqual(admission.requestsUnsafe(), 1)
      })
  )
})

describe("output that waits for a peer", () => {
  it("keeps nothing of what other connections send beside it, the second time as the first", () => {
    let pending = 0
    let written: ReadonlyArray<Uint8Array> = []
    const transport = {
      pendingUnsafe: () => pending,
      writeUnsafe: (chunks: ReadonlyArray<Uint8Array>) => {
        written = chunks
      }
    } as FastCgiTransport.FastCgiTransport
    const tasks: Array<() => void> = []
    const dispatcher = { scheduleTask: (task: () => void) => tasks.push(task), flush: () => {} }
    const make = () => new OutputQueue(transport, dispatcher, 65_536, { onBlocked: () => {}, onPending: () => {} })
    const queue = make()
    const other = make()
    for (let round = 0; round < 3; round++) {
      pending = 1
      for (let i = 0; i < 10; i++) {
        queue.endRequest(i, round, 0)
        other.endRequest(i, 0, 0)
        queue.flush()
        // A turn.
        for (const task of tasks.splice(0)) task()
      }
      pending = 0
      queue.flush()
      assert.strictEqual(concat(written).length, 160)
      assert.deepStrictEqual(written.map(({ buffer }) => buffer.byteLength), [4096])
    }
  })
})
