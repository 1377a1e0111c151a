/** Defects of our own: a connection that fails must not leave its requests waiting. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { beginOptions, defaults } from "../../src/client/internal/request.ts"
import { WebServerEnd } from "../../src/client/internal/webServerEnd.ts"
import * as FastCgiEncoder from "../../src/protocol/FastCgiEncoder.ts"
import * as Record from "../../src/protocol/FastCgiRecord.ts"
import { withinMemory } from "../support/within.ts"
import * as Application from "./application.ts"

class Broken extends WebServerEnd {
  broken = false

  protected override record(record: Record.FastCgiRecord): void {
    if (this.broken) throw new Error("a defect")
    super.record(record)
  }
}

describe("a defect while reading fails the requests of its connection", () => {
  for (const when of ["as it comes", "when the application has closed and more is to be read"]) {
    it.effect(when, () =>
      Effect.gen(function*() {
        const app = yield* Application.make()
        const dispatcher = yield* Effect.withFiber((fiber) => Effect.succeed(fiber.cache.scheduler.makeDispatcher()))
        const context = yield* Effect.context<never>()
        const connection = new Broken(app.client, defaults, dispatcher, Effect.runForkWith(context))
        connection.start()
        const request = connection.beginUnsafe(beginOptions({ params: Application.params }, true))
        connection.broken = true
        const record = Record.stdout(1, new Uint8Array(100))
        if (when === "as it comes") {
          yield* app.send(record)
        } else {
          // A socket that is closed has what came before, as a rule: the answer may be there.
          Object.defineProperty(app.client, "pull", { value: Effect.succeed([FastCgiEncoder.encode(record)]) })
          connection.onClose()
        }
        const exit = yield* withinMemory(() => "the end of the request")(Effect.exit(Deferred.await(request.end)))
        assert.isTrue(Exit.isFailure(exit))
        assert.strictEqual(Application.reasonOf(exit), "ProtocolError")
        assert.isFalse(connection.open)
      }))
  }
})
