/**
 * The app of the benchmark, served by NodeHttpServer and by effect-fastcgi alike.
 */
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { hello, large, pieces } from "./content.ts"

export const Routes = Layer.mergeAll(
  HttpRouter.add("GET", "/bench/hello", Effect.sync(() => HttpServerResponse.text(hello))),
  HttpRouter.add("POST", "/bench/upload", (request) =>
    request.stream.pipe(
      Stream.runFold(() => 0, (length, chunk) => length + chunk.length),
      Effect.map((length) => HttpServerResponse.text(String(length)))
    )),
  HttpRouter.add("GET", "/bench/download", Effect.sync(() => HttpServerResponse.uint8Array(large))),
  HttpRouter.add(
    "GET",
    "/bench/stream",
    Effect.sync(() => HttpServerResponse.stream(Stream.fromIterable(pieces), { contentLength: large.length }))
  ),
  HttpRouter.add("GET", "/bench/wait", Effect.never)
)

/** Neither side logs a line per request: the default logger costs three quarters of the throughput. */
export const serve = HttpRouter.serve(Routes, { disableLogger: true, disableListenLog: true })
