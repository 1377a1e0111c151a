/**
 * Sends an `HttpServerResponse` as the answer to a FastCGI request. What is there as a whole leaves in one write, without
 * an Effect to wait for.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Cookies from "effect/http/Cookies"
import { causeResponse, HttpServerError, ResponseError } from "effect/http/HttpServerError"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Stream from "effect/Stream"
import { type CgiHeadError, encodeHead } from "../../cgi/CgiResponse.ts"
import type { ApplicationRequest } from "../../server/internal/applicationRequest.ts"
import * as Respond from "../../server/internal/respond.ts"
import type { ServerRequest } from "./serverRequest.ts"
import { upgraded } from "./upgrade.ts"

type Response = HttpServerResponse.HttpServerResponse

/** Sends the response and ends the request. */
export const sendResponse = (
  httpRequest: HttpServerRequest,
  response: Response
): Effect.Effect<unknown, HttpServerError> => {
  const request = (httpRequest as ServerRequest).request
  // It has been answered: the connection is the app's own.
  if (request.upgradedTo !== undefined) return Effect.as(cancelBody(response.body), upgraded)
  // Nothing can reach a web server that has given the request up.
  if (!request.isOpen) {
    request.end(1)
    return cancelBody(response.body)
  }
  const body = response.body
  if (body._tag === "Raw" && body.body instanceof globalThis.Response) {
    return sendWebResponse(httpRequest, request, response, body.body)
  }
  const isHead = httpRequest.method === "HEAD"
  const head = headOf(response, isHead)
  if (typeof head !== "string") return refuse(httpRequest, request, response, head)
  if (HttpServerResponse.omitsBody(response, isHead)) {
    Respond.sendHead(request, head, 0)
    return cancelBody(body)
  }
  switch (body._tag) {
    case "Empty":
      return sendWhole(httpRequest, request, response, head, undefined, 0)
    case "Uint8Array":
      return sendWhole(httpRequest, request, response, head, body.text ?? body.body, body.contentLength)
    case "Raw":
      return sendRaw(httpRequest, request, response, head, body.body)
    case "Stream":
      return sendStream(httpRequest, request, response, head, body.stream)
    case "FormData": {
      const form = new globalThis.Response(body.formData)
      const withType = HttpServerResponse.setHeaders(response, form.headers)
      const formHead = headOf(withType, isHead)
      return typeof formHead === "string"
        ? sendStream(httpRequest, request, withType, formHead, fromWebStream(form.body!))
        : refuse(httpRequest, request, response, formHead)
    }
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const noCookies: ReadonlyArray<string> = []

const headOf = (response: Response, isHead: boolean): string | CgiHeadError => {
  let headers: Readonly<Record<string, string>> = response.headers
  let cookies = noCookies
  if (response.status === 204 || response.status === 205) {
    const { "content-length": _, ...rest } = headers
    headers = rest
  } else if (
    response.body._tag === "Empty" && !isHead && response.status !== 304 && headers["content-length"] === undefined
  ) {
    headers = { ...headers, "content-length": "0" }
  }
  if (!Cookies.isEmpty(response.cookies)) {
    const own = headers["set-cookie"]
    cookies = Cookies.toSetCookieHeaders(response.cookies)
    if (own !== undefined) {
      const { "set-cookie": _, ...rest } = headers
      headers = rest
      cookies = [...cookies, own]
    }
  }
  return encodeHead(response.status, response.statusText, headers, cookies)
}

const declaredLength = (response: Response): number | undefined => {
  const value = response.headers["content-length"]
  return value !== undefined && /^\d{1,15}$/.test(value) ? Number(value) : undefined
}

const sendWhole = (
  httpRequest: HttpServerRequest,
  request: ApplicationRequest,
  response: Response,
  head: string,
  body: Uint8Array | string | undefined,
  length: number
): Effect.Effect<unknown, HttpServerError> => {
  const declared = response.headers["content-length"]
  if (declared !== undefined && declared !== String(length) && declaredLength(response) !== length) {
    return refuse(
      httpRequest,
      request,
      response,
      new Error(`the response body has ${length} bytes, its content-length header says ${JSON.stringify(declared)}`)
    )
  }
  if (body !== undefined) return Respond.sendWhole(request, head, body, length, 0)
  Respond.sendHead(request, head, 0)
  return Exit.void
}

const sendStream = (
  httpRequest: HttpServerRequest,
  request: ApplicationRequest,
  response: Response,
  head: string,
  body: Stream.Stream<Uint8Array, unknown>
): Effect.Effect<unknown, HttpServerError> =>
  Respond.sendStream(request, head, body, declaredLength(response), 0).pipe(
    Effect.interruptible,
    Effect.catchCause((cause) =>
      // Not `Cause.combine`, which compares reasons by hashing what they hold: the request, and with it the socket.
      Effect.failCause(Cause.fromReasons([
        ...Cause.map(cause, (error) => responseError(httpRequest, response, "the response body failed", error)).reasons,
        ...Cause.die(response).reasons
      ]))
    )
  )

const sendRaw = (
  httpRequest: HttpServerRequest,
  request: ApplicationRequest,
  response: Response,
  head: string,
  body: unknown
): Effect.Effect<unknown, HttpServerError> => {
  if (body === undefined || body === null) return sendWhole(httpRequest, request, response, head, undefined, 0)
  if (typeof body === "string") return sendWhole(httpRequest, request, response, head, body, Respond.utf8Length(body))
  if (body instanceof Uint8Array) return sendWhole(httpRequest, request, response, head, body, body.length)
  if (body instanceof ArrayBuffer) {
    return sendWhole(httpRequest, request, response, head, new Uint8Array(body), body.byteLength)
  }
  if (body instanceof Blob) return sendStream(httpRequest, request, response, head, fromWebStream(body.stream()))
  if (body instanceof ReadableStream) return sendStream(httpRequest, request, response, head, fromWebStream(body))
  if (isAsyncIterable(body)) {
    return Effect.ensuring(
      sendStream(httpRequest, request, response, head, fromAsyncIterable(body)),
      cancelBody(response.body)
    )
  }
  return refuse(httpRequest, request, response, new TypeError("a raw response body of this type can not be sent"))
}

// A `Response` of the web is an answer with its own status and headers. What the outer response sets goes over them, as in
// `HttpServerResponse.toWeb`.
const sendWebResponse = (
  httpRequest: HttpServerRequest,
  request: ApplicationRequest,
  outer: Response,
  web: globalThis.Response
): Effect.Effect<unknown, HttpServerError> => {
  if (web.bodyUsed || web.body?.locked) {
    return refuse(httpRequest, request, outer, new TypeError("the body of a raw Response can be sent only once"))
  }
  const head = HttpServerResponse.fromWeb(HttpServerResponse.toWeb(outer, { withoutBody: true }))
  return sendResponse(
    httpRequest,
    web.body === null ? head : HttpServerResponse.raw(web.body, {
      status: head.status,
      statusText: head.statusText,
      headers: head.headers,
      cookies: head.cookies
    })
  )
}

// Answers 500 for a response that can not be sent. Nothing of it has left, and nothing of it is used.
const refuse = (
  httpRequest: HttpServerRequest,
  request: ApplicationRequest,
  response: Response,
  defect: unknown
): Effect.Effect<unknown, HttpServerError> =>
  Effect.andThen(
    cancelBody(response.body),
    Effect.flatMap(causeResponse(Cause.die(defect)), ([answer, cause]) => {
      const head = encodeHead(answer.status, answer.statusText, emptyHeaders, noCookies)
      if (httpRequest.method !== "HEAD") request.stderr(refused)
      Respond.sendHead(request, head as string, 1)
      return Effect.failCause(cause)
    })
  )

const emptyHeaders = { "content-length": "0" }

const refused = new TextEncoder().encode("effect-fastcgi: the response can not be sent, see the application's log")

const responseError = (request: HttpServerRequest, response: Response, description: string, cause: unknown) =>
  new HttpServerError({ reason: new ResponseError({ request, response, description, cause }) })

const identity = (error: unknown) => error

const fromWebStream = (stream: ReadableStream<Uint8Array>): Stream.Stream<Uint8Array, unknown> =>
  Stream.fromReadableStream({ evaluate: () => stream, onError: identity })

const isAsyncIterable = (body: unknown): body is AsyncIterable<unknown> =>
  typeof body === "object" && body !== null && Symbol.asyncIterator in body

// `Stream.fromAsyncIterable` ends by the iterator's `return`, and that of a Node Readable waits for its next chunk, which
// may never come. Who cancels this one destroys what it reads.
const fromAsyncIterable = (body: AsyncIterable<unknown>): Stream.Stream<Uint8Array, unknown> =>
  Stream.fromPull(Effect.sync(() => {
    const iterator = body[Symbol.asyncIterator]()
    return Effect.callback<readonly [Uint8Array], unknown>((resume) => {
      iterator.next().then(
        (next) => resume(next.done === true ? Cause.done() : Effect.succeed([toBytes(next.value)])),
        (error) => resume(Effect.fail(error))
      )
    })
  }))

const encoder = new TextEncoder()

const toBytes = (chunk: unknown): Uint8Array => chunk instanceof Uint8Array ? chunk : encoder.encode(String(chunk))

// A body that is not sent may hold a file open.
const cancelBody = (body: Response["body"]): Effect.Effect<void> => {
  if (body._tag !== "Raw") return Exit.void
  const raw = body.body instanceof globalThis.Response ? body.body.body : body.body
  if (raw instanceof ReadableStream) {
    return Effect.ignore(Effect.tryPromise(() => raw.cancel()))
  }
  if (typeof raw === "object" && raw !== null && "destroy" in raw && typeof raw.destroy === "function") {
    return Effect.sync(() => {
      ;(raw.destroy as () => void)()
    })
  }
  return Exit.void
}
