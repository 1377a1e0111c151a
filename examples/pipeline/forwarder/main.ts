/**
 * A forwarder that loses nothing: `node examples/pipeline/forwarder/main.ts /run/front.sock /run/app.sock`. All three roles,
 * both outputs, both statuses, aborts and backpressure pass as they are; each request has a connection of its own to the app, of
 * which there are 64 at most.
 */
import { FastCgiServer } from "effect-fastcgi"
import { FastCgiPool } from "effect-fastcgi/client"
import { NodeFastCgiConnector, NodeFastCgiListener, NodeFastCgiRuntime } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

const forwarder = (from: string, to: string) =>
  Layer.unwrap(Effect.map(
    FastCgiPool.make({ connect: NodeFastCgiConnector.connect({ path: to }), maxConnections: 64 }),
    (pool) => FastCgiServer.serve(FastCgiServer.forward(pool))
  )).pipe(Layer.provide(NodeFastCgiListener.layerUnix({ path: from })))

const usage = `A FastCGI forwarder that loses nothing.

  node examples/pipeline/forwarder/main.ts SOCKET APP   listens on the UNIX socket SOCKET, passes requests on to APP
  node examples/pipeline/forwarder/main.ts --help       says this
`

const [from, to] = process.argv.slice(2)
if (from === "--help") process.stdout.write(usage)
else if (from !== undefined && to !== undefined) NodeFastCgiRuntime.runMain(Layer.launch(forwarder(from, to)))
else {
  process.stderr.write(usage)
  process.exitCode = 2
}
