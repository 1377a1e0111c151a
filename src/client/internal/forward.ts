/**
 * A request of an HTTP server, passed on: what its application is told of it, its body as STDIN, and the application's answer.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { FileSystem } from "effect/FileSystem"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import type { HttpServerError } from "effect/http/HttpServerError"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as CgiParams from "../../cgi/CgiParams.ts"
import type { FastCgiClientRequest } from "../FastCgiClient.ts"
import type { FastCgiClientError } from "../FastCgiClientError.ts"
import type { FastCgiGatewayFromPoolOptions } from "../FastCgiGateway.ts"
import { RequestRefused } from "./errorPage.ts"
import { type Exchange, exchange, type ExchangeOptions, exchangePolicy } from "./exchange.ts"
import * as Gather from "./gather.ts"
import type { Pool } from "./pool.ts"
import { spanned } from "./tracing.ts"
import { clientBytes, relay, upgradeOf, upgradeParams } from "./upgrade.ts"

/** What is asked for, where it is not the request's own URL and the script of the options. */
export interface Target extends
  Pick<
    CgiParams.CgiParamsRequest,
    "url" | "documentRoot" | "scriptFilename" | "scriptName" | "pathInfo" | "extra"
  >
{
  /** Whether another answer has led here, so that it is a GET, or a HEAD, without the body that the first target has had. */
  readonly redirected?: boolean | undefined
}

/** Passes a request on, and waits for the head of the answer. */
export type Forward = (
  request: HttpServerRequest.HttpServerRequest,
  target?: Target
) => Effect.Effect<Exchange, FastCgiClientError | HttpServerError | RequestRefused, Scope.Scope>

/** Passes requests on to the application of a pool. Each is given up with its scope, unless its response is complete by then. */
export const makeForward = (
  pool: Pool,
  options: FastCgiGatewayFromPoolOptions,
  fileSystem: Option.Option<FileSystem>
): Forward => {
  const policy = exchangePolicy(pool, options, defaultTimeout)
  const { bodyTimeout, endAtClose } = policy
  const { documentRoot, params: extra, scriptFilename, scriptName } = options
  return (request, target = { url: request.url, documentRoot, scriptFilename, scriptName, extra }) => {
    // What is refused for its head is refused before its body is read.
    const method = target.redirected === true && request.method !== "HEAD" ? "GET" : request.method
    const head = params(request, method, target, options.serverName)
    if (head instanceof CgiParams.CgiParamsError) {
      return Effect.fail(new RequestRefused({ status: 400, message: head.message }))
    }
    const sent = (
      passed: FastCgiClientRequest<HttpServerError | RequestRefused>,
      upgrade?: ExchangeOptions["upgrade"]
    ): ReturnType<Forward> =>
      spanned(passed, (passed, span) => exchange(pool, passed, { policy, method, span, upgrade }))
    const asked = mayUpgrade(options, target) ? upgradeOf(request) : undefined
    if (asked !== undefined) {
      const taken = Deferred.makeUnsafe<boolean>()
      const answered = sent(
        {
          params: [...withoutLength(head), ...upgradeParams(asked, request.headers["connection"])],
          stdin: clientBytes(asked, taken),
          keepConnection: false
        },
        () => Deferred.doneUnsafe(taken, Effect.succeed(false))
      )
      return Effect.map(
        answered,
        (answer) => answer.status === 101 ? { ...answer, handOver: relay(asked, answer, taken) } : answer
      )
    }
    const stdin = target.redirected === true ? undefined : body(request, options, bodyTimeout, fileSystem)
    if (stdin === undefined) return sent({ params: head, endAtClose })
    return Effect.flatMap(stdin, ({ contentLength, stdin }) =>
      sent({
        params: contentLength === undefined ? head : withLength(head, contentLength),
        stdin,
        endAtClose,
        sendTimeout: bodyTimeout
      }))
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const defaultTimeout = 60_000

// A script is run for an answer: some read their input to its end, which comes only when the client goes.
const mayUpgrade = ({ upgrade }: FastCgiGatewayFromPoolOptions, target: Target): boolean =>
  target.redirected !== true && (upgrade ?? !Gather.namesScript(target, target.extra))

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
  method: string,
  target: Target,
  serverName: string | undefined
): Params | CgiParams.CgiParamsError => {
  const { httpVersion, socket } = request.source as NodeSource
  // Field by field: measured, to spread `target` takes a microsecond.
  return CgiParams.fromRequest({
    method,
    url: target.url,
    documentRoot: target.documentRoot,
    scriptFilename: target.scriptFilename,
    scriptName: target.scriptName,
    pathInfo: target.pathInfo,
    extra: target.extra,
    headers: target.redirected === true ? withoutContent(request.headers) : request.headers,
    scheme: request.protocol ?? (request.originalUrl.startsWith("https:") ? "https" : "http"),
    remoteAddress: address(Option.getOrUndefined(request.remoteAddress)),
    remotePort: typeof socket?.remotePort === "number" ? socket.remotePort : undefined,
    serverAddress: typeof socket?.localAddress === "string" ? address(socket.localAddress) : undefined,
    serverPort: typeof socket?.localPort === "number" ? socket.localPort : undefined,
    serverName,
    serverProtocol: typeof httpVersion === "string" ? `HTTP/${httpVersion}` : undefined
  })
}

const withoutContent = (headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith("content-")))

