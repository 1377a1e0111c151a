/**
 * What the header fields of both directions have in common.
 */
import { copy, isAscii } from "../../protocol/internal/text.ts"

/**
 * Fields about one hop, which a gateway ends (RFC 9110 §7.6.1). HTTP/1.1 framing is none of FastCGI's business: nginx,
 * Apache and h2o would pass a chunked body on as it is.
 */
export const hopByHop: ReadonlySet<string> = new Set([
  "connection",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade"
])

/**
 * The fields of one hop where a message has these Connection fields, which may name further ones (RFC 9110 §7.6.1).
 * Content-Length and Host cross the gateway, whatever a peer says: the body's end and the server's name hang on them.
 */
export const hopByHopWith = (connection: ReadonlyArray<string>): ReadonlySet<string> => {
  let fields: Set<string> | undefined
  for (const value of connection) {
    // What nearly every client says.
    if (value === "keep-alive") continue
    for (const option of value.split(",")) {
      const name = option.trim().toLowerCase()
      if (name === "close" || name === "content-length" || name === "host" || hopByHop.has(name)) continue
      fields ??= new Set(hopByHop)
      fields.add(name)
    }
  }
  return fields ?? hopByHop
}

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/

/** Whether a name is a field name: a token (RFC 9110 §5.1, §5.6.2). */
export const isFieldName = (name: string): boolean => token.test(name)

// oxlint-disable-next-line no-control-regex -- control characters are the point
const notInValue = /[^\t\x20-\x7e\x80-\xff]/

/** Whether text can be a field value: one character per byte, no control character but HTAB (RFC 9110 §5.5). */
export const isFieldValue = (value: string): boolean => !notInValue.test(value)

/** What a field's name says. */
export interface FieldName {
  /** The name in lower case. */
  readonly lower: string
  /** Whether it is a token. */
  readonly isToken: boolean
  /** Whether fields of this name are about one hop. */
  readonly isHopByHop: boolean
}

// A peer sends the same few names again and again. One that makes up names must not fill the memory with them.
const maxKnown = 1024
const maxKnownLength = 64

/** The same function of short texts, which looks up what it has been given before. */
export const remembered = <A>(make: (text: string) => A): (text: string) => A => {
  const known = new Map<string, A>()
  return (text) => {
    const found = known.get(text)
    if (found !== undefined) return found
    if (text.length > maxKnownLength || !isAscii(text)) return make(text)
    if (known.size >= maxKnown) known.clear()
    const own = copy(text)
    const made = make(own)
    known.set(own, made)
    return made
  }
}

/** What a field's name says. */
export const fieldName: (name: string) => FieldName = remembered((name) => {
  const lower = name.toLowerCase()
  return { lower, isToken: isFieldName(name), isHopByHop: hopByHop.has(lower) }
})

/** Whether a character code is one of the two that may stand around a field value: SP and HTAB (RFC 9110 §5.6.3). */
export const isSpace = (code: number): boolean => code === 0x20 || code === 0x09

/**
 * Text without the spaces and tabs around it. `/^[ \t]+|[ \t]+$/g` looks at a run of n spaces inside of the text n times:
 * 60,000 of them took 5 seconds.
 */
export const trimSpaces = (text: string): string => {
  let start = 0
  let end = text.length
  while (start < end && isSpace(text.charCodeAt(start))) start++
  while (end > start && isSpace(text.charCodeAt(end - 1))) end--
  return text.substring(start, end)
}

// A registered name or an IPv4 address, or an IPv6 address in brackets, and a port (RFC 3986 §3.2.2). What else the grammar
// allows is in no host that a client can ask for, but may mean something to whoever puts SERVER_NAME into a page.
const hostAndPort = /^([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?$/

/** The parts of a Host field, or `undefined` when it names no host. */
export const parseHost = remembered(
  (host): { readonly name: string; readonly port: string | undefined } | undefined => {
    const match = hostAndPort.exec(host)
    if (match === null || Number(match[2] ?? 0) > 65535) return undefined
    return { name: match[1], port: match[2] === "" ? undefined : match[2] }
  }
)
