/**
 * How far a connection reads ahead of its handlers, when it stops reading, and what is dropped when that holds others up
 * (docs/architecture.md, Input). FastCGI has no way to say "stop sending for request 7".
 */
import { FastCgiRequestError } from "../FastCgiRequestError.ts"
import type { FastCgiTransport } from "../FastCgiTransport.ts"
import type { ConnectionEvent, ConnectionLimits } from "./connectionHandler.ts"
import type { ConnectionRequest } from "./connectionRequest.ts"
import type { OutputQueue } from "./outputQueue.ts"
import type { RequestTable } from "./requestTable.ts"
import type { Timers } from "./timers.ts"

/** What a connection waits for. */
export type ConnectionTimers = Timers<"params" | "idle" | "write" | "close" | "stall" | "unread">

// How long, in milliseconds, a handler may read nothing before a connection that is not kept is read ahead to
// `maxBufferedInput`: behind the unread input may be the news that the peer has given the request up.
const unreadTime = 1000

/** What is asked of the connection that reads. */
export interface ReadAheadOwner {
  readonly transport: FastCgiTransport
  readonly output: OutputQueue
  readonly requests: RequestTable
  /** Whether what is read is still dispatched; otherwise it is read so that the peer can send it, and dropped. */
  readonly dispatches: boolean
  readonly report: (event: ConnectionEvent) => void
}

/** Decides when a connection reads. */
export class ReadAhead {
  /** Whether more than one request is active, or has been since the last moment without one. */
  multiplexed = false
  /** Whether the peer has been told that it may multiplex: the BEGIN_REQUEST of another request may stand behind input. */
  mayMultiplex = false
  /** Whether the peer keeps the connection, and may multiplex without having asked whether it may, as HAProxy does. */
  kept = false
  private readonly owner: ReadAheadOwner
  private readonly limits: ConnectionLimits
  private readonly timers: ConnectionTimers
  private unread = 0
  // How many times something has been pulled or dropped.
  private pulls = 0
  // Whether nothing has been pulled for `unreadTime`.
  private abandoned = false
  private paused = false
  private held = false

  constructor(owner: ReadAheadOwner, limits: ConnectionLimits, timers: ConnectionTimers) {
    this.owner = owner
    this.limits = limits
    this.timers = timers
  }

  /** Counts bytes that have arrived and nobody has pulled. */
  arrived(size: number): void {
    this.unread += size
  }

  /** Counts bytes that have been pulled, or dropped. */
  consumed(size: number): void {
    this.unread -= size
    this.pulls++
    this.abandoned = false
    this.reconsider()
  }

  /** Stops reading when as much is unread as may be. Called at the end of a read. */
  pauseIfFull(): void {
    if (!this.owner.dispatches || this.unread < this.limit) return
    this.paused = true
    this.owner.transport.pauseUnsafe()
    this.watchStall()
    this.watchUnread()
  }

  /** Goes on reading, or waits for the time to drop something, when what stands in the way may have changed. */
  reconsider(): void {
    if (!this.paused) return
    // Half of it has to be read before more is taken, or every pull would be answered by one short read.
    if (!this.owner.dispatches || this.unread * 2 <= this.limit) this.resume()
    else this.watchStall()
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

  private resume(): void {
    this.paused = false
    this.timers.stop("stall")
    if (!this.held) this.owner.transport.resumeUnsafe()
  }

  private get limit(): number {
    const { inputHighWaterMark, maxBufferedInput } = this.limits
    return this.kept || this.abandoned || this.holdsUp
      ? Math.max(inputHighWaterMark, maxBufferedInput)
      : inputHighWaterMark
  }

  // A handler that reads slowly pauses the connection again and again, so the time is looked at when it is over instead of
  // being stopped each time.
  private watchUnread(): void {
    if (this.limit >= this.limits.maxBufferedInput) return
    const pulls = this.pulls
    this.timers.start("unread", unreadTime, () => {
      if (!this.paused) return
      if (this.pulls > pulls) return this.watchUnread()
      this.abandoned = true
      this.reconsider()
    })
  }

  // Whether there are other requests on the connection, or may be behind what is not read.
  private get shared(): boolean {
    return this.multiplexed || this.mayMultiplex
  }

  // Whether not to read holds somebody up: requests beside the one that is not read, a peer that reads nothing before it has
  // sent everything (mod_fcgid, Caddy), or a handler that wants DATA and has not read the STDIN before it.
  private get holdsUp(): boolean {
    return this.shared || this.owner.output.blocked || this.awaitsData()
  }

  private awaitsData(): boolean {
    if (this.unread === 0) return false
    for (const request of this.owner.requests.values()) if (request.awaitsData) return true
    return false
  }

  // A paused connection waits for its handler as long as that takes, unless somebody is held up by it.
  private watchStall(): void {
    if (!this.holdsUp) return
    const accepted = this.owner.output.accepted
    this.timers.start("stall", this.limits.stallTimeout, () => this.stalled(accepted))
  }

  private stalled(accepted: number): void {
    const { output } = this.owner
    // A peer that has taken something is not one that reads nothing before it has sent everything.
    if (!this.shared && !this.awaitsData() && (!output.blocked || output.accepted > accepted)) {
      this.watchStall()
      return
    }
    // Reading goes on when all is dropped that has to be: what is read then may stall for a time of its own.
    this.paused = false
    do this.discard()
    while (this.unread > 0 && this.unread >= this.limit)
    if (!this.held) this.owner.transport.resumeUnsafe()
  }

  private discard(): void {
    let victim: ConnectionRequest | undefined
    for (const request of this.owner.requests.values()) {
      if (victim === undefined || request.unread > victim.unread) victim = request
    }
    if (victim === undefined) return
    const message = `${victim.unread} bytes of input stood unread for ${this.limits.stallTimeout} ms and held up ` +
      (this.shared ? "the other requests on the connection" : victim.awaitsData ? "its DATA" : "the response")
    this.owner.report({ _tag: "InputDiscarded", requestId: victim.requestId, limit: "stallTimeout", message })
    victim.discardStalled(() => new FastCgiRequestError({ reason: { _tag: "InputDiscarded" }, message }))
  }
}
