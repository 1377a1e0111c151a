/**
 * The reference: a page for every public module, made of the compiler's declarations and of the docstrings in front of
 * them. TypeDoc does not run on TypeScript 7.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { parseAst } from "rolldown/parseAst"
import type { Page } from "./pages.ts"
import { declarations, root } from "./paths.ts"

/** What a module exports under one name: a type and a value may share it. */
export interface Export {
  readonly name: string
  readonly category: string
  /** As in a `.d.ts`, one after the other. */
  readonly declarations: ReadonlyArray<string>
  /** Markdown. */
  readonly text: string
}

export interface Module {
  readonly name: string
  /** `effect-fastcgi/http`. */
  readonly from: string
  /** The page without its ending: `api/http/FastCgiLogger`. */
  readonly path: string
  /** Markdown. */
  readonly text: string
  readonly exports: ReadonlyArray<Export>
}

/** What is imported from one place. */
export interface Entry {
  readonly from: string
  readonly path: string
  readonly text: string
  readonly modules: ReadonlyArray<Module>
}

interface Node {
  readonly type: string
  readonly start: number
  readonly end: number
  readonly [key: string]: unknown
}

const read = (file: string): string => Fs.readFileSync(Path.resolve(root, file), "utf8")

const parse = (text: string, lang: "ts" | "dts"): ReadonlyArray<Node> =>
  parseAst(text, { lang }).body as unknown as ReadonlyArray<Node>

// ---------------------------------------------------------------------------------------------------------------------
// Docstrings
// ---------------------------------------------------------------------------------------------------------------------

interface Docstring {
  readonly text: string
  readonly category: string
}

/** The docstring that ends the text, which is what stands in front of a declaration. */
const docstringBefore = (text: string): Docstring => {
  const comment = /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*$/.exec(text)?.[1] ?? ""
  const lines = comment.split("\n").map((line) => line.replace(/^\s*\* ?/, ""))
  const isTag = (line: string) => /^@(category|since)\b/.test(line)
  return {
    text: lines.filter((line) => !isTag(line)).join("\n").trim(),
    category: lines.find((line) => line.startsWith("@category "))?.slice("@category ".length).trim() ?? "exports"
  }
}

/** The first docstring of a file, which is about the module. */
const aboutModule = (source: string): string => docstringBefore(/^\/\*\*[\s\S]*?\*\//.exec(source)?.[0] ?? "").text

// ---------------------------------------------------------------------------------------------------------------------
// Declarations
// ---------------------------------------------------------------------------------------------------------------------

/** A class as it is written, without what its methods do: the compiler puts its base class into a name that nobody knows. */
const classesOf = (source: string): ReadonlyMap<string, string> =>
  new Map(
    parse(source, "ts").flatMap((node) => {
      const declaration = node["declaration"] as Node | null | undefined
      if (declaration?.type !== "ClassDeclaration") return []
      const members = (declaration["body"] as { readonly body: ReadonlyArray<Node> }).body
      let text = ""
      let at = declaration.start
      for (const member of members) {
        const body = (member["value"] as { readonly body?: Node | null } | null | undefined)?.body ?? undefined
        if (member.type !== "MethodDefinition" || body === undefined) continue
        text += source.slice(at, body.start).trimEnd()
        at = body.end
      }
      const { name } = declaration["id"] as unknown as { readonly name: string }
      return [[name, `export ${text}${source.slice(at, declaration.end)}`] as const]
    })
  )

const namesOf = (declaration: Node): ReadonlyArray<string> =>
  declaration.type === "VariableDeclaration"
    ? (declaration["declarations"] as ReadonlyArray<{ readonly id: { readonly name: string } }>).map(({ id }) =>
      id.name
    )
    : [(declaration["id"] as { readonly name: string }).name]

/** The docstrings of members, in lines that a narrow page has room for. */
const wrapComments = (declaration: string): string =>
  declaration.replace(/^([ \t]*)\/\*\*((?:(?!\*\/)[\s\S])*)\*\//gm, (comment, indent: string, content: string) => {
    const text = content.replace(/^\s*\* ?/gm, "").trim()
    if (/^\s*(```|- |\d\. )/m.test(text)) return comment
    const lines = text.split(/\n\s*\n/).flatMap((paragraph, index) => [
      ...(index === 0 ? [] : [""]),
      ...wrapped(paragraph.split(/\s+/), 76 - indent.length)
    ])
    return lines.length === 1
      ? `${indent}/** ${lines[0]} */`
      : `${indent}/**\n${lines.map((line) => `${indent} * ${line}`.trimEnd()).join("\n")}\n${indent} */`
  })

const wrapped = (words: ReadonlyArray<string>, width: number): ReadonlyArray<string> => {
  const lines: Array<string> = []
  for (const word of words) {
    const last = lines.at(-1)
    if (last === undefined || last.length + word.length >= width) lines.push(word)
    else lines[lines.length - 1] = `${last} ${word}`
  }
  return lines
}

const exportsOf = (text: string, source: string): ReadonlyArray<Export> => {
  const classes = classesOf(source)
  const exports = new Map<string, { category: string; declarations: Array<string>; text: string }>()
  let end = 0
  for (const node of parse(text, "dts")) {
    const before = text.slice(end, node.start)
    end = node.end
    const declaration = (node["declaration"] as Node | null | undefined) ?? undefined
    if (node.type !== "ExportNamedDeclaration" || declaration === undefined) continue
    const docstring = docstringBefore(before)
    for (const name of namesOf(declaration)) {
      const written = wrapComments(
        (declaration.type === "ClassDeclaration" ? classes.get(name) : undefined) ??
          text.slice(node.start, node.end).replace(/^export declare /, "export ")
      )
      const known = exports.get(name)
      if (known === undefined) {
        exports.set(name, { ...docstring, declarations: [written] })
      } else {
        known.declarations.push(written)
        if (docstring.text !== known.text) known.text = `${known.text}\n\n${docstring.text}`.trim()
      }
    }
  }
  return Array.from(exports, ([name, rest]) => ({ name, ...rest }))
}

// ---------------------------------------------------------------------------------------------------------------------
// Modules
// ---------------------------------------------------------------------------------------------------------------------

const namespace = /^export \* as (\w+) from "\.\/(.*)\.ts"$/gm

/** Every entry of package.json's "exports" with its modules, in order. The compiler has written its declarations. */
export const entries = (): ReadonlyArray<Entry> => {
  const manifest = JSON.parse(read("package.json")) as {
    readonly name: string
    readonly exports: Readonly<Record<string, { readonly types: string } | string | null>>
  }
  return Object.entries(manifest.exports).flatMap(([key, target]) => {
    if (typeof target === "string" || target === null) return []
    const from = key.replace(/^\./, manifest.name)
    const path = `api/${key === "." ? "core" : key.slice(2)}`
    const index = target.types.replace(/^\.\/dist\//, "src/").replace(/\.d\.ts$/, ".ts")
    const source = read(index)
    const folder = Path.posix.dirname(index)
    const modules = Array.from(source.matchAll(namespace), ([, name, file]): Module => {
      const module = Path.posix.join(folder, file!)
      const text = read(`${module}.ts`)
      return {
        name: name!,
        from,
        path: `${path}/${name}`,
        text: aboutModule(text),
        exports: exportsOf(read(`${module.replace(/^src/, declarations)}.d.ts`), text)
      }
    })
    return [{ from, path, text: aboutModule(source), modules: modules.sort((a, b) => a.name < b.name ? -1 : 1) }]
  })
}

/** The page of a module, or of one of its exports, by the words of the docs: `FastCgiLogger`, `FastCgiLogger.layer`. */
export const addresses = (all: ReadonlyArray<Entry>): ReadonlyMap<string, string> =>
  new Map(
    all.flatMap(({ from, modules, path }) => [
      [from, `/${path}/index.md`] as const,
      ...modules.flatMap((module) => [
        [module.name, `/${module.path}.md`] as const,
        ...module.exports.map(({ name }) => [`${module.name}.${name}`, `/${module.path}.md#${name}`] as const)
      ])
    ])
  )

