/**
 * The in-memory transport keeps the contract of `FastCgiTransport`, as a socket does.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import { makePair, type MemoryTransport } from "../../src/connection/internal/memoryTransport.ts"
import { bytes, settle } from "../server/support/serving.ts"
import { concat } from "../server/support/wire.ts"

const observe = (transport: MemoryTransport) => {
  const events: Array<string> = []
  transport.observeUnsafe({ onDrain: () => events.push("drain"), onClose: () => events.push("close") })
  return events
}

const pulled = (transport: MemoryTransport) => Effect.map(transport.pull, concat)

/** "done", "error" or the bytes. */
const outcome = (transport: MemoryTransport) =>
  Effect.map(Effect.exit(pulled(transport)), (exit) =>
    Exit.isSuccess(exit)
      ? [...exit.value]
      : exit.cause.reasons.map((reason) =>
        reason._tag === "Fail" ? (Cause.isDone(reason.error) ? "done" : reason.error._tag) : reason._tag
      ).join())

describe("memoryTransport", () => {
  it.effect("gives everything that was written since the last pull, as it was", () =>
    Effect.gen(function*() {
      const { client, server } = yield* makePair()
      client.writeUnsafe([Uint8Array.of(1), Uint8Array.of(), Uint8Array.of(2, 3)])
      client.writeUnsafe([Uint8Array.of(4)])
      assert.deepStrictEqual(yield* server.pull, [Uint8Array.of(1), Uint8Array.of(2, 3), Uint8Array.of(4)])
      server.writeUnsafe([Uint8Array.of(5)])
      assert.deepStrictEqual(yield* outcome(client), [5])
    }))

  it.effect("delivers to a pull that waits on a later turn, never inside the write", () =>
    Effect.gen(function*() {
      const { client, server } = yield* makePair()
      const pull = yield* Effect.forkChild(pulled(server))
      yield* settle
      client.writeUnsafe([Uint8Array.of(1)])
      assert.isUndefined(pull.pollUnsafe())
      assert.deepStrictEqual(yield* Fiber.join(pull), Uint8Array.of(1))
    }))

  it.effect("loses nothing to a pull that was interrupted", () =>
    Effect.gen(function*() {
      const { client, server } = yield* makePair()
      const pull = yield* Effect.forkChild(pulled(server))
      yield* settle
      client.writeUnsafe([Uint8Array.of(1)])
      yield* Fiber.interrupt(pull)
      assert.deepStrictEqual(yield* outcome(server), [1])
    }))

  it.effect("ends with Done after everything that was written before the half-close, and goes on writing", () =>
    Effect.gen(function*() {
      const { client, server } = yield* makePair()
      client.writeUnsafe([Uint8Array.of(1)])
      client.endUnsafe()
      assert.deepStrictEqual(yield* outcome(server), [1])
      assert.strictEqual(yield* outcome(server), "done")
      assert.strictEqual(yield* outcome(server), "done")
      server.writeUnsafe([Uint8Array.of(2)])
      assert.deepStrictEqual(yield* outcome(client), [2])
      server.endUnsafe()
      assert.strictEqual(yield* outcome(client), "done")
    }))

  it.effect("takes as much as its capacity says, and tells the writer what is pending and when nothing is any more", () =>
    Effect.gen(function*() {
      const { client, server } = yield* makePair({ capacity: 10 })
      const events = observe(server)
      server.writeUnsafe([bytes(25)])
      assert.strictEqual(server.pendingUnsafe(), 15)
      yield* settle
      assert.deepStrictEqual(events, [])
      assert.strictEqual((yield* pulled(client)).length, 10)
      assert.strictEqual(server.pendingUnsafe(), 5)
      assert.strictEqual((yield* pulled(client)).length, 10)
      assert.strictEqual(server.pendingUnsafe(), 0)
      yield* settle
      assert.deepStrictEqual(events, ["drain"])
      assert.strictEqual((yield* pulled(client)).length, 5)
      yield* settle
      assert.deepStrictEqual(events, ["drain"])
    }))

  it.effect("delivers nothing with a capacity of 0, and goes on when that is raised", () =>
    Effect.gen(function*() {
      const { client, server } = yield* makePair({ capacity: 0 })
      const events = observe(server)
      server.writeUnsafe([Uint8Array.of(1, 2)])
      const pull = yield* Effect.forkChild(pulled(client))
      yield* settle
      assert.isUndefined(pull.pollUnsafe())
      client.setCapacityUnsafe(1)
      assert.deepStrictEqual(yield* Fiber.join(pull), Uint8Array.of(1))
      yield* settle
      assert.deepStrictEqual(events, ["drain"])
      assert.deepStrictEqual(yield* outcome(client), [2])
    }))

  it.effect("ends behind what a writer with a slow reader still has pending", () =>
    Effect.gen(function*() {
      const { client, server } = yield* makePair({ capacity: 2 })
      server.writeUnsafe([bytes(5)])
      server.endUnsafe()
      assert.strictEqual((yield* pulled(client)).length, 2)
      assert.strictEqual((yield* pulled(client)).length, 2)
      assert.strictEqual((yield* pulled(client)).length, 1)
      assert.strictEqual(yield* outcome(client), "done")
    }))

  it.effect("is closed by destroy: the other end reads to the end, this one nothing more", () =>
    Effect.gen(function*() {
      const { client, server } = yield* makePair()
      const events = observe(server)
      server.writeUnsafe([Uint8Array.of(1)])
      server.destroyUnsafe()
      server.destroyUnsafe()
      server.writeUnsafe([Uint8Array.of(2)])
      assert.strictEqual(server.pendingUnsafe(), 0)
      assert.deepStrictEqual(yield* outcome(client), [1])
      assert.strictEqual(yield* outcome(client), "done")
      assert.strictEqual(yield* outcome(server), "done")
      yield* settle
      assert.deepStrictEqual(events, ["close"])
    }))

  it.effect("resets the other end when it is destroyed with bytes that nobody has pulled, as TCP does", () =>
    Effect.gen(function*() {
      const { client, server } = yield* makePair()
      const events = observe(client)
      server.writeUnsafe([Uint8Array.of(1)])
      client.writeUnsafe([Uint8Array.of(2)])
      server.destroyUnsafe()
      assert.strictEqual(yield* outcome(client), "FastCgiTransportError")
      yield* settle
      assert.deepStrictEqual(events, ["close"])
    }))

  it.effect("loses what was not pulled with a reset", () =>
    Effect.gen(function*() {
      const { client, server } = yield* makePair()
      const events = observe(server)
      const pull = yield* Effect.forkChild(Effect.exit(pulled(server)))
      client.writeUnsafe([Uint8Array.of(1)])
      client.resetUnsafe()
      assert.isTrue(Exit.isFailure(yield* Fiber.join(pull)))
      yield* settle
      assert.deepStrictEqual(events, ["close"])
      assert.isTrue(server.closedUnsafe())
    }))

  it.effect("finds out by writing that the other end is gone", () =>
    Effect.gen(function*() {
      const { client, server } = yield* makePair()
      const events = observe(server)
      client.destroyUnsafe()
      yield* settle
      assert.deepStrictEqual(events, [])
      assert.isTrue(server.peerEndedUnsafe())
      server.writeUnsafe([Uint8Array.of(1)])
      yield* settle
      assert.deepStrictEqual(events, ["close"])
      assert.strictEqual(yield* outcome(server), "FastCgiTransportError")
    }))

  it.effect("makes up for what happened before it was observed, and never calls inside observeUnsafe", () =>
    Effect.gen(function*() {
      const { client, server } = yield* makePair({ capacity: 1 })
      server.writeUnsafe([bytes(2)])
      yield* client.pull
      yield* client.pull
      const drained = observe(server)
      assert.deepStrictEqual(drained, [])
      yield* settle
      assert.deepStrictEqual(drained, ["drain"])
      client.resetUnsafe()
      yield* settle
      const lost = yield* makePair()
      lost.client.resetUnsafe()
      yield* settle
      const events = observe(lost.server)
      yield* settle
      assert.deepStrictEqual(events, ["close"])
    }))

  it.effect("is closed when both directions have been ended", () =>
    Effect.gen(function*() {
      const { client, server } = yield* makePair()
      const events = [observe(client), observe(server)]
      client.endUnsafe()
      assert.strictEqual(yield* outcome(server), "done")
      server.endUnsafe()
      assert.strictEqual(yield* outcome(client), "done")
      yield* settle
      assert.isTrue(server.closedUnsafe())
      assert.deepStrictEqual(events[1], ["close"])
    }))

  const flow = (transport: MemoryTransport) => {
    const read: Array<string> = []
    transport.flowUnsafe({
      onRead: (chunks) => read.push([...concat(chunks)].join(" ")),
      onReadEnd: () => read.push("end"),
      onReadDefect: (defect) => read.push(String(defect))
    })
    return read
  }

  it.effect("hands what arrives to a reader, what had arrived before included, and the end once", () =>
    Effect.gen(function*() {
      const { client, server } = yield* makePair()
      client.writeUnsafe([Uint8Array.of(1)])
      const read = flow(server)
      assert.deepStrictEqual(read, [], "never from within a call")
      yield* settle
      client.writeUnsafe([Uint8Array.of(2), Uint8Array.of(3)])
      assert.deepStrictEqual(read, ["1"])
      yield* settle
      client.writeUnsafe([Uint8Array.of(4)])
      client.endUnsafe()
      yield* settle
      assert.deepStrictEqual(read, ["1", "2 3", "4", "end"])
      server.resumeUnsafe()
      yield* settle
      assert.strictEqual(read.length, 4)
    }))

  it.effect("calls a reader no more while it is paused, and holds the peer up", () =>
    Effect.gen(function*() {
      const { client, server } = yield* makePair({ capacity: 3 })
      const read = flow(server)
      server.pauseUnsafe()
      client.writeUnsafe([bytes(5)])
      client.endUnsafe()
      yield* settle
      assert.deepStrictEqual(read, [])
      assert.strictEqual(client.pendingUnsafe(), 2)
      server.resumeUnsafe()
      assert.deepStrictEqual(read, [])
      yield* settle
      assert.deepStrictEqual(read.length, 3)
      assert.strictEqual(client.pendingUnsafe(), 0)
    }))

  it.effect("calls a reader no more once it is closed", () =>
    Effect.gen(function*() {
      const { client, server } = yield* makePair()
      const read = flow(server)
      client.writeUnsafe([Uint8Array.of(1)])
      client.endUnsafe()
      server.destroyUnsafe()
      yield* settle
      assert.deepStrictEqual(read, [])
      const lost = yield* makePair()
      const other = flow(lost.server)
      lost.client.writeUnsafe([Uint8Array.of(1)])
      lost.client.resetUnsafe()
      yield* settle
      assert.deepStrictEqual(other, [])
    }))

  it.effect("tells the server's end the peer's address", () =>
    Effect.gen(function*() {
      const peer = NetAddress.unixPathAddress("/run/web.sock")
      const { client, server } = yield* makePair({ peer })
      assert.deepStrictEqual(server.peer, Option.some(peer))
      assert.isTrue(Option.isNone(client.peer))
    }))
})
