/**
 * The contract between the application's end of a connection and the engine: the limits that the end keeps, its questions, and what
 * it tells.
 */
import type * as FastCgiParams from "../../protocol/FastCgiParams.ts"
import type { ProtocolStatus } from "../../protocol/FastCgiRecord.ts"
import type { ApplicationEnd } from "./applicationEnd.ts"
import type { ApplicationRequest } from "./applicationRequest.ts"
import type { Refusal } from "./refusals.ts"

/** Limits of one connection; defaults are in `server/FastCgiServerOptions`. Times are milliseconds, `Infinity` for none. */
export interface ConnectionLimits extends FastCgiParams.FastCgiParamsLimits {
  /** Bytes of the params of a request. */
  readonly maxParamsSize: number
  /** Requests that a connection carries in all. */
  readonly maxRequestsPerConnection: number
  /** Unread bytes at which a connection stops reading that carries one request only. */
  readonly inputHighWaterMark: number
  /** Unread bytes of all requests at which any other connection stops reading. */
  readonly maxBufferedInput: number
  /** How long a multiplexed connection may stop reading before the stalled request's input is dropped. */
  readonly stallTimeout: number
  /** Pending bytes at which writers wait. */
  readonly outputHighWaterMark: number
  /** How long PARAMS may take. */
  readonly paramsTimeout: number
  /** How long a connection may be open without a request. */
  readonly idleTimeout: number
  /** How long the peer may take nothing of what is pending. */
  readonly writeTimeout: number
  /** How long a peer that reads or sends nothing more may keep a closing connection open. */
  readonly lingerTimeout: number
  /** Whether the peer's half-close leaves requests alone; otherwise it aborts them. */
  readonly allowHalfOpen: boolean
}

/** The questions of a connection to the application. All synchronous. */
export interface Application {
  /** BEGIN_REQUEST: undefined goes on; a protocol status ends the request at once; a refusal once its PARAMS have ended. */
  readonly begin: (role: number, active: number) => ProtocolStatus | Refusal | undefined
  /** PARAMS of a request have begun. May call `overrun` of a connection. */
  readonly paramsBegun: (connection: ApplicationEnd) => void
  /** PARAMS of a request have ended, or will not. */
  readonly paramsEnded: () => void
  /** PARAMS have ended: undefined admits; anything else is the answer. */
  readonly admit: (request: ApplicationRequest) => ProtocolStatus | Refusal | undefined
  /** Run the handler of a request that has been admitted: `start` or `queue` of it, and later once `end` or `fail`. */
  readonly start: (request: ApplicationRequest) => void
  /** A request that `admit` admitted has ended, or is as good as ended. */
  readonly ended: (request: ApplicationRequest) => void
  /** GET_VALUES: the variables that are known, of those whose names are asked for. */
  readonly values: (asked: FastCgiParams.FastCgiParams) => ReadonlyArray<readonly [string, string]>
  /** Something of the protocol was broken or a limit reached, and what has been done about it. */
  readonly report: (report: ApplicationReport) => void
}

/** The limits of a connection that somebody can reach, by the names of their options. */
export type ConnectionLimit =
  | "maxParamsSize"
  | "maxParamsCount"
  | "maxRequestsInParams"
  | "stallTimeout"
  | "paramsTimeout"
  | "idleTimeout"
  | "writeTimeout"

/** An event to log or to count. `limit` is the limit that was reached, if any. */
export interface ApplicationReport {
  readonly _tag: "ConnectionClosed" | "ConnectionIdle" | "RequestRefused" | "InputDiscarded"
  readonly requestId?: number | undefined
  readonly limit?: ConnectionLimit | undefined
  readonly message: string
}
