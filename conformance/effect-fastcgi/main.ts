/**
 * `node conformance/effect-fastcgi/main.ts /tmp/app.sock`
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { NodeFastCgiListener } from "effect-fastcgi/node"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { serve } from "./app.ts"

const path = process.argv[2]
if (path === undefined) {
  process.stderr.write("usage: node main.ts PATH-OF-SOCKET\n")
  process.exit(2)
}

serve().pipe(
  Layer.provide(NodeFastCgiListener.layerUnix({ path })),
  // stdout is nobody's: what goes wrong belongs on stderr.
  Layer.provide(Logger.layer([Logger.make(({ message }) => process.stderr.write(`${String(message)}\n`))])),
  Layer.launch,
  NodeRuntime.runMain
)
