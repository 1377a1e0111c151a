/**
 * Connections of clients that are handed over to the app: `HttpServerRequest.upgrade` and `upgradeWith` behind lighttpd 1.4.74
 * and later, and behind `FastCgiGateway`. What makes WebSockets of them is a service, which `NodeFastCgiWebSocket` provides; other
 * protocols need none.
 *
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import type * as Pull from "effect/Pull"
import type * as Socket from "effect/socket/Socket"
import type { FastCgiRequestError } from "../server/FastCgiRequestError.ts"

/**
 * The connection of a client, both ways, over one request: its bytes as STDIN, and STDOUT as the bytes to it.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiTunnel {
  /** Who is told what happens besides. To be set before `open`. */
  observer: FastCgiTunnelObserver
  /**
   * Answers 101 with a header block, whose first lines are `Status` and `Upgrade` (see `CgiUpgrade.encodeHead`): the client's
   * connection is the other protocol's from here on. Called once.
   */
  readonly open: (head: string) => void
  /**
   * What the client has sent, everything since the last pull; waits when that is nothing. Ends with `Cause.Done` where it has
   * half-closed, and fails when it has gone. Not pulled, it holds the client up.
   */
  readonly pull: Pull.Pull<Arr.NonEmptyReadonlyArray<Uint8Array>, FastCgiRequestError>
  /** Sends, and then waits while the connection has no room for more. Bytes may not be changed afterwards. */
  readonly write: (chunks: ReadonlyArray<Uint8Array>) => Effect.Effect<void>
  /** Closes the connection when everything has been sent: END_REQUEST. */
  readonly end: () => void
  /** The same for a client that has gone: the handler is interrupted, with `ClientAbort`. */
  readonly hangUp: () => void
}

/**
 * What happens to a tunnel besides its bytes.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiTunnelObserver {
  /** The server drains: the client is to be told goodbye. What is left when the drain is over is interrupted. */
  readonly onDrain: () => void
  /**
   * The web server has closed its end. That is how a client goes, and how lighttpd restarts: what is said now may arrive. `hangUp`
   * has to follow.
   */
  readonly onPeerEnd: () => void
}

/**
 * Makes a WebSocket of a tunnel. The request has asked for one, by RFC 6455, and the tunnel has not been opened.
 *
 * @category services
 * @since 0.1.0
 */
export class FastCgiWebSockets extends Context.Service<FastCgiWebSockets, {
  /** Whether a page of this origin (RFC 6454) may open one. Browsers let pages of all sites, and send the user's cookies. */
  readonly allowsOrigin: (origin: string, host: string | undefined) => boolean
  /** The socket. The tunnel is opened, and with it 101 sent, when its reader is acquired. */
  readonly accept: (request: HttpServerRequest, tunnel: FastCgiTunnel) => Effect.Effect<Socket.Socket>
}>()("effect-fastcgi/FastCgiUpgrade/FastCgiWebSockets") {}
