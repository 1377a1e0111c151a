/**
 * The head of a CGI response, both ways: status and headers to the header block that starts STDOUT (RFC 3875 §6), and for the client's
 * side the header block back to status and headers.
 *
 * Text has one character per byte, in and out.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import { latin1 } from "../protocol/internal/text.ts"
import { fieldName, hopByHop, hopByHopWith, isFieldName, isFieldValue, isSpace, trimSpaces } from "./internal/fields.ts"
import { reasonOf } from "./internal/reasons.ts"

/**
 * Why the head of a response is wrong:
 *
 * - `InvalidStatus`: a status that is not an integer from 200 to 599, or a `Status` line without one
 * - `InvalidStatusText`: a reason phrase with a control character, or one that is not a byte
 * - `InvalidHeaderName`: a header name that is not a token (RFC 9110 §5.1), or a line that has none
 * - `InvalidHeaderValue`: a header value with CR, LF, NUL or another control character but HTAB, or one that is not a byte; or
 *   a Content-Length of several values
 * - `HeadTooLarge`: a header block to send is longer than the 65535 bytes of a record, or a received one is longer than `maxHeadSize`
 * - `TruncatedHead`: the output ends before the header block does
 *
 * @category errors
 * @since 0.1.0
 */
export type CgiHeadErrorReason =
  | { readonly _tag: "InvalidStatus" }
  | { readonly _tag: "InvalidStatusText" }
  | { readonly _tag: "InvalidHeaderName" }
  | { readonly _tag: "InvalidHeaderValue" }
  | { readonly _tag: "HeadTooLarge" }
  | { readonly _tag: "TruncatedHead" }

/**
 * A response head that cannot be sent, or received bytes that are no response head.
 *
 * @category errors
 * @since 0.1.0
 */
export class CgiHeadError extends Data.TaggedError("CgiHeadError")<{
  readonly reason: CgiHeadErrorReason
  readonly message: string
}> {}

/**
 * The headers of a response, by name. A name with several values has a line for each of them, in their order. Values have one
 * character per byte.
 *
 * @category models
 * @since 0.1.0
 */
export type CgiHeaders = Readonly<Record<string, string | ReadonlyArray<string>>>

/**
 * Whether a lower-case header name is hop-by-hop (RFC 9110 §7.6.1) and so never crosses the gateway: Connection,
 * Keep-Alive, Proxy-Connection, TE, Trailer, Transfer-Encoding, Upgrade and HTTP2-Settings.
 *
 * @category guards
 * @since 0.1.0
 */
export const isHopByHop = (name: string): boolean => hopByHop.has(name)

/**
 * The headers that cross the gateway: all except hop-by-hop ones, see `isHopByHop`, and those that a Connection header names.
 *
 * @category accessors
 * @since 0.1.0
 */
export const endToEndHeaders = (
  headers: ReadonlyArray<readonly [name: string, value: string]>
): ReadonlyArray<readonly [name: string, value: string]> => {
  if (!headers.some(([name]) => fieldName(name).isHopByHop)) return headers
  const connection: Array<string> = []
  for (const [name, value] of headers) if (fieldName(name).lower === "connection") connection.push(value)
  const oneHop = hopByHopWith(connection)
  return headers.filter(([name]) => !oneHop.has(fieldName(name).lower))
}

