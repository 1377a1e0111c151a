/**
 * Why requests fail at the web server's end of a connection, in words.
 */
import { type EndRequest, ProtocolStatus } from "../../protocol/FastCgiRecord.ts"
import { FastCgiClientError, type FastCgiClientErrorReason } from "../FastCgiClientError.ts"

/** Makes an error. */
export const fail = (
  reason: FastCgiClientErrorReason,
  message: string,
  cause?: unknown
): FastCgiClientError => new FastCgiClientError(cause === undefined ? { reason, message } : { reason, message, cause })

/** This end has closed the connection. */
export const closedHere = (): FastCgiClientError =>
  fail({ _tag: "Closed" }, "the connection was closed before the request had ended")

/** No request can begin. */
export const notOpen = (): FastCgiClientError =>
  fail(
    { _tag: "Closed" },
    "the connection takes no further request: it is closed, or was to be closed after its last one"
  )

/** END_REQUEST without output, and with a protocol status other than REQUEST_COMPLETE. */
export const refusal = ({ protocolStatus }: EndRequest): FastCgiClientError => {
  const refused = (_tag: "Overloaded" | "CantMultiplex" | "UnknownRole", why: string) =>
    fail({ _tag }, `the application refused the request: ${why}`)
  switch (protocolStatus) {
    case ProtocolStatus.Overloaded:
      return refused("Overloaded", "it is overloaded (FCGI_OVERLOADED)")
    case ProtocolStatus.CantMpxConn:
      return refused("CantMultiplex", "it takes one at a time on a connection (FCGI_CANT_MPX_CONN)")
    case ProtocolStatus.UnknownRole:
      return refused("UnknownRole", "it does not know the role (FCGI_UNKNOWN_ROLE)")
    default: {
      const message = `the application ended the request with protocolStatus ${protocolStatus}, unknown to FastCGI/1.0`
      return fail({ _tag: "ProtocolError" }, message)
    }
  }
}
