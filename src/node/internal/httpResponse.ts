/**
 * `http.ServerResponse` of a FastCGI request, and the head that it writes.
 *
 * The special members are on the response itself, not in a class of its own, because Express gives every response another prototype.
 */
import type * as Http from "node:http"
import type { HttpRequest } from "./httpRequest.ts"
import type { HttpSocket } from "./httpSocket.ts"
import { http } from "./nodeHttp.ts"

/** Is told when a response begins and ends. */
export interface ResponseOwner {
  /** `end` has been called: what is written until `endEnds` is the last of it. */
  endBegins(): void
  endEnds(): void
}

const owner = Symbol("effect-fastcgi/owner")

/** A response as an app written for `node:http` gets it. */
export interface HttpResponse extends Http.ServerResponse {
  [owner]: ResponseOwner
}

/** A response that writes to the socket. Its owner closes it: it does not listen to the socket, which takes as long as to make one. */
export const makeResponse = (request: HttpRequest, socket: HttpSocket, responseOwner: ResponseOwner): HttpResponse => {
  const response = new http.ServerResponse(request as Http.IncomingMessage) as HttpResponse
  response[owner] = responseOwner
  // What `assignSocket` does for a response on which nothing is written and nobody listens. The types want a connection; what a
  // response uses is a Writable.
  socket._httpMessage = response
  ;(response as { socket: unknown }).socket = socket
  response.writeHead = writeHead
  response.end = end
  // The web server's business: it has a connection of its own with its client, and the time.
  response.removeHeader("connection")
  response.sendDate = false
  return response
}

/** Says that the connection is gone, as Node's own server does: nothing more can be written, and "close" has been told once. */
export const closeResponse = (response: HttpResponse): void => {
  if (response.closed) return
  response.destroyed = true // As Node has it behind `closed`.
  ;(response as unknown as { _closed: boolean })._closed = true
  response.emit("close")
}

/** Has "drain" come from the socket, as Node's own server does: by a property that nobody else can set. */
export const drainWithSocket = (response: HttpResponse, socket: HttpSocket): void => {
  Object.defineProperty(response, "writableNeedDrain", {
    configurable: true,
    get: () => !response.writableEnded && socket.writableNeedDrain
  })
  socket.on("drain", () => {
    if (!response.writableEnded) response.emit("drain")
  })
}

const nodeWriteHead = http.ServerResponse.prototype.writeHead as (
  this: HttpResponse,
  status: number,
  reason?: unknown,
  headers?: unknown
) => HttpResponse

// The records of FastCGI say where a body ends. Whatever an app sets as Transfer-Encoding, none is applied.
function writeHead(this: HttpResponse, status: number, reason?: unknown, headers?: unknown): HttpResponse {
  nodeWriteHead.call(this, status, reason, headers)
  this.chunkedEncoding = false
  return this
}

function end(
  this: HttpResponse,
  chunk?: unknown,
  encoding?: BufferEncoding | (() => void),
  callback?: () => void
): HttpResponse {
  const responseOwner = this[owner]
  responseOwner.endBegins()
  try {
    http.ServerResponse.prototype.end.call(this, chunk, encoding as BufferEncoding, callback)
  } finally {
    responseOwner.endEnds()
  }
  return this
}

/** The head of a response as Node has written it. */
export interface ResponseHead {
  readonly status: number
  readonly statusText: string
  readonly headers: Readonly<Record<string, string>>
  readonly setCookies: ReadonlyArray<string>
}

/** Where the body begins in the text that begins with a head, or -1 where it is none. */
export const bodyStart = (text: string): number => {
  if (!text.startsWith("HTTP/1.1 ")) return -1
  const end = text.indexOf("\r\n\r\n")
  return end === -1 ? -1 : end + 4
}

/** Whether a head is that of an interim response (1xx), which FastCGI cannot pass on. */
export const isInterim = (text: string): boolean => text.charCodeAt(9) === 0x31 && !text.startsWith("101", 9)

/** Reads the head that ends where the body begins. Node has checked its names and values. */
export const parseHead = (text: string, bodyStart: number): ResponseHead => {
  // With a prototype, or every access takes the slow path: what that has under a name is no string.
  const headers: Record<string, string> = {}
  const setCookies: Array<string> = []
  let at = text.indexOf("\r\n")
  const status = Number(text.substring(9, 12))
  const statusText = text.substring(13, at)
  const last = bodyStart - 4
  while (at < last) {
    const colon = text.indexOf(":", at)
    const end = text.indexOf("\r\n", colon)
    const name = known(text.substring(at + 2, colon))
    const value = text.substring(colon + 2, end)
    if (name === setCookie) setCookies.push(value)
    else {
      const present = headers[name]
      headers[name] = typeof present === "string" ? `${present}, ${value}` : value
    }
    at = end
  }
  return { status, statusText, headers, setCookies }
}

const setCookie = "set-cookie"

const maxKnownNames = 1024
const knownNames = new Map<string, string>()

// A name that has been cut out of a text is hashed and looked up at each use as a key, which takes longer than all else that
// is done with a header. The Set-Cookie of any case is one name.
const known = (name: string): string => {
  const present = knownNames.get(name)
  if (present !== undefined) return present
  if (knownNames.size >= maxKnownNames) knownNames.clear()
  const key = name.toLowerCase() === setCookie ? setCookie : Object.keys({ [name]: true })[0] ?? name
  knownNames.set(key === setCookie ? name : key, key)
  return key
}
