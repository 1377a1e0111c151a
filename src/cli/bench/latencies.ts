/**
 * Times of many requests in bounded memory: a histogram whose buckets are at most 1.6 percent wide.
 */

// 64 buckets for each doubling, from a microsecond to more than an hour.
const steps = 64
const doublings = 33

/** Times in milliseconds. */
export class Latencies {
  count = 0
  sum = 0
  least = Infinity
  most = 0
  private readonly buckets = new Uint32Array(steps * doublings)

  add(milliseconds: number): void {
    this.count++
    this.sum += milliseconds
    if (milliseconds < this.least) this.least = milliseconds
    if (milliseconds > this.most) this.most = milliseconds
    this.buckets[index(milliseconds)]!++
  }

  get mean(): number {
    return this.count === 0 ? 0 : this.sum / this.count
  }

  /** The time that this share of the requests took at most: 0.99 for the slowest of a hundred. */
  percentile(share: number): number {
    if (this.count === 0) return 0
    let left = Math.max(1, Math.ceil(share * this.count))
    for (let i = 0; i < this.buckets.length; i++) {
      left -= this.buckets[i]!
      // No bucket reaches beyond what was measured, and the last one to all of that.
      if (left <= 0 && i < this.buckets.length - 1) return Math.min(this.most, Math.max(this.least, upper(i)))
    }
    return this.most
  }

  /** The times in about so many rows, each with how many requests took up to it and longer than the row before. */
  rows(about: number): ReadonlyArray<{ readonly upTo: number; readonly count: number }> {
    if (this.count === 0) return []
    const from = index(this.least)
    const to = index(this.most)
    const width = Math.max(1, Math.ceil((to - from + 1) / about))
    const found: Array<{ readonly upTo: number; readonly count: number }> = []
    for (let at = from; at <= to; at += width) {
      let count = 0
      for (let i = at; i < at + width && i < this.buckets.length; i++) count += this.buckets[i]!
      found.push({ upTo: upper(Math.min(at + width, this.buckets.length) - 1), count })
    }
    return found
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const index = (milliseconds: number): number =>
  Math.min(steps * doublings - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, milliseconds * 1000)) * steps)))

const upper = (i: number): number => 2 ** ((i + 1) / steps) / 1000
