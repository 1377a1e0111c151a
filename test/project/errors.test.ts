/**
 * Every public error says why in one shape: `reason` is a tagged value, so that `Effect.catchReason` and `catchReasons`
 * handle it. An error that has one reason only has no field for it.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Types from "effect/Types"
import * as Client from "../../src/client/index.ts"
import * as Http from "../../src/http/index.ts"
import * as Main from "../../src/index.ts"
import * as Node from "../../src/node/index.ts"
import * as Testing from "../../src/testing/index.ts"

/** The errors with a reason, each made with one of them. The type says that `reason` is a tagged value. */
const errors: Record<string, { readonly _tag: string; readonly reason: { readonly _tag: string } }> = {
  CgiHeadError: new Main.CgiResponse.CgiHeadError({ reason: { _tag: "TruncatedHead" }, message: "" }),
  CgiParamsError: new Main.CgiParams.CgiParamsError({ reason: { _tag: "AboveRoot" }, message: "" }),
  FastCgiAccessError: new Main.FastCgiAccess.FastCgiAccessError({ reason: { _tag: "Empty" }, message: "" }),
  FastCgiClientError: new Client.FastCgiClientError.FastCgiClientError({
    reason: { _tag: "ConnectionLost", received: 3 },
    message: ""
  }),
  FastCgiConnectError: new Node.NodeFastCgiConnector.FastCgiConnectError({ reason: { _tag: "Refused" }, message: "" }),
  FastCgiDecodeError: new Main.FastCgiDecoder.FastCgiDecodeError({ reason: { _tag: "NullRequestId" }, message: "" }),
  FastCgiListenerError: new Main.FastCgiListener.FastCgiListenerError({ reason: { _tag: "NotASocket" }, message: "" }),
  FastCgiParamsError: new Main.FastCgiParams.FastCgiParamsError({ reason: { _tag: "TooMany" }, message: "" }),
  FastCgiPhpError: new Client.FastCgiPhp.FastCgiPhpError({
    reason: { _tag: "NotConfigured", path: "/status", status: 404 },
    message: ""
  }),
  FastCgiStatusError: new Main.FastCgiStatus.FastCgiStatusError({ reason: { _tag: "SamePath" }, message: "" }),
  FastCgiRequestError: new Main.FastCgiRequestError.FastCgiRequestError({ reason: { _tag: "Aborted" }, message: "" }),
  NodeFastCgiWorkersError: new Node.NodeFastCgiWorkers.NodeFastCgiWorkersError({
    reason: { _tag: "NotStarted" },
    message: ""
  })
}

/** The errors that have one reason. */
const single = ["FastCgiAccessLogError", "FastCgiTransportError", "NodeFastCgiAccessLogError"]

const isErrorClass = (value: unknown): value is { readonly name: string; readonly prototype: Error } =>
  typeof value === "function" && value.prototype instanceof Error

const exportedErrors = (): ReadonlyArray<string> =>
  [Main, Client, Http, Node, Testing]
    .flatMap((entry) => Object.values<object>(entry))
    .flatMap((module) => Object.values<unknown>({ ...module }))
    .filter(isErrorClass)
    .map(({ name }) => name)
    .sort()

describe("the public errors", () => {
  it("are listed here", () => {
    assert.deepStrictEqual(exportedErrors(), [...Object.keys(errors), ...single].sort())
  })

  for (const [name, error] of Object.entries(errors)) {
    it.effect(`catchReason handles ${name}`, () =>
      Effect.gen(function*() {
        assert.strictEqual(error._tag, name)
        assert.strictEqual(
          yield* Effect.catchReason(
            Effect.fail(error),
            name,
            error.reason._tag,
            (reason) => Effect.succeed(reason._tag)
          ),
          error.reason._tag
        )
        assert.strictEqual(
          yield* Effect.flip(Effect.catchReason(Effect.fail(error), name, "Other", () => Effect.void)),
          error
        )
      }))
  }

  it.effect("give a handler the fields of the one reason, and take no reason that there is not", () =>
    Effect.gen(function*() {
      const lost: Effect.Effect<number, Client.FastCgiClientError.FastCgiClientError> = Effect.fail(
        new Client.FastCgiClientError.FastCgiClientError({
          reason: { _tag: "ConnectionLost", received: 3 },
          message: ""
        })
      )
      const handled = Effect.catchReasons(lost, "FastCgiClientError", {
        ConnectionLost: ({ received }) => Effect.succeed(received)
      })
      // @ts-expect-error: there is no such reason
      const none: Types.ReasonTags<Client.FastCgiClientError.FastCgiClientError> = "Lost"
      assert.notStrictEqual<string>(none, "ConnectionLost")
      assert.strictEqual(yield* handled, 3)
    }))
})
