import { assert, describe, it } from "@effect/vitest"
import type { FastCgiListener, FastCgiTransport } from "effect-fastcgi"
import { NodeFastCgiListener } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as NetAddress from "effect/net/NetAddress"
import { CurrentLogAnnotations } from "effect/References"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as ChildProcess from "node:child_process"
import type * as Net from "node:net"
import { acceptor } from "../../src/node/internal/acceptor.ts"
import { bindInet } from "../../src/node/internal/inetSocket.ts"
import { listenerError } from "../../src/node/internal/listenerError.ts"
import { describeWith } from "../support/requirement.ts"
import { connectClient, connectCode, eventually, pullText, temporaryDirectory, turns } from "./sockets.ts"

type Listener = FastCgiListener.FastCgiListener["Service"]

const address = (listener: Listener): string => NetAddress.formatSocketAddress(listener.address)
const port = (listener: Listener): number => (listener.address as NetAddress.InetAddress).port

// Answers every connection with what it says first, and closes.
const echo = (transport: FastCgiTransport.FastCgiTransport): void => {
  Effect.runFork(
    Effect.ensuring(
      Effect.ignore(Effect.map(transport.pull, (chunks) => transport.writeUnsafe(chunks))),
      Effect.sync(() => transport.endUnsafe())
    )
  )
}

const ask = (to: { readonly path: string } | { readonly port: number; readonly host?: string }, text: string) =>
  Effect.scoped(Effect.gen(function*() {
    const client = yield* connectClient(to)
    client.socket.write(text)
    yield* Effect.race(client.ended, client.closed)
    return client.received().toString()
  }))

const failure = (options: Parameters<typeof NodeFastCgiListener.make>[0]) =>
  Effect.map(
    Effect.flip(Effect.scoped(NodeFastCgiListener.make(options))),
    ({ message, reason }) => ({ message, reason: reason._tag })
  )

describe("a TCP listener", () => {
  it.live("listens on the loopback address and tells the port it got", () =>
    Effect.gen(function*() {
      const listener = yield* NodeFastCgiListener.make({ port: 0 })
      assert.match(address(listener), /^127\.0\.0\.1:[1-9]\d*$/)
      yield* Effect.forkChild(listener.run(echo))
      assert.strictEqual(yield* ask({ port: port(listener) }, "hello"), "hello")
    }))

  it.live("listens on IPv6", () =>
    Effect.gen(function*() {
      const listener = yield* NodeFastCgiListener.make({ host: "::1", port: 0 })
      assert.match(address(listener), /^\[::1\]:[1-9]\d*$/)
      yield* Effect.forkChild(listener.run(echo))
      assert.strictEqual(yield* ask({ port: port(listener), host: "::1" }, "six"), "six")
    }))

  it.live("leaves IPv4 alone when told so", () =>
    Effect.gen(function*() {
      const both = yield* NodeFastCgiListener.make({ host: "::", port: 0 })
      assert.strictEqual(yield* connectCode({ port: port(both), host: "127.0.0.1" }), "")
      const only = yield* NodeFastCgiListener.make({ host: "::", port: 0, ipv6Only: true })
      assert.strictEqual(yield* connectCode({ port: port(only), host: "127.0.0.1" }), "ECONNREFUSED")
    }))

  it.live("says that the port is taken", () =>
    Effect.gen(function*() {
      const listener = yield* NodeFastCgiListener.make({ port: 0 })
      const taken = port(listener)
      assert.deepStrictEqual(yield* failure({ port: taken }), {
        reason: "AddressInUse",
        message: `Cannot listen on 127.0.0.1:${taken}: another process has the port. See which with: ` +
          `ss -ltnp 'sport = :${taken}'. Stop it, or choose another port.`
      })
    }))

  it.live("says that the address is another host's", () =>
    Effect.gen(function*() {
      // RFC 5737: a block for documentation, which no host has.
      assert.deepStrictEqual(yield* failure({ host: "192.0.2.1", port: 9000 }), {
        reason: "AddressNotAvailable",
        message: "Cannot listen on 192.0.2.1:9000: the address is not one of this host. Give one that \"ip address\" " +
          "lists, 127.0.0.1 when the web server runs on this host, or 0.0.0.0 for all of them."
      })
    }))

  it.live("says that the host name is not known", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* failure({ host: "app.invalid", port: 9000 }), {
        reason: "AddressNotAvailable",
        message: "Cannot listen on app.invalid:9000: the host name is not known. Give an address of this host, " +
          "127.0.0.1 for instance."
      })
    }))

  it.live("does not take an empty host for every address", () =>
    Effect.gen(function*() {
      const { message, reason } = yield* failure({ host: "", port: 0 })
      assert.strictEqual(reason, "AddressNotAvailable")
      assert.match(message, /the host is empty/)
    }))

  it.live.each([-1, 65536, 1.5, NaN])("says that %d is no port", (port) =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* failure({ port }), {
        reason: "AddressNotAvailable",
        message: `Cannot listen on 127.0.0.1:${port}: a port is a whole number from 1 to 65535, or 0 for any free one.`
      })
    }))
})

