/**
 * Apps that were not written for Effect, behind a web server: apps for `node:http`, such as those of Express, Fastify, Koa and Next
 * (`serveNode`, `createServer`), and fetch handlers, such as those of Hono, h3 and Elysia (`serveFetch`).
 *
 * @since 0.1.0
 */
import * as Layer from "effect/Layer"
import type * as Http from "node:http"
import type { CgiVariables } from "../cgi/CgiRequest.ts"
import type { FastCgiHttpServerOptions } from "../http/FastCgiHttpServer.ts"
import type { FastCgiAdmission, FastCgiAdmissionOptions } from "../server/FastCgiAdmission.ts"
import type { FastCgiListener, FastCgiListenerError } from "../server/FastCgiListener.ts"
import * as FastCgiServer from "../server/FastCgiServer.ts"
import { fetchResponder, variablesOfRequest } from "./internal/fetchExchange.ts"
import { HttpServer } from "./internal/httpServer.ts"
import { HttpSocket } from "./internal/httpSocket.ts"
import { listening } from "./internal/listening.ts"
import { serveApp } from "./internal/serveApp.ts"
import type { NodeFastCgiOptions } from "./NodeFastCgi.ts"
import type { UnixOptions } from "./NodeFastCgiListener.ts"
import { runMain } from "./NodeFastCgiRuntime.ts"

/**
 * An app for `node:http`: an Express app, `app.callback()` of Koa, `app.routing` of Fastify, or a function of your own.
 *
 * **Details**
 *
 * A Promise that the app returns is watched. When the Promise rejects, or the function throws, the request is answered with 500 or
 * its response is broken off, and the error is logged. An error that a callback throws later ends the process, as with `node:http`.
 *
 * @category models
 * @since 0.1.0
 */
export type NodeHandler = (request: Http.IncomingMessage, response: Http.ServerResponse) => unknown

/**
 * The second argument of a fetch handler: `env` in Hono.
 *
 * @category models
 * @since 0.1.0
 */
export interface FetchEnvironment {
  /** The web server's variables: REMOTE_USER, HTTPS, SSL_* and others. */
  readonly variables: CgiVariables
  /** The place where `getConnInfo` of `@hono/node-server/conninfo` finds the client. */
  readonly incoming: {
    readonly socket: {
      readonly remoteAddress: string | undefined
      readonly remotePort: number | undefined
      readonly remoteFamily: string | undefined
      readonly encrypted: boolean
    }
  }
}

/**
 * A fetch handler: `app.fetch` of Hono, h3 and Elysia. It may answer with a `Response` or a Promise of one.
 *
 * @category models
 * @since 0.1.0
 */
export type FetchHandler = (request: Request, environment: FetchEnvironment) => Response | PromiseLike<Response>

/**
 * Options of `createServer`: the options of a server, without a required path, because `listen` may give it.
 *
 * @category options
 * @since 0.1.0
 */
export type ServerOptions =
  | NodeFastCgiOptions
  | (Partial<UnixOptions> & FastCgiAdmissionOptions & FastCgiHttpServerOptions)

