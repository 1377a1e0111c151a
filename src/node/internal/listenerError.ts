/**
 * Errors of the operating system about listening, in words for the person who started the program: what was tried, what stood in
 * the way, what to do.
 */
import { FastCgiListenerError, type FastCgiListenerErrorReason } from "../../server/FastCgiListener.ts"

/** Creates the error; `cause` is kept only when there is one. */
export const listenerError = (
  tag: FastCgiListenerErrorReason["_tag"],
  message: string,
  cause?: unknown
): FastCgiListenerError => {
  const reason = { _tag: tag }
  const error = new FastCgiListenerError(cause === undefined ? { reason, message } : { reason, message, cause })
  // The person who started the program reads this, in a terminal or a log. Where in the library it was made tells them nothing
  // and hides the message.
  withoutStack(error)
  if (cause instanceof Error) withoutStack(cause)
  return error
}

const withoutStack = (error: Error): void => {
  error.stack = `${error.name}: ${error.message}`
}

/** The error code of a failed system call, or "". */
export const errorCode = (cause: unknown): string =>
  cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : ""

/** The code of a failed system call. */
export const errorText = (cause: unknown): string => cause instanceof Error ? cause.message : String(cause)

/** A failed bind or listen on an internet address. */
export const tcpError = (host: string, port: number, cause: unknown): FastCgiListenerError => {
  const where = `Cannot listen on ${formatHost(host)}:${port}: `
  switch (errorCode(cause)) {
    case "EADDRINUSE":
      return listenerError(
        "AddressInUse",
        `${where}another process has the port. See which with: ss -ltnp 'sport = :${port}'. ` +
          "Stop it, or choose another port.",
        cause
      )
    case "EACCES":
    case "EPERM":
      return listenerError(
        "PermissionDenied",
        port < 1024
          ? `${where}ports below 1024 are for root and for processes with CAP_NET_BIND_SERVICE. ` +
            "Choose a higher port: a FastCGI application is reached through its web server, so any will do."
          : `${where}the operating system does not permit it.`,
        cause
      )
    case "EADDRNOTAVAIL":
      return listenerError(
        "AddressNotAvailable",
        `${where}the address is not one of this host. Give one that "ip address" lists, 127.0.0.1 when the web server ` +
          "runs on this host, or 0.0.0.0 for all of them.",
        cause
      )
    case "EAFNOSUPPORT":
      return listenerError(
        "AddressNotAvailable",
        `${where}this host has no IPv6. Give an IPv4 address, 127.0.0.1 for instance.`,
        cause
      )
    case "EINVAL":
      return listenerError("AddressNotAvailable", `${where}the operating system does not accept the address.`, cause)
    case "ENOTFOUND":
    case "EAI_AGAIN":
    case "EAI_NODATA":
    case "EAI_NONAME":
      return listenerError(
        "AddressNotAvailable",
        `${where}the host name is not known. Give an address of this host, 127.0.0.1 for instance.`,
        cause
      )
    case "ERR_SOCKET_BAD_PORT":
      return listenerError(
        "AddressNotAvailable",
        `${where}a port is a whole number from 1 to 65535, or 0 for any free one.`,
        cause
      )
    default:
      return listenerError("Unknown", `${where}${errorText(cause)}.`, cause)
  }
}

/** A failed file system call on the way to a listening UNIX socket. */
export const pathError = (path: string, cause: unknown): FastCgiListenerError => {
  const where = `Cannot listen on ${formatPath(path)}: `
  switch (errorCode(cause)) {
    case "ENOENT":
      return listenerError(
        "AddressNotAvailable",
        `${where}its directory does not exist. Create it, owned by the user that runs this program, or choose ` +
          "another path.",
        cause
      )
    case "ENOTDIR":
      return listenerError(
        "AddressNotAvailable",
        `${where}a part of the path is a file, not a directory. Choose another path.`,
        cause
      )
    case "EACCES":
    case "EPERM":
      return listenerError(
        "PermissionDenied",
        `${where}this program's user may not create or replace files in that directory. Give the user a directory of ` +
          "its own, or choose another path.",
        cause
      )
    case "EROFS":
      return listenerError(
        "PermissionDenied",
        `${where}the file system is read-only. Choose a path that can be written, below /run for instance.`,
        cause
      )
    case "ENAMETOOLONG":
      return listenerError("PathTooLong", `${where}the path is too long. Choose a shorter one.`, cause)
    case "EADDRINUSE":
      return listenerError(
        "AddressInUse",
        `${where}another process listens there. Stop it, or choose another path.`,
        cause
      )
    default:
      return listenerError("Unknown", `${where}${errorText(cause)}.`, cause)
  }
}

/** An IPv6 address in brackets, anything else as it is. */
export const formatHost = (host: string): string => host.includes(":") ? `[${host}]` : host

/** A path that a terminal can show: an abstract one begins with "@", as ss writes it. */
export const formatPath = (path: string): string => path.startsWith("\0") ? `@${path.slice(1)}` : path
