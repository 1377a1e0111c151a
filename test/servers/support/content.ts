/**
 * Bodies in which a lost, doubled or moved piece shows: byte n depends on n, and nothing repeats with the size of a record.
 */
import { createHash } from "node:crypto"

/** How many bytes repeat: a prime, so that no piece of a common size can stand in for another. */
export const period = 65_537

const cycle = new Uint8Array(period * 16)
let state = 1
for (let i = 0; i < period; i++) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  cycle[i] = state >>> 24
}
for (let i = 1; i < 16; i++) cycle.copyWithin(i * period, 0, period)

/** The body of `size` bytes, in pieces of about 1 MiB that are not to be changed. */
export const pieces = function*(size: number): Generator<Uint8Array> {
  let left = size
  while (left > cycle.length) {
    yield cycle
    left -= cycle.length
  }
  if (left > 0) yield cycle.subarray(0, left)
}

/** The SHA-256 of the body of `size` bytes. */
export const digestOf = (size: number): string => {
  const known = digests.get(size)
  if (known !== undefined) return known
  const hash = createHash("sha256")
  for (const piece of pieces(size)) hash.update(piece)
  const digest = hash.digest("hex")
  digests.set(size, digest)
  return digest
}

const digests = new Map<number, string>()
