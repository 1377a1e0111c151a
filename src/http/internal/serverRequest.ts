/**
 * `HttpServerRequest` over a FastCGI request. Everything is read from the params when it is asked for; views made by
 * `modify` share the body, which can be read only once.
 */
import type * as Cause from "effect/Cause"
import type * as Channel from "effect/Channel"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Cookies from "effect/http/Cookies"
import * as Headers from "effect/http/Headers"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import { HttpServerError, RequestParseError } from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Multipart from "effect/http/Multipart"
import * as UrlParams from "effect/http/UrlParams"
import * as Inspectable from "effect/Inspectable"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import * as Pull from "effect/Pull"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import * as CgiRequest from "../../cgi/CgiRequest.ts"
import type { FastCgiRequestError } from "../../server/FastCgiRequestError.ts"
import type { ApplicationRequest } from "../../server/internal/applicationRequest.ts"
import type { BodyLimit } from "../../server/internal/bodyLimit.ts"
import { ResponderImpl } from "../../server/internal/requests.ts"
import type { FastCgiWebSockets } from "../FastCgiUpgrade.ts"
import { upgrade } from "./upgrade.ts"

const headersPrototype = Object.getPrototypeOf(Headers.empty) as object

interface Overrides {
  readonly url?: string | undefined
  readonly headers?: Headers.Headers | undefined
  readonly remoteAddress?: Option.Option<string> | undefined
  readonly peerAddress?: Option.Option<string> | undefined
  readonly protocol?: "http" | "https" | undefined
}

/** The options that all requests of a server share. */
export interface ServerRequestOptions extends CgiRequest.UrlOptions {
  readonly bodyLimit: BodyLimit
  readonly webSockets: FastCgiWebSockets["Service"] | undefined
}

// State that all views of a request share, made on demand.
interface Origin {
  source: ResponderImpl | undefined
  body: Body | undefined
}

/** A request as the app sees it. */
export class ServerRequest extends Inspectable.Class implements HttpServerRequest.HttpServerRequest {
  readonly [HttpServerRequest.TypeId]: typeof HttpServerRequest.TypeId
  readonly [HttpIncomingMessage.TypeId]: typeof HttpIncomingMessage.TypeId
  readonly request: ApplicationRequest
  readonly url: string
  readonly protocol: "http" | "https" | undefined
  /** The app's failure under a middleware, which may hide it. */
  failure: Cause.Cause<unknown> | undefined
  private readonly options: ServerRequestOptions
  private readonly origin: Origin
  private headersCache: Headers.Headers | undefined
  private cookiesCache: Readonly<Record<string, string>> | undefined
  private readonly remoteAddressOverride: Option.Option<string> | undefined
  private readonly peerAddressOverride: Option.Option<string> | undefined

  constructor(
    request: ApplicationRequest,
    options: ServerRequestOptions,
    original?: ServerRequest,
    overrides?: Overrides
  ) {
    super()
    this[HttpServerRequest.TypeId] = HttpServerRequest.TypeId
    this[HttpIncomingMessage.TypeId] = HttpIncomingMessage.TypeId
    this.request = request
    this.options = options
    this.origin = original?.origin ?? { source: undefined, body: undefined }
    this.url = overrides?.url ?? original?.url ?? CgiRequest.url(request.params, options)
    this.headersCache = overrides?.headers ?? original?.headersCache
    this.protocol = overrides?.protocol ?? original?.protocol
    this.remoteAddressOverride = overrides !== undefined && "remoteAddress" in overrides
      ? overrides.remoteAddress
      : original?.remoteAddressOverride
    this.peerAddressOverride = overrides?.peerAddress ?? original?.peerAddressOverride
  }

  get source(): ResponderImpl {
    return this.origin.source ??= new ResponderImpl(this.request, this.bodyLimit)
  }

  get bodyLimit(): BodyLimit {
    return this.options.bodyLimit
  }

  private get body(): Body {
    return this.origin.body ??= new Body(this)
  }

