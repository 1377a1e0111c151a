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
import * as FastCgiLimits from "../FastCgiLimits.ts"

/** A setting that `parse` makes something of, or undefined. `expected` says what it has to be. */
export const setting = <A>(
  name: string,
  expected: string,
  parse: (text: string) => A | undefined
): Config.Config<A | undefined> =>
  Config.mapEffect(Config.option(Config.String(name)), (text) => {
    if (Option.isNone(text)) return Effect.succeed(undefined)
    const value = parse(text.value)
    return value === undefined
      ? Effect.fail(settingError(`${name}=${JSON.stringify(text.value)}: expected ${expected}`))
      : Effect.succeed(value)
  })

// Whoever reads it has set a variable, and wants to know which; where it was read tells them nothing.
const settingError = (message: string): Config.ConfigError => {
  const cause = new ConfigProvider.SourceError({ message })
  cause.toString = () => message
  return new Config.ConfigError(cause)
}

/** Every setting there is. A variable that begins like them and is none of them is a typing error. */
const settings: ReadonlyArray<string> = [
  ...[FastCgiLimits.admission, FastCgiLimits.server, FastCgiLimits.listener].flatMap((list) =>
    Object.keys(list).map(FastCgiLimits.settingName)
  ),
  "FASTCGI_ALLOW",
  "FASTCGI_ALLOW_HALF_OPEN",
  "FASTCGI_BASE_PATH",
  "FASTCGI_DISABLE_PREEMPTIVE_SHUTDOWN",
  "FASTCGI_LISTEN",
  "FASTCGI_MULTIPLEXING",
  "FASTCGI_OVERLOAD",
  "FASTCGI_SOCKET_GROUP",
  "FASTCGI_SOCKET_MODE",
  "FASTCGI_SOCKET_USER",
  "FASTCGI_URL_FROM"
].sort()

/** Warns of what is set and is no setting, a typing error for instance. */
export const warnOfUnknown: Effect.Effect<void, Config.ConfigError> = Effect.gen(function*() {
  const provider = yield* ConfigProvider.ConfigProvider
  const known: ReadonlySet<string> = new Set(settings)
  for (const name of yield* Effect.mapError(namesBelow(provider, []), (error) => new Config.ConfigError(error))) {
    if (!known.has(name)) {
      yield* Effect.logWarning(`${name} is set, and is no setting: is one of these meant? ${settings.join(", ")}`)
    }
  }
})

const prefix = "FASTCGI"

// A provider of the environment knows the names by their parts, FASTCGI and LISTEN, one of an object as they are.
const namesBelow = (
  provider: ConfigProvider.ConfigProvider,
  path: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<string>, ConfigProvider.SourceError> =>
  Effect.flatMap(provider.load(path), (node) => {
    if (node === undefined) return Effect.succeed([])
    const own = path.length > 0 && node.value !== undefined ? [path.join("_")] : []
    if (node._tag !== "Record") return Effect.succeed(own)
    const keys = [...node.keys].filter((key) => path.length > 0 || key === prefix || key.startsWith(`${prefix}_`))
    return Effect.map(
      Effect.forEach(keys, (key) => namesBelow(provider, [...path, key])),
      (below) => [...own, ...below.flat()]
    )
  })

const parseCount = (text: string): number | undefined => /^[1-9]\d{0,14}$/.test(text) ? Number(text) : undefined

const parseSize = (text: string): number | undefined => {
  const size = parseCount(text) ??
    Option.getOrUndefined(Option.flatMap(ByteSize.fromString(text), ByteSize.toNumber))
  return size === undefined || size < 1 ? undefined : size
}

const parseDuration = (text: string): Duration.Duration | undefined =>
  Option.getOrUndefined(Option.filter(Duration.fromInput(text as Duration.Input), Duration.isPositive))

const parsers = { count: parseCount, bytes: parseSize, duration: parseDuration }

const expectations = {
  count: "a whole number from 1",
  bytes: "a number of bytes from 1, or one with a unit, such as \"64 KiB\"",
  duration: "a duration with its unit, such as \"30 seconds\" or \"500 millis\""
}

/** The options that a list of limits makes, each from its setting: 65536 or 64 KiB, 30 seconds, "unbounded" where that may be. */
export const limits = <List extends Readonly<Record<string, FastCgiLimits.FastCgiLimitDefinition>>>(
  list: List
): Config.Config<FastCgiLimits.OptionsOf<List>> => {
  const options: Record<string, Config.Config<unknown>> = {}
  for (const [option, { unbounded, unit }] of Object.entries(list)) {
    const parse: (text: string) => unknown = parsers[unit]
    options[option] = unbounded
      ? setting(
        FastCgiLimits.settingName(option),
        `${expectations[unit]}, or "unbounded"`,
        (text) => text === "unbounded" ? text : parse(text)
      )
      : setting(FastCgiLimits.settingName(option), expectations[unit], parse)
  }
  // What a setting is parsed to is what the definition of its limit says.
  return Config.all(options) as Config.Config<unknown> as Config.Config<FastCgiLimits.OptionsOf<List>>
}

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
