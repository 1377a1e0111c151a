/**
 * What no file of the project may say: a path that exists only where it was written, or where packages are downloaded from.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectFiles, projectRoot } from "../support/files.ts"

// Put together from parts, because this file is read too.
const forbidden: ReadonlyArray<readonly [string, RegExp]> = [
  // "stranger" lives on the machine that test/support/machine.ts makes.
  ["a home folder", new RegExp(`(?<![\\w.$}-])/(?:${"ro" + "ot"}|home/(?!stranger/)[a-z]+|Users/[a-z]+)/`)],
  [
    "a folder of one machine",
    new RegExp(`(?<![\\w.$}-])/(?:${"wo" + "rk"}/|tmp/${"bash" + "_jobs"}|tmp/${"br" + "ief"})`)
  ],
  [
    "a package registry's host",
    new RegExp(`registry\\.${"npm"}js\\.org|registry\\.${"yarn"}pkg\\.com|npm\\.${"pkg"}\\.github`)
  ]
]

const isText = (bytes: Uint8Array): boolean => !bytes.subarray(0, 8192).includes(0)

const objections = (text: string): ReadonlyArray<string> =>
  text.split("\n").flatMap((line, index) =>
    forbidden.flatMap(([what, pattern]) =>
      pattern.test(line) ? [`${index + 1}: ${what}: ${line.trim().slice(0, 120)}`] : []
    )
  )

describe("the project's files", () => {
  it("name no path of one machine and no registry", () => {
    const files = projectFiles()
    assert.include(files, "package.json")
    const wrong = files.flatMap((file) => {
      const bytes = Fs.readFileSync(Path.join(projectRoot, file))
      return isText(bytes) ? objections(bytes.toString("utf8")).map((line) => `${file}:${line}`) : []
    })
    assert.deepStrictEqual(wrong, [])
  })

  it("would be caught naming one", () => {
    for (
      const line of [
        `"/${"ro" + "ot"}/x"`,
        `cd /${"wo" + "rk"}/x`,
        `https://registry.${"npm"}js.org/x`,
        `/${"home"}/me/x`
      ]
    ) {
      assert.strictEqual(objections(line).length, 1, line)
    }
    for (const line of ["/srv/www/app", "./work/x", "path/root/x", "/run/app.sock", "homework/"]) {
      assert.strictEqual(objections(line).length, 0, line)
    }
  })

  it("lock packages by version and hash, not by where they were downloaded from", () => {
    const lock = JSON.parse(Fs.readFileSync(Path.join(projectRoot, "package-lock.json"), "utf8")) as {
      readonly packages: Record<string, { readonly resolved?: string; readonly integrity?: string }>
    }
    const names = Object.keys(lock.packages).filter((name) => name !== "")
    assert.isAbove(names.length, 20)
    assert.deepStrictEqual(names.filter((name) => lock.packages[name]!.resolved !== undefined), [])
    assert.deepStrictEqual(names.filter((name) => lock.packages[name]!.integrity === undefined), [])
  })
})
