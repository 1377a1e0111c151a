/**
 * The pages of docs/ as pages of the site, and with them every file of the project that one of them leads to, so that the site
 * leads nowhere else: a text as a page, a program as its source, a folder as the list of what is in it.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { changeLinks } from "./links.ts"
import { documents } from "./map.ts"
import { root } from "./paths.ts"

/** A page of the site: where it is below the folder of pages, and its Markdown. */
export interface Page {
  readonly path: string
  readonly text: string
}

const { dirname, join, relative } = Path.posix

const kindOf = (file: string): "text" | "source" | "folder" =>
  Fs.statSync(Path.join(root, file)).isDirectory() ? "folder" : file.endsWith(".md") ? "text" : "source"

/** The page of a file of the project. */
const pageOf = (file: string): string => {
  if (file === "docs/README.md") return "index.md"
  const kind = kindOf(file)
  if (kind === "text") return file.startsWith("docs/") ? file.slice("docs/".length) : `project/${file}`
  return kind === "folder" ? `project/${file}/index.md` : `project/${file}.md`
}

const languages: Readonly<Record<string, string>> = {
  ".c": "c",
  ".js": "js",
  ".json": "json",
  ".lua": "lua",
  ".service": "ini",
  ".socket": "ini",
  ".sh": "sh",
  ".ts": "ts",
  ".yml": "yaml"
}

/** What a file that is no Markdown looks like as a page. */
const sourcePage = (file: string): string => {
  const text = Fs.readFileSync(Path.join(root, file), "utf8")
  const fence = "`".repeat(Math.max(3, ...Array.from(text.matchAll(/`{3,}/g), ([ticks]) => ticks.length + 1)))
  return `# ${file}\n\n${fence}${languages[Path.extname(file)] ?? "txt"}\n${text.trimEnd()}\n${fence}\n`
}

/** The names in a folder. Files whose names begin with a dot are no pages. */
const folderPage = (folder: string): string => {
  const names = Fs.readdirSync(Path.join(root, folder)).filter((name) => !name.startsWith(".")).sort()
  return `# ${folder}\n\n${names.map((name) => `- [${name}](${name})\n`).join("")}`
}

// Not written by people who read the page, as the list of limits in docs/architecture.md; not part of what is read.
const comments = /^<!--.*-->\n/gm

const textOf = (file: string): string => {
  switch (kindOf(file)) {
    case "text":
      return Fs.readFileSync(Path.join(root, file), "utf8").replace(comments, "")
    case "source":
      return sourcePage(file)
    case "folder":
      return folderPage(file)
  }
}

const front = (text: string, more: string): string => `---\npageClass: front\n---\n\n${text}\n${more}`

/** What is only shown is not searched: a reader looks for a page. */
const shown = (text: string): string => `---\nsearch: false\n---\n\n${text}`

/** All pages but those of the reference. The front page ends with `more`. Throws when a page leads to nothing. */
export const pagesOfFiles = (more: string): ReadonlyArray<Page> => {
  const files = ["docs/README.md", ...documents().map((name) => `docs/${name}`)]
  const pages: Array<Page> = []
  // It grows on the way, by the files that the ones before lead to.
  for (const file of files) {
    const path = pageOf(file)
    const folder = kindOf(file) === "folder" ? file : dirname(file)
    const text = changeLinks(textOf(file), (link) => {
      const [target, anchor] = link.split("#") as [string, string | undefined]
      if (target === "") return link
      const to = join(folder, target).replace(/\/$/, "")
      if (to.startsWith("..") || !Fs.existsSync(Path.join(root, to))) {
        throw new Error(`${file} leads to ${link}, which is not there`)
      }
      if (!files.includes(to)) files.push(to)
      return `${relative(dirname(path), pageOf(to))}${anchor === undefined ? "" : `#${anchor}`}`
    })
    pages.push({
      path,
      text: path === "index.md" ? front(text, more) : path.startsWith("project/") ? shown(text) : text
    })
  }
  return pages
}
