/**
 * What to listen on, and everything else, from the environment.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiHttpMetrics, FastCgiResponse, FastCgiServer, FastCgiSlowLog } from "effect-fastcgi"
import { FastCgiGateway, FastCgiHttpClient } from "effect-fastcgi/client"
import {
  NodeFastCgi,
  NodeFastCgiAccessLog,
  NodeFastCgiConnector,
  NodeFastCgiListener,
  NodeFastCgiStatus,
  NodeFastCgiWorkers
} from "effect-fastcgi/node"
import type * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../support/files.ts"
import { temporaryDirectory } from "./sockets.ts"

const provider = (env: Record<string, string>) =>
  Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env }))

describe("NodeFastCgiListener.config", () => {
  for (
    const [env, expected] of [
      [{}, [{ fd: 0 }]],
      [{ FASTCGI_LISTEN: "/run/a.sock" }, [{ path: "/run/a.sock" }]],
      [{ FASTCGI_LISTEN: "/run/a.sock", FASTCGI_SOCKET_MODE: "660" }, [{ path: "/run/a.sock", mode: 0o660 }]],
      [{ FASTCGI_LISTEN: "/run/a.sock", FASTCGI_SOCKET_USER: "app", FASTCGI_SOCKET_GROUP: "33" }, [
        { path: "/run/a.sock", owner: { user: "app", group: "33" } }
      ]],
      [{ FASTCGI_LISTEN: "unix:a.sock", FASTCGI_SOCKET_MODE: "0600" }, [{ path: "a.sock", mode: 0o600 }]],
      [{ FASTCGI_LISTEN: "9000", FASTCGI_BACKLOG: "64" }, [{ port: 9000, backlog: 64 }]],
      [{ FASTCGI_LISTEN: "[::1]:9000" }, [{ host: "::1", port: 9000 }]],
      [{ FASTCGI_LISTEN: "0.0.0.0:9000", FASTCGI_ALLOW: "192.0.2.1, 10.0.0.0/8" }, [
        { host: "0.0.0.0", port: 9000, allow: ["192.0.2.1", "10.0.0.0/8"] }
      ]],
      [{ FASTCGI_LISTEN: "9000", FASTCGI_PROXY_PROTOCOL: "10.0.0.0/8", FASTCGI_HANDSHAKE_TIMEOUT: "2 seconds" }, [
        {
          port: 9000,
          handshakeTimeout: { _id: "Duration", _tag: "Millis", millis: 2000 },
          proxyProtocol: ["10.0.0.0/8"]
        }
      ]],
      [{ FASTCGI_LISTEN: "/run/a.sock", FASTCGI_PROXY_PROTOCOL: "yes" }, [{
        path: "/run/a.sock",
        proxyProtocol: true
      }]],
      [{ FASTCGI_LISTEN: "fd:3" }, [{ fd: 3 }]],
      [{ FASTCGI_LISTEN: "systemd" }, [{ systemd: true }]],
      [{ FASTCGI_LISTEN: "systemd:web, :9000" }, [{ systemd: "web" }, { port: 9000 }]]
    ] as const
  ) {
    it.effect(`reads ${JSON.stringify(env)}`, () =>
      Effect.gen(function*() {
        const options = yield* NodeFastCgiListener.config
        assert.deepStrictEqual(JSON.parse(JSON.stringify(options)), expected as unknown)
      }).pipe(provider(env)))
  }

  for (
    const env of [
      { FASTCGI_LISTEN: "nowhere" },
      { FASTCGI_LISTEN: "9000,," },
      { FASTCGI_LISTEN: "70000" },
      { FASTCGI_LISTEN: "fd:-1" },
      { FASTCGI_SOCKET_MODE: "rw" },
      { FASTCGI_SOCKET_USER: "a:b" },
      { FASTCGI_SOCKET_GROUP: "-g" },
      { FASTCGI_SOCKET_MODE: "888" },
      { FASTCGI_BACKLOG: "0" },
      { FASTCGI_PROXY_PROTOCOL: "everybody" },
      { FASTCGI_HANDSHAKE_TIMEOUT: "never" },
      { FASTCGI_TLS_CERT: "/nowhere/app.crt" }
    ]
  ) {
    it.effect(`fails for ${JSON.stringify(env)}, and names the setting`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(NodeFastCgiListener.config)
        const [[name, value]] = Object.entries(env) as [[string, string]]
        assert.isTrue(error.message.startsWith(`${name}=${JSON.stringify(value)}: expected `), error.message)
      }).pipe(provider(env)))
  }
})

describe("NodeFastCgiConnector.config", () => {
  for (
    const [env, expected] of [
      [{ FASTCGI_UPSTREAM: "/run/a.sock" }, { path: "/run/a.sock" }],
      [{ FASTCGI_UPSTREAM: "[::1]:9000" }, { host: "::1", port: 9000 }],
      [{ FASTCGI_UPSTREAM: "9000", FASTCGI_UPSTREAM_CONNECT_TIMEOUT: "2 seconds" }, {
        port: 9000,
        connectTimeout: Duration.seconds(2)
      }]
    ] as const
  ) {
    it.effect(`reads ${JSON.stringify(env)}`, () =>
      Effect.gen(function*() {
        assert.deepStrictEqual({ connectTimeout: undefined, ...expected }, yield* NodeFastCgiConnector.config)
      }).pipe(provider(env)))
  }

  for (const env of [{}, { FASTCGI_UPSTREAM: "nowhere" }, { FASTCGI_UPSTREAM: "fd:0" }]) {
    it.effect(`fails for ${JSON.stringify(env)}, and names the setting`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(NodeFastCgiConnector.config)
        assert.match(error.message, /^FASTCGI_UPSTREAM(="\S+"| is not set): expected a UNIX socket path/)
      }).pipe(provider(env)))
  }
})

describe("NodeFastCgiConnector.upstreams", () => {
  const listed = Effect.map(
    NodeFastCgiConnector.upstreams,
    (upstreams) => upstreams.map(({ maxConnections, name, weight }) => ({ maxConnections, name, weight }))
  )

  for (
    const [text, expected] of [
      ["/run/a.sock", [{ maxConnections: undefined, name: undefined, weight: undefined }]],
      ["9000 weight=3", [{ maxConnections: undefined, name: undefined, weight: 3 }]],
      ["10.0.0.1:9000 weight=2, [::1]:9000  max_conns=4 weight=1,unix:/run/b.sock", [
        { maxConnections: undefined, name: "10.0.0.1:9000", weight: 2 },
        { maxConnections: 4, name: "[::1]:9000", weight: 1 },
        { maxConnections: undefined, name: "unix:/run/b.sock", weight: undefined }
      ]]
    ] as const
  ) {
    it.effect(`reads ${JSON.stringify(text)}`, () =>
      Effect.gen(function*() {
        assert.deepStrictEqual<unknown>(yield* listed, expected)
      }).pipe(provider({ FASTCGI_UPSTREAM: text })))
  }

  for (
    const text of [
      "nowhere",
      "9000,",
      "9000 weight=0",
      "9000 weight=1.5",
      "9000 weight",
      "9000 backup",
      "9000 weight=1 weight=2",
      "9000, 9000",
      "weight=2 9000"
    ]
  ) {
    it.effect(`fails for ${JSON.stringify(text)}, and says what it takes`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(listed)
        assert.match(error.message, /^FASTCGI_UPSTREAM=".*": expected a UNIX socket path.* weight=N and max_conns=N/)
      }).pipe(provider({ FASTCGI_UPSTREAM: text })))
  }

  it.live("connects to each of them, by weight", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryDirectory
      const paths = ["a", "b"].map((name) => Path.join(folder, `${name}.sock`))
      for (const path of paths) {
        yield* Layer.build(
          FastCgiServer.serve({ responder: Effect.succeed(FastCgiResponse.make(Path.basename(path))) }).pipe(
            Layer.provide(NodeFastCgiListener.layerUnix({ path }))
          )
        )
      }
      const env = { FASTCGI_UPSTREAM: `${paths[0]} weight=2, ${paths[1]}` }
      const client = Layer.unwrap(
        Effect.map(NodeFastCgiConnector.upstreams, (connect) => FastCgiHttpClient.layerConfig({ connect }))
      )
      const counts: Record<string, number> = {}
      yield* Effect.repeat(
        Effect.map(
          Effect.flatMap(HttpClient.get("http://x.test/"), (response) => response.text),
          (text) => counts[text] = (counts[text] ?? 0) + 1
        ),
        { times: 8 }
      ).pipe(Effect.provide(client), provider(env))
      assert.deepStrictEqual(counts, { "a.sock": 6, "b.sock": 3 })
    }))
})

/** What reading a `Config` warns of. */
const warningsOf = (config: Config.Config<unknown>, from: ConfigProvider.ConfigProvider) => {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => void lines.push(`${logLevel} ${String(message)}`))
  return Effect.as(config, lines).pipe(
    Effect.provideService(ConfigProvider.ConfigProvider, from),
    Effect.provide(Logger.layer([logger]))
  )
}

