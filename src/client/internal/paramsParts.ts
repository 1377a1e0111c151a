/**
 * PARAMS of a request in parts that are records of their own (SPEC 5.2): each ends between two pairs, because php-fpm resets the
 * connection otherwise.
 */
import { maxStreamContent } from "../../connection/internal/outputQueue.ts"

/** Cuts PARAMS, encoded as one character per byte, between pairs. A pair that fits no record is a part of its own, which becomes several. */
export const paramsParts = (params: string): ReadonlyArray<string> => {
  if (params.length <= maxStreamContent) return [params]
  const parts: Array<string> = []
  let start = 0
  for (let pair = 0; params.length - start > maxStreamContent && pair < params.length;) {
    const value = pair + sizeOfLength(params, pair)
    const end = value + sizeOfLength(params, value) + lengthAt(params, pair) + lengthAt(params, value)
    if (end - start > maxStreamContent && pair > start) {
      parts.push(params.substring(start, pair))
      start = pair
    }
    pair = end
  }
  parts.push(params.substring(start))
  return parts
}

// A length takes four bytes when its highest bit is set (SPEC 3.4).
const sizeOfLength = (params: string, at: number): number => params.charCodeAt(at) < 0x80 ? 1 : 4

const lengthAt = (params: string, at: number): number => {
  const first = params.charCodeAt(at)
  return first < 0x80
    ? first
    : (first & 0x7f) << 24 | params.charCodeAt(at + 1) << 16 | params.charCodeAt(at + 2) << 8 |
      params.charCodeAt(at + 3)
}
