/**
 * How the cost of a request grows with how many there are at once: each server is warmed up at every point before any is measured,
 * and the points are measured there and back within one process.
 */
import type { Sweep } from "../cases.ts"
import type { Sample } from "./load.ts"
import { fastCgi } from "./load.ts"
import { count, median, type Table } from "./report.ts"
import { type Plan, startServer, type Tools } from "./run.ts"

export interface Curve {
  readonly target: string
  /** For each point of the sweep, the samples of all starts and rounds. */
  readonly samples: ReadonlyArray<ReadonlyArray<Sample>>
}

export const runSweep = async (
  sweep: Sweep,
  folder: string,
  tools: Tools,
  plan: Plan
): Promise<ReadonlyArray<Curve>> => {
  const samples = sweep.targets.map(() => sweep.points.map(() => [] as Array<Sample>))
  const order = sweep.points.map((_, at) => at)
  for (let index = 0; index < plan.starts; index++) {
    for (const [at, target] of sweep.targets.entries()) {
      const server = await startServer(target.server, folder, tools, "hello")
      const measure = (point: number, seconds: number) =>
        fastCgi(tools.generator, sweep.workload(sweep.points[point]!), server, { seconds, warmUp: seconds / 4 })
      try {
        for (const point of order) await measure(point, plan.warmUp * plan.seconds / order.length)
        for (let round = 0; round < plan.rounds; round++) {
          for (const point of round % 2 === 0 ? order : order.toReversed()) {
            samples[at]![point]!.push(await measure(point, plan.seconds))
          }
        }
      } finally {
        await server.stop()
      }
    }
  }
  return sweep.targets.map((target, at) => ({ target: target.name, samples: samples[at]! }))
}

/** The median of a figure at each point. */
export const figures = (curve: Curve, figure: (sample: Sample) => number): ReadonlyArray<number> =>
  curve.samples.map((samples) => median(samples.map(figure)))

/** A line a server; in each cell requests a second, and CPU in microseconds a request. */
export const sweepCells = (sweep: Sweep, curves: ReadonlyArray<Curve>): Table => [
  [sweep.axis, ...sweep.points.map((point) => `${point}`), ""],
  ...curves.map((curve) => {
    const rates = figures(curve, ({ rate }) => rate)
    const cpus = figures(curve, ({ cpu }) => cpu)
    const failed = curve.samples.flat().filter(({ errors }) => errors > 0)
    return [
      curve.target,
      ...rates.map((rate, at) => `${count(rate)}/s ${cpus[at]!.toFixed(1)} µs`),
      failed.length === 0 ? "" : `failed: ${failed[0]!.complaint}`
    ]
  })
]
