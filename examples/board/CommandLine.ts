/** The options of `npm start --`. */
import { parseArgs } from "node:util"
import * as WebServer from "./WebServer.ts"

export const usage = `A notes board over FastCGI.

  npm start                          the app over FastCGI, behind a gateway in the same process
  npm start -- --behind nginx        the app over FastCGI, behind nginx (or lighttpd)
  npm start -- --http                the same app as a plain HTTP server, without FastCGI

Options
  --port <number>   port on 127.0.0.1, 0 for any free one (default 8080)
  --help            this text
`

export interface Start {
  readonly mode: "gateway" | "http" | WebServer.Name
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
  if (values.behind !== undefined) {
    const name = WebServer.names.find((name) => name === values.behind)
    if (name === undefined) return `--behind takes nginx or lighttpd, not "${values.behind}"`
    if (values.http === true) return "--behind and --http exclude each other"
    return { mode: name, port: Number(port) }
  }
  return { mode: values.http === true ? "http" : "gateway", port: Number(port) }
}
