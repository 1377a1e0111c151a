/**
 * The ids of users and groups by their names, as getpwnam(3) and getgrnam(3) find them: in /etc/passwd and /etc/group, and
 * where a name is not there by `getent`, which asks whatever else /etc/nsswitch.conf names. Node has no function for it.
 */
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"

/** Where accounts are listed. */
export type Database = "passwd" | "group"

/** The id of a name; undefined when there is none. A name of digits alone that nobody has is an id. */
export const findId = (database: Database, name: string): Effect.Effect<number | undefined> => {
  if (asAccountName(name) === undefined) return Effect.succeed(undefined)
  return Effect.map(
    Effect.suspend(() => {
      const listed = idIn(readFile(database), name)
      return listed === undefined
        ? Effect.map(getent(database, name), (line) => idIn(line, name))
        : Effect.succeed(listed)
    }),
    (id) => id ?? (/^\d{1,10}$/.test(name) ? Number(name) : undefined)
  )
}

/** The text, when it can be the name of an account, or an id: an option of `getent` is none. */
export const asAccountName = (text: string): string | undefined => /^[^-:/\s][^:/\s]*$/.test(text) ? text : undefined

/** The id in the line of this name, of lines such as `www-data:x:33:33:...`. */
export const idIn = (lines: string, name: string): number | undefined => {
  for (const line of lines.split("\n")) {
    const [listed, , id] = line.split(":")
    if (listed === name && id !== undefined && /^\d{1,10}$/.test(id)) return Number(id)
  }
  return undefined
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const readFile = (database: Database): string => {
  try {
    return Fs.readFileSync(`/etc/${database}`, "utf8")
  } catch {
    return ""
  }
}

// Milliseconds. A directory server that does not answer is not waited for longer.
const patience = 10_000

// The line of the name, or "" when there is none, or no such program.
const getent = (database: Database, name: string): Effect.Effect<string> =>
  Effect.callback((resume) => {
    const child = ChildProcess.execFile(
      "getent",
      [database, name],
      { timeout: patience, windowsHide: true },
      (error, stdout) => resume(Effect.succeed(error === null ? stdout : ""))
    )
    return Effect.sync(() => child.kill())
  })
