/** The shared suite in memory where the bytes come over a channel and over an Effect socket, and through a forwarder. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { FastCgiAdmission, FastCgiServer } from "effect-fastcgi"
import { FastCgiHttpClient } from "effect-fastcgi/client"
import { FastCgiHttpServer } from "effect-fastcgi/http"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import { decodeContent } from "../../src/testing/internal/contentEncoding.ts"
import {
  Behind,
  behind,
  carried,
  type Carry,
  multiplexed,
  overChannel,
  overSocket,
  perRequest,
  type Upstream
} from "../support/ways.ts"
import type { ShutdownOptions } from "./suite.ts"
import { suite } from "./suite.ts"

const pathsOutRefused = "FastCgiHttpClient sends no such path"

/** The client of `FastCgiTest.layerTest`. */
const client = (maxRequests: number) =>
  Layer.effect(
    HttpClient.HttpClient,
    Effect.flatMap(FastCgiTest.FastCgiMemory, (memory) =>
      Effect.map(
        FastCgiHttpClient.make({ keepConnection: true, maxRequests, maxRepeats: 0, connect: memory.connect }),
        (client) =>
          HttpClient.transformResponse(
            HttpClient.mapRequest(client, HttpClientRequest.prependUrl("http://localhost")),
            Effect.map(decodeContent)
          )
      ))
  )

const over = (carry: Carry, maxRequests: number) => (server: ShutdownOptions) =>
  client(maxRequests).pipe(
    Layer.provideMerge(FastCgiHttpServer.layerServer(server)),
    Layer.provide([FastCgiAdmission.layer(), carried(carry)]),
    Layer.provideMerge([FastCgiTest.layerMemory, NodeHttpServer.layerHttpServices])
  )

const cutOffTakesTheNext = "what is written goes out a turn later"

const channel = over(overChannel, 1)
suite("over a channel", channel({}), { layerWith: channel, pathsOutRefused })

const socket = over(overSocket, 64)
suite("over an Effect socket, 64 requests to a connection", socket({}), {
  layerWith: socket,
  pathsOutRefused,
  cutOffTakesTheNext
})

/** The app behind a forwarder: the client talks to the one in front. */
const forwarded = (maxRequests: number, upstream: Upstream) => (server: ShutdownOptions) =>
  client(maxRequests).pipe(
    Layer.provide(Layer.effectDiscard(
      Effect.flatMap(Behind, ({ connect }) =>
        Effect.flatMap(upstream(connect), (client) =>
          FastCgiServer.serveEffect(FastCgiServer.forward(client))))
    )),
    Layer.provide(FastCgiAdmission.layer()),
    Layer.provide(FastCgiTest.layerMemory),
    Layer.provideMerge(FastCgiHttpServer.layerServer(server).pipe(Layer.provide(FastCgiAdmission.layer()))),
    Layer.provide(behind),
    Layer.provideMerge(NodeHttpServer.layerHttpServices)
  )

for (const [name, upstream] of [["a connection a request", perRequest], ["one connection", multiplexed]] as const) {
  const layerWith = forwarded(1, upstream)
  suite(`through a forwarder, ${name} behind it`, layerWith({}), { layerWith, pathsOutRefused })
}
