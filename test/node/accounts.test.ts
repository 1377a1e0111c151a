/**
 * The ids of users and groups by name.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { findId, idIn } from "../../src/node/internal/accounts.ts"
import { temporaryDirectory } from "./sockets.ts"

it("finds the line of a name, and no other one", () => {
  const lines =
    "root:x:0:0:root:/root:/bin/sh\n# www:x:1\nwww-data:x:33:33::/var/www:\nbad:x::\nworse:x:-5:1\n+::::::\n"
  assert.deepStrictEqual(
    ["root", "www-data", "www", "bad", "worse", "+", "33", ""].map((name) => idIn(lines, name)),
    [0, 33, undefined, undefined, undefined, undefined, undefined, undefined]
  )
})

it.live("asks getent for a name that the files do not have, and takes digits for an id then", () =>
  Effect.gen(function*() {
    const directory = yield* temporaryDirectory
    // A getent of the test, first on the path, that knows one more user.
    Fs.writeFileSync(
      Path.join(directory, "getent"),
      "#!/bin/sh\n[ \"$1 $2\" = \"passwd far-away\" ] && echo far-away:*:70001:70001:::\n",
      { mode: 0o755 }
    )
    const before = process.env["PATH"]
    process.env["PATH"] = `${directory}:${before}`
    yield* Effect.gen(function*() {
      assert.strictEqual(yield* findId("passwd", "far-away"), 70001)
      assert.strictEqual(yield* findId("group", "far-away"), undefined)
      assert.strictEqual(yield* findId("passwd", "root"), 0)
      assert.strictEqual(yield* findId("passwd", "70002"), 70002)
      process.env["PATH"] = `${directory}-none`
      assert.strictEqual(yield* findId("passwd", "far-away"), undefined)
    }).pipe(Effect.ensuring(Effect.sync(() => {
      process.env["PATH"] = before
    })))
  }))
