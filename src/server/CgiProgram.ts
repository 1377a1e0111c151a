/**
 * A program that was started as plain CGI/1.1 (RFC 3875), as a FastCGI connection with one request: what is in its
 * environment and on its standard input becomes the records of the request, and the records of the answer become what
 * belongs on its standard output, on its standard error and into its exit status. Only the translation is here; streams
 * are the business of the platform.
 *
 * @since 0.1.0
 */
import * as FastCgiDecoder from "../protocol/FastCgiDecoder.ts"
import * as FastCgiEncoder from "../protocol/FastCgiEncoder.ts"
import * as FastCgiParams from "../protocol/FastCgiParams.ts"
import * as FastCgiRecord from "../protocol/FastCgiRecord.ts"

/**
 * Whether a program with this environment was started as a CGI program: GATEWAY_INTERFACE says so (RFC 3875 4.1.4).
 *
 * @category predicates
 * @since 0.1.0
 */
export const isCgi = (environment: Readonly<Record<string, string | undefined>>): boolean =>
  environment.GATEWAY_INTERFACE?.startsWith("CGI/") === true

/**
 * How many bytes of standard input are the request's body, or `"unbounded"` for all until its end.
 *
 * **Details**
 *
 * CONTENT_LENGTH says it, and more must not be read (RFC 3875 4.2): some web servers pass a connection that stays open.
 * Without it there is no body, unless HTTP_TRANSFER_ENCODING tells of one whose length the web server did not know.
 *
 * @category accessors
 * @since 0.1.0
 */
export const bodySize = (environment: Readonly<Record<string, string | undefined>>): number | "unbounded" => {
  const { CONTENT_LENGTH, HTTP_TRANSFER_ENCODING } = environment
  if (CONTENT_LENGTH === undefined || CONTENT_LENGTH === "") {
    return HTTP_TRANSFER_ENCODING === undefined || HTTP_TRANSFER_ENCODING === "" ? 0 : "unbounded"
  }
  const size = /^\d+$/.test(CONTENT_LENGTH) ? Number(CONTENT_LENGTH) : 0
  return Number.isSafeInteger(size) ? size : "unbounded"
}

/**
 * The records that begin the request: BEGIN_REQUEST for a Responder whose connection closes with it, and the environment
 * as PARAMS.
 *
 * @category encoding
 * @since 0.1.0
 */
export const opening = (
  environment: Iterable<readonly [name: string | Uint8Array, value: string | Uint8Array]>
): ReadonlyArray<Uint8Array> => {
  const pairs = FastCgiParams.encodePairs(environment)
  return [
    FastCgiEncoder.encode(FastCgiRecord.beginRequest(requestId, FastCgiRecord.Role.Responder)),
    ...(pairs.length > 0 ? [FastCgiEncoder.encode(FastCgiRecord.params(requestId, pairs))] : []),
    FastCgiEncoder.encode(FastCgiRecord.params(requestId))
  ]
}

/**
 * The records of what has been read from standard input. An empty `content` is the end of it.
 *
 * @category encoding
 * @since 0.1.0
 */
export const stdin = (content: Uint8Array): Uint8Array => FastCgiEncoder.encode(FastCgiRecord.stdin(requestId, content))

/**
 * What `makeAnswer` calls with what the application says.
 *
 * @category models
 * @since 0.1.0
 */
export interface CgiAnswer {
  /** Bytes for standard output: the header block and the body, as a CGI program writes them. A view: see the decoder. */
  readonly stdout: (content: Uint8Array) => void
  /** Bytes for standard error. */
  readonly stderr: (content: Uint8Array) => void
  /** The request has ended with this status (SPEC 5.5). Called once; nothing comes afterwards. */
  readonly end: (appStatus: number) => void
}

/**
 * Creates what takes the bytes of the application, cut anywhere, and calls `answer` with what they say.
 *
 * @category decoding
 * @since 0.1.0
 */
export const makeAnswer = (answer: CgiAnswer): (bytes: Uint8Array) => void => {
  const decoder = FastCgiDecoder.make()
  let ended = false
  return (bytes) => {
    const records: Array<FastCgiRecord.FastCgiRecord> = []
    // Our own server writes them, so that they do not decode is not a case to handle: nothing comes, and no end.
    decoder.push(bytes, records)
    for (const record of records) {
      if (ended || record.requestId !== requestId) continue
      if (record._tag === "Stdout") {
        if (record.content.length > 0) answer.stdout(record.content)
      } else if (record._tag === "Stderr") {
        if (record.content.length > 0) answer.stderr(record.content)
      } else if (record._tag === "EndRequest") {
        ended = true
        answer.end(record.appStatus)
      }
    }
  }
}

/**
 * What a program exits with whose request has ended with `appStatus`: the same, as far as an exit status can say it.
 *
 * @category accessors
 * @since 0.1.0
 */
export const exitStatus = (appStatus: number): number => Math.min(appStatus, 255)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const requestId = 1
