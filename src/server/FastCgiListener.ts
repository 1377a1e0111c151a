/**
 * The source of connections, as a service: a socket of the operating system, or a test.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import * as Stream from "effect/Stream"
import * as FastCgiTransport from "../connection/FastCgiTransport.ts"

/**
 * Why a listener failed:
 *
 * - `NotASocket`: the file descriptor is not a listening socket (the usual mistake: started in a terminal)
 * - `AddressInUse`: a live server has the path or port
 * - `PathTaken`: a file that is not a socket has the path
 * - `PathTooLong`: the socket path exceeds what the operating system can bind
 * - `PermissionDenied`: the process may not bind or listen there
 * - `NoSuchOwner`: the user or the group that should own the socket does not exist
 * - `AddressNotAvailable`: the address is not one of this host, or does not parse
 * - `InvalidAccessList`: the list of who may connect does not parse, so nobody may
 * - `InvalidCertificate`: the certificate, its key or the authorities of TLS cannot be used
 * - `Unknown`: anything else; see `cause`
 *
 * @category errors
 * @since 0.1.0
 */
export type FastCgiListenerErrorReason =
  | { readonly _tag: "NotASocket" }
  | { readonly _tag: "AddressInUse" }
  | { readonly _tag: "PathTaken" }
  | { readonly _tag: "PathTooLong" }
  | { readonly _tag: "PermissionDenied" }
  | { readonly _tag: "NoSuchOwner" }
  | { readonly _tag: "AddressNotAvailable" }
  | { readonly _tag: "InvalidAccessList" }
  | { readonly _tag: "InvalidCertificate" }
  | { readonly _tag: "Unknown" }

/**
 * Listening is not possible. `message` says what was tried, what failed and what to do.
 *
 * @category errors
 * @since 0.1.0
 */
export class FastCgiListenerError extends Data.TaggedError("FastCgiListenerError")<{
  readonly reason: FastCgiListenerErrorReason
  readonly message: string
  readonly cause?: unknown
}> {}

/**
 * Accepts connections.
 *
 * **Details**
 *
 * The socket listens from the moment the layer is built, so connections that arrive before `run` wait in the backlog.
 * Closing the layer's scope closes the listening socket. Established connections are closed by the code that runs them.
 *
 * @category services
 * @since 0.1.0
 */
export class FastCgiListener extends Context.Service<FastCgiListener, {
  /** Where the listener listens, with the real port. An inherited UNIX socket whose path is not known has path "". */
  readonly address: NetAddress.SocketAddress

  /** All addresses of a listener on several sockets; `address` is the first of them. */
  readonly addresses: Arr.NonEmptyReadonlyArray<NetAddress.SocketAddress>

  /**
   * Calls `onConnection` synchronously for every accepted connection, until interrupted. Interrupting stops accepting and touches no
   * established connection. `run` may then be called again.
   */
  readonly run: (
    onConnection: (transport: FastCgiTransport.FastCgiTransport) => void
  ) => Effect.Effect<never, FastCgiListenerError>

  /**
   * Closes the listening socket for good. The operating system then refuses new connections, or gives them to other processes on the
   * same socket. Accepted connections live on, and may still bring a request, because a web server that keeps connections notices the
   * stop only later. A listener on sockets waits at most 100 milliseconds for such requests. Idempotent.
   */
  readonly stopAccepting: Effect.Effect<void>
}>()("effect-fastcgi/FastCgiListener") {}

/**
 * The connections of the listener, as they are accepted. The code that runs a connection closes it. When the stream ends, connections
 * that were accepted and not pulled are closed.
 *
 * **Example** (Every connection by itself)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Stream from "effect/Stream"
 * import { FastCgiConnection, FastCgiListener, FastCgiResponse } from "effect-fastcgi"
 *
 * export const served = Stream.runForEach(
 *   FastCgiListener.connections,
 *   (connection) =>
 *     Effect.forkScoped(
 *       FastCgiConnection.serve(connection, { responder: Effect.succeed(FastCgiResponse.make("Hello\n")) })
 *     )
 * )
 * ```
 *
 * @category streams
 * @since 0.1.0
 */
