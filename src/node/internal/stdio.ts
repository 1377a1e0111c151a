/**
 * File descriptors 0, 1 and 2 where they are not what a program takes them for.
 */
import * as Fs from "node:fs"
import * as CgiProgram from "../../server/CgiProgram.ts"

/**
 * Closes one of the descriptors 0, 1 and 2. libuv never does, so a listening socket would go on collecting connections that
 * nobody accepts. The number is taken at once by something harmless: libuv would not close a connection that got it either.
 */
export const closeStdio = (fd: number): void => {
  try {
    Fs.closeSync(fd)
    Fs.openSync("/dev/null", "r+")
  } catch {
    // Somebody else has closed it.
  }
}

/**
 * Turns stdout and stderr into /dev/null where they are the same socket as the descriptor: whoever speaks the protocol of
 * inetd passes the listening socket on 0 and 1, and a write to that fails with an error that nobody expects of
 * `console.log`.
 */
export const detachOutput = (fd: number): void => {
  // Of a plain CGI program that socket is where the answer goes: Apache's mod_cgid.
  if (CgiProgram.isCgi(process.env)) return
  const socket = statSocket(fd)
  if (socket === undefined) return
  for (const output of [1, 2]) {
    if (output === fd) continue
    const stat = statSocket(output)
    if (stat !== undefined && stat.ino === socket.ino && stat.dev === socket.dev) closeStdio(output)
  }
}

/** Whether nobody gets what is written to stdout: it is the null device, or will be when `detachOutput` has looked at it. */
export const isOutputLost = (): boolean => {
  try {
    const stdout = Fs.fstatSync(1, { bigint: true })
    if (stdout.isCharacterDevice()) return stdout.rdev === Fs.statSync("/dev/null", { bigint: true }).rdev
    if (!stdout.isSocket() || CgiProgram.isCgi(process.env)) return false
    const stdin = statSocket(0)
    return stdin !== undefined && stdin.ino === stdout.ino && stdin.dev === stdout.dev
  } catch {
    // No such descriptor, or no null device.
    return false
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const statSocket = (fd: number): Fs.BigIntStats | undefined => {
  try {
    const stat = Fs.fstatSync(fd, { bigint: true })
    return stat.isSocket() ? stat : undefined
  } catch {
    return undefined
  }
}
