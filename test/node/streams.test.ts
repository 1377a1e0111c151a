/**
 * The stages of the chain over what Node and Effect bring: a `SocketServer` on a port, and Duplexes that are no plain sockets.
 */
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import { assert, describe, it } from "@effect/vitest"
import { FastCgiConnection, FastCgiListener, FastCgiResponse, FastCgiServer, FastCgiTransport } from "effect-fastcgi"
import { FastCgiClient } from "effect-fastcgi/client"
import { NodeFastCgiConnector, NodeFastCgiTransport } from "effect-fastcgi/node"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import { execFileSync } from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { duplexPair } from "node:stream"
import * as Tls from "node:tls"
import { describeWith } from "../support/requirement.ts"
import { within } from "../support/within.ts"
import { pattern, temporaryDirectory } from "./sockets.ts"

const body = pattern(1_000_000)

/** Echoes, or waits and says when it is interrupted, or streams for ever and counts. */
const makeApp = Effect.gen(function*() {
  const waiting = yield* Queue.unbounded<void>()
  const interrupted = yield* Queue.unbounded<void>()
  const counted = { bytes: 0 }
  const handlers: FastCgiServer.Handlers<never, never, never, never, never, never> = {
    responder: (request) => {
      switch (request.params.get("DO")) {
        case "wait":
          return Effect.andThen(
            Queue.offer(waiting, undefined),
            Effect.onInterrupt(Effect.never, () => Queue.offer(interrupted, undefined))
          )
        case "stream":
          return Effect.succeed(FastCgiResponse.make(Stream.fromEffectRepeat(Effect.sync(() => {
            counted.bytes += 65_536
            return body.subarray(0, 65_536)
          }))))
        default:
          return Effect.succeed(FastCgiResponse.make(Stream.orDie(request.stdin)))
      }
    }
  }
  return { handlers, waiting, interrupted, counted }
})

const echo = (client: FastCgiClient.FastCgiClient) =>
  Effect.gen(function*() {
    const { stdout } = yield* client.request({ params: [["CONTENT_LENGTH", String(body.length)]], stdin: body })
    const reply = yield* Stream.mkUint8Array(stdout)
    assert.strictEqual(Buffer.compare(reply.subarray(reply.length - body.length), body), 0)
  })

const echoSeveral = (client: FastCgiClient.FastCgiClient) =>
  Effect.forEach([1, 2, 3, 4], () => echo(client), { concurrency: "unbounded", discard: true })

