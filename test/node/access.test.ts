/**
 * Who may connect, over real sockets. All of 127.0.0.0/8 is this host's, so a client can come from different addresses.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiAccess, type FastCgiListener, type FastCgiTransport } from "effect-fastcgi"
import { FastCgiHttpClient } from "effect-fastcgi/client"
import { NodeFastCgi, NodeFastCgiConnector, NodeFastCgiListener } from "effect-fastcgi/node"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import type * as Net from "node:net"
import { acceptor } from "../../src/node/internal/acceptor.ts"
import { bindInet } from "../../src/node/internal/inetSocket.ts"
import { programFile } from "../support/programFile.ts"
import { describeWith } from "../support/requirement.ts"
import { spawned, withListening } from "./children.ts"
import { connectClient, eventually, temporaryDirectory, turns } from "./sockets.ts"

type Listener = FastCgiListener.FastCgiListener["Service"]
type To = { readonly path: string } | {
  readonly port: number
  readonly host?: string
  readonly localAddress?: string
}

const port = (listener: { readonly address: NetAddress.SocketAddress }): number =>
  (listener.address as NetAddress.InetAddress).port

const hello = (transport: FastCgiTransport.FastCgiTransport): void => {
  transport.writeUnsafe([Buffer.from("hello")])
  transport.endUnsafe()
}

/** Connects: what came, and how it ended. */
const visit = (to: To) =>
  Effect.scoped(Effect.gen(function*() {
    const client = yield* connectClient(to)
    yield* Effect.race(client.ended, client.closed)
    return [client.received().toString(), ...client.errors].join(" ")
  })).pipe(Effect.catch((error) => Effect.succeed((error as NodeJS.ErrnoException).code ?? error.message)))

const served = "hello"
// As a TCP client and as one over a UNIX socket see it. A connection that is reset at once is sometimes one that never was.
const refused = /^( ?ECONNRESET)?$/

/** What is logged meanwhile. */
const logged = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const messages: Array<string> = []
    const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
      messages.push(`${logLevel} ${[message].flat().join(" ")}`)
    })
    return Effect.map(Effect.provide(effect, Logger.layer([logger])), (result) => ({ result, messages }))
  })

const quietly = Effect.provide(Logger.layer([]))

const addrs = (value: string) => Effect.provide(ConfigProvider.layer(webServerAddrs(value)))
const webServerAddrs = (value: string) =>
  ConfigProvider.fromUnknown({ FCGI_WEB_SERVER_ADDRS: value }, { preserveEmptyStrings: true })

const running = (
  options: Parameters<typeof NodeFastCgiListener.make>[0]
): Effect.Effect<Listener, unknown, Scope.Scope> =>
  Effect.tap(NodeFastCgiListener.make(options), (listener) => Effect.forkScoped(listener.run(hello))).pipe(quietly)

