/**
 * The failure of a handler: whose fault it is, and which message is logged.
 */
import * as Cause from "effect/Cause"
import * as CgiRequest from "../../cgi/CgiRequest.ts"
import type { FastCgiParams } from "../../protocol/FastCgiParams.ts"
import { FastCgiRequestError } from "../FastCgiRequestError.ts"
import type { ApplicationRequest } from "./applicationRequest.ts"

/** Whether the web server's client has sent too much, and no handler has failed. */
export const isBodyTooLarge = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.length === 1 && cause.reasons[0]._tag === "Fail" &&
  cause.reasons[0].error instanceof FastCgiRequestError && cause.reasons[0].error.reason._tag === "BodyTooLarge"

/** Whether the failure counts. A handler that has been given up was interrupted, which is none; a response that broke off has been counted. */
export const isCounted = ({ isBrokenOff, isGivenUp }: ApplicationRequest, cause: Cause.Cause<unknown>): boolean =>
  !isGivenUp && !isBrokenOff && !Cause.hasInterruptsOnly(cause)

/** The message that is logged for a failure, or undefined. `answersItself` says whether the application answers for its failures itself. */
export const messageOf = (
  { isBrokenOff, isGivenUp, isOver }: ApplicationRequest,
  cause: Cause.Cause<unknown>,
  answersItself: boolean
): string | undefined => {
  const interrupted = Cause.hasInterruptsOnly(cause)
  if (isGivenUp && !Cause.hasDies(cause)) return undefined
  const untold = isGivenUp || isBrokenOff || (isOver && !answersItself)
  // The server that stops has interrupted a response, and says so in a line of its own.
  if (untold && interrupted) return undefined
  return untold
    ? "a FastCGI handler failed after its response had begun or its client had gone"
    : interrupted
    ? "a FastCGI request was interrupted before it was answered"
    : "a FastCGI handler failed"
}

/** The names that Effect's own HTTP logger uses. A query may hold a secret. */
export const annotationsOf = (params: FastCgiParams): Record<string, unknown> => {
  const [path] = CgiRequest.url(params).split(/[?#]/, 1)
  const method = CgiRequest.method(params)
  return { "http.method": /^[!-~]*$/.test(method) ? method : JSON.stringify(method), "http.url": path }
}