// A socket that listens on IPv6 and IPv4 shows IPv4 clients as IPv6 ones.
const address = (address: string | undefined): string | undefined =>
  address !== undefined && address.startsWith("::ffff:") ? address.slice(7) : address

const withoutLength = (params: Params): Params => params.filter(([name]) => name !== "CONTENT_LENGTH")

// Known only when the body has been gathered, which is not done for a request that is refused.
const withLength = (params: Params, contentLength: number): Params =>
  params.some(([name]) => name === "CONTENT_LENGTH") ? params : [...params, ["CONTENT_LENGTH", String(contentLength)]]

interface Body {
  /** The length of a body that has been gathered. */
  readonly contentLength?: number | undefined
  readonly stdin: Uint8Array | Stream.Stream<Uint8Array, HttpServerError | RequestRefused>
}

// `undefined` where there is none.
const body = (
  request: HttpServerRequest.HttpServerRequest,
  options: FastCgiGatewayFromPoolOptions,
  bodyTimeout: Duration.Duration,
  fileSystem: Option.Option<FileSystem>
): Effect.Effect<Body, HttpServerError | RequestRefused, Scope.Scope> | undefined => {
  const declared = request.headers["content-length"]
  const coding = request.headers["transfer-encoding"]
  if (coding !== undefined && coding.trim().toLowerCase() !== "chunked") {
    return Effect.fail(new RequestRefused({ status: 501, message: "the body has a transfer coding besides chunked" }))
  }
  const unknown = declared === undefined || coding !== undefined
  if (unknown ? !mayHaveBody(request) : Number(declared) === 0) return undefined
  return Effect.flatMap(
    HttpIncomingMessage.MaxBodySize,
    (maxBodySize): Effect.Effect<Body, HttpServerError | RequestRefused, Scope.Scope> => {
      const limit = maxBodySize === undefined ? defaultMaxBodySize : Number(maxBodySize)
      if (!unknown) {
        return Number(declared) <= limit
          ? Effect.succeed({ stdin: timed(request.stream, bodyTimeout) })
          : Effect.fail(tooLarge(limit))
      }
      const stdin = limited(timed(request.stream, bodyTimeout), limit)
      return Gather.gather(
        stdin,
        options,
        fileSystem,
        (message, cause) => new RequestRefused({ status: cause === undefined ? 413 : 500, message, cause })
      )
    }
  )
}

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
