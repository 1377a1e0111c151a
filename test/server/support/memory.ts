/**
 * Memory with nothing counted that nobody holds.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void

/** Bytes on the heap. */
export const heap = (): number => {
  collect()
  collect()
  return process.memoryUsage().heapUsed
}

/** Bytes on the heap and in buffers. */
export const held = (): number => {
  collect()
  collect()
  const { external, heapUsed } = process.memoryUsage()
  return heapUsed + external
}
