/**
 * WebSockets over FastCGI: what lighttpd has sent, replayed byte for byte, and whole connections of `ws`'s client through the
 * gateway, as a browser makes them.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeWS from "@effect/platform-node/NodeWS"
import { assert, describe, it } from "@effect/vitest"
import { FastCgiParams, FastCgiRecord } from "effect-fastcgi"
import { FastCgiGateway } from "effect-fastcgi/client"
import { FastCgiHttpServer } from "effect-fastcgi/http"
import { NodeFastCgi, NodeFastCgiConnector, NodeFastCgiWebSocket } from "effect-fastcgi/node"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpServer from "effect/http/HttpServer"
import { ClientAbort } from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as TestClock from "effect/testing/TestClock"
import * as Crypto from "node:crypto"
import { createServer, type IncomingMessage, request } from "node:http"
import * as Net from "node:net"
import * as Path from "node:path"
import { within } from "../support/within.ts"
import { read, recordsOf } from "../vectors/vectors.ts"
import { eventually, nextEvent, temporaryDirectory } from "./sockets.ts"

// -----------------------------------------------------------------------------
// Apps
// -----------------------------------------------------------------------------

/** How handlers have ended. */
type Ends = Array<Exit.Exit<unknown, unknown>>

const describeEnd = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) return "returned"
  if (Cause.hasInterruptsOnly(exit.cause)) {
    return exit.cause.reasons[0]!.annotations.has(ClientAbort.key) ? "ClientAbort" : "interrupted"
  }
  const error = Cause.squash(exit.cause)
  return Socket.isSocketError(error) ? `${error.reason._tag} ${error.message}` : String(error)
}

/** Sends back what comes. */
const echo = (ends: Ends = []) =>
  Effect.gen(function*() {
    const request = yield* HttpServerRequest.HttpServerRequest
    const socket = yield* request.upgrade
    const writer = yield* socket.writer
    const { pull } = yield* socket.reader
    return yield* Effect.forever(Effect.flatMap(pull, writer.writeAll))
  }).pipe(
    Effect.onExit((exit) => Effect.sync(() => void ends.push(exit))),
    Effect.catchIf(Socket.isSocketError, () => Effect.succeed(HttpServerResponse.empty()))
  )

type App<E> = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  E,
  HttpServerRequest.HttpServerRequest | Scope.Scope
>

const inMemory = <E>(app: App<E>, options?: NodeFastCgiWebSocket.NodeFastCgiWebSocketOptions) =>
  HttpServer.serve(app).pipe(
    Layer.provide(FastCgiHttpServer.layerServer()),
    Layer.provide(NodeFastCgiWebSocket.layer(options)),
    Layer.provideMerge(FastCgiTest.layerMemory)
  )

/** The app on a socket, and the gateway in front of it. `stop` ends the app. */
const behindGateway = Effect.fnUntraced(
  function*<E>(app: App<E>, options: NodeFastCgiWebSocket.NodeFastCgiWebSocketOptions = {}) {
    const path = Path.join(yield* temporaryDirectory, "app.sock")
    const scope = yield* Scope.make()
    yield* Layer.buildWithScope(
      HttpServer.serve(app).pipe(Layer.provide(NodeFastCgi.layerServer({ ...options, path }))),
      scope
    )
    const stop = Scope.close(scope, Exit.void)
    yield* Effect.addFinalizer(() => stop)
    const context = yield* Layer.build(
      FastCgiGateway.layer({ connect: NodeFastCgiConnector.connect({ path }) }).pipe(
        Layer.provideMerge(
          NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0, gracefulShutdownTimeout: 0 })
        )
      )
    )
    const { address } = Context.get(context, HttpServer.HttpServer)
    const port = "port" in address ? address.port : 0
    return { path, port, stop, url: `ws://127.0.0.1:${port}/` }
  }
)

// -----------------------------------------------------------------------------
// Clients
// -----------------------------------------------------------------------------

