/**
 * What a test needs from the machine: web servers and tools that are not npm packages. A suite whose programs are missing is
 * skipped with a line that names them; with `CI=true` or `REQUIRE_SERVERS=1` it fails instead, so that a skipped suite cannot
 * pass for a tested one.
 */
import { describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"

/** Debian installs web servers in /usr/sbin, which the PATH of an ordinary user does not name. */
const systemFolders = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"]

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
 * is not there. A command with a slash is taken as a path.
 */
export const onPath = (command: string): string | undefined => {
  if (command.includes("/")) return isExecutable(command) ? Path.resolve(command) : undefined
  const folders = (process.env["PATH"] ?? "").split(Path.delimiter).filter((folder) => folder !== "")
  for (const folder of [...folders, ...systemFolders]) {
    const file = Path.join(folder, command)
    if (isExecutable(file)) return file
  }
  return undefined
}

/** Whether a missing program is a failure (`CI=true` or `REQUIRE_SERVERS=1`) rather than a reason to skip. */
export const serversRequired: boolean = ["1", "true"].includes(process.env["REQUIRE_SERVERS"] ?? "") ||
  process.env["CI"] === "true"

/** The names among `commands` that are not on this machine. */
export const missing = (commands: ReadonlyArray<string>): ReadonlyArray<string> =>
  commands.filter((command) => onPath(command) === undefined)

/**
 * The absolute path of a program that the enclosing `describeWith` has already asked for. Throws, naming the program, when it is
 * not there.
 */
export const requireCommand = (command: string): string => {
  const file = onPath(command)
  if (file === undefined) {
    throw new Error(`${command} is not installed: looked on PATH and in ${systemFolders.join(", ")}`)
  }
  return file
}

/**
 * `describe` for a suite that needs programs of the machine. When one is missing the suite is skipped and a line says which one,
 * or, when `serversRequired`, a single failing test says it. `fn` receives the absolute paths in the order of `commands`.
 */
export const describeWith = (
  commands: ReadonlyArray<string>,
  name: string,
  fn: (...paths: ReadonlyArray<string>) => void
): void => {
  const absent = missing(commands)
  if (absent.length === 0) {
    describe(name, () => fn(...commands.map(requireCommand)))
    return
  }
  const reason = `needs ${absent.join(", ")}, not installed here`
  if (serversRequired) {
    describe(name, () => {
      it(reason, () => {
        throw new Error(`${name}: ${reason} (CI=true or REQUIRE_SERVERS=1 makes this a failure)`)
      })
    })
    return
  }
  console.log(`skipped: ${name}: ${reason}`)
  describe.skip(`${name} (${reason})`, () => {
    it(name, () => {})
  })
}
