/**
 * One FastCGI request as the pair of `node:http`, and what an app makes of it as a `FastCgiResponse`.
 *
 * Node's own ServerResponse writes into the request's socket, which is not connected to anything: text that is a head of
 * HTTP/1.1 and then the body as it is. A response that has ended in its first write leaves as a whole; one that goes on, or is
 * long, becomes a stream, whose reader makes room for what the app writes next.
 *
 * ```
 * waiting --write--> (end in the same write, short) --> answered
 *    |      \--write--> streaming --end, everything taken--> answered
 *    |                     |
 *    \--throws, rejects, destroys the socket--> failed: 500, or a body that breaks off
 *    \--fiber interrupted--> aborted: "close", "aborted"
 * ```
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as CgiRequest from "../../cgi/CgiRequest.ts"
import type { FastCgiParams } from "../../protocol/FastCgiParams.ts"
import type { Responder } from "../../server/FastCgiRequest.ts"
import type { FastCgiResponse } from "../../server/FastCgiResponse.ts"
import { type HttpRequest, makeRequest, mayHaveBody, type RequestOwner } from "./httpRequest.ts"
import {
  bodyStart,
  closeResponse,
  drainWithSocket,
  type HttpResponse,
  isInterim,
  makeResponse,
  parseHead,
  type ResponseHead,
  type ResponseOwner
} from "./httpResponse.ts"
import { HttpSocket, type SocketOwner, type Written } from "./httpSocket.ts"

/** Takes the request of an exchange. */
export interface HttpApp {
  /** Gives the request to the app; what it returns is waited for when it is a Promise, and rejections fail the request. */
  readonly handle: (request: HttpRequest, response: HttpResponse) => unknown
  /** Starts what an exchange does besides: reading a body, logging. */
  readonly fork: <E>(effect: Effect.Effect<void, E>) => Fiber.Fiber<void, E>
  /** The value of `socket.server`. */
  readonly server?: unknown
  /** Whether anybody takes care of a socket on which nothing has happened for the time it was given. */
  readonly idle?: ((socket: HttpSocket) => boolean) | undefined
}

type Answer = Effect.Effect<FastCgiResponse, unknown, Scope.Scope>

/** A handler for `FastCgiServer.serve` that gives every request to an app written for `node:http`. */
export const httpResponder = (app: HttpApp, urlOptions: CgiRequest.UrlOptions) => (request: Responder): Answer =>
  CgiRequest.invalidVariable(request.params) === undefined
    ? new HttpExchange(app, request, urlOptions).run()
    : Effect.succeed(badRequest)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// Never written to.
const none: Array<never> = []

/** The answer to params that are no request. */
export const badRequest: FastCgiResponse = {
  _tag: "FastCgiResponse",
  status: 400,
  statusText: undefined,
  headers: { "content-type": "text/plain", "content-length": "12" },
  setCookies: [],
  body: "Bad Request\n",
  appStatus: 0
}

// Bytes. A longer body waits until the web server takes it, so that the app is told when it has been sent.
const wholeBody = 64 * 1024

// Bytes of a long body that are passed on at once, so that responses on the same connection take turns.
const bodyShare = 512 * 1024

class HttpExchange implements SocketOwner, RequestOwner, ResponseOwner {
  private readonly app: HttpApp
  // What has been answered is let go of at once, and the request when the exchange is closed: kept, half of all young objects
  // survived a collection, and the CPU of a request doubled.
  private fastCgi: Responder | undefined
  readonly params: FastCgiParams
  hasHeaders = false
  rawHeaders: RequestOwner["rawHeaders"]
  headersDistinct: RequestOwner["headersDistinct"]
  private readonly socket: HttpSocket
  private readonly request: HttpRequest
  private readonly response: HttpResponse
  private readonly hasBody: boolean
  private state: "waiting" | "streaming" | "over" = "waiting"

  // The answer, or who waits for it.
  private answer: Answer | undefined
  private resume: ((answer: Answer) => void) | undefined

  // The response: what has been written and not been taken, and who is to be told when it is.
  ending = false
  private lastWrite = false
  private hasEnded = false
  private head: ResponseHead | undefined
  private written: Array<string | Uint8Array> = []
  private size = 0
  private callbacks: Array<() => void> = none
  private failure: { readonly error: unknown } | undefined
  private wake: (() => void) | undefined

  // The body of the request: the fiber that reads it, and what lets it go on.
  private reader: Fiber.Fiber<void, unknown> | undefined
  private more: (() => void) | undefined

  constructor(
    app: HttpApp,
    fastCgi: Responder,
    urlOptions: CgiRequest.UrlOptions
  ) {
    this.app = app
    this.fastCgi = fastCgi
    this.params = fastCgi.params
    this.socket = new HttpSocket(this, fastCgi.params)
    this.request = makeRequest(this.socket, urlOptions, this)
    this.hasBody = mayHaveBody(fastCgi.params, this.request.method!)
    this.request.complete = !this.hasBody
    this.response = makeResponse(this.request, this.socket, this)
  }

  get server(): unknown {
    return this.app.server
  }

