/**
 * Rounds into figures: medians, and medians of ratios taken within one round.
 */
import type { Sample } from "./load.ts"

/** The samples of one server in one workload, one a round. */
export interface Series {
  readonly target: string
  readonly samples: ReadonlyArray<Sample>
}

export interface Line {
  readonly target: string
  readonly rate: number
  readonly cpu: number
  readonly p50: number
  readonly p99: number
  /** To the baseline of the same round; the median over the rounds. */
  readonly rateRatio: number
  readonly cpuRatio: number
  /** The smallest and largest of the rounds' ratios, which say how far to trust the median. */
  readonly rateRatioRange: readonly [number, number]
  readonly errors: number
  readonly complaint: string
}

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  if (sorted.length === 0) return Number.NaN
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** One line a server; ratios are to the first series. */
export const summarize = (all: ReadonlyArray<Series>): ReadonlyArray<Line> => {
  const baseline = all[0]!
  return all.map(({ samples, target }) => {
    const rates = samples.map((sample, round) => sample.rate / baseline.samples[round]!.rate)
    return {
      target,
      rate: median(samples.map((sample) => sample.rate)),
      cpu: median(samples.map((sample) => sample.cpu)),
      p50: median(samples.map((sample) => sample.p50)),
      p99: median(samples.map((sample) => sample.p99)),
      rateRatio: median(rates),
      cpuRatio: median(samples.map((sample, round) => sample.cpu / baseline.samples[round]!.cpu)),
      rateRatioRange: [Math.min(...rates), Math.max(...rates)],
      errors: samples.reduce((sum, sample) => sum + sample.errors, 0),
      complaint: samples.map((sample) => sample.complaint).find((complaint) => complaint !== "") ?? ""
    }
  })
}

export const table = (lines: ReadonlyArray<Line>): string => {
  const rows = lines.map((line) => [
    line.target,
    line.rate >= 1000 ? `${(line.rate / 1000).toFixed(1)}k` : line.rate.toFixed(0),
    line.rateRatio.toFixed(2),
    `${line.rateRatioRange[0].toFixed(2)}–${line.rateRatioRange[1].toFixed(2)}`,
    line.cpu.toFixed(line.cpu < 100 ? 1 : 0),
    line.cpuRatio.toFixed(2),
    line.p50.toFixed(0),
    line.p99.toFixed(0),
    line.errors === 0 ? "" : `${line.errors} failed: ${line.complaint}`
  ])
  const heads = ["", "requests/s", "ratio", "of rounds", "CPU µs", "ratio", "p50 µs", "p99 µs", ""]
  const widths = heads.map((head, column) => Math.max(head.length, ...rows.map((row) => row[column]!.length)))
  return [heads, ...rows].map((row) =>
    row.map((cell, column) => column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)).join("  ")
      .trimEnd()
  ).join("\n")
}
