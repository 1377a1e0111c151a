/**
 * The figures of `bench`: percentiles of known times, and how they are shown.
 */
import { assert, describe, it } from "@effect/vitest"
import { Latencies } from "../../src/cli/bench/latencies.ts"
import { toJson, toText } from "../../src/cli/bench/report.ts"

const measured = (latencies: Latencies, failures: ReadonlyMap<string, number> = new Map()) => ({
  latencies,
  statuses: new Map([[200, latencies.count]]),
  failures,
  received: 6 * latencies.count,
  different: 0,
  bodySize: 6,
  seconds: 2,
  cpu: 0.5
})

describe("the figures of bench", () => {
  it("are those of the times, to 1.6 percent", () => {
    const latencies = new Latencies()
    for (let i = 1; i <= 10_000; i++) latencies.add(i / 100)
    assert.strictEqual(latencies.count, 10_000)
    assert.approximately(latencies.mean, 50.005, 1e-6)
    for (const share of [0.01, 0.5, 0.9, 0.99, 0.999]) {
      const exact = share * 100
      assert.isAtLeast(latencies.percentile(share), exact * 0.984)
      assert.isAtMost(latencies.percentile(share), exact * 1.016)
    }
    assert.strictEqual(latencies.percentile(1), 100)
    const rows = latencies.rows(12)
    assert.isAtMost(rows.length, 12)
    assert.strictEqual(rows.reduce((sum, { count }) => sum + count, 0), 10_000)
  })

  it("take what is shorter than a microsecond, longer than an hour, and nothing", () => {
    const latencies = new Latencies()
    assert.deepStrictEqual([latencies.percentile(0.5), latencies.mean, latencies.rows(10)], [0, 0, []])
    latencies.add(0)
    latencies.add(1e9)
    assert.strictEqual(latencies.percentile(1), 1e9)
    assert.isAtMost(latencies.percentile(0.5), 0.002)
    assert.include(toText(measured(new Latencies())), "Requests  0 in 2.0 s")
  })

  it("are shown with what failed, and as data", () => {
    const latencies = new Latencies()
    for (const time of [1, 1, 1, 2]) latencies.add(time)
    const text = toText(measured(latencies, new Map([["status 500", 2]])))
    assert.match(text, /^Requests {2}4 in 2\.0 s, 2 a second$/m)
    assert.match(text, /^Answers {3}4 × 200, all with the same body of 6 B$/m)
    assert.match(text, /^Failed {4}2\n {2}2 × status 500$/m)
    assert.match(text, /^up to 1\.\d ms {2}█{40} {2}3$/m)
    assert.notInclude(text, "was the limit")
    assert.include(toText({ ...measured(latencies), cpu: 0.99 }), "was the limit")
    assert.deepInclude(toJson(measured(latencies)), {
      requests: 4,
      failed: 0,
      requestsPerSecond: 2,
      statuses: { 200: 4 }
    })
  })
})
