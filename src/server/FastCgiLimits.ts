/**
 * Every limit and timeout that a server has, as data: what it is called, what holds by default, and what happens beyond it.
 * The options of servers, admissions and listeners, their settings of the environment, the limits that metrics count and the
 * tables of the documentation are made of these lists, so that a new limit is one entry here and the place that enforces it.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import { defaultMaxParamsCount, defaultMaxParamsSize } from "../protocol/FastCgiParams.ts"

/**
 * One limit.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiLimitDefinition {
  /** What it is a number of. */
  readonly unit: "count" | "bytes" | "duration"
  /** What holds where nothing is said; `"unbounded"` is none. */
  readonly default: number | Duration.Input | "unbounded"
  /** Whether the option may be `"unbounded"`. */
  readonly unbounded: boolean
  /** What happens beyond it. */
  readonly beyond: string
  /** Whether `FastCgiMetrics.limitsReached` counts how often it is reached. */
  readonly counted: boolean
}

/**
 * The options that a list of limits makes: each may be left out.
 *
 * @category models
 * @since 0.1.0
 */
export type OptionsOf<List extends Readonly<Record<string, FastCgiLimitDefinition>>> = {
  readonly [Name in keyof List]?:
    | (List[Name]["unit"] extends "duration" ? Duration.Input : number)
    | (List[Name]["unbounded"] extends true ? "unbounded" : never)
    | undefined
}

/**
 * The names of the limits in a list that metrics count.
 *
 * @category models
 * @since 0.1.0
 */
export type CountedOf<List extends Readonly<Record<string, FastCgiLimitDefinition>>> = {
  [Name in keyof List]: List[Name]["counted"] extends true ? Name : never
}[keyof List]

/**
 * How much runs at once: the options of `FastCgiAdmission`.
 *
 * @category limits
 * @since 0.1.0
 */
export const admission = {
  /** Connections that are read at the same time; further ones are held unread. Default `"unbounded"`. */
  maxConnections: {
    unit: "count",
    default: "unbounded",
    unbounded: true,
    beyond: "a connection is accepted and not read until another one has closed",
    counted: true
  },
  /** Requests that are open at the same time; further ones are refused. Default 1024. */
  maxRequests: { unit: "count", default: 1024, unbounded: true, beyond: "503 at once", counted: true },
  /** Handlers that run at the same time; further ones wait, in order. Default `"unbounded"`. */
  concurrency: {
    unit: "count",
    default: "unbounded",
    unbounded: true,
    beyond: "the handler waits for its turn",
    counted: false
  }
} as const satisfies Readonly<Record<string, FastCgiLimitDefinition>>

/**
 * The limits and timeouts of `FastCgiServerOptions`.
 *
 * @category limits
 * @since 0.1.0
 */
