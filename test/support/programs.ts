/**
 * Programs of the machine.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"

/** Debian installs web servers in /usr/sbin, which the PATH of an ordinary user does not name. */
export const systemFolders: ReadonlyArray<string> = [
  "/usr/local/sbin",
  "/usr/sbin",
  "/sbin",
  "/usr/local/bin",
  "/usr/bin",
  "/bin"
]

const isExecutable = (file: string): boolean => {
  try {
    Fs.accessSync(file, Fs.constants.X_OK)
    return Fs.statSync(file).isFile()
  } catch {
    return false
  }
}

/**
 * The absolute path of a program, looked for on PATH and then in the folders where Debian installs servers; `undefined` when it
 * is not there. A command with a slash is taken as a path, and may be a module of a program (`.so`), which is not executable.
 */
export const onPath = (command: string): string | undefined => {
  if (command.endsWith(".so")) return Fs.existsSync(command) ? command : undefined
  if (command.includes("/")) return isExecutable(command) ? Path.resolve(command) : undefined
  const folders = (process.env["PATH"] ?? "").split(Path.delimiter).filter((folder) => folder !== "")
  for (const folder of [...folders, ...systemFolders]) {
    const file = Path.join(folder, command)
    if (isExecutable(file)) return file
  }
  return undefined
}
