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
  /** Whether the headers have been read from the params. */
  hasHeaders: boolean
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
  readonly [place: symbol]: unknown
}

function read(this: Http.IncomingMessage): void {
  ;(this as HttpRequest)[owner].pull()
}

// Node's own getter of `headers` makes them of `rawHeaders` when it is asked first, so that is where the params are read for
// both. Node has put an empty object in the place of the headers by then, which tells its getter from an app that asks for
// `rawHeaders`. An accessor for `headers` on the message would take as long as to read them, which many a handler never does.
const rawHeaders: PropertyDescriptor = {
  configurable: true,
  enumerable: true,
  get(this: HttpRequest) {
    const requestOwner = this[owner]
    if (!requestOwner.hasHeaders) {
      const present = headersPlace === undefined ? null : this[headersPlace]
      if (isEmpty(present)) {
        setHeaders(this)
        return []
      }
      // Else the app has given it headers of its own.
      if (present === null) setHeaders(this)
      requestOwner.hasHeaders = true
    }
    return requestOwner.rawHeaders ??= rawHeadersOf(requestOwner.params, this.headers)
  },
  set(this: HttpRequest, value: Array<string>) {
    this[owner].rawHeaders = value
  }
}

const headersDistinct: PropertyDescriptor = {
  configurable: true,
  enumerable: true,
  get(this: HttpRequest) {
    return this[owner].headersDistinct ??= distinct(this.rawHeaders)
  },
  set(this: HttpRequest, value: Record<string, Array<string>>) {
    this[owner].headersDistinct = value
  }
}

const setHeaders = (request: HttpRequest): void => {
  request[owner].hasHeaders = true
  // By Node's own setter.
  request.headers = headersOf(request[owner].params) as Http.IncomingHttpHeaders
}

const isEmpty = (headers: unknown): boolean => {
  if (typeof headers !== "object" || headers === null) return false
  for (const _ in headers) return false
  return true
}

// Node's constructor gives every message an array of its own. To replace it takes ten times as long as not to have it.
class Message extends http.IncomingMessage {
  static {
    Object.defineProperty(this.prototype, "rawHeaders", { configurable: true, get: () => [], set: () => {} })
    // Node's own counts the lines that its parser has brought.
    Object.defineProperty(this.prototype, "headersDistinct", headersDistinct)
  }
}

// Under which key Node keeps the headers, or undefined where its getter works otherwise: they are read at once then.
const headersPlace = ((): symbol | undefined => {
  const message = new Message(undefined as unknown as Net.Socket) as HttpRequest
  const place = Object.getOwnPropertySymbols(message).find(({ description }) => description === "kHeaders")
  if (place === undefined || message[place] !== null) return undefined
  const made: Http.IncomingHttpHeaders = {}
  let present: unknown
  Object.defineProperty(message, "rawHeaders", {
    get: () => {
      present = message[place]
      message.headers = made
      return []
    }
  })
  return message.headers === made && isEmpty(present) ? place : undefined
})()

export const makeRequest = (
  socket: HttpSocket,
  urlOptions: CgiRequest.UrlOptions,
  requestOwner: RequestOwner
): HttpRequest => {
  // The socket has every member that an app may expect. The missing ones concern a connection of its own.
  const request = new Message(socket as unknown as Net.Socket) as HttpRequest
  request[owner] = requestOwner
  request._read = read
  Object.defineProperty(request, "rawHeaders", rawHeaders)
  if (headersPlace === undefined) setHeaders(request)
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