describe.each(["tcp", "websocket"] as const)("FastCgiListener.layerSocketServer, %s", (kind) => {
  const serving = Effect.gen(function*() {
    const app = yield* makeApp
    const scope = yield* Scope.fork(yield* Effect.scope)
    const listener = FastCgiListener.layerSocketServer.pipe(
      Layer.provide(
        kind === "tcp"
          ? NodeSocketServer.layer({ host: "127.0.0.1", port: 0 })
          : NodeSocketServer.layerWebSocket({ host: "127.0.0.1", port: 0 })
      )
    )
    const address = yield* Deferred.make<NetAddress.SocketAddress>()
    yield* Layer.buildWithScope(
      Layer.effectDiscard(Effect.gen(function*() {
        yield* Deferred.succeed(address, (yield* FastCgiListener.FastCgiListener).address)
        yield* FastCgiServer.serveEffect(app.handlers)
      })).pipe(Layer.provide(listener)),
      scope
    )
    const bound = yield* Deferred.await(address)
    assert.isTrue(NetAddress.isInetAddress(bound))
    const port = NetAddress.isInetAddress(bound) ? bound.port : 0
    assert.isAbove(port, 0)
    const connect = kind === "tcp"
      ? NodeFastCgiConnector.connect({ host: "127.0.0.1", port })
      : Effect.flatMap(
        Socket.makeWebSocket(`ws://127.0.0.1:${port}`),
        (socket) => FastCgiTransport.fromChannel(Socket.toChannel(socket))
      ).pipe(Effect.provide(Socket.layerWebSocketConstructorGlobal))
    return { ...app, connect, port, stop: Scope.close(scope, Exit.void) }
  })

  it.live("serves kept connections and such that end, and bodies both ways", () =>
    Effect.gen(function*() {
      const { connect } = yield* serving
      yield* echoSeveral(yield* FastCgiClient.make({ connect, maxRequests: 4 }))
      for (let i = 0; i < 3; i++) {
        const client = yield* FastCgiClient.make({ connect, keepConnection: false })
        yield* echo(client)
        yield* client.closed
      }
    }).pipe(Effect.scoped, within("the play", 60)))

  it.live("interrupts the handler of a request that is aborted, and of a connection that is lost", () =>
    Effect.gen(function*() {
      const { connect, interrupted, waiting } = yield* serving
      for (const maxRequests of [1, 4]) {
        yield* Effect.scoped(Effect.gen(function*() {
          const client = yield* FastCgiClient.make({ connect, maxRequests })
          yield* client.request({ params: [["DO", "wait"]] })
          yield* Queue.take(waiting)
          if (maxRequests === 1) return
          yield* Effect.scoped(Effect.andThen(client.request({ params: [["DO", "wait"]] }), Queue.take(waiting)))
          yield* Queue.take(interrupted)
          yield* echo(client)
        }))
        yield* Queue.take(interrupted)
      }
    }).pipe(Effect.scoped, within("the play", 60)))

  it.live("closes a connection of strangers, and serves on", () =>
    Effect.gen(function*() {
      const { connect, port } = yield* serving
      const stranger = Net.connect({ host: "127.0.0.1", port })
      const closed = once(stranger, "close")
      stranger.on("error", () => {}).resume()
      stranger.write("\x02 is no version of FastCGI, and so these are no records")
      yield* Effect.promise(() => closed)
      yield* echo(yield* FastCgiClient.make({ connect }))
    }).pipe(Effect.scoped, within("the play", 60)))

  // A WebSocket of Effect says nothing of what it has not sent yet, and that of Node cannot be paused.
  it.live.skipIf(kind === "websocket")("holds a response up that nobody takes", () =>
    Effect.gen(function*() {
      const { connect, counted } = yield* serving
      const client = yield* FastCgiClient.make({ connect })
      const { stdout } = yield* client.request({ params: [["DO", "stream"]] })
      let before = -1
      while (counted.bytes > before) {
        before = counted.bytes
        // What the sockets of the operating system hold as well takes turns of the event loop.
        for (let i = 0; i < 200; i++) yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      }
      assert.isBelow(counted.bytes, 64 * 1024 * 1024)
      const held = counted.bytes
      yield* Stream.runDrain(Stream.takeWhile(stdout, () => counted.bytes < held + 8 * 1024 * 1024))
    }).pipe(Effect.scoped, within("the play", 60)))

  it.live("closes everything when it stops", () =>
    Effect.gen(function*() {
      const { connect, interrupted, stop, waiting } = yield* serving
      const client = yield* FastCgiClient.make({ connect })
      yield* client.request({ params: [["DO", "wait"]] })
      yield* Queue.take(waiting)
      yield* stop
      yield* Queue.take(interrupted)
      yield* client.closed
      // A WebSocket is opened by who reads it.
      const again = Effect.flatMap(FastCgiClient.make({ connect }), echo)
      assert.strictEqual((yield* Effect.flip(again)).reason._tag, kind === "tcp" ? "ConnectFailed" : "ConnectionLost")
    }).pipe(Effect.scoped, within("the play", 60)))
})

