/** The shared HTTP suite over sockets: `NodeHttpServer`, which is the reference, and this package on UNIX sockets. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { FastCgiHttpClient } from "effect-fastcgi/client"
import { NodeFastCgi, NodeFastCgiConnector } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import { createServer } from "node:http"
import { type ShutdownOptions, suite } from "../http/suite.ts"

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

/** A socket file of its own for each case, where `NodeFastCgi.layer` listens and the client connects. */
const unix = (keepConnection: boolean) => (options: ShutdownOptions) =>
  Layer.unwrap(Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const folder = yield* fs.makeTempDirectoryScoped()
    const path = (yield* Path.Path).join(folder, "app.sock")
    return Layer.effect(
      HttpClient.HttpClient,
      Effect.map(
        FastCgiHttpClient.make({ connect: NodeFastCgiConnector.connect({ path }), keepConnection }),
        HttpClient.mapRequest(HttpClientRequest.prependUrl("http://localhost"))
      )
    ).pipe(Layer.provideMerge(NodeFastCgi.layer({ path, ...options })))
  })).pipe(Layer.provide(NodeFastCgi.layerServices))

const pathsOutRefused = "FastCgiHttpClient sends no such path"

suite("NodeFastCgi.layer on a UNIX socket", unix(true)({}), { layerWith: unix(true), pathsOutRefused })

// What nginx does by default: the connection that closes is the end of the response.
suite("NodeFastCgi.layer on a UNIX socket, a connection a request", unix(false)({}), {
  layerWith: unix(false),
  pathsOutRefused
})
