/**
 * The whole suite against our own server in a child process, over standard input and output and pairs of pipes like them.
 */
import { assert, describe, it } from "@effect/vitest"
import { NodeFastCgiListener } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Path from "node:path"
import { serve } from "../../conformance/effect-fastcgi/app.ts"
import * as Conformance from "../../src/conformance/Conformance.ts"
import { type Children, connector } from "../support/stdio.ts"
import { temporaryDirectory } from "../support/webServers.ts"

const findsNothing = (children: Children) =>
  Effect.gen(function*() {
    const report = yield* Conformance.run({
      connect: yield* connector(children),
      server: "effect-fastcgi",
      deadline: "10 seconds",
      quiet: "20 millis"
    })
    const found = report.lines.filter((line) => line.result !== "pass")
    assert.deepStrictEqual(found.map(({ came, result, row }) => `${row} ${result}: ${came}`), [
      "6.1-e n/a: the application has no /nothing"
    ])
    assert.isAbove(report.lines.length, 140)
  })

describe("the conformance suite", () => {
  // One child for all connections, some 530, because the application counts its requests.
  it.live("finds nothing in effect-fastcgi over pairs of pipes of a child", () =>
    findsNothing({ serve: ["conformance"], connections: 600 }))

  // Some hundred children take a minute.
  it.live.skipIf(process.env.FULL === undefined)(
    "finds nothing in effect-fastcgi over the standard input and output of a child, a child a connection",
    () =>
      Effect.gen(function*() {
        const path = Path.join(yield* temporaryDirectory, "app.sock")
        yield* Layer.build(
          serve().pipe(Layer.provide(NodeFastCgiListener.layerUnix({ path })), Layer.provide(Logger.layer([])))
        )
        yield* findsNothing({ serve: ["forward", path], connections: 1 })
      }),
    600_000
  )
})
