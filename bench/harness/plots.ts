/**
 * The charts that the benchmark draws of its figures.
 */
import type { Sweep } from "../cases.ts"
import type { Sample } from "./load.ts"
import type { Plot } from "./plot.ts"
import type { Line } from "./report.ts"
import { type Curve, figures } from "./sweep.ts"
import type { Weight } from "./weigh.ts"

/** Files by name, without `.svg`. */
export type Plots = Readonly<Record<string, Plot>>

const ofSweep = (
  sweep: Sweep,
  curves: ReadonlyArray<Curve>,
  title: string,
  y: string,
  figure: (sample: Sample) => number
): Plot => ({
  title,
  x: sweep.axis,
  y,
  logX: true,
  series: curves.map((curve) => ({
    name: curve.target,
    points: figures(curve, figure).map((value, at) => [sweep.points[at]!, value] as const)
  }))
})

const fileNames: Readonly<Record<string, string>> = {
  "busy connections": "connections",
  "ids on one connection": "ids"
}

export const sweepPlots = (sweep: Sweep, curves: ReadonlyArray<Curve>): Plots => {
  const file = fileNames[sweep.name] ?? sweep.name
  const plot = (title: string, y: string, figure: (sample: Sample) => number) =>
    ofSweep(sweep, curves, `${title}, ${sweep.name}`, y, figure)
  return {
    [`${file}-throughput`]: plot("Throughput", "requests/s", ({ rate }) => rate),
    [`${file}-cpu`]: plot("CPU of the server", "µs a request", ({ cpu }) => cpu)
  }
}

export const memoryPlots = (weights: ReadonlyArray<Weight>): Plots => ({
  memory: {
    title: "Resident memory by idle connections",
    x: "connections, each after one request",
    y: "MB",
    series: weights.map(({ curve, target }) => ({
      name: target,
      points: curve.map(([connections, bytes]) => [connections, bytes / 1e6] as const)
    }))
  }
})

const percentiles = ["p50", "p90", "p99", "p999"] as const

export const latencyPlots = (workload: string, lines: ReadonlyArray<Line>): Plots => ({
  latency: {
    title: `Latency, ${workload}`,
    x: "of the requests",
    y: "µs",
    logY: true,
    labelX: (at) => ["half", "90 %", "99 %", "99.9 %"][at]!,
    series: lines.map(({ latency, target }) => ({
      name: target,
      points: percentiles.map((name, at) => [at, latency[name]] as const)
    }))
  }
})
