/**
 * Connections to one FastCGI application or to several: kept, shared, limited and chosen. The clients and the gateway send their requests
 * over a pool.
 *
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { FastCgiTransport } from "../connection/FastCgiTransport.ts"
import * as Settings from "../settings/settings.ts"
import type { FastCgiClient } from "./FastCgiClient.ts"
import * as Pool from "./internal/pool.ts"
import { pooledRequest } from "./internal/pooledRequest.ts"
import { withSettings } from "./internal/settings.ts"

/**
 * One of several applications that do the same work.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiUpstream<E = never, R = never> {
  /** Opens a connection. */
  readonly connect: Effect.Effect<FastCgiTransport, E, R>
  /** Its name in the log, in `statesUnsafe` and in the attribute `upstream` of metrics. Default none. */
  readonly name?: string | undefined
  /** Its share of all requests, compared with the weights of the others. Default 1. */
  readonly weight?: number | undefined
  /** How many connections to it are open at most. Default as of the pool. */
  readonly maxConnections?: number | undefined
}

/**
 * Pings, which check from time to time whether upstreams are alive, besides their answers to requests. Each ping has a connection of its
 * own, which counts towards `maxConnections`. No ping is sent while all connections are in use.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiPing {
  /** How long until the next ping. Default 10 seconds. */
  readonly interval?: Duration.Input | undefined
  /** How long the answer may take. Default 5 seconds. */
  readonly timeout?: Duration.Input | undefined
  /**
   * The params of the request. Any complete answer with a status below 500 means that the upstream is alive. Default: `GET /ping`, which
   * is php-fpm's `ping.path`. A php-fpm without it answers 404, and logs that.
   */
  readonly params?: Readonly<Record<string, string>> | undefined
}

/**
 * Options of `make` and `layer`, and of everything that has a pool of its own.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiPoolOptions<E = never, R = never> {
  /**
   * Opens a connection; or several upstreams, chosen in turn, by weight. Each connection is closed with the scope of the pool, or when no
   * further request can use it.
   */
  readonly connect: Effect.Effect<FastCgiTransport, E, R> | Arr.NonEmptyReadonlyArray<FastCgiUpstream<E, R>>
  /**
   * Whether connections are kept for further requests (SPEC 5.1). php-fpm gives a worker to each kept connection, idle or not.
   * Default false.
   */
  readonly keepConnection?: boolean | undefined
  /** How many requests a connection may carry at the same time; above 1 the application must multiplex. Default 1. */
  readonly maxRequests?: number | undefined
  /**
   * How many connections to an upstream are open at most; further requests wait, in order. For php-fpm, use at most `pm.max_children`, over
   * all processes that keep connections to it. Default: no limit.
   */
  readonly maxConnections?: number | undefined
  /** How many requests may wait for a connection. One more fails with `PoolFull`. Default 10,000. */
  readonly maxWaiting?: number | undefined
  /** How long a request may wait for a connection before it fails with `PoolTimeout`. Default 60 seconds. */
  readonly waitTimeout?: Duration.Input | undefined
  /** How many idle connections to an upstream are kept ready, opened in advance. Default none. */
  readonly minIdle?: number | undefined
  /** How many idle connections to an upstream are kept. Default 16. */
  readonly maxIdle?: number | undefined
  /** How long an idle connection is kept. It may stay up to twice as long. Default 60 seconds. */
  readonly idleTimeout?: Duration.Input | undefined
  /** How many requests a connection carries in all. It is closed after the last one. Default: no limit. */
  readonly maxRequestsPerConnection?: number | undefined
  /** How long connecting may take, if `connect` does not give up before. Default 30 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /**
   * How often an upstream may fail within `failTimeout` before it is left out for `failTimeout`, like nginx's `max_fails`. It fails when it
   * cannot be connected to, closes before it has answered, does not answer in time, or does not speak FastCGI. After that time one request
   * tries it, and the others follow if that went well. Has no effect with one upstream. When all have failed, all are tried. Default 1.
   */
  readonly maxFails?: number | "unbounded" | undefined
  /** See `maxFails`; nginx's `fail_timeout`. Default 10 seconds. */
  readonly failTimeout?: Duration.Input | undefined
  /**
   * How often a request that may run twice is sent again when the new connection that it went out on was lost. Default 1. 0 means never, as
   * in nginx, Go's `net/http` and undici with one server. A new connection is lost for a reason, and the reason may be the request: a script
   * that kills its worker then kills another one. But php-fpm stops its workers in the middle of their requests when it restarts, and the
   * operating system does so when memory is short. Without a repeat, a reload under load would cost visitors their pages. Apart from this
   * option, a request that is lost with a kept connection is sent again once on a new one, as in all of these programs.
   */
  readonly maxRepeats?: number | undefined
  /**
   * How long such a request waits before it is sent again, when every upstream has lost it. While php-fpm restarts, a worker that is about
   * to be stopped may take the lost request of another one. Default 100 milliseconds.
   */
  readonly repeatDelay?: Duration.Input | undefined
  /** Pings upstreams to see whether they are alive. Default: no pings. */
  readonly ping?: FastCgiPing | undefined
}

