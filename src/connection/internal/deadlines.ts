/**
 * By when things have to have happened that all get the same time: they are due in the order in which they began, and one
 * timer does for all of them. A timer each costs more than a small request.
 */
import type * as Clock from "effect/Clock"
import { type Fork, millisecondsOf, Timers } from "./timers.ts"

// Milliseconds. A timer that rings so soon is left to ring when nothing is due any more: to stop one and start the next for each
// of connections that come one after the other doubles what such a connection costs in memory.
const shortTime = 1000

/** What has a deadline. */
export class Deadlines<A> {
  private readonly timeout: number
  private readonly clock: Clock.Clock
  private readonly timers: Timers<"due">
  private readonly expire: (it: A) => void
  private readonly stopsTimer: boolean
  private readonly due = new Map<A, number>()

  /**
   * `timeout` is in milliseconds, `Infinity` for none; `expire` is called with what has not been deleted by then. `stopsTimer` says
   * whether the timer is stopped when nothing is due any more, or rings once for nothing.
   */
  constructor(
    timeout: number,
    clock: Clock.Clock,
    fork: Fork,
    expire: (it: A) => void,
    stopsTimer = timeout > shortTime
  ) {
    this.stopsTimer = stopsTimer
    this.timeout = timeout
    this.clock = clock
    this.timers = new Timers(fork)
    this.expire = expire
  }

  add(it: A): void {
    if (this.timeout === Infinity || this.due.has(it)) return
    this.due.set(it, millisecondsOf(this.clock) + this.timeout)
    this.timers.start("due", this.timeout, this.ring)
  }

  /** Returns whether it had not expired. */
  delete(it: A): boolean {
    const wasDue = this.due.delete(it)
    if (wasDue && this.stopsTimer && this.due.size === 0) this.stop()
    return wasDue
  }

  /** Calls `expire` no more. */
  stop(): void {
    this.due.clear()
    this.timers.stop("due")
  }

  private readonly ring = (): void => {
    const now = millisecondsOf(this.clock)
    for (const [it, at] of this.due) {
      if (at > now) {
        this.timers.start("due", at - now, this.ring)
        return
      }
      this.due.delete(it)
      this.expire(it)
    }
  }
}
