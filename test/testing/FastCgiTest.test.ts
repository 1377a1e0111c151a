/**
 * The scripted peer and the listener in memory, against a server that is played by hand.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  FastCgiEncoder,
  FastCgiListener,
  FastCgiParams,
  FastCgiRecord as R,
  type FastCgiTransport
} from "effect-fastcgi"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import { bytes, settle } from "../server/support/serving.ts"
import { concat, readRecords } from "../server/support/wire.ts"

const text = (content: string) => new TextEncoder().encode(content)

/** A peer, and the server's end of its connection. */
const connected = Effect.gen(function*() {
  const memory = yield* FastCgiTest.FastCgiMemory
  const listener = yield* FastCgiListener.FastCgiListener
  const accepted: Array<FastCgiTransport.FastCgiTransport> = []
  const accepting = yield* Effect.forkChild(listener.run((transport) => {
    accepted.push(transport)
  }))
  yield* settle
  const peer = yield* memory.peer
  return { peer, server: accepted[0], accepted, accepting, listener, memory }
})

const test = (
  name: string,
  body: () => Effect.Effect<unknown, unknown, FastCgiListener.FastCgiListener | FastCgiTest.FastCgiMemory | Scope.Scope>
) => it.effect(name, () => Effect.provide(Effect.scoped(body()), FastCgiTest.layerMemory))

const encode = (
  ...records: ReadonlyArray<R.FastCgiRecord>
) => [concat(records.map((record) => FastCgiEncoder.encode(record)))]

describe("a scripted peer", () => {
  test("sends a whole request in one write", () =>
    Effect.gen(function*() {
      const { peer, server } = yield* connected
      yield* peer.request({ requestId: 7, role: 3, keepConnection: false, params: { A: "b" }, stdin: "body" })
      const records = readRecords(concat(yield* server.pull))
      assert.deepStrictEqual(records.map(({ content, id, type }) => [type, id, [...content]]), [
        [1, 7, [0, 3, 0, 0, 0, 0, 0, 0]],
        [4, 7, [...FastCgiParams.encodePairs([["A", "b"]])]],
        [4, 7, []],
        [5, 7, [...text("body")]],
        [5, 7, []]
      ])
      yield* peer.request({ stdin: "open", params: {} })
      assert.deepStrictEqual(readRecords(concat(yield* server.pull)).map(({ type }) => type), [1, 4])
      yield* peer.request({ stdin: new Uint8Array(0) })
      assert.deepStrictEqual(readRecords(concat(yield* server.pull)).map(({ type }) => type), [1, 4, 4, 5])
    }))

  test("receives record by record, contents in fragments, and the end", () =>
    Effect.gen(function*() {
      const { peer, server } = yield* connected
      const [sent] = encode(R.stdout(1, text("hello")), R.endRequest(1, 3))
      server.writeUnsafe([sent.subarray(0, 10)])
      assert.deepStrictEqual(yield* peer.receive, R.stdout(1, text("he")))
      server.writeUnsafe([sent.subarray(10)])
      assert.deepStrictEqual(yield* peer.receive, R.stdout(1, text("llo")))
      assert.deepStrictEqual(yield* peer.receive, R.endRequest(1, 3))
      server.destroyUnsafe()
      const end = yield* Pull.catchDone(peer.receive, () => Effect.succeed("done"))
      assert.strictEqual(end, "done")
    }))

  test("keeps the replies of other requests for their own call", () =>
    Effect.gen(function*() {
      const { peer, server } = yield* connected
      server.writeUnsafe(encode(
        R.stdout(1, text("a\u20ac").subarray(0, 2)),
        R.stderr(2, text("oh")),
        R.stdout(1, text("a\u20ac").subarray(2)),
        R.stdout(2, text("two")),
        R.endRequest(2, 5, 1),
        R.endRequest(1)
      ))
      assert.deepStrictEqual(yield* peer.reply(1), { stdout: "a\u20ac", stderr: "", appStatus: 0, protocolStatus: 0 })
      assert.deepStrictEqual(yield* peer.reply(2), { stdout: "two", stderr: "oh", appStatus: 5, protocolStatus: 1 })
      // An id is used again.
      server.writeUnsafe(encode(R.stdout(1, text("again")), R.endRequest(1)))
      assert.strictEqual((yield* peer.reply(1)).stdout, "again")
    }))

  test("dies when a reply does not come, or bytes that are no records", () =>
    Effect.gen(function*() {
      const { peer, server } = yield* connected
      server.writeUnsafe(encode(R.stdout(1, text("half"))))
      server.destroyUnsafe()
      const exit = yield* Effect.exit(peer.reply(1))
      assert.isTrue(Exit.hasDies(exit))
      const other = yield* connected
      other.server.writeUnsafe([text("HTTP/1.1 200 OK")])
      assert.isTrue(Exit.hasDies(yield* Effect.exit(other.peer.receive)))
    }))

  test("receives bytes as they are", () =>
    Effect.gen(function*() {
      const { peer, server } = yield* connected
      server.writeUnsafe([Uint8Array.of(1), Uint8Array.of(2, 3)])
      assert.deepStrictEqual(yield* peer.receiveBytes, Uint8Array.of(1, 2, 3))
    }))

  test("collects what comes until the server closes, a reset included", () =>
    Effect.gen(function*() {
      const { peer, server } = yield* connected
      server.writeUnsafe(encode(R.endRequest(1), R.endRequest(2)))
      server.endUnsafe()
      assert.deepStrictEqual(yield* peer.drain, [R.endRequest(1), R.endRequest(2)])
      const other = yield* connected
      other.server.resetUnsafe()
      yield* other.peer.closed
    }))

  test("takes no more than its capacity before the script receives, and knows what is pending of its own", () =>
    Effect.gen(function*() {
      const { peer, server } = yield* connected
      yield* peer.setCapacity(10)
      server.writeUnsafe([bytes(30)])
      assert.strictEqual(server.pendingUnsafe(), 20)
      yield* peer.sendBytes(bytes(100_000))
      assert.strictEqual(yield* peer.pending, 100_000 - 64 * 1024)
      yield* server.pull
      assert.strictEqual(yield* peer.pending, 0)
    }))

  test("half-closes, closes and resets", () =>
    Effect.gen(function*() {
      const { accepted, memory, peer, server } = yield* connected
      yield* peer.end
      assert.isTrue(Exit.isFailure(yield* Effect.exit(server.pull)))
      server.writeUnsafe([Uint8Array.of(1)])
      assert.deepStrictEqual(yield* peer.receiveBytes, Uint8Array.of(1))
      const resetting = yield* memory.peer
      yield* resetting.reset
      const exit = yield* Effect.exit(accepted[1].pull)
      assert.include(String(exit), "reset")
      // Closing the scope closes the connection.
      yield* Effect.scoped(memory.peer)
      assert.include(String(yield* Effect.exit(accepted[2].pull)), "Done")
      yield* Effect.scoped(memory.connect)
      assert.include(String(yield* Effect.exit(accepted[3].pull)), "Done")
    }))
})

