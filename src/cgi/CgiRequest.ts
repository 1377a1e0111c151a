/**
 * The params of a request as an HTTP request: method, target, headers and addresses (RFC 3875 §4.1).
 *
 * Every function looks up what it needs when it is called; nothing is decoded that nobody asks for. The rules are those
 * that nginx, lighttpd, Apache, HAProxy, Caddy and h2o force; where they differ, the comment names the server.
 *
 * @since 0.1.0
 */
import type * as Redacted from "effect/Redacted"
import type { FastCgiParams } from "../protocol/FastCgiParams.ts"
import { copy } from "../protocol/internal/text.ts"
import { encodeTarget } from "./internal/percent.ts"
import { isContentLength, requestHeaders } from "./internal/requestHeaders.ts"
import { absoluteForm, methodOf, scriptTarget, targetOf, withoutBasePath } from "./internal/target.ts"
import { makeVariables } from "./internal/variables.ts"

/**
 * The request method in upper case; "GET" when the web server sends none.
 *
 * @category accessors
 * @since 0.1.0
 */
export const method = (params: FastCgiParams): string => methodOf(params)

/**
 * Options of `url`.
 *
 * @category options
 * @since 0.1.0
 */
export interface UrlOptions {
  /**
   * Where the path and the query come from. Default "request": `REQUEST_URI`, the URL that the client asked for. "script":
   * `SCRIPT_NAME`, `PATH_INFO` and `QUERY_STRING`, the URL that the web server asks for. The two differ with SSI, error pages,
   * `X-Accel-Redirect` and rewrite rules.
   */
  readonly from?: "request" | "script" | undefined
  /**
   * The path at which the web server mounts the application, such as "/app". It is removed from the front of the path when it ends at a
   * segment border, however the client has encoded it, because web servers match the decoded path. Other paths stay as they are.
   * Default none.
   */
  readonly basePath?: string | undefined
}

/**
 * The request target in origin-form: path and query, percent-encoded, always beginning with "/". For `OPTIONS *` it is
 * "*".
 *
 * **Details**
 *
 * `REQUEST_URI` is what the client sent and the only source that every web server fills undecoded; an absolute-form
 * target (Apache passes it on) loses its scheme and authority, and bytes that no target may hold (control characters,
 * space, non-ASCII) are percent-encoded one by one. Without it the target is put together from `SCRIPT_NAME`,
 * `PATH_INFO` and `QUERY_STRING`. The first two are percent-decoded and may hold anything, CR and LF included, so they
 * are encoded again; an encoded "/" can not be told from a plain one any more.
 *
 * With `from: "script"` the target is always put together in this way, except that `REQUEST_URI` gives its path when both paths are the
 * same, because it has the client's encoding. A `PATH_INFO` that begins with the path of `SCRIPT_NAME` is taken for the whole path, as IIS
 * and many configurations of nginx send it, unless `REQUEST_URI` or `DOCUMENT_URI` contradicts.
 *
 * **Example** (Reading the target below a mount point)
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { CgiRequest, FastCgiParams } from "effect-fastcgi"
 *
 * const params = FastCgiParams.fromEntries([["REQUEST_URI", "/app/caf%C3%A9?q=1"]])
 * assert.strictEqual(CgiRequest.url(params), "/app/caf%C3%A9?q=1")
 * assert.strictEqual(CgiRequest.url(params, { basePath: "/app" }), "/caf%C3%A9?q=1")
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const url = (params: FastCgiParams, options?: UrlOptions): string => {
  const target = options?.from === "script" ? scriptTarget(params) : targetOf(params)
  const basePath = options?.basePath
  return basePath === undefined ? target : withoutBasePath(target, basePath)
}

/**
 * The scheme between the client and the web server: "https" when `HTTPS` is set to anything but "off", or when `REQUEST_SCHEME` is
 * "https". The client's `X-Forwarded-Proto` is ignored.
 *
 * @category accessors
 * @since 0.1.0
 */
