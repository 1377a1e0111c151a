/**
 * Effect's NodeHttpServer with the benchmark's routes.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Layer from "effect/Layer"
import * as Http from "node:http"
import { backlog, socketPath } from "./content.ts"
import { serve } from "./routes.ts"

// Connections that carry nothing are kept for as long as a benchmark holds them.
const createServer = () => Http.createServer({ keepAliveTimeout: 120_000 })

serve.pipe(
  Layer.provide(NodeHttpServer.layer(createServer, { path: socketPath(), backlog })),
  Layer.launch,
  NodeRuntime.runMain
)
