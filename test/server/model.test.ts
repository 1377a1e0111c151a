/**
 * Random conversations, with a model of what a web server may rely on: every request that began ends once while the
 * connection lasts, nothing comes under an id that is not active, and every body is the one that was sent.
 *
 * A failure names its seed: `FUZZ_SEED=… npx vitest run test/server/model.test.ts` plays that conversation alone, and
 * `FUZZ_CASES` plays more, a conversation for each 5,000 of them.
 *
 * `EVENT_LOG=file` writes the log of 400 conversations into a file: before and after a change of the core that shall change
 * nothing to be seen from outside, both are the same.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiAdmission, FastCgiEncoder, FastCgiParams, FastCgiRecord as R, FastCgiResponse } from "effect-fastcgi"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Fs from "node:fs"
import { cut, random } from "../protocol/support/cuts.ts"
import { replay, seeds } from "../protocol/support/fuzz.ts"
import {
  bytes,
  connect,
  fibersAtRest,
  type Handlers,
  idleFibers,
  observe,
  type Peer,
  play,
  received,
  type Record,
  serve,
  settle,
  takeLogs
} from "./support/serving.ts"
import { concat } from "./support/wire.ts"

// Small limits, so that a few kilobytes meet them.
const inputHighWaterMark = 8 * 1024
const maxBufferedInput = 24 * 1024

const handlers: Handlers = {
  responder: (request) => {
    switch (request.params.get("DO")) {
      case "echo":
        return Effect.map(Stream.mkUint8Array(request.stdin), (body) => FastCgiResponse.make(body)).pipe(
          Effect.catch((error) => Effect.succeed(FastCgiResponse.make(error.reason._tag)))
        )
      case "echoing":
        return Effect.succeed(FastCgiResponse.make(Stream.catch(request.stdin, () => Stream.empty)))
      case "early":
        return Effect.succeed(FastCgiResponse.make("early"))
      case "later":
        return Effect.as(Effect.yieldNow, FastCgiResponse.make("later"))
      case "stderr":
        return Effect.as(request.stderr("e".repeat(9000)), FastCgiResponse.make("stderr"))
      case "large":
        return Effect.succeed(FastCgiResponse.make(bytes(70_000)))
      case "stream":
        return Effect.succeed(FastCgiResponse.make(Stream.take(Stream.forever(Stream.make(bytes(7000))), 20)))
      case "fail":
        return Effect.fail("on purpose")
      case "stubborn":
        return Effect.as(
          Effect.uninterruptible(Effect.repeat(Effect.yieldNow, { times: 5 })),
          FastCgiResponse.make("stubborn")
        )
      default:
        return Effect.never
    }
  },
  authorizer: () => Effect.succeed(FastCgiResponse.allow({ A: "b" })),
  filter: (request) =>
    Effect.gen(function*() {
      const stdin = yield* Stream.mkUint8Array(request.stdin)
      const data = yield* Stream.mkUint8Array(request.data)
      return FastCgiResponse.make(concat([stdin, data]))
    }).pipe(Effect.catch((error) => Effect.succeed(FastCgiResponse.make(error.reason._tag))))
}

type Kind = "echo" | "echoing" | "early" | "later" | "stderr" | "large" | "stream" | "fail" | "stubborn" | "wait"

const kinds: ReadonlyArray<Kind> = [
  "echo",
  "echo",
  "echo",
  "echoing",
  "early",
  "later",
  "stderr",
  "large",
  "stream",
  "fail",
  "stubborn",
  "wait"
]

/** What the web server knows of a request that it has begun. */
interface Active {
  readonly id: number
  readonly role: number
  readonly kind: Kind
  readonly keepConnection: boolean
  /** Records that are still to be sent. */
  readonly rest: Array<Record>
  readonly expected: Uint8Array
  readonly stdout: Array<Uint8Array>
  stderr: number
  aborted: boolean
}

/** Bytes as a trace tells them. */
const digest = (content: Uint8Array): string => {
  let sum = 0
  for (let i = 0; i < content.length; i++) sum = (sum * 31 + content[i]) >>> 0
  return `${content.length} bytes, ${sum}`
}

