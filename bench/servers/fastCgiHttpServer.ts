/**
 * effect-fastcgi's HttpServer with the benchmark's routes: nodeHttpServer.ts with one Layer swapped.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { NodeFastCgi } from "effect-fastcgi/node"
import * as Layer from "effect/Layer"
import { backlog, socketPath } from "./content.ts"
import { serve } from "./routes.ts"

serve.pipe(
  Layer.provide(NodeFastCgi.layer({ path: socketPath(), backlog, maxRequests: "unbounded" })),
  Layer.launch,
  NodeRuntime.runMain
)
