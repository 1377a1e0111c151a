/**
 * The status on Node: what it knows of the process and of its sockets, and a port of its own.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiClient, FastCgiPhp } from "effect-fastcgi/client"
import { NodeFastCgi, NodeFastCgiConnector, NodeFastCgiStatus } from "effect-fastcgi/node"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Http from "node:http"
import * as Net from "node:net"
import * as Path from "node:path"
import { makeHostCheck } from "../../src/node/internal/hostHeader.ts"
import { listenQueue, waitingOnPath, waitingOnPort } from "../../src/node/internal/listenQueue.ts"
import * as WebServers from "../support/webServers.ts"
import { connectClient, nextEvent, temporaryDirectory } from "./sockets.ts"

describe("the queue of a listening socket", () => {
  it("is read from the tables of Linux", () => {
    assert.strictEqual(
      waitingOnPath(
        [
          "000000001dfaa87c: 00000002 00000000 00010000 0001 01 11665008 /run/a.sock",
          "00000000636b6a4f: 00000003 00000000 00000000 0001 02     0 /run/a.sock",
          "00000000b621ec09: 00000003 00000000 00000000 0001 02     0 /run/a.sock",
          "00000000b621ec09: 00000003 00000000 00000000 0001 02     0 /run/aa.sock",
          "00000000b621ec09: 00000003 00000000 00000000 0001 03 11665009 /run/a.sock",
          ""
        ].join("\n"),
        "/run/a.sock"
      ),
      2
    )
    const port = "   0: 0100007F:4D41 00000000:0000 0A 00000000:0000000B 00:00000000 00000000     0        0 11665009 4"
    assert.strictEqual(waitingOnPort(port, "0100007F:4D41"), 11)
    assert.strictEqual(waitingOnPort(port, "0100007F:4D42"), 0)
  })

  const listen = (server: Net.Server, ...where: ReadonlyArray<string | number>) =>
    Effect.acquireRelease(
      Effect.callback<Net.Server>((resume) => {
        server.listen(...where as [number, string], () => resume(Effect.succeed(server)))
      }),
      () => Effect.sync(() => server.close())
    )

  it.live("is what waits while the process does not accept", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* temporaryDirectory, "a.sock")
      yield* listen(Net.createServer((socket) => socket.destroy()), path)
      const tcp = yield* listen(Net.createServer((socket) => socket.destroy()), 0, "127.0.0.1")
      const { port } = tcp.address() as Net.AddressInfo
      // This process waits for the other one, and accepts nothing meanwhile.
      ChildProcess.spawnSync(process.execPath, [
        "--eval",
        "let left = 5; const [path, port] = process.argv.slice(1); const net = require('node:net');" +
        "for (const to of [{ path }, { path }, { path }, { port, host: '127.0.0.1' }, { port, host: '127.0.0.1' }])" +
        "net.connect(to, () => --left || process.exit())",
        path,
        String(port)
      ])
      assert.deepStrictEqual(listenQueue(NetAddress.unixPathAddress(path)), Option.some(3))
      assert.deepStrictEqual(
        listenQueue(NetAddress.inetAddressFromStringUnsafe(`127.0.0.1:${port}`)),
        Option.some(2)
      )
    }))
})

const app = (path: string, options: NodeFastCgiStatus.NodeFastCgiStatusOptions) =>
  HttpRouter.serve(HttpRouter.add("GET", "/*", HttpServerResponse.text("the app")), { disableLogger: true }).pipe(
    Layer.provide(NodeFastCgi.layer({ path, maxConnections: 1 })),
    Layer.provide(NodeFastCgiStatus.layer(options)),
    Layer.provide(Logger.layer([])),
    Layer.provide(Layer.succeed(Metric.MetricRegistry, new Map()))
  )

const fetchText = (port: number, path: string, init?: RequestInit) =>
  Effect.promise(async () => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, init)
    return `${response.status} ${await response.text()}`
  })

describe("the status on Node", () => {
  it.live("is served over FastCGI to php-fpm's clients, and over HTTP when no connection is free", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* temporaryDirectory, "app.sock")
      const port = yield* WebServers.freePort
      yield* Layer.build(app(path, { path: "/status", pingPath: "/ping", listen: { port } }))
      const client = yield* FastCgiClient.make({ connect: NodeFastCgiConnector.connect({ path }) })
      const status = yield* FastCgiPhp.status(client, { full: true })
      assert.strictEqual(status.processes[0]!.pid, process.pid)
      // Takes the only connection.
      yield* connectClient({ path })
      const asked = performance.now() / 1000
      const page = yield* Effect.repeat(
        Effect.map(fetchText(port, "/status?json&full"), (text) => {
          assert.match(text, /^200 /)
          return JSON.parse(text.slice(4)) as Record<string, number>
        }),
        { until: (page) => page["connections"] === 1 && page["connections accepted"] === 2 }
      )
      assert.isAbove(page["memory"]!, 1_000_000)
      // In whole seconds, on another clock.
      assert.isAtLeast(page["start since"]!, Math.floor(asked) - 1)
      assert.isAtMost(page["start since"]!, Math.ceil(performance.now() / 1000) + 1)
      assert.strictEqual(yield* fetchText(port, "/ping"), "200 pong")
      assert.match(yield* fetchText(port, "/metrics"), /^200 # TYPE phpfpm_up[^]*# EOF\n$/)
      assert.match(yield* fetchText(port, "/"), /^404 /)
      assert.match(yield* fetchText(port, "/status", { method: "POST" }), /^405 /)
    }))

  it.live("refuses peers on its port that are not allowed", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* temporaryDirectory, "app.sock")
      const port = yield* WebServers.freePort
      yield* Layer.build(app(path, { allow: ["192.0.2.1"], listen: { port } }))
      assert.match(yield* fetchText(port, "/status"), /^403 /)
    }))

  it.live("refuses names of other hosts on its port, and no name on a path", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryDirectory
      const port = yield* WebServers.freePort
      const path = Path.join(folder, "status.sock")
      const allowedHosts = ["app.example", ".internal"]
      yield* Layer.build(app(Path.join(folder, "a.sock"), { allowedHosts, listen: { port, host: "127.0.0.1" } }))
      yield* Layer.build(app(Path.join(folder, "b.sock"), { listen: { path } }))
      const status = (to: Http.RequestOptions, host: string) =>
        Effect.gen(function*() {
          const get = Http.get({ ...to, path: "/ping", headers: { Host: host }, agent: false })
          const [response] = yield* nextEvent(get, "response")
          get.destroy()
          return (response as Http.IncomingMessage).statusCode
        })
      const on = { host: "127.0.0.1", port }
      for (const host of ["APP.example", `db.internal:${port}`, "localhost"]) {
        assert.strictEqual(yield* status(on, host), 200, host)
      }
      for (const host of ["rebound.example", "notinternal", "127.0.0.1.rebound.example:80"]) {
        assert.strictEqual(yield* status(on, host), 403, host)
      }
      assert.strictEqual(yield* status({ socketPath: path }, "rebound.example"), 200)
      // HTTP/1.0, as HAProxy checks.
      const { socket } = yield* connectClient(on)
      socket.write("GET /ping HTTP/1.0\r\n\r\n")
      const [answer] = yield* nextEvent(socket, "data")
      assert.match(String(answer), /^HTTP\/1\.1 200 /)
    }))

  it("tells names of this host from others", () => {
    const isAllowed = makeHostCheck(["One.example", ".two.example"])
    for (
      const host of [
        ...["127.0.0.1", "192.0.2.1:9253", "[::1]", "[2001:db8::1]:80", "localhost", "LOCALHOST:80", "a.localhost"],
        ...["one.example", "ONE.EXAMPLE:1", "two.example", "a.b.two.example:9253", "", undefined]
      ]
    ) {
      assert.isTrue(isAllowed(host), host)
    }
    for (
      const host of [
        ...["two.one.example", "xtwo.example", "localhost.example", "notlocalhost", "127.0.0.1.example", "[::1"],
        ...[
          "127.1",
          "0x7f.0.0.1",
          "[one.example]",
          "one.example:80:80",
          "one.example@x",
          "localhost x",
          "::1",
          ":80",
          "."
        ]
      ]
    ) {
      assert.isFalse(isAllowed(host), host)
    }
  })

  it.effect("says which of its names is none", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.scoped(
        Layer.build(app("/none/app.sock", { allowedHosts: ["http://app.example"], listen: { port: 9253 } }))
      ))
      assert.include(error.message, "allowedHosts has \"http://app.example\": expected names of hosts without a port")
    }))

  it.live("says what is wrong with its port", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryDirectory
      const port = yield* WebServers.freePort
      yield* Layer.build(app(Path.join(folder, "a.sock"), { listen: { port } }))
      const error = yield* Effect.flip(Layer.build(app(Path.join(folder, "b.sock"), { listen: { port } })))
      assert.include(error.message, `Cannot listen on 127.0.0.1:${port}: another process has the port.`)
    }))

  it.live("replaces the socket that a process has left behind", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryDirectory
      const path = Path.join(folder, "status.sock")
      const server = Net.createServer()
      yield* Effect.callback<void>((resume) => void server.listen(path, () => resume(Effect.void)))
      // Node would take the name away.
      Fs.renameSync(path, `${path}.kept`)
      server.close()
      Fs.renameSync(`${path}.kept`, path)
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Layer.build(app(Path.join(folder, "a.sock"), { path: "/status", listen: { path } }))
        const get = Http.get({ socketPath: path, path: "/ping" })
        const [response] = yield* nextEvent(get, "response")
        assert.strictEqual((response as Http.IncomingMessage).statusCode, 200)
        get.destroy()
        const error = yield* Effect.flip(Layer.build(app(Path.join(folder, "b.sock"), { listen: { path } })))
        assert.include(error.message, `Cannot listen on ${path}: another process listens there.`)
      }))
      assert.isFalse(Fs.existsSync(path))
    }))

  it.effect("has its port in the environment", () =>
    Effect.gen(function*() {
      const options = yield* NodeFastCgiStatus.config
      assert.deepStrictEqual(options.listen, { port: 9253, host: "127.0.0.1" })
      assert.deepStrictEqual(options.allowedHosts, ["app.example", ".internal"])
    }).pipe(Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({
      env: { FASTCGI_STATUS_LISTEN: "127.0.0.1:9253", FASTCGI_STATUS_ALLOWED_HOSTS: "app.example, .internal" }
    })))))
})
