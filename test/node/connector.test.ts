import { assert, describe, it } from "@effect/vitest"
import { NodeFastCgiConnector } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { isStopped, until } from "../support/webServers.ts"
import { connectClient, nextEvent, pullAll, pullText, temporaryDirectory, turns } from "./sockets.ts"

const isRoot = process.geteuid?.() === 0

const echoServer = (to: string | number) =>
  Effect.gen(function*() {
    const server = yield* Effect.acquireRelease(
      Effect.sync(() => new Net.Server({ allowHalfOpen: true }, (socket) => socket.pipe(socket))),
      (server) => Effect.sync(() => server.close())
    )
    const listening = nextEvent(server, "listening")
    if (typeof to === "string") server.listen(to)
    else server.listen(to, "127.0.0.1")
    yield* listening
    return server
  })

const failure = (options: NodeFastCgiConnector.NodeFastCgiConnectorOptions) =>
  Effect.map(
    Effect.flip(Effect.scoped(NodeFastCgiConnector.connect(options))),
    ({ message, reason }) => ({ message, reason: reason._tag })
  )

describe("a connector", () => {
  it.live.each(["path", "port"] as const)(
    "carries bytes both ways over a %s, and closes with its scope",
    (kind) =>
      Effect.gen(function*() {
        const path = `${yield* temporaryDirectory}/app.sock`
        const server = yield* echoServer(kind === "path" ? path : 0)
        const to = kind === "path" ? { path } : { port: (server.address() as Net.AddressInfo).port }
        const scope = yield* Scope.fork(yield* Effect.scope)
        const transport = yield* Scope.provide(NodeFastCgiConnector.connect(to), scope)
        transport.writeUnsafe([Buffer.from("there "), Buffer.from("and back")])
        assert.strictEqual(yield* pullText(transport), "there and back")
        transport.endUnsafe()
        assert.strictEqual((yield* pullAll(transport)).length, 0)

        const accepted = nextEvent(server, "connection")
        const second = yield* Scope.provide(NodeFastCgiConnector.connect(to), scope)
        const socket = (yield* accepted)[0] as Net.Socket
        const closed = nextEvent(socket, "close")
        yield* Scope.close(scope, Exit.void)
        yield* closed
        assert.strictEqual(yield* pullText(second), "done")
      })
  )

  it.live("says that nothing listens", () =>
    Effect.gen(function*() {
      const path = `${yield* temporaryDirectory}/app.sock`
      Fs.writeFileSync(path, "")
      assert.deepStrictEqual(yield* failure({ path }), {
        reason: "Refused",
        message: `Cannot connect to ${path}: nothing listens on it. Start the application, or correct the path.`
      })
      const server = yield* echoServer(0)
      const { port } = server.address() as Net.AddressInfo
      const closed = nextEvent(server, "close")
      server.close()
      yield* closed
      assert.deepStrictEqual(yield* failure({ port }), {
        reason: "Refused",
        message:
          `Cannot connect to 127.0.0.1:${port}: nothing listens there. Start the application, or correct the port.`
      })
    }))

  // A process that is stopped accepts nothing: its backlog takes two connections.
  const stopped = Effect.gen(function*() {
    const path = `${yield* temporaryDirectory}/app.sock`
    const program = `require("node:net").createServer((socket) => socket.pipe(socket))
      .listen({ path: ${JSON.stringify(path)}, backlog: 1 }, () => console.log("ready"))`
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => ChildProcess.spawn(process.execPath, ["-e", program])),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    yield* nextEvent(child.stdout, "data")
    child.kill("SIGSTOP")
    yield* until("it is stopped", () => isStopped(child.pid!))
    return { path, child }
  })

  it.live.skipIf(process.platform !== "linux")(
    "waits while the backlog is full, in order",
    () =>
      Effect.gen(function*() {
        const { child, path } = yield* stopped
        const connect = NodeFastCgiConnector.connect({ path })
        const order: Array<number> = []
        const fibers = yield* Effect.forEach(
          Array.from({ length: 20 }, (_, i) => i),
          (i) =>
            Effect.forkScoped(Effect.tap(connect, () => Effect.sync(() => order.push(i))), { startImmediately: true })
        )
        yield* Effect.sleep(50)
        assert.isBelow(order.length, 4)
        // One that is interrupted leaves the line.
        yield* Fiber.interrupt(fibers[10])
        child.kill("SIGCONT")
        for (const [i, fiber] of fibers.entries()) {
          if (i === 10) continue
          const transport = yield* Fiber.join(fiber)
          transport.writeUnsafe([Buffer.from(`hello ${i}`)])
          assert.strictEqual(yield* pullText(transport), `hello ${i}`)
        }
        assert.deepStrictEqual(order, order.toSorted((a, b) => a - b))
        assert.strictEqual(order.length, 19)
      })
  )

  it.live.skipIf(process.platform !== "linux")(
    "says that the backlog was full for all of connectTimeout",
    () =>
      Effect.gen(function*() {
        const { path } = yield* stopped
        const connect = NodeFastCgiConnector.connect({ path, connectTimeout: "50 millis" })
        const exits = yield* Effect.forEach(Array.from({ length: 5 }), () => Effect.exit(connect), {
          concurrency: "unbounded"
        })
        assert.strictEqual(exits.filter(Exit.isFailure).length, 3)
        const { message, reason } = yield* Effect.flip(Effect.scoped(connect))
        assert.strictEqual(reason._tag, "BacklogFull")
        assert.strictEqual(
          message,
          `Cannot connect to ${path}: its backlog was full for 50ms. The application accepts too few connections: it hangs, ` +
            "or needs more workers."
        )
      })
  )

  it.live("says that the path is none that a socket can have", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const long = `${directory}/${"s".repeat(108 - directory.length - 1)}`
      assert.deepStrictEqual(yield* failure({ path: long }), {
        reason: "InvalidPath",
        message: `Cannot connect to ${long}: the path has 108 bytes, and a UNIX socket's may have at most 107.`
      })
      const multibyte = `${directory}/${"ü".repeat(54)}`
      assert.include((yield* failure({ path: multibyte })).message, "may have at most 107")
      assert.strictEqual((yield* failure({ path: long.slice(0, 107) })).reason, "NotFound")
      assert.deepStrictEqual(yield* failure({ path: "" }), {
        reason: "InvalidPath",
        message: "Cannot connect: the socket path is empty."
      })
      assert.include((yield* failure({ path: "/run/a\0b.sock" })).message, "the path contains a NUL byte.")
    }))

  it.live("says that there is no such socket", () =>
    Effect.gen(function*() {
      const path = `${yield* temporaryDirectory}/app.sock`
      assert.deepStrictEqual(yield* failure({ path }), {
        reason: "NotFound",
        message: `Cannot connect to ${path}: there is no such socket. Start the application, or correct the path.`
      })
    }))

  it.live("says that the host name is not known", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* failure({ host: "app.invalid", port: 9000 }), {
        reason: "NotFound",
        message: "Cannot connect to app.invalid:9000: the host name is not known. Correct it, or give an address."
      })
    }))

  it.live("says that it may not", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = `${directory}/app.sock`
      yield* echoServer(path)
      Fs.chmodSync(directory, 0o755)
      Fs.chmodSync(path, 0o000)
      if (isRoot) process.seteuid!(65534)
      const error = yield* Effect.ensuring(
        failure({ path }),
        Effect.sync(() => {
          if (isRoot) process.seteuid!(0)
        })
      )
      assert.deepStrictEqual(error, {
        reason: "PermissionDenied",
        message: `Cannot connect to ${path}: this process's user has no permission. It must be able to write to the ` +
          "socket and to enter its directories: see the option mode of the listener."
      })
    }))

  it.live("does not die of a port that is none", () =>
    Effect.gen(function*() {
      const { message, reason } = yield* failure({ port: 65536 })
      assert.strictEqual(reason, "Unknown")
      assert.match(message, /^Cannot connect to 127\.0\.0\.1:65536: .*65536/)
    }))

  it.effect("gives up after connectTimeout", () =>
    Effect.gen(function*() {
      // A stopped process accepts nothing: once its backlog is full, connecting hangs.
      const child = yield* Effect.acquireRelease(
        Effect.sync(() =>
          ChildProcess.spawn(process.execPath, [
            "-e",
            "const s = require('net').createServer().listen(0, '127.0.0.1', 1, () => console.log(s.address().port))"
          ], { stdio: ["ignore", "pipe", "inherit"] })
        ),
        (child) =>
          Effect.suspend(() => {
            const exited = nextEvent(child, "exit")
            child.kill("SIGKILL")
            return exited
          })
      )
      const port = Number(String((yield* nextEvent(child.stdout, "data"))[0]))
      child.kill("SIGSTOP")
      yield* connectClient({ port })
      yield* connectClient({ port })
      const fiber = yield* Effect.forkChild(failure({ port, connectTimeout: "3 seconds" }), { startImmediately: true })
      yield* turns(20)
      yield* TestClock.adjust("2999 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* Fiber.join(fiber), {
        reason: "Timeout",
        message: `Cannot connect to 127.0.0.1:${port}: no answer within 3s. Check the address and the firewall, and ` +
          "whether the application hangs."
      })
    }))
})
