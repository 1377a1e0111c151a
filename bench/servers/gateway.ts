/**
 * FastCgiGateway in Effect's NodeHttpServer: HTTP in front of the application of `fastCgiHttpServer.ts`.
 *
 *     node gateway.ts SOCKET APPLICATION'S_SOCKET [MAX_REQUESTS_A_CONNECTION]
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { FastCgiGateway } from "effect-fastcgi/client"
import { NodeFastCgiConnector } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Http from "node:http"
import { backlog, socketPath } from "./content.ts"

const [application, maxRequests = "1"] = process.argv.slice(3)
if (application === undefined) throw new Error("the application's socket is missing")

const createServer = () => Http.createServer({ keepAliveTimeout: 120_000 })

const gateway = FastCgiGateway.make({
  connect: NodeFastCgiConnector.connect({ path: application }),
  keepConnection: true,
  maxRequests: Number(maxRequests)
})

Layer.unwrap(Effect.map(gateway, (app) => HttpServer.serve(app))).pipe(
  Layer.provide(NodeHttpServer.layer(createServer, { path: socketPath(), backlog, disablePreemptiveShutdown: true })),
  Layer.launch,
  NodeRuntime.runMain
)
