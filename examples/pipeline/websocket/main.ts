/**
 * FastCGI over a WebSocket: `node examples/pipeline/websocket/main.ts serve 9001`, and `... get 9001 /a/path` asks it for a
 * page. What carries bytes carries FastCGI; each WebSocket is a connection.
 */
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import { FastCgiListener, FastCgiResponse, FastCgiServer, FastCgiTransport } from "effect-fastcgi"
import { FastCgiClient } from "effect-fastcgi/client"
import { NodeFastCgiRuntime } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"

const usage = `FastCGI over a WebSocket.

  node examples/pipeline/websocket/main.ts serve PORT      serves an app on 127.0.0.1
  node examples/pipeline/websocket/main.ts get PORT PATH   asks it for a page, and prints the answer
  node examples/pipeline/websocket/main.ts --help          says this
`

const serve = (port: number) =>
  FastCgiServer.serve({
    responder: (request) =>
      Effect.succeed(FastCgiResponse.make(`${request.params.get("REQUEST_URI") ?? ""} came over a WebSocket\n`))
  }).pipe(
    Layer.provide(FastCgiListener.layerSocketServer),
    Layer.provide(NodeSocketServer.layerWebSocket({ host: "127.0.0.1", port }))
  )

const get = (port: number, path: string) =>
  Effect.scoped(Effect.gen(function*() {
    const socket = yield* Socket.makeWebSocket(`ws://127.0.0.1:${port}`)
    const client = yield* FastCgiClient.make({ connect: FastCgiTransport.fromChannel(Socket.toChannel(socket)) })
    const { stdout } = yield* client.request({ params: [["REQUEST_METHOD", "GET"], ["REQUEST_URI", path]] })
    process.stdout.write(yield* Stream.mkString(Stream.decodeText(stdout)))
  })).pipe(Effect.provide(Socket.layerWebSocketConstructorGlobal))

const [command, port = "", path = "/"] = process.argv.slice(2)
if (command === "--help") process.stdout.write(usage)
else if (command === "serve" && /^\d{1,5}$/.test(port)) NodeFastCgiRuntime.runMain(Layer.launch(serve(Number(port))))
else if (command === "get" && /^\d{1,5}$/.test(port)) NodeFastCgiRuntime.runMain(get(Number(port), path))
else {
  process.stderr.write(usage)
  process.exitCode = 2
}
