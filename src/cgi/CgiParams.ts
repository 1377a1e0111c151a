/**
 * An HTTP request as the params of a FastCGI request, as nginx sends them, for the client's side (RFC 3875 §4.1).
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import { isAscii, latin1Bytes, utf8ToLatin1 } from "../protocol/internal/text.ts"
import { fieldName, hopByHop, hopByHopWith, parseHost, remembered } from "./internal/fields.ts"
import { resolvePath, staysBelow } from "./internal/path.ts"

/**
 * Why a request has no params:
 *
 * - `NotAPath`: the target is no path, such as `*`, an authority or a whole URL; or `scriptName` or `pathInfo` is neither
 *   empty nor a path
 * - `ControlCharacter`: the target holds a control character, or the path an encoded NUL
 * - `AboveRoot`: the path leaves the root with ".."
 * - `InvalidHost`: the host is neither a name nor an address, with or without a port
 *
 * @category errors
 * @since 0.1.0
 */
export type CgiParamsErrorReason =
  | { readonly _tag: "NotAPath" }
  | { readonly _tag: "ControlCharacter" }
  | { readonly _tag: "AboveRoot" }
  | { readonly _tag: "InvalidHost" }

/**
 * A request that must not reach an application. A web server answers it with 400.
 *
 * @category errors
 * @since 0.1.0
 */
export class CgiParamsError extends Data.TaggedError("CgiParamsError")<{
  readonly reason: CgiParamsErrorReason
  readonly message: string
}> {}

/**
 * A request to express in params. Only `method` and `url` are required.
 *
 * @category models
 * @since 0.1.0
 */
export interface CgiParamsRequest {
  /** The method, such as "GET". */
  readonly method: string
  /** The target in origin-form, percent-encoded: path and query. */
  readonly url: string
  /** The headers: a record, or pairs where a name may come more than once. Values have one character per byte. */
  readonly headers?: Readonly<Record<string, string>> | Iterable<readonly [name: string, value: string]> | undefined
  /** The scheme of the client's connection. Default "http". */
  readonly scheme?: "http" | "https" | undefined
  /** The Host header, where `headers` have none. */
  readonly host?: string | undefined
  /** The length of the body in bytes. Default: the Content-Length header. */
  readonly contentLength?: number | undefined
  /** The type of the body. Default: the Content-Type header. */
  readonly contentType?: string | undefined
  /** The client's IP address. */
  readonly remoteAddress?: string | undefined
  /** The client's port. */
  readonly remotePort?: number | undefined
  /** The name of this server. Default: the host without its port. */
  readonly serverName?: string | undefined
  /** The port of this server. Default: that of the host, 80 or 443. */
  readonly serverPort?: number | undefined
  /** The address the client connected to. */
  readonly serverAddress?: string | undefined
  /** The client's protocol. Default "HTTP/1.1". */
  readonly serverProtocol?: string | undefined
  /** The directory that files are served from; php-fpm and fcgiwrap need `scriptFilename`. */
  readonly documentRoot?: string | undefined
  /** The file that runs the request. Default: `documentRoot` and `SCRIPT_NAME` where there is a `documentRoot`. */
  readonly scriptFilename?: string | undefined
  /** The decoded part of the path that names the script, without "..". Default: the whole path, resolved. */
  readonly scriptName?: string | undefined
  /** The decoded rest of the path, without "..". Default: what follows `scriptName`, where the path begins with it. */
  readonly pathInfo?: string | undefined
  /** More params, or other values of those above: they replace params of the same name. */
  readonly extra?: Readonly<Record<string, string | Uint8Array>> | undefined
}

