/**
 * A span for a request, whose application is told of it: HTTP_TRACEPARENT, as if a web server had sent the header `traceparent`
 * (W3C Trace Context). Where nobody traces there is none, and what the request says passes as it is.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpTraceContext from "effect/http/HttpTraceContext"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type { FastCgiClientRequest } from "../FastCgiClient.ts"
import type { Begun } from "./pool.ts"
import { paramOf, withParam } from "./requestParams.ts"

/** Runs `use` with a span, where there is one to be the parent of it. It ends with the scope. */
export const spanned = <E, R, A, E2, R2>(
  request: FastCgiClientRequest<E, R>,
  use: (request: FastCgiClientRequest<E, R>, span: Tracer.Span | undefined) => Effect.Effect<A, E2, R2>
): Effect.Effect<A, E2, R2 | Scope.Scope> =>
  Effect.withFiber<A, E2, R2 | Scope.Scope>((fiber) => {
    const { context } = fiber
    if (Context.getOption(context, Tracer.ParentSpan)._tag === "None" || fiber.getRef(Tracer.DisablePropagation)) {
      return use(request, undefined)
    }
    const attributes: Record<string, unknown> = {}
    for (const [name, attribute] of described) {
      const value = paramOf(request.params, name)
      if (value !== undefined) attributes[attribute] = value
    }
    return Effect.flatMap(
      Effect.makeSpanScoped("fastcgi.request", { kind: "client", attributes }),
      (span) =>
        Effect.provideService(
          use({ ...request, params: withParam(request.params, "HTTP_TRACEPARENT", traceparentOf(span)) }, span),
          Tracer.ParentSpan,
          span
        )
    )
  })

/** Notes on the span where the request has gone. */
export const annotate = (span: Tracer.Span | undefined, { name, reused }: Begun): void => {
  if (span === undefined) return
  if (name !== undefined) span.attribute("fastcgi.upstream", name)
  span.attribute("fastcgi.connection.reused", reused)
}

// As OpenTelemetry names them. A URL's query may hold what is nobody's business.
const described = [
  ["REQUEST_METHOD", "http.request.method"],
  ["SCRIPT_NAME", "url.path"],
  ["SCRIPT_FILENAME", "code.file.path"]
] as const

const traceparentOf = (span: Tracer.Span): string => HttpTraceContext.toHeaders(span).traceparent
