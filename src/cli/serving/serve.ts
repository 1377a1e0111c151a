/**
 * Runs `serve`.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Fs from "node:fs"
import * as Module from "node:module"
import * as Path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { addressMistake, parseListenAddress } from "../../node/internal/address.ts"
import * as NodeFastCgiWorkers from "../../node/NodeFastCgiWorkers.ts"
import type { ServeOptions } from "../commands/serving.ts"
import { type CommandFailure, ExitCode, fail, usage } from "../internal/failure.ts"
import { servesUntilStopped } from "../internal/life.ts"
import * as Output from "../internal/output.ts"
import { type Limit, watch } from "./watch.ts"

/** Runs the app in processes of their own until it is told to end. */
export const run = (options: ServeOptions): Effect.Effect<void, CommandFailure> =>
  Effect.gen(function*() {
    const wrong = options.listen.find((text) => parseListenAddress(text) === undefined)
    if (wrong !== undefined) return yield* usage(addressMistake(wrong))
    if (options.mode !== undefined && !/^0?[0-7]{3}$/.test(options.mode)) {
      return yield* usage(`--mode takes three octal digits such as 660, not "${options.mode}"`)
    }
    const file = Path.resolve(options.module)
    if (!Fs.existsSync(file)) return yield* usage(`There is no module ${options.module}.`)
    const supervised = NodeFastCgiWorkers.supervise({
      workers: options.workers,
      exec: programBeside(file),
      args: [file, options.as, options.log ? "log" : ""],
      env: {
        ...(options.listen.length > 0 ? { FASTCGI_LISTEN: options.listen.join(",") } : {}),
        ...(options.mode === undefined ? {} : { FASTCGI_SOCKET_MODE: options.mode }),
        ...(options.basePath === undefined ? {} : { FASTCGI_BASE_PATH: options.basePath })
      }
    }).pipe(Effect.catch((error) => fail(ExitCode.Found, error.message)))
    yield* servesUntilStopped
    yield* options.watch ? Effect.scoped(watched(supervised, file)) : supervised
  })

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// The app's own copy of this package shares an Effect with it; the one that npx has downloaded does not.
const programBeside = (file: string): string => {
  try {
    const manifest = Module.createRequire(pathToFileURL(file)).resolve("effect-fastcgi/package.json")
    const program = Path.join(Path.dirname(manifest), "dist/bundled/served.js")
    if (Fs.existsSync(program)) return program
  } catch {
    // The app does not have it.
  }
  return fileURLToPath(new URL("../bundled/served.js", import.meta.url))
}

// A change is what SIGHUP is to a supervisor: the new code serves, or the old one goes on. Where none serves yet, it starts again.
const watched = Effect.fnUntraced(function*(supervised: Effect.Effect<void, CommandFailure>, file: string) {
  const folder = folderOf(file)
  const { changed, limit } = yield* watch(folder)
  const show = (path: string) => Output.note(`${Path.relative(folder, path)} has changed`)
  yield* Output.note(`Watching ${folder}`)
  yield* Effect.forkScoped(Effect.flatMap(Deferred.await(limit), (reached) => Output.note(unwatched(reached))))
  const reloading = Effect.forever(
    Effect.flatMap(Queue.take(changed), (path) =>
      Effect.andThen(
        show(path),
        Effect.sync(() => process.kill(process.pid, "SIGHUP"))
      ))
  )
  yield* Effect.forever(
    Effect.raceFirst(supervised, reloading).pipe(
      Effect.catch((failure) =>
        Output.note(`effect-fastcgi: ${failure.message} Waiting for a change.`).pipe(
          Effect.andThen(Queue.take(changed)),
          Effect.flatMap(show)
        )
      )
    )
  )
})

const unwatched = ({ better, folder, setting }: Limit): string =>
  `effect-fastcgi: ${folder} is not watched, and perhaps others: the system's limit ${setting} is reached. ` +
  `sudo sysctl ${setting}=${better} raises it, for the next start. Until then, kill -HUP ${process.pid} loads the new code.`

// That of the package that the app is in.
const folderOf = (file: string): string => {
  for (let folder = Path.dirname(file);; folder = Path.dirname(folder)) {
    if (Fs.existsSync(Path.join(folder, "package.json"))) return folder
    if (folder === Path.dirname(folder)) return Path.dirname(file)
  }
}
