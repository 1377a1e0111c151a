/**
 * `http.Server` for web servers: the same events and methods, with FastCGI on its socket.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import type * as Http from "node:http"
import type * as Net from "node:net"
import { FastCgiListener, FastCgiListenerError, type FastCgiListenerErrorReason } from "../../server/FastCgiListener.ts"
import type { NodeFastCgiOptions } from "../NodeFastCgi.ts"
import type { NodeHandler, ServerOptions } from "../NodeFastCgiApp.ts"
import type { HttpRequest } from "./httpRequest.ts"
import type { HttpResponse } from "./httpResponse.ts"
import { listening } from "./listening.ts"
import { http } from "./nodeHttp.ts"
import { serveApp } from "./serveApp.ts"

/** Where `listen` was told to listen. */
type Place = { readonly path: string } | { readonly port: number; readonly host?: string | undefined } | {
  readonly fd: number
}

/** A server of `createServer`. */
export class HttpServer extends http.Server {
  private readonly options: ServerOptions
  private fiber: Fiber.Fiber<unknown, FastCgiListenerError> | undefined
  private at: NetAddress.SocketAddress | undefined

  constructor(options: ServerOptions, handler: NodeHandler | undefined) {
    super()
    // Options of Node's own server about its connections.
    this.removeAllListeners("connection")
    this.removeAllListeners("listening")
    this.options = options
    if (handler !== undefined) this.on("request", handler as Http.RequestListener)
  }

  static {
    // A property in Node's types, and an accessor in fact.
    Object.defineProperty(this.prototype, "listening", {
      configurable: true,
      get(this: HttpServer) {
        return this.at !== undefined
      }
    })
  }

  override listen(...args: ReadonlyArray<unknown>): this {
    if (this.fiber !== undefined) {
      throw Object.assign(new Error("Listen method has been called more than once without closing."), {
        code: "ERR_SERVER_ALREADY_LISTEN"
      })
    }
    const callback = args.at(-1)
    if (typeof callback === "function") this.once("listening", () => callback())
    const { backlog, place } = placeOf(args)
    const options = {
      ...place === undefined ? this.options : { ...elsewhere(this.options), ...place },
      ...backlog === undefined ? undefined : { backlog }
    } as NodeFastCgiOptions
    const served = serveApp(
      {
        handle: (request, response) => this.handle(request, response),
        idle: (socket) => this.emit("timeout", socket as never),
        server: this
      },
      options
    ).pipe(
      Layer.provideMerge(listening(options)),
      Layer.tap((context) =>
        Effect.sync(() => {
          this.at = Context.get(context, FastCgiListener).address
          process.nextTick(() => this.emit("listening"))
        })
      )
    )
    const fiber = this.fiber = Effect.runFork(Layer.launch(served))
    fiber.addObserver((exit) => {
      this.fiber = this.at = undefined
      const failed = Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause) ? Cause.squash(exit.cause) : undefined
      process.nextTick(() => {
        if (failed === undefined) this.emit("close")
        else this.emit("error", withCode(failed))
      })
    })
    return this
  }

  /** Stops accepting, and lets what runs finish for `gracefulShutdownTimeout`; "close" follows. */
  override close(callback?: (error?: Error) => void): this {
    const { fiber } = this
    if (fiber === undefined) {
      if (callback !== undefined) {
        const error = Object.assign(new Error("Server is not running."), { code: "ERR_SERVER_NOT_RUNNING" })
        process.nextTick(callback, error)
      }
      return this
    }
    if (callback !== undefined) this.once("close", () => callback())
    this.at = undefined
    fiber.interruptUnsafe()
    return this
  }

  override address(): Net.AddressInfo | string | null {
    const { at } = this
    if (at === undefined) return null
    if (!NetAddress.isInetAddress(at)) return at.path
    const family = NetAddress.isInetAddressV4(at) ? "IPv4" : "IPv6"
    return { address: NetAddress.formatHost(at), family, port: at.port }
  }

  /** Closing closes them, and the web server's are its own before. */
  override closeIdleConnections(): void {}

  private handle(request: HttpRequest, response: HttpResponse): unknown {
    if (this.timeout > 0) request.socket.setTimeout(this.timeout)
    if (this.listenerCount("upgrade") > 0 && /^websocket$/i.test(request.headers.upgrade ?? "")) {
      return refuseUpgrade(response)
    }
    const [listener, ...others] = this.rawListeners("request")
    const returned = listener?.call(this, request, response)
    return others.length === 0
      ? returned
      : Promise.all([returned, ...others.map((listener) => listener.call(this, request, response))])
  }
}

// The app wants to answer by taking the connection over, and there is none to take.
const refuseUpgrade = (response: HttpResponse): void => {
  response.writeHead(501, { "content-type": "text/plain" })
  response.end("A FastCGI request can not become a WebSocket. Let the web server pass this path on as HTTP.\n")
}

const elsewhere = (options: ServerOptions): object => {
  const { fd: _1, host: _2, listeners: _3, path: _4, port: _5, systemd: _6, ...others } = options as Record<
    string,
    unknown
  >
  return others
}

// The forms of `net.Server.listen`.
const placeOf = (args: ReadonlyArray<unknown>): { readonly place?: Place; readonly backlog?: number | undefined } => {
  const [first, second] = args
  const number = args.slice(1).find((arg) => typeof arg === "number")
  if (typeof first === "object" && first !== null) {
    const { backlog, fd, host, path, port } = first as Net.ListenOptions & { readonly fd?: unknown }
    const place = typeof fd === "number"
      ? { fd }
      : port !== undefined && port !== null
      ? { port: Number(port), ...typeof host === "string" ? { host } : undefined }
      : typeof path === "string"
      ? { path }
      : undefined
    return { ...place === undefined ? undefined : { place }, backlog }
  }
  if (typeof first === "number" || (typeof first === "string" && /^\d+$/.test(first))) {
    const place = { port: Number(first), ...typeof second === "string" ? { host: second } : undefined }
    return { place, backlog: number }
  }
  return typeof first === "string" ? { place: { path: first }, backlog: number } : {}
}

const codes: Partial<Record<FastCgiListenerErrorReason["_tag"], string>> = {
  AddressInUse: "EADDRINUSE",
  PermissionDenied: "EACCES",
  AddressNotAvailable: "EADDRNOTAVAIL"
}

// As `net.Server` names it, where it has a name for it.
const withCode = (error: unknown): unknown => {
  const code = error instanceof FastCgiListenerError ? codes[error.reason._tag] : undefined
  return code === undefined ? error : Object.assign(error as FastCgiListenerError, { code })
}
