/**
 * The smallest app of the README.
 */
import { NodeFastCgi, NodeFastCgiRuntime } from "effect-fastcgi/node"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"

const Routes = HttpRouter.add("GET", "/", HttpServerResponse.text("Hello"))

HttpRouter.serve(Routes).pipe(
  Layer.provide(NodeFastCgi.layer({ path: process.argv[2] })),
  Layer.launch,
  NodeFastCgiRuntime.runMain
)
