/**
 * An app that runs as several workers, as a program, and requests to it.
 */
import type { FastCgiWorkers } from "effect-fastcgi"
import { FastCgiHttpClient } from "effect-fastcgi/client"
import { NodeFastCgiConnector } from "effect-fastcgi/node"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpBody from "effect/http/HttpBody"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Net from "node:net"
import * as Path from "node:path"
import { programFile } from "./programFile.ts"
import * as WebServers from "./webServers.ts"

const fixture = programFile("test/node/fixtures/workers.ts")

type To = NodeFastCgiConnector.NodeFastCgiConnectorOptions

interface Options {
  readonly listen: object
  readonly workers: object
  readonly broken?: string
  readonly log?: string
  readonly status?: object
  readonly signals?: boolean
}

export const program = (
  options: Options,
  more: Partial<WebServers.ProgramOptions> = {}
): WebServers.ProgramOptions => ({
  name: "the supervisor",
  command: process.execPath,
  args: [fixture, JSON.stringify(options)],
  ...more
})

/** Starts a supervisor, and waits until all its workers serve. */
export const start = (options: Options, more?: Partial<WebServers.ProgramOptions>) =>
  Effect.tap(WebServers.start(program(options, more)), (supervisor) => supervisor.says(/workers? serves?: supervisor/))

export const get = (to: To, target: string) =>
  Effect.scoped(Effect.gen(function*() {
    const client = yield* FastCgiHttpClient.make({ connect: NodeFastCgiConnector.connect(to) })
    return yield* Effect.flatMap(client.get(`http://localhost${target}`), (response) => response.text)
  }))

export const pidOf = (to: To) => Effect.map(get(to, "/pid"), Number)

export interface Others {
  readonly status: { readonly value: FastCgiWorkers.SupervisorStatus }
  readonly reports: ReadonlyArray<FastCgiWorkers.Report<{ readonly pid: number }>>
}

export const others = (to: To) => Effect.map(get(to, "/others"), (text) => JSON.parse(text) as Others)

/**
 * Waits until so many workers have answered, and none but those that `except` has not. Many ask at once: where the operating system
 * chooses the worker, one after the other may all get the same.
 */
export const answering = (to: To, count: number, except: ReadonlyArray<number> = []) => {
  const seen = new Set<number>()
  return Effect.as(
    WebServers.eventually(
      `answers of ${count} workers`,
      Effect.flatMap(Effect.all(Array.from({ length: 16 }, () => pidOf(to)), { concurrency: "unbounded" }), (pids) => {
        for (const pid of pids) if (seen.size < count && !except.includes(pid)) seen.add(pid)
        return seen.size === count ? Effect.void : Effect.fail(`${seen.size} so far`)
      })
    ),
    seen as ReadonlySet<number>
  )
}

/** A request whose body goes on until `finish`: what it gives is the answer, with the worker's process id. */
export const upload = (to: To) =>
  Effect.gen(function*() {
    const body = yield* Queue.unbounded<Uint8Array, Cause.Done>()
    yield* Queue.offer(body, new Uint8Array(10))
    const client = yield* FastCgiHttpClient.make({ connect: NodeFastCgiConnector.connect(to) })
    const answer = yield* Effect.forkScoped(
      Effect.flatMap(
        client.post("http://localhost/read", { body: HttpBody.stream(Stream.fromQueue(body)) }),
        (response) => response.text
      ),
      { startImmediately: true }
    )
    return { finish: Effect.andThen(Queue.end(body), Fiber.join(answer)) }
  })

export const gone = (pid: number) => WebServers.until(`the end of process ${pid}`, () => !WebServers.isRunning(pid))

export const place: Effect.Effect<{ readonly path: string; readonly folder: string }, never, Scope.Scope> = Effect.map(
  WebServers.temporaryDirectory,
  (folder) => ({ folder, path: Path.join(folder, "app.sock") })
)

/** Why nobody can connect. */
export const refusal = (to: Net.NetConnectOpts): Effect.Effect<string | undefined, void> =>
  Effect.map(Effect.flip(WebServers.accepts(to)), (error: NodeJS.ErrnoException) => error.code)
