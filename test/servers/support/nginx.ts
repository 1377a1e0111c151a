/**
 * nginx in front of the application: one process, with a server block for every row of the matrix.
 */
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../../support/files.ts"
import * as WebServers from "../../support/webServers.ts"
import type { Differences, Row } from "./site.ts"
import { siteLayer } from "./siteLayer.ts"

export interface NginxRow extends Row {
  /** The server block, with the places to listen at and to connect to left open. */
  readonly server: (places: Places) => string
}

interface Places {
  readonly port: number
  readonly socket: string
  readonly appPort: number
  /** A name for an `upstream` that no other row has. */
  readonly upstream: string
}

/** The snippet of docs/nginx.md, at other places. */
const documented = (title: string) => ({ port, socket, upstream }: Places) =>
  WebServers.fill(
    WebServers.documented(Fs.readFileSync(Path.join(projectRoot, "docs/nginx.md"), "utf8"), "nginx", title),
    [
      ["listen 80;", `listen 127.0.0.1:${port};`],
      ["unix:/run/app/app.sock", `unix:${socket}`],
      ["upstream app ", `upstream ${upstream} `],
      ["fastcgi_pass app;", `fastcgi_pass ${upstream};`],
      ["include fastcgi_params;", "include /etc/nginx/fastcgi_params;"]
    ]
  )

interface Options {
  readonly transport: "UNIX" | "TCP"
  readonly keepConnection: boolean
  readonly buffering: boolean
  readonly requestBuffering: boolean
}

const onOff = (value: boolean) => value ? "on" : "off"

const serverBlock = (options: Options) => ({ appPort, port, socket, upstream }: Places) => {
  const address = options.transport === "UNIX" ? `unix:${socket}` : `127.0.0.1:${appPort}`
  return `
  ${options.keepConnection ? `upstream ${upstream} { server ${address}; keepalive 64; }` : ""}
  server {
    listen 127.0.0.1:${port} backlog=511;
    client_max_body_size 0;
    location / {
      include /etc/nginx/fastcgi_params;
      fastcgi_pass ${options.keepConnection ? upstream : address};
      fastcgi_keep_conn ${onOff(options.keepConnection)};
      fastcgi_buffering ${onOff(options.buffering)};
      fastcgi_request_buffering ${onOff(options.requestBuffering)};
    }
  }`
}

const headerLimit = [4087, "fastcgi_buffer_size is one page unless it is set, and the head has to fit in"] as const

const pathDifferences: Differences = {
  paths: {
    "/nul%00byte": [400, "nginx refuses %00 in a path"],
    "/bad%zzescape": [400, "nginx refuses a % that no hexadecimal number follows"]
  }
}

const buffered = "fastcgi_buffering is on, so nginx collects until a buffer is full"

const unbufferedRequests: Differences = {
  chunksHaveNoLength: "nginx passes the body on before it knows its length",
  silentDuringRequest:
    "without fastcgi_request_buffering, nginx does not look at its client while it cannot pass the body on"
}

const differences = (options: Options): Differences => ({
  ...pathDifferences,
  maxResponseHeaders: headerLimit,
  ...(options.buffering ? { responsesArrive: ["with X-Accel-Buffering", buffered] as const } : {}),
  ...(options.requestBuffering ? {} : unbufferedRequests)
})

const booleans = [true, false]

/** All combinations of what changes how nginx speaks to the application. */
export const matrix: ReadonlyArray<NginxRow> = (["UNIX", "TCP"] as const).flatMap((transport) =>
  booleans.flatMap((keepConnection) =>
    booleans.flatMap((buffering) =>
      booleans.map((requestBuffering) => {
        const options = { transport, keepConnection, buffering, requestBuffering }
        return {
          name: `${transport}, keep_conn ${onOff(keepConnection)}, buffering ${onOff(buffering)}, ` +
            `request_buffering ${onOff(requestBuffering)}`,
          server: serverBlock(options),
          differences: differences(options)
        }
      })
    )
  )
)

/** What docs/nginx.md says. */
export const pages: ReadonlyArray<NginxRow> = [
  {
    name: "docs/nginx.md, the smallest configuration",
    server: documented("the smallest good configuration"),
    differences: {
      ...pathDifferences,
      responsesArrive: ["with X-Accel-Buffering", buffered]
    }
  },
  {
    name: "docs/nginx.md, streaming both ways",
    server: documented("streaming both ways"),
    differences: {
      ...pathDifferences,
      ...unbufferedRequests
    }
  }
]

/** Starts nginx and an application of one process behind it, for the rows. */
export const layer = (nginx: string, rows: ReadonlyArray<NginxRow>) =>
  siteLayer(
    rows,
    (row, places) => row.server({ ...places, upstream: `app${places.index}` }),
    (folder, parts, ports) => start(nginx, folder, parts, ports)
  )

/** Starts nginx with these server blocks and waits until it accepts at all their ports. */
export const start = (
  nginx: string,
  folder: string,
  blocks: ReadonlyArray<string>,
  ports: ReadonlyArray<number>,
  /** Who connects to the application. Default who runs the tests. */
  user = process.getuid?.() === 0 ? "root root" : undefined
) =>
  Effect.suspend(() => {
    const file = Path.join(folder, "nginx.conf")
    Fs.writeFileSync(file, configuration(folder, blocks, user))
    return WebServers.start({
      name: "nginx",
      command: nginx,
      args: ["-e", "stderr", "-p", folder, "-c", file],
      stopSignal: "SIGQUIT",
      ready: Effect.forEach(ports, (port) => WebServers.accepts({ host: "127.0.0.1", port }))
    })
  })

// What any nginx needs to run in the foreground in a folder of its own, with or without root.
const configuration = (folder: string, blocks: ReadonlyArray<string>, user: string | undefined): string => {
  const temporary = ["client_body", "fastcgi", "proxy", "uwsgi", "scgi"]
    .map((name) => `  ${name}_temp_path ${Path.join(folder, name)};`)
  return [
    "daemon off;",
    "worker_processes 1;",
    ...(user === undefined ? [] : [`user ${user};`]),
    `pid ${Path.join(folder, "nginx.pid")};`,
    "error_log stderr notice;",
    "events { worker_connections 4096; }",
    "http {",
    "  access_log off;",
    ...temporary,
    ...blocks,
    "}",
    ""
  ].join("\n")
}