// ---------------------------------------------------------------------------------------------------------------------
// Pages
// ---------------------------------------------------------------------------------------------------------------------

const firstSentence = (text: string): string =>
  /^[\s\S]*?[.:](?=\s|$)/.exec(text)?.[0].replace(/\s+/g, " ").replace(/:$/, ".") ?? ""

const capitalized = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)

/** What it is, then how it is declared, then everything else. */
const around = (text: string, declaration: string): ReadonlyArray<string> => {
  const [first, ...rest] = text.split(/\n\n/)
  return [first!, declaration, ...rest]
}

const modulePage = ({ exports, from, name, path, text }: Module): Page => {
  const categories = [...new Set(exports.map(({ category }) => category))]
  return {
    path: `${path}.md`,
    text: [
      `# ${name}`,
      text,
      `\`\`\`ts\nimport { ${name} } from "${from}"\n\`\`\``,
      ...categories.flatMap((category) => [
        // A category may be called like an export; `:` occurs in no name.
        `## ${capitalized(category)} {:#category:${category.replaceAll(" ", "-")}:}`,
        ...exports.filter((other) => other.category === category).flatMap((one) => [
          `### ${one.name} {:#${one.name}:}`,
          ...around(one.text, `\`\`\`ts\n${one.declarations.join("\n\n")}\n\`\`\``)
        ])
      ])
    ].join("\n\n")
  }
}

const entryPage = ({ from, modules, path, text }: Entry): Page => ({
  path: `${path}/index.md`,
  text: `# ${from}\n\n${text}\n\n${listOf(modules)}`
})

const listOf = (modules: ReadonlyArray<Module>): string =>
  modules.map(({ name, path, text }) => `- [${name}](/${path}.md): ${firstSentence(text)}\n`).join("")

/** The places to import from, for the front page. */
export const listOfEntries = (all: ReadonlyArray<Entry>): string =>
  `## Reference\n\n${
    all.map(({ from, path, text }) => `- [\`${from}\`](/${path}/index.md): ${firstSentence(text)}\n`).join("")
  }`

/** The pages of the reference, without the look that `dprint` gives their declarations. */
export const pagesOfReference = (all: ReadonlyArray<Entry>): ReadonlyArray<Page> => [
  {
    path: "api/index.md",
    text: `# Reference\n\nWhat each module exports, with its declarations and docstrings.\n\n${
      all.map((entry) => `## ${entry.from}\n\n${entry.text}\n\n${listOf(entry.modules)}`).join("\n")
    }`
  },
  ...all.flatMap((entry) => [entryPage(entry), ...entry.modules.map(modulePage)])
]
