/**
 * HTTP's Upgrade (RFC 9110 §7.8) as CGI variables and as a header block: the protocols that a client asks for, and the answer that hands
 * its connection over.
 *
 * lighttpd 1.4.74 and later (`"upgrade" => "enable"`) and `FastCgiGateway` carry the other protocol both ways: STDIN has the client's
 * bytes, and STDOUT the bytes to the client. No other web server does this.
 *
 * Text has one character per byte, in and out.
 *
 * @since 0.1.0
 */
import type { FastCgiParams } from "../protocol/FastCgiParams.ts"
import { CgiHeadError, type CgiHeaders } from "./CgiResponse.ts"
import { hopByHop, isFieldName, isFieldValue } from "./internal/fields.ts"

/**
 * The protocols that the client offers, as it wrote them: `"websocket"`, `"foo/2, bar"`. `undefined` when it offers none, or when its
 * request has a body, because no web server hands a connection over after a body.
 *
 * **Details**
 *
 * `HTTP_CONNECTION` must hold the option `upgrade`, which lighttpd does not check. A length of -1 is lighttpd's way to say that a request
 * has none.
 *
 * **Gotchas**
 *
 * nginx, Apache, Caddy and older lighttpd pass both headers on, but carry nothing after a 101. They end STDIN after the params, in the same
 * write or in one of its own. A web server that hands a connection over does not end STDIN: see `isCarried`.
 *
 * @category accessors
 * @since 0.1.0
 */
export const protocols = (params: FastCgiParams): string | undefined => {
  const asked = params.getLatin1("HTTP_UPGRADE")
  if (asked === undefined || tokens(asked).length === 0) return undefined
  if (!tokens(params.getLatin1("HTTP_CONNECTION") ?? "").includes("upgrade")) return undefined
  return bodiless.test(params.getLatin1("CONTENT_LENGTH") ?? "") && !params.has("HTTP_TRANSFER_ENCODING")
    ? asked
    : undefined
}

/**
 * Whether a WebSocket is among the protocols that a client offers. Takes the result of `protocols`.
 *
 * @category guards
 * @since 0.1.0
 */
export const isWebSocket = (protocols: string): boolean => tokens(protocols).includes("websocket")

/**
 * Whether the web server, by its `SERVER_SOFTWARE`, hands connections over: lighttpd from 1.4.74 on, and `FastCgiGateway`.
 *
 * **Gotchas**
 *
 * `false` proves nothing, because lighttpd's `server.tag` changes its name. The end of STDIN proves that the web server carries nothing.
 *
 * @category guards
 * @since 0.1.0
 */
export const isCarried = (params: FastCgiParams): boolean => {
  const software = params.getLatin1("SERVER_SOFTWARE") ?? ""
  if (/^effect-fastcgi(?:[ /]|$)/.test(software)) return true
  const [, ...version] = /^lighttpd\/(\d+)\.(\d+)\.(\d+)/.exec(software) ?? []
  const [major = 0, minor = 0, patch = 0] = version.map(Number)
  return major > 1 || (major === 1 && (minor > 4 || (minor === 4 && patch >= 74)))
}

/**
 * Encodes the header block of a 101, which hands the client's connection over to the first of `protocols`.
 *
 * **Details**
 *
 * `Status` comes first, and `Upgrade` after it: in the other order lighttpd carries nothing. Returns a `CgiHeadError`, and encodes nothing,
 * for an invalid header, and for headers about this hop or about a body: with a Transfer-Encoding lighttpd carries nothing to the client.
 *
 * **Example** (A protocol of your own)
 *
 * ```ts
 * import * as assert from "node:assert"
 * import { CgiUpgrade } from "effect-fastcgi"
 *
 * assert.strictEqual(
 *   CgiUpgrade.encodeHead("chat/2, chat/1", { "x-room": "7" }),
 *   "Status: 101 Switching Protocols\r\nUpgrade: chat/2\r\nConnection: Upgrade\r\nx-room: 7\r\n\r\n"
 * )
 * ```
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeHead = (protocols: string, headers: CgiHeaders = {}): string | CgiHeadError => {
  const [protocol = ""] = list(protocols)
  if (protocol === "" || !isFieldValue(protocol)) {
    return new CgiHeadError({ reason: { _tag: "InvalidHeaderValue" }, message: "Upgrade names no protocol" })
  }
  let head = `Status: 101 Switching Protocols\r\nUpgrade: ${protocol}\r\nConnection: Upgrade\r\n`
  for (const name in headers) {
    const lower = name.toLowerCase()
    if (!isFieldName(name) || hopByHop.has(lower) || notWith101.has(lower)) {
      const message = `${JSON.stringify(name)} is no header of a 101`
      return new CgiHeadError({ reason: { _tag: "InvalidHeaderName" }, message })
    }
    const value = headers[name]
    for (const line of typeof value === "string" ? [value] : value) {
      if (!isFieldValue(line)) {
        const message = `the value of header ${JSON.stringify(name)} has a control character, or one that is not a byte`
        return new CgiHeadError({ reason: { _tag: "InvalidHeaderValue" }, message })
      }
      head += `${name}: ${line}\r\n`
    }
  }
  head += "\r\n"
  return head.length <= maxHeadLength ? head : new CgiHeadError({
    reason: { _tag: "HeadTooLarge" },
    message: `the header block is ${head.length} bytes, at most ${maxHeadLength} fit into a record`
  })
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// The size of one STDOUT record (SPEC 3.3).
const maxHeadLength = 65535

const bodiless = /^(?:|0+|-1)$/

const notWith101 = new Set(["content-length", "content-type", "status"])

const list = (value: string): ReadonlyArray<string> => value.split(",").map((item) => item.trim())

const tokens = (value: string): ReadonlyArray<string> =>
  list(value).map((item) => item.toLowerCase()).filter((item) => item !== "")
