/**
 * BEGIN_REQUEST and PARAMS of a request, as records (SPEC 3.3, 5.1, 5.2). BEGIN_REQUEST and empty records are not padded:
 * libfcgi and php-fpm lose the params or the body then. PARAMS records end between two pairs wherever that is possible,
 * because php-fpm resets the connection otherwise.
 */
import { paddingTo8, writeHeader } from "../../protocol/FastCgiEncoder.ts"
import { headerLength, maxContentLength, RecordType } from "../../protocol/FastCgiRecord.ts"

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
