/**
 * A chart of lines as SVG, in a form that a page of documentation shows as it is: no script, no font of its own.
 */

export interface PlotSeries {
  readonly name: string
  readonly points: ReadonlyArray<readonly [x: number, y: number]>
}

export interface Plot {
  readonly title: string
  readonly x: string
  readonly y: string
  readonly series: ReadonlyArray<PlotSeries>
  /** Whether equal distances on the axis are equal factors. Default false. */
  readonly logX?: boolean
  readonly logY?: boolean
  /** What stands at the axis, where it is not a number. */
  readonly labelX?: (x: number) => string
}

const width = 720
const height = 400
const left = 70
const right = 200
const top = 44
const bottom = 52
const colours = ["#555555", "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e"]

const escape = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")

const number = (value: number): string =>
  value >= 1_000_000
    ? `${+(value / 1_000_000).toPrecision(3)}M`
    : value >= 1000
    ? `${+(value / 1000).toPrecision(3)}k`
    : `${+value.toPrecision(3)}`

/** 1, 2 or 5 times a power of ten, so that there are about five steps up to `most`. */
const step = (most: number): number => {
  const power = 10 ** Math.floor(Math.log10(most / 5))
  return power * ([1, 2, 5, 10].find((factor) => power * factor * 5 >= most) ?? 10)
}

interface Axis {
  /** Where on the axis, from 0 to 1. */
  readonly at: (value: number) => number
  readonly ticks: ReadonlyArray<number>
}

const linear = (values: ReadonlyArray<number>): Axis => {
  const each = step(Math.max(...values))
  const steps = Math.ceil(Math.max(...values) / each)
  return { at: (value) => value / (steps * each), ticks: Array.from({ length: steps + 1 }, (_, i) => i * each) }
}

const logarithmic = (values: ReadonlyArray<number>): Axis => {
  const low = Math.floor(Math.log10(Math.min(...values)))
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values)) - 1e-9))
  return {
    at: (value) => (Math.log10(value) - low) / (high - low),
    ticks: Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i))
  }
}

const round = (value: number): string => value.toFixed(1)

const text = (x: number, y: number, content: string, anchor: string, more = ""): string =>
  `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}"${more}>${escape(content)}</text>`

/** The chart; the first series is grey, as what the others are compared with. */
export const svg = (plot: Plot): string => {
  const xs = plot.series.flatMap(({ points }) => points.map(([x]) => x))
  const ys = plot.series.flatMap(({ points }) => points.map(([, y]) => y))
  const xAxis = plot.labelX !== undefined
    ? { at: (x: number) => (x + 0.5) / (Math.max(...xs) + 1), ticks: [...new Set(xs)] }
    : (plot.logX === true ? logarithmic : linear)(xs)
  const yAxis = (plot.logY === true ? logarithmic : linear)(ys)
  const x = (value: number) => left + xAxis.at(value) * (width - left - right)
  const y = (value: number) => height - bottom - yAxis.at(value) * (height - top - bottom)
  const lines: Array<string> = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" ` +
    `font-family="sans-serif" font-size="12" fill="#222222">`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    text(left, 22, plot.title, "start", " font-size=\"15\""),
    text((left + width - right) / 2, height - 12, plot.x, "middle"),
    text(
      16,
      (top + height - bottom) / 2,
      plot.y,
      "middle",
      ` transform="rotate(-90 16 ${(top + height - bottom) / 2})"`
    )
  ]
  for (const tick of yAxis.ticks) {
    lines.push(
      `<line x1="${left}" x2="${width - right}" y1="${round(y(tick))}" y2="${round(y(tick))}" stroke="#dddddd"/>`,
      text(left - 8, y(tick) + 4, number(tick), "end")
    )
  }
  for (const tick of xAxis.ticks) {
    lines.push(
      `<line x1="${round(x(tick))}" x2="${round(x(tick))}" y1="${top}" y2="${height - bottom}" stroke="#eeeeee"/>`,
      text(x(tick), height - bottom + 18, plot.labelX?.(tick) ?? number(tick), "middle")
    )
  }
  // Names stand beside the ends of their lines, and apart from one another.
  const ends = plot.series.map((series, index) => ({ series, index, y: y(series.points.at(-1)![1]) }))
    .sort((a, b) => a.y - b.y)
  let above = top - 16
  for (const end of ends) {
    const colour = colours[end.index % colours.length]!
    const points = end.series.points.map(([px, py]) => `${round(x(px))},${round(y(py))}`)
    lines.push(`<polyline points="${points.join(" ")}" fill="none" stroke="${colour}" stroke-width="2"/>`)
    for (const point of points) {
      const [px, py] = point.split(",")
      lines.push(`<circle cx="${px}" cy="${py}" r="3" fill="${colour}"/>`)
    }
    above = Math.max(above + 16, end.y + 4)
    lines.push(text(width - right + 10, above, end.series.name, "start", ` style="fill:${colour}"`))
  }
  return `${lines.join("\n")}\n</svg>\n`
}
