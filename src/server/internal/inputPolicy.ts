/**
 * How far the application's end reads ahead of its handlers, and what it drops when that holds others up
 * (docs/architecture.md, Input).
 */
import { ReadAhead } from "../../connection/internal/readAhead.ts"
import type { Timers } from "../../connection/internal/timers.ts"
import { FastCgiRequestError } from "../FastCgiRequestError.ts"
import type { ConnectionLimits } from "./application.ts"
import type { ApplicationRequest } from "./applicationRequest.ts"
import type { ConnectionLife } from "./connectionLife.ts"

// How long, in milliseconds, a handler may read nothing before a connection that is not kept is read ahead to
// `maxBufferedInput`: behind the unread input may be the news that the peer has given the request up.
const unreadTime = 1000

/** Decides when the application's end reads. */
export class InputPolicy extends ReadAhead {
  /** Whether more than one request is active, or has been since the last moment without one. */
  multiplexed = false
  /** Whether the peer has been told that it may multiplex: the BEGIN_REQUEST of another request may stand behind input. */
  mayMultiplex = false
  /** Whether the peer keeps the connection, and may multiplex without having asked whether it may, as HAProxy does. */
  kept = false
  /** Whether a request has been upgraded: its client reads what it likes when it likes, and nothing is dropped for that. */
  tunnelled = false
  declare protected readonly owner: ConnectionLife
  declare protected readonly timers: Timers<"stall" | "unread">
  private readonly limits: ConnectionLimits
  // How many times something has been pulled or dropped.
  private pulls = 0
  // Whether nothing has been pulled for `unreadTime`.
  private neglected = false

  constructor(owner: ConnectionLife, limits: ConnectionLimits, timers: Timers<"stall" | "unread">) {
    super(owner, limits.stallTimeout, timers)
    this.limits = limits
  }

  override onConsumed(size: number): void {
    this.pulls++
    this.neglected = false
    super.onConsumed(size)
  }

  override pauseIfFull(): void {
    super.pauseIfFull()
    if (this.paused) this.watchUnread()
  }

  protected get limit(): number {
    const { inputHighWaterMark, maxBufferedInput } = this.limits
    return this.kept || this.neglected || this.holdsUp
      ? Math.max(inputHighWaterMark, maxBufferedInput)
      : inputHighWaterMark
  }

  // Whether not to read holds somebody up: requests beside the one that is not read, a peer that reads nothing before it has
  // sent everything (mod_fcgid, Caddy), or a handler that wants DATA and has not read the STDIN before it.
  protected get holdsUp(): boolean {
    return this.shared || this.blocked || this.awaitsData
  }

  // A peer that has taken some output is reading, so it is not waiting for us to read.
  protected isStalled(accepted: number): boolean {
    return this.shared || this.awaitsData || (this.blocked && this.owner.output.accepted <= accepted)
  }

  protected drop(): void {
    let victim: ApplicationRequest | undefined
    for (const request of this.owner.requests.values()) {
      if (victim === undefined || request.unread > victim.unread) victim = request
    }
    if (victim === undefined) return
    const message = `${victim.unread} bytes of input stood unread for ${this.limits.stallTimeout} ms and held up ` +
      (this.shared ? "the other requests on the connection" : victim.awaitsData ? "its DATA" : "the response")
    this.owner.report({ _tag: "InputDiscarded", requestId: victim.requestId, limit: "stallTimeout", message })
    victim.discardStalled(() => new FastCgiRequestError({ reason: { _tag: "InputDiscarded" }, message }))
  }

  // Whether there are other requests on the connection, or may be behind what is not read.
  private get shared(): boolean {
    return this.multiplexed || this.mayMultiplex
  }

  private get blocked(): boolean {
    return this.owner.output.blocked && !this.tunnelled
  }

  private get awaitsData(): boolean {
    if (this.unread === 0) return false
    for (const request of this.owner.requests.values()) if (request.awaitsData) return true
    return false
  }

  // A handler that reads slowly pauses the connection again and again, so the time is looked at when it is over instead of
  // being stopped each time.
  private watchUnread(): void {
    if (this.limit >= this.limits.maxBufferedInput) return
    const pulls = this.pulls
    this.timers.start("unread", unreadTime, () => {
      if (!this.paused) return
      if (this.pulls > pulls) return this.watchUnread()
      this.neglected = true
      this.reconsider()
    })
  }
}
