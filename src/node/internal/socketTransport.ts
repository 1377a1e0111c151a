/**
 * A socket of `node:net`, or any other `Duplex`, as a `FastCgiTransport`. This is the path of every byte of the library, so it is plain
 * synchronous code: no Effect per chunk, no closure per read, and no error object at a close in good order.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"
import type * as Option from "effect/Option"
import type * as Net from "node:net"
import type { Duplex } from "node:stream"
import {
  type FastCgiPullError,
  type FastCgiTransport,
  FastCgiTransportError,
  type FastCgiTransportObserver,
  type FastCgiTransportReader
} from "../../connection/FastCgiTransport.ts"
import { inetAddress } from "./inetAddress.ts"
import { unwatchPeer, type Watched, watchPeer } from "./peerWatch.ts"
import { ReadingSocket, type Taker } from "./readingSocket.ts"
import * as YoungGeneration from "./youngGeneration.ts"

/** How many bytes wait for a pull before the socket is paused. Node reads up to as much again before it stops. */
export const maxUnpulled = 64 * 1024

/**
 * Makes the socket a transport and becomes its only reader and writer. The socket has to be created with
 * `allowHalfOpen: true`, or a reply after the peer's half-close is lost. No "error" event of the socket stays unhandled.
 *
 * With `watchesPeer`, for the end of a server, a peer that has closed both directions is noticed within a second or two
 * although what it has sent is not read, and then is lost: a reset on any socket, a plain close on UNIX sockets, and over TCP
 * where both ends are on one Linux host. `addressed` has the address of the other end where the socket's is that of a proxy.
 * `isUnix` says that it is a UNIX socket, whose peer reads what has been written to it after a close as well. (Finding out costs a
 * system call.)
 */
export const fromSocket = (
  socket: Net.Socket,
  options?: {
    readonly watchesPeer?: boolean | undefined
    readonly addressed?: Addressed | undefined
    readonly isUnix?: boolean | undefined
  }
): FastCgiTransport => {
  socket.setNoDelay(true)
  const { addressed = socket, isUnix = false, watchesPeer = false } = options ?? {}
  return new SocketTransport(socket, socket, addressed, watchesPeer, isUnix)
}

/**
 * Makes any `Duplex` a transport and becomes its only reader and writer. No "error" event of it stays unhandled. It cannot be
 * reset, and has the address of `addressed`, such as a TLS socket, or none.
 */
export const fromDuplex = (duplex: Duplex, addressed?: Addressed): FastCgiTransport =>
  new SocketTransport(duplex, undefined, addressed, false, false)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

type Chunks = readonly [Uint8Array, ...Array<Uint8Array>]
type Pulled = Effect.Effect<Chunks, FastCgiPullError>

/** Knows the other end's address. */
export interface Addressed {
  readonly remoteAddress?: string | undefined
  readonly remotePort?: number | undefined
}

const nothing = new Uint8Array(0)

// The listeners of all sockets are the same functions, which Node calls as methods: three of its own would be an eighth of what a
// connection takes.
const transportOf = Symbol("transport")
interface Transported {
  [transportOf]: SocketTransport
}
const onEnd = function(this: Transported): void {
  this[transportOf].ended()
}
const onError = function(this: Transported, error: Error): void {
  this[transportOf].error = error
}
const onClose = function(this: Transported): void {
  this[transportOf].lost()
}

class SocketTransport implements FastCgiTransport, Taker {
  private readonly duplex: Duplex
  // The same where it is a socket of the operating system.
  private readonly socket: Net.Socket | undefined
  private readonly addressed: Addressed | undefined
  private readonly watchesPeer: boolean
  readonly deliversWhenClosed: boolean
  private watched: Watched | undefined
  private chunks: Array<Uint8Array> = []
  private unpulled = 0
  private paused = false
  private reader: ((pulled: Pulled) => void) | undefined
  private flow: FastCgiTransportReader | undefined
  private flowPaused = false
  // The peer has half-closed; `chunks` may still hold its last bytes.
  private peerEnded = false
  // Nothing may be written any more.
  private writeEnded = false
  private closed = false
  error: Error | undefined
  private observer: FastCgiTransportObserver | undefined
  private awaitingDrain = false
  private drainOwed = false
  private knownPeer: Option.Option<NetAddress.SocketAddress> | undefined

