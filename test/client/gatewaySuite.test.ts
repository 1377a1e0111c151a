/** The shared HTTP suite through the gateway: fetch, NodeHttpServer, the gateway, FastCGI, the app. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { FastCgiAdmission } from "effect-fastcgi"
import { FastCgiGateway } from "effect-fastcgi/client"
import { FastCgiHttpServer } from "effect-fastcgi/http"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"
import { createServer } from "node:http"
import { type ShutdownOptions, suite } from "../http/suite.ts"

const gateway = (keepConnection: boolean) => (options: ShutdownOptions) =>
  Layer.effect(
    HttpClient.HttpClient,
    Effect.gen(function*() {
      const { connect } = yield* FastCgiTest.FastCgiMemory
      // What is lost is sent again after a while.
      const context = yield* TestClock.withLive(Layer.build(
        FastCgiGateway.layer({ connect, keepConnection, headTimeout: "1 hour", bodyTimeout: "1 hour" }).pipe(
          Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })),
          Layer.provideMerge(FetchHttpClient.layer)
        )
      ))
      const { port } = Context.get(context, HttpServer.HttpServer).address as { readonly port: number }
      return Context.get(context, HttpClient.HttpClient).pipe(
        HttpClient.mapRequest(HttpClientRequest.prependUrl(`http://127.0.0.1:${port}`)),
        // The gateway's own page stands for a broken response of the app, which has no 502 of its own in the suite.
        HttpClient.filterOrFail(
          (response) => response.status !== 502,
          (response) =>
            new HttpClientError.HttpClientError({
              reason: new HttpClientError.StatusCodeError({ request: response.request, response })
            })
        )
      )
    })
  ).pipe(
    Layer.provideMerge(FastCgiHttpServer.layerServer(options)),
    Layer.provide([FastCgiTest.layerMemory, FastCgiAdmission.layer()]),
    Layer.provideMerge(NodeHttpServer.layerHttpServices)
  )

for (const keepConnection of [false, true]) {
  suite(`the gateway, keepConnection ${keepConnection}`, gateway(keepConnection)({}), {
    headWaitsForBody: "node:http keeps the head back until the first chunk of the body",
    streamLengthLost: "fetch sends every stream in chunks",
    pathsOutRefused: "the gateway answers 400, as nginx does"
  })
}
