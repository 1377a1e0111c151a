import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import { createServer } from "node:http"
import { suite } from "./suite.ts"

suite("NodeHttpServer.layerTest", NodeHttpServer.layerTest, {
  layerWith: (options) =>
    HttpServer.layerTestClient.pipe(
      Layer.provide(FetchHttpClient.layer),
      Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1", ...options }))
    ),
  headWaitsForBody: "node:http keeps the head back until the first chunk of the body",
  streamLengthLost: "fetch sends every stream in chunks",
  unansweredPreResponseFailure: "NodeHttpServer never answers such a request"
})
