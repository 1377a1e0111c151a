/**
 * Workers on one socket: `/bench/hello`, and `/bench/work`, which computes for about half a millisecond.
 */
import { NodeFastCgi, NodeFastCgiWorkers } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import { createHash } from "node:crypto"

const [path = "", workers = "1"] = process.argv.slice(2)

const page = new Uint8Array(512 * 1024)

const Routes = Layer.mergeAll(
  HttpRouter.add("GET", "/bench/hello", HttpServerResponse.text("Hello world!")),
  HttpRouter.add(
    "GET",
    "/bench/work",
    Effect.sync(() => {
      createHash("sha256").update(page).digest()
      return HttpServerResponse.text("Hello world!")
    })
  )
)

NodeFastCgiWorkers.runMain(
  HttpRouter.serve(Routes, { disableLogger: true, disableListenLog: true }).pipe(
    Layer.provide(NodeFastCgi.layer({ path }))
  ),
  { workers: Number(workers) }
)
