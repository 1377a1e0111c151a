/**
 * A request over a pool, as it is. Where it may be sent again, it is there only when something has come of its answer.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { FastCgiClientRequest, FastCgiClientResponse } from "../FastCgiClient.ts"
import type { FastCgiClientError } from "../FastCgiClientError.ts"
import type { ClientRequest } from "./clientRequest.ts"
import type { Pool } from "./pool.ts"
import { repeatsOf } from "./repeats.ts"
import { toResponse } from "./request.ts"
import { paramOf, settledParams } from "./requestParams.ts"
import { annotate, spanned } from "./tracing.ts"

/** Sends a request on a connection of the pool. */
export const pooledRequest = <E, R>(
  pool: Pool,
  options: FastCgiClientRequest<E, R>
): Effect.Effect<FastCgiClientResponse, FastCgiClientError, R | Scope.Scope> =>
  Effect.suspend(() =>
    spanned({ ...options, params: settledParams(options.params) }, (request, span) => {
      const repeats = repeatsOf(request, paramOf(request.params, "REQUEST_METHOD"))
      return pool.run(request, repeats, (begun) => {
        annotate(span, begun)
        return repeats.mayRunTwice ? answered(begun.request) : Effect.succeed(toResponse(begun.request))
      })
    })
  )

// Waits for the first of STDOUT, or for the end.
const answered = (request: ClientRequest): Effect.Effect<FastCgiClientResponse, FastCgiClientError> => {
  const response = toResponse(request)
  return Pull.matchEffect(request.stdout.pull, {
    onSuccess: (chunks) =>
      Effect.succeed({ ...response, stdout: Stream.concat(Stream.fromArray(chunks), response.stdout) }),
    onFailure: (cause) => Effect.failCause(cause),
    // What END_REQUEST says comes before the end of nothing.
    onDone: () => Effect.as(Deferred.await(request.end), response)
  })
}
