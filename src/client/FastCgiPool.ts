/**
 * Connections to one FastCGI application or to several, kept, shared, limited and chosen: what the clients and the gateway send
 * their requests over.
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
 * One of several applications that do the same.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiUpstream<E = never, R = never> {
  /** Opens a connection. */
  readonly connect: Effect.Effect<FastCgiTransport, E, R>
  /** What it is called in the log, in `statesUnsafe` and in the attribute `upstream` of metrics. Default none. */
  readonly name?: string | undefined
  /** How many of all requests it gets, compared with the weights of the others. Default 1. */
  readonly weight?: number | undefined
  /** How many connections to it are open at most. Default as of the pool. */
  readonly maxConnections?: number | undefined
}

/**
 * Whether upstreams are alive, asked from time to time, besides what their answers tell. Each ping has a connection of its own,
 * which is one of `maxConnections`; none is sent while all are in use.
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
   * The params of the request: any complete answer but one with a status of 500 and more is life. Default: `GET /ping`, which is
   * php-fpm's `ping.path`; a php-fpm without it answers 404, and notes that in its log.
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
   * Opens a connection; or the upstreams to choose from, in turn, by weight. Each connection is closed with the scope of the
   * pool, or when it is of no more use.
   */
  readonly connect: Effect.Effect<FastCgiTransport, E, R> | Arr.NonEmptyReadonlyArray<FastCgiUpstream<E, R>>
  /**
   * Whether connections are kept for further requests (SPEC 5.1). php-fpm gives a worker to each of them, idle or not.
   * Default false.
   */
  readonly keepConnection?: boolean | undefined
  /** How many requests a connection may carry at the same time; above 1 the application must multiplex. Default 1. */
  readonly maxRequests?: number | undefined
  /**
   * How many connections to an upstream are open at most; further requests wait, in order. For php-fpm no more than
   * `pm.max_children`, over all processes that keep connections to it. Default: no limit.
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
  /** How long an idle connection is kept, give or take as much again. Default 60 seconds. */
  readonly idleTimeout?: Duration.Input | undefined
  /** How many requests a connection carries in all: it is closed after the last one. Default: no limit. */
  readonly maxRequestsPerConnection?: number | undefined
  /** How long connecting may take, if `connect` does not give up before. Default 30 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /**
   * How often an upstream may fail within `failTimeout` before it is left out for `failTimeout`, as nginx's `max_fails`: it
   * cannot be connected to, is gone before it has answered, does not answer in time, or does not speak FastCGI. After
   * that one request tries it, and the others when that went well. Means nothing where there is one upstream; where all have
   * failed all are tried. Default 1.
   */
  readonly maxFails?: number | "unbounded" | undefined
  /** See `maxFails`; nginx's `fail_timeout`. Default 10 seconds. */
  readonly failTimeout?: Duration.Input | undefined
  /**
   * How often a request that may run twice is sent again when the connection that it has been lost with was new. Default 1; 0:
   * never, as nginx, Go's `net/http` and undici have it where there is one server. A connection that is new is lost for a reason,
   * and the request may be the reason: a script that kills its worker then kills another one. But php-fpm stops its workers in
   * the midst of their requests when it restarts, and so does the operating system when memory is short, so without a repeat a
   * reload under load costs visitors whose page could have been made. Besides that, a request that is lost with a kept connection is
   * sent again on a new one, once, as all of these do it.
   */
  readonly maxRepeats?: number | undefined
  /**
   * How long until such a request is sent again, where every upstream has lost it: while php-fpm restarts, a worker that is still
   * to be stopped may take what another one has lost. Default 100 milliseconds.
   */
  readonly repeatDelay?: Duration.Input | undefined
  /** Asks upstreams whether they are alive. Default: no. */
  readonly ping?: FastCgiPing | undefined
}

/**
 * How an upstream is.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiUpstreamState {
  readonly name: string | undefined
  /** Connections that are open, those that carry nothing among them. */
  readonly connections: number
  readonly idle: number
  /** Connections that are being opened. */
  readonly opening: number
  /** Whether it is chosen, or left out because it has failed. */
  readonly usable: boolean
}

/**
 * A pool: a client whose requests go out on whatever connection is free.
 *
 * **Details**
 *
 * `request` waits for a connection, as long as `waitTimeout`, and then returns as soon as the application has begun to answer,
 * or at once where the request is not sent again. Interrupting it leaves the queue, or gives the request up.
 *
 * A request is sent again when its connection was lost before anything had come of an answer, and when it may run twice: it has a
 * method that says so (RFC 9110 §9.2.2) or is an Authorizer's, and its body is in memory. A kept connection that was lost is
 * replaced at once by a new one. Where a new one is lost, the request is sent again up to `maxRepeats` times: to another upstream,
 * or after `repeatDelay`, when a php-fpm that restarts has new workers. So by default a script that kills its worker is run twice,
 * three times where the first connection was a kept one, and a POST never more than once. A request goes to another upstream as
 * well where one cannot be connected to, and, with a body in memory, where one refuses it as overloaded.
 *
 * Any other request goes out on a kept connection that has been idle for 50 ms, or on a new one in the place of one that has
 * not: php-fpm closes a connection a moment after the last answer of a worker (`pm.max_requests`).
 *
 * Idle connections are closed, one in 100 ms for each connection whose first request has had no answer for as long, because
 * php-fpm has no other worker for it.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiPool extends FastCgiClient {
  /** @internal */
  readonly [Pool.PoolTypeId]: Pool.Pool
  /** How each upstream is, in their order. */
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
 * Creates a pool. Its connections are closed with the scope; what still waits or runs fails with `Closed`.
 *
 * **Example** (Two php-fpm, the second for a third of the requests)
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
 * Provides what `layer` does, with options from `config`, or from another `Config` value, besides those that are given.
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
