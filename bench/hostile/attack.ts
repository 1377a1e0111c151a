/** What is measured: ways to send bytes to something. */
import * as Logger from "effect/Logger"

/** A way to send bytes to something, measured as often as it takes. */
export interface Attack {
  readonly name: string
  /** Sends once, waits for all that it has set off, and gives how many bytes were taken. */
  readonly play: () => Promise<number>
  /**
   * What `play` sends many of, where each takes a few bytes: beyond `maxRatio` one may cost `maxEach` honest requests or
   * answers, which are what it is instead of.
   */
  readonly few?: readonly [count: number, what: "record" | "request"]
}

export interface Side {
  readonly name: string
  /** Its `few` says how many requests or answers it is. */
  readonly honest: Attack
  readonly attacks: ReadonlyArray<Attack>
}

/** Lines are made and go nowhere. */
export const logs = Logger.layer([Logger.map(Logger.formatLogFmt, () => {})])