/**
 * Encodes the whole header block with its blank line, one character per byte.
 *
 * **Details**
 *
 * `Status` always comes, with a reason phrase. Without it, web servers grant access or send an empty 200, and nginx and HAProxy send an empty
 * reason. `Location` comes before it, because HAProxy 2.6 turns every status that comes first into a 302. Hop-by-hop headers and a header
 * named `Status` are left out. Each of `setCookies` becomes a `Set-Cookie` line of its own.
 *
 * Server-sent events, `Content-Type: text/event-stream`, get the header `X-Accel-Buffering: no`, unless they have a header of that name.
 * nginx then passes events on as they come. Caddy, HAProxy and h2o do so by themselves. lighttpd and Apache need configuration for it.
 *
 * Returns a `CgiHeadError`, and encodes nothing, when a name or value could end its line early or change its meaning, and when the block is
 * longer than the 65535 bytes of a record. HAProxy 2.6 crashes on a block that goes on in a second record, and nginx, lighttpd and Apache
 * take at most 64 KiB of it.
 *
 * **Example** (Encoding a redirect)
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { CgiResponse } from "effect-fastcgi"
 *
 * assert.strictEqual(
 *   CgiResponse.encodeHead(303, undefined, { location: "/board" }, ["seen=1; Path=/"]),
 *   "location: /board\r\nStatus: 303 See Other\r\nSet-Cookie: seen=1; Path=/\r\n\r\n"
 * )
 * ```
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeHead = (
  status: number,
  statusText: string | undefined,
  headers: CgiHeaders,
  setCookies: ReadonlyArray<string>
): string | CgiHeadError => {
  const line = statusText === undefined || statusText === "" ? statusLine(status) : customStatusLine(status, statusText)
  if (typeof line !== "string") return line
  let location = ""
  let rest = ""
  let events = false
  let saysBuffering = false
  for (const name in headers) {
    const use = useOf(name)
    if (use === leaveOut) continue
    if (typeof use === "object") return use
    const value = headers[name]
    const lines = typeof value === "object" ? fieldLines(name, value) : fieldLine(name, value)
    if (typeof lines !== "string") return lines
    if (use === first) location += lines
    else rest += lines
    if (use === contentType) events = eventStream.test(String(value))
    else if (use === buffering) saysBuffering = true
  }
  const cookies = fieldLines("Set-Cookie", setCookies)
  if (typeof cookies !== "string") return cookies
  rest += cookies
  if (events && !saysBuffering) rest += "X-Accel-Buffering: no\r\n"
  const head = location + line + rest + "\r\n"
  return head.length > maxHeadLength ? tooLarge(head.length) : head
}

/**
 * The head of a response, as an application sent it.
 *
 * @category models
 * @since 0.1.0
 */
export interface CgiHead {
  readonly _tag: "CgiHead"
  /** The status: of `Status`, of an HTTP status line, otherwise 302 with `Location` and 200 without. */
  readonly status: number
  /** The reason phrase; the usual one when the application gave none. */
  readonly statusText: string
  /** The values of `Status` in order, as they came; the first counts. Empty when the application has sent no `Status`. */
  readonly statusFields: ReadonlyArray<string>
  /** The headers in order, names as they came, without `Status` and including hop-by-hop headers: see `endToEndHeaders`. */
  readonly headers: ReadonlyArray<readonly [name: string, value: string]>
  /**
   * The path of a local redirect (RFC 3875 §6.2.2): a `Location` without `Status` that begins with "/". The web server may run it as a new
   * request. The status is 302, as in nginx, lighttpd and HAProxy.
   */
  readonly localRedirect: string | undefined
  /** The first bytes of the body: the rest of the chunk that completed the header block. */
  readonly rest: Uint8Array
}

/**
 * Options of `makeHeadParser`.
 *
 * @category options
 * @since 0.1.0
 */
export interface CgiHeadParserOptions {
  /** The longest header block that is accepted, with its blank line, in bytes. Default 64 KiB. */
  readonly maxHeadSize?: number | undefined
  /** Whether the response may be a 101, after which another protocol begins: see `CgiUpgrade`. Default false. */
  readonly upgrade?: boolean | undefined
}

/**
 * An incremental parser of one response head.
 *
 * @category models
 * @since 0.1.0
 */
