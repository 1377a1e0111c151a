/**
 * PARAMS of a request in parts that are records of their own (SPEC 5.2): each ends between two pairs, because php-fpm resets the
 * connection otherwise.
 */
import { maxStreamContent } from "../../connection/internal/outputQueue.ts"

/** Cuts PARAMS between pairs. A pair that fits no record is a part of its own, which becomes several. */
export const paramsParts = (params: Uint8Array): ReadonlyArray<Uint8Array> => {
  const parts: Array<Uint8Array> = []
  let start = 0
  for (let pair = 0; params.length - start > maxStreamContent && pair < params.length;) {
    const value = pair + sizeOfLength(params, pair)
    const end = value + sizeOfLength(params, value) + lengthAt(params, pair) + lengthAt(params, value)
    if (end - start > maxStreamContent && pair > start) {
      parts.push(params.subarray(start, pair))
      start = pair
    }
    pair = end
  }
  parts.push(params.subarray(start))
  return parts
}

// A length takes four bytes when its highest bit is set (SPEC 3.4).
const sizeOfLength = (bytes: Uint8Array, at: number): number => bytes[at] < 0x80 ? 1 : 4

const lengthAt = (bytes: Uint8Array, at: number): number =>
  bytes[at] < 0x80
    ? bytes[at]
    : (bytes[at] & 0x7f) << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3]
