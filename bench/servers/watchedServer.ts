/**
 * fastCgiHttpServer.ts with those who watch its requests: what they are is said behind the socket.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { FastCgiHttpMetrics, FastCgiSlowLog } from "effect-fastcgi"
import { NodeFastCgi, NodeFastCgiAccessLog, NodeFastCgiStatus } from "effect-fastcgi/node"
import * as Layer from "effect/Layer"
import { socketPath } from "./content.ts"
import { serve } from "./routes.ts"

const log = `${socketPath()}.log`

const watchers: Readonly<Record<string, Layer.Layer<never, unknown>>> = {
  "combined": NodeFastCgiAccessLog.layer({ to: log, format: "combined" }),
  "json": NodeFastCgiAccessLog.layer({ to: log, format: "json" }),
  "metrics": FastCgiHttpMetrics.layer(),
  "slow": FastCgiSlowLog.layer({ slowTimeout: "5 seconds" }),
  "status": NodeFastCgiStatus.layer({ path: "/status", pingPath: "/ping" }) as Layer.Layer<never, unknown>
}

serve.pipe(
  Layer.provide(NodeFastCgi.layer({ path: socketPath() })),
  (app) =>
    process.argv.slice(3).reduce(
      (app, name) => Layer.provide(app, watchers[name]!),
      app as Layer.Layer<never, unknown>
    ),
  Layer.launch,
  NodeRuntime.runMain
)
