/**
 * The application's end of an in-memory connection, scripted by a test: what came as records, and what is to be sent.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Pull from "effect/Pull"
import * as Stream from "effect/Stream"
import type { FastCgiClientError } from "../../src/client/FastCgiClientError.ts"
import type { FastCgiTransport } from "../../src/connection/FastCgiTransport.ts"
import { makePair, type MemoryTransport } from "../../src/connection/internal/memoryTransport.ts"
import * as FastCgiDecoder from "../../src/protocol/FastCgiDecoder.ts"
import * as FastCgiEncoder from "../../src/protocol/FastCgiEncoder.ts"
import * as FastCgiParams from "../../src/protocol/FastCgiParams.ts"
import * as FastCgiRecord from "../../src/protocol/FastCgiRecord.ts"
import { withinMemory } from "../support/within.ts"

type Record = FastCgiRecord.FastCgiRecord

export interface Application {
  /** The client's end: what `connect` gives. */
  readonly connect: Effect.Effect<FastCgiTransport>
  readonly client: MemoryTransport
  readonly transport: MemoryTransport
  /** All records that have been received so far. */
  readonly received: Array<Record>
  /** All bytes that have been received so far, a chunk per read. */
  readonly bytes: Array<Uint8Array>
  /** Waits until a record that satisfies the predicate has come, or for the `n`th of them. */
  readonly until: (predicate: (record: Record) => boolean, n?: number) => Effect.Effect<Record>
  readonly untilTag: (tag: Record["_tag"], n?: number) => Effect.Effect<Record>
  /** Waits until the client has closed or half-closed. */
  readonly untilEnd: Effect.Effect<void>
  readonly send: (...records: ReadonlyArray<Record>) => Effect.Effect<void>
  readonly sendBytes: (...chunks: ReadonlyArray<Uint8Array>) => Effect.Effect<void>
  /** Closes in an orderly way. */
  readonly close: Effect.Effect<void>
  readonly reset: Effect.Effect<void>
  /** The params of a request, as far as they have come. */
  readonly params: (requestId: number) => FastCgiParams.FastCgiParams
  /** The STDIN of a request, as far as it has come. */
  readonly stdin: (requestId: number) => Uint8Array
}

/** Starts an application that reads all the time, unless `paused`. */
export const make = Effect.fnUntraced(function*(options?: {
  readonly capacity?: number
  readonly reading?: boolean
}) {
  const { client, server } = yield* makePair(
    options?.capacity === undefined ? undefined : { capacity: options.capacity }
  )
  const received: Array<Record> = []
  const bytes: Array<Uint8Array> = []
  const waiting = new Set<() => void>()
  const ended = Deferred.makeUnsafe<void>()
  const decoder = FastCgiDecoder.make()
  server.observeUnsafe({ onDrain: () => {}, onClose: () => Deferred.doneUnsafe(ended, Effect.void) })
  const read: Effect.Effect<void> = Effect.suspend(() =>
    Pull.matchEffect(server.pull, {
      onSuccess: (chunks) => {
        for (const chunk of chunks) {
          bytes.push(chunk)
          const error = decoder.push(chunk, received)
          if (error !== undefined) return Effect.die(error)
        }
        for (const look of Array.from(waiting)) look()
        return read
      },
      onDone: () => Effect.sync(() => void Deferred.doneUnsafe(ended, Effect.void)),
      onFailure: () => Effect.sync(() => void Deferred.doneUnsafe(ended, Effect.void))
    })
  )
  if (options?.reading !== false) yield* Effect.forkScoped(read)

  const sofar = () => JSON.stringify(received.slice(-10).map((record) => record._tag))
  const until = (predicate: (record: Record) => boolean, n = 1) =>
    withinMemory(() => `${n} records of the client that are ${predicate}; the last that came: ${sofar()}`)(
      Effect.callback<Record>((resume) => {
        const look = () => {
          const found = received.filter(predicate)
          if (found.length < n) return false
          waiting.delete(look)
          resume(Effect.succeed(found[n - 1]))
          return true
        }
        if (look()) return
        waiting.add(look)
        return Effect.sync(() => waiting.delete(look))
      })
    )

  const contents = (tag: "Params" | "Stdin" | "Data", requestId: number) => {
    const parts = received.filter((record) => record._tag === tag && record.requestId === requestId)
      .map((record) => (record as FastCgiRecord.Stdin).content)
    return concat(parts)
  }

  const application: Application = {
    connect: Effect.succeed(client),
    client,
    transport: server,
    received,
    bytes,
    until,
    untilTag: (tag, n) => until((record) => record._tag === tag, n),
    untilEnd: withinMemory(() => `the end of the client's connection; the last that came: ${sofar()}`)(
      Deferred.await(ended)
    ),
    send: (...records) => Effect.sync(() => server.writeUnsafe(records.map((record) => FastCgiEncoder.encode(record)))),
    sendBytes: (...chunks) => Effect.sync(() => server.writeUnsafe(chunks)),
    close: Effect.sync(() => server.endUnsafe()),
    reset: Effect.sync(() => (server as unknown as { resetUnsafe: () => void }).resetUnsafe()),
    params: (requestId) => FastCgiParams.fromBytes(contents("Params", requestId)) as FastCgiParams.FastCgiParams,
    stdin: (requestId) => contents("Stdin", requestId)
  }
  return application
})

export const concat = (parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const bytes = new Uint8Array(parts.reduce((size, part) => size + part.length, 0))
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

export const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)
export const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

/** A complete answer to a request. */
export const answer = (requestId: number, stdout: string, appStatus = 0): ReadonlyArray<Record> => [
  FastCgiRecord.stdout(requestId, bytesOf(stdout)),
  FastCgiRecord.stdout(requestId),
  FastCgiRecord.endRequest(requestId, appStatus)
]

/** Params for a request that does not care. */
export const params = [["REQUEST_METHOD", "GET"], ["SCRIPT_NAME", "/a"]] as const

/** A whole stream as text. */
export const textOfStream = <E>(stream: Stream.Stream<Uint8Array, E>): Effect.Effect<string, E> =>
  Effect.map(Stream.runCollect(stream), (chunks) => textOf(concat(chunks)))

/** The tag of the reason of a client error, or undefined for a success. */
export const reasonOf = (exit: Exit.Exit<unknown, FastCgiClientError>): string | undefined =>
  Exit.isSuccess(exit) ? undefined : exit.cause.reasons.find(Cause.isFailReason)?.error.reason._tag
