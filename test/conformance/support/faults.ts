/**
 * Our server in memory, made worse on the way: what it sends, or what it is sent, goes through a function that breaks one
 * thing. The suite has to notice that one thing.
 */
import { FastCgiAdmission, type FastCgiTransport } from "effect-fastcgi"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"
import { serve } from "../../../conformance/effect-fastcgi/app.ts"
import * as Wire from "../../../src/conformance/wire.ts"

/** The application of the suite in memory. */
export const App = serve().pipe(
  Layer.provideMerge([FastCgiTest.layerMemory, FastCgiAdmission.layer()]),
  // The suite breaks the protocol all the time, and the server says so.
  Layer.provide(Logger.layer([]))
)

/** What becomes of a record: other bytes, none, or `"close"` for the end of the connection behind what came before. */
export type Change = (record: Wire.WireRecord) => Uint8Array | "close"

/** A fault on one connection, with whatever it remembers of it. */
export interface Fault {
  /** What the server sends. Default unchanged. */
  readonly sent?: Change
  /** What the server is sent. Default unchanged. */
  readonly received?: Change
  /** The server is not told that the peer closes. */
  readonly staysOpen?: boolean
}

/** The bytes of a record, as they were. */
export const same = (record: Wire.WireRecord): Uint8Array =>
  Wire.record(record.type, record.requestId, record.content, {
    padding: record.padding.length,
    reserved: record.reserved,
    version: record.version
  })

/** Connects through a fault. */
export const connectThrough = (
  makeFault: () => Fault
): Effect.Effect<FastCgiTransport.FastCgiTransport, never, FastCgiTest.FastCgiMemory | Scope.Scope> =>
  Effect.flatMap(
    FastCgiTest.FastCgiMemory,
    (memory) => Effect.map(memory.connect, (transport) => faulty(transport, makeFault()))
  )

const faulty = (below: FastCgiTransport.FastCgiTransport, fault: Fault): FastCgiTransport.FastCgiTransport => {
  let closed = false
  const through = (change: Change | undefined) => {
    const splitter = new Wire.Splitter()
    return (chunk: Uint8Array): ReadonlyArray<Uint8Array> => {
      if (change === undefined) return [chunk]
      splitter.push(chunk)
      const changed: Array<Uint8Array> = []
      for (let record = splitter.next(); record !== undefined && !closed; record = splitter.next()) {
        const bytes = change(record)
        if (bytes === "close") {
          closed = true
          below.destroyUnsafe()
        } else if (bytes.length > 0) {
          changed.push(bytes)
        }
      }
      return changed
    }
  }
  const sent = through(fault.sent)
  const received = through(fault.received)
  const pull: FastCgiTransport.FastCgiTransport["pull"] = Effect.suspend(() =>
    closed ? Cause.done() : Effect.flatMap(below.pull, (chunks) => {
      const [first, ...rest] = chunks.flatMap(sent)
      return first === undefined ? pull : Effect.succeed([first, ...rest] as const)
    })
  )
  return {
    peer: below.peer,
    pull,
    writeUnsafe: (chunks) => below.writeUnsafe(chunks.flatMap(received)),
    destroyUnsafe: () => {
      if (fault.staysOpen !== true) below.destroyUnsafe()
    },
    flowUnsafe: (reader) => below.flowUnsafe(reader),
    pauseUnsafe: () => below.pauseUnsafe(),
    resumeUnsafe: () => below.resumeUnsafe(),
    observeUnsafe: (observer) => below.observeUnsafe(observer),
    pendingUnsafe: () => below.pendingUnsafe(),
    endUnsafe: () => below.endUnsafe(),
    resetUnsafe: () => below.resetUnsafe()
  }
}
