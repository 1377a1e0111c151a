/**
 * Two applications, as on two hosts, behind one web server, and what becomes of requests when one of the two dies, is stopped, or
 * is replaced by its next version, while clients keep asking.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { onPath } from "../../support/programs.ts"
import * as WebServers from "../../support/webServers.ts"
import * as Application from "./application.ts"
import { type Seen, startClients } from "./clients.ts"
import { type Address, type Places, type Setup, type WebServer, wholeFile } from "./scaleOutSetups.ts"

/** What happens under load. */
export type Event =
  /** The first application is killed with SIGKILL. */
  | "kill"
  /** The first application is stopped with SIGTERM. */
  | "stop"
  /** One after the other is stopped with SIGTERM and started again. */
  | "restart"

/** What the clients have seen. */
export interface Tally extends Seen {
  /** Requests that applications have begun to handle more than once. */
  readonly repeated: number
}

export interface Options {
  readonly setup: Setup
  readonly method: "GET" | "POST"
  readonly event: Event
  /** How many right answers come after the event, if they come within `patience`. Default 1200. */
  readonly answers?: number | undefined
  /** Default five seconds: where most requests fail or stall, that has been seen by then. */
  readonly patience?: Duration.Input | undefined
}

const clients = 12

// How long the application takes for a request. Milliseconds.
const delay = 20

// Answers that come before the event.
const before = 300

/** Runs one experiment. Fails when it cannot be run, not when requests fail. */
export const experiment = ({ answers = 1200, event, method, patience = "5 seconds", setup }: Options): Effect.Effect<
  Tally,
  WebServers.ProgramError | Application.NotSaid,
  Scope.Scope
> =>
  Effect.gen(function*() {
    const folder = yield* WebServers.temporaryDirectory
    // Apache gives up being root, and has to reach its files all the same.
    Fs.chmodSync(folder, 0o755)
    const appPort = yield* WebServers.freePort
    const port = yield* WebServers.freePort
    const addresses = [{ host: "127.0.0.2", port: appPort }, { host: "127.0.0.3", port: appPort }] as const

    const applications: Array<Application.Application> = []
    let started = 0
    const start = ({ host, port }: Address) =>
      Effect.suspend(() => {
        const control = Path.join(folder, `control-${++started}.sock`)
        return Application.start(control, "--host", host, "--port", String(port))
      }).pipe(Effect.tap((application) => Effect.sync(() => applications.push(application))))
    const [first, second] = yield* Effect.all([start(addresses[0]), start(addresses[1])], { concurrency: 2 })
    yield* startServer(setup, { folder, port, first: addresses[0], second: addresses[1] })

    const load = yield* startClients({ port, method, clients, delay })
    yield* load.answers(before)
    yield* WebServers.until("requests at the first application", () => first.begun().length >= 50)
    switch (event) {
      case "kill":
        yield* first.program.stop("SIGKILL")
        break
      case "stop":
        yield* stop(first)
        break
      case "restart":
        for (const [application, address] of [[first, addresses[0]], [second, addresses[1]]] as const) {
          yield* stop(application)
          const successor = yield* start(address)
          yield* WebServers.until(
            `requests at the application that was started again at ${address.host}`,
            () => successor.begun().length >= 50
          )
        }
    }
    yield* Effect.timeoutOption(load.answers(answers), patience)
    const seen = yield* load.stop

    const begun = applications.flatMap((application) => application.begun())
    return { ...seen, repeated: begun.length - new Set(begun).size }
  })

const stop = ({ program }: Application.Application) =>
  Effect.flatMap(program.stop("SIGTERM"), ({ code, signal }) =>
    code === 0
      ? Effect.void
      : Effect.fail(
        new WebServers.ProgramError({
          message: `the application ended with ${signal ?? code} instead of 0\n${program.log()}`
        })
      ))

const commandLines: Record<WebServer, (file: string, folder: string) => ReadonlyArray<string>> = {
  nginx: (file, folder) => ["-e", "stderr", "-p", folder, "-c", file],
  haproxy: (file) => ["-db", "-f", file],
  apache2: (file) => ["-D", "FOREGROUND", "-f", file],
  lighttpd: (file) => ["-D", "-f", file],
  caddy: (file) => ["run", "--adapter", "caddyfile", "--config", file]
}

const startServer = (setup: Setup, places: Places) =>
  Effect.suspend(() => {
    const file = Path.join(places.folder, "server.conf")
    Fs.writeFileSync(file, wholeFile(setup, places))
    return WebServers.start({
      name: setup.server,
      command: onPath(setup.server) ?? setup.server,
      args: commandLines[setup.server](file, places.folder),
      // Caddy writes to its home.
      env: { HOME: places.folder },
      ready: WebServers.accepts({ host: "127.0.0.1", port: places.port })
    })
  })