  /** Gives the request to the app and waits for its answer. Interrupted, it tells the app that the client is gone. */
  run(): Answer {
    try {
      const returned = this.app.handle(this.request, this.response)
      if (isThenable(returned)) returned.then(undefined, (error) => this.fail(error))
    } catch (error) {
      this.fail(error)
    }
    return this.answer ?? Effect.callback<FastCgiResponse, unknown, Scope.Scope>((resume) => {
      this.resume = resume
      return Effect.sync(() => this.abort())
    })
  }

  // --- the response -----------------------------------------------------------------------------

  endBegins(): void {
    this.ending = this.state === "waiting" && this.socket.writableLength === 0 && !this.socket.destroyed
    this.lastWrite = true
  }

  endEnds(): void {
    this.ending = this.lastWrite = false
    if (this.hasEnded || !this.response.writableEnded) return
    this.hasEnded = true
    if (this.state !== "waiting") return this.wakeReader()
    if (this.head === undefined) return this.fail(new Error("the response has ended without a head"))
    if (this.size <= wholeBody && !this.isReading()) this.answerWhole(this.head)
    else this.stream(this.head)
  }

  writeEnd(chunk: string | Uint8Array, encoding: BufferEncoding, callback: (() => void) | null | undefined): void {
    this.take(chunk, encoding)
    if (callback) this.whenTaken(callback)
  }

  write(pieces: ReadonlyArray<Written>, callback: () => void): void {
    if (this.state === "over") return callback()
    for (const { chunk, encoding } of pieces) this.take(chunk, encoding)
    // Only the head of an interim response, or something else.
    if ((this.state === "waiting" && this.head === undefined) || this.failure !== undefined) return callback()
    this.whenTaken(callback)
    if (this.state === "streaming") this.wakeReader()
    else if (!this.lastWrite && this.head !== undefined) this.stream(this.head)
  }

  // Keeps what of the body is in a piece: bytes, or text in UTF-8. A piece may begin with the head.
  private take(chunk: string | Uint8Array, encoding: BufferEncoding): void {
    let body = chunk
    if (this.state === "waiting" && this.head === undefined && body.length > 0) {
      const start = typeof body === "string" ? bodyStart(body) : -1
      if (typeof body !== "string" || start === -1) {
        return this.fail(new Error("bytes that are no HTTP response were written to the socket"))
      }
      if (isInterim(body)) return
      this.head = parseHead(body, start)
      body = body.substring(start)
    }
    if (body.length === 0) return
    this.written.push(typeof body === "string" && encoding !== "utf8" ? Buffer.from(body, encoding) : body)
    this.size += body.length
  }

  private answerWhole(head: ResponseHead): void {
    const body = join(this.written)
    this.state = "over"
    this.written = none
    this.head = undefined
    process.nextTick(close, this)
    this.settle(Effect.succeed(responseOf(head, body)))
  }

  private stream(head: ResponseHead): void {
    this.state = "streaming"
    this.head = undefined
    drainWithSocket(this.response, this.socket)
    const body = Stream.fromPull(Effect.succeed(this.pullWritten()))
    const response = responseOf(head, body)
    this.settle(Effect.as(Effect.addFinalizer((exit) => Effect.sync(() => this.sent(exit))), response))
  }

  private pullWritten(): Pull.Pull<readonly [Uint8Array, ...Array<Uint8Array>], unknown> {
    const pull: Pull.Pull<readonly [Uint8Array, ...Array<Uint8Array>], unknown> = Effect.suspend(() => {
      const share = this.takeShare()
      if (share !== undefined) return Effect.succeed(share)
      if (this.failure !== undefined) return Effect.die(this.failure.error)
      if (this.hasEnded && this.socket.writableLength === 0 && !this.isReading()) return Cause.done()
      return Effect.callback((resume) => {
        this.wake = () => resume(pull)
      })
    })
    return pull
  }

  // What is waiting, or a share of it. The app goes on writing when it has been taken.
  private takeShare(): readonly [Uint8Array, ...Array<Uint8Array>] | undefined {
    if (this.written.length === 0) {
      this.callBack()
      if (this.written.length === 0) return undefined
    }
    const chunks = this.written.map(toBytes)
    const first = chunks[0]
    if (first.length > bodyShare) {
      chunks[0] = first.subarray(bodyShare)
      this.written = chunks
      return [first.subarray(0, bodyShare)]
    }
    this.written = []
    return chunks as [Uint8Array, ...Array<Uint8Array>]
  }

  private whenTaken(callback: () => void): void {
    if (this.callbacks === none) this.callbacks = [callback]
    else this.callbacks.push(callback)
  }

  // Says that all that was written has been sent. What the app has written meanwhile comes in this very call.
  private callBack(): void {
    const { callbacks } = this
    if (callbacks.length === 0) return
    this.callbacks = none
    for (const callback of callbacks) callback()
  }

  private wakeReader(): void {
    const { wake } = this
    this.wake = undefined
    wake?.()
  }