/**
 * Serves an app for `node:http` as the program of this process.
 *
 * **Details**
 *
 * It is `NodeFastCgiRuntime.runMain` of `layerNode`. SIGTERM, SIGINT and SIGUSR1 let running requests finish and end the process with
 * 0. When it cannot listen, a message says what to do, and the exit code is 1. Without `path` or `port` it listens on file descriptor
 * 0, where web servers and spawn-fcgi put the socket. `createServer` leaves signals to the app.
 *
 * **Example** (An app without a framework)
 *
 * ```ts
 * import { NodeFastCgiApp } from "effect-fastcgi/node"
 *
 * export const main = () =>
 *   NodeFastCgiApp.serveNode((request, response) => {
 *     response.setHeader("Content-Type", "text/plain")
 *     response.end(`Hello ${request.socket.remoteAddress}\n`)
 *   }, { path: "/run/app/app.sock", mode: 0o660 })
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const serveNode = (handler: NodeHandler, options: NodeFastCgiOptions = {}): void =>
  runMain(Layer.launch(layerNode(handler, options)))

/**
 * Serves a fetch handler as the program of this process. Signals and failures work as in `serveNode`.
 *
 * **Details**
 *
 * - `request.signal` aborts when the client goes away, also after the response has begun. It also aborts when the server stops and
 *   `gracefulShutdownTimeout` is over. The stop does not wait for a handler that waits for something else.
 * - A request that does not fit into a `Request` is answered with 400: one with an invalid Host, and the methods TRACE and CONNECT.
 * - The body of a `GET` is not passed on, because a `Request` with GET has no body.
 *
 * **Example** (A handler without a framework)
 *
 * ```ts
 * import { NodeFastCgiApp } from "effect-fastcgi/node"
 *
 * export const main = () =>
 *   NodeFastCgiApp.serveFetch(
 *     (request, { variables }) => new Response(`${variables.remoteUser} asks for ${request.url}\n`),
 *     { path: "/run/app/app.sock", mode: 0o660 }
 *   )
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const serveFetch = (handler: FetchHandler, options: NodeFastCgiOptions = {}): void =>
  runMain(Layer.launch(layerFetch(handler, options)))

/**
 * Creates a server in place of `http.createServer`: the same events, `listen`, `close`, `address` and `listening`.
 *
 * **When to use**
 *
 * Where a framework needs the server: Fastify's `serverFactory`, Next's custom server. It leaves signals to the app.
 *
 * **Details**
 *
 * `listen` takes the same arguments as `net.Server.listen`: a UNIX path, or a port, of 127.0.0.1 unless a host is given. Without
 * arguments it listens where the options say, by default on file descriptor 0. `close` lets running requests finish for
 * `gracefulShutdownTimeout`. Errors of listening are "error" events, with Node's `code` for them.
 *
 * **Gotchas**
 *
 * There are no "connection", "checkContinue", "clientError" and "upgrade" events, because the connections belong to the web server.
 * With a listener for "upgrade", a WebSocket request is answered with 501. Without one it is an ordinary request, as with
 * `node:http`.
 *
 * **Example** (Replacing `http.createServer`)
 *
 * ```ts
 * import { NodeFastCgiApp } from "effect-fastcgi/node"
 *
 * const server = NodeFastCgiApp.createServer({ mode: 0o660, path: "/run/app/app.sock" }, (request, response) => {
 *   response.end(`You asked for ${request.url}\n`)
 * })
 *
 * export const main = () => {
 *   server.listen()
 *   process.once("SIGTERM", () => server.close())
 * }
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const createServer: {
  (options: ServerOptions, handler?: NodeHandler): Http.Server
  (handler?: NodeHandler): Http.Server
} = (options?: ServerOptions | NodeHandler, handler?: NodeHandler): Http.Server =>
  typeof options === "function" ? new HttpServer({}, options) : new HttpServer(options ?? {}, handler)

/**
 * Serves an app for `node:http` until the layer's scope closes, then drains. Fails with `FastCgiListenerError` when it cannot
 * listen.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerNode = (
  handler: NodeHandler,
  options: NodeFastCgiOptions = {}
): Layer.Layer<never, FastCgiListenerError> => Layer.provide(layerNodeServer(handler, options), listening(options))

/**
 * `layerNode` on the listener and the admission in the context, such as a listener in memory.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerNodeServer = (
  handler: NodeHandler,
  options: FastCgiHttpServerOptions = {}
): Layer.Layer<never, never, FastCgiListener | FastCgiAdmission> => serveApp({ handle: handler }, options)

/**
 * Serves a fetch handler until the layer's scope closes, then drains. Fails with `FastCgiListenerError` when it cannot listen.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerFetch = (
  handler: FetchHandler,
  options: NodeFastCgiOptions = {}
): Layer.Layer<never, FastCgiListenerError> => Layer.provide(layerFetchServer(handler, options), listening(options))

/**
 * `layerFetch` on the listener and the admission in the context.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerFetchServer = (
  handler: FetchHandler,
  options: FastCgiHttpServerOptions = {}
): Layer.Layer<never, never, FastCgiListener | FastCgiAdmission> =>
  FastCgiServer.serve({
    responder: fetchResponder(handler, { basePath: options.basePath, from: options.urlFrom })
  }, options)

/**
 * The web server's variables for a request of `serveNode` or `serveFetch`: REMOTE_USER, HTTPS, SSL_* and others. `undefined` for any
 * other request.
 *
 * **Example** (The user that the web server has logged in)
 *
 * ```ts
 * import { NodeFastCgiApp } from "effect-fastcgi/node"
 *
 * export const main = () =>
 *   NodeFastCgiApp.serveNode((request, response) => {
 *     const user = NodeFastCgiApp.variables(request)?.remoteUser
 *     response.end(user === undefined ? "Who are you?\n" : `Hello ${user}\n`)
 *   })
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const variables = (request: Http.IncomingMessage | Request): CgiVariables | undefined => {
  if (request instanceof Request) return variablesOfRequest(request)
  const socket: unknown = request.socket
  return socket instanceof HttpSocket ? socket.variables : undefined
}
