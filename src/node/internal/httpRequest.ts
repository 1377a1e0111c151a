/**
 * `http.IncomingMessage` of a FastCGI request. Headers are read from the params when they are asked for, the body is pulled
 * when it is read.
 *
 * The special members are on the message itself, not in a class of its own, because Express gives every message another prototype.
 */
import type * as Http from "node:http"
import type * as Net from "node:net"
import * as CgiRequest from "../../cgi/CgiRequest.ts"
import type { FastCgiParams } from "../../protocol/FastCgiParams.ts"
import type { HttpSocket } from "./httpSocket.ts"
import { http } from "./nodeHttp.ts"

/** Where a request comes from, and what has been read of it. */
export interface RequestOwner {
  readonly params: FastCgiParams
  rawHeaders: Array<string> | undefined
  headersDistinct: Record<string, Array<string>> | undefined
  /** The consumer of the body wants more. */
  pull(): void
}

type Headers = Record<string, string | Array<string>>

const owner = Symbol("effect-fastcgi/owner")

/** A request as an app written for `node:http` gets it. */
export interface HttpRequest extends Http.IncomingMessage {
  [owner]: RequestOwner
}

function read(this: Http.IncomingMessage): void {
  ;(this as HttpRequest)[owner].pull()
}

const lazy = <K extends "rawHeaders" | "headersDistinct">(
  name: K,
  make: (request: HttpRequest) => NonNullable<RequestOwner[K]>
): PropertyDescriptor => ({
  configurable: true,
  enumerable: true,
  get(this: HttpRequest) {
    return this[owner][name] ??= make(this)
  },
  set(this: HttpRequest, value: NonNullable<RequestOwner[K]>) {
    this[owner][name] = value
  }
})

const rawHeaders = lazy("rawHeaders", (request) => rawHeadersOf(request[owner].params, request.headers))
const headersDistinct = lazy("headersDistinct", (request) => distinct(request.rawHeaders))

// Node's constructor gives every message an array of its own. To replace it takes ten times as long as not to have it.
class Message extends http.IncomingMessage {
  static {
    Object.defineProperty(this.prototype, "rawHeaders", { configurable: true, get: () => [], set: () => {} })
    // Node's own counts the lines that its parser has brought.
    Object.defineProperty(this.prototype, "headersDistinct", headersDistinct)
  }
}

export const makeRequest = (
  socket: HttpSocket,
  urlOptions: CgiRequest.UrlOptions,
  requestOwner: RequestOwner
): HttpRequest => {
  // The socket has every member that an app may expect. The missing ones concern a connection of its own.
  const request = new Message(socket as unknown as Net.Socket) as HttpRequest
  request[owner] = requestOwner
  request._read = read
  // Node's own setter keeps them. An accessor here would take as long as to read them, which every framework does.
  request.headers = headersOf(requestOwner.params) as Http.IncomingHttpHeaders
  Object.defineProperty(request, "rawHeaders", rawHeaders)
  request.httpVersion = "1.1"
  request.httpVersionMajor = 1
  request.httpVersionMinor = 1
  request.method = CgiRequest.method(requestOwner.params)
  request.url = CgiRequest.url(requestOwner.params, urlOptions)
  return request
}

/** Whether a request may have a body: everything but GET and HEAD without a sign of one. */
export const mayHaveBody = (params: FastCgiParams, method: string): boolean => {
  const length = params.getLatin1("CONTENT_LENGTH")
  if (length === "0") return false
  if (length !== undefined && length !== "") return true
  return (method !== "GET" && method !== "HEAD") || params.has("HTTP_TRANSFER_ENCODING")
}

// A body whose length the web server does not know. The client's header is passed on by some; Caddy says "-1".
const isChunked = (params: FastCgiParams): boolean =>
  params.has("HTTP_TRANSFER_ENCODING") || params.getLatin1("CONTENT_LENGTH") === "-1"

// Frameworks look at these two headers to tell whether there is a body.
const headersOf = (params: FastCgiParams): Headers => {
  const headers: Headers = CgiRequest.headers(params, Object.prototype)
  if (headers["content-length"] === undefined && isChunked(params)) headers["transfer-encoding"] = "chunked"
  const cookies = headers["set-cookie"]
  if (typeof cookies === "string") headers["set-cookie"] = [cookies]
  return headers
}

// Names as clients commonly write them: the case has been lost on the way.
const rawHeadersOf = (params: FastCgiParams, headers: Http.IncomingHttpHeaders): Array<string> => {
  const raw: Array<string> = []
  const seen = new Set<string>()
  const add = (name: string, value: string) => {
    raw.push(name.split("-").map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join("-"), value)
  }
  // In the order of the params, each line of its own where the web server sends one param a line.
  params.forEachLatin1((param, value) => {
    if (!param.startsWith("HTTP_")) return
    const name = param.slice(5).toLowerCase().replaceAll("_", "-")
    if (headers[name] === undefined || separate.has(name)) return
    seen.add(name)
    add(name, value)
  })
  for (const name in headers) {
    const value = headers[name]
    if (!seen.has(name) && typeof value === "string") add(name, value)
  }
  return raw
}

const distinct = (raw: ReadonlyArray<string>): Record<string, Array<string>> => {
  const headers: Record<string, Array<string>> = Object.create(null)
  for (let i = 0; i < raw.length; i += 2) (headers[raw[i].toLowerCase()] ??= []).push(raw[i + 1])
  return headers
}

// Those that a variable of their own decides about.
const separate = new Set(["content-type", "content-length", "transfer-encoding", "authorization", "host"])
