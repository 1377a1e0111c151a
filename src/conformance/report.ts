/**
 * Reports as text: a table for people, a comparison of several servers for a page. JSON is the report itself.
 */
import type { Line, Report, Result } from "./Conformance.ts"
import { totals } from "./Conformance.ts"

/** A line of the table. */
export const formatLine = (line: Line): string =>
  `${line.row.padEnd(6)} ${line.result.padEnd(7)} ${line.level.padEnd(6)} ${line.title}\n${" ".repeat(15)}${line.came}`

/** The last lines: how many of each result, and what the server says of itself. */
export const formatTotals = (report: Report): string => {
  const counts = totals(report)
  const values = Object.entries(report.values).map(([name, value]) => `${name}=${value}`)
  return [
    "",
    `${report.server}: ${resultNames.map((name) => `${counts[name]} ${name}`).join(", ")}`,
    `GET_VALUES: ${values.length === 0 ? "no answer" : values.join(" ")}`,
    `application: ${report.endpoints.join(" ")}`
  ].join("\n")
}

/** Results in the order in which they are counted. */
export const resultNames: ReadonlyArray<Result> = ["pass", "fail", "warn", "n/a", "skipped"]

/**
 * Several reports side by side, in Markdown: totals, a table of results, and for each server what came where a case was
 * not passed.
 */
export const comparison = (reports: ReadonlyArray<Report>): string => {
  const rows = new Map<string, Line>()
  const all = reports.flatMap((report) => report.lines).sort((a, b) => compareRows(a.row, b.row))
  for (const line of all) if (!rows.has(keyOf(line))) rows.set(keyOf(line), line)
  const results = reports.map((report) => new Map(report.lines.map((line) => [keyOf(line), line])))
  const blocks = [
    table(
      ["server", "date (UTC)", ...resultNames, "GET_VALUES"],
      reports.map((report) => {
        const counts = totals(report)
        const values = Object.entries(report.values).map(([name, value]) => `${name.slice("FCGI_".length)}=${value}`)
        return [
          report.server,
          report.date.replace("T", " "),
          ...resultNames.map((name) => String(counts[name])),
          values.length === 0 ? "no answer" : values.join(" ")
        ]
      })
    ),
    table(
      ["row", "level", "case", ...reports.map((report) => nameOf(report))],
      [...rows].map(([key, { level, row, title }]) => [
        row,
        level,
        title,
        ...results.map((lines) => {
          const result = lines.get(key)?.result ?? ""
          return result === "fail" ? "**fail**" : result
        })
      ])
    )
  ]
  for (const report of reports) {
    const lines = report.lines.filter((line) => line.result === "fail" || line.result === "warn")
      .sort((a, b) => compareRows(a.row, b.row))
    blocks.push(`### ${report.server}: what came instead`)
    blocks.push(
      lines.length === 0
        ? "Nothing to tell: every case was passed."
        : lines.map((line) => `- ${line.row}, ${line.result}, ${escape(line.title)}: ${escape(line.came)}`).join("\n")
    )
  }
  const open = [...rows].filter(([, line]) => line.level === "open")
  if (open.length > 0) {
    blocks.push("### What the specification leaves open")
    blocks.push(table(
      ["row", "case", ...reports.map((report) => nameOf(report))],
      open.map(([key, { row, title }]) => [row, title, ...results.map((lines) => lines.get(key)?.came ?? "")])
    ))
  }
  return `${blocks.join("\n\n")}\n`
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const keyOf = (line: Line): string => `${line.row} ${line.title}`

// In the order of the specification: sections by number, then the appendices.
const compareRows = (a: string, b: string): number => a.localeCompare(b, "en", { numeric: true })

// The name without its version, for the head of a column.
const nameOf = ({ server }: Report): string => {
  const version = server.search(/ [0-9]/)
  return version === -1 ? server : server.slice(0, version)
}

const escape = (text: string): string => text.replace(/[\\`*|<>[\]]/g, (character) => `\\${character}`)

// Columns are padded to one width, as formatters of Markdown want them.
const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const cells = [head, ...rows.map((row) => row.map((cell) => cell === "**fail**" ? cell : escape(cell)))]
  const widths = head.map((_, column) => Math.max(3, ...cells.map((row) => row[column].length)))
  const line = (row: ReadonlyArray<string>) =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column])).join(" | ")} |`
  return [
    line(cells[0]),
    `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`,
    ...cells.slice(1).map(line)
  ].join("\n")
}
