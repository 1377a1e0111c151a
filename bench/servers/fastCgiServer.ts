/**
 * effect-fastcgi without HTTP on top: a Responder.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { FastCgiAdmission, FastCgiResponse, FastCgiServer } from "effect-fastcgi"
import { NodeFastCgiListener } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { backlog, hello, large, pieces, socketPath } from "./content.ts"

const octets = { headers: { "Content-Type": "application/octet-stream", "Content-Length": String(large.length) } }

FastCgiServer.serve({
  responder: (request) => {
    const path = request.params.get("SCRIPT_NAME")
    if (path === "/bench/upload") {
      return request.stdin.pipe(
        Stream.runFold(() => 0, (length, chunk) => length + chunk.length),
        Effect.map((length) => FastCgiResponse.make(String(length)))
      )
    }
    if (path === "/bench/stream") return Effect.succeed(FastCgiResponse.make(Stream.fromIterable(pieces), octets))
    if (path === "/bench/wait") return Effect.never
    return Effect.succeed(
      path === "/bench/download" ? FastCgiResponse.make(large, octets) : FastCgiResponse.make(hello)
    )
  }
}).pipe(
  Layer.provide([
    NodeFastCgiListener.layerUnix({ path: socketPath(), backlog }),
    FastCgiAdmission.layer({ maxRequests: "unbounded" })
  ]),
  Layer.launch,
  NodeRuntime.runMain
)