export const connections: Stream.Stream<FastCgiTransport.FastCgiTransport, FastCgiListenerError, FastCgiListener> =
  Stream.unwrap(
    Effect.map(
      FastCgiListener,
      (listener) =>
        Stream.callback<FastCgiTransport.FastCgiTransport, FastCgiListenerError>((queue) =>
          Effect.andThen(
            Effect.addFinalizer(() =>
              Effect.map(Effect.orElseSucceed(Queue.clear(queue), () => []), (transports) => {
                for (const transport of transports) transport.destroyUnsafe()
              })
            ),
            listener.run((transport) => {
              if (!Queue.offerUnsafe(queue, transport)) transport.destroyUnsafe()
            })
          ), { bufferSize: Infinity })
    )
  )

/**
 * Makes a listener of a stream of connections: each element is a transport, over any medium. When the stream ends, no further
 * connection comes. When it fails, the server logs the failure, and goes on with the connections that it has.
 *
 * **Example** (One connection, over a channel)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import * as Socket from "effect/socket/Socket"
 * import * as Stream from "effect/Stream"
 * import { FastCgiListener, FastCgiTransport } from "effect-fastcgi"
 *
 * export const layer = FastCgiListener.fromStream(
 *   Stream.unwrap(Effect.map(Socket.Socket, (socket) =>
 *     Stream.fromEffect(FastCgiTransport.fromChannel(Socket.toChannel(socket)))))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const fromStream = <E, R>(
  stream: Stream.Stream<FastCgiTransport.FastCgiTransport, E, R>,
  options?: {
    /** The address of the connections. Default a UNIX socket without a path. */
    readonly address?: NetAddress.SocketAddress | undefined
  }
): Layer.Layer<FastCgiListener, never, Exclude<R, Scope.Scope>> =>
  Layer.effect(
    FastCgiListener,
    Effect.map(Effect.context<R>(), (context) => {
      let stopped = false
      const address = options?.address ?? NetAddress.unixPathAddress("")
      return FastCgiListener.of({
        address,
        addresses: [address],
        run: (onConnection) =>
          Stream.runForEach(stream, (transport) =>
            Effect.sync(() => {
              if (stopped) transport.destroyUnsafe()
              else onConnection(transport)
            })).pipe(
              Effect.mapError((cause) => listenerFailed("the stream of connections failed", cause)),
              Effect.andThen(Effect.never),
              Effect.provideContext(context)
            ),
        stopAccepting: Effect.sync(() => {
          stopped = true
        })
      })
    })
  )

