import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import * as FastCgiClient from "../../src/client/FastCgiClient.ts"
import * as FastCgiParams from "../../src/protocol/FastCgiParams.ts"
import * as Record from "../../src/protocol/FastCgiRecord.ts"
import * as Application from "./application.ts"
import { answer, bytesOf, params, reasonOf, textOfStream } from "./application.ts"

describe("getValues", () => {
  it.effect("asks for names and returns the values", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const values = yield* Effect.forkScoped(client.getValues(["FCGI_MAX_CONNS", "FCGI_MPXS_CONNS"]))
      const asked = yield* app.untilTag("GetValues")
      assert.deepStrictEqual(
        Array.from(FastCgiParams.fromBytes((asked as Record.GetValues).content) as FastCgiParams.FastCgiParams),
        [["FCGI_MAX_CONNS", ""], ["FCGI_MPXS_CONNS", ""]]
      )
      yield* app.send(Record.getValuesResult(FastCgiParams.encodePairs([["FCGI_MPXS_CONNS", "1"]])))
      assert.deepStrictEqual({ ...(yield* Fiber.join(values)) }, { FCGI_MPXS_CONNS: "1" })
    }))

  it.effect("takes UNKNOWN_TYPE for an answer without values", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const values = yield* Effect.forkScoped(client.getValues(["FCGI_MAX_CONNS"]))
      yield* app.untilTag("GetValues")
      yield* app.send(Record.unknownType(Record.RecordType.GetValues))
      assert.deepStrictEqual({ ...(yield* Fiber.join(values)) }, {})
    }))

  it.effect("gives up after the timeout, and takes a late answer for what it is", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const first = yield* Effect.forkScoped(Effect.exit(client.getValues(["A"], { timeout: "3 seconds" })))
      yield* app.untilTag("GetValues")
      yield* TestClock.adjust("2999 millis")
      assert.isUndefined(first.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(reasonOf(yield* Fiber.join(first)), "Timeout")
      const second = yield* Effect.forkScoped(client.getValues(["B"]))
      yield* app.untilTag("GetValues", 2)
      yield* app.send(Record.getValuesResult(FastCgiParams.encodePairs([["A", "late"]])))
      yield* app.send(Record.getValuesResult(FastCgiParams.encodePairs([["B", "2"]])))
      assert.deepStrictEqual({ ...(yield* Fiber.join(second)) }, { B: "2" })
    }))

  it.effect("returns the values of an application that closes afterwards", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const values = yield* Effect.forkScoped(client.getValues(["FCGI_MPXS_CONNS"]))
      yield* app.untilTag("GetValues")
      yield* app.send(Record.getValuesResult(FastCgiParams.encodePairs([["FCGI_MPXS_CONNS", "0"]])))
      yield* app.close
      assert.deepStrictEqual({ ...(yield* Fiber.join(values)) }, { FCGI_MPXS_CONNS: "0" })
      yield* client.closed
    }))

  it.effect("fails when the application closes instead", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const values = yield* Effect.forkScoped(Effect.exit(client.getValues(["FCGI_MPXS_CONNS"])))
      yield* app.untilTag("GetValues")
      yield* app.close
      assert.strictEqual(reasonOf(yield* Fiber.join(values)), "Closed")
    }))

  it.effect("works in the middle of a request", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const response = yield* client.request({ params })
      const values = yield* Effect.forkScoped(client.getValues(["A"]))
      yield* app.untilTag("GetValues")
      yield* app.send(
        Record.stdout(1, bytesOf("a")),
        Record.getValuesResult(FastCgiParams.encodePairs([["A", "1"]])),
        ...answer(1, "b")
      )
      assert.strictEqual(yield* textOfStream(response.stdout), "ab")
      assert.deepStrictEqual({ ...(yield* Fiber.join(values)) }, { A: "1" })
    }))
})