describe("the option allow", () => {
  it.live("lets in the addresses on the list, and closes the connections of others", () =>
    Effect.gen(function*() {
      const listener = yield* running({ port: 0, allow: ["127.0.0.2", "127.1.0.0/16"] })
      const from = (localAddress: string) => visit({ port: port(listener), localAddress })
      assert.strictEqual(yield* from("127.0.0.2"), served)
      assert.match(yield* from("127.0.0.1"), refused)
      assert.strictEqual(yield* from("127.1.255.255"), served)
      assert.match(yield* from("127.2.0.0"), refused)
    }))

  it.live("takes an IPv4 client of a listener on both families for what it is", () =>
    Effect.gen(function*() {
      const four = yield* running({ host: "::", port: 0, allow: ["127.0.0.1"] })
      assert.strictEqual(yield* visit({ port: port(four), host: "127.0.0.1" }), served)
      assert.match(yield* visit({ port: port(four), host: "::1" }), refused)
      const six = yield* running({ host: "::", port: 0, allow: ["::/0"] })
      assert.match(yield* visit({ port: port(six), host: "127.0.0.1" }), refused)
      assert.strictEqual(yield* visit({ port: port(six), host: "::1" }), served)
    }))

  it.live("leaves UNIX sockets to their file mode", () =>
    Effect.gen(function*() {
      const path = `${yield* temporaryDirectory}/app.sock`
      yield* running([{ path, allow: ["192.0.2.1"] } as NodeFastCgiListener.UnixOptions])
      assert.strictEqual(yield* visit({ path }), served)
    }))

  it.live("closes a connection before anybody runs the listener, and touches no other", () =>
    Effect.gen(function*() {
      const listener = yield* quietly(NodeFastCgiListener.make({ port: 0, allow: ["127.0.0.2"] }))
      const waiting = yield* connectClient({ port: port(listener), localAddress: "127.0.0.2" } as To)
      assert.match(yield* visit({ port: port(listener) }), refused)
      yield* turns(5)
      assert.strictEqual(waiting.received().length, 0)
      yield* Effect.forkScoped(listener.run(hello))
      yield* waiting.ended
      assert.strictEqual(waiting.received().toString(), served)
    }))

  it.live("does not listen when the list does not parse", () =>
    Effect.gen(function*() {
      const path = `${yield* temporaryDirectory}/app.sock`
      const reasons = yield* Effect.forEach(
        [
          { path, allow: ["localhost"] } as NodeFastCgiListener.UnixOptions,
          { port: 9, allow: [] },
          { allow: ["10.0.0.1/8"] }
        ],
        (options) =>
          Effect.map(
            Effect.flip(Effect.scoped(NodeFastCgiListener.make(options))),
            ({ message, reason }) => `${reason._tag} ${message}`
          )
      )
      assert.deepStrictEqual(reasons, [
        `InvalidAccessList Cannot listen on ${path}: allow has "localhost", which is neither an address nor a network ` +
        "(expected exactly four decimal octets). Give 192.0.2.10, 10.1.0.0/16, 2001:db8::10 or 2001:db8::/32; names " +
        "of hosts are not looked up.",
        "InvalidAccessList Cannot listen on 127.0.0.1:9: allow is empty, so nobody could connect. Give the addresses " +
        "of the web server, or leave it out.",
        "InvalidAccessList Cannot listen on file descriptor 0: allow has \"10.0.0.1/8\", which has bits set beyond its " +
        "prefix of 8. The network is 10.0.0.0/8, the address alone 10.0.0.1."
      ])
      assert.isFalse(Fs.existsSync(path))
    }))
})

describe("a client that resets its connection before it is accepted", () => {
  // This process stands still while the client runs, so that it is gone when its connection is accepted.
  const blind = (port: number): void => {
    const client = ChildProcess.spawnSync(process.execPath, [
      "-e",
      `const s = require("net").connect(${port}, "127.0.0.1", () => s.write("a request", () => s.resetAndDestroy()))`
    ])
    assert.strictEqual(client.status, 0, String(client.stderr))
  }

  it.live("has no address, and what it sent can be read", () =>
    Effect.gen(function*() {
      const listener = yield* NodeFastCgiListener.make({ port: 0 })
      const accepted: Array<FastCgiTransport.FastCgiTransport> = []
      yield* Effect.forkScoped(listener.run((transport) => accepted.push(transport)))
      yield* turns(2)
      blind(port(listener))
      yield* eventually(() => accepted.length === 1)
      assert.strictEqual(accepted[0].peer._tag, "None")
      assert.strictEqual(Buffer.concat([...(yield* accepted[0].pull)]).toString(), "a request")
    }))

  it.live("is not taken for a peer over a UNIX socket", () =>
    Effect.gen(function*() {
      const { messages } = yield* logged(Effect.gen(function*() {
        const listener = yield* NodeFastCgiListener.make({ port: 0, allow: ["127.0.0.2"] })
        const accepted: Array<unknown> = []
        yield* Effect.forkScoped(listener.run((transport) => {
          accepted.push(transport)
          hello(transport)
        }))
        yield* turns(2)
        blind(port(listener))
        // Connections are accepted in order.
        assert.strictEqual(yield* visit({ port: port(listener), localAddress: "127.0.0.2" }), served)
        assert.strictEqual(accepted.length, 1)
        return port(listener)
      }))
      assert.strictEqual(messages.length, 1)
      assert.match(messages[0], /from a peer that has gone already, which is not in allow$/)
    }))
})

