/**
 * Addresses as people type them.
 */
import type { NodeFastCgiConnectorOptions } from "../NodeFastCgiConnector.ts"
import type { NodeFastCgiListenerOptions } from "../NodeFastCgiListener.ts"

/** The forms that `parseAddress` takes, for a sentence. */
export const addressForms = "a UNIX socket path (/run/app.sock, ./app.sock, unix:app.sock), HOST:PORT, :PORT or PORT"

/** Where to connect to, or `undefined` when the text is no address. */
export const parseAddress = (text: string): NodeFastCgiConnectorOptions | undefined => {
  if (text.startsWith("unix:")) {
    const path = text.slice("unix:".length)
    return path === "" ? undefined : { path: abstract(path) }
  }
  if (text.startsWith("@") && text.length > 1) return { path: abstract(text) }
  if (text.includes("/")) return { path: text }
  const match = /^(?:(\[[0-9a-fA-F:.]+\]|[^:]*):)?(\d{1,5})$/.exec(text)
  if (match === null) return undefined
  const port = Number(match[2])
  if (port === 0 || port > 65535) return undefined
  const host = match[1]?.replace(/^\[|\]$/g, "")
  return host === undefined || host === "" ? { port } : { host, port }
}

/** The forms that `parseListenAddress` takes, for a sentence. */
export const listenForms = `${addressForms}, fd:NUMBER, systemd or systemd:NAME`

/** What to listen on, or `undefined` when the text says nothing that can be listened on. */
export const parseListenAddress = (text: string): NodeFastCgiListenerOptions | undefined => {
  if (text === "systemd") return { systemd: true }
  if (text.startsWith("systemd:") && text.length > "systemd:".length) return { systemd: text.slice("systemd:".length) }
  const fd = /^fd:(\d{1,9})$/.exec(text)
  return fd === null ? parseAddress(text) : { fd: Number(fd[1]) }
}

// "@name" is how tools write an abstract socket.
const abstract = (path: string): string => path.startsWith("@") ? `\0${path.slice(1)}` : path
