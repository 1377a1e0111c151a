import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { constants, type PerformanceEntry, PerformanceObserver } from "node:perf_hooks"
import { Collections, count, least, most } from "../../src/node/internal/youngGeneration.ts"

const isOfYoung = (entry: PerformanceEntry): boolean =>
  "detail" in entry && (entry.detail as { readonly kind?: unknown }).kind === constants.NODE_PERFORMANCE_GC_MINOR

/** How many collections of the young generation there are while `run` runs. V8 may add some of its own. */
const collectionsOf = (run: () => void) =>
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

const mebibyte = 1024 * 1024

describe("the young generation", () => {
  it.live("is collected for input", () =>
    Effect.gen(function*() {
      const seen = yield* collectionsOf(() => {
        for (let read = 0; read < 4096; read++) count(65536)
      })
      // Some entries may not have been made yet: half of the collections are enough to know that V8 does what it is asked.
      assert.isAtLeast(seen, 256 * mebibyte / most / 2)
    }))

  it("leaves no gc in the program", () => {
    assert.isUndefined(globalThis.gc)
  })
})

describe("collections", () => {
  /** After how many bytes of input each collection comes, where so much is outside of the heap at each. */
  const periodsOf = (...external: ReadonlyArray<number>): ReadonlyArray<number> => {
    const periods: Array<number> = []
    let bytes = 0
    const collections = new Collections(() => external[periods.length], () => {
      periods.push(bytes)
      bytes = 0
    })
    while (periods.length < external.length) {
      bytes += mebibyte
      collections.count(mebibyte)
    }
    return periods
  }
  const times = <A>(count: number, value: A): ReadonlyArray<A> => Array.from({ length: count }, () => value)

  it("come once in 4 MiB, however the input is cut", () => {
    let seen = 0
    const collections = new Collections(() => 0, () => seen++)
    collections.count(least - 1)
    assert.strictEqual(seen, 0)
    collections.count(1)
    assert.strictEqual(seen, 1)
    for (let read = 0; read < 1024; read++) collections.count(65536)
    assert.strictEqual(seen, 17)
  })

  it("stay so where they free what has come, whatever else the program holds", () => {
    assert.deepStrictEqual(periodsOf(...times(100, 900 * mebibyte)), times(100, least))
  })

  it("stay so after one that has freed nothing", () => {
    assert.deepStrictEqual(periodsOf(0, least, least, 2 * least, 2 * least), times(5, least))
  })

  it("come half as often after two in a row that have freed nothing, down to once in 16 MiB", () => {
    assert.deepStrictEqual(periodsOf(0, least, 2 * least, 4 * least, 6 * least, 6 * least), [
      ...times(3, least),
      ...times(2, 2 * least),
      most
    ])
    assert.strictEqual(periodsOf(...Array.from({ length: 50 }, (_, index) => index * most))[49], most)
  })

  it("come twice as often after sixteen that have freed what had come, also where V8 has marked the program", () => {
    const growing = [0, least, 2 * least]
    assert.deepStrictEqual(periodsOf(...growing, ...times(15, 2 * least), 0, 0), [
      ...times(3, least),
      ...times(16, 2 * least),
      least
    ])
  })
})
