/**
 * A WebSocket of `ws` over a tunnel, as a `Socket`: pinged, closed with a handshake, and with backpressure in both directions.
 */
import type * as NodeWS from "@effect/platform-node/NodeWS"
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import type { IncomingMessage } from "node:http"
import type { FastCgiTunnel } from "../../http/FastCgiUpgrade.ts"
import { type Fork, TunnelDuplex } from "./tunnelDuplex.ts"

/** The options that all WebSockets of a server share. */
export interface WebSocketSettings {
  readonly server: Effect.Effect<NodeWS.WebSocketServer>
  /** Milliseconds; `Infinity` for none. */
  readonly pingInterval: number
  readonly fork: Fork
}

/** The socket of a tunnel. The handshake is done when its reader is acquired, once. */
export const fromTunnel = (
  request: HttpServerRequest,
  tunnel: FastCgiTunnel,
  settings: WebSocketSettings
): Effect.Effect<Socket.Socket> =>
  Effect.suspend(() => {
    let client: Client | undefined
    const acquire: Effect.Effect<Client, Socket.SocketError, Scope.Scope> = Effect.flatMap(settings.server, (server) =>
      Effect.acquireRelease(
        Effect.suspend(() => {
          if (client !== undefined) {
            return Effect.fail(openError("the connection has been upgraded already"))
          }
          const ws = accept(server, request, new TunnelDuplex(tunnel, settings.fork))
          if (ws === undefined) {
            return Effect.fail(openError("the connection has closed before the handshake"))
          }
          client = new Client(ws, tunnel)
          return Effect.succeed(client)
        }),
        (client, exit) =>
          client.closed(closeCode(exit))
      ))
    const pinged = Effect.tap(acquire, (client) =>
      Number.isFinite(settings.pingInterval)
        ? Effect.forkScoped(
          Effect.repeat(
            Effect.andThen(
              Effect.sleep(settings.pingInterval),
              Effect.sync(() =>
                client.ping()
              )
            ),
            {
              while: () => client.readyState === open
            }
          )
        )
        : Effect.void)
    const room = Effect.suspend(() => client === undefined ? Effect.void : client.room)
    return Effect.map(Socket.fromWebSocket(pinged), (socket) =>
      Socket.make({
        reader: socket.reader,
        writer: Effect.map(socket.writer, ({ write, writeAll }) => ({
          write: (chunk: Uint8Array | string | Socket.CloseEvent) => Effect.andThen(write(chunk), room),
          writeAll: (chunks: Arr.NonEmptyReadonlyArray<Uint8Array | string>) => Effect.andThen(writeAll(chunks), room)
        }))
      }))
  })

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// `readyState` of RFC 6455's API.
const open = 1
const closed = 3

// Bytes that the client has not taken, at which a writer waits.
const highWaterMark = 64 * 1024

// Synchronous, as there is no `verifyClient`.
const accept = (
  server: NodeWS.WebSocketServer,
  request: HttpServerRequest,
  duplex: TunnelDuplex
): NodeWS.WebSocket | undefined => {
  const headers: Record<string, string> = { ...request.headers, upgrade: "websocket" }
  let accepted: NodeWS.WebSocket | undefined
  const attempt = () =>
    server.handleUpgrade(
      // The members of a request that `ws` reads.
      { method: "GET", url: request.url, headers, socket: duplex } as unknown as IncomingMessage,
      duplex,
      Buffer.alloc(0),
      (ws) => {
        accepted = ws
      }
    )
  attempt()
  if (accepted === undefined && !duplex.destroyed) {
    // Offers that cannot be read are none (RFC 7692 §5.1, RFC 6455 §4.2.2).
    delete headers["sec-websocket-extensions"]
    delete headers["sec-websocket-protocol"]
    attempt()
  }
  return accepted
}

// One WebSocket, as `Socket.fromWebSocket` wants it.
class Client implements Socket.WebSocketLike {
  private readonly ws: NodeWS.WebSocket
  // Bytes that have been handed to `ws`, and not been taken.
  private unsent = 0
  private waiting: Array<() => void> = []
  private answered = true
  private gone = false

  constructor(ws: NodeWS.WebSocket, tunnel: FastCgiTunnel) {
    this.ws = ws
    const answered = () => {
      this.answered = true
    }
    ws.on("message", answered).on("pong", answered).on("ping", answered)
    // A reader is told of it when there is one. Without a listener it would end the process.
    ws.on("error", () => {})
    ws.on("close", (code) => {
      this.wake()
      // Whoever reads is told, and may still answer what came before. Then who only writes is told as well; and where the client
      // has gone without a word, the handler is interrupted.
      setImmediate(() => {
        this.gone = true
        if (code === 1006) tunnel.hangUp()
      })
    })
    const goodbye = () => ws.close(1001)
    tunnel.observer = { onDrain: goodbye, onPeerEnd: goodbye }
  }

  get readyState(): number {
    return this.ws.readyState
  }

  get isPaused(): boolean {
    return this.ws.isPaused
  }

  get binaryType(): string {
    return this.ws.binaryType
  }

  set binaryType(type: "arraybuffer") {
    this.ws.binaryType = type
  }

  pause(): void {
    this.ws.pause()
  }

  resume(): void {
    this.ws.resume()
  }

  addEventListener(...args: Parameters<Socket.WebSocketLike["addEventListener"]>): void {
    const [type, listener, options] = args
    this.ws.addEventListener(type, listener as never, options)
  }

  removeEventListener(...args: Parameters<Socket.WebSocketLike["removeEventListener"]>): void {
    const [type, listener] = args
    this.ws.removeEventListener(type, listener as never)
  }

  close(code?: number, reason?: string): void {
    this.ws.close(code, reason)
  }

  send(data: string | Uint8Array<ArrayBuffer>): void {
    if (this.gone) throw new Error("the WebSocket is closed")
    // A character is a byte at least.
    const size = data.length
    this.unsent += size
    this.ws.send(data, () => {
      this.unsent -= size
      if (this.unsent <= highWaterMark) this.wake()
    })
  }

  /** Waits until the client has taken what was sent, but for a little. */
  readonly room: Effect.Effect<void> = Effect.suspend(() =>
    this.unsent <= highWaterMark || this.ws.readyState !== open ? Effect.void : Effect.callback<void>((resume) => {
      const wake = () => resume(Effect.void)
      this.waiting.push(wake)
      return Effect.sync(() => {
        this.waiting = this.waiting.filter((other) => other !== wake)
      })
    })
  )

  private wake(): void {
    const { waiting } = this
    this.waiting = []
    for (const wake of waiting) wake()
  }

  /** Closes it, and waits until it is closed. `ws` does not wait longer than its `closeTimeout`. */
  closed(code: number): Effect.Effect<void> {
    return Effect.callback((resume) => {
      if (this.ws.readyState === closed) return resume(Effect.void)
      this.ws.once("close", () => resume(Effect.void))
      this.ws.close(code)
    })
  }

  /** Pings. A client that has not answered the last one is gone, unless nobody has read what it sends, or it does not read. */
  ping(): void {
    if (this.ws.readyState !== open) return
    if (this.ws.isPaused || this.ws.bufferedAmount > 0) {
      this.answered = true
      return
    }
    if (!this.answered) return this.ws.terminate()
    this.answered = false
    this.ws.ping()
  }
}

const closeCode = (exit: Exit.Exit<unknown, unknown>): number =>
  Exit.isSuccess(exit) ? 1000 : Cause.hasInterruptsOnly(exit.cause) ? 1001 : 1011

const openError = (message: string): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketOpenError({ kind: "Unknown", cause: new Error(message) }) })
