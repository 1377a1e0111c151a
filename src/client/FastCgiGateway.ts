/**
 * HTTP in front of FastCGI: an Effect HTTP app that passes every request on to a FastCGI application, as a web server does. It can also
 * be the web server of a PHP site, which runs the scripts and shows the files.
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
import { toResponse, withoutAnswer } from "./internal/gatewayResponse.ts"
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
  /** The name of this server for the application: SERVER_NAME. Default: the host that the client asked for. */
  readonly serverName?: string | undefined
  /**
   * Whether a request for another protocol, such as a WebSocket, is passed on as lighttpd does. When the application answers 101, the
   * client's connection is passed through in both directions, on a connection to the application that counts like any other of the pool.
   * With `false`, the request goes out like any other, and the application does not see the upgrade. Default: true where no
   * SCRIPT_FILENAME is sent.
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
 * Bodies are streamed in both directions, as they come and no faster than they are taken. The application gets the request's `url`
 * (without a prefix that a router took off), its headers without hop-by-hop ones, and the addresses of the client's connection, as far as
 * the server knows them. Hop-by-hop headers of the response are dropped, and so are `X-Accel-*` headers, which are for nginx. Each
 * `Set-Cookie` stays a line of its own. The application's STDERR is logged as with `FastCgiHttpClient`.
 *
 * `FastCgiPool` says how requests share connections, wait for one, and are sent again. When the server traces a request, the application
 * gets a span of its own as HTTP_TRACEPARENT. Otherwise the client's traceparent passes.
 *
 * A client that goes away aborts its request, usually by closing the connection to the application. A response that is cut after its
 * head is cut for the client as well.
 *
 * Behind an HTTP server of `node:http`, the connection of a client that asks for another protocol, such as a WebSocket, is passed through
 * to the application, over a connection of its own: see `upgrade`. `headTimeout` holds until the application has accepted the upgrade, and
 * no limit holds after that. Bytes that a client sends before it has got the 101 are lost. WebSocket clients wait for the 101.
 *
 * Without a response, the client gets a page that says so in plain words: 503 when the application is overloaded or no connection gets
 * free, 504 when it takes longer than `connectTimeout`, `headTimeout` or `bodyTimeout`, and 502 otherwise. The error itself, which may name
 * the application's socket, is logged as a warning and is not on the page.
 *
 * The application sees the path as nginx resolves it, see `CgiParams.fromRequest`. A target that nginx refuses, such as one that leaves
 * the root, gets 400, and so does an invalid host.
 *
 * When a body stops for `bodyTimeout`, the client gets 408 or 504, depending on who caused the stop, or its response is cut if it has
 * begun. The HTTP server decides how long a client may take nothing of a response: `timeout` of node:http.
 *
 * A request's body may be as long as `MaxBodySize` of `HttpIncomingMessage`, by default 1 GiB. A longer body gets 413, at once if its
 * length is declared. A body of unknown length is gathered for php-fpm and CGI programs: see `gatherBody`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <E = never, R = never>(
  options: FastCgiGatewayOptions<E, R>
): Effect.Effect<FastCgiGateway, never, Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.flatMap(FastCgiPool.make(options), (pool) => fromPool(pool, options))

/**
 * Creates the HTTP app over a pool that others may share. See `make`.
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
      // A client that goes away interrupts, but `HttpServer.serve` alone would not let the interruption through.
      Effect.interruptible(Effect.matchEffect(forward(request), {
        onSuccess: (answer) => answer.handOver ?? Effect.succeed(toResponse(answer)),
        onFailure: (error) => withoutAnswer(request, error, errorPage)
      })))
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
  /** The directory of the site. It must exist when the gateway is made. */
  readonly root: string
  /** The path of that directory for a php-fpm that runs elsewhere, such as in a container. Default: `root`. */
  readonly documentRoot?: string | undefined
  /** The path that the site has in URLs, such as "/wiki". Default "/". */
  readonly prefix?: string | undefined
  /** The index of a directory: the first of these names that is a file. Default `["index.php", "index.html"]`. */
  readonly index?: ReadonlyArray<string> | undefined
  /**
   * The script that answers for paths without a file or a directory, like nginx's `try_files $uri $uri/ /index.php`. Default none: 404.
   */
  readonly frontController?: string | undefined
  /** The endings of scripts' names. php-fpm has a list of its own, `security.limit_extensions`. Default `[".php"]`. */
  readonly extensions?: ReadonlyArray<string> | undefined
  /** How files that are no scripts are shown, or `false` to show none. Default: with a type by their extension. */
  readonly static?: boolean | FastCgiPhpStaticOptions | undefined
  /** Paths that are 404 for everybody, with everything below: configuration, data, libraries. Default none. */
  readonly deny?: ReadonlyArray<string> | undefined
  /** Paths below which no script runs, such as a directory for uploads of visitors. Default none. */
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
 * Creates the HTTP app of a PHP site, to be served by any `HttpServer`. It treats scripts as `make` does. It also decides which requests
 * run a script, and shows files.
 *
 * **Details**
 *
 * Fails with a `PlatformError` when `root`, or a directory of `internal`, does not exist.
 *
 * The path of the URL is resolved as nginx does it, and then
 *
 * - a path with a segment that ends in `.php` runs that script, and the rest of the path is PATH_INFO. Without such a file: 404.
 * - a file is shown, with a type, ranges and conditional requests (Effect's `HttpStaticServer`). It takes GET and HEAD only.
 * - a directory without the slash redirects, with 301, or 308 for other methods. With the slash, the first of `index` answers, or 404.
 * - any other path runs `frontController`, or is 404.
 *
 * Scripts get the URL of the client as REQUEST_URI, with the prefix; SCRIPT_NAME with the prefix; SCRIPT_FILENAME and
 * DOCUMENT_ROOT without. A body of unknown length is gathered, see `gatherBody`.
 *
 * These are never shown: sources of scripts and copies of them, under any name that means one (`.php`, `.PHP`, `.phtml`, `.inc`, `.php~`,
 * `.php.bak`); hidden files and the content of hidden directories, except `/.well-known`; anything that is not a file. Links are followed
 * to their end and checked by their real names too. A doubtful path is 404.
 *
 * `X-Accel-Redirect` of a script is followed to `internal`, or to the same URL as for everybody else, as a GET, at most 10 times. The file
 * gets the script's headers, except those of its body. Cookies are kept.
 *
 * Pages for visitors show only the status. The reason is in the log: errors, and the STDERR of PHP, as warnings with the annotations
 * `request` (method and URL) and `script`.
 *
 * **Example** (A site beside other routes)
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
 * Creates the HTTP app of a PHP site over a pool that others may share. See `php`.
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
 * Adds a PHP site to the `HttpRouter` of the context, at `prefix`. More specific routes come first, so a site moves route by route: your
 * TypeScript routes answer, and PHP answers the rest. See `php`. The router answers 404 to a path that is not UTF-8.
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
 * Options of the gateway from settings of the environment: those of `FastCgiHttpClient.config`, `FASTCGI_UPSTREAM_SERVER_NAME` for
 * `serverName`, and `FASTCGI_UPSTREAM_UPGRADE` for `upgrade`.
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
 * Serves the gateway with options from `config`, or from another `Config` value. Options that are given come first. See
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
  // The prefix without a slash at its end counts too.
  yield* router.add("*", `${toPath(options.prefix ?? "") as "/"}/*`, app)
})
