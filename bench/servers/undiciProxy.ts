/**
 * A reverse proxy of Effect's own parts: NodeHttpServer, and in front of the HTTP server of `nodeHttpServer.ts` Effect's client
 * over undici. What an Effect program does today that stands where FastCgiGateway stands, and no more than that: small answers as
 * a whole, no timeouts, nothing that the answer's headers are checked for.
 *
 *     node undiciProxy.ts SOCKET APPLICATION'S_SOCKET
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Headers from "effect/http/Headers"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpMethod } from "effect/http/HttpMethod"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Http from "node:http"
import { backlog, socketPath } from "./content.ts"

const application = process.argv[3]
if (application === undefined) throw new Error("the application's socket is missing")

const createServer = () => Http.createServer({ keepAliveTimeout: 120_000 })

const hopByHop = ["connection", "keep-alive", "transfer-encoding"]

const app = Effect.gen(function*() {
  const client = yield* HttpClient.HttpClient
  return HttpServer.serve(Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
    client.execute(
      HttpClientRequest.make(request.method as HttpMethod)("http://localhost" + request.url, {
        headers: Headers.removeMany(request.headers, hopByHop)
      })
    ).pipe(
      Effect.flatMap((response) =>
        Effect.map(response.arrayBuffer, (body) =>
          HttpServerResponse.uint8Array(new Uint8Array(body), {
            status: response.status,
            headers: Headers.removeMany(response.headers, hopByHop),
            contentType: response.headers["content-type"]
          }))
      )
    )))
})

Layer.unwrap(app).pipe(
  Layer.provide(NodeHttpServer.layer(createServer, { path: socketPath(), backlog })),
  Layer.provide(NodeHttpClient.layerUndiciOptions({ connect: { socketPath: application }, connections: 16 })),
  Layer.launch,
  NodeRuntime.runMain
)
