/**
 * The status page on Node: `FastCgiStatus` with the figures of the process, and a port of its own.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as NodeHttp from "node:http"
import * as PerfHooks from "node:perf_hooks"
import * as FastCgiAccess from "../server/FastCgiAccess.ts"
import * as FastCgiLimits from "../server/FastCgiLimits.ts"
import type { FastCgiListenerError } from "../server/FastCgiListener.ts"
import * as FastCgiStatus from "../server/FastCgiStatus.ts"
import { setting } from "../settings/settings.ts"
import type { Bound } from "./internal/acceptor.ts"
import { addressForms, parseAddress } from "./internal/address.ts"
import { aHostName, isHostName, makeHostCheck } from "./internal/hostHeader.ts"
import { inetAddress } from "./internal/inetAddress.ts"
import { bindInet } from "./internal/inetSocket.ts"
import { listenQueue } from "./internal/listenQueue.ts"
import { http } from "./internal/nodeHttp.ts"
import { bindUnix } from "./internal/unixSocket.ts"
import { onPath, onPort } from "./internal/workers/messages.ts"
import { workerEnd } from "./internal/workers/workerEnd.ts"

/**
 * The socket on which the status pages are served over HTTP.
 *
 * @category options
 * @since 0.1.0
 */
export type NodeFastCgiStatusListen = { readonly port: number; readonly host?: string | undefined } | {
  readonly path: string
}

/**
 * Options of `layer`.
 *
 * @category options
 * @since 0.1.0
 */
export interface NodeFastCgiStatusOptions extends FastCgiStatus.FastCgiStatusOptions {
  /**
   * A port (on 127.0.0.1 unless `host` says another address) or a UNIX socket where the pages are served over HTTP as well. It answers
   * peers in `allow`, at any limit of the application (`pm.status_listen`). Default none.
   */
  readonly listen?: NodeFastCgiStatusListen | undefined
  /**
   * Names by which clients may ask for the pages on the port of `listen` (its Host header), beside addresses, `localhost`, the names below
   * that, and `host` of `listen`. A name with a dot in front (`.example.com`) stands for all names below it as well. So a web page whose
   * name resolves to an address of this host (DNS rebinding) gets no figures. Default none.
   */
  readonly allowedHosts?: ReadonlyArray<string> | undefined
}

