import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Layer from "effect/Layer"
import { FastCgiHttpServer } from "../../src/http/index.ts"
import { FastCgiAdmission } from "../../src/index.ts"
import { NodeFastCgiListener } from "../../src/node/index.ts"
import { serve } from "./routes.ts"
serve.pipe(
  Layer.provide(
    FastCgiHttpServer.layerServer().pipe(
      Layer.provide([NodeFastCgiListener.layerUnix({ path: process.argv[2] }), FastCgiAdmission.layer()])
    )
  ),
  Layer.provide(NodeHttpServer.layerHttpServices),
  Layer.launch,
  NodeRuntime.runMain
)
