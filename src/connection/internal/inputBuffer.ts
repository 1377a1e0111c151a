/**
 * One input stream of a request (STDIN or DATA) between the records that bring it and the handler that pulls it.
 *
 * Plain state, changed by the connection and by one reader. `unread` is what it holds in memory for the handler; the
 * connection sums it up and decides about pausing.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Pull from "effect/Pull"
import type { FastCgiRequestError } from "../FastCgiRequestError.ts"

// A view keeps the whole read it came with in memory: below an eighth of it, the bytes are copied. Measured: 1000 kept
// bytes held 64 MiB as views, 0.2 MiB when copied. mod_fcgid and Apache send 8 KiB records, which stay views.
const pinShare = 8
// Further views of the same read cost nothing but themselves, which is some 100 bytes each.
const minView = 512
// What is still unread when the next read comes may keep this much more in memory than it holds. Otherwise it is copied
// together, and what a request holds is what is counted, but for its last read. A handler that keeps up never pays for it.
const maxPinned = 8 / 7
// Small fragments are copied together into blocks of this size.
const blockSize = 4096

type Chunks = readonly [Uint8Array, ...Array<Uint8Array>]

/** Makes the error of a stream, when somebody sees it: an error with its stack costs more than a small request. */
export type MakeError = () => FastCgiRequestError

/** The bytes of one input stream. */
export class InputBuffer {
  private readonly onConsumed: (size: number) => void
  private readonly onAwaited: (() => void) | undefined
  private chunks: Array<Uint8Array> = []
  // The read that the last chunks are views of, where they begin and how much they hold.
  private pinned: ArrayBufferLike | undefined
  private pinnedFrom = 0
  private pinnedSize = 0
  private block: Uint8Array | undefined
  private blockSize = 0
  private ended = false
  private failure: MakeError | undefined
  private reader: ((effect: Effect.Effect<Chunks, FastCgiRequestError | Cause.Done>) => void) | undefined
  // Who waits for the end of the stream, without reading it.
  private skipper: (() => void) | undefined
  private remaining = Infinity
  private whenShort: MakeError | undefined
  /** Bytes that have arrived and have not been pulled. */
  unread = 0

  constructor(onConsumed: (size: number) => void, onAwaited?: () => void) {
    this.onConsumed = onConsumed
    this.onAwaited = onAwaited
  }

  /** Whether all of the stream has arrived. */
  get complete(): boolean {
    return this.ended
  }

  /** Whether somebody waits for bytes, or for their end. */
  get awaited(): boolean {
    return this.reader !== undefined || this.skipper !== undefined
  }

  /**
   * Announces how many bytes there are to be: more are not delivered, less end the stream with `whenShort`. Counts from
   * what has not been pulled yet, so it is set before the first pull; set again, it changes nothing.
   */
  expect(length: number, whenShort: MakeError): void {
    if (this.remaining !== Infinity) return
    this.remaining = length
    this.whenShort ??= whenShort
  }

  /** Takes a fragment. Returns by how much `unread` has grown. */
  offer(content: Uint8Array): number {
    if (this.failure !== undefined || this.ended) return 0
    const length = content.length
    if (content.buffer === this.pinned && length >= minView) {
      this.chunks.push(content)
      this.pinnedSize += length
    } else {
      this.unpin()
      if (length * pinShare >= content.buffer.byteLength) {
        this.seal()
        this.pinned = content.buffer
        this.pinnedFrom = this.chunks.length
        this.pinnedSize = length
        this.chunks.push(content)
      } else {
        this.copy(content)
      }
    }
    this.unread += length
    return length
  }

  /** Says that all of the stream has arrived. */
  end(): void {
    this.ended = true
  }

  /** Says that no more comes, although not all has: what has arrived can be pulled, then a pull fails. */
  cut(failure: MakeError): void {
    if (this.ended) return
    this.ended = true
    this.whenShort = failure
    this.wake()
  }

