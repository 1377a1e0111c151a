/** The options of `npm start --`. */
import { isIP } from "node:net"
import { parseArgs } from "node:util"
import * as WebServer from "./WebServer.ts"

export const usage = `A notes board over FastCGI.

  npm start                          the app over FastCGI, behind a gateway in the same process
  npm start -- --behind nginx        the app over FastCGI, behind nginx (or lighttpd)
  npm start -- --http                the same app as a plain HTTP server, without FastCGI

Options
  --host <address>  the IP address to listen on; 0.0.0.0 means all of IPv4 (default 127.0.0.1)
  --port <number>   the port; 0 means any free one (default 8080)
  --help            print this text

The server keeps notes in memory and files in a temporary folder. Both are gone when the server stops. Anybody who can
reach the address can write, upload and delete, so use a --host that others can reach only among friends.
`

export interface Start {
  readonly mode: "gateway" | "http" | WebServer.Name
  /** An IP address. */
  readonly host: string
  readonly port: number
}

export type Options = Start | { readonly mode: "help" }

/** The options, or a sentence that says what is wrong with them. */
export const parse = (args: ReadonlyArray<string>): Options | string => {
  let values
  try {
    values = parseArgs({
      args: [...args],
      options: {
        behind: { type: "string" },
        help: { type: "boolean", short: "h" },
        host: { type: "string" },
        http: { type: "boolean" },
        port: { type: "string" }
      }
    }).values
  } catch (error) {
    return error instanceof Error ? error.message.replace(/\.? To specify.*$/s, "") : String(error)
  }
  if (values.help === true) return { mode: "help" }
  const port = values.port ?? "8080"
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65535) return `--port takes a number from 0 to 65535, not "${port}"`
  const host = values.host === "localhost" ? "127.0.0.1" : values.host ?? "127.0.0.1"
  // A zone (fe80::1%eth0) is nothing that web servers have one notation for.
  if (isIP(host) === 0 || host.includes("%")) {
    return `--host takes an IP address, such as 127.0.0.1, 0.0.0.0 or ::1, not "${host}"`
  }
  if (values.behind !== undefined) {
    const name = WebServer.names.find((name) => name === values.behind)
    if (name === undefined) return `--behind takes nginx or lighttpd, not "${values.behind}"`
    if (values.http === true) return "--behind and --http exclude each other"
    return { mode: name, host, port: Number(port) }
  }
  return { mode: values.http === true ? "http" : "gateway", host, port: Number(port) }
}
