/**
 * Limits in real time, whatever clock a test runs on: a test that would hang says what did not come.
 */
import * as Effect from "effect/Effect"

/**
 * Dies, naming what did not come, when the effect takes longer than a test in memory ever takes for one wait, on a busy machine
 * too. `what` is asked when the time is over.
 */
export const within = (what: string | (() => string), seconds = 20) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.raceFirst(
    effect,
    Effect.callback<never>((resume) => {
      const timer = setTimeout(
        () =>
          resume(Effect.die(new Error(`not within ${seconds} seconds: ${typeof what === "string" ? what : what()}`))),
        seconds * 1000
      )
      return Effect.sync(() => clearTimeout(timer))
    })
  )
