/**
 * Where connections come from, as a service: a socket of the operating system, or a test.
 *
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as NetAddress from "effect/net/NetAddress"
import type { FastCgiTransport } from "../connection/FastCgiTransport.ts"

/**
 * Why there is no listener, or none any more:
 *
 * - `NotASocket`: the file descriptor is not a listening socket (the usual mistake: started in a terminal)
 * - `AddressInUse`: a live server has the path or port
 * - `PathTaken`: something that is not a socket stands at the path
 * - `PathTooLong`: the socket path exceeds what the operating system can bind
 * - `PermissionDenied`: the process may not bind or listen there
 * - `NoSuchOwner`: there is no user or group of the name that the socket shall belong to
 * - `AddressNotAvailable`: the address is not one of this host, or does not parse
 * - `InvalidAccessList`: the list of who may connect does not parse, and so nobody may
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
  | { readonly _tag: "Unknown" }

/**
 * Listening is not possible. `message` says what was tried, what stood in the way and what to do about it.
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
 * Closing the layer's scope closes the listening socket; established connections are closed by whoever runs them.
 *
 * @category services
 * @since 0.1.0
 */
export class FastCgiListener extends Context.Service<FastCgiListener, {
  /** Where the listener listens, with the real port. An inherited UNIX socket whose path is not known has path "". */
  readonly address: NetAddress.SocketAddress

  /** Where it listens in all, where it is several: `address` is the first of them. */
  readonly addresses: Arr.NonEmptyReadonlyArray<NetAddress.SocketAddress>

  /**
   * Calls `onConnection` for every connection, synchronously when it has been accepted, until interrupted. Interrupting
   * stops accepting and touches no established connection; `run` may then be called again.
   */
  readonly run: (onConnection: (transport: FastCgiTransport) => void) => Effect.Effect<never, FastCgiListenerError>

  /**
   * Closes the listening socket for good: the operating system refuses, or hands to other processes on the same socket,
   * what comes next. Connections that were accepted live on, and may still bring a request: a listener on sockets waits for
   * those, 100 milliseconds at most, because a web server that keeps connections notices only later. Idempotent.
   */
  readonly stopAccepting: Effect.Effect<void>
}>()("effect-fastcgi/FastCgiListener") {}
