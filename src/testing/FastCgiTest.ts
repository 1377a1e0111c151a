/**
 * Tests without a socket: a listener in memory, and a scripted peer that plays the web server, byte by byte if the script wants to.
 * Nothing here waits in real time, so everything works under `TestClock`.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import type * as Etag from "effect/http/Etag"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpPlatform from "effect/http/HttpPlatform"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import * as Pull from "effect/Pull"
import type * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as CgiRequest from "../cgi/CgiRequest.ts"
import * as FastCgiHttpClient from "../client/FastCgiHttpClient.ts"
import type { FastCgiTransport } from "../connection/FastCgiTransport.ts"
import { makePairUnsafe, type MemoryTransport } from "../connection/internal/memoryTransport.ts"
import * as FastCgiHttpServer from "../http/FastCgiHttpServer.ts"
import * as FastCgiDecoder from "../protocol/FastCgiDecoder.ts"
import * as FastCgiEncoder from "../protocol/FastCgiEncoder.ts"
import * as FastCgiParams from "../protocol/FastCgiParams.ts"
import * as FastCgiRecord from "../protocol/FastCgiRecord.ts"
import * as FastCgiAdmission from "../server/FastCgiAdmission.ts"
import { FastCgiListener } from "../server/FastCgiListener.ts"
import type * as FastCgiServer from "../server/FastCgiServer.ts"
import { decodeContent } from "./internal/contentEncoding.ts"

/**
 * The other side of an in-memory listener: opens connections to it.
 *
 * @category services
 * @since 0.1.0
 */
export class FastCgiMemory extends Context.Service<FastCgiMemory, {
  /**
   * Opens a connection; closing the scope closes it. Connections opened before the server accepts wait, as in a backlog.
   */
  readonly connect: Effect.Effect<FastCgiTransport, never, Scope.Scope>
  /** Opens a connection whose far end a script controls. */
  readonly peer: Effect.Effect<Peer, never, Scope.Scope>
  /** `peer` with an address, as over TCP. Other connections have no address, as over a UNIX socket. */
  readonly peerFrom: (address: NetAddress.SocketAddress) => Effect.Effect<Peer, never, Scope.Scope>
}>()("effect-fastcgi/testing/FastCgiMemory") {}

/**
 * How a request ended, with all output that came before.
 *
 * @category models
 * @since 0.1.0
 */
export interface PeerReply {
  readonly stdout: string
  readonly stderr: string
  readonly appStatus: number
  readonly protocolStatus: number
}

/**
 * A request for `Peer.request`.
 *
 * @category models
 * @since 0.1.0
 */
export interface PeerRequest {
  /** Default 1. */
  readonly requestId?: number | undefined
  /** Default Responder. */
  readonly role?: number | undefined
  /** Default true. */
  readonly keepConnection?: boolean | undefined
  /** Default `GET /`. */
  readonly params?: Readonly<Record<string, string>> | undefined
  /** The whole body. Default none, with STDIN ended; `"open"` leaves STDIN open. */
  readonly stdin?: string | Uint8Array | "open" | undefined
}

/**
 * The web server's end of a connection, which a test plays.
 *
 * @category models
 * @since 0.1.0
 */
export interface Peer {
  /** Sends the records in one write. */
  readonly send: (...records: ReadonlyArray<FastCgiRecord.FastCgiRecord>) => Effect.Effect<void>
  /** Sends bytes unchanged, in one write. */
  readonly sendBytes: (bytes: Uint8Array) => Effect.Effect<void>
  /** Sends a whole request in one write. */
  readonly request: (request?: PeerRequest) => Effect.Effect<void>
  /** The next record, with stream contents in fragments as they come. Waits; fails with `Done` when the server has closed. */
  readonly receive: Pull.Pull<FastCgiRecord.FastCgiRecord>
  /** The bytes that have arrived, instead of `receive`. Waits; fails with `Done` when the server has closed. */
  readonly receiveBytes: Pull.Pull<Uint8Array>
  /** All output until END_REQUEST of this id. Records of other ids are kept for their own call. Dies when no END_REQUEST comes. */
  readonly reply: (requestId?: number) => Effect.Effect<PeerReply>
  /** All records until the server closes. */
  readonly drain: Effect.Effect<ReadonlyArray<FastCgiRecord.FastCgiRecord>>
  /** Waits until the server has closed its end, and drops further output. */
  readonly closed: Effect.Effect<void>
  /** How many bytes this end takes before the script receives them. Default 64 KiB. */
  readonly setCapacity: (bytes: number) => Effect.Effect<void>
  /** How many of the sent bytes the server has not taken, beyond the 64 KiB that wait for it to read. */
  readonly pending: Effect.Effect<number>
  /** Half-closes: the server reads the end. */
  readonly end: Effect.Effect<void>
  /** Closes both directions. */
  readonly close: Effect.Effect<void>
  /** Loses the connection, like a RST. */
  readonly reset: Effect.Effect<void>
}

