/**
 * The examples of the documentation compile, and those that assert something pass. Every block fenced as `ts` in the JSDoc of
 * `src`, in README.md, CONTRIBUTING.md, llms.txt and docs/*.md is written to a file of its own; one run of the compiler checks them all against the
 * sources, as a reader's project would be checked against the package.
 *
 * A block fenced as `ts no-check` is a fragment and is left alone. A block is run when it uses `assert` and nothing of
 * `effect-fastcgi/node` or of Node's servers.
 */
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { pathToFileURL } from "node:url"
import { projectFiles, projectRoot } from "../support/files.ts"

interface Example {
  /** Where it is written: `src/http/FastCgiHttpServer.ts:42`. */
  readonly place: string
  readonly code: string
  /** The file it is compiled as. */
  readonly file: string
}

// Inside the project, so that packages are found from it; one for each run, so that two runs do not meet.
const folder = Path.join(projectRoot, ".doctest", String(process.pid))

const fence = /^([ \t]*)```ts(?![a-z])[ \t]*(.*)\n([\s\S]*?)^[ \t]*```[ \t]*$/gm

const blocksOf = (text: string): ReadonlyArray<{ readonly line: number; readonly code: string }> =>
  [...text.matchAll(fence)].filter((match) => !match[2]!.includes("no-check")).map((match) => ({
    line: text.slice(0, match.index).split("\n").length,
    code: match[3]!.split("\n").map((line) => line.startsWith(match[1]!) ? line.slice(match[1]!.length) : line).join(
      "\n"
    )
  }))

/** The text of the JSDoc comments alone, every other line empty, so that line numbers stay. */
const commentsOf = (source: string): string => {
  let inside = false
  return source.split("\n").map((line) => {
    if (/^\s*\/\*\*/.test(line)) inside = true
    const text = inside ? line.replace(/^\s*(?:\/\*\*|\*\/|\*) ?/, "") : ""
    if (line.includes("*/")) inside = false
    return text
  }).join("\n")
}

const documentation = projectFiles().filter((file) =>
  /^src\/.*\.ts$/.test(file) || /^(README|CONTRIBUTING)\.md$/.test(file) || file === "llms.txt" ||
  /^docs\/.*\.md$/.test(file)
)

const examples: ReadonlyArray<Example> = documentation.flatMap((path) => {
  const text = Fs.readFileSync(Path.join(projectRoot, path), "utf8")
  return blocksOf(path.endsWith(".ts") ? commentsOf(text) : text).map(({ code, line }) => ({
    place: `${path}:${line}`,
    code,
    file: `${path.replace(/\.(ts|md|txt)$/, "").replaceAll("/", "-")}-${line}.ts`
  }))
})

const runs = (example: Example): boolean =>
  /\bassert\b/.test(example.code) &&
  !/effect-fastcgi\/node|NodeHttpServer|NodeRuntime|from "node:(net|http)/.test(example.code)

afterAll(() => Fs.rmSync(folder, { recursive: true, force: true }))
Fs.mkdirSync(folder, { recursive: true })
for (const example of examples) {
  Fs.writeFileSync(Path.join(folder, example.file), `${example.code}\nexport {}\n`)
}
Fs.writeFileSync(
  Path.join(folder, "tsconfig.json"),
  JSON.stringify({
    extends: "../../tsconfig.json",
    // An example may declare what it only shows.
    compilerOptions: { noUnusedLocals: false, noUnusedParameters: false },
    include: ["*.ts"]
  })
)

describe("examples", () => {
  it("compile", () => {
    assert.isAbove(examples.length, 0, "no example was found")
    const compiler = ChildProcess.spawnSync(
      process.execPath,
      [Path.join(projectRoot, "node_modules/typescript/bin/tsc"), "-p", folder, "--pretty", "false"],
      { cwd: folder, encoding: "utf8" }
    )
    const places = new Map(examples.map((example) => [example.file, example.place]))
    const errors = compiler.stdout.split("\n").filter((line) => line !== "").map((line) => {
      const place = places.get(Path.basename(line.slice(0, line.indexOf("("))))
      return place === undefined ? line : `${place} ${line.slice(line.indexOf("("))}`
    })
    assert.deepStrictEqual(errors, [], "line numbers in parentheses count from the fence")
    assert.strictEqual(compiler.status, 0, compiler.stderr)
  })

  const load = (example: Example): Promise<unknown> => import(pathToFileURL(Path.join(folder, example.file)).href)

  for (const example of examples.filter(runs)) {
    if (/from "@effect\/vitest"/.test(example.code)) {
      // An example of a test: it registers itself.
      describe(example.place, async () => {
        await load(example)
      })
    } else {
      it(`${example.place} holds`, async () => {
        await load(example)
      })
    }
  }

  it("are found in comments and in pages", () => {
    const source = [
      "/**",
      " * Says.",
      " *",
      " * ```ts",
      " * const a = 1",
      " *   + 1",
      " * ```",
      " */",
      "export const b = 2"
    ]
    assert.deepStrictEqual(blocksOf(commentsOf(source.join("\n"))), [{ line: 4, code: "const a = 1\n  + 1\n" }])
    assert.deepStrictEqual(blocksOf("a\n```ts\nb\n```\n```ts no-check\nc\n```\n```sh\nd\n```\n"), [{
      line: 2,
      code: "b\n"
    }])
  })
})
