/**
 * php-fpm's own pages: its status, typed and as OpenMetrics, and its ping. php-fpm itself answers them, without a script and without a
 * web server.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as CgiResponse from "../cgi/CgiResponse.ts"
import { concat } from "../protocol/internal/bytes.ts"
import type { FastCgiClient } from "./FastCgiClient.ts"
import type { FastCgiClientError } from "./FastCgiClientError.ts"
import { fail } from "./internal/failures.ts"

/**
 * The pool has no such page: `pm.status_path` or `ping.path` is not set, or is another path. php-fpm takes the path for a script's, and
 * answers 404 with "Primary script unknown" on STDERR, or 403.
 *
 * @category models
 * @since 0.1.0
 */
export interface NotConfigured {
  readonly _tag: "NotConfigured"
  /** The path that was asked for. */
  readonly path: string
  /** The status of the answer: 404 or 403. */
  readonly status: number
}

/**
 * The answer is not the page: it has another status, another content type, or another body. `cause` may say more.
 *
 * @category models
 * @since 0.1.0
 */
export interface UnexpectedAnswer {
  readonly _tag: "UnexpectedAnswer"
  /** The path that was asked for. */
  readonly path: string
  /** The status of the answer. */
  readonly status: number
}

/**
 * A page of php-fpm could not be read, although the connection works. `message` says why in plain words.
 *
 * @category errors
 * @since 0.1.0
 */
export class FastCgiPhpError extends Data.TaggedError("FastCgiPhpError")<{
  readonly reason: NotConfigured | UnexpectedAnswer
  readonly message: string
  readonly cause?: unknown
}> {}

/**
 * PHP's texts on STDERR when a script dies, for `catchStderr`. PHP writes them where `log_errors` is on and `error_log` is not set. They
 * include uncaught exceptions, and the limits of time and memory (`max_execution_time`, `memory_limit`). After `request_terminate_timeout`
 * PHP writes nothing: that is a `ConnectionLost`.
 *
 * **Example** (A client that fails with PHP's message)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { FastCgiHttpClient, FastCgiPhp } from "effect-fastcgi/client"
 * import { NodeFastCgiConnector } from "effect-fastcgi/node"
 *
 * // TransportError: the application failed: PHP message: PHP Fatal error:  Allowed memory size of 134217728 bytes exhausted …
 * export const page = Effect.gen(function*() {
 *   const client = yield* FastCgiHttpClient.make({
 *     connect: NodeFastCgiConnector.connect({ path: "/run/php/php-fpm.sock" }),
 *     documentRoot: "/srv/www",
 *     catchStderr: FastCgiPhp.fatalErrors
 *   })
 *   const response = yield* client.get("http://example.com/report.php")
 *   return yield* response.text
 * }).pipe(Effect.scoped)
 * ```
 *
 * @category constants
 * @since 0.1.0
 */
export const fatalErrors: ReadonlyArray<string> = [
  "PHP Fatal error:",
  "PHP Parse error:",
  "PHP Recoverable fatal error:"
]

/**
 * A worker of a pool. Before its first request, its texts are "-" and its numbers 0. The encoded names are those of php-fpm, "request
 * duration" for `requestDuration`.
 *
 * @category schemas
 * @since 0.1.0
 */
export const FastCgiPhpProcess = Schema.Struct({
  pid: Schema.Int,
  /** "Idle", "Running", "Reading headers", "Getting request informations", "Ending", "Finishing" or "Creating". */
  state: Schema.String,
  /** When the worker was started, in seconds since 1970. */
  startTime: Schema.Finite,
  /** Seconds since the start. */
  startSince: Schema.Finite,
  /** How many requests the worker has served, this one included. */
  requests: Schema.Finite,
  /** How long the request has been running, or how long the last one took, in microseconds. */
  requestDuration: Schema.Finite,
  requestMethod: Schema.String,
  /** SCRIPT_NAME and QUERY_STRING of the request, cut where they are long. */
  requestUri: Schema.String,
  /** Bytes of the request's body. */
  contentLength: Schema.Finite,
  /** PHP_AUTH_USER. */
  user: Schema.String,
  script: Schema.String,
  /** Percent of a CPU that the last request took; 0 while one runs. */
  lastRequestCpu: Schema.Finite,
  /** Bytes of memory that the last request took at most; 0 while one runs. */
  lastRequestMemory: Schema.Finite
}).pipe(Schema.encodeKeys({
  startTime: "start time",
  startSince: "start since",
  requestDuration: "request duration",
  requestMethod: "request method",
  requestUri: "request uri",
  contentLength: "content length",
  lastRequestCpu: "last request cpu",
  lastRequestMemory: "last request memory"
}))

/**
 * @category models
 * @since 0.1.0
 */
