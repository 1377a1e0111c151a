import { assert, describe, it } from "@effect/vitest"
import type { FastCgiTransport } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Fs from "node:fs"
import * as Net from "node:net"
import { Duplex } from "node:stream"
import { fromSocket, maxUnpulled } from "../../src/node/internal/socketTransport.ts"
import {
  connectClient,
  eventually,
  makePair,
  nextEvent,
  pattern,
  pullAll,
  pullText,
  temporaryDirectory,
  turns
} from "./sockets.ts"

const mebibyte = 1024 * 1024

// Writes until the operating system does not take any more: how much that is, it decides as it goes.
const fill = (transport: FastCgiTransport.FastCgiTransport, sent: Array<Uint8Array>): void => {
  const piece = pattern(mebibyte)
  do {
    transport.writeUnsafe([piece])
    sent.push(piece)
  } while (transport.pendingUnsafe() === 0)
}

describe.each(["unix", "tcp"] as const)("a transport over a %s socket", (kind) => {
  describe("reading", () => {
    it.live("gives everything that has arrived since the last pull as one array", () =>
      Effect.gen(function*() {
        const { client, socket, transport } = yield* makePair(kind)
        for (const text of ["one", "two", "three"]) {
          const arrived = nextEvent(socket, "data")
          client.socket.write(text)
          yield* arrived
        }
        const chunks = yield* transport.pull
        assert.deepStrictEqual(chunks.map((chunk) => Buffer.from(chunk).toString()), ["one", "two", "three"])
      }))

    it.live("waits for the next read when nothing has arrived", () =>
      Effect.gen(function*() {
        const { client, transport } = yield* makePair(kind)
        const fiber = yield* Effect.forkChild(pullText(transport), { startImmediately: true })
        yield* turns(3)
        assert.isUndefined(fiber.pollUnsafe())
        client.socket.write("late")
        assert.strictEqual(yield* Fiber.join(fiber), "late")
      }))

    it.live("loses nothing when a pull is interrupted", () =>
      Effect.gen(function*() {
        const { client, socket, transport } = yield* makePair(kind)
        for (let i = 0; i < 2; i++) {
          const fiber = yield* Effect.forkChild(transport.pull, { startImmediately: true })
          yield* Fiber.interrupt(fiber)
        }
        for (const text of ["a", "b"]) {
          const arrived = nextEvent(socket, "data")
          client.socket.write(text)
          yield* arrived
        }
        assert.strictEqual(yield* pullText(transport), "ab")
      }))

    it.live("gives the last bytes, then the end, and can still write after the peer's half-close", () =>
      Effect.gen(function*() {
        const { client, told, transport } = yield* makePair(kind)
        client.socket.end("last")
        assert.strictEqual(yield* pullText(transport), "last")
        assert.strictEqual(yield* pullText(transport), "done")
        assert.strictEqual(yield* pullText(transport), "done")
        transport.writeUnsafe([Buffer.from("reply")])
        transport.endUnsafe()
        yield* client.ended
        assert.strictEqual(client.received().toString(), "reply")
        yield* eventually(() => told.closes === 1)
      }))

    it.live("keeps bytes and end for later when they arrive while nobody pulls", () =>
      Effect.gen(function*() {
        const { client, socket, told, transport } = yield* makePair(kind)
        const end = nextEvent(socket, "end")
        client.socket.end("unpulled")
        yield* end
        // The peer still reads, so this is no loss of the connection.
        yield* turns(5)
        assert.strictEqual(told.closes, 0)
        assert.strictEqual(yield* pullText(transport), "unpulled")
        assert.strictEqual(yield* pullText(transport), "done")
      }))

    it.live("stops reading when nobody pulls, and goes on without a loss", () =>
      Effect.gen(function*() {
        const { client, socket, transport } = yield* makePair(kind)
        const bytes = pattern(16 * mebibyte)
        const paused = nextEvent(socket, "pause")
        client.socket.end(bytes)
        yield* paused
        yield* turns(50)
        // What is held here, what Node reads ahead after the pause, and the read that went beyond each.
        assert.isAtMost(socket.bytesRead, 4 * maxUnpulled)
        assert.isAbove(client.socket.writableLength, 0)
        const read = socket.bytesRead
        yield* turns(50)
        assert.strictEqual(socket.bytesRead, read)
        assert.isTrue((yield* pullAll(transport)).equals(bytes))
      }))
  })

  describe("flowing", () => {
    const flow = (transport: FastCgiTransport.FastCgiTransport) => {
      const read: Array<string> = []
      const reader = {
        onRead: (chunks: ReadonlyArray<Uint8Array>) => {
          const text = Buffer.concat(chunks).toString("latin1")
          read.push(text)
          if (text.includes("boom")) throw new Error("boom")
        },
        onReadEnd: () => {
          read.push("<end>")
        },
        onReadDefect: (defect: unknown) => {
          read.push(`<${String(defect)}>`)
        }
      }
      transport.flowUnsafe(reader)
      return read
    }
    const text = (read: ReadonlyArray<string>) => read.join("")

    it.live("hands every read over, what had arrived before included, and the end once", () =>
      Effect.gen(function*() {
        const { client, socket, transport } = yield* makePair(kind)
        const arrived = nextEvent(socket, "data")
        client.socket.write("before ")
        yield* arrived
        const read = flow(transport)
        assert.deepStrictEqual(read, [], "never from within a call")
        client.socket.write("after")
        yield* eventually(() => text(read) === "before after")
        client.socket.end()
        yield* eventually(() => text(read) === "before after<end>")
        transport.resumeUnsafe()
        yield* turns(3)
        assert.strictEqual(text(read), "before after<end>")
      }))

    it.live("hands nothing over while it is paused, holds the peer up, and loses nothing", () =>
      Effect.gen(function*() {
        const { client, transport } = yield* makePair(kind)
        const read = flow(transport)
        transport.pauseUnsafe()
        const sent = pattern(4 * mebibyte)
        client.socket.end(sent)
        yield* turns(20)
        assert.deepStrictEqual(read, [])
        assert.isAbove(client.socket.writableLength, mebibyte)
        transport.resumeUnsafe()
        assert.deepStrictEqual(read, [], "never from within a call")
        yield* eventually(() => read[read.length - 1] === "<end>")
        assert.isTrue(text(read) === Buffer.from(sent).toString("latin1") + "<end>")
      }))

    it.live("destroys the connection on a defect of its reader, and tells it", () =>
      Effect.gen(function*() {
        const { client, socket, transport } = yield* makePair(kind)
        const ended = nextEvent(client.socket, "end")
        client.socket.resume()
        const read = flow(transport)
        client.socket.write("boom")
        yield* ended
        assert.deepStrictEqual(read, ["boom", "<Error: boom>"])
        assert.isTrue(socket.destroyed)
      }))
  })

  describe("writing", () => {
    it.live("sends a batch in order and in one piece", () =>
      Effect.gen(function*() {
        const { client, transport } = yield* makePair(kind)
        const whole = Buffer.from("0123456789")
        transport.writeUnsafe([whole.subarray(0, 3), new Uint8Array(0), whole.subarray(3, 4), whole.subarray(4)])
        yield* eventually(() => client.received().length === whole.length)
        assert.strictEqual(client.received().toString(), "0123456789")
        assert.strictEqual(client.reads(), 1)
      }))

    it.live("tells what is pending and when it has drained, also below Node's high-water mark", () =>
      Effect.gen(function*() {
        const { client, socket, told, transport } = yield* makePair(kind, { paused: true })
        const piece = pattern(1000)
        let written = 0
        while (transport.pendingUnsafe() === 0) {
          transport.writeUnsafe([piece])
          written++
        }
        assert.isBelow(transport.pendingUnsafe(), socket.writableHighWaterMark)
        transport.writeUnsafe([piece, piece])
        written += 2
        yield* turns(5)
        assert.strictEqual(told.drains, 0)
        client.socket.resume()
        yield* eventually(() => told.drains > 0)
        assert.strictEqual(transport.pendingUnsafe(), 0)
        assert.strictEqual(told.drains, 1)
        yield* eventually(() => client.socket.bytesRead === written * piece.length)
        const received = client.received()
        for (let i = 0; i < written; i++) {
          assert.isTrue(received.subarray(i * 1000, (i + 1) * 1000).equals(piece))
        }
      }))

    it.live("drains again after every time it was full, and says so for the last bytes before an end", () =>
      Effect.gen(function*() {
        const { client, told, transport } = yield* makePair(kind, { paused: true })
        const sent: Array<Uint8Array> = []
        for (let round = 1; round <= 3; round++) {
          fill(transport, sent)
          if (round === 3) {
            sent.push(Buffer.from("!"))
            transport.writeUnsafe(sent.slice(-1))
            transport.endUnsafe()
          }
          client.socket.resume()
          yield* eventually(() => told.drains === round)
          assert.strictEqual(transport.pendingUnsafe(), 0)
          if (round < 3) client.socket.pause()
        }
        yield* client.ended
        assert.isTrue(client.received().equals(Buffer.concat(sent)))
      }))

    it.live.each(["then ended", "not ended"])(
      "tells of the drain of what was written while it was draining, %s",
      (end) =>
        Effect.gen(function*() {
          const { client, told, transport } = yield* makePair(kind, { paused: true })
          const sent: Array<Uint8Array> = []
          fill(transport, sent)
          const more = pattern(16 * mebibyte)
          sent.push(more, more)
          transport.writeUnsafe([more])
          client.socket.resume()
          // What made it full is gone, and Node has passed on what came after it.
          yield* eventually(() => transport.pendingUnsafe() <= more.length)
          assert.strictEqual(told.drains, 0)
          transport.writeUnsafe([more])
          if (end === "then ended") transport.endUnsafe()
          yield* eventually(() => told.drains > 0)
          assert.strictEqual(told.drains, 1)
          assert.strictEqual(transport.pendingUnsafe(), 0)
          transport.endUnsafe()
          yield* client.ended
          assert.isTrue(client.received().equals(Buffer.concat(sent)))
        })
    )

    it.live("tells of no drain when the operating system took everything at once", () =>
      Effect.gen(function*() {
        const { client, told, transport } = yield* makePair(kind)
        for (let i = 1; i <= 10; i++) {
          transport.writeUnsafe([pattern(100)])
          assert.strictEqual(transport.pendingUnsafe(), 0)
          yield* eventually(() => client.received().length === i * 100)
        }
        assert.strictEqual(told.drains, 0)
      }))

    it.live("half-closes after what was written, and reads on", () =>
      Effect.gen(function*() {
        const { client, transport } = yield* makePair(kind, { paused: true })
        const bytes = pattern(2 * mebibyte)
        transport.writeUnsafe([bytes])
        transport.endUnsafe()
        transport.endUnsafe()
        transport.writeUnsafe([Buffer.from("after the end")])
        client.socket.resume()
        yield* client.ended
        assert.isTrue(client.received().equals(bytes))
        client.socket.end("still read")
        assert.strictEqual((yield* pullAll(transport)).toString(), "still read")
      }))

    it.live("survives writes to a peer that is gone", () =>
      Effect.gen(function*() {
        const { client, told, transport } = yield* makePair(kind)
        client.socket.destroy()
        yield* client.closed
        yield* eventually(() => {
          transport.writeUnsafe([pattern(1000), pattern(1000)])
          return told.closes > 0
        })
        yield* turns(5)
        assert.strictEqual(told.closes, 1)
        assert.strictEqual(transport.pendingUnsafe(), 0)
        transport.writeUnsafe([pattern(10)])
        transport.endUnsafe()
        transport.destroyUnsafe()
        transport.resetUnsafe()
        assert.strictEqual(told.closes, 1)
      }))
  })

  describe("closing", () => {
    it.live("ends the waiting pull, tells the observer once, and is silent from then on", () =>
      Effect.gen(function*() {
        const { client, closed, told, transport } = yield* makePair(kind)
        const fiber = yield* Effect.forkChild(pullText(transport), { startImmediately: true })
        transport.destroyUnsafe()
        transport.writeUnsafe([Buffer.from("never")])
        assert.strictEqual(yield* Fiber.join(fiber), "done")
        yield* closed
        transport.destroyUnsafe()
        yield* client.ended
        assert.strictEqual(client.received().length, 0)
        assert.strictEqual(told.closes, 1)
        assert.strictEqual(transport.pendingUnsafe(), 0)
        assert.strictEqual(yield* pullText(transport), "done")
      }))

    it.live("drops what nobody will read or write when it is destroyed", () =>
      Effect.gen(function*() {
        const { client, closed, socket, transport } = yield* makePair(kind, { paused: true })
        const arrived = nextEvent(socket, "data")
        client.socket.write("unread")
        yield* arrived
        transport.writeUnsafe([pattern(8 * mebibyte)])
        transport.destroyUnsafe()
        assert.strictEqual(transport.pendingUnsafe(), 0)
        yield* closed
        assert.strictEqual(yield* pullText(transport), "done")
      }))

    it.live("makes up for a close that came before the observer", () =>
      Effect.gen(function*() {
        const { closed, transport } = yield* makePair(kind, { observe: false })
        transport.destroyUnsafe()
        yield* closed
        let closes = 0
        transport.observeUnsafe({ onDrain: () => {}, onClose: () => closes++ })
        assert.strictEqual(closes, 0)
        yield* eventually(() => closes === 1)
      }))

    it.live("makes up for a drain that came before the observer", () =>
      Effect.gen(function*() {
        const { client, transport } = yield* makePair(kind, { observe: false, paused: true })
        fill(transport, [])
        client.socket.resume()
        yield* eventually(() => transport.pendingUnsafe() === 0)
        yield* turns(3)
        let drains = 0
        transport.observeUnsafe({ onDrain: () => drains++, onClose: () => {} })
        yield* eventually(() => drains === 1)
      }))
  })

  it.live("notices a reset while nobody pulls; what came before it can still be pulled", () =>
    Effect.gen(function*() {
      const { client, closed, socket, told, transport } = yield* makePair(kind, { paused: true })
      const arrived = nextEvent(socket, "data")
      client.socket.write("before")
      yield* arrived
      // Closing with unread bytes is a reset on a UNIX socket.
      transport.writeUnsafe([Buffer.from("unread")])
      if (kind === "tcp") client.socket.resetAndDestroy()
      else client.socket.destroy()
      yield* closed
      assert.strictEqual(told.closes, 1)
      assert.strictEqual(yield* pullText(transport), "before")
      const error = yield* Effect.flip(pullText(transport))
      assert.strictEqual(error._tag, "FastCgiTransportError")
      assert.strictEqual(error.message, "The peer reset the connection")
    }))

  it.live("fails the waiting pull at a reset, and tells the observer after it", () =>
    Effect.gen(function*() {
      const { client, socket, told, transport } = yield* makePair(kind, { paused: true })
      const fiber = yield* Effect.forkChild(
        Effect.map(Effect.flip(pullText(transport)), (error) => ({ error, closes: told.closes })),
        { startImmediately: true }
      )
      const closed = nextEvent(socket, "close")
      transport.writeUnsafe([Buffer.from("unread")])
      if (kind === "tcp") client.socket.resetAndDestroy()
      else client.socket.destroy()
      const { closes, error } = yield* Fiber.join(fiber)
      assert.strictEqual(error.message, "The peer reset the connection")
      assert.strictEqual(closes, 0)
      yield* closed
      assert.strictEqual(told.closes, 1)
    }))
})