describe("a setting of a log that is not there", () => {
  for (
    const [config, name, needed, log] of [
      [NodeFastCgiAccessLog.config, "FASTCGI_ACCESS_FORMAT", "FASTCGI_ACCESS_LOG", "access log"],
      [FastCgiSlowLog.config, "FASTCGI_SLOW_TRACE_DEPTH", "FASTCGI_SLOW_TIMEOUT", "slow log"]
    ] as const
  ) {
    it.effect(`is warned of: ${name}`, () =>
      Effect.gen(function*() {
        const env = { FASTCGI_ACCESS_FORMAT: "common", FASTCGI_SLOW_TRACE_DEPTH: "5" }
        assert.deepStrictEqual(yield* warningsOf(config, ConfigProvider.fromEnv({ env })), [
          `Warn ${name} is set, but ${needed} is not, so there is no ${log}`
        ])
        const all = { ...env, FASTCGI_ACCESS_LOG: "stdout", FASTCGI_SLOW_TIMEOUT: "5 seconds" }
        assert.deepStrictEqual(yield* warningsOf(config, ConfigProvider.fromEnv({ env: all })), [])
        assert.deepStrictEqual(yield* warningsOf(config, ConfigProvider.fromEnv({ env: {} })), [])
      }))
  }
})

describe("a setting of a socket that FASTCGI_LISTEN does not name", () => {
  const none = "names no path of a UNIX socket"
  for (
    const [env, ...expected] of [
      [{ FASTCGI_LISTEN: "9000", FASTCGI_SOCKET_MODE: "660" }, ["FASTCGI_SOCKET_MODE", none]],
      [{ FASTCGI_LISTEN: "systemd, fd:3", FASTCGI_SOCKET_USER: "app", FASTCGI_SOCKET_GROUP: "app" }, [
        "FASTCGI_SOCKET_USER",
        none
      ], ["FASTCGI_SOCKET_GROUP", none]],
      [{ FASTCGI_SOCKET_MODE: "660" }, ["FASTCGI_SOCKET_MODE", none]],
      [{ FASTCGI_LISTEN: "/run/a.sock", FASTCGI_ALLOW: "10.0.0.0/8" }, [
        "FASTCGI_ALLOW",
        "names nothing but paths of UNIX sockets, where the file mode says who may connect"
      ]],
      [{ FASTCGI_LISTEN: "/run/a.sock", FASTCGI_SOCKET_MODE: "660", FASTCGI_ALLOW: "" }],
      [{ FASTCGI_LISTEN: "9000", FASTCGI_SOCKET_MODE: "", FASTCGI_ALLOW: "10.0.0.0/8" }],
      [{ FASTCGI_LISTEN: "9000, /run/a.sock", FASTCGI_SOCKET_MODE: "660", FASTCGI_ALLOW: "10.0.0.0/8" }]
    ] as const
  ) {
    it.effect(`is warned of: ${JSON.stringify(env)}`, () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(
          yield* warningsOf(NodeFastCgiListener.config, ConfigProvider.fromEnv({ env })),
          expected.map(([name, why]) => `Warn ${name} is set, but FASTCGI_LISTEN ${why}`)
        )
      }))
  }
})

