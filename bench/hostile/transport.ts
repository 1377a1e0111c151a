/** The end of a connection in memory that an attack holds. */
import type { FastCgiTransport } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

export abstract class AttackTransport implements FastCgiTransport.FastCgiTransport {
  readonly peer = Option.none()
  readonly pull = Effect.never
  protected reader: FastCgiTransport.FastCgiTransportReader | undefined
  protected observer: FastCgiTransport.FastCgiTransportObserver | undefined
  protected paused = false
  /** Whether the other side has closed, or ended what it sends. */
  over = false

  abstract writeUnsafe(chunks: ReadonlyArray<Uint8Array>): void

  flowUnsafe(reader: FastCgiTransport.FastCgiTransportReader): void {
    this.reader = reader
  }

  observeUnsafe(observer: FastCgiTransport.FastCgiTransportObserver): void {
    this.observer = observer
  }

  pauseUnsafe(): void {
    this.paused = true
  }

  resumeUnsafe(): void {
    this.paused = false
  }

  pendingUnsafe = () => 0

  endUnsafe(): void {
    this.over = true
  }

  resetUnsafe(): void {
    this.over = true
  }

  destroyUnsafe(): void {
    this.over = true
    this.observer?.onClose()
  }
}
