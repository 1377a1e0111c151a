/**
 * The bytes of one connection, in both directions, as the multiplexer needs them: an array of chunks per read, and a batch per write.
 * Sockets of Node, the descriptors of a CGI program and pairs in memory become such transports.
 *
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Channel from "effect/Channel"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as NetAddress from "effect/net/NetAddress"
import * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import * as Memory from "./internal/memoryTransport.ts"
import { StreamTransport } from "./internal/streamTransport.ts"
import type { FastCgiTransport, FastCgiTransportError, FastCgiTransportObserver } from "./internal/transportModel.ts"

export * from "./internal/transportModel.ts"

/**
 * Options of `make`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiTransportOptions<E1 = never, R1 = never, E2 = never, R2 = never> {
  /** Reads: waits for bytes, and ends with `Cause.Done` at the peer's half-close. It is pulled no faster than the bytes are read. */
  readonly pull: Pull.Pull<Arr.NonEmptyReadonlyArray<Uint8Array>, E1, unknown, R1>
  /** Writes a batch of chunks, and ends when the batch has been accepted. Until then the batch is pending. One write runs at a time. */
  readonly write: (chunks: Arr.NonEmptyReadonlyArray<Uint8Array>) => Effect.Effect<unknown, E2, R2>
  /** Half-closes, after all output has been written. Default: does nothing. */
  readonly end?: Effect.Effect<unknown, E2, R2> | undefined
  /** The address of the other end. Default none, as over a UNIX socket. */
  readonly peer?: NetAddress.SocketAddress | undefined
}

/**
 * Makes a transport from a pull and a write, with backpressure in both directions. When either fails, the connection is lost. Closing the
 * scope closes the transport.
 *
 * **Example** (Over a medium that reads and writes one chunk at a time)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { FastCgiTransport } from "effect-fastcgi"
 *
 * declare const device: {
 *   readonly read: Effect.Effect<Uint8Array>
 *   readonly write: (bytes: Uint8Array) => Effect.Effect<void>
 * }
 *
 * export const transport = FastCgiTransport.make({
 *   pull: Effect.map(device.read, (bytes) => [bytes]),
 *   write: Effect.forEach((bytes) => device.write(bytes))
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <E1 = never, R1 = never, E2 = never, R2 = never>(
  options: FastCgiTransportOptions<E1, R1, E2, R2>
): Effect.Effect<FastCgiTransport, never, R1 | R2 | Scope.Scope> =>
  overStreams(options.peer, (transport, scope) => {
    const fail = (cause: Cause.Cause<unknown>) => Effect.sync(() => transport.failUnsafe(Cause.squash(cause)))
    const write: Effect.Effect<void, never, R2> = Pull.matchEffect(transport.output, {
      onSuccess: (chunks) =>
        Effect.matchCauseEffect(options.write(chunks), { onSuccess: () => write, onFailure: fail }),
      onDone: () => Effect.catchCause(Effect.asVoid(options.end ?? Effect.void), fail),
      onFailure: fail
    })
    return Effect.as(Effect.forkIn(write, scope), options.pull)
  })

/**
 * Makes a transport from a channel of bytes in both directions: Effect's `Socket.toChannel`, a WebSocket, or the standard input and output
 * of a child process. When the channel fails or dies, the connection is lost. The channel's input ends when the transport half-closes.
 * Closing the scope closes the channel.
 *
 * **Example** (A client over one of Effect's sockets)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Socket from "effect/socket/Socket"
 * import { FastCgiTransport } from "effect-fastcgi"
 * import { FastCgiClient } from "effect-fastcgi/client"
 *
 * export const client = Effect.gen(function*() {
 *   const socket = yield* Socket.Socket
 *   return yield* FastCgiClient.make({ connect: FastCgiTransport.fromChannel(Socket.toChannel(socket)) })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromChannel = <E, R>(
  channel: Channel.Channel<
    Arr.NonEmptyReadonlyArray<Uint8Array>,
    E,
    unknown,
    Arr.NonEmptyReadonlyArray<Uint8Array>,
    never,
    void,
    R
  >,
  options?: { readonly peer?: NetAddress.SocketAddress | undefined }
): Effect.Effect<FastCgiTransport, never, R | Scope.Scope> =>
  overStreams(options?.peer, (transport, scope) => Channel.toTransform(channel)(transport.output, scope))

/**
 * Makes a channel of a transport. The channel writes its input to the transport, no faster than the transport accepts it, and its output
 * is what the transport reads. It half-closes when its input ends, and closes the transport when it is closed itself. It is the
 * transport's observer.
 *
 * @category destructors
 * @since 0.1.0
 */
