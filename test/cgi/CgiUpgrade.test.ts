import { assert, describe, it } from "@effect/vitest"
import { CgiUpgrade, FastCgiParams } from "effect-fastcgi"

describe("isCarried", () => {
  const cases: ReadonlyArray<readonly [software: string, carried: boolean]> = [
    ["lighttpd/1.4.73", false],
    ["lighttpd/1.4.74", true],
    ["lighttpd/1.4.86-dev", true],
    ["lighttpd/1.5.0", true],
    ["lighttpd/2.0.0", true],
    ["lighttpd", false],
    ["lighttpd/1.4", false],
    ["effect-fastcgi", true],
    ["effect-fastcgi/0.1.0", true],
    ["effect-fastcgi-like", false],
    ["nginx/1.22.1", false],
    ["", false]
  ]
  for (const [software, carried] of cases) {
    it(`${software} ${carried}`, () => {
      assert.strictEqual(
        CgiUpgrade.isCarried(FastCgiParams.fromEntries([["SERVER_SOFTWARE", software]])),
        carried
      )
    })
  }

  it("without a name", () => {
    assert.isFalse(CgiUpgrade.isCarried(FastCgiParams.empty))
  })
})
