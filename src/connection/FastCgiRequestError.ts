/**
 * Why the input of a request could not be read to its end.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"

/**
 * - `Aborted`: the web server sent ABORT_REQUEST (SPEC 5.4)
 * - `ConnectionClosed`: the connection closed or was lost before the input was complete
 * - `InputDiscarded`: the request ended, or held its siblings up for too long, with input that nobody had read
 * - `TruncatedBody`: less came than CONTENT_LENGTH or FCGI_DATA_LENGTH announced (SPEC 6.2, 6.4)
 *
 * @category errors
 * @since 0.1.0
 */
export type FastCgiRequestErrorReason = "Aborted" | "ConnectionClosed" | "InputDiscarded" | "TruncatedBody"

/**
 * The input of a request ended before its end. What had arrived before has been delivered.
 *
 * @category errors
 * @since 0.1.0
 */
export class FastCgiRequestError extends Data.TaggedError("FastCgiRequestError")<{
  readonly reason: FastCgiRequestErrorReason
  readonly message: string
}> {}