export const toChannel = <IE = never>(
  transport: FastCgiTransport
): Channel.Channel<
  Arr.NonEmptyReadonlyArray<Uint8Array>,
  FastCgiTransportError | IE,
  void,
  Arr.NonEmptyReadonlyArray<Uint8Array>,
  IE,
  unknown
> =>
  Channel.fromTransform((upstream, scope) =>
    Effect.gen(function*() {
      let wake: (() => void) | undefined
      const drained = () => {
        // A woken writer may write, and wait again, at once.
        const waiter = wake
        wake = undefined
        waiter?.()
      }
      transport.observeUnsafe({ onDrain: drained, onClose: drained })
      yield* Scope.addFinalizer(scope, Effect.sync(() => transport.destroyUnsafe()))
      const untilDrained = Effect.callback<void>((resume) => {
        if (transport.pendingUnsafe() === 0) return resume(Effect.void)
        wake = () => resume(Effect.void)
      })
      let failure: Cause.Cause<IE> | undefined
      const write: Effect.Effect<void> = Pull.matchEffect(upstream, {
        onSuccess: (chunks) =>
          Effect.suspend(() => {
            transport.writeUnsafe(chunks)
            return Effect.flatMap(untilDrained, () => write)
          }),
        onDone: () => Effect.sync(() => transport.endUnsafe()),
        onFailure: (cause) =>
          Effect.sync(() => {
            failure = cause
            transport.destroyUnsafe()
          })
      })
      yield* Effect.forkIn(write, scope)
      return Effect.catchCause(
        transport.pull,
        (cause): Pull.Pull<never, FastCgiTransportError | IE> =>
          failure === undefined ? Effect.failCause(cause) : Effect.failCause(failure)
      )
    })
  )

/**
 * Options of `makePair`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiTransportPairOptions {
  /** Bytes that either end takes before it is read. Default 64 KiB. */
  readonly capacity?: number | undefined
  /** The address that the server's end reports for its peer. Default none, as over a UNIX socket. */
  readonly peer?: NetAddress.SocketAddress | undefined
}

/**
 * Makes the two ends of a connection in memory. They behave like the ends of a socket, and deliver in the next turn of the scheduler, so
 * neither side runs inside a write of the other.
 *
 * **Example** (A client and a server without a socket)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { FastCgiConnection, FastCgiResponse, FastCgiTransport } from "effect-fastcgi"
 * import { FastCgiClient } from "effect-fastcgi/client"
 *
 * export const connected = Effect.gen(function*() {
 *   const { client, server } = yield* FastCgiTransport.makePair()
 *   yield* Effect.forkScoped(
 *     FastCgiConnection.serve(server, { responder: Effect.succeed(FastCgiResponse.make("Hello\n")) })
 *   )
 *   return yield* FastCgiClient.make({ connect: Effect.succeed(client) })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const makePair = (
  options?: FastCgiTransportPairOptions
): Effect.Effect<{ readonly client: FastCgiTransport; readonly server: FastCgiTransport }> => Memory.makePair(options)

/**
 * The functions that `tap` calls, synchronously, for everything on the connection.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiTap {
  /** Bytes that have been read, at the moment when they are handed on. Do not change them. */
  readonly onRead?: ((chunks: ReadonlyArray<Uint8Array>) => void) | undefined
  /** The peer has half-closed, and everything before has been handed on. */
  readonly onReadEnd?: (() => void) | undefined
  /** Bytes that are written. Do not change them. */
  readonly onWrite?: ((chunks: ReadonlyArray<Uint8Array>) => void) | undefined
  /** This end half-closes. */
  readonly onEnd?: (() => void) | undefined
  /** The connection is gone in both directions. */
  readonly onClose?: (() => void) | undefined
}

