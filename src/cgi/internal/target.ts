/**
 * The request target: path and query, encoded, of the URL that the client or the web server asks for, and what of them is below a
 * base path.
 */
import type { FastCgiParams } from "../../protocol/FastCgiParams.ts"
import { utf8ToLatin1 } from "../../protocol/internal/text.ts"
import { decode, decodeAt, encodePath, encodeTarget } from "./percent.ts"

const lowerCase = /[a-z]/

// oxlint-disable-next-line no-control-regex -- everything that can not stand in a request target
const notInTarget = /[^\x21-\x7e]/

/** Scheme and authority of a target in absolute-form. */
export const absoluteForm = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i

/** The method in upper case. */
export const methodOf = (params: FastCgiParams): string => {
  const name = params.getLatin1("REQUEST_METHOD")
  if (name === undefined || name === "") return "GET"
  // Upper case already, nearly always: then no string is made.
  return lowerCase.test(name) ? name.toUpperCase() : name
}

/** Path and query of the URL that the client has asked for. */
export const targetOf = (params: FastCgiParams): string => {
  const uri = params.getLatin1("REQUEST_URI")
  if (uri !== undefined && uri !== "") {
    if (uri.charCodeAt(0) === 0x2f) return notInTarget.test(uri) ? encodeTarget(uri) : uri
    if (uri === "*" && methodOf(params) === "OPTIONS") return uri
    const absolute = absoluteForm.exec(uri)
    if (absolute !== null) {
      const target = encodeTarget(uri.substring(absolute[0].length))
      return target.charCodeAt(0) === 0x2f ? target : "/" + target
    }
  }
  return withQuery(params, encodePath(scriptPath(params, "")))
}

/** Path and query of the URL that the web server asks for. */
export const scriptTarget = (params: FastCgiParams): string => {
  const requested = targetOf(params)
  if (requested === "*") return requested
  const question = requested.indexOf("?")
  const encoded = question === -1 ? requested : requested.substring(0, question)
  const decoded = decode(encoded)
  const path = scriptPath(params, decoded)
  // Apache leaves %2F in it with AllowEncodedSlashes NoDecode.
  return withQuery(params, path === decoded || decode(path) === decoded ? encoded : encodePath(path))
}

// The decoded path. `requested` is what the client has asked for.
const scriptPath = (params: FastCgiParams, requested: string): string => {
  const scriptName = params.getLatin1("SCRIPT_NAME") ?? ""
  const pathInfo = params.getLatin1("PATH_INFO") ?? ""
  if (scriptName === "" && pathInfo === "") return rooted(params.getLatin1("DOCUMENT_URI") || requested)
  // An application at the root is "/" for some, and nothing for others.
  const base = pathInfo.charCodeAt(0) === 0x2f && scriptName.endsWith("/") ? scriptName.slice(0, -1) : scriptName
  const path = rooted(base + pathInfo)
  const repeated = base !== "" && pathInfo.startsWith(base) &&
    (pathInfo.length === base.length || pathInfo.charCodeAt(base.length) === 0x2f)
  // A path such as /app/app is told from one that is repeated by what else says it.
  return repeated && path !== requested && path !== params.getLatin1("DOCUMENT_URI") ? rooted(pathInfo) : path
}

const rooted = (path: string): string => path.charCodeAt(0) === 0x2f ? path : "/" + path

const withQuery = (params: FastCgiParams, path: string): string => {
  const query = params.getLatin1("QUERY_STRING")
  // "#" can not be in a query that a web server took from a request line, but can in one that a rewrite rule made.
  return query === undefined || query === "" ? path : path + "?" + encodeTarget(query).replaceAll("#", "%23")
}

/** The target below a path at which the application is mounted. */
export const withoutBasePath = (target: string, basePath: string): string => {
  const base = encodedBasePath(basePath)
  const end = base === "" ? -1 : endOfBasePath(target, base)
  if (end === -1) return target
  if (end === target.length) return "/"
  switch (target.charCodeAt(end)) {
    case 0x2f: // "/"
      return target.substring(end)
    case 0x3f: // "?"
      return "/" + target.substring(end)
    default:
      return target
  }
}

// Where the base path ends in the target, or -1 when the target does not begin with it.
const endOfBasePath = (target: string, base: string): number => {
  if (target.startsWith(base)) return base.length
  if (!target.includes("%")) return -1
  let at = 0
  for (let i = 0; i < base.length; i += unitLength(base, i)) {
    if (at >= target.length || unitAt(target, at) !== unitAt(base, i)) return -1
    at += unitLength(target, at)
  }
  return at
}

const isEncoded = (text: string, at: number): boolean => at + 2 < text.length && decodeAt(text, at) !== -1

const unitLength = (text: string, at: number): number => isEncoded(text, at) ? 3 : 1

// A byte of a path. An encoded slash is data, and no slash.
const unitAt = (text: string, at: number): number => {
  if (!isEncoded(text, at)) return text.charCodeAt(at)
  const byte = decodeAt(text, at)
  return byte === 0x2f ? 0x12f : byte
}

// The base path of a server does not change: the last one is remembered.
let lastBasePath = ""
let lastEncodedBasePath = ""

const encodedBasePath = (basePath: string): string => {
  if (basePath !== lastBasePath) {
    let end = basePath.length
    while (end > 0 && basePath.charCodeAt(end - 1) === 0x2f) end--
    const trimmed = basePath.substring(0, end)
    const rooted = trimmed === "" || trimmed.startsWith("/") ? trimmed : "/" + trimmed
    lastEncodedBasePath = encodeTarget(utf8ToLatin1(rooted))
    lastBasePath = basePath
  }
  return lastEncodedBasePath
}
