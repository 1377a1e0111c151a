/**
 * What can go wrong on the web server's side of FastCGI: one error, with the reason as a tagged value.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"

/**
 * There is no connection: nothing listens there, or it may not be opened. `cause` is the connector's error.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectFailed {
  readonly _tag: "ConnectFailed"
}

/**
 * The connection is gone and the request has had no answer, or has been cut by a reset.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectionLost {
  readonly _tag: "ConnectionLost"
  /** STDOUT bytes of the request that had arrived. At 0 the application may not even have seen the request. */
  readonly received: number
}

/**
 * The connection was closed in an orderly way in the middle of the answer: without END_REQUEST, or short of the
 * Content-Length that the answer declared.
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
 * What the application sent is not FastCGI/1.0. The connection is closed.
 *
 * @category models
 * @since 0.1.0
 */
export interface ProtocolError {
  readonly _tag: "ProtocolError"
}

/**
 * END_REQUEST with FCGI_OVERLOADED (SPEC 5.5): the application is out of some resource.
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
 * The application's answer does not begin with a CGI header block (RFC 3875 §6), or there is none.
 *
 * @category models
 * @since 0.1.0
 */
export interface BadHead {
  readonly _tag: "BadHead"
  /** The appStatus of END_REQUEST, when that is what came instead of an answer, or what an Authorizer's failed with. */
  readonly appStatus?: number | undefined
}

/**
 * The application has written one of the texts of `catchStderr` to STDERR: a script of PHP has died, as a rule. `stderr` of the
 * error says why.
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
 * All `maxConnections` of a pool are in use, and `maxWaiting` requests wait for one already. Nothing was sent.
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
 * Nobody read the answer while it held up other requests on the connection for `stallTimeout`, so the request was
 * aborted.
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
 * The request's scope has been closed before its end.
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
 * A request could not be made, or was not answered as it should be. `message` says it in plain words.
 *
 * Where an `HttpClient` or a gateway waited for the answer, `stderr` is what the application has written to STDERR, the last 4 KiB
 * of it, control characters but line ends in hexadecimal, and `message` tells it, too. Of a `FastCgiClient` STDERR is a stream for
 * its user.
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