describe("a variable that is no setting", () => {
  const warnings = (from: ConfigProvider.ConfigProvider) => warningsOf(NodeFastCgi.config, from)

  it.effect("is warned of where it begins like one", () =>
    Effect.gen(function*() {
      const env = { FASTCGI_LISTN: "9000", FASTCGI_IDLE_TIMEOUT_: "x", FASTCGI: "1", FASTCGI_MAX: "2", FASTCGIX: "3" }
      const known = {
        FASTCGI_MAX_REQUESTS: "7",
        FASTCGI_LISTEN: "9000",
        FCGI_WEB_SERVER_ADDRS: "127.0.0.1",
        PATH: "/bin"
      }
      const names = ["FASTCGI", "FASTCGI_IDLE_TIMEOUT_", "FASTCGI_LISTN", "FASTCGI_MAX"]
      for (
        const from of [
          ConfigProvider.fromEnv({ env: { ...env, ...known } }),
          ConfigProvider.fromUnknown({ ...env, ...known })
        ]
      ) {
        const lines = yield* warnings(from)
        assert.deepStrictEqual(
          lines.map((line) => line.split(" ", 2).join(" ")).sort(),
          names.map((name) => `Warn ${name}`)
        )
        assert.include(lines[0], "FASTCGI_LISTEN")
      }
      assert.deepStrictEqual(yield* warnings(ConfigProvider.fromEnv({ env: known })), [])
    }))

  it.effect("is none of those that are read", () =>
    Effect.gen(function*() {
      const page = Fs.readFileSync(Path.join(projectRoot, "docs/operations.md"), "utf8")
      const env = Object.fromEntries([...new Set(page.match(/\bFASTCGI_[A-Z_]+/g))].map((name) => [name, ""]))
      assert.deepStrictEqual(yield* warnings(ConfigProvider.fromEnv({ env })), [])
      assert.isAbove(Object.keys(env).length, 20)
    }))
})

