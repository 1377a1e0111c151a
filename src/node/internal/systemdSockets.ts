/**
 * The sockets that systemd passes to a program that it starts for them: sd_listen_fds(3).
 */
import * as Effect from "effect/Effect"
import type { FastCgiListenerError } from "../../server/FastCgiListener.ts"
import { listenerError } from "./listenerError.ts"

/** A socket that the program was started with. */
export interface PassedSocket {
  readonly fd: number
  /** The FileDescriptorName= of the socket unit, by default the name of the unit. */
  readonly name: string
}

/**
 * The sockets that were passed: all of them, or those with a name. At least one; fails when there is none.
 *
 * The variables that tell of them are removed from the environment at the first call: the sockets are not for the programs
 * that this one starts.
 */
export const systemdSockets = (
  name?: string
): Effect.Effect<ReadonlyArray<PassedSocket>, FastCgiListenerError> =>
  Effect.suspend(() => {
    passed ??= takePassed()
    if (typeof passed === "string") return Effect.fail(listenerError("NotASocket", passed))
    if (name === undefined) return Effect.succeed(passed)
    const named = passed.filter((socket) => socket.name === name)
    return named.length > 0 ? Effect.succeed(named) : Effect.fail(listenerError("NotASocket", noneNamed(passed, name)))
  })

/** The sockets that the environment tells of, or what to say where it tells of none. */
export const readPassed = (
  env: Readonly<Record<string, string | undefined>>,
  pid: number
): ReadonlyArray<PassedSocket> | string => {
  const { LISTEN_FDNAMES, LISTEN_FDS, LISTEN_PID } = env
  if (LISTEN_FDS === undefined || LISTEN_PID === undefined) {
    return `No socket was passed by systemd: ${LISTEN_FDS === undefined ? "LISTEN_FDS" : "LISTEN_PID"} is not set. ` +
      "Start the program by its socket unit (systemctl start app.socket), or, to try it, by " +
      "systemd-socket-activate -l /run/app/app.sock node app.js. Give { path: ... } or { port: ... } to make it " +
      "listen on its own."
  }
  if (LISTEN_PID !== String(pid)) {
    return `The sockets that systemd has passed are for process ${LISTEN_PID}, and this is process ${pid}. ` +
      "Something between them has started it, npm, tsx or a shell script for instance: let the unit start node itself, " +
      "or the script end with exec."
  }
  const count = /^\d{1,9}$/.test(LISTEN_FDS) ? Number(LISTEN_FDS) : 0
  if (count === 0) return `No socket was passed by systemd: LISTEN_FDS is "${LISTEN_FDS}".`
  const names = LISTEN_FDNAMES === undefined ? [] : LISTEN_FDNAMES.split(":")
  return Array.from({ length: count }, (_, index) => ({ fd: firstFd + index, name: names[index] ?? "unknown" }))
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// SD_LISTEN_FDS_START
const firstFd = 3

// They belong to the process, and the environment tells of them once.
let passed: ReadonlyArray<PassedSocket> | string | undefined

const takePassed = (): ReadonlyArray<PassedSocket> | string => {
  const found = readPassed(process.env, process.pid)
  delete process.env["LISTEN_FDS"]
  delete process.env["LISTEN_PID"]
  delete process.env["LISTEN_FDNAMES"]
  return found
}

const noneNamed = (passed: ReadonlyArray<PassedSocket>, name: string): string =>
  `No socket that systemd has passed is named "${name}". There ${passed.length === 1 ? "is" : "are"} ${
    passed.map((socket) => `"${socket.name}" (file descriptor ${socket.fd})`).join(", ")
  }. Set FileDescriptorName=${name} in the socket unit.`
