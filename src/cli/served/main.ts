/**
 * The program that `effect-fastcgi serve` runs its app in: beside the app's own Effect, and not the one that the command is bundled
 * with. Its arguments are the app's module, how its default export is to be taken, and whether requests are logged.
 */
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import type * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import { pathToFileURL } from "node:url"
import * as NodeFastCgi from "../../node/NodeFastCgi.ts"
import * as NodeFastCgiApp from "../../node/NodeFastCgiApp.ts"
import * as NodeFastCgiWorkers from "../../node/NodeFastCgiWorkers.ts"

const [, , file = "", as = "auto", log = ""] = process.argv

/** A layer that serves until it is closed. */
type Served = Layer.Layer<never, unknown>

const overHttp = (served: Layer.Layer<never, unknown, HttpServer.HttpServer>): Served =>
  Layer.provide(served, NodeFastCgi.layerConfig(NodeFastCgi.config))

const withOptions = (make: (options: NodeFastCgi.NodeFastCgiOptions) => Served): Served =>
  Layer.unwrap(Effect.map(NodeFastCgi.config, make))

// The requirements of a layer or an effect are not known here. Building the app names the missing ones.
const isRoutes = (app: unknown): app is Layer.Layer<never, unknown> => Layer.isLayer(app)
const isHttpApp = (
  app: unknown
): app is Effect.Effect<HttpServerResponse.HttpServerResponse, unknown, HttpServerRequest.HttpServerRequest> =>
  Effect.isEffect(app)

const isFunction = (value: unknown): value is (...args: ReadonlyArray<unknown>) => unknown =>
  typeof value === "function"

const property = (value: unknown, name: string): unknown =>
  (typeof value === "object" && value !== null) || typeof value === "function" ? Reflect.get(value, name) : undefined

const isFetch = (value: unknown): value is NodeFastCgiApp.FetchHandler => isFunction(value)
const isNode = (value: unknown): value is NodeFastCgiApp.NodeHandler => isFunction(value)

// `app.fetch` of Hono, Elysia and h3, or a function of a request alone.
const fetchOf = (app: unknown): NodeFastCgiApp.FetchHandler | undefined => {
  const fetch = property(app, "fetch")
  if (isFunction(fetch)) return (request, environment) => fetch.call(app, request, environment) as Response
  return isFetch(app) && (as === "fetch" || app.length < 2) ? app : undefined
}

// An app of Express is a function itself; Koa's `callback` makes one, and so does Fastify's `ready`, for its `routing`.
const nodeOf = async (app: unknown): Promise<NodeFastCgiApp.NodeHandler | undefined> => {
  if (isNode(app)) return app
  const ready = property(app, "ready")
  const callback = property(app, "callback")
  if (isFunction(ready)) await ready.call(app)
  const handler = isFunction(callback) ? callback.call(app) : property(app, "routing")
  return isNode(handler) ? handler : undefined
}

const layerOf = async (app: unknown): Promise<Served | undefined> => {
  if (as === "auto" || as === "effect") {
    if (isRoutes(app)) {
      return overHttp(HttpRouter.serve(app, { disableLogger: log === "", disableListenLog: true }))
    }
    if (isHttpApp(app)) return overHttp(HttpServer.serve(app))
    if (as === "effect") return undefined
  }
  const fetch = as === "node" ? undefined : fetchOf(app)
  if (fetch !== undefined) return withOptions((options) => NodeFastCgiApp.layerFetch(fetch, options))
  const handler = as === "fetch" ? undefined : await nodeOf(app)
  return handler === undefined
    ? undefined
    : withOptions((options) => NodeFastCgiApp.layerNode(handler, options))
}

const module: unknown = await import(pathToFileURL(file).href)
const served = await layerOf(property(module, "default"))
if (served === undefined) {
  const kind = as === "auto" ? "" : ` as ${as}`
  process.stderr.write(
    `${file} exports nothing by default that can be served${kind}. Export a layer of routes (HttpRouter.add), an HTTP app ` +
      "as an Effect, an object with a fetch function, an app of Express, Koa or Fastify, or a function of request and " +
      "response.\n"
  )
  process.exit(2)
}
NodeFastCgiWorkers.runMain(served)