  constructor(
    duplex: Duplex,
    socket: Net.Socket | undefined,
    addressed: Addressed | undefined,
    watchesPeer: boolean,
    deliversWhenClosed: boolean
  ) {
    this.duplex = duplex
    this.socket = socket
    this.addressed = addressed
    this.watchesPeer = watchesPeer
    this.deliversWhenClosed = deliversWhenClosed
    if (duplex instanceof ReadingSocket) duplex.taker = this
    else duplex.on("data", (chunk: Uint8Array) => this.onBytes(chunk, false))
    ;(duplex as Duplex & Partial<Transported>)[transportOf] = this
    duplex.on("end", onEnd)
    duplex.on("error", onError)
    duplex.on("close", onClose)
  }

  // Asked for by few and costs a system call, so it is looked up when asked for. Ask before the connection is closed.
  get peer(): Option.Option<NetAddress.SocketAddress> {
    return this.knownPeer ??= inetAddress(this.addressed?.remoteAddress, this.addressed?.remotePort)
  }

  // `reader` is resumed with `take`, not with the chunks: when its fiber has been interrupted meanwhile, `take` is never
  // evaluated, and the chunks wait for the next pull. So an interrupted wait needs no finalizer.
  private get take(): Pulled {
    return Effect.suspend(() => this.available() ?? this.pull)
  }

  get pull(): Pulled {
    return Effect.callback<Chunks, FastCgiPullError>((resume) => {
      const available = this.available()
      if (available === undefined) this.reader = resume
      else resume(available)
    })
  }

  flowUnsafe(reader: FastCgiTransportReader): void {
    this.flow = reader
    this.resumeUnsafe()
  }

  pauseUnsafe(): void {
    this.flowPaused = true
  }

  resumeUnsafe(): void {
    this.flowPaused = false
    if (this.chunks.length > 0 || this.peerEnded) setImmediate(flowOn, this)
  }

  observeUnsafe(observer: FastCgiTransportObserver): void {
    this.observer = observer
    // Later, so that the observer is never called inside the constructor of whoever observes.
    if (this.closed) queueMicrotask(() => observer.onClose())
    else if (this.drainOwed) queueMicrotask(() => observer.onDrain())
    this.drainOwed = false
  }

  writeUnsafe(chunks: ReadonlyArray<Uint8Array>): void {
    if (this.writeEnded || chunks.length === 0) return
    const { duplex } = this
    if (chunks.length === 1) {
      duplex.write(chunks[0])
    } else {
      duplex.cork()
      for (let i = 0; i < chunks.length; i++) duplex.write(chunks[i])
      duplex.uncork()
    }
    if (duplex.writableLength > 0) this.awaitDrain()
  }

  pendingUnsafe(): number {
    return this.writeEnded && this.duplex.destroyed ? 0 : this.duplex.writableLength
  }

  endUnsafe(): void {
    if (this.writeEnded) return
    this.writeEnded = true
    this.duplex.end()
  }

  destroyUnsafe(): void {
    this.abandon()
    this.duplex.destroy()
  }

  resetUnsafe(): void {
    if (this.duplex.destroyed) return
    this.abandon()
    // Only TCP knows it: Node throws for a UNIX socket.
    if (this.socket?.remoteAddress === undefined) this.duplex.destroy()
    else this.socket.resetAndDestroy()
  }

  // The bytes that have arrived, the end, or nothing yet.
  private available(): Pulled | undefined {
    if (this.chunks.length > 0) return Effect.succeed(this.takeChunks())
    if (this.peerEnded) return Cause.done()
    if (!this.closed) return undefined
    return this.error === undefined ? Cause.done() : Effect.fail(connectionLost(this.error))
  }

