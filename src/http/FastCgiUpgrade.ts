/**
 * Client connections that are handed over to the app: `HttpServerRequest.upgrade` and `upgradeWith` behind lighttpd 1.4.74 and
 * later, and behind `FastCgiGateway`. WebSockets need a service, which `NodeFastCgiWebSocket` provides. Other protocols need none.
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
 * The connection of a client, both ways, over one request: STDIN carries the client's bytes, and STDOUT the bytes to the client.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiTunnel {
  /** Listens to the other events of the tunnel. Set it before `open`. */
  observer: FastCgiTunnelObserver
  /**
   * Answers 101 with a header block, whose first lines are `Status` and `Upgrade` (see `CgiUpgrade.encodeHead`). From here on, the
   * client's connection carries the other protocol. Call it once.
   */
  readonly open: (head: string) => void
  /**
   * Gives all bytes that the client has sent since the last pull, and waits when there are none. Ends with `Cause.Done` when the
   * client has half-closed, and fails when it has gone. The client is held up while nothing pulls.
   */
  readonly pull: Pull.Pull<Arr.NonEmptyReadonlyArray<Uint8Array>, FastCgiRequestError>
  /** Sends bytes, and then waits while the connection has no room for more. Do not change the bytes afterwards. */
  readonly write: (chunks: ReadonlyArray<Uint8Array>) => Effect.Effect<void>
  /** Closes the connection when all output has been sent: END_REQUEST. */
  readonly end: () => void
  /** Closes the connection for a client that has gone: the handler is interrupted with `ClientAbort`. */
  readonly hangUp: () => void
}

/**
 * The events of a tunnel, besides its bytes.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiTunnelObserver {
  /** The server drains: say goodbye to the client. The handler is interrupted when the drain is over. */
  readonly onDrain: () => void
  /**
   * The web server has closed its end, because the client has gone or lighttpd restarts. Output may still arrive. Call `hangUp`
   * afterwards.
   */
  readonly onPeerEnd: () => void
}

/**
 * Makes a WebSocket of a tunnel. The request asks for one, by RFC 6455, and the tunnel has not been opened.
 *
 * @category services
 * @since 0.1.0
 */
export class FastCgiWebSockets extends Context.Service<FastCgiWebSockets, {
  /** Whether a page of this origin (RFC 6454) may open a WebSocket. Browsers let pages of all sites, and send the user's cookies. */
  readonly allowsOrigin: (origin: string, host: string | undefined) => boolean
  /** The socket. Acquiring its reader opens the tunnel and sends the 101. */
  readonly accept: (request: HttpServerRequest, tunnel: FastCgiTunnel) => Effect.Effect<Socket.Socket>
}>()("effect-fastcgi/FastCgiUpgrade/FastCgiWebSockets") {}
