/**
 * What a test needs from the machine: web servers and tools that are not npm packages. A suite whose programs are missing is
 * skipped with a line that names them; with `CI=true` or `REQUIRE_SERVERS=1` it fails instead, so that a skipped suite cannot
 * pass for a tested one.
 */
import { describe, it } from "@effect/vitest"
import { onPath, systemFolders } from "./programs.ts"

export { onPath } from "./programs.ts"

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
