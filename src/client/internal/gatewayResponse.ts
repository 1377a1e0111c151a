/**
 * What the client of a gateway gets: the application's answer, or a page that says why there is none.
 */
import * as Effect from "effect/Effect"
import * as Cookies from "effect/http/Cookies"
import * as Headers from "effect/http/Headers"
import * as HttpBody from "effect/http/HttpBody"
import { HttpServerError } from "effect/http/HttpServerError"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Stream from "effect/Stream"
import { concat } from "../../protocol/internal/bytes.ts"
import type { FastCgiClientError } from "../FastCgiClientError.ts"
import { type ErrorPage, RequestRefused } from "./errorPage.ts"
import type { Exchange } from "./exchange.ts"
import { printable, requestLine } from "./log.ts"
import { text } from "./request.ts"
import { parseSetCookie } from "./response.ts"

/** The answer as it came, without what is for nginx. */
export const toResponse = (exchange: Exchange): HttpServerResponse.HttpServerResponse => {
  const headers: Record<string, string> = Object.create(headersPrototype)
  let cookies: Array<string> | undefined
  for (const [name, value] of exchange.headers) {
    if (name === "set-cookie") (cookies ??= []).push(value)
    else if (!name.startsWith("x-accel-")) headers[name] = name in headers ? `${headers[name]}, ${value}` : value
  }
  const body = bodyOf(exchange, headers["content-type"])
  if (body._tag !== "Empty" && body.contentLength !== undefined) headers["content-length"] = String(body.contentLength)
  // Made of its parts: measured, `uint8Array`, which copies the headers twice, takes a microsecond more, and `Object.assign` half of it.
  const response = Object.create(responsePrototype)
  response.status = exchange.status
  response.statusText = exchange.statusText
  response.headers = headers
  response.cookies = cookies === undefined ? Cookies.empty : toCookies(cookies)
  response.body = body
  return response
}

/** The answer to a request that the application does not answer. Fails where it was its client who broke it off. */
export const withoutAnswer = (
  request: HttpServerRequest.HttpServerRequest,
  error: FastCgiClientError | HttpServerError | RequestRefused,
  toPage: (error: FastCgiClientError | RequestRefused) => ErrorPage
): Effect.Effect<HttpServerResponse.HttpServerResponse, HttpServerError> => {
  if (error._tag === "HttpServerError") return Effect.fail(error)
  if (error._tag === "FastCgiClientError" && error.reason._tag === "BodyFailed") {
    const { cause } = error
    // The client's own doing: gone, or too large.
    if (cause instanceof HttpServerError || cause instanceof RequestRefused) {
      return withoutAnswer(request, cause, toPage)
    }
  }
  const page = toPage(error)
  const line = `${requestLine(request.method, request.url)}: ${page.status}: `
  const log = error._tag === "FastCgiClientError"
    ? Effect.logWarning(line + printable(briefly(error)))
    : error.cause === undefined
    ? Effect.void
    : Effect.logError(`${line}${error.message}: ${printable(text(error.cause))}`)
  return Effect.as(log, respondWith(page))
}

/** A page as a response that nobody keeps. */
export const respondWith = ({ html, status }: ErrorPage): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(html, {
    status,
    contentType: "text/html; charset=utf-8",
    headers: { "cache-control": "no-store" }
  })

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// Without the names that objects have from birth, which a header may have.
const headersPrototype: object = Object.getPrototypeOf(Headers.empty)

const responsePrototype: object = Object.getPrototypeOf(HttpServerResponse.empty())

const bodyOf = (
  { contentLength, pull, whole }: Exchange,
  contentType: string | undefined
): HttpBody.Empty | HttpBody.Uint8Array | HttpBody.Stream => {
  if (contentLength === 0) return HttpBody.empty
  // The types demand a content type; where the application sent none, any would become a header.
  const type = contentType as string
  // Measured, a stream is a quarter of the CPU of a request whose answer is small.
  if (whole === undefined) return new HttpBody.Stream(Stream.fromPull(Effect.succeed(pull)), type, contentLength)
  const bytes = whole.length === 1 ? whole[0] : concat(whole)
  return new HttpBody.Uint8Array(bytes, type, bytes.length)
}

// STDERR is logged line by line besides.
const briefly = ({ message, stderr }: FastCgiClientError): string =>
  stderr === undefined ? message : message.slice(0, message.length - stderr.length) + stderr.split("\n", 1)[0]

// Response headers are a record, so lines of Set-Cookie have to go as cookies. Keyed by their number and with
// everything behind the first "=" as the value, they leave as they came: twice the same name, unknown attributes and
// all.
const toCookies = (lines: ReadonlyArray<string>): Cookies.Cookies => {
  const cookies: Record<string, Cookies.Cookie> = {}
  lines.forEach((line, i) => {
    const cookie = parseSetCookie(line)
    if (cookie === undefined) return
    const valueEncoded = line.slice(line.indexOf("=") + 1).trim()
    cookies[i] = Object.assign(Object.create(Object.getPrototypeOf(cookie)), {
      ...cookie,
      valueEncoded,
      options: undefined
    })
  })
  return Cookies.fromReadonlyRecord(cookies)
}
