/**
 * A web server with the application behind it: what the cases of the matrix run against, whatever server it is.
 */
import * as Context from "effect/Context"
import type { Program } from "../../support/webServers.ts"
import type { Conversation } from "./application.ts"

export class Site extends Context.Service<Site, {
  readonly server: Program
  /** Where its sockets and temporary files are. */
  readonly folder: string
  readonly application: Conversation
  /** The port on 127.0.0.1 at which this row of the matrix is served. */
  readonly port: (row: Row) => number
}>()("test/servers/Site") {}

/** One configuration of a web server, and how it differs from all the others. */
export interface Row {
  readonly name: string
  readonly differences: Differences
}

/**
 * What a web server does differently from what the cases expect, each with the reason. A difference is not a gap in the tests: the
 * case then checks what that server does instead.
 */
export interface Differences {
  /**
   * The body of a response, `"at its end"`: the client sees nothing of it before it is complete.
   * `"with X-Accel-Buffering"`: it sees it as it is sent when the response says `X-Accel-Buffering: no`, as server-sent events do,
   * and may not otherwise.
   * `"events only"`: it sees server-sent events as they are sent, and other bodies when there is enough of them.
   */
  readonly responsesArrive?:
    | readonly ["at its end" | "with X-Accel-Buffering" | "events only", reason: string]
    | undefined
  /** The application is not told that the client has gone away before it has answered. */
  readonly silentBeforeResponse?: string | undefined
  /** The application is not told that the client has gone away while it sends a response. */
  readonly silentDuringResponse?: string | undefined
  /** Why the application does not hear that a client has gone away while its body is passed on, where nobody reads it. */
  readonly silentDuringRequest?: string | undefined
  /** A request body in chunks is answered with this status, unless it has at most so many bytes (default: in any case). */
  readonly refusesChunks?: readonly [status: number, reason: string, unlessBytes?: number] | undefined
  /** The application gets a request body in chunks without a length. */
  readonly chunksHaveNoLength?: string | undefined
  /** The application's Content-Length does not reach the client. */
  readonly dropsLength?: string | undefined
  /** The application is told that the client of an idle stream has gone away only when it sends something, or some more. */
  readonly noticesAtNextWrite?: string | undefined
  /** The same, when it has sent something so many times. */
  readonly noticesAfterWrites?: readonly [count: number, reason: string] | undefined
  /** A GET is said to have a body of length 0. */
  readonly getHasLength?: string | undefined
  /** A response whose length is not known gets one. */
  readonly addsLength?: string | undefined
  /** The client can not tell a response that is cut off from a complete one when it has no length. */
  readonly cutLooksComplete?: string | undefined
  /** It may not be able to: that is a race. */
  readonly cutMayLookComplete?: string | undefined
  /** A client that takes nothing of its response holds others up. */
  readonly slowClientHoldsUpOthers?: string | undefined
  /** What an application writes to STDERR is nowhere to be read. */
  readonly losesStderr?: string | undefined
  /** A response that is cut off may cost the request that follows at the same moment. */
  readonly cutCostsTheNext?: string | undefined
  /** A response that is cut off ends in an error page of the web server, so that it looks complete. */
  readonly cutEndsInErrorPage?: string | undefined
  /** The most bytes of response headers. */
  readonly maxResponseHeaders?: readonly [bytes: number, reason: string] | undefined
  /** What becomes of the path of a request on its way to `REQUEST_URI`, where it is not passed on as it is. */
  readonly paths?: Readonly<Record<string, PathOutcome>> | undefined
  /** A method that HTTP does not know is answered with this status. */
  readonly refusesUnknownMethods?: readonly [status: number, reason: string] | undefined
  /** Headers with an underscore in their name are passed on, and can not be told from those with a dash. */
  readonly passesUnderscores?: string | undefined
  /** Cookies of several header lines arrive as `a=1, b=2`, of which a cookie parser makes one. */
  readonly joinsCookiesByComma?: string | undefined
  /** What becomes of a query, the same way. */
  readonly queries?: Readonly<Record<string, PathOutcome>> | undefined
}

/** Another path than the one sent, or the status with which the web server refuses it. */
export type PathOutcome = readonly [outcome: string | number, reason: string]
