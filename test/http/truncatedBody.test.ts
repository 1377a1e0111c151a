/**
 * Bodies that are not what CONTENT_LENGTH says (SPEC 6.2), as an HTTP app meets them.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiRecord as R } from "effect-fastcgi"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { opening } from "../server/support/serving.ts"

const decoded = (name: string, body: Effect.Effect<unknown, unknown, HttpServerRequest.HttpServerRequest>) =>
  HttpRouter.add("POST", `/${name}`, Effect.map(body, (value) => HttpServerResponse.text(`complete ${String(value)}`)))

const Routes = Layer.mergeAll(
  decoded("text", Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => request.text)),
  decoded("json", Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => request.json)),
  decoded("bytes", Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => request.arrayBuffer)),
  decoded("params", Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => request.urlParamsBody)),
  decoded("stream", Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => Stream.runDrain(request.stream)))
)

const App = HttpRouter.serve(Routes, { disableLogger: true }).pipe(Layer.provideMerge(FastCgiTest.layerTest))

describe("a body that ends before its Content-Length", () => {
  for (const how of ["text", "json", "bytes", "params", "stream"]) {
    it.effect(`is not taken for a short one when it is read as ${how}`, () =>
      Effect.gen(function*() {
        const memory = yield* FastCgiTest.FastCgiMemory
        const peer = yield* memory.peer
        const content = new TextEncoder().encode("123456")
        for (const [length, status] of [["6", /^Status: 200 /], ["10", /^Status: [45]\d\d /]] as const) {
          yield* peer.send(
            ...opening(1, { params: { REQUEST_METHOD: "POST", REQUEST_URI: `/${how}`, CONTENT_LENGTH: length } }),
            R.stdin(1, content),
            R.stdin(1)
          )
          const { stdout } = yield* peer.reply()
          assert.match(stdout, status)
          assert.strictEqual(stdout.includes("complete"), length === "6")
        }
      }).pipe(Effect.scoped, Effect.provide(App)))
  }
})