  modify(overrides: Overrides): ServerRequest {
    return new ServerRequest(this.request, this.options, this, overrides)
  }

  private methodCache: string | undefined
  get method(): string {
    return this.methodCache ??= CgiRequest.method(this.request.params)
  }

  get originalUrl(): string {
    return CgiRequest.originalUrl(this.request.params)
  }

  get headers(): Headers.Headers {
    return this.headersCache ??= CgiRequest.headers(this.request.params, headersPrototype) as Headers.Headers
  }

  get cookies(): Readonly<Record<string, string>> {
    return this.cookiesCache ??= Cookies.parseHeader(this.headers.cookie ?? "")
  }

  get remoteAddress(): Option.Option<string> {
    return this.remoteAddressOverride ??
      Option.fromUndefinedOr(CgiRequest.variables(this.request.params).remoteAddress)
  }

  get peerAddress(): Option.Option<string> {
    return this.peerAddressOverride ?? this.remoteAddress
  }

  get stream(): Stream.Stream<Uint8Array, HttpServerError> {
    return this.body.stream
  }

  get arrayBuffer(): Effect.Effect<ArrayBuffer, HttpServerError> {
    return this.body.arrayBuffer
  }

  get text(): Effect.Effect<string, HttpServerError> {
    return this.body.text
  }

  get json(): Effect.Effect<Schema.Json, HttpServerError> {
    return Effect.flatMap(this.text, (text) =>
      Effect.try({
        try: () => text === "" ? null : JSON.parse(text) as Schema.Json,
        catch: (cause) => this.parseError({ cause })
      }))
  }

  get urlParamsBody(): Effect.Effect<UrlParams.UrlParams, HttpServerError> {
    return Effect.flatMap(this.arrayBuffer, (bytes) =>
      Effect.try({
        // A leading "?" is form data; URLSearchParams would drop it as the start of a query.
        try: () => UrlParams.fromInput(new URLSearchParams(formDecoder.decode(bytes).replace(/^\?/, "%3F"))),
        catch: (cause) => this.parseError({ cause })
      }))
  }

  get multipart(): Effect.Effect<
    Multipart.Persisted,
    Multipart.MultipartError,
    Scope.Scope | FileSystem.FileSystem | Path.Path
  > {
    return this.body.multipart
  }

  get multipartStream(): Stream.Stream<Multipart.Part, Multipart.MultipartError> {
    return this.body.multipartStream
  }

  get upgrade(): Effect.Effect<Socket.Socket, HttpServerError> {
    return this.upgradeWith({})
  }

  upgradeWith(options: {
    readonly headers?: Headers.Input | undefined
  }): Effect.Effect<Socket.Socket, HttpServerError> {
    return upgrade(this, this.options.webSockets, Headers.fromInput(options.headers))
  }

  parseError(options: {
    readonly reason?: "Parse" | "BodyTooLarge"
    readonly description?: string
    readonly cause?: unknown
  }): HttpServerError {
    return new HttpServerError({ reason: new RequestParseError({ request: this, ...options }) })
  }

  override toString(): string {
    return `ServerRequest(${this.method} ${UrlParams.redactUrl(this.url)})`
  }

  toJSON(): unknown {
    return HttpIncomingMessage.inspect(this, {
      _id: "HttpServerRequest",
      method: this.method,
      url: UrlParams.redactUrl(this.originalUrl)
    })
  }
}

const textDecoder = new TextDecoder()
const formDecoder = new TextDecoder("utf-8", { ignoreBOM: true })

// The body of one request, shared by all views of it.
class Body {
  private readonly owner: ServerRequest
  private arrayBufferCache: Effect.Effect<ArrayBuffer, HttpServerError> | undefined
  private textCache: Effect.Effect<string, HttpServerError> | undefined
  private multipartCache:
    | Effect.Effect<Multipart.Persisted, Multipart.MultipartError, Scope.Scope | FileSystem.FileSystem | Path.Path>
    | undefined

  constructor(owner: ServerRequest) {
    this.owner = owner
  }