describe("NodeFastCgiTransport.fromDuplex", () => {
  it.live("carries a connection over a duplexPair", () =>
    Effect.gen(function*() {
      const { handlers } = yield* makeApp
      const [one, other] = duplexPair()
      yield* Effect.forkScoped(FastCgiConnection.serve(NodeFastCgiTransport.fromDuplex(one), handlers))
      yield* echoSeveral(
        yield* FastCgiClient.make({
          connect: Effect.sync(() => NodeFastCgiTransport.fromDuplex(other)),
          maxRequests: 4
        })
      )
    }).pipe(Effect.scoped, within("the play", 60)))
})

describeWith(["openssl"], "NodeFastCgiTransport.fromDuplex over TLS", (openssl) => {
  const serving = Effect.gen(function*() {
    const app = yield* makeApp
    const folder = yield* temporaryDirectory
    const [key, cert] = [Path.join(folder, "key.pem"), Path.join(folder, "cert.pem")]
    yield* Effect.sync(() =>
      execFileSync(openssl!, [
        ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
        ...["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert]
      ], { stdio: "ignore" })
    )
    const pem = { key: Fs.readFileSync(key), cert: Fs.readFileSync(cert) }
    const server = Tls.createServer({ ...pem, allowHalfOpen: true })
    const peers: Array<Option.Option<NetAddress.SocketAddress>> = []
    const transports = Stream.callback<ReturnType<typeof NodeFastCgiTransport.fromDuplex>>((queue) =>
      Effect.sync(() => {
        server.on("secureConnection", (socket) => {
          const transport = NodeFastCgiTransport.fromDuplex(socket)
          peers.push(transport.peer)
          Queue.offerUnsafe(queue, transport)
        })
      })
    )
    yield* Effect.acquireRelease(
      Effect.promise(() => once(server.listen(0, "127.0.0.1"), "listening")),
      () => Effect.sync(() => server.close())
    )
    yield* Layer.build(
      FastCgiServer.serve(app.handlers).pipe(Layer.provide(FastCgiListener.fromStream(transports)))
    )
    const address = server.address()
    const port = typeof address === "object" && address !== null ? address.port : 0
    const connect = Effect.acquireRelease(
      Effect.callback<Tls.TLSSocket>((resume) => {
        const socket = Tls.connect(
          { host: "127.0.0.1", port, ca: pem.cert, servername: "localhost" },
          () => resume(Effect.succeed(socket))
        )
        socket.once("error", (error) => resume(Effect.die(error)))
      }),
      (socket) => Effect.sync(() => socket.destroy())
    )
    return { ...app, peers, connect: Effect.map(connect, NodeFastCgiTransport.fromDuplex), socket: connect }
  })

  it.live("carries requests beside each other, and connections that end with one", () =>
    Effect.gen(function*() {
      const { connect } = yield* serving
      yield* echoSeveral(yield* FastCgiClient.make({ connect, maxRequests: 4 }))
      const client = yield* FastCgiClient.make({ connect, keepConnection: false })
      yield* echo(client)
      yield* client.closed
    }).pipe(Effect.scoped, within("the play", 60)))

  it.live("says who connects, so that access lists hold", () =>
    Effect.gen(function*() {
      const { connect, peers } = yield* serving
      yield* echo(yield* FastCgiClient.make({ connect }))
      assert.deepStrictEqual(peers.map(Option.map((peer) => NetAddress.isInetAddress(peer) && peer.port > 0)), [
        Option.some(true)
      ])
    }).pipe(Effect.scoped, within("the play", 60)))

  it.live("interrupts the handler of a connection that is lost", () =>
    Effect.gen(function*() {
      const { interrupted, socket, waiting } = yield* serving
      const lost = yield* socket
      const client = yield* FastCgiClient.make({
        connect: Effect.sync(() => NodeFastCgiTransport.fromDuplex(lost))
      })
      yield* client.request({ params: [["DO", "wait"]] })
      yield* Queue.take(waiting)
      lost.destroy()
      yield* Queue.take(interrupted)
    }).pipe(Effect.scoped, within("the play", 60)))
})