export const server = {
  /**
   * Requests that are open at the same time on one connection; further ones are refused as those above `maxRequests` are.
   * Default `"unbounded"`: `maxRequests` of the admission holds for all connections together.
   */
  maxConcurrentRequestsPerConnection: {
    unit: "count",
    default: "unbounded",
    unbounded: true,
    beyond: "503 at once",
    counted: true
  },
  /**
   * Requests that a connection carries in all; after the last of them it is closed, as in a stop: the web server is told on
   * it, and loses no request. Default `"unbounded"`, because the web server owns its connections (SPEC 3.5). With several
   * processes on one socket it spreads the connections of a web server that keeps them over the processes anew.
   */
  maxRequestsPerConnection: {
    unit: "count",
    default: "unbounded",
    unbounded: true,
    beyond: "the connection closes after its last request",
    counted: false
  },
  /**
   * Requests of all connections that have begun and whose params are not complete. Web servers send params in one go, so
   * peers that exceed it mean no good: of the connections that have most of these requests, the one is closed that has had
   * some for longest. Default 1024.
   */
  maxRequestsInParams: {
    unit: "count",
    default: 1024,
    unbounded: false,
    beyond:
      "of all connections; the connection that has most of them is closed: no web server begins so many requests and " +
      "finishes none",
    counted: true
  },
  /**
   * The most that all params of a request may take, in bytes; beyond, it is answered with 431 when they have ended, and its
   * connection is closed when twice as much comes. Default 1 MiB.
   */
  maxParamsSize: {
    unit: "bytes",
    default: defaultMaxParamsSize,
    unbounded: false,
    beyond: "431; the connection is closed after twice as much",
    counted: true
  },
  /** The most params of a request; beyond, it is answered with 431. Default 10,000. */
  maxParamsCount: { unit: "count", default: defaultMaxParamsCount, unbounded: false, beyond: "431", counted: true },
  /**
   * The most that the body of a request may take, in bytes, which is its STDIN. To read more fails with `BodyTooLarge`, before
   * anything of the body is read where it announces its length; a handler that lets that pass is answered for with 413. For
   * an HTTP app it holds beside `MaxBodySize`, and for `stream` as well. Default `"unbounded"`: the web server has a limit of
   * its own (nginx's `client_max_body_size`, 1 MiB).
   */
  maxBodySize: {
    unit: "bytes",
    default: "unbounded",
    unbounded: true,
    beyond: "413, unless the handler answers something else",
    counted: true
  },
  /** How long the params of a request may take to arrive; beyond, it is answered with 408. Default 30 seconds. */
  paramsTimeout: { unit: "duration", default: "30 seconds", unbounded: false, beyond: "408", counted: true },
  /**
   * How long a handler may take to begin its response, from the end of the params on, a wait for `concurrency` included.
   * Then the request is answered with 503 and its fiber interrupted. A response that has begun may take as long as it
   * wants. Default `"unbounded"`.
   */
  handlerTimeout: {
    unit: "duration",
    default: "unbounded",
    unbounded: true,
    beyond: "503, and the handler is interrupted; a response that has begun has no limit",
    counted: true
  },
  /**
   * Unread input, in bytes, at which a connection stops reading that carries one request only (no KEEP_CONN), while its
   * handler reads. When the handler has read nothing for a second, `maxBufferedInput` holds: behind the input may be the news
   * that the web server has given the request up. Default 64 KiB.
   */
  inputHighWaterMark: {
    unit: "bytes",
    default: 64 * 1024,
    unbounded: false,
    beyond: "a connection that is not kept is not read for a second, unless its handler reads",
    counted: false
  },
  /** Unread input of all requests of a connection, in bytes, at which it stops reading. Default 1 MiB. */
  maxBufferedInput: {
    unit: "bytes",
    default: 1024 * 1024,
    unbounded: false,
    beyond: "the connection is not read until its handlers have",
    counted: false
  },
  /**
   * How long unread input may hold up the other requests on its connection, or a response that the peer does not take
   * before it has sent everything; then that input is dropped. Default 30 seconds.
   */
  stallTimeout: {
    unit: "duration",
    default: "30 seconds",
    unbounded: false,
    beyond: "the input that holds others up is dropped",
    counted: true
  },
  /** Output that the peer has not taken, in bytes, at which writers wait. Default 64 KiB. */
  outputHighWaterMark: {
    unit: "bytes",
    default: 64 * 1024,
    unbounded: false,
    beyond: "a response waits",
    counted: false
  },
  /**
   * How long the peer may take nothing of the output that waits for it; then its connection is reset and its requests are
   * interrupted. Default `"unbounded"`: a web server whose client is slow takes nothing either, until it gives its client
   * up (nginx's `send_timeout`, 60 seconds).
   */
  writeTimeout: {
    unit: "duration",
    default: "unbounded",
    unbounded: true,
    beyond: "a connection whose peer takes nothing is reset",
    counted: true
  },
  /**
   * How long a connection may be open without a request; then it is closed. Default `"unbounded"`, because the web server
   * owns its connections (SPEC 3.5). One that keeps them has to keep them for a shorter time, or its next request may meet
   * the close.
   */
  idleTimeout: {
    unit: "duration",
    default: "unbounded",
    unbounded: true,
    beyond: "a connection without a request is closed",
    counted: true
  },
  /**
   * How long a connection that is being closed may stay open while the peer takes nothing, or still owes input. One that
   * owes nothing has a second to close its end. Default 30 seconds.
   */
  lingerTimeout: {
    unit: "duration",
    default: "30 seconds",
    unbounded: false,
    beyond: "a connection that is being closed, and whose peer does not follow, is closed for good",
    counted: false
  },
  /**
   * Effects of `FastCgiServer.afterResponse` that wait for their response, or run, at the same time. What there is no room for
   * is done at once, and holds its response up. Default 1024.
   */
  maxAfterResponse: {
    unit: "count",
    default: 1024,
    unbounded: true,
    beyond: "the work is done before its response",
    counted: true
  },
  /** How long shutting down waits for requests that are running before it interrupts them. Default 20 seconds. */
  gracefulShutdownTimeout: {
    unit: "duration",
    default: "20 seconds",
    unbounded: false,
    beyond:
      "what still runs is interrupted and answered with 503; what peers do not take of their answers within another " +
      "second is dropped",
    counted: true
  }
} as const satisfies Readonly<Record<string, FastCgiLimitDefinition>>

/**
 * The limits of a listener that the operating system keeps.
 *
 * @category limits
 * @since 0.1.0
 */
export const listener = {
  /**
   * How many connections the operating system completes and holds until they are accepted. What it makes of the number is its
   * own business: Linux cuts it at `net.core.somaxconn`. Default 511.
   */
  backlog: {
    unit: "count",
    default: 511,
    unbounded: false,
    beyond: "the operating system lets a connection wait, or refuses it",
    counted: false
  },
  /**
   * How long a peer may take for what comes in front of FastCGI where that is asked for: the header of the PROXY protocol and the
   * handshake of TLS. Default 10 seconds.
   */
  handshakeTimeout: {
    unit: "duration",
    default: "10 seconds",
    unbounded: false,
    beyond: "a connection that has not begun with its PROXY header and its TLS handshake is closed",
    counted: false
  }
} as const satisfies Readonly<Record<string, FastCgiLimitDefinition>>

