/**
 * Whether a server that has been under load for a while is as it was: what was sampled at quiet moments, and what was answered.
 */
import { median } from "../harness/report.ts"

/** What a server has in use when nobody is connected. */
export interface Quiet {
  /** Live heap and resident memory, in bytes. */
  readonly heap: number
  readonly resident: number
  /** Open file descriptors, once they are as few as before the load, or did not get fewer. */
  readonly descriptors: number
}

/** What may be more at the end than after the first part: machines, collections and compiled code are never quite the same. */
const heapMargin = 4e6
const residentMargin = 48e6

/** The part in which a server fills its caches, and V8 compiles; a fifth. */
const settling = (samples: ReadonlyArray<Quiet>): number => Math.max(1, Math.floor(samples.length / 5))

/** How much more of something there is in the last third of the samples than in the first, leaving out the settling part. */
export const growth = (samples: ReadonlyArray<Quiet>, figure: (sample: Quiet) => number): number => {
  const settled = samples.slice(settling(samples)).map(figure)
  const third = Math.max(1, Math.floor(settled.length / 3))
  return median(settled.slice(-third)) - median(settled.slice(0, third))
}

/** What is wrong with the server, as sentences; nothing where it is fine. `before` is from before the load. */
export const verdict = (before: Quiet, samples: ReadonlyArray<Quiet>): ReadonlyArray<string> => {
  if (samples.length < 3) return [`${samples.length} samples are too few to tell`]
  const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`
  const heap = growth(samples, (sample) => sample.heap)
  const resident = growth(samples, (sample) => sample.resident)
  const open = Math.max(...samples.map(({ descriptors }) => descriptors))
  return [
    ...heap > heapMargin ? [`the live heap grew by ${megabytes(heap)}`] : [],
    ...resident > residentMargin ? [`resident memory grew by ${megabytes(resident)}`] : [],
    ...open > before.descriptors ? [`${open - before.descriptors} file descriptors were left open`] : []
  ]
}
