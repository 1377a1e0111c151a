/**
 * A transport over two streams of bytes: what is read comes from a pull, what is written is itself a pull that somebody
 * writes out. Whoever owns the transport never runs inside a call of its own: the fiber that reads, or that writes out, tells
 * what has happened, and otherwise the scheduler, behind that call.
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Socket from "effect/socket/Socket"
import type { Chunks } from "./inputStream.ts"
import { type FastCgiPullError, type FastCgiTransport, FastCgiTransportError } from "./transportModel.ts"
import { TurnTransport } from "./turnTransport.ts"

// Bytes that are read before anybody takes them, as in the buffer of a socket: so a peer that is lost is noticed while a request
// holds its input back.
const readAhead = 64 * 1024

// Bytes that are handed over to be written at once. They count as written when all of them are, and by that a peer that takes little is
// told from one that takes nothing.
const maxBatch = 64 * 1024

// How often what is told may lead to more within one turn.
const maxRounds = 4

/** A transport over two streams. */
export class StreamTransport extends TurnTransport implements FastCgiTransport {
  private taken: (() => void) | undefined
  // How reading failed. It is told behind what has been read, or at once where nobody reads.
  private inputLoss: FastCgiTransportError | undefined
  // What has been written and nobody has begun to write out, and the bytes that somebody is writing out.
  private outgoing: Array<Uint8Array> = []
  private queued = 0
  private handedOver = 0
  private outputEnded = false
  private writer: ((effect: Pull.Pull<Chunks>) => void) | undefined
  // It was closed when all of its output had been taken.
  endsInOrder = false
  // Whether something is to be told, and is being told.
  private unsettled = false
  private telling = false
  private whenClosed: (() => void) | undefined

  /** Calls `stop` once when the transport is closed in both directions: what feeds it and what writes it out may end. */
  onClosed(stop: () => void): void {
    this.whenClosed = stop
  }

  /** Feeds the transport from a pull, 64 KiB ahead of who reads it, and one pull. */
  readFrom<E, R>(upstream: Pull.Pull<Chunks, E, unknown, R>): Effect.Effect<void, never, R> {
    const next: Effect.Effect<void, never, R> = Pull.matchEffect(upstream, {
      onSuccess: (chunks) => {
        this.arrive(chunks)
        if (this.unread > 0) this.advance()
        return this.unread < readAhead ? next : Effect.flatMap(this.untilTaken, () => next)
      },
      onDone: () =>
        Effect.sync(() => {
          this.inputEnded = true
          this.schedule()
        }),
      onFailure: (cause) =>
        Effect.sync(() => {
          const error = Cause.squash(cause)
          if (isEnd(error)) this.inputEnded = true
          else this.inputLoss = toLoss(error)
          this.schedule()
        })
    })
    return next
  }

  /** What is written, to be written out: each pull takes it that the one before is done. */
  readonly output: Pull.Pull<Chunks> = Effect.suspend(() => {
    this.accept()
    return this.takeOutput() ?? this.untilOutput
  })

  private readonly noWriter = Effect.sync(() => {
    this.writer = undefined
  })

  private readonly untilOutput: Pull.Pull<Chunks> = Effect.callback((resume) => {
    this.writer = resume
    return this.noWriter
  })

  /** The bytes cannot be read, or written, any more. */
  failUnsafe(cause: unknown): void {
    if (this.closed) return
    this.loss = toLoss(cause)
    this.close()
  }

  pauseUnsafe(): void {
    this.paused = true
    if (this.inputLoss !== undefined) this.schedule()
  }

  writeUnsafe(chunks: ReadonlyArray<Uint8Array>): void {
    if (this.closed || this.outputEnded) return
    for (const chunk of chunks) {
      if (chunk.length === 0) continue
      this.outgoing.push(chunk)
      this.queued += chunk.length
    }
    if (this.queued === 0) return
    this.drainOwed = true
    this.schedule()
  }

  pendingUnsafe(): number {
    return this.queued + this.handedOver
  }

  endUnsafe(): void {
    if (this.outputEnded) return
    this.outputEnded = true
    this.schedule()
  }

