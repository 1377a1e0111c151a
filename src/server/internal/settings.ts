/**
 * Options as `Config`: one setting of the environment each, undefined where it is not set. One that is there and wrong is an
 * error that names it, shows what it is, and says what it has to be.
 */
import * as ByteSize from "effect/ByteSize"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/** A setting that `parse` makes something of, or undefined. `expected` says what it has to be. */
export const setting = <A>(
  name: string,
  expected: string,
  parse: (text: string) => A | undefined
): Config.Config<A | undefined> =>
  Config.map(
    Config.option(Config.schema(
      Schema.String.check(
        Schema.makeFilter((text: string) =>
          parse(text) !== undefined || `${name}=${JSON.stringify(text)}: expected ${expected}`
        )
      ),
      name
    )),
    (text) => Option.isSome(text) ? parse(text.value) : undefined
  )

const parseCount = (text: string): number | undefined => /^[1-9]\d{0,14}$/.test(text) ? Number(text) : undefined

const parseSize = (text: string): number | undefined => {
  const size = parseCount(text) ??
    Option.getOrUndefined(Option.flatMap(ByteSize.fromString(text), ByteSize.toNumber))
  return size === undefined || size < 1 ? undefined : size
}

const parseDuration = (text: string): Duration.Duration | undefined =>
  Option.getOrUndefined(Option.filter(Duration.fromInput(text as Duration.Input), Duration.isPositive))

const orUnbounded = <A>(parse: (text: string) => A | undefined) => (text: string): A | "unbounded" | undefined =>
  text === "unbounded" ? "unbounded" : parse(text)

const aCount = "a whole number from 1"
const aDuration = "a duration with its unit, such as \"30 seconds\" or \"500 millis\""

/** A whole number from 1. */
export const count = (name: string) => setting(name, aCount, parseCount)

/** A whole number from 1, or "unbounded". */
export const countOrUnbounded = (name: string) => setting(name, `${aCount}, or "unbounded"`, orUnbounded(parseCount))

/** A number of bytes, or one with a unit: 65536, 64 KiB. */
export const size = (name: string) =>
  setting(name, "a number of bytes from 1, or one with a unit, such as \"64 KiB\"", parseSize)

/** A duration with its unit: 30 seconds. */
export const duration = (name: string) => setting(name, aDuration, parseDuration)

/** A duration with its unit, or "unbounded". */
export const durationOrUnbounded = (name: string) =>
  setting(name, `${aDuration}, or "unbounded"`, orUnbounded(parseDuration))

/** true or false, yes or no, on or off, 1 or 0. */
export const flag = (name: string) =>
  setting(
    name,
    "true or false",
    (text) => /^(?:true|yes|on|1)$/.test(text) ? true : /^(?:false|no|off|0)$/.test(text) ? false : undefined
  )

/** One of these words. */
export const oneOf = <const Words extends ReadonlyArray<string>>(name: string, words: Words) =>
  setting(name, words.join(" or "), (text): Words[number] | undefined => words.find((word) => word === text))

/** Whether the environment has the variable, with nothing in it. A `ConfigProvider` takes that for not set. */
export const isSetToNothing = (name: string): Effect.Effect<boolean, Config.ConfigError> =>
  Effect.map(
    Config.option(Config.String(name)).parse(ConfigProvider.fromEnv({ preserveEmptyStrings: true })),
    Option.contains("")
  )
