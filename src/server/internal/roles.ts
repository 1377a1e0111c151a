/**
 * The handlers of a server, made into what the engine runs: a fiber per request that gives the handler the request of its
 * role, and sends what it returns.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { CgiHeadError } from "../../cgi/CgiResponse.ts"
import type { ConnectionRequest } from "../../connection/internal/connectionRequest.ts"
import { Role } from "../../protocol/FastCgiRecord.ts"
import { CurrentAuthorizer, CurrentFilter, CurrentResponder } from "../FastCgiRequest.ts"
import * as FastCgiResponse from "../FastCgiResponse.ts"
import type { Handler, Handlers, Requirements } from "../FastCgiServer.ts"
import { AuthorizerImpl, FilterImpl, ResponderImpl } from "./requests.ts"
import * as Respond from "./respond.ts"

/** Starts the fiber that answers a request. */
export type Start<R> = (request: ConnectionRequest, context: Context.Context<R>) => Fiber.Fiber<void, unknown>

/** What starts the fiber of a request, by role. */
export const startsOf = <E1, R1, E2, R2, E3, R3>(
  handlers: Handlers<E1, R1, E2, R2, E3, R3>
): Readonly<Record<number, Start<Requirements<R1, R2, R3>> | undefined>> => ({
  [Role.Responder]: start(
    handlers.responder,
    CurrentResponder,
    (request) => new ResponderImpl(request),
    (request, _, response) => Effect.flatMap(response, (response) => Respond.send(request, response))
  ),
  [Role.Authorizer]: start(
    handlers.authorizer,
    CurrentAuthorizer,
    (request) => new AuthorizerImpl(request),
    (request, _, decision) => Effect.flatMap(decision, (decision) => authorize(request, decision))
  ),
  [Role.Filter]: start(handlers.filter, CurrentFilter, (request) => new FilterImpl(request), filterOutput)
})

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const start = <Id, Request, Input extends Request, A, E, R>(
  handler: Handler<Request, A, E, R> | undefined,
  current: Context.Key<Id, Request>,
  inputOf: (request: ConnectionRequest) => Input,
  answer: (request: ConnectionRequest, input: Input, handled: Effect.Effect<A, E, R>) => Effect.Effect<void, unknown, R>
): Start<Exclude<R, Scope.Scope | Id>> | undefined => {
  if (handler === undefined) return undefined
  // A handler that throws before it has made an Effect fails its request, not the connection.
  const handle = Effect.isEffect(handler)
    ? () => handler
    : (input: Request) => Effect.suspend(() => handler(input))
  return (request, context) => {
    const input = inputOf(request)
    const answered = Effect.scoped(answer(request, input, handle(input)))
    // What R leaves when the scope and the request are taken off is in `context`, which TypeScript cannot work out.
    return Effect.runForkWith(Context.add(context, current, input) as Context.Context<unknown>)(
      answered as Effect.Effect<void, unknown>
    )
  }
}

// A Filter writes nothing before all of STDIN has come (SPEC 6.4), unless it is being interrupted.
const filterOutput = <E, R>(
  request: ConnectionRequest,
  input: FilterImpl,
  handled: Effect.Effect<FastCgiResponse.FastCgiResponse, E, R>
): Effect.Effect<void, unknown, R> =>
  Effect.matchCauseEffect(handled, {
    onSuccess: (response) => Effect.flatMap(input.ready, () => Respond.send(request, response)),
    onFailure: (cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.failCause(cause)
        : Effect.andThen(input.ready, Effect.failCause(cause))
  })

// Nothing but a 200 with its Status line allows (SPEC 6.3), and nothing but `allow` makes one.
const authorize = (
  request: ConnectionRequest,
  decision: FastCgiResponse.FastCgiAuthorization
): Effect.Effect<void, unknown> => {
  if (decision._tag === "FastCgiDeny") {
    const { response } = decision
    return Respond.send(
      request,
      response.status === 200 ? { ...response, status: 403, statusText: undefined } : response
    )
  }
  const headers: Record<string, string> = {}
  for (const name in decision.variables) {
    if (name === "") {
      return Effect.fail(new CgiHeadError({ reason: { _tag: "InvalidHeaderName" }, message: "a variable has no name" }))
    }
    headers[`Variable-${name}`] = decision.variables[name]
  }
  return Respond.send(request, FastCgiResponse.make(undefined, { headers }))
}
