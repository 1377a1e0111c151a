/**
 * The status page and the ping of a server, as in php-fpm: running requests, waiting ones, and the totals. The server itself answers
 * them over the sockets of the application, at any limit and whatever its handlers do.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Metric from "effect/Metric"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as CgiRequest from "../cgi/CgiRequest.ts"
import type { FastCgiParams } from "../protocol/FastCgiParams.ts"
import * as Settings from "../settings/settings.ts"
import * as FastCgiAccess from "./FastCgiAccess.ts"
import * as FastCgiMetrics from "./FastCgiMetrics.ts"
import * as FastCgiResponse from "./FastCgiResponse.ts"
import * as FastCgiWorkers from "./FastCgiWorkers.ts"
import type { Observation } from "./internal/observation.ts"
import { accessList, aPagePath, isPagePath, pagePath as pagePathSetting } from "./internal/settings.ts"
import { type OpenRequest, WorkerFigures } from "./internal/statusFigures.ts"
import * as StatusPage from "./internal/statusPage.ts"
import * as Watch from "./internal/watch.ts"

/**
 * Options of `layer`, with php-fpm's names for them.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiStatusOptions {
  /** The path of the status page, such as `/status` (`pm.status_path`). Default none: no page. */
  readonly path?: string | undefined
  /** The path of the ping, such as `/ping` (`ping.path`). Default none. */
  readonly pingPath?: string | undefined
  /** The answer of the ping (`ping.response`). Default `pong`. */
  readonly pingResponse?: string | undefined
  /**
   * Clients that get the pages: addresses and networks that REMOTE_ADDR is compared with. Others get the application's answer at these
   * paths. Default this host (`127.0.0.0/8`, `::1`), unless a header says that a proxy stands in front.
   */
  readonly allow?: ReadonlyArray<string> | undefined
  /** The name of the application on the page (the name of the pool). Default `www`. */
  readonly pool?: string | undefined
}

/**
 * Why the options are wrong:
 *
 * - `InvalidPath`: a path does not begin with "/", is only "/", or holds other characters than letters, digits, "/", "-", "_", "." and
 *   "~"
 * - `SamePath`: the page and the ping have the same path
 * - `InvalidHost`: an entry of `allowedHosts` (`NodeFastCgiStatus`) is not the name of a host
 *
 * @category errors
 * @since 0.1.0
 */
export type FastCgiStatusErrorReason =
  | { readonly _tag: "InvalidPath" }
  | { readonly _tag: "SamePath" }
  | { readonly _tag: "InvalidHost" }

/**
 * The options of the status page are wrong. `message` names the option and says what is expected.
 *
 * @category errors
 * @since 0.1.0
 */
export class FastCgiStatusError extends Data.TaggedError("FastCgiStatusError")<{
  readonly reason: FastCgiStatusErrorReason
  readonly message: string
}> {}

/**
 * Figures of the process, from the platform. `NodeFastCgiStatus.layer` provides it; without it the figures are 0.
 *
 * @category services
 * @since 0.1.0
 */
export class FastCgiProcess extends Context.Service<FastCgiProcess, {
  readonly pid: number
  /** When the process was started, in milliseconds since 1970. */
  readonly startedAt: number
  /** Resident memory, in bytes. */
  readonly memory: () => number
  /** User and system time so far, in milliseconds. */
  readonly cpu: () => number
  /** The longest delay of the event loop in the last second, in milliseconds. */
  readonly eventLoopDelay: () => number
  /** Connections that the operating system holds until they are accepted, and the largest possible number of them. */
  readonly listenQueue: (
    address: NetAddress.SocketAddress
  ) => Option.Option<{ readonly waiting: number; readonly length: number }>
}>()("effect-fastcgi/FastCgiStatus/FastCgiProcess") {}