describe("a transport over a unix socket", () => {
  it.live("tells a close from a half-close, with bytes unpulled", () =>
    Effect.gen(function*() {
      const { client, closed, told, transport } = yield* makePair("unix")
      client.socket.write("last words")
      client.socket.destroySoon()
      yield* closed
      assert.strictEqual(told.closes, 1)
      assert.strictEqual(yield* pullText(transport), "last words")
      assert.strictEqual(yield* pullText(transport), "done")
    }))

  it.live("has no peer address", () =>
    Effect.gen(function*() {
      const { transport } = yield* makePair("unix")
      assert.isTrue(Option.isNone(transport.peer))
    }))

  it.live("closes where it cannot reset", () =>
    Effect.gen(function*() {
      const { client, closed, told, transport } = yield* makePair("unix")
      transport.resetUnsafe()
      yield* closed
      yield* client.ended
      assert.deepStrictEqual(client.errors, [])
      assert.strictEqual(told.closes, 1)
    }))
})

describe("a transport over a tcp socket", () => {
  it.live("resets at once, whatever is pending", () =>
    Effect.gen(function*() {
      const { client, closed, told, transport } = yield* makePair("tcp", { paused: true })
      // Node 22 takes the reset of a paused socket for an end, until something is written.
      client.socket.on("end", () => client.socket.write(""))
      transport.writeUnsafe([pattern(8 * mebibyte)])
      transport.resetUnsafe()
      transport.resetUnsafe()
      yield* closed
      client.socket.resume()
      yield* client.closed
      assert.deepStrictEqual(client.errors, ["ECONNRESET"])
      assert.strictEqual(told.closes, 1)
    }))

  it.live("takes a reset for no end, although it reads late what came before", () =>
    Effect.gen(function*() {
      const { client, socket, transport } = yield* makePair("tcp", { observe: false })
      client.socket.write(pattern(mebibyte))
      // Nobody pulls.
      yield* eventually(() => socket.isPaused())
      client.socket.resetAndDestroy()
      yield* client.closed
      const exit = yield* Effect.exit(pullAll(transport))
      assert.isTrue(Exit.isFailure(exit))
      assert.include(String(exit), "The peer reset the connection")
    }))

  it.live("knows the peer's address", () =>
    Effect.gen(function*() {
      const { client, transport } = yield* makePair("tcp")
      assert.strictEqual(
        NetAddress.formatSocketAddress(Option.getOrThrow(transport.peer)),
        `127.0.0.1:${client.socket.localPort}`
      )
    }))

  it.live("shows an IPv4 peer of a dual-stack listener as IPv4", () =>
    Effect.gen(function*() {
      const server = yield* Effect.acquireRelease(
        Effect.sync(() => new Net.Server()),
        (server) => Effect.sync(() => server.close())
      )
      const listening = nextEvent(server, "listening")
      server.listen(0, "::")
      yield* listening
      const accepted = nextEvent(server, "connection")
      const { port } = server.address() as Net.AddressInfo
      const client = yield* connectClient({ port, host: "127.0.0.1" })
      const socket = (yield* accepted)[0] as Net.Socket
      assert.strictEqual(socket.remoteAddress, "::ffff:127.0.0.1")
      const peer = Option.getOrThrow(fromSocket(socket).peer)
      assert.strictEqual(NetAddress.formatSocketAddress(peer), `127.0.0.1:${client.socket.localPort}`)
    }))
})

