/**
 * The whole suite against our own server, which passes all of it.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Conformance from "../../../src/conformance/Conformance.ts"

/** Runs the suite over these connections. One case does not apply to the application. */
export const findsNothing = (connect: Conformance.Options["connect"]) =>
  Effect.gen(function*() {
    const report = yield* Conformance.run({
      connect,
      server: "effect-fastcgi",
      deadline: "10 seconds",
      quiet: "20 millis"
    })
    const found = report.lines.filter((line) => line.result !== "pass")
    assert.deepStrictEqual(found.map(({ came, result, row }) => `${row} ${result}: ${came}`), [
      "6.1-e n/a: the application has no /nothing"
    ])
    assert.isAbove(report.lines.length, 140)
  })