describe("refused connections", () => {
  it.live("leave nothing: a thousand of them, one message", () =>
    Effect.gen(function*() {
      const before = yield* Metric.value(FastCgiAccess.refusedConnections)
      const { messages } = yield* logged(Effect.gen(function*() {
        let server!: Net.Server
        const listener = yield* acceptor("the test's port", 511, (created) => {
          server = created
          return bindInet(created, { host: "127.0.0.1", port: 0, ipv6Only: false, backlog: 511 })
        }, { allow: ["127.0.0.2"] })
        yield* Effect.forkScoped(listener.run(hello))
        const resources = process.getActiveResourcesInfo().length
        const results = yield* Effect.forEach(
          Array.from({ length: 1000 }, (_, i) => i),
          (i) => visit({ port: port(listener), localAddress: i % 100 === 99 ? "127.0.0.2" : "127.0.0.1" }),
          { concurrency: 50 }
        )
        for (const [i, result] of results.entries()) {
          if (i % 100 === 99) assert.strictEqual(result, served)
          else assert.match(result, refused)
        }
        yield* eventually(() => process.getActiveResourcesInfo().length <= resources)
        const open = Effect.callback<number>((resume) => {
          server.getConnections((_, count) => resume(Effect.succeed(count)))
        })
        yield* Effect.repeat(open, { until: (count) => count === 0 })
      }))
      assert.deepStrictEqual(messages, [
        "Warn refused a connection on the test's port from 127.0.0.1, which is not in allow"
      ])
      const after = yield* Metric.value(FastCgiAccess.refusedConnections)
      assert.strictEqual(Number(after.count) - Number(before.count), 990)
    }))
})

describeWith(["ss"], "refused connections", (ss) => {
  it.live("are not remembered by the operating system", () =>
    Effect.gen(function*() {
      const listener = yield* running({ port: 0, allow: ["127.0.0.2"] })
      yield* Effect.forEach(Array.from({ length: 50 }), () => visit({ port: port(listener) }), { concurrency: 10 })
      const inTimeWait = ["-Htan", "state", "time-wait", "sport", "=", `:${port(listener)}`, "and", "dst", "127.0.0.1"]
      assert.strictEqual(ChildProcess.execFileSync(ss, inTimeWait, { encoding: "utf8" }), "")
    }))
})

describe("FCGI_WEB_SERVER_ADDRS", () => {
  it.live("lets in its addresses only", () =>
    Effect.gen(function*() {
      const listener = yield* running({ port: 0 }).pipe(addrs("127.0.0.2,127.0.0.3"))
      const from = (localAddress: string) => visit({ port: port(listener), localAddress })
      assert.strictEqual(yield* from("127.0.0.2"), served)
      assert.strictEqual(yield* from("127.0.0.3"), served)
      assert.match(yield* from("127.0.0.1"), refused)
    }))

  it.live("lets in nobody over a UNIX socket, and says so at the start", () =>
    Effect.gen(function*() {
      const path = `${yield* temporaryDirectory}/app.sock`
      const { messages } = yield* logged(Effect.gen(function*() {
        const listener = yield* NodeFastCgiListener.make({ path }).pipe(addrs("127.0.0.1"))
        yield* Effect.forkScoped(listener.run(hello))
        assert.match(yield* visit({ path }), refused)
      }))
      assert.deepStrictEqual(messages, [
        `Warn Nobody can connect on ${path}: FCGI_WEB_SERVER_ADDRS is set, which is a list of IPv4 addresses, and ` +
        "peers over a UNIX socket have none. Unset it; the file mode of the socket says who may connect.",
        `Warn refused a connection on ${path} from a UNIX socket, which is not in FCGI_WEB_SERVER_ADDRS`
      ])
    }))

  it.live("and allow have to agree", () =>
    Effect.gen(function*() {
      const listener = yield* running({ port: 0, allow: ["127.0.0.2", "127.0.0.3", "::1"] }).pipe(
        addrs("127.0.0.1,127.0.0.2")
      )
      const from = (localAddress: string) => visit({ port: port(listener), localAddress })
      assert.strictEqual(yield* from("127.0.0.2"), served)
      assert.match(yield* from("127.0.0.1"), refused)
      assert.match(yield* from("127.0.0.3"), refused)
    }))

  it.live.each(["", "127.0.0.1,", "::1"])("does not listen when it is %j", (value) =>
    Effect.gen(function*() {
      const path = `${yield* temporaryDirectory}/app.sock`
      const error = yield* Effect.flip(Effect.scoped(NodeFastCgiListener.make({ path }).pipe(addrs(value))))
      assert.strictEqual(error.reason._tag, "InvalidAccessList")
      assert.include(error.message, `Cannot listen on ${path}: FCGI_WEB_SERVER_ADDRS `)
      assert.isFalse(Fs.existsSync(path))
    }))
})

