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

/** A setting that `parse` makes something of, or undefined. `expected` says what it has to be. */
export const setting = <A>(
  name: Setting,
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
const settings = [
  "FASTCGI_ALLOW",
  "FASTCGI_ALLOW_HALF_OPEN",
  "FASTCGI_BACKLOG",
  "FASTCGI_BASE_PATH",
  "FASTCGI_CONCURRENCY",
  "FASTCGI_DISABLE_PREEMPTIVE_SHUTDOWN",
  "FASTCGI_GRACEFUL_SHUTDOWN_TIMEOUT",
  "FASTCGI_HANDLER_TIMEOUT",
  "FASTCGI_IDLE_TIMEOUT",
  "FASTCGI_INPUT_HIGH_WATER_MARK",
  "FASTCGI_LINGER_TIMEOUT",
  "FASTCGI_LISTEN",
  "FASTCGI_MAX_BUFFERED_INPUT",
  "FASTCGI_MAX_CONNECTIONS",
  "FASTCGI_MAX_PARAMS_COUNT",
  "FASTCGI_MAX_PARAMS_SIZE",
  "FASTCGI_MAX_REQUESTS",
  "FASTCGI_MAX_REQUESTS_IN_PARAMS",
  "FASTCGI_MAX_REQUESTS_PER_CONNECTION",
  "FASTCGI_MULTIPLEXING",
  "FASTCGI_OUTPUT_HIGH_WATER_MARK",
  "FASTCGI_OVERLOAD",
  "FASTCGI_PARAMS_TIMEOUT",
  "FASTCGI_SOCKET_MODE",
  "FASTCGI_STALL_TIMEOUT",
  "FASTCGI_URL_FROM",
  "FASTCGI_WRITE_TIMEOUT"
] as const

type Setting = typeof settings[number]

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

const orUnbounded = <A>(parse: (text: string) => A | undefined) => (text: string): A | "unbounded" | undefined =>
  text === "unbounded" ? "unbounded" : parse(text)

const aCount = "a whole number from 1"
const aDuration = "a duration with its unit, such as \"30 seconds\" or \"500 millis\""

/** A whole number from 1. */
export const count = (name: Setting) => setting(name, aCount, parseCount)

/** A whole number from 1, or "unbounded". */
export const countOrUnbounded = (name: Setting) => setting(name, `${aCount}, or "unbounded"`, orUnbounded(parseCount))

/** A number of bytes, or one with a unit: 65536, 64 KiB. */
export const size = (name: Setting) =>
  setting(name, "a number of bytes from 1, or one with a unit, such as \"64 KiB\"", parseSize)

/** A duration with its unit: 30 seconds. */
export const duration = (name: Setting) => setting(name, aDuration, parseDuration)

/** A duration with its unit, or "unbounded". */
export const durationOrUnbounded = (name: Setting) =>
  setting(name, `${aDuration}, or "unbounded"`, orUnbounded(parseDuration))

/** true or false, yes or no, on or off, 1 or 0. */
export const flag = (name: Setting) =>
  setting(
    name,
    "true or false",
    (text) => /^(?:true|yes|on|1)$/.test(text) ? true : /^(?:false|no|off|0)$/.test(text) ? false : undefined
  )

/** One of these words. */
export const oneOf = <const Words extends ReadonlyArray<string>>(name: Setting, words: Words) =>
  setting(name, words.join(" or "), (text): Words[number] | undefined => words.find((word) => word === text))

/** Whether the environment has the variable, with nothing in it. A `ConfigProvider` takes that for not set. */
export const isSetToNothing = (name: Setting): Effect.Effect<boolean, Config.ConfigError> =>
  Effect.map(
    Config.option(Config.String(name)).parse(ConfigProvider.fromEnv({ preserveEmptyStrings: true })),
    Option.contains("")
  )
