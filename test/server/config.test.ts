/**
 * Every option can be set in the environment, and a setting that is wrong is an error that names it.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiAdmission, FastCgiServerOptions } from "effect-fastcgi"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

const provider = (env: Record<string, string>) =>
  Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env }))

const all = {
  FASTCGI_MAX_PARAMS_SIZE: "64 KiB",
  FASTCGI_MAX_PARAMS_COUNT: "100",
  FASTCGI_MAX_BODY_SIZE: "10 MiB",
  FASTCGI_MAX_CONCURRENT_REQUESTS_PER_CONNECTION: "8",
  FASTCGI_MAX_REQUESTS_PER_CONNECTION: "1000",
  FASTCGI_MAX_REQUESTS_IN_PARAMS: "9",
  FASTCGI_INPUT_HIGH_WATER_MARK: "1000",
  FASTCGI_MAX_BUFFERED_INPUT: "2 MB",
  FASTCGI_STALL_TIMEOUT: "3 seconds",
  FASTCGI_OUTPUT_HIGH_WATER_MARK: "4 KiB",
  FASTCGI_PARAMS_TIMEOUT: "500 millis",
  FASTCGI_HANDLER_TIMEOUT: "1 minute",
  FASTCGI_IDLE_TIMEOUT: "unbounded",
  FASTCGI_WRITE_TIMEOUT: "10 minutes",
  FASTCGI_LINGER_TIMEOUT: "7 seconds",
  FASTCGI_ALLOW_HALF_OPEN: "true",
  FASTCGI_MULTIPLEXING: "off",
  FASTCGI_OVERLOAD: "protocolStatus",
  FASTCGI_GRACEFUL_SHUTDOWN_TIMEOUT: "1 hour",
  FASTCGI_MAX_AFTER_RESPONSE: "7",
  FASTCGI_DISABLE_PREEMPTIVE_SHUTDOWN: "no"
}

describe("FastCgiServerOptions.config", () => {
  it.effect("reads every option", () =>
    Effect.gen(function*() {
      const options = yield* FastCgiServerOptions.config
      assert.deepStrictEqual(options, {
        maxParamsSize: 65_536,
        maxParamsCount: 100,
        maxBodySize: 10_485_760,
        maxConcurrentRequestsPerConnection: 8,
        maxRequestsPerConnection: 1000,
        maxRequestsInParams: 9,
        inputHighWaterMark: 1000,
        maxBufferedInput: 2_000_000,
        stallTimeout: Duration.seconds(3),
        outputHighWaterMark: 4096,
        paramsTimeout: Duration.millis(500),
        handlerTimeout: Duration.minutes(1),
        idleTimeout: "unbounded",
        writeTimeout: Duration.minutes(10),
        lingerTimeout: Duration.seconds(7),
        allowHalfOpen: true,
        multiplexing: false,
        overload: "protocolStatus",
        gracefulShutdownTimeout: Duration.hours(1),
        maxAfterResponse: 7,
        disablePreemptiveShutdown: false
      })
      // An option that is added needs a setting, except `values`, which is what the program itself has to say.
      assert.strictEqual(Object.keys(options).length, Object.keys(all).length)
    }).pipe(provider(all)))

  it.effect("leaves what is not set to the defaults", () =>
    Effect.gen(function*() {
      const options = yield* FastCgiServerOptions.config
      for (const value of Object.values(options)) assert.isUndefined(value)
    }).pipe(provider({})))

  for (
    const [name, value] of [
      ["FASTCGI_MAX_PARAMS_SIZE", "much"],
      ["FASTCGI_MAX_BUFFERED_INPUT", "0 KiB"],
      ["FASTCGI_OUTPUT_HIGH_WATER_MARK", "0"],
      ["FASTCGI_MAX_PARAMS_COUNT", "0"],
      ["FASTCGI_MAX_CONCURRENT_REQUESTS_PER_CONNECTION", "-1"],
      ["FASTCGI_STALL_TIMEOUT", "soon"],
      ["FASTCGI_IDLE_TIMEOUT", "30"],
      ["FASTCGI_MULTIPLEXING", "maybe"],
      ["FASTCGI_OVERLOAD", "OVERLOADED"]
    ] as const
  ) {
    it.effect(`fails for ${name}=${value}, and names it`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(FastCgiServerOptions.config)
        assert.include(error.message, name.slice("FASTCGI_".length))
      }).pipe(provider({ [name]: value })))
  }
})

describe("FastCgiAdmission.layerConfig", () => {
  it.effect("reads every option", () =>
    Effect.gen(function*() {
      const admission = yield* FastCgiAdmission.FastCgiAdmission
      assert.deepStrictEqual(
        [admission.maxConnections, admission.maxRequests, admission.concurrency],
        [10, "unbounded", 3]
      )
    }).pipe(
      Effect.provide(FastCgiAdmission.layerConfig()),
      provider({ FASTCGI_MAX_CONNECTIONS: "10", FASTCGI_MAX_REQUESTS: "unbounded", FASTCGI_CONCURRENCY: "3" })
    ))

  it.effect("fails for what is no number", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        Effect.provide(FastCgiAdmission.FastCgiAdmission, FastCgiAdmission.layerConfig())
      )
      assert.include(error.message, "MAX_REQUESTS")
    }).pipe(provider({ FASTCGI_MAX_REQUESTS: "many" })))
})
