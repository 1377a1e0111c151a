/**
 * lighttpd in front of the application: one process, with a port for every way to stream.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../../support/files.ts"
import * as WebServers from "../../support/webServers.ts"
import * as Application from "./application.ts"
import { type Differences, type Row, Site } from "./site.ts"

/** `server.stream-request-body` or `server.stream-response-body`. */
type Streaming = 0 | 1 | 2

export interface LighttpdRow extends Row {
  readonly requestBody: Streaming
  readonly responseBody: Streaming
}

const whole = "without server.stream-response-body, lighttpd collects the whole response first"

const control = "lighttpd refuses control characters"

const differences = (requestBody: Streaming, responseBody: Streaming): Differences => ({
  refusesUnknownMethods: [501, "lighttpd knows its methods"],
  passesUnderscores: "lighttpd makes HTTP_X_Y of X_Y as of X-Y",
  getHasLength: "lighttpd sends CONTENT_LENGTH=0 for a request without a body",
  paths: {
    "/gr%FC%DFe": [400, "lighttpd refuses what is not UTF-8"],
    "/a%0d%0ab": [400, control],
    "/nul%00byte": [400, control]
  },
  queries: { "?x=%0d%0a": [400, control], "?x=%00": [400, control] },
  silentBeforeResponse: "lighttpd looks after its client when it has something to write to it",
  ...(requestBody === 0
    ? {}
    : { refusesChunks: [411, "with server.stream-request-body lighttpd wants to know the length beforehand"] }),
  ...(responseBody === 0
    ? {
      responsesArrive: ["at its end", whole],
      silentDuringResponse: whole,
      addsLength: whole,
      cutMayLookComplete: `${whole}, and ends it or breaks it off`
    }
    : { noticesAtNextWrite: "lighttpd takes the end of what a client sends for no more than that" })
})

/** The ways to stream. */
export const matrix: ReadonlyArray<LighttpdRow> = ([[0, 0], [1, 1], [2, 2], [0, 2]] as const).map(
  ([requestBody, responseBody]) => ({
    name: `stream-request-body ${requestBody}, stream-response-body ${responseBody}`,
    requestBody,
    responseBody,
    differences: differences(requestBody, responseBody)
  })
)

/** How lighttpd reaches the application. */
export type Backend = "UNIX" | "TCP" | "bin-path"

/** The parts of a configuration that are the same for all rows, and where the application is. */
interface Places {
  readonly folder: string
  readonly socket: string
  readonly control: string
  readonly appPort: number
}

/** Starts lighttpd with the configuration and, behind it, an application of one process, or of two that lighttpd starts. */
const site = (
  lighttpd: string,
  backend: Backend,
  rows: ReadonlyArray<LighttpdRow>,
  configuration: (places: Places, ports: ReadonlyArray<number>) => string
) =>
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
      const numbers = [...ports.values()]
      const server = yield* start(
        lighttpd,
        folder,
        numbers[0]!,
        configuration({ folder, socket, control, appPort }, numbers)
      )
      yield* Effect.mapError(
        application.started(backend === "bin-path" ? 2 : 1),
        (error) => new WebServers.ProgramError({ message: `${error.message}\n${server.log()}` })
      )
      return Site.of({ server, folder, application, port: (row) => ports.get(row.name)! })
    })
  )

/** Starts lighttpd and waits until it accepts at the port. */
export const start = (lighttpd: string, folder: string, port: number, configuration: string) =>
  Effect.suspend(() => {
    const file = Path.join(folder, "lighttpd.conf")
    Fs.writeFileSync(
      file,
      `server.document-root = "${folder}"
server.upload-dirs = ( "${folder}" )
server.bind = "127.0.0.1"
server.port = ${port}
server.max-keep-alive-requests = 1000000
${configuration}`
    )
    return WebServers.start({
      name: "lighttpd",
      command: lighttpd,
      args: ["-D", "-f", file],
      ready: WebServers.accepts({ host: "127.0.0.1", port })
    })
  })

const binPath = (control: string) => [process.execPath, ...Application.command(control)].join(" ")

/** All rows of the matrix, in one lighttpd. */
export const layer = (lighttpd: string, backend: Backend, rows: ReadonlyArray<LighttpdRow> = matrix) =>
  site(lighttpd, backend, rows, ({ appPort, control, socket }, ports) => {
    const streaming = ({ requestBody, responseBody }: LighttpdRow) =>
      `server.stream-request-body = ${requestBody}\nserver.stream-response-body = ${responseBody}\n`
    const others = rows.slice(1).map((row, i) =>
      `$SERVER["socket"] == "127.0.0.1:${ports[i + 1]}" {\n${streaming(row)}}\n`
    )
    const where = {
      UNIX: `"socket" => "${socket}"`,
      TCP: `"host" => "127.0.0.1", "port" => ${appPort}`,
      "bin-path": `"socket" => "${socket}", "max-procs" => 2, "bin-path" => "${binPath(control)}"`
    }
    return `server.modules += ( "mod_fastcgi" )
${streaming(rows[0]!)}
${others.join("")}
fastcgi.server = ( "/" => (( ${where[backend]}, "check-local" => "disable", "fix-root-scriptname" => "enable" )) )
`
  })

/** A snippet of docs/lighttpd.md, at other places. */
export const page = (lighttpd: string, backend: "UNIX" | "bin-path") => {
  const title = backend === "UNIX" ? "the smallest good configuration" : "lighttpd starts the application"
  const row: LighttpdRow = {
    name: `docs/lighttpd.md, ${title}`,
    requestBody: 0,
    responseBody: 2,
    differences: differences(0, 2)
  }
  const layer = site(lighttpd, backend, [row], ({ control, folder, socket }) => {
    const text = WebServers.documented(
      Fs.readFileSync(Path.join(projectRoot, "docs/lighttpd.md"), "utf8"),
      "lighttpd",
      title
    )
    return WebServers.fill(
      text,
      backend === "UNIX"
        ? [["/run/app/app.sock", socket]]
        : [
          ["/usr/bin/node /srv/app/main.js", binPath(control)],
          ["/run/lighttpd/app.sock", socket],
          ["/var/log/lighttpd/app.log", Path.join(folder, "app.log")]
        ]
    )
  })
  return { row, layer }
}
