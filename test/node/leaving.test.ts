/**
 * Peers that leave, do not read, or send when they should not, on real sockets: what a transport in memory cannot show.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  FastCgiAdmission,
  FastCgiEncoder,
  FastCgiListener,
  FastCgiParams,
  FastCgiRecord as R,
  FastCgiResponse,
  FastCgiServer,
  type FastCgiServerOptions
} from "effect-fastcgi"
import { NodeFastCgiListener } from "effect-fastcgi/node"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import type * as Net from "node:net"
import * as Path from "node:path"
import { within } from "../support/within.ts"
import { connectClient, eventually, temporaryDirectory, turns } from "./sockets.ts"

const KiB = 1024
const MiB = 1024 * KiB

type Kind = "unix" | "tcp"

/** A server on a socket, the way to connect to it, and to stop it. */
const serve = (
  kind: Kind,
  responder: Effect.Effect<FastCgiResponse.FastCgiResponse>,
  options?: FastCgiServerOptions.FastCgiServerOptions
) =>
  Effect.gen(function*() {
    const path = Path.join(yield* temporaryDirectory, "s")
    const scope = yield* Scope.fork(yield* Effect.scope)
    const listener = kind === "unix"
      ? NodeFastCgiListener.layerUnix({ path })
      : NodeFastCgiListener.layerTcp({ port: 0 })
    const context = yield* Layer.buildWithScope(
      FastCgiServer.serve({ responder }, options).pipe(
        Layer.provideMerge([listener, FastCgiAdmission.layer()])
      ),
      scope
    )
    const { address } = yield* Effect.provideContext(FastCgiListener.FastCgiListener, context)
    const to = NetAddress.isInetAddress(address) ? { port: address.port } : { path }
    return {
      connect: (options?: { readonly paused?: boolean }) => connectClient(to, options),
      stop: Scope.close(scope, Exit.void)
    }
  })

const encode = (...records: ReadonlyArray<R.FastCgiRecord>) =>
  Buffer.concat(records.map((record) => FastCgiEncoder.encode(record)))

const opening = (keepConnection: boolean, length = 0) =>
  encode(
    R.beginRequest(1, 1, { keepConnection }),
    R.params(1, FastCgiParams.encodePairs([["REQUEST_METHOD", "POST"], ["CONTENT_LENGTH", String(length)]])),
    R.params(1)
  )

const body = (length: number) =>
  Buffer.concat(
    Array.from({ length: Math.ceil(length / 32_000) }, (_, i) =>
      encode(R.stdin(1, new Uint8Array(Math.min(32_000, length - i * 32_000)))))
  )

const ways: ReadonlyArray<readonly [string, (socket: Net.Socket) => unknown]> = [
  ["closes", (socket) => socket.destroy()],
  ["half-closes", (socket) => socket.end()],
  ["resets", (socket) => socket.resetAndDestroy()]
]

describe.each(["unix", "tcp"] as const)("over %s, a handler that reads nothing", (kind) => {
  const cases = [
    ["200 KB", 200_000, ways],
    // More than the server and the operating system take: a half-close stands behind what nobody reads.
    ["16 MB", 16_000_000, ways.filter(([way]) => way !== "half-closes")]
  ] as const
  for (const [size, length, ways] of cases) {
    for (const [way, leave] of ways) {
      if (way === "resets" && kind === "unix") continue
      for (const keepConnection of [true, false]) {
        it.live(`is interrupted within seconds when its peer ${way} behind ${size} (KEEP_CONN ${keepConnection})`, () =>
          Effect.gen(function*() {
            const started = yield* Deferred.make<void>()
            const ended = yield* Deferred.make<boolean>()
            const { connect } = yield* serve(
              kind,
              Effect.onExit(
                Effect.andThen(Deferred.succeed(started, undefined), Effect.never),
                (exit) => Deferred.succeed(ended, Exit.hasInterrupts(exit))
              )
            )
            const { socket } = yield* connect()
            socket.write(opening(keepConnection, length))
            socket.write(body(length))
            yield* within("the start of the handler", 10)(Deferred.await(started))
            // What the operating system takes is on its way.
            yield* turns(20)
            leave(socket)
            assert.isTrue(yield* within("the interruption of the handler", 15)(Deferred.await(ended)))
          }))
      }
    }
  }
})

const answerSize = 100_000

/** Ten connections that are not kept, with `request` on each; `late` is sent when the server has written the answer, before it is read. */
const readsLate = (kind: Kind, request: Buffer, late: ReadonlyArray<Buffer>) =>
  Effect.gen(function*() {
    const answered = yield* Queue.unbounded<void>()
    const { connect } = yield* serve(
      kind,
      Effect.as(Queue.offer(answered, undefined), FastCgiResponse.make(new Uint8Array(answerSize)))
    )
    for (let i = 0; i < 10; i++) {
      const { errors, received, socket } = yield* connect({ paused: true })
      socket.write(request)
      yield* within("the start of the handler", 10)(Queue.take(answered))
      // The server writes the answer in the same turn, and closes its end.
      yield* turns(20)
      for (const bytes of late) {
        socket.write(bytes)
        yield* turns(20)
      }
      socket.resume()
      yield* eventually(() => received().length > answerSize, `${answerSize} bytes of an answer: ${errors.join()}`)
      assert.deepStrictEqual(errors, [])
    }
  })

describe("an answer on a connection that is not kept is read to its end", () => {
  const complete = Buffer.concat([opening(false), encode(R.stdin(1))])
  const rest = [encode(R.stdin(1, new Uint8Array(2))), encode(R.stdin(1, new Uint8Array(1))), encode(R.stdin(1))]

  it.live.each(["unix", "tcp"] as const)(
    "although the rest of the body arrives late (%s)",
    (kind) => readsLate(kind, opening(false, 3), rest)
  )

  it.live("although something arrives late that nobody waits for (tcp)", () =>
    readsLate("tcp", complete, [encode(R.stdin(1)), encode(R.stdin(1)), encode(R.stdin(1))]))

  // The peer has said all and wants the close: nothing is waited for, and the kernel keeps what has been written.
  it.live.each([answerSize, 4 * MiB])(
    "although the server has closed both directions (unix, %i bytes)",
    (size) =>
      Effect.gen(function*() {
        const { connect } = yield* serve("unix", Effect.succeed(FastCgiResponse.make(new Uint8Array(size))))
        const { ended, errors, received, socket } = yield* connect({ paused: true })
        socket.write(complete)
        yield* turns(20)
        socket.resume()
        yield* within("the end of the answer", 10)(ended)
        assert.isAbove(received().length, size)
        assert.deepStrictEqual(errors, [])
        // A half-closed server would take it.
        socket.write(encode(R.stdin(1)))
        yield* eventually(() => errors.length > 0, "the failure of the write")
        assert.deepStrictEqual(errors, ["EPIPE"])
      })
  )
})

describe.each(["unix", "tcp"] as const)("over %s, a stop", (kind) => {
  it.live("takes no longer than gracefulShutdownTimeout and a second for a peer that has stopped reading", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const { connect, stop } = yield* serve(
        kind,
        Effect.as(Deferred.succeed(started, undefined), FastCgiResponse.make(new Uint8Array(20 * MiB))),
        { gracefulShutdownTimeout: "500 millis" }
      )
      const { socket } = yield* connect({ paused: true })
      socket.write(Buffer.concat([opening(true), encode(R.stdin(1))]))
      yield* within("the start of the handler", 10)(Deferred.await(started))
      yield* within("the end of the stop", 10)(stop)
    }))
})