describe("NodeFastCgi.config", () => {
  it.live("makes a server that listens where the environment says", () =>
    Effect.gen(function*() {
      const path = `${yield* temporaryDirectory}/app.sock`
      yield* Effect.gen(function*() {
        const server = yield* HttpServer.HttpServer
        assert.strictEqual(HttpServer.formatAddress(server.address), `unix://${path}`)
        assert.strictEqual(Fs.statSync(path).mode & 0o777, 0o640)
      }).pipe(
        Effect.provide(NodeFastCgi.layerConfig(NodeFastCgi.config)),
        provider({ FASTCGI_LISTEN: path, FASTCGI_SOCKET_MODE: "640" })
      )
    }))

  it.effect("reads the settings that docs/operations.md lists, and no others", () =>
    Effect.gen(function*() {
      const pages = ["operations", "monitoring"].map((page) =>
        Fs.readFileSync(Path.join(projectRoot, `docs/${page}.md`), "utf8")
      )
      const documented = new Set(pages.join("").match(/FASTCGI_[A-Z_]+/g))
      const asked = new Set<string>()
      const recording = ConfigProvider.make((path) =>
        Effect.sync(() => {
          if (path.length > 0) asked.add(path.join("_"))
          return undefined
        })
      )
      yield* Effect.all([
        NodeFastCgi.config,
        NodeFastCgiWorkers.config,
        NodeFastCgiStatus.config,
        NodeFastCgiAccessLog.config,
        FastCgiHttpMetrics.config,
        FastCgiSlowLog.config,
        FastCgiGateway.config,
        Effect.flip(NodeFastCgiConnector.config)
      ]).pipe(
        Effect.provideService(ConfigProvider.ConfigProvider, recording)
      )
      asked.delete("FASTCGI")
      assert.deepStrictEqual([...documented].sort(), [...asked].sort())
    }))
})

describe("NodeFastCgiListener.layer", () => {
  it("takes one kind of listener at a time", () => {
    // @ts-expect-error: it is a path or a port
    const both = NodeFastCgiListener.layer({ path: "/run/a.sock", port: 9000 })
    // @ts-expect-error: a port has no file mode
    const mode = NodeFastCgi.layer({ port: 9000, mode: 0o660 })
    assert.isDefined([both, mode])
  })
})