export const scheme = (params: FastCgiParams): "http" | "https" => {
  const https = params.getLatin1("HTTPS")
  if (https !== undefined && https !== "" && https.toLowerCase() !== "off") return "https"
  return params.getLatin1("REQUEST_SCHEME")?.toLowerCase() === "https" ? "https" : "http"
}

/**
 * The host, with its port if one was given: the authority of an absolute-form target, which takes precedence (RFC 9112 §3.2.2), or the
 * Host header, or `SERVER_NAME` with `SERVER_PORT` unless that is the scheme's default. When the name is not a host name, such as nginx's
 * "_" and the beginnings of its patterns, `SERVER_ADDR` takes its place.
 *
 * @category accessors
 * @since 0.1.0
 */
export const host = (params: FastCgiParams): string | undefined => {
  const authority = absoluteForm.exec(params.getLatin1("REQUEST_URI") ?? "")
  if (authority !== null) {
    const text = authority[1]
    const named = text.substring(text.lastIndexOf("@") + 1)
    if (named !== "") return named
  }
  const header = firstOf(params, "HTTP_HOST")
  if (header !== undefined && header !== "") return header
  return serverHost(params)
}

/**
 * The absolute URL of the request: scheme, host and `url`. Only the target when there is no host, or when the target is "*".
 *
 * The host comes from the client. Use it for links only where the web server checks it.
 *
 * @category accessors
 * @since 0.1.0
 */
export const originalUrl = (params: FastCgiParams): string => {
  const target = targetOf(params)
  if (target === "*") return target
  const authority = host(params)
  return authority === undefined ? target : `${scheme(params)}://${authority}${target}`
}

/**
 * The length of the body in bytes, as far as the web server knows it: digits that make a safe integer. Empty
 * (nginx, for every GET) and "-1" (Caddy, for a chunked body) mean unknown.
 *
 * @category accessors
 * @since 0.1.0
 */
export const contentLength = (params: FastCgiParams): number | undefined => {
  const own = params.getLatin1("CONTENT_LENGTH")
  const text = own ?? (params.has("HTTP_TRANSFER_ENCODING") ? undefined : firstOf(params, "HTTP_CONTENT_LENGTH"))
  return text !== undefined && isContentLength(text) ? Number(text) : undefined
}

/**
 * The headers of the request in one pass, as a new object with the given prototype: lower-case names, values with one
 * character per byte as Node has them.
 *
 * **Details**
 *
 * They come from `HTTP_*`, with "_" read as "-", and from `CONTENT_TYPE` and `CONTENT_LENGTH`, which decide over
 * `HTTP_CONTENT_TYPE` and `HTTP_CONTENT_LENGTH` where they are present, and mean absent where they are empty or, for the
 * length, not a number. A header that came more than once (nginx and HAProxy send one param a line) is joined as Node's
 * http joins it: "; " for cookies, the first for headers of which there can be only one, ", " for all others.
 *
 * - `Proxy` is dropped: it would become the proxy of CGI programs ("httpoxy"), and no client has a reason to send it.
 * - `Transfer-Encoding` is dropped: the web server has decoded the body already. The other hop-by-hop headers tell about
 *   the connection between client and web server and stay, as Node leaves them; nothing here acts on them.
 * - `Host`, when the client has sent none or an empty one, is the `host` made of `SERVER_NAME` and `SERVER_PORT`.
 * - `Authorization`, which Apache hides, is also taken from `REDIRECT_HTTP_AUTHORIZATION`, where its rewrite rules put it.
 * - Apache and Caddy join two Cookie lines with ", ". That is left as it is: a comma may also stand inside a value that
 *   a browser stored, so that splitting at it would let the text of one cookie become another cookie. Browsers send
 *   one line, and over HTTP/2 all web servers join with "; ".
 * - `X_Name` and `X-Name` are the same param. lighttpd, Caddy and h2o let both through. A web server that sets a trusted header must
 *   remove both.
 *
 * **Example** (Making Effect's `Headers` without a copy)
 *
 * ```ts
 * import * as Headers from "effect/http/Headers"
 * import { CgiRequest, type FastCgiParams } from "effect-fastcgi"
 *
 * const prototype = Object.getPrototypeOf(Headers.empty)
 *
 * export const headers = (params: FastCgiParams.FastCgiParams) =>
 *   CgiRequest.headers(params, prototype) as Headers.Headers
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const headers = (params: FastCgiParams, prototype: object | null = null): Record<string, string> =>
  requestHeaders(params, prototype, serverHost)

/**
 * The name of the first variable with a CR, LF or NUL that its meaning does not allow: a method, a target, a header, a host, a user. No
 * known web server lets such a character of a client through, but a rewrite rule can make one. An app would put it into a header or a log
 * line, which then ends there. `FastCgiHttpServer` answers 400.
 *
 * **Details**
 *
 * The variables are HTTP_*, CONTENT_TYPE, CONTENT_LENGTH, REQUEST_METHOD, REQUEST_URI, REQUEST_SCHEME, HTTPS, SERVER_NAME, SERVER_PORT,
 * SERVER_PROTOCOL, REMOTE_ADDR, REMOTE_HOST, REMOTE_IDENT, REMOTE_PORT, REMOTE_USER, AUTH_TYPE and REDIRECT_HTTP_AUTHORIZATION. Other
 * variables may hold anything: SCRIPT_NAME and similar ones are percent-decoded, and SSL_CLIENT_CERT has lines. In the name that is
 * returned, characters that are not visible ASCII are percent-encoded.
 *
 * @category accessors
 * @since 0.1.0
 */
