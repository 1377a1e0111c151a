/**
 * HTTP in front of FastCGI: an Effect HTTP app that passes every request on to a FastCGI application, as a web server
 * would. Meant for development, where installing a web server is too much to ask; it serves no files and trusts nobody.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { FileSystem } from "effect/FileSystem"
import * as Cookies from "effect/http/Cookies"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpServer from "effect/http/HttpServer"
import { HttpServerError } from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as CgiParams from "../cgi/CgiParams.ts"
import * as Settings from "../settings/settings.ts"
import type { FastCgiClientError } from "./FastCgiClientError.ts"
import * as FastCgiHttpClient from "./FastCgiHttpClient.ts"
import type { FastCgiUpstreamOptions } from "./FastCgiHttpClient.ts"
import { type ErrorPage, errorPage, RequestRefused } from "./internal/errorPage.ts"
import { type Exchange, exchange } from "./internal/exchange.ts"
import * as Gather from "./internal/gather.ts"
import { printable, requestLine } from "./internal/log.ts"
import * as Pool from "./internal/pool.ts"
import { text } from "./internal/request.ts"
import { parseSetCookie, setCookies } from "./internal/response.ts"

/**
 * Options of `make` and `layer`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiGatewayOptions<E = never, R = never> extends FastCgiUpstreamOptions<E, R> {
  /** The name of this server that the application is told: SERVER_NAME. Default: the host that the client asked. */
  readonly serverName?: string | undefined
}

/**
 * An HTTP app, to be served by any `HttpServer` or mounted in a router.
 *
 * @category models
 * @since 0.1.0
 */
export type FastCgiGateway = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  HttpServerError,
  HttpServerRequest.HttpServerRequest | Scope.Scope
>

/**
 * Creates the HTTP app. Its connections are closed with the scope.
 *
 * **Details**
 *
 * Bodies are streamed in both directions, as they come and no faster than they are taken. The application is told the
 * request's `url` (without a prefix that a router took off), its headers but those of one hop, and the addresses of the
 * client's connection as far as the server tells them. Of the response, headers of one hop and `X-Accel-*`, which are
 * for nginx, are dropped; each `Set-Cookie` stays a line of its own. What the application writes to STDERR is logged as
 * with `FastCgiHttpClient`.
 *
 * A client that goes away aborts its request, usually by closing the connection to the application. A response that is
 * cut after its head is cut for the client as well.
 *
 * Where there is no response, the client gets a page that says so in plain words: 503 when the application is
 * overloaded, 504 when it takes longer than `connectTimeout`, `headTimeout` or `bodyTimeout`, otherwise 502. The error
 * itself, which may name the application's socket, is logged as a warning and is not on the page.
 *
 * The application sees the path as nginx resolves it, see `CgiParams.fromRequest`; a target that nginx refuses, such as one
 * that leaves the root, gets 400, and so does a host that is none.
 *
 * Where a body does not go on for `bodyTimeout`, the client gets 408 or 504, whoever kept it waiting, or its response is cut
 * where that has begun. How long a client may take nothing of a response is up to the HTTP server: `timeout` of node:http.
 *
 * A request's body may be as long as `MaxBodySize` of `HttpIncomingMessage` says, by default 1 GiB: a longer one gets 413,
 * at once where its length is declared. One of unknown length is gathered for php-fpm and CGI programs: see `gatherBody`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <E = never, R = never>(
  options: FastCgiGatewayOptions<E, R>
): Effect.Effect<FastCgiGateway, never, Exclude<R, Scope.Scope> | Scope.Scope> => {
  const headTimeout = Duration.fromInputUnsafe(options.headTimeout ?? defaultTimeout)
  const bodyTimeout = Duration.fromInputUnsafe(options.bodyTimeout ?? defaultTimeout)
  const { endAtClose = false, maxHeadSize } = options
  return Effect.gen(function*() {
    const pool = yield* Pool.make(options)
    const fileSystem = yield* Effect.serviceOption(FileSystem)
    const forward = Effect.fnUntraced(function*(request: HttpServerRequest.HttpServerRequest) {
      // What is refused for its head is refused before its body is read.
      const head = yield* params(request, options)
      const { contentLength, stdin } = yield* body(request, options, bodyTimeout, fileSystem)
      const answer = yield* exchange(pool, {
        params: contentLength === undefined ? head : withLength(head, contentLength),
        stdin,
        endAtClose,
        sendTimeout: bodyTimeout
      }, { method: request.method, endAtClose, headTimeout, bodyTimeout, maxHeadSize })
      return toResponse(answer)
    })
    return Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
      forward(request).pipe(
        Effect.catchTags({
          FastCgiClientError: (error) => failed(request, error),
          RequestRefused: (error) => refuse(request, error)
        }),
        // A client that goes away interrupts, which HttpServer.serve does not let through by itself.
        Effect.interruptible
      ))
  })
}

/**
 * Serves the gateway with the `HttpServer` of the context.
 *
 * **Example** (An HTTP server in front of an application)
 *
 * ```ts
 * import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
 * import { FastCgiGateway } from "effect-fastcgi/client"
 * import { NodeFastCgiConnector } from "effect-fastcgi/node"
 * import * as Layer from "effect/Layer"
 * import { createServer } from "node:http"
 *
 * const connect = NodeFastCgiConnector.connect({ path: "/run/app/app.sock" })
 *
 * export const gateway = FastCgiGateway.layer({ connect }).pipe(
 *   Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 8080 }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <E = never, R = never>(
  options: FastCgiGatewayOptions<E, R>
): Layer.Layer<never, never, HttpServer.HttpServer | Exclude<R, Scope.Scope>> =>
  Layer.unwrap(Effect.map(make(options), (gateway) => HttpServer.serve(gateway)))

/**
 * How the application is asked, from settings of the environment: those of `FastCgiHttpClient.config`, and
 * `FASTCGI_UPSTREAM_SERVER_NAME` for `serverName`.
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<FastCgiGatewaySettings> = Config.map(
  Config.all([FastCgiHttpClient.config, Settings.text("FASTCGI_UPSTREAM_SERVER_NAME")]),
  ([upstream, serverName]) => ({ ...upstream, serverName })
)

/**
 * The options of `layerConfig`: all but `connect`, which is code, and `params`.
 *
 * @category options
 * @since 0.1.0
 */
