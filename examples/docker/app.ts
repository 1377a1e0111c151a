/**
 * The app of the image. Its settings are in the environment (docs/operations.md): the Dockerfile, compose.yaml and kubernetes.yaml say
 * where it listens.
 */
import { NodeFastCgi, NodeFastCgiRuntime } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"

// Fails while something is missing that the app needs, such as its database.
const checks: Effect.Effect<void, Error> = Effect.void

const Routes = Layer.mergeAll(
  HttpRouter.add("GET", "/", HttpServerResponse.text("Hello from a container\n")),
  HttpRouter.add(
    "GET",
    "/health",
    Effect.match(checks, {
      onSuccess: () => HttpServerResponse.text("ok\n"),
      onFailure: ({ message }) => HttpServerResponse.text(`${message}\n`, { status: 503 })
    })
  )
)

HttpRouter.serve(Routes, { disableLogger: true }).pipe(
  Layer.provide(NodeFastCgi.layerConfig(NodeFastCgi.config)),
  Layer.provide(Logger.layer([Logger.consoleJson])),
  Layer.launch,
  NodeFastCgiRuntime.runMain
)
