/**
 * The application's end of one connection: its requests as a stream, a fiber per request, or the whole as a channel from bytes to
 * bytes. `FastCgiServer` is a listener and this.
 *
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Channel from "effect/Channel"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as NetAddress from "effect/net/NetAddress"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { FastCgiTransport } from "../connection/FastCgiTransport.ts"
import { StreamTransport } from "../connection/internal/streamTransport.ts"
import type { Authorizer, Filter, Responder } from "./FastCgiRequest.ts"
import type { FastCgiAnswer, FastCgiAuthorization, FastCgiRawResponse } from "./FastCgiResponse.ts"
import { type Handlers, type Requirements, toEngineOptions } from "./FastCgiServer.ts"
import type { FastCgiServerOptions } from "./FastCgiServerOptions.ts"
import type { AbortReason } from "./internal/applicationRequest.ts"
import * as Engine from "./internal/engine.ts"
import { RequestImpl } from "./internal/requests.ts"

/**
 * Serves one connection with a fiber per request, which is interrupted when the web server aborts the request. Ends when the connection
 * has closed and the handlers have ended.
 *
 * **Details**
 *
 * A connection that is lost, or whose peer breaks the protocol, is logged and counted as in a server, and ends this effect as well.
 * Interrupting drains: the connection takes no further request, running ones have `gracefulShutdownTimeout` to finish, and then they
 * are interrupted.
 *
 * The limits of the `FastCgiAdmission` in the context hold. Without one, the connection has its own.
 *
 * **Example** (Over one of Effect's sockets)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Socket from "effect/socket/Socket"
 * import { FastCgiConnection, FastCgiResponse, FastCgiTransport } from "effect-fastcgi"
 *
 * export const served = Effect.scoped(Effect.gen(function*() {
 *   const socket = yield* Socket.Socket
 *   const transport = yield* FastCgiTransport.fromChannel(Socket.toChannel(socket))
 *   yield* FastCgiConnection.serve(transport, { responder: Effect.succeed(FastCgiResponse.make("Hello\n")) })
 * }))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const serve = <E1 = never, R1 = never, E2 = never, R2 = never, E3 = never, R3 = never>(
  transport: FastCgiTransport,
  handlers: Handlers<E1, R1, E2, R2, E3, R3>,
  options?: FastCgiServerOptions
): Effect.Effect<void, never, Requirements<R1, R2, R3>> =>
  Engine.serveConnection(toEngineOptions(handlers, options), transport)

/**
 * Why a request was given up: ABORT_REQUEST (SPEC 5.4), a connection that is closed or lost, or a stop of this end.
 *
 * @category models
 * @since 0.1.0
 */
export type FastCgiAbortReason = "AbortRequest" | "ConnectionClosed" | "Shutdown"

/**
 * The members that `requests` adds to a request.
 *
 * @category models
 * @since 0.1.0
 */
export interface Answerable<Answer> {
  /**
   * Answers, and waits until the connection has taken the whole answer. Only the first answer counts. When the answer cannot be sent,
   * or has been cut off, the reason is logged, as for a handler.
   */
  readonly respond: (answer: Answer) => Effect.Effect<void>
  /** Waits until the request is given up, and gives the reason. Never ends for a request that is answered. */
  readonly aborted: Effect.Effect<FastCgiAbortReason>
}

/**
 * A request of a connection, by its role.
 *
 * @category models
 * @since 0.1.0
 */
export type ConnectionRequest =
  | Responder & Answerable<FastCgiAnswer>
  | Authorizer & Answerable<FastCgiAuthorization | FastCgiRawResponse>
  | Filter & Answerable<FastCgiAnswer>

/**
 * The requests of one connection, in the order in which their params are complete.
 *
 * **Details**
 *
 * Each request waits for its `respond`, beside the others. Nothing interrupts the fiber that works on a request: `aborted` says that
 * nobody wants its answer any more, and `respond` then does nothing. `FastCgiAdmission` limits how many may be open. A request that
 * has not been pulled counts as well.
 *
 * The stream ends when the connection has closed. A connection that is lost, or whose peer breaks the protocol, is logged and counted
 * as in a server, and ends the stream as well. When the stream is not pulled to its end, the connection takes no further request, and
 * unanswered ones are given up after `gracefulShutdownTimeout`.
 *
 * **Example** (The chain, written out)
 *
 * ```ts
 * import * as Stream from "effect/Stream"
 * import { FastCgiConnection, FastCgiListener, FastCgiResponse } from "effect-fastcgi"
 *
 * export const served = Stream.mapEffect(FastCgiListener.connections, (connection) =>
 *   FastCgiConnection.requests(connection, { roles: [1] }).pipe(
 *     Stream.mapEffect((request) =>
 *       request.respond(FastCgiResponse.make(`Hello ${request.params.get("REMOTE_ADDR")}\n`)), {
 *       concurrency: "unbounded"
 *     }),
 *     Stream.runDrain
 *   ), { concurrency: "unbounded" })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const requests = <Role extends 1 | 2 | 3 = 1 | 2 | 3>(
  transport: FastCgiTransport,
  options?: FastCgiServerOptions & {
    /**
     * The roles that are served, and the types of the elements; another role is answered with UNKNOWN_ROLE. Default all three.
     */
    readonly roles?: ReadonlyArray<Role> | undefined
  }
): Stream.Stream<Extract<ConnectionRequest, { readonly role: Role }>> =>
  Stream.callback<ConnectionRequest>((queue) => {
    const roles: ReadonlyArray<1 | 2 | 3> | undefined = options?.roles
    const handler = <Request extends Responder | Authorizer | Filter, Answer>(
      role: 1 | 2 | 3,
      offer: (request: Request & Answerable<Answer>) => void
    ) => roles?.includes(role) === false ? undefined : (request: Request) => take<Request, Answer>(request, offer)
    const offer = (request: ConnectionRequest) => {
      Queue.offerUnsafe(queue, request)
    }
    return serve(
      transport,
      {
        responder: handler<Responder, FastCgiAnswer>(1, offer),
        authorizer: handler<Authorizer, FastCgiAuthorization | FastCgiRawResponse>(2, offer),
        filter: handler<Filter, FastCgiAnswer>(3, offer)
      },
      options
    ).pipe(Effect.andThen(Queue.end(queue)))
  }, { bufferSize: Infinity }) as // No other role has a handler.
  Stream.Stream<Extract<ConnectionRequest, { readonly role: Role }>>

