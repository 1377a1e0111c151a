/**
 * The errors of the web server's side of FastCGI: one error, with the reason as a tagged value.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"

/**
 * The connection could not be opened, because nothing listens there or permission is missing. `cause` is the connector's error.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectFailed {
  readonly _tag: "ConnectFailed"
}

/**
 * The connection was lost, and the request has no answer, or one that a reset has cut.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectionLost {
  readonly _tag: "ConnectionLost"
  /** STDOUT bytes of the request that had arrived. With 0, the application may not even have seen the request. */
  readonly received: number
}

/**
 * The connection was closed in order in the middle of the answer: without END_REQUEST, or before the declared Content-Length.
 *
 * @category models
 * @since 0.1.0
 */
export interface Truncated {
  readonly _tag: "Truncated"
  /** STDOUT bytes of the request that had arrived. */
  readonly received: number
}

/**
 * The application sent bytes that are not FastCGI/1.0. The connection is closed.
 *
 * @category models
 * @since 0.1.0
 */
export interface ProtocolError {
  readonly _tag: "ProtocolError"
}

/**
 * END_REQUEST with FCGI_OVERLOADED (SPEC 5.5): the application has run out of some resource.
 *
 * @category models
 * @since 0.1.0
 */
export interface Overloaded {
  readonly _tag: "Overloaded"
}

/**
 * END_REQUEST with FCGI_CANT_MPX_CONN (SPEC 5.5): the application takes one request at a time on a connection.
 *
 * @category models
 * @since 0.1.0
 */
export interface CantMultiplex {
  readonly _tag: "CantMultiplex"
}

/**
 * END_REQUEST with FCGI_UNKNOWN_ROLE (SPEC 5.5).
 *
 * @category models
 * @since 0.1.0
 */
export interface UnknownRole {
  readonly _tag: "UnknownRole"
}

/**
 * The application's answer does not begin with a CGI header block (RFC 3875 §6), or is missing.
 *
 * @category models
 * @since 0.1.0
 */
export interface BadHead {
  readonly _tag: "BadHead"
  /** The appStatus of END_REQUEST, when it came instead of an answer, or when an Authorizer failed with it. */
  readonly appStatus?: number | undefined
}

/**
 * The application has written one of the texts of `catchStderr` to STDERR, usually because a PHP script has died. `stderr` of the error
 * says why.
 *
 * @category models
 * @since 0.1.0
 */
export interface ApplicationError {
  readonly _tag: "ApplicationError"
}

/**
 * An answer did not come in time.
 *
 * @category models
 * @since 0.1.0
 */
export interface Timeout {
  readonly _tag: "Timeout"
}

/**
 * All `maxConnections` of a pool are in use, and `maxWaiting` requests already wait for one. Nothing was sent.
 *
 * @category models
 * @since 0.1.0
 */
export interface PoolFull {
  readonly _tag: "PoolFull"
}

/**
 * No connection of a pool got free within `waitTimeout`. Nothing was sent.
 *
 * @category models
 * @since 0.1.0
 */
export interface PoolTimeout {
  readonly _tag: "PoolTimeout"
}

/**
 * The stream given as STDIN or DATA failed, so the request was aborted. `cause` is its error.
 *
 * @category models
 * @since 0.1.0
 */
export interface BodyFailed {
  readonly _tag: "BodyFailed"
}

/**
 * The answer was not read while it held up other requests on the connection for `stallTimeout`, so the request was aborted.
 *
 * @category models
 * @since 0.1.0
 */
export interface Stalled {
  readonly _tag: "Stalled"
}

/**
 * The connection takes no further request: it has been closed, or its last request was sent without KEEP_CONN.
 *
 * @category models
 * @since 0.1.0
 */
export interface Closed {
  readonly _tag: "Closed"
}

/**
 * The request's scope was closed before the request had ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface Aborted {
  readonly _tag: "Aborted"
}

/**
 * Why a `FastCgiClientError` happened.
 *
 * @category models
 * @since 0.1.0
 */
export type FastCgiClientErrorReason =
  | ConnectFailed
  | ConnectionLost
  | Truncated
  | ProtocolError
  | Overloaded
  | CantMultiplex
  | UnknownRole
  | BadHead
  | ApplicationError
  | Timeout
  | PoolFull
  | PoolTimeout
  | BodyFailed
  | Stalled
  | Closed
  | Aborted

/**
 * A request could not be made, or was not answered properly. `message` says it in plain words.
 *
 * When an `HttpClient` or a gateway waited for the answer, `stderr` has the last 4 KiB of the application's STDERR, with control
 * characters other than line ends in hexadecimal, and `message` quotes it. With a `FastCgiClient`, STDERR is a stream that its user reads.
 *
 * **Example** (Falling back when the application is overloaded)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import type { FastCgiClient } from "effect-fastcgi/client"
 *
 * export const appStatus = (response: FastCgiClient.FastCgiClientResponse) =>
 *   response.end.pipe(
 *     Effect.map((end) => end.appStatus),
 *     Effect.catchReason("FastCgiClientError", "Overloaded", () => Effect.succeed(-1))
 *   )
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class FastCgiClientError extends Data.TaggedError("FastCgiClientError")<{
  readonly reason: FastCgiClientErrorReason
  readonly message: string
  readonly cause?: unknown
  readonly stderr?: string
}> {}
