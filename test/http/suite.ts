/**
 * The conformance suite of an Effect `HttpServer`: what an app may rely on, whatever carries its requests. It is
 * written against `NodeHttpServer.layerTest`, which is the reference; `HttpServer.test.ts` runs it in memory, and
 * `test/node/httpSuite.test.ts` over sockets.
 */
import { describe } from "@effect/vitest"
import type * as Layer from "effect/Layer"
import { apps } from "./suite/apps.ts"
import { failures } from "./suite/failures.ts"
import { lifecycle } from "./suite/lifecycle.ts"
import { middleware } from "./suite/middleware.ts"
import { multipart } from "./suite/multipart.ts"
import { requestBodies } from "./suite/requestBodies.ts"
import { responses } from "./suite/responses.ts"
import { routing } from "./suite/routing.ts"
import type { Capabilities, Services } from "./suite/support.ts"
import { makeTest } from "./suite/support.ts"

export type { Capabilities, Services, ShutdownOptions } from "./suite/support.ts"

/** Registers all cases over `layer`, which is built afresh for each. */
export const suite = (name: string, layer: Layer.Layer<Services, unknown>, capabilities: Capabilities = {}): void => {
  describe(name, () => {
    const test = makeTest(layer)
    describe("routing", () => routing(test, capabilities))
    describe("request bodies", () => requestBodies(test, capabilities))
    describe("multipart", () => multipart(test, capabilities))
    describe("responses", () => responses(test, capabilities))
    describe("failures", () => failures(test, capabilities))
    describe("lifecycle", () => lifecycle(test, capabilities))
    describe("middleware", () => middleware(test, capabilities))
    describe("apps", () => apps(test, capabilities))
  })
}