export interface CgiHeadParser {
  /**
   * Takes the next bytes of STDOUT. Returns the head when it is complete, and `undefined` while it is not. Do not call it again after it has
   * returned a head or an error.
   */
  readonly push: (chunk: Uint8Array) => CgiHead | CgiHeadError | undefined
  /** Says that STDOUT has ended. Returns an error while the head is not complete. */
  readonly end: () => CgiHeadError
}

/**
 * Creates a parser for the head of one response.
 *
 * **Details**
 *
 * It accepts everything that web servers accept: lines that end in CRLF or LF, names in any case, spaces around values, folded lines (joined
 * with a space), no header at all before the blank line, and instead of `Status` a line like `HTTP/1.1 200 OK` (RFC 3875 §5). Interim
 * responses (1xx, except 101) are skipped. Anything that is no header block, such as text without a colon, is an error, and so are control
 * characters.
 *
 * **Example** (Parsing the output of an application)
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { CgiResponse } from "effect-fastcgi"
 *
 * const parser = CgiResponse.makeHeadParser()
 * const head = parser.push(new TextEncoder().encode("Status: 404 Not Found\r\nX-A: b\r\n\r\nbody"))
 * assert.ok(head?._tag === "CgiHead")
 * assert.strictEqual(head.status, 404)
 * assert.deepStrictEqual(head.headers, [["X-A", "b"]])
 * assert.strictEqual(new TextDecoder().decode(head.rest), "body")
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeHeadParser = (options?: CgiHeadParserOptions): CgiHeadParser =>
  new Parser(options?.maxHeadSize ?? 64 * 1024, options?.upgrade ?? false)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// The size of one STDOUT record (SPEC 3.3).
const maxHeadLength = 65535

const tooLarge = (length: number): CgiHeadError =>
  new CgiHeadError({
    reason: { _tag: "HeadTooLarge" },
    message: `the header block is ${length} bytes, at most ${maxHeadLength} fit into a record`
  })

const invalidStatus = (status: unknown): CgiHeadError =>
  new CgiHeadError({
    reason: { _tag: "InvalidStatus" },
    message: `status ${String(status)} is not an integer from 200 to 599`
  })

// Values may be secrets, and names may be anything, so messages repeat neither of them unescaped.
const invalidValue = (name: string): CgiHeadError =>
  new CgiHeadError({
    reason: { _tag: "InvalidHeaderValue" },
    message: `the value of header ${JSON.stringify(name)} has a control character, or one that is not a byte`
  })

const repeatedLength = (): CgiHeadError =>
  new CgiHeadError({ reason: { _tag: "InvalidHeaderValue" }, message: "Content-Length has more than one value" })

const invalidName = (name: string): CgiHeadError =>
  new CgiHeadError({ reason: { _tag: "InvalidHeaderName" }, message: `${JSON.stringify(name)} is not a header name` })

const invalidStatusText = (): CgiHeadError =>
  new CgiHeadError({
    reason: { _tag: "InvalidStatusText" },
    message: "the reason phrase has a control character, or one that is not a byte"
  })

const fieldLine = (name: string, value: string): string | CgiHeadError =>
  isFieldValue(value) ? name + ": " + value + "\r\n" : invalidValue(name)

const fieldLines = (name: string, values: ReadonlyArray<string>): string | CgiHeadError => {
  // RFC 9110 §8.6: two lengths are an attack on a reader that believes the other one.
  if (values.length > 1 && name.toLowerCase() === "content-length") return repeatedLength()
  let lines = ""
  for (let i = 0; i < values.length; i++) {
    const line = fieldLine(name, values[i])
    if (typeof line !== "string") return line
    lines += line
  }
  return lines
}

const statusLines: Array<string | undefined> = []

const statusLine = (status: number): string | CgiHeadError => {
  const known = statusLines[status - 200]
  if (known !== undefined) return known
  if (!isStatus(status)) return invalidStatus(status)
  return statusLines[status - 200] = `Status: ${status} ${reasonOf(status)}\r\n`
}

const customStatusLine = (status: number, statusText: string): string | CgiHeadError => {
  if (!isStatus(status)) return invalidStatus(status)
  if (!isFieldValue(statusText)) return invalidStatusText()
  return `Status: ${status} ${statusText}\r\n`
}

const isStatus = (status: number): boolean => Number.isInteger(status) && status >= 200 && status <= 599

// How a header of this name is treated.
const pass = 0
const first = 1
const leaveOut = 2
const contentType = 3
const buffering = 4

type Use = typeof pass | typeof first | typeof leaveOut | typeof contentType | typeof buffering

const eventStream = /^text\/event-stream(?:[;\s]|$)/i

// An application has a few dozen header names. One that makes up names must not fill the memory with them.
const maxKnownNames = 1024
const knownNames = new Map<string, Use>()

const useOf = (name: string): Use | CgiHeadError => {
  const known = knownNames.get(name)
  if (known !== undefined) return known
  if (!isFieldName(name)) return invalidName(name)
  const lower = name.toLowerCase()
  const use = lower === "location"
    ? first
    : lower === "content-type"
    ? contentType
    : lower === "x-accel-buffering"
    ? buffering
    : lower === "status" || hopByHop.has(lower)
    ? leaveOut
    : pass
  if (knownNames.size >= maxKnownNames) knownNames.clear()
  knownNames.set(name, use)
  return use
}

const LF = 0x0a
const CR = 0x0d

class Parser implements CgiHeadParser {
  private readonly maxHeadSize: number
  private readonly upgrade: boolean
  // What has come: `bytes` up to `size`. The head begins at `start`, behind interim ones; its end has been looked for up
  // to `scanned`, in the line that begins at `line`.
  private bytes: Uint8Array = new Uint8Array(0)
  private size = 0
  private start = 0
  private line = 0
  private scanned = 0

  constructor(maxHeadSize: number, upgrade: boolean) {
    this.maxHeadSize = maxHeadSize
    this.upgrade = upgrade
  }

  push(chunk: Uint8Array): CgiHead | CgiHeadError | undefined {
    this.append(chunk)
    for (let end = this.findEnd(); end !== -1; end = this.findEnd()) {
      if (end > this.maxHeadSize) return this.tooLarge()
      const head = parse(latin1(this.bytes, this.start, end), this.bytes.subarray(end, this.size), this.upgrade)
      if (head !== undefined) return head
      this.start = end
    }
    return this.size > this.maxHeadSize ? this.tooLarge() : undefined
  }

  end(): CgiHeadError {
    return new CgiHeadError({
      reason: { _tag: "TruncatedHead" },
      message: this.size === 0
        ? "the output ends without a response head"
        : `the output ends inside the response head, after ${this.size} bytes`
    })
  }

  // Where the head ends: after the first empty line. -1 when that line has not come yet.
  private findEnd(): number {
    // As a rule all of it is in use, and no view of it has to be made.
    const bytes = this.size === this.bytes.length ? this.bytes : this.bytes.subarray(0, this.size)
    for (;;) {
      const feed = bytes.indexOf(LF, this.scanned)
      if (feed === -1) {
        this.scanned = this.size
        return -1
      }
      const line = this.line
      this.line = this.scanned = feed + 1
      if (feed === line || (feed === line + 1 && bytes[line] === CR)) return feed + 1
    }
  }

  private append(chunk: Uint8Array): void {
    // The usual case is a head that comes in one piece: it is not copied.
    if (this.size === 0) {
      this.bytes = chunk
      this.size = chunk.length
      return
    }
    const size = this.size + chunk.length
    if (size > this.bytes.length) {
      const grown = new Uint8Array(Math.max(size, 2 * this.size))
      grown.set(this.bytes.subarray(0, this.size))
      this.bytes = grown
    }
    this.bytes.set(chunk, this.size)
    this.size = size
  }

  private tooLarge(): CgiHeadError {
    return new CgiHeadError({
      reason: { _tag: "HeadTooLarge" },
      message: `the response head is longer than ${this.maxHeadSize} bytes (maxHeadSize)`
    })
  }
}

const httpVersion = /^HTTP\/\d+(?:\.\d+)?$/

// The rest of an HTTP status line behind the version; `undefined` for any other line.
const httpStatusOf = (line: string): string | undefined => {
  if (!line.startsWith("HTTP/")) return undefined
  let at = 5
  while (at < line.length && !isSpace(line.charCodeAt(at))) at++
  return at < line.length && httpVersion.test(line.substring(0, at)) ? trimSpaces(line.substring(at)) : undefined
}

// The number at the beginning of a Status field: three digits, and then nothing or a space. NaN when there is none.
const statusCodeOf = (field: string): number => {
  let code = 0
  for (let at = 0; at < 3; at++) {
    const digit = field.charCodeAt(at) - 0x30
    if (!(digit >= 0 && digit <= 9)) return NaN
    code = 10 * code + digit
  }
  return field.length === 3 || isSpace(field.charCodeAt(3)) ? code : NaN
}

// A complete head with its blank line. `undefined` when it is an interim response.
const parse = (text: string, rest: Uint8Array, upgrade: boolean): CgiHead | CgiHeadError | undefined => {
  const headers: Array<[name: string, value: string]> = []
  let statusField: string | undefined
  let at = 0
  for (;;) {
    const feed = text.indexOf("\n", at)
    const line = text.substring(at, feed > at && text.charCodeAt(feed - 1) === CR ? feed - 1 : feed)
    if (line === "") break
    const httpStatus = at === 0 ? httpStatusOf(line) : undefined
    at = feed + 1
    if (httpStatus !== undefined) {
      statusField = httpStatus
      continue
    }
    const folded = line.charCodeAt(0) === 0x20 || line.charCodeAt(0) === 0x09
    if (folded && headers.length > 0) {
      const header = headers[headers.length - 1]
      // Only the new part is checked: checking the whole value again for each line took seconds for 14,000 lines.
      const value = trimSpaces(line)
      if (!isFieldValue(value)) return invalidValue(header[0])
      if (header[1] === "") header[1] = value
      else if (value !== "") header[1] += " " + value
      continue
    }
    const colon = line.indexOf(":")
    const name = trimSpaces(line.substring(0, colon))
    if (colon === -1 || folded || !fieldName(name).isToken) return invalidName(line.substring(0, 80))
    const value = trimSpaces(line.substring(colon + 1))
    if (!isFieldValue(value)) return invalidValue(name)
    headers.push([name, value])
  }
  const statusFields: Array<string> = []
  let location: string | undefined
  let kept = 0
  for (const header of headers) {
    const name = fieldName(header[0]).lower
    if (name === "status") {
      statusField ??= header[1]
      statusFields.push(header[1])
    } else {
      if (name === "location") location ??= header[1]
      headers[kept++] = header
    }
  }
  headers.length = kept
  if (statusField === undefined) {
    const status = location === undefined ? 200 : 302
    // A path on this server; "//host/path" is a URL of another one.
    const localRedirect = location?.startsWith("/") && !location.startsWith("//") ? location : undefined
    return { _tag: "CgiHead", status, statusText: reasonOf(status), statusFields, headers, localRedirect, rest }
  }
  const status = statusCodeOf(statusField)
  if (status >= 100 && status < 200 && status !== 101) return undefined
  if (!isStatus(status) && !(upgrade && status === 101)) {
    return invalidStatus(JSON.stringify(statusField.substring(0, 80)))
  }
  const statusText = trimSpaces(statusField.substring(3))
  if (!isFieldValue(statusText)) return invalidStatusText()
  return {
    _tag: "CgiHead",
    status,
    statusText: statusText === "" ? reasonOf(status) : statusText,
    statusFields,
    headers,
    localRedirect: undefined,
    rest
  }
}
