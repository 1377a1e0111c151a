/**
 * The encoder makes bytes of typed records (SPEC 3.3).
 *
 * The encoder splits the contents of streams at 65535 bytes, and pads records to 8-byte boundaries. It pads neither
 * BEGIN_REQUEST nor empty records: libfcgi then loses the params of the request, and php-fpm its body. Padding and reserved
 * bytes are zero.
 *
 * @since 0.1.0
 */
import {
  type BeginRequest,
  type FastCgiRecord,
  headerLength,
  maxContentLength,
  RecordType,
  version
} from "./FastCgiRecord.ts"

/**
 * Options of `encode`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiEncoderOptions {
  /** The length of each padded record is a multiple of this many bytes (SPEC 3.3). Default 8. */
  readonly alignment?: 1 | 8 | undefined
}

/**
 * Encodes a record. The content of a stream record may have any length. Content of more than 65535 bytes becomes several
 * records.
 *
 * Throws a `RangeError` for an id above 65535, and for GET_VALUES content of more than 65535 bytes: no record can hold them.
 *
 * **Example** (Encoding the end of a request)
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { FastCgiEncoder, FastCgiRecord } from "effect-fastcgi"
 *
 * assert.deepStrictEqual(
 *   FastCgiEncoder.encode(FastCgiRecord.endRequest(1, 938)),
 *   Uint8Array.of(1, 3, 0, 1, 0, 8, 0, 0, 0, 0, 3, 170, 0, 0, 0, 0)
 * )
 * ```
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = (record: FastCgiRecord, options?: FastCgiEncoderOptions): Uint8Array => {
  const requestId = record.requestId
  if ((requestId & 0xffff) !== requestId) {
    throw new RangeError(`request id ${requestId} is not an integer within 0..65535`)
  }
  switch (record._tag) {
    case "Params":
      return encodeStream(RecordType.Params, requestId, record.content, options)
    case "Stdin":
      return encodeStream(RecordType.Stdin, requestId, record.content, options)
    case "Data":
      return encodeStream(RecordType.Data, requestId, record.content, options)
    case "Stdout":
      return encodeStream(RecordType.Stdout, requestId, record.content, options)
    case "Stderr":
      return encodeStream(RecordType.Stderr, requestId, record.content, options)
    case "GetValues":
      return encodeDiscrete(RecordType.GetValues, requestId, record.content, options)
    case "GetValuesResult":
      return encodeDiscrete(RecordType.GetValuesResult, requestId, record.content, options)
    case "BeginRequest": {
      const bytes = new Uint8Array(beginRequestLength)
      writeBeginRequest(bytes, 0, record)
      return bytes
    }
    case "EndRequest": {
      const bytes = new Uint8Array(endRequestLength)
      writeEndRequest(bytes, 0, requestId, record.appStatus, record.protocolStatus)
      return bytes
    }
    case "UnknownType": {
      const bytes = fixed(RecordType.UnknownType, requestId)
      bytes[headerLength] = record.type
      return bytes
    }
    case "AbortRequest": {
      const bytes = new Uint8Array(headerLength)
      writeHeader(bytes, 0, RecordType.AbortRequest, requestId, 0, 0)
      return bytes
    }
    case "Unrecognized": {
      const bytes = new Uint8Array(headerLength)
      writeHeader(bytes, 0, record.type, requestId, 0, 0)
      return bytes
    }
  }
}

/**
 * Bytes in a complete END_REQUEST record.
 *
 * @category constants
 * @since 0.1.0
 */
export const endRequestLength = 2 * headerLength

/**
 * The number of padding bytes between `length` and the next multiple of 8.
 *
 * @category encoding
 * @since 0.1.0
 */
export const paddingTo8 = (length: number): number => -length & 7

/**
 * Writes the eight bytes of a record header at `at`.
 *
 * @category encoding
 * @since 0.1.0
 */
export const writeHeader = (
  bytes: Uint8Array,
  at: number,
  type: number,
  requestId: number,
  contentLength: number,
  paddingLength: number
): void => {
  bytes[at] = version
  bytes[at + 1] = type
  bytes[at + 2] = requestId >>> 8
  bytes[at + 3] = requestId
  bytes[at + 4] = contentLength >>> 8
  bytes[at + 5] = contentLength
  bytes[at + 6] = paddingLength
  bytes[at + 7] = 0
}

/** @internal The size of a BEGIN_REQUEST record. */
export const beginRequestLength = 2 * headerLength

/** @internal Writes a BEGIN_REQUEST record. There must be room for `beginRequestLength` bytes. */
export const writeBeginRequest = (bytes: Uint8Array, at: number, { flags, requestId, role }: BeginRequest): void => {
  writeHeader(bytes, at, RecordType.BeginRequest, requestId, 8, 0)
  bytes[at + 8] = role >>> 8
  bytes[at + 9] = role
  bytes[at + 10] = flags
  bytes[at + 11] = 0
  bytes[at + 12] = 0
  bytes[at + 13] = 0
  bytes[at + 14] = 0
  bytes[at + 15] = 0
}

/**
 * Writes the sixteen bytes of an END_REQUEST record at `at`.
 *
 * @category encoding
 * @since 0.1.0
 */
export const writeEndRequest = (
  bytes: Uint8Array,
  at: number,
  requestId: number,
  appStatus: number,
  protocolStatus: number
): void => {
  writeHeader(bytes, at, RecordType.EndRequest, requestId, 8, 0)
  bytes[at + 8] = appStatus >>> 24
  bytes[at + 9] = appStatus >>> 16
  bytes[at + 10] = appStatus >>> 8
  bytes[at + 11] = appStatus
  bytes[at + 12] = protocolStatus
  bytes[at + 13] = 0
  bytes[at + 14] = 0
  bytes[at + 15] = 0
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const fixed = (type: number, requestId: number): Uint8Array => {
  const bytes = new Uint8Array(2 * headerLength)
  writeHeader(bytes, 0, type, requestId, 8, 0)
  return bytes
}

const encodeDiscrete = (
  type: number,
  requestId: number,
  content: Uint8Array,
  options: FastCgiEncoderOptions | undefined
): Uint8Array => {
  if (content.length > maxContentLength) {
    throw new RangeError(`content of a record of type ${type} is ${content.length} bytes, at most 65535 fit`)
  }
  return encodeStream(type, requestId, content, options)
}

const encodeStream = (
  type: number,
  requestId: number,
  content: Uint8Array,
  options: FastCgiEncoderOptions | undefined
): Uint8Array => {
  const pad = options?.alignment !== 1
  const length = content.length
  if (length <= maxContentLength) {
    const padding = pad ? paddingTo8(length) : 0
    const bytes = new Uint8Array(headerLength + length + padding)
    writeHeader(bytes, 0, type, requestId, length, padding)
    bytes.set(content, headerLength)
    return bytes
  }
  const whole = Math.floor(length / maxContentLength)
  const rest = length - whole * maxContentLength
  const wholePadding = pad ? paddingTo8(maxContentLength) : 0
  const restPadding = pad ? paddingTo8(rest) : 0
  const bytes = new Uint8Array(
    whole * (headerLength + maxContentLength + wholePadding) + (rest === 0 ? 0 : headerLength + rest + restPadding)
  )
  let at = 0
  for (let offset = 0; offset < length; offset += maxContentLength) {
    const size = Math.min(maxContentLength, length - offset)
    const padding = size === maxContentLength ? wholePadding : restPadding
    writeHeader(bytes, at, type, requestId, size, padding)
    bytes.set(content.subarray(offset, offset + size), at + headerLength)
    at += headerLength + size + padding
  }
  return bytes
}
