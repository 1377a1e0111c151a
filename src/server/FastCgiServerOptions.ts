/**
 * The limits and timeouts of a server, with their defaults.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import { defaultMaxParamsCount, defaultMaxParamsSize } from "../protocol/FastCgiParams.ts"
import type { ConnectionLimits } from "./internal/application.ts"
import * as Settings from "./internal/settings.ts"

/**
 * Options of a server. Sizes are bytes.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiServerOptions {
  /**
   * The most that all params of a request may take; beyond, it is answered with 431 when they have ended, and its connection
   * is closed when twice as much comes. Default 1 MiB.
   */
  readonly maxParamsSize?: number | undefined
  /** The most params of a request; beyond, it is answered with 431. Default 10,000. */
  readonly maxParamsCount?: number | undefined
  /**
   * Requests that are open at the same time on one connection; further ones are refused as those above `maxRequests` are.
   * Default `"unbounded"`: `maxRequests` of the admission holds for all connections together.
   */
  readonly maxRequestsPerConnection?: number | "unbounded" | undefined
  /**
   * Requests of all connections that have begun and whose params are not complete. Web servers send params in one go, so
   * peers that exceed it mean no good: of the connections that have most of these requests, the one is closed that has had
   * some for longest. Default 1024.
   */
  readonly maxRequestsInParams?: number | undefined
  /**
   * Unread input at which a connection stops reading that carries one request only (no KEEP_CONN), while its handler reads.
   * When the handler has read nothing for a second, `maxBufferedInput` holds: behind the input may be the news that the web
   * server has given the request up. Default 64 KiB.
   */
  readonly inputHighWaterMark?: number | undefined
  /** Unread input of all requests of a connection at which it stops reading. Default 1 MiB. */
  readonly maxBufferedInput?: number | undefined
  /**
   * How long unread input may hold up the other requests on its connection, or a response that the peer does not take
   * before it has sent everything; then that input is dropped. Default 30 seconds.
   */
  readonly stallTimeout?: Duration.Input | undefined
  /** Output that the peer has not taken at which writers wait. Default 64 KiB. */
  readonly outputHighWaterMark?: number | undefined
  /** How long the params of a request may take to arrive; beyond, it is answered with 408. Default 30 seconds. */
  readonly paramsTimeout?: Duration.Input | undefined
  /**
   * How long a handler may take to begin its response, from the end of the params on, a wait for `concurrency` included.
   * Then the request is answered with 503 and its fiber interrupted. A response that has begun may take as long as it
   * wants. Default `"unbounded"`.
   */
  readonly handlerTimeout?: Duration.Input | "unbounded" | undefined
  /**
   * How long a connection may be open without a request; then it is closed. Default `"unbounded"`, because the web server
   * owns its connections (SPEC 3.5). One that keeps them has to keep them for a shorter time, or its next request may meet
   * the close.
   */
  readonly idleTimeout?: Duration.Input | "unbounded" | undefined
  /**
   * How long the peer may take nothing of the output that waits for it; then its connection is reset and its requests are
   * interrupted. Default `"unbounded"`: a web server whose client is slow takes nothing either, until it gives its client
   * up (nginx's `send_timeout`, 60 seconds).
   */
  readonly writeTimeout?: Duration.Input | "unbounded" | undefined
  /**
   * How long a connection that is being closed may stay open while the peer takes nothing, or still owes input. One that
   * owes nothing has a second to close its end. Default 30 seconds.
   */
  readonly lingerTimeout?: Duration.Input | undefined
  /**
   * Whether requests go on when the peer half-closes its connection. By default that aborts them: nginx, lighttpd and
   * Caddy say in no other way that their client is gone. A request that is complete and can be answered at once is
   * answered in any case.
   */
  readonly allowHalfOpen?: boolean | undefined
  /** Whether a connection may carry more than one request at a time; otherwise CANT_MPX_CONN. Default true. */
  readonly multiplexing?: boolean | undefined
  /**
   * What FCGI_GET_VALUES answers besides FCGI_MAX_CONNS, FCGI_MAX_REQS and FCGI_MPXS_CONNS, whose values are those that are
   * enforced (SPEC 4.1). Default nothing.
   */
  readonly values?: Readonly<Record<string, string>> | undefined
  /**
   * How requests above `maxRequests` are refused: with a complete answer, `Status: 503`, or with the protocol status
   * OVERLOADED, on which HAProxy closes the connection with all its requests. An Authorizer gets a denial in both cases.
   * Default `"status"`.
   */
  readonly overload?: "status" | "protocolStatus" | undefined
  /** How long shutting down waits for requests that are running before it interrupts them. Default 20 seconds. */
  readonly gracefulShutdownTimeout?: Duration.Input | undefined
  /** Interrupts running requests at once when shutting down, and leaves the listener listening. Default false. */
  readonly disablePreemptiveShutdown?: boolean | undefined
}