describe("a listener in memory", () => {
  test("lets connections wait until somebody accepts, and again after that was interrupted", () =>
    Effect.gen(function*() {
      const memory = yield* FastCgiTest.FastCgiMemory
      const listener = yield* FastCgiListener.FastCgiListener
      const peer = yield* memory.peer
      yield* peer.sendBytes(Uint8Array.of(1))
      const accepted: Array<FastCgiTransport.FastCgiTransport> = []
      const accept = Effect.forkChild(listener.run((transport) => {
        accepted.push(transport)
      }))
      const first = yield* accept
      yield* settle
      assert.strictEqual(accepted.length, 1)
      assert.deepStrictEqual(concat(yield* accepted[0].pull), Uint8Array.of(1))
      yield* Fiber.interrupt(first)
      yield* memory.peer
      yield* settle
      assert.strictEqual(accepted.length, 1)
      yield* accept
      yield* settle
      assert.strictEqual(accepted.length, 2)
    }))

  test("refuses what waits and what comes after stopAccepting, and leaves the others alone", () =>
    Effect.gen(function*() {
      const { accepting, listener, memory, peer, server } = yield* connected
      yield* Fiber.interrupt(accepting)
      const waiting = yield* memory.peer
      yield* listener.stopAccepting
      yield* listener.stopAccepting
      yield* waiting.closed
      const late = yield* memory.peer
      yield* late.closed
      server.writeUnsafe([Uint8Array.of(1)])
      assert.deepStrictEqual(yield* peer.receiveBytes, Uint8Array.of(1))
    }))

  it.effect("is one for each layer that is built", () =>
    Effect.gen(function*() {
      const build = Layer.build(Layer.fresh(FastCgiTest.layerMemory))
      const one = yield* build
      const other = yield* build
      assert.notStrictEqual(
        yield* Effect.provideContext(FastCgiTest.FastCgiMemory, one),
        yield* Effect.provideContext(FastCgiTest.FastCgiMemory, other)
      )
    }))
})

it.effect("layerTest decodes what a response is encoded with, as fetch does", () =>
  Effect.gen(function*() {
    const compressed = (format: CompressionFormat) =>
      new Response(
        new Blob(["gr\u00fc\u00dfe ".repeat(1000)]).stream().pipeThrough(new CompressionStream(format)),
        { headers: { "content-encoding": format, "content-type": "application/json", "set-cookie": "a=1" } }
      )
    yield* HttpServer.serveEffect(Effect.map(
      HttpServerRequest.HttpServerRequest,
      ({ url }) =>
        url === "/unknown"
          ? HttpServerResponse.text("as it is", { headers: { "content-encoding": "zipped" } })
          : url === "/broken"
          ? HttpServerResponse.text("none", { headers: { "content-encoding": "gzip" } })
          : HttpServerResponse.raw(compressed(url.slice(1) as CompressionFormat))
    ))
    for (const format of ["gzip", "deflate"]) {
      const response = yield* HttpClient.get(`/${format}`)
      assert.strictEqual(response.headers["content-encoding"], format)
      assert.deepStrictEqual(Object.keys(response.cookies.cookies), ["a"])
      assert.strictEqual(yield* response.text, "gr\u00fc\u00dfe ".repeat(1000))
      assert.strictEqual((yield* HttpClient.head(`/${format}`)).status, 200)
    }
    assert.strictEqual(yield* Effect.flatMap(HttpClient.get("/unknown"), (response) => response.text), "as it is")
    const broken = yield* Effect.exit(Effect.flatMap(HttpClient.get("/broken"), (response) => response.text))
    assert.strictEqual(broken._tag, "Failure")
  }).pipe(Effect.scoped, Effect.provide(FastCgiTest.layerTest)))