const connect = Effect.fnUntraced(function*(
  url: string,
  options?: ConstructorParameters<typeof NodeWS.WebSocket>[2],
  protocols?: Array<string>
) {
  const client = new NodeWS.WebSocket(url, protocols, { perMessageDeflate: false, ...options })
  client.on("error", () => {})
  yield* Effect.addFinalizer(() => Effect.sync(() => client.terminate()))
  return client
})

const opened = Effect.fnUntraced(function*(...args: Parameters<typeof connect>) {
  const client = yield* connect(...args)
  yield* nextEvent(client, "open")
  return client
})

const answerTo = (client: NodeWS.WebSocket, data: string | Buffer) =>
  Effect.suspend(() => {
    const answer = nextEvent(client, "message")
    client.send(data)
    return Effect.map(answer, ([data]) => data as Buffer)
  })

const closeOf = (client: NodeWS.WebSocket) => Effect.map(nextEvent(client, "close"), ([code]) => code as number)

/** The answer of HTTP to an upgrade that is refused. */
const refusalOf = (port: number, headers: Record<string, string> = {}) =>
  Effect.suspend(() => {
    const asked = request({
      host: "127.0.0.1",
      port,
      headers: {
        connection: "keep-alive, Upgrade",
        upgrade: "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        ...headers
      }
    })
    asked.end()
    return Effect.map(nextEvent(asked, "response"), ([response]) => {
      const { headers, statusCode } = response as IncomingMessage
      ;(response as IncomingMessage).resume()
      return { status: statusCode, headers }
    })
  })

// -----------------------------------------------------------------------------
// Replays
// -----------------------------------------------------------------------------

const head101 = (more = "") =>
  "Status: 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
  `Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n${more}\r\n`

/** STDOUT as hexadecimal behind the head, and how the request has ended. */
const summary = (records: ReadonlyArray<FastCgiRecord.FastCgiRecord>) => {
  const stdout = Buffer.concat(records.flatMap((record) => record._tag === "Stdout" ? [record.content] : []))
  const end = stdout.indexOf("\r\n\r\n") + 4
  const last = records.at(-1)
  return {
    head: stdout.toString("latin1", 0, end),
    frames: stdout.toString("hex", end),
    end: last?._tag === "EndRequest" ? [last.appStatus, last.protocolStatus] : undefined
  }
}

/** Sends a recording, its records in writes of their own, and says what came back until the server has closed. */
const replay = (file: string, options: { readonly atOnce?: boolean } = {}) =>
  Effect.gen(function*() {
    const { peer: connectPeer } = yield* FastCgiTest.FastCgiMemory
    const peer = yield* connectPeer
    // A recording is somebody else's: `ws` changes the bytes that it reads.
    if (options.atOnce === true) yield* peer.sendBytes(read(file))
    else {
      for (const record of recordsOf(file)) {
        yield* peer.send(record)
        yield* eventuallyRead
      }
    }
    return peer
  })