export const invalidVariable = (params: FastCgiParams): string | undefined => {
  // Where the next of each is in the text of all pairs, and the nearest of them. The lengths between the pairs have these bytes
  // too.
  let nul = -1
  let lf = -1
  let cr = -1
  let nearest = -1
  let found: string | undefined
  params.scanLatin1((text, nameStart, valueStart, end) => {
    if (nearest < valueStart) {
      if (nul < valueStart) nul = next(text, "\0", valueStart)
      if (lf < valueStart) lf = next(text, "\n", valueStart)
      if (cr < valueStart) cr = next(text, "\r", valueStart)
      nearest = nul < lf ? nul : lf
      if (cr < nearest) nearest = cr
    }
    if (nearest >= end || found !== undefined) return
    const name = text.substring(nameStart, valueStart)
    if (name.startsWith("HTTP_") || oneLine.has(name)) found = copy(encodeTarget(name))
  })
  return found
}

/**
 * The web server's variables about TLS and the client's certificate, under the names that Apache's mod_ssl and lighttpd use, and that
 * configurations of nginx, HAProxy and Caddy commonly set. The web server decides which certificates it accepts, and whether it asks for
 * one. If access depends on a certificate, check `clientVerified`.
 *
 * @category models
 * @since 0.1.0
 */
