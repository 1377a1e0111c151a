/**
 * The whole suite against our own server in a child process, over standard input and output and pairs of pipes like them.
 */
import { describe, it } from "@effect/vitest"
import { NodeFastCgiListener } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Path from "node:path"
import { serve } from "../../conformance/effect-fastcgi/app.ts"
import { type Children, connector } from "../support/stdio.ts"
import { temporaryDirectory } from "../support/webServers.ts"
import { findsNothing } from "./support/findsNothing.ts"

const findsNothingOver = (children: Children) => Effect.flatMap(connector(children), findsNothing)

describe("the conformance suite", () => {
  // One child for all connections, some 530, because the application counts its requests.
  it.live("finds nothing in effect-fastcgi over pairs of pipes of a child", () =>
    findsNothingOver({ serve: ["conformance"], connections: 600 }))

  // Some hundred children take a minute.
  it.live.skipIf(process.env.FULL === undefined)(
    "finds nothing in effect-fastcgi over the standard input and output of a child, a child a connection",
    () =>
      Effect.gen(function*() {
        const path = Path.join(yield* temporaryDirectory, "app.sock")
        yield* Layer.build(
          serve().pipe(Layer.provide(NodeFastCgiListener.layerUnix({ path })), Layer.provide(Logger.layer([])))
        )
        yield* findsNothingOver({ serve: ["forward", path], connections: 1 })
      }),
    600_000
  )
})
