/**
 * A password, and what stands for one, is in no log and in nothing that is inspected.
 */
import { assert, it } from "@effect/vitest"
import {
  CgiRequest,
  FastCgiParams,
  FastCgiRecord,
  type FastCgiRequest,
  FastCgiResponse,
  FastCgiServer
} from "effect-fastcgi"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"

const secrets = {
  REMOTE_PASSWD: "secret-1",
  HTTP_AUTHORIZATION: "Basic secret-2",
  HTTP_COOKIE: "session=secret-3",
  HTTP_PROXY_AUTHORIZATION: "secret-4",
  REDIRECT_REDIRECT_HTTP_AUTHORIZATION: "secret-5",
  HTTP_X_API_KEY: "secret-6",
  PHP_AUTH_PW: "secret-7"
}

const all = { REMOTE_USER: "ann", ...secrets, HTTP_HOST: "localhost", HTTP_X_COOKIE: "plain", __proto__x: "b" }

it("params show names and values, and nothing of a secret but that it is there", () => {
  const params = FastCgiParams.fromEntries(Object.entries(all))
  const shown = JSON.parse(JSON.stringify(params)) as Record<string, string>
  assert.deepStrictEqual(
    shown,
    { ...all, ...Object.fromEntries(Object.keys(secrets).map((name) => [name, "<redacted>"])) }
  )
  assert.notInclude(String(params), "secret")
  assert.strictEqual(String(FastCgiParams.fromEntries([["A", "b"]])), "FastCgiParams({\"A\":\"b\"})")
  // An empty one is none, and is shown as it is.
  assert.strictEqual(JSON.stringify(FastCgiParams.fromEntries([["REMOTE_PASSWD", ""]])), "{\"REMOTE_PASSWD\":\"\"}")
  // Whoever asks by name gets what came.
  assert.deepStrictEqual({ ...params.toRecord() }, { ...all })
})

it("the password is a redacted variable, empty or not", () => {
  const password = (params: Record<string, string>) =>
    CgiRequest.variables(FastCgiParams.fromEntries(Object.entries(params))).remotePassword
  assert.strictEqual(Redacted.value(password(secrets)!), "secret-1")
  assert.notInclude(`${String(password(secrets))} ${JSON.stringify(password(secrets))}`, "secret")
  assert.strictEqual(Redacted.value(password({ REMOTE_PASSWD: "" })!), "")
  assert.isUndefined(password({ REMOTE_USER: "ann" }))
})

it.effect("a request that a handler logs, in whatever form, shows no password", () =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    const writing = (format: Logger.Logger<unknown, unknown>) =>
      Logger.map(format, (line) => void lines.push(typeof line === "string" ? line : JSON.stringify(line)))
    const log = Logger.layer([writing(Logger.formatJson), writing(Logger.formatLogFmt), writing(Logger.formatSimple)])
    const server = FastCgiServer.serve({
      authorizer: (request: FastCgiRequest.Authorizer) => {
        const variables = CgiRequest.variables(request.params)
        return Effect.log(request.params, variables.remotePassword, { params: request.params }).pipe(
          Effect.annotateLogs({ params: request.params, password: variables.remotePassword }),
          Effect.as(FastCgiResponse.allow())
        )
      }
    }).pipe(Layer.provideMerge(FastCgiTest.layerMemory), Layer.provide(log))
    yield* Effect.gen(function*() {
      const peer = yield* (yield* FastCgiTest.FastCgiMemory).peer
      yield* peer.request({ role: FastCgiRecord.Role.Authorizer, params: all })
      assert.match((yield* peer.reply()).stdout, /^Status: 200 /)
    }).pipe(Effect.scoped, Effect.provide(server))
    assert.strictEqual(lines.length, 3)
    for (const line of lines) {
      assert.include(line, "ann")
      assert.notInclude(line, "secret")
    }
  }))
