/** A pool in front of an application that answers with anything: typed errors, no hang, no leak, and the next request is served. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import { FastCgiClientError } from "../../src/client/FastCgiClientError.ts"
import * as FastCgiHttpClient from "../../src/client/FastCgiHttpClient.ts"
import * as FastCgiPool from "../../src/client/FastCgiPool.ts"
import * as FastCgiEncoder from "../../src/protocol/FastCgiEncoder.ts"
import * as Record from "../../src/protocol/FastCgiRecord.ts"
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
