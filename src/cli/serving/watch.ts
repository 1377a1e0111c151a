/**
 * Tells when the files of a program change.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Path from "node:path"

/** A limit of Linux to how much a user may watch. */
export interface Limit {
  /** The first folder that is not watched. Those before it stay watched. */
  readonly folder: string
  /** The name of the limit, for sysctl. */
  readonly setting: string
  /** A value that is enough for most. */
  readonly better: number
}

/** A folder that is watched. */
export interface Watch {
  readonly changed: Queue.Dequeue<string>
  /** Done when a folder cannot be watched because a limit is reached. */
  readonly limit: Deferred.Deferred<Limit>
}

/**
 * A queue of the files of code that change below a folder, those in `node_modules` and in hidden folders left out: what an app
 * writes, a log or a database, is none. Changes at the same moment, as of a checkout, are one: the file that changed last.
 */
export const watch = (folder: string): Effect.Effect<Watch, never, Scope.Scope> =>
  Effect.gen(function*() {
    const queue = yield* Queue.sliding<string>(1)
    const limit = yield* Deferred.make<Limit>()
    const watchers = new Map<string, Fs.FSWatcher>()
    let timer: NodeJS.Timeout | undefined
    const changed = (file: string) => {
      clearTimeout(timer)
      timer = setTimeout(() => Queue.offerUnsafe(queue, file), settled)
    }
    const add = (folder: string) => {
      if (watchers.has(folder)) return
      try {
        const watcher = Fs.watch(folder, (_, name) => {
          if (name === null || name.startsWith(".") || ignored.has(name)) return
          const path = Path.join(folder, name)
          if (isFolder(path)) add(path)
          if (isCode.test(name)) changed(path)
        })
        watchers.set(folder, watcher)
        // A folder that is removed.
        watcher.on("error", () => {
          watcher.close()
          watchers.delete(folder)
        })
        for (const entry of Fs.readdirSync(folder, { withFileTypes: true })) {
          if (entry.isDirectory() && !entry.name.startsWith(".") && !ignored.has(entry.name)) {
            add(Path.join(folder, entry.name))
          }
        }
      } catch (error) {
        // Otherwise it has just been removed, or may not be read.
        const { code = "", syscall } = error as NodeJS.ErrnoException
        const reached = syscall === "watch" ? limits[code] : undefined
        if (reached !== undefined) Deferred.doneUnsafe(limit, Exit.succeed({ folder, ...reached }))
      }
    }
    yield* Effect.acquireRelease(
      Effect.sync(() => add(folder)),
      () =>
        Effect.sync(() => {
          clearTimeout(timer)
          for (const watcher of watchers.values()) watcher.close()
        })
    )
    return { changed: queue, limit }
  })

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// How long nothing has to change until it counts as one change. Milliseconds.
const settled = 100

// The errors of inotify at its limits, of folders and of programs that watch (inotify(7)).
const limits: Readonly<Record<string, Omit<Limit, "folder">>> = {
  ENOSPC: { setting: "fs.inotify.max_user_watches", better: 524_288 },
  EMFILE: { setting: "fs.inotify.max_user_instances", better: 512 }
}

const isCode = /\.(?:[cm]?[jt]s|[jt]sx|wasm)$/

const ignored = new Set(["node_modules"])

const isFolder = (path: string): boolean => Fs.statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
