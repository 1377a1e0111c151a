/**
 * Format strings of access logs, compiled: Apache's LogFormat and php-fpm's access.format. What comes from a client is escaped
 * as Apache does, so that a line is one line and a quoted value ends where its quotes do.
 */
import * as DateTime from "effect/DateTime"
import { commonTime } from "./commonTime.ts"
import type { Observation } from "./observation.ts"
import { escape } from "./pickParams.ts"

/** The values of a line. */
export interface Entry {
  readonly observation: Observation
  /** When the request ended, in milliseconds since 1970. */
  readonly time: number
  /** Values of the params that the format asks for, in its order, escaped. */
  readonly values: ReadonlyArray<string | undefined>
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
  readonly line: (entry: Entry) => string
}

/** Says why a format is wrong. */
export interface FormatProblem {
  readonly problem: string
}

type Part = string | ((entry: Entry) => string)

// %, conditions, which request, argument, letter.
const directive = /%(!?\d{3}(?:,\d{3})*)?[<>]?(?:\{([^}]*)\})?(\^[a-zA-Z]{2}|[a-zA-Z]|%)?/g

/** Compiles a format string of this syntax. */
export const compile = (format: string, syntax: "apache" | "php-fpm"): CompiledFormat | FormatProblem => {
  const names: Array<string> = []
  const param = (name: string) => {
    const known = names.indexOf(name)
    return known === -1 ? names.push(name) - 1 : known
  }
  const parts: Array<Part> = []
  let end = 0
  for (const match of format.matchAll(directive)) {
    const [text, condition, argument, letter] = match
    if (match.index > end) parts.push(format.slice(end, match.index))
    end = match.index + text.length
    if (letter === "%") {
      parts.push("%")
      continue
    }
    const part = letter === undefined
      ? undefined
      : (syntax === "apache" ? apache : php)(letter, argument, param)
    if (part === undefined) {
      return { problem: `${JSON.stringify(text)} at ${match.index + 1} is no directive of ${names_[syntax]}` }
    }
    parts.push(condition === undefined || typeof part === "string" ? part : onlyFor(condition, part))
  }
  if (end < format.length) parts.push(format.slice(end))
  return {
    names,
    line(entry) {
      let line = ""
      for (let i = 0; i < parts.length; i++) {
        const part = parts[i]
        line += typeof part === "string" ? part : part(entry)
      }
      return line
    }
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const names_ = { "apache": "Apache's LogFormat", "php-fpm": "php-fpm's access.format" }

const onlyFor = (condition: string, part: (entry: Entry) => string) => {
  const not = condition.startsWith("!")
  const statuses = new Set((not ? condition.slice(1) : condition).split(",").map(Number))
  return (entry: Entry) => statuses.has(entry.observation.status) !== not ? part(entry) : "-"
}

type AddParam = (name: string) => number

const orDash = (value: string | undefined): string => value === undefined || value === "" ? "-" : value

const value = (param: AddParam, name: string): Part => {
  const at = param(name)
  return ({ values }) => orDash(values[at])
}

/** The first of the params that is there. */
const either = (param: AddParam, ...names: ReadonlyArray<string>): Part => {
  const places = names.map(param)
  return ({ values }) => {
    for (const at of places) if (values[at] !== undefined && values[at] !== "") return orDash(values[at])
    return "-"
  }
}

const headerName = (name: string): string => {
  const upper = name.toUpperCase().replaceAll("-", "_")
  return upper === "CONTENT_TYPE" || upper === "CONTENT_LENGTH" ? upper : `HTTP_${upper}`
}

// The values of a header of the response. Its lines have been checked when they were encoded.
const responseHeader = (name: string): Part => {
  const wanted = `${name.toLowerCase()}:`
  return ({ observation: { head } }) => {
    const values = (head ?? "").split("\n")
      .filter((line) => line.slice(0, wanted.length).toLowerCase() === wanted)
      .map((line) => line.slice(wanted.length).trim())
    return values.length === 0 ? "-" : escape(values.join(", "))
  }
}

const status: Part = ({ observation: { status } }) => status === 0 ? "-" : String(status)

const bodySize = ({ observation: { bodySize } }: Entry): number => bodySize

const sentSize = ({ observation: { bodySize, head = "" } }: Entry): number => head.length + bodySize

const splitTarget = (target: string | undefined): readonly [path: string, query: string] => {
  if (target === undefined) return ["", ""]
  const at = target.indexOf("?")
  return at === -1 ? [target, ""] : [target.slice(0, at), target.slice(at)]
}

const duration = (unit: string | undefined): ((entry: Entry) => string) | undefined => {
  switch (unit) {
    case "us":
    case "micro":
    case "microseconds":
      return ({ observation }) => String(Math.round(observation.duration * 1000))
    case "ms":
      return ({ observation }) => String(Math.floor(observation.duration))
    case "milli":
    case "milliseconds":
      return ({ observation }) => observation.duration.toFixed(3)
    case "s":
      return ({ observation }) => String(Math.floor(observation.duration / 1000))
    case "seconds":
      return ({ observation }) => (observation.duration / 1000).toFixed(3)
    default:
      return undefined
  }
}

const apache = (letter: string, argument: string | undefined, param: AddParam): Part | undefined => {
  const named = argument !== undefined && argument !== ""
  switch (letter) {
    case "a":
      return value(param, "REMOTE_ADDR")
    case "h":
      return either(param, "REMOTE_HOST", "REMOTE_ADDR")
    case "A":
      return value(param, "SERVER_ADDR")
    case "B":
      return (entry) => String(bodySize(entry))
    case "b":
      return (entry) => bodySize(entry) === 0 ? "-" : String(bodySize(entry))
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
      return ({ observation: { request } }) => String(request.keepConnection ? 1 : 0)
    case "m":
      return value(param, "REQUEST_METHOD")
    case "p":
      return argument === "remote" ? value(param, "REMOTE_PORT") : value(param, "SERVER_PORT")
    case "P":
      return ({ process: { pid } }) => String(pid)
    case "q": {
      const at = param("REQUEST_URI")
      return ({ values }) => splitTarget(values[at])[1]
    }
    case "r": {
      const method = param("REQUEST_METHOD")
      const target = param("REQUEST_URI")
      const protocol = param("SERVER_PROTOCOL")
      return ({ values }) => `${values[method] ?? "-"} ${values[target] ?? "-"} ${values[protocol] ?? "-"}`
    }
    case "s":
      return status
    case "t":
      return argument === undefined ? (entry) => `[${commonTimeOf(startOf(entry))}]` : time(argument)
    case "u":
      return value(param, "REMOTE_USER")
    case "U": {
      const at = param("REQUEST_URI")
      return ({ values }) => orDash(splitTarget(values[at])[0])
    }
    case "v":
      return value(param, "SERVER_NAME")
    case "V":
      return either(param, "HTTP_HOST", "SERVER_NAME")
    case "X":
      return ({ observation: { request } }) =>
        request.isGivenUp || request.isBrokenOff ? "X" : request.keepConnection ? "+" : "-"
    case "I": {
      const at = param("CONTENT_LENGTH")
      return ({ values }) => lengthOf(values[at])
    }
    case "O":
      return (entry) => String(sentSize(entry))
    case "S": {
      const at = param("CONTENT_LENGTH")
      return (entry) => String(Number(lengthOf(entry.values[at])) + sentSize(entry))
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
    case "l": {
      const at = param("CONTENT_LENGTH")
      return ({ values }) => lengthOf(values[at])
    }
    case "m":
      return value(param, "REQUEST_METHOD")
    case "M": {
      const unit = memoryUnits[argument ?? "bytes"]
      return unit === undefined ? undefined : ({ process }) => String(Math.round(process.memory() / unit))
    }
    case "n":
      return ({ process: { pool } }) => escape(pool)
    case "o":
      return named ? responseHeader(argument) : undefined
    case "p":
      return ({ process: { pid } }) => String(pid)
    case "P":
      return ({ process: { parentPid } }) => String(parentPid)
    case "q": {
      const at = param("QUERY_STRING")
      return ({ values }) => values[at] ?? ""
    }
    case "Q": {
      const at = param("QUERY_STRING")
      return ({ values }) => values[at] === undefined || values[at] === "" ? "" : "?"
    }
    case "r":
      return either(param, "SCRIPT_NAME", "PATH_INFO")
    case "R":
      return value(param, "REMOTE_ADDR")
    case "s":
      return status
    case "t":
      return argument === undefined ? (entry) => commonTimeOf(startOf(entry)) : time(argument)
    case "T":
      return argument === undefined ? ({ time }) => commonTimeOf(time) : time(`end:${argument}`)
    case "u":
      return value(param, "REMOTE_USER")
    default:
      return undefined
  }
}

const memoryUnits: Readonly<Record<string, number>> = {
  bytes: 1,
  kilo: 1024,
  kilobytes: 1024,
  mega: 1024 * 1024,
  megabytes: 1024 * 1024
}

const lengthOf = (text: string | undefined): string => text !== undefined && /^\d{1,15}$/.test(text) ? text : "0"

const cookie = (param: AddParam, name: string): Part => {
  const at = param("HTTP_COOKIE")
  return ({ values }) => {
    for (const pair of (values[at] ?? "").split(";")) {
      const [key, ...value] = pair.split("=")
      if (key.trim() === name) return orDash(value.join("=").trim())
    }
    return "-"
  }
}

const startOf = ({ observation, time }: Entry): number => time - observation.duration

// A line a request, and many requests a second.
let lastSecond = -1
let lastText = ""
const commonTimeOf = (millis: number): string => {
  const second = Math.floor(millis / 1000)
  if (second === lastSecond) return lastText
  lastText = commonTime(second)
  lastSecond = second
  return lastText
}

// Apache's %{...}t: begin: or end:, then a word or a format of strftime(3), in UTC.
const time = (argument: string): ((entry: Entry) => string) | undefined => {
  const atEnd = argument.startsWith("end:")
  const format = argument.replace(/^(?:begin|end):/, "")
  const of = atEnd ? ({ time }: Entry) => time : startOf
  switch (format) {
    case "sec":
      return (entry) => String(Math.floor(of(entry) / 1000))
    case "msec":
      return (entry) => String(Math.floor(of(entry)))
    case "usec":
      return (entry) => String(Math.floor(of(entry) * 1000))
    case "msec_frac":
      return (entry) => String(Math.floor(of(entry)) % 1000).padStart(3, "0")
    case "usec_frac":
      return (entry) => String(Math.floor(of(entry) * 1000) % 1_000_000).padStart(6, "0")
  }
  // Letters that are not known would otherwise be found when the first request ends.
  for (const [, letter] of format.matchAll(/%(.?)/gs)) if (!Object.hasOwn(strftime, letter)) return undefined
  return (entry) => {
    const parts = DateTime.toPartsUtc(DateTime.makeUnsafe(Math.floor(of(entry))))
    return format.replace(/%(.)/gs, (_, letter: string) => strftime[letter](parts))
  }
}

const two = (number: number): string => String(number).padStart(2, "0")
const days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

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
