/**
 * Ways that the bytes of a connection take between a listener and the server behind it. Whatever carries them, a server does the
 * same.
 */
import { FastCgiConnection, FastCgiListener, type FastCgiServer, FastCgiTransport } from "effect-fastcgi"
import { FastCgiClient, type FastCgiClientError } from "effect-fastcgi/client"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Channel from "effect/Channel"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"

type Transport = FastCgiTransport.FastCgiTransport

/** Makes a transport of another one. */
export type Carry = (transport: Transport) => Effect.Effect<Transport, never, Scope.Scope>

const withPeerOf = (transport: Transport) => ({ peer: Option.getOrUndefined(transport.peer) })

/** Over streams of bytes. */
export const overChannel: Carry = (transport) =>
  FastCgiTransport.fromChannel(FastCgiTransport.toChannel(transport), withPeerOf(transport))

/** Over one of Effect's sockets. */
export const overSocket: Carry = (transport) =>
  FastCgiTransport.fromChannel(Socket.toChannel(socketOf(transport)), withPeerOf(transport))

/** The listener, with all of its connections carried on. */
export const carried = (carry: Carry) =>
  Layer.effect(
    FastCgiListener.FastCgiListener,
    Effect.gen(function*() {
      const listener = yield* FastCgiListener.FastCgiListener
      const scope = yield* Effect.scope
      const context = yield* Effect.context<never>()
      return FastCgiListener.FastCgiListener.of({
        ...listener,
        run: (onConnection) =>
          listener.run((transport) => {
            Effect.runForkWith(context)(Effect.map(Scope.provide(carry(transport), scope), onConnection))
          })
      })
    })
  )

/** An Effect socket, as `NodeSocket` makes one: the peer's half-close is the failure `SocketCloseError` with code 1000. */
export const socketOf = (transport: Transport): Socket.Socket => {
  const failed = (reason: Socket.SocketErrorReason) => Effect.fail(new Socket.SocketError({ reason }))
  const pull = Pull.matchEffect(transport.pull, {
    onSuccess: Effect.succeed,
    onDone: () => failed(new Socket.SocketCloseError({ code: 1000 })),
    onFailure: (cause) => failed(new Socket.SocketReadError({ cause }))
  })
  let wake: (() => void) | undefined
  const drained = () => {
    const resume = wake
    // It may write more, and wait again, before this returns.
    wake = undefined
    resume?.()
  }
  transport.observeUnsafe({ onDrain: drained, onClose: drained })
  const writeAll = (chunks: ReadonlyArray<Uint8Array | string>) =>
    Effect.callback<void>((resume) => {
      transport.writeUnsafe(chunks.map((chunk) => typeof chunk === "string" ? new TextEncoder().encode(chunk) : chunk))
      if (transport.pendingUnsafe() === 0) return resume(Effect.void)
      wake = () => resume(Effect.void)
    })
  return Socket.make({
    reader: Effect.acquireRelease(
      Effect.succeed({ pull, upgrade: Socket.SocketUpgradeError.unsupported }),
      () => Effect.sync(() => transport.destroyUnsafe())
    ),
    writer: Effect.acquireRelease(
      Effect.succeed({
        write: (chunk: Uint8Array | string | Socket.CloseEvent) =>
          Socket.isCloseEvent(chunk) ? Effect.sync(() => transport.endUnsafe()) : writeAll([chunk]),
        writeAll
      }),
      () => Effect.sync(() => transport.endUnsafe())
    )
  })
}

/** Joins a channel from bytes to bytes to a transport, until that is closed or both directions have ended. */
export const join = <E, R>(
  transport: Transport,
  channel: Channel.Channel<
    readonly [Uint8Array, ...Array<Uint8Array>],
    E,
    void,
    readonly [Uint8Array, ...Array<Uint8Array>],
    FastCgiTransport.FastCgiTransportError | E,
    unknown,
    R
  >
): Effect.Effect<void, never, R> =>
  Effect.scoped(Effect.gen(function*() {
    const scope = yield* Effect.scope
    const closed = yield* Deferred.make<void>()
    const written = yield* Deferred.make<Pull.Pull<readonly [Uint8Array, ...Array<Uint8Array>], E, void, R>>()
    const context = yield* Effect.context<R>()
    let directions = 2
    const close = () => Deferred.doneUnsafe(closed, Effect.void)
    const ended = () => {
      if (--directions === 0) close()
    }
    const tapped = FastCgiTransport.tap(transport, { onClose: close, onReadEnd: ended, onEnd: ended })
    const read = yield* Channel.toTransform(FastCgiTransport.toChannel<E>(tapped))(
      Effect.provideContext(Effect.flatten(Deferred.await(written)), context),
      scope
    )
    yield* Deferred.succeed(written, yield* Channel.toTransform(channel)(read, scope))
    yield* Deferred.await(closed)
  }))

/** `FastCgiServer.serve`, where each connection is served by a bare channel. */
export const serveChannels: typeof FastCgiServer.serve = (handlers, options) =>
  Layer.effectDiscard(Effect.forkScoped(
    Stream.runForEach(
      FastCgiListener.connections,
      (transport) =>
        Effect.forkScoped(
          join(transport, FastCgiConnection.channel(handlers, { ...options, ...withPeerOf(transport) }))
        )
    ).pipe(Effect.scoped, Effect.orDie)
  ))

type Connect = FastCgiTest.FastCgiMemory["Service"]["connect"]

/** How a forwarder reaches the application behind it. */
export type Upstream = (
  connect: Connect
) => Effect.Effect<FastCgiServer.Forwarding<FastCgiClientError.FastCgiClientError>, never, Scope.Scope>

/** A connection for each request. */
export const perRequest: Upstream = (connect) =>
  Effect.succeed({
    request: (request) => Effect.flatMap(FastCgiClient.make({ connect }), (client) => client.request(request))
  })

/** One connection for all requests, and another when that is closed. */
export const multiplexed: Upstream = (connect) =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const one = yield* Semaphore.make(1)
    let last: FastCgiClient.FastCgiClientConnection | undefined
    const current = one.withPermit(Effect.gen(function*() {
      if (last?.openUnsafe() !== true) {
        last = yield* Scope.provide(FastCgiClient.make({ connect, maxRequests: 64 }), scope)
      }
      return last
    }))
    return { request: (request) => Effect.flatMap(current, (client) => client.request(request)) }
  })

/** The way to the application behind a forwarder. */
export class Behind extends Context.Service<Behind, { readonly connect: Connect }>()("effect-fastcgi/test/Behind") {}

/** A listener in memory for the application behind a forwarder. */
export const behind: Layer.Layer<FastCgiListener.FastCgiListener | Behind> = Layer.effectContext(
  Effect.map(
    Layer.build(Layer.fresh(FastCgiTest.layerMemory)),
    (context) =>
      Context.make(FastCgiListener.FastCgiListener, Context.get(context, FastCgiListener.FastCgiListener)).pipe(
        Context.add(Behind, { connect: Context.get(context, FastCgiTest.FastCgiMemory).connect })
      )
  )
)
