/**
 * What a handler can say about the request it answers. It works on any HTTP server; over FastCGI there is more to say.
 */
import { FastCgiHttpServer } from "effect-fastcgi/http"
import * as Effect from "effect/Effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Option from "effect/Option"
import { type Exchange, Records } from "./Records.ts"

type Pairs = ReadonlyArray<readonly [name: string, value: string]>

export interface About {
  readonly facts: Pairs
  /** The CGI variables as they came: those of the web server first, then the client's headers (HTTP_*). */
  readonly variables: Pairs
  /** The records of the request, where they are recorded. */
  readonly exchange: Option.Option<Exchange>
}

const unknown = "unknown"

export const about: Effect.Effect<About, never, HttpServerRequest.HttpServerRequest> = Effect.gen(function*() {
  const http = yield* HttpServerRequest.HttpServerRequest
  const origin = yield* FastCgiHttpServer.origin
  if (Option.isNone(origin)) {
    return {
      facts: [
        ["Reached by", "plain HTTP"],
        ["Request", `${http.method} ${http.url}`],
        ["Client", Option.getOrElse(http.remoteAddress, () => unknown)],
        ["Host", http.headers["host"] ?? unknown]
      ],
      variables: [],
      exchange: Option.none()
    }
  }
  const { request, variables } = origin.value
  const records = yield* Effect.serviceOption(Records)
  const all = Array.from(request.params)
  const isHeader = ([name]: readonly [string, string]) => name.startsWith("HTTP_")
  return {
    facts: [
      ["Reached by", "FastCGI"],
      ["Role", "Responder"],
      ["Connection", String(request.connectionId)],
      ["Request id", String(request.requestId)],
      ["Keep connection", request.keepConnection ? "yes" : "no"],
      ["Web server", variables.serverSoftware ?? unknown],
      ["Client", variables.remoteAddress ?? unknown],
      ["Protocol", `${variables.serverProtocol ?? unknown}, ${variables.scheme}`]
    ],
    variables: [...all.filter((pair) => !isHeader(pair)), ...all.filter(isHeader)],
    exchange: Option.isSome(records) ? yield* records.value.current(request) : Option.none()
  }
})
