/**
 * Passes a connection on to another, byte by byte in both directions, and tells what passes.
 */
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import type { FastCgiTransport } from "../../connection/FastCgiTransport.ts"

/** Events, told at once. `fromClient` is the direction from the web server to the application. */
export interface RelayObserver {
  readonly onBytes: (fromClient: boolean, chunks: ReadonlyArray<Uint8Array>) => void
  readonly onEnd: (fromClient: boolean) => void
  readonly onReset: (fromClient: boolean) => void
}

/**
 * Passes on until both directions have ended, no faster than either side takes it. A half-close is passed on as one, a connection
 * that is lost by resetting the other. Interrupted, it closes both.
 */
export const relay = (
  client: FastCgiTransport,
  server: FastCgiTransport,
  observer: RelayObserver
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const ends = { client: new End(client), server: new End(server) }
    return Effect.all(
      [pump(ends.client, ends.server, true, observer), pump(ends.server, ends.client, false, observer)],
      {
        concurrency: 2,
        discard: true
      }
    ).pipe(Effect.ensuring(Effect.sync(() => {
      client.destroyUnsafe()
      server.destroyUnsafe()
    })))
  })

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

/** One side: its transport, and whoever waits until it has taken what was written. */
class End {
  closed = false
  readonly transport: FastCgiTransport
  private wake: (() => void) | undefined

  constructor(transport: FastCgiTransport) {
    this.transport = transport
    const told = () => {
      // A woken reader may wait again at once.
      const waiter = this.wake
      this.wake = undefined
      waiter?.()
    }
    transport.observeUnsafe({
      onDrain: told,
      onClose: () => {
        this.closed = true
        told()
      }
    })
  }

  readonly taken = Effect.callback<void>((resume) => {
    if (this.closed || this.transport.pendingUnsafe() === 0) return resume(Effect.void)
    this.wake = () => resume(Effect.void)
  })
}

const pump = (from: End, to: End, fromClient: boolean, observer: RelayObserver): Effect.Effect<void> => {
  const next: Effect.Effect<void> = Effect.suspend(() =>
    Pull.matchEffect(from.transport.pull, {
      onSuccess: (chunks) => {
        observer.onBytes(fromClient, chunks)
        // Nobody takes it any more: whoever sends it is to know.
        if (to.closed) return Effect.sync(() => from.transport.resetUnsafe())
        to.transport.writeUnsafe(chunks)
        return Effect.andThen(to.taken, next)
      },
      onDone: () =>
        Effect.sync(() => {
          observer.onEnd(fromClient)
          to.transport.endUnsafe()
        }),
      onFailure: () =>
        Effect.sync(() => {
          // The other side's, when it was this end that has reset it.
          if (!to.closed) observer.onReset(fromClient)
          to.transport.resetUnsafe()
        })
    })
  )
  return next
}
