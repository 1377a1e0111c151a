/**
 * Tests without a socket: a listener in memory, and a scripted peer that plays the web server, byte by byte if the script wants to.
 * Nothing here waits in real time, so everything works under `TestClock`.
 *
 * @since 0.1.0
 */
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
import type * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as CgiRequest from "../cgi/CgiRequest.ts"
import * as FastCgiHttpClient from "../client/FastCgiHttpClient.ts"
import type { FastCgiTransport } from "../connection/FastCgiTransport.ts"
import { makePairUnsafe, type MemoryTransport } from "../connection/internal/memoryTransport.ts"
import * as FastCgiHttpServer from "../http/FastCgiHttpServer.ts"
import * as FastCgiParams from "../protocol/FastCgiParams.ts"
import * as FastCgiRecord from "../protocol/FastCgiRecord.ts"
import * as FastCgiAdmission from "../server/FastCgiAdmission.ts"
import { FastCgiListener } from "../server/FastCgiListener.ts"
import type * as FastCgiServer from "../server/FastCgiServer.ts"
import { decodeContent } from "./internal/contentEncoding.ts"
import { type Peer, ScriptedPeer } from "./internal/peer.ts"

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

export type { Peer, PeerReply, PeerRequest } from "./internal/peer.ts"

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
