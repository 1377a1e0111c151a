/**
 * Times that are equally long, of many requests at once: one timer runs, for the first of them. A fiber and a timer for each would
 * cost a request more than its records do.
 */
import { Timers } from "../../connection/internal/timers.ts"
import { type Linked, LinkedList } from "./linkedList.ts"
import type { Pool } from "./pool.ts"

class Deadline implements Linked<Deadline> {
  list: LinkedList<Deadline> | undefined
  before: Deadline | undefined
  after: Deadline | undefined
  readonly at: number
  readonly ring: () => void

  constructor(at: number, ring: () => void) {
    this.at = at
    this.ring = ring
  }
}

export class Deadlines {
  private readonly pool: Pool
  private readonly milliseconds: number
  private readonly timers: Timers<"first">
  // In the order of their times, as they are equally long.
  private readonly running = new LinkedList<Deadline>()

  /** A duration of Infinity never rings. Ends with the pool. */
  constructor(pool: Pool, milliseconds: number) {
    this.pool = pool
    this.milliseconds = milliseconds
    this.timers = new Timers((effect) => pool.fork(effect))
  }

  /** Calls `ring` when the time is over, unless what is returned is called before. */
  start(ring: () => void): () => void {
    if (this.milliseconds === Infinity) return never
    const deadline = new Deadline(this.pool.connections.now() + this.milliseconds, ring)
    this.running.push(deadline)
    this.wait()
    return () => {
      if (deadline.list !== undefined) this.running.remove(deadline)
    }
  }

  // One that has been stopped may be what the timer runs for: it is then started for the next.
  private wait(): void {
    const { first } = this.running
    if (first === undefined || this.timers.isRunning("first")) return
    this.timers.start("first", Math.max(0, first.at - this.pool.connections.now()), this.due)
  }

  private readonly due = (): void => {
    const now = this.pool.connections.now()
    for (let { first } = this.running; first !== undefined && first.at <= now; first = this.running.first) {
      this.running.remove(first)
      first.ring()
    }
    this.wait()
  }
}

const never = (): void => {}
