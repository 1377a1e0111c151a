/**
 * An application for each connection that a client opens, and what went wrong in the client's words.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as HttpClientError from "effect/http/HttpClientError"
import * as Scope from "effect/Scope"
import type { FastCgiClientError } from "../../src/client/FastCgiClientError.ts"
import * as Application from "./application.ts"

// An application for each connection that the client opens, in order.
export const applications = Effect.fnUntraced(function*(options?: Parameters<typeof Application.make>[0]) {
  const opened: Array<Application.Application> = []
  const waiting = new Set<() => void>()
  const scope = yield* Effect.scope
  const connect = Effect.gen(function*() {
    const app = yield* Scope.provide(Application.make(options), scope)
    opened.push(app)
    for (const look of Array.from(waiting)) look()
    return app.client
  })
  // The `n`th application, when its first request has begun.
  const nth = (n: number) =>
    Effect.tap(
      Effect.callback<Application.Application>((resume) => {
        const look = () => {
          if (opened.length < n) return
          waiting.delete(look)
          resume(Effect.succeed(opened[n - 1]))
        }
        waiting.add(look)
        look()
      }),
      (app) => app.untilTag("BeginRequest")
    )
  return { connect, opened, nth }
})

export const url = "http://example.test/path?q=1"

export const untilRequest = (app: Application.Application, n = 1) =>
  app.until((record) => record._tag === "Stdin" && record.content.length === 0, n)

export const errorOf = (exit: Exit.Exit<unknown, HttpClientError.HttpClientError>) => {
  if (Exit.isSuccess(exit)) return undefined
  return exit.cause.reasons.find(Cause.isFailReason)?.error
}

export const reasonOf = (exit: Exit.Exit<unknown, HttpClientError.HttpClientError>): string | undefined => {
  const error = errorOf(exit)
  return error && `${error.reason._tag} ${(error.reason.cause as FastCgiClientError).reason._tag}`
}
