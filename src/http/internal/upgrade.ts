/**
 * `HttpServerRequest.upgrade` over a FastCGI request: whether it can be, and the socket that becomes of it.
 *
 * All of the handshake is checked here, so that what is refused is an answer like any other, which middleware and logs see.
 */
import type * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type * as Headers from "effect/http/Headers"
import { HttpServerError, InternalError, RequestParseError } from "effect/http/HttpServerError"
import * as Respondable from "effect/http/HttpServerRespondable"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Latch from "effect/Latch"
import * as Pull from "effect/Pull"
import * as Socket from "effect/socket/Socket"
import { CgiHeadError } from "../../cgi/CgiResponse.ts"
import * as CgiUpgrade from "../../cgi/CgiUpgrade.ts"
import type { FastCgiParams } from "../../protocol/FastCgiParams.ts"
import type { ApplicationRequest } from "../../server/internal/applicationRequest.ts"
import type { FastCgiTunnel, FastCgiTunnelObserver, FastCgiWebSockets } from "../FastCgiUpgrade.ts"
import type { ServerRequest } from "./serverRequest.ts"

/** The response that middleware sees for a handler whose connection has been handed over. */
export const upgraded = HttpServerResponse.empty({ status: 101 })

/** Whether it is an upgrade that has been refused: the answer says why, and nothing of the app has failed. */
export const isRefusal = (error: unknown): boolean =>
  error instanceof HttpServerError && (error.reason instanceof Refused || error.reason instanceof Unsupported)

/** Makes the client's connection a socket. 101 is sent when its reader is acquired. */
export const upgrade = (
  httpRequest: ServerRequest,
  webSockets: FastCgiWebSockets["Service"] | undefined,
  headers: Headers.Headers
): Effect.Effect<Socket.Socket, HttpServerError> =>
  Effect.suspend(() => {
    const { request } = httpRequest
    const { params } = request
    const protocols = CgiUpgrade.protocols(params)
    if (protocols === undefined) return refuse(httpRequest, 426, notAsked)
    if (CgiUpgrade.isWebSocket(protocols)) {
      if (Object.keys(headers).length > 0) {
        return Effect.fail(
          unsupported(httpRequest, 500, "the response to a WebSocket handshake takes no headers of the app")
        )
      }
      const problem = webSocketProblem(params, webSockets)
      if (problem !== undefined) return refuse(httpRequest, ...problem)
      if (webSockets === undefined) return Effect.fail(unsupported(httpRequest, 501, noWebSockets))
      return carried(httpRequest, (tunnel) => webSockets.accept(httpRequest, tunnel))
    }
    const head = CgiUpgrade.encodeHead(protocols, headers)
    return head instanceof CgiHeadError
      ? Effect.fail(unsupported(httpRequest, 500, head.message, head))
      : carried(httpRequest, (tunnel) => Effect.succeed(rawSocket(tunnel, head)))
  })

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const notAsked = "the request asks for no other protocol, or the web server has removed its Upgrade header"
const notCarried = "this web server carries no WebSockets; lighttpd from 1.4.74 on does (docs/websockets.md)"
const noWebSockets = "this server makes no WebSockets: provide NodeFastCgiWebSocket.layer"

type Problem = readonly [status: number, description: string, headers?: Readonly<Record<string, string>>]

// RFC 6455 §4.2.1.
const webSocketProblem = (
  params: FastCgiParams,
  webSockets: FastCgiWebSockets["Service"] | undefined
): Problem | undefined => {
  if (params.getLatin1("REQUEST_METHOD") !== "GET") return [405, "a WebSocket is asked for with GET", { allow: "GET" }]
  if (params.getLatin1("HTTP_SEC_WEBSOCKET_VERSION")?.trim() !== "13") {
    return [426, "this server speaks version 13 of WebSocket", { "sec-websocket-version": "13" }]
  }
  if (!key.test(params.getLatin1("HTTP_SEC_WEBSOCKET_KEY") ?? "")) return [400, "Sec-WebSocket-Key is no key"]
  const origin = params.getLatin1("HTTP_ORIGIN")
  return origin === undefined || webSockets?.allowsOrigin(origin, params.getLatin1("HTTP_HOST")) !== false
    ? undefined
    : [403, "pages of this origin may not open a WebSocket"]
}

// 16 bytes in base64.
const key = /^[A-Za-z0-9+/]{22}==$/

/**
 * For how long the end of STDIN may come behind an upgrade, where the web server is not known to carry one. nginx, Apache and Caddy
 * end STDIN within a millisecond, Apache and Caddy in a write of its own. Only a lighttpd that hides its name makes its clients wait.
 */
const endOfStdinWithin = "500 millis"

