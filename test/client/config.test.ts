/**
 * A client and a gateway whose options the environment says.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiResponse, FastCgiServer } from "effect-fastcgi"
import { FastCgiGateway, FastCgiHttpClient, FastCgiPool } from "effect-fastcgi/client"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import { upstreamSettings } from "../../src/settings/settings.ts"

const provider = (env: Record<string, string>) =>
  Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env }))

const settings = {
  FASTCGI_UPSTREAM_KEEP_CONNECTION: "true",
  FASTCGI_UPSTREAM_MAX_REQUESTS: "4",
  FASTCGI_UPSTREAM_MAX_IDLE: "2",
  FASTCGI_UPSTREAM_IDLE_TIMEOUT: "5 seconds",
  FASTCGI_UPSTREAM_CONNECT_TIMEOUT: "6 seconds",
  FASTCGI_UPSTREAM_MAX_CONNECTIONS: "32",
  FASTCGI_UPSTREAM_MAX_WAITING: "64",
  FASTCGI_UPSTREAM_WAIT_TIMEOUT: "9 seconds",
  FASTCGI_UPSTREAM_MIN_IDLE: "1",
  FASTCGI_UPSTREAM_MAX_REQUESTS_PER_CONNECTION: "500",
  FASTCGI_UPSTREAM_MAX_FAILS: "unbounded",
  FASTCGI_UPSTREAM_FAIL_TIMEOUT: "10 seconds",
  FASTCGI_UPSTREAM_MAX_REPEATS: "0",
  FASTCGI_UPSTREAM_REPEAT_DELAY: "50 millis",
  FASTCGI_UPSTREAM_HEAD_TIMEOUT: "7 seconds",
  FASTCGI_UPSTREAM_BODY_TIMEOUT: "8 seconds",
  FASTCGI_UPSTREAM_MAX_HEAD_SIZE: "8 KiB",
  FASTCGI_UPSTREAM_CATCH_STDERR: "PHP Fatal error:",
  FASTCGI_UPSTREAM_END_AT_CLOSE: "yes",
  FASTCGI_UPSTREAM_GATHER_BODY: "no",
  FASTCGI_UPSTREAM_MAX_GATHERED_SIZE: "2 MiB",
  FASTCGI_UPSTREAM_DOCUMENT_ROOT: "/srv/www",
  FASTCGI_UPSTREAM_SCRIPT_FILENAME: "/srv/www/index.php",
  FASTCGI_UPSTREAM_SCRIPT_NAME: "/index.php",
  FASTCGI_UPSTREAM_SERVER_NAME: "example.test",
  FASTCGI_UPSTREAM_UPGRADE: "no"
}

const pool: FastCgiPool.FastCgiPoolSettings = {
  keepConnection: true,
  maxRequests: 4,
  maxConnections: 32,
  maxWaiting: 64,
  waitTimeout: Duration.seconds(9),
  minIdle: 1,
  maxIdle: 2,
  idleTimeout: Duration.seconds(5),
  maxRequestsPerConnection: 500,
  connectTimeout: Duration.seconds(6),
  maxFails: "unbounded",
  failTimeout: Duration.seconds(10),
  maxRepeats: 0,
  repeatDelay: Duration.millis(50)
}

const upstream: FastCgiHttpClient.FastCgiUpstreamSettings = {
  ...pool,
  headTimeout: Duration.seconds(7),
  bodyTimeout: Duration.seconds(8),
  maxHeadSize: 8192,
  catchStderr: "PHP Fatal error:",
  endAtClose: true,
  gatherBody: false,
  maxGatheredSize: 2_097_152,
  documentRoot: "/srv/www",
  scriptFilename: "/srv/www/index.php",
  scriptName: "/index.php"
}

describe("config", () => {
  it.effect("reads every option of the pool, the client and the gateway", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* FastCgiPool.config, pool)
      assert.deepStrictEqual(yield* FastCgiHttpClient.config, upstream)
      assert.deepStrictEqual(yield* FastCgiGateway.config, {
        ...upstream,
        serverName: "example.test",
        upgrade: false
      })
    }).pipe(provider(settings)))

  it("has only settings that a server beside it does not take for typing errors", () => {
    for (const name of Object.keys(settings)) assert.include(upstreamSettings, name)
  })

  it.effect("leaves what is not set to the defaults", () =>
    Effect.gen(function*() {
      for (const value of Object.values(yield* FastCgiGateway.config)) assert.isUndefined(value)
    }).pipe(provider({})))

  it.effect("fails for a wrong setting, and names it", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(FastCgiGateway.config)
      assert.strictEqual(error.message, "FASTCGI_UPSTREAM_MAX_IDLE=\"many\": expected a whole number from 1")
    }).pipe(provider({ FASTCGI_UPSTREAM_MAX_IDLE: "many" })))
})

// Answers with what it is told of the script.
const App = FastCgiServer.serve({
  responder: ({ keepConnection, params }) =>
    Effect.succeed(FastCgiResponse.make(
      `${params.get("SCRIPT_FILENAME")} ${params.get("SERVER_NAME")} ${keepConnection ? "kept" : "closed"}`
    ))
}).pipe(Layer.provideMerge(FastCgiTest.layerMemory))

const connect = Effect.flatMap(FastCgiTest.FastCgiMemory, (memory) => memory.connect)

describe("layerConfig", () => {
  it.effect("makes a client of what is set, and of what is given before that", () =>
    Effect.gen(function*() {
      const ask = (options: Partial<FastCgiHttpClient.FastCgiHttpClientOptions>) =>
        Effect.gen(function*() {
          const response = yield* HttpClient.get("http://localhost/a.php")
          return yield* response.text
        }).pipe(Effect.provide(FastCgiHttpClient.layerConfig({ connect, ...options })))
      assert.strictEqual(yield* ask({}), "/srv/www/a.php localhost kept")
      assert.strictEqual(
        yield* ask({ documentRoot: "/srv/other", keepConnection: undefined }),
        "/srv/other/a.php localhost kept"
      )
      assert.strictEqual(yield* ask({ keepConnection: false }), "/srv/www/a.php localhost closed")
    }).pipe(
      Effect.provide(App),
      provider({ FASTCGI_UPSTREAM_DOCUMENT_ROOT: "/srv/www", FASTCGI_UPSTREAM_KEEP_CONNECTION: "on" })
    ))

  it.effect("makes a gateway", () =>
    Effect.gen(function*() {
      // The gateway is itself behind FastCGI here: any HttpServer will do.
      const { connect } = Context.get(yield* Layer.build(App), FastCgiTest.FastCgiMemory)
      yield* Layer.build(FastCgiGateway.layerConfig({ connect }))
      const response = yield* HttpClient.get("/a.php")
      assert.strictEqual(yield* response.text, "/srv/www/a.php example.test closed")
    }).pipe(
      Effect.scoped,
      Effect.provide(Layer.fresh(FastCgiTest.layerTest)),
      provider({ FASTCGI_UPSTREAM_DOCUMENT_ROOT: "/srv/www", FASTCGI_UPSTREAM_SERVER_NAME: "example.test" })
    ))

  it.effect("fails where the layer is built when a setting is wrong", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.scoped(Layer.build(FastCgiHttpClient.layerConfig({ connect }))))
      assert.include(error.message, "FASTCGI_UPSTREAM_HEAD_TIMEOUT")
    }).pipe(Effect.provide(App), provider({ FASTCGI_UPSTREAM_HEAD_TIMEOUT: "soon" })))
})
