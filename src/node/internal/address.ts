/**
 * Addresses as people type them, in settings and on the command line.
 */
import type { NodeFastCgiListenerOptions } from "./listenerOptions.ts"

/** The forms that `parseAddress` takes, for a sentence. */
export const addressForms =
  "a UNIX socket path (/run/app.sock, ./app.sock, unix:app.sock), HOST:PORT, [::1]:PORT, :PORT, PORT or fcgi://HOST:PORT"

/** A UNIX socket or a port. */
export type Place = { readonly path: string } | { readonly host?: string | undefined; readonly port: number }

/** Where to connect to, or `undefined` when the text is no address. */
export const parseAddress = (text: string): Place | undefined => {
  const rest = scheme.exec(text)?.[1]
  // fcgi:///run/app.sock has no host, and no address has a path behind one.
  if (rest?.startsWith("/") === true) return { path: rest }
  if (rest !== undefined) return rest.includes("/") ? undefined : parsePort(rest) ?? parsePort(`${rest}:9000`)
  if (text.startsWith("unix:")) {
    const path = text.slice(text.startsWith("unix:///") ? "unix://".length : "unix:".length)
    return path === "" ? undefined : { path: abstract(path) }
  }
  if (text.startsWith("@") && text.length > 1) return { path: abstract(text) }
  if (text.includes("://")) return undefined
  return text.includes("/") ? { path: text } : parsePort(text)
}

/** Says, in a sentence, why `parseAddress` does not take a text, and suggests another one. */
export const addressMistake = (text: string): string => {
  const said = `"${text}" is no address`
  if (text === "") return `An empty text is no address: give ${addressForms}.`
  if (/^https?:/.test(text)) {
    return `${said}: that is where a web server answers. Give the socket or the port of the application behind it: ` +
      `${addressForms}.`
  }
  const port = /^(.*):(\d+)$/.exec(text)?.[2] ?? (/^\d+$/.test(text) ? text : undefined)
  if (port !== undefined && (Number(port) === 0 || Number(port) > 65535)) {
    return `${said}: a port is a number from 1 to 65535.`
  }
  const colon = text.lastIndexOf(":")
  const host = text.slice(0, colon)
  if (port !== undefined && /^[0-9a-fA-F:]+$/.test(host) && host.includes(":")) {
    return `${said}: an IPv6 address stands in brackets. Did you mean [${host}]:${port}?`
  }
  if (/\.so(ck(et)?)?$/.test(text)) return `${said}: a socket's path has a slash. Did you mean ./${text}?`
  if (/^[\w.-]+$/.test(text)) return `${said}: it has no port. Did you mean ${text}:9000, or the socket ./${text}?`
  return `${said}: give ${addressForms}.`
}

/** The file descriptor that the text names (`fd:0`), or `undefined`. */
export const parseDescriptor = (text: string): number | undefined => {
  const fd = /^fd:(\d{1,9})$/.exec(text)
  return fd === null ? undefined : Number(fd[1])
}

/** The forms that `parseListenAddress` takes, for a sentence. */
export const listenForms = `${addressForms}, fd:NUMBER, systemd or systemd:NAME`

/** Where to listen, or `undefined` when the text is no address. */
export const parseListenAddress = (text: string): NodeFastCgiListenerOptions | undefined => {
  if (text === "systemd") return { systemd: true }
  if (text.startsWith("systemd:") && text.length > "systemd:".length) return { systemd: text.slice("systemd:".length) }
  const fd = parseDescriptor(text)
  return fd === undefined ? parseAddress(text) : { fd }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const scheme = /^(?:fcgi|fastcgi|tcp):\/\/([^?#]+?)\/?$/

const parsePort = (text: string): Place | undefined => {
  const match = /^(?:(\[[0-9a-fA-F:.]+\]|[^:]*):)?(\d{1,5})$/.exec(text)
  if (match === null) return undefined
  const port = Number(match[2])
  if (port === 0 || port > 65535) return undefined
  const host = match[1]?.replace(/^\[|\]$/g, "")
  return host === undefined || host === "" ? { port } : { host, port }
}

// "@name" is how tools write an abstract socket.
const abstract = (path: string): string => path.startsWith("@") ? `\0${path.slice(1)}` : path