/**
 * Expresses an HTTP request in params, in the order nginx sends them.
 *
 * **Details**
 *
 * Headers become `HTTP_*`, with one param for each time that a name comes. Content-Type and Content-Length become `CONTENT_TYPE` and
 * `CONTENT_LENGTH` instead, and are left out when there are none. Hop-by-hop headers, headers that Connection names, and `Proxy` are not
 * passed on: `Proxy` would set the proxy of CGI programs ("httpoxy"). As in nginx, names with an underscore are not passed on either,
 * because a param cannot tell an underscore from a dash.
 *
 * `SCRIPT_NAME` and `PATH_INFO` are the path as nginx resolves it: percent-decoded to bytes where possible, with "." and ".." followed, even
 * when they or their slashes are encoded, and with slashes merged. So `SCRIPT_FILENAME` stays below `documentRoot`. Returns a
 * `CgiParamsError` for every request that nginx answers with 400: a target that is no path, one that leaves the root or holds a NUL, and an
 * invalid host. `REQUEST_URI` is the unchanged target.
 *
 * **Example** (A request for a script of php-fpm)
 *
 * ```ts
 * import { CgiParams, FastCgiParams } from "effect-fastcgi"
 *
 * const entries = CgiParams.fromRequest({
 *   method: "GET",
 *   url: "/index.php?page=2",
 *   host: "example.com",
 *   documentRoot: "/srv/www"
 * })
 *
 * export const params = entries instanceof CgiParams.CgiParamsError ? entries : FastCgiParams.fromEntries(entries)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromRequest = (
  request: CgiParamsRequest
): ReadonlyArray<readonly [name: string, value: string | Uint8Array]> | CgiParamsError => {
  const { documentRoot, extra, url } = request
  if (controlCharacter.test(url)) return problem("ControlCharacter")
  // A "#" is no part of a target, but llhttp lets one pass: nginx ends the path there.
  const end = url.search(pathEnd)
  const question = end !== -1 && url[end] === "?" ? end : -1
  // Text with one character per byte from here on: decoded paths may be of any encoding.
  const resolved = resolvePath(end === -1 ? url : url.substring(0, end))
  if (typeof resolved === "string") return problem(resolved)
  const { path } = resolved
  const scriptName = request.scriptName === undefined ? path : utf8ToLatin1(request.scriptName)
  const pathInfo = request.pathInfo !== undefined
    ? utf8ToLatin1(request.pathInfo)
    : path.startsWith(scriptName + "/")
    ? path.substring(scriptName.length)
    : ""
  if (!staysBelow(scriptName)) return problem("NotAPath", "scriptName is neither empty nor a path, or holds \"..\"")
  if (!staysBelow(pathInfo)) return problem("NotAPath", "pathInfo is neither empty nor a path, or holds \"..\"")
  const scheme = request.scheme ?? "http"
  const fields = collect(request.headers)
  const host = fields.host ?? request.host
  const server = host === undefined || host === "" ? undefined : parseHost(host)
  if (server === undefined && host !== undefined && host !== "") return problem("InvalidHost")

  const entries: Array<readonly [name: string, value: string | Uint8Array]> = []
  const add = (name: string, value: string | Uint8Array | undefined): void => {
    if (value !== undefined && (extra === undefined || !Object.hasOwn(extra, name))) entries.push([name, value])
  }
  add(
    "SCRIPT_FILENAME",
    request.scriptFilename ??
      (documentRoot === undefined ? undefined : bytesOf(utf8ToLatin1(documentRoot) + scriptName))
  )
  add("QUERY_STRING", question === -1 ? "" : url.substring(question + 1))
  add("REQUEST_METHOD", request.method)
  add("CONTENT_TYPE", request.contentType ?? fields.contentType)
  add("CONTENT_LENGTH", request.contentLength === undefined ? fields.contentLength : String(request.contentLength))
  add("SCRIPT_NAME", bytesOf(scriptName))
  add("PATH_INFO", pathInfo === "" ? undefined : bytesOf(pathInfo))
  add("REQUEST_URI", url)
  add("DOCUMENT_ROOT", documentRoot)
  add("SERVER_PROTOCOL", request.serverProtocol ?? "HTTP/1.1")
  add("REQUEST_SCHEME", scheme)
  add("HTTPS", scheme === "https" ? "on" : undefined)
  add("GATEWAY_INTERFACE", "CGI/1.1")
  add("SERVER_SOFTWARE", "effect-fastcgi")
  add("REMOTE_ADDR", request.remoteAddress)
  add("REMOTE_PORT", request.remotePort === undefined ? undefined : String(request.remotePort))
  add("SERVER_ADDR", request.serverAddress)
  add(
    "SERVER_PORT",
    request.serverPort === undefined
      ? server?.port ?? (scheme === "https" ? "443" : "80")
      : String(request.serverPort)
  )
  add("SERVER_NAME", request.serverName ?? server?.name ?? "localhost")
  // php-cgi refuses to run without it (cgi.force_redirect).
  add("REDIRECT_STATUS", "200")
  add("HTTP_HOST", host)
  for (const [name, value] of fields.others) add(name, value)
  if (extra !== undefined) { for (const name of Object.keys(extra)) entries.push([name, extra[name]]) }
  return entries
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// oxlint-disable-next-line no-control-regex -- control characters are the point
const controlCharacter = /[\x00-\x1f\x7f]/

const pathEnd = /[?#]/

const problems: Readonly<Record<CgiParamsErrorReason["_tag"], string>> = {
  NotAPath: "the target of the request is no path",
  ControlCharacter: "the target of the request holds a control character",
  AboveRoot: "the path leaves the root with \"..\"",
  InvalidHost: "the host of the request is neither a name nor an address"
}

const problem = (tag: CgiParamsErrorReason["_tag"], message = problems[tag]): CgiParamsError =>
  new CgiParamsError({ reason: { _tag: tag }, message })

interface Fields {
  host: string | undefined
  contentType: string | undefined
  contentLength: string | undefined
  others: ReadonlyArray<readonly [name: string, value: string | Uint8Array]>
}

const collect = (headers: CgiParamsRequest["headers"]): Fields => {
  const fields: Fields = { host: undefined, contentType: undefined, contentLength: undefined, others: [] }
  if (headers === undefined) return fields
  const connection: Array<string> = []
  const others: Array<readonly [name: string, value: string | Uint8Array]> = []
  const take = (name: string, value: string): void => {
    const known = knownName(name)
    switch (known.lower) {
      case "host":
        fields.host ??= value
        break
      case "content-type":
        fields.contentType ??= value
        break
      case "content-length":
        fields.contentLength ??= value
        break
      case "connection":
        connection.push(value)
        break
      default:
        if (known.param !== undefined) others.push([known.param, fieldBytes(value)])
    }
  }
  if (Symbol.iterator in headers) { for (const [name, value] of headers) take(name, value) }
  else for (const name of Object.keys(headers)) take(name, headers[name])
  const oneHop = hopByHopWith(connection)
  if (oneHop === hopByHop) fields.others = others
  else {
    const dropped = new Set(Array.from(oneHop, paramName))
    fields.others = others.filter(([param]) => !dropped.has(param))
  }
  return fields
}

interface KnownName {
  readonly lower: string
  /** The param of the header; none where it is not passed on. */
  readonly param: string | undefined
}

const paramName = (lower: string): string => "HTTP_" + lower.toUpperCase().replaceAll("-", "_")

const knownName = remembered((name): KnownName => {
  const { isHopByHop, isToken, lower } = fieldName(name)
  const passes = isToken && !isHopByHop && !lower.includes("_") && lower !== "proxy"
  return { lower, param: passes ? paramName(lower) : undefined }
})

// oxlint-disable-next-line no-control-regex -- the point is what is no byte
const notLatin1 = /[^\x00-\xff]/

// Text with one character per byte, as it is encoded: strings become UTF-8. Most text is ASCII, which is the same in both.
const bytesOf = (text: string): string | Uint8Array => isAscii(text) ? text : latin1Bytes(text)

// Text with characters beyond bytes has not come from a wire. As UTF-8 it survives.
const fieldBytes = (value: string): string | Uint8Array => notLatin1.test(value) ? value : bytesOf(value)
