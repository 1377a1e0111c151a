/**
 * HTTP in front of FastCGI: an Effect HTTP app that passes every request on to a FastCGI application, as a web server
 * would, or that is the web server of a PHP site: its scripts run, its files are shown.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import { FileSystem } from "effect/FileSystem"
import type { HttpPlatform } from "effect/http/HttpPlatform"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import type { HttpServerError } from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerRespondable from "effect/http/HttpServerRespondable"
import type * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import type { Path } from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import type * as Scope from "effect/Scope"
import * as Settings from "../settings/settings.ts"
import * as FastCgiHttpClient from "./FastCgiHttpClient.ts"
import type { FastCgiExchangeOptions } from "./FastCgiHttpClient.ts"
import * as FastCgiPool from "./FastCgiPool.ts"
import { errorPage } from "./internal/errorPage.ts"
import { makeForward } from "./internal/forward.ts"
import { failed, refuse, toResponse } from "./internal/gatewayResponse.ts"
import { makeSite } from "./internal/phpFront.ts"
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
  /**
   * Whether a request for another protocol, such as a WebSocket, is passed on as lighttpd does it. Where the application answers
   * 101, the client's connection is passed through, both ways, on a connection to the application that counts as any other of the
   * pool. Otherwise the request goes out as any other, and the application does not know what was asked. Default: where no
   * SCRIPT_FILENAME is told.
   */
  readonly upgrade?: boolean | undefined
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
 * Behind an HTTP server of `node:http` a client that asks for another protocol, a WebSocket for one, gets its connection passed
 * through to the application, with a connection to that of its own: see `upgrade`. `headTimeout` holds until the application has
 * taken it, and nothing after that. The bytes that a client sends before it has got the 101 are lost; those of WebSockets wait.
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
        Effect.flatMap((answer) => answer.handOver ?? Effect.succeed(toResponse(answer))),
        Effect.catchTags({
          FastCgiClientError: (error) => failed(request, error, errorPage),
          RequestRefused: (error) => refuse(request, error, errorPage)
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
 * Options of `php` and `layerPhp`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiPhpOptions<E = never, R = never>
  extends FastCgiPhpFromPoolOptions, FastCgiPool.FastCgiPoolOptions<E, R>
{}

/**
 * Options of `phpFromPool` and `layerPhpFromPool`. Paths are decoded, begin with "/", and are paths below `root`: "/uploads".
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiPhpFromPoolOptions
  extends Omit<FastCgiGatewayFromPoolOptions, "scriptFilename" | "scriptName">
{
  /** The directory of the site. It has to be there when the gateway is made. */
  readonly root: string
  /** What php-fpm calls that directory, where it runs elsewhere, such as in a container. Default: `root`. */
  readonly documentRoot?: string | undefined
  /** The path that the site has in URLs, such as "/wiki". Default "/". */
  readonly prefix?: string | undefined
  /** What a directory shows: the first of these names that is a file. Default `["index.php", "index.html"]`. */
  readonly index?: ReadonlyArray<string> | undefined
  /**
   * The script that answers where there is neither a file nor a directory, as `try_files $uri $uri/ /index.php` of nginx.
   * Default none: 404.
   */
  readonly frontController?: string | undefined
  /** What names of scripts end in. php-fpm has a list of its own, `security.limit_extensions`. Default `[".php"]`. */
  readonly extensions?: ReadonlyArray<string> | undefined
  /** How files are shown that are no scripts, or `false` where none are. Default: with a type by their extension. */
  readonly static?: boolean | FastCgiPhpStaticOptions | undefined
  /** Paths that are 404 for everybody, with all that is below: configuration, data, libraries. Default none. */
  readonly deny?: ReadonlyArray<string> | undefined
  /** Paths below which no script runs, such as where visitors upload files. Default none. */
  readonly noScripts?: ReadonlyArray<string> | undefined
  /** Whether symbolic links below `root` may lead out of it. Default false. `root` itself may be a link. */
  readonly followSymlinks?: boolean | undefined
  /**
   * Directories whose files only scripts may send, by the paths in URLs that stand for them: with
   * `{ "/protected": "/srv/files" }`, `X-Accel-Redirect: /protected/a.pdf` and `X-Sendfile: /srv/files/a.pdf` send
   * /srv/files/a.pdf. Default none.
   */
  readonly internal?: Readonly<Record<string, string>> | undefined
}

/**
 * How files are shown.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiPhpStaticOptions {
  /** Content types by extension, without the dot, besides the usual ones. */
  readonly mimeTypes?: Readonly<Record<string, string>> | undefined
  /** The Cache-Control header of every file. Default none. */
  readonly cacheControl?: string | undefined
}

