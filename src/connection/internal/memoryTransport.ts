/**
 * Two transports joined back to back in memory. They behave like the two ends of a socket, and deliver on the next turn
 * of the scheduler, never inside the write, so that neither side ever runs inside the other.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scheduler from "effect/Scheduler"
import type { Chunks } from "./inputStream.ts"
import {
  type FastCgiPullError,
  type FastCgiTransport,
  FastCgiTransportError,
  type FastCgiTransportObserver,
  type FastCgiTransportReader
} from "./transportModel.ts"

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
  const client = new End(dispatcher, capacity, Option.none(), false)
  const server = new End(dispatcher, capacity, Option.fromUndefinedOr(options?.peer), true)
  client.other = server
  server.other = client
  return { client, server }
}

class End implements MemoryTransport {
  readonly peer: Option.Option<NetAddress.SocketAddress>
  other!: End
  private readonly dispatcher: Scheduler.SchedulerDispatcher
  private readonly watchesPeer: boolean
  private capacity: number
  // What the peer wrote: within `capacity` it has been accepted here, beyond it is pending there.
  private incoming: Array<Uint8Array> = []
  private unread = 0
  private ended = false
  private closed = false
  private lost = false
  private reader: ((effect: Effect.Effect<Chunks, FastCgiPullError>) => void) | undefined
  private flow: FastCgiTransportReader | undefined
  private flowPaused = false
  private observer: FastCgiTransportObserver | undefined
  private drainOwed = false
  private closeTold = false
  private scheduled = false

  constructor(
    dispatcher: Scheduler.SchedulerDispatcher,
    capacity: number,
    peer: Option.Option<NetAddress.SocketAddress>,
    watchesPeer: boolean
  ) {
    this.dispatcher = dispatcher
    this.capacity = capacity
    this.peer = peer
    this.watchesPeer = watchesPeer
  }

  readonly pull = Effect.suspend(() =>
    this.take() ??
      Effect.callback<Chunks, FastCgiPullError>((resume) => {
        this.reader = resume
        return Effect.sync(() => {
          this.reader = undefined
        })
      })
  )

  flowUnsafe(reader: FastCgiTransportReader): void {
    this.flow = reader
    this.resumeUnsafe()
  }

  pauseUnsafe(): void {
    this.flowPaused = true
    if (this.watchesPeer && this.other.closed) this.schedule()
  }

  resumeUnsafe(): void {
    this.flowPaused = false
    this.schedule()
  }

  observeUnsafe(observer: FastCgiTransportObserver): void {
    this.observer = observer
    this.schedule()
  }

  writeUnsafe(chunks: ReadonlyArray<Uint8Array>): void {
    if (this.closed) return
    const other = this.other
    if (other.closed) {
      // A socket learns that its peer is gone by writing to it.
      this.lose()
      return
    }
    for (const chunk of chunks) {
      if (chunk.length === 0) continue
      other.incoming.push(chunk)
      other.unread += chunk.length
    }
    if (this.pendingUnsafe() > 0) this.drainOwed = true
    other.schedule()
  }

  pendingUnsafe(): number {
    return this.closed ? 0 : Math.max(0, this.other.unread - this.other.capacity)
  }

  endUnsafe(): void {
    if (this.closed) return
    this.other.ended = true
    this.other.schedule()
    if (this.ended && this.unread === 0) this.close()
  }

  destroyUnsafe(): void {
    if (this.closed) return
    // A close with unread bytes is a reset for the peer, as with TCP.
    if (this.unread > 0) return this.resetUnsafe()
    this.close()
    this.other.ended = true
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
    return this.ended || this.lost
  }

  private close(): void {
    this.closed = true
    this.incoming = []
    this.unread = 0
    this.schedule()
  }

  private lose(): void {
    if (this.closed) return
    this.lost = true
    this.close()
  }

  private take(): Effect.Effect<Chunks, FastCgiPullError> | undefined {
    if (this.lost) return Effect.fail(new FastCgiTransportError({ message: "connection reset by peer" }))
    if (this.closed) return Cause.done()
    if (this.unread === 0) return this.ended ? Cause.done() : undefined
    const taken = this.takeChunks()
    return taken === undefined ? undefined : Effect.succeed(taken)
  }

  private takeChunks(): Chunks | undefined {
    const taken: Array<Uint8Array> = []
    // What is beyond the capacity has not arrived yet.
    let room = Math.min(this.unread, this.capacity)
    if (room === 0) return undefined
    this.unread -= room
    while (room > 0) {
      const chunk = this.incoming[0]
      if (chunk.length <= room) {
        taken.push(chunk)
        this.incoming.shift()
        room -= chunk.length
      } else {
        taken.push(chunk.subarray(0, room))
        this.incoming[0] = chunk.subarray(room)
        room = 0
      }
    }
    this.other.schedule()
    return taken as unknown as Chunks
  }

  private schedule(): void {
    if (this.scheduled) return
    this.scheduled = true
    this.dispatcher.scheduleTask(this.deliver, 0)
  }

  private readonly deliver = (): void => {
    this.scheduled = false
    // As a server's end of a socket, whose peer is watched while nobody reads it. What a client has not read may be an answer.
    if (this.watchesPeer && this.flow !== undefined && this.flowPaused && this.other.closed) this.lose()
    if (this.drainOwed && this.observer !== undefined && this.pendingUnsafe() === 0) {
      this.drainOwed = false
      if (!this.closed) this.observer.onDrain()
    }
    if (this.closed && !this.closeTold && this.observer !== undefined) {
      this.closeTold = true
      this.observer.onClose()
    }
    const reader = this.reader
    if (reader !== undefined) {
      const taken = this.take()
      if (taken !== undefined) {
        this.reader = undefined
        reader(taken)
      }
    }
    this.flowOn()
  }

  private flowOn(): void {
    const flow = this.flow
    if (flow === undefined || this.flowPaused || this.closed) return
    if (this.unread > 0) {
      const taken = this.takeChunks()
      if (taken === undefined) return
      this.hand(flow, () => flow.onRead(taken))
      if (this.unread > 0 || this.ended) this.schedule()
    } else if (this.ended) {
      this.flow = undefined
      this.hand(flow, () => flow.onReadEnd())
    }
  }

  private hand(flow: FastCgiTransportReader, call: () => void): void {
    const called = Result.try(call)
    if (Result.isSuccess(called)) return
    this.destroyUnsafe()
    flow.onReadDefect(called.failure)
  }
}