// A web server that carries nothing has ended STDIN behind the params. A turn of the event loop reads what has come: lighttpd, where
// it carries nothing, sends the end in one write with the params.
const carried = (
  httpRequest: ServerRequest,
  accept: (tunnel: Tunnel) => Effect.Effect<Socket.Socket>
): Effect.Effect<Socket.Socket, HttpServerError> => {
  const { params, stdin } = httpRequest.request
  return Effect.andThen(
    CgiUpgrade.isCarried(params)
      ? Effect.andThen(Effect.yieldNow, Effect.yieldNow)
      : Effect.timeoutOption(stdin!.whenComplete, endOfStdinWithin),
    Effect.suspend(() =>
      stdin!.isComplete
        ? Effect.fail(unsupported(httpRequest, 501, notCarried))
        : accept(new Tunnel(httpRequest.request))
    )
  )
}

const noObserver: FastCgiTunnelObserver = { onDrain: () => {}, onPeerEnd: () => {} }

class Tunnel implements FastCgiTunnel {
  private readonly request: ApplicationRequest
  observer = noObserver

  constructor(request: ApplicationRequest) {
    this.request = request
  }

  open(head: string): void {
    this.request.upgrade(head, {
      onDrain: () => this.observer.onDrain(),
      onPeerEnd: () => this.observer.onPeerEnd()
    })
  }

  get pull(): FastCgiTunnel["pull"] {
    return this.request.stdin!.pull
  }

  /** Whether bytes of the client have come that nobody has pulled. */
  get hasUnread(): boolean {
    return this.request.unread > 0
  }

  write(chunks: ReadonlyArray<Uint8Array>): Effect.Effect<void> {
    return Effect.suspend(() => {
      for (const chunk of chunks) if (chunk.length > 0) this.request.stdout(chunk)
      return this.request.room
    })
  }

  end(): void {
    this.request.end(0)
  }

  hangUp(): void {
    this.request.hangUp()
  }
}

const encoder = new TextEncoder()

// Bytes both ways. As of a socket of Node, the client's half-close ends the reader with 1000, and what is written still goes.
const rawSocket = (tunnel: Tunnel, head: string): Socket.Socket => {
  const opened = Latch.makeUnsafe(false)
  let isOpened = false
  let isEnded = false
  let peerHasEnded = false
  const end = () => {
    isEnded = true
    tunnel.end()
  }
  const observer: FastCgiTunnelObserver = {
    // Nobody says goodbye in a protocol that nobody here knows.
    onDrain: () => {},
    onPeerEnd: () => {
      peerHasEnded = true
      if (!tunnel.hasUnread) tunnel.hangUp()
    }
  }
  const send = (chunks: ReadonlyArray<Uint8Array | string>): Effect.Effect<void, Socket.SocketError> =>
    Effect.suspend(() =>
      isEnded
        ? Effect.fail(closed(1006))
        : tunnel.write(chunks.map((chunk) => typeof chunk === "string" ? encoder.encode(chunk) : chunk))
    )
  const pull: Socket.Reader["pull"] = Pull.matchEffect(tunnel.pull, {
    onSuccess: Effect.succeed,
    onDone: () =>
      Effect.suspend(() => {
        if (peerHasEnded) tunnel.hangUp()
        return Effect.fail(closed(1000))
      }),
    onFailure: () => Effect.fail(closed(1006))
  })
  return Socket.make({
    reader: Effect.acquireRelease(
      Effect.sync((): Socket.Reader => {
        if (!isOpened) {
          isOpened = true
          tunnel.observer = observer
          tunnel.open(head)
          opened.openUnsafe()
        }
        return { pull, upgrade: Socket.SocketUpgradeError.unsupported }
      }),
      () => Effect.sync(end)
    ),
    writer: Effect.succeed({
      write: (chunk: Uint8Array | string | Socket.CloseEvent) =>
        opened.whenOpen(Socket.isCloseEvent(chunk) ? Effect.sync(end) : send([chunk])),
      writeAll: (chunks: Arr.NonEmptyReadonlyArray<Uint8Array | string>) => opened.whenOpen(send(chunks))
    })
  })
}

const closed = (code: number, closeReason?: string): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketCloseError({ code, closeReason }) })

type Props = Readonly<Record<string, string>> | undefined

// The client's doing.
class Refused extends RequestParseError {
  private readonly status: number
  private readonly headers: Props

  constructor(request: ServerRequest, status: number, description: string, headers: Props) {
    super({ request, description })
    this.status = status
    this.headers = headers
  }

  override [Respondable.symbol]() {
    return Effect.succeed(
      HttpServerResponse.text(`${this.description}\n`, { status: this.status, headers: this.headers })
    )
  }
}

// Nobody can help it but who runs the server.
class Unsupported extends InternalError {
  private readonly status: number

  constructor(request: ServerRequest, status: number, description: string, cause: unknown) {
    super({ request, description, cause })
    this.status = status
  }

  override [Respondable.symbol]() {
    return Effect.succeed(HttpServerResponse.text(`${this.description}\n`, { status: this.status }))
  }
}

const refuse = (request: ServerRequest, status: number, description: string, headers?: Props) =>
  Effect.fail(new HttpServerError({ reason: new Refused(request, status, description, headers) }))

const unsupported = (request: ServerRequest, status: number, description: string, cause?: unknown): HttpServerError =>
  new HttpServerError({ reason: new Unsupported(request, status, description, cause) })
