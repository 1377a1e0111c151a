/**
 * What has arrived of one output stream of one request and has not been pulled yet. Records are appended without an
 * Effect; whoever reads is woken once per batch, and takes everything at once.
 */
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { FastCgiClientError } from "../FastCgiClientError.ts"

export type Chunks = Arr.NonEmptyReadonlyArray<Uint8Array>
type PullError = FastCgiClientError | Cause.Done

// A fragment up to this many bytes is copied, and so is a longer one that is less than a quarter of the read that it is a
// view of: it would keep all of that in memory, however few bytes count as unread.
const copyLimit = 1024
const pinnedRatio = 4
const tailSize = 4096

export class StreamBuffer {
  /** Bytes that have not been pulled. */
  unread = 0
  private chunks: Array<Uint8Array> = []
  // The last chunk, while it is a copy that has room for more.
  private tail: Uint8Array | undefined
  private tailLength = 0
  private exit: Effect.Effect<never, PullError> | undefined
  private discarding = false
  private readers: Array<(effect: Effect.Effect<Chunks, PullError>) => void> = []
  private readonly onTaken: (size: number) => void

  constructor(onTaken: (size: number) => void) {
    this.onTaken = onTaken
  }

  /** Takes everything that is there; waits when there is nothing; ends or fails after the last byte. */
  readonly pull: Effect.Effect<Chunks, PullError> = Effect.suspend(() => {
    if (this.unread > 0) return Effect.succeed(this.take())
    if (this.exit !== undefined) return this.exit
    return Effect.callback<Chunks, PullError>((resume) => {
      this.readers.push(resume)
      return Effect.sync(() => {
        this.readers = this.readers.filter((reader) => reader !== resume)
      })
    })
  })

  /** Appends content, which is not empty. Returns how many bytes are now to be pulled because of it. */
  append(content: Uint8Array): number {
    if (this.discarding || this.exit !== undefined) return 0
    const length = content.length
    this.unread += length
    if (length > copyLimit) {
      this.tail = undefined
      this.chunks.push(length * pinnedRatio < content.buffer.byteLength ? content.slice() : content)
      return length
    }
    const tail = this.tail
    if (tail !== undefined && this.tailLength + length <= tail.length) {
      tail.set(content, this.tailLength)
      this.tailLength += length
      this.chunks[this.chunks.length - 1] = tail.subarray(0, this.tailLength)
    } else if (this.chunks.length === 0) {
      this.chunks.push(content.slice())
    } else {
      this.tail = new Uint8Array(tailSize)
      this.tail.set(content)
      this.tailLength = length
      this.chunks.push(this.tail.subarray(0, length))
    }
    return length
  }

  /** Ends the stream, after what is to be pulled. */
  end(): void {
    this.exit ??= Cause.done()
  }

  /** Fails the stream, after what is to be pulled. */
  fail(error: FastCgiClientError): void {
    this.exit ??= Effect.fail(error)
  }

  /** Drops what has not been pulled and all that comes. */
  discard(): void {
    this.discarding = true
    if (this.unread > 0) this.take()
  }

  get ended(): boolean {
    return this.exit !== undefined
  }

  /** Wakes whoever waits, if there is something for them. */
  wake(): void {
    if (this.readers.length === 0 || (this.unread === 0 && this.exit === undefined)) return
    const readers = this.readers
    this.readers = []
    for (const resume of readers) resume(this.pull)
  }

  private take(): Chunks {
    const chunks = this.chunks
    const size = this.unread
    this.chunks = []
    this.tail = undefined
    this.unread = 0
    this.onTaken(size)
    return chunks as unknown as Chunks
  }
}
