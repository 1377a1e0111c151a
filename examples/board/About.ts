/** What a handler can say about the request it answers, and about the server it runs in. */
import * as Effect from "effect/Effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Option from "effect/Option"

type Pairs = ReadonlyArray<readonly [name: string, value: string]>

export interface About {
  readonly facts: Pairs
  /** The CGI variables, when the request came by FastCGI. */
  readonly variables: Pairs
}

export const about: Effect.Effect<About, never, HttpServerRequest.HttpServerRequest> = Effect.gen(function*() {
  const request = yield* HttpServerRequest.HttpServerRequest
  return {
    facts: [
      ["Reached by", "plain HTTP"],
      ["Request", `${request.method} ${request.url}`],
      ["Client", Option.getOrElse(request.remoteAddress, () => "unknown")]
    ],
    variables: []
  }
})
