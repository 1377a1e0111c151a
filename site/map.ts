/**
 * The map of the pages by job, as docs/README.md has it: the site's front page and its sidebar are made of that list alone.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { root } from "./paths.ts"

export interface Job {
  readonly name: string
  readonly pages: ReadonlyArray<{ readonly name: string; readonly file: string }>
}

/** The headings of the text, each with the pages that the list below it leads to. */
export const jobsOf = (text: string): ReadonlyArray<Job> =>
  text.split(/^## /m).slice(1).map((part) => ({
    name: part.slice(0, part.indexOf("\n")),
    pages: Array.from(
      part.matchAll(/^- \[([^\]]+)\]\(([\w-]+\.md)\)/gm),
      ([, name, file]) => ({ name: name!, file: file! })
    )
  }))

/** The map. A page that is not written yet is left out. */
export const jobs = (): ReadonlyArray<Job> => jobsOf(Fs.readFileSync(Path.join(root, "docs/README.md"), "utf8"))

/** The pages of docs/ that the map should lead to. */
export const documents = (): ReadonlyArray<string> =>
  Fs.readdirSync(Path.join(root, "docs")).filter((file) => file.endsWith(".md") && file !== "README.md").sort()