export type FastCgiPhpProcess = typeof FastCgiPhpProcess.Type

/**
 * The status of a pool, from `pm.status_path` with "?json&full", php-fpm 8.2. The encoded names are those of php-fpm, "start since" for
 * `startSince`, so other tools can read the encoded form.
 *
 * @category schemas
 * @since 0.1.0
 */
export const FastCgiPhpStatus = Schema.Struct({
  /** The name of the pool. */
  pool: Schema.String,
  /** `pm`. */
  processManager: Schema.Literals(["static", "dynamic", "ondemand"]),
  /** When php-fpm was started or reloaded, in seconds since 1970. */
  startTime: Schema.Finite,
  /** Seconds since the start. */
  startSince: Schema.Finite,
  /** Connections that were accepted. */
  acceptedConn: Schema.Finite,
  /** Connections that wait for a worker now. Linux does not know this number for a UNIX socket: 0. */
  listenQueue: Schema.Finite,
  /** The most connections that ever waited. */
  maxListenQueue: Schema.Finite,
  /** How many connections may wait: `listen.backlog`. 0 for a UNIX socket. */
  listenQueueLen: Schema.Finite,
  idleProcesses: Schema.Finite,
  /** Workers with a connection, including the worker that answered. */
  activeProcesses: Schema.Finite,
  totalProcesses: Schema.Finite,
  /** The most workers that were ever active. */
  maxActiveProcesses: Schema.Finite,
  /** How often `pm.max_children` kept php-fpm from starting another worker; of "dynamic" and "ondemand". */
  maxChildrenReached: Schema.Finite,
  /** Requests that took longer than `request_slowlog_timeout`. */
  slowRequests: Schema.Finite,
  /** The most memory that a request took, in bytes. Since 8.4. */
  memoryPeak: Schema.optionalKey(Schema.Finite),
  /** The workers. None unless `full`. */
  processes: Schema.Array(FastCgiPhpProcess).pipe(Schema.withDecodingDefaultKey(Effect.succeed([])))
}).pipe(Schema.encodeKeys({
  processManager: "process manager",
  startTime: "start time",
  startSince: "start since",
  acceptedConn: "accepted conn",
  listenQueue: "listen queue",
  maxListenQueue: "max listen queue",
  listenQueueLen: "listen queue len",
  idleProcesses: "idle processes",
  activeProcesses: "active processes",
  totalProcesses: "total processes",
  maxActiveProcesses: "max active processes",
  maxChildrenReached: "max children reached",
  slowRequests: "slow requests",
  memoryPeak: "memory peak"
}))

/**
 * @category models
 * @since 0.1.0
 */
export type FastCgiPhpStatus = typeof FastCgiPhpStatus.Type

/**
 * Options of `status`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiPhpStatusOptions {
  /** `pm.status_path` of the pool. Default "/status". */
  readonly path?: string | undefined
  /** Whether the status has the workers, with the URLs of their requests. Default true. */
  readonly full?: boolean | undefined
  /** How long the answer may take: all workers may be busy. Default 5 seconds. */
  readonly timeout?: Duration.Input | undefined
}

/**
 * Options of `ping`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiPhpPingOptions {
  /** `ping.path` of the pool. Default "/ping". */
  readonly path?: string | undefined
  /** `ping.response` of the pool; another answer is an `UnexpectedAnswer`. Default: any. */
  readonly response?: string | undefined
  /** How long the answer may take: all workers may be busy. Default 5 seconds. */
  readonly timeout?: Duration.Input | undefined
}

