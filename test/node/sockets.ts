/**
 * Raw sockets and temporary directories for the tests of this folder. Everything is closed with its scope.
 */
import type { FastCgiTransport } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import type { EventEmitter } from "node:events"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { fromSocket } from "../../src/node/internal/socketTransport.ts"
import { within } from "../support/within.ts"

/** How long the tests wait for something: what only a hang takes. Milliseconds. */
const deadline = 60_000

/** A new directory that is removed with the scope. */
export const temporaryDirectory: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "fcgi-"))),
  (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true, force: true }))
)

/** Waits for the next event of that name. Begins to listen at once, also when it is only waited for later. Dies after a minute. */
export const nextEvent = (emitter: EventEmitter, name: string): Effect.Effect<ReadonlyArray<unknown>> => {
  const promise = new Promise<ReadonlyArray<unknown>>((resolve) => {
    emitter.once(name, (...values) => resolve(values))
  })
  return within(`the event "${name}" of a ${emitter.constructor.name}`, deadline / 1000)(Effect.promise(() => promise))
}

// Where other processes have to do something first, they need the processor more than who waits for them.
const spinning = 20

/**
 * Waits until the condition holds, looking again after every turn of the event loop, and after a while every few milliseconds.
 * Dies, saying what did not come, when it does not hold within a minute.
 */
export const eventually = (condition: () => boolean, what = String(condition)): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const begin = performance.now()
    let cancelled = false
    const look = () => {
      if (cancelled) return
      if (condition()) return resume(Effect.void)
      const time = performance.now() - begin
      if (time > deadline) resume(Effect.die(new Error(`not within ${deadline / 1000} seconds: ${what}`)))
      else if (time < spinning) setImmediate(look)
      else setTimeout(look, 5)
    }
    look()
    return Effect.sync(() => {
      cancelled = true
    })
  })

/** Turns of the event loop: what was about to happen has happened. */
export const turns = (count: number): Effect.Effect<void> => {
  let left = count
  return eventually(() => left-- <= 0)
}

/** A client's end, with everything it has received. Its errors go to `errors`. */
export interface Client {
  readonly socket: Net.Socket
  readonly received: () => Buffer
  readonly reads: () => number
  readonly errors: Array<string>
  readonly ended: Effect.Effect<unknown>
  readonly closed: Effect.Effect<unknown>
}

/** Connects and waits until connected. */
export const connectClient = (
  to: { readonly path: string } | { readonly host?: string; readonly port: number },
  options?: { readonly paused?: boolean }
): Effect.Effect<Client, Error, Scope.Scope> =>
  Effect.gen(function*() {
    const socket = yield* Effect.acquireRelease(
      Effect.callback<Net.Socket, Error>((resume) => {
        const socket = Net.connect({ ...to, allowHalfOpen: true } as Net.NetConnectOpts)
        const refused = (error: Error) => resume(Effect.fail(error))
        socket.once("error", refused)
        socket.once("connect", () => {
          socket.off("error", refused)
          resume(Effect.succeed(socket))
        })
      }),
      (socket) => Effect.sync(() => socket.destroy())
    )
    const errors: Array<string> = []
    const chunks: Array<Buffer> = []
    socket.on("error", (error: NodeJS.ErrnoException) => errors.push(error.code ?? error.message))
    const ended = nextEvent(socket, "end")
    const closed = nextEvent(socket, "close")
    if (options?.paused === true) socket.pause()
    socket.on("data", (chunk: Buffer) => chunks.push(chunk))
    return { socket, errors, ended, closed, received: () => Buffer.concat(chunks), reads: () => chunks.length }
  })

/** The error code of connecting, or "" when it succeeds. */
export const connectCode = (
  to: { readonly path: string } | { readonly host?: string; readonly port: number }
): Effect.Effect<string> =>
  Effect.scoped(Effect.match(connectClient(to), {
    onSuccess: () => "",
    onFailure: (error) => (error as NodeJS.ErrnoException).code ?? error.message
  }))

/** A transport over a real socket, with the raw socket below it and the client at its other end. */
export interface Pair {
  readonly transport: FastCgiTransport.FastCgiTransport
  readonly socket: Net.Socket
  readonly client: Client
  readonly server: Net.Server
  /** What the observer was told. */
  readonly told: { drains: number; closes: number }
  readonly closed: Effect.Effect<unknown>
}

/** Connects a client to a server whose end becomes a transport. */
export const makePair = (
  kind: "unix" | "tcp",
  options?: { readonly paused?: boolean; readonly observe?: boolean }
): Effect.Effect<Pair, Error, Scope.Scope> =>
  Effect.gen(function*() {
    const server = yield* Effect.acquireRelease(
      Effect.sync(() => new Net.Server({ allowHalfOpen: true })),
      (server) => Effect.sync(() => server.close())
    )
    const listening = nextEvent(server, "listening")
    if (kind === "unix") server.listen(Path.join(yield* temporaryDirectory, "s"))
    else server.listen(0, "127.0.0.1")
    yield* listening
    const accepted = nextEvent(server, "connection")
    const address = server.address() as string | Net.AddressInfo
    // The transport is made when the connection is accepted, as a listener does it.
    const made = Effect.map(accepted, ([socket]) => socket as Net.Socket)
    const client = yield* connectClient(
      typeof address === "string" ? { path: address } : { port: address.port },
      options
    )
    const socket = yield* made
    const told = { drains: 0, closes: 0 }
    const closed = nextEvent(socket, "close")
    const transport = fromSocket(socket)
    yield* Effect.addFinalizer(() => Effect.sync(() => transport.destroyUnsafe()))
    if (options?.observe !== false) {
      transport.observeUnsafe({
        onDrain: () => {
          told.drains++
        },
        onClose: () => {
          told.closes++
        }
      })
    }
    return { transport, socket, client, server, told, closed }
  })

/** Pulls once: the bytes as text, or "done". */
export const pullText = (
  transport: FastCgiTransport.FastCgiTransport
): Effect.Effect<string, FastCgiTransport.FastCgiTransportError> =>
  Effect.map(transport.pull, (chunks) => Buffer.concat(chunks).toString("latin1")).pipe(
    Pull.catchDone(() => Effect.succeed("done"))
  )

/** Pulls to the end. */
export const pullAll = (
  transport: FastCgiTransport.FastCgiTransport
): Effect.Effect<Buffer, FastCgiTransport.FastCgiTransportError> =>
  Effect.gen(function*() {
    const all: Array<Uint8Array> = []
    let open = true
    while (open) {
      open = yield* Effect.map(transport.pull, (chunks) => {
        all.push(...chunks)
        return true
      }).pipe(Pull.catchDone(() => Effect.succeed(false)))
    }
    return Buffer.concat(all)
  })

/** Bytes that differ everywhere, so that a lost, doubled or swapped piece shows. */
export const pattern = (size: number): Buffer => {
  const bytes = Buffer.alloc(size)
  for (let i = 0; i + 4 <= size; i += 4) bytes.writeUInt32LE(i * 2654435761 % 0x100000000, i)
  return bytes
}
