/**
 * The incremental decoder makes typed records of bytes as they arrive. The same bytes give the same records, however they
 * are cut (SPEC 3.3).
 *
 * The decoder is synchronous. Between two chunks it keeps at most one header and one discrete content. It checks a declared
 * length before it allocates memory for that length. It never gathers stream content: it passes on each part of a record
 * as a view into the chunk that brought the part.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import { type FastCgiRecord, headerLength, RecordType, version } from "./FastCgiRecord.ts"

/**
 * Why bytes are no FastCGI records:
 *
 * - `UnsupportedVersion`: a header's first byte is not 1 (SPEC 3.3); usually the peer speaks HTTP or TLS
 * - `NullRequestId`: BEGIN_REQUEST has id 0, which belongs to management records (SPEC 3.3)
 * - `ContentLength`: a record of fixed layout has content of another length than 8 bytes (SPEC 4.2, 5.1, 5.5)
 * - `ContentTooLong`: GET_VALUES or GET_VALUES_RESULT is longer than `maxDiscreteContent`
 * - `TruncatedRecord`: the bytes end inside a record
 *
 * @category errors
 * @since 0.1.0
 */
export type FastCgiDecodeErrorReason =
  | { readonly _tag: "UnsupportedVersion" }
  | { readonly _tag: "NullRequestId" }
  | { readonly _tag: "ContentLength" }
  | { readonly _tag: "ContentTooLong" }
  | { readonly _tag: "TruncatedRecord" }

/**
 * The bytes are not FastCGI records. The decoder that returned this error ignores all further bytes, because nobody can tell
 * where the next record begins. Close the connection.
 *
 * @category errors
 * @since 0.1.0
 */
export class FastCgiDecodeError extends Data.TaggedError("FastCgiDecodeError")<{
  readonly reason: FastCgiDecodeErrorReason
  readonly message: string
}> {}

/**
 * Options of `make`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiDecoderOptions {
  /** The longest GET_VALUES or GET_VALUES_RESULT content that is accepted, in bytes. Default 65535. */
  readonly maxDiscreteContent?: number | undefined
}

/**
 * An incremental decoder of records. Each direction of a connection has its own.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiDecoder {
  /**
   * Decodes the next bytes, and appends records and fragments of records to `records`. Returns the error that ends the
   * decoding, after it has appended all records before the error. After an error the decoder ignores all further bytes.
   */
  readonly push: (chunk: Uint8Array, records: Array<FastCgiRecord>) => FastCgiDecodeError | undefined
  /** Tells the decoder that no more bytes come. Returns an error when the bytes end inside a record. */
  readonly end: () => FastCgiDecodeError | undefined
}

