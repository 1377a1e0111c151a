/**
 * The result of a handler: status, headers and a body, or for an Authorizer whether access is allowed.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { CgiHeaders } from "../cgi/CgiResponse.ts"
import { ProtocolStatus } from "../protocol/FastCgiRecord.ts"

/**
 * A response (SPEC 6.2, RFC 3875 §6).
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiResponse {
  readonly _tag: "FastCgiResponse"
  /** From 200 to 599. */
  readonly status: number
  readonly statusText: string | undefined
  /** `Status` and hop-by-hop headers are left out. */
  readonly headers: CgiHeaders
  /** The values of Set-Cookie lines. */
  readonly setCookies: ReadonlyArray<string>
  /** Text goes out as UTF-8. */
  readonly body: string | Uint8Array | Stream.Stream<Uint8Array, unknown> | undefined
  /** The status of END_REQUEST, like the exit code of a CGI program (SPEC 5.5). */
  readonly appStatus: number
}

/**
 * Headers of a response: by name, where a name may have several values, or as pairs, where it may come more than once. Names
 * are compared without regard to case, and each value becomes a line of its own. Values have one character per byte.
 *
 * @category options
 * @since 0.1.0
 */
export type FastCgiHeadersInput = CgiHeaders | Iterable<readonly [name: string, value: string]>

/**
 * Options of a response.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiResponseOptions {
  /** Default 200. */
  readonly status?: number | undefined
  /** Default: the usual reason phrase of the status. */
  readonly statusText?: string | undefined
  /** Default none; the `Content-Type` of text is `text/plain; charset=utf-8` unless given. */
  readonly headers?: FastCgiHeadersInput | undefined
  readonly setCookies?: ReadonlyArray<string> | undefined
  /** Default 0. */
  readonly appStatus?: number | undefined
}

/**
 * Creates a response from text, bytes or a stream of bytes, or without a body.
 *
 * **Details**
 *
 * A stream runs in the handler's scope while the response is sent, and waits while the web server takes nothing. When it fails, the
 * response is cut off so that it does not look complete, as far as the web server makes this possible.
 *
 * **Example** (A page)
 *
 * ```ts
 * import { FastCgiResponse } from "effect-fastcgi"
 *
 * export const page = FastCgiResponse.make("<h1>It works</h1>", {
 *   headers: { "Content-Type": "text/html", Link: ["</a.css>; rel=preload", "</b.js>; rel=preload"] }
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  body?: string | Uint8Array | Stream.Stream<Uint8Array, unknown>,
  options?: FastCgiResponseOptions
): FastCgiResponse => {
  const headers = toHeaders(options?.headers)
  return {
    _tag: "FastCgiResponse",
    status: options?.status ?? 200,
    statusText: options?.statusText,
    headers: typeof body === "string" && !hasContentType(headers)
      ? { "Content-Type": "text/plain; charset=utf-8", ...headers }
      : headers,
    setCookies: options?.setCookies ?? [],
    body,
    appStatus: options?.appStatus ?? 0
  }
}

/**
 * The result of a handler of a Responder or a Filter.
 *
 * @category models
 * @since 0.1.0
 */
export type FastCgiAnswer = FastCgiResponse | FastCgiRawResponse

/**
 * How a request ends (SPEC 5.5).
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiEnd {
  /** The exit code that a CGI program would have. */
  readonly appStatus: number
  /** Default REQUEST_COMPLETE. */
  readonly protocolStatus?: number | undefined
}

/**
 * An answer as bytes: both output streams unchanged, and an end that is decided last.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiRawResponse {
  readonly _tag: "FastCgiRawResponse"
  readonly stdout: Stream.Stream<Uint8Array, unknown>
  readonly stderr: Stream.Stream<Uint8Array, unknown> | undefined
  readonly end: Effect.Effect<FastCgiEnd, unknown>
}

/**
 * Options of `raw`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiRawResponseOptions {
  /** A header block (RFC 3875 §6) and the body. */
  readonly stdout: Stream.Stream<Uint8Array, unknown>
  /** Text for the web server's error log. Default none. */
  readonly stderr?: Stream.Stream<Uint8Array, unknown> | undefined
  /** Runs when both streams have ended. Default: appStatus 0, REQUEST_COMPLETE. */
  readonly end?: Effect.Effect<FastCgiEnd, unknown> | undefined
}

