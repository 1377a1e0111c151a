/**
 * Name-value pairs (SPEC 3.4), which are the params of a request, and the decoder that puts them together from records.
 *
 * Params stay encoded until a name is looked up. A lookup walks the pairs (nginx sends 25) and makes one string. No request
 * gets a dictionary.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import { decodeUtf8, isAscii, latin1, latin1Bytes, utf8ToLatin1, writeLatin1 } from "./internal/text.ts"

/**
 * Why bytes are no params:
 *
 * - `TooLarge`: the pairs take more than `maxParamsSize` bytes, declared lengths included
 * - `TooMany`: there are more pairs than `maxParamsCount`
 * - `Truncated`: the stream ends inside a pair
 *
 * @category errors
 * @since 0.1.0
 */
export type FastCgiParamsErrorReason =
  | { readonly _tag: "TooLarge" }
  | { readonly _tag: "TooMany" }
  | { readonly _tag: "Truncated" }

/**
 * The bytes are not the params of a request. The decoder that returned this error takes no more bytes.
 *
 * @category errors
 * @since 0.1.0
 */
export class FastCgiParamsError extends Data.TaggedError("FastCgiParamsError")<{
  readonly reason: FastCgiParamsErrorReason
  readonly message: string
}> {}

/**
 * Limits on the params of one request.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiParamsLimits {
  /** The largest size of all pairs with their lengths, in bytes. Default 1 MiB. */
  readonly maxParamsSize?: number | undefined
  /** The largest number of pairs. Default 10,000. */
  readonly maxParamsCount?: number | undefined
}

/**
 * The name-value pairs of a request, in the order they came (SPEC 3.4, 5.2).
 *
 * **Details**
 *
 * Values are bytes. `get` reads them as UTF-8, or as Latin-1 where they are not valid UTF-8. A name may occur more than once:
 * nginx and HAProxy send an `HTTP_COOKIE` for each header line. `get` returns the last value, `getAll` all of them.
 *
 * **Example** (Reading params)
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { FastCgiParams } from "effect-fastcgi"
 *
 * const params = FastCgiParams.fromEntries([["REQUEST_METHOD", "GET"], ["QUERY_STRING", ""]])
 * assert.strictEqual(params.get("REQUEST_METHOD"), "GET")
 * assert.strictEqual(params.get("QUERY_STRING"), "")
 * assert.strictEqual(params.get("CONTENT_TYPE"), undefined)
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiParams extends Iterable<readonly [name: string, value: string]> {
  /** The pairs as encoded on the wire. */
  readonly bytes: Uint8Array
  /** The number of bytes that the pairs take on the wire. */
  readonly size: number
  /** The value of a name as text. The last value where the name occurs more than once. */
  readonly get: (name: string) => string | undefined
  /** The value of a name as text with a character for each byte, as JavaScript has the values of HTTP headers. */
  readonly getLatin1: (name: string) => string | undefined
  /** The value of a name as bytes. The last value where the name occurs more than once. */
  readonly getBytes: (name: string) => Uint8Array | undefined
  /** All values of a name as text, in the order they came. */
  readonly getAll: (name: string) => ReadonlyArray<string>
  /** Whether there is a pair of this name. */
  readonly has: (name: string) => boolean
  /**
   * Calls `f` for every pair in order, with name and value as text that has a character for each byte.
   */
  readonly forEachLatin1: (f: (name: string, value: string) => void) => void
  /**
   * Calls `f` for every pair in order, with one text that has a character for each byte, and with three places in that text:
   * where the name begins, where the value begins (the name ends there) and where the value ends. It makes no string, so it
   * suits a caller that looks at all pairs and needs few.
   */
  readonly scanLatin1: (f: (text: string, nameStart: number, valueStart: number, valueEnd: number) => void) => void
  /** All pairs as text, in an object without prototype. It has the last value of a name that occurs more than once. */
  readonly toRecord: () => Readonly<Record<string, string>>
  /**
   * The pairs by name, as logs and inspection show them. REMOTE_PASSWD, the client's Authorization and its cookies are
   * `"<redacted>"`, because they are passwords or stand for one.
   */
  readonly toJSON: () => Readonly<Record<string, string>>
}

/**
 * Encodes pairs. Strings become UTF-8.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromEntries = (
  entries: Iterable<readonly [name: string | Uint8Array, value: string | Uint8Array]>
): FastCgiParams => new Params(pairsText(entries))

/**
 * Decodes pairs from one piece of bytes, such as the content of GET_VALUES_RESULT. No limit applies.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromBytes = (bytes: Uint8Array): FastCgiParams | FastCgiParamsError => {
  // Nothing is allocated for declared lengths, so what exceeds the bytes is only cut short.
  const decoder = makeDecoder({ maxParamsSize: Infinity, maxParamsCount: Infinity })
  return decoder.push(bytes) ?? decoder.end()
}

/**
 * Encodes pairs to bytes. A length up to 127 takes one byte, a greater one four bytes (SPEC 3.4). Strings become UTF-8.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodePairs = (
  entries: Iterable<readonly [name: string | Uint8Array, value: string | Uint8Array]>
): Uint8Array => latin1Bytes(pairsText(entries))

/**
 * Puts the PARAMS of one request together.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiParamsDecoder {
  /** Takes the next fragment. The decoder checks a declared length before it keeps memory for it. */
  readonly push: (content: Uint8Array) => FastCgiParamsError | undefined
  /** Tells the decoder that the stream has ended. */
  readonly end: () => FastCgiParams | FastCgiParamsError
}

/**
 * Creates a decoder for the PARAMS of one request. A pair may be cut at any byte, even inside a length (SPEC 3.3).
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeDecoder = (limits?: FastCgiParamsLimits): FastCgiParamsDecoder =>
  new Decoder(limits?.maxParamsSize ?? defaultMaxParamsSize, limits?.maxParamsCount ?? defaultMaxParamsCount)

/**
 * The default of `maxParamsSize`: 1 MiB.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultMaxParamsSize = 1024 * 1024

/**
 * The default of `maxParamsCount`.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultMaxParamsCount = 10_000

/** @internal Pairs as they are encoded, in a text with one character per byte: for who writes them on into memory of its own. */
export const encodedText = (
  params: FastCgiParams | Iterable<readonly [name: string | Uint8Array, value: string | Uint8Array]>
): string => params instanceof Params ? params.text : "bytes" in params ? textOf(params.bytes) : pairsText(params)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const textOf = (bytes: Uint8Array): string => latin1(bytes, 0, bytes.length)

// Pairs as they are sent, one character per byte: to write all of them at once takes a sixth of encoding each string for itself.
const pairsText = (entries: Iterable<readonly [name: string | Uint8Array, value: string | Uint8Array]>): string => {
  let text = ""
  for (const [name, value] of entries) {
    const nameText = toLatin1(name)
    const valueText = toLatin1(value)
    text += lengthsText(nameText.length, valueText.length) + nameText + valueText
  }
  return text
}

const lengthsText = (name: number, value: number): string =>
  name < 0x80 && value < 0x80 ? String.fromCharCode(name, value) : lengthText(name) + lengthText(value)

// A length as it is sent (SPEC 3.4), one character per byte.
const lengthText = (length: number): string =>
  length < 0x80
    ? String.fromCharCode(length)
    : String.fromCharCode(length >>> 24 | 0x80, length >>> 16 & 0xff, length >>> 8 & 0xff, length & 0xff)

const toLatin1 = (text: string | Uint8Array): string => typeof text === "string" ? utf8ToLatin1(text) : textOf(text)

const readLength = (bytes: Uint8Array, at: number): number => {
  const first = bytes[at]
  return first < 0x80
    ? first
    : (first & 0x7f) << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3]
}

// Apache gives mod_authnz_fcgi the password in REMOTE_PASSWD, and puts REDIRECT_ before names at an internal redirect. The
// headers are those that Effect redacts.
const secret =
  /^(?:REDIRECT_){0,9}(?:REMOTE_PASSWD|PHP_AUTH_PW|HTTP_AUTHORIZATION|HTTP_PROXY_AUTHORIZATION|HTTP_COOKIE|HTTP_X_API_KEY)$/

// The length at a place of pairs as text.
const lengthAt = (text: string, at: number): number => {
  const first = text.charCodeAt(at)
  return first < 0x80
    ? first
    : (first & 0x7f) << 24 | text.charCodeAt(at + 1) << 16 | text.charCodeAt(at + 2) << 8 | text.charCodeAt(at + 3)
}

// The pairs are kept as text, one character per byte: values are cheap slices of it, and nothing of the read that brought them
// is. The decoder has checked that they are complete.
class Params implements FastCgiParams {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }

  get bytes(): Uint8Array {
    return latin1Bytes(this.text)
  }

  get(name: string): string | undefined {
    const value = this.getLatin1(name)
    return value === undefined ? undefined : decoded(value)
  }

  getLatin1(name: string): string | undefined {
    const at = this.find(name)
    return at === -1 ? undefined : this.text.substring(at, at + this.foundLength)
  }

  getBytes(name: string): Uint8Array | undefined {
    const value = this.getLatin1(name)
    return value === undefined ? undefined : latin1Bytes(value)
  }

  getAll(name: string): ReadonlyArray<string> {
    const values: Array<string> = []
    for (const [key, value] of this) if (key === name) values.push(value)
    return values
  }

  has(name: string): boolean {
    return this.find(name) !== -1
  }

  forEachLatin1(f: (name: string, value: string) => void): void {
    this.scanLatin1((text, nameStart, valueStart, valueEnd) =>
      f(text.substring(nameStart, valueStart), text.substring(valueStart, valueEnd))
    )
  }

  scanLatin1(f: (text: string, nameStart: number, valueStart: number, valueEnd: number) => void): void {
    const text = this.text
    for (let at = 0; at < text.length;) {
      const nameLength = lengthAt(text, at)
      at += text.charCodeAt(at) < 0x80 ? 1 : 4
      const valueLength = lengthAt(text, at)
      at += text.charCodeAt(at) < 0x80 ? 1 : 4
      const valueStart = at + nameLength
      const valueEnd = valueStart + valueLength
      f(text, at, valueStart, valueEnd)
      at = valueEnd
    }
  }

  get size(): number {
    return this.text.length
  }

  toRecord(): Readonly<Record<string, string>> {
    const record: Record<string, string> = Object.create(null)
    for (const [name, value] of this) record[name] = value
    return record
  }

  toJSON(): Readonly<Record<string, string>> {
    const shown: Record<string, string> = Object.create(null)
    for (const [name, value] of this) shown[name] = secret.test(name) && value !== "" ? "<redacted>" : value
    return shown
  }

  toString(): string {
    return `FastCgiParams(${JSON.stringify(this)})`
  }

  // Node prints this, for example in console.log. The symbol is registered, so no import of Node is needed.
  [Symbol.for("nodejs.util.inspect.custom")](): unknown {
    return this.toJSON()
  }

  [Symbol.iterator](): Iterator<readonly [name: string, value: string]> {
    const pairs: Array<readonly [name: string, value: string]> = []
    this.forEachLatin1((name, value) => pairs.push([decoded(name), decoded(value)]))
    return pairs[Symbol.iterator]()
  }

  private foundLength = 0

  // Where the last value of `name` begins, and its length in `foundLength`; -1 when there is none. Names are nearly always
  // ASCII; another one may have come in Latin-1 or in UTF-8, and is listed by the same text in both cases.
  private find(name: string): number {
    const at = this.findLatin1(name)
    return at === -1 && !isAscii(name) ? this.findLatin1(utf8ToLatin1(name)) : at
  }

  private findLatin1(name: string): number {
    const text = this.text
    const length = text.length
    const wanted = name.length
    let found = -1
    for (let at = 0; at < length;) {
      let nameLength = text.charCodeAt(at)
      if (nameLength < 0x80) at++
      else {
        nameLength = lengthAt(text, at)
        at += 4
      }
      let valueLength = text.charCodeAt(at)
      if (valueLength < 0x80) at++
      else {
        valueLength = lengthAt(text, at)
        at += 4
      }
      const valueAt = at + nameLength
      if (nameLength === wanted && text.startsWith(name, at)) {
        found = valueAt
        this.foundLength = valueLength
      }
      at = valueAt + valueLength
    }
    return found
  }
}