export type FastCgiGatewaySettings = Omit<FastCgiGatewayOptions, "connect" | "params">

/**
 * Serves the gateway with options from `config`, or from another `Config` value, besides those that are given. See
 * `FastCgiHttpClient.layerConfig`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = <E = never, R = never>(
  options: FastCgiGatewayOptions<E, R>,
  settings: Config.Wrap<FastCgiGatewaySettings> = config
): Layer.Layer<never, Config.ConfigError, HttpServer.HttpServer | Exclude<R, Scope.Scope>> =>
  Layer.unwrap(
    Effect.map(Config.unwrap(settings), (settings) => layer(FastCgiHttpClient.withSettings(options, settings)))
  )

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const defaultTimeout = 60_000
const defaultMaxBodySize = 1024 * 1024 * 1024

// What is known of the client's connection, where the server is one of node:http.
interface NodeSource {
  readonly httpVersion?: unknown
  readonly httpVersionMajor?: unknown
  readonly stream?: { readonly endAfterHeaders?: unknown } | null
  readonly socket?: {
    readonly remotePort?: unknown
    readonly localAddress?: unknown
    readonly localPort?: unknown
  } | null
}

type Params = Exclude<ReturnType<typeof CgiParams.fromRequest>, CgiParams.CgiParamsError>

const params = (
  request: HttpServerRequest.HttpServerRequest,
  options: FastCgiGatewayOptions<unknown, unknown>
): Effect.Effect<Params, RequestRefused> => {
  const { httpVersion, socket } = request.source as NodeSource
  const params = CgiParams.fromRequest({
    method: request.method,
    url: request.url,
    headers: request.headers,
    scheme: request.protocol ?? (request.originalUrl.startsWith("https:") ? "https" : "http"),
    remoteAddress: address(Option.getOrUndefined(request.remoteAddress)),
    remotePort: typeof socket?.remotePort === "number" ? socket.remotePort : undefined,
    serverAddress: typeof socket?.localAddress === "string" ? address(socket.localAddress) : undefined,
    serverPort: typeof socket?.localPort === "number" ? socket.localPort : undefined,
    serverName: options.serverName,
    serverProtocol: typeof httpVersion === "string" ? `HTTP/${httpVersion}` : undefined,
    documentRoot: options.documentRoot,
    scriptFilename: options.scriptFilename,
    scriptName: options.scriptName,
    extra: options.params
  })
  return params instanceof CgiParams.CgiParamsError
    ? Effect.fail(new RequestRefused({ status: 400, message: params.message }))
    : Effect.succeed(params)
}

// A socket that listens on IPv6 and IPv4 shows IPv4 clients as IPv6 ones.
const address = (address: string | undefined): string | undefined =>
  address !== undefined && address.startsWith("::ffff:") ? address.slice(7) : address

// Known only when the body has been gathered, which is not done for a request that is refused.
const withLength = (params: Params, contentLength: number): Params =>
  params.some(([name]) => name === "CONTENT_LENGTH") ? params : [...params, ["CONTENT_LENGTH", String(contentLength)]]

interface Body {
  /** The length of a body that has been gathered. */
  readonly contentLength?: number
  readonly stdin: Uint8Array | Stream.Stream<Uint8Array, HttpServerError | RequestRefused> | undefined
}

