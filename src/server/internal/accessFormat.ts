/**
 * Format strings of access logs, compiled: Apache's LogFormat and php-fpm's access.format. What comes from a client is escaped
 * as Apache does, so that a line is one line and a quoted value ends where its quotes do.
 */
import * as DateTime from "effect/DateTime"
import { commonTime, months, two } from "./commonTime.ts"
import { type LineWriter, type LiteralBytes, literalOf, type Write } from "./lineWriter.ts"
import type { Observation } from "./observation.ts"
import { type ParamsPicker, placesIn } from "./pickParams.ts"

/** The values of a line. */
export interface Entry {
  readonly observation: Observation
  /** When the request began, in milliseconds since 1970. */
  readonly startedAt: number
  /** The params that the format asks for, in its order. */
  readonly params: ParamsPicker
  readonly process: ProcessInfo
}

/** The figures of the platform. */
export interface ProcessInfo {
  readonly pool: string
  readonly pid: number
  readonly parentPid: number
  /** Resident memory, in bytes. */
  readonly memory: () => number
}

/** A format, ready to make lines. */
export interface CompiledFormat {
  /** The params that it asks for. */
  readonly names: ReadonlyArray<string>
  /** What stands in front of, between and behind what is written. */
  readonly texts: ReadonlyArray<string>
  readonly writes: ReadonlyArray<Write<Entry>>
  /** Whether it asks when a request has ended, or how long it took. */
  readonly needsEnd: boolean
}

/** Says why a format is wrong. */
export interface FormatProblem {
  readonly problem: string
}

// %, conditions, which request, argument, letter.
const directive = /%(!?\d{3}(?:,\d{3})*)?[<>]?(?:\{([^}]*)\})?(\^[a-zA-Z]{2}|[a-zA-Z]|%)?/g

