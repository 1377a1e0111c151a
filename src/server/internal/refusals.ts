/**
 * The answers to requests that no handler sees. Each is complete and has a Status: lighttpd and Apache take anything less
 * for an Authorizer's leave to go on.
 */
import { type ProtocolStatus, Role } from "../../protocol/FastCgiRecord.ts"

/** An answer, sent when the PARAMS of its request have ended (SPEC 6.2), instead of starting a handler. */
export interface Refusal {
  readonly head: string
  readonly body: string
  /** The protocol status of END_REQUEST. Default REQUEST_COMPLETE. */
  readonly protocolStatus?: ProtocolStatus | undefined
}

const refusal = (status: string, detail = "", headers = ""): Refusal => ({
  head: `Status: ${status}\r\nContent-Type: text/plain; charset=utf-8\r\n${headers}\r\n`,
  body: `${status}${detail === "" ? "" : `: ${detail}`}\n`
})

/** Records came in an order that SPEC 6 does not know. */
export const badRequest = refusal("400 Bad Request", "the web server sent FastCGI records out of order")

/** The params are no name-value pairs. */
export const truncatedParams = refusal("400 Bad Request", "the FastCGI params end inside a name-value pair")

/** A param holds what nothing that it stands for can. */
export const badParams = refusal("400 Bad Request", "a header or a CGI variable holds CR, LF or NUL")

/** Nobody decides. */
export const forbidden = refusal("403 Forbidden")

/** The params did not come in time. */
export const lateParams = refusal("408 Request Timeout", "the FastCGI params did not come in time")

/** The handler has read more of the body than it may. */
export const tooLargeBody = refusal("413 Content Too Large")

/** The params are more than may be. */
export const tooLargeParams = refusal("431 Request Header Fields Too Large")

/** The handler failed. */
export const internalServerError = refusal("500 Internal Server Error")

/** There is no room for the request, or no time. */
export const serviceUnavailable = refusal("503 Service Unavailable", "", "Retry-After: 1\r\n")

/**
 * A refusal by a protocol status, which ends a request at once. But lighttpd takes an answer without a Status line for an
 * Authorizer's leave to go on, whatever its protocol status, so an Authorizer gets `answer` beside it.
 */
export const refuseWith = (role: number, protocolStatus: ProtocolStatus, answer: Refusal): ProtocolStatus | Refusal =>
  role === Role.Authorizer ? { head: answer.head, body: answer.body, protocolStatus } : protocolStatus

const encoder = new TextEncoder()

/** The line in the web server's error log for a handler that failed. */
export const handlerFailed = encoder.encode("effect-fastcgi: the handler failed, see the application's log")

/** The line in the web server's error log for a handler that did not begin to answer in time. */
export const tooLate = encoder.encode("effect-fastcgi: the handler has not answered in time (handlerTimeout)")
