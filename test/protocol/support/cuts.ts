/**
 * Cutting bytes into pieces.
 */

/** Numbers from 0 to 1 that look random and are the same for the same seed. */
export const random = (seed: number): () => number => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ state >>> 15, state | 1)
    mixed ^= mixed + Math.imul(mixed ^ mixed >>> 7, mixed | 61)
    return ((mixed ^ mixed >>> 14) >>> 0) / 0x1_0000_0000
  }
}

/** The bytes cut before each of the positions, each piece in memory of its own. */
export const cut = (bytes: Uint8Array, points: Iterable<number>): Array<Uint8Array> => {
  const ends = [...new Set(points)].filter((point) => point > 0 && point < bytes.length).sort((a, b) => a - b)
  const pieces: Array<Uint8Array> = []
  let from = 0
  for (const end of [...ends, bytes.length]) {
    pieces.push(bytes.slice(from, end))
    from = end
  }
  return pieces
}

/** The bytes one at a time. */
export const oneByOne = (bytes: Uint8Array): Array<Uint8Array> => cut(bytes, bytes.keys())

/** The chunks put together. */
export const concat = (chunks: ReadonlyArray<Uint8Array>): Uint8Array => {
  const bytes = new Uint8Array(chunks.reduce((size, chunk) => size + chunk.length, 0))
  let at = 0
  for (const chunk of chunks) {
    bytes.set(chunk, at)
    at += chunk.length
  }
  return bytes
}

/** Text of one character per byte as bytes. */
export const ascii = (text: string): Uint8Array => Uint8Array.from(text, (character) => character.charCodeAt(0))
