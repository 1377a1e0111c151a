import { assert, describe, it } from "@effect/vitest"
import { FastCgiClient, FastCgiHttpClient } from "effect-fastcgi/client"
import { NodeFastCgi, NodeFastCgiConnector } from "effect-fastcgi/node"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import type * as Net from "node:net"
import { fileURLToPath } from "node:url"
import { programFile } from "../support/programFile.ts"
import { spawned, withListening } from "./children.ts"
import { connectCode, temporaryDirectory } from "./sockets.ts"

const get = (to: NodeFastCgiConnector.NodeFastCgiConnectorOptions, path: string) =>
  Effect.scoped(Effect.gen(function*() {
    const client = yield* FastCgiHttpClient.make({ connect: NodeFastCgiConnector.connect(to) })
    const response = yield* client.get(`http://localhost${path}`)
    return `${response.status} ${yield* response.text}`
  }))

const Routes = Layer.mergeAll(
  HttpRouter.add("GET", "/", HttpServerResponse.text("Hello")),
  // Takes the services of Node: file system, ETags and the HTTP platform.
  HttpRouter.add("GET", "/file", HttpServerResponse.file(fileURLToPath(import.meta.url)))
)

const serve = <E>(
  server: Layer.Layer<HttpServer.HttpServer | NodeFastCgi.NodeFastCgiServices, E>,
  routes: typeof Routes = Routes
) =>
  Layer.build(
    HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(Layer.provideMerge(server))
  )

