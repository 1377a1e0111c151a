/**
 * The response of an exchange as Effect's `HttpClientResponse`: nothing is read before somebody asks for it, and then
 * once.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Cookies from "effect/http/Cookies"
import * as Headers from "effect/http/Headers"
import * as HttpClientError from "effect/http/HttpClientError"
import type * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as UrlParams from "effect/http/UrlParams"
import * as Inspectable from "effect/Inspectable"
import * as Option from "effect/Option"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import * as Pull from "effect/Pull"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import type * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import { concat } from "../../protocol/internal/bytes.ts"
import type { Exchange } from "./exchange.ts"
import { text } from "./request.ts"

export class FastCgiHttpResponse extends Inspectable.Class implements HttpClientResponse.HttpClientResponse, Pipeable {
  readonly [HttpIncomingMessage.TypeId]: typeof HttpIncomingMessage.TypeId = HttpIncomingMessage.TypeId
  readonly [HttpClientResponse.TypeId]: typeof HttpClientResponse.TypeId = HttpClientResponse.TypeId
  readonly request: HttpClientRequest.HttpClientRequest
  readonly url: string
  private readonly exchange: Exchange
  // Ends the exchange: at the end of the body, or where its reader stops.
  private readonly close: Effect.Effect<void>
  private taken = false
  private cachedHeaders: Headers.Headers | undefined
  private cachedCookies: Cookies.Cookies | undefined
  private cachedArrayBuffer: Effect.Effect<ArrayBuffer, HttpClientError.HttpClientError> | undefined
  private cachedFormData: Effect.Effect<FormData, HttpClientError.HttpClientError> | undefined

  constructor(
    request: HttpClientRequest.HttpClientRequest,
    url: string,
    exchange: Exchange,
    close: Effect.Effect<void>
  ) {
    super()
    this.request = request
    this.url = url
    this.exchange = exchange
    this.close = close
  }

  get status(): number {
    return this.exchange.status
  }

  /** The reason phrase; `HttpClientResponse` has no place for it. */
  get statusText(): string {
    return this.exchange.statusText
  }

  get headers(): Headers.Headers {
    if (this.cachedHeaders !== undefined) return this.cachedHeaders
    const headers: Record<string, string> = Object.create(null)
    for (const [name, value] of this.exchange.headers) {
      headers[name] = name in headers ? `${headers[name]}, ${value}` : value
    }
    return this.cachedHeaders = Headers.fromInput(headers)
  }

  get cookies(): Cookies.Cookies {
    return this.cachedCookies ??= Cookies.fromIterable(
      this.exchange.headers.flatMap(([name, value]) => name === "set-cookie" ? parseSetCookie(value) ?? [] : [])
    )
  }

  get remoteAddress(): Option.Option<string> {
    return Option.none()
  }

  get stream(): Stream.Stream<Uint8Array, HttpClientError.HttpClientError> {
    return Stream.suspend(() => {
      if (this.taken) return Stream.fail(this.decodeError(undefined, readAlready))
      this.taken = true
      return Stream.fromPull(Effect.succeed(this.exchange.pull)).pipe(
        Stream.mapError((cause) => this.decodeError(cause)),
        Stream.ensuring(this.close)
      )
    })
  }

  get arrayBuffer(): Effect.Effect<ArrayBuffer, HttpClientError.HttpClientError> {
    return this.cachedArrayBuffer ??= Effect.flatMap(
      HttpIncomingMessage.MaxBodySize,
      (limit) => this.collect(limit === undefined ? Infinity : Number(limit))
    ).pipe(Effect.cached, Effect.runSync)
  }

  // As with Effect's other clients, what is read as a whole has a limit, and a stream is up to its reader.
  private collect(limit: number): Effect.Effect<ArrayBuffer, HttpClientError.HttpClientError> {
    const tooLarge = Effect.suspend(() =>
      Effect.fail(this.decodeError(undefined, `the body is longer than ${limit} bytes (MaxBodySize)`))
    )
    return Effect.suspend(() => {
      if ((this.exchange.contentLength ?? 0) > limit) return Effect.andThen(this.close, tooLarge)
      if (this.taken) return Effect.fail(this.decodeError(undefined, readAlready))
      this.taken = true
      const parts: Array<Uint8Array> = []
      let size = 0
      // Measured, a Stream here is a fifth of the CPU of a request whose answer is small.
      const read: Effect.Effect<void, HttpClientError.HttpClientError> = Pull.matchEffect(this.exchange.pull, {
        onSuccess: (chunks) => {
          for (const chunk of chunks) {
            size += chunk.length
            if (size > limit) return tooLarge
            parts.push(chunk)
          }
          return read
        },
        onFailure: (cause) => Effect.failCause(Cause.map(cause, (error) => this.decodeError(error))),
        onDone: () => Effect.void
      })
      return Effect.map(Effect.ensuring(read, this.close), () => concat(parts).buffer)
    })
  }

  get text(): Effect.Effect<string, HttpClientError.HttpClientError> {
    return Effect.map(this.arrayBuffer, (bytes) => new TextDecoder().decode(bytes))
  }

  get json(): Effect.Effect<Schema.Json, HttpClientError.HttpClientError> {
    return Effect.flatMap(this.text, (text) =>
      Effect.try({
        try: () => text === "" ? null : JSON.parse(text),
        catch: (cause) => this.decodeError(cause)
      }))
  }

  get urlParamsBody(): Effect.Effect<UrlParams.UrlParams, HttpClientError.HttpClientError> {
    return Effect.flatMap(this.arrayBuffer, (bytes) =>
      Effect.try({
        // A leading "?" is data; URLSearchParams would take it for the mark of a query.
        try: () => UrlParams.fromInput(new URLSearchParams(formDecoder.decode(bytes).replace(/^\?/, "%3F"))),
        catch: (cause) => this.decodeError(cause)
      }))
  }

  get formData(): Effect.Effect<FormData, HttpClientError.HttpClientError> {
    return this.cachedFormData ??= Effect.flatMap(this.arrayBuffer, (bytes) =>
      Effect.tryPromise({
        try: () =>
          new globalThis.Response(bytes, { headers: { "content-type": this.headers["content-type"] ?? "" } })
            .formData(),
        catch: (cause) => this.decodeError(cause)
      })).pipe(Effect.cached, Effect.runSync)
  }

  get upgrade(): Effect.Effect<Socket.Socket, HttpClientError.HttpClientError> {
    return Effect.suspend(() =>
      Effect.fail(
        new HttpClientError.HttpClientError({
          reason: new HttpClientError.StatusCodeError({
            request: this.request,
            response: this,
            description: "FastCGI cannot hand over the connection of an HTTP upgrade"
          })
        })
      )
    )
  }

  toJSON(): unknown {
    return HttpIncomingMessage.inspect(this, {
      _id: "effect/http/HttpClientResponse",
      request: this.request.toJSON(),
      status: this.status
    })
  }

  pipe() {
    return pipeArguments(this, arguments)
  }

  private decodeError(cause: unknown, description = text(cause)): HttpClientError.HttpClientError {
    return new HttpClientError.HttpClientError({
      reason: new HttpClientError.DecodeError({ request: this.request, response: this, cause, description })
    })
  }
}

const readAlready = "the body has been read already"

const formDecoder = new TextDecoder("utf-8", { ignoreBOM: true })

const space = /[ \t]/

/**
 * The cookie of a Set-Cookie line, or `undefined` where it is none. `Cookies.fromSetCookie` gets neither names nor values
 * with spaces: it looks at a run of n of them n times, which takes seconds for 60 KB.
 */
export const parseSetCookie = (line: string): Cookies.Cookie | undefined => {
  const end = line.indexOf(";")
  const pair = end === -1 ? line : line.slice(0, end)
  const equals = pair.indexOf("=")
  const name = pair.slice(0, equals).trim()
  if (equals === -1 || space.test(name)) return undefined
  const cookie = Object.values(Cookies.fromSetCookie(`${name}=${line.slice(pair.length)}`).cookies).at(0)
  if (cookie === undefined) return undefined
  const valueEncoded = pair.slice(equals + 1).trim()
  const value = Result.getOrElse(Result.try(() => decodeURIComponent(valueEncoded)), () => valueEncoded)
  return Object.assign(Object.create(Object.getPrototypeOf(cookie)), { ...cookie, value, valueEncoded })
}
