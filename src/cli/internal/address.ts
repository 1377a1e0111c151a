/**
 * Addresses as people type them.
 */
import type { NodeFastCgiConnectorOptions } from "../../node/NodeFastCgiConnector.ts"

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

// "@name" is how tools write an abstract socket.
const abstract = (path: string): string => path.startsWith("@") ? `\0${path.slice(1)}` : path