describe("what lighttpd has sent", () => {
  for (const atOnce of [false, true]) {
    const how = atOnce ? "in one write" : "record by record"

    it.effect(`is a conversation, ${how}`, () =>
      Effect.gen(function*() {
        const ends: Ends = []
        const received = yield* Effect.gen(function*() {
          const peer = yield* replay("lighttpd-ws-echo.bin", { atOnce })
          return summary(yield* peer.drain)
        }).pipe(Effect.scoped, Effect.provide(inMemory(echo(ends))))
        assert.strictEqual(received.head, head101("Sec-WebSocket-Protocol: chat\r\n"))
        const close = "880503e8627965"
        // In one write the Close is there before the handler has seen everything, and then nothing is sent any more.
        if (atOnce) assert.isTrue(received.frames.endsWith(close), received.frames)
        else {
          // `ws` answers a ping by itself, somewhere between the answers of the handler.
          const frames = ["81036f6e65", "810374776f", "8108667261676d656e74", "8206000102fdfeff", close]
          assert.strictEqual(received.frames.replace("8a0170", ""), "810568656c6c6f" + frames.join(""))
          assert.include(received.frames, "8a0170")
        }
        assert.deepStrictEqual(received.end, [0, 0])
        assert.deepStrictEqual(ends.map(describeEnd), ["SocketCloseError 1000: bye"])
      }), 20_000)

    it.effect(`is 200 KB in several messages, ${how}`, () =>
      Effect.gen(function*() {
        const received = yield* Effect.gen(function*() {
          const peer = yield* replay("lighttpd-ws-big.bin", { atOnce })
          return summary(yield* peer.drain)
        }).pipe(Effect.scoped, Effect.provide(inMemory(echo())))
        // What came goes back, without a mask.
        const bytes = Buffer.from(received.frames, "hex")
        const sent = messages(Buffer.concat(
          recordsOf("lighttpd-ws-big.bin").flatMap((record) => record._tag === "Stdin" ? [record.content] : [])
        ))
        assert.deepStrictEqual(messages(bytes), sent)
        assert.deepStrictEqual(received.end, [0, 0])
      }))
  }

  it.effect("ends without a word where the client has gone", () =>
    Effect.gen(function*() {
      const ends: Ends = []
      const received = yield* Effect.gen(function*() {
        const peer = yield* replay("lighttpd-ws-client-gone.bin")
        // lighttpd half-closes at least: what is said now arrives when it restarts.
        yield* peer.end
        return summary(yield* peer.drain)
      }).pipe(Effect.scoped, Effect.provide(inMemory(echo(ends))))
      assert.strictEqual(received.head, head101())
      assert.strictEqual(received.frames, "810568656c6c6f" + "880203e9")
      assert.deepStrictEqual(received.end, [0, 0])
      assert.deepStrictEqual(ends.map(describeEnd), ["SocketCloseError 1006"])
    }))

  it.effect("interrupts a handler that does not read, where the client has gone", () =>
    Effect.gen(function*() {
      const ends: Ends = []
      const silent = Effect.gen(function*() {
        const socket = yield* (yield* HttpServerRequest.HttpServerRequest).upgrade
        yield* socket.reader
        return yield* Effect.never
      }).pipe(Effect.onExit((exit) => Effect.sync(() => void ends.push(exit))), Effect.interruptible)
      yield* Effect.gen(function*() {
        const peer = yield* replay("lighttpd-ws-client-gone.bin")
        yield* peer.end
        yield* peer.drain
        yield* eventually(() => ends.length === 1)
      }).pipe(Effect.scoped, Effect.provide(inMemory(silent)))
      assert.deepStrictEqual(ends.map(describeEnd), ["ClientAbort"])
    }))

  it.effect("is a Close of the application's, and the client's answer", () =>
    Effect.gen(function*() {
      const closes = Effect.gen(function*() {
        const socket = yield* (yield* HttpServerRequest.HttpServerRequest).upgrade
        const writer = yield* socket.writer
        const { pull } = yield* socket.reader
        yield* writer.write(new Socket.CloseEvent(1001, "going away"))
        return yield* Effect.forever(pull)
      }).pipe(Effect.catchIf(Socket.isSocketError, () => Effect.succeed(HttpServerResponse.empty())))
      const received = yield* Effect.gen(function*() {
        const peer = yield* replay("lighttpd-ws-server-close.bin")
        return summary(yield* peer.drain)
      }).pipe(Effect.scoped, Effect.provide(inMemory(closes)))
      assert.strictEqual(received.head, head101())
      assert.strictEqual(received.frames, "880c03e9676f696e672061776179")
      assert.deepStrictEqual(received.end, [0, 0])
    }))

  it.effect("gets an ordinary answer where the application refuses", () =>
    Effect.gen(function*() {
      const refuse = Effect.succeed(HttpServerResponse.text("This is a WebSocket.\n", { status: 426 }))
      const reply = yield* Effect.gen(function*() {
        const peer = yield* replay("lighttpd-ws-refused.bin")
        return yield* peer.reply()
      }).pipe(Effect.scoped, Effect.provide(inMemory(refuse)))
      assert.match(reply.stdout, /^Status: 426 Upgrade Required\r\n[^]*\r\n\r\nThis is a WebSocket\.\n$/)
    }))

  it.effect("is a body over HTTP/2, and no upgrade", () =>
    Effect.gen(function*() {
      const reply = yield* Effect.gen(function*() {
        const peer = yield* replay("lighttpd-ws-h2-connect.bin")
        return yield* peer.reply()
      }).pipe(Effect.scoped, Effect.provide(inMemory(echo())))
      assert.match(reply.stdout, /^Status: 426 /)
    }))

  it.effect("is pinged every 25 seconds, and given up without an answer to it", () =>
    Effect.gen(function*() {
      const ends: Ends = []
      yield* Effect.gen(function*() {
        const { peer: connectPeer } = yield* FastCgiTest.FastCgiMemory
        const peer = yield* connectPeer
        for (const record of recordsOf("lighttpd-ws-client-gone.bin").slice(0, 3)) yield* peer.send(record)
        assert.strictEqual((yield* peer.receive)._tag, "Stdout")
        yield* TestClock.adjust("25 seconds")
        const ping = yield* peer.receive
        assert.deepStrictEqual(ping, FastCgiRecord.stdout(1, Uint8Array.of(0x89, 0)))
        // The client's pong, with a mask of zeros.
        yield* peer.send(FastCgiRecord.stdin(1, Uint8Array.of(0x8a, 0x80, 0, 0, 0, 0)))
        yield* eventuallyRead
        yield* TestClock.adjust("25 seconds")
        assert.strictEqual((yield* peer.receive)._tag, "Stdout")
        yield* TestClock.adjust("25 seconds")
        assert.deepStrictEqual((yield* peer.drain).map(({ _tag }) => _tag), ["Stdout", "EndRequest"])
      }).pipe(Effect.scoped, Effect.provide(inMemory(echo(ends))))
      assert.deepStrictEqual(ends.map(describeEnd), ["SocketCloseError 1006"])
    }))
})

