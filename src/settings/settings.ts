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
import type * as Result from "effect/Result"

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

/** A setting whose `parse` says what is wrong with the text. */
export const checked = <A>(
  name: string,
  expected: string,
  parse: (text: string) => Result.Result<A, { readonly message: string }>
): Config.Config<A | undefined> =>
  Config.mapEffect(Config.option(Config.String(name)), (text) =>
    Option.isNone(text)
      ? Effect.succeed(undefined)
      : Effect.mapError(
        Effect.fromResult(parse(text.value)),
        ({ message }) => settingError(`${name}=${JSON.stringify(text.value)}: expected ${expected}; ${message}`)
      ))

/** A setting that has to be there. */
export const required = <A>(
  name: string,
  expected: string,
  parse: (text: string) => A | undefined
): Config.Config<A> =>
  Config.mapEffect(setting(name, expected, parse), (value) =>
    value === undefined
      ? Effect.fail(settingError(`${name} is not set: expected ${expected}`))
      : Effect.succeed(value))

/** The reader has set a variable, and wants to know which one. The place in the code that reads it tells them nothing. */
export const settingError = (message: string): Config.ConfigError => {
  const cause = new ConfigProvider.SourceError({ message })
  cause.toString = () => message
  return new Config.ConfigError(cause)
}

/** Warns of a setting that has no effect, because the one that it belongs to is not set. */
export const warnOfIdle = (name: string, needed: string, missing: string): Effect.Effect<void> =>
  Effect.logWarning(`${name} is set, but ${needed} is not, so there is no ${missing}`)

/** The settings of a client and a gateway: where the application is, and how it is asked. */
export const upstreamSettings = [
  "FASTCGI_UPSTREAM",
  "FASTCGI_UPSTREAM_BODY_TIMEOUT",
  "FASTCGI_UPSTREAM_CATCH_STDERR",
  "FASTCGI_UPSTREAM_CONNECT_TIMEOUT",
  "FASTCGI_UPSTREAM_DOCUMENT_ROOT",
  "FASTCGI_UPSTREAM_END_AT_CLOSE",
  "FASTCGI_UPSTREAM_FAIL_TIMEOUT",
  "FASTCGI_UPSTREAM_GATHER_BODY",
  "FASTCGI_UPSTREAM_HEAD_TIMEOUT",
  "FASTCGI_UPSTREAM_IDLE_TIMEOUT",
  "FASTCGI_UPSTREAM_KEEP_CONNECTION",
  "FASTCGI_UPSTREAM_MAX_CONNECTIONS",
  "FASTCGI_UPSTREAM_MAX_FAILS",
  "FASTCGI_UPSTREAM_MAX_GATHERED_SIZE",
  "FASTCGI_UPSTREAM_MAX_HEAD_SIZE",
  "FASTCGI_UPSTREAM_MAX_IDLE",
  "FASTCGI_UPSTREAM_MAX_REPEATS",
  "FASTCGI_UPSTREAM_MAX_REQUESTS",
  "FASTCGI_UPSTREAM_MAX_REQUESTS_PER_CONNECTION",
  "FASTCGI_UPSTREAM_MAX_WAITING",
  "FASTCGI_UPSTREAM_MIN_IDLE",
  "FASTCGI_UPSTREAM_REPEAT_DELAY",
  "FASTCGI_UPSTREAM_SCRIPT_FILENAME",
  "FASTCGI_UPSTREAM_SCRIPT_NAME",
  "FASTCGI_UPSTREAM_SERVER_NAME",
  "FASTCGI_UPSTREAM_TLS",
  "FASTCGI_UPSTREAM_TLS_CA",
  "FASTCGI_UPSTREAM_TLS_CERT",
  "FASTCGI_UPSTREAM_TLS_KEY",
  "FASTCGI_UPSTREAM_TLS_SERVER_NAME",
  "FASTCGI_UPSTREAM_UPGRADE",
  "FASTCGI_UPSTREAM_WAIT_TIMEOUT"
] as const

/** How the text of a number, of a number of bytes and of a duration is read. */
export const parsers = {
  count: (text: string) => parseCount(text),
  bytes: (text: string) => parseSize(text),
  duration: (text: string) => parseDuration(text)
}

/** Descriptions of the expected values. */
export const expectations = {
  count: "a whole number from 1",
  bytes: "a number of bytes from 1, or one with a unit, such as \"64 KiB\"",
  duration: "a duration with its unit, such as \"30 seconds\" or \"500 millis\""
}

/** A whole number from 1. */
export const count = (name: string) => setting(name, expectations.count, parseCount)

/** The same, or none at all. */
export const countOrUnbounded = (name: string) =>
  setting(
    name,
    `${expectations.count}, or "unbounded"`,
    (text) => text === "unbounded" ? text : parseCount(text)
  )

/** A whole number from 0. */
export const countOrNone = (name: string) =>
  setting(name, "a whole number from 0", (text) => text === "0" ? 0 : parseCount(text))

/** A number of bytes, or one with a unit: 65536, 64 KiB. */
export const size = (name: string) => setting(name, expectations.bytes, parseSize)

/** A duration with its unit: 30 seconds. */
export const duration = (name: string) => setting(name, expectations.duration, parseDuration)

/** Any text but none. */
export const text = (name: string) => setting(name, "some text", (text) => text)

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

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const parseCount = (text: string): number | undefined => /^[1-9]\d{0,14}$/.test(text) ? Number(text) : undefined

const parseSize = (text: string): number | undefined => {
  const size = parseCount(text) ??
    Option.getOrUndefined(Option.flatMap(ByteSize.fromString(text), ByteSize.toNumber))
  return size === undefined || size < 1 ? undefined : size
}

const parseDuration = (text: string): Duration.Duration | undefined =>
  Option.getOrUndefined(Option.filter(Duration.fromInput(text as Duration.Input), Duration.isPositive))
