/**
 * Where the project is and what belongs to it.
 */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

/** The folder of package.json, absolute, without a slash at the end. */
export const projectRoot: string = Path.resolve(fileURLToPath(new URL("../..", import.meta.url)))

/** Built, installed or measured, never written by hand. */
const generated = new Set(["node_modules", "dist", ".git", ".doctest", ".bench", ".site"])

const walk = (folder: string): ReadonlyArray<string> =>
  Fs.readdirSync(Path.join(projectRoot, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`
    if (entry.isDirectory()) return generated.has(entry.name) ? [] : walk(path)
    return entry.isFile() ? [path] : []
  })

/**
 * The files of the project, relative to its root: what git knows or would add, and everything but the generated folders where
 * there is no git.
 */
export const projectFiles = (): ReadonlyArray<string> => {
  const git = ChildProcess.spawnSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "-z"], {
    cwd: projectRoot,
    encoding: "utf8"
  })
  if (git.status !== 0) return walk("")
  return git.stdout.split("\0").filter((path) => path !== "" && Fs.existsSync(Path.join(projectRoot, path)))
}