/**
 * Adds a status page and a ping to the servers that the layer is provided to, as `FastCgiStatus.layer` does, with the memory,
 * the event loop and the sockets of this process.
 *
 * **Details**
 *
 * With `listen` the pages are served over HTTP too, from a socket of their own: `/status` and `/ping` unless the options say other
 * paths, and `/metrics`, which is the page as OpenMetrics. That socket takes no connection of `maxConnections`. Only peers in `allow`
 * get an answer (by default those of this host), and others get 403. So does a request whose Host header is a name that is not in
 * `allowedHosts`. With workers, all of them share the port, and any of them answers for all.
 *
 * **Example** (An app with php-fpm's pages, and a port for Prometheus)
 *
 * ```ts
 * import * as HttpRouter from "effect/http/HttpRouter"
 * import * as HttpServerResponse from "effect/http/HttpServerResponse"
 * import * as Layer from "effect/Layer"
 * import { NodeFastCgi, NodeFastCgiStatus } from "effect-fastcgi/node"
 *
 * const Routes = HttpRouter.add("GET", "/", HttpServerResponse.text("Hello"))
 *
 * export const Server = HttpRouter.serve(Routes).pipe(
 *   Layer.provide(NodeFastCgi.layer({ path: "/run/app/app.sock" })),
 *   Layer.provide(NodeFastCgiStatus.layer({ path: "/status", pingPath: "/ping", listen: { port: 9253 } }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: NodeFastCgiStatusOptions
): Layer.Layer<
  FastCgiStatus.FastCgiStatus,
  FastCgiStatus.FastCgiStatusError | FastCgiAccess.FastCgiAccessError | FastCgiListenerError
> => {
  const status = Layer.provide(FastCgiStatus.layer(options), layerProcess)
  const { listen } = options
  return listen === undefined ? status : Layer.provideMerge(layerListen({ ...options, listen }), status)
}

/**
 * The options from settings of the environment: those of `FastCgiStatus.config`, `FASTCGI_STATUS_LISTEN`, which is a port, an
 * address with a port or a path, and `FASTCGI_STATUS_ALLOWED_HOSTS`, which is names with commas between.
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<NodeFastCgiStatusOptions> = Config.map(
  Config.all([
    FastCgiStatus.config,
    setting("FASTCGI_STATUS_LISTEN", addressForms, parseAddress),
    setting("FASTCGI_STATUS_ALLOWED_HOSTS", `${aHostName}, with commas between`, (text) => {
      const names = text.split(",").map((name) => name.trim())
      return names.every(isHostName) ? names : undefined
    })
  ]),
  ([options, listen, allowedHosts]) => ({ ...options, listen, allowedHosts })
)

/**
 * Provides the same as `layer`, with options from a `Config` value. Default `config`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: Config.Wrap<NodeFastCgiStatusOptions> = config
): Layer.Layer<
  FastCgiStatus.FastCgiStatus,
  | FastCgiStatus.FastCgiStatusError
  | FastCgiAccess.FastCgiAccessError
  | FastCgiListenerError
  | Config.ConfigError
> => Layer.unwrap(Effect.map(Config.unwrap(options), layer))

/**
 * Serves the pages of a `FastCgiStatus` over HTTP, from a socket of their own: see `layer`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerListen = (
  options: NodeFastCgiStatusOptions & { readonly listen: NodeFastCgiStatusListen }
): Layer.Layer<
  never,
  FastCgiStatus.FastCgiStatusError | FastCgiListenerError | FastCgiAccess.FastCgiAccessError,
  FastCgiStatus.FastCgiStatus
> =>
  Layer.unwrap(Effect.gen(function*() {
    const access = yield* Effect.fromResult(
      FastCgiAccess.fromEntries(options.allow ?? ["127.0.0.0/8", "::1"], { unixSockets: true })
    )
    const status = yield* FastCgiStatus.FastCgiStatus
    const { allowedHosts = [], listen, path = "/status", pingPath = "/ping", pingResponse = "pong" } = options
    const wrong = allowedHosts.find((name) => !isHostName(name))
    if (wrong !== undefined) {
      return yield* new FastCgiStatus.FastCgiStatusError({
        reason: { _tag: "InvalidHost" },
        message: `allowedHosts has ${JSON.stringify(wrong)}: expected ${aHostName}`
      })
    }
    const isAllowedHost = makeHostCheck(
      "port" in listen && listen.host !== undefined ? [...allowedHosts, listen.host] : allowedHosts
    )
    const refusal = (remoteAddress: Option.Option<string>, host: string | undefined): string | undefined => {
      // What can open the socket may read the pages, and no browser opens one.
      if ("path" in listen) return undefined
      const peer = Option.getOrUndefined(inetAddress(Option.getOrUndefined(remoteAddress), 0))
      if (!FastCgiAccess.permits(access, peer)) {
        return "this address is not in `allow` of the status page (FASTCGI_STATUS_ALLOW)\n"
      }
      return isAllowedHost(host)
        ? undefined
        : "the name in Host is not in `allowedHosts` of the status page (FASTCGI_STATUS_ALLOWED_HOSTS)\n"
    }
    const app = Effect.gen(function*() {
      const { headers, method, remoteAddress, url } = yield* HttpServerRequest.HttpServerRequest
      const refused = refusal(remoteAddress, headers["host"])
      if (refused !== undefined) return HttpServerResponse.text(refused, { status: 403 })
      if (method !== "GET" && method !== "HEAD") return HttpServerResponse.empty({ status: 405 })
      const [asked, query = ""] = url.split("?", 2)
      if (asked === pingPath) return HttpServerResponse.text(pingResponse)
      if (asked !== path && asked !== "/metrics") return HttpServerResponse.text("404 Not Found\n", { status: 404 })
      const page = yield* status.page(asked === "/metrics" ? `openmetrics&${query}` : query)
      const { "Content-Type": contentType, ...others } = page.headers
      return HttpServerResponse.text(String(page.body), {
        contentType: String(contentType),
        headers: others
      })
    })
    // An app without this page starts without the modules of an HTTP server and of WebSockets.
    const NodeHttpServer = yield* Effect.promise(() => import("@effect/platform-node/NodeHttpServer"))
    return Layer.effectDiscard(Effect.gen(function*() {
      const server = http.createServer()
      server.on("request", yield* NodeHttpServer.makeHandler(app, { scope: yield* Effect.scope }))
      yield* Effect.acquireRelease(bind(server, listen), (bound) => close(server, bound))
    }))
  }))

/**
 * The figures of this process: `FastCgiStatus.FastCgiProcess` on Node.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerProcess: Layer.Layer<FastCgiStatus.FastCgiProcess> = Layer.effect(
  FastCgiStatus.FastCgiProcess,
  Effect.map(eventLoopDelay(), (eventLoopDelay) => ({
    pid: process.pid,
    startedAt: PerfHooks.performance.timeOrigin,
    memory: () => process.memoryUsage.rss(),
    cpu: () => {
      const { system, user } = process.cpuUsage()
      return (system + user) / 1000
    },
    eventLoopDelay,
    listenQueue: (address) => Option.map(listenQueue(address), (waiting) => ({ waiting, length: 0 }))
  }))
)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// As a listener binds it: a socket that a process has left behind is replaced, and workers share that of their supervisor.
const bind = (server: NodeHttp.Server, to: NodeFastCgiStatusListen): Effect.Effect<Bound, FastCgiListenerError> => {
  const backlog = FastCgiLimits.listener.backlog.default
  const worker = workerEnd()
  if ("path" in to) {
    const unix = { path: to.path, mode: undefined, owner: undefined, backlog, unlink: true }
    return worker === undefined ? bindUnix(server, unix) : worker.bind(server, onPath(unix), backlog)
  }
  const inet = { host: to.host ?? "127.0.0.1", port: to.port, ipv6Only: false, backlog }
  return worker === undefined ? bindInet(server, inet) : worker.bind(server, onPort(inet), backlog)
}

// In milliseconds: how long an answer that is being sent may take at the end.
const closeTimeout = 1000

const close = (server: NodeHttp.Server, bound: Bound): Effect.Effect<void> =>
  Effect.callback((resume) => {
    bound.unlink?.()
    const timer = setTimeout(() => server.closeAllConnections(), closeTimeout)
    server.close(() => {
      clearTimeout(timer)
      resume(Effect.void)
    })
    bound.closed?.()
  })

// Milliseconds.
const resolution = 20
const window = 1000

function eventLoopDelay() {
  return Effect.acquireRelease(
    Effect.sync(() => {
      const histogram = PerfHooks.monitorEventLoopDelay({ resolution })
      histogram.enable()
      let last = 0
      const timer = setInterval(() => {
        last = longest(histogram)
        histogram.reset()
      }, window).unref()
      return { delay: () => Math.max(last, longest(histogram)), histogram, timer }
    }),
    ({ histogram, timer }) =>
      Effect.sync(() => {
        clearInterval(timer)
        histogram.disable()
      })
  ).pipe(Effect.map(({ delay }) => delay))
}

// Node measures how long a timer of `resolution` takes, from when it was set.
const longest = (histogram: ReturnType<typeof PerfHooks.monitorEventLoopDelay>): number =>
  histogram.count === 0 ? 0 : Math.max(0, Math.round(histogram.max / 1e6) - resolution)
