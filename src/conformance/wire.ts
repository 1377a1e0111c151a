/**
 * Records as they stand in the bytes. The suite writes and reads them by hand: an encoder makes only good ones, and a
 * decoder hides padding, reserved bytes and the borders of records, which are what is judged here.
 */
import { writeHeader } from "../protocol/FastCgiEncoder.ts"
import * as FastCgiParams from "../protocol/FastCgiParams.ts"
import { headerLength, maxContentLength, RecordType, Role, version } from "../protocol/FastCgiRecord.ts"
import { concat } from "../protocol/internal/bytes.ts"

export { concat }

/** A record that has come whole. */
export interface WireRecord {
  readonly version: number
  readonly type: number
  readonly requestId: number
  readonly content: Uint8Array
  readonly padding: Uint8Array
  readonly reserved: number
}

/** What a record may have besides type, id and content. */
export interface RecordOptions {
  /** Bytes of padding. Default 0. */
  readonly padding?: number | undefined
  /** The value of every byte of padding. Default 0. */
  readonly fill?: number | undefined
  /** The reserved byte of the header. Default 0. */
  readonly reserved?: number | undefined
  /** Default 1. */
  readonly version?: number | undefined
}

/** No bytes. */
export const nothing: Uint8Array = new Uint8Array(0)

/** The bytes of a record. The content has at most 65535 bytes. */
export const record = (
  type: number,
  requestId: number,
  content: Uint8Array = nothing,
  options?: RecordOptions
): Uint8Array => {
  const padding = options?.padding ?? 0
  const bytes = new Uint8Array(headerLength + content.length + padding)
  writeHeader(bytes, 0, type, requestId, content.length, padding)
  bytes[0] = options?.version ?? version
  bytes[7] = options?.reserved ?? 0
  bytes.set(content, headerLength)
  bytes.fill(options?.fill ?? 0, headerLength + content.length)
  return bytes
}

/** How the records of a stream are cut. */
export interface StreamOptions extends RecordOptions {
  /** The most bytes of content in a record. Default 65535. */
  readonly size?: number | undefined
}

/** The records of a whole stream, without the one that ends it. */
export const stream = (type: number, requestId: number, content: Uint8Array, options?: StreamOptions): Uint8Array => {
  const size = options?.size ?? maxContentLength
  const records: Array<Uint8Array> = []
  for (let at = 0; at < content.length; at += size) {
    records.push(record(type, requestId, content.subarray(at, at + size), options))
  }
  return concat(records)
}

/** The content of BEGIN_REQUEST (SPEC 5.1). */
export const beginContent = (role: number, flags: number, reserved = 0): Uint8Array =>
  Uint8Array.of(role >>> 8, role, flags, reserved, reserved, reserved, reserved, reserved)

/** ABORT_REQUEST (SPEC 5.4). */
export const abort = (requestId: number, options?: RecordOptions): Uint8Array =>
  record(RecordType.AbortRequest, requestId, nothing, options)

/** A piece of STDIN; without content, its end. */
export const stdin = (requestId: number, content: Uint8Array = nothing, options?: RecordOptions): Uint8Array =>
  record(RecordType.Stdin, requestId, content, options)

/** GET_VALUES for the names (SPEC 4.1). */
export const getValues = (names: ReadonlyArray<string>, options?: RecordOptions): Uint8Array =>
  record(RecordType.GetValues, 0, FastCgiParams.encodePairs(names.map((name) => [name, ""] as const)), options)

/** A request as the suite sends it. */
export interface RequestOptions {
  /** Default 1. */
  readonly id?: number | undefined
  /** Default Responder. */
  readonly role?: number | undefined
  /** Default true. */
  readonly keep?: boolean | undefined
  /** Default "/echo". */
  readonly uri?: string | undefined
  /** Params besides the usual ones, or other values for these; `undefined` leaves one out. */
  readonly params?: Readonly<Record<string, string | undefined>> | undefined
  /** The whole body; `"open"` leaves STDIN open, `"none"` sends no STDIN record at all. Default an empty one. */
  readonly stdin?: Uint8Array | "open" | "none" | undefined
}

