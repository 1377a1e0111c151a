/**
 * A line of the access log as an object of JSON, with the names of OpenTelemetry's conventions for HTTP.
 */
import * as DateTime from "effect/DateTime"
import * as CgiRequest from "../../cgi/CgiRequest.ts"
import type { CompiledFormat, Entry } from "./accessFormat.ts"
import { type LineWriter, type LiteralBytes, literalOf, type Write } from "./lineWriter.ts"
import { type ParamsPicker, placesIn } from "./pickParams.ts"

/** Makes the format. */
export const json = (): CompiledFormat => {
  const names: Array<string> = []
  const param = placesIn(names)
  const writes: ReadonlyArray<Write<Entry>> = [
    timestamp,
    value("client.address", names, param("REMOTE_ADDR")),
    value("user.name", names, param("REMOTE_USER")),
    method(param("REQUEST_METHOD")),
    scheme(param("HTTPS"), param("REQUEST_SCHEME")),
    value("server.address", names, param("HTTP_HOST"), param("SERVER_NAME")),
    target(param("REQUEST_URI")),
    protocol(param("SERVER_PROTOCOL")),
    requestSize(param("CONTENT_LENGTH"), param("HTTP_CONTENT_LENGTH")),
    response,
    value("user_agent.original", names, param("HTTP_USER_AGENT")),
    value("http.request.header.referer", names, param("HTTP_REFERER")),
    value("http.request.header.x-request-id", names, param("HTTP_X_REQUEST_ID")),
    value("http.request.header.traceparent", names, param("HTTP_TRACEPARENT"))
  ]
  return { names, texts: [...writes.map(() => ""), "}"], writes, needsEnd: true }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const key = (name: string): LiteralBytes => literalOf(`,"${name}":`)

const question = 0x3f
const slash = 0x2f

const integer = (line: LineWriter, key: LiteralBytes, value: number): void => {
  line.literal(key)
  line.integer(value)
}

const seconds = (line: LineWriter, key: LiteralBytes, millis: number): void => {
  line.literal(key)
  line.millionths(Math.round(millis * 1000))
}

// A value that is plain is copied from the params. The others are made by the functions that the server itself calls.

const value = (name: string, names: ReadonlyArray<string>, first: number, second = first): Write<Entry> => {
  const named = key(name)
  return (line, { observation: { request }, params }) => {
    const at = params.hasValue(first) ? first : second
    if (!params.hasValue(at)) return
    line.literal(named)
    if (!line.plainJson(params.view, params.starts[at], params.ends[at])) line.json(request.params.get(names[at])!)
  }
}

const methodKey = key("http.request.method")

const method = (at: number): Write<Entry> => (line, { observation: { request }, params }) => {
  line.literal(methodKey)
  const end = params.ends[at]
  let from = params.starts[at]
  while (from < end && isUpperCase(params.view.getUint8(from))) from++
  if (from < end || !params.hasValue(at)) line.json(CgiRequest.method(request.params))
  else line.plainJson(params.view, params.starts[at], end)
}

const isUpperCase = (byte: number): boolean => byte >= 0x41 && byte <= 0x5a

const http = literalOf(",\"url.scheme\":\"http\"")
const https = literalOf(",\"url.scheme\":\"https\"")

const scheme = (httpsAt: number, schemeAt: number): Write<Entry> => (line, { observation: { request }, params }) => {
  const isHttp = !params.hasValue(httpsAt) && params.is(schemeAt, "http")
  line.literal(isHttp || CgiRequest.scheme(request.params) === "http" ? http : https)
}

const pathKey = key("url.path")
const queryKey = key("url.query")

const target = (at: number): Write<Entry> => (line, { observation: { request }, params }) => {
  const { ends, starts, view } = params
  const start = starts[at]
  const end = ends[at]
  const asked = plainTarget(params, start, end)
  line.literal(pathKey)
  if (asked === -1 || !line.plainJson(view, start, asked)) {
    const url = CgiRequest.url(request.params)
    const [path] = url.split("?", 1)
    line.json(path)
    if (path === url) return
    line.literal(queryKey)
    line.json(url.slice(path.length + 1))
  } else if (asked < end) {
    line.literal(queryKey)
    if (!line.plainJson(view, asked + 1, end)) line.json(params.text(at).substring(asked + 1 - start))
  }
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

const protocolKey = key("network.protocol.version")

const protocol = (at: number): Write<Entry> => (line, { observation: { request }, params }) => {
  if (!params.hasValue(at)) return
  line.literal(protocolKey)
  const from = params.starts[at] + (params.startsWith(at, "HTTP/") ? "HTTP/".length : 0)
  if (line.plainJson(params.view, from, params.ends[at])) return
  line.json(request.params.get("SERVER_PROTOCOL")!.replace(/^HTTP\//, ""))
}

const requestSizeKey = key("http.request.body.size")

const requestSize = (at: number, headerAt: number): Write<Entry> => (line, { observation: { request }, params }) => {
  // nginx sends an empty one with every GET.
  if (!params.hasValue(at) && !params.has(headerAt)) return
  const length = CgiRequest.contentLength(request.params)
  if (length !== undefined) integer(line, requestSizeKey, length)
}

const statusKey = key("http.response.status_code")
const responseSizeKey = key("http.response.body.size")
const durationKey = key("http.server.request.duration")
const queueKey = key("fastcgi.queue.duration")
const cutOff = literalOf(",\"error.type\":\"response_cut_off\"")
const aborted = literalOf(",\"error.type\":\"aborted\"")

const response: Write<Entry> = (line, { observation: { bodySize, duration, queueTime, request, status } }) => {
  if (status !== 0) integer(line, statusKey, status)
  integer(line, responseSizeKey, bodySize)
  seconds(line, durationKey, duration)
  if (queueTime !== 0) seconds(line, queueKey, queueTime)
  if (request.isBrokenOff) line.literal(cutOff)
  else if (request.isGivenUp) line.literal(aborted)
}

// A line a request, and many requests a second.
let lastSecond = NaN
let lastTime = literalOf("")
const timestamp: Write<Entry> = (line, { startedAt }) => {
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
