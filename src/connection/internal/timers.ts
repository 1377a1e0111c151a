/**
 * Times that have to pass before something is done, each under a name of its own. Most connections wait for none, and then
 * there is nothing but this object.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"

/** Starts an Effect of its own. */
export type Fork = (effect: Effect.Effect<void>) => Fiber.Fiber<void>

/** Times that may be running. Whoever needs some of the names takes an object that has more. */
export class Timers<in Name extends string> {
  private readonly fork: Fork
  private running: Map<string, Fiber.Fiber<void>> | undefined

  constructor(fork: Fork) {
    this.fork = fork
  }

  /** Calls `ring` after so many milliseconds, unless the time is running already, or is stopped before. */
  start(name: Name, milliseconds: number, ring: () => void): void {
    const running = this.running ??= new Map()
    if (running.has(name)) return
    const fiber = this.fork(Effect.delay(
      Effect.sync(() => {
        running.delete(name)
        ring()
      }),
      milliseconds
    ))
    running.set(name, fiber)
  }

  stop(name: Name): void {
    this.running?.get(name)?.interruptUnsafe()
    this.running?.delete(name)
  }

  stopAll(): void {
    if (this.running === undefined) return
    for (const fiber of this.running.values()) fiber.interruptUnsafe()
    this.running.clear()
  }
}

/** A time in milliseconds, from a point that means nothing, that no correction of the wall clock moves. */
export const millisecondsOf = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
