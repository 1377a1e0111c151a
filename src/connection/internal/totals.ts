/**
 * What is counted with every connection and request: plain numbers, which are metrics of Effect to whoever reads them. An update of a
 * metric would cost a look-up in the registry each time.
 */
import * as Context from "effect/Context"
import * as Metric from "effect/Metric"

/**
 * The totals of a context: one for each `MetricRegistry` and its attributes. `make` registers them. Servers and pools come and go;
 * what they have counted stays, like any counter.
 */
export const totalsOf = <Totals>(
  make: (context: Context.Context<never>) => Totals
): (context: Context.Context<never>) => Totals => {
  const all = new WeakMap<object, Map<string, Totals>>()
  return (context) => {
    const registry = Context.get(context, Metric.MetricRegistry)
    const attributes = JSON.stringify(Object.entries(Context.get(context, Metric.CurrentMetricAttributes)).sort())
    let known = all.get(registry)
    if (known === undefined) all.set(registry, known = new Map())
    let totals = known.get(attributes)
    if (totals === undefined) known.set(attributes, totals = make(context))
    return totals
  }
}

/** Registers a counter that is read from a number. */
export const counter = (
  context: Context.Context<never>,
  metric: Metric.Counter<number>,
  count: () => number
): void => register(context, metric, () => ({ count: count(), incremental: true }))

/** Registers a gauge that is read from a number. */
export const gauge = (context: Context.Context<never>, metric: Metric.Gauge<number>, value: () => number): void =>
  register(context, metric, () => ({ value: value() }))

/** The counts of a histogram with these upper bounds, in ascending order. */
export class Histogram {
  private readonly boundaries: ReadonlyArray<number>
  // The last one is for what is above all of them.
  private readonly counts: Array<number>
  private count = 0
  private sum = 0
  private min = Infinity
  private max = -Infinity

  constructor(boundaries: ReadonlyArray<number>) {
    this.boundaries = boundaries
    this.counts = new Array<number>(boundaries.length + 1).fill(0)
  }

  add(value: number): void {
    const { boundaries } = this
    let at = 0
    while (at < boundaries.length && value > boundaries[at]) at++
    this.counts[at]++
    this.count++
    this.sum += value
    if (value < this.min) this.min = value
    if (value > this.max) this.max = value
  }

  /** As in a histogram of Effect, the counts add up. */
  state(): Metric.HistogramState {
    const { count, sum } = this
    let below = 0
    const buckets = this.boundaries.map((boundary, i): [number, number] => [boundary, below += this.counts[i]])
    return { buckets, count, min: count === 0 ? 0 : this.min, max: count === 0 ? 0 : this.max, sum }
  }
}

/** Registers a histogram that is read from its counts. */
export const histogram = (
  context: Context.Context<never>,
  metric: Metric.Histogram<number>,
  counts: Histogram
): void => register(context, metric, () => counts.state())

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const register = <Input, State>(
  context: Context.Context<never>,
  metric: Metric.Metric<Input, State>,
  get: () => State
): void => {
  Metric.registerUnsafe(metric, context, { get, update: nothing, modify: nothing })
}

const nothing = (): void => {}