describe("running and stopping", () => {
  it.live("keeps connections for later that arrive before it is run, or after", () =>
    Effect.gen(function*() {
      const listener = yield* NodeFastCgiListener.make({ port: 0 })
      const early = yield* connectClient({ port: port(listener) })
      early.socket.write("early")
      // Accepted, but nobody has been given it.
      yield* turns(20)
      assert.strictEqual(early.received().length, 0)

      const established = yield* connectClient({ port: port(listener) })
      let kept: FastCgiTransport.FastCgiTransport | undefined
      const first = yield* Effect.forkChild(listener.run((transport) => {
        if (kept === undefined && String(transport.peer).includes(String(established.socket.localPort))) {
          kept = transport
        } else echo(transport)
      }))
      yield* early.ended
      assert.strictEqual(early.received().toString(), "early")
      yield* eventually(() => kept !== undefined)
      yield* Fiber.interrupt(first)

      const between = yield* connectClient({ port: port(listener) })
      between.socket.write("between")
      yield* turns(20)
      assert.strictEqual(between.received().length, 0)
      // The established connection is not touched.
      established.socket.write("still there")
      assert.strictEqual(yield* pullText(kept!), "still there")

      yield* Effect.forkChild(listener.run(echo))
      yield* between.ended
      assert.strictEqual(between.received().toString(), "between")
    }))

  it.live("forgets a waiting connection that has been reset, and closes the others with its scope", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const listener = yield* Scope.provide(NodeFastCgiListener.make({ port: 0 }), scope)
      const gone = yield* connectClient({ port: port(listener) })
      const waiting = yield* connectClient({ port: port(listener) })
      yield* turns(5)
      gone.socket.resetAndDestroy()
      yield* turns(20)
      const ports: Array<string> = []
      const fiber = yield* Effect.forkChild(listener.run((transport) => ports.push(String(transport.peer))))
      yield* eventually(() => ports.length > 0)
      yield* turns(5)
      assert.strictEqual(ports.length, 1)
      assert.include(ports[0], String(waiting.socket.localPort))
      yield* Fiber.interrupt(fiber)
      const late = yield* connectClient({ port: port(listener) })
      yield* turns(5)
      yield* Scope.close(scope, Exit.void)
      yield* late.ended
      assert.strictEqual(yield* connectCode({ port: port(listener) }), "ECONNREFUSED")
    }))

  it.live("refuses to be run twice at a time", () =>
    Effect.gen(function*() {
      const listener = yield* NodeFastCgiListener.make({ port: 0 })
      yield* Effect.forkChild(listener.run(echo), { startImmediately: true })
      const error = yield* Effect.flip(listener.run(echo))
      assert.match(error.message, /is being run already/)
      assert.strictEqual(yield* ask({ port: port(listener) }, "first"), "first")
    }))

  it.live("stops for good, and leaves accepted connections alone", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = `${directory}/app.sock`
      const listener = yield* NodeFastCgiListener.make([{ path }, { port: 0 }])
      const transports: Array<FastCgiTransport.FastCgiTransport> = []
      yield* Effect.forkChild(listener.run((transport) => transports.push(transport)))
      const client = yield* connectClient({ path })
      yield* eventually(() => transports.length === 1)
      yield* listener.stopAccepting
      yield* listener.stopAccepting
      assert.strictEqual(yield* connectCode({ path }), "ENOENT")
      client.socket.write("on")
      assert.strictEqual(yield* pullText(transports[0]), "on")
      transports[0].writeUnsafe([Buffer.from("and on")])
      transports[0].endUnsafe()
      yield* client.ended
      assert.strictEqual(client.received().toString(), "and on")
    }))

  it.live("is not done with stopping before those that were accepted last could send something", () =>
    Effect.gen(function*() {
      const path = `${yield* temporaryDirectory}/app.sock`
      const listener = yield* NodeFastCgiListener.make({ path })
      const transports: Array<FastCgiTransport.FastCgiTransport> = []
      yield* Effect.forkChild(listener.run((transport) => transports.push(transport)))
      const client = yield* connectClient({ path })
      yield* eventually(() => transports.length === 1)
      const stopping = yield* Effect.forkChild(listener.stopAccepting, { startImmediately: true })
      // The listening socket is closed after a few turns.
      yield* turns(10)
      client.socket.write("late")
      assert.strictEqual(yield* pullText(transports[0]), "late")
      assert.isUndefined(stopping.pollUnsafe())
      yield* Fiber.join(stopping)
      assert.strictEqual(yield* connectCode({ path }), "ENOENT")
    }))

  it.live("serves every connection that came before it stopped, and resets none", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      for (let round = 0; round < 20; round++) {
        const path = `${directory}/${round}.sock`
        const listener = yield* NodeFastCgiListener.make({ path })
        yield* Effect.forkChild(listener.run(echo))
        const asked = yield* Effect.forkChild(
          Effect.forEach(
            Array.from({ length: 100 }, (_, i) => i),
            (i) => Effect.exit(ask({ path }, `request ${i}`)),
            { concurrency: "unbounded" }
          ),
          { startImmediately: true }
        )
        yield* listener.stopAccepting
        const exits = yield* Fiber.join(asked)
        assert.deepStrictEqual(
          exits.map((exit) => Exit.isSuccess(exit) ? exit.value : String(exit.cause)),
          exits.map((_, i) => `request ${i}`)
        )
      }
    }))

  it.effect("goes on after failures to accept, with one warning for a burst of them", () =>
    Effect.gen(function*() {
      const logged: Array<unknown> = []
      const logger = Logger.make<unknown, void>(({ fiber, message }) => {
        logged.push([message, fiber.getRef(CurrentLogAnnotations)])
      })
      yield* Effect.gen(function*() {
        let server!: Net.Server
        const listener = yield* acceptor("the test's port", 511, (created) => {
          server = created
          return bindInet(created, { host: "127.0.0.1", port: 0, ipv6Only: false, backlog: 511 })
        })
        yield* Effect.forkChild(listener.run(echo))
        const fail = () => server.emit("error", new Error("accept EMFILE"))
        fail()
        fail()
        fail()
        yield* TestClock.adjust("10 seconds")
        fail()
        fail()
        const message = ["A connection could not be accepted on the test's port: accept EMFILE"]
        assert.deepStrictEqual(logged, [[message, {}], [message, { suppressed: 2 }]])
        assert.strictEqual(yield* ask({ port: port(listener) }, "alive"), "alive")
      }).pipe(Effect.provide(Logger.layer([logger])))
    }))
})

