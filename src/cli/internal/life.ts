/**
 * How the command ends when it is told to.
 */
import * as Effect from "effect/Effect"

let code = 130

/** From now on the command serves until it is told to end: SIGINT and SIGTERM are no failure then. */
export const servesUntilStopped: Effect.Effect<void> = Effect.sync(() => {
  code = 0
})

/** The exit code of a command that was told to end. */
export const stoppedCode = (): number => code
