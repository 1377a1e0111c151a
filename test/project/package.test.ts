/**
 * A fresh clone, after `npm ci`: its examples run, and what it packs is whole. Every relative link of its pages leads to something
 * that is in the package, and sources are in it once.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { projectFiles, projectRoot } from "../support/files.ts"

interface Packed {
  readonly files: ReadonlyArray<{ readonly path: string }>
}

const clone = Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-fastcgi-clone-"))

const run = (command: string, ...args: ReadonlyArray<string>) => {
  const { status, stderr, stdout } = ChildProcess.spawnSync(command, args, {
    cwd: clone,
    encoding: "utf8",
    // Node 22 calls its SQLite experimental, in a line of its own.
    env: { ...process.env, NODE_NO_WARNINGS: "1" },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 60_000
  })
  return { status, stderr, stdout }
}

/** What `npm pack` puts into the tarball. */
const packed = (): ReadonlyArray<string> => {
  const npm = run("npm", "pack", "--dry-run", "--json", "--ignore-scripts")
  assert.strictEqual(npm.status, 0, npm.stderr)
  // An array up to npm 11, and an object by the packages' names after it.
  const answer = JSON.parse(npm.stdout) as ReadonlyArray<Packed> | Record<string, Packed>
  return Object.values(answer)[0]!.files.map(({ path }) => path)
}