describe("many connections", () => {
  const openDescriptors = (): number => Fs.readdirSync("/proc/self/fd").length
  const endings = {
    close: (socket: Net.Socket) => socket.destroy(),
    halfClose: (socket: Net.Socket) => socket.end(),
    bytesAndClose: (socket: Net.Socket) => {
      socket.write("some bytes")
      socket.destroySoon()
    },
    reset: (socket: Net.Socket) => socket.resetAndDestroy()
  }

  it.live.skipIf(!Fs.existsSync("/proc/self/fd"))(
    "leaves no descriptor and no connection behind after 10,000 that ended in every way",
    () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const server = yield* Effect.acquireRelease(
          Effect.sync(() => new Net.Server({ allowHalfOpen: true })),
          (server) => Effect.sync(() => server.close())
        )
        let opened = 0
        let closed = 0
        server.on("connection", (socket) => {
          opened++
          const transport = fromSocket(socket)
          transport.observeUnsafe({
            onDrain: () => {},
            onClose: () => {
              closed++
            }
          })
          // As a server does: reads to the end and closes its side, or is told of the loss.
          Effect.runFork(Effect.ensuring(Effect.ignore(pullAll(transport)), Effect.sync(() => transport.endUnsafe())))
        })
        const listen = (...args: [string] | [number, string]) =>
          Effect.suspend(() => {
            const listening = nextEvent(server, "listening")
            server.listen(...args as [string])
            return listening
          })
        const connectOnce = (to: Net.NetConnectOpts, finish: (socket: Net.Socket) => void) =>
          Effect.callback<void>((resume) => {
            const socket = Net.connect(to, () => finish(socket))
            socket.on("error", () => {})
            socket.resume()
            socket.on("close", () => resume(Effect.void))
          })
        const rounds = (to: Net.NetConnectOpts, names: ReadonlyArray<keyof typeof endings>) =>
          Effect.forEach(
            Array.from({ length: 5000 }, (_, i) => endings[names[i % names.length]]),
            (finish) => connectOnce(to, finish),
            { concurrency: 64, discard: true }
          )
        const before = openDescriptors()
        yield* listen(`${directory}/s`)
        yield* rounds({ path: `${directory}/s` }, ["close", "halfClose", "bytesAndClose"])
        server.close()
        yield* eventually(() => !server.listening && closed === opened)
        yield* listen(0, "127.0.0.1")
        yield* rounds({ port: (server.address() as Net.AddressInfo).port }, [
          "close",
          "halfClose",
          "bytesAndClose",
          "reset"
        ])
        yield* eventually(() => closed === opened)
        assert.strictEqual(opened, 10_000)
        server.close()
        yield* eventually(() => openDescriptors() <= before)
      })
  )
})

describe("a write that fails", () => {
  it("is no room for more: what is written behind it fails as well, before the socket is known to be lost", () => {
    let fail: ((error: Error) => void) | undefined
    const socket = new Duplex({
      read() {},
      write(_chunk, _encoding, done) {
        fail = done
      }
    })
    const transport = fromSocket(Object.assign(socket, { setNoDelay() {} }) as unknown as Net.Socket)
    let drained = 0
    transport.observeUnsafe({
      // A server has always more to say; here it stops, or the test would not end.
      onDrain: () => {
        if (++drained < 1000) transport.writeUnsafe([pattern(24)])
      },
      onClose: () => {}
    })
    transport.writeUnsafe([pattern(24)])
    transport.writeUnsafe([pattern(24)])
    fail!(new Error("write EPIPE"))
    assert.strictEqual(drained, 0)
  })
})
