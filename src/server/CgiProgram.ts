/**
 * A program that was started as plain CGI/1.1 (RFC 3875), as a FastCGI connection with one request. Its environment and its standard
 * input become the records of the request. The records of the answer become its standard output, its standard error and its exit
 * status. This module only translates; the platform has the streams.
 *
 * @since 0.1.0
 */
import * as FastCgiDecoder from "../protocol/FastCgiDecoder.ts"
import * as FastCgiEncoder from "../protocol/FastCgiEncoder.ts"
import * as FastCgiParams from "../protocol/FastCgiParams.ts"
import * as FastCgiRecord from "../protocol/FastCgiRecord.ts"

/**
 * Whether a program with this environment was started as a CGI program. GATEWAY_INTERFACE says so (RFC 3875 4.1.4).
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
 * CONTENT_LENGTH says how many, and no more may be read (RFC 3875 4.2), because some web servers pass a connection that stays open.
 * Without CONTENT_LENGTH the request has no body, unless HTTP_TRANSFER_ENCODING announces one of unknown length.
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
 * The records of a chunk of standard input. An empty `content` is the end of the input.
 *
 * @category encoding
 * @since 0.1.0
 */
export const stdin = (content: Uint8Array): Uint8Array => FastCgiEncoder.encode(FastCgiRecord.stdin(requestId, content))

/**
 * The events of the answer, which `makeAnswer` calls.
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
 * Creates a decoder that takes the bytes of the application, cut anywhere, and calls `answer` with its events.
 *
 * @category decoding
 * @since 0.1.0
 */
export const makeAnswer = (answer: CgiAnswer): (bytes: Uint8Array) => void => {
  const decoder = FastCgiDecoder.make()
  let ended = false
  return (bytes) => {
    const records: Array<FastCgiRecord.FastCgiRecord> = []
    // Our own server writes these records, so they always decode. If one did not, there would be no event and no end.
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
 * The exit status of a program whose request has ended with `appStatus`: the same number, as far as an exit status can hold it.
 *
 * @category accessors
 * @since 0.1.0
 */
export const exitStatus = (appStatus: number): number => Math.min(appStatus, 255)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const requestId = 1
