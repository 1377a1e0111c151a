/**
 * Sends a response for a request: head and body as the web servers want them, in one write when all of it is there.
 */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import { encodeHead } from "../../cgi/CgiResponse.ts"
import { Role } from "../../protocol/FastCgiRecord.ts"
import type { FastCgiRawResponse, FastCgiResponse } from "../FastCgiResponse.ts"
import type { ApplicationRequest } from "./applicationRequest.ts"

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

/** Sends a response without a body, and ends the request. */
export const sendHead = (request: ApplicationRequest, head: string, appStatus: number): void => {
  request.head(head)
  request.end(appStatus)
}

/**
 * Sends a response whose body is there, and ends the request: at once, or a share at a time when the body is long, so that
 * it does not stand in the way of others on the connection, and a peer that takes nothing is noticed.
 */
export const sendWhole = (
  request: ApplicationRequest,
  head: string,
  body: Uint8Array | string,
  bodyLength: number,
  appStatus: number
): Effect.Effect<void> => {
  if (bodyLength > longBody) {
    const bytes = typeof body === "string" ? encoder.encode(body) : body
    // No length is announced to this stream, so it cannot fail by one.
    return Effect.interruptible(sendStream(request, head, shares(bytes), undefined, appStatus)) as Effect.Effect<void>
  }
  request.head(head, body, bodyLength)
  request.end(appStatus)
  return Exit.void
}

/**
 * Sends the head and what the stream brings, waiting where the connection has no room, and ends the request. When the
 * stream fails, is interrupted or does not keep to `contentLength`, the response is cut off instead.
 */
export const sendStream = <E, R>(
  request: ApplicationRequest,
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

/** Sends an answer of bytes, and ends the request as it says. */
export const sendRaw = (request: ApplicationRequest, response: FastCgiRawResponse): Effect.Effect<void, unknown> => {
  const stdout = Stream.runForEachArray(response.stdout, (chunks) => {
    for (const chunk of chunks) if (chunk.length > 0) request.stdout(chunk)
    return request.room
  })
  const stderr = response.stderr === undefined ? Effect.void : Stream.runForEachArray(response.stderr, (chunks) => {
    for (const chunk of chunks) request.stderr(chunk)
    return request.room
  })
  return Effect.all([stdout, stderr], { concurrency: 2, discard: true }).pipe(
    Effect.andThen(response.end),
    Effect.onExit((exit) =>
      Effect.sync(() => {
        if (Exit.isSuccess(exit)) request.end(exit.value.appStatus, exit.value.protocolStatus)
        else if (request.hasHead) request.fail()
      })
    )
  )
}

/** Sends a response of the stream API, and ends the request. Fails, with nothing sent, when the head cannot be sent. */
export const send = (request: ApplicationRequest, response: FastCgiResponse): Effect.Effect<void, unknown> => {
  const encoded = encodeHead(response.status, response.statusText, response.headers, response.setCookies)
  if (typeof encoded !== "string") return Effect.fail(encoded)
  const head = request.role === Role.Authorizer ? statusFirst(encoded) : encoded
  const body = response.body
  const omitted = response.status === 204 || response.status === 205 || response.status === 304 ||
    request.params.getLatin1("REQUEST_METHOD") === "HEAD"
  if (omitted || body === undefined) {
    sendHead(request, head, response.appStatus)
    return Exit.void
  }
  const declared = declaredLength(response.headers)
  if (typeof body !== "string" && !(body instanceof Uint8Array)) {
    return sendStream(request, head, body, declared, response.appStatus)
  }
  const length = typeof body === "string" ? utf8Length(body) : body.length
  if (declared !== undefined && declared !== length) return Effect.fail(mismatch(declared, length))
  return sendWhole(request, head, body, length, response.appStatus)
}

const declaredLength = (headers: FastCgiResponse["headers"]): number | undefined => {
  for (const name in headers) {
    if (name.toLowerCase() === "content-length" && /^\d{1,15}$/.test(String(headers[name]))) {
      return Number(headers[name])
    }
  }
  return undefined
}

// Bytes. Measured, 1 MiB in shares of 128 KiB costs a third more CPU than in one piece.
const longBody = 1024 * 1024
const bodyShare = 512 * 1024

const shares = (bytes: Uint8Array): Stream.Stream<Uint8Array> =>
  Stream.fromPull(Effect.sync(() => {
    let at = 0
    return Effect.suspend(() =>
      at < bytes.length ? Effect.succeed([bytes.subarray(at, at += bodyShare)] as const) : Cause.done()
    )
  }))

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
