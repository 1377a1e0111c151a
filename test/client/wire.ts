/** What a client has on its connections, as the records say that pass. */
import { FastCgiDecoder, type FastCgiRecord, FastCgiTransport } from "effect-fastcgi"
import * as Effect from "effect/Effect"

export interface Wire {
  /** Connections that are open, the most that were open at the same time, and all that have been opened. */
  open: number
  mostOpen: number
  opened: number
  /** The most requests that a connection carried at the same time. */
  mostAtOnce: number
  /** ABORT_REQUEST records. */
  aborted: number
}

/** Counts what is on the connections that are opened. */
export const watched = <E, R>(connect: Effect.Effect<FastCgiTransport.FastCgiTransport, E, R>) => {
  const wire: Wire = { open: 0, mostOpen: 0, opened: 0, mostAtOnce: 0, aborted: 0 }
  const opened = Effect.map(connect, (transport) => {
    const carried = new Set<number>()
    const each = (look: (record: FastCgiRecord.FastCgiRecord) => void) => {
      const decoder = FastCgiDecoder.make()
      return (chunks: ReadonlyArray<Uint8Array>) => {
        const records: Array<FastCgiRecord.FastCgiRecord> = []
        for (const chunk of chunks) decoder.push(chunk, records)
        records.forEach(look)
      }
    }
    wire.opened++
    wire.mostOpen = Math.max(wire.mostOpen, ++wire.open)
    return FastCgiTransport.tap(transport, {
      onWrite: each((record) => {
        if (record._tag === "AbortRequest") wire.aborted++
        if (record._tag !== "BeginRequest") return
        carried.add(record.requestId)
        wire.mostAtOnce = Math.max(wire.mostAtOnce, carried.size)
      }),
      onRead: each((record) => {
        if (record._tag === "EndRequest") carried.delete(record.requestId)
      }),
      onClose: () => {
        wire.open--
      }
    })
  })
  return { connect: opened, wire }
}
