/**
 * One stream of a request between the records that bring it and its reader: STDIN and DATA at the application's end, STDOUT
 * and STDERR at the web server's.
 *
 * Plain state, changed by the connection and by one reader. `unread` is what the stream holds in memory for the reader; the
 * connection sums it up and decides about pausing. Only `wake` runs the reader.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Pull from "effect/Pull"

// Small fragments are copied together into blocks of this size.
const blockSize = 4096

/** What a pull gives. */
export type Chunks = readonly [Uint8Array, ...Array<Uint8Array>]

/** Who is told what a stream does. */
export interface InputOwner {
  /** Bytes have been pulled or dropped. */
  readonly onConsumed: (size: number) => void
  /** A reader has begun to wait. */
  readonly onAwaited: () => void
  /** There is something for a reader that waits: `wake` of the stream is to be called. */
  readonly onTouched: (stream: { readonly wake: () => void }) => void
}

/**
 * The bytes of one stream. Its errors are made when somebody sees them: one with its stack costs more than a small request.
 */
export class InputStream<E> {
  private owner: InputOwner | undefined
  private chunks: Array<Uint8Array> = []
  private block: Uint8Array | undefined
  private blockSize = 0
  private ended = false
  private failure: (() => E) | undefined
  private reader: (() => void) | undefined
  // Who waits for the end of the stream, without reading it.
  private whenEnded: (() => void) | undefined
  private remaining = Infinity
  private whenShort: (() => E) | undefined
  private observer: ((content: Uint8Array) => void) | undefined
  /** Bytes that have arrived and have not been pulled. */
  unread = 0

  constructor(owner: InputOwner) {
    this.owner = owner
  }

  /** Whether all of the stream has arrived. */
  get isComplete(): boolean {
    return this.ended
  }

  /** Whether somebody waits for bytes, or for their end. */
  get isAwaited(): boolean {
    return this.reader !== undefined || this.whenEnded !== undefined
  }

  /**
   * Announces how many bytes there are to be: more are not delivered, less end the stream with `whenShort`. Counts from
   * what has not been pulled yet, so it is set before the first pull; set again, it changes nothing.
   */
  expect(length: number, whenShort: () => E): void {
    if (this.remaining !== Infinity) return
    this.remaining = length
    this.whenShort ??= whenShort
  }

  /** Takes back what `expect` has announced: whatever comes is delivered. */
  expectAnything(): void {
    this.remaining = Infinity
    this.whenShort = undefined
  }

  /** Shows every fragment, and those that are unread, to one who looks at them before anybody is woken and calls nobody. */
  observe(observer: (content: Uint8Array) => void): void {
    this.observer = observer
    for (const chunk of this.chunks) observer(chunk)
    if (this.block !== undefined) observer(this.block.subarray(0, this.blockSize))
  }

  /** Takes a fragment, which is copied. Returns by how much `unread` has grown. */
  offer(content: Uint8Array): number {
    if (this.failure !== undefined || this.ended) return 0
    this.observer?.(content)
    this.copy(content)
    this.unread += content.length
    this.touch()
    return content.length
  }

  /** Says that all of the stream has arrived. */
  end(): void {
    this.ended = true
    this.touch()
  }

  /** Says that no more comes, although not all has: what has arrived can be pulled, then a pull fails. */
  cut(failure: () => E): void {
    if (this.ended) return
    this.ended = true
    this.whenShort = failure
    this.touch()
  }

  /** Tells the owner nothing from here on: what has arrived is the reader's own. */
  disown(): void {
    this.owner = undefined
  }

  /** Hands what has arrived to a waiting reader, once for a whole read. */
  wake(): void {
    if (this.ended && this.whenEnded !== undefined) {
      const resume = this.whenEnded
      this.whenEnded = undefined
      resume()
    }
    const reader = this.reader
    if (reader === undefined || !this.isReadable) return
    this.reader = undefined
    reader()
  }

  /** Drops what is unread and whatever still comes. A pull fails, unless everything had been pulled already. */
  discard(failure: () => E): void {
    if (this.failure !== undefined || (this.ended && this.unread === 0)) return
    this.failure = failure
    this.chunks = []
    this.block = undefined
    const dropped = this.unread
    this.unread = 0
    if (dropped > 0) this.owner?.onConsumed(dropped)
    this.touch()
  }

  /** Drops what is unread and whatever still comes, and waits until all of it has come. */
  skip(failure: () => E): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.ended) return Effect.void
      this.discard(failure)
      return this.whenComplete
    })
  }

  /** Waits until all of it has come, and takes nothing of it. One at a time may wait. */
  get whenComplete(): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.ended ? Effect.void : Effect.callback<void>((resume) => {
        this.whenEnded = () => resume(Effect.void)
        return Effect.sync(() => {
          this.whenEnded = undefined
        })
      })
    )
  }

  /** Everything that has arrived since the last pull; waits when that is nothing. Dies beside a reader that waits. */
  get pull(): Pull.Pull<Chunks, E> {
    return Effect.suspend(() =>
      this.isReadable ? this.pulled() : Effect.callback<Chunks, E | Cause.Done>((resume) => {
        if (this.reader !== undefined) return resume(Effect.die(new Error("the input is being read already")))
        this.whenReadable(() => resume(this.pulled()))
        return Effect.sync(() => this.stopWaiting())
      })
    )
  }

  /** Whether a pull would not wait. */
  get isReadable(): boolean {
    return this.unread > 0 || this.ended || this.failure !== undefined || this.remaining === 0
  }

  /** Calls `reader` once, when a pull would not wait any more. One at a time may wait. */
  whenReadable(reader: () => void): void {
    this.reader = reader
    this.owner?.onAwaited()
  }

  /** Who waits has given up. */
  stopWaiting(): void {
    this.reader = undefined
  }

  /** The bytes that a pull would give now; `undefined` where it would wait, fail, or be at the end. */
  takeUnsafe(): Chunks | undefined {
    if (this.failure !== undefined || this.unread === 0) return undefined
    this.seal()
    let chunks = this.chunks
    const size = this.unread
    this.chunks = []
    this.unread = 0
    if (size > this.remaining) chunks = trim(chunks, this.remaining)
    this.remaining -= Math.min(size, this.remaining)
    this.owner?.onConsumed(size)
    return chunks.length > 0 ? chunks as unknown as Chunks : undefined
  }

  // What a pull gives where it does not wait.
  private pulled(): Effect.Effect<Chunks, E | Cause.Done> {
    if (this.failure !== undefined) return Effect.fail(this.failure())
    const chunks = this.takeUnsafe()
    if (chunks !== undefined) return Effect.succeed(chunks)
    return this.remaining > 0 && this.whenShort !== undefined ? Effect.fail(this.whenShort()) : Cause.done()
  }

  private touch(): void {
    if (this.isAwaited) this.owner?.onTouched(this)
  }

  private copy(content: Uint8Array): void {
    // As a rule a small input comes in one piece.
    if (content.length >= blockSize || this.unread === 0) {
      this.seal()
      this.chunks.push(new Uint8Array(content))
      return
    }
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