export interface CgiSsl {
  /** Such as "TLSv1.3": `SSL_PROTOCOL`. */
  readonly protocol: string | undefined
  /** Such as "TLS_AES_128_GCM_SHA256": `SSL_CIPHER`. */
  readonly cipher: string | undefined
  /** Bits of the cipher's key: `SSL_CIPHER_USEKEYSIZE`. */
  readonly cipherBits: number | undefined
  /** The server name the client asked for: `SSL_TLS_SNI`, `SSL_SERVER_NAME`. */
  readonly serverName: string | undefined
  /** The distinguished name of this server's own certificate: `SSL_SERVER_S_DN`. */
  readonly serverSubject: string | undefined
  /** The distinguished name of the issuer of that certificate: `SSL_SERVER_I_DN`. */
  readonly serverIssuer: string | undefined
  /** "SUCCESS", "NONE", "FAILED:" and a reason, "GENEROUS": `SSL_CLIENT_VERIFY`, `VERIFIED`. */
  readonly clientVerify: string | undefined
  /** Whether the web server has verified a certificate of the client: `clientVerify` is "SUCCESS". */
  readonly clientVerified: boolean
  /** The subject's distinguished name: `SSL_CLIENT_S_DN`, `SSL_CLIENT_DN`. */
  readonly clientSubject: string | undefined
  /** The subject's common name: `SSL_CLIENT_S_DN_CN`. It is not parsed from `clientSubject`, which servers write differently. */
  readonly clientCommonName: string | undefined
  /** The subject's mail address: `SSL_CLIENT_SAN_Email_0`, `SSL_CLIENT_S_DN_Email`, `SSL_CLIENT_S_DN_emailAddress`. */
  readonly clientEmail: string | undefined
  /** The issuer's distinguished name: `SSL_CLIENT_I_DN`, `SSL_CLIENT_ISSUER_DN`. */
  readonly clientIssuer: string | undefined
  /** The serial number in hexadecimal: `SSL_CLIENT_M_SERIAL`, `SSL_CLIENT_SERIAL`. */
  readonly clientSerial: string | undefined
  /** When the certificate begins to be valid: `SSL_CLIENT_V_START`. */
  readonly clientNotBefore: Date | undefined
  /** When the certificate ends to be valid: `SSL_CLIENT_V_END`. */
  readonly clientNotAfter: Date | undefined
  /** The SHA-1 of the certificate in hexadecimal: `SSL_CLIENT_FINGERPRINT` (nginx's `$ssl_client_fingerprint`). */
  readonly clientFingerprint: string | undefined
  /**
   * The certificate in PEM: `SSL_CLIENT_CERT`, unchanged. nginx puts a tab at the start of its lines (`$ssl_client_cert`), or
   * percent-encodes it (`$ssl_client_escaped_cert`).
   */
  readonly clientCertificate: string | undefined
}

/**
 * The web server's variables about a request: those of RFC 3875 §4.1 and their usual companions, without the headers, which are the
 * client's word. Each is looked up when it is read. An empty variable is absent.
 *
 * **Details**
 *
 * All text is UTF-8, or Latin-1 where it is not valid UTF-8. `scriptName`, `pathInfo` and `pathTranslated` are
 * percent-decoded by the web server and may hold any byte.
 *
 * @category models
 * @since 0.1.0
 */
export interface CgiVariables {
  /** Name and version of the web server: `SERVER_SOFTWARE`. */
  readonly serverSoftware: string | undefined
  /** The host name of this server, without a port: `SERVER_NAME`. IPv6 addresses are in brackets. */
  readonly serverName: string | undefined
  /** The port: `SERVER_PORT`. Apache and Caddy take it from the Host header. */
  readonly serverPort: number | undefined
  /** The protocol between client and web server, such as "HTTP/1.1" or "HTTP/2.0": `SERVER_PROTOCOL`. */
  readonly serverProtocol: string | undefined
  /** The address the client connected to, without brackets: `SERVER_ADDR`. Not sent by HAProxy and Caddy. */
  readonly serverAddress: string | undefined
  /** "CGI/1.1": `GATEWAY_INTERFACE`. */
  readonly gatewayInterface: string | undefined
  /** `DOCUMENT_ROOT`. */
  readonly documentRoot: string | undefined
  /** The part of the decoded path that names the application: `SCRIPT_NAME`. With nginx that is the whole path. */
  readonly scriptName: string | undefined
  /** `SCRIPT_FILENAME`. */
  readonly scriptFilename: string | undefined
  /** The rest of the decoded path: `PATH_INFO`. */
  readonly pathInfo: string | undefined
  /** `PATH_TRANSLATED`. */
  readonly pathTranslated: string | undefined
  /** The query, still encoded: `QUERY_STRING`. */
  readonly queryString: string | undefined
  /** The URL that the client asked for, still encoded, before the web server rewrote it: `REQUEST_URI`. */
  readonly requestUri: string | undefined
  /** The method as it was sent: `REQUEST_METHOD`. */
  readonly requestMethod: string | undefined
  /** The client's IP address, without brackets: `REMOTE_ADDR`. Absent for clients on a UNIX socket and health checks. */
  readonly remoteAddress: string | undefined
  /** The client's port: `REMOTE_PORT`. */
  readonly remotePort: number | undefined
  /** The client's host name: `REMOTE_HOST`. */
  readonly remoteHost: string | undefined
  /**
   * The user: `REMOTE_USER`. By default nginx and HAProxy take it from the Authorization header without checking the password.
   */
  readonly remoteUser: string | undefined
  /**
   * The password that the user has given, which Apache sends to an Authorizer (`AUTHENTICATOR`): `REMOTE_PASSWD`. It is redacted, so no log
   * and no inspection shows it. `Redacted.value` gives the text. Unlike the others it may be empty.
   */
  readonly remotePassword: Redacted.Redacted | undefined
  /** `REMOTE_IDENT`. */
  readonly remoteIdent: string | undefined
  /** How the user was authenticated, such as "Basic": `AUTH_TYPE`. */
  readonly authType: string | undefined
  /** "https" or "http": `HTTPS`, `REQUEST_SCHEME`. */
  readonly scheme: "http" | "https"
  /** Whether the client is connected to the web server by TLS. */
  readonly https: boolean
  /** TLS and the client's certificate; `undefined` when the web server sends no variables about them. */
  readonly ssl: CgiSsl | undefined
  /** Any param by its name, empty or not; the last value where the name occurs more than once. */
  readonly get: (name: string) => string | undefined
  /** All params. */
  readonly params: FastCgiParams
}