  // The response has been sent, or can not be any more.
  private sent(exit: Exit.Exit<unknown, unknown>): void {
    if (this.state === "over") return
    if (Exit.isFailure(exit)) return this.abort()
    this.state = "over"
    process.nextTick(close, this)
  }

  // --- the request's body -----------------------------------------------------------------------

  pull(): void {
    if (!this.hasBody) {
      this.request.push(null)
      return
    }
    const { fastCgi, more } = this
    this.more = undefined
    if (more !== undefined) more()
    else if (this.reader === undefined && fastCgi !== undefined) this.reader = this.read(fastCgi)
  }

  private read(fastCgi: Responder): Fiber.Fiber<void, unknown> {
    const room: Effect.Effect<void> = Effect.callback((resume) => {
      this.more = () => resume(Effect.void)
    })
    return this.app.fork(
      Stream.runForEachArray(fastCgi.stdin, (chunks) => {
        this.socket.active()
        let wantsMore = true
        for (const chunk of chunks) wantsMore = this.request.push(chunk)
        return wantsMore ? Effect.void : room
      }).pipe(
        Effect.matchCause({
          onSuccess: () => {
            this.request.complete = true
            this.request.push(null)
            // An app that answered before it had read everything may have waited for this.
            if (this.hasEnded) process.nextTick(wakeReader, this)
          },
          onFailure: (cause) => {
            if (!Cause.hasInterruptsOnly(cause)) this.request.destroy(aborted(Cause.squash(cause)))
          }
        })
      )
    )
  }

  // Whether the app still reads the body: what it has not got when the response ends is lost.
  private isReading(): boolean {
    return this.hasBody && this.request.readableFlowing === true && !this.request.complete && !this.request.destroyed
  }

  // --- the end ----------------------------------------------------------------------------------

  idle(): void {
    const handled = [
      this.request.emit("timeout", this.socket),
      this.response.emit("timeout", this.socket),
      this.app.idle?.(this.socket) ?? false
    ]
    if (!handled.includes(true)) this.socket.destroy()
  }

  destroyed(error: Error | null): void {
    this.socket.prependOnceListener("close", () => closeResponse(this.response))
    if (this.state !== "over") this.fail(error ?? new Error("the socket was destroyed before the response had ended"))
    this.reader?.interruptUnsafe()
    this.callBack()
  }

  /** Everything is over: tells the request and the response, which have not failed. */
  close(): void {
    // "finish" is one of them.
    this.callBack()
    this.fastCgi = this.answer = this.resume = undefined
    const { request } = this
    // As Node's own server does with what nobody reads. Where nobody listens, nobody can tell, and it costs a microsecond.
    if (!request.destroyed && (request.listenerCount("end") > 0 || request.listenerCount("close") > 0)) {
      if (!request.complete) {
        this.reader?.interruptUnsafe()
        request.complete = true
        request.push(null)
      }
      if (request.readableFlowing === null) request.resume()
    }
    const { response, socket } = this
    // An event costs a tick, and twice as much as all else that is done here. Where nobody listens, what it would say is noted.
    if (socket.listenerCount("close") > 0) return void socket.destroy()
    this.reader?.interruptUnsafe()
    socket.closeQuietly()
    if (response.listenerCount("close") > 0) process.nextTick(closeResponse, response)
    else closeResponse(response)
  }

  private settle(answer: Answer): void {
    this.answer = answer
    this.resume?.(answer)
  }

  // The app has failed: 500 where nothing has been sent, otherwise the response must not look complete.
  private fail(error: unknown): void {
    if (this.state === "over") {
      this.app.fork(Effect.logError("an app failed when its response had been sent already", Cause.die(error)))
      return
    }
    this.failure ??= { error }
    if (this.state === "waiting") {
      this.state = "over"
      this.settle(Effect.die(error))
    } else {
      this.wakeReader()
    }
    this.leave()
  }

  private abort(): void {
    if (this.state === "over") return
    this.state = "over"
    this.written = []
    this.leave()
  }

  // The connection is gone, as far as the app is concerned.
  private leave(): void {
    this.socket.destroy()
    this.request.destroy(aborted())
  }
}

const close = (exchange: HttpExchange): void => exchange.close()

const wakeReader = (exchange: { wakeReader(): void }): void => exchange.wakeReader()

const responseOf = (head: ResponseHead, body: FastCgiResponse["body"]): FastCgiResponse => ({
  _tag: "FastCgiResponse",
  status: head.status,
  statusText: head.statusText,
  headers: head.headers,
  setCookies: head.setCookies,
  body,
  appStatus: 0
})

const toBytes = (body: string | Uint8Array): Uint8Array => typeof body === "string" ? Buffer.from(body) : body

const join = (pieces: ReadonlyArray<string | Uint8Array>): string | Uint8Array | undefined =>
  pieces.length < 2 ? pieces[0] : Buffer.concat(pieces.map(toBytes))

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === "object" && value !== null && "then" in value && typeof value.then === "function"

// The error of Node's own server when a client has gone away.
const aborted = (cause?: unknown): Error => Object.assign(new Error("aborted", { cause }), { code: "ECONNRESET" })
