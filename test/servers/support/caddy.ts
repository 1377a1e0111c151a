/**
 * Caddy in front of the application: one process, with a site for every row of the matrix.
 */
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../../support/files.ts"
import * as WebServers from "../../support/webServers.ts"
import type { Differences, Row } from "./site.ts"
import { siteLayer } from "./siteLayer.ts"

export interface CaddyRow extends Row {
  /** The site block, with the places to listen at and to connect to left open. */
  readonly site: (places: Places) => string
}

interface Places {
  readonly port: number
  readonly socket: string
  readonly appPort: number
}

/** The snippet of docs/caddy.md, at other places. */
const documented = (title: string) => ({ port, socket }: Places) =>
  WebServers.fill(
    WebServers.documented(Fs.readFileSync(Path.join(projectRoot, "docs/caddy.md"), "utf8"), "caddyfile", title),
    [
      ["www.example.org {", `http://:${port} {\n\tbind 127.0.0.1`],
      ["unix//run/app/app.sock", `unix/${socket}`]
    ]
  )

interface Options {
  readonly transport: "UNIX" | "TCP"
  readonly flush: boolean
}

const siteBlock = ({ flush, transport }: Options) => ({ appPort, port, socket }: Places) =>
  `http://:${port} {
	bind 127.0.0.1
	request_header -Proxy
	reverse_proxy ${transport === "UNIX" ? `unix/${socket}` : `127.0.0.1:${appPort}`} {
		${flush ? "flush_interval -1" : ""}
		header_down -Status
		transport fastcgi {
			root /srv/www
			capture_stderr
		}
	}
}
`

const url = "Caddy refuses what it can not decode"

const differences = (transport: Options["transport"], flush: boolean): Differences => ({
  getHasLength: "Caddy sends CONTENT_LENGTH=0 for a request without a body",
  chunksHaveNoLength: "Caddy passes the body on before it knows its length, and says CONTENT_LENGTH=-1",
  paths: { "/nul%00byte": [400, url], "/bad%zzescape": [400, url] },
  passesUnderscores: "Caddy passes them on",
  silentBeforeResponse: "Caddy looks after its client when it has something to write to it",
  noticesAfterWrites: [
    4,
    "Caddy notices that a client has gone when it fails to write to it, and writes behind two buffers"
  ],
  ...(transport === "UNIX"
    ? { cutLooksComplete: "Caddy takes the end of a connection for the end of a response" }
    : {
      cutMayLookComplete: "Caddy takes the end of a connection for the end of a response, unless a reset comes first"
    }),
  losesStderr: "Caddy 2.6 logs nothing of it, with and without capture_stderr",
  ...(flush
    ? {}
    : { responsesArrive: ["events only", "without flush_interval -1 Caddy fills a buffer of 4 KiB first"] })
})

/** All combinations of what changes how Caddy speaks to the application and to its client. */
export const matrix: ReadonlyArray<CaddyRow> = (["UNIX", "TCP"] as const).flatMap((transport) =>
  [true, false].map((flush) => ({
    name: `${transport}, ${flush ? "flush_interval -1" : "buffered"}`,
    site: siteBlock({ transport, flush }),
    differences: differences(transport, flush)
  }))
)

/** What docs/caddy.md says. */
export const pages: ReadonlyArray<CaddyRow> = [
  {
    name: "docs/caddy.md, the smallest good configuration",
    site: documented("the smallest good configuration"),
    differences: differences("UNIX", true)
  }
]

/** Starts Caddy and an application of one process behind it, for the rows. */
export const layer = (caddy: string, rows: ReadonlyArray<CaddyRow>) =>
  siteLayer(rows, (row, places) => row.site(places), (folder, parts, ports) => start(caddy, folder, parts, ports))

/** Starts Caddy with these site blocks and waits until it accepts at all their ports. */
export const start = (
  caddy: string,
  folder: string,
  blocks: ReadonlyArray<string>,
  ports: ReadonlyArray<number>
) =>
  Effect.suspend(() => {
    const file = Path.join(folder, "Caddyfile")
    Fs.writeFileSync(file, configuration(folder, blocks))
    return WebServers.start({
      name: "caddy",
      command: caddy,
      args: ["run", "--config", file, "--adapter", "caddyfile"],
      // It writes nowhere else.
      env: { HOME: folder, XDG_CONFIG_HOME: folder, XDG_DATA_HOME: folder },
      ready: Effect.forEach(ports, (port) => WebServers.accepts({ host: "127.0.0.1", port }))
    })
  })

// What any Caddy needs to run beside others: no administration, no certificates, nothing but HTTP/1.1 and HTTP/2.
const configuration = (folder: string, blocks: ReadonlyArray<string>): string =>
  [
    "{",
    "\tadmin off",
    "\tauto_https off",
    `\tstorage file_system ${Path.join(folder, "data")}`,
    "\tlog {",
    "\t\toutput stderr",
    "\t\tlevel INFO",
    "\t}",
    "}",
    ...blocks,
    ""
  ].join("\n")
