/** What an application writes to STDERR, in the errors of its requests. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import { FastCgiClientError } from "../../src/client/FastCgiClientError.ts"
import * as FastCgiHttpClient from "../../src/client/FastCgiHttpClient.ts"
import * as Record from "../../src/protocol/FastCgiRecord.ts"
import { within } from "../support/within.ts"
import { bytesOf } from "./application.ts"
import { applications, untilRequest, url } from "./applications.ts"

const turns = Effect.repeat(Effect.yieldNow, { times: 20 })

const stderr = (text: string) => Record.stderr(1, bytesOf(text))
const stdout = (text: string) => Record.stdout(1, bytesOf(text))
const end = [Record.stdout(1), Record.endRequest(1)]

interface Play {
  readonly options?: Partial<FastCgiHttpClient.FastCgiHttpClientOptions>
  readonly records: ReadonlyArray<Record.FastCgiRecord>
  /** What the application does then. */
  readonly then?: "close" | "wait"
}

/** The text of the answer, or the error of the client under that of `HttpClient`. */
const play = Effect.fnUntraced(function*({ options, records, then }: Play) {
  const { connect, opened } = yield* applications()
  const client = yield* FastCgiHttpClient.make({
    connect,
    keepConnection: true,
    catchStderr: "Fatal error:",
    ...options
  })
  const asked = yield* Effect.forkScoped(
    Effect.exit(Effect.flatMap(client.post(url), (response) => response.text))
  )
  yield* turns
  yield* untilRequest(opened[0])
  yield* opened[0].send(...records)
  yield* turns
  if (then === "close") yield* opened[0].close
  if (then === "wait") yield* TestClock.adjust("10 seconds")
  const exit = yield* within(() => "an outcome")(Fiber.join(asked))
  if (Exit.isSuccess(exit)) return exit.value
  const error = exit.cause.reasons.find(Cause.isFailReason)?.error
  const cause = error?.reason.cause
  assert.instanceOf(cause, FastCgiClientError)
  // Whoever prints the error of the HttpClient reads it, too.
  assert.include(error?.message, cause.stderr ?? "")
  return { reason: cause.reason._tag, stderr: cause.stderr, message: cause.message }
})

describe("catchStderr", () => {
  const said = "Fatal error: out of paper"

  for (
    const [where, records] of [
      ["in front of the head", [stderr(said), stdout("Status: 500\r\n\r\n"), ...end]],
      ["inside of the head", [stdout("Status: 500\r\n"), stderr(said), stdout("\r\n"), ...end]],
      ["behind the head", [stdout("\r\nhalf"), stderr(said), ...end]],
      ["in pieces", [stdout("\r\nhalf"), ...Array.from(said, stderr), ...end]],
      ["behind other lines", [stderr("a warning\n" + "x".repeat(9000) + "\n" + said), stdout("\r\n"), ...end]]
    ] as const
  ) {
    it.effect(`makes a request fail where its text comes ${where}`, () =>
      Effect.gen(function*() {
        const outcome = yield* play({ records })
        assert.isObject(outcome)
        const { message, reason, stderr } = outcome as Exclude<typeof outcome, string>
        assert.strictEqual(reason, "ApplicationError")
        assert.isTrue(stderr?.endsWith(said))
        assert.isAtMost(stderr!.length, 4096)
        assert.strictEqual(message, `the application failed: ${stderr}`)
      }))
  }

  for (
    const [what, play_] of [
      ["other texts", { records: [stderr("Fatal weather"), stdout("\r\nfine"), ...end] }],
      ["a text that is nowhere", { records: [stderr(said), stdout("\r\nfine"), ...end], options: { catchStderr: [] } }],
      ["an empty text", { records: [stderr("x"), stdout("\r\nfine"), ...end], options: { catchStderr: "" } }],
      ["what comes behind the whole answer", {
        records: [stdout("Content-Length: 4\r\n\r\nfine"), stderr(said), ...end]
      }]
    ] satisfies ReadonlyArray<readonly [string, Play]>
  ) {
    it.effect(`minds no ${what}`, () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* play(play_), "fine")
      }))
  }
})

describe("an error tells what the application had written to STDERR", () => {
  const line = "I am \u001b[31mlost\n  in thought\n"
  const told = "I am \\x1b[31mlost\n  in thought"

  for (
    const [reason, play_] of [
      ["ConnectionLost", { records: [stderr(line)], then: "close" }],
      ["Truncated", { records: [stderr(line), stdout("\r\nhalf")], then: "close" }],
      ["Truncated", { records: [stdout("Content-Length: 9\r\n\r\nhalf"), stderr(line), ...end] }],
      ["BadHead", { records: [stderr(line), ...end] }],
      ["Timeout", { records: [stderr(line)], then: "wait", options: { headTimeout: "10 seconds" } }],
      ["Timeout", { records: [stdout("\r\n"), stderr(line)], then: "wait", options: { bodyTimeout: "10 seconds" } }]
    ] satisfies ReadonlyArray<readonly [string, Play]>
  ) {
    it.effect(`when it is a ${reason}${play_.records.length > 1 ? " inside of the answer" : ""}`, () =>
      Effect.gen(function*() {
        const outcome = yield* play(play_)
        assert.isObject(outcome)
        const { message, reason: got, stderr } = outcome as Exclude<typeof outcome, string>
        assert.strictEqual(got, reason)
        assert.strictEqual(stderr, told)
        assert.isTrue(message.endsWith(`; it wrote to STDERR: ${told}`))
      }))
  }

  it.effect("and nothing where it wrote nothing", () =>
    Effect.gen(function*() {
      const outcome = yield* play({ records: [], then: "close" })
      assert.isObject(outcome)
      const { reason, stderr } = outcome as Exclude<typeof outcome, string>
      assert.deepStrictEqual([reason, stderr], ["ConnectionLost", undefined])
    }))

  it.effect("in 4 KiB, the last that came", () =>
    Effect.gen(function*() {
      const numbers = Array.from({ length: 5000 }, (_, i) => stderr(`${i} `))
      const outcome = yield* play({ records: [...numbers, ...end] })
      const { stderr: text } = outcome as Exclude<typeof outcome, string>
      assert.isAtMost(text!.length, 4096)
      assert.isAbove(text!.length, 4000)
      assert.isTrue(text!.endsWith("4997 4998 4999"))
    }))
})
