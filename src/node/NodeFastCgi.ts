/**
 * The one Layer that an Effect HTTP app swaps to run behind a web server: `NodeFastCgi.layer` instead of
 * `NodeHttpServer.layer`.
 *
 * @since 0.1.0
 */
import * as NodeHttpPlatform from "@effect/platform-node/NodeHttpPlatform"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Etag from "effect/http/Etag"
import type * as HttpPlatform from "effect/http/HttpPlatform"
import type * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as FastCgiHttpServer from "../http/FastCgiHttpServer.ts"
import * as FastCgiAdmission from "../server/FastCgiAdmission.ts"
import type { FastCgiListenerError } from "../server/FastCgiListener.ts"
import type * as FastCgiServer from "../server/FastCgiServer.ts"
import * as FastCgiServerOptions from "../server/FastCgiServerOptions.ts"
import { oneOf } from "../settings/settings.ts"
import { listening } from "./internal/listening.ts"
import * as NodeFastCgiListener from "./NodeFastCgiListener.ts"
import * as NodeFastCgiWebSocket from "./NodeFastCgiWebSocket.ts"

/**
 * Several sockets at once.
 *
 * @category options
 * @since 0.1.0
 */
export interface SeveralOptions {
  /** The sockets to listen on. The first one's address is the server's; `FastCgiListener.addresses` has all of them. */
  readonly listeners: ReadonlyArray<NodeFastCgiListener.NodeFastCgiListenerOptions>
  /** Who may connect to the sockets that have no `allow` of their own. Default everybody. */
  readonly allow?: ReadonlyArray<string> | undefined
}

/**
 * Where to listen (`{ path }`, `{ port }`, `{ fd }`, `{ systemd }` or `{ listeners }`), how many requests to run at once, and the
 * limits and timeouts of the server. `{}` listens on file descriptor 0.
 *
 * @category options
 * @since 0.1.0
 */
export type NodeFastCgiOptions =
  & (NodeFastCgiListener.NodeFastCgiListenerOptions | SeveralOptions)
  & FastCgiAdmission.FastCgiAdmissionOptions
  & FastCgiHttpServer.FastCgiHttpServerOptions
  & NodeFastCgiWebSocket.NodeFastCgiWebSocketOptions

/**
 * The services that an app gets besides the `HttpServer`, the same as from `NodeHttpServer`.
 *
 * @category models
 * @since 0.1.0
 */
export type NodeFastCgiServices = NodeServices.NodeServices | HttpPlatform.HttpPlatform | Etag.Generator

