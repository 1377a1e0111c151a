/**
 * The commands that docs/performance.md says to repeat its figures with. A whole run takes an hour. With FULL=1 one of them is run, as
 * short as can be; otherwise what they ask for is looked up.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../support/files.ts"
import * as Pages from "../support/pages.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"

const commands = Pages.stepsOf(Pages.read("docs/performance.md"))
  .flatMap((step) => step._tag === "Command" ? [step.command] : [])

const scripts = (JSON.parse(Fs.readFileSync(Path.join(projectRoot, "package.json"), "utf8")) as {
  readonly scripts: Readonly<Record<string, string>>
}).scripts

/** The program of a command `npm run NAME -- …`, with its arguments and more. */
const run = (command: string, ...more: ReadonlyArray<string>) => {
  const [, name = "", rest = ""] = /^npm run (\S+)(?: -- (.*))?$/.exec(command) ?? []
  const [, file = ""] = /^node (\S+)$/.exec(scripts[name] ?? "") ?? []
  const args = Array.from(rest.matchAll(/"([^"]*)"|(\S+)/g), ([, quoted, plain]) => quoted ?? plain!)
  return Effect.filterOrFail(
    WebServers.run({ name: command, command: process.execPath, args: [file, ...args, ...more], cwd: projectRoot }),
    ({ code }) => code === 0
  )
}

it("has the packages that the tests have, but for Go", () => {
  const wanted = commands[0]!.replace("apt-get install ", "").split(" ")
  const [, packages = ""] = /^packages=\(([^)]*)\)/m.exec(
    Fs.readFileSync(Path.join(projectRoot, ".ci/run"), "utf8")
  ) ?? []
  const missing = wanted.filter((name) => !packages.split(/\s+/).includes(name))
  assert.deepStrictEqual(missing, ["golang-go"])
  assert.strictEqual(commands[1], "npm ci")
  assert.deepStrictEqual(commands.slice(2).map((command) => command.split(" ").slice(0, 3).join(" ")), [
    "npm run bench",
    "npm run bench",
    "npm run soak"
  ])
})

it.live("asks for what there is", () =>
  Effect.gen(function*() {
    const { log } = yield* run(commands[2]!, "--list")
    // Options that there are not fail.
    yield* run(commands[3]!, "--list")
    yield* run(commands[4]!, "--help")
    const [, only = ""] = /--only "([^"]*)"/.exec(commands[3]!) ?? []
    assert.isAbove(log.split("\n").filter((line) => line.startsWith("  ") && line.includes(only)).length, 0)
  }))

describeWith(["nginx", "wrk", "gcc"], "the benchmark", () => {
  it.live.skipIf(process.env["FULL"] !== "1")(
    "measures, and writes what it has measured",
    () =>
      Effect.gen(function*() {
        const file = Path.join(yield* WebServers.temporaryDirectory, "out.json")
        yield* run(commands[3]!.replace("out.json", file), "--starts", "1", "--rounds", "1", "--seconds", "1")
        assert.include(Fs.readFileSync(file, "utf8"), "upstream kept")
      }).pipe(Effect.scoped)
  )
})
