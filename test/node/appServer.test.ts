/**
 * `NodeFastCgiApp.createServer` as a server, and the examples of other people's frameworks as processes.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiHttpClient } from "effect-fastcgi/client"
import { NodeFastCgiApp, NodeFastCgiConnector } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Http from "node:http"
import type * as Net from "node:net"
import * as Path from "node:path"
import { projectRoot } from "../support/files.ts"
import * as WebServers from "../support/webServers.ts"
import { within } from "../support/within.ts"

const text = (connect: Parameters<typeof NodeFastCgiConnector.connect>[0], url: string) =>
  Effect.gen(function*() {
    const client = yield* FastCgiHttpClient.make({ connect: NodeFastCgiConnector.connect(connect) })
    return yield* (yield* client.get(`http://app.test${url}`)).text
  }).pipe(Effect.scoped)

const closed = (server: Http.Server) => Effect.promise(() => new Promise((resolve) => server.close(resolve)))

describe("NodeFastCgiApp.createServer", () => {
  it.live("listens on a path with the mode of its options, and says where", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* WebServers.temporaryDirectory, "app.sock")
      const server = NodeFastCgiApp.createServer({ mode: 0o600 }, (request, response) => {
        assert.strictEqual((request.socket as Net.Socket & { server: unknown }).server, server)
        response.end(request.url)
      })
      assert.instanceOf(server, Http.Server)
      assert.isFalse(server.listening)
      assert.isNull(server.address())
      const listening = once(server, "listening")
      server.listen(path)
      yield* Effect.promise(() => listening)
      assert.isTrue(server.listening)
      assert.strictEqual(server.address(), path)
      assert.strictEqual(Fs.statSync(path).mode & 0o777, 0o600)
      assert.strictEqual(yield* text({ path }, "/here"), "/here")
      assert.throws(() => server.listen(path), /more than once/)
      yield* closed(server)
      assert.isFalse(server.listening)
      assert.isFalse(Fs.existsSync(path))
      const again = yield* closed(server)
      assert.match(String(again), /not running/)
    }))

  it.live("listens on a port of the loopback interface, again after a close, and tells what it can not", () =>
    Effect.gen(function*() {
      const server = NodeFastCgiApp.createServer()
      server.on("request", (_request, response) => response.end("one"))
      for (let times = 0; times < 2; times++) {
        yield* Effect.promise(() => new Promise<void>((resolve) => server.listen(0, resolve)))
        const { address, family, port } = server.address() as Net.AddressInfo
        assert.deepStrictEqual([address, family], ["127.0.0.1", "IPv4"])
        assert.strictEqual(yield* text({ host: "127.0.0.1", port }, "/"), "one")
        const other = NodeFastCgiApp.createServer()
        const failed = once(other, "error")
        other.listen({ port, host: "127.0.0.1" })
        const [error] = yield* Effect.promise(() => failed)
        assert.strictEqual(error.code, "EADDRINUSE")
        yield* closed(server)
      }
    }))

  it.live("answers a WebSocket that somebody listens for with 501, and other upgrades as requests", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* WebServers.temporaryDirectory, "app.sock")
      const server = NodeFastCgiApp.createServer((_request, response) => response.end("a request"))
      server.on("upgrade", () => assert.fail("there is nothing to upgrade"))
      yield* Effect.promise(() => new Promise<void>((resolve) => server.listen({ path }, resolve)))
      const ask = (upgrade: string) =>
        Effect.gen(function*() {
          const client = yield* FastCgiHttpClient.make({
            connect: NodeFastCgiConnector.connect({ path }),
            params: { HTTP_UPGRADE: upgrade }
          })
          return (yield* client.get("http://app.test/")).status
        }).pipe(Effect.scoped)
      assert.strictEqual(yield* ask("websocket"), 501)
      assert.strictEqual(yield* ask("h2c"), 200)
      yield* closed(server)
    }))

  it.live("has a timeout for all sockets", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* WebServers.temporaryDirectory, "app.sock")
      const server = NodeFastCgiApp.createServer(() => {})
      server.setTimeout(5, (socket) => socket.destroy())
      yield* Effect.promise(() => new Promise<void>((resolve) => server.listen(path, resolve)))
      assert.match(yield* text({ path }, "/"), /^500 /)
      yield* closed(server)
    }))
})

describe("the examples of frameworks", () => {
  for (const name of ["express", "koa", "fastify", "hono"]) {
    it.live(`serve on a socket, and end with 0 at SIGTERM: ${name}`, () =>
      within("the end of the case", 60)(Effect.gen(function*() {
        const path = Path.join(yield* WebServers.temporaryDirectory, "app.sock")
        const program = yield* WebServers.start({
          name,
          command: process.execPath,
          args: [
            "--import",
            Path.join(projectRoot, "test/examples/support/onSources.ts"),
            Path.join(projectRoot, "examples", name, "main.ts"),
            path
          ],
          ready: WebServers.accepts({ path })
        })
        assert.strictEqual(yield* text({ path }, "/json"), "{\"hello\":\"world\"}")
        assert.strictEqual(Fs.statSync(path).mode & 0o777, 0o660)
        assert.deepStrictEqual(yield* program.stop("SIGTERM"), { code: 0, signal: null })
        assert.isFalse(Fs.existsSync(path))
      })))
  }
})
