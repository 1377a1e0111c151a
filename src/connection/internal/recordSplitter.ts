/**
 * Splits bytes into raw records, and loses nothing.
 */
import { headerLength } from "../../protocol/FastCgiRecord.ts"
import { concat } from "../../protocol/internal/bytes.ts"
import type { FastCgiRawRecord } from "../FastCgiChannel.ts"

/**
 * Bytes on their way to records. They are joined when the next record has come as a whole, so that a record of many chunks is
 * copied once and not once a chunk.
 */
export class RecordSplitter {
  /** Bytes of a record that is not complete. */
  size = 0
  private chunks: Array<Uint8Array> = []
  private need = headerLength

  /** Takes the next bytes, and appends the records that are complete. */
  push(chunk: Uint8Array, records: Array<FastCgiRawRecord>): void {
    this.chunks.push(chunk)
    this.size += chunk.length
    while (this.size >= this.need) this.split(concat(this.chunks), records)
  }

  /** The bytes of the record that is not complete. */
  rest(): Uint8Array {
    return concat(this.chunks)
  }

  private split(bytes: Uint8Array, records: Array<FastCgiRawRecord>): void {
    let at = 0
    this.need = headerLength
    while (bytes.length - at >= headerLength) {
      const content = at + headerLength
      const padding = content + (bytes[at + 4] << 8 | bytes[at + 5])
      const end = padding + bytes[at + 6]
      this.need = end - at
      if (end > bytes.length) break
      records.push({
        version: bytes[at],
        type: bytes[at + 1],
        requestId: bytes[at + 2] << 8 | bytes[at + 3],
        content: bytes.subarray(content, padding),
        padding: bytes.subarray(padding, end),
        reserved: bytes[at + 7]
      })
      at = end
      this.need = headerLength
    }
    const rest = bytes.subarray(at)
    this.chunks = rest.length > 0 ? [rest] : []
    this.size = rest.length
  }
}
