import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { constants, type PerformanceEntry, PerformanceObserver } from "node:perf_hooks"
import { count, least, most, Period } from "../../src/node/internal/youngGeneration.ts"

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
  it.live("is collected once in 4 MiB of input, however it is cut", () =>
    Effect.gen(function*() {
      count(least)
      assert.strictEqual(yield* collections(() => count(least - 1)), 0)
      assert.strictEqual(yield* collections(() => count(1)), 1)
      const reads = yield* collections(() => {
        for (let i = 0; i < 1024; i++) count(65536)
      })
      assert.strictEqual(reads, 16)
    }))

  it("leaves no gc in the program", () => {
    assert.isUndefined(globalThis.gc)
  })
})

describe("the period of its collections", () => {
  const after = (...external: ReadonlyArray<number>): number => {
    const period = new Period()
    for (const bytes of external) period.next(bytes)
    return period.bytes
  }
  const mebibyte = 1024 * 1024
  const times = (count: number, bytes: number): ReadonlyArray<number> => Array.from({ length: count }, () => bytes)

  it("stays where collections free what has come, whatever else the program holds", () => {
    assert.strictEqual(after(...times(100, 900 * mebibyte)), least)
  })

  it("stays after one collection that has freed nothing", () => {
    assert.strictEqual(after(0, least, least, 2 * least, 2 * least), least)
  })

  it("is doubled by two collections in a row that have freed nothing, up to 16 MiB", () => {
    assert.strictEqual(after(0, least, 2 * least), 2 * least)
    assert.strictEqual(after(0, least, 2 * least, 4 * least, 6 * least), most)
    assert.strictEqual(after(...Array.from({ length: 50 }, (_, index) => index * most)), most)
  })

  it("is halved by sixteen that have freed what had come, also when V8 has marked the program", () => {
    assert.strictEqual(after(0, least, 2 * least, ...times(15, 2 * least)), 2 * least)
    assert.strictEqual(after(0, least, 2 * least, ...times(15, 2 * least), 0), least)
  })
})