/**
 * Asks php-fpm for the status of its pool. Interrupting gives up the request.
 *
 * **Details**
 *
 * Fails with a `FastCgiPhpError` when the answer is not the page, `NotConfigured` when the pool has none. Fails with a
 * `FastCgiClientError` without an answer: `Timeout` after `timeout`, and the others as in `request` of the client.
 *
 * The status takes a worker like any request. If the pool has a `pm.status_listen`, connect there instead.
 *
 * **Example** (How busy a pool is)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { FastCgiClient, FastCgiPhp } from "effect-fastcgi/client"
 * import { NodeFastCgiConnector } from "effect-fastcgi/node"
 *
 * export const busy = Effect.gen(function*() {
 *   const client = yield* FastCgiClient.make({ connect: NodeFastCgiConnector.connect({ path: "/run/php/php-fpm.sock" }) })
 *   const { activeProcesses, totalProcesses } = yield* FastCgiPhp.status(client)
 *   return activeProcesses / totalProcesses
 * }).pipe(Effect.scoped)
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const status = (
  client: FastCgiClient,
  options: FastCgiPhpStatusOptions = {}
): Effect.Effect<FastCgiPhpStatus, FastCgiPhpError | FastCgiClientError> => {
  const path = options.path ?? "/status"
  return Effect.flatMap(
    page(client, path, options.full === false ? "json" : "json&full", "application/json", options.timeout),
    (text) =>
      Effect.mapError(
        decodeStatus(text),
        (cause) => unexpected(path, 200, "is no status of php-fpm 8.2 or later", cause)
      )
  )
}

/**
 * Asks php-fpm for its ping page, and returns the answer: "pong", unless `ping.response` says otherwise. Fails as `status` does.
 *
 * **Example** (A health check)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { FastCgiClient, FastCgiPhp } from "effect-fastcgi/client"
 * import { NodeFastCgiConnector } from "effect-fastcgi/node"
 *
 * export const healthy = Effect.gen(function*() {
 *   const client = yield* FastCgiClient.make({ connect: NodeFastCgiConnector.connect({ path: "/run/php/php-fpm.sock" }) })
 *   yield* FastCgiPhp.ping(client, { response: "pong", timeout: "2 seconds" })
 * }).pipe(Effect.scoped, Effect.isSuccess)
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const ping = (
  client: FastCgiClient,
  options: FastCgiPhpPingOptions = {}
): Effect.Effect<string, FastCgiPhpError | FastCgiClientError> => {
  const { path = "/ping", response } = options
  return Effect.flatMap(
    page(client, path, "", "text/plain", options.timeout),
    (text) =>
      response === undefined || text === response
        ? Effect.succeed(text)
        : Effect.fail(unexpected(path, 200, `is not ${JSON.stringify(response)}`))
  )
}

/**
 * The statuses of pools as OpenMetrics 1.0 text, for Prometheus and similar programs. Its Content-Type is
 * `application/openmetrics-text; version=1.0.0; charset=utf-8`.
 *
 * **Details**
 *
 * The names are those of php-fpm's own `?openmetrics` page and of php-fpm_exporter, so dashboards keep working. Every sample has the label
 * `pool`, and a worker's sample the label `child`, its place in the pool. Numbers that only grow have the type "unknown", because
 * OpenMetrics demands "_total" in the name of a counter. URLs, users and scripts of workers are left out.
 *
 * @category encoding
 * @since 0.1.0
 */
