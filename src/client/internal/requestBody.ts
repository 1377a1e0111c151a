/**
 * The body of an `HttpClientRequest` as STDIN, with its type and length as far as they are known.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type { FileSystem } from "effect/FileSystem"
import type * as HttpBody from "effect/http/HttpBody"
import type * as Option from "effect/Option"
import type { Scope } from "effect/Scope"
import * as Stream from "effect/Stream"
import type { FastCgiExchangeOptions } from "../FastCgiHttpClient.ts"
import * as Gather from "./gather.ts"
import { text } from "./request.ts"

/** A body that cannot be sent. */
export class RequestBodyError extends Data.TaggedError("RequestBodyError")<{
  readonly message: string
  readonly cause?: unknown
}> {}

export interface RequestBody {
  /** `undefined`: no body. */
  readonly stdin: Uint8Array | Stream.Stream<Uint8Array, RequestBodyError> | undefined
  readonly contentType: string | undefined
  readonly contentLength: number | undefined
}

type Bytes = Stream.Stream<Uint8Array, RequestBodyError>

/** What is sent for a body. A stream of a declared length fails when it has another. */
export const fromHttpBody = (body: HttpBody.HttpBody): Effect.Effect<RequestBody, RequestBodyError> => {
  switch (body._tag) {
    case "Empty":
      return Effect.succeed({ stdin: undefined, contentType: undefined, contentLength: undefined })
    case "Uint8Array":
      return Effect.succeed(whole(body.body, body.contentType))
    case "Stream":
      return Effect.succeed(streamed(
        Stream.mapError(body.stream, bodyError),
        body.contentType,
        body.contentLength
      ))
    case "FormData":
      return Effect.succeed(multipart(body.formData))
    case "Raw":
      return Effect.suspend(() => {
        const raw = fromRaw(body)
        return raw === undefined ? Effect.fail(failed("the body is of no type that can be sent")) : Effect.succeed(raw)
      })
  }
}

/** Gathers a body of unknown length, so that its length can be told. */
export const gather = (
  body: RequestBody,
  options: FastCgiExchangeOptions,
  fileSystem: Option.Option<FileSystem>
): Effect.Effect<RequestBody, RequestBodyError, Scope> =>
  body.stdin === undefined || body.stdin instanceof Uint8Array || body.contentLength !== undefined
    ? Effect.succeed(body)
    : Effect.map(Gather.gather(body.stdin, options, fileSystem, failed), (gathered) => ({ ...body, ...gathered }))

const whole = (bytes: Uint8Array, contentType: string | undefined): RequestBody => ({
  stdin: bytes,
  contentType,
  contentLength: bytes.length
})

const streamed = (stream: Bytes, contentType: string | undefined, contentLength: number | undefined): RequestBody => ({
  stdin: contentLength === undefined ? stream : exactly(stream, contentLength),
  contentType,
  contentLength
})

const exactly = (stream: Bytes, length: number): Bytes =>
  Stream.suspend(() => {
    let size = 0
    const wrong = (how: string) => failed(`the body is ${how} than its declared length of ${length} bytes`)
    return Stream.concat(
      Stream.mapArrayEffect(stream, (chunks) => {
        for (const chunk of chunks) size += chunk.length
        return size > length ? Effect.fail(wrong("longer")) : Effect.succeed(chunks)
      }),
      Stream.suspend(() => size < length ? Stream.fail(wrong("shorter")) : Stream.empty)
    )
  })

// What `fetch` takes as a body, and Node's readable streams; undefined for everything else.
const fromRaw = ({ body, contentLength, contentType }: HttpBody.Raw): RequestBody | undefined => {
  if (body === null || body === undefined) return { stdin: undefined, contentType, contentLength: undefined }
  if (typeof body === "string") return whole(encoder.encode(body), contentType ?? "text/plain;charset=UTF-8")
  if (body instanceof URLSearchParams) {
    return whole(encoder.encode(body.toString()), contentType ?? "application/x-www-form-urlencoded;charset=UTF-8")
  }
  if (body instanceof Uint8Array) return whole(body, contentType)
  if (body instanceof ArrayBuffer) return whole(new Uint8Array(body), contentType)
  if (ArrayBuffer.isView(body)) {
    return whole(new Uint8Array(body.buffer, body.byteOffset, body.byteLength), contentType)
  }
  if (body instanceof FormData) return multipart(body)
  if (body instanceof Blob) return streamed(fromBlob(body), contentType ?? (body.type || undefined), body.size)
  if (body instanceof ReadableStream) return streamed(fromReadableStream(() => body), contentType, contentLength)
  if (typeof body === "object" && Symbol.asyncIterator in body) {
    const chunks = Stream.fromAsyncIterable(body as AsyncIterable<unknown>, bodyError)
    return streamed(Stream.mapEffect(chunks, toBytes), contentType, contentLength)
  }
  return undefined
}

const encoder = new TextEncoder()

const failed = (message: string, cause?: unknown) => new RequestBodyError({ message, cause })

const bodyError = (cause: unknown) => failed(text(cause), cause)

const toBytes = (chunk: unknown): Effect.Effect<Uint8Array, RequestBodyError> =>
  chunk instanceof Uint8Array
    ? Effect.succeed(chunk)
    : typeof chunk === "string"
    ? Effect.succeed(encoder.encode(chunk))
    : Effect.fail(failed("the body has a chunk that is neither bytes nor text"))

const fromReadableStream = (evaluate: () => ReadableStream<Uint8Array>): Bytes =>
  Stream.fromReadableStream({ evaluate, onError: bodyError })

const fromBlob = (blob: Blob): Bytes => fromReadableStream(() => blob.stream())

// multipart/form-data as browsers write it (HTML "multipart/form-data encoding algorithm"), so that its length is known
// and files are not read before they are sent.
const multipart = (formData: FormData): RequestBody => {
  const boundary = `----effect-fastcgi-${globalThis.crypto.randomUUID()}`
  const parts: Array<Bytes> = []
  let length = 0
  const add = (string: string) => {
    const bytes = encoder.encode(string)
    length += bytes.length
    parts.push(Stream.succeed(bytes))
  }
  for (const [name, value] of formData) {
    const disposition = `--${boundary}\r\nContent-Disposition: form-data; name="${escapeName(normalize(name))}"`
    if (typeof value === "string") {
      add(`${disposition}\r\n\r\n${normalize(value)}\r\n`)
    } else {
      const type = value.type || "application/octet-stream"
      add(`${disposition}; filename="${escapeName(value.name)}"\r\nContent-Type: ${type}\r\n\r\n`)
      length += value.size
      parts.push(fromBlob(value))
      add("\r\n")
    }
  }
  add(`--${boundary}--\r\n`)
  return streamed(Stream.flatten(Stream.fromArray(parts)), `multipart/form-data; boundary=${boundary}`, length)
}

const normalize = (text: string): string => text.replace(/\r\n|\r|\n/g, "\r\n")

const escapeName = (name: string): string => name.replace(/\r/g, "%0D").replace(/\n/g, "%0A").replace(/"/g, "%22")