const body = (
  request: HttpServerRequest.HttpServerRequest,
  options: FastCgiGatewayOptions<unknown, unknown>,
  bodyTimeout: Duration.Duration,
  fileSystem: Option.Option<FileSystem>
): Effect.Effect<Body, HttpServerError | RequestRefused, Scope.Scope> =>
  Effect.flatMap(HttpIncomingMessage.MaxBodySize, (maxBodySize): ReturnType<typeof body> => {
    const limit = maxBodySize === undefined ? defaultMaxBodySize : Number(maxBodySize)
    const declared = request.headers["content-length"]
    const coding = request.headers["transfer-encoding"]
    if (coding !== undefined && coding.trim().toLowerCase() !== "chunked") {
      return Effect.fail(new RequestRefused({ status: 501, message: "the body has a transfer coding besides chunked" }))
    }
    const unknown = declared === undefined || coding !== undefined
    if (unknown ? !mayHaveBody(request) : Number(declared) === 0) return Effect.succeed({ stdin: undefined })
    if (!unknown) {
      return Number(declared) <= limit
        ? Effect.succeed({ stdin: timed(request.stream, bodyTimeout) })
        : Effect.fail(tooLarge(limit))
    }
    const stdin = limited(timed(request.stream, bodyTimeout), limit)
    return Gather.gathers(options)
      ? Gather.gather(
        stdin,
        Gather.maxGatheredSize(options),
        fileSystem,
        (message, cause) => new RequestRefused({ status: cause === undefined ? 413 : 500, message, cause })
      )
      : Effect.succeed({ stdin })
  })

// Over HTTP/1.1 a body without a length is sent in chunks. An HTTP/2 stream says whether its head is all there is, and so does
// a web Request. Of other servers nothing is known, and a body that is not there is read as an empty one.
const mayHaveBody = (request: HttpServerRequest.HttpServerRequest): boolean => {
  if (request.headers["transfer-encoding"] !== undefined) return true
  const { body, httpVersionMajor, stream } = request.source as NodeSource & { readonly body?: unknown }
  return httpVersionMajor === undefined
    ? body !== null && !bodiless.has(request.method)
    : httpVersionMajor === 2 && stream?.endAfterHeaders !== true
}

const bodiless: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE"])

