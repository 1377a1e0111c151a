/**
 * What stands before FastCGI on a connection: the PROXY protocol and TLS, on both ends.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  FastCgiAccess,
  FastCgiEncoder,
  FastCgiListener,
  FastCgiParams,
  FastCgiRecord,
  FastCgiRequest,
  FastCgiResponse,
  FastCgiServer
} from "effect-fastcgi"
import { FastCgiClient } from "effect-fastcgi/client"
import { NodeFastCgiConnector, NodeFastCgiListener } from "effect-fastcgi/node"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { X509Certificate } from "node:crypto"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import * as Tls from "node:tls"
import { projectRoot } from "../support/files.ts"
import { connectClient, eventually, nextEvent, temporaryDirectory, turns } from "./sockets.ts"

const pem = (name: string) => Fs.readFileSync(Path.join(projectRoot, "test/node/fixtures/tls", name), "utf8")
const identity = (name: string) => ({ cert: pem(`${name}.crt`), key: pem(`${name}.key`) })
const mutual = { ...identity("listener"), ca: pem("authority.crt") }

/** An app that answers with the peer's address. */
const listening = Effect.fnUntraced(function*(options: NodeFastCgiListener.NodeFastCgiListenerOptions) {
  const context = yield* Layer.build(
    FastCgiServer.serve({
      responder: Effect.map(
        FastCgiRequest.CurrentResponder,
        ({ peer }) =>
          FastCgiResponse.make(
            Option.match(peer, {
              onNone: () => "nobody",
              onSome: (peer) => NetAddress.isInetAddress(peer) ? NetAddress.formatInet(peer) : peer.path
            })
          )
      )
    }).pipe(Layer.provideMerge(NodeFastCgiListener.layer(options)))
  )
  return (Context.get(context, FastCgiListener.FastCgiListener).address as NetAddress.InetAddress).port
})

const records = (...all: ReadonlyArray<FastCgiRecord.FastCgiRecord>) =>
  Buffer.concat(all.map((one) => FastCgiEncoder.encode(one)))

const request = records(
  FastCgiRecord.beginRequest(1, FastCgiRecord.Role.Responder),
  FastCgiRecord.params(1, FastCgiParams.encodePairs([["REQUEST_METHOD", "GET"]])),
  FastCgiRecord.params(1),
  FastCgiRecord.stdin(1)
)

/** Connects, sends the pieces one after the other, and says what came back until the connection has ended. */
const conversation = Effect.fnUntraced(function*(to: Net.NetConnectOpts, pieces: Iterable<Uint8Array>) {
  const socket = Net.connect(to)
  yield* Effect.addFinalizer(() => Effect.sync(() => socket.destroy()))
  socket.on("error", () => {})
  let text = ""
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1")
  })
  const closed = nextEvent(socket, "close")
  socket.setNoDelay(true)
  for (const piece of pieces) {
    socket.write(piece)
    yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
  }
  yield* closed
  return /\r\n\r\n([\w.:]*)/.exec(text)?.[1] ?? ""
})

const eachByte = (bytes: Uint8Array): ReadonlyArray<Uint8Array> => Array.from(bytes, (byte) => Uint8Array.of(byte))

/** Runs it, and says what has been logged. */
const logged = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const lines: Array<string> = []
    const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
    return Effect.map(Effect.provide(effect, Logger.layer([logger])), (value) => ({ value, lines }))
  })

const header = "PROXY TCP4 192.0.2.7 192.0.2.2 51000 9000\r\n"
const header2 = Buffer.from([
  ...[0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0, 12],
  ...[192, 0, 2, 7, 192, 0, 2, 2, 0xc7, 0x38, 0x23, 0x28]
])

