/**
 * WebSockets behind lighttpd 1.4.74 and later, and behind `FastCgiGateway`. `HttpServerRequest.upgrade` uses this service, with the
 * `ws` of `@effect/platform-node`. `NodeFastCgi.layer` has it.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { FastCgiWebSockets } from "../http/FastCgiUpgrade.ts"
import * as FastCgiLimits from "../server/FastCgiLimits.ts"
import { limits } from "../server/internal/settings.ts"
import { flag, setting } from "../settings/settings.ts"
import { fromTunnel } from "./internal/webSocket.ts"

/**
 * Options of WebSockets. `FastCgiLimits.webSocket` has the limits and timeouts with their defaults.
 *
 * @category options
 * @since 0.1.0
 */
export interface NodeFastCgiWebSocketOptions extends FastCgiLimits.OptionsOf<typeof FastCgiLimits.webSocket> {
  /**
   * The pages that may open a WebSocket: those of the host that they ask (`"same"`), or of a list of origins,
   * `"https://app.example"`. Other pages get 403. A browser lets the pages of all sites open one, and sends its user's cookies. So set
   * this option when a cookie identifies the user. A client that is no browser sends no origin, and may always open one. Default
   * `"any"`, as in `NodeHttpServer`.
   */
  readonly webSocketOrigins?: "any" | "same" | ReadonlyArray<string> | undefined
  /** Whether messages are compressed where the client can (permessage-deflate, RFC 7692). Default false. */
  readonly webSocketDeflate?: boolean | undefined
  /**
   * The subprotocols of the app. The first of them that the client offers is chosen. Default: the client's first.
   */
  readonly webSocketProtocols?: ReadonlyArray<string> | undefined
}

/**
 * Provides WebSockets to a server of `FastCgiHttpServer.layerServer`. `ws` is loaded when the first WebSocket is opened.
 *
 * **Details**
 *
 * The socket is Effect's. Closing its reader's scope closes the WebSocket: with 1000, with 1001 after an interruption, with 1011 after
 * a failure, or with the code of a CloseEvent that the app writes. Then the server waits for the client's answer. While the server
 * drains, clients get 1001. A client that goes away without a Close ends the reader with 1006, and then interrupts the handler with
 * `ClientAbort`. The client's bytes wait for the handler, and writing waits for the client.
 *
 * **Example** (A server built from its parts)
 *
 * ```ts
 * import * as Layer from "effect/Layer"
 * import { FastCgiHttpServer } from "effect-fastcgi/http"
 * import { NodeFastCgiListener, NodeFastCgiWebSocket } from "effect-fastcgi/node"
 *
 * export const Server = FastCgiHttpServer.layerServer().pipe(
 *   Layer.provide(NodeFastCgiWebSocket.layer({ webSocketOrigins: "same" })),
 *   Layer.provide(NodeFastCgiListener.layerUnix({ path: "/run/app/app.sock" }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: NodeFastCgiWebSocketOptions): Layer.Layer<FastCgiWebSockets> =>
  Layer.effect(
    FastCgiWebSockets,
    Effect.gen(function*() {
      const context = yield* Effect.context<never>()
      const { webSocketCloseTimeout, webSocketMaxMessageSize, webSocketPingInterval } = FastCgiLimits.resolve(
        FastCgiLimits.webSocket,
        options
      )
      const { webSocketDeflate = false, webSocketOrigins = "any", webSocketProtocols } = options ?? {}
      const serverOptions = {
        noServer: true,
        clientTracking: false,
        maxPayload: webSocketMaxMessageSize,
        perMessageDeflate: webSocketDeflate,
        // Its types do not know it.
        closeTimeout: webSocketCloseTimeout,
        ...webSocketProtocols === undefined ? undefined : {
          handleProtocols: (offered: Set<string>) =>
            webSocketProtocols.find((protocol) => offered.has(protocol)) ?? false
        }
      }
      const server = yield* Effect.cached(
        Effect.map(
          Effect.promise(() => import("@effect/platform-node/NodeWS")),
          (NodeWS) => {
            const server = new NodeWS.WebSocketServer(serverOptions)
            // Instead of an answer of its own.
            server.on("wsClientError", () => {})
            return server
          }
        )
      )
      const settings = { server, pingInterval: webSocketPingInterval, fork: Effect.runForkWith(context) }
      return FastCgiWebSockets.of({
        allowsOrigin: (origin, host) =>
          webSocketOrigins === "any" ||
          (webSocketOrigins === "same" ? isHost(origin, host) : webSocketOrigins.includes(origin)),
        accept: (request, tunnel) => fromTunnel(request, tunnel, settings)
      })
    })
  )

/**
 * The options from settings of the environment, each of which may be left out: `FASTCGI_WEB_SOCKET_ORIGINS`, which is `any`,
 * `same` or origins with commas between, `FASTCGI_WEB_SOCKET_PROTOCOLS`, names with commas between, `FASTCGI_WEB_SOCKET_DEFLATE`,
 * and those of `FastCgiLimits.webSocket`.
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<NodeFastCgiWebSocketOptions> = Config.map(
  Config.all([
    limits(FastCgiLimits.webSocket),
    setting(
      "FASTCGI_WEB_SOCKET_ORIGINS",
      "any, same, or origins such as https://app.example, with commas between",
      (text) => text === "any" || text === "same" ? text : listOf(text, /^[a-z][a-z0-9+.-]*:\/\/[^\s/?#,]+$/)
    ),
    flag("FASTCGI_WEB_SOCKET_DEFLATE"),
    setting("FASTCGI_WEB_SOCKET_PROTOCOLS", "names, with commas between", (text) => listOf(text, /^[!#-'*+.^-z|~-]+$/))
  ]),
  ([amounts, webSocketOrigins, webSocketDeflate, webSocketProtocols]) => ({
    ...amounts,
    webSocketOrigins,
    webSocketDeflate,
    webSocketProtocols
  })
)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const listOf = (text: string, one: RegExp): ReadonlyArray<string> | undefined => {
  const list = text.split(",").map((item) => item.trim())
  return list.every((item) => one.test(item)) ? list : undefined
}

const isHost = (origin: string, host: string | undefined): boolean => {
  const at = origin.indexOf("://")
  return host !== undefined && at !== -1 && origin.slice(at + 3).toLowerCase() === host.toLowerCase()
}
