/** A pool in front of an application that answers with anything: typed errors, no hang, no leak, and the next request is served. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import { TestClock } from "effect/testing"
import { FastCgiClientError } from "../../src/client/FastCgiClientError.ts"
import * as FastCgiHttpClient from "../../src/client/FastCgiHttpClient.ts"
import * as FastCgiPool from "../../src/client/FastCgiPool.ts"
import * as FastCgiEncoder from "../../src/protocol/FastCgiEncoder.ts"
import * as Record from "../../src/protocol/FastCgiRecord.ts"
import { held } from "../server/support/memory.ts"
import { withinMemory } from "../support/within.ts"
import type * as Application from "./application.ts"
import { answer, bytesOf, concat } from "./application.ts"
import { applications, untilRequest, url } from "./applications.ts"

const turns = Effect.repeat(Effect.yieldNow, { times: 30 })

type Act = (app: Application.Application) => Effect.Effect<unknown>

const whole = concat(answer(1, "Status: 200 OK\r\n\r\nwhole").map((record) => FastCgiEncoder.encode(record)))

const acts: ReadonlyArray<readonly [what: string, expected: RegExp, act: Act]> = [
  ["says nothing", /^Timeout$/, () => Effect.void],
  ["answers another id", /^Timeout$/, (app) => app.send(...answer(2, "\r\nx"))],
  ["ends twice", /^x$/, (app) => app.send(...answer(1, "\r\nx"), Record.endRequest(1))],
  ["never ends", /^Timeout$/, (app) => app.send(Record.stdout(1, bytesOf("\r\nx")))],
  [
    "goes on behind the end of STDOUT",
    /^x$/,
    (app) =>
      app.send(
        Record.stdout(1, bytesOf("\r\nx")),
        Record.stdout(1),
        Record.stdout(1, bytesOf("y")),
        Record.endRequest(1)
      )
  ],
  [
    "has an endless head",
    /^BadHead$/,
    (app) =>
      app.send(Record.stdout(1, bytesOf(`X: ${"y".repeat(65_000)}`)), Record.stdout(1, bytesOf("y".repeat(2000))))
  ],
  ["has a broken head", /^BadHead$/, (app) => app.send(...answer(1, "no head\r\n\r\n"))],
  ["has no answer", /^BadHead$/, (app) => app.send(Record.endRequest(1, 7))],
  [
    "writes to STDERR without end",
    /^Timeout$/,
    (app) => app.send(...Array.from({ length: 200 }, () => Record.stderr(1, bytesOf("z".repeat(8000)))))
  ],
  ["speaks HTTP", /^ProtocolError$/, (app) => app.sendBytes(bytesOf("HTTP/1.1 400 Bad Request\r\n\r\n"))],
  ["sends single bytes", /^whole$/, (app) => app.sendBytes(...Array.from(whole, (byte) => new Uint8Array([byte])))],
  [
    "sends a record for each byte",
    /^abc$/,
    (app) =>
      app.send(...Array.from("\r\nabc", (character) => Record.stdout(1, bytesOf(character))), Record.endRequest(1))
  ]
]

const outcomeOf = (error: unknown): string => {
  const cause = error !== null && typeof error === "object" && "reason" in error
    ? (error.reason as { readonly cause?: unknown }).cause
    : undefined
  return cause instanceof FastCgiClientError ? cause.reason._tag : `untyped: ${String(error)}`
}

/** What a POST comes to when the application acts like that, and whether the next is served by a pool of one. */
const play = Effect.fnUntraced(function*(act: Act) {
  const { connect, opened } = yield* applications()
  const pool = yield* FastCgiPool.make({ connect, keepConnection: true, maxConnections: 1 })
  const client = yield* FastCgiHttpClient.fromPool(pool, { headTimeout: "5 seconds", bodyTimeout: "5 seconds" })
  const request = yield* Effect.forkScoped(
    Effect.flatMap(client.post(url), (response) => response.text).pipe(
      Effect.matchCause({
        onSuccess: (text) => text,
        onFailure: (cause) => outcomeOf(cause.reasons.find(Cause.isFailReason)?.error)
      })
    )
  )
  yield* turns
  yield* untilRequest(opened[0])
  yield* act(opened[0])
  yield* turns
  yield* TestClock.adjust("5 seconds")
  yield* turns
  const outcome = yield* withinMemory(() => "the outcome")(Fiber.join(request))
  // The pool goes on, with the same connection or another one, and never with two.
  yield* TestClock.adjust("31 seconds")
  const next = yield* Effect.forkScoped(Effect.flatMap(client.post(url), (response) => response.text))
  yield* turns
  const app = opened[opened.length - 1]
  yield* untilRequest(app, opened.length === 1 ? 2 : 1)
  yield* app.send(...answer(1, "\r\nnext"))
  assert.strictEqual(yield* withinMemory(() => "the next answer")(Fiber.join(next)), "next")
  assert.deepInclude(pool.statesUnsafe()[0], { connections: 1, idle: 1, opening: 0 })
  assert.strictEqual(pool.waitingUnsafe(), 0)
  return outcome
})

