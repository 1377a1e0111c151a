/**
 * A time that has to pass before something is done: at most one at a time, and none when nothing is waited for.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"

/** Starts an Effect of its own. */
export type Fork = (effect: Effect.Effect<void>) => Fiber.Fiber<void>

/** A time that may be running. */
export class Timer {
  private readonly fork: Fork
  private fiber: Fiber.Fiber<void> | undefined

  constructor(fork: Fork) {
    this.fork = fork
  }

  get running(): boolean {
    return this.fiber !== undefined
  }

  /** Calls `ring` after so many milliseconds, unless the time is running already, or is stopped before. */
  start(milliseconds: number, ring: () => void): void {
    if (this.fiber !== undefined) return
    this.fiber = this.fork(Effect.delay(
      Effect.sync(() => {
        this.fiber = undefined
        ring()
      }),
      milliseconds
    ))
  }

  stop(): void {
    this.fiber?.interruptUnsafe()
    this.fiber = undefined
  }
}

/** A time in milliseconds, from a point that means nothing, that no correction of the wall clock moves. */
export const millisecondsOf = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
