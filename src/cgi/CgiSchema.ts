/**
 * CGI variables as schemas: the web server's variables about a request (RFC 3875 §4.1), by their names. For an application that wants some
 * of them checked and typed, or all of them as one value that can be encoded again.
 *
 * `CgiRequest.variables` reads the same without a schema. It takes malformed values for absent ones, and never fails.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"
import type { FastCgiParams } from "../protocol/FastCgiParams.ts"

/**
 * A port from its text: 1 to 65535.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Port = Schema.String.check(Schema.isPattern(/^\d{1,5}$/)).pipe(
  Schema.decodeTo(
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 65535 })),
    SchemaTransformation.numberFromString
  )
)

/**
 * The length of a body in bytes, from its text.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Length = Schema.String.check(Schema.isPattern(/^\d{1,15}$/)).pipe(
  Schema.decodeTo(Schema.Int, SchemaTransformation.numberFromString)
)

/**
 * An IP address from its text, without the brackets that lighttpd puts around an IPv6 address.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Address = Schema.String.pipe(
  Schema.decodeTo(
    Schema.String.check(Schema.isPattern(/^[0-9A-Fa-f.:]+(?:%[\w.-]+)?$/)),
    SchemaTransformation.transform({
      decode: (text) => text.startsWith("[") && text.endsWith("]") ? text.slice(1, -1) : text,
      encode: (address) => address
    })
  )
)

/**
 * A password, redacted: no log and no inspection shows it.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Password = Schema.RedactedFromValue(Schema.String, { label: "REMOTE_PASSWD" })

/**
 * Whether the client is connected by TLS, from HTTPS: "on" and "1" say so, "off", "0" and no value the opposite.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Https = Schema.Literals(["on", "ON", "1", "off", "OFF", "0"]).pipe(
  Schema.decodeTo(
    Schema.Boolean,
    SchemaTransformation.transform({
      decode: (text) => text === "1" || text.toLowerCase() === "on",
      encode: (https) => https ? "on" as const : "off" as const
    })
  )
)

const text = Schema.optionalKey(Schema.String)

/**
 * The variables of RFC 3875 §4.1 and their usual companions, each of which may be absent. Pick those that a handler needs, or give
 * `decode` a schema of your own.
 *
 * **Details**
 *
 * Values are text, except for ports, addresses, HTTPS and the password of an Authorizer. The fields have the names of the variables, and
 * `Schema.encode` gives back the type beside each name.
 *
 * @category schemas
 * @since 0.1.0
 */
export const CgiVariables = Schema.Struct({
  AUTH_TYPE: text,
  CONTENT_LENGTH: Schema.optionalKey(Length),
  CONTENT_TYPE: text,
  DOCUMENT_ROOT: text,
  GATEWAY_INTERFACE: text,
  HTTPS: Schema.optionalKey(Https),
  PATH_INFO: text,
  PATH_TRANSLATED: text,
  QUERY_STRING: text,
  REMOTE_ADDR: Schema.optionalKey(Address),
  REMOTE_HOST: text,
  REMOTE_IDENT: text,
  REMOTE_PASSWD: Schema.optionalKey(Password),
  REMOTE_PORT: Schema.optionalKey(Port),
  REMOTE_USER: text,
  REQUEST_METHOD: text,
  REQUEST_SCHEME: Schema.optionalKey(Schema.Literals(["http", "https"])),
  REQUEST_URI: text,
  SCRIPT_FILENAME: text,
  SCRIPT_NAME: text,
  SERVER_ADDR: Schema.optionalKey(Address),
  SERVER_NAME: text,
  SERVER_PORT: Schema.optionalKey(Port),
  SERVER_PROTOCOL: text,
  SERVER_SOFTWARE: text,
  SSL_CIPHER: text,
  SSL_CLIENT_I_DN: text,
  SSL_CLIENT_M_SERIAL: text,
  SSL_CLIENT_S_DN: text,
  SSL_CLIENT_S_DN_CN: text,
  SSL_CLIENT_VERIFY: text,
  SSL_PROTOCOL: text,
  SSL_TLS_SNI: text
})

/**
 * Decodes a schema from the params of a request. Fails with `SchemaError` when they do not match the schema.
 *
 * **Details**
 *
 * A variable with an empty value is absent, because web servers send variables for which they have no value: nginx sends `CONTENT_LENGTH`
 * with every GET. The address `unix:` of nginx and HAProxy's REMOTE_PORT 0 are absent as well. Of a name that occurs more than once, the
 * last value counts. The error's message has the refused value, unless its schema redacts it.
 *
 * **Example** (The user that the web server has logged in, by a certificate)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Schema from "effect/Schema"
 * import { CgiSchema, type FastCgiRequest, FastCgiResponse } from "effect-fastcgi"
 *
 * const Visitor = Schema.Struct({
 *   REMOTE_ADDR: CgiSchema.Address,
 *   SSL_CLIENT_VERIFY: Schema.Literal("SUCCESS"),
 *   SSL_CLIENT_S_DN_CN: Schema.NonEmptyString
 * })
 *
 * export const hello = (request: FastCgiRequest.Responder) =>
 *   CgiSchema.decode(Visitor)(request.params).pipe(
 *     Effect.map((visitor) => FastCgiResponse.make(`Hello ${visitor.SSL_CLIENT_S_DN_CN}\n`)),
 *     Effect.catchTag("SchemaError", () => Effect.succeed(FastCgiResponse.make("Who are you?\n", { status: 403 })))
 *   )
 * ```
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode = <A, I extends Readonly<Record<string, string | undefined>>, RD>(
  schema: Schema.ConstraintCodec<A, I, RD, unknown>
): (params: FastCgiParams) => Effect.Effect<A, Schema.SchemaError, RD> => {
  const parse = Schema.decodeUnknownEffect(schema)
  return (params) => parse(present(params))
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// Values of web servers that mean "none": nginx for the address of a client on a UNIX socket, HAProxy for the port of its checks.
const isNone = (name: string, value: string): boolean =>
  value === "" || (value === "unix:" && (name === "REMOTE_ADDR" || name === "SERVER_ADDR")) ||
  (value === "0" && name === "REMOTE_PORT")

const present = (params: FastCgiParams): Readonly<Record<string, string>> => {
  const record: Record<string, string> = Object.create(null)
  for (const [name, value] of params) {
    if (isNone(name, value)) delete record[name]
    else record[name] = value
  }
  return record
}