  /** Takes what has been read, which is overwritten by the next read when it is `lent`. */
  onBytes(chunk: Uint8Array, lent: boolean): void {
    YoungGeneration.count(chunk.length)
    // Waiting output goes first.
    if (this.flow !== undefined && !this.flowPaused && this.chunks.length === 0) {
      this.hand(this.flow, [chunk])
      return
    }
    this.chunks.push(lent ? new Uint8Array(chunk) : chunk)
    this.unpulled += chunk.length
    if (this.reader !== undefined) this.wake()
    else if (this.unpulled >= maxUnpulled && !this.paused) {
      this.paused = true
      this.duplex.pause()
      if (this.watchesPeer && this.socket !== undefined) this.watched = watchPeer(this.socket)
    }
  }

  // Hands over what has arrived while the flow was paused.
  flowOn(): void {
    if (this.flow === undefined || this.flowPaused) return
    if (this.chunks.length > 0) this.hand(this.flow, this.takeChunks())
    if (this.peerEnded) this.flowEnd()
  }

  // Hands over chunks, or their end. Thrown on, a defect of the reader would end the process.
  private hand(flow: FastCgiTransportReader, chunks: Chunks | undefined): void {
    try {
      if (chunks === undefined) flow.onReadEnd()
      else flow.onRead(chunks)
    } catch (defect) {
      this.destroyUnsafe()
      flow.onReadDefect(defect)
    }
  }

  private flowEnd(): void {
    const flow = this.flow
    if (flow === undefined || this.flowPaused || this.chunks.length > 0) return
    this.flow = undefined
    this.hand(flow, undefined)
  }

  private takeChunks(): Chunks {
    const chunks = this.chunks as unknown as Chunks
    this.chunks = []
    this.unpulled = 0
    if (this.paused) {
      this.unpause()
      this.duplex.resume()
    }
    return chunks
  }

  ended(): void {
    // Node stops polling a socket that has been read to its end, so nothing would tell that the peer, a web server whose
    // client has gone away for instance, has closed the other direction as well. Writing nothing fails with EPIPE in that
    // case on a UNIX socket, and has no effect in every other. Node 22 also takes a reset for the end when the socket was
    // paused: the write fails with ECONNRESET, so that the end is told when it is known to be one.
    if (this.writeEnded || this.duplex.destroyed || this.duplex.writableLength > 0) this.endedInOrder()
    else {
      this.duplex.write(nothing, (error) => {
        if ((error as NodeJS.ErrnoException | null | undefined)?.code !== "ECONNRESET") this.endedInOrder()
      })
    }
  }

  private endedInOrder(): void {
    this.peerEnded = true
    this.wake()
    this.flowEnd()
  }

  private unpause(): void {
    this.paused = false
    if (this.watched !== undefined) unwatchPeer(this.watched)
  }

  lost(): void {
    this.closed = true
    this.writeEnded = true
    if (this.paused) this.unpause()
    this.wake()
    this.observer?.onClose()
  }

  private wake(): void {
    const reader = this.reader
    if (reader === undefined) return
    this.reader = undefined
    reader(this.take)
  }

  // Nobody will read or write these any more.
  private abandon(): void {
    this.writeEnded = true
    this.flow = undefined
    this.chunks = []
    this.unpulled = 0
    if (this.paused) this.unpause()
  }

  // Node's "drain" event tells of writes above its high-water mark only, and a callback on every write costs a turn of
  // `nextTick` each. An empty write behind what is pending costs nothing until something is pending.
  private awaitDrain(): void {
    if (this.awaitingDrain) return
    this.awaitingDrain = true
    this.duplex.write(nothing, (error) => this.written(error))
  }

  private written(error?: Error | null): void {
    this.awaitingDrain = false
    // A write that fails calls those that wait behind it, before the socket is destroyed. Another write here would be called
    // as well, and so on without end.
    if (error instanceof Error || this.closed || this.duplex.destroyed) return
    if (this.duplex.writableLength > 0) {
      if (this.writeEnded) this.duplex.once("finish", () => this.written())
      else this.awaitDrain()
    } else if (this.observer === undefined) this.drainOwed = true
    else this.observer.onDrain()
  }
}

const flowOn = (transport: SocketTransport): void => transport.flowOn()

const connectionLost = (cause: Error): FastCgiTransportError =>
  new FastCgiTransportError({
    message: (cause as NodeJS.ErrnoException).code === "ECONNRESET"
      ? "The peer reset the connection"
      : `The connection was lost: ${cause.message}`,
    cause
  })