/** Compiles a format string of this syntax. */
export const compile = (format: string, syntax: "apache" | "php-fpm"): CompiledFormat | FormatProblem => {
  const { directives, name } = syntaxes[syntax]
  const names: Array<string> = []
  const param = placesIn(names)
  const texts: Array<string> = []
  const writes: Array<Write<Entry>> = []
  let text = ""
  let end = 0
  let needsEnd = false
  for (const match of format.matchAll(directive)) {
    const [whole, condition, argument, letter] = match
    text += format.slice(end, match.index)
    end = match.index + whole.length
    const part = directives[letter]?.(param, argument)
    if (part === undefined) {
      return { problem: `${JSON.stringify(whole)} at ${match.index + 1} is no directive of ${name}` }
    }
    needsEnd ||= /[DTd]/.test(letter) || argument?.startsWith("end:") === true
    if (typeof part === "string" && condition === undefined) {
      text += part
    } else {
      texts.push(text)
      text = ""
      writes.push(onlyFor(condition, part))
    }
  }
  texts.push(text + format.slice(end))
  return { names, texts, writes, needsEnd }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// A text that is always the same, or what writes it.
type Part = string | Write<Entry>

/** What a directive with this argument stands for, unless there is none. `param` gives the place of a param. */
type Directive = (param: (name: string) => number, argument?: string) => Part | undefined

// By their letters, which are no names that every object has.
type Directives = Readonly<Record<string, Directive | undefined>>

const dash = 0x2d
const question = 0x3f
const space = 0x20

/** Writes the part, for all statuses or for those of the condition. */
const onlyFor = (condition: string | undefined, part: Part): Write<Entry> => {
  const write: Write<Entry> = typeof part === "string" ? (line) => line.ascii(part) : part
  if (condition === undefined) return write
  const not = condition.startsWith("!")
  const statuses = new Set((not ? condition.slice(1) : condition).split(",").map(Number))
  return (line, entry) => {
    if (statuses.has(entry.observation.status) === not) line.byte(dash)
    else write(line, entry)
  }
}

const integerOrDash = (line: LineWriter, number: number): void => {
  if (number === 0) line.byte(dash)
  else line.integer(number)
}

/** A directive that has to have an argument. */
const named = (directive: (name: string) => Directive): Directive => (param, argument) =>
  argument === undefined || argument === "" ? undefined : directive(argument)(param)

/** The value of a param, or else that of another one. */
const value = (name: string, otherwise = name): Directive => (param) => {
  const first = param(name)
  const second = param(otherwise)
  return (line, { params: { ends, starts, view } }) => {
    const at = ends[first] > starts[first] ? first : second
    const start = starts[at]
    const end = ends[at]
    if (end > start) line.escaped(view, start, end)
    else line.byte(dash)
  }
}

/** The request line, whose parts may be empty. */
const requestLine: Directive = (param) => {
  const places = ["REQUEST_METHOD", "REQUEST_URI", "SERVER_PROTOCOL"].map((name) => param(name))
  return (line, { params: { ends, starts, view } }) => {
    for (let i = 0; i < places.length; i++) {
      const at = places[i]
      if (i > 0) line.byte(space)
      if (ends[at] === -1) line.byte(dash)
      else line.escaped(view, starts[at], ends[at])
    }
  }
}

/** Where the query of the target begins, with its question mark: its end where there is none. */
const queryStart = (params: ParamsPicker, target: number): number => {
  const end = params.ends[target]
  for (let at = params.starts[target]; at < end; at++) if (params.view.getUint8(at) === question) return at
  return end
}

const path: Directive = (param) => {
  const at = param("REQUEST_URI")
  return (line, { params }) => {
    const start = params.starts[at]
    const end = queryStart(params, at)
    if (end > start) line.escaped(params.view, start, end)
    else line.byte(dash)
  }
}

const query: Directive = (param) => {
  const at = param("REQUEST_URI")
  return (line, { params }) => line.escaped(params.view, queryStart(params, at), params.ends[at])
}

const headerName = (name: string): string => {
  const upper = name.toUpperCase().replaceAll("-", "_")
  return upper === "CONTENT_TYPE" || upper === "CONTENT_LENGTH" ? upper : `HTTP_${upper}`
}

// The values of a header of the response. Its lines have been checked when they were encoded.
const responseHeader = (name: string): Directive => () => {
  const wanted = `${name.toLowerCase()}:`
  return (line, { observation: { head = "" } }) => {
    const values = head.split("\n")
      .filter((line) => line.slice(0, wanted.length).toLowerCase() === wanted)
      .map((line) => line.slice(wanted.length).trim())
    if (values.length === 0) line.byte(dash)
    else line.escapedText(values.join(", "))
  }
}

const cookie = (name: string): Directive => (param) => {
  const at = param("HTTP_COOKIE")
  return (line, { params }) => {
    const pair = params.text(at).split(";").find((pair) => pair.split("=", 1)[0].trim() === name) ?? ""
    const value = pair.split("=").slice(1).join("=").trim()
    if (value === "") line.byte(dash)
    else line.escapedText(value)
  }
}

const sentSize = ({ observation: { bodySize, head = "" } }: Entry): number => head.length + bodySize

/** The length of the body of the request, as the web server announces it, and of what `others` counts. */
const receivedSize = (others: (entry: Entry) => number = () => 0): Directive => (param) => {
  const at = param("CONTENT_LENGTH")
  return (line, entry) => {
    const length = entry.params.text(at)
    line.integer(others(entry) + (/^\d{1,15}$/.test(length) ? Number(length) : 0))
  }
}

const microseconds: Write<Entry> = (line, { observation }) => line.integer(Math.round(observation.duration * 1000))
const milliseconds: Write<Entry> = (line, { observation }) => line.ascii(observation.duration.toFixed(3))

// By their units.
const durations: ReadonlyMap<string, Write<Entry>> = new Map<string, Write<Entry>>([
  ["us", microseconds],
  ["micro", microseconds],
  ["microseconds", microseconds],
  ["ms", (line, { observation }) => line.integer(Math.floor(observation.duration))],
  ["milli", milliseconds],
  ["milliseconds", milliseconds],
  ["s", (line, { observation }) => line.integer(Math.floor(observation.duration / 1000))],
  ["seconds", (line, { observation }) => line.ascii((observation.duration / 1000).toFixed(3))]
])

const memoryUnits: ReadonlyMap<string, number> = new Map([
  ["bytes", 1],
  ["kilo", 1024],
  ["kilobytes", 1024],
  ["mega", 1024 * 1024],
  ["megabytes", 1024 * 1024]
])

const memory: Directive = (_, argument = "bytes") => {
  const unit = memoryUnits.get(argument)
  return unit === undefined ? undefined : (line, { process }) => line.integer(Math.round(process.memory() / unit))
}

// A line a request, and many requests a second.
const eachSecond = (textOf: (second: number) => string) => {
  let lastSecond = -1
  let last = literalOf("")
  return (millis: number): LiteralBytes => {
    const second = Math.floor(millis / 1000)
    if (second === lastSecond) return last
    last = literalOf(textOf(second))
    lastSecond = second
    return last
  }
}

const endOf = ({ observation, startedAt }: Entry): number => startedAt + observation.duration

const plainTime = eachSecond(commonTime)
const timeInBrackets = eachSecond((second) => `[${commonTime(second)}]`)

// Apache's %{...}t: begin: or end:, then a word or a format of strftime(3), in UTC.
const time = (argument: string): Write<Entry> | undefined => {
  const atEnd = argument.startsWith("end:")
  const format = argument.replace(/^(?:begin|end):/, "")
  const of = (entry: Entry): number => atEnd ? endOf(entry) : entry.startedAt
  switch (format) {
    case "sec":
      return (line, entry) => line.integer(Math.floor(of(entry) / 1000))
    case "msec":
      return (line, entry) => line.integer(Math.floor(of(entry)))
    case "usec":
      return (line, entry) => line.integer(Math.floor(of(entry) * 1000))
    case "msec_frac":
      return (line, entry) => line.ascii(String(Math.floor(of(entry)) % 1000).padStart(3, "0"))
    case "usec_frac":
      return (line, entry) => line.ascii(String(Math.floor(of(entry) * 1000) % 1_000_000).padStart(6, "0"))
  }
  // Letters that are not known would otherwise be found when the first request ends.
  for (const [, letter] of format.matchAll(/%(.?)/gs)) if (!Object.hasOwn(strftime, letter)) return undefined
  return (line, entry) => {
    const parts = DateTime.toPartsUtc(DateTime.makeUnsafe(Math.floor(of(entry))))
    line.literal(literalOf(format.replace(/%(.)/gs, (_, letter: string) => strftime[letter](parts))))
  }
}

const days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]