export const openMetrics = (statuses: FastCgiPhpStatus | ReadonlyArray<FastCgiPhpStatus>): string => {
  const pools = "pool" in statuses ? [statuses] : statuses
  let text = ""
  const family = (
    name: string,
    type: "gauge" | "unknown",
    help: string,
    samples: (status: FastCgiPhpStatus) => ReadonlyArray<readonly [labels: string, value: number]>
  ): void => {
    text += `# TYPE phpfpm_${name} ${type}\n# HELP phpfpm_${name} ${help}\n`
    for (const status of pools) {
      for (const [labels, value] of samples(status)) {
        text += `phpfpm_${name}{pool="${escapeLabel(status.pool)}"${labels}} ${value}\n`
      }
    }
  }
  for (const [name, type, help, value] of ofPools) family(name, type, help, (status) => [["", value(status)]])
  family("info", "gauge", "The process manager of the pool.", (status) => [
    [`,process_manager="${status.processManager}"`, 1]
  ])
  if (pools.some(({ memoryPeak }) => memoryPeak !== undefined)) {
    family(
      "memory_peak",
      "gauge",
      "The most memory that a request took, in bytes.",
      ({ memoryPeak }) => memoryPeak === undefined ? [] : [["", memoryPeak]]
    )
  }
  if (pools.some(({ processes }) => processes.length > 0)) {
    for (const [name, type, help, value] of ofProcesses) {
      family(name, type, help, ({ processes }) => processes.map((process, i) => [`,child="${i}"`, value(process)]))
    }
    family(
      "process_state",
      "gauge",
      "1 for the state that the worker is in.",
      ({ processes }) => processes.map(({ state }, i) => [`,child="${i}",state="${escapeLabel(state)}"`, 1])
    )
  }
  return `${text}# EOF\n`
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const defaultTimeout = 5_000

// A worker takes up to 1 KiB of the page.
const maxPageSize = 16 * 1024 * 1024

const decodeStatus = Schema.decodeUnknownEffect(Schema.fromJsonString(FastCgiPhpStatus))

const unexpected = (path: string, status: number, how: string, cause?: unknown): FastCgiPhpError =>
  new FastCgiPhpError({
    reason: { _tag: "UnexpectedAnswer", path, status },
    message: `the answer to ${path} ${how}`,
    cause
  })

const page = (
  client: FastCgiClient,
  path: string,
  query: string,
  contentType: string,
  timeout: Duration.Input | undefined
): Effect.Effect<string, FastCgiPhpError | FastCgiClientError> => {
  const duration = Duration.fromInputUnsafe(timeout ?? defaultTimeout)
  return Effect.gen(function*() {
    // php-fpm knows its pages by SCRIPT_NAME, and ignores a request without SCRIPT_FILENAME.
    const response = yield* client.request({
      params: [
        ["REQUEST_METHOD", "GET"],
        ["SCRIPT_NAME", path],
        ["SCRIPT_FILENAME", path],
        ["REQUEST_URI", query === "" ? path : `${path}?${query}`],
        ["QUERY_STRING", query],
        // `FastCgiStatus` has the same pages, but gives them only to clients of its host.
        ["REMOTE_ADDR", "127.0.0.1"],
        ["SERVER_PROTOCOL", "HTTP/1.1"],
        ["GATEWAY_INTERFACE", "CGI/1.1"]
      ]
    })
    const chunks: Array<Uint8Array> = []
    let size = 0
    yield* Stream.runForEachArray(response.stdout, (read) => {
      for (const chunk of read) size += chunk.length
      if (size > maxPageSize) return Effect.fail(unexpected(path, 200, `is longer than ${maxPageSize} bytes`))
      chunks.push(...read)
      return Effect.void
    })
    yield* response.end
    const parser = CgiResponse.makeHeadParser()
    const head = parser.push(concat(chunks)) ?? parser.end()
    if (head._tag === "CgiHeadError") {
      return yield* Effect.fail(
        fail({ _tag: "BadHead" }, `the answer to ${path} is not a CGI response: ${head.message}`, head)
      )
    }
    const { headers, rest, status } = head
    if (status === 404 || status === 403) {
      return yield* Effect.fail(
        new FastCgiPhpError({
          reason: { _tag: "NotConfigured", path, status },
          message: `the pool has no page ${path}: php-fpm took it for a script and answered ${status}`
        })
      )
    }
    const type = headers.find(([name]) => name.toLowerCase() === "content-type")?.[1] ?? ""
    if (status !== 200) return yield* Effect.fail(unexpected(path, status, `has status ${status}, not 200`))
    if (type.split(";", 1)[0].trim().toLowerCase() !== contentType) {
      return yield* Effect.fail(
        unexpected(path, status, `has another type than ${contentType}, so it is none of php-fpm`)
      )
    }
    return new TextDecoder().decode(rest)
  }).pipe(
    Effect.scoped,
    Effect.timeoutOrElse({
      duration,
      orElse: () =>
        Effect.fail(fail({ _tag: "Timeout" }, `php-fpm did not answer ${path} within ${Duration.format(duration)}`))
    })
  )
}

const escapeLabel = (value: string): string =>
  value.replaceAll("\\", "\\\\").replaceAll("\"", "\\\"").replaceAll("\n", "\\n")

type Family<A> = readonly [name: string, type: "gauge" | "unknown", help: string, value: (of: A) => number]

const ofPools: ReadonlyArray<Family<FastCgiPhpStatus>> = [
  ["up", "gauge", "Whether the pool answered.", () => 1],
  ["start_since", "unknown", "Seconds since php-fpm was started or reloaded.", (status) => status.startSince],
  ["accepted_connections", "unknown", "Connections that were accepted.", (status) => status.acceptedConn],
  ["listen_queue", "gauge", "Connections that wait for a worker.", (status) => status.listenQueue],
  ["max_listen_queue", "gauge", "The most connections that ever waited.", (status) => status.maxListenQueue],
  ["listen_queue_length", "gauge", "How many connections may wait.", (status) => status.listenQueueLen],
  ["idle_processes", "gauge", "Workers without a connection.", (status) => status.idleProcesses],
  ["active_processes", "gauge", "Workers with a connection.", (status) => status.activeProcesses],
  ["total_processes", "gauge", "Workers.", (status) => status.totalProcesses],
  ["max_active_processes", "gauge", "The most workers that were ever active.", (status) => status.maxActiveProcesses],
  ["max_children_reached", "unknown", "How often pm.max_children was reached.", (status) => status.maxChildrenReached],
  ["slow_requests", "unknown", "Requests beyond request_slowlog_timeout.", (status) => status.slowRequests]
]

const ofProcesses: ReadonlyArray<Family<FastCgiPhpProcess>> = [
  ["process_requests", "unknown", "Requests that the worker has served.", (process) => process.requests],
  [
    "process_request_duration",
    "gauge",
    "Microseconds of the worker's request, or of its last one.",
    (process) => process.requestDuration
  ],
  [
    "process_last_request_cpu",
    "gauge",
    "Percent of a CPU that the worker's last request took.",
    (process) => process.lastRequestCpu
  ],
  [
    "process_last_request_memory",
    "gauge",
    "Bytes of memory that the worker's last request took at most.",
    (process) => process.lastRequestMemory
  ]
]
