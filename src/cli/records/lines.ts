/**
 * A record as lines that a person reads.
 */
import type { Color } from "../internal/output.ts"
import type { Description } from "./description.ts"

/** How much of a record is shown. */
export interface LinesOptions {
  /** How many bytes of content are shown of each record; `"all"` for everything. */
  readonly content: number | "all"
  /** Gives text a colour. Default none. */
  readonly paint?: (color: Color, text: string) => string
  /** Stands in front of each line. Default nothing. */
  readonly prefix?: string
}

/** The lines of a record: what it is, and indented below it what it holds. */
export const lines = (record: Description, options: LinesOptions): ReadonlyArray<string> => {
  const { paint = plain, prefix = "" } = options
  const color = record.problem !== undefined ? "bad" : record.from === "web server" ? "request" : "answer"
  const size = record.type === "none"
    ? ""
    : `${record.contentLength}${record.paddingLength > 0 ? `+${record.paddingLength}` : ""}`
  const head = [
    paint("dim", record.offset.toString(16).padStart(8, "0")),
    paint(color, (record.type === "none" ? "?" : record.type).padEnd(17)),
    (record.type === "none" ? "" : `id ${record.requestId}`).padEnd(6),
    size.padStart(9),
    summary(record, paint)
  ].join("  ").trimEnd()
  return [prefix + head, ...body(record, options).map((line) => prefix + indent + line)]
}

/** Text without what a terminal would obey. */
// oxlint-disable-next-line no-control-regex -- what a terminal would obey is control characters
export const printable = (text: string): string => text.replace(/[\u0000-\u001f\u007f-\u009f]/g, escape)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const indent = " ".repeat(10)

const plain = (_: Color, text: string): string => text

const escape = (character: string): string =>
  character === "\t"
    ? "\\t"
    : character === "\r"
    ? "\\r"
    : character === "\n"
    ? "\\n"
    : `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`

const summary = (record: Description, paint: (color: Color, text: string) => string): string => {
  const parts: Array<string> = []
  if (record.role !== undefined) {
    parts.push(record.role + (record.keepConnection === true ? ", keep the connection" : ", close the connection"))
  }
  if (record.protocolStatus !== undefined) {
    const complete = record.protocolStatus === "REQUEST_COMPLETE"
    parts.push(`appStatus ${record.appStatus}, ${complete ? "" : "! "}${record.protocolStatus}`)
  }
  if (record.unknownType !== undefined) parts.push(`type ${record.unknownType} is not known`)
  if (record.end === true) parts.push("end")
  if (record.type === "PARAMS" && record.pairs !== undefined) {
    parts.push(`${record.pairs.length} ${record.pairs.length === 1 ? "pair" : "pairs"}`)
  }
  const text = parts.join(", ")
  return record.problem === undefined ? text : [text, paint("bad", `! ${record.problem}`)].filter(Boolean).join(" ")
}

const body = (record: Description, options: LinesOptions): ReadonlyArray<string> => {
  if (record.pairs !== undefined && record.pairs.length > 0) {
    const width = Math.min(24, Math.max(...record.pairs.map(([name]) => name.length)))
    // The names that GET_VALUES asks for have no values.
    return record.type === "GET_VALUES"
      ? record.pairs.map(([name]) => printable(name))
      : record.pairs.map(([name, value]) => `${printable(name).padEnd(width)}  ${printable(value)}`.trimEnd())
  }
  const limit = options.content === "all" ? Infinity : options.content
  if (limit === 0) return []
  if (record.text !== undefined) return textLines(record.text, limit)
  if (record.base64 !== undefined) return hexLines(Buffer.from(record.base64, "base64"), limit)
  return []
}

const textLines = (text: string, limit: number): ReadonlyArray<string> => {
  if (text === "") return []
  const shown = text.length > limit ? text.slice(0, limit) : text
  const found = shown.split("\n")
  // The last line ends with the record, or goes on in the next one.
  if (found[found.length - 1] === "") found.pop()
  const left = text.length - shown.length
  return [
    ...found.map((line) => `| ${printable(line.endsWith("\r") ? line.slice(0, -1) : line)}`),
    ...(left > 0 ? [`… ${left} more characters`] : [])
  ]
}

const perLine = 16

const hexLines = (bytes: Uint8Array, limit: number): ReadonlyArray<string> => {
  const shown = bytes.subarray(0, Math.min(bytes.length, limit))
  const found: Array<string> = []
  for (let at = 0; at < shown.length; at += perLine) {
    const part = shown.subarray(at, at + perLine)
    const hex = Array.from(part, (byte) => byte.toString(16).padStart(2, "0")).join(" ")
    const text = Array.from(part, (byte) => byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".").join("")
    found.push(`${hex.padEnd(perLine * 3)} ${text}`)
  }
  const left = bytes.length - shown.length
  if (left > 0) found.push(`… ${left} more bytes`)
  return found
}