describe("the PROXY protocol", () => {
  it.live("says who the peer is, in both versions, at any cut", () =>
    Effect.gen(function*() {
      const port = yield* listening({ port: 0, proxyProtocol: ["127.0.0.1"] })
      for (const bytes of [Buffer.from(header), header2]) {
        const whole = Buffer.concat([bytes, request])
        assert.strictEqual(yield* conversation({ port }, [whole]), "192.0.2.7:51000")
        assert.strictEqual(yield* conversation({ port }, [bytes, request]), "192.0.2.7:51000")
        assert.strictEqual(yield* conversation({ port }, [...eachByte(bytes), request]), "192.0.2.7:51000")
      }
      assert.match(yield* conversation({ port }, [Buffer.from("PROXY UNKNOWN\r\n"), request]), /^127\.0\.0\.1:\d+$/)
    }))

  it.live("is believed of whoever may connect, on a UNIX socket too", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* temporaryDirectory, "app.sock")
      yield* listening({ path, proxyProtocol: true })
      assert.strictEqual(yield* conversation({ path }, [header2, request]), "192.0.2.7:51000")
      const port = yield* listening({ port: 0, proxyProtocol: true, allow: ["127.0.0.1"] })
      assert.strictEqual(yield* conversation({ port }, [header2, request]), "192.0.2.7:51000")
    }))

  it.live("has to be there where it is announced, and is forged where it is not", () =>
    Effect.gen(function*() {
      const before = yield* Metric.value(FastCgiAccess.refusedConnections)
      const { lines } = yield* logged(Effect.gen(function*() {
        const port = yield* listening({ port: 0, proxyProtocol: ["127.0.0.1"] })
        assert.strictEqual(yield* conversation({ port }, [request]), "")
        assert.strictEqual(yield* conversation({ port }, [request]), "")
        // 127.0.0.2 may connect, and is believed to be itself.
        const other = { port, localAddress: "127.0.0.2" }
        assert.match(yield* conversation(other, [request]), /^127\.0\.0\.2:\d+$/)
        for (const forged of [Buffer.from(header), header2]) {
          assert.strictEqual(yield* conversation(other, [forged, request]), "")
        }
      }))
      const after = yield* Metric.value(FastCgiAccess.refusedConnections)
      assert.strictEqual(Number(after.count) - Number(before.count), 4)
      // One line of each kind in ten seconds.
      assert.deepStrictEqual(
        lines.filter((line) => line.startsWith("Refused")).map((line) => line.replace(/:\d+/, ":0")),
        [
          "Refused a connection from 127.0.0.1 on 127.0.0.1:0: it sent no PROXY header: it begins neither with PROXY nor with the " +
          "signature of version 2",
          "Refused a connection from 127.0.0.2 on 127.0.0.1:0: it sent a PROXY header, and is not listed in proxyProtocol"
        ]
      )
    }))

  it.live("is bounded in time and in bytes", () =>
    Effect.gen(function*() {
      const hasty = { port: yield* listening({ port: 0, proxyProtocol: ["127.0.0.1"], handshakeTimeout: "50 millis" }) }
      assert.strictEqual(yield* conversation(hasty, []), "")
      assert.strictEqual(yield* conversation(hasty, [Buffer.from("PROXY TCP4 ")]), "")
      const port = yield* listening({ port: 0, proxyProtocol: ["127.0.0.1"], handshakeTimeout: "1 hour" })
      assert.strictEqual(yield* conversation({ port }, [Buffer.from("PROXY TCP4 " + "1".repeat(1_000_000))]), "")
      assert.strictEqual(yield* conversation({ port }, [Buffer.from(header), request]), "192.0.2.7:51000")
    }))

  it.live("is waited for by a stop, and so is the request behind it", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* temporaryDirectory, "app.sock")
      const scope = yield* Scope.make()
      yield* Scope.provide(listening({ path, proxyProtocol: true }), scope)
      const { received, socket } = yield* connectClient({ path })
      socket.write(header.slice(0, 10))
      yield* turns(5)
      const stop = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      // Longer than a stop waits for the last requests.
      const since = performance.now()
      yield* eventually(() => performance.now() - since > 150)
      assert.isFalse(Fs.existsSync(path))
      socket.write(header.slice(10))
      yield* turns(1)
      socket.write(request)
      yield* eventually(() => received().includes("192.0.2.7:51000"), "the answer")
      socket.end()
      yield* Fiber.join(stop)
    }))

  it.live("is not believed of anybody: there has to be a list", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.scoped(NodeFastCgiListener.make({ port: 0, proxyProtocol: true })))
      assert.strictEqual(error.reason._tag, "InvalidAccessList")
      const wrong = yield* Effect.flip(Effect.scoped(NodeFastCgiListener.make({ port: 0, proxyProtocol: ["nobody"] })))
      assert.strictEqual(wrong.reason._tag, "InvalidAccessList")
    }))
})

const asking = (options: NodeFastCgiConnector.NodeFastCgiConnectorOptions) =>
  Effect.scoped(Effect.gen(function*() {
    const client = yield* FastCgiClient.make({ connect: NodeFastCgiConnector.connect(options) })
    const { stdout } = yield* client.request({ params: [["REQUEST_METHOD", "GET"]] })
    return (yield* Stream.mkString(Stream.decodeText(stdout))).split("\r\n\r\n")[1]
  }))

