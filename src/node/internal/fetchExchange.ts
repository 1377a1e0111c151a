/**
 * One FastCGI request as a `Request` of the web, and the `Response` that a fetch handler makes of it as a `FastCgiResponse`.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { isIPv6 } from "node:net"
import * as CgiRequest from "../../cgi/CgiRequest.ts"
import type { Responder } from "../../server/FastCgiRequest.ts"
import type { FastCgiResponse } from "../../server/FastCgiResponse.ts"
import type { FetchEnvironment } from "../NodeFastCgiApp.ts"
import { badRequest } from "./httpExchange.ts"
import { mayHaveBody } from "./httpRequest.ts"

type Fetch = (request: Request, environment: FetchEnvironment) => Response | PromiseLike<Response>

const variablesOf = new WeakMap<Request, CgiRequest.CgiVariables>()

/** The web server's variables for a request of a fetch handler. */
export const variablesOfRequest = (request: Request): CgiRequest.CgiVariables | undefined => variablesOf.get(request)

/** A handler for `FastCgiServer.serve` that gives every request to a fetch handler. */
export const fetchResponder =
  (fetch: Fetch, urlOptions: CgiRequest.UrlOptions) =>
  (responder: Responder): Effect.Effect<FastCgiResponse, unknown, Scope.Scope> => {
    const controller = new AbortController()
    const request = toRequest(responder, urlOptions, controller.signal)
    if (request === undefined) return Effect.succeed(badRequest)
    const variables = CgiRequest.variables(responder.params)
    variablesOf.set(request, variables)
    let reader: Reader | undefined
    // The response has been sent when this runs, or the client has gone, in the middle of it or before.
    const finish = (exit: Exit.Exit<unknown, unknown>) =>
      Effect.sync(() => {
        if (Exit.isFailure(exit)) controller.abort(gone())
        reader?.cancel().catch(ignore)
      })
    const answer = (response: Response) => {
      const { body } = response
      if (response.bodyUsed || body?.locked) return Effect.die(new TypeError("the body of the Response has been used"))
      reader = body?.getReader()
      const head = headOf(response)
      return reader === undefined || request.method === "HEAD" || bodyless.has(response.status)
        ? Effect.succeed(head)
        : Effect.map(readBody(reader), (body) => withBody(head, body))
    }
    return Effect.andThen(
      Effect.addFinalizer(finish),
      Effect.flatMap(call(fetch, request, { variables, incoming: { socket: socketOf(variables) } }), answer)
    )
  }

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const gone = () => new DOMException("the client has gone away", "AbortError")

const ignore = () => {}

// A handler may answer at once, or never: being interrupted is all that ends the wait then.
const call = (fetch: Fetch, request: Request, environment: FetchEnvironment): Effect.Effect<Response, unknown> =>
  Effect.callback<Response, unknown>((resume) => {
    try {
      const answered = fetch(request, environment)
      if (answered instanceof Response) return resume(Effect.succeed(answered))
      Promise.resolve(answered).then(
        (response) => resume(Effect.succeed(response)),
        (error) => resume(Effect.die(error))
      )
    } catch (error) {
      resume(Effect.die(error))
    }
  })

// Undefined where it can not be one: the client's Host is none, or the method is one that `fetch` forbids.
const toRequest = (
  { params, stdin }: Responder,
  urlOptions: CgiRequest.UrlOptions,
  signal: AbortSignal
): Request | undefined => {
  if (CgiRequest.invalidVariable(params) !== undefined) return undefined
  const method = CgiRequest.method(params)
  const target = CgiRequest.url(params, urlOptions)
  const host = CgiRequest.host(params) ?? "localhost"
  const hasBody = method !== "GET" && method !== "HEAD" && mayHaveBody(params, method)
  try {
    return new Request(`${CgiRequest.scheme(params)}://${host}${target === "*" ? "/*" : target}`, {
      method,
      headers: CgiRequest.headers(params),
      signal,
      ...(hasBody ? { body: Stream.toReadableStream(stdin, lazily), duplex: "half" } : undefined)
    } as RequestInit)
  } catch {
    return undefined
  }
}

// Nothing is read before the app asks for it.
const lazily = { strategy: { highWaterMark: 0 } }

const socketOf = (variables: CgiRequest.CgiVariables): FetchEnvironment["incoming"]["socket"] => ({
  get remoteAddress() {
    return variables.remoteAddress
  },
  get remotePort() {
    return variables.remotePort
  },
  get remoteFamily() {
    const address = variables.remoteAddress
    return address === undefined ? undefined : isIPv6(address) ? "IPv6" : "IPv4"
  },
  get encrypted() {
    return variables.https
  }
})

const bodyless = new Set([204, 205, 304])

// The Response classes of frameworks have these as well.
const headOf = ({ headers: fields, status, statusText }: Response): FastCgiResponse => {
  const headers: Record<string, string> = {}
  fields.forEach((value, name) => {
    if (name !== "set-cookie") headers[name] = value
  })
  return {
    _tag: "FastCgiResponse",
    status,
    statusText,
    headers,
    setCookies: fields.getSetCookie(),
    body: undefined,
    appStatus: 0
  }
}

const withBody = (head: FastCgiResponse, body: FastCgiResponse["body"]): FastCgiResponse => ({
  ...head,
  headers: body instanceof Uint8Array && head.headers["content-length"] === undefined
    ? { ...head.headers, "content-length": String(body.length) }
    : head.headers,
  body
})

type Reader = ReadableStreamDefaultReader<Uint8Array>
type Read = ReadableStreamReadResult<Uint8Array>

// A body that is there, in one piece, leaves with its head and has a length; a Response does not tell it otherwise. Whatever
// is not there in a turn of the event loop is a stream, and its head does not wait for it.
const readBody = (reader: Reader): Effect.Effect<FastCgiResponse["body"], unknown> =>
  Effect.suspend(() => {
    const first = reader.read()
    return Effect.flatMap(soon(first), (read) => {
      if (read === undefined) return Effect.succeed(streamOf(reader, [first]))
      if (read.done) return Effect.succeed(new Uint8Array(0))
      const second = reader.read()
      return Effect.map(soon(second), (next) => next?.done === true ? read.value : streamOf(reader, [first, second]))
    })
  })

const soon = (read: Promise<Read>): Effect.Effect<Read | undefined, unknown> =>
  Effect.callback((resume) => {
    read.then((read) => resume(Effect.succeed(read)), (error) => resume(Effect.fail(error)))
    setImmediate(() => resume(Effect.succeed(undefined)))
  })

const streamOf = (reader: Reader, begun: Array<Promise<Read>>): Stream.Stream<Uint8Array, unknown> =>
  Stream.fromPull(Effect.succeed(
    Effect.flatMap(
      Effect.tryPromise({ try: () => begun.shift() ?? reader.read(), catch: identity }),
      (read) => read.done ? Cause.done() : Effect.succeed([read.value] as const)
    )
  ))

const identity = (error: unknown): unknown => error
