/**
 * fastCgi.js on Effect's own server.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Http from "node:http"

const Routes = HttpRouter.add("GET", "/", HttpServerResponse.text("Hello"))

HttpRouter.serve(Routes).pipe(
  Layer.provide(NodeHttpServer.layer(() => Http.createServer(), { path: process.argv[2] })),
  Layer.launch,
  NodeRuntime.runMain
)
