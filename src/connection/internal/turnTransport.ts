/**
 * What the transports have in common that the scheduler drives: bytes that have arrived, and those who are told. Whoever owns such a
 * transport never runs inside a call of its own.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scheduler from "effect/Scheduler"
import type { Chunks } from "./inputStream.ts"
import type {
  FastCgiPullError,
  FastCgiTransportError,
  FastCgiTransportObserver,
  FastCgiTransportReader
} from "./transportModel.ts"

type Pulled = Effect.Effect<Chunks, FastCgiPullError>

/** A transport that tells on a turn of the scheduler. */
export abstract class TurnTransport {
  readonly peer: Option.Option<NetAddress.SocketAddress>
  private readonly dispatcher: Scheduler.SchedulerDispatcher
  // What has arrived, while nobody takes it, and how many bytes that is.
  protected arrived: Array<Uint8Array> = []
  protected unread = 0
  protected inputEnded = false
  protected loss: FastCgiTransportError | undefined
  protected flow: FastCgiTransportReader | undefined
  protected paused = false
  protected drainOwed = false
  protected closed = false
  // Whether the owner is being told something, and a turn of the scheduler will tell it.
  protected calling = false
  protected scheduled = false
  private reader: ((pulled: Pulled) => void) | undefined
  private observer: FastCgiTransportObserver | undefined
  private closeTold = false

  constructor(dispatcher: Scheduler.SchedulerDispatcher, peer: NetAddress.SocketAddress | undefined) {
    this.dispatcher = dispatcher
    this.peer = Option.fromUndefinedOr(peer)
  }

  /** Tells what has happened. */
  protected abstract tell(): void

  /** The bytes that have arrived. */
  protected abstract take(): Chunks | undefined

  abstract pendingUnsafe(): number
  abstract destroyUnsafe(): void

  readonly pull: Pulled = Effect.suspend(() =>
    this.available() ?? Effect.callback<Chunks, FastCgiPullError>((resume) => {
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

  resumeUnsafe(): void {
    this.paused = false
    this.schedule()
  }

  observeUnsafe(observer: FastCgiTransportObserver): void {
    this.observer = observer
    this.schedule()
  }

  protected arrive(chunks: ReadonlyArray<Uint8Array>): void {
    for (const chunk of chunks) {
      if (chunk.length === 0) continue
      this.arrived.push(chunk)
      this.unread += chunk.length
    }
  }

  protected schedule(): void {
    if (this.scheduled) return
    this.scheduled = true
    this.dispatcher.scheduleTask(this.turn, 0)
  }

  private readonly turn = (): void => {
    this.scheduled = false
    this.tell()
  }

  // The bytes that have arrived, the end, or nothing yet.
  protected available(): Pulled | undefined {
    const arrived = this.take()
    if (arrived !== undefined) return Effect.succeed(arrived)
    if (this.loss !== undefined) return Effect.fail(this.loss)
    return this.closed || (this.inputEnded && this.unread === 0) ? Cause.done() : undefined
  }

  protected tellDrained(): void {
    const { observer } = this
    if (!this.drainOwed || this.closed || this.pendingUnsafe() > 0 || observer === undefined) return
    this.drainOwed = false
    this.call(() => observer.onDrain())
  }

  protected tellClosed(): void {
    if (!this.closed || this.closeTold || this.observer === undefined) return
    this.closeTold = true
    this.observer.onClose()
  }

  protected tellReader(): void {
    const { flow, reader } = this
    if (reader !== undefined) {
      const available = this.available()
      if (available === undefined) return
      this.reader = undefined
      reader(available)
    } else if (flow !== undefined && !this.paused && !this.closed) {
      const arrived = this.take()
      if (arrived !== undefined) {
        this.call(() => flow.onRead(arrived))
        // The end that came with it is told behind it.
        if (this.unread > 0 || this.inputEnded) this.schedule()
      } else if (this.inputEnded && this.unread === 0) {
        this.flow = undefined
        this.call(() => flow.onReadEnd(), flow)
      }
    }
  }

  // Thrown on, a defect of the owner would end the process, or the fiber that has come to tell it something.
  private call(tell: () => void, flow = this.flow): void {
    this.calling = true
    const called = Result.try(tell)
    this.calling = false
    if (Result.isSuccess(called)) return
    this.destroyUnsafe()
    flow?.onReadDefect(called.failure)
  }
}