/** Without blocks of code, in which brackets and parentheses are no links, and `#` is no heading. */
const prose = (page: string) => page.replace(/^([ \t]*)(`{3,})[\s\S]*?^\1\2[ \t]*$/gm, "").replace(/`[^`\n]*`/g, "code")

const linksOf = (page: string): ReadonlyArray<string> =>
  [...prose(page).matchAll(/\]\(([^()\s]+)\)/g)].map((match) => match[1]!).filter((link) => !/^[a-z]+:/.test(link))

/** The anchors of a page's headings, as GitHub and npm make them. */
const anchorsOf = (page: string): ReadonlySet<string> => {
  const headings = page.replace(/^([ \t]*)(`{3,})[\s\S]*?^\1\2[ \t]*$/gm, "").matchAll(/^#{1,6} (.*)$/gm)
  return new Set(
    Array.from(
      headings,
      (match) =>
        match[1]!.toLowerCase().replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").replace(/[^\p{L}\p{N}\p{M}_ -]/gu, "")
          .replaceAll(" ", "-")
    )
  )
}

const read = (file: string) => Fs.readFileSync(Path.join(clone, file), "utf8")

/** What is wrong with the links of a page, where only `files` are there. */
const broken = (file: string, page: string, files: ReadonlyArray<string>): ReadonlyArray<string> =>
  linksOf(page).flatMap((link) => {
    const [path, anchor] = link.split("#") as [string, string | undefined]
    const target = path === "" ? file : Path.posix.join(Path.posix.dirname(file), path)
    if (!files.includes(target)) {
      const isFolder = files.some((other) => other.startsWith(`${target}/`))
      return isFolder && anchor === undefined ? [] : [`${file}: ${link} leads to nothing`]
    }
    return anchor === undefined || anchorsOf(target === file ? page : read(target)).has(anchor)
      ? []
      : [`${file}: ${link} leads to no heading`]
  })

describe("a fresh clone", () => {
  let files: ReadonlyArray<string>
  let pages: ReadonlyArray<string>

  beforeAll(() => {
    for (const file of projectFiles()) {
      Fs.mkdirSync(Path.dirname(Path.join(clone, file)), { recursive: true })
      Fs.copyFileSync(Path.join(projectRoot, file), Path.join(clone, file))
    }
    Fs.symlinkSync(Path.join(projectRoot, "node_modules"), Path.join(clone, "node_modules"))
    // What `npm ci` does last.
    const prepare = run("npm", "run", "--silent", "prepare")
    assert.strictEqual(prepare.status, 0, prepare.stdout + prepare.stderr)
    files = packed()
    pages = files.filter((file) => file.endsWith(".md") || file === "llms.txt")
  })

  afterAll(() => Fs.rmSync(clone, { recursive: true, force: true }))

  it("has examples that say at --help what they take, and show no stack trace for what they do not", () => {
    const examples = projectFiles().filter((file) => /^examples\/.*\/main\.(ts|js)$/.test(file))
    assert.isAtLeast(examples.length, 2)
    for (const example of examples) {
      const help = run(process.execPath, example, "--help")
      assert.deepStrictEqual([help.status, help.stderr], [0, ""], example)
      assert.match(help.stdout, /--help/, example)
      if (!help.stdout.includes("\nOptions\n")) continue
      const wrong = run(process.execPath, example, "--nonsense")
      assert.strictEqual(wrong.status, 2, example)
      assert.include(wrong.stderr, "--nonsense", example)
      assert.include(wrong.stderr, help.stdout.trim(), example)
      assert.notMatch(wrong.stderr, /^\s+at /m, example)
    }
  })

  it("packs every page of the project, and everything that one of them leads to", () => {
    const all = projectFiles().filter((file) => file.endsWith(".md") && !file.startsWith("test/"))
    assert.deepStrictEqual(all.filter((file) => !pages.includes(file)), [])
    assert.isAbove(pages.length, 15)
    assert.isAbove(pages.flatMap((file) => linksOf(read(file))).length, 50)
    assert.deepStrictEqual(pages.flatMap((file) => broken(file, read(file), files)), [])
  })

  it("leads assistants to every page of docs", () => {
    const links = linksOf(read("llms.txt"))
    assert.deepStrictEqual(pages.filter((file) => file.startsWith("docs/") && !links.includes(file)), [])
  })

  it("tells contributors of commands that there are", () => {
    const page = read("CONTRIBUTING.md")
    const { scripts } = JSON.parse(read("package.json")) as { readonly scripts: Readonly<Record<string, string>> }
    const named = [...page.matchAll(/npm run ([\w:-]+)/g)].map((match) => match[1]!)
    assert.isAtLeast(named.length, 3)
    assert.deepStrictEqual(named.filter((name) => scripts[name] === undefined), [])
    const tests = projectFiles().filter((file) => file.endsWith(".test.ts"))
    const filters = [...page.matchAll(/vitest run ((?:test\/[\w/]+ ?)+)/g)].flatMap((match) =>
      match[1]!.trim().split(" ")
    )
    assert.isAtLeast(filters.length, 10)
    assert.deepStrictEqual(filters.filter((filter) => !tests.some((file) => file.includes(filter))), [])
  })

  it("packs sources once, and one kind of source maps, which lead to them", () => {
    assert.include(files, "src/index.ts")
    assert.deepStrictEqual(files.filter((file) => file.endsWith(".js.map")), [])
    const maps = files.filter((file) => file.endsWith(".map"))
    assert.isAbove(maps.length, 50)
    for (const file of maps) {
      const map = JSON.parse(read(file)) as {
        readonly sources: ReadonlyArray<string>
        readonly sourcesContent?: unknown
      }
      assert.isUndefined(map.sourcesContent, file)
      for (const source of map.sources) assert.include(files, Path.posix.join(Path.posix.dirname(file), source))
    }
  })

  it("packs no tests", () => {
    assert.deepStrictEqual(files.filter((file) => /^(test|scripts|node_modules|\.)/.test(file)), [])
  })

  it("would be caught leading nowhere", () => {
    const page =
      "# One `two`, three\n[a](#one-two-three) [b](b.md) [c](../x/y.md#z) [d](sub) [e](https://example.org)\n" +
      "```md\n[f](f.md)\n```\n`[g](g.md)`\n"
    assert.deepStrictEqual(linksOf(page), ["#one-two-three", "b.md", "../x/y.md#z", "sub"])
    assert.deepStrictEqual(broken("docs/a.md", page, ["docs/a.md", "docs/sub/x.md"]), [
      "docs/a.md: b.md leads to nothing",
      "docs/a.md: ../x/y.md#z leads to nothing"
    ])
    assert.deepStrictEqual(broken("a.md", "[a](#b)", ["a.md"]), ["a.md: #b leads to no heading"])
  })
})