/**
 * The limits and timeouts of WebSockets.
 *
 * @category limits
 * @since 0.1.0
 */
export const webSocket = {
  /**
   * How often a client is pinged. A browser answers by itself, so that both directions show a sign of life: lighttpd closes what
   * is silent for a minute. A client that has not answered by the next one is gone. Default 25 seconds.
   */
  webSocketPingInterval: {
    unit: "duration",
    default: "25 seconds",
    unbounded: true,
    beyond: "a WebSocket whose client does not answer is closed, with 1006",
    counted: false
  },
  /** How long a client may take to answer our Close frame. Default 5 seconds. */
  webSocketCloseTimeout: {
    unit: "duration",
    default: "5 seconds",
    unbounded: false,
    beyond: "the connection is closed without its answer",
    counted: false
  },
  /** The longest message that a client may send, uncompressed, in bytes. It is held in memory as a whole. Default 32 MiB. */
  webSocketMaxMessageSize: {
    unit: "bytes",
    default: 32 * 1024 * 1024,
    unbounded: false,
    beyond: "the WebSocket is closed, with 1009",
    counted: false
  }
} as const satisfies Readonly<Record<string, FastCgiLimitDefinition>>

/**
 * The limits of workers, which their supervisor keeps (`NodeFastCgiWorkers`).
 *
 * @category limits
 * @since 0.1.0
 */
export const workers = {
  /** Requests that a worker takes; about so many, because they are counted ten times a second. Default `"unbounded"`. */
  maxRequestsPerWorker: {
    unit: "count",
    default: "unbounded",
    unbounded: true,
    beyond: "a worker is replaced: its successor serves first, then it finishes what runs and ends",
    counted: false
  },
  /** Resident memory of a worker, bytes, looked at once a second. Default `"unbounded"`. */
  maxMemoryPerWorker: {
    unit: "bytes",
    default: "unbounded",
    unbounded: true,
    beyond: "a worker is replaced in the same way",
    counted: false
  },
  /** How long a worker may take from its start until it serves. Default 60 seconds. */
  startTimeout: {
    unit: "duration",
    default: "60 seconds",
    unbounded: true,
    beyond: "the worker is killed, and has failed to start: a reload stops, and the old one serves on",
    counted: false
  },
  /**
   * How long a worker may take to end when it was told to. It has to be longer than the server's `gracefulShutdownTimeout`.
   * Default 30 seconds.
   */
  stopTimeout: {
    unit: "duration",
    default: "30 seconds",
    unbounded: true,
    beyond: "the worker is killed",
    counted: false
  },
  /**
   * How long the event loop of a worker may stand still: it says once a second that it is alive. Default 30 seconds.
   */
  unresponsiveTimeout: {
    unit: "duration",
    default: "30 seconds",
    unbounded: true,
    beyond: "the worker is killed and another one started; what it was running is lost",
    counted: false
  },
  /**
   * How many workers may fail to start, or end within a second after they serve, within `emergencyInterval` and while no
   * other one serves. Default 16.
   */
  emergencyThreshold: {
    unit: "count",
    default: 16,
    unbounded: true,
    beyond: "the supervisor gives up, and exits with 1",
    counted: false
  },
  /** What `emergencyThreshold` is counted over. Default 60 seconds. */
  emergencyInterval: {
    unit: "duration",
    default: "60 seconds",
    unbounded: false,
    beyond: "a failure is forgotten",
    counted: false
  }
} as const satisfies Readonly<Record<string, FastCgiLimitDefinition>>

/**
 * A limit or a timeout that is counted when it is reached, by the name of its option.
 *
 * @category models
 * @since 0.1.0
 */
export type FastCgiLimit = CountedOf<typeof admission> | CountedOf<typeof server>

/**
 * The setting of the environment for an option: `FASTCGI_MAX_PARAMS_SIZE` for `maxParamsSize`.
 *
 * @category naming
 * @since 0.1.0
 */
export const settingName = (option: string): string =>
  `FASTCGI_${option.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`

/**
 * The values that hold, as numbers: durations in milliseconds, `Infinity` for what is unbounded.
 *
 * @category accessors
 * @since 0.1.0
 */
export const resolve = <List extends Readonly<Record<string, FastCgiLimitDefinition>>>(
  list: List,
  options: OptionsOf<List> | undefined
): { readonly [Name in keyof List]: number } => {
  const resolved: Record<string, number> = {}
  for (const name of Object.keys(list)) {
    const { default: byDefault, unit } = list[name]
    const value = options?.[name] ?? byDefault
    resolved[name] = value === "unbounded"
      ? Infinity
      : unit === "duration"
      ? Duration.toMillis(value as Duration.Input)
      : Number(value)
  }
  return resolved as { readonly [Name in keyof List]: number }
}