describe("TLS", () => {
  it.live("carries requests of a client whose certificate is accepted, both ways checked", () =>
    Effect.gen(function*() {
      const port = yield* listening({ port: 0, tls: mutual })
      const tls = { ...identity("client"), ca: pem("authority.crt"), serverName: "localhost" }
      assert.match((yield* asking({ port, tls }))!, /^127\.0\.0\.1:\d+$/)
      assert.match((yield* asking({ host: "localhost", port, tls }))!, /127\.0\.0\.1:\d+$/)
      const path = Path.join(yield* temporaryDirectory, "app.sock")
      yield* listening({ path, tls: mutual })
      assert.strictEqual(yield* asking({ path, tls }), "nobody")
    }))

  it.live("is refused without a certificate or with a wrong one, which is one line in the log", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
      yield* Effect.gen(function*() {
        const port = yield* listening({ port: 0, tls: mutual })
        const ca = pem("authority.crt")
        for (const tls of [{ ca, ...identity("forged") }, { ca, ...identity("forged") }, { ca }]) {
          const error = yield* Effect.flip(asking({ port, tls: { ...tls, serverName: "localhost" } }))
          assert.include(["FastCgiClientError"], error._tag)
        }
        yield* eventually(() => lines.some((line) => line.startsWith("Refused")))
        // Somebody who speaks no TLS.
        assert.strictEqual(yield* conversation({ port }, [request]), "")
      }).pipe(Effect.provide(Logger.layer([logger])))
      const refused = lines.filter((line) => line.startsWith("Refused"))
      assert.strictEqual(refused.length, 1, refused.join("\n"))
      assert.match(refused[0]!, /from 127\.0\.0\.1 on .*: the TLS handshake failed: UNABLE_TO_VERIFY_LEAF_SIGNATURE$/)
    }))

  it.live("is refused again where a session is resumed whose certificate was refused", () =>
    Effect.gen(function*() {
      const port = yield* listening({ port: 0, tls: mutual })
      const options = { port, servername: "localhost", ca: pem("authority.crt") }
      const visit = Effect.fnUntraced(function*(more: Tls.ConnectionOptions) {
        const socket = Tls.connect({ ...options, ...more })
        socket.on("error", () => {})
        let session: Buffer | undefined
        let text = ""
        socket.on("session", (ticket: Buffer) => {
          session = ticket
        })
        socket.on("data", (chunk: Buffer) => {
          text += chunk.toString("latin1")
        })
        socket.write(request)
        yield* nextEvent(socket, "close")
        return { session, text }
      })
      const first = yield* visit(identity("forged"))
      assert.strictEqual(first.text, "")
      // As a rule it is closed before it has got a ticket.
      if (first.session !== undefined) assert.strictEqual((yield* visit({ session: first.session })).text, "")
      const good = yield* visit(identity("client"))
      assert.include(good.text, "127.0.0.1")
      assert.include((yield* visit({ ...identity("client"), session: good.session! })).text, "127.0.0.1")
    }))

  it.live("tells a client of a certificate that it cannot accept, and of an application that speaks none", () =>
    Effect.gen(function*() {
      const port = yield* listening({ port: 0, tls: identity("listener") })
      const failing = (tls: NodeFastCgiConnector.ConnectorTlsOptions, to = port) =>
        Effect.map(
          Effect.flip(Effect.scoped(NodeFastCgiConnector.connect({ port: to, tls }))),
          ({ message, reason }) => `${reason._tag} ${message}`
        )
      assert.match(yield* failing({}), /^TlsFailed .*Check the certificates/)
      assert.match(yield* failing({ ca: pem("authority.crt"), serverName: "elsewhere" }), /^TlsFailed .*elsewhere/)
      const plain = yield* listening({ port: 0 })
      assert.match(yield* failing({ ca: pem("authority.crt") }, plain), /^TlsFailed /)
    }))

  it.live("stands behind the PROXY header, and is bounded in time", () =>
    Effect.gen(function*() {
      const options = { port: 0, tls: mutual, proxyProtocol: ["127.0.0.1"] }
      const port = yield* listening({ ...options, handshakeTimeout: "1 hour" })
      const raw = Net.connect({ port })
      yield* Effect.addFinalizer(() => Effect.sync(() => raw.destroy()))
      raw.write(header2)
      const socket = Tls.connect({
        socket: raw,
        servername: "localhost",
        ca: pem("authority.crt"),
        ...identity("client")
      })
      let text = ""
      socket.on("data", (chunk: Buffer) => {
        text += chunk.toString("latin1")
      })
      const closed = nextEvent(socket, "close")
      socket.write(request)
      yield* closed
      assert.include(text, "192.0.2.7:51000")
      const hasty = yield* listening({ ...options, handshakeTimeout: "50 millis" })
      assert.strictEqual(yield* conversation({ port: hasty }, [header2]), "")
    }))

  it.live("cannot be had with a certificate that is none", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        Effect.scoped(NodeFastCgiListener.make({ port: 0, tls: { cert: "none", key: pem("client.key") } }))
      )
      assert.strictEqual(error.reason._tag, "InvalidCertificate")
      const other = { cert: pem("listener.crt"), key: pem("client.key") }
      const mixed = yield* Effect.flip(Effect.scoped(NodeFastCgiListener.make({ port: 0, tls: other })))
      assert.strictEqual(mixed.reason._tag, "InvalidCertificate")
    }))
})