const strftime: Readonly<Record<string, (parts: DateTime.DateTime.PartsWithWeekday) => string>> = {
  "%": () => "%",
  a: ({ weekDay }) => days[weekDay],
  b: ({ month }) => months[month - 1],
  d: ({ day }) => two(day),
  e: ({ day }) => String(day).padStart(2),
  F: ({ day, month, year }) => `${year}-${two(month)}-${two(day)}`,
  H: ({ hour }) => two(hour),
  m: ({ month }) => two(month),
  M: ({ minute }) => two(minute),
  S: ({ second }) => two(second),
  T: ({ hour, minute, second }) => `${two(hour)}:${two(minute)}:${two(second)}`,
  y: ({ year }) => two(year % 100),
  Y: ({ year }) => String(year),
  z: () => "+0000",
  Z: () => "UTC"
}

// Those of both.
const directives: Directives = {
  "%": () => "%",
  e: named(value),
  f: value("SCRIPT_FILENAME"),
  m: value("REQUEST_METHOD"),
  o: named(responseHeader),
  s: () => (line, { observation }) => integerOrDash(line, observation.status),
  u: value("REMOTE_USER")
}

const apache: Directives = {
  ...directives,
  a: value("REMOTE_ADDR"),
  A: value("SERVER_ADDR"),
  b: () => (line, { observation }) => integerOrDash(line, observation.bodySize),
  B: () => (line, { observation }) => line.integer(observation.bodySize),
  C: named(cookie),
  D: () => microseconds,
  h: value("REMOTE_HOST", "REMOTE_ADDR"),
  H: value("SERVER_PROTOCOL"),
  i: named((name) => value(headerName(name))),
  I: receivedSize(),
  k: () => (line, { observation: { request } }) => line.integer(request.keepConnection ? 1 : 0),
  l: () => "-",
  L: () => "-",
  n: named(() => () => "-"),
  O: () => (line, entry) => line.integer(sentSize(entry)),
  p: (param, argument) => value(argument === "remote" ? "REMOTE_PORT" : "SERVER_PORT")(param),
  P: () => (line, { process }) => line.integer(process.pid),
  q: query,
  r: requestLine,
  R: () => "-",
  S: receivedSize(sentSize),
  t: (_, argument) =>
    argument === undefined ? (line, { startedAt }) => line.literal(timeInBrackets(startedAt)) : time(argument),
  T: (_, unit = "s") => durations.get(unit),
  U: path,
  v: value("SERVER_NAME"),
  V: value("HTTP_HOST", "SERVER_NAME"),
  X: () => (line, { observation: { request } }) =>
    line.ascii(request.isGivenUp || request.isBrokenOff ? "X" : request.keepConnection ? "+" : "-"),
  "^ti": named(() => () => "-"),
  "^to": named(() => () => "-")
}

const php: Directives = {
  ...directives,
  C: () => "0.00",
  d: (_, unit = "seconds") => durations.get(unit),
  l: receivedSize(),
  M: memory,
  n: () => (line, { process }) => line.escapedText(process.pool),
  p: () => (line, { process }) => line.integer(process.pid),
  P: () => (line, { process }) => line.integer(process.parentPid),
  q: (param) => {
    const at = param("QUERY_STRING")
    return (line, { params: { ends, starts, view } }) => line.escaped(view, starts[at], ends[at])
  },
  Q: (param) => {
    const at = param("QUERY_STRING")
    return (line, { params }) => {
      if (params.hasValue(at)) line.byte(question)
    }
  },
  r: value("SCRIPT_NAME", "PATH_INFO"),
  R: value("REMOTE_ADDR"),
  t: (_, argument) =>
    argument === undefined ? (line, { startedAt }) => line.literal(plainTime(startedAt)) : time(argument),
  T: (_, argument) =>
    argument === undefined ? (line, entry) => line.literal(plainTime(endOf(entry))) : time(`end:${argument}`)
}

const syntaxes = {
  "apache": { name: "Apache's LogFormat", directives: apache },
  "php-fpm": { name: "php-fpm's access.format", directives: php }
}