describe("FCGI_WEB_SERVER_ADDRS in the environment of the process", () => {
  const fixture = programFile("test/node/fixtures/inherited.ts")
  const spawnFixture = (fd: number | "ignore", value: string, ...steps: ReadonlyArray<string>) =>
    spawned(() =>
      ChildProcess.spawn(process.execPath, [fixture, ...steps], {
        stdio: [fd, "pipe", "pipe"],
        env: { ...process.env, FCGI_WEB_SERVER_ADDRS: value }
      })
    )

  it.live.each(["listen", "listen-configured"])("is obeyed: %s", (step) =>
    Effect.gen(function*() {
      let port = 0
      const child = yield* withListening({ host: "127.0.0.1" }, (fd, server) => {
        port = (server.address() as Net.AddressInfo).port
        return spawnFixture(fd, "127.0.0.2,127.0.0.3", step)
      })
      yield* child.line("listening")
      assert.match(yield* visit({ port, localAddress: "127.0.0.1" }), refused)
      assert.strictEqual(yield* visit({ port, localAddress: "127.0.0.2" }), `pid ${child.process.pid}`)
      assert.strictEqual(yield* visit({ port, localAddress: "127.0.0.3" }), `pid ${child.process.pid}`)
    }))

  it.live.each([
    ["", "is empty, so nobody could connect"],
    ["127.0.0.0/8", "has \"127.0.0.0/8\", which is not an IPv4 address"]
  ])("is an error when it is %j", ([value, why]) =>
    Effect.gen(function*() {
      const child = yield* spawnFixture("ignore", value, "listen")
      const line = yield* child.line("failed")
      assert.include(
        line,
        `failed InvalidAccessList Cannot listen on file descriptor 0: FCGI_WEB_SERVER_ADDRS ${why}`
      )
    }))
})

describe("a listener that other hosts can reach", () => {
  // It says so, and listens on the loopback address.
  const pretend = (address: string, allow?: ReadonlyArray<string>) =>
    logged(Effect.scoped(
      acceptor("the test's port", 511, (server) =>
        Effect.as(bindInet(server, { host: "127.0.0.1", port: 0, ipv6Only: false, backlog: 511 }), {
          address: NetAddress.inetAddressFromIpStringUnsafe(address, 9000)
        }), { allow })
    ))

  it.live.each(["0.0.0.0", "::", "192.0.2.1", "10.0.0.1", "2001:db8::1"])(
    "is warned of once: %s",
    (address) =>
      Effect.gen(function*() {
        assert.deepStrictEqual((yield* pretend(address)).messages, [
          "Warn Other hosts can connect on the test's port, and whoever does can set every variable that the application " +
          "trusts its web server with. Say where the web server connects from, { allow: [\"192.0.2.10\"] } or " +
          "FCGI_WEB_SERVER_ADDRS=192.0.2.10, or listen on 127.0.0.1 or on a UNIX socket."
        ])
        assert.deepStrictEqual((yield* pretend(address, ["192.0.2.10"])).messages, [])
        assert.deepStrictEqual((yield* pretend(address).pipe(addrs("192.0.2.10"))).messages, [])
      })
  )

  it.live.each(["127.0.0.1", "127.8.8.8", "::1"])("is not %s", (address) =>
    Effect.gen(function*() {
      assert.deepStrictEqual((yield* pretend(address)).messages, [])
    }))
})

describe("NodeFastCgi", () => {
  const get = (port: number) =>
    Effect.scoped(Effect.gen(function*() {
      const client = yield* FastCgiHttpClient.make({ connect: NodeFastCgiConnector.connect({ port }) })
      const response = yield* client.get("http://localhost/")
      return yield* response.text
    }))

  const Routes = HttpRouter.add("GET", "/", HttpServerResponse.text(served))

  const serve = (options: NodeFastCgi.NodeFastCgiOptions) =>
    Effect.map(
      Layer.build(
        HttpRouter.serve(Routes, { disableLogger: true, disableListenLog: true }).pipe(
          Layer.provideMerge(NodeFastCgi.layer(options)),
          Layer.provide(Logger.layer([]))
        )
      ),
      (context) => port(Context.get(context, HttpServer.HttpServer) as { readonly address: NetAddress.SocketAddress })
    )

  it.live.each<NodeFastCgi.NodeFastCgiOptions>([
    { port: 0, allow: ["127.0.0.2"] },
    { listeners: [{ port: 0 }], allow: ["127.0.0.2"] },
    { listeners: [{ port: 0, allow: ["127.0.0.2"] }], allow: ["127.0.0.1"] }
  ])("hands on who may connect: %j", (options) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(get(yield* serve(options)))
      assert.match(String(error), /HttpClientError/)
    }))

  it.live("serves who may", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* get(yield* serve({ listeners: [{ port: 0 }], allow: ["127.0.0.1"] })), served)
    }))
})
