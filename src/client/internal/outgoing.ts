/**
 * The bytes of a request, as records (SPEC 3.3, 5.1, 5.2, 5.3). BEGIN_REQUEST and empty records are not padded: libfcgi
 * and php-fpm lose the params or the body then. PARAMS records end between two pairs wherever that is possible, because
 * php-fpm resets the connection otherwise.
 */
import { paddingTo8, writeHeader } from "../../protocol/FastCgiEncoder.ts"
import { headerLength, maxContentLength, RecordType } from "../../protocol/FastCgiRecord.ts"

// The longest content that needs no padding.
export const recordContent = 65528

// Up to this many bytes are copied behind their header; beyond, the chunks are passed as they are.
const copyLimit = 4096

const noPadding = new Uint8Array(7)

const endOf = (type: number, requestId: number): Uint8Array => {
  const bytes = new Uint8Array(headerLength)
  writeHeader(bytes, 0, type, requestId, 0, 0)
  return bytes
}

/** The empty record that ends a stream. */
export const streamEnd = endOf

/** BEGIN_REQUEST, all PARAMS and their end, in one chunk. */
export const requestHead = (requestId: number, role: number, flags: number, params: Uint8Array): Uint8Array => {
  const cuts = params.length <= maxContentLength ? [params.length] : paramsCuts(params)
  let size = 2 * headerLength + headerLength
  let start = 0
  for (const cut of cuts) {
    if (cut > start) size += headerLength + cut - start + paddingTo8(cut - start)
    start = cut
  }
  const bytes = new Uint8Array(size)
  writeHeader(bytes, 0, RecordType.BeginRequest, requestId, 8, 0)
  bytes[headerLength] = role >>> 8
  bytes[headerLength + 1] = role
  bytes[headerLength + 2] = flags
  let at = 2 * headerLength
  start = 0
  for (const cut of cuts) {
    if (cut === start) continue
    const length = cut - start
    const padding = paddingTo8(length)
    writeHeader(bytes, at, RecordType.Params, requestId, length, padding)
    bytes.set(params.subarray(start, cut), at + headerLength)
    at += headerLength + length + padding
    start = cut
  }
  writeHeader(bytes, at, RecordType.Params, requestId, 0, 0)
  return bytes
}

// Where PARAMS that do not fit one record are cut: between pairs, and inside of a pair that fits no record itself.
const paramsCuts = (params: Uint8Array): Array<number> => {
  const cuts: Array<number> = []
  let start = 0
  let pair = 0
  while (pair < params.length) {
    let at = pair
    const nameLength = lengthAt(params, at)
    at += params[at] < 0x80 ? 1 : 4
    const valueLength = lengthAt(params, at)
    at += (params[at] < 0x80 ? 1 : 4) + nameLength + valueLength
    if (at - start > maxContentLength) {
      if (pair > start) {
        cuts.push(pair)
        start = pair
      }
      while (at - start > maxContentLength) {
        start += maxContentLength
        cuts.push(start)
      }
    }
    pair = at
  }
  cuts.push(params.length)
  return cuts
}

const lengthAt = (bytes: Uint8Array, at: number): number =>
  bytes[at] < 0x80
    ? bytes[at]
    : (bytes[at] & 0x7f) << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3]

/**
 * A batch of chunks that becomes records of one stream bit by bit, so that a writer can wait in between and requests on
 * one connection take turns.
 */
export class Outgoing {
  private readonly chunks: ReadonlyArray<Uint8Array>
  private index = 0
  private offset = 0
  private rest = 0

  constructor(chunks: ReadonlyArray<Uint8Array>) {
    this.chunks = chunks
    for (const chunk of chunks) this.rest += chunk.length
  }

  get done(): boolean {
    return this.rest === 0
  }

  /** Appends the next record, of as much content as fits, to `out`. There must be some left. */
  next(type: number, requestId: number, out: Array<Uint8Array>): void {
    const length = Math.min(this.rest, recordContent)
    const padding = paddingTo8(length)
    const copied = length <= copyLimit
    const head = new Uint8Array(copied ? headerLength + length + padding : headerLength)
    writeHeader(head, 0, type, requestId, length, padding)
    out.push(head)
    for (let left = length; left > 0;) {
      const chunk = this.chunks[this.index]
      const size = Math.min(left, chunk.length - this.offset)
      if (size > 0) {
        const part = chunk.subarray(this.offset, this.offset + size)
        if (copied) head.set(part, headerLength + length - left)
        else out.push(part)
      }
      left -= size
      this.offset += size
      if (this.offset === chunk.length) {
        this.index++
        this.offset = 0
      }
    }
    this.rest -= length
    if (!copied && padding > 0) out.push(noPadding.subarray(0, padding))
  }
}