/**
 * Provides an `HttpServer` over FastCGI and the services of Node that serve requests.
 *
 * **Details**
 *
 * Swap it for `NodeHttpServer.layer`. Nothing else of the app changes. It fails with `FastCgiListenerError` when it cannot listen,
 * and the message says what to do. Closing the layer drains: see `FastCgiHttpServer.make`. `handlers` answer the requests of an
 * Authorizer and of a Filter.
 *
 * Each port is logged as `fastcgi://127.0.0.1:9000`. Effect's own line says `http://127.0.0.1:9000` for the same port, and
 * `unix://cgi` in a CGI program. `HttpRouter.serve(Routes, { disableListenLog: true })` leaves that line out. A client that speaks
 * HTTP to the port gets a 400, which says what the port is.
 *
 * **Gotchas**
 *
 * Without options it listens on file descriptor 0, which must be a listening socket. Web servers and `spawn-fcgi` start an
 * application that way, and a terminal does not. `process.stdin` is then an empty stream. When the process was started as a plain
 * CGI program, the layer serves that one request: see `NodeFastCgiListener.layerCgi`.
 *
 * **Example** (An app on a UNIX socket)
 *
 * ```ts
 * import * as HttpRouter from "effect/http/HttpRouter"
 * import * as HttpServerResponse from "effect/http/HttpServerResponse"
 * import * as Layer from "effect/Layer"
 * import { NodeFastCgi, NodeFastCgiRuntime } from "effect-fastcgi/node"
 *
 * const Routes = HttpRouter.add("GET", "/", HttpServerResponse.text("Hello"))
 *
 * export const Server = HttpRouter.serve(Routes).pipe(
 *   Layer.provide(NodeFastCgi.layer({ path: "/run/app/app.sock", mode: 0o660 }))
 * )
 *
 * export const main = () => NodeFastCgiRuntime.runMain(Layer.launch(Server))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <E1 = never, R1 = never, E2 = never, R2 = never>(
  options: NodeFastCgiOptions = {},
  handlers?: FastCgiHttpServer.FastCgiHttpServerHandlers<E1, R1, E2, R2>
): Layer.Layer<
  HttpServer.HttpServer | NodeFastCgiServices,
  FastCgiListenerError,
  FastCgiServer.Requirements<never, R1, R2>
> => Layer.mergeAll(layerServer(options, handlers), layerServices)

/**
 * All options from settings of the environment, each of which may be left out: the settings of `NodeFastCgiListener.config`
 * (`FASTCGI_LISTEN` and others), `FastCgiAdmission.config`, `FastCgiServerOptions.config` and `NodeFastCgiWebSocket.config`, and
 * `FASTCGI_BASE_PATH` and `FASTCGI_URL_FROM`.
 *
 * **Example** (An app that its environment configures)
 *
 * ```ts
 * import { NodeFastCgi } from "effect-fastcgi/node"
 *
 * export const Server = NodeFastCgi.layerConfig(NodeFastCgi.config)
 * ```
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<NodeFastCgiOptions> = Config.map(
  Config.all([
    NodeFastCgiListener.config,
    FastCgiAdmission.config,
    FastCgiServerOptions.config,
    NodeFastCgiWebSocket.config,
    Config.option(Config.NonEmptyString("FASTCGI_BASE_PATH")),
    oneOf("FASTCGI_URL_FROM", ["request", "script"])
  ]),
  ([listeners, admission, server, webSocket, basePath, urlFrom]) => ({
    listeners,
    ...admission,
    ...server,
    ...webSocket,
    basePath: Option.getOrUndefined(basePath),
    urlFrom
  })
)

/**
 * Provides the same as `layer`, with options from a `Config` value.
 *
 * **Example** (The socket path from the environment)
 *
 * ```ts
 * import * as Config from "effect/Config"
 * import { NodeFastCgi } from "effect-fastcgi/node"
 *
 * export const Server = NodeFastCgi.layerConfig({ path: Config.String("APP_SOCKET") })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = <E1 = never, R1 = never, E2 = never, R2 = never>(
  options: Config.Wrap<NodeFastCgiOptions>,
  handlers?: FastCgiHttpServer.FastCgiHttpServerHandlers<E1, R1, E2, R2>
): Layer.Layer<
  HttpServer.HttpServer | NodeFastCgiServices,
  FastCgiListenerError | Config.ConfigError,
  FastCgiServer.Requirements<never, R1, R2>
> =>
  Layer.mergeAll(
    Layer.unwrap(Effect.map(Config.unwrap(options), (options) => layerServer(options, handlers))),
    layerServices
  )

/**
 * Provides the `HttpServer` alone, without the services of Node.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerServer = <E1 = never, R1 = never, E2 = never, R2 = never>(
  options: NodeFastCgiOptions = {},
  handlers?: FastCgiHttpServer.FastCgiHttpServerHandlers<E1, R1, E2, R2>
): Layer.Layer<HttpServer.HttpServer, FastCgiListenerError, FastCgiServer.Requirements<never, R1, R2>> =>
  FastCgiHttpServer.layerServer(options, handlers).pipe(
    Layer.provide([listening(options), NodeFastCgiWebSocket.layer(options)])
  )

/**
 * Provides the services of Node that an HTTP app needs: the HTTP platform, ETags, and Node's file system, paths, child processes,
 * standard streams and terminal.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerServices: Layer.Layer<NodeFastCgiServices> = Layer.mergeAll(
  NodeHttpPlatform.layer,
  Etag.layerWeak,
  NodeServices.layer
)
