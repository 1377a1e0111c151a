/**
 * Samples into figures: medians, and medians of ratios taken within one round; figures into tables.
 */
import type { Latency, Sample } from "./load.ts"

/** The samples of one server in one workload: for each start, one a round. */
export interface Series {
  readonly target: string
  readonly starts: ReadonlyArray<ReadonlyArray<Sample>>
}

export type Range = readonly [least: number, most: number]

/** A ratio to the baseline of the same round of the same start. */
export interface Ratio {
  readonly median: number
  /** Over all rounds of all starts: how far to trust a single measurement. */
  readonly rounds: Range
  /** Of the medians of the starts. */
  readonly starts: Range
}

export interface Line {
  readonly target: string
  readonly rate: number
  readonly cpu: number
  readonly latency: Latency
  readonly rateRatio: Ratio
  readonly cpuRatio: Ratio
  readonly errors: number
  readonly complaint: string
}

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  if (sorted.length === 0) return Number.NaN
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

const range = (values: ReadonlyArray<number>): Range => [Math.min(...values), Math.max(...values)]

const ratio = (one: Series, baseline: Series, figure: (sample: Sample) => number): Ratio => {
  const starts = one.starts.map((rounds, start) =>
    rounds.map((sample, round) => figure(sample) / figure(baseline.starts[start]![round]!))
  )
  return { median: median(starts.flat()), rounds: range(starts.flat()), starts: range(starts.map(median)) }
}

/** One line a server; ratios are to the first series. */
export const summarize = (all: ReadonlyArray<Series>): ReadonlyArray<Line> =>
  all.map((one) => {
    const samples = one.starts.flat()
    const of = (figure: (sample: Sample) => number) => median(samples.map(figure))
    return {
      target: one.target,
      rate: of(({ rate }) => rate),
      cpu: of(({ cpu }) => cpu),
      latency: {
        p50: of(({ latency }) => latency.p50),
        p90: of(({ latency }) => latency.p90),
        p99: of(({ latency }) => latency.p99),
        p999: of(({ latency }) => latency.p999)
      },
      rateRatio: ratio(one, all[0]!, ({ rate }) => rate),
      cpuRatio: ratio(one, all[0]!, ({ cpu }) => cpu),
      errors: samples.reduce((sum, sample) => sum + sample.errors, 0),
      complaint: samples.map((sample) => sample.complaint).find((complaint) => complaint !== "") ?? ""
    }
  })

/** What is printed, and stands on a page: cells as text, the first row are the heads. */
export type Table = ReadonlyArray<ReadonlyArray<string>>

const rangeText = ([least, most]: Range): string => `${least.toFixed(2)}–${most.toFixed(2)}`

export const count = (value: number): string => value >= 1000 ? `${(value / 1000).toFixed(1)}k` : value.toFixed(0)

/** Where a start has one round, the spread over rounds is that over starts, and is left out. */
const oneRound = (lines: ReadonlyArray<Line>): boolean =>
  lines.every(({ rateRatio: { rounds, starts } }) => rounds[0] === starts[0] && rounds[1] === starts[1])

export const cells = (lines: ReadonlyArray<Line>): Table => [
  [
    "server",
    "requests/s",
    "ratio",
    "of starts",
    oneRound(lines) ? "" : "of rounds",
    "CPU µs",
    "ratio",
    "of starts",
    "p50 µs",
    "p99 µs",
    ""
  ],
  ...lines.map((line) => [
    line.target,
    count(line.rate),
    line.rateRatio.median.toFixed(2),
    rangeText(line.rateRatio.starts),
    oneRound(lines) ? "" : rangeText(line.rateRatio.rounds),
    line.cpu.toFixed(line.cpu < 100 ? 1 : 0),
    line.cpuRatio.median.toFixed(2),
    rangeText(line.cpuRatio.starts),
    line.latency.p50.toFixed(0),
    line.latency.p99.toFixed(0),
    line.errors === 0 ? "" : `${line.errors} failed: ${line.complaint}`
  ])
]

/** Without columns that have no cell. */
const used = (table: Table): Table => {
  const columns = table[0]!.map((_, column) => table.some((row) => row[column] !== ""))
  return table.map((row) => row.filter((_, column) => columns[column]))
}

/** For a terminal. */
export const text = (all: Table): string => {
  const table = used(all)
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)))
  return table.map((row) =>
    row.map((cell, column) => column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)).join("  ")
      .trimEnd()
  ).join("\n")
}

/** For a page; numbers stand on the right. */
export const markdown = (table: Table): string => {
  const [heads, ...rows] = used(table)
  const line = (row: ReadonlyArray<string>) => `| ${row.join(" | ")} |`
  const isNumbers = (column: number) => rows.every((row) => /^(?:\d.*)?$/.test(row[column]!))
  return [line(heads!), line(heads!.map((_, column) => isNumbers(column) ? "---:" : "---")), ...rows.map(line)].join(
    "\n"
  )
}
