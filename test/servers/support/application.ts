/**
 * The application under test as the test sees it: started as a child process, or by a web server, and in conversation with the
 * test over a socket of its own.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { programFile } from "../../support/programFile.ts"
import * as WebServers from "../../support/webServers.ts"
import { type Command, type Event, type Measures, splitLines } from "./messages.ts"

/** The program to start, with the option that makes it talk to the test. */
export const command = (control: string, ...args: ReadonlyArray<string>): ReadonlyArray<string> => [
  "--expose-gc",
  programFile("test/servers/app.ts"),
  "--control",
  control,
  ...args
]

/** An application did not say what the test waits for. */
export class NotSaid extends Data.TaggedError("NotSaid")<{ readonly message: string }> {}

/** The conversation with all processes of the application that know the path. */
export interface Conversation {
  /** The socket that an application has to be told of. */
  readonly path: string
  /** An id for a request that no other has. */
  readonly id: () => string
  /** Waits for something that is said about the request, or was said. */
  readonly hears: <Tag extends Event["_tag"]>(
    tag: Tag,
    id: string,
    within?: number
  ) => Effect.Effect<Extract<Event, { readonly _tag: Tag }>, NotSaid>
  /** Waits until so many processes have started, and gives their ids. */
  readonly started: (count: number) => Effect.Effect<ReadonlyArray<number>, NotSaid>
  /** Where all that have started listen. */
  readonly addresses: () => ReadonlyArray<string>
  /** The ids of all requests whose handlers have begun, as often as they have. */
  readonly begun: () => ReadonlyArray<string>
  readonly say: (command: Command) => Effect.Effect<void>
  /** What the application has in use; for an application of one process. */
  readonly measure: Effect.Effect<Measures, NotSaid>
}

/** Listens for applications. `within` is in milliseconds, by default a minute, which only a hang takes. */
export const converse = (path: string): Effect.Effect<Conversation, never, Scope.Scope> =>
  Effect.gen(function*() {
    const events: Array<Event> = []
    const waiting = new Set<() => void>()
    const peers = new Set<Net.Socket>()
    const server = Net.createServer((socket) => {
      peers.add(socket)
      socket.on("close", () => peers.delete(socket))
      socket.on("error", () => socket.destroy())
      socket.setEncoding("utf8").on(
        "data",
        splitLines((line) => {
          events.push(JSON.parse(line) as Event)
          for (const look of waiting) look()
        })
      )
    })
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => {
        server.listen(path, () => resume(Effect.void))
      }),
      () =>
        Effect.sync(() => {
          server.close()
          for (const socket of peers) socket.destroy()
        })
    )
    // Whoever runs the application need not be the user who runs the test.
    Fs.chmodSync(path, 0o777)

    const wait = <A>(what: string, look: () => A | undefined, within = 60_000): Effect.Effect<A, NotSaid> =>
      Effect.callback<A>((resume) => {
        const again = () => {
          const found = look()
          if (found === undefined) return
          waiting.delete(again)
          resume(Effect.succeed(found))
        }
        waiting.add(again)
        again()
        return Effect.sync(() => waiting.delete(again))
      }).pipe(Effect.timeoutOrElse({
        duration: within,
        orElse: () =>
          Effect.fail(
            new NotSaid({
              message: `${what}: not said within ${within} ms. The last that was said: ${
                JSON.stringify(events.slice(-10))
              }`
            })
          )
      }))

    let last = 0
    const id = () => `r${++last}`
    const hears: Conversation["hears"] = (tag, id, within) =>
      wait(
        `${tag} ${id}`,
        () => events.find((event) => event._tag === tag && "id" in event && event.id === id) as never,
        within
      )
    const say = (command: Command) =>
      Effect.sync(() => {
        for (const socket of peers) socket.write(`${JSON.stringify(command)}\n`)
      })
    return {
      path,
      id,
      hears,
      started: (count) =>
        wait(`Started by ${count} processes`, () => {
          const pids = events.flatMap((event) => event._tag === "Started" ? [event.pid] : [])
          return pids.length < count ? undefined : pids
        }),
      addresses: () => events.flatMap((event) => event._tag === "Started" ? [event.address] : []),
      begun: () => events.flatMap((event) => event._tag === "Begun" ? [event.id] : []),
      say,
      measure: Effect.suspend(() => {
        const measured = id()
        return Effect.andThen(
          say({ _tag: "Measure", id: measured }),
          Effect.map(hears("Measured", measured), (event) => event.measures)
        )
      })
    }
  })

/** An application of one process that listens on its own. */
export interface Application extends Conversation {
  readonly program: WebServers.Program
}

/** Starts the application with these arguments and waits until it serves. */
export const start = (
  control: string,
  ...args: ReadonlyArray<string>
): Effect.Effect<Application, WebServers.ProgramError | NotSaid, Scope.Scope> =>
  Effect.gen(function*() {
    const conversation = yield* converse(control)
    const program = yield* WebServers.start({
      name: "the application",
      command: process.execPath,
      args: command(control, ...args),
      ready: conversation.started(1)
    })
    return { ...conversation, program }
  })
