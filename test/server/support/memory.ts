/**
 * Memory with nothing counted that nobody holds.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void

/** Measures again after each collection until one frees nothing: the bytes of a buffer are counted until the collection after its own. */
const settled = (measure: () => number): number => {
  let least = Infinity
  for (let left = 8; left > 0; left--) {
    collect()
    collect()
    const now = measure()
    if (now >= least) break
    least = now
  }
  return least
}

/** Bytes on the heap. */
export const heap = (): number => settled(() => process.memoryUsage().heapUsed)

/** Bytes on the heap and in buffers. */
export const held = (): number =>
  settled(() => {
    const { external, heapUsed } = process.memoryUsage()
    return heapUsed + external
  })
