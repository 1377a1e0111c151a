/**
 * Collections of V8's young generation for the bytes of input, which V8 does not count as part of it.
 *
 * A chunk of input is a hundred bytes in V8's heap, and up to 64 KiB outside of the heap. So the young generation is nearly empty when
 * V8 finds that there is too much outside, and marks the whole program, 20 MB with Effect: two thirds of the CPU of an upload. A
 * collection of the young generation frees the same chunks in a third of a millisecond. bench/NOTES.md has the figures.
 */
import * as V8 from "node:v8"
import * as Vm from "node:vm"

const mebibyte = 1024 * 1024

/** The young generation is collected after so many bytes, or after up to `most`. */
export const least = 4 * mebibyte
/** The longest period, in bytes. */
export const most = 16 * mebibyte

// So many collections that left nothing behind make the period shorter.
const untilShorter = 16

/**
 * When the next collection is due.
 *
 * Some seconds after the last request V8 lowers its limits, and marks the program from then on when some 8 MiB more are outside. What
 * a collection frees is outside until the next one, so the period has to be at most half of that. But a chunk that outlives two
 * collections is old, and only marking frees it. So the period grows while what is outside grows from one collection to the next:
 * then readers hold more than a period.
 */
export class Collections {
  private readonly external: () => number
  private readonly collect: () => void
  private period = least
  private since = 0
  private before = Infinity
  private grown = 0
  private steady = 0

  /** `external` is how many bytes are outside of the heap. */
  constructor(external: () => number, collect: () => void) {
    this.external = external
    this.collect = collect
  }

  /** Counts bytes that have come from outside, and collects once in a period. */
  count(bytes: number): void {
    this.since += bytes
    if (this.since < this.period) return
    this.since = 0
    const external = this.external()
    this.adapt(external - this.before)
    this.before = external
    this.collect()
  }

  private adapt(growth: number): void {
    if (growth > this.period / 2) {
      this.grown++
      if (this.grown === 1 || this.period === most) return
      this.period *= 2
      this.grown = this.steady = 0
      return
    }
    this.grown = 0
    if (this.period === least || ++this.steady < untilShorter) return
    this.period /= 2
    this.steady = 0
  }
}

type Collector = (options: { readonly type: "minor" }) => void

const isCollector = (gc: unknown): gc is Collector => typeof gc === "function"

// Node has no function for it. V8 gives one to each context that is made while the flag is set.
const collector = (): Collector | undefined => {
  if (isCollector(globalThis.gc)) return globalThis.gc
  try {
    V8.setFlagsFromString("--expose-gc")
    const gc: unknown = Vm.runInNewContext("gc")
    V8.setFlagsFromString("--no-expose-gc")
    return isCollector(gc) ? gc : undefined
  } catch {
    // V8 collects when it sees fit.
    return undefined
  }
}

let collect: Collector | undefined
let isKnown = false

const collections = new Collections(
  () => V8.getHeapStatistics().external_memory,
  () => {
    if (!isKnown) {
      isKnown = true
      collect = collector()
    }
    collect?.({ type: "minor" })
  }
)

/** Counts bytes that have come from outside, and collects the young generation when that is due. */
export const count = (bytes: number): void => collections.count(bytes)
