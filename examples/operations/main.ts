/**
 * An app as an operator wants it: JSON logs with the ids of the request, `/metrics` and `/health` on a port of their own, the
 * status page, an access log and a slow log. The environment says everything (docs/operations.md, docs/monitoring.md):
 *
 *     FASTCGI_LISTEN=/run/app/app.sock FASTCGI_STATUS_PATH=/status FASTCGI_ACCESS_LOG=stdout FASTCGI_ACCESS_FORMAT=json \
 *       FASTCGI_SLOW_TIMEOUT="5 seconds" OPERATIONS_PORT=9254 node examples/operations/main.ts
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { FastCgiHttpMetrics, FastCgiSlowLog } from "effect-fastcgi"
import { NodeFastCgi, NodeFastCgiAccessLog, NodeFastCgiRuntime, NodeFastCgiStatus } from "effect-fastcgi/node"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import { randomUUID } from "node:crypto"
import { createServer } from "node:http"

const Routes = HttpRouter.add(
  "GET",
  "/",
  Effect.as(Effect.logInfo("somebody is greeted"), HttpServerResponse.text("Hello\n"))
)

// The front end makes the id. Its traceparent makes the span of the request a part of its trace. A client that reaches the app
// without the front end may send any id.
const withIds = HttpMiddleware.make((app) =>
  Effect.gen(function*() {
    const { headers } = yield* HttpServerRequest.HttpServerRequest
    const given = headers["x-request-id"]
    const span = yield* Effect.option(Effect.currentSpan)
    return yield* Effect.annotateLogs(app, {
      request_id: given !== undefined && /^[\w.@-]{1,64}$/.test(given) ? given : randomUUID(),
      ...(span._tag === "Some" ? { trace_id: span.value.traceId } : {})
    })
  })
)

const App = HttpRouter.serve(Routes, { middleware: withIds, disableLogger: true, disableListenLog: true }).pipe(
  Layer.provide(NodeFastCgi.layerConfig(NodeFastCgi.config)),
  Layer.provide([
    NodeFastCgiStatus.layerConfig(),
    NodeFastCgiAccessLog.layerConfig,
    FastCgiSlowLog.layerConfig,
    FastCgiHttpMetrics.layer()
  ]),
  Layer.provide(NodeFastCgiStatus.layerProcess)
)

// Fails while something is missing that the app needs, such as its database.
const checks: Effect.Effect<void, Error> = Effect.void

const Operations = Layer.unwrap(Effect.map(
  Config.Port("OPERATIONS_PORT").pipe(Config.withDefault(9254)),
  (port) =>
    HttpRouter.serve(
      Layer.mergeAll(
        PrometheusMetrics.layerHttp({ path: "/metrics" }),
        HttpRouter.add(
          "GET",
          "/health",
          checks.pipe(
            Effect.timeout("2 seconds"),
            Effect.match({
              onSuccess: () => HttpServerResponse.text("ok\n"),
              onFailure: ({ message }) => HttpServerResponse.text(`${message}\n`, { status: 503 })
            })
          )
        )
      ),
      { disableLogger: true, disableListenLog: true }
    ).pipe(Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port })))
))

if (process.argv[2] === "--help") {
  console.log(
    "node examples/operations/main.ts takes its settings from the environment (docs/operations.md); --help prints this"
  )
} else {
  Layer.mergeAll(App, Operations).pipe(
    Layer.provide(Logger.layer([Logger.consoleJson])),
    Layer.launch,
    NodeFastCgiRuntime.runMain
  )
}