// Counts while the next part is waited for, not while the application takes the last one.
const timed = (
  body: Stream.Stream<Uint8Array, HttpServerError>,
  timeout: Duration.Duration
): Stream.Stream<Uint8Array, HttpServerError | RequestRefused> => {
  if (!Duration.isFinite(timeout)) return body
  const message = `nothing of the body came for ${Duration.format(timeout)}`
  return Stream.transformPull(body, (pull) =>
    Effect.succeed(Effect.timeoutOrElse(pull, {
      duration: timeout,
      orElse: () => Effect.fail(new RequestRefused({ status: 408, message }))
    })))
}

const limited = (
  body: Stream.Stream<Uint8Array, HttpServerError | RequestRefused>,
  limit: number
): Stream.Stream<Uint8Array, HttpServerError | RequestRefused> =>
  Stream.suspend(() => {
    let size = 0
    return Stream.mapArrayEffect(body, (chunks) => {
      for (const chunk of chunks) size += chunk.length
      return size > limit ? Effect.fail(tooLarge(limit)) : Effect.succeed(chunks)
    })
  })

const tooLarge = (limit: number): RequestRefused =>
  new RequestRefused({ status: 413, message: `the body is longer than the ${limit} bytes that are taken` })

const toResponse = (exchange: Exchange): HttpServerResponse.HttpServerResponse => {
  const headers: Record<string, string> = Object.create(null)
  for (const [name, value] of exchange.headers) {
    if (name === "set-cookie" || name.startsWith("x-accel-")) continue
    headers[name] = name in headers ? `${headers[name]}, ${value}` : value
  }
  const options = {
    status: exchange.status,
    statusText: exchange.statusText,
    headers,
    cookies: toCookies(setCookies(exchange))
  }
  const response = HttpServerResponse.empty(options)
  if (exchange.contentLength === 0) return response
  const stream = Stream.fromPull(Effect.succeed(exchange.pull))
  // The type demands a content type; where the application sent none, any would become a header.
  const body = new HttpBody.Stream(stream, headers["content-type"] as string, exchange.contentLength)
  return HttpServerResponse.setBody(response, body)
}

// Response headers are a record, so lines of Set-Cookie have to go as cookies. Keyed by their number and with
// everything behind the first "=" as the value, they leave as they came: twice the same name, unknown attributes and
// all.
const toCookies = (lines: ReadonlyArray<string>): Cookies.Cookies | undefined => {
  if (lines.length === 0) return undefined
  const cookies: Record<string, Cookies.Cookie> = {}
  lines.forEach((line, i) => {
    const cookie = parseSetCookie(line)
    if (cookie === undefined) return
    const valueEncoded = line.slice(line.indexOf("=") + 1).trim()
    cookies[i] = Object.assign(Object.create(Object.getPrototypeOf(cookie)), {
      ...cookie,
      valueEncoded,
      options: undefined
    })
  })
  return Cookies.fromReadonlyRecord(cookies)
}

const failed = (
  request: HttpServerRequest.HttpServerRequest,
  error: FastCgiClientError
): Effect.Effect<HttpServerResponse.HttpServerResponse, HttpServerError> => {
  // The client's own doing: gone, or too large.
  if (error.reason._tag === "BodyFailed" && error.cause instanceof HttpServerError) return Effect.fail(error.cause)
  if (error.reason._tag === "BodyFailed" && error.cause instanceof RequestRefused) return refuse(request, error.cause)
  const page = errorPage(error)
  return Effect.as(
    Effect.logWarning(
      `${requestLine(request.method, request.url)}: ${page.status}: ${printable(error.message)}`
    ),
    respondWith(page)
  )
}

const refuse = (
  request: HttpServerRequest.HttpServerRequest,
  error: RequestRefused
): Effect.Effect<HttpServerResponse.HttpServerResponse> => {
  const response = respondWith(errorPage(error))
  return error.cause === undefined
    ? Effect.succeed(response)
    : Effect.as(
      Effect.logError(
        `${requestLine(request.method, request.url)}: ${error.status}: ${error.message}: ${
          printable(text(error.cause))
        }`
      ),
      response
    )
}

const respondWith = ({ html, status }: ErrorPage): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(html, {
    status,
    contentType: "text/html; charset=utf-8",
    headers: { "cache-control": "no-store" }
  })
