import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import * as Layer from "effect/Layer"
import { createServer } from "node:http"
import * as App from "./App.ts"
import * as Board from "./Board.ts"

const server = NodeHttpServer.layer(createServer, { port: 8080, host: "127.0.0.1" })
Layer.launch(App.endStreamsFirst.pipe(Layer.provide(App.layer), Layer.provide(Board.layer()), Layer.provide(server))).pipe(NodeRuntime.runMain)