  /** Hands what has arrived to a waiting reader, once for a whole read. */
  wake(): void {
    if (this.ended && this.skipper !== undefined) {
      const skipper = this.skipper
      this.skipper = undefined
      skipper()
    }
    const reader = this.reader
    if (reader === undefined) return
    const taken = this.take()
    if (taken === undefined) return
    this.reader = undefined
    reader(taken)
  }

  /** Drops what is unread and whatever still comes. A pull fails, unless everything had been pulled already. */
  discard(failure: MakeError): void {
    if (this.failure !== undefined || (this.ended && this.unread === 0)) return
    this.failure = failure
    this.chunks = []
    this.pinned = undefined
    this.block = undefined
    const dropped = this.unread
    this.unread = 0
    if (dropped > 0) this.onConsumed(dropped)
    this.wake()
  }

  /** Drops what is unread and whatever still comes, and waits until all of it has come. */
  skip(failure: MakeError): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.ended) return Effect.void
      this.discard(failure)
      return Effect.callback<void>((resume) => {
        this.skipper = () => resume(Effect.void)
        return Effect.sync(() => {
          this.skipper = undefined
        })
      })
    })
  }

  /** Everything that has arrived since the last pull; waits when that is nothing. Dies beside a pull that waits. */
  get pull(): Pull.Pull<Chunks, FastCgiRequestError> {
    return Effect.suspend(() =>
      this.take() ??
        Effect.callback<Chunks, FastCgiRequestError | Cause.Done>((resume) => {
          if (this.reader !== undefined) return resume(Effect.die(new Error("the input is being read already")))
          this.reader = resume
          this.onAwaited?.()
          return Effect.sync(() => {
            this.reader = undefined
          })
        })
    )
  }

  private take(): Effect.Effect<Chunks, FastCgiRequestError | Cause.Done> | undefined {
    if (this.failure !== undefined) return Effect.fail(this.failure())
    if (this.unread > 0) {
      this.seal()
      let chunks = this.chunks
      const size = this.unread
      this.chunks = []
      this.pinned = undefined
      this.unread = 0
      if (size > this.remaining) chunks = trim(chunks, this.remaining)
      this.remaining -= Math.min(size, this.remaining)
      this.onConsumed(size)
      if (chunks.length > 0) return Effect.succeed(chunks as unknown as Chunks)
    }
    if (this.remaining === 0 && this.whenShort !== undefined) return Cause.done()
    if (!this.ended) return undefined
    if (this.remaining > 0 && this.whenShort !== undefined) return Effect.fail(this.whenShort())
    return Cause.done()
  }

  private copy(content: Uint8Array): void {
    let at = 0
    while (at < content.length) {
      if (this.block === undefined) {
        this.block = new Uint8Array(blockSize)
        this.blockSize = 0
      }
      const size = Math.min(content.length - at, blockSize - this.blockSize)
      this.block.set(content.subarray(at, at + size), this.blockSize)
      this.blockSize += size
      at += size
      if (this.blockSize === blockSize) this.seal()
    }
  }

  // Leaves the read that the last chunks are views of, with a copy in their place when they are too small a part of it.
  private unpin(): void {
    const pinned = this.pinned
    if (pinned === undefined) return
    this.pinned = undefined
    if (this.pinnedSize * maxPinned >= pinned.byteLength) return
    const copy = new Uint8Array(this.pinnedSize)
    let at = 0
    for (const chunk of this.chunks.splice(this.pinnedFrom)) {
      copy.set(chunk, at)
      at += chunk.length
    }
    this.chunks.push(copy)
  }

  private seal(): void {
    if (this.block === undefined) return
    this.chunks.push(this.blockSize === blockSize ? this.block : this.block.slice(0, this.blockSize))
    this.block = undefined
  }
}

const trim = (chunks: Array<Uint8Array>, length: number): Array<Uint8Array> => {
  const kept: Array<Uint8Array> = []
  for (const chunk of chunks) {
    if (length === 0) break
    kept.push(chunk.length <= length ? chunk : chunk.subarray(0, length))
    length -= kept[kept.length - 1].length
  }
  return kept
}