/** Plays one conversation. `trace` is told everything that either side sees, in order. */
const conversation = (seed: number, trace: (event: string) => void = () => {}) =>
  Effect.gen(function*() {
    const next = random(seed)
    const below = (limit: number) => Math.floor(next() * limit)
    const pick = <A>(choices: ReadonlyArray<A>): A => choices[below(choices.length)]
    const peer: Peer = yield* connect
    yield* peer.setCapacity(pick([1, 50, 1000, 20_000, 1 << 20]))

    const active = new Map<number, Active>()
    const idle = Deferred.makeUnsafe<void>()
    let taken = 0
    let values = 0
    let unknown = 0
    let finishing = false
    let closes = false
    let discards = false

    const ended = (request: Active, appStatus: number, protocolStatus: number) => {
      if (request.role > 3) {
        assert.strictEqual(protocolStatus, R.ProtocolStatus.UnknownRole)
        assert.strictEqual(request.stdout.length, 0)
        return
      }
      assert.strictEqual(protocolStatus, R.ProtocolStatus.RequestComplete)
      if (request.aborted) return
      const stdout = Buffer.from(concat(request.stdout))
      const head = stdout.indexOf("\r\n\r\n")
      assert.isAtLeast(head, 0, "a header block")
      const status = request.role === 1 && request.kind === "fail" ? "Status: 500" : "Status: 200"
      assert.strictEqual(stdout.toString("latin1", 0, status.length), status)
      assert.strictEqual(appStatus, status === "Status: 500" ? 1 : 0)
      const body = stdout.subarray(head + 4)
      if (discards && body.length !== request.expected.length) return
      if (Buffer.compare(body, request.expected) !== 0) {
        assert.fail(
          `request ${request.id} (${request.kind}) got ${body.length} bytes, expected ${request.expected.length}`
        )
      }
    }

    const take = (record: Record) => {
      taken++
      trace(`received ${record._tag} ${record.requestId} ${"content" in record ? digest(record.content) : ""}`)
      if (record.requestId === 0) {
        if (record._tag === "GetValuesResult") values--
        else if (record._tag === "UnknownType") unknown--
        else assert.fail(`${record._tag} with id 0`)
        return
      }
      const request = active.get(record.requestId)
      if (request === undefined) return assert.fail(`${record._tag} for ${record.requestId}, which is not active`)
      if (record._tag === "Stdout") request.stdout.push(record.content)
      else if (record._tag === "Stderr") request.stderr += record.content.length
      else if (record._tag === "EndRequest") {
        active.delete(record.requestId)
        ended(request, record.appStatus, record.protocolStatus)
      } else {
        assert.fail(record._tag)
      }
      if (finishing && active.size === 0) Deferred.doneUnsafe(idle, Exit.void)
    }

    const reading = yield* Effect.forkChild(Effect.forever(Effect.andThen(
      Effect.suspend(() => next() < 0.2 ? Effect.yieldNow : Effect.void),
      Effect.map(received(peer), take)
    )))

    const begin = () => {
      const id = 1 + below(12)
      if (active.has(id) || closes) return []
      const role = pick([1, 1, 1, 1, 1, 1, 2, 3, 7])
      const kind = pick(kinds)
      const keepConnection = next() < 0.97
      // A handler that waits for ever must not hold up what would end it.
      const body = bytes(kind === "wait" ? below(600) : pick([0, 1, 100, below(5000), below(30_000)]), id)
      const data = role === 3 ? bytes(below(3000), id + 1) : undefined
      const pairs: Array<[string, string]> = [["DO", kind], ["FILL", "f".repeat(below(300))]]
      if (next() < 0.5) pairs.push(["CONTENT_LENGTH", String(body.length)])
      const params = FastCgiParams.encodePairs(pairs)
      const at = below(params.length)
      const rest: Array<Record> = [
        R.params(id, params.subarray(0, at)),
        R.params(id, params.subarray(at)),
        R.params(id)
      ]
        .filter((record, i) => i === 2 || record.content.length > 0)
      const stream = (make: (id: number, content?: Uint8Array) => Record, content: Uint8Array) => {
        for (let at = 0; at < content.length;) {
          const size = 1 + below(next() < 0.2 ? 20 : 6000)
          rest.push(make(id, content.subarray(at, at + size)))
          at += size
        }
        rest.push(make(id))
      }
      if (role !== 2) stream(R.stdin, body)
      if (data !== undefined) stream(R.data, data)
      const text = new TextEncoder()
      const results: { [K in Kind]: Uint8Array } = {
        echo: body,
        echoing: body,
        early: text.encode("early"),
        later: text.encode("later"),
        stderr: text.encode("stderr"),
        large: bytes(70_000),
        stream: concat(Array.from({ length: 20 }, () => bytes(7000))),
        fail: text.encode("500 Internal Server Error\n"),
        stubborn: text.encode("stubborn"),
        wait: new Uint8Array(0)
      }
      if (!keepConnection) closes = true
      active.set(id, {
        id,
        role,
        kind,
        keepConnection,
        rest,
        expected: role === 1 ? results[kind] : role === 3 ? concat([body, data!]) : new Uint8Array(0),
        stdout: [],
        stderr: 0,
        aborted: false
      })
      return [R.beginRequest(id, role, { keepConnection })]
    }

    const step = (): ReadonlyArray<Record> => {
      // Whoever hands the connection over with its last request sends nothing but what is left of it: a connection that is
      // closed with unread input is reset, and its answers may be lost.
      const choice = closes ? 1 : next()
      if (choice < 0.15) return begin()
      if (choice < 0.2) {
        values++
        return [R.getValues(FastCgiParams.encodePairs([["FCGI_MAX_REQS", ""]]))]
      }
      if (choice < 0.22) {
        unknown++
        return [R.unrecognized(100 + below(100))]
      }
      if (choice < 0.25) return [R.stdin(500, bytes(10)), R.abortRequest(500), R.stdout(3), R.unrecognized(77, 4)]
      const request = pick([...active.values()])
      if (request === undefined) return []
      if (choice < 0.27) {
        request.aborted = true
        return [R.abortRequest(request.id)]
      }
      const record = request.rest.shift()
      return record === undefined ? [] : [record]
    }

    const send = (records: ReadonlyArray<Record>) =>
      Effect.gen(function*() {
        if (records.length === 0) return
        const sent = concat(records.map((record) => FastCgiEncoder.encode(record)))
        for (const piece of cut(sent, next() < 0.3 ? [below(sent.length), below(sent.length)] : [])) {
          trace(`sent ${digest(piece)}, ${yield* peer.pending} pending`)
          yield* peer.sendBytes(piece)
          if (next() < 0.3) yield* Effect.yieldNow
        }
      })

    for (let steps = 20 + below(200); steps > 0; steps--) {
      const records: Array<Record> = []
      for (let n = 1 + below(3); n > 0; n--) records.push(...step())
      yield* send(records)
      if (next() < 0.01) yield* peer.setCapacity(pick([1, 50, 1000, 20_000, 1 << 20]))
      if (next() < 0.02) yield* settle
    }

    trace(`${active.size} active, ${taken} taken`)
    const way = pick(["finish", "finish", "finish", "close", "reset", "end"])
    if (way === "finish") {
      finishing = true
      yield* peer.setCapacity(1 << 20)
      for (const request of [...active.values()]) {
        if (request.aborted) continue
        yield* send(request.rest.splice(0))
        if (request.kind === "wait" && request.role === 1) {
          request.aborted = true
          yield* send([R.abortRequest(request.id)])
        }
      }
      // What a full budget holds up is dropped after stallTimeout.
      yield* settle
      while (active.size > 0 && reading.pollUnsafe() === undefined) {
        const before = taken
        yield* TestClock.adjust("30 seconds")
        yield* settle
        const logs = yield* takeLogs
        if (logs.some(({ message }) => message.includes("stood unread"))) discards = true
        else if (taken === before) break
      }
      const failed = reading.pollUnsafe()
      if (failed !== undefined && active.size > 0) yield* failed
      assert.deepStrictEqual([...active.values()].map(({ id, kind, role }) => [id, role, kind]), [], "not ended")
      // A connection that is not kept closes, any other stays open.
      yield* settle
      if (closes) {
        assert.isDefined(reading.pollUnsafe(), "the connection has closed")
      } else {
        assert.strictEqual(values, 0, "answers to GET_VALUES")
        assert.strictEqual(unknown, 0, "answers to unknown types")
        assert.isUndefined(reading.pollUnsafe(), "the connection is open")
      }
    } else {
      const failed = reading.pollUnsafe()
      if (failed !== undefined && !closes) yield* failed
      if (way === "close") yield* peer.close
      else if (way === "reset") yield* peer.reset
      else yield* peer.end
    }
    yield* settle
    yield* Fiber.interrupt(reading)
  }).pipe(Effect.scoped)

