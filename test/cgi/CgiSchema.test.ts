/**
 * CGI variables as schemas.
 */
import { assert, describe, it } from "@effect/vitest"
import { CgiSchema, FastCgiParams } from "effect-fastcgi"
import { FastCgiHttpServer } from "effect-fastcgi/http"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

const params = (pairs: Readonly<Record<string, string>> | ReadonlyArray<readonly [string, string]>) =>
  FastCgiParams.fromEntries(
    Array.isArray(pairs) ? pairs as ReadonlyArray<readonly [string, string]> : Object.entries(pairs)
  )

const all = CgiSchema.decode(CgiSchema.CgiVariables)

describe("CgiVariables", () => {
  it.effect("types ports, addresses, HTTPS and the password, and leaves out what is empty or none of them", () =>
    Effect.gen(function*() {
      const { REMOTE_PASSWD, ...variables } = yield* all(params({
        CONTENT_LENGTH: "",
        HTTPS: "on",
        HTTP_HOST: "localhost",
        REMOTE_ADDR: "[2001:db8::1]",
        REMOTE_PASSWD: "secret",
        REMOTE_PORT: "65535",
        REMOTE_USER: "ann",
        REQUEST_SCHEME: "https",
        SERVER_ADDR: "192.0.2.1",
        SERVER_PORT: "443"
      }))
      assert.deepStrictEqual(variables, {
        HTTPS: true,
        REMOTE_ADDR: "2001:db8::1",
        REMOTE_PORT: 65535,
        REMOTE_USER: "ann",
        REQUEST_SCHEME: "https",
        SERVER_ADDR: "192.0.2.1",
        SERVER_PORT: 443
      })
      assert.strictEqual(Redacted.value(REMOTE_PASSWD!), "secret")
    }))

  it.effect("encodes what it has decoded", () =>
    Effect.gen(function*() {
      const given = {
        CONTENT_LENGTH: "12",
        HTTPS: "off" as const,
        REMOTE_ADDR: "::1",
        REMOTE_PASSWD: "secret",
        SERVER_PORT: "80"
      }
      const variables = yield* all(params(given))
      assert.deepStrictEqual(yield* Schema.encodeEffect(CgiSchema.CgiVariables)(variables), given)
    }))

  it.effect("takes the last value of a name, which may be none", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* all(params([["REMOTE_USER", "bob"], ["REMOTE_USER", "ann"]])), {
        REMOTE_USER: "ann"
      })
      assert.deepStrictEqual(yield* all(params([["REMOTE_USER", "bob"], ["REMOTE_USER", ""]])), {})
      assert.deepStrictEqual(yield* all(params({ REMOTE_ADDR: "unix:", REMOTE_PORT: "0" })), {})
    }))

  for (
    const [name, value] of [
      ["REMOTE_PORT", "-1"],
      ["SERVER_PORT", "65536"],
      ["SERVER_PORT", "8e1"],
      ["SERVER_PORT", " 80"],
      ["CONTENT_LENGTH", "-1"],
      ["CONTENT_LENGTH", "1234567890123456"],
      ["REMOTE_ADDR", "somewhere"],
      ["HTTPS", "perhaps"],
      ["REQUEST_SCHEME", "ftp"]
    ] as const
  ) {
    it.effect(`refuses ${name}=${value}, and names it`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(all(params({ [name]: value })))
        assert.strictEqual(error._tag, "SchemaError")
        assert.include(error.message, name)
      }))
  }
})

describe("schemaVariables", () => {
  const Visitor = Schema.Struct({ REMOTE_USER: Schema.NonEmptyString, REMOTE_PORT: Schema.optionalKey(CgiSchema.Port) })
  const visitor = FastCgiHttpServer.schemaVariables(Visitor)

  it.effect("decodes what the web server says of the current request, and nothing that the client says", () =>
    Effect.gen(function*() {
      yield* Layer.build(HttpRouter.serve(
        HttpRouter.add(
          "GET",
          "/",
          visitor.pipe(
            Effect.map(({ REMOTE_PORT, REMOTE_USER }) => HttpServerResponse.text(`${REMOTE_USER} ${REMOTE_PORT}`)),
            Effect.catchTag("SchemaError", () => Effect.succeed(HttpServerResponse.text("nobody")))
          )
        ),
        { disableLogger: true, disableListenLog: true }
      ))
      const peer = yield* (yield* FastCgiTest.FastCgiMemory).peer
      const ask = (more: Readonly<Record<string, string>>) =>
        Effect.gen(function*() {
          yield* peer.request({ params: { REQUEST_METHOD: "GET", REQUEST_URI: "/", HTTP_HOST: "localhost", ...more } })
          return (yield* peer.reply()).stdout.split("\r\n\r\n")[1]
        })
      assert.strictEqual(yield* ask({ REMOTE_USER: "ann", REMOTE_PORT: "9" }), "ann 9")
      assert.strictEqual(yield* ask({ REMOTE_USER: "" }), "nobody")
      assert.strictEqual(yield* ask({ HTTP_REMOTE_USER: "eve" }), "nobody")
    }).pipe(Effect.scoped, Effect.provide(FastCgiTest.layerTest)))

  it.effect("fails over another HTTP server where a variable has to be there", () =>
    Effect.gen(function*() {
      assert.include((yield* Effect.flip(visitor)).message, "REMOTE_USER")
      assert.deepStrictEqual(yield* FastCgiHttpServer.schemaVariables(CgiSchema.CgiVariables), {})
    }).pipe(Effect.provideService(
      HttpServerRequest.HttpServerRequest,
      HttpServerRequest.fromWeb(new Request("http://localhost/", { headers: { "remote-user": "eve" } }))
    )))
})
