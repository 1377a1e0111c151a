/**
 * The parts of the benchmark, each of which can be run alone: what it measures, as tables, charts and data.
 */
import { type Group, groups, type Sweep, sweeps } from "./cases.ts"
import type { Plot } from "./harness/plot.ts"
import { latencyPlots, memoryPlots, type Plots, sweepPlots } from "./harness/plots.ts"
import { cells, type Line, summarize, type Table, text } from "./harness/report.ts"
import { type Plan, runWorkload, type Tools } from "./harness/run.ts"
import { startUp, startUpCells } from "./harness/startUp.ts"
import { runSweep, sweepCells } from "./harness/sweep.ts"
import { weigh, weightCells } from "./harness/weigh.ts"

export interface Context {
  /** For sockets and other files, empty. */
  readonly folder: string
  readonly tools: Tools
  readonly plan: Plan
}

export interface Outcome {
  /** What stands on a page under the section's name. */
  readonly table: Table
  readonly plots: Plots
  readonly data: unknown
  /** Whether something could not be measured. */
  readonly failed: boolean
}

export interface Section {
  readonly name: string
  readonly title: string
  /** What of it is there, for `--list`. */
  readonly parts: ReadonlyArray<string>
  /** Why it cannot be run on this machine. */
  readonly lacks: (tools: Tools) => string | undefined
  /** Prints tables as it goes. */
  readonly run: (context: Context) => Promise<Outcome>
}

/** A table of several workloads: the first column names the workload. */
const together = (parts: ReadonlyArray<readonly [workload: string, lines: ReadonlyArray<Line>]>): Table => {
  const [heads] = cells(parts.flatMap(([, lines]) => lines))
  return [
    ["case", ...heads!],
    ...parts.flatMap(([workload, lines]) =>
      cells(lines).slice(1).map((row, index) => [index === 0 ? workload : "", ...row])
    )
  ]
}

const comparison = (group: Group): Section => ({
  name: group.name,
  title: group.title,
  parts: [...group.workloads.map(({ name }) => name), ...group.targets.map(({ name }) => name)],
  lacks: (tools) =>
    group.through === "nginx" && (tools.nginx === undefined || tools.wrk === undefined)
      ? "needs nginx and wrk"
      : undefined,
  run: async ({ folder, plan, tools }) => {
    const parts: Array<readonly [string, ReadonlyArray<Line>]> = []
    const data: Array<unknown> = []
    const plots: Record<string, Plot> = {}
    let failed = false
    for (const workload of group.workloads) {
      const { series, unmeasured } = await runWorkload(group, workload, folder, tools, plan)
      const lines = summarize(series)
      console.log(`\n${workload.name}\n${text(cells(lines))}`)
      for (const [name, complaint] of unmeasured) console.log(`${name}: not measured: ${complaint}`)
      failed ||= unmeasured.size > 0 || lines.some(({ errors }) => errors > 0)
      parts.push([workload.name, lines])
      data.push({ workload: workload.name, lines, series })
      if (workload.name === "nginx hello, 32 clients, upstream kept") {
        Object.assign(plots, latencyPlots("32 clients through nginx", lines))
      }
    }
    return { table: together(parts), plots, data, failed }
  }
})

const growth = (sweep: Sweep): Section => ({
  name: sweep.name,
  title: sweep.title,
  parts: sweep.targets.map(({ name }) => name),
  lacks: () => undefined,
  run: async ({ folder, plan, tools }) => {
    const curves = await runSweep(sweep, folder, tools, { ...plan, starts: Math.min(plan.starts, 2) })
    const table = sweepCells(sweep, curves)
    console.log(`\n${text(table)}`)
    const failed = curves.some(({ samples }) => samples.flat().some(({ errors }) => errors > 0))
    return { table, plots: sweepPlots(sweep, curves), data: curves, failed }
  }
})

const memory: Section = {
  name: "memory",
  title: "What connections and requests weigh",
  parts: [],
  lacks: () => undefined,
  run: async ({ folder, plan, tools }) => {
    const weights = await weigh(folder, tools, Math.min(plan.starts, 2))
    const table = weightCells(weights)
    console.log(`\n${text(table)}`)
    return { table, plots: memoryPlots(weights), data: weights, failed: false }
  }
}

const starting: Section = {
  name: "start-up",
  title: "From the start of the process until it accepts a connection",
  parts: [],
  lacks: () => undefined,
  run: async ({ folder, plan }) => {
    const all = await startUp(folder, plan.starts * 2)
    const table = startUpCells(all)
    console.log(`\n${text(table)}`)
    return { table, plots: {}, data: all, failed: false }
  }
}

/**
 * What is left of a group after `--only`. A name that fits workloads chooses among them, one that fits servers chooses among those,
 * and a name that fits neither leaves the group out. The server that ratios are to is always measured.
 */
const chosenOf = (group: Group, fits: (name: string) => boolean): Group | undefined => {
  const workloads = group.workloads.filter(({ name }) => fits(name))
  const targets = group.targets.filter(({ name }, index) => index > 0 && fits(name))
  if (fits(group.name)) return group
  if (workloads.length === 0 && targets.length === 0) return undefined
  return {
    ...group,
    workloads: workloads.length === 0 ? group.workloads : workloads,
    targets: targets.length === 0 ? group.targets : [group.targets[0]!, ...targets]
  }
}

/** All sections, or what of them has one of these names. */
export const sections = (only: ReadonlyArray<string>): ReadonlyArray<Section> => {
  const fits = (name: string) => only.some((part) => name.toLowerCase().includes(part.toLowerCase()))
  const all = only.length === 0
  return [
    ...groups.map((group) => all ? group : chosenOf(group, fits)).filter((group) => group !== undefined)
      .map(comparison),
    ...sweeps.map(growth).filter(({ name }) => all || fits(name)),
    ...[memory, starting].filter(({ name }) => all || fits(name))
  ]
}
