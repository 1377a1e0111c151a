/**
 * A line of the access log as an object of JSON, with the names of OpenTelemetry's conventions for HTTP.
 */
import * as DateTime from "effect/DateTime"
import * as CgiRequest from "../../cgi/CgiRequest.ts"
import type { CompiledFormat, Entry } from "./accessFormat.ts"
import { type LineWriter, type LiteralBytes, literalOf } from "./lineWriter.ts"
import type { ParamsPicker } from "./pickParams.ts"

const names = [
  "REQUEST_METHOD",
  "REQUEST_URI",
  "HTTPS",
  "REQUEST_SCHEME",
  "REMOTE_ADDR",
  "REMOTE_USER",
  "HTTP_HOST",
  "SERVER_NAME",
  "SERVER_PROTOCOL",
  "CONTENT_LENGTH",
  "HTTP_CONTENT_LENGTH",
  "HTTP_USER_AGENT",
  "HTTP_REFERER",
  "HTTP_X_REQUEST_ID",
  "HTTP_TRACEPARENT"
] as const

type Name = typeof names[number]

const place = Object.fromEntries(names.map((name, at) => [name, at])) as Readonly<Record<Name, number>>

/** The format. */
export const json: CompiledFormat = {
  names,
  texts: ["", ""],
  writes: [(line, entry) => write(line, entry)],
  needsEnd: true
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const write = (line: LineWriter, entry: Entry): void => {
  const { observation: { bodySize, duration, queueTime, request: { isBrokenOff, isGivenUp }, status }, params } = entry
  timestamp(line, entry)
  optional(line, keys.address, entry, "REMOTE_ADDR")
  optional(line, keys.user, entry, "REMOTE_USER")
  method(line, entry)
  scheme(line, entry)
  optional(line, keys.host, entry, params.hasValue(place.HTTP_HOST) ? "HTTP_HOST" : "SERVER_NAME")
  target(line, entry)
  protocol(line, entry)
  requestSize(line, entry)
  if (status !== 0) integer(line, keys.status, status)
  integer(line, keys.responseSize, bodySize)
  seconds(line, keys.duration, duration)
  if (queueTime !== 0) seconds(line, keys.queue, queueTime)
  if (isBrokenOff) text(line, keys.error, "response_cut_off")
  else if (isGivenUp) text(line, keys.error, "aborted")
  optional(line, keys.agent, entry, "HTTP_USER_AGENT")
  optional(line, keys.referer, entry, "HTTP_REFERER")
  optional(line, keys.requestId, entry, "HTTP_X_REQUEST_ID")
  optional(line, keys.traceparent, entry, "HTTP_TRACEPARENT")
  line.byte(closingBrace)
}

const key = (name: string): LiteralBytes => literalOf(`,"${name}":`)

const keys = {
  address: key("client.address"),
  user: key("user.name"),
  method: key("http.request.method"),
  scheme: key("url.scheme"),
  host: key("server.address"),
  path: key("url.path"),
  query: key("url.query"),
  protocol: key("network.protocol.version"),
  requestSize: key("http.request.body.size"),
  status: key("http.response.status_code"),
  responseSize: key("http.response.body.size"),
  duration: key("http.server.request.duration"),
  queue: key("fastcgi.queue.duration"),
  error: key("error.type"),
  agent: key("user_agent.original"),
  referer: key("http.request.header.referer"),
  requestId: key("http.request.header.x-request-id"),
  traceparent: key("http.request.header.traceparent")
}

const closingBrace = 0x7d
const question = 0x3f
const slash = 0x2f

const text = (line: LineWriter, key: LiteralBytes, value: string): void => {
  line.literal(key)
  line.json(value)
}

const integer = (line: LineWriter, key: LiteralBytes, value: number): void => {
  line.literal(key)
  line.integer(value)
}

const seconds = (line: LineWriter, key: LiteralBytes, millis: number): void => {
  line.literal(key)
  line.millionths(Math.round(millis * 1000))
}

// A value that is plain is copied from the params. The others are made by the functions that the server itself calls.

const optional = (line: LineWriter, key: LiteralBytes, entry: Entry, name: Name): void => {
  const { observation: { request }, params } = entry
  const at = place[name]
  if (!params.hasValue(at)) return
  line.literal(key)
  if (!line.plainJson(params.view, params.starts[at], params.ends[at])) line.json(request.params.get(name)!)
}

const method = (line: LineWriter, { observation: { request }, params }: Entry): void => {
  line.literal(keys.method)
  const at = place.REQUEST_METHOD
  const end = params.ends[at]
  let from = params.starts[at]
  while (from < end && isUpperCase(params.view.getUint8(from))) from++
  if (from < end || !params.hasValue(at)) line.json(CgiRequest.method(request.params))
  else line.plainJson(params.view, params.starts[at], end)
}

const isUpperCase = (byte: number): boolean => byte >= 0x41 && byte <= 0x5a

const scheme = (line: LineWriter, { observation: { request }, params }: Entry): void => {
  line.literal(keys.scheme)
  line.json(
    !params.hasValue(place.HTTPS) && params.is(place.REQUEST_SCHEME, "http")
      ? "http"
      : CgiRequest.scheme(request.params)
  )
}

const target = (line: LineWriter, { observation: { request }, params }: Entry): void => {
  const { ends, starts, view } = params
  const start = starts[place.REQUEST_URI]
  const end = ends[place.REQUEST_URI]
  const asked = plainTarget(params, start, end)
  if (asked !== -1) {
    line.literal(keys.path)
    const isPlain = line.plainJson(view, start, asked)
    if (asked < end && isPlain) {
      line.literal(keys.query)
      if (line.plainJson(view, asked + 1, end)) return
      line.json(params.text(place.REQUEST_URI).substring(asked + 1 - start))
      return
    }
    if (isPlain) return
  } else line.literal(keys.path)
  const url = CgiRequest.url(request.params)
  const at = url.indexOf("?")
  line.json(at === -1 ? url : url.slice(0, at))
  if (at !== -1) text(line, keys.query, url.slice(at + 1))
}

// Where the query of a target begins that is a path, and has nothing in it that the server would encode; its end where it has
// none, and -1 for other targets.
const plainTarget = ({ view }: ParamsPicker, start: number, end: number): number => {
  if (start >= end || view.getUint8(start) !== slash) return -1
  let asked = end
  for (let at = start; at < end; at++) {
    const byte = view.getUint8(at)
    if (byte <= 0x20 || byte > 0x7e) return -1
    if (byte === question && asked === end) asked = at
  }
  return asked
}

const http = /^HTTP\//

const protocol = (line: LineWriter, { observation: { request }, params }: Entry): void => {
  const at = place.SERVER_PROTOCOL
  if (!params.hasValue(at)) return
  line.literal(keys.protocol)
  const start = params.starts[at]
  const end = params.ends[at]
  const from = params.startsWith(at, "HTTP/") ? start + "HTTP/".length : start
  if (!line.plainJson(params.view, from, end)) line.json(request.params.get("SERVER_PROTOCOL")!.replace(http, ""))
}

const requestSize = (line: LineWriter, { observation: { request }, params }: Entry): void => {
  // nginx sends an empty one with every GET.
  if (!params.hasValue(place.CONTENT_LENGTH) && !params.has(place.HTTP_CONTENT_LENGTH)) return
  const length = CgiRequest.contentLength(request.params)
  if (length !== undefined) integer(line, keys.requestSize, length)
}

// A line a request, and many requests a second.
let lastSecond = NaN
let lastTime = literalOf("")
const timestamp = (line: LineWriter, { startedAt }: Entry): void => {
  const millis = Math.floor(startedAt)
  const second = Math.floor(millis / 1000)
  if (second !== lastSecond) {
    const iso = DateTime.formatIso(DateTime.makeUnsafe(second * 1000))
    lastTime = literalOf(`{"timestamp":"${iso.slice(0, -"000Z".length)}`)
    lastSecond = second
  }
  line.literal(lastTime)
  line.digits(millis - second * 1000, 3)
  line.literal(timestampEnd)
}

const timestampEnd = literalOf("Z\"")
