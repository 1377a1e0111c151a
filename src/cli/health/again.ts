/**
 * `--watch`: the same again and again.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/** Does it once, or again and again with a pause, until it is interrupted. */
export const again = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  interval: Duration.Duration | undefined
): Effect.Effect<void, E, R> =>
  interval === undefined
    ? Effect.asVoid(effect)
    : Effect.forever(Effect.andThen(effect, Effect.sleep(interval)))
