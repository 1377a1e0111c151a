/**
 * HTTP in front of FastCGI: an Effect HTTP app that passes every request on to a FastCGI application, as a web server
 * would. Meant for development, where installing a web server is too much to ask; it serves no files and trusts nobody.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import { FileSystem } from "effect/FileSystem"
import * as HttpServer from "effect/http/HttpServer"
import type { HttpServerError } from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import type * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Settings from "../settings/settings.ts"
import * as FastCgiHttpClient from "./FastCgiHttpClient.ts"
import type { FastCgiExchangeOptions } from "./FastCgiHttpClient.ts"
import * as FastCgiPool from "./FastCgiPool.ts"
import { makeForward } from "./internal/forward.ts"
import { failed, refuse, toResponse } from "./internal/gatewayResponse.ts"
import { PoolTypeId } from "./internal/pool.ts"
import { withSettings } from "./internal/settings.ts"

/**
 * Options of `fromPool` and `layerFromPool`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiGatewayFromPoolOptions extends FastCgiExchangeOptions {
  /** The name of this server that the application is told: SERVER_NAME. Default: the host that the client asked. */
  readonly serverName?: string | undefined
}

/**
 * Options of `make` and `layer`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiGatewayOptions<E = never, R = never>
  extends FastCgiGatewayFromPoolOptions, FastCgiPool.FastCgiPoolOptions<E, R>
{}

/**
 * An HTTP app, to be served by any `HttpServer` or mounted in a router.
 *
 * @category models
 * @since 0.1.0
 */
export type FastCgiGateway = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  HttpServerError,
  HttpServerRequest.HttpServerRequest | Scope.Scope
>

/**
 * Creates the HTTP app. Its connections are closed with the scope.
 *
 * **Details**
 *
 * Bodies are streamed in both directions, as they come and no faster than they are taken. The application is told the
 * request's `url` (without a prefix that a router took off), its headers but those of one hop, and the addresses of the
 * client's connection as far as the server tells them. Of the response, headers of one hop and `X-Accel-*`, which are
 * for nginx, are dropped; each `Set-Cookie` stays a line of its own. What the application writes to STDERR is logged as
 * with `FastCgiHttpClient`.
 *
 * Requests share connections, wait for one, and are sent again as `FastCgiPool` says. Where the server traces a request, the
 * application gets a span of its own as HTTP_TRACEPARENT; otherwise what the client sent passes.
 *
 * A client that goes away aborts its request, usually by closing the connection to the application. A response that is
 * cut after its head is cut for the client as well.
 *
 * Where there is no response, the client gets a page that says so in plain words: 503 when the application is
 * overloaded or no connection gets free, 504 when it takes longer than `connectTimeout`, `headTimeout` or `bodyTimeout`, otherwise 502. The error
 * itself, which may name the application's socket, is logged as a warning and is not on the page.
 *
 * The application sees the path as nginx resolves it, see `CgiParams.fromRequest`; a target that nginx refuses, such as one
 * that leaves the root, gets 400, and so does a host that is none.
 *
 * Where a body does not go on for `bodyTimeout`, the client gets 408 or 504, whoever kept it waiting, or its response is cut
 * where that has begun. How long a client may take nothing of a response is up to the HTTP server: `timeout` of node:http.
 *
 * A request's body may be as long as `MaxBodySize` of `HttpIncomingMessage` says, by default 1 GiB: a longer one gets 413,
 * at once where its length is declared. One of unknown length is gathered for php-fpm and CGI programs: see `gatherBody`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <E = never, R = never>(
  options: FastCgiGatewayOptions<E, R>
): Effect.Effect<FastCgiGateway, never, Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.flatMap(FastCgiPool.make(options), (pool) => fromPool(pool, options))

/**
 * Creates the HTTP app over a pool that others may use, too. See `make`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromPool = (
  pool: FastCgiPool.FastCgiPool,
  options: FastCgiGatewayFromPoolOptions = {}
): Effect.Effect<FastCgiGateway> =>
  Effect.gen(function*() {
    const forward = makeForward(pool[PoolTypeId], options, yield* Effect.serviceOption(FileSystem))
    return Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
      forward(request).pipe(
        Effect.map(toResponse),
        Effect.catchTags({
          FastCgiClientError: (error) => failed(request, error),
          RequestRefused: (error) => refuse(request, error)
        }),
        // A client that goes away interrupts, which HttpServer.serve does not let through by itself.
        Effect.interruptible
      ))
  })

/**
 * Serves the gateway with the `HttpServer` of the context.
 *
 * **Example** (An HTTP server in front of an application)
 *
 * ```ts
 * import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
 * import { FastCgiGateway } from "effect-fastcgi/client"
 * import { NodeFastCgiConnector } from "effect-fastcgi/node"
 * import * as Layer from "effect/Layer"
 * import { createServer } from "node:http"
 *
 * const connect = NodeFastCgiConnector.connect({ path: "/run/app/app.sock" })
 *
 * export const gateway = FastCgiGateway.layer({ connect }).pipe(
 *   Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 8080 }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <E = never, R = never>(
  options: FastCgiGatewayOptions<E, R>
): Layer.Layer<never, never, HttpServer.HttpServer | Exclude<R, Scope.Scope>> =>
  Layer.unwrap(Effect.map(make(options), (gateway) => HttpServer.serve(gateway)))

/**
 * Serves the gateway over the pool of the context with the `HttpServer` of the context. See `fromPool`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerFromPool = (
  options?: FastCgiGatewayFromPoolOptions
): Layer.Layer<never, never, HttpServer.HttpServer | FastCgiPool.FastCgiPool> =>
  Layer.unwrap(
    Effect.map(
      Effect.flatMap(FastCgiPool.FastCgiPool, (pool) => fromPool(pool, options)),
      (gateway) => HttpServer.serve(gateway)
    )
  )

/**
 * How the application is asked, from settings of the environment: those of `FastCgiHttpClient.config`, and
 * `FASTCGI_UPSTREAM_SERVER_NAME` for `serverName`.
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<FastCgiGatewaySettings> = Config.map(
  Config.all([FastCgiHttpClient.config, Settings.text("FASTCGI_UPSTREAM_SERVER_NAME")]),
  ([upstream, serverName]) => ({ ...upstream, serverName })
)

/**
 * The options of `layerConfig`: all but `connect` and `ping`, which are code, and `params`.
 *
 * @category options
 * @since 0.1.0
 */
export type FastCgiGatewaySettings = Omit<FastCgiGatewayOptions, "connect" | "ping" | "params">

/**
 * Serves the gateway with options from `config`, or from another `Config` value, besides those that are given. See
 * `FastCgiHttpClient.layerConfig`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = <E = never, R = never>(
  options: FastCgiGatewayOptions<E, R>,
  settings: Config.Wrap<FastCgiGatewaySettings> = config
): Layer.Layer<never, Config.ConfigError, HttpServer.HttpServer | Exclude<R, Scope.Scope>> =>
  Layer.unwrap(
    Effect.map(Config.unwrap(settings), (settings) => layer(withSettings(options, settings)))
  )