  get stream(): Stream.Stream<Uint8Array, HttpServerError> {
    return Stream.mapError(this.owner.source.stdin, this.failed)
  }

  get arrayBuffer(): Effect.Effect<ArrayBuffer, HttpServerError> {
    return this.arrayBufferCache ??= once(Effect.withFiber((fiber) => {
      const limit = fiber.getRef(HttpIncomingMessage.MaxBodySize)
      const { exceeded, maxBodySize } = this.owner.bodyLimit
      return limit === undefined || Number(limit) > maxBodySize
        ? this.gather(maxBodySize, Effect.andThen(exceeded, this.tooLarge(maxBodySize, "maxBodySize")))
        : this.gather(Number(limit), this.tooLarge(Number(limit), "MaxBodySize"))
    }))
  }

  get text(): Effect.Effect<string, HttpServerError> {
    return this.textCache ??= Effect.map(this.arrayBuffer, (bytes) => textDecoder.decode(bytes))
  }

  get multipartStream(): Stream.Stream<Multipart.Part, Multipart.MultipartError> {
    return Stream.pipeThroughChannel(
      Stream.mapError(
        this.stream,
        (error) => Multipart.MultipartError.fromReason(isBodyTooLarge(error) ? "BodyTooLarge" : "InternalError", error)
      ),
      Multipart.makeChannel<Multipart.MultipartError>(
        CgiRequest.headers(this.owner.request.params)
      ) as Channel.Channel<
        readonly [Multipart.Part, ...Array<Multipart.Part>],
        Multipart.MultipartError,
        void,
        readonly [Uint8Array, ...Array<Uint8Array>],
        Multipart.MultipartError,
        unknown
      >
    )
  }

  get multipart() {
    return this.multipartCache ??= once(Multipart.toPersisted(this.multipartStream))
  }

  private readonly failed = (error: FastCgiRequestError): HttpServerError =>
    error.reason._tag === "BodyTooLarge"
      ? this.owner.parseError({ reason: "BodyTooLarge", description: error.message, cause: error })
      : this.owner.parseError({ description: error.message, cause: error })

  private gather(
    limit: number,
    tooLarge: Effect.Effect<never, HttpServerError>
  ): Effect.Effect<ArrayBuffer, HttpServerError> {
    const length = CgiRequest.contentLength(this.owner.request.params)
    if (length !== undefined && length > limit) return tooLarge
    const chunks: Array<Uint8Array> = []
    let size = 0
    const take = (
      array: ReadonlyArray<Uint8Array>
    ): Effect.Effect<ArrayBuffer, HttpServerError | FastCgiRequestError | Cause.Done> => {
      for (let i = 0; i < array.length; i++) {
        chunks.push(array[i])
        size += array[i].length
      }
      return size > limit ? tooLarge : more
    }
    const pull = this.owner.source.stdinPull
    const more: Effect.Effect<ArrayBuffer, HttpServerError | FastCgiRequestError | Cause.Done> = Effect.suspend(() =>
      Effect.flatMap(pull, take)
    )
    return Effect.mapError(
      Pull.catchDone(more, () => Effect.sync(() => join(chunks, size))),
      (error) => error._tag === "FastCgiRequestError" ? this.failed(error) : error
    )
  }

  private tooLarge(limit: number, name: string): Effect.Effect<never, HttpServerError> {
    return Effect.suspend(() =>
      Effect.fail(this.owner.parseError({
        reason: "BodyTooLarge",
        description: `the request body exceeds ${limit} bytes (${name})`
      }))
    )
  }
}

const isBodyTooLarge = ({ reason }: HttpServerError): boolean =>
  reason._tag === "RequestParseError" && reason.reason === "BodyTooLarge"

const once = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => Effect.runSync(Effect.cached(effect))

const join = (chunks: ReadonlyArray<Uint8Array>, size: number): ArrayBuffer => {
  const bytes = new Uint8Array(size)
  let at = 0
  for (let i = 0; i < chunks.length; i++) {
    bytes.set(chunks[i], at)
    at += chunks[i].length
  }
  return bytes.buffer
}
