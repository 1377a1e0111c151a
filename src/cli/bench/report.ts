/**
 * The report of a measurement, for a person and as data.
 */
import * as Output from "../internal/output.ts"
import type { Latencies } from "./latencies.ts"

/** The measurement. */
export interface Measured {
  readonly latencies: Latencies
  /** Answers by status. */
  readonly statuses: ReadonlyMap<number, number>
  /** Failed requests by what went wrong. */
  readonly failures: ReadonlyMap<string, number>
  /** Bytes of bodies that were received. */
  readonly received: number
  /** Answers whose body is another than that of the first. */
  readonly different: number
  /** Bytes of the first answer's body. */
  readonly bodySize: number
  /** How long it took. */
  readonly seconds: number
  /** CPU that this command took, as a share of that time. */
  readonly cpu: number
}

/** The figures as data. Times are milliseconds. */
export const toJson = (measured: Measured): object => {
  const { cpu, different, failures, latencies, received, seconds, statuses } = measured
  return {
    seconds: round(seconds),
    requests: latencies.count,
    failed: total(failures),
    requestsPerSecond: round(latencies.count / seconds),
    bytesPerSecond: Math.round(received / seconds),
    milliseconds: {
      least: round(latencies.count === 0 ? 0 : latencies.least),
      mean: round(latencies.mean),
      ...Object.fromEntries(percentiles.map(([name, share]) => [name, round(latencies.percentile(share))])),
      most: round(latencies.most)
    },
    histogram: latencies.rows(rows).map(({ count, upTo }) => ({ upTo: round(upTo), count })),
    statuses: Object.fromEntries(statuses),
    failures: Object.fromEntries(failures),
    differentBodies: different,
    clientCpu: round(cpu)
  }
}

/** The figures for a person. */
export const toText = (
  measured: Measured,
  paint: (color: Output.Color, text: string) => string = (_, text) => text
): string => {
  const { bodySize, cpu, different, failures, latencies, received, seconds, statuses } = measured
  const failed = total(failures)
  const lines = Output.columns([
    [
      "Requests",
      paint(
        "bold",
        `${thousands(latencies.count)} in ${seconds.toFixed(1)} s, ${
          thousands(Math.round(latencies.count / seconds))
        } a second`
      )
    ],
    ["Received", `${Output.bytes(received)} of bodies, ${Output.bytes(received / seconds)} a second`],
    [
      "Answers",
      Array.from(statuses, ([status, count]) => `${thousands(count)} × ${status}`).join(", ") +
      (latencies.count === 0
        ? "none"
        : different === 0
        ? `, all with the same body of ${Output.bytes(bodySize)}`
        : `, ${thousands(different)} with another body than the first, of ${Output.bytes(bodySize)}`)
    ],
    ["Failed", failed === 0 ? "0" : paint("bad", thousands(failed))]
  ])
  const found = [...lines]
  for (const [why, count] of failures) found.push(paint("bad", `  ${thousands(count)} × ${why}`))
  if (latencies.count > 0) {
    found.push(
      "",
      ...Output.columns([
        ["Time", "least", "mean", ...percentiles.map(([name]) => name), "most"],
        [
          "",
          ...[
            latencies.least,
            latencies.mean,
            ...percentiles.map(([, share]) => latencies.percentile(share)),
            latencies.most
          ].map(Output.milliseconds)
        ]
      ]),
      "",
      ...histogram(latencies)
    )
  }
  if (cpu > busy) {
    found.push(
      "",
      paint(
        "warn",
        `This command took ${Math.round(cpu * 100)} % of a CPU and was the limit: the application may be faster.`
      )
    )
  }
  return `${found.join("\n")}\n`
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const percentiles = [["p50", 0.5], ["p90", 0.9], ["p99", 0.99], ["p99.9", 0.999]] as const

// Rows of the histogram, and the width of its longest bar.
const rows = 12
const barWidth = 40

// Where the figure is that of this command, and not of the application.
const busy = 0.9

const total = (counts: ReadonlyMap<unknown, number>): number => Array.from(counts.values()).reduce((a, b) => a + b, 0)

const thousands = (value: number): string => value.toLocaleString("en-US")

const round = (value: number): number => Math.round(value * 1000) / 1000

const histogram = (latencies: Latencies): ReadonlyArray<string> => {
  const found = latencies.rows(rows)
  const most = Math.max(...found.map(({ count }) => count))
  const cells = found.map(({ count, upTo }) => [
    `up to ${Output.milliseconds(upTo)}`,
    // Something, where there is something.
    "█".repeat(count === 0 ? 0 : Math.max(1, Math.round(count / most * barWidth))).padEnd(barWidth),
    thousands(count)
  ])
  return Output.columns(cells)
}
