/**
 * The chain, written out: `node examples/pipeline/chain/main.ts /run/app/app.sock`.
 */
import { FastCgiConnection, FastCgiListener, FastCgiResponse } from "effect-fastcgi"
import { NodeFastCgiListener, NodeFastCgiRuntime } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"

const page = (request: FastCgiConnection.ConnectionRequest) =>
  Effect.succeed(FastCgiResponse.make(`Hello from ${request.params.get("REQUEST_URI") ?? "nowhere"}\n`))

const served = FastCgiListener.connections.pipe(
  Stream.mapEffect((bytes) =>
    // bytes -> records -> requests
    FastCgiConnection.requests(bytes, { roles: [1] }).pipe(
      Stream.mapEffect((request) =>
        // requests -> fibers: one each, which ends when nobody waits for its answer any more
        Effect.raceFirst(
          // fibers -> responses
          Effect.flatMap(page(request), request.respond),
          request.aborted
        ), { concurrency: "unbounded" }),
      Stream.runDrain
    ), { concurrency: "unbounded" }),
  Stream.runDrain
)

const [path = "/run/app/app.sock"] = process.argv.slice(2)
if (path === "--help") {
  console.log("node examples/pipeline/chain/main.ts [SOCKET], by default /run/app/app.sock; --help says this")
} else served.pipe(Effect.provide(NodeFastCgiListener.layerUnix({ path })), NodeFastCgiRuntime.runMain)
