/**
 * Memory with nothing counted that nobody holds.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as (options?: { readonly type: "minor" }) => void

/** Collects all garbage. What is left is old. */
export const collectAll = (): void => {
  collect()
  collect()
}

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

/** Bytes that collections of the young generation take for alive, and that nobody holds. */
export const survivors = (): number => {
  collect({ type: "minor" })
  collect({ type: "minor" })
  const before = process.memoryUsage().heapUsed
  collectAll()
  return before - process.memoryUsage().heapUsed
}
