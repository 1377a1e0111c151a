/**
 * One direction of a connection: bytes, as they come, to records with the place where each begins.
 */
import type { FastCgiRawRecord } from "../../connection/FastCgiChannel.ts"
import { RecordSplitter } from "../../connection/internal/recordSplitter.ts"
import { headerLength, version } from "../../protocol/FastCgiRecord.ts"

/** A record and where in its direction it begins, in bytes. */
export interface LocatedRecord extends FastCgiRawRecord {
  readonly offset: number
}

/** Bytes that are no records of FastCGI/1.0: nothing behind them can be told. */
export interface NoRecords {
  readonly offset: number
  /** The first of them. */
  readonly bytes: Uint8Array
  /** They end inside a record, and are wrong in nothing else. */
  readonly truncated: boolean
}

/** Reads one direction. It keeps at most one record. */
export class RecordReader {
  private readonly splitter = new RecordSplitter()
  private offset = 0
  private broken = false

  /** Takes the next bytes. Returns what they complete; behind `NoRecords` nothing more is read. */
  push(chunk: Uint8Array): ReadonlyArray<LocatedRecord | NoRecords> {
    if (this.broken || chunk.length === 0) return []
    const raw: Array<FastCgiRawRecord> = []
    this.splitter.push(chunk, raw)
    const found: Array<LocatedRecord | NoRecords> = []
    for (const record of raw) {
      if (record.version !== version) return [...found, this.stop(header(record))]
      found.push({ ...record, offset: this.offset })
      this.offset += headerLength + record.content.length + record.padding.length
    }
    // A whole header, so that it can be told what it is instead.
    if (this.splitter.size >= headerLength) {
      const rest = this.splitter.rest()
      if (rest[0] !== version) found.push(this.stop(rest))
    }
    return found
  }

  /** Says that no more bytes come. */
  end(): NoRecords | undefined {
    if (this.broken || this.splitter.size === 0) return undefined
    const bytes = this.splitter.rest()
    return bytes[0] === version
      ? { offset: this.offset, bytes: bytes.slice(0, shown), truncated: true }
      : this.stop(bytes)
  }

  private stop(bytes: Uint8Array): NoRecords {
    this.broken = true
    return { offset: this.offset, bytes: bytes.slice(0, shown), truncated: false }
  }
}

/** Whether this is a record. */
export const isRecord = (found: LocatedRecord | NoRecords): found is LocatedRecord => "type" in found

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// Bytes that are kept of what is no record: enough to recognize HTTP or TLS.
const shown = 64

const header = (record: FastCgiRawRecord): Uint8Array => {
  const { content, padding, requestId, reserved, type, version } = record
  const head = [version, type, requestId >> 8, requestId & 255, content.length >> 8, content.length & 255]
  return Uint8Array.from([...head, padding.length, reserved, ...content.subarray(0, shown)])
}
