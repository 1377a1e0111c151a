/**
 * The headers of a request, from its params: which become headers, under which names, and what becomes of one that came twice.
 */
import type { FastCgiParams } from "../../protocol/FastCgiParams.ts"
import { copy } from "../../protocol/internal/text.ts"
import { isFieldName } from "./fields.ts"

/** The headers, as an object with this prototype. `hostOf` is asked for the host when the client has sent none. */
export const requestHeaders = (
  params: FastCgiParams,
  prototype: object | null,
  hostOf: (params: FastCgiParams) => string | undefined
): Record<string, string> => {
  const collected: Record<string, string> = Object.create(prototype)
  let contentType: string | undefined
  let contentTypeHeader: string | undefined
  let length: string | undefined
  let lengthHeader: string | undefined
  let authorization: string | undefined
  let redirectedAuthorization: string | undefined
  let decoded = false
  params.scanLatin1((text, start, valueStart, end) => {
    // The name may be shorter than what is looked for, so its end counts too.
    if (text.charCodeAt(start) !== 0x48 || valueStart - start < 6 || !text.startsWith("HTTP_", start)) {
      if (isNamed("CONTENT_TYPE", text, start, valueStart)) contentType = text.substring(valueStart, end)
      else if (isNamed("CONTENT_LENGTH", text, start, valueStart)) length = text.substring(valueStart, end)
      else if (isNamed("REDIRECT_HTTP_AUTHORIZATION", text, start, valueStart)) {
        redirectedAuthorization = text.substring(valueStart, end)
      }
      return
    }
    const header = headerOf(text, start, valueStart)
    const value = text.substring(valueStart, end)
    switch (header.rule) {
      case "first":
        collected[header.name] ??= value
        return
      case "drop":
        return
      case "authorization":
        // Empty is nginx's `fastcgi_param HTTP_AUTHORIZATION $http_authorization` when there is none.
        if (authorization === undefined && value !== "") collected["authorization"] = authorization = value
        return
      case "content-type":
        contentTypeHeader ??= value
        return
      case "content-length":
        lengthHeader ??= value
        return
      case "transfer-encoding":
        decoded = true
        return
      default: {
        const present = collected[header.name]
        collected[header.name] = typeof present === "string" ? present + header.rule + value : value
      }
    }
  })
  if (authorization === undefined && redirectedAuthorization !== undefined && redirectedAuthorization !== "") {
    collected["authorization"] = redirectedAuthorization
  }
  if (collected["host"] === undefined || collected["host"] === "") {
    const host = hostOf(params)
    if (host !== undefined) collected["host"] = host
    else if (collected["host"] === "") delete collected["host"]
  }
  contentType ??= contentTypeHeader
  if (contentType !== undefined && contentType !== "") collected["content-type"] = contentType
  // With a Transfer-Encoding the client's own Content-Length says nothing (RFC 9112 §6.3).
  if (length === undefined && !decoded) length = lengthHeader
  if (length !== undefined && isContentLength(length)) collected["content-length"] = length
  return collected
}

const digits = /^[0-9]+$/

/** Whether the text is the length of a body. */
export const isContentLength = (text: string): boolean => digits.test(text) && Number.isSafeInteger(Number(text))

const isNamed = (name: string, text: string, start: number, end: number): boolean =>
  end - start === name.length && text.startsWith(name, start)

// What becomes of a header.
interface HeaderRule {
  readonly name: string
  /** The text that joins it to one that came before, or one of the words that `headers` knows. */
  readonly rule: HeaderRuleWord | ", " | "; "
}

type HeaderRuleWord = "first" | "drop" | "authorization" | "content-type" | "content-length" | "transfer-encoding"

const dropped: HeaderRule = { name: "", rule: "drop" }

// Where Node's http.IncomingMessage.headers keeps the first, as far as it concerns requests.
const single: ReadonlySet<string> = new Set([
  "age",
  "etag",
  "expires",
  "from",
  "host",
  "if-modified-since",
  "if-unmodified-since",
  "last-modified",
  "location",
  "max-forwards",
  "proxy-authorization",
  "referer",
  "retry-after",
  "server",
  "user-agent"
])

const ruleOf = (name: string): HeaderRule => {
  switch (name) {
    case "proxy":
      return dropped
    case "cookie":
      return { name, rule: "; " }
    case "authorization":
    case "content-type":
    case "content-length":
    case "transfer-encoding":
      return { name, rule: name }
    default:
      return !isFieldName(name) ? dropped : { name, rule: single.has(name) ? "first" : ", " }
  }
}

// The rules of the names that came last, by a hash of the name: the strings of a header's name are made once, not once
// a request. Names come from clients, so what is remembered of them is bounded, in number and in length.
const rememberedNames = 512
const rememberedLength = 64
const remembered: Array<{ readonly param: string; readonly header: HeaderRule } | undefined> = Array.from(
  { length: rememberedNames },
  () => undefined
)

const headerOf = (text: string, start: number, end: number): HeaderRule => {
  const length = end - start
  const hash = length * 31 + text.charCodeAt(end - 1) * 17 + text.charCodeAt(start + (length >>> 1)) * 7 +
    text.charCodeAt(start + 5)
  const at = hash & (rememberedNames - 1)
  const known = remembered[at]
  if (known !== undefined && isNamed(known.param, text, start, end)) return known.header
  // A copy, because a substring would keep all params of its request in memory.
  const param = copy(text.substring(start, end))
  const header = ruleOf(param.substring("HTTP_".length).replaceAll("_", "-").toLowerCase())
  if (length <= rememberedLength) remembered[at] = { param, header }
  return header
}