/**
 * Creates an incremental decoder.
 *
 * **Details**
 *
 * The decoder passes stream content on in fragments as it arrives (SPEC 3.3). An empty fragment is the record that ends the
 * stream. The decoder passes records of fixed layout and GET_VALUES on whole. It skips the content of ABORT_REQUEST and of
 * unknown types. Contents are views into the pushed chunk. A view stays valid while it is held, and keeps the whole chunk in
 * memory: copy contents that are kept for long.
 *
 * **Example** (Decoding a record that arrives in two reads)
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { FastCgiDecoder, type FastCgiRecord } from "effect-fastcgi"
 *
 * const decoder = FastCgiDecoder.make()
 * const records: Array<FastCgiRecord.FastCgiRecord> = []
 * decoder.push(Uint8Array.of(1, 1, 0, 1, 0, 8, 0, 0), records)
 * assert.deepStrictEqual(records, [])
 * decoder.push(Uint8Array.of(0, 1, 1, 0, 0, 0, 0, 0), records)
 * assert.deepStrictEqual(records, [{ _tag: "BeginRequest", requestId: 1, role: 1, flags: 1 }])
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options?: FastCgiDecoderOptions): FastCgiDecoder =>
  new Decoder(options?.maxDiscreteContent ?? 65535)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// How the content of the current record is treated.
const skip = 0
const pass = 1
const gather = 2

type StreamTag = "Params" | "Stdin" | "Stdout" | "Stderr" | "Data"

const noContent = new Uint8Array(0)

class Decoder implements FastCgiDecoder {
  private readonly maxDiscreteContent: number
  // A header that arrived in pieces.
  private header = noContent
  private headerSize = 0
  // The record at hand: what is left of it, and what becomes of its content.
  private mode = skip
  private tag: StreamTag = "Stdin"
  private type = 0
  private requestId = 0
  private contentLength = 0
  private content = 0
  private padding = 0
  // The content of a discrete record that arrived in pieces.
  private gathered = noContent
  private dead = false

  constructor(maxDiscreteContent: number) {
    this.maxDiscreteContent = maxDiscreteContent
  }

  push(chunk: Uint8Array, records: Array<FastCgiRecord>): FastCgiDecodeError | undefined {
    if (this.dead) return undefined
    const length = chunk.length
    let offset = 0
    while (offset < length) {
      if (this.content > 0) {
        const end = Math.min(offset + this.content, length)
        if (this.mode === pass) {
          records.push({ _tag: this.tag, requestId: this.requestId, content: chunk.subarray(offset, end) })
        } else if (this.mode === gather) {
          this.gather(chunk, offset, end, records)
        }
        this.content -= end - offset
        offset = end
      } else if (this.padding > 0) {
        const end = Math.min(offset + this.padding, length)
        this.padding -= end - offset
        offset = end
      } else {
        let error: FastCgiDecodeError | undefined
        if (this.headerSize === 0 && length - offset >= headerLength) {
          error = this.begin(chunk, offset, records)
          offset += headerLength
        } else {
          if (this.headerSize === 0) this.header = new Uint8Array(headerLength)
          this.header[this.headerSize++] = chunk[offset++]
          if (this.headerSize === 1 && this.header[0] !== version) {
            error = this.unsupportedVersion(this.header[0])
          } else if (this.headerSize === headerLength) {
            this.headerSize = 0
            error = this.begin(this.header, 0, records)
          }
        }
        if (error !== undefined) {
          this.dead = true
          return error
        }
      }
    }
    return undefined
  }

  end(): FastCgiDecodeError | undefined {
    if (this.dead) return undefined
    this.dead = true
    if (this.headerSize === 0 && this.content === 0 && this.padding === 0) return undefined
    return new FastCgiDecodeError({
      reason: { _tag: "TruncatedRecord" },
      message: this.headerSize > 0
        ? `the bytes end inside a record header, after ${this.headerSize} of ${headerLength} bytes`
        : `the bytes end inside a record of type ${this.type} (request ${this.requestId}), ` +
          `${this.content + this.padding} bytes before its end`
    })
  }

  private begin(bytes: Uint8Array, at: number, records: Array<FastCgiRecord>): FastCgiDecodeError | undefined {
    if (bytes[at] !== version) return this.unsupportedVersion(bytes[at])
    const type = bytes[at + 1]
    const requestId = bytes[at + 2] << 8 | bytes[at + 3]
    const contentLength = bytes[at + 4] << 8 | bytes[at + 5]
    this.type = type
    this.requestId = requestId
    this.contentLength = contentLength
    this.content = contentLength
    this.padding = bytes[at + 6]
    this.mode = skip
    // bytes[at + 7] is reserved and not looked at.
    switch (type) {
      case RecordType.Params:
        return this.stream("Params", records)
      case RecordType.Stdin:
        return this.stream("Stdin", records)
      case RecordType.Data:
        return this.stream("Data", records)
      case RecordType.Stdout:
        return this.stream("Stdout", records)
      case RecordType.Stderr:
        return this.stream("Stderr", records)
      case RecordType.BeginRequest:
        if (requestId === 0) {
          return new FastCgiDecodeError({
            reason: { _tag: "NullRequestId" },
            message: "BEGIN_REQUEST has request id 0, which belongs to management records"
          })
        }
        return this.fixed("BEGIN_REQUEST")
      case RecordType.EndRequest:
        return this.fixed("END_REQUEST")
      case RecordType.UnknownType:
        return this.fixed("UNKNOWN_TYPE")
      case RecordType.AbortRequest:
        records.push({ _tag: "AbortRequest", requestId })
        return undefined
      case RecordType.GetValues:
      case RecordType.GetValuesResult:
        if (contentLength > this.maxDiscreteContent) {
          return new FastCgiDecodeError({
            reason: { _tag: "ContentTooLong" },
            message: `${type === RecordType.GetValues ? "GET_VALUES" : "GET_VALUES_RESULT"} content is ` +
              `${contentLength} bytes, at most ${this.maxDiscreteContent} are accepted`
          })
        }
        this.mode = gather
        if (contentLength === 0) this.discrete(noContent, 0, records)
        return undefined
      default:
        records.push({ _tag: "Unrecognized", requestId, type })
        return undefined
    }
  }

  private stream(tag: StreamTag, records: Array<FastCgiRecord>): undefined {
    if (this.contentLength === 0) {
      records.push({ _tag: tag, requestId: this.requestId, content: noContent })
    } else {
      this.mode = pass
      this.tag = tag
    }
  }

  private fixed(name: string): FastCgiDecodeError | undefined {
    if (this.contentLength !== 8) {
      return new FastCgiDecodeError({
        reason: { _tag: "ContentLength" },
        message: `${name} content is ${this.contentLength} bytes, expected 8 (request ${this.requestId})`
      })
    }
    this.mode = gather
    return undefined
  }

  private gather(chunk: Uint8Array, start: number, end: number, records: Array<FastCgiRecord>): void {
    if (end - start === this.contentLength) {
      this.discrete(chunk, start, records)
      return
    }
    const filled = this.contentLength - this.content
    if (filled === 0) this.gathered = new Uint8Array(this.contentLength)
    this.gathered.set(chunk.subarray(start, end), filled)
    if (filled + end - start === this.contentLength) {
      const gathered = this.gathered
      this.gathered = noContent
      this.discrete(gathered, 0, records)
    }
  }

  private discrete(bytes: Uint8Array, at: number, records: Array<FastCgiRecord>): void {
    const requestId = this.requestId
    switch (this.type) {
      case RecordType.BeginRequest:
        records.push({ _tag: "BeginRequest", requestId, role: bytes[at] << 8 | bytes[at + 1], flags: bytes[at + 2] })
        break
      case RecordType.EndRequest:
        records.push({
          _tag: "EndRequest",
          requestId,
          appStatus: (bytes[at] << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3]) >>> 0,
          protocolStatus: bytes[at + 4]
        })
        break
      case RecordType.UnknownType:
        records.push({ _tag: "UnknownType", requestId, type: bytes[at] })
        break
      case RecordType.GetValues:
        records.push({ _tag: "GetValues", requestId, content: bytes.subarray(at, at + this.contentLength) })
        break
      case RecordType.GetValuesResult:
        records.push({ _tag: "GetValuesResult", requestId, content: bytes.subarray(at, at + this.contentLength) })
        break
    }
  }

  private unsupportedVersion(byte: number): FastCgiDecodeError {
    return new FastCgiDecodeError({
      reason: { _tag: "UnsupportedVersion" },
      message: `a record header starts with version ${byte}, expected ${version}${
        byte >= 0x41 && byte <= 0x5a
          ? " (this looks like HTTP)"
          : byte === 0x16
          ? " (this looks like TLS)"
          : ""
      }`
    })
  }
}