/**
 * A server as a channel from bytes to bytes: the bytes of a web server go in, and the bytes of the answers come out.
 *
 * **Details**
 *
 * A failure of the input counts as the loss of the connection: the requests are interrupted, and the channel ends. The output ends
 * where a socket would half-close. Until the channel's scope closes, it reads on and drops what still comes. The channel reads 64 KiB and
 * one pull further than the requests are read (`maxBufferedInput`). Handlers wait while nothing takes its output (`outputHighWaterMark`).
 *
 * It costs more than a `FastCgiTransport`: in memory a request took 1.4 to 1.5 times as long (bench/README.md).
 *
 * **Gotchas**
 *
 * `Stream.pipeThroughChannel` closes the channel at the end of its output, and reads no further. A peer that is still sending then waits
 * for ever. Over a stream and a sink, such as standard input and output, use `FastCgiTransport.fromStreams` and `serve`.
 *
 * **Example** (A capture is answered again)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as FileSystem from "effect/FileSystem"
 * import * as Stream from "effect/Stream"
 * import { FastCgiConnection, FastCgiResponse } from "effect-fastcgi"
 *
 * export const answers = Effect.flatMap(FileSystem.FileSystem, (files) =>
 *   files.stream("capture.bin").pipe(
 *     Stream.orDie,
 *     Stream.pipeThroughChannel(
 *       FastCgiConnection.channel({ responder: Effect.succeed(FastCgiResponse.make("Hello\n")) })
 *     ),
 *     Stream.mkUint8Array
 *   ))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const channel = <E1 = never, R1 = never, E2 = never, R2 = never, E3 = never, R3 = never, IE = never>(
  handlers: Handlers<E1, R1, E2, R2, E3, R3>,
  options?: FastCgiServerOptions & {
    /** The address of the web server, for `request.peer`. Default none. */
    readonly peer?: NetAddress.SocketAddress | undefined
  }
): Channel.Channel<
  Arr.NonEmptyReadonlyArray<Uint8Array>,
  never,
  void,
  Arr.NonEmptyReadonlyArray<Uint8Array>,
  IE,
  unknown,
  Requirements<R1, R2, R3>
> =>
  Channel.fromTransform((upstream, scope) =>
    Effect.withFiber((fiber) => {
      const transport = new StreamTransport(fiber.cache.scheduler.makeDispatcher(), options?.peer)
      return Effect.forkIn(serve(transport, handlers, options), scope).pipe(
        Effect.andThen(Effect.forkIn(transport.readFrom(upstream), scope)),
        // This runs first: the peer has gone, so no drain is needed.
        Effect.andThen(Scope.addFinalizer(scope, Effect.sync(() => transport.destroyUnsafe()))),
        Effect.as(transport.output)
      )
    })
  )

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// Hands a request on, and waits for its answer, which the server sends in this scope.
const take = <Request extends Responder | Authorizer | Filter, Answer>(
  request: Request,
  offer: (request: Request & Answerable<Answer>) => void
): Effect.Effect<Answer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const answered = Deferred.makeUnsafe<Answer>()
    const aborted = Deferred.makeUnsafe<FastCgiAbortReason>()
    const ended = Deferred.makeUnsafe<void>()
    yield* Effect.addFinalizer((exit) =>
      Effect.sync(() => {
        if (Exit.hasInterrupts(exit)) Deferred.doneUnsafe(aborted, Effect.succeed(reasonOf(request)))
        Deferred.doneUnsafe(ended, Effect.void)
      })
    )
    offer(Object.assign(request, {
      respond: (answer: Answer) =>
        Effect.andThen(Effect.sync(() => Deferred.doneUnsafe(answered, Effect.succeed(answer))), Deferred.await(ended)),
      aborted: Deferred.await(aborted)
    }))
    return yield* Deferred.await(answered)
  })

const reasonOf = (request: Responder | Authorizer | Filter): AbortReason =>
  (request instanceof RequestImpl ? request.givenUpFor : undefined) ?? "ConnectionClosed"
