import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { FastCgiAdmission, FastCgiResponse, FastCgiServer } from "effect-fastcgi"
import { FastCgiTest } from "effect-fastcgi/testing"

const serve = (handlers: Parameters<typeof FastCgiServer.serve>[0]) =>
  FastCgiServer.serve(handlers).pipe(
    Layer.provideMerge([FastCgiTest.layerMemory, FastCgiAdmission.layer()])
  )

describe("FastCgiServer", () => {
  it.effect("answers a request", () =>
    Effect.gen(function*() {
      const memory = yield* FastCgiTest.FastCgiMemory
      const peer = yield* memory.peer
      yield* peer.request()
      const reply = yield* peer.reply()
      assert.deepStrictEqual(reply, {
        stdout: "Status: 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhello",
        stderr: "",
        appStatus: 0,
        protocolStatus: 0
      })
    }).pipe(Effect.provide(serve({ responder: () => Effect.succeed(FastCgiResponse.make("hello")) }))))
})
