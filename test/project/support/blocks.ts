/**
 * The blocks of code on the pages, and the test that runs, compiles or compares each of them.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectFiles, projectRoot } from "../../support/files.ts"
import * as Pages from "../../support/pages.ts"

/** A block of code. */
export interface Block {
  readonly page: string
  readonly line: number
  readonly language: string
  /** `ts no-check` has `no-check`. */
  readonly info: string
  readonly content: string
}

/** The blocks of a page that are fenced, indented ones of lists included. */
export const blocksOf = (page: string, text: string): ReadonlyArray<Block> =>
  Array.from(
    text.matchAll(/^( *)```(\w*) ?([^\n]*)\n([\s\S]*?)^ *```$/gm),
    ({ 1: indent = "", 2: language = "", 3: info = "", 4: content = "", index }) => ({
      page,
      line: text.slice(0, index).split("\n").length,
      language,
      info,
      content: content.split("\n").map((line) => line.startsWith(indent) ? line.slice(indent.length) : line).join("\n")
    })
  )

/** All blocks of README.md and docs/. */
export const blocks: ReadonlyArray<Block> = projectFiles()
  .filter((file) => file === "README.md" || /^docs\/[^/]+\.md$/.test(file))
  .flatMap((page) => blocksOf(page, Pages.read(page)))

/** The test of a block, or why there is none, or undefined where somebody has to think about it. */
export const testOf = (block: Block): string | undefined => {
  if (block.language === "ts" && block.info !== "no-check") return "test/project/examples.test.ts"
  return wholePages[block.page]?.(block) ?? listed(block) ?? byTitle(block) ?? byFile(block) ?? byCommands(block)
}

/** What no test here can run, each with its reason. */
export const byHand: ReadonlyArray<readonly [page: string, start: string, reason: string]> = []

/** Tests that make the block's text in a way that cannot be seen in it: each has the words. */
export const tests: ReadonlyArray<readonly [page: string, start: string, test: string, words: string]> = [
  ["", "sudo install -d -o \"$USER\" -g", "test/servers/paths.test.ts", "sudo install -d -o"],
  [
    "",
    "npm install effect-fastcgi effect @effect/platform-node",
    "test/servers/paths.test.ts",
    "npm install effect-fastcgi"
  ],
  ["README.md", "node main.ts", "test/servers/paths.test.ts", "node main.ts"],
  ["README.md", "npm ci && npm start", "test/examples/browser.test.ts", "npm start"],
  ["docs/cgi.md", "#!/bin/sh\n# app.cgi", "test/servers/cgi.test.ts", "# app\\.cgi"],
  ["docs/client.md", "FASTCGI_UPSTREAM=", "test/node/config.test.ts", "FASTCGI_UPSTREAM"],
  ["docs/containers.md", "environment:", "test/examples/docker.test.ts", "environment:"],
  ["docs/containers.md", "docker build", "test/examples/docker.test.ts", "docs/containers.md"],
  ["docs/conformance.md", "npx effect-fastcgi conformance", "test/conformance/command.test.ts", "conformance"],
  ["docs/frameworks.md", "// app.js: ", "test/servers/paths.test.ts", "app.js: ${name}"],
  ["docs/frameworks.md", "// server.js: Next", "test/servers/paths.test.ts", "server.js: Next"],
  ["docs/health-checks.md", "ping.path = /ping", "test/client/phpFpm.ts", "ping.path = /ping"],
  ["docs/health-checks.md", "npx effect-fastcgi ping", "test/cli/health.test.ts", "--response"],
  ["docs/migrating.md", " // app.js", "test/servers/paths.test.ts", "diffs[0]"],
  ["docs/migrating.md", " # /etc/nginx", "test/servers/paths.test.ts", "diffs[1]"],
  [
    "docs/operations.md",
    "cp node_modules/effect-fastcgi/examples/operations",
    "test/servers/paths.test.ts",
    "cp node_modules/effect-fastcgi"
  ],
  ["docs/performance.md", "apt-get install nginx wrk", "test/servers/bench.test.ts", "docs/performance.md"],
  ["docs/scale-out.md", "node examples/cluster/main.ts", "test/examples/cluster.test.ts", "examples/cluster/main.ts"],
  ["docs/scale-out.md", "DATABASE_URL=", "test/examples/hosts.test.ts", "hosts.ts"],
  [
    "docs/starting.md",
    "npx effect-fastcgi request /run/app/app.sock /",
    "test/servers/paths.test.ts",
    "npx effect-fastcgi request /run/app/app.sock /"
  ],
  ["docs/starting.md", "#!/bin/sh\n# a wrapper script", "test/servers/starting.test.ts", "# a wrapper script"],
  ["docs/starting.md", "# one file", "test/servers/startUp.test.ts", "docs/starting.md"],
  ["docs/testing.md", "npm install --save-dev vitest", "test/servers/tutorial.test.ts", "docs/tutorial.md"],
  [
    "docs/tools.md",
    "npx effect-fastcgi --help",
    "test/servers/paths.test.ts",
    "npx effect-fastcgi request /run/app.sock"
  ]
]

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

