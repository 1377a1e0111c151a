/**
 * The settings of the environment that this package has, and those that lists of limits make.
 */
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { checked, expectations, parsers, setting, upstreamSettings } from "../../settings/settings.ts"
import * as FastCgiAccess from "../FastCgiAccess.ts"
import * as FastCgiLimits from "../FastCgiLimits.ts"

/** Every setting there is. A variable that begins like them and is none of them is a typing error. */
const settings: ReadonlyArray<string> = [
  ...[
    FastCgiLimits.admission,
    FastCgiLimits.server,
    FastCgiLimits.listener,
    FastCgiLimits.webSocket,
    FastCgiLimits.workers
  ].flatMap((list) => Object.keys(list).map(FastCgiLimits.settingName)),
  ...upstreamSettings,
  "FASTCGI_ACCESS_FORMAT",
  "FASTCGI_ACCESS_LOG",
  "FASTCGI_ALLOW",
  "FASTCGI_ALLOW_HALF_OPEN",
  "FASTCGI_BASE_PATH",
  "FASTCGI_DISABLE_PREEMPTIVE_SHUTDOWN",
  "FASTCGI_HTTP_METRICS",
  "FASTCGI_LISTEN",
  "FASTCGI_MULTIPLEXING",
  "FASTCGI_PROXY_PROTOCOL",
  "FASTCGI_TLS_CA",
  "FASTCGI_TLS_CERT",
  "FASTCGI_TLS_KEY",
  "FASTCGI_OVERLOAD",
  "FASTCGI_PING_PATH",
  "FASTCGI_PING_RESPONSE",
  "FASTCGI_POOL",
  "FASTCGI_SLOW_TIMEOUT",
  "FASTCGI_SLOW_TRACE_DEPTH",
  "FASTCGI_SOCKET_GROUP",
  "FASTCGI_SOCKET_MODE",
  "FASTCGI_SOCKET_USER",
  "FASTCGI_STATUS_ALLOW",
  "FASTCGI_STATUS_ALLOWED_HOSTS",
  "FASTCGI_STATUS_LISTEN",
  "FASTCGI_STATUS_PATH",
  "FASTCGI_URL_FROM",
  "FASTCGI_WEB_SOCKET_DEFLATE",
  "FASTCGI_WEB_SOCKET_ORIGINS",
  "FASTCGI_WEB_SOCKET_PROTOCOLS",
  "FASTCGI_WORKERS"
].sort()

/** Warns of what is set and is no setting, a typing error for instance. */
export const warnOfUnknown: Effect.Effect<void, Config.ConfigError> = Effect.gen(function*() {
  const provider = yield* ConfigProvider.ConfigProvider
  const known: ReadonlySet<string> = new Set(settings)
  for (const name of yield* Effect.mapError(namesBelow(provider, []), (error) => new Config.ConfigError(error))) {
    if (!known.has(name)) {
      yield* Effect.logWarning(
        `${name} is set, but there is no such setting. Did you mean one of these: ${settings.join(", ")}`
      )
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

/** The options that a list of limits makes, each from its setting: 65536 or 64 KiB, 30 seconds, "unbounded" where that may be. */
export const limits = <List extends Readonly<Record<string, FastCgiLimits.FastCgiLimitDefinition>>>(
  list: List
): Config.Config<FastCgiLimits.OptionsOf<List>> => {
  const options: Record<string, Config.Config<unknown>> = {}
  for (const [option, { unbounded, unit }] of Object.entries(list)) {
    const parse: (text: string) => unknown = parsers[unit]
    options[option] = setting(
      FastCgiLimits.settingName(option),
      unbounded ? `${expectations[unit]}, or "unbounded"` : expectations[unit],
      (text) => unbounded && text === "unbounded" ? text : parse(text)
    )
  }
  // The parsed value has the type of the limit's definition.
  return Config.all(options) as Config.Config<unknown> as Config.Config<FastCgiLimits.OptionsOf<List>>
}

/** Addresses and networks, or one of the words in their place. */
export const accessList = (
  name: string,
  expected = "addresses and networks, with commas between",
  words: ReadonlyArray<string> = []
): Config.Config<ReadonlyArray<string> | undefined> =>
  checked(name, expected, (text) => {
    if (words.includes(text)) return Result.succeed([text])
    const list = text.split(",").map((entry) => entry.trim())
    return Result.map(FastCgiAccess.fromEntries(list, { name: "the list" }), () => list)
  })

/** Whether a page of `FastCgiStatus` may have the path. php-fpm takes no other characters. */
export const isPagePath = (path: string): boolean => /^\/[A-Za-z0-9/_.~-]+$/.test(path)

/** What `isPagePath` holds for, in words. */
export const aPagePath = "\"/\" and letters, digits, \"/\", \"-\", \"_\", \".\" or \"~\" behind it"

/** The path of a page of `FastCgiStatus`. */
export const pagePath = (name: string): Config.Config<string | undefined> =>
  setting(name, aPagePath, (text) => isPagePath(text) ? text : undefined)

/** Whether the environment has the variable, with nothing in it. A `ConfigProvider` takes that for not set. */
export const isSetToNothing = (name: string): Effect.Effect<boolean, Config.ConfigError> =>
  Effect.map(
    Config.option(Config.String(name)).parse(ConfigProvider.fromEnv({ preserveEmptyStrings: true })),
    Option.contains("")
  )