describe("random conversations", () => {
  const file = "server/model.test.ts"
  const eventLog = process.env.EVENT_LOG
  const server = serve(handlers, { inputHighWaterMark, maxBufferedInput, outputHighWaterMark: 4096 })

  it.effect("leave the same log of events, byte for byte, every time they are played", () =>
    Effect.gen(function*() {
      const played = Effect.suspend(() => {
        const events: Array<string> = []
        return Effect.gen(function*() {
          for (let seed = 1001; seed <= (eventLog === undefined ? 1020 : 1400); seed++) {
            yield* conversation(seed, (event) => events.push(event))
            yield* settle
            for (const { level, message } of yield* takeLogs) events.push(`logged ${level} ${message}`)
          }
          return events
        }).pipe(Effect.scoped, Effect.provide(observe(server)))
      })
      const first = yield* played
      const second = yield* played
      assert.isAbove(first.length, 2000)
      for (let i = 0; i < first.length; i++) assert.strictEqual(second[i], first[i], `event ${i}`)
      assert.strictEqual(second.length, first.length)
      if (eventLog !== undefined) Fs.writeFileSync(eventLog, first.join("\n"))
    }))

  play(
    "end every request once, mix nothing up, and leave nothing behind",
    server,
    () =>
      Effect.gen(function*() {
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        const { first, last } = seeds(5000)
        for (let seed = first; seed <= last; seed++) {
          const exit = yield* Effect.exit(conversation(seed))
          if (Exit.isFailure(exit)) {
            return yield* Effect.die(new Error(`${replay(seed, file)}: ${Cause.pretty(exit.cause)}`))
          }
          yield* settle
          assert.strictEqual(admission.requestsUnsafe(), 0, `requests, ${replay(seed, file)}`)
          assert.strictEqual(admission.connectionsUnsafe(), 0, `connections, ${replay(seed, file)}`)
          assert.strictEqual(yield* fibersAtRest, idleFibers, `fibers, ${replay(seed, file)}`)
          const unexpected = (yield* takeLogs).filter(({ message }) => !/handler failed|stood unread/.test(message))
          assert.deepStrictEqual(unexpected, [], `logged, ${replay(seed, file)}`)
        }
      })
  )
})
