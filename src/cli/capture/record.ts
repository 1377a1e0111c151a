/**
 * Runs `record`.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import type { FastCgiTransport } from "../../connection/FastCgiTransport.ts"
import { addressMistake, parseListenAddress } from "../../node/internal/address.ts"
import * as NodeFastCgiListener from "../../node/NodeFastCgiListener.ts"
import type { RecordOptions } from "../commands/capture.ts"
import { CommandFailure, ExitCode, usage } from "../internal/failure.ts"
import { servesUntilStopped } from "../internal/life.ts"
import * as Output from "../internal/output.ts"
import * as Target from "../internal/target.ts"
import { PcapWriter } from "./pcapWriter.ts"
import type { Connection, ConnectionEvent } from "./reassembly.ts"
import { relay, type RelayObserver } from "./relay.ts"
import { Show } from "./show.ts"

/** Passes connections on, and keeps or shows what is said on them. */
export const run = (options: RecordOptions): Effect.Effect<void, CommandFailure> =>
  Effect.scoped(Effect.gen(function*() {
    const to = yield* Target.parse(options.to)
    const where = parseListenAddress(options.listen)
    if (where === undefined) return yield* usage(addressMistake(options.listen))
    const tally = { connections: 0, bytes: 0 }
    const unwritten = yield* Deferred.make<never, CommandFailure>()
    const record = yield* options.file === undefined ? shown(options) : written(options.file, to, unwritten)
    const listener = yield* Effect.mapError(
      NodeFastCgiListener.make(where),
      ({ message }) => new CommandFailure({ code: ExitCode.Unreachable, message })
    )
    yield* servesUntilStopped
    yield* Output.note(
      `Passing ${options.listen} on to ${to.name}` +
        (options.file === undefined || options.file === "-" ? "" : `, recording to ${options.file}`) +
        ". Ctrl-C ends it."
    )
    const scope = yield* Effect.scope
    const fork = Effect.runForkWith(yield* Effect.context<never>())
    yield* listener.run((client) => {
      Fiber.runIn(fork(connection(client, to, record(), tally)), scope)
    }).pipe(
      Effect.mapError(({ message }) => new CommandFailure({ code: ExitCode.Unreachable, message })),
      Effect.raceFirst(Deferred.await(unwritten)),
      Effect.ensuring(
        Effect.suspend(() =>
          Output.note(`${Output.counted(tally.connections, "connection")}, ${Output.bytes(tally.bytes)}.`)
        )
      )
    )
  }))

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const connection = (
  client: FastCgiTransport,
  to: Target.Target,
  observer: RelayObserver,
  tally: { connections: number; bytes: number }
): Effect.Effect<void> => {
  tally.connections++
  return Effect.scoped(Effect.matchCauseEffect(to.connect, {
    onSuccess: (server) =>
      relay(client, server, {
        ...observer,
        onBytes(fromClient, chunks) {
          for (const chunk of chunks) tally.bytes += chunk.length
          observer.onBytes(fromClient, chunks)
        }
      }),
    onFailure: (cause) => {
      client.resetUnsafe()
      observer.onReset(false)
      const error = Cause.squash(cause)
      return Output.note(`effect-fastcgi: ${error instanceof Error ? error.message : String(error)}`)
    }
  }))
}

// Bytes are written at once and need no queue, so memory stays bounded however fast they come. The first that cannot be written, on a
// disk that is full for instance, fails `unwritten`.
const written = (
  file: string,
  to: Target.Target,
  unwritten: Deferred.Deferred<never, CommandFailure>
): Effect.Effect<() => RelayObserver, CommandFailure, Scope.Scope> => {
  const failed = (cause: unknown) =>
    new CommandFailure({
      code: ExitCode.Usage,
      message: `Cannot write ${file}: ${cause instanceof Error ? cause.message : String(cause)}`
    })
  const open: Effect.Effect<(bytes: Uint8Array) => void, CommandFailure, Scope.Scope> = file === "-"
    ? Effect.succeed((bytes) => void process.stdout.write(bytes))
    : Effect.map(
      Effect.acquireRelease(
        Effect.try({ try: () => Fs.openSync(file, "w"), catch: failed }),
        (fd) => Effect.sync(() => Fs.closeSync(fd))
      ),
      (fd) => {
        let failure: CommandFailure | undefined
        return (bytes) => {
          if (failure !== undefined) return
          try {
            for (let at = 0; at < bytes.length;) at += Fs.writeSync(fd, bytes, at)
          } catch (cause) {
            failure = failed(cause)
            Deferred.doneUnsafe(unwritten, Effect.fail(failure))
          }
        }
      }
    )
  const port = Number(/:(\d+)$/.exec(to.name)?.[1] ?? 9000)
  return Effect.map(open, (write) => {
    const writer = new PcapWriter(write, port)
    return (): RelayObserver => {
      const connection = writer.open()
      return {
        onBytes: (fromClient, chunks) => chunks.forEach((chunk) => connection.bytes(fromClient, chunk)),
        onEnd: connection.end,
        onReset: connection.reset
      }
    }
  })
}

const shown = (options: RecordOptions): Effect.Effect<() => RelayObserver> =>
  Effect.sync(() => {
    const show = new Show({
      json: options.json,
      named: true,
      content: options.content,
      paint: Output.painter(process.stdout)
    })
    let count = 0
    return (): RelayObserver => {
      const connection: Connection = {
        number: ++count,
        client: options.listen,
        server: options.to,
        serverPort: 0
      }
      const tell = (event: ConnectionEvent) => {
        process.stdout.write(show.events([event]))
      }
      const now = () => (performance.timeOrigin + performance.now()) / 1000
      tell({ _tag: "Opened", connection, time: now() })
      return {
        onBytes: (fromClient, chunks) =>
          chunks.forEach((bytes) => tell({ _tag: "Bytes", connection, fromClient, bytes, time: now() })),
        onEnd: (fromClient) => tell({ _tag: "Ended", connection, fromClient, time: now() }),
        onReset: (fromClient) => tell({ _tag: "Reset", connection, fromClient, time: now() })
      }
    }
  })
