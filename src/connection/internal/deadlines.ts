/**
 * By when things have to have happened that all get the same time: they are due in the order in which they began, and one
 * timer does for all of them. A timer each costs more than a small request.
 */
import type * as Clock from "effect/Clock"
import { Linked, LinkedList } from "./linkedList.ts"
import { type Fork, millisecondsOf, Timers } from "./timers.ts"

// Milliseconds. A timer that rings so soon is left to ring when nothing is due any more: to stop one and start the next for each
// of connections that come one after the other doubles what such a connection costs in memory.
const shortTime = 1000

/** What has a deadline, and when. */
export class Deadline<A> extends Linked<Deadline<A>> {
  readonly it: A
  readonly at: number

  constructor(it: A, at: number) {
    super()
    this.it = it
    this.at = at
  }
}

export class Deadlines<A> {
  private readonly timeout: number
  private readonly clock: Clock.Clock
  private readonly timers: Timers<"due">
  private readonly expire: (it: A) => void
  private readonly stopsTimer: boolean
  private readonly due = new LinkedList<Deadline<A>>()

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

  /** Its time begins. What is returned ends it. */
  add(it: A): Deadline<A> | undefined {
    if (this.timeout === Infinity) return undefined
    const deadline = new Deadline(it, millisecondsOf(this.clock) + this.timeout)
    this.due.push(deadline)
    this.timers.start("due", this.timeout, this.ring)
    return deadline
  }

  /** Returns whether it had not expired. */
  delete(deadline: Deadline<A> | undefined): boolean {
    if (deadline?.list !== this.due) return false
    this.due.remove(deadline)
    if (this.stopsTimer && this.due.size === 0) this.timers.stop("due")
    return true
  }

  /** Calls `expire` no more. */
  stop(): void {
    for (const deadline of this.due.toArray()) this.due.remove(deadline)
    this.timers.stop("due")
  }

  private readonly ring = (): void => {
    const now = millisecondsOf(this.clock)
    for (let { first } = this.due; first !== undefined; first = this.due.first) {
      if (first.at > now) return this.timers.start("due", first.at - now, this.ring)
      this.due.remove(first)
      this.expire(first.it)
    }
  }
}
