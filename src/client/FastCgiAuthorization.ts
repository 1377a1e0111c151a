/**
 * Asks an application in the role Authorizer whether a request is allowed, and reads its answer as a web server does (SPEC 6.3).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as CgiResponse from "../cgi/CgiResponse.ts"
import { ProtocolStatus, Role } from "../protocol/FastCgiRecord.ts"
import { concat } from "../protocol/internal/bytes.ts"
import type { FastCgiClient, FastCgiClientRequest } from "./FastCgiClient.ts"
import type { FastCgiClientError } from "./FastCgiClientError.ts"
import { fail } from "./internal/failures.ts"

/**
 * The decision of an Authorizer.
 *
 * @category models
 * @since 0.1.0
 */
export type FastCgiAuthorization = FastCgiAllowed | FastCgiDenied

/**
 * Access is allowed: the answer had status 200 and was complete. Its other headers and its body are ignored.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiAllowed {
  readonly _tag: "FastCgiAllowed"
  /**
   * The headers `Variable-NAME` of the answer, in order, with their names as they came: variables for the requests that the web server
   * makes next. Values have one character per byte.
   */
  readonly variables: ReadonlyArray<readonly [name: string, value: string]>
}

/**
 * Access is denied, with a response for the client.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiDenied {
  readonly _tag: "FastCgiDenied"
  readonly status: number
  readonly statusText: string
  /** Without hop-by-hop headers. Names as they came, in order. */
  readonly headers: ReadonlyArray<readonly [name: string, value: string]>
  /** Can be read once. Fails when the answer is cut. */
  readonly body: Stream.Stream<Uint8Array, FastCgiClientError>
}

/**
 * Sends the params of a request to an Authorizer and waits for its decision.
 *
 * **Details**
 *
 * Only a complete answer allows: an explicit `Status: 200`, END_REQUEST and appStatus 0. The final head decides, not an interim one
 * (1xx) before it. Fails with `BadHead` for an answer without a header block, without `Status` or with several, and for a 200 with
 * another appStatus. Otherwise it fails as `request` of the client does. (lighttpd and Apache take some of these answers for
 * permission.) Closing the scope, and interrupting, gives up the request.
 *
 * The params are those of the request to authorize, without CONTENT_LENGTH, PATH_INFO, PATH_TRANSLATED and SCRIPT_NAME (SPEC 6.3).
 * Entries with these names are left out.
 *
 * **Example** (Asking before a request is passed on)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { FastCgiAuthorization, type FastCgiClient } from "effect-fastcgi/client"
 *
 * export const mayRead = (client: FastCgiClient.FastCgiClient, uri: string) =>
 *   FastCgiAuthorization.authorize(client, { params: [["REQUEST_METHOD", "GET"], ["REQUEST_URI", uri]] }).pipe(
 *     Effect.map((decision) => decision._tag === "FastCgiAllowed"),
 *     Effect.scoped
 *   )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const authorize = (
  client: FastCgiClient,
  request: Pick<FastCgiClientRequest, "params" | "keepConnection">
): Effect.Effect<FastCgiAuthorization, FastCgiClientError, Scope.Scope> =>
  Effect.gen(function*() {
    const { params } = request
    const response = yield* client.request({
      keepConnection: request.keepConnection,
      role: Role.Authorizer,
      params: "bytes" in params ? params : Array.from(params).filter(([name]) => !notForAuthorizers.has(textOf(name)))
    })
    const pull = yield* Stream.toPull(response.stdout)
    const parser = CgiResponse.makeHeadParser()
    const head = Effect.suspend(function read(): Effect.Effect<CgiResponse.CgiHead, FastCgiClientError> {
      return Pull.matchEffect(pull, {
        onSuccess: (chunks) => {
          for (let i = 0; i < chunks.length; i++) {
            const result = parser.push(chunks[i])
            if (result === undefined) continue
            if (result._tag === "CgiHeadError") return badHead(result)
            return Effect.succeed({ ...result, rest: concat([result.rest, ...chunks.slice(i + 1)]) })
          }
          return Effect.suspend(read)
        },
        onFailure: (cause) => Effect.failCause(cause),
        // END_REQUEST decides first.
        onDone: () => Effect.andThen(response.end, Effect.suspend(() => badHead(parser.end())))
      })
    })
    const { headers, rest, status, statusFields, statusText } = yield* head
    // A CGI response without Status has status 200, but a broken answer must not allow. With two of them, or one that an HTTP status
    // line contradicts, nobody can tell which one counts.
    if (statusFields.length !== 1 || !statusFields[0].startsWith(String(status))) {
      const message = statusFields.length === 0
        ? "the Authorizer's answer has no Status"
        : "the Authorizer's answer has more than one status"
      return yield* Effect.fail(fail({ _tag: "BadHead" }, message))
    }
    const body = Stream.concat(
      rest.length > 0 ? Stream.make(rest) : Stream.empty,
      Stream.fromPull(Effect.succeed(pull))
    )
    if (status !== 200) {
      return {
        _tag: "FastCgiDenied",
        status,
        statusText,
        headers: CgiResponse.endToEndHeaders(headers),
        body
      }
    }
    yield* Stream.runDrain(body)
    const { appStatus, protocolStatus } = yield* response.end
    if (protocolStatus !== ProtocolStatus.RequestComplete) {
      return yield* Effect.fail(
        fail({ _tag: "ProtocolError" }, `the Authorizer's request ended with protocol status ${protocolStatus}`)
      )
    }
    if (appStatus !== 0) {
      return yield* Effect.fail(
        fail({ _tag: "BadHead", appStatus }, `the Authorizer failed behind its head, with appStatus ${appStatus}`)
      )
    }
    const variables: Array<readonly [string, string]> = []
    for (const [name, value] of headers) {
      if (name.length > prefix.length && name.slice(0, prefix.length).toLowerCase() === prefix) {
        variables.push([name.slice(prefix.length), value])
      }
    }
    return { _tag: "FastCgiAllowed", variables }
  })

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const prefix = "variable-"

// SPEC 6.3
const notForAuthorizers = new Set(["CONTENT_LENGTH", "PATH_INFO", "PATH_TRANSLATED", "SCRIPT_NAME"])

const latin1 = new TextDecoder("latin1")

const textOf = (name: string | Uint8Array): string => typeof name === "string" ? name : latin1.decode(name)

const badHead = (error: CgiResponse.CgiHeadError): Effect.Effect<never, FastCgiClientError> =>
  Effect.fail(fail({ _tag: "BadHead" }, `the Authorizer's answer is not a CGI response: ${error.message}`, error))
