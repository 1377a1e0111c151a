/**
 * Limits in real time, whatever clock a test runs on: a test that would hang says what did not come.
 */
import * as Effect from "effect/Effect"
import { performance } from "node:perf_hooks"

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

// Where nothing comes from outside, an event loop that has had nothing to do for so long will have nothing to do for ever. A process
// that others keep from running is not idle. Milliseconds.
const look = 1000
const busy = 50

/**
 * The same for a test in memory, as soon as this process has nothing left to do: within seconds, and on a busy machine no sooner
 * than it may. And in any case after `seconds`. `looks` is how many seconds it has to be idle: more where something inside of the
 * effect has a better message.
 */
export const withinMemory =
  (what: string | (() => string), seconds = 100, looks = 4) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.raceFirst(
      within(what, seconds)(effect),
      Effect.callback<never>((resume) => {
        let before = performance.eventLoopUtilization()
        let idle = 0
        const timer = setInterval(() => {
          const now = performance.eventLoopUtilization()
          idle = performance.eventLoopUtilization(now, before).active < busy ? idle + 1 : 0
          before = now
          if (idle >= looks) {
            resume(
              Effect.die(new Error(`nothing happens any more: waiting for ${typeof what === "string" ? what : what()}`))
            )
          }
        }, look)
        return Effect.sync(() => clearInterval(timer))
      })
    )