/**
 * Adds a status page and a ping to the servers that the layer is provided to.
 *
 * **Details**
 *
 * The server answers Responder requests for these paths, by GET or HEAD. They pass every `maxRequests`, do not wait for `concurrency`,
 * and are not counted. The path is the one that the web server asks for, SCRIPT_NAME with PATH_INFO, as in php-fpm. So
 * `location = /status { include fastcgi_params; fastcgi_pass ...; }` is enough for nginx.
 *
 * The page is text. `?html`, `?json`, `?xml` and `?openmetrics` give other forms, and `?full` adds the processes and the open requests.
 * php-fpm's figures have php-fpm's names, so its tools read them.
 *
 * With workers (`NodeFastCgiWorkers`), any of them answers for all.
 *
 * **Access**
 *
 * Nobody gets a page by accident: REMOTE_ADDR must be set, and in `allow`. By default only this host is. A request from this host with
 * `X-Forwarded-For`, `Forwarded`, `X-Real-IP` or `Via` comes from elsewhere, through a proxy. All others get the application's answer at
 * that path. When a proxy on this host passes bytes on without such a header (HAProxy in TCP mode, `ssh -R`), all visitors have its
 * address. Then refuse the path in the web server, or use a port of its own (`NodeFastCgiStatus.layerListen`).
 *
 * **Example** (php-fpm's two pages)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import { FastCgiResponse, FastCgiServer, FastCgiStatus } from "effect-fastcgi"
 * import { NodeFastCgiListener } from "effect-fastcgi/node"
 *
 * export const HelloLive = FastCgiServer.serve({ responder: Effect.succeed(FastCgiResponse.make("Hello\n")) }).pipe(
 *   Layer.provide(NodeFastCgiListener.layerUnix({ path: "/run/hello.sock" })),
 *   Layer.provide(FastCgiStatus.layer({ path: "/status", pingPath: "/ping" }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: FastCgiStatusOptions
): Layer.Layer<FastCgiStatus, FastCgiStatusError | FastCgiAccess.FastCgiAccessError> =>
  Layer.effectContext(Effect.gen(function*() {
    const access = yield* Effect.fromResult(FastCgiAccess.fromEntries(options.allow ?? thisHost))
    const { path, pingPath } = options
    if (path !== undefined) yield* checkPath("path", path)
    if (pingPath !== undefined) yield* checkPath("pingPath", pingPath)
    if (path !== undefined && path === pingPath) {
      return yield* new FastCgiStatusError({
        reason: { _tag: "SamePath" },
        message: `the status page and the ping have the same path, ${path}. Give one of them another path.`
      })
    }
    const board = yield* makeBoard(options.pool ?? "www")
    const pong = Effect.succeed(FastCgiResponse.make(options.pingResponse ?? "pong", { headers: uncached }))
    const watcher: Watch.Watcher = {
      ...board.watcher,
      page({ params }) {
        const name = pagePath(params)
        if (name === undefined || (name !== path && name !== pingPath) || !mayRead(access, params)) return undefined
        return name === pingPath ? pong : board.service.page(params.getLatin1("QUERY_STRING") ?? "")
      }
    }
    const others = yield* Watch.places.status
    return Context.make(FastCgiStatus, board.service).pipe(
      Context.add(Watch.places.status, [...others, watcher])
    )
  }))

/**
 * The status of the servers that `layer` is provided to.
 *
 * @category services
 * @since 0.1.0
 */
export class FastCgiStatus extends Context.Service<FastCgiStatus, {
  /** The page for a query, such as `json&full`, over all workers. */
  readonly page: (query: string) => Effect.Effect<FastCgiResponse.FastCgiResponse>
}>()("effect-fastcgi/FastCgiStatus") {}