/**
 * A typed view of the web server's variables about the request.
 *
 * @category accessors
 * @since 0.1.0
 */
export const variables = (params: FastCgiParams): CgiVariables => makeVariables(params, scheme)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// A port after a name or a bracketed address; the colons of a bare IPv6 address are none.
const hasPort = /^(?:[^:]*|\[.*\]):\d+$/

// What nginx has for a server without a name, "_" or nothing, with several, "*.a.test" and ".a.test", or with a pattern.
const noName = /^(?:_$|$|[~*.])/

const serverHost = (params: FastCgiParams): string | undefined => {
  let name = params.getLatin1("SERVER_NAME")
  if (name === undefined || noName.test(name)) {
    name = params.getLatin1("SERVER_ADDR")
    // On a UNIX socket nginx has its path.
    if (name === undefined || name === "" || name.includes("/") || name === "unix:") return undefined
  }
  // HAProxy's SERVER_NAME is the Host header, port included.
  if (hasPort.test(name)) return name
  const bracketed = name.includes(":") && !name.startsWith("[") ? `[${name}]` : name
  const port = params.getLatin1("SERVER_PORT")
  return port === undefined || port === "" || port === (scheme(params) === "https" ? "443" : "80")
    ? bracketed
    : `${bracketed}:${port}`
}

// The first value, one character per byte: of a Host header that came twice Node keeps the first.
const firstOf = (params: FastCgiParams, wanted: string): string | undefined => {
  let first: string | undefined
  params.forEachLatin1((name, value) => {
    if (first === undefined && name === wanted) first = value
  })
  return first
}

const next = (text: string, character: string, from: number): number => {
  const at = text.indexOf(character, from)
  return at === -1 ? text.length : at
}

const oneLine: ReadonlySet<string> = new Set([
  "AUTH_TYPE",
  "CONTENT_LENGTH",
  "CONTENT_TYPE",
  "HTTPS",
  "REDIRECT_HTTP_AUTHORIZATION",
  "REMOTE_ADDR",
  "REMOTE_HOST",
  "REMOTE_IDENT",
  "REMOTE_PORT",
  "REMOTE_USER",
  "REQUEST_METHOD",
  "REQUEST_SCHEME",
  "REQUEST_URI",
  "SERVER_NAME",
  "SERVER_PORT",
  "SERVER_PROTOCOL"
])
