/**
 * Connecting to a UNIX socket whose backlog is full. Linux says so at once (EAGAIN), and tells nobody when there is room, so that
 * asking again is all there is. One of those who connect asks, and the others wait behind it in order.
 */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"

// How long until it is asked again, in milliseconds: from 1, twice as long each time.
const longestDelay = 10

/** Tries again while the backlog is full. `onFull` is called when it is for the first time. */
export const makePatient = <A, E, R>(attempt: Effect.Effect<A, E, R>, isFull: (error: E) => boolean) => {
  const line = Semaphore.makeUnsafe(1)
  let waiting = 0
  const asking = Effect.suspend(() => {
    let delay = 1
    const ask: Effect.Effect<A, E, R> = Effect.catchIf(attempt, isFull, () => {
      const wait = Effect.sleep(delay)
      delay = Math.min(delay * 2, longestDelay)
      return Effect.andThen(wait, ask)
    })
    return ask
  })
  const inLine = (onFull: () => void) =>
    Effect.suspend(() => {
      onFull()
      waiting++
      return Effect.ensuring(
        line.withPermit(asking),
        Effect.sync(() => {
          waiting--
        })
      )
    })
  return (onFull: () => void): Effect.Effect<A, E, R> =>
    // A later fiber waits behind the earlier ones.
    Effect.suspend(() => waiting > 0 ? inLine(onFull) : Effect.catchIf(attempt, isFull, () => inLine(onFull)))
}