describe("a listener that cannot be made", () => {
  it.live("does not go on listening when it fails after it has begun to", () =>
    Effect.gen(function*() {
      let port = 0
      const error = yield* Effect.flip(acceptor("the test's port", 511, (server) =>
        Effect.flatMap(
          bindInet(server, { host: "127.0.0.1", port: 0, ipv6Only: false, backlog: 511 }),
          ({ address }) => {
            port = (address as NetAddress.InetAddress).port
            return Effect.fail(listenerError("Unknown", "then it failed"))
          }
        )))
      assert.strictEqual(error.message, "then it failed")
      assert.strictEqual(yield* connectCode({ port }), "ECONNREFUSED")
    }))
})

describe("several listeners as one", () => {
  it.live("has the first one's address, accepts from all and stops them all", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = `${directory}/app.sock`
      const second = yield* NodeFastCgiListener.make({ port: 0 })
      const listener = NodeFastCgiListener.merge([yield* NodeFastCgiListener.make({ path }), second])
      assert.strictEqual(address(listener), path)
      const third = NodeFastCgiListener.merge([listener, yield* NodeFastCgiListener.make({ path: `${path}2` })])
      assert.deepStrictEqual(
        third.addresses.map(NetAddress.formatSocketAddress),
        [path, `127.0.0.1:${port(second)}`, `${path}2`]
      )
      const fiber = yield* Effect.forkChild(listener.run(echo))
      assert.strictEqual(yield* ask({ path }, "by path"), "by path")
      assert.strictEqual(yield* ask({ port: port(second) }, "by port"), "by port")
      assert.isUndefined(fiber.pollUnsafe())
      yield* listener.stopAccepting
      assert.strictEqual(yield* connectCode({ path }), "ENOENT")
      assert.strictEqual(yield* connectCode({ port: port(second) }), "ECONNREFUSED")
    }))

  it.live("closes those that listen already when another one cannot", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = `${directory}/app.sock`
      const { reason } = yield* failure([{ path }, { host: "192.0.2.1", port: 9000 }])
      assert.strictEqual(reason, "AddressNotAvailable")
      assert.strictEqual(yield* connectCode({ path }), "ENOENT")
    }))

  it.live("says that an empty list is none", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* failure([])).message, "Cannot listen: the list of listeners is empty.")
    }))
})

