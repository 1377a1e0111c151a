/**
 * A site whose application listens on its own, on a UNIX socket and on a port, with a web server in front of it that serves every
 * row of the matrix at a port of its own.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Path from "node:path"
import * as WebServers from "../../support/webServers.ts"
import * as Application from "./application.ts"
import { type Row, Site } from "./site.ts"

/** Where a row is served, and where its application is. */
export interface Places {
  readonly port: number
  readonly socket: string
  readonly appPort: number
  /** The number of the row, for names that no other row has. */
  readonly index: number
}

/**
 * Starts an application of one process, and the web server by `start`, which gets the part of its configuration that `configure`
 * makes of each row, and the ports at which it has to accept.
 */
export const siteLayer = <R extends Row>(
  rows: ReadonlyArray<R>,
  configure: (row: R, places: Places) => string,
  start: (
    folder: string,
    parts: ReadonlyArray<string>,
    ports: ReadonlyArray<number>
  ) => Effect.Effect<WebServers.Program, WebServers.ProgramError, Scope.Scope>
) =>
  Layer.effect(
    Site,
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const socket = Path.join(folder, "app.sock")
      const appPort = yield* WebServers.freePort
      const application = yield* Application.start(
        Path.join(folder, "control.sock"),
        "--path",
        socket,
        "--port",
        String(appPort)
      )
      const ports = new Map<string, number>()
      const parts: Array<string> = []
      for (const row of rows) {
        const port = yield* WebServers.freePort
        ports.set(row.name, port)
        parts.push(configure(row, { port, socket, appPort, index: parts.length }))
      }
      const server = yield* start(folder, parts, [...ports.values()])
      return Site.of({ server, folder, application, port: (row) => ports.get(row.name)! })
    })
  )
