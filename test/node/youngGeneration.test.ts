import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { constants, type PerformanceEntry, PerformanceObserver } from "node:perf_hooks"
import { count, period } from "../../src/node/internal/youngGeneration.ts"

const isOfYoung = (entry: PerformanceEntry): boolean =>
  "detail" in entry && (entry.detail as { readonly kind?: unknown }).kind === constants.NODE_PERFORMANCE_GC_MINOR

/** How many collections of the young generation there are while `run` runs, which allocates next to nothing. */
const collections = (run: () => void) =>
  Effect.callback<number>((resume) => {
    let seen = 0
    const see = (entries: Array<PerformanceEntry>) => {
      seen += entries.filter(isOfYoung).length
    }
    const observer = new PerformanceObserver((list) => see(list.getEntries()))
    observer.observe({ entryTypes: ["gc"] })
    run()
    // Node makes the entries in a turn of its own.
    setImmediate(() =>
      setImmediate(() => {
        see(observer.takeRecords())
        observer.disconnect()
        resume(Effect.succeed(seen))
      })
    )
  })

describe("the young generation", () => {
  it.live("is collected once in 16 MiB of input, however it is cut", () =>
    Effect.gen(function*() {
      count(period)
      assert.strictEqual(yield* collections(() => count(period - 1)), 0)
      assert.strictEqual(yield* collections(() => count(1)), 1)
      const reads = yield* collections(() => {
        for (let i = 0; i < 1024; i++) count(65536)
      })
      assert.strictEqual(reads, 4)
    }))

  it("leaves no gc in the program", () => {
    assert.isUndefined(globalThis.gc)
  })
})
