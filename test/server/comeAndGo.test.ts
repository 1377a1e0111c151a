/**
 * What connections and requests leave to V8's collector that come and go while others are there: see linkedList.ts. The first file
 * of its process (test/support/longestFirst.ts).
 */
import { assert, describe, it } from "@effect/vitest"
import {
  FastCgiEncoder,
  FastCgiListener,
  FastCgiRecord as R,
  FastCgiResponse,
  FastCgiServer,
  type FastCgiTransport
} from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import { collectAll, survivors } from "./support/memory.ts"
import { concat } from "./support/wire.ts"

/** A peer that asks once and closes. */
class Peer implements FastCgiTransport.FastCgiTransport {
  readonly peer = Option.none()
  readonly pull = Effect.never
  private reader: FastCgiTransport.FastCgiTransportReader | undefined
  private observer: FastCgiTransport.FastCgiTransportObserver | undefined
  isClosed = false

  send(bytes: Uint8Array): void {
    this.reader!.onRead([bytes])
  }
  flowUnsafe(reader: FastCgiTransport.FastCgiTransportReader): void {
    this.reader = reader
  }
  observeUnsafe(observer: FastCgiTransport.FastCgiTransportObserver): void {
    this.observer = observer
  }
  writeUnsafe(): void {}
  pauseUnsafe(): void {}
  resumeUnsafe(): void {}
  pendingUnsafe = () => 0
  resetUnsafe(): void {}
  /** As a web server that has half-closed, or answers a half-close. */
  end(): void {
    this.reader!.onReadEnd()
  }
  endUnsafe(): void {
    this.end()
  }
  destroyUnsafe(): void {
    if (this.isClosed) return
    this.isClosed = true
    this.observer?.onClose()
  }
}

const encode = (keepConnection: boolean) =>
  concat(
    [R.beginRequest(1, R.Role.Responder, { keepConnection }), R.params(1), R.stdin(1)].map((record) =>
      FastCgiEncoder.encode(record)
    )
  )

/** Serves with a handler whose requests are answered when somebody says so, the first that waits first. */
const serving = Effect.gen(function*() {
  const waiting: Array<() => void> = []
  let accept: ((transport: FastCgiTransport.FastCgiTransport) => void) | undefined
  const address = NetAddress.unixPathAddress("memory")
  yield* Layer.build(
    FastCgiServer.serve({
      responder: () =>
        Effect.callback((resume) => {
          waiting.push(() => resume(Effect.succeed(FastCgiResponse.make("hello"))))
        })
    }).pipe(Layer.provide(Layer.succeed(FastCgiListener.FastCgiListener, {
      address,
      addresses: [address],
      run: (onConnection) =>
        Effect.callback<never>(() => {
          accept = onConnection
        }),
      stopAccepting: Effect.void
    })))
  )
  return { accept: accept!, answerFirst: () => waiting.shift()!() }
})

const times = 3000
const atOnce = 16

// Bytes. They are 30 to 110, and were 255 to 325 with a Set in the place of the lists.
const most = 200

/** How many bytes of each outlive collections of the young generation. */
const survivorsOf = (comeAndGo: () => void): number => {
  for (let i = 0; i < times; i++) comeAndGo()
  collectAll()
  for (let i = 0; i < times; i++) comeAndGo()
  return survivors() / times
}

// The V8 of Node 22 takes more requests of kept connections for alive than are, and why is not known.
const major = Number(process.versions.node.split(".")[0])

describe.skipIf(major < 24)("what comes and goes leaves nothing to collections of the whole heap", () => {
  it.effect("connections", () =>
    Effect.gen(function*() {
      const { accept, answerFirst } = yield* serving
      const request = encode(false)
      const open: Array<Peer> = []
      const left = survivorsOf(() => {
        const peer = new Peer()
        accept(peer)
        peer.send(request)
        open.push(peer)
        if (open.length <= atOnce) return
        answerFirst()
        assert.isTrue(open.shift()!.isClosed)
      })
      for (const _ of open) answerFirst()
      assert.isBelow(left, most)
    }).pipe(Effect.scoped))

  it.effect("requests of connections that are kept", () =>
    Effect.gen(function*() {
      const { accept, answerFirst } = yield* serving
      const request = encode(true)
      const peers = Array.from({ length: atOnce }, () => new Peer())
      for (const peer of peers) {
        accept(peer)
        peer.send(request)
      }
      let next = 0
      const left = survivorsOf(() => {
        answerFirst()
        peers[next]!.send(request)
        next = (next + 1) % atOnce
      })
      for (let i = 0; i < atOnce; i++) answerFirst()
      for (const peer of peers) peer.end()
      assert.isBelow(left, most)
    }).pipe(Effect.scoped))
})
