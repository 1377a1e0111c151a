/**
 * What a request costs the process that is looked at, of several kinds of process in turns: each measurement is a process of its own.
 */
import type { CpuTimes } from "./processes.ts"
import { median } from "./report.ts"

/** One kind of process. */
export interface Subject {
  readonly name: string
}

/** Microseconds of CPU a request, one of each start. */
export type Costs = ReadonlyArray<CpuTimes>

const total = ({ system, user }: CpuTimes): number => user + system

/** Measures each subject so many times, there and back: a machine that gets busier does so for all of them. */
export const inTurns = async <S extends Subject>(
  subjects: ReadonlyArray<S>,
  starts: number,
  measure: (subject: S) => Promise<CpuTimes>
): Promise<ReadonlyMap<S, Costs>> => {
  const costs = new Map(subjects.map((subject) => [subject, [] as Array<CpuTimes>]))
  for (let start = 0; start < starts; start++) {
    for (const subject of start % 2 === 0 ? subjects : subjects.toReversed()) {
      costs.get(subject)!.push(await measure(subject))
    }
  }
  return costs
}

const range = (figures: ReadonlyArray<number>, digits: number): string =>
  `${Math.min(...figures).toFixed(digits)}–${Math.max(...figures).toFixed(digits)}`

/** A line each. The ratios are to another subject, as it was in the same start: the first, and the second as well where `second` says so. */
export const table = (costs: ReadonlyMap<Subject, Costs>, second?: string): string => {
  const lines = [...costs]
  const width = Math.max(...lines.map(([{ name }]) => name.length))
  const ratios = (own: Costs, other: Costs): string => {
    const all = own.map((cost, i) => total(cost) / total(other[i]!))
    return median(all).toFixed(2).padStart(6) + range(all, 2).padStart(12)
  }
  const heads = ["CPU µs a request".padEnd(width), "median       range    user  system", " ratio       range"]
  if (second !== undefined) heads.push(`to ${second}`)
  return [
    heads.join("  "),
    ...lines.map(([{ name }, own]) =>
      [
        name.padEnd(width),
        median(own.map(total)).toFixed(1).padStart(6) + range(own.map(total), 1).padStart(12) +
        median(own.map(({ user }) => user)).toFixed(1).padStart(8) +
        median(own.map(({ system }) => system)).toFixed(1).padStart(8),
        ratios(own, lines[0]![1]),
        ...second === undefined ? [] : [ratios(own, lines[1]![1])]
      ].join("  ")
    )
  ].join("\n")
}