/**
 * The state of an upstream.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiUpstreamState {
  readonly name: string | undefined
  /** Connections that are open, including idle ones. */
  readonly connections: number
  readonly idle: number
  /** Connections that are being opened. */
  readonly opening: number
  /** Whether the upstream is chosen, or is left out because it has failed. */
  readonly usable: boolean
}

/**
 * A pool: a client whose requests go out on any free connection.
 *
 * **Details**
 *
 * `request` waits for a connection, at most `waitTimeout`. Then it returns as soon as the application has begun to answer, or at once for a
 * request that is never sent again. Interrupting it leaves the queue, or gives up the request.
 *
 * A request is sent again when its connection was lost before any byte of an answer, and when it may run twice: its method says so
 * (RFC 9110 §9.2.2) or it is an Authorizer's, and its body is in memory. A kept connection that was lost is replaced at once by a new one.
 * When a new one is lost, the request is sent again up to `maxRepeats` times: to another upstream, or after `repeatDelay`, when a php-fpm
 * that restarts has new workers. So by default a script that kills its worker runs twice, or three times if the first connection was a kept
 * one. A POST never runs more than once. A request also goes to another upstream when one cannot be connected to, and, with a body in
 * memory, when one refuses it as overloaded.
 *
 * Any other request goes out on a kept connection that has been idle for 50 ms, or on a new connection that replaces one that has not.
 * php-fpm closes a connection a moment after the last answer of a worker (`pm.max_requests`).
 *
 * When the first request of a connection has had no answer for 100 ms, one idle connection is closed, and one more after each further
 * 100 ms, because php-fpm may have no other worker for that request.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiPool extends FastCgiClient {
  /** @internal */
  readonly [Pool.PoolTypeId]: Pool.Pool
  /** The state of each upstream, in their order. */
  readonly statesUnsafe: () => ReadonlyArray<FastCgiUpstreamState>
  /** How many requests wait for a connection. */
  readonly waitingUnsafe: () => number
}

/**
 * The pool of the context, for several clients and gateways to share.
 *
 * @category services
 * @since 0.1.0
 */
export const FastCgiPool: Context.Service<FastCgiPool, FastCgiPool> = Context.Service<FastCgiPool>(
  "effect-fastcgi/FastCgiPool"
)

