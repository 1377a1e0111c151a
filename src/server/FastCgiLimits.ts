/**
 * Every limit and timeout of a server, as data: its name, its default, and what happens beyond it. The options of servers,
 * admissions and listeners, their settings of the environment, the limits that metrics count and the tables of the
 * documentation are made of these lists. So a new limit is one entry here and the place that enforces it.
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
  /** What the limit is a number of. */
  readonly unit: "count" | "bytes" | "duration"
  /** The value of an option that is left out; `"unbounded"` is no limit. */
  readonly default: number | Duration.Input | "unbounded"
  /** Whether the option may be `"unbounded"`. */
  readonly unbounded: boolean
  /** What happens beyond the limit. */
  readonly beyond: string
  /** Whether `FastCgiMetrics.limitsReached` counts how often the limit is reached. */
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
    beyond: "a connection is accepted, and not read until another one has closed",
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
   * Requests that a connection carries in all. After the last one the server closes the connection as in a stop, so the web
   * server loses no request. Default `"unbounded"`, because the web server owns its connections (SPEC 3.5). With several
   * processes on one socket, this limit spreads kept connections over the processes anew.
   */
  maxRequestsPerConnection: {
    unit: "count",
    default: "unbounded",
    unbounded: true,
    beyond: "the connection closes after its last request",
    counted: false
  },
  /**
   * Requests of all connections that have begun and whose params are not complete. Web servers send params in one go, so only
   * a hostile peer exceeds this limit. The server closes the connection that has most of these requests; of several, the one
   * that has had some for longest. Default 1024.
   */
  maxRequestsInParams: {
    unit: "count",
    default: 1024,
    unbounded: false,
    beyond:
      "counts all connections; the connection with most of these requests is closed, because no web server begins so many " +
      "and finishes none",
    counted: true
  },
  /**
   * The most that all params of a request may take, in bytes. Beyond it, the request is answered with 431 when its params have
   * ended. When twice as much comes, its connection is closed. Default 1 MiB.
   */
  maxParamsSize: {
    unit: "bytes",
    default: defaultMaxParamsSize,
    unbounded: false,
    beyond: "431; the connection is closed after twice as much",
    counted: true
  },
  /** The most params of a request; beyond it, the request is answered with 431. Default 10,000. */
  maxParamsCount: { unit: "count", default: defaultMaxParamsCount, unbounded: false, beyond: "431", counted: true },
  /**
   * The most that the body of a request, its STDIN, may take, in bytes. Reading more fails with `BodyTooLarge`; where the body
   * announces its length, the first read fails. When a handler does not catch that error, the answer is 413. In an HTTP app
   * this limit holds beside `MaxBodySize`, and for `stream` as well. Default `"unbounded"`: the web server has a limit of its
   * own (nginx's `client_max_body_size`, 1 MiB).
   */
  maxBodySize: {
    unit: "bytes",
    default: "unbounded",
    unbounded: true,
    beyond: "413, unless the handler answers something else",
    counted: true
  },
  /** How long the params of a request may take to arrive; beyond it, the request is answered with 408. Default 30 seconds. */
  paramsTimeout: { unit: "duration", default: "30 seconds", unbounded: false, beyond: "408", counted: true },
  /**
   * How long a handler may take to begin its response, from the end of the params on, including a wait for `concurrency`.
   * Beyond it, the request is answered with 503 and its fiber is interrupted. A response that has begun has no limit.
   * Default `"unbounded"`.
   */
  handlerTimeout: {
    unit: "duration",
    default: "unbounded",
    unbounded: true,
    beyond: "503, and the handler is interrupted; a response that has begun has no limit",
    counted: true
  },
  /**
   * Unread input, in bytes, at which a connection that carries one request only (no KEEP_CONN) stops reading while its handler
   * reads. When the handler has read nothing for a second, `maxBufferedInput` holds instead, so that an abort behind that
   * input is seen. Default 64 KiB.
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
    beyond: "the connection is not read until its handlers have read",
    counted: false
  },
  /**
   * How long unread input may hold up the other requests on its connection, or a response that the peer takes only after it
   * has sent everything. Beyond it, that input is dropped. Default 30 seconds.
   */
  stallTimeout: {
    unit: "duration",
    default: "30 seconds",
    unbounded: false,
    beyond: "the input that holds up other requests is dropped",
    counted: true
  },
  /** Output that the peer has not taken, in bytes, at which writers wait. Default 64 KiB. */
  outputHighWaterMark: {
    unit: "bytes",
    default: 64 * 1024,
    unbounded: false,
    beyond: "a response waits until the peer has taken some of it",
    counted: false
  },
  /**
   * How long the peer may take nothing of the output that waits for it. Beyond it, the connection is reset and its requests
   * are interrupted. Default `"unbounded"`: a web server whose client is slow takes nothing either, until it gives up that
   * client (nginx's `send_timeout`, 60 seconds).
   */
  writeTimeout: {
    unit: "duration",
    default: "unbounded",
    unbounded: true,
    beyond: "a connection whose peer takes nothing is reset",
    counted: true
  },
  /**
   * How long a connection may be open without a request; beyond it, the connection is closed. Default `"unbounded"`, because
   * the web server owns its connections (SPEC 3.5). A web server that keeps connections must keep them for a shorter time.
   * Otherwise its next request may meet the close.
   */
  idleTimeout: {
    unit: "duration",
    default: "unbounded",
    unbounded: true,
    beyond: "a connection without a request is closed",
    counted: true
  },
  /**
   * How long a closing connection may stay open while the peer takes nothing, or when it owed input when the connection began to
   * close: what comes then is not decoded, so nobody knows when all has come. A peer that owed nothing has a second to close its
   * end. Default 30 seconds.
   */
  lingerTimeout: {
    unit: "duration",
    default: "30 seconds",
    unbounded: false,
    beyond: "a closing connection whose peer does not close its end is cut off",
    counted: false
  },
  /**
   * Effects of `FastCgiServer.afterResponse` that wait for their response, or run, at the same time. Beyond it, an effect runs
   * at once, and its response waits for it. Default 1024.
   */
  maxAfterResponse: {
    unit: "count",
    default: 1024,
    unbounded: true,
    beyond: "further work is done before its response",
    counted: true
  },
  /** How long shutting down waits for requests that are running before it interrupts them. Default 20 seconds. */
  gracefulShutdownTimeout: {
    unit: "duration",
    default: "20 seconds",
    unbounded: false,
    beyond:
      "requests that still run are interrupted and answered with 503; output that peers have not taken within another " +
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
   * How many connections the operating system completes and holds until they are accepted. Linux caps the number at
   * `net.core.somaxconn`. Default 511.
   */
  backlog: {
    unit: "count",
    default: 511,
    unbounded: false,
    beyond: "the operating system lets a new connection wait, or refuses it",
    counted: false
  },
  /**
   * How long a peer may take for the header of the PROXY protocol and the handshake of TLS, where the listener asks for them.
   * Default 10 seconds.
   */
  handshakeTimeout: {
    unit: "duration",
    default: "10 seconds",
    unbounded: false,
    beyond: "a connection that has not finished its PROXY header and its TLS handshake is closed",
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
   * How often the server pings a client. A browser answers by itself, so both directions stay alive: lighttpd closes a
   * connection that is silent for a minute. A client that has not answered by the next ping is gone. Default 25 seconds.
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
    beyond: "the connection is closed without the client's Close frame",
    counted: false
  },
  /** The longest message that a client may send, uncompressed, in bytes. Memory holds a whole message. Default 32 MiB. */
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
  /** About how many requests a worker takes; the supervisor counts them ten times a second. Default `"unbounded"`. */
  maxRequestsPerWorker: {
    unit: "count",
    default: "unbounded",
    unbounded: true,
    beyond: "a worker is replaced: first its successor serves, then the worker finishes its requests and ends",
    counted: false
  },
  /** Resident memory of a worker, in bytes, measured once a second. Default `"unbounded"`. */
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
    beyond: "the worker is killed and counts as failed; a reload stops, and the old workers serve on",
    counted: false
  },
  /**
   * How long a worker may take to end when it was told to end. Must be longer than the server's `gracefulShutdownTimeout`.
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
   * How long the event loop of a worker may stand still. A worker tells the supervisor once a second that it is alive.
   * Default 30 seconds.
   */
  unresponsiveTimeout: {
    unit: "duration",
    default: "30 seconds",
    unbounded: true,
    beyond: "the worker is killed and another one is started; the requests of the killed one are lost",
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
  /** The time over which `emergencyThreshold` counts failures. Default 60 seconds. */
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
