/**
 * HAProxy in front of the application: one process, with a frontend for every row of the matrix.
 */
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../../support/files.ts"
import * as WebServers from "../../support/webServers.ts"
import type { Differences, Row } from "./site.ts"
import { siteLayer } from "./siteLayer.ts"

export interface HAProxyRow extends Row {
  /** The sections of the configuration, with the places to listen at and to connect to left open. */
  readonly sections: (places: Places) => string
}

interface Places {
  readonly port: number
  readonly socket: string
  readonly appPort: number
  /** What the names of the sections end with, so that no other row has them. */
  readonly suffix: string
}

/** The snippet of docs/haproxy.md, at other places and under other names. */
const documented = (title: string) => ({ port, socket, suffix }: Places) =>
  WebServers.fill(
    WebServers.documented(Fs.readFileSync(Path.join(projectRoot, "docs/haproxy.md"), "utf8"), "haproxy", title),
    [
      ["bind :80", `bind 127.0.0.1:${port}`],
      ["unix@/run/app/app.sock", `unix@${socket}`],
      ["fcgi-app app\n", `fcgi-app app${suffix}\n`],
      ["frontend web\n", `frontend web${suffix}\n`],
      ["backend app\n", `backend app${suffix}\n`]
    ]
  )

/** How HAProxy uses its connections to the application: for one request, for one after the other, for several at once. */
type Connections = "once" | "keep-conn" | "mpxs-conns"

/** Requests on a multiplexed connection: few, so that a load needs several connections, and that the limit shows. */
export const maxRequests = 12

const options: Readonly<Record<Connections, string>> = {
  once: "no option keep-conn",
  "keep-conn": "option keep-conn",
  "mpxs-conns": `option keep-conn\n  option mpxs-conns\n  option get-values\n  option max-reqs ${maxRequests}`
}

export const sections =
  (transport: "UNIX" | "TCP", connections: Connections) => ({ appPort, port, socket, suffix }: Places) => `
fcgi-app app${suffix}
  docroot /srv/www
  log-stderr global
  pass-header Authorization
  ${options[connections]}
frontend web${suffix}
  bind 127.0.0.1:${port} backlog 511
  default_backend app${suffix}
backend app${suffix}
  use-fcgi-app app${suffix}
  http-reuse always
  retry-on conn-failure empty-response
  server app ${transport === "UNIX" ? `unix@${socket}` : `127.0.0.1:${appPort}`} proto fcgi
`

const url = "HAProxy refuses other bytes than ASCII in a URL"

const differences = (connections: Connections): Differences => ({
  getHasLength: "HAProxy sends CONTENT_LENGTH=0 for a request without a body",
  refusesChunks: [400, "HAProxy wants to know the length, and its buffer has 16 KiB", 10_000],
  paths: {
    [Buffer.from("/grüße", "utf8").toString("latin1")]: [400, url],
    "/bad%zzescape": [500, "HAProxy can not decode the path, and aborts the request"]
  },
  ...(connections === "mpxs-conns"
    ? {
      cutCostsTheNext: "HAProxy may put the next request on the connection that just ends, and does not repeat it",
      slowClientHoldsUpOthers: "HAProxy reads nothing for others on the connection while its buffer for one is full"
    }
    : {}),
  silentBeforeResponse: "HAProxy looks after its client when it has something to write to it",
  noticesAfterWrites: connections === "once"
    ? [2, "the first write to a client that has gone tells HAProxy, the second fails"]
    : [3, "HAProxy closes a connection that it keeps when something comes that nobody waits for any more"]
})

/** All combinations of what changes how HAProxy speaks to the application. */
export const matrix: ReadonlyArray<HAProxyRow> = (["UNIX", "TCP"] as const).flatMap((transport) =>
  (["once", "keep-conn", "mpxs-conns"] as const).map((connections) => ({
    name: `${transport}, ${connections}`,
    sections: sections(transport, connections),
    differences: differences(connections)
  }))
)

/** What docs/haproxy.md says. */
export const pages: ReadonlyArray<HAProxyRow> = [
  {
    name: "docs/haproxy.md, the smallest good configuration",
    sections: documented("the smallest good configuration"),
    differences: differences("keep-conn")
  }
]

/** Starts HAProxy and an application of one process behind it, for the rows. */
export const layer = (haproxy: string, rows: ReadonlyArray<HAProxyRow>) =>
  siteLayer(
    rows,
    (row, places) => row.sections({ ...places, suffix: String(places.index) }),
    (folder, parts, ports) => start(haproxy, folder, parts, ports)
  )

/** Starts HAProxy with these sections and waits until it accepts at all their ports. */
export const start = (
  haproxy: string,
  folder: string,
  sections: ReadonlyArray<string>,
  ports: ReadonlyArray<number>,
  options: {
    /** Lines of the section `global`. */
    readonly global?: string
    /** Default: one process in the foreground. */
    readonly args?: ReadonlyArray<string>
  } = {}
) =>
  Effect.suspend(() => {
    const file = Path.join(folder, "haproxy.cfg")
    Fs.writeFileSync(file, configuration(sections, options.global))
    return WebServers.start({
      name: "haproxy",
      command: haproxy,
      args: [...(options.args ?? ["-db"]), "-f", file],
      ready: Effect.forEach(ports, (port) => WebServers.accepts({ host: "127.0.0.1", port }))
    })
  })

// What any HAProxy needs to say what happens. The timeouts are those of Debian's configuration.
const configuration = (sections: ReadonlyArray<string>, global = ""): string =>
  [
    "global",
    "  log stderr format raw local0",
    global,
    "defaults",
    "  mode http",
    "  log global",
    "  option httplog",
    "  option http-no-delay",
    "  timeout connect 5s",
    "  timeout client 50s",
    "  timeout server 50s",
    ...sections,
    ""
  ].join("\n")