/**
 * The options from settings of the environment, each of which may be left out: `FASTCGI_STATUS_PATH`, `FASTCGI_PING_PATH`,
 * `FASTCGI_PING_RESPONSE`, `FASTCGI_STATUS_ALLOW` (addresses and networks, with commas between) and `FASTCGI_POOL`.
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<FastCgiStatusOptions> = Config.all({
  path: pagePathSetting("FASTCGI_STATUS_PATH"),
  pingPath: pagePathSetting("FASTCGI_PING_PATH"),
  pingResponse: Settings.text("FASTCGI_PING_RESPONSE"),
  allow: accessList("FASTCGI_STATUS_ALLOW"),
  pool: Settings.text("FASTCGI_POOL")
})

/**
 * Provides the same as `layer`, with options from a `Config` value. Default `config`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: Config.Wrap<FastCgiStatusOptions> = config
): Layer.Layer<FastCgiStatus, FastCgiStatusError | FastCgiAccess.FastCgiAccessError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), layer))

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const thisHost = ["127.0.0.0/8", "::1"]

const uncached = {
  "Expires": "Thu, 01 Jan 1970 00:00:00 GMT",
  "Cache-Control": "no-cache, no-store, must-revalidate, max-age=0"
}

const checkPath = (option: string, path: string): Effect.Effect<void, FastCgiStatusError> =>
  isPagePath(path) ? Effect.void : Effect.fail(
    new FastCgiStatusError({
      reason: { _tag: "InvalidPath" },
      message: `${option} ${JSON.stringify(path)}: expected ${aPagePath}`
    })
  )

const pagePath = (params: FastCgiParams): string | undefined => {
  const method = params.getLatin1("REQUEST_METHOD")
  if (method !== "GET" && method !== "HEAD" && method !== undefined) return undefined
  const script = params.getLatin1("SCRIPT_NAME") ?? ""
  const info = params.getLatin1("PATH_INFO") ?? ""
  // Some configurations name the whole path twice.
  return script === info ? script : script + info
}

// Headers that show that REMOTE_ADDR, an address of this host, is a proxy's.
const proxied = ["HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA"]

const mayRead = (access: FastCgiAccess.FastCgiAccess, params: FastCgiParams): boolean => {
  const client = Option.getOrUndefined(
    Result.getSuccess(NetAddress.inetAddressFromIpString(params.getLatin1("REMOTE_ADDR") ?? "", 0))
  )
  if (client === undefined || !FastCgiAccess.permits(access, client)) return false
  return !NetAddress.isLoopback(NetAddress.toCanonical(client).address) || !proxied.some((name) => params.has(name))
}

const topic: FastCgiWorkers.Topic<WorkerFigures> = FastCgiWorkers.topic("effect-fastcgi/status", WorkerFigures)

// Requests on a page. They are sorted, so the slowest ones are there.
const maxOpen = 1000
// Characters.
const maxText = 512

const makeBoard = (pool: string): Effect.Effect<
  { readonly service: FastCgiStatus["Service"]; readonly watcher: Watch.Watcher },
  never,
  Scope.Scope
> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<Scope.Scope>()
    const clock = yield* Clock.Clock
    const process = Context.getOption(context as Context.Context<never>, FastCgiProcess)
    const begun = clock.currentTimeMillisUnsafe()
    const startTime = Math.floor(
      Option.match(process, { onNone: () => begun, onSome: ({ startedAt }) => startedAt }) / 1000
    )
    const servers = new Set<Watch.WatchedServer>()
    let requestsOpen = 0
    let maxRequestsOpen = 0
    let maxListenQueue = 0
    const totals = FastCgiMetrics.totals(context)
    const count = (metric: Metric.Metric<number, { readonly count: number }>) => metric.valueUnsafe(context).count

    const report = Effect.sync((): WorkerFigures => {
      const open = [...servers].flatMap((server) => server.open().map(openRequest)).sort((a, b) =>
        b.duration - a.duration
      )
      const inState = (state: OpenRequest["state"]) => open.filter((one) => one.state === state).length
      return {
        pid: Option.match(process, { onNone: () => 0, onSome: ({ pid }) => pid }),
        startTime,
        requests: totals.requests,
        requestsOpen: totals.requestsOpen,
        requestsWaiting: inState("Waiting"),
        requestsRunning: inState("Running"),
        requestsResponding: inState("Responding"),
        maxRequestsOpen,
        requestsAborted: count(FastCgiMetrics.requestsAborted),
        requestsFailed: count(FastCgiMetrics.requestsFailed),
        requestsSlow: count(FastCgiMetrics.requestsSlow),
        connections: totals.connections,
        connectionsWaiting: [...servers].reduce((sum, server) => sum + server.connectionsHeld(), 0),
        connectionsAccepted: totals.connectionsAccepted,
        connectionsRefused: count(FastCgiAccess.refusedConnections),
        connectionErrors: count(FastCgiMetrics.connectionErrors),
        acceptFailures: count(FastCgiMetrics.acceptFailures),
        afterResponse: totals.afterResponse,
        afterResponseFailed: count(FastCgiMetrics.afterResponseFailed),
        limitsReached: Object.fromEntries(FastCgiMetrics.limitsReached.valueUnsafe(context).occurrences),
        memory: Option.match(process, { onNone: () => 0, onSome: ({ memory }) => memory() }),
        cpu: Option.match(process, { onNone: () => 0, onSome: ({ cpu }) => cpu() }),
        eventLoopDelay: Option.match(process, { onNone: () => 0, onSome: ({ eventLoopDelay }) => eventLoopDelay() }),
        open: open.slice(0, maxOpen)
      }
    })
    yield* FastCgiWorkers.report(topic, report)

    // The sockets are those of all workers: each sees the same queue.
    const listenQueue = () => {
      let waiting = 0
      let length = 0
      if (Option.isNone(process)) return { waiting, length }
      for (const { addresses } of servers) {
        for (const address of addresses) {
          const queue = Option.getOrUndefined(process.value.listenQueue(address))
          waiting += queue?.waiting ?? 0
          length += queue?.length ?? 0
        }
      }
      maxListenQueue = Math.max(maxListenQueue, waiting)
      return { waiting, length }
    }

    const page = (query: string) =>
      Effect.gen(function*() {
        const supervisor = Option.getOrUndefined(yield* FastCgiWorkers.supervisor)
        const workers = yield* FastCgiWorkers.gather(topic)
        const queue = listenQueue()
        const { body, contentType } = StatusPage.render({
          pool,
          now: Math.floor(clock.currentTimeMillisUnsafe() / 1000),
          startTime: supervisor === undefined ? startTime : Math.floor(supervisor.startedAt / 1000),
          listenQueue: queue.waiting,
          maxListenQueue,
          listenQueueLength: queue.length,
          supervisor,
          workers: workers.map(({ value }) => value)
        }, query)
        return FastCgiResponse.make(body, { headers: { "Content-Type": contentType, ...uncached } })
      }).pipe(Effect.provideContext(context))

    return {
      service: FastCgiStatus.of({ page }),
      watcher: {
        onServer(server) {
          servers.add(server)
          return () => servers.delete(server)
        },
        needsEnd: false,
        onAdmitted() {
          if (++requestsOpen > maxRequestsOpen) maxRequestsOpen = requestsOpen
        },
        onEnded({ isRefused }) {
          if (!isRefused) requestsOpen--
        }
      }
    }
  })

const openRequest = (observation: Observation): OpenRequest => {
  const { request: { owner, params, requestId }, duration, head, queueTime, startedAt } = observation
  const [uri] = CgiRequest.url(params).split(/[?#]/, 1)
  const named = (name: string) => printable(params.get(name) ?? "")
  return {
    requestId,
    connectionId: owner.id,
    state: head !== undefined ? "Responding" : startedAt !== undefined ? "Running" : "Waiting",
    duration: Math.round(duration * 1000),
    queueTime: Math.round(queueTime * 1000),
    method: printable(CgiRequest.method(params)),
    // A query may hold a secret.
    uri: printable(uri),
    contentLength: CgiRequest.contentLength(params) ?? 0,
    user: named("REMOTE_USER"),
    script: named("SCRIPT_FILENAME")
  }
}

const printable = (text: string): string => text === "" ? "-" : text.slice(0, maxText).replace(/[^\x20-\x7e]/g, "?")
