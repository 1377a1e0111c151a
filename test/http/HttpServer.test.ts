/** The shared suite in memory: the same cases, the same apps, one Layer swapped. test/node/httpSuite.test.ts has the sockets. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Layer from "effect/Layer"
import type { ShutdownOptions } from "./suite.ts"
import { suite } from "./suite.ts"

/** With the services of Node, as the suite serves real files. */
const memory = (client: FastCgiTest.FastCgiTestOptions["client"]) => (server: ShutdownOptions) =>
  Layer.mergeAll(FastCgiTest.layerTestWith({ server, client }), NodeHttpServer.layerHttpServices)

const pathsOutRefused = "FastCgiHttpClient sends no such path"

suite("FastCgiTest.layerTest", Layer.mergeAll(FastCgiTest.layerTest, NodeHttpServer.layerHttpServices), {
  layerWith: memory({}),
  pathsOutRefused
})

const multiplexed = memory({ maxRequests: 64 })
suite("FastCgiTest.layerTestWith, 64 requests to a connection", multiplexed({}), {
  layerWith: multiplexed,
  pathsOutRefused
})
