/**
 * Records as they stand in the bytes, read by hand: a decoder would hide padding, reserved bytes and the sizes of records.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import type { Peer } from "./serving.ts"

export interface WireRecord {
  readonly type: number
  readonly id: number
  readonly content: Uint8Array
  readonly padding: number
}

/** Reads whole records, and fails where version, reserved byte or padding are not what they have to be. */
export const readRecords = (bytes: Uint8Array): ReadonlyArray<WireRecord> => {
  const records: Array<WireRecord> = []
  for (let at = 0; at < bytes.length;) {
    assert.isAtLeast(bytes.length - at, 8, "a whole header")
    const [version, type, idHigh, idLow, lengthHigh, lengthLow, padding, reserved] = bytes.subarray(at, at + 8)
    assert.strictEqual(version, 1, "version")
    assert.strictEqual(reserved, 0, "reserved byte")
    const start = at + 8
    const end = start + (lengthHigh << 8 | lengthLow)
    at = end + padding
    assert.isAtMost(at, bytes.length, "a whole record")
    for (let i = end; i < at; i++) if (bytes[i] !== 0) assert.fail("padding is not zero")
    if (type === 3) assert.deepStrictEqual([...bytes.subarray(start + 5, start + 8)], [0, 0, 0], "reserved bytes")
    records.push({ type, id: idHigh << 8 | idLow, content: bytes.subarray(start, end), padding })
  }
  return records
}

export const concat = (chunks: ReadonlyArray<Uint8Array>): Uint8Array => {
  const bytes = new Uint8Array(chunks.reduce((size, chunk) => size + chunk.length, 0))
  let at = 0
  for (const chunk of chunks) {
    bytes.set(chunk, at)
    at += chunk.length
  }
  return bytes
}

/** All bytes of the stream `type` of a request. */
export const contentOf = (records: ReadonlyArray<WireRecord>, type: number, id: number): Uint8Array =>
  concat(records.filter((record) => record.type === type && record.id === id).map(({ content }) => content))

/** What the server sends until it has closed. */
export const allBytes = (peer: Peer): Effect.Effect<Uint8Array> =>
  Effect.suspend(() => {
    const chunks: Array<Uint8Array> = []
    return Pull.catchDone(
      Effect.forever(Effect.map(peer.receiveBytes, (chunk) => {
        chunks.push(chunk)
      })),
      () => Effect.succeed(concat(chunks))
    )
  })