/**
 * Creates the HTTP app of a PHP site, to be served by any `HttpServer`. What `make` does it does for scripts; besides, it decides
 * what runs and shows files.
 *
 * **Details**
 *
 * Fails with a `PlatformError` where `root`, or a directory of `internal`, is not there.
 *
 * The path of the URL is resolved as nginx does it, and then
 *
 * - a path with a segment that ends in `.php` runs that script, and what follows is PATH_INFO. No such file: 404.
 * - a file is shown, with a type, ranges and conditional requests (Effect's `HttpStaticServer`). It takes GET and HEAD only.
 * - a directory without the slash redirects, 301 or for other methods 308; with it, the first of `index` answers, or 404.
 * - anything else runs `frontController`, or is 404.
 *
 * Scripts get the URL of the client as REQUEST_URI, with the prefix; SCRIPT_NAME with the prefix; SCRIPT_FILENAME and
 * DOCUMENT_ROOT without. A body of unknown length is gathered, see `gatherBody`.
 *
 * Never shown are: sources of scripts and copies of them, by any name that means one (`.php`, `.PHP`, `.phtml`, `.inc`, `.php~`,
 * `.php.bak`); hidden files and what is in hidden directories, but `/.well-known`; what is not a file. Links are followed to their
 * end and judged by their real names too. What is in doubt is 404.
 *
 * `X-Accel-Redirect` of a script is followed to `internal`, or to what the URL is for everybody else, as a GET; 10 times at most.
 * The file has the script's headers but those of its body. Cookies are kept.
 *
 * Pages for visitors say the status and no more. Why is in the log: errors, and what PHP writes to STDERR, as warnings with the
 * annotations `request` (method and URL) and `script`.
 *
 * **Example** (A site, and what else this server does)
 *
 * ```ts
 * import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
 * import { FastCgiGateway } from "effect-fastcgi/client"
 * import { NodeFastCgiConnector } from "effect-fastcgi/node"
 * import * as Effect from "effect/Effect"
 * import * as HttpServer from "effect/http/HttpServer"
 * import * as Layer from "effect/Layer"
 * import { createServer } from "node:http"
 *
 * const site = FastCgiGateway.php({
 *   connect: NodeFastCgiConnector.connect({ path: "/run/php/php-fpm.sock" }),
 *   root: "/srv/blog",
 *   frontController: "/index.php",
 *   noScripts: ["/uploads"]
 * })
 *
 * export const server = Layer.unwrap(Effect.map(site, (app) => HttpServer.serve(app))).pipe(
 *   Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 8080 }))
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const php = <E = never, R = never>(
  options: FastCgiPhpOptions<E, R>
): Effect.Effect<
  FastCgiGateway,
  PlatformError,
  Exclude<R, Scope.Scope> | FileSystem | HttpPlatform | Path | Scope.Scope
> => Effect.flatMap(FastCgiPool.make(options), (pool) => phpFromPool(pool, options))

/**
 * Creates the HTTP app of a PHP site over a pool that others may use, too. See `php`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const phpFromPool = (
  pool: FastCgiPool.FastCgiPool,
  options: FastCgiPhpFromPoolOptions
): Effect.Effect<FastCgiGateway, PlatformError, FileSystem | HttpPlatform | Path> =>
  Effect.gen(function*() {
    const paths = (paths: ReadonlyArray<string> = []) => paths.map(toPath)
    const forward = makeForward(
      pool[PoolTypeId],
      { ...options, gatherBody: options.gatherBody ?? true },
      yield* Effect.serviceOption(FileSystem)
    )
    const answer = yield* makeSite({
      root: options.root,
      documentRoot: options.documentRoot,
      prefix: toPath(options.prefix ?? ""),
      index: options.index ?? ["index.php", "index.html"],
      frontController: options.frontController === undefined ? undefined : toPath(options.frontController),
      extensions: options.extensions ?? [".php"],
      files: options.static === false ? undefined : options.static === true ? {} : options.static ?? {},
      deny: paths(options.deny),
      noScripts: paths(options.noScripts),
      followSymlinks: options.followSymlinks ?? false,
      internal: options.internal ?? {},
      params: options.params
    }, forward)
    return Effect.flatMap(HttpServerRequest.HttpServerRequest, answer)
  })

/**
 * Adds a PHP site to the `HttpRouter` of the context, at `prefix`. Routes that say more come first, so a site moves route by route:
 * what TypeScript answers by now, and PHP for the rest. See `php`. The router has 404 for a path that is no UTF-8.
 *
 * **Example** (A new route beside an old site)
 *
 * ```ts
 * import { FastCgiGateway } from "effect-fastcgi/client"
 * import { NodeFastCgiConnector } from "effect-fastcgi/node"
 * import * as HttpRouter from "effect/http/HttpRouter"
 * import * as HttpServerResponse from "effect/http/HttpServerResponse"
 * import * as Layer from "effect/Layer"
 *
 * export const routes = Layer.mergeAll(
 *   HttpRouter.add("GET", "/search", HttpServerResponse.text("found by Effect")),
 *   FastCgiGateway.layerPhp({
 *     connect: NodeFastCgiConnector.connect({ path: "/run/php/php-fpm.sock" }),
 *     root: "/srv/shop",
 *     frontController: "/index.php"
 *   })
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerPhp = <E = never, R = never>(
  options: FastCgiPhpOptions<E, R>
): Layer.Layer<
  never,
  PlatformError,
  Exclude<R, Scope.Scope> | FileSystem | HttpPlatform | HttpRouter.HttpRouter | Path
> => Layer.effectDiscard(Effect.flatMap(FastCgiPool.make(options), (pool) => addPhp(pool, options)))

/**
 * Adds a PHP site to the `HttpRouter` of the context, over the pool of the context. See `layerPhp`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerPhpFromPool = (
  options: FastCgiPhpFromPoolOptions
): Layer.Layer<
  never,
  PlatformError,
  FastCgiPool.FastCgiPool | FileSystem | HttpPlatform | HttpRouter.HttpRouter | Path
> => Layer.effectDiscard(Effect.flatMap(FastCgiPool.FastCgiPool, (pool) => addPhp(pool, options)))

/**
 * How the application is asked, from settings of the environment: those of `FastCgiHttpClient.config`, and
 * `FASTCGI_UPSTREAM_SERVER_NAME` for `serverName`, `FASTCGI_UPSTREAM_UPGRADE` for `upgrade`.
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<FastCgiGatewaySettings> = Config.map(
  Config.all([
    FastCgiHttpClient.config,
    Settings.text("FASTCGI_UPSTREAM_SERVER_NAME"),
    Settings.flag("FASTCGI_UPSTREAM_UPGRADE")
  ]),
  ([upstream, serverName, upgrade]) => ({ ...upstream, serverName, upgrade })
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

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// "/a" of "/a/" and "a"; nothing of "/".
const toPath = (path: string): string => path.split("/").map((name) => name === "" ? "" : "/" + name).join("")

const addPhp = Effect.fnUntraced(function*(pool: FastCgiPool.FastCgiPool, options: FastCgiPhpFromPoolOptions) {
  const router = yield* HttpRouter.HttpRouter
  const app = Effect.catch(yield* phpFromPool(pool, options), HttpServerRespondable.toResponse)
  // The bare prefix is among it.
  yield* router.add("*", `${toPath(options.prefix ?? "") as "/"}/*`, app)
})
