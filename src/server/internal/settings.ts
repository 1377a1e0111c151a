/**
 * Options as `Config`: one setting of the environment each, undefined where it is not set.
 */
import * as ByteSize from "effect/ByteSize"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/** A setting that may be left out. One that is there and wrong fails. */
export const optional = <A>(config: Config.Config<A>): Config.Config<A | undefined> =>
  Config.map(Config.option(config), Option.getOrUndefined)

const positive = (name: string) => Config.schema(Schema.Int.check(Schema.isGreaterThanOrEqualTo(1)), name)

const positiveSize = Schema.ByteSize.check(
  Schema.makeFilter((size) => ByteSize.toNumberUnsafe(size) >= 1 || "Expected at least one byte")
)

const unbounded = (name: string) => Config.Literal("unbounded", name)

/** A whole number from 1. */
export const count = (name: string): Config.Config<number | undefined> => optional(positive(name))

/** A whole number from 1, or "unbounded". */
export const countOrUnbounded = (name: string): Config.Config<number | "unbounded" | undefined> =>
  optional(Config.orElse(unbounded(name), () => positive(name)))

/** A number of bytes, or one with a unit: 65536, 64 KiB. */
export const size = (name: string): Config.Config<number | undefined> =>
  optional(Config.orElse(positive(name), () => Config.map(Config.schema(positiveSize, name), ByteSize.toNumberUnsafe)))

/** A duration with its unit: 30 seconds. */
export const duration = (name: string): Config.Config<Duration.Duration | undefined> => optional(Config.Duration(name))

/** A duration with its unit, or "unbounded". */
export const durationOrUnbounded = (name: string): Config.Config<Duration.Duration | "unbounded" | undefined> =>
  optional(Config.orElse(unbounded(name), () => Config.Duration(name)))

/** true or false, yes or no, on or off, 1 or 0. */
export const flag = (name: string): Config.Config<boolean | undefined> => optional(Config.Boolean(name))

/** Whether the environment has the variable, with nothing in it. A `ConfigProvider` takes that for not set. */
export const isSetToNothing = (name: string): Effect.Effect<boolean, Config.ConfigError> =>
  Effect.map(
    Config.option(Config.String(name)).parse(ConfigProvider.fromEnv({ preserveEmptyStrings: true })),
    Option.contains("")
  )
