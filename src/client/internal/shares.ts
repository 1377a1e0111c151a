/**
 * Chunks in shares, so that a writer can wait in between and requests on one connection take turns.
 */

// Bytes.
const writeShare = 128 * 1024

/** Chunks of which a share is taken at a time. */
export class Shares {
  left: number
  private readonly chunks: ReadonlyArray<Uint8Array>
  private index = 0
  private offset = 0

  constructor(chunks: ReadonlyArray<Uint8Array>) {
    this.chunks = chunks
    this.left = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
  }

  next(): ReadonlyArray<Uint8Array> {
    const share: Array<Uint8Array> = []
    for (let room = Math.min(this.left, writeShare); room > 0;) {
      const chunk = this.chunks[this.index]
      const size = Math.min(room, chunk.length - this.offset)
      share.push(size === chunk.length ? chunk : chunk.subarray(this.offset, this.offset + size))
      room -= size
      this.left -= size
      this.offset += size
      if (this.offset === chunk.length) {
        this.index++
        this.offset = 0
      }
    }
    return share
  }
}