const MiB = 1024 * 1024

/** Sends a part again and again, as a socket would bring it, and lets the client take what it takes. */
const flood = (app: Application.Application, records: ReadonlyArray<Record.FastCgiRecord>, size = 4 * MiB) =>
  Effect.gen(function*() {
    const part = concat(records.map((record) => FastCgiEncoder.encode(record)))
    for (let sent = 0; sent < size; sent += part.length) {
      yield* app.sendBytes(part)
      yield* Effect.yieldNow
      yield* Effect.yieldNow
    }
    yield* turns
  })

const many = (count: number, record: Record.FastCgiRecord) => Array.from({ length: count }, () => record)

describe("a pool keeps little in memory where an application sends 4 MiB", () => {
  // What a connection may hold unread is 256 KiB, and as much of STDERR; what is in flight comes on top.
  const most = 2 * MiB

  for (
    const [what, before, records] of [
      ["of STDERR", [], many(8, Record.stderr(1, bytesOf("x".repeat(8000))))],
      ["of STDERR in empty lines", [], many(8, Record.stderr(1, bytesOf("\n".repeat(8000))))],
      ["of STDERR in records of one byte", [], many(4000, Record.stderr(1, bytesOf("x")))],
      ["for other ids", [], many(8, Record.stdout(7, bytesOf("x".repeat(8000))))],
      ["behind the end of STDOUT", [Record.stdout(1)], many(8, Record.stdout(1, bytesOf("x".repeat(8000))))],
      [
        "behind its answer",
        answer(1, "Content-Length: 1\r\n\r\nx"),
        many(8, Record.stdout(1, bytesOf("x".repeat(8000))))
      ],
      ["of a head that has no end", [], many(8, Record.stdout(1, bytesOf("x: y\r\n".repeat(1000))))]
    ] as const
  ) {
    it.effect(what, () =>
      Effect.gen(function*() {
        const { connect, opened } = yield* applications()
        const pool = yield* FastCgiPool.make({ connect, keepConnection: true, maxConnections: 1 })
        const client = yield* FastCgiHttpClient.fromPool(pool)
        const request = yield* Effect.forkScoped(Effect.exit(client.post(url)))
        yield* turns
        const app = opened[0]
        yield* untilRequest(app)
        yield* app.send(...before)
        const heldBefore = held()
        // What the transport has not been able to hand on is the application's, as it would be behind a socket.
        yield* flood(app, records)
        const grown = held() - heldBefore - app.transport.pendingUnsafe()
        assert.isBelow(grown, most)
        yield* app.close
        yield* withinMemory(() => "the end of the request")(Fiber.join(request))
        // The next is served, on a connection of its own.
        const next = yield* Effect.forkScoped(Effect.flatMap(client.post(url), (response) => response.text))
        yield* turns
        yield* untilRequest(opened[opened.length - 1], 1)
        yield* opened[opened.length - 1].send(...answer(1, "\r\nnext"))
        assert.strictEqual(yield* withinMemory(() => "the next answer")(Fiber.join(next)), "next")
        assert.deepInclude(pool.statesUnsafe()[0], { connections: 1, idle: 1, opening: 0 })
      }).pipe(Effect.provide(Logger.layer([]))))
  }
})

describe("a pool stays healthy where an application", () => {
  for (const [what, expected, act] of acts) {
    it.effect(what, () =>
      Effect.gen(function*() {
        assert.match(yield* play(act), expected)
      }))
  }

  it.effect("closes or resets at every byte of its answer", () =>
    Effect.gen(function*() {
      for (let at = 0; at <= whole.length; at++) {
        for (const end of ["close", "reset"] as const) {
          const outcome = yield* Effect.scoped(
            play((app) =>
              Effect.andThen(
                app.sendBytes(...(at === 0 ? [] : [whole.subarray(0, at)])),
                Effect.andThen(turns, app[end])
              )
            )
          )
          assert.match(outcome, /^(ConnectionLost|Truncated|ProtocolError|BadHead|whole)$/, `${end} at ${at}`)
          if (at < 40) assert.notStrictEqual(outcome, "whole", `${end} at ${at}`)
        }
      }
    }))
})
