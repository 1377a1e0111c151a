/**
 * Tells when the files of a program change.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Path from "node:path"

/**
 * A queue of the files of code that change below a folder, those in `node_modules` and in hidden folders left out: what an app
 * writes, a log or a database, is none. Changes at the same moment, as of a checkout, are one: the file that changed last.
 */
export const changes = (folder: string): Effect.Effect<Queue.Dequeue<string>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const queue = yield* Queue.sliding<string>(1)
    const watchers = new Map<string, Fs.FSWatcher>()
    let timer: NodeJS.Timeout | undefined
    const changed = (file: string) => {
      clearTimeout(timer)
      timer = setTimeout(() => Queue.offerUnsafe(queue, file), settled)
    }
    const watch = (folder: string) => {
      if (watchers.has(folder)) return
      try {
        const watcher = Fs.watch(folder, (_, name) => {
          if (name === null || name.startsWith(".") || ignored.has(name)) return
          const path = Path.join(folder, name)
          if (isFolder(path)) watch(path)
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
            watch(Path.join(folder, entry.name))
          }
        }
      } catch {
        // It has just been removed, or may not be read.
      }
    }
    yield* Effect.acquireRelease(
      Effect.sync(() => watch(folder)),
      () =>
        Effect.sync(() => {
          clearTimeout(timer)
          for (const watcher of watchers.values()) watcher.close()
        })
    )
    return queue
  })

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// How long nothing has to change until it counts as one change. Milliseconds.
const settled = 100

const isCode = /\.(?:[cm]?[jt]s|[jt]sx|wasm)$/

const ignored = new Set(["node_modules"])

const isFolder = (path: string): boolean => Fs.statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
