/**
 * How often something has failed lately.
 */
export class Failures {
  /** Milliseconds. */
  private readonly interval: number
  private times: Array<number> = []

  constructor(interval: number) {
    this.interval = interval
  }

  /** Counts one, now. Gives how many there were before it within the interval. */
  add(now: number): number {
    this.times = this.times.filter((time) => now - time < this.interval)
    return this.times.push(now) - 1
  }

  /** Begins anew. */
  forget(): void {
    this.times = []
  }
}
