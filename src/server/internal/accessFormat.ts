/**
 * Format strings of access logs, compiled: Apache's LogFormat and php-fpm's access.format. What comes from a client is escaped
 * as Apache does, so that a line is one line and a quoted value ends where its quotes do.
 */
import * as DateTime from "effect/DateTime"
import { commonTime, months, two } from "./commonTime.ts"
import {
  type LineWriter,
  Literal,
  type LiteralBytes,
  literalOf,
  Param,
  type ParamPiece,
  type Piece,
  Written
} from "./lineWriter.ts"
import type { Observation } from "./observation.ts"
import type { ParamsPicker } from "./pickParams.ts"

/** The values of a line. */
export interface Entry {
  readonly observation: Observation
  /** When the request began and, for a format that needs it, ended, in milliseconds since 1970. */
  readonly startedAt: number
  readonly endedAt: number
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
  readonly pieces: ReadonlyArray<Piece<Entry>>
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
  const names: Array<string> = []
  const param = (name: string) => {
    const known = names.indexOf(name)
    return known === -1 ? names.push(name) - 1 : known
  }
  const pieces: Array<Piece<Entry>> = []
  // What stands between two directives is one piece.
  let between = ""
  const add = (part: Part) => {
    if (typeof part === "string") {
      between += part
      return
    }
    if (between !== "") pieces.push({ kind: Literal, literal: literalOf(between) })
    between = ""
    pieces.push(typeof part === "function" ? { kind: Written, write: part } : part)
  }
  let end = 0
  let needsEnd = false
  for (const match of format.matchAll(directive)) {
    const [whole, condition, argument, letter] = match
    add(format.slice(end, match.index))
    end = match.index + whole.length
    if (letter === "%") {
      add("%")
      continue
    }
    const part = letter === undefined
      ? undefined
      : (syntax === "apache" ? apache : php)(letter, argument, param)
    if (part === undefined) {
      return { problem: `${JSON.stringify(whole)} at ${match.index + 1} is no directive of ${syntaxNames[syntax]}` }
    }
    needsEnd ||= /[DTd]/.test(letter!) || argument?.startsWith("end:") === true
    if (condition !== undefined) add(onlyFor(condition, part))
    else for (const one of listOf(part)) add(one)
  }
  add(format.slice(end))
  if (between !== "") pieces.push({ kind: Literal, literal: literalOf(between) })
  return { names, pieces, needsEnd }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const syntaxNames = { "apache": "Apache's LogFormat", "php-fpm": "php-fpm's access.format" }

type Writer = (line: LineWriter, entry: Entry) => void

// A text that is always the same, a param, or what writes it.
type Part = string | ParamPiece | Writer

const dash = 0x2d
const question = 0x3f

const onlyFor = (condition: string, part: Part | ReadonlyArray<Part>): Writer => {
  const not = condition.startsWith("!")
  const statuses = new Set((not ? condition.slice(1) : condition).split(",").map(Number))
  const writers = listOf(part).map(asWriter)
  return (line, entry) => {
    if (statuses.has(entry.observation.status) === not) line.byte(dash)
    else for (const write of writers) write(line, entry)
  }
}

const listOf = (part: Part | ReadonlyArray<Part>): ReadonlyArray<Part> =>
  typeof part === "object" && !("kind" in part) ? part : [part]

const asWriter = (part: Part): Writer => {
  if (typeof part === "function") return part
  if (typeof part === "string") return (line) => line.ascii(part)
  return (line, { params }) => line.param(part, params)
}

type AddParam = (name: string) => number

/** The text of ASCII characters that `f` makes. */
const text = (f: (entry: Entry) => string): Writer => (line, entry) => line.ascii(f(entry))

/** The number, from 0 on, that `f` makes. */
const integer = (f: (entry: Entry) => number): Writer => (line, entry) => line.integer(f(entry))

/** The value, or else that of another param. */
const value = (param: AddParam, name: string, otherwise?: string): ParamPiece => ({
  kind: Param,
  place: param(name),
  otherwise: otherwise === undefined ? -1 : param(otherwise),
  dashIfEmpty: true
})

/** The value, which may be empty. */
const valueIfThere = (param: AddParam, name: string): Part => ({ ...value(param, name), dashIfEmpty: false })

/** The value, and nothing where there is none. */
const valueOrNothing = (line: LineWriter, params: ParamsPicker, at: number, from = params.starts[at]): void => {
  if (params.hasValue(at)) line.escaped(params.view, from, params.ends[at])
}

const headerName = (name: string): string => {
  const upper = name.toUpperCase().replaceAll("-", "_")
  return upper === "CONTENT_TYPE" || upper === "CONTENT_LENGTH" ? upper : `HTTP_${upper}`
}

// The values of a header of the response. Its lines have been checked when they were encoded.
const responseHeader = (name: string): Writer => {
  const wanted = `${name.toLowerCase()}:`
  return (line, { observation: { head } }) => {
    const values = (head ?? "").split("\n")
      .filter((line) => line.slice(0, wanted.length).toLowerCase() === wanted)
      .map((line) => line.slice(wanted.length).trim())
    if (values.length === 0) line.byte(dash)
    else line.escapedText(values.join(", "))
  }
}

const status: Writer = (line, { observation: { status } }) => {
  if (status === 0) line.byte(dash)
  else line.integer(status)
}

const sentSize = ({ observation: { bodySize, head = "" } }: Entry): number => head.length + bodySize

/** Where the query of the target begins, with its question mark: its end where there is none. */
const queryStart = (params: ParamsPicker, target: number): number => {
  const end = params.ends[target]
  for (let at = params.starts[target]; at < end; at++) if (params.view.getUint8(at) === question) return at
  return end
}

const duration = (unit: string | undefined): Writer | undefined => {
  switch (unit) {
    case "us":
    case "micro":
    case "microseconds":
      return integer(({ observation }) => Math.round(observation.duration * 1000))
    case "ms":
      return integer(({ observation }) => Math.floor(observation.duration))
    case "milli":
    case "milliseconds":
      return text(({ observation }) => observation.duration.toFixed(3))
    case "s":
      return integer(({ observation }) => Math.floor(observation.duration / 1000))
    case "seconds":
      return text(({ observation }) => (observation.duration / 1000).toFixed(3))
    default:
      return undefined
  }
}

const apache = (
  letter: string,
  argument: string | undefined,
  param: AddParam
): Part | ReadonlyArray<Part> | undefined => {
  const named = argument !== undefined && argument !== ""
  switch (letter) {
    case "a":
      return value(param, "REMOTE_ADDR")
    case "h":
      return value(param, "REMOTE_HOST", "REMOTE_ADDR")
    case "A":
      return value(param, "SERVER_ADDR")
    case "B":
      return integer(({ observation }) => observation.bodySize)
    case "b":
      return (line, { observation: { bodySize } }) => {
        if (bodySize === 0) line.byte(dash)
        else line.integer(bodySize)
      }
    case "C":
      return named ? cookie(param, argument) : undefined
    case "D":
      return duration("us")
    case "T":
      return duration(argument ?? "s")
    case "e":
      return named ? value(param, argument) : undefined
    case "i":
      return named ? value(param, headerName(argument)) : undefined
    case "o":
      return named ? responseHeader(argument) : undefined
    case "n":
    case "^ti":
    case "^to":
      return named ? "-" : undefined
    case "l":
    case "L":
    case "R":
      return "-"
    case "f":
      return value(param, "SCRIPT_FILENAME")
    case "H":
      return value(param, "SERVER_PROTOCOL")
    case "k":
      return integer(({ observation: { request } }) => request.keepConnection ? 1 : 0)
    case "m":
      return value(param, "REQUEST_METHOD")
    case "p":
      return argument === "remote" ? value(param, "REMOTE_PORT") : value(param, "SERVER_PORT")
    case "P":
      return integer(({ process: { pid } }) => pid)
    case "q": {
      const at = param("REQUEST_URI")
      return (line, { params }) => valueOrNothing(line, params, at, queryStart(params, at))
    }
    case "r":
      return [
        valueIfThere(param, "REQUEST_METHOD"),
        " ",
        valueIfThere(param, "REQUEST_URI"),
        " ",
        valueIfThere(param, "SERVER_PROTOCOL")
      ]
    case "s":
      return status
    case "t":
      return argument === undefined ? ["[", startTime, "]"] : time(argument)
    case "u":
      return value(param, "REMOTE_USER")
    case "U": {
      const at = param("REQUEST_URI")
      return (line, { params }) => {
        const end = queryStart(params, at)
        if (end > params.starts[at]) line.escaped(params.view, params.starts[at], end)
        else line.byte(dash)
      }
    }
    case "v":
      return value(param, "SERVER_NAME")
    case "V":
      return value(param, "HTTP_HOST", "SERVER_NAME")
    case "X":
      return text(({ observation: { request } }) =>
        request.isGivenUp || request.isBrokenOff ? "X" : request.keepConnection ? "+" : "-"
      )
    case "I":
      return integer(bodyLength(param))
    case "O":
      return integer(sentSize)
    case "S": {
      const received = bodyLength(param)
      return integer((entry) => received(entry) + sentSize(entry))
    }
    default:
      return undefined
  }
}

const php = (letter: string, argument: string | undefined, param: AddParam): Part | undefined => {
  const named = argument !== undefined && argument !== ""
  switch (letter) {
    case "C":
      return "0.00"
    case "d":
      return duration(argument ?? "seconds")
    case "e":
      return named ? value(param, argument) : undefined
    case "f":
      return value(param, "SCRIPT_FILENAME")
    case "l":
      return integer(bodyLength(param))
    case "m":
      return value(param, "REQUEST_METHOD")
    case "M": {
      const unit = memoryUnits.get(argument ?? "bytes")
      return unit === undefined ? undefined : integer(({ process }) => Math.round(process.memory() / unit))
    }
    case "n":
      return (line, { process: { pool } }) => line.escapedText(pool)
    case "o":
      return named ? responseHeader(argument) : undefined
    case "p":
      return integer(({ process: { pid } }) => pid)
    case "P":
      return integer(({ process: { parentPid } }) => parentPid)
    case "q": {
      const at = param("QUERY_STRING")
      return (line, { params }) => valueOrNothing(line, params, at)
    }
    case "Q": {
      const at = param("QUERY_STRING")
      return (line, { params }) => {
        if (params.hasValue(at)) line.byte(question)
      }
    }
    case "r":
      return value(param, "SCRIPT_NAME", "PATH_INFO")
    case "R":
      return value(param, "REMOTE_ADDR")
    case "s":
      return status
    case "t":
      return argument === undefined ? startTime : time(argument)
    case "T":
      return argument === undefined ? endTime : time(`end:${argument}`)
    case "u":
      return value(param, "REMOTE_USER")
    default:
      return undefined
  }
}

const memoryUnits: ReadonlyMap<string, number> = new Map([
  ["bytes", 1],
  ["kilo", 1024],
  ["kilobytes", 1024],
  ["mega", 1024 * 1024],
  ["megabytes", 1024 * 1024]
])

/** The length of the body of the request, as the web server announces it. */
const bodyLength = (param: AddParam) => {
  const at = param("CONTENT_LENGTH")
  return ({ params }: Entry): number => {
    const length = params.text(at)
    return /^\d{1,15}$/.test(length) ? Number(length) : 0
  }
}

const cookie = (param: AddParam, name: string): Writer => {
  const at = param("HTTP_COOKIE")
  return (line, { params }) => {
    let value = ""
    for (const pair of params.text(at).split(";")) {
      const [key, ...rest] = pair.split("=")
      if (key.trim() !== name) continue
      value = rest.join("=").trim()
      break
    }
    if (value === "") line.byte(dash)
    else line.escapedText(value)
  }
}

// A line a request, and many requests a second.
let lastSecond = -1
let lastTime = literalOf("")
const commonTimeOf = (millis: number): LiteralBytes => {
  const second = Math.floor(millis / 1000)
  if (second === lastSecond) return lastTime
  lastTime = literalOf(commonTime(second))
  lastSecond = second
  return lastTime
}

const startTime: Writer = (line, { startedAt }) => line.literal(commonTimeOf(startedAt))

const endTime: Writer = (line, { endedAt }) => line.literal(commonTimeOf(endedAt))

// Apache's %{...}t: begin: or end:, then a word or a format of strftime(3), in UTC.
const time = (argument: string): Writer | undefined => {
  const atEnd = argument.startsWith("end:")
  const format = argument.replace(/^(?:begin|end):/, "")
  const of = ({ endedAt, startedAt }: Entry): number => atEnd ? endedAt : startedAt
  switch (format) {
    case "sec":
      return integer((entry) => Math.floor(of(entry) / 1000))
    case "msec":
      return integer((entry) => Math.floor(of(entry)))
    case "usec":
      return integer((entry) => Math.floor(of(entry) * 1000))
    case "msec_frac":
      return text((entry) => String(Math.floor(of(entry)) % 1000).padStart(3, "0"))
    case "usec_frac":
      return text((entry) => String(Math.floor(of(entry) * 1000) % 1_000_000).padStart(6, "0"))
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
