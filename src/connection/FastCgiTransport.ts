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
import type * as Sink from "effect/Sink"
import * as Stream from "effect/Stream"
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
  /**
   * Half-closes, after all output has been written. Default: does nothing. When the transport closes, it has a second to end, and is
   * then interrupted.
   */
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
    const fail = failing(transport)
    const write: Effect.Effect<void, never, R2> = Pull.matchEffect(transport.output, {
      onSuccess: (chunks) =>
        Effect.matchCauseEffect(options.write(chunks), { onSuccess: () => write, onFailure: fail }),
      onDone: () => Effect.catchCause(Effect.asVoid(options.end ?? Effect.void), fail),
      onFailure: fail
    })
    return Effect.as(writeOut(transport, scope, write), options.pull)
  })

/**
 * The two directions of a connection.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiTransportStreams<E1 = never, R1 = never, E2 = never, R2 = never> {
  /** What is read. Its end is the peer's half-close. */
  readonly input: Stream.Stream<Uint8Array, E1, R1>
  /**
   * What is written. Its input ends at the half-close of this end, and it has a second to end when the transport closes. When it ends
   * sooner, the connection is lost.
   */
  readonly output: Sink.Sink<unknown, Uint8Array, unknown, E2, R2>
  /** The address of the other end. Default none, as over a UNIX socket. */
  readonly peer?: NetAddress.SocketAddress | undefined
}

/**
 * Makes a transport from a stream and a sink: the standard input and output of this process, or the pipes of a child process. When either
 * fails, the connection is lost. Closing the scope closes the transport.
 *
 * **Details**
 *
 * The directions end one after the other, as those of a socket do. After the half-close of this end the input is read on, so a peer that
 * still sends is not held up, and gets its answer.
 *
 * **Gotchas**
 *
 * Effect's `Stdio` leaves standard input open, and a Node process with it lives until its parent closes that. `NodeStream.fromReadable`
 * closes it with the connection.
 *
 * **Example** (A server on standard input and output)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Stdio from "effect/Stdio"
 * import { FastCgiConnection, FastCgiResponse, FastCgiTransport } from "effect-fastcgi"
 *
 * export const served = Effect.scoped(Effect.gen(function*() {
 *   const { stdin, stdout } = yield* Stdio.Stdio
 *   const transport = yield* FastCgiTransport.fromStreams({ input: stdin, output: stdout({ endOnDone: true }) })
 *   yield* FastCgiConnection.serve(transport, { responder: Effect.succeed(FastCgiResponse.make("Hello\n")) })
 * }))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromStreams = <E1 = never, R1 = never, E2 = never, R2 = never>(
  { input, output, peer }: FastCgiTransportStreams<E1, R1, E2, R2>
): Effect.Effect<FastCgiTransport, never, R1 | R2 | Scope.Scope> =>
  overStreams(peer, (transport, scope) => {
    let ended = false
    const written = Stream.onEnd(
      Stream.fromPull(Effect.succeed(transport.output)),
      Effect.sync(() => {
        ended = true
      })
    )
    const write = Effect.matchCauseEffect(Stream.run(written, output), {
      onSuccess: () =>
        Effect.sync(() => {
          if (!ended) transport.failUnsafe(new Error("nothing takes its output any more"))
        }),
      onFailure: failing(transport)
    })
    return Effect.andThen(writeOut(transport, scope, write), Channel.toPullScoped(input.channel, scope))
  })

/**
 * Makes a transport from a channel of bytes in both directions, such as Effect's `Socket.toChannel`. For a stream and a sink use
 * `fromStreams`. When the channel fails or dies, the connection is lost. The channel's input ends when the transport half-closes.
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
    deliversWhenClosed: transport.deliversWhenClosed,
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

const failing = (transport: StreamTransport) => (cause: Cause.Cause<unknown>) =>
  Effect.sync(() => transport.failUnsafe(Cause.squash(cause)))

// How long a transport that closes waits until what it has handed over is written out. Over a pipe, those bytes may still be in this
// process.
const lastMoment = "1 second"

// Runs what writes out, until it ends or the transport closes. What it has accepted by then it may still write.
const writeOut = <R>(
  transport: StreamTransport,
  scope: Scope.Scope,
  write: Effect.Effect<void, never, R>
): Effect.Effect<void, never, R> =>
  Effect.flatMap(Effect.forkIn(write, scope), (fiber) =>
    Scope.addFinalizer(
      scope,
      Effect.suspend(() => {
        transport.destroyUnsafe()
        return transport.endsInOrder && fiber.pollUnsafe() === undefined
          ? Effect.asVoid(Effect.timeoutOption(Fiber.await(fiber), lastMoment))
          : Effect.void
      })
    ))

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