/**
 * Creates a pool. Its connections are closed with the scope. Requests that still wait or run then fail with `Closed`.
 *
 * **Example** (Two php-fpm; the second gets a third of the requests)
 *
 * ```ts
 * import { FastCgiPool } from "effect-fastcgi/client"
 * import { NodeFastCgiConnector } from "effect-fastcgi/node"
 *
 * export const pool = FastCgiPool.make({
 *   connect: [
 *     { name: "a", connect: NodeFastCgiConnector.connect({ host: "10.0.0.1", port: 9000 }), weight: 2 },
 *     { name: "b", connect: NodeFastCgiConnector.connect({ host: "10.0.0.2", port: 9000 }) }
 *   ],
 *   keepConnection: true,
 *   maxConnections: 8
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <E = never, R = never>(
  options: FastCgiPoolOptions<E, R>
): Effect.Effect<FastCgiPool, never, Exclude<R, Scope.Scope> | Scope.Scope> => Effect.map(Pool.make(options), toPool)

/**
 * Provides a pool. See `make`.
 *
 * **Example** (An HTTP client and a raw client that share their connections)
 *
 * ```ts
 * import { FastCgiClient, FastCgiHttpClient, FastCgiPool } from "effect-fastcgi/client"
 * import { NodeFastCgiConnector } from "effect-fastcgi/node"
 * import * as Layer from "effect/Layer"
 *
 * export const Clients = Layer.mergeAll(
 *   FastCgiHttpClient.layerFromPool({ documentRoot: "/srv/www" }),
 *   FastCgiClient.layerFromPool
 * ).pipe(Layer.provide(FastCgiPool.layer({
 *   connect: NodeFastCgiConnector.connect({ path: "/run/php/php-fpm.sock" }),
 *   keepConnection: true,
 *   maxConnections: 4
 * })))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <E = never, R = never>(
  options: FastCgiPoolOptions<E, R>
): Layer.Layer<FastCgiPool, never, Exclude<R, Scope.Scope>> => Layer.effect(FastCgiPool, make(options))

/**
 * The options of `layerConfig`: all but `connect`, which is code, and `ping`.
 *
 * @category options
 * @since 0.1.0
 */
export type FastCgiPoolSettings = Omit<FastCgiPoolOptions, "connect" | "ping">

/**
 * The options of a pool from settings of the environment, each of which may be left out: `FASTCGI_UPSTREAM_MAX_CONNECTIONS` for
 * `maxConnections` and so on. Durations have a unit (`30 seconds`).
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<FastCgiPoolSettings> = Config.all({
  keepConnection: Settings.flag("FASTCGI_UPSTREAM_KEEP_CONNECTION"),
  maxRequests: Settings.count("FASTCGI_UPSTREAM_MAX_REQUESTS"),
  maxConnections: Settings.count("FASTCGI_UPSTREAM_MAX_CONNECTIONS"),
  maxWaiting: Settings.count("FASTCGI_UPSTREAM_MAX_WAITING"),
  waitTimeout: Settings.duration("FASTCGI_UPSTREAM_WAIT_TIMEOUT"),
  minIdle: Settings.count("FASTCGI_UPSTREAM_MIN_IDLE"),
  maxIdle: Settings.count("FASTCGI_UPSTREAM_MAX_IDLE"),
  idleTimeout: Settings.duration("FASTCGI_UPSTREAM_IDLE_TIMEOUT"),
  maxRequestsPerConnection: Settings.count("FASTCGI_UPSTREAM_MAX_REQUESTS_PER_CONNECTION"),
  connectTimeout: Settings.duration("FASTCGI_UPSTREAM_CONNECT_TIMEOUT"),
  maxFails: Settings.countOrUnbounded("FASTCGI_UPSTREAM_MAX_FAILS"),
  failTimeout: Settings.duration("FASTCGI_UPSTREAM_FAIL_TIMEOUT"),
  maxRepeats: Settings.countOrNone("FASTCGI_UPSTREAM_MAX_REPEATS"),
  repeatDelay: Settings.duration("FASTCGI_UPSTREAM_REPEAT_DELAY")
})

/**
 * Provides the same as `layer`, with options from `config`, or from another `Config` value. Options that are given come first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = <E = never, R = never>(
  options: FastCgiPoolOptions<E, R>,
  settings: Config.Wrap<FastCgiPoolSettings> = config
): Layer.Layer<FastCgiPool, Config.ConfigError, Exclude<R, Scope.Scope>> =>
  Layer.unwrap(Effect.map(Config.unwrap(settings), (settings) => layer(withSettings(options, settings))))

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const toPool = (pool: Pool.Pool): FastCgiPool => ({
  [Pool.PoolTypeId]: pool,
  request: (request) => pooledRequest(pool, request),
  statesUnsafe: () => pool.connections.statesUnsafe(),
  waitingUnsafe: () => pool.connections.state.waiting.size
})
