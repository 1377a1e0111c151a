import { assert, describe, it } from "@effect/vitest"
import { FastCgiWorkers } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"

const Cached = FastCgiWorkers.topic("cached", Schema.Struct({ entries: Schema.Int }))

describe("workers of a process without a supervisor", () => {
  it.effect("are itself alone: it answers what it reports, while it does", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* FastCgiWorkers.supervisor, Option.none())
      assert.deepStrictEqual(yield* FastCgiWorkers.gather(Cached), [])
      let entries = 1
      yield* Effect.scoped(Effect.gen(function*() {
        yield* FastCgiWorkers.report(Cached, Effect.sync(() => ({ entries })))
        entries = 2
        assert.deepStrictEqual(yield* FastCgiWorkers.gather(Cached), [{ worker: 0, value: { entries: 2 } }])
      }))
      assert.deepStrictEqual(yield* FastCgiWorkers.gather(Cached), [])
    }))

  it.effect("leaves out a report of another shape", () =>
    Effect.gen(function*() {
      yield* FastCgiWorkers.report(FastCgiWorkers.topic("cached", Schema.String), Effect.succeed("an older version"))
      assert.deepStrictEqual(yield* FastCgiWorkers.gather(Cached), [])
    }).pipe(Effect.scoped))

  it.effect("lets a later report replace an earlier one, which does not take it along when it ends", () =>
    Effect.gen(function*() {
      const first = yield* Effect.scope
      yield* Effect.scoped(Effect.gen(function*() {
        yield* FastCgiWorkers.report(Cached, Effect.succeed({ entries: 1 }))
        yield* Effect.provideService(FastCgiWorkers.report(Cached, Effect.succeed({ entries: 2 })), Scope.Scope, first)
      }))
      assert.deepStrictEqual(yield* FastCgiWorkers.gather(Cached), [{ worker: 0, value: { entries: 2 } }])
    }).pipe(Effect.scoped))
})
