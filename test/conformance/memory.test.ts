/**
 * The whole suite against our own server in memory: no socket, no process.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Effect from "effect/Effect"
import * as Conformance from "../../src/conformance/Conformance.ts"
import { App } from "./support/faults.ts"
import { findsNothing } from "./support/findsNothing.ts"

describe("the conformance suite in memory", () => {
  it.live("finds nothing in effect-fastcgi", () =>
    Effect.gen(function*() {
      const memory = yield* FastCgiTest.FastCgiMemory
      yield* findsNothing(memory.connect)
    }).pipe(Effect.provide(App)))

  it("has every case under a row of its own words", () => {
    const keys = Conformance.cases.map((one) => `${one.row} ${one.title}`)
    assert.strictEqual(new Set(keys).size, keys.length)
    for (const one of Conformance.cases) assert.match(one.row, /^(?:\d(?:\.\d)?|[AB])-[a-z0-9]+$/, one.title)
  })
})