describe("a certificate", () => {
  /** The name in the certificate that a new connection is shown. */
  const shown = (port: number) =>
    Effect.scoped(Effect.gen(function*() {
      const socket = Tls.connect({ port, ...identity("client"), rejectUnauthorized: false })
      yield* Effect.addFinalizer(() => Effect.sync(() => socket.destroy()))
      yield* nextEvent(socket, "secureConnect")
      return String(socket.getPeerCertificate().subject.CN)
    }))

  const nameOf = (name: string) => /CN=([^\n]*)/.exec(new X509Certificate(pem(`${name}.crt`)).subject)![1]

  it.live("is renewed while the listener runs, and stays where the new one is of no use", () =>
    Effect.gen(function*() {
      const renewals = yield* Queue.unbounded<NodeFastCgiListener.TlsCertificates>()
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
      const port = yield* listening({ port: 0, tls: { ...mutual, renewals: Stream.fromQueue(renewals) } }).pipe(
        Effect.provide(Logger.layer([logger]))
      )
      assert.strictEqual(yield* shown(port), nameOf("listener"))
      yield* Queue.offer(renewals, { ...mutual, ...identity("client") })
      yield* eventually(() => lines.some((line) => line.includes("has been renewed")))
      assert.strictEqual(yield* shown(port), nameOf("client"))
      yield* Queue.offer(renewals, { ...mutual, key: pem("client.key") })
      yield* eventually(() =>
        lines.some((line) => /stays as it is, .*the key is not that of the certificate/.test(line))
      )
      yield* Queue.offer(renewals, identity("listener"))
      yield* eventually(() => lines.some((line) => /stays as it is, .*it has no authorities/.test(line)))
      assert.strictEqual(yield* shown(port), nameOf("client"))
    }).pipe(Effect.scoped))

  it.live("in files is read again at SIGHUP", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryDirectory
      const put = (name: string) => {
        for (const kind of ["crt", "key"]) Fs.writeFileSync(Path.join(folder, kind), pem(`${name}.${kind}`))
      }
      put("listener")
      const [options] = yield* Effect.provide(
        NodeFastCgiListener.config,
        ConfigProvider.layer(ConfigProvider.fromEnv({
          env: {
            FASTCGI_LISTEN: "127.0.0.1:9000",
            FASTCGI_TLS_CERT: Path.join(folder, "crt"),
            FASTCGI_TLS_KEY: Path.join(folder, "key")
          }
        }))
      )
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
      const port = yield* listening({ port: 0, tls: options!.tls }).pipe(Effect.provide(Logger.layer([logger])))
      assert.strictEqual(yield* shown(port), nameOf("listener"))
      put("client")
      process.emit("SIGHUP", "SIGHUP")
      yield* eventually(() => lines.some((line) => line.includes("has been renewed")))
      assert.strictEqual(yield* shown(port), nameOf("client"))
      // A listener that could not be bound has nobody to renew it for.
      const listeners = process.listenerCount("SIGHUP")
      const twice = Layer.build(NodeFastCgiListener.layer({ port, tls: options!.tls! }))
      assert.strictEqual((yield* Effect.flip(twice)).reason._tag, "AddressInUse")
      yield* turns(2)
      assert.strictEqual(process.listenerCount("SIGHUP"), listeners)
      Fs.unlinkSync(Path.join(folder, "key"))
      process.emit("SIGHUP", "SIGHUP")
      yield* eventually(() => lines.some((line) => line.includes("FASTCGI_TLS_KEY=")))
      assert.strictEqual(yield* shown(port), nameOf("client"))
    }).pipe(Effect.scoped))
})