/** The params of a request, encoded. CONTENT_LENGTH is there when the body is. */
export const pairs = (options?: RequestOptions): Uint8Array => {
  const uri = options?.uri ?? "/echo"
  const query = uri.indexOf("?")
  const path = query === -1 ? uri : uri.slice(0, query)
  const body = options?.stdin
  const length = body === undefined || typeof body === "string" ? 0 : body.length
  const params: Record<string, string | undefined> = {
    GATEWAY_INTERFACE: "CGI/1.1",
    SERVER_PROTOCOL: "HTTP/1.1",
    SERVER_SOFTWARE: "effect-fastcgi conformance",
    SERVER_NAME: "localhost",
    SERVER_PORT: "80",
    REMOTE_ADDR: "127.0.0.1",
    REQUEST_METHOD: length > 0 || body === "open" ? "POST" : "GET",
    REQUEST_URI: uri,
    SCRIPT_NAME: path,
    QUERY_STRING: query === -1 ? "" : uri.slice(query + 1),
    HTTP_HOST: "localhost",
    CONTENT_LENGTH: length > 0 ? String(length) : undefined,
    ...options?.params
  }
  return FastCgiParams.encodePairs(
    Object.entries(params).filter((pair): pair is [string, string] => pair[1] !== undefined)
  )
}

/** BEGIN_REQUEST of a request. */
export const begin = (options?: RequestOptions, recordOptions?: RecordOptions): Uint8Array =>
  record(
    RecordType.BeginRequest,
    options?.id ?? 1,
    beginContent(options?.role ?? Role.Responder, options?.keep === false ? 0 : 1),
    recordOptions
  )

/** The PARAMS of a request and their end. */
export const params = (options?: RequestOptions): Uint8Array =>
  concat([
    record(RecordType.Params, options?.id ?? 1, pairs(options)),
    record(RecordType.Params, options?.id ?? 1)
  ])

/** BEGIN_REQUEST, PARAMS and their end. */
export const head = (options?: RequestOptions): Uint8Array => concat([begin(options), params(options)])

/** A whole request. */
export const request = (options?: RequestOptions): Uint8Array => {
  const id = options?.id ?? 1
  const body = options?.stdin ?? nothing
  if (body === "none") return head(options)
  if (body === "open") return head(options)
  return concat([head(options), stream(RecordType.Stdin, id, body), stdin(id)])
}

/** Whether the bytes are the same. */
export const equal = (a: Uint8Array, b: Uint8Array): boolean => {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** Bytes that are no text and in which every place differs from its neighbours. */
export const pattern = (length: number): Uint8Array => {
  const bytes = new Uint8Array(length)
  for (let i = 0; i < length; i++) bytes[i] = i * 7 + (i >>> 8)
  return bytes
}

const encoder = new TextEncoder()

/** The text in UTF-8. */
export const utf8 = (text: string): Uint8Array => encoder.encode(text)

/** The bytes as text, one character a byte. */
export const latin1 = (bytes: Uint8Array): string => {
  let text = ""
  for (const byte of bytes) text += String.fromCharCode(byte)
  return text
}

/** Cuts bytes into records, for any fragmentation. Takes any version and type: what is wrong with them is for others. */
export class Splitter {
  private bytes = nothing
  private size = 0
  private at = 0

  /** Takes the next bytes. */
  push(chunk: Uint8Array): void {
    const needed = this.size - this.at + chunk.length
    if (this.size + chunk.length > this.bytes.length) {
      const grown = new Uint8Array(Math.max(needed, needed > this.bytes.length / 2 ? 2 * needed : this.bytes.length))
      grown.set(this.bytes.subarray(this.at, this.size))
      this.bytes = grown
      this.size -= this.at
      this.at = 0
    }
    this.bytes.set(chunk, this.size)
    this.size += chunk.length
  }

  /** The next whole record. */
  next(): WireRecord | undefined {
    const { at, bytes } = this
    if (this.size - at < headerLength) return undefined
    const contentAt = at + headerLength
    const contentEnd = contentAt + (bytes[at + 4] << 8 | bytes[at + 5])
    const end = contentEnd + bytes[at + 6]
    if (this.size < end) return undefined
    this.at = end
    return {
      version: bytes[at],
      type: bytes[at + 1],
      requestId: bytes[at + 2] << 8 | bytes[at + 3],
      content: bytes.slice(contentAt, contentEnd),
      padding: bytes.slice(contentEnd, end),
      reserved: bytes[at + 7]
    }
  }

  /** Bytes that are no whole record yet. */
  get rest(): number {
    return this.size - this.at
  }

  /** The first byte that is no whole record yet. */
  get restFirst(): number | undefined {
    return this.rest === 0 ? undefined : this.bytes[this.at]
  }
}
