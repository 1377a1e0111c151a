/**
 * Flags that several commands have.
 */
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

/** A duration: a number of seconds, or one with a unit. */
export const duration = (name: string, description: string): Flag.Flag<Duration.Duration> =>
  Flag.String(name).pipe(
    Flag.filterMap(parseDuration, (text) => `--${name} takes a time such as 5, 5s, 500ms or 2m, not "${text}"`),
    Flag.withMetavar("time"),
    Flag.withDescription(description)
  )

/** A duration that may be left out. */
export const maybeDuration = (name: string, description: string): Flag.Flag<Duration.Duration | undefined> =>
  Flag.map(Flag.optional(duration(name, description)), Option.getOrUndefined)

/** A whole number from 1 on. */
export const count = (name: string, byDefault: number, description: string): Flag.Flag<number> =>
  Flag.Int(name).pipe(
    Flag.filter((value) => value >= 1, (value) => `--${name} takes a number from 1 on, not ${value}`),
    Flag.withMetavar("number"),
    Flag.withDescription(`${description} Default ${byDefault}.`),
    Flag.withDefault(byDefault)
  )

/** A switch, which is off by default. */
export const toggle = (name: string, description: string): Flag.Flag<boolean> =>
  Flag.Boolean(name).pipe(Flag.withDefault(false), Flag.withoutNegation, Flag.withDescription(description))

/** `--json`. */
export const json = (what: string): Flag.Flag<boolean> => toggle("json", `Print ${what} as JSON.`)

/** A flag that may be given more than once. */
export const several = (name: string, metavar: string, description: string): Flag.Flag<ReadonlyArray<string>> =>
  Flag.String(name).pipe(Flag.atLeast(0), Flag.withMetavar(metavar), Flag.withDescription(description))

/** A flag that may be left out. */
export const text = (name: string, metavar: string, description: string): Flag.Flag<string | undefined> =>
  Flag.String(name).pipe(
    Flag.withMetavar(metavar),
    Flag.withDescription(description),
    Flag.optional,
    Flag.map(Option.getOrUndefined)
  )

/** How the time of `--watch` and `--timeout` is written. */
export const parseDuration = (text: string): Option.Option<Duration.Duration> => {
  const match = /^(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h)?$/.exec(text.trim())
  if (match === null) return Option.none()
  const value = Number(match[1]) * units[match[2] ?? "s"]!
  return value > 0 ? Option.some(Duration.millis(value)) : Option.none()
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// In milliseconds.
const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }
