/**
 * Name-value pairs (SPEC 3.4): the params of a request, kept as the bytes that came and read when somebody asks, and the
 * decoder that puts them together whatever the records cut.
 *
 * No dictionary is built per request: a lookup walks the pairs (25 of them from nginx) and makes one string.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import { decodeUtf8, latin1, latin1Bytes, utf8ToLatin1 } from "./internal/text.ts"

/**
 * What is wrong with encoded name-value pairs:
 *
 * - `TooLarge`: the pairs, counting the lengths that they declare, exceed `maxParamsSize`
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
 * Bytes that are not the params of a request. The decoder that returned it takes no more.
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
  /** The most that all pairs with their lengths may take, in bytes. Default 1 MiB. */
  readonly maxParamsSize?: number | undefined
  /** The most pairs. Default 10,000. */
  readonly maxParamsCount?: number | undefined
}

/**
 * The name-value pairs of a request, in the order they came (SPEC 3.4, 5.2).
 *
 * **Details**
 *
 * Values are bytes. As text they are UTF-8, or Latin-1 where they are not valid UTF-8. A name may occur more than once
 * (nginx and HAProxy send one `HTTP_COOKIE` per header line): `get` takes the last, `getAll` all of them.
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
  /** The value of a name as text; the last one where the name occurs more than once. */
  readonly get: (name: string) => string | undefined
  /** The value of a name as one character per byte: what HTTP header values are in JavaScript. */
  readonly getLatin1: (name: string) => string | undefined
  /** The value of a name as bytes; the last one where the name occurs more than once. */
  readonly getBytes: (name: string) => Uint8Array | undefined
  /** All values of a name as text, in the order they came. */
  readonly getAll: (name: string) => ReadonlyArray<string>
  /** Whether there is a pair of this name. */
  readonly has: (name: string) => boolean
  /**
   * Calls `f` for every pair in order, with name and value as one character per byte.
   */
  readonly forEachLatin1: (f: (name: string, value: string) => void) => void
  /**
   * Calls `f` for every pair in order, with a text that has one character per byte, and where in it the name begins, the
   * value begins (which is where the name ends) and the value ends. For who looks at all pairs and needs few: no string
   * is made.
   */
  readonly scanLatin1: (f: (text: string, nameStart: number, valueStart: number, valueEnd: number) => void) => void
  /** All pairs as text, as an object without prototype; the last value where a name occurs more than once. */
  readonly toRecord: () => Readonly<Record<string, string>>
  /**
   * What logs and inspection show: the pairs by name, the last value where a name occurs more than once. Passwords and what
   * stands for one, REMOTE_PASSWD, the client's Authorization and its cookies, are `"<redacted>"`.
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
): FastCgiParams => makeParams(encodePairs(entries))

/**
 * Decodes pairs that are there in one piece, such as the content of GET_VALUES_RESULT. No limit applies.
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
 * Encodes pairs to bytes: lengths up to 127 take one byte, longer ones four (SPEC 3.4). Strings become UTF-8.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodePairs = (
  entries: Iterable<readonly [name: string | Uint8Array, value: string | Uint8Array]>
): Uint8Array => {
  // One character per byte, and all of them written at once: a sixth of what it takes to encode each string for itself.
  let text = ""
  for (const [name, value] of entries) {
    const nameText = toLatin1(name)
    const valueText = toLatin1(value)
    text += lengthText(nameText.length) + lengthText(valueText.length) + nameText + valueText
  }
  return latin1Bytes(text)
}

/**
 * Puts the PARAMS of one request together.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiParamsDecoder {
  /** Takes the next fragment. Lengths are checked when they are declared, before anything is kept for them. */
  readonly push: (content: Uint8Array) => FastCgiParamsError | undefined
  /** Says that the stream has ended. */
  readonly end: () => FastCgiParams | FastCgiParamsError
}

/**
 * Creates a decoder for the PARAMS of one request. Pairs may straddle fragments, even inside a length (SPEC 3.3).
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

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const makeParams = (bytes: Uint8Array): FastCgiParams => new Params(bytes)

// A length as it is sent (SPEC 3.4), one character per byte.
const lengthText = (length: number): string =>
  length < 0x80
    ? String.fromCharCode(length)
    : String.fromCharCode(length >>> 24 | 0x80, length >>> 16 & 0xff, length >>> 8 & 0xff, length & 0xff)

const toLatin1 = (text: string | Uint8Array): string =>
  typeof text !== "string" ? latin1(text, 0, text.length) : notAscii.test(text) ? utf8ToLatin1(text) : text

const readLength = (bytes: Uint8Array, at: number): number => {
  const first = bytes[at]
  return first < 0x80
    ? first
    : (first & 0x7f) << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3]
}

// oxlint-disable-next-line no-control-regex -- the point is everything that is not ASCII
const notAscii = /[^\x00-\x7f]/

// Apache gives mod_authnz_fcgi the password in REMOTE_PASSWD, and puts REDIRECT_ before names at an internal redirect. The
// headers are those that Effect redacts.
const secret =
  /^(?:REDIRECT_){0,9}(?:REMOTE_PASSWD|PHP_AUTH_PW|HTTP_AUTHORIZATION|HTTP_PROXY_AUTHORIZATION|HTTP_COOKIE|HTTP_X_API_KEY)$/

// The pairs in `bytes` are complete: the decoder has checked.
class Params implements FastCgiParams {
  readonly bytes: Uint8Array
  // All of `bytes`, one character per byte: values are cheap slices of it.
  private text: string | undefined

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }

  get(name: string): string | undefined {
    const value = this.getLatin1(name)
    return value === undefined || !notAscii.test(value) ? value : decodeUtf8(this.getBytes(name)!) ?? value
  }

  getLatin1(name: string): string | undefined {
    const at = this.find(name)
    return at === -1 ? undefined : this.latin1().substring(at, at + this.foundLength)
  }

  getBytes(name: string): Uint8Array | undefined {
    const at = this.find(name)
    return at === -1 ? undefined : this.bytes.subarray(at, at + this.foundLength)
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
    const bytes = this.bytes
    const text = this.latin1()
    for (let at = 0; at < bytes.length;) {
      const nameLength = readLength(bytes, at)
      at += bytes[at] < 0x80 ? 1 : 4
      const valueLength = readLength(bytes, at)
      at += bytes[at] < 0x80 ? 1 : 4
      const valueStart = at + nameLength
      const valueEnd = valueStart + valueLength
      f(text, at, valueStart, valueEnd)
      at = valueEnd
    }
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

  // What Node prints of it, console.log for one; the symbol is registered, so nothing of Node is needed.
  [Symbol.for("nodejs.util.inspect.custom")](): unknown {
    return this.toJSON()
  }

  *[Symbol.iterator](): Iterator<readonly [name: string, value: string]> {
    const bytes = this.bytes
    for (let at = 0; at < bytes.length;) {
      const nameLength = readLength(bytes, at)
      at += bytes[at] < 0x80 ? 1 : 4
      const valueLength = readLength(bytes, at)
      at += bytes[at] < 0x80 ? 1 : 4
      const valueAt = at + nameLength
      const end = valueAt + valueLength
      yield [this.string(at, valueAt), this.string(valueAt, end)]
      at = end
    }
  }

  private foundLength = 0

  // Where the last value of `name` begins, and its length in `foundLength`; -1 when there is none. Names are nearly always
  // ASCII; another one may have come in Latin-1 or in UTF-8, and is listed by the same text in both cases.
  private find(name: string): number {
    const at = this.findLatin1(name)
    return at === -1 && notAscii.test(name) ? this.findLatin1(utf8ToLatin1(name)) : at
  }

  private findLatin1(name: string): number {
    const bytes = this.bytes
    const text = this.latin1()
    const length = bytes.length
    const wanted = name.length
    let found = -1
    for (let at = 0; at < length;) {
      let nameLength = bytes[at]
      if (nameLength < 0x80) at++
      else {
        nameLength = readLength(bytes, at)
        at += 4
      }
      let valueLength = bytes[at]
      if (valueLength < 0x80) at++
      else {
        valueLength = readLength(bytes, at)
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

  private latin1(): string {
    return this.text ??= latin1(this.bytes, 0, this.bytes.length)
  }

  private string(start: number, end: number): string {
    const text = this.latin1().substring(start, end)
    return notAscii.test(text) ? decodeUtf8(this.bytes.subarray(start, end)) ?? text : text
  }
}

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

// A view is copied when it keeps a buffer of this many bytes alive that is mostly something else.
const pinnedLimit = 16 * 1024

class Decoder implements FastCgiParamsDecoder {
  private readonly maxSize: number
  private readonly maxCount: number
  // One fragment is kept as the view that came; more are gathered in `bytes`, which then has room to grow.
  private bytes = empty.bytes
  private size = 0
  private owned = false
  // Where the next pair begins, which may be beyond what has arrived.
  private next = 0
  private count = 0

  constructor(maxSize: number, maxCount: number) {
    this.maxSize = maxSize
    this.maxCount = maxCount
  }

  push(content: Uint8Array): FastCgiParamsError | undefined {
    if (this.size + content.length > this.maxSize) return this.tooLarge(this.size + content.length)
    this.append(content)
    return this.scan()
  }

  end(): FastCgiParams | FastCgiParamsError {
    if (this.next !== this.size) {
      return problem(
        "Truncated",
        `PARAMS end inside pair ${this.count + (this.next > this.size ? 0 : 1)}, after ${this.size} bytes`
      )
    }
    const bytes = this.bytes.length === this.size ? this.bytes : this.bytes.subarray(0, this.size)
    const pinned = bytes.buffer.byteLength
    return makeParams(pinned > pinnedLimit && this.size * 4 < pinned ? bytes.slice() : bytes)
  }

  private scan(): FastCgiParamsError | undefined {
    const bytes = this.bytes
    const size = this.size
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

  private append(content: Uint8Array): void {
    if (this.size === 0) {
      this.bytes = content
      this.size = content.length
      return
    }
    const size = this.size + content.length
    if (!this.owned || size > this.bytes.length) {
      const grown = new Uint8Array(Math.max(size, Math.min(2 * this.size, this.maxSize)))
      grown.set(this.bytes.subarray(0, this.size))
      this.bytes = grown
      this.owned = true
    }
    this.bytes.set(content, this.size)
    this.size = size
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
export const empty: FastCgiParams = new Params(new Uint8Array(0))
