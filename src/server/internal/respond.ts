/**
 * Sends a response for a request: head and body as the web servers want them (front-ends.md §0), in one write when all of
 * it is there.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import { encodeHead } from "../../cgi/CgiResponse.ts"
import type { ConnectionRequest } from "../../connection/internal/connectionRequest.ts"
import { Role } from "../../protocol/FastCgiRecord.ts"
import type { FastCgiResponse } from "../FastCgiResponse.ts"

/** The body does not have the length that `Content-Length` announces. */
export class ContentLengthError extends Data.TaggedError("ContentLengthError")<{ readonly message: string }> {}

const encoder = new TextEncoder()

/** How many bytes the text has in UTF-8. */
export const utf8Length = (text: string): number => {
  const length = text.length
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code >= 0x80) return encoder.encode(text).length
  }
  return length
}

/** Sends a response whose body is there, and ends the request. */
export const sendWhole = (
  request: ConnectionRequest,
  head: string,
  body: Uint8Array | string | undefined,
  bodyLength: number,
  appStatus: number
): void => {
  request.head(head, body, bodyLength)
  request.end(appStatus)
}

/**
 * Sends the head and what the stream brings, waiting where the connection has no room, and ends the request. When the
 * stream fails, is interrupted or does not keep to `contentLength`, the response is cut off instead.
 */
export const sendStream = <E, R>(
  request: ConnectionRequest,
  head: string,
  body: Stream.Stream<Uint8Array, E, R>,
  contentLength: number | undefined,
  appStatus: number
): Effect.Effect<void, E | ContentLengthError, R> => {
  request.head(head)
  let sent = 0
  const write = (chunks: ReadonlyArray<Uint8Array>): Effect.Effect<void, ContentLengthError> => {
    for (let i = 0; i < chunks.length; i++) {
      const chunk = chunks[i]
      sent += chunk.length
      if (contentLength !== undefined && sent > contentLength) return Effect.fail(mismatch(contentLength, sent))
      request.stdout(chunk)
    }
    return request.room
  }
  return Stream.runForEachArray(body, write).pipe(
    Effect.andThen(Effect.suspend(() =>
      contentLength !== undefined && sent < contentLength
        ? Effect.fail(mismatch(contentLength, sent))
        : Effect.void
    )),
    Effect.onExit((exit) =>
      Effect.sync(() => {
        if (Exit.isSuccess(exit)) request.end(appStatus)
        else request.fail()
      })
    )
  )
}

/** Sends a response of the stream API, and ends the request. Fails, with nothing sent, when the head cannot be sent. */
export const send = (request: ConnectionRequest, response: FastCgiResponse): Effect.Effect<void, unknown> => {
  const encoded = encodeHead(response.status, response.statusText, response.headers, response.setCookies)
  if (typeof encoded !== "string") return Effect.fail(encoded)
  const head = request.role === Role.Authorizer ? statusFirst(encoded) : encoded
  const body = response.body
  const omitted = response.status === 204 || response.status === 205 || response.status === 304 ||
    request.params?.get("REQUEST_METHOD") === "HEAD"
  if (omitted || body === undefined) {
    sendWhole(request, head, undefined, 0, response.appStatus)
  } else if (typeof body === "string") {
    sendWhole(request, head, body, utf8Length(body), response.appStatus)
  } else if (body instanceof Uint8Array) {
    sendWhole(request, head, body, body.length, response.appStatus)
  } else {
    return sendStream(request, head, body, undefined, response.appStatus)
  }
  return Exit.void
}

// Of an Authorizer's answer lighttpd leaves out what stands before Status; HAProxy, for which Location goes first, has none.
const statusFirst = (head: string): string => {
  if (head.startsWith("Status: ")) return head
  const start = head.indexOf("\r\nStatus: ") + 2
  const end = head.indexOf("\r\n", start) + 2
  return head.slice(start, end) + head.slice(0, start) + head.slice(end)
}

const mismatch = (expected: number, sent: number): ContentLengthError =>
  new ContentLengthError({
    message: sent > expected
      ? `the body is longer than its Content-Length of ${expected} bytes`
      : `the body ended after ${sent} of ${expected} bytes (Content-Length)`
  })
