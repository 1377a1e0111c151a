/**
 * Notices that the process has no file descriptor left. Node does not say it: when accepting a connection fails for that
 * reason, libuv gives up a descriptor that it keeps for this, accepts with it whoever waits, and closes them, without an event.
 */
import * as Fs from "node:fs"
import type * as Net from "node:net"

/** The events of a listener's accepted connections. */
export interface DescriptorWatch {
  readonly accepted: (socket: Net.Socket) => void
  readonly stop: () => void
}

/** Calls `exhausted`, with the limit, whenever it is found that there is no descriptor left. */
export const watchDescriptors = (exhausted: (limit: number) => void, limit = openFiles()): DescriptorWatch => {
  const high = limit * nearlyAll
  let timer: NodeJS.Timeout | undefined
  const stop = () => {
    clearInterval(timer)
    timer = undefined
  }
  // The next connection may have to wait for what is no connection: a file, a database.
  const look = () => {
    const free = lowestFree()
    if (free === undefined) exhausted(limit)
    else if (free < high) stop()
  }
  return {
    accepted: (socket) => {
      // The lowest number that is free, so a high one says that there are few.
      const fd = (socket as WithHandle)._handle?.fd
      if (fd === undefined || fd < high) return
      if (fd >= limit - 1) exhausted(limit)
      timer ??= setInterval(look, interval).unref()
    },
    stop
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// Where it begins to be looked at every second.
const nearlyAll = 0.9

// In milliseconds.
const interval = 1000

interface WithHandle {
  readonly _handle?: { readonly fd?: number | undefined } | null | undefined
}

/** How many descriptors this process may have: known on Linux, where Node has raised it as far as it may. */
const openFiles = (): number => {
  try {
    const [, soft] = /^Max open files\s+(\d+)/m.exec(Fs.readFileSync("/proc/self/limits", "latin1")) ?? []
    return soft === undefined ? Infinity : Number(soft)
  } catch {
    return Infinity
  }
}

const lowestFree = (): number | undefined => {
  try {
    const fd = Fs.openSync("/dev/null", "r")
    Fs.closeSync(fd)
    return fd
  } catch (cause) {
    return ["EMFILE", "ENFILE"].includes((cause as NodeJS.ErrnoException).code ?? "") ? undefined : 0
  }
}
