/**
 * Collections of V8's young generation for the bytes of input, which V8 does not count as part of it.
 *
 * A chunk of input is a hundred bytes in V8's heap, and up to 64 KiB outside of the heap. So the young generation is nearly empty when
 * 64 MiB have come, and V8 marks the whole program then, 20 MB with Effect: two thirds of the CPU of an upload. A collection of the
 * young generation frees the same chunks in a third of a millisecond. bench/NOTES.md has the figures.
 */
import * as V8 from "node:v8"
import * as Vm from "node:vm"

/** After how many bytes the young generation is collected. */
export const period = 16 * 1024 * 1024

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
let since = 0

/** Counts bytes that have come from outside, and collects the young generation once in `period`. */
export const count = (bytes: number): void => {
  since += bytes
  if (since < period) return
  since = 0
  if (!isKnown) {
    isKnown = true
    collect = collector()
  }
  collect?.({ type: "minor" })
}
