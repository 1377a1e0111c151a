/**
 * h2o in front of the application: one process, with a host for every row of the matrix.
 */
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../../support/files.ts"
import * as WebServers from "../../support/webServers.ts"
import type { Differences, Row } from "./site.ts"
import { siteLayer } from "./siteLayer.ts"

export interface H2oRow extends Row {
  /** The entry of `hosts`, with the places to listen at and to connect to left open. */
  readonly host: (places: Places) => string
}

interface Places {
  readonly port: number
  readonly socket: string
  readonly appPort: number
}

/** The snippet of docs/h2o.md, at other places. */
const documented = (title: string) => ({ port, socket }: Places) =>
  WebServers.fill(
    WebServers.documented(Fs.readFileSync(Path.join(projectRoot, "docs/h2o.md"), "utf8"), "yaml", title),
    [
      ["hosts:\n", ""],
      ["\"www.example.org\":", `"127.0.0.1:${port}":`],
      ["port: 80\n", `port: ${port}\n      host: 127.0.0.1\n`],
      ["/run/app/app.sock", socket]
    ]
  )

type Transport = "UNIX" | "TCP"

// Without fastcgi.timeout.keepalive: h2o 2.2.5 with it aborts when a response ends before the body of its request does.
const hostEntry = (transport: Transport) => ({ appPort, port, socket }: Places) =>
  `  "127.0.0.1:${port}":
    listen:
      port: ${port}
      host: 127.0.0.1
    paths:
      "/":
        fastcgi.connect:
${
    transport === "UNIX"
      ? `          port: ${socket}\n          type: unix`
      : `          host: 127.0.0.1\n          port: ${appPort}\n          type: tcp`
  }
`

const differences = (transport: Transport): Differences => ({
  passesUnderscores: "h2o passes them on",
  silentBeforeResponse: "h2o looks after its client when it has something to write to it",
  noticesAfterWrites: [2, "the first write to a client that has gone tells h2o, the second fails"],
  ...(transport === "UNIX"
    ? { cutLooksComplete: "h2o takes the end of a connection for the end of a response" }
    : { cutMayLookComplete: "h2o takes the end of a connection for the end of a response, unless a reset comes first" })
})

/** Both ways to the application. */
export const matrix: ReadonlyArray<H2oRow> = (["UNIX", "TCP"] as const).map((transport) => ({
  name: transport,
  host: hostEntry(transport),
  differences: differences(transport)
}))

/** What docs/h2o.md says. */
export const pages: ReadonlyArray<H2oRow> = [
  {
    name: "docs/h2o.md, the smallest good configuration",
    host: documented("the smallest good configuration"),
    differences: differences("UNIX")
  }
]

/** Starts h2o and an application of one process behind it, for the rows. */
export const layer = (h2o: string, rows: ReadonlyArray<H2oRow>) =>
  siteLayer(rows, (row, places) => row.host(places), (folder, parts, ports) => start(h2o, folder, parts, ports))

/** Starts h2o with these hosts and waits until it accepts at all their ports. */
export const start = (h2o: string, folder: string, hosts: ReadonlyArray<string>, ports: ReadonlyArray<number>) =>
  Effect.suspend(() => {
    const file = Path.join(folder, "h2o.conf")
    Fs.writeFileSync(
      file,
      [
        ...(process.getuid?.() === 0 ? ["user: root"] : []),
        `temp-buffer-path: ${folder}`,
        "num-threads: 1",
        "hosts:",
        ...hosts,
        ""
      ].join("\n")
    )
    return WebServers.start({
      name: "h2o",
      command: h2o,
      args: ["-m", "worker", "-c", file],
      // With SIGTERM it waits for its clients, who keep their connections.
      stopSignal: "SIGKILL",
      ready: Effect.forEach(ports, (port) => WebServers.accepts({ host: "127.0.0.1", port }))
    })
  })
