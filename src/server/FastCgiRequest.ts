/**
 * Requests by role, as handlers see them: typed so that an Authorizer has no body to read (SPEC 6.3) and a Filter has two
 * (SPEC 6.4).
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"
import type * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { contentLength } from "../cgi/CgiRequest.ts"
import type { FastCgiParams } from "../protocol/FastCgiParams.ts"
import { FastCgiRequestError } from "./FastCgiRequestError.ts"

/**
 * The members of requests of all roles.
 *
 * @category models
 * @since 0.1.0
 */
export interface RequestBase {
  /** A number that tells the connections of this process apart. */
  readonly connectionId: number
  /** The id on its connection, which is reused after END_REQUEST (SPEC 3.3). */
  readonly requestId: number
  /** Whether the web server keeps the connection after this request (SPEC 5.1). */
  readonly keepConnection: boolean
  /** The address of the web server; none on a UNIX socket. */
  readonly peer: Option.Option<NetAddress.SocketAddress>
  /** The name-value pairs of the request: the CGI variables, and the client's headers as HTTP_* (SPEC 5.2). */
  readonly params: FastCgiParams
  /**
   * Writes to the web server's error log (SPEC 5.3). Waits while the connection has no room. Many web servers log each record as a
   * line of its own. nginx counts bytes before the response towards its `fastcgi_buffer_size`, one page unless it is set: beyond 3 KiB,
   * some responses become a 502. `FastCgiLogger` of `effect-fastcgi/http` keeps to that limit.
   */
  readonly stderr: (text: string) => Effect.Effect<void>
}

/**
 * An HTTP request to answer (SPEC 6.2).
 *
 * @category models
 * @since 0.1.0
 */
export interface Responder extends RequestBase {
  readonly role: 1
  /**
   * The body, in arrays as it arrives; can be run once. It has at most CONTENT_LENGTH bytes, and fails with `TruncatedBody` when
   * fewer came. Without CONTENT_LENGTH it ends with STDIN.
   */
  readonly stdin: Stream.Stream<Uint8Array, FastCgiRequestError>
}

/**
 * An HTTP request to allow or deny (SPEC 6.3). It has no body.
 *
 * @category models
 * @since 0.1.0
 */
export interface Authorizer extends RequestBase {
  readonly role: 2
  /** Which of its three questions Apache asks in this role (FCGI_APACHE_ROLE); none behind other web servers. */
  readonly apacheRole: Option.Option<ApacheRole>
}

/**
 * The question that Apache (mod_authnz_fcgi, mod_fcgid) asks an Authorizer:
 *
 * - `AUTHENTICATOR`: whether REMOTE_PASSWD is the password of REMOTE_USER
 * - `AUTHORIZER`: whether REMOTE_USER, who has been authenticated, may have the page of REQUEST_URI
 * - `ACCESS_CHECKER`: whether the client may have the page, before anybody is asked for a name; there is no REMOTE_USER
 *
 * @category models
 * @since 0.1.0
 */
export type ApacheRole = "AUTHENTICATOR" | "AUTHORIZER" | "ACCESS_CHECKER"

/**
 * A file to filter, for an HTTP request (SPEC 6.4).
 *
 * @category models
 * @since 0.1.0
 */
export interface Filter extends RequestBase {
  readonly role: 3
  /** The body of the HTTP request; arrives before `data`. */
  readonly stdin: Stream.Stream<Uint8Array, FastCgiRequestError>
  /** The file, at most `dataLength` bytes; fails with `TruncatedBody` when fewer came. */
  readonly data: Stream.Stream<Uint8Array, FastCgiRequestError>
  /** FCGI_DATA_LENGTH in bytes. */
  readonly dataLength: Option.Option<number>
  /** FCGI_DATA_LAST_MOD in seconds since 1970, UTC. */
  readonly dataLastModified: Option.Option<number>
}

/**
 * The request that a Responder is handling, for code that does not get it as an argument.
 *
 * **Example** (A handler that is an Effect)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { FastCgiRequest, FastCgiResponse, FastCgiServer } from "effect-fastcgi"
 *
 * export const HelloLive = FastCgiServer.serve({
 *   responder: Effect.gen(function*() {
 *     const request = yield* FastCgiRequest.CurrentResponder
 *     return FastCgiResponse.make(`Hello ${request.params.get("REMOTE_ADDR")}\n`)
 *   })
 * })
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class CurrentResponder extends Context.Service<CurrentResponder, Responder>()(
  "effect-fastcgi/FastCgiRequest/CurrentResponder"
) {}

/**
 * The request that an Authorizer is deciding about.
 *
 * @category services
 * @since 0.1.0
 */
export class CurrentAuthorizer extends Context.Service<CurrentAuthorizer, Authorizer>()(
  "effect-fastcgi/FastCgiRequest/CurrentAuthorizer"
) {}

/**
 * The request that a Filter is handling.
 *
 * @category services
 * @since 0.1.0
 */
export class CurrentFilter extends Context.Service<CurrentFilter, Filter>()(
  "effect-fastcgi/FastCgiRequest/CurrentFilter"
) {}

/**
 * The body of a request with a limit of its own, below the server's `maxBodySize`. It fails with `BodyTooLarge` beyond `maxBodySize`
 * bytes.
 *
 * **Details**
 *
 * A body that announces a greater length fails before anything is read. Any other body passes up to `maxBodySize` bytes on, and drops
 * the chunk that goes beyond. When a handler does not catch the error, the answer is 413.
 *
 * **Example** (A form of at most 64 KiB)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Stream from "effect/Stream"
 * import { FastCgiRequest, FastCgiResponse } from "effect-fastcgi"
 *
 * export const form = (request: FastCgiRequest.Responder) =>
 *   FastCgiRequest.limitBody(request, 64 * 1024).pipe(
 *     Stream.decodeText,
 *     Stream.mkString,
 *     Effect.map((text) => FastCgiResponse.make(`${new URLSearchParams(text).get("name")}\n`))
 *   )
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const limitBody = (
  request: Responder | Filter,
  maxBodySize: number
): Stream.Stream<Uint8Array, FastCgiRequestError> => limited(request.stdin, request.params, maxBodySize, Effect.void)

/** @internal `exceeded` runs before the stream fails. */
export const limited = (
  body: Stream.Stream<Uint8Array, FastCgiRequestError>,
  params: FastCgiParams,
  maxBodySize: number,
  exceeded: Effect.Effect<void>
): Stream.Stream<Uint8Array, FastCgiRequestError> => {
  const tooLarge = Effect.suspend(() => Effect.andThen(exceeded, Effect.fail(bodyTooLarge(maxBodySize))))
  const length = contentLength(params)
  // `stdin` never gives more than the announced length.
  if (length !== undefined) return length > maxBodySize ? Stream.fromEffect(tooLarge) : body
  return Stream.suspend(() => {
    let size = 0
    return Stream.mapArrayEffect(body, (chunks) => {
      for (let i = 0; i < chunks.length; i++) size += chunks[i].length
      return size > maxBodySize ? tooLarge : Effect.succeed(chunks)
    })
  })
}

const bodyTooLarge = (maxBodySize: number): FastCgiRequestError =>
  new FastCgiRequestError({
    reason: { _tag: "BodyTooLarge", maxBodySize },
    message: `the body is longer than ${maxBodySize} bytes`
  })
