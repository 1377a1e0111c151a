/**
 * Listening on a socket that the process was started with: file descriptor 0 of SPEC 2.2, or any other.
 */
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Fs from "node:fs"
import type * as Net from "node:net"
import { Readable } from "node:stream"
import { isatty } from "node:tty"
import type { FastCgiListenerError } from "../../server/FastCgiListener.ts"
import type { Bound } from "./acceptor.ts"
import { listen } from "./acceptor.ts"
import { inetAddress } from "./inetAddress.ts"
import { errorCode, errorText, listenerError } from "./listenerError.ts"
import { closeStdio, detachOutput } from "./stdio.ts"

/** Makes the server listen on the file descriptor. */
export const bindFd = Effect.fnUntraced(function*(
  server: Net.Server,
  options: { readonly fd: number; readonly backlog: number }
): Effect.fn.Return<Bound, FastCgiListenerError> {
  const { backlog, fd } = options
  yield* checkFd(fd)
  const path = unixPath(fd)
  let restoreStdin = () => {}
  yield* listen(
    server,
    () => {
      // The option `backlog` is ignored beside `fd`; this argument is not.
      server.listen({ fd } as Net.ListenOptions, backlog)
      // At once: other layers are built while this one waits for the "listening" event.
      if (fd === 0) restoreStdin = replaceStdin()
    },
    (cause) => {
      restoreStdin()
      return fdError(fd, cause)
    }
  )
  // Not before it listens: a CGI program has a connection on 0 and 1.
  detachOutput(fd)
  const local = server.address()
  const address = local === null || typeof local === "string" ? Option.none() : inetAddress(local.address, local.port)
  return {
    address: Option.getOrElse(address, () => NetAddress.unixPathAddress(path)),
    closed: fd > maxStdio ? undefined : () => closeStdio(fd)
  }
})

/** Fails where the descriptor is no socket. */
export const checkFd = (fd: number): Effect.Effect<void, FastCgiListenerError> =>
  Effect.suspend(() => {
    const kind = describe(fd)
    return kind === undefined ? Effect.void : Effect.fail(notASocket(fd, kind))
  })

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const maxStdio = 2

// The kind of the descriptor, in words, when it is not a socket.
const describe = (fd: number): string | undefined => {
  if (!Number.isInteger(fd) || fd < 0 || fd > 0x7fffffff) return "no file descriptor number"
  try {
    const stat = Fs.fstatSync(fd)
    if (stat.isSocket()) return undefined
    if (isatty(fd)) return "a terminal"
    if (stat.isFIFO()) return "a pipe"
    if (stat.isFile()) return "a file"
    if (stat.isDirectory()) return "a directory"
    if (stat.isCharacterDevice()) return "a device such as /dev/null"
    return "something else"
  } catch (cause) {
    return errorCode(cause) === "EBADF" ? "closed" : `unusable: ${errorText(cause)}`
  }
}

const notASocket = (fd: number, kind: string, cause?: unknown): FastCgiListenerError =>
  listenerError(
    "NotASocket",
    `File descriptor ${fd} is not a listening socket (it is ${kind}). ` +
      (fd === 0
        ? "effect-fastcgi listens on file descriptor 0 by default, because web servers and spawn-fcgi start it that way. "
        : "") +
      "Give { path: ... } or { port: ... } to make it listen on its own, or let something start it that listens" +
      (fd === 0 ? ": spawn-fcgi -n -s /run/app.sock -- node app.js" : "."),
    cause
  )

const fdError = (fd: number, cause: unknown): FastCgiListenerError => {
  switch (errorCode(cause)) {
    case "EINVAL":
    case "ENOTSUP":
    case "EOPNOTSUPP":
    // A datagram socket, which Node does not even try.
    case "ERR_INVALID_FD_TYPE":
      return notASocket(fd, "a socket, but a connected one or one that cannot listen", cause)
    case "EEXIST":
      return listenerError(
        "Unknown",
        `Cannot listen on file descriptor ${fd}: this program uses it already` +
          (fd === 0 ? ". Something reads process.stdin: build the listener before it, or do not read it." : "."),
        cause
      )
    case "EACCES":
    case "EPERM":
      return listenerError(
        "PermissionDenied",
        `Cannot listen on file descriptor ${fd}: the operating system does not permit it.`,
        cause
      )
    default:
      return listenerError("Unknown", `Cannot listen on file descriptor ${fd}: ${errorText(cause)}.`, cause)
  }
}

// Node does not know the path of an inherited UNIX socket; Linux tells. "" where it cannot be known.
const unixPath = (fd: number): string => {
  try {
    const inode = /^socket:\[(\d+)\]$/.exec(Fs.readlinkSync(`/proc/self/fd/${fd}`))?.[1]
    if (inode === undefined) return ""
    for (const line of Fs.readFileSync("/proc/net/unix", "utf8").split("\n")) {
      // Num RefCount Protocol Flags Type St Inode Path
      const entry = /^\S+: \S+ \S+ \S+ \S+ \S+ +(\d+) (.+)$/.exec(line)
      if (entry !== null && entry[1] === inode) return entry[2].startsWith("@") ? `\0${entry[2].slice(1)}` : entry[2]
    }
    return ""
  } catch {
    return ""
  }
}

/**
 * Makes `process.stdin` an empty stream. Returns what puts the getter back.
 *
 * There is nothing to read on descriptor 0 of a FastCGI application (SPEC 2.2). Once the descriptor listens, the getter of
 * `process.stdin` throws EEXIST, and whatever looks at it, Effect's NodeTerminal for one, takes the program down. So it
 * reads an empty stream instead, no matter what is built first.
 */
export const replaceStdin = (): () => void => {
  const original = Object.getOwnPropertyDescriptor(process, "stdin")!
  Object.defineProperty(process, "stdin", {
    configurable: true,
    enumerable: true,
    value: new Readable({
      read() {
        this.push(null)
      }
    })
  })
  return () => Object.defineProperty(process, "stdin", original)
}