describeWith(["ss"], "the backlog that the operating system knows", (ss) => {
  // State Recv-Q Send-Q Local…: for a listening socket the third is its backlog.
  const backlogs = (args: ReadonlyArray<string>, address: string): ReadonlyArray<number> =>
    ChildProcess.execFileSync(ss, args, { encoding: "utf8" }).split("\n")
      .filter((line) => line.includes(address))
      .map((line) => Number((args.includes("-x") ? /LISTEN\s+\d+\s+(\d+)/ : /^LISTEN\s+\d+\s+(\d+)/).exec(line)?.[1]))

  it.live("is the one asked for on a port and on a path, and 511 otherwise", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const small = yield* NodeFastCgiListener.make({ port: 0, backlog: 77 })
      const usual = yield* NodeFastCgiListener.make({ port: 0 })
      assert.deepStrictEqual(backlogs(["-ltnH"], address(small)), [77])
      assert.deepStrictEqual(backlogs(["-ltnH"], address(usual)), [511])
      const name = directory.slice(directory.lastIndexOf("/") + 1)
      yield* NodeFastCgiListener.make({ path: `${directory}/small.sock`, backlog: 78 })
      yield* NodeFastCgiListener.make({ path: `${directory}/usual.sock` })
      const lines = ChildProcess.execFileSync(ss, ["-l", "-x", "-H"], { encoding: "utf8" }).split("\n")
        .filter((line) => line.includes(name))
      assert.deepStrictEqual(
        lines.map((line) => [/LISTEN\s+\d+\s+(\d+)/.exec(line)?.[1], /\w+\.sock/.exec(line)?.[0]]).sort(),
        [["511", "usual.sock"], ["78", "small.sock"]]
      )
    }))
})