/**
 * Creates an answer from ready bytes, with a header block and a body, such as those of a CGI program or of another FastCGI
 * application.
 *
 * **Details**
 *
 * STDOUT and STDERR are sent side by side, at least a record for each chunk, and wait while the web server takes nothing. Nothing is
 * added, checked or left out. When a stream or `end` fails, the request is answered with 500 if no STDOUT has been sent, and is cut
 * off otherwise.
 *
 * **Gotchas**
 *
 * The bytes must meet the demands of the web servers themselves: for example an explicit `Status`, and a header block in one record
 * (docs/architecture.md, Output). An Authorizer that answers `Status: 200` allows.
 *
 * **Example** (The output of a CGI program)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import type * as Stream from "effect/Stream"
 * import { FastCgiResponse } from "effect-fastcgi"
 *
 * export const answer = (program: {
 *   readonly stdout: Stream.Stream<Uint8Array, Error>
 *   readonly stderr: Stream.Stream<Uint8Array, Error>
 *   readonly exitCode: Effect.Effect<number, Error>
 * }) =>
 *   FastCgiResponse.raw({
 *     stdout: program.stdout,
 *     stderr: program.stderr,
 *     end: Effect.map(program.exitCode, (appStatus) => ({ appStatus }))
 *   })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const raw = (options: FastCgiRawResponseOptions): FastCgiRawResponse => ({
  _tag: "FastCgiRawResponse",
  stdout: options.stdout,
  stderr: options.stderr,
  end: options.end ?? complete
})

/**
 * The decision of an Authorizer (SPEC 6.3).
 *
 * @category models
 * @since 0.1.0
 */
export type FastCgiAuthorization = FastCgiAllow | FastCgiDeny

/**
 * Access is allowed. Each variable becomes a variable of the requests that the web server makes for the same page.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiAllow {
  readonly _tag: "FastCgiAllow"
  readonly variables: Readonly<Record<string, string>>
}

/**
 * Access is denied with a response, which the web server passes to its client.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiDeny {
  readonly _tag: "FastCgiDeny"
  readonly response: FastCgiResponse
}

/**
 * Allows access, with variables that the web server passes on.
 *
 * **Details**
 *
 * A variable's name is a token (RFC 9110 §5.6.2). Its value has one character per byte, and no control characters except HTAB. With any
 * other name or value the web server gets `Status: 500`, which denies. So a client cannot add a variable of its own.
 *
 * @category constructors
 * @since 0.1.0
 */
export const allow = (variables: Readonly<Record<string, string>> = {}): FastCgiAllow => ({
  _tag: "FastCgiAllow",
  variables
})

/**
 * Denies access. Without a response the answer is 403. A response with status 200 would allow, so it is sent as 403.
 *
 * @category constructors
 * @since 0.1.0
 */
export const deny = (response: FastCgiResponse = forbidden): FastCgiDeny => ({ _tag: "FastCgiDeny", response })

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const noHeaders: CgiHeaders = {}

const toHeaders = (input: FastCgiHeadersInput | undefined): CgiHeaders => {
  if (input === undefined) return noHeaders
  if (!isPairs(input)) return input
  // Each name with its values, in any spelling of the name. The application chooses the names, so "__proto__" is a name like any other.
  const spelled = new Map<string, string>()
  const headers: Record<string, Array<string>> = Object.create(null)
  for (const [name, value] of input) {
    const lower = name.toLowerCase()
    const first = spelled.get(lower)
    if (first !== undefined) {
      headers[first].push(value)
      continue
    }
    spelled.set(lower, name)
    headers[name] = [value]
  }
  return headers
}

const isPairs = (input: FastCgiHeadersInput): input is Iterable<readonly [string, string]> => Symbol.iterator in input

const complete = Effect.succeed({ appStatus: 0, protocolStatus: ProtocolStatus.RequestComplete })

const hasContentType = (headers: CgiHeaders): boolean => {
  for (const name in headers) if (name.toLowerCase() === "content-type") return true
  return false
}

const forbidden = make("403 Forbidden\n", { status: 403 })