describe("a web server that is not known to carry a WebSocket", () => {
  const asked = (software: string | undefined) => [
    FastCgiRecord.beginRequest(1, FastCgiRecord.Role.Responder),
    FastCgiRecord.params(
      1,
      FastCgiParams.encodePairs(Object.entries({
        REQUEST_METHOD: "GET",
        SERVER_PROTOCOL: "HTTP/1.1",
        CONTENT_LENGTH: "",
        HTTP_CONNECTION: "Upgrade",
        HTTP_UPGRADE: "websocket",
        HTTP_SEC_WEBSOCKET_VERSION: "13",
        HTTP_SEC_WEBSOCKET_KEY: "dGhlIHNhbXBsZSBub25jZQ==",
        ...(software === undefined ? {} : { SERVER_SOFTWARE: software })
      }))
    ),
    FastCgiRecord.params(1)
  ]

  for (const software of [undefined, "nginx/1.22.1", "Apache/2.4.62 (Debian)", "Caddy/v2.6.2", "lighttpd/1.4.69"]) {
    // Caddy and Apache write the end of STDIN by itself, so the handler may run before it has come.
    it.effect(`is answered with 501 when it ends STDIN, however late: ${software ?? "no name"}`, () =>
      Effect.gen(function*() {
        const reply = yield* Effect.gen(function*() {
          const { peer: connectPeer } = yield* FastCgiTest.FastCgiMemory
          const peer = yield* connectPeer
          for (const record of asked(software)) yield* peer.send(record)
          yield* TestClock.adjust("499 millis")
          yield* eventuallyRead
          yield* peer.send(FastCgiRecord.stdin(1))
          return yield* peer.reply()
        }).pipe(Effect.scoped, Effect.provide(inMemory(echo())))
        assert.match(reply.stdout, /^Status: 501 /)
      }))
  }

  it.effect("is taken for one that does when it leaves STDIN open for half a second: a lighttpd with a server.tag", () =>
    Effect.gen(function*() {
      yield* Effect.gen(function*() {
        const { peer: connectPeer } = yield* FastCgiTest.FastCgiMemory
        const peer = yield* connectPeer
        for (const record of asked("secret")) yield* peer.send(record)
        yield* eventuallyRead
        yield* TestClock.adjust("500 millis")
        const head = yield* peer.receive
        assert.strictEqual(head._tag === "Stdout" ? Buffer.from(head.content).toString() : head._tag, head101())
      }).pipe(Effect.scoped, Effect.provide(inMemory(echo())))
    }))
})

