/**
 * `npm start`: the notes board over FastCGI, and in front of it something that speaks HTTP to browsers.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeServices from "@effect/platform-node/NodeServices"
import type { FastCgiListener } from "effect-fastcgi"
import { FastCgiGateway } from "effect-fastcgi/client"
import { FastCgiHttpServer } from "effect-fastcgi/http"
import {
  NodeFastCgi,
  NodeFastCgiConnector,
  NodeFastCgiListener,
  NodeFastCgiRuntime,
  NodeFastCgiWebSocket
} from "effect-fastcgi/node"
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as HttpServer from "effect/http/HttpServer"
import type { ServeError } from "effect/http/HttpServerError"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as NetAddress from "effect/net/NetAddress"
import * as Path from "effect/Path"
import * as App from "./App.ts"
import * as Board from "./Board.ts"
import * as CommandLine from "./CommandLine.ts"
import { createServer } from "./nodeServer.ts"
import * as Records from "./Records.ts"
import * as WebServer from "./WebServer.ts"

const main = Effect.fnUntraced(function*({ host, mode, port }: CommandLine.Start) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "effect-fastcgi-" })
  const socket = path.join(directory, "board.sock")

  // The app is the same, whatever carries it: only this Layer is another one.
  const server: Layer.Layer<
    HttpServer.HttpServer | NodeFastCgi.NodeFastCgiServices,
    FastCgiListener.FastCgiListenerError | ServeError
  > = mode === "http"
    ? NodeHttpServer.layer(createServer, { host, port })
    : recorded(socket)
  const app = yield* Layer.build(App.layer.pipe(Layer.provideMerge(server)))

  const front = mode === "http"
    ? { url: urlOf(app, host), lines: ["the app itself, over plain HTTP"], died: Effect.never }
    : mode === "gateway"
    ? yield* gateway(socket, host, port)
    : yield* WebServer.start(mode, { directory, host, port, socket })
  yield* Layer.build(App.endStreamsFirst)

  yield* Console.log(`Notes board: ${front.url}\n`)
  for (const line of front.lines) yield* Console.log(`  ${line}`)
  yield* Console.log("  notes live in memory, files in a temporary folder; both are gone when the server stops")
  yield* Console.log("\nCtrl-C stops it.")
  return yield* Effect.onInterrupt(front.died, () => Console.log("\nFinishing what runs, then stopping."))
})

/**
 * `NodeFastCgi.layer({ path })`, with the connections written down on their way from the listener to the server: see
 * Records.ts.
 */
const recorded = (path: string) =>
  FastCgiHttpServer.layerServer().pipe(
    Layer.provide(NodeFastCgiWebSocket.layer({ webSocketOrigins: "same" })),
    Layer.provide(Records.layerListener),
    Layer.provide(NodeFastCgiListener.layerUnix({ path })),
    Layer.provideMerge(Records.layer),
    Layer.merge(NodeFastCgi.layerServices)
  )

/** An HTTP server in this process that passes every request on to the app, as a web server would. */
const gateway = Effect.fnUntraced(function*(socket: string, host: string, port: number) {
  const connect = NodeFastCgiConnector.connect({ path: socket })
  const http = yield* Layer.build(
    FastCgiGateway.layer({ connect, keepConnection: true }).pipe(
      Layer.provideMerge(NodeHttpServer.layer(createServer, { host, port }))
    )
  )
  return {
    url: urlOf(http, host),
    lines: [
      "browser --HTTP--> gateway --FastCGI--> the app, all in this process",
      `the FastCGI socket is ${socket}`
    ],
    died: Effect.never
  }
})

const urlOf = (context: Context.Context<HttpServer.HttpServer>, host: string) => {
  const { address } = Context.get(context, HttpServer.HttpServer)
  return WebServer.url(host, NetAddress.isInetAddress(address) ? address.port : 0)
}

// Only what went wrong is logged, and not between the lines above.
const logger = Logger.make(({ cause, date, logLevel, message }) => {
  const text = Array.isArray(message) ? message.join(" ") : String(message)
  const details = cause.reasons.length === 0 ? "" : `\n${Cause.pretty(cause)}`
  process.stderr.write(`${date.toISOString().slice(11, 19)} ${logLevel}: ${text}${details}\n`)
})

const expected = (error: unknown, { host, port }: CommandLine.Start): string | undefined => {
  if (!(error instanceof Error) || !("_tag" in error)) return undefined
  if (error._tag !== "ServeError") return error.message
  const cause = error.cause as NodeJS.ErrnoException
  return cause.code === "EADDRINUSE" ? WebServer.portTaken(host, port) : cause.message
}

const report = (options: CommandLine.Start) => (cause: Cause.Cause<unknown>) =>
  Effect.sync(() => {
    if (Cause.hasInterruptsOnly(cause)) return
    process.stderr.write(`board: ${expected(Cause.squash(cause), options) ?? Cause.pretty(cause)}\n`)
  })

const options = CommandLine.parse(process.argv.slice(2))
if (typeof options === "string") {
  process.stderr.write(`board: ${options}\n\n${CommandLine.usage}`)
  process.exitCode = 2
} else if (options.mode === "help") {
  process.stdout.write(CommandLine.usage)
} else {
  main(options).pipe(
    Effect.scoped,
    Effect.provide(Board.layer()),
    Effect.provide(Logger.layer([logger])),
    Effect.provide(NodeServices.layer),
    Effect.tapCause(report(options)),
    NodeFastCgiRuntime.runMain({ disableErrorReporting: true })
  )
}