/**
 * Shows everything on a connection, in both directions and in order, and changes nothing. A recorder thus keeps every byte, with padding
 * and the borders of records.
 *
 * **Example** (Counting bytes)
 *
 * ```ts
 * import { FastCgiTransport } from "effect-fastcgi"
 *
 * export const counted = (transport: FastCgiTransport.FastCgiTransport, count: (bytes: number) => void) =>
 *   FastCgiTransport.tap(transport, {
 *     onRead: (chunks) => chunks.forEach((chunk) => count(chunk.length)),
 *     onWrite: (chunks) => chunks.forEach((chunk) => count(chunk.length))
 *   })
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const tap = (transport: FastCgiTransport, tap: FastCgiTap): FastCgiTransport => {
  let observed = false
  const observe = (observer: FastCgiTransportObserver | undefined) => {
    observed = true
    transport.observeUnsafe({
      onDrain: () => observer?.onDrain(),
      onClose() {
        tap.onClose?.()
        observer?.onClose()
      }
    })
  }
  // A listener that refuses a connection closes it without observing it. Then only the tap has to be told.
  const close = (by: () => void) => {
    by()
    if (!observed) observe(undefined)
  }
  return {
    peer: transport.peer,
    pull: Effect.tapCause(
      Effect.tap(transport.pull, (chunks) => Effect.sync(() => tap.onRead?.(chunks))),
      (cause) => Pull.isDoneCause(cause) ? Effect.sync(() => tap.onReadEnd?.()) : Effect.void
    ),
    flowUnsafe: (reader) =>
      transport.flowUnsafe({
        onRead(chunks) {
          // A listener may keep these chunks.
          tap.onRead?.(copied(chunks))
          reader.onRead(chunks)
        },
        onReadEnd() {
          tap.onReadEnd?.()
          reader.onReadEnd()
        },
        onReadDefect: (defect) => reader.onReadDefect(defect)
      }),
    pauseUnsafe: () => transport.pauseUnsafe(),
    resumeUnsafe: () => transport.resumeUnsafe(),
    observeUnsafe: observe,
    writeUnsafe(chunks) {
      tap.onWrite?.(chunks)
      transport.writeUnsafe(chunks)
    },
    pendingUnsafe: () => transport.pendingUnsafe(),
    endUnsafe() {
      tap.onEnd?.()
      transport.endUnsafe()
    },
    destroyUnsafe: () => close(() => transport.destroyUnsafe()),
    resetUnsafe: () => close(() => transport.resetUnsafe())
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const copied = ([first, ...others]: Arr.NonEmptyReadonlyArray<Uint8Array>): Arr.NonEmptyReadonlyArray<Uint8Array> => [
  new Uint8Array(first),
  ...others.map((chunk) => new Uint8Array(chunk))
]

// A transport whose input is the output of `connect`. Its fibers end with the transport, or with the scope.
const overStreams = <E, R1, R2>(
  peer: NetAddress.SocketAddress | undefined,
  connect: (
    transport: StreamTransport,
    scope: Scope.Scope
  ) => Effect.Effect<Pull.Pull<Arr.NonEmptyReadonlyArray<Uint8Array>, E, unknown, R1>, never, R2>
): Effect.Effect<FastCgiTransport, never, R1 | R2 | Scope.Scope> =>
  Effect.gen(function*() {
    const dispatcher = yield* Effect.withFiber((fiber) => Effect.succeed(fiber.cache.scheduler.makeDispatcher()))
    const outer = yield* Effect.scope
    const scope = Scope.forkUnsafe(outer)
    const transport = new StreamTransport(dispatcher, peer)
    yield* Scope.addFinalizer(scope, Effect.sync(() => transport.destroyUnsafe()))
    const context = yield* Effect.context<never>()
    transport.onClosed(() => Fiber.runIn(Effect.runForkWith(context)(Scope.close(scope, Exit.void)), outer))
    const pull = yield* connect(transport, scope)
    yield* Effect.forkIn(transport.readFrom(pull), scope)
    return transport
  })
