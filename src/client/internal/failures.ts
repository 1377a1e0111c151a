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
export const refusal = (record: EndRequest): FastCgiClientError => {
  switch (record.protocolStatus) {
    case ProtocolStatus.Overloaded:
      return fail({ _tag: "Overloaded" }, "the application refused the request: it is overloaded (FCGI_OVERLOADED)")
    case ProtocolStatus.CantMpxConn:
      return fail(
        { _tag: "CantMultiplex" },
        "the application refused the request: it takes one at a time on a connection (FCGI_CANT_MPX_CONN)"
      )
    case ProtocolStatus.UnknownRole:
      return fail(
        { _tag: "UnknownRole" },
        "the application refused the request: it does not know the role (FCGI_UNKNOWN_ROLE)"
      )
    default:
      return fail(
        { _tag: "ProtocolError" },
        `the application ended the request with protocolStatus ${record.protocolStatus}, unknown to FastCGI/1.0`
      )
  }
}