/** Pages of which one test takes every step, or every block of a kind. */
const wholePages: Readonly<Record<string, (block: Block) => string | undefined>> = {
  "docs/tutorial.md": () => "test/servers/tutorial.test.ts",
  "docs/tools.md": ({ language }) => language === "console" ? "test/cli/docs.test.ts" : undefined,
  "docs/architecture.md": ({ language }) => language === "" ? "none: a drawing" : undefined
}

const read = (file: string) => Fs.readFileSync(Path.join(projectRoot, file), "utf8")

const listed = (block: Block): string | undefined => {
  const isIt = ([page, start]: readonly [string, string, ...ReadonlyArray<string>]) =>
    (page === "" || page === block.page) && block.content.startsWith(start)
  const reason = byHand.find(isIt)
  if (reason !== undefined) return `none: ${reason[2]}`
  const found = tests.find(isIt)
  return found === undefined || !read(found[2]).includes(found[3]) ? undefined : found[2]
}

/** What tests have in quotes, of those that run something. */
const quoted = projectFiles()
  .filter((file) => /^test\/(?:servers|examples|node|cli|php)\/.*\.ts$/.test(file))
  .map((file) => {
    const text = read(file)
    const words = Array.from(text.matchAll(/"((?:[^"\\\n]|\\.)+)"/g), ([, one]) => one!.replace(/\\(.)/g, "$1"))
    return { file, text, words }
  })

const titleOf = ({ content }: Block): string | undefined => {
  const [first = ""] = content.split("\n")
  return /^(?:#|\/\/) /.test(first) ? first : undefined
}

const isTitle = (words: string, line: string): boolean =>
  words.length >= 8 && words.includes(" ") && [": ", ", ", "# ", "// "].some((before) => line.includes(before + words))

/** A test of the page asks for the title that the block's first line has, and that no other block of the page has. */
const byTitle = (block: Block): string | undefined => {
  const title = titleOf(block)
  if (title === undefined) return undefined
  const name = Path.basename(block.page, ".md")
  const others = blocks.filter((other) =>
    other !== block && other.page === block.page && other.language === block.language
  )
  return quoted.find(({ text, words }) =>
    (text.includes(block.page) || text.includes(`"${name}"`) || text.includes(`./${name}.ts`)) &&
    words.some((one) => isTitle(one, title) && !others.some((other) => isTitle(one, titleOf(other) ?? "")))
  )?.file
}

/** An example has the same lines, and its test runs the example. */
const byFile = ({ content }: Block): string | undefined => {
  const lines = (text: string) => text.split("\n").map((line) => line.trim()).filter((line) => line !== "").join("\n")
  const wanted = lines(content)
  return wanted.length < 40 ?
    undefined :
    projectFiles().find((file) =>
      /^examples\/.*\.(?:ts|ya?ml|php|conf|service|socket)$|Dockerfile$/.test(file) &&
      lines(read(file)).includes(wanted)
    )
}

/** Tests run each of its commands. */
const byCommands = (block: Block): string | undefined => {
  if (block.language !== "sh") return undefined
  const files = Pages.stepsOf(`\`\`\`sh\n${block.content}\`\`\`\n`).map((step) =>
    step._tag === "Command" ? quoted.find(({ words }) => words.includes(step.command))?.file : undefined
  )
  return files.includes(undefined) ? undefined : files[0]
}
