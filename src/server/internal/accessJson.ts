/**
 * A line of the access log as an object of JSON, with the names of OpenTelemetry's conventions for HTTP.
 */
import * as DateTime from "effect/DateTime"
import * as CgiRequest from "../../cgi/CgiRequest.ts"
import { utf8 } from "../../protocol/internal/text.ts"
import type { CompiledFormat, Entry } from "./accessFormat.ts"
import { type LineWriter, Written } from "./lineWriter.ts"

/** The format. */
export const json: CompiledFormat = {
  names: [],
  pieces: [{ kind: Written, write: (line, entry) => write(line, entry) }]
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const write = (line: LineWriter, entry: Entry): void => {
  const { observation: { bodySize, duration, queueTime, request: { isBrokenOff, isGivenUp, params }, status } } = entry
  const [path, query] = splitUrl(CgiRequest.url(params))
  line.literal(keys.timestamp)
  line.json(timestampOf(entry))
  text(line, keys.address, optional(entry, "REMOTE_ADDR"))
  text(line, keys.user, optional(entry, "REMOTE_USER"))
  text(line, keys.method, CgiRequest.method(params))
  text(line, keys.scheme, CgiRequest.scheme(params))
  text(line, keys.host, optional(entry, "HTTP_HOST") ?? optional(entry, "SERVER_NAME"))
  text(line, keys.path, path)
  text(line, keys.query, query)
  text(line, keys.protocol, optional(entry, "SERVER_PROTOCOL")?.replace(/^HTTP\//, ""))
  number(line, keys.requestSize, CgiRequest.contentLength(params))
  number(line, keys.status, status === 0 ? undefined : status)
  number(line, keys.responseSize, bodySize)
  number(line, keys.duration, seconds(duration))
  number(line, keys.queue, queueTime === 0 ? undefined : seconds(queueTime))
  text(line, keys.error, isBrokenOff ? "response_cut_off" : isGivenUp ? "aborted" : undefined)
  text(line, keys.agent, optional(entry, "HTTP_USER_AGENT"))
  text(line, keys.referer, optional(entry, "HTTP_REFERER"))
  text(line, keys.requestId, optional(entry, "HTTP_X_REQUEST_ID"))
  text(line, keys.traceparent, optional(entry, "HTTP_TRACEPARENT"))
  line.byte(closingBrace)
}

const key = (name: string): Uint8Array => utf8(`,"${name}":`)

const keys = {
  timestamp: utf8("{\"timestamp\":"),
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

const text = (line: LineWriter, key: Uint8Array, value: string | undefined): void => {
  if (value === undefined) return
  line.literal(key)
  line.json(value)
}

const number = (line: LineWriter, key: Uint8Array, value: number | undefined): void => {
  if (value === undefined) return
  line.literal(key)
  line.ascii(String(value))
}

const optional = ({ observation: { request: { params } } }: Entry, name: string): string | undefined => {
  const value = params.get(name)
  return value === "" ? undefined : value
}

const timestampOf = ({ startedAt }: Entry): string => DateTime.formatIso(DateTime.makeUnsafe(Math.floor(startedAt)))

const seconds = (millis: number): number => Math.round(millis * 1000) / 1e6

const splitUrl = (url: string): readonly [path: string, query: string | undefined] => {
  const at = url.indexOf("?")
  return at === -1 ? [url, undefined] : [url.slice(0, at), url.slice(at + 1)]
}
