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

/** Registers a histogram that is read from somewhere else. */
export const histogram = (
  context: Context.Context<never>,
  metric: Metric.Histogram<number>,
  state: () => Metric.HistogramState
): void => register(context, metric, state)

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
