/**
 * Tables of a page that the benchmark writes: what stands between `<!-- bench: NAME -->` and `<!-- end of bench -->`.
 */
import * as Fs from "node:fs"

const end = "<!-- end of bench -->"

/** Replaces what stands at the places of these names. A name without a place is an error: a figure would be lost. */
export const fill = (page: string, parts: ReadonlyMap<string, string>): string => {
  let filled = page
  for (const [name, content] of parts) {
    const begin = `<!-- bench: ${name} -->`
    const from = filled.indexOf(begin)
    const to = filled.indexOf(end, from)
    if (from === -1 || to === -1) throw new Error(`the page has no place for ${JSON.stringify(name)}`)
    filled = `${filled.slice(0, from + begin.length)}\n\n${content}\n\n${filled.slice(to)}`
  }
  return filled
}

/** The same in a file. */
export const fillFile = (file: string, parts: ReadonlyMap<string, string>): void =>
  Fs.writeFileSync(file, fill(Fs.readFileSync(file, "utf8"), parts))
