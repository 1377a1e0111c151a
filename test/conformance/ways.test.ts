/**
 * The whole suite against our own server in memory, where something else carries the bytes or stands in between.
 */
import { describe, it } from "@effect/vitest"
import { FastCgiAdmission, FastCgiServer, FastCgiTransport } from "effect-fastcgi"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { handlers, serve } from "../../conformance/effect-fastcgi/app.ts"
import {
  Behind,
  behind,
  carried,
  multiplexed,
  overChannel,
  overSocket,
  perRequest,
  serveChannels,
  type Upstream
} from "../support/ways.ts"
import { findsNothing } from "./support/findsNothing.ts"

const quiet = Layer.provide(Logger.layer([]))

const inMemory = <E, R>(server: Layer.Layer<never, E, R>) =>
  server.pipe(Layer.provideMerge([FastCgiTest.layerMemory, FastCgiAdmission.layer()]), quiet)

const forwarded = (upstream: Upstream) =>
  Layer.effectDiscard(
    Effect.flatMap(Behind, ({ connect }) =>
      Effect.flatMap(upstream(connect), (client) =>
        FastCgiServer.serveEffect(FastCgiServer.forward(client))))
  ).pipe(
    Layer.provideMerge([FastCgiTest.layerMemory, FastCgiAdmission.layer()]),
    Layer.provide(serve().pipe(Layer.provide(FastCgiAdmission.layer()), Layer.provideMerge(behind))),
    quiet
  )

// Over a stream a peer's close looks like a half-close: handlers whose peers have left run until the server gives up waiting for them.
const overStreams = () => serve({ gracefulShutdownTimeout: "100 millis" })

const ways = {
  "over a channel": inMemory(overStreams().pipe(Layer.provide(carried(overChannel)))),
  "over an Effect socket": inMemory(overStreams().pipe(Layer.provide(carried(overSocket)))),
  "as a bare channel": inMemory(serveChannels(handlers())),
  "through a recorder": inMemory(
    serve().pipe(Layer.provide(carried((transport) => Effect.succeed(FastCgiTransport.tap(transport, {})))))
  ),
  "through a forwarder, a connection a request": forwarded(perRequest),
  "through a forwarder, one connection": forwarded(multiplexed)
}

describe("the conformance suite", () => {
  for (const [name, way] of Object.entries(ways)) {
    it.live(`finds nothing in effect-fastcgi ${name}`, () =>
      Effect.gen(function*() {
        const memory = yield* FastCgiTest.FastCgiMemory
        // That a peer has gone is told some turns later than over the transport itself, and its requests count until then.
        yield* findsNothing(Effect.andThen(Effect.repeat(Effect.yieldNow, { times: 100 }), memory.connect))
      }).pipe(Effect.provide(way)))
  }
})
