/**
 * Log messages that a peer decides how often to cause: the same complaint is logged at most once in ten seconds, annotated
 * with how many were left out since the last one (`suppressed`).
 */
import * as Effect from "effect/Effect"

/** What has been logged when, by kind. */
export class LimitedLog {
  private readonly fork: (effect: Effect.Effect<void>) => void
  private readonly logged = new Map<string, { at: number; suppressed: number }>()

  constructor(fork: (effect: Effect.Effect<void>) => void) {
    this.fork = fork
  }

  log(kind: string, message: Effect.Effect<void>): void {
    this.fork(
      Effect.clockWith((clock) => {
        const now = clock.currentTimeMillisUnsafe()
        const last = this.logged.get(kind)
        if (last !== undefined && now - last.at < interval) {
          last.suppressed++
          return Effect.void
        }
        this.logged.set(kind, { at: now, suppressed: 0 })
        return last === undefined || last.suppressed === 0
          ? message
          : Effect.annotateLogs(message, { suppressed: last.suppressed })
      })
    )
  }
}

// Milliseconds.
const interval = 10_000