/**
 * Makes a listener of Effect's `SocketServer`: TCP, TLS, a WebSocket server.
 *
 * **Gotchas**
 *
 * `SocketServer` interrupts all of its connections when it stops, so a stop does not drain. It does not know the peer's address, so
 * `request.peer` is none, and access lists let nobody in. `NodeFastCgiListener` drains, and costs less for each connection.
 *
 * Effect 4.1's WebSocket accepts every write at once, and does not say when it has been sent. So a slow reader does not hold up a
 * response, which then waits in memory. Serve large responses over WebSockets only to peers that you trust.
 *
 * **Example** (TCP)
 *
 * ```ts
 * import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import { FastCgiListener, FastCgiResponse, FastCgiServer } from "effect-fastcgi"
 *
 * export const HelloLive = FastCgiServer.serve({ responder: Effect.succeed(FastCgiResponse.make("Hello\n")) }).pipe(
 *   Layer.provide(FastCgiListener.layerSocketServer),
 *   Layer.provide(NodeSocketServer.layer({ host: "127.0.0.1", port: 9000 }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSocketServer: Layer.Layer<FastCgiListener, never, SocketServer.SocketServer> = Layer.effect(
  FastCgiListener,
  Effect.map(SocketServer.SocketServer, (server) => {
    let stopped = false
    return FastCgiListener.of({
      address: server.address,
      addresses: [server.address],
      run: (onConnection) =>
        Effect.mapError(
          server.run((socket) =>
            Effect.scoped(Effect.gen(function*() {
              if (stopped) return
              const transport = yield* FastCgiTransport.fromChannel(Socket.toChannel(socket))
              // The socket is closed when this ends.
              const closed = yield* untilClosed(transport)
              onConnection(closed.transport)
              yield* closed.wait
            }))
          ),
          (cause) => listenerFailed("the socket server failed", cause)
        ),
      stopAccepting: Effect.sync(() => {
        stopped = true
      })
    })
  })
)

/**
 * Makes one listener of several, so that an app serves on all of them, such as a UNIX socket for the web server of this host and a
 * port for those of other hosts. `address` is the first one's, and `addresses` has all of them.
 *
 * **Example** (A socket and a port)
 *
 * ```ts
 * import { FastCgiListener } from "effect-fastcgi"
 * import { NodeFastCgiListener } from "effect-fastcgi/node"
 *
 * export const layer = FastCgiListener.merge(
 *   NodeFastCgiListener.layerUnix({ path: "/run/app/app.sock" }),
 *   NodeFastCgiListener.layerTcp({ port: 9000 })
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const merge = <Layers extends Arr.NonEmptyReadonlyArray<Layer.Layer<FastCgiListener, unknown, unknown>>>(
  ...layers: Layers
): Layer.Layer<FastCgiListener, Layer.Error<Layers[number]>, Layer.Services<Layers[number]>> =>
  Layer.effect(
    FastCgiListener,
    Effect.map(
      Effect.forEach(layers, (layer) => Effect.map(Layer.build(Layer.fresh(layer)), Context.get(FastCgiListener))),
      (listeners) =>
        FastCgiListener.of({
          address: listeners[0].address,
          addresses: Arr.flatMap(listeners, ({ addresses }) => addresses),
          run: (onConnection) => Effect.raceAllFirst(listeners.map((listener) => listener.run(onConnection))),
          stopAccepting: Effect.forEach(listeners, (listener) => listener.stopAccepting, {
            concurrency: "unbounded",
            discard: true
          })
        })
    )
  ) as Layer.Layer<FastCgiListener, Layer.Error<Layers[number]>, Layer.Services<Layers[number]>>

/**
 * Shows all bytes on the connections of a listener. `tapOf` makes a tap for each. See `FastCgiTransport.tap`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const tap = <E, R>(
  layer: Layer.Layer<FastCgiListener, E, R>,
  tapOf: (transport: FastCgiTransport.FastCgiTransport) => FastCgiTransport.FastCgiTap
): Layer.Layer<FastCgiListener, E, R> =>
  Layer.effect(
    FastCgiListener,
    Effect.map(FastCgiListener, (listener) =>
      FastCgiListener.of({
        address: listener.address,
        addresses: listener.addresses,
        run: (onConnection) =>
          listener.run((transport) => onConnection(FastCgiTransport.tap(transport, tapOf(transport)))),
        stopAccepting: listener.stopAccepting
      }))
  ).pipe(Layer.provide(layer))

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const listenerFailed = (what: string, cause: unknown): FastCgiListenerError =>
  new FastCgiListenerError({
    reason: { _tag: "Unknown" },
    message: `${what}: ${cause instanceof Error ? cause.message : String(cause)}`,
    cause
  })

// The transport, and the wait for its end.
const untilClosed = (transport: FastCgiTransport.FastCgiTransport) =>
  Effect.sync(() => {
    const closed = Deferred.makeUnsafe<void>()
    return {
      transport: FastCgiTransport.tap(transport, { onClose: () => Deferred.doneUnsafe(closed, Effect.void) }),
      wait: Deferred.await(closed)
    }
  })
