/**
 * Two transports joined back to back in memory. They behave like the two ends of a socket, and deliver on the next turn
 * of the scheduler, never inside the write, so that neither side ever runs inside the other.
 */
import * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"
import type * as Scheduler from "effect/Scheduler"
import type { Chunks } from "./inputStream.ts"
import { type FastCgiTransport, FastCgiTransportError } from "./transportModel.ts"
import { TurnTransport } from "./turnTransport.ts"

/** One end of an in-memory connection, with what a test may do to it. */
export interface MemoryTransport extends FastCgiTransport {
  /** How many bytes this end takes from its peer before it pulls; what is more stays pending there. */
  readonly setCapacityUnsafe: (capacity: number) => void
  /** Whether this end has been destroyed, reset or closed in both directions. */
  readonly closedUnsafe: () => boolean
  /** Whether the peer has half-closed or is gone, whether or not its last bytes have been pulled. */
  readonly peerEndedUnsafe: () => boolean
}

/** What `makePair` takes. */
export interface MemoryTransportOptions {
  /** Bytes that either end takes before it pulls. Default 64 KiB. */
  readonly capacity?: number | undefined
  /** The address that the server end reports for its peer. Default none, as of a UNIX socket. */
  readonly peer?: NetAddress.SocketAddress | undefined
}

/** Creates the two ends of a connection. */
export const makePair = (
  options?: MemoryTransportOptions
): Effect.Effect<{ readonly client: MemoryTransport; readonly server: MemoryTransport }> =>
  Effect.withFiber((fiber) => Effect.succeed(makePairUnsafe(fiber.cache.scheduler.makeDispatcher(), options)))

/** Creates the two ends of a connection, synchronously. */
export const makePairUnsafe = (
  dispatcher: Scheduler.SchedulerDispatcher,
  options?: MemoryTransportOptions
): { readonly client: MemoryTransport; readonly server: MemoryTransport } => {
  const capacity = options?.capacity ?? 64 * 1024
  const client = new End(dispatcher, undefined, capacity, false)
  const server = new End(dispatcher, options?.peer, capacity, true)
  client.other = server
  server.other = client
  return { client, server }
}

// What the peer wrote has been accepted here within `capacity`, and is pending there beyond.
class End extends TurnTransport implements MemoryTransport {
  other!: End
  private capacity: number
  private readonly watchesPeer: boolean

  constructor(
    dispatcher: Scheduler.SchedulerDispatcher,
    peer: NetAddress.SocketAddress | undefined,
    capacity: number,
    watchesPeer: boolean
  ) {
    super(dispatcher, peer)
    this.capacity = capacity
    this.watchesPeer = watchesPeer
  }

  pauseUnsafe(): void {
    this.paused = true
    if (this.watchesPeer && this.other.closed) this.schedule()
  }

  writeUnsafe(chunks: ReadonlyArray<Uint8Array>): void {
    if (this.closed) return
    // A socket learns that its peer is gone by writing to it.
    if (this.other.closed) return this.lose()
    this.other.arrive(chunks)
    if (this.pendingUnsafe() > 0) this.drainOwed = true
    this.other.schedule()
  }

  pendingUnsafe(): number {
    return this.closed ? 0 : Math.max(0, this.other.unread - this.other.capacity)
  }

  endUnsafe(): void {
    if (this.closed) return
    this.other.inputEnded = true
    this.other.schedule()
    if (this.inputEnded && this.unread === 0) this.close()
  }

  destroyUnsafe(): void {
    if (this.closed) return
    // A close with unread bytes is a reset for the peer, as with TCP.
    if (this.unread > 0) return this.resetUnsafe()
    this.close()
    this.other.inputEnded = true
    this.other.schedule()
  }

  resetUnsafe(): void {
    if (this.closed) return
    this.close()
    this.other.lose()
  }

  setCapacityUnsafe(capacity: number): void {
    this.capacity = capacity
    if (this.other.pendingUnsafe() > 0) this.other.drainOwed = true
    // There may be more to read here, and less to wait for there.
    this.schedule()
    this.other.schedule()
  }

  closedUnsafe(): boolean {
    return this.closed
  }

  peerEndedUnsafe(): boolean {
    return this.inputEnded || this.loss !== undefined
  }

  private close(): void {
    this.closed = true
    this.arrived = []
    this.unread = 0
    this.schedule()
  }

  private lose(): void {
    if (this.closed) return
    this.loss = new FastCgiTransportError({ message: "connection reset by peer" })
    this.close()
  }

  protected take(): Chunks | undefined {
    // What is beyond the capacity has not arrived yet.
    let room = Math.min(this.unread, this.capacity)
    if (room === 0) return undefined
    this.unread -= room
    const taken: Array<Uint8Array> = []
    while (room > 0) {
      const chunk = this.arrived[0]
      if (chunk.length <= room) {
        taken.push(chunk)
        this.arrived.shift()
        room -= chunk.length
      } else {
        taken.push(chunk.subarray(0, room))
        this.arrived[0] = chunk.subarray(room)
        room = 0
      }
    }
    this.other.schedule()
    return taken as unknown as Chunks
  }

  protected tell(): void {
    // As a server's end of a socket, whose peer is watched while nobody reads it. What a client has not read may be an answer.
    if (this.watchesPeer && this.flow !== undefined && this.paused && this.other.closed) this.lose()
    this.tellDrained()
    this.tellClosed()
    this.tellReader()
  }
}