/**
 * Provides a listener in memory, and a way to connect to it.
 *
 * **Example** (Talking to a server record by record)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import { FastCgiResponse, FastCgiServer } from "effect-fastcgi"
 * import { FastCgiTest } from "effect-fastcgi/testing"
 *
 * const ServerLive = FastCgiServer.serve({ responder: () => Effect.succeed(FastCgiResponse.make("hello")) }).pipe(
 *   Layer.provideMerge(FastCgiTest.layerMemory)
 * )
 *
 * export const test = Effect.gen(function*() {
 *   const memory = yield* FastCgiTest.FastCgiMemory
 *   const peer = yield* memory.peer
 *   yield* peer.request({ params: { REQUEST_METHOD: "GET", REQUEST_URI: "/" } })
 *   const reply = yield* peer.reply()
 *   return reply.stdout // Status: 200 OK ...
 * }).pipe(Effect.scoped, Effect.provide(ServerLive))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<FastCgiListener | FastCgiMemory> = Layer.effectContext(
  Effect.withFiber((fiber) => {
    const listener = new MemoryListener(fiber.cache.scheduler.makeDispatcher())
    return Effect.succeed(
      Context.make(FastCgiListener, listener.service).pipe(Context.add(FastCgiMemory, listener.memory))
    )
  })
)

/**
 * Options of `layerTestWith`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiTestOptions {
  readonly server?: FastCgiHttpServer.FastCgiHttpServerOptions | undefined
  readonly admission?: FastCgiAdmission.FastCgiAdmissionOptions | undefined
  readonly client?: Omit<FastCgiHttpClient.FastCgiHttpClientOptions, "connect"> | undefined
}

/**
 * Provides an `HttpServer` and an `HttpClient` that talks to it, through real records in memory: the counterpart of
 * `NodeHttpServer.layerTest`.
 *
 * **Details**
 *
 * The client resolves relative URLs against the server and keeps its connections. It decodes the `content-encoding` of a response as
 * `fetch` does (gzip, deflate, and br where the platform's `DecompressionStream` has it), and keeps the headers. The platform services are
 * those of `HttpServer.layerServices`, whose file system has no files. Provide `NodeHttpServer.layerHttpServices` to an app that needs real
 * ones. `handlers` answer the Authorizer and Filter requests of the peers of `FastCgiMemory`.
 *
 * **Example** (Testing an app)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as HttpClient from "effect/http/HttpClient"
 * import * as HttpRouter from "effect/http/HttpRouter"
 * import * as HttpServerResponse from "effect/http/HttpServerResponse"
 * import * as Layer from "effect/Layer"
 * import { FastCgiTest } from "effect-fastcgi/testing"
 *
 * const Routes = HttpRouter.add("GET", "/hello", Effect.succeed(HttpServerResponse.text("hello")))
 *
 * export const test = Effect.gen(function*() {
 *   const response = yield* HttpClient.get("/hello")
 *   return yield* response.text // "hello"
 * }).pipe(
 *   Effect.provide(HttpRouter.serve(Routes).pipe(Layer.provideMerge(FastCgiTest.layerTest)))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerTestWith = <E1 = never, R1 = never, E2 = never, R2 = never>(
  options?: FastCgiTestOptions,
  handlers?: FastCgiHttpServer.FastCgiHttpServerHandlers<E1, R1, E2, R2>
): Layer.Layer<
  | HttpServer.HttpServer
  | HttpClient.HttpClient
  | FastCgiMemory
  | FileSystem.FileSystem
  | Path.Path
  | HttpPlatform.HttpPlatform
  | Etag.Generator,
  never,
  FastCgiServer.Requirements<never, R1, R2>
> =>
  Layer.effect(
    HttpClient.HttpClient,
    Effect.flatMap(FastCgiMemory, (memory) =>
      Effect.map(
        // A lost request fails at once: no server restarts here, and time may stand still.
        FastCgiHttpClient.make({
          keepConnection: true,
          maxRepeats: 0,
          ...options?.client,
          connect: memory.connect
        }),
        (client) =>
          HttpClient.transformResponse(
            HttpClient.mapRequest(client, HttpClientRequest.prependUrl("http://localhost")),
            Effect.map(decodeContent)
          )
      ))
  ).pipe(
    Layer.provideMerge(FastCgiHttpServer.layerServer(options?.server, handlers)),
    Layer.provide(FastCgiAdmission.layer(options?.admission)),
    Layer.provideMerge([layerMemory, HttpServer.layerServices])
  )

/**
 * `layerTestWith` without options.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerTest = layerTestWith()

/**
 * Provides the `FastCgiOrigin` of a request with these params, to test code that uses `FastCgiHttpServer.origin` without a web server. The
 * STDERR of such a request is dropped, and its STDIN is empty.
 *
 * **Example** (A visitor who is logged in)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as HttpClient from "effect/http/HttpClient"
 * import * as HttpRouter from "effect/http/HttpRouter"
 * import * as HttpServerResponse from "effect/http/HttpServerResponse"
 * import * as Layer from "effect/Layer"
 * import * as Option from "effect/Option"
 * import { FastCgiHttpServer } from "effect-fastcgi/http"
 * import { FastCgiTest } from "effect-fastcgi/testing"
 *
 * const Routes = HttpRouter.add(
 *   "GET",
 *   "/whoami",
 *   Effect.map(FastCgiHttpServer.origin, (origin) =>
 *     HttpServerResponse.text(Option.getOrThrow(origin).variables.remoteUser ?? "nobody"))
 * )
 *
 * export const test = Effect.gen(function*() {
 *   const response = yield* HttpClient.get("/whoami")
 *   return yield* response.text // "ann"
 * }).pipe(
 *   Effect.provide(HttpRouter.serve(Routes).pipe(
 *     Layer.provide(FastCgiTest.layerOrigin({ REMOTE_USER: "ann" })),
 *     Layer.provideMerge(FastCgiTest.layerTest)
 *   ))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerOrigin = (
  params: Readonly<Record<string, string>>
): Layer.Layer<FastCgiHttpServer.FastCgiOrigin> => {
  const all = FastCgiParams.fromEntries(Object.entries(params))
  return Layer.succeed(FastCgiHttpServer.FastCgiOrigin, {
    request: {
      role: FastCgiRecord.Role.Responder,
      connectionId: 0,
      requestId: 1,
      keepConnection: true,
      peer: Option.none(),
      params: all,
      stdin: Stream.empty,
      stderr: () => Effect.void
    },
    variables: CgiRequest.variables(all)
  })
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

class MemoryListener {
  private readonly dispatcher: Scheduler.SchedulerDispatcher
  private readonly waiting: Array<FastCgiTransport> = []
  private onConnection: ((transport: FastCgiTransport) => void) | undefined
  private stopped = false

  constructor(dispatcher: Scheduler.SchedulerDispatcher) {
    this.dispatcher = dispatcher
  }

  readonly service = FastCgiListener.of({
    address: NetAddress.unixPathAddress("memory"),
    addresses: [NetAddress.unixPathAddress("memory")],
    run: (onConnection) =>
      Effect.callback<never>(() => {
        this.onConnection = onConnection
        for (const transport of this.waiting.splice(0)) onConnection(transport)
        return Effect.sync(() => {
          this.onConnection = undefined
        })
      }),
    stopAccepting: Effect.sync(() => {
      this.stopped = true
      for (const transport of this.waiting.splice(0)) transport.destroyUnsafe()
    })
  })

  readonly memory = FastCgiMemory.of({
    connect: Effect.acquireRelease(Effect.sync(() => this.connect()), (end) => Effect.sync(() => end.destroyUnsafe())),
    peer: Effect.suspend(() => this.peer(undefined)),
    peerFrom: (address) => this.peer(address)
  })

  private peer(address: NetAddress.SocketAddress | undefined): Effect.Effect<Peer, never, Scope.Scope> {
    return Effect.acquireRelease(
      Effect.sync(() => new ScriptedPeer(this.connect(address))),
      (peer) => peer.close
    )
  }

  private connect(peer?: NetAddress.SocketAddress): MemoryTransport {
    const { client, server } = makePairUnsafe(this.dispatcher, { peer })
    if (this.stopped) server.destroyUnsafe()
    else if (this.onConnection === undefined) this.waiting.push(server)
    else this.onConnection(server)
    return client
  }
}

interface Collected {
  stdout: Array<Uint8Array>
  stderr: Array<Uint8Array>
}

class ScriptedPeer implements Peer {
  private readonly end_: MemoryTransport
  private readonly decoder = FastCgiDecoder.make()
  private readonly records: Array<FastCgiRecord.FastCgiRecord> = []
  private readonly collected = new Map<number, Collected>()
  private readonly ended = new Map<number, FastCgiRecord.EndRequest>()

  constructor(end: MemoryTransport) {
    this.end_ = end
  }

  send(...records: ReadonlyArray<FastCgiRecord.FastCgiRecord>): Effect.Effect<void> {
    return Effect.sync(() => this.end_.writeUnsafe(records.map((record) => FastCgiEncoder.encode(record))))
  }

  sendBytes(bytes: Uint8Array): Effect.Effect<void> {
    return Effect.sync(() => this.end_.writeUnsafe([bytes]))
  }

  request(request: PeerRequest = {}): Effect.Effect<void> {
    const id = request.requestId ?? 1
    const params = request.params ?? { REQUEST_METHOD: "GET", REQUEST_URI: "/", SERVER_PROTOCOL: "HTTP/1.1" }
    const records: Array<FastCgiRecord.FastCgiRecord> = [
      FastCgiRecord.beginRequest(id, request.role ?? FastCgiRecord.Role.Responder, {
        keepConnection: request.keepConnection ?? true
      })
    ]
    const pairs = FastCgiParams.encodePairs(Object.entries(params))
    if (pairs.length > 0) records.push(FastCgiRecord.params(id, pairs))
    records.push(FastCgiRecord.params(id))
    const body = request.stdin
    if (body !== undefined && body !== "open" && body.length > 0) {
      records.push(FastCgiRecord.stdin(id, typeof body === "string" ? new TextEncoder().encode(body) : body))
    }
    if (body !== "open") records.push(FastCgiRecord.stdin(id))
    return this.send(...records)
  }

  readonly receive: Pull.Pull<FastCgiRecord.FastCgiRecord> = Effect.suspend(() => {
    const next = this.records.shift()
    if (next !== undefined) return Effect.succeed(next)
    return Effect.matchEffect(this.end_.pull, {
      onSuccess: (chunks) => {
        for (const chunk of chunks) {
          const error = this.decoder.push(chunk, this.records)
          if (error !== undefined) return Effect.die(error)
        }
        return this.receive
      },
      // A reset is an end as well, because the script only wants to know that no more output comes.
      onFailure: () => Cause.done()
    })
  })

  readonly receiveBytes: Pull.Pull<Uint8Array> = Effect.suspend(() =>
    Effect.matchEffect(this.end_.pull, {
      onSuccess: (chunks) => Effect.succeed(concat(chunks)),
      onFailure: () => Cause.done()
    })
  )

  reply(requestId = 1): Effect.Effect<PeerReply> {
    return Effect.suspend(() => {
      const end = this.ended.get(requestId)
      if (end !== undefined) {
        this.ended.delete(requestId)
        const collected = this.collect(requestId)
        this.collected.delete(requestId)
        return Effect.succeed({
          stdout: join(collected.stdout),
          stderr: join(collected.stderr),
          appStatus: end.appStatus,
          protocolStatus: end.protocolStatus
        })
      }
      return Pull.matchEffect(this.receive, {
        onSuccess: (record) => {
          this.keep(record)
          return this.reply(requestId)
        },
        onFailure: (cause) => Effect.failCause(cause),
        onDone: () => Effect.die(new Error(`the server closed before it ended request ${requestId}`))
      })
    })
  }

  readonly drain: Effect.Effect<ReadonlyArray<FastCgiRecord.FastCgiRecord>> = Effect.suspend(() => {
    const all: Array<FastCgiRecord.FastCgiRecord> = []
    const next: Effect.Effect<ReadonlyArray<FastCgiRecord.FastCgiRecord>> = Effect.suspend(() =>
      Pull.matchEffect(this.receive, {
        onSuccess: (record) => {
          all.push(record)
          return next
        },
        onFailure: (cause) => Effect.failCause(cause),
        onDone: () => Effect.succeed(all)
      })
    )
    return next
  })

  get closed(): Effect.Effect<void> {
    return Effect.asVoid(this.drain)
  }

  setCapacity(bytes: number): Effect.Effect<void> {
    return Effect.sync(() => this.end_.setCapacityUnsafe(bytes))
  }

  readonly pending = Effect.sync(() => this.end_.pendingUnsafe())

  readonly end = Effect.sync(() => this.end_.endUnsafe())

  readonly close = Effect.sync(() => this.end_.destroyUnsafe())

  readonly reset = Effect.sync(() => this.end_.resetUnsafe())

  private keep(record: FastCgiRecord.FastCgiRecord): void {
    if (record._tag === "Stdout") this.collect(record.requestId).stdout.push(record.content)
    else if (record._tag === "Stderr") this.collect(record.requestId).stderr.push(record.content)
    else if (record._tag === "EndRequest") this.ended.set(record.requestId, record)
  }

  private collect(requestId: number): Collected {
    let collected = this.collected.get(requestId)
    if (collected === undefined) {
      collected = { stdout: [], stderr: [] }
      this.collected.set(requestId, collected)
    }
    return collected
  }
}

const concat = (chunks: ReadonlyArray<Uint8Array>): Uint8Array => {
  const bytes = new Uint8Array(chunks.reduce((size, chunk) => size + chunk.length, 0))
  let at = 0
  for (const chunk of chunks) {
    bytes.set(chunk, at)
    at += chunk.length
  }
  return bytes
}

const join = (chunks: ReadonlyArray<Uint8Array>): string => {
  const decoder = new TextDecoder()
  let text = ""
  for (const chunk of chunks) text += decoder.decode(chunk, { stream: true })
  return text + decoder.decode()
}
