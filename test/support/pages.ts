/**
 * What a page tells its reader to write and to type, in the order of the page.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "./files.ts"

export type Step =
  | { readonly _tag: "Heading"; readonly text: string }
  /** A file, named by a comment in its first line. */
  | { readonly _tag: "File"; readonly name: string; readonly content: string }
  | { readonly _tag: "Command"; readonly command: string }
  /** A block of code that is neither. */
  | { readonly _tag: "Other"; readonly language: string; readonly content: string }

/** A page of the project, such as `docs/nginx.md`. */
export const read = (file: string): string => Fs.readFileSync(Path.join(projectRoot, file), "utf8")

const fileName = /^(?:\/\/|#) ([\w./-]+\.\w+)[:,\n]/

/** The lines of a shell that are commands: comments, whole or at the end, are for the reader. */
const commandsOf = (block: string): ReadonlyArray<string> =>
  block.split("\n").map((line) => line.replace(/(?:^|\s+)# .*$/, "").trim()).filter((line) => line !== "")

/** The second-level headings of a page and its blocks of code. */
export const stepsOf = (page: string): ReadonlyArray<Step> =>
  Array.from(page.matchAll(/^## (.*)$|^```(\w+)[^\n]*\n([\s\S]*?)^```$/gm)).flatMap(
    ([, heading, language = "", content = ""]): ReadonlyArray<Step> => {
      if (heading !== undefined) return [{ _tag: "Heading", text: heading }]
      if (language === "sh") return commandsOf(content).map((command) => ({ _tag: "Command", command }))
      const [, name] = fileName.exec(content) ?? []
      return [name === undefined ? { _tag: "Other", language, content } : { _tag: "File", name, content }]
    }
  )
