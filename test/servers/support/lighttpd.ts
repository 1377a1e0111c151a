/**
 * lighttpd in front of the application: one process, with a port for every way to stream.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as WebServers from "../../support/webServers.ts"
import * as Application from "./application.ts"
import { type Differences, type Row, Site } from "./site.ts"

export interface LighttpdRow extends Row {
  /** `server.stream-request-body` and `server.stream-response-body`. */
  readonly stream: 0 | 1 | 2
}

const whole = "without server.stream-response-body, lighttpd collects the whole response first"

const control = "lighttpd refuses control characters"

const differences = (stream: 0 | 1 | 2): Differences => ({
  getHasLength: "lighttpd sends CONTENT_LENGTH=0 for a request without a body",
  paths: {
    "/gr%FC%DFe": [400, "lighttpd refuses what is not UTF-8"],
    "/a%0d%0ab": [400, control],
    "/nul%00byte": [400, control]
  },
  queries: { "?x=%0d%0a": [400, control], "?x=%00": [400, control] },
  maxResponseHeaders: [65_535, "lighttpd takes at most 64 KiB"],
  silentBeforeResponse: "lighttpd looks after its client when it has something to write to it",
  ...(stream === 0
    ? {
      responsesArrive: ["at its end", whole],
      silentDuringResponse: whole,
      addsLength: whole,
      cutLooksComplete: whole
    }
    : {
      noticesAtNextWrite: "lighttpd takes the end of what a client sends for no more than that",
      refusesChunks: [411, "with server.stream-request-body lighttpd wants to know the length beforehand"]
    })
})

/** The ways to stream. */
export const matrix: ReadonlyArray<LighttpdRow> = ([0, 1, 2] as const).map((stream) => ({
  name: `stream-request-body ${stream}, stream-response-body ${stream}`,
  stream,
  differences: differences(stream)
}))

/** How lighttpd reaches the application. */
export type Backend = "UNIX" | "TCP" | "bin-path"

/** Starts lighttpd and, behind it, an application of one process, or of two that lighttpd starts. */
export const layer = (lighttpd: string, backend: Backend, rows: ReadonlyArray<LighttpdRow> = matrix) =>
  Layer.effect(
    Site,
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const socket = Path.join(folder, "app.sock")
      const control = Path.join(folder, "control.sock")
      const appPort = yield* WebServers.freePort
      const application: Application.Conversation = backend === "bin-path"
        ? yield* Application.converse(control)
        : backend === "UNIX"
        ? yield* Application.start(control, "--path", socket)
        : yield* Application.start(control, "--port", String(appPort))
      const ports = new Map<string, number>()
      for (const row of rows) ports.set(row.name, yield* WebServers.freePort)
      const file = Path.join(folder, "lighttpd.conf")
      Fs.writeFileSync(
        file,
        configuration(
          folder,
          rows.map((row) => [ports.get(row.name)!, row.stream]),
          backend === "UNIX"
            ? `"socket" => "${socket}"`
            : backend === "TCP"
            ? `"host" => "127.0.0.1", "port" => ${appPort}`
            : `"socket" => "${socket}", "max-procs" => 2, ` +
              `"bin-path" => "${[process.execPath, ...Application.command(control)].join(" ")}"`
        )
      )
      const server = yield* WebServers.start({
        name: "lighttpd",
        command: lighttpd,
        args: ["-D", "-f", file],
        ready: Effect.forEach(ports.values(), (port) => WebServers.accepts({ host: "127.0.0.1", port }))
      })
      yield* application.started(backend === "bin-path" ? 2 : 1)
      return Site.of({ server, folder, application, port: (row) => ports.get(row.name)! })
    })
  )

const configuration = (
  folder: string,
  rows: ReadonlyArray<readonly [port: number, stream: number]>,
  backend: string
): string => {
  const [first, ...others] = rows
  const streaming = ([_, stream]: readonly [number, number]) =>
    `server.stream-request-body = ${stream}\nserver.stream-response-body = ${stream}\n`
  return `server.modules += ( "mod_fastcgi" )
server.document-root = "${folder}"
server.upload-dirs = ( "${folder}" )
server.bind = "127.0.0.1"
server.port = ${first![0]}
server.max-keep-alive-requests = 1000000
${streaming(first!)}
${others.map((row) => `$SERVER["socket"] == "127.0.0.1:${row[0]}" {\n${streaming(row)}}\n`).join("")}
fastcgi.server = ( "/" => (( ${backend}, "check-local" => "disable", "fix-root-scriptname" => "enable" )) )
`
}