// The pong is on its way through a stream of Node's.
const eventuallyRead = Effect.callback<void>((resume) => {
  setImmediate(() => setImmediate(() => setImmediate(() => resume(Effect.void))))
})

// The hashes of the messages in frames of either end.
const messages = (bytes: Buffer): ReadonlyArray<string> => {
  const hashes: Array<string> = []
  let pending: Array<Buffer> = []
  for (let at = 0; at < bytes.length;) {
    const [first, second] = [bytes[at]!, bytes[at + 1]!]
    let length = second & 0x7f
    let start = at + 2
    if (length === 126) {
      length = bytes.readUInt16BE(start)
      start += 2
    } else if (length === 127) {
      length = Number(bytes.readBigUInt64BE(start))
      start += 8
    }
    const masked = (second & 0x80) !== 0
    const mask = bytes.subarray(start, start + 4)
    if (masked) start += 4
    const payload = Buffer.from(bytes.subarray(start, start + length))
    if (masked) { for (let i = 0; i < length; i++) payload[i]! ^= mask[i & 3]! }
    at = start + length
    if ((first & 0x0f) >= 8) continue
    pending.push(payload)
    if ((first & 0x80) === 0) continue
    hashes.push(Crypto.createHash("sha256").update(Buffer.concat(pending)).digest("hex"))
    pending = []
  }
  return hashes
}

// -----------------------------------------------------------------------------
// Through the gateway
// -----------------------------------------------------------------------------

/** The sizes that take minutes are tried by hand: FULL=1. */
const full = process.env["FULL"] !== undefined

const size = full ? 20 * 1024 * 1024 : 2 * 1024 * 1024
const connections = full ? 200 : 30