// Decodes text with one character per byte.
const decoded = (text: string): string => isAscii(text) ? text : decodeUtf8(latin1Bytes(text)) ?? text

// Where the intrinsics are frozen, the limit cannot be set.
const stackTraceLimit = Object.getOwnPropertyDescriptor(Error, "stackTraceLimit")
const mayLimitStack = stackTraceLimit === undefined ? Object.isExtensible(Error) : stackTraceLimit.writable === true

// A peer decides how many of these there are. The stack, which would only say that a decoder found it, is five sixths of what
// one costs.
const problem = (tag: FastCgiParamsErrorReason["_tag"], message: string): FastCgiParamsError => {
  if (!mayLimitStack) return new FastCgiParamsError({ reason: { _tag: tag }, message })
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 0
  const error = new FastCgiParamsError({ reason: { _tag: tag }, message })
  Error.stackTraceLimit = limit
  return error
}

class Decoder implements FastCgiParamsDecoder {
  private readonly maxSize: number
  private readonly maxCount: number
  // One fragment is kept as text; more are gathered in `bytes`, which then has room to grow.
  private text = ""
  private bytes: Uint8Array | undefined
  private size = 0
  // Where the next pair begins, which may be beyond what has arrived.
  private next = 0
  private count = 0

  constructor(maxSize: number, maxCount: number) {
    this.maxSize = maxSize
    this.maxCount = maxCount
  }

  push(content: Uint8Array): FastCgiParamsError | undefined {
    const size = this.size + content.length
    if (size > this.maxSize) return this.tooLarge(size)
    if (this.size > 0) return this.scan(this.append(content, size), size)
    this.text = latin1(content, 0, size)
    this.size = size
    return this.scan(content, size)
  }

  end(): FastCgiParams | FastCgiParamsError {
    if (this.next !== this.size) {
      return problem(
        "Truncated",
        `PARAMS end inside pair ${this.count + (this.next > this.size ? 0 : 1)}, after ${this.size} bytes`
      )
    }
    return new Params(this.bytes === undefined ? this.text : latin1(this.bytes, 0, this.size))
  }

  private scan(bytes: Uint8Array, size: number): FastCgiParamsError | undefined {
    let at = this.next
    while (at < size) {
      const pair = at
      const nameSize = bytes[at] < 0x80 ? 1 : 4
      if (at + nameSize >= size) break
      const nameLength = readLength(bytes, at)
      at += nameSize
      const valueSize = bytes[at] < 0x80 ? 1 : 4
      if (at + valueSize > size) {
        at = pair
        break
      }
      const valueLength = readLength(bytes, at)
      at += valueSize + nameLength + valueLength
      if (at > this.maxSize) return this.tooLarge(at)
      if (++this.count > this.maxCount) {
        return problem("TooMany", `PARAMS hold more than ${this.maxCount} pairs (maxParamsCount)`)
      }
    }
    this.next = at
    return undefined
  }

  private append(content: Uint8Array, size: number): Uint8Array {
    let bytes = this.bytes
    if (bytes === undefined || size > bytes.length) {
      const grown = new Uint8Array(Math.max(size, Math.min(2 * this.size, this.maxSize)))
      if (bytes === undefined) writeLatin1(grown, 0, this.text)
      else grown.set(bytes.subarray(0, this.size))
      bytes = this.bytes = grown
    }
    bytes.set(content, this.size)
    this.size = size
    return bytes
  }

  private tooLarge(size: number): FastCgiParamsError {
    return problem(
      "TooLarge",
      `PARAMS take at least ${size} bytes, at most ${this.maxSize} are accepted (maxParamsSize)`
    )
  }
}

/**
 * No params.
 *
 * @category constructors
 * @since 0.1.0
 */
export const empty: FastCgiParams = new Params("")