describe("NodeFastCgi.layer", () => {
  it.live("serves an app on a path, on a port, and on several sockets", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = `${directory}/app.sock`
      yield* serve(NodeFastCgi.layer({ path, mode: 0o600 }))
      assert.strictEqual(yield* get({ path }, "/"), "200 Hello")
      assert.strictEqual(
        yield* get({ path }, "/file"),
        `200 ${Fs.readFileSync(fileURLToPath(import.meta.url), "utf8")}`
      )
      assert.strictEqual(Fs.statSync(path).mode & 0o777, 0o600)

      const onPort = Context.get(yield* serve(NodeFastCgi.layer({ port: 0 })), HttpServer.HttpServer)
      const { port } = onPort.address as NetAddress.InetAddress
      assert.strictEqual(yield* get({ port }, "/"), "200 Hello")

      const paths = [`${directory}/1.sock`, `${directory}/2.sock`]
      const several = yield* serve(NodeFastCgi.layer({ listeners: paths.map((path) => ({ path })) }))
      assert.strictEqual(
        NetAddress.formatSocketAddress(Context.get(several, HttpServer.HttpServer).address),
        paths[0]
      )
      for (const path of paths) assert.strictEqual(yield* get({ path }, "/"), "200 Hello")
    }))

  it.live("logs every port of several listeners", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const log = Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])
      const path = `${yield* temporaryDirectory}/app.sock`
      yield* serve(Layer.provide(NodeFastCgi.layer({ listeners: [{ port: 0 }, { path }, { port: 0 }] }), log))
      assert.strictEqual(lines.length, 2)
      for (const line of lines) assert.match(line, /^Listening on fastcgi:\/\/127\.0\.0\.1:\d+, for a web server/)
      assert.notStrictEqual(lines[0], lines[1])
    }))

  it.live("says that a port is none of HTTP, in its log and to whoever speaks HTTP to it", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const log = Logger.layer([
        Logger.make(({ logLevel, message }) => void lines.push(`${logLevel} ${String(message)}`))
      ])
      const context = yield* serve(Layer.provide(NodeFastCgi.layer({ port: 0 }), log))
      const { port } = Context.get(context, HttpServer.HttpServer).address as NetAddress.InetAddress
      assert.deepStrictEqual(lines, [`Info Listening on fastcgi://127.0.0.1:${port}, for a web server: no HTTP`])
      // What is unread when the answer comes does not cost it.
      for (const body of ["", "x".repeat(300_000)]) {
        const response = yield* Effect.promise(() =>
          fetch(`http://127.0.0.1:${port}/`, body === "" ? {} : { method: "POST", body })
        )
        assert.strictEqual(response.status, 400)
        assert.match(yield* Effect.promise(() => response.text()), /^This port speaks FastCGI and no HTTP/)
      }
      const path = `${yield* temporaryDirectory}/app.sock`
      yield* serve(Layer.provide(NodeFastCgi.layer({ path }), log))
      assert.strictEqual(lines.length, 1)
    }))

  it.live("fails with what to do when it cannot listen", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const error = yield* Effect.flip(serve(NodeFastCgi.layer({ path: directory })))
      assert.strictEqual(error._tag, "FastCgiListenerError")
      assert.strictEqual(error.reason._tag, "PathTaken")
    }))

  it.live("takes its options from a Config", () =>
    Effect.gen(function*() {
      const path = `${yield* temporaryDirectory}/app.sock`
      const layer = NodeFastCgi.layerConfig({
        path: Config.String("APP_SOCKET"),
        maxRequests: Config.Int("APP_MAX_REQUESTS")
      })
      const provider = ConfigProvider.fromUnknown({ APP_SOCKET: path, APP_MAX_REQUESTS: "7" })
      yield* serve(layer.pipe(Layer.provide(ConfigProvider.layer(provider))))
      assert.strictEqual(yield* get({ path }, "/"), "200 Hello")
      // The limits arrive as well: what is enforced is what is advertised.
      const values = yield* Effect.scoped(Effect.flatMap(
        FastCgiClient.make({ connect: NodeFastCgiConnector.connect({ path }) }),
        (client) => client.getValues(["FCGI_MAX_REQS"])
      ))
      assert.deepStrictEqual({ ...values }, { FCGI_MAX_REQS: "7" })
      const error = yield* Effect.flip(serve(layer.pipe(
        Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ APP_SOCKET: path })))
      )))
      assert.strictEqual(error._tag, "ConfigError")
    }))

  it.live("finishes what runs when it is closed, and takes nothing new", () =>
    Effect.gen(function*() {
      const path = `${yield* temporaryDirectory}/app.sock`
      const entered = yield* Deferred.make<void>()
      const gate = yield* Deferred.make<void>()
      const scope = yield* Scope.fork(yield* Effect.scope)
      yield* Scope.provide(
        serve(
          NodeFastCgi.layer({ path }),
          HttpRouter.add(
            "GET",
            "/slow",
            Deferred.succeed(entered, undefined).pipe(
              Effect.andThen(Deferred.await(gate)),
              Effect.as(HttpServerResponse.text("finished"))
            )
          )
        ),
        scope
      )
      const running = yield* Effect.forkChild(get({ path }, "/slow"))
      yield* Deferred.await(entered)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      assert.strictEqual(yield* connectCode({ path }), "ENOENT")
      assert.isUndefined(closing.pollUnsafe())
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual(yield* Fiber.join(running), "200 finished")
      yield* Fiber.join(closing)
    }))
})

describe("NodeFastCgi.layer without options", () => {
  const fixture = programFile("test/node/fixtures/app.ts")

  it.live.each(["unix", "tcp"])(
    "serves an app that a web server has started on a %s socket, until SIGTERM",
    (kind) =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const path = `${directory}/app.sock`
        let port = 0
        const child = yield* withListening(kind === "unix" ? path : { host: "127.0.0.1" }, (fd, server) => {
          if (kind === "tcp") port = (server.address() as Net.AddressInfo).port
          return spawned(() => ChildProcess.spawn(process.execPath, [fixture], { stdio: [fd, "pipe", "pipe"] }))
        })
        const to = kind === "unix" ? { path } : { port }
        assert.strictEqual(yield* get(to, "/pid"), `200 pid ${child.process.pid}`)
        child.process.kill("SIGTERM")
        // Ended by itself and not by the signal.
        assert.deepStrictEqual(yield* child.exited, [0, null])
        // The address of the port, and nothing else.
        const line = kind === "unix"
          ? /^$/
          : new RegExp(`^\\S+ INFO \\S+: Listening on fastcgi://127\\.0\\.0\\.1:${port},.*\n$`)
        assert.match(child.stderr(), line)
        assert.deepStrictEqual(child.lines(), [])
        assert.strictEqual(yield* connectCode(to), "ECONNREFUSED")
      })
  )
})