describe("a WebSocket through the gateway", () => {
  it.live("says what was said, with a subprotocol, and closes as the client does", () =>
    Effect.gen(function*() {
      const ends: Ends = []
      const { url } = yield* behindGateway(echo(ends), { webSocketProtocols: ["chat.2", "chat.1"] })
      const client = yield* opened(url, {}, ["chat.1", "chat.2"])
      assert.strictEqual(client.protocol, "chat.2")
      assert.strictEqual(client.extensions, "")
      assert.strictEqual(String(yield* answerTo(client, "hello")), "hello")
      const pong = nextEvent(client, "pong")
      client.ping("here")
      assert.strictEqual(String((yield* pong)[0]), "here")
      const closed = closeOf(client)
      client.close(4001, "done")
      assert.strictEqual(yield* closed, 4001)
      yield* eventually(() => ends.length === 1)
      assert.deepStrictEqual(ends.map(describeEnd), ["SocketCloseError 4001: done"])
    }))

  it.live(`carries messages of ${size / 2 ** 20} MiB both ways, compressed and not`, () =>
    Effect.gen(function*() {
      const { url } = yield* behindGateway(echo(), { webSocketDeflate: true })
      const message = Crypto.randomBytes(size / 2).toString("hex")
      for (const perMessageDeflate of [false, true]) {
        const client = yield* opened(url, { perMessageDeflate, maxPayload: 2 * size })
        assert.strictEqual(client.extensions, perMessageDeflate ? "permessage-deflate" : "")
        const answer = yield* answerTo(client, message)
        assert.isTrue(answer.equals(Buffer.from(message)))
      }
    }))

  it.live("closes with 1009 where a message is too long", () =>
    Effect.gen(function*() {
      const { url } = yield* behindGateway(echo(), { webSocketMaxMessageSize: 1000 })
      const client = yield* opened(url)
      assert.strictEqual((yield* answerTo(client, Buffer.alloc(1000))).length, 1000)
      const closed = closeOf(client)
      client.send(Buffer.alloc(1001))
      assert.strictEqual(yield* closed, 1009)
    }))

  it.live(`carries ${connections} connections at once`, () =>
    Effect.gen(function*() {
      const { url } = yield* behindGateway(echo())
      yield* Effect.forEach(Array.from({ length: connections }, (_, i) => i), (i) =>
        Effect.gen(function*() {
          const client = yield* opened(url)
          for (let round = 0; round < 20; round++) {
            assert.strictEqual(String(yield* answerTo(client, `${i}/${round}`)), `${i}/${round}`)
          }
          const closed = closeOf(client)
          client.close(1000)
          assert.strictEqual(yield* closed, 1000)
        }), { concurrency: "unbounded", discard: true })
    }))

  it.live("waits for a client that does not read, and for a handler that does not", () =>
    Effect.gen(function*() {
      let written = 0
      const done = Deferred.makeUnsafe<void>()
      const chunk = new Uint8Array(64 * 1024)
      const floods = Effect.gen(function*() {
        const socket = yield* (yield* HttpServerRequest.HttpServerRequest).upgrade
        const writer = yield* socket.writer
        const { pull } = yield* socket.reader
        const send = Effect.andThen(writer.write(chunk), Effect.sync(() => void (written += chunk.length)))
        yield* Effect.forkScoped(Effect.forever(send))
        yield* Deferred.await(done)
        let taken = 0
        while (taken < 64) taken += (yield* pull).length
        yield* writer.write(new Socket.CloseEvent(4000))
        return yield* Effect.forever(pull)
      }).pipe(Effect.catchIf(Socket.isSocketError, () => Effect.succeed(HttpServerResponse.empty())))
      const { url } = yield* behindGateway(floods)
      const client = yield* opened(url)
      client.pause()
      for (let i = 0; i < 64; i++) client.send(Buffer.alloc(256 * 1024))
      const stalled = yield* settled(() => `${written} ${client.bufferedAmount}`)
      // Sockets of the operating system and streams between the two take a few MiB.
      assert.isBelow(written, 16 * 2 ** 20, stalled)
      assert.isAbove(client.bufferedAmount, 2 ** 20, stalled)
      const closed = closeOf(client)
      client.resume()
      Deferred.doneUnsafe(done, Effect.void)
      assert.strictEqual(yield* closed, 4000)
    }))

  it.live("ends the handler's reader with 1006 where the client is killed, and logs no error", () =>
    Effect.gen(function*() {
      const ends: Ends = []
      const { url } = yield* behindGateway(echo(ends))
      const client = yield* opened(url)
      assert.strictEqual(String(yield* answerTo(client, "hello")), "hello")
      client.terminate()
      yield* eventually(() => ends.length === 1)
      assert.include(["SocketCloseError 1006", "ClientAbort"], describeEnd(ends[0]!))
    }))

  it.live("is over for the client where the application has gone", () =>
    Effect.gen(function*() {
      const dies = Effect.gen(function*() {
        const socket = yield* (yield* HttpServerRequest.HttpServerRequest).upgrade
        const { pull } = yield* socket.reader
        yield* pull
        return yield* Effect.die(new Error("broken"))
      })
      const { url } = yield* behindGateway(Effect.catchDefect(dies, () => Effect.fail(new Error("broken"))))
      const client = yield* opened(url)
      const closed = closeOf(client)
      client.send("go")
      assert.strictEqual(yield* closed, 1011)
    }))

  it.live("ends the application's where the client half-closes, and gets its goodbye", () =>
    Effect.gen(function*() {
      const ends: Ends = []
      const { port } = yield* behindGateway(echo(ends))
      const { received, socket } = yield* rawClient(port, "websocket")
      yield* eventually(() => received().includes("\r\n\r\n"), "a 101")
      socket.end()
      yield* nextEvent(socket, "close")
      yield* eventually(() => ends.length === 1)
      assert.deepStrictEqual(ends.map(describeEnd), ["SocketCloseError 1006"])
    }))

  it.live("gets Close 1001 when the server stops, which waits for the answer", () =>
    Effect.gen(function*() {
      const ends: Ends = []
      const { stop, url } = yield* behindGateway(echo(ends))
      const clients = yield* Effect.forEach([1, 2, 3], () => opened(url))
      const closed = clients.map(closeOf)
      yield* within("the stop", 10)(stop)
      assert.deepStrictEqual(yield* Effect.all(closed), [1001, 1001, 1001])
      assert.deepStrictEqual(ends.map(describeEnd), Array(3).fill("SocketCloseError 1001"))
    }))

  it.live("does not hold a stop up where the client does not answer Close", () =>
    Effect.gen(function*() {
      const { port, stop } = yield* behindGateway(echo(), { webSocketCloseTimeout: 100 })
      const { received } = yield* rawClient(port, "websocket")
      yield* eventually(() => received().includes("\r\n\r\n"), "a 101")
      yield* within("the stop", 10)(stop)
      yield* eventually(() => received().endsWith("\x88\x02\x03\xe9"), "Close 1001")
    }))

  it.live("is refused with what is wrong", () =>
    Effect.gen(function*() {
      const { port, url } = yield* behindGateway(echo(), { webSocketOrigins: "same" })
      const foreign = yield* refusalOf(port, { origin: "https://elsewhere.example" })
      assert.strictEqual(foreign.status, 403)
      const old = yield* refusalOf(port, { "sec-websocket-version": "8" })
      assert.deepStrictEqual([old.status, old.headers["sec-websocket-version"]], [426, "13"])
      assert.strictEqual((yield* refusalOf(port, { "sec-websocket-key": "short" })).status, 400)
      assert.strictEqual((yield* refusalOf(port, { connection: "close", upgrade: "" })).status, 426)
      const own = yield* opened(url, { headers: { origin: url.slice(0, -1).replace("ws:", "http:") } })
      assert.strictEqual(String(yield* answerTo(own, "hello")), "hello")
    }))

  it.live("is another protocol's where that is asked for", () =>
    Effect.gen(function*() {
      const shouts = Effect.gen(function*() {
        const request = yield* HttpServerRequest.HttpServerRequest
        const socket = yield* request.upgradeWith({ headers: { "x-room": "7" } })
        const writer = yield* socket.writer
        const { pull } = yield* socket.reader
        const lines = yield* Effect.exit(Effect.forever(Effect.flatMap(pull, (chunks) =>
          writer.write(
            Buffer.concat(chunks.map((chunk) => Buffer.from(chunk))).toString().toUpperCase()
          ))))
        yield* writer.write(`END ${describeEnd(lines)}`)
        return HttpServerResponse.empty()
      })
      const { port } = yield* behindGateway(shouts)
      const { received, socket } = yield* rawClient(port, "shout/1, shout/2")
      yield* eventually(() => received().includes("\r\n\r\n"), "a 101")
      assert.match(received(), /^HTTP\/1\.1 101 [^]*\r\nupgrade: shout\/1\r\n[^]*x-room: 7\r\n/i)
      socket.write("hello")
      yield* eventually(() => received().includes("HELLO"), "what was said, in capitals")
      socket.end()
      yield* nextEvent(socket, "close")
      assert.match(received(), /END SocketCloseError 1000$/)
    }))
})

/** Waits until something has not changed for a while. */
const settled = (state: () => string): Effect.Effect<string> => {
  let last = ""
  let since = performance.now()
  return Effect.as(
    eventually(() => {
      const now = state()
      if (now !== last) since = performance.now()
      last = now
      return performance.now() - since > 300
    }),
    state()
  )
}

const rawClient = Effect.fnUntraced(function*(port: number, protocols: string) {
  const socket = Net.connect({ host: "127.0.0.1", port, allowHalfOpen: true })
  yield* Effect.addFinalizer(() => Effect.sync(() => socket.destroy()))
  let text = ""
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1")
  })
  socket.on("error", () => {})
  socket.on("end", () => socket.end())
  socket.write(
    `GET / HTTP/1.1\r\nHost: example.test\r\nConnection: Upgrade\r\nUpgrade: ${protocols}\r\n` +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
  )
  return { received: () => text, socket }
})
