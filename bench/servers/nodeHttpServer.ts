/**
 * Effect's NodeHttpServer with the benchmark's routes.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Layer from "effect/Layer"
import * as Http from "node:http"
import { socketPath } from "./content.ts"
import { serve } from "./routes.ts"

serve.pipe(
  Layer.provide(NodeHttpServer.layer(() => Http.createServer(), { path: socketPath(), backlog: 511 })),
  Layer.launch,
  NodeRuntime.runMain
)
