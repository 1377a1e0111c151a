/**
 * When a connection reads: until as much is unread as may be, and on when half of it has been read. FastCGI has no way to say
 * "stop sending for request 7" (docs/architecture.md, Input). Each end has its own limit, and its own idea of whom a pause
 * holds up and what is dropped then.
 */
import type { FastCgiTransport } from "../FastCgiTransport.ts"
import type { OutputQueue } from "./outputQueue.ts"
import type { Timers } from "./timers.ts"

/** The connection that reads. */
export interface ReadAheadOwner {
  readonly transport: FastCgiTransport
  readonly output: OutputQueue
}

/** Decides when a connection reads. */
export abstract class ReadAhead {
  /** Bytes that have arrived and that nobody has pulled. */
  protected unread = 0
  /** Whether reading has stopped because too much is unread. */
  protected paused = false
  protected readonly owner: ReadAheadOwner
  protected readonly timers: Timers<"stall">
  private readonly stallTimeout: number
  private held = false

  /** `stallTimeout` is in milliseconds. */
  constructor(owner: ReadAheadOwner, stallTimeout: number, timers: Timers<"stall">) {
    this.owner = owner
    this.stallTimeout = stallTimeout
    this.timers = timers
  }

  /** Unread bytes at which reading stops. */
  protected abstract get limit(): number

  /** Whether a pause holds somebody up. Otherwise it lasts as long as the reader takes. */
  protected abstract get holdsUp(): boolean

  /** Whether a pause has held somebody up for all of `stallTimeout`. `accepted` is how much output the peer had taken when that began. */
  protected abstract isStalled(accepted: number): boolean

  /** Drops something of what is unread. */
  protected abstract drop(): void

  /** Bytes have arrived that nobody has pulled. */
  onArrived(size: number): void {
    this.unread += size
  }

  /** Bytes have been pulled, or dropped. */
  onConsumed(size: number): void {
    this.unread -= size
    this.reconsider()
  }

  /** Stops reading when as much is unread as may be. Called at the end of a read. */
  pauseIfFull(): void {
    if (this.unread < this.limit) return
    this.paused = true
    this.owner.transport.pauseUnsafe()
    this.watchStall()
  }

  /** Goes on reading, or waits for the time to drop something, when what stands in the way may have changed. */
  reconsider(): void {
    if (!this.paused) return
    // Half of it has to be read before more is taken, or every pull would be answered by one short read.
    if (this.unread * 2 <= this.limit) this.resume()
    else this.watchStall()
  }

  /** Goes on reading, whatever is unread. */
  resume(): void {
    if (!this.paused) return
    this.paused = false
    this.timers.stop("stall")
    if (!this.held) this.owner.transport.resumeUnsafe()
  }

  /** Stops reading until `release`, whatever is unread. */
  hold(): void {
    this.held = true
    this.owner.transport.pauseUnsafe()
  }

  /** Lets reading go on, unless too much is unread. */
  release(): void {
    if (!this.held) return
    this.held = false
    if (!this.paused) this.owner.transport.resumeUnsafe()
  }

  private watchStall(): void {
    if (!this.holdsUp) return
    const { accepted } = this.owner.output
    this.timers.start("stall", this.stallTimeout, () => {
      if (!this.isStalled(accepted)) return this.watchStall()
      // Reading goes on once enough has been dropped. What is read then has a time of its own.
      do this.drop()
      while (this.unread > 0 && this.unread >= this.limit)
      this.resume()
    })
  }
}
