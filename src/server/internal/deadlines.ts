/**
 * By when requests have to be answered. All have the same time, so they are due in the order in which they began, and one
 * timer does for all.
 */
import type * as Clock from "effect/Clock"
import type { ConnectionRequest } from "../../connection/internal/connectionRequest.ts"
import { type Fork, millisecondsOf, Timers } from "../../connection/internal/timers.ts"

/** The requests that have a deadline. */
export class Deadlines {
  private readonly timeout: number
  private readonly clock: Clock.Clock
  private readonly timers: Timers<"due">
  private readonly expire: (request: ConnectionRequest) => void
  private readonly due = new Map<ConnectionRequest, number>()

  /** `timeout` is in milliseconds, `Infinity` for none; `expire` is called with what has not been deleted by then. */
  constructor(timeout: number, clock: Clock.Clock, fork: Fork, expire: (request: ConnectionRequest) => void) {
    this.timeout = timeout
    this.clock = clock
    this.timers = new Timers(fork)
    this.expire = expire
  }

  add(request: ConnectionRequest): void {
    if (this.timeout === Infinity || this.due.has(request)) return
    this.due.set(request, millisecondsOf(this.clock) + this.timeout)
    this.timers.start("due", this.timeout, this.ring)
  }

  delete(request: ConnectionRequest): void {
    if (this.due.delete(request) && this.due.size === 0) this.timers.stop("due")
  }

  private readonly ring = (): void => {
    const now = millisecondsOf(this.clock)
    for (const [request, at] of this.due) {
      if (at > now) {
        this.timers.start("due", at - now, this.ring)
        return
      }
      this.due.delete(request)
      this.expire(request)
    }
  }
}
