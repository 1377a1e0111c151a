/**
 * The counters over HTTP. Any worker answers for any counter.
 *
 *     GET  /counters/NAME             what it says
 *     POST /counters/NAME?amount=2    adds to it, 1 by default
 *
 * A client, or a web server, that sends a POST again because it got no answer says so with the same `Idempotency-Key`.
 */
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { randomUUID } from "node:crypto"
import { Counter } from "./Counter.ts"

const Name = HttpRouter.schemaPathParams(Schema.Struct({ name: Schema.String }))
const Amount = HttpServerRequest.schemaSearchParams(Schema.Struct({
  amount: Schema.optionalKey(Schema.NumberFromString.check(Schema.isInt()))
}))

export const layer = Layer.unwrap(Effect.gen(function*() {
  const counter = yield* Counter.client

  const get = Effect.gen(function*() {
    const { name } = yield* Name
    return yield* answer(yield* counter(name).Get())
  })

  const add = Effect.gen(function*() {
    const { name } = yield* Name
    const { amount = 1 } = yield* Amount
    const { headers } = yield* HttpServerRequest.HttpServerRequest
    const key = headers["idempotency-key"] ?? randomUUID()
    return yield* answer(yield* counter(name).Add({ key, amount }))
  })

  return HttpRouter.addAll([
    HttpRouter.route("GET", "/counters/:name", get),
    HttpRouter.route("POST", "/counters/:name", add)
  ])
}))

/** With the process that has answered, which need not be the one in which the counter lives. */
const answer = (state: { readonly value: number; readonly home: string }) =>
  HttpServerResponse.json({ ...state, answeredBy: process.pid })