  destroyUnsafe(): void {
    this.flow = undefined
    this.close()
  }

  resetUnsafe(): void {
    this.destroyUnsafe()
  }

  private readonly untilTaken: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.unread < readAhead) resume(Effect.void)
    else this.taken = () => resume(Effect.void)
  })

  protected take(): Chunks | undefined {
    const { arrived } = this
    if (!Arr.isArrayNonEmpty(arrived)) return undefined
    this.arrived = []
    this.unread = 0
    return arrived
  }

  protected override available(): Effect.Effect<Chunks, FastCgiPullError> | undefined {
    const available = super.available()
    // There may be room for more.
    if (available !== undefined) this.schedule()
    return available
  }

  private takeOutput(): Pull.Pull<Chunks> | undefined {
    if (this.queued === 0) return this.outputEnded || this.closed ? Cause.done() : undefined
    this.handedOver = Math.min(this.queued, maxBatch)
    this.queued -= this.handedOver
    if (this.queued > 0) return Effect.succeed(this.firstBatch())
    const all = this.outgoing as unknown as Chunks
    this.outgoing = []
    return Effect.succeed(all)
  }

  private firstBatch(): Chunks {
    const { outgoing } = this
    let left = maxBatch
    let count = 0
    while (outgoing[count].length <= left) left -= outgoing[count++].length
    const batch = outgoing.splice(0, count)
    if (left > 0) {
      batch.push(outgoing[0].subarray(0, left))
      outgoing[0] = outgoing[0].subarray(left)
    }
    return batch as unknown as Chunks
  }

  // What was handed over has been written out.
  private accept(): void {
    this.handedOver = 0
    if (this.drainOwed && this.queued === 0) this.advance()
  }

  private close(): void {
    if (this.closed) return
    this.closed = true
    this.endsInOrder = this.loss === undefined && this.pendingUnsafe() === 0
    this.outgoing = []
    this.queued = 0
    this.handedOver = 0
    this.schedule()
  }

  // Tells at once, in a fiber that comes from outside, unless the owner is in the middle of something. Then that is told behind it, and
  // what comes stays in order.
  private advance(): void {
    this.unsettled = true
    if (!this.calling && !this.scheduled) this.tell()
  }

  protected override schedule(): void {
    this.unsettled = true
    if (!this.telling) super.schedule()
  }

  // What is written or taken by whoever is told is told on at once: with a turn of the scheduler for each step a request took a
  // quarter longer. Whoever always has something to say waits for the next turn all the same.
  protected tell(): void {
    const { telling } = this
    this.telling = true
    for (let rounds = 0; this.unsettled && rounds < maxRounds; rounds++) {
      this.unsettled = false
      this.tellOnce()
    }
    this.telling = telling
    if (this.unsettled) this.schedule()
    const { whenClosed } = this
    if (this.closed && whenClosed !== undefined) {
      this.whenClosed = undefined
      whenClosed()
    }
    this.tellClosed()
  }

  private tellOnce(): void {
    this.tellDrained()
    this.tellReader()
    if (this.unread === 0 && this.taken !== undefined) {
      const taken = this.taken
      this.taken = undefined
      taken()
    }
    if (this.inputLoss !== undefined && (this.paused || this.unread === 0)) this.failUnsafe(this.inputLoss)
    this.tellWriter()
    if (this.inputEnded && this.outputEnded && this.unread === 0 && this.pendingUnsafe() === 0) this.close()
  }

  private tellWriter(): void {
    const { writer } = this
    if (writer === undefined) return
    const output = this.takeOutput()
    if (output === undefined) return
    this.writer = undefined
    writer(output)
  }
}

// An Effect socket fails where its peer half-closes.
const isEnd = (error: unknown): boolean =>
  Socket.isSocketError(error) && error.reason._tag === "SocketCloseError" && error.reason.code === 1000

const toLoss = (cause: unknown): FastCgiTransportError =>
  cause instanceof FastCgiTransportError ? cause : new FastCgiTransportError({
    message: `The connection was lost: ${cause instanceof Error ? cause.message : String(cause)}`,
    cause
  })
