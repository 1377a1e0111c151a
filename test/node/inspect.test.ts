/**
 * What Node prints of params.
 */
import { assert, it } from "@effect/vitest"
import { CgiRequest, FastCgiParams } from "effect-fastcgi"
import { inspect } from "node:util"

it("inspecting params and variables shows no password, neither as text nor as bytes", () => {
  const params = FastCgiParams.fromEntries([["REMOTE_USER", "ann"], ["REMOTE_PASSWD", "secret"]])
  // Read once, so that the text is kept beside the bytes.
  assert.strictEqual(params.get("REMOTE_PASSWD"), "secret")
  for (
    const value of [params, { params }, [CgiRequest.variables(params)], CgiRequest.variables(params).remotePassword]
  ) {
    const text = inspect(value, { depth: Infinity, showHidden: true, getters: true })
    assert.notInclude(text, "secret")
    assert.notInclude(text, "115, 101, 99, 114")
    assert.notInclude(text, "<Buffer")
  }
  assert.include(inspect(params), "REMOTE_USER: 'ann'")
})
