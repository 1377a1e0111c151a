/**
 * Why the input of a request could not be read to its end.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"

/**
 * - `Aborted`: the web server sent ABORT_REQUEST (SPEC 5.4)
 * - `ConnectionClosed`: the connection closed or was lost before the input was complete
 * - `InputDiscarded`: the request ended with unread input, or its unread input held up other requests for too long
 * - `BodyTooLarge`: the body is longer than `maxBodySize`, or than the limit of `FastCgiRequest.limitBody`
 * - `TruncatedBody`: fewer bytes came than CONTENT_LENGTH or FCGI_DATA_LENGTH announced (SPEC 6.2, 6.4)
 *
 * @category errors
 * @since 0.1.0
 */
export type FastCgiRequestErrorReason =
  | { readonly _tag: "Aborted" }
  | { readonly _tag: "ConnectionClosed" }
  | { readonly _tag: "InputDiscarded" }
  | { readonly _tag: "BodyTooLarge"; readonly maxBodySize: number }
  | { readonly _tag: "TruncatedBody" }

/**
 * The input of a request ended early. The bytes that had arrived before have been delivered.
 *
 * **Example** (Answering a body that was cut)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Stream from "effect/Stream"
 * import { type FastCgiRequest, FastCgiResponse } from "effect-fastcgi"
 *
 * export const upload = (request: FastCgiRequest.Responder) =>
 *   Stream.runCount(request.stdin).pipe(
 *     Effect.map((chunks) => FastCgiResponse.make(`${chunks} chunks`)),
 *     Effect.catchReason("FastCgiRequestError", "TruncatedBody", () =>
 *       Effect.succeed(FastCgiResponse.make("the body is shorter than it said", { status: 400 })))
 *   )
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class FastCgiRequestError extends Data.TaggedError("FastCgiRequestError")<{
  readonly reason: FastCgiRequestErrorReason
  readonly message: string
}> {}