/**
 * The options from settings of the environment, each of which may be left out: `FASTCGI_MAX_PARAMS_SIZE` for
 * `maxParamsSize` and so on. Sizes are bytes or have a unit (`64 KiB`), durations have a unit (`30 seconds`).
 *
 * **Example** (A server that is configured by its environment)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import { FastCgiResponse, FastCgiServer, FastCgiServerOptions } from "effect-fastcgi"
 *
 * export const HelloLive = Layer.unwrap(Effect.map(FastCgiServerOptions.config, (options) =>
 *   FastCgiServer.serve({ responder: Effect.succeed(FastCgiResponse.make("Hello\n")) }, options)))
 * ```
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<FastCgiServerOptions> = Config.all({
  maxParamsSize: Settings.size("FASTCGI_MAX_PARAMS_SIZE"),
  maxParamsCount: Settings.count("FASTCGI_MAX_PARAMS_COUNT"),
  maxRequestsPerConnection: Settings.countOrUnbounded("FASTCGI_MAX_REQUESTS_PER_CONNECTION"),
  maxRequestsInParams: Settings.count("FASTCGI_MAX_REQUESTS_IN_PARAMS"),
  inputHighWaterMark: Settings.size("FASTCGI_INPUT_HIGH_WATER_MARK"),
  maxBufferedInput: Settings.size("FASTCGI_MAX_BUFFERED_INPUT"),
  stallTimeout: Settings.duration("FASTCGI_STALL_TIMEOUT"),
  outputHighWaterMark: Settings.size("FASTCGI_OUTPUT_HIGH_WATER_MARK"),
  paramsTimeout: Settings.duration("FASTCGI_PARAMS_TIMEOUT"),
  handlerTimeout: Settings.durationOrUnbounded("FASTCGI_HANDLER_TIMEOUT"),
  idleTimeout: Settings.durationOrUnbounded("FASTCGI_IDLE_TIMEOUT"),
  writeTimeout: Settings.durationOrUnbounded("FASTCGI_WRITE_TIMEOUT"),
  lingerTimeout: Settings.duration("FASTCGI_LINGER_TIMEOUT"),
  allowHalfOpen: Settings.flag("FASTCGI_ALLOW_HALF_OPEN"),
  multiplexing: Settings.flag("FASTCGI_MULTIPLEXING"),
  overload: Settings.oneOf("FASTCGI_OVERLOAD", ["status", "protocolStatus"]),
  gracefulShutdownTimeout: Settings.duration("FASTCGI_GRACEFUL_SHUTDOWN_TIMEOUT"),
  disablePreemptiveShutdown: Settings.flag("FASTCGI_DISABLE_PREEMPTIVE_SHUTDOWN")
})

/** @internal */
export const toLimits = (
  options: FastCgiServerOptions | undefined
): ConnectionLimits & { readonly maxRequestsInParams: number } => ({
  maxParamsSize: options?.maxParamsSize ?? defaultMaxParamsSize,
  maxParamsCount: options?.maxParamsCount ?? defaultMaxParamsCount,
  maxRequestsInParams: options?.maxRequestsInParams ?? 1024,
  inputHighWaterMark: options?.inputHighWaterMark ?? 64 * 1024,
  maxBufferedInput: options?.maxBufferedInput ?? 1024 * 1024,
  stallTimeout: Duration.toMillis(options?.stallTimeout ?? Duration.seconds(30)),
  // With none at all nobody would ever write.
  outputHighWaterMark: Math.max(options?.outputHighWaterMark ?? 64 * 1024, 1),
  paramsTimeout: Duration.toMillis(options?.paramsTimeout ?? Duration.seconds(30)),
  idleTimeout: millisOrUnbounded(options?.idleTimeout),
  writeTimeout: millisOrUnbounded(options?.writeTimeout),
  lingerTimeout: Duration.toMillis(options?.lingerTimeout ?? Duration.seconds(30)),
  allowHalfOpen: options?.allowHalfOpen ?? false
})

/** @internal */
export const handlerTimeout = (options: FastCgiServerOptions): number => millisOrUnbounded(options.handlerTimeout)

const millisOrUnbounded = (timeout: Duration.Input | "unbounded" | undefined): number =>
  timeout === undefined || timeout === "unbounded" ? Infinity : Duration.toMillis(timeout)
