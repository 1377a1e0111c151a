/**
 * Options as `Config`: one setting of the environment each, undefined where it is not set.
 */
import * as ByteSize from "effect/ByteSize"
import * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/** A setting that may be left out. One that is there and wrong fails. */
export const optional = <A>(config: Config.Config<A>): Config.Config<A | undefined> =>
  Config.map(Config.option(config), Option.getOrUndefined)

const positive = (name: string) => Config.schema(Schema.Int.check(Schema.isGreaterThanOrEqualTo(1)), name)

const unbounded = (name: string) => Config.Literal("unbounded", name)

/** A whole number from 1. */
export const count = (name: string): Config.Config<number | undefined> => optional(positive(name))

/** A whole number from 1, or "unbounded". */
export const countOrUnbounded = (name: string): Config.Config<number | "unbounded" | undefined> =>
  optional(Config.orElse(unbounded(name), () => positive(name)))

/** A number of bytes, or one with a unit: 65536, 64 KiB. */
export const size = (name: string): Config.Config<number | undefined> =>
  optional(Config.orElse(positive(name), () => Config.map(Config.ByteSize(name), ByteSize.toNumberUnsafe)))

/** A duration with its unit: 30 seconds. */
export const duration = (name: string): Config.Config<Duration.Duration | undefined> => optional(Config.Duration(name))

/** A duration with its unit, or "unbounded". */
export const durationOrUnbounded = (name: string): Config.Config<Duration.Duration | "unbounded" | undefined> =>
  optional(Config.orElse(unbounded(name), () => Config.Duration(name)))

/** true or false, yes or no, on or off, 1 or 0. */
export const flag = (name: string): Config.Config<boolean | undefined> => optional(Config.Boolean(name))
