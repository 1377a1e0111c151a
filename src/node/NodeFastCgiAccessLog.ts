/**
 * The access log on Node: a file that rotates, standard output, or the journal.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as FastCgiAccessLog from "../server/FastCgiAccessLog.ts"
import * as Settings from "../settings/settings.ts"
import { LogFile } from "./internal/logFile.ts"
import { isOutputLost } from "./internal/stdio.ts"

/**
 * Options of `layer`.
 *
 * @category options
 * @since 0.1.0
 */
export interface NodeFastCgiAccessLogOptions {
  /**
   * Where lines go: the path of a file, `"stdout"`, `"journal"` (stderr, where systemd's journal reads it, each line at level
   * info), or `"stderr"`, the STDERR of the request, from where a line gets into the web server's error log.
   */
  readonly to: string
  /** What a line looks like: see `FastCgiAccessLog.FastCgiAccessLogFormat`. Default `"combined"`. */
  readonly format?: FastCgiAccessLog.FastCgiAccessLogFormat | undefined
  /** The name of the pool (php-fpm's `%n`). Default `www`. */
  readonly pool?: string | undefined
}

/**
 * The file cannot be opened. `message` names it and says why.
 *
 * @category errors
 * @since 0.1.0
 */
export class NodeFastCgiAccessLogError extends Data.TaggedError("NodeFastCgiAccessLogError")<{
  readonly message: string
  readonly cause: unknown
}> {}

/**
 * Writes a line for every request of the servers that the layer is provided to: see `FastCgiAccessLog.layer`.
 *
 * **Details**
 *
 * Lines are written in batches, after a second at the latest, and what is left when the layer closes. Nobody waits for it. At
 * most 4 MiB wait for a disk or a pipe that is slow; what is more, and what a full disk refuses, is left out. That is logged as
 * an error once when it begins, and once, with how many, when lines are written again.
 *
 * A file is opened to append, with mode 0640. On SIGHUP it is opened anew, and without a signal within a second of having been
 * moved away or removed, so a rotation loses no line: those that were on their way are in the old file. SIGUSR1, which php-fpm
 * takes for it, ends an application in the way of FastCGI (`NodeFastCgiRuntime`). With workers SIGHUP to the supervisor
 * replaces them, and the new ones open the file.
 *
 * **Example** (Apache's combined format in a file)
 *
 * ```ts
 * import * as HttpRouter from "effect/http/HttpRouter"
 * import * as HttpServerResponse from "effect/http/HttpServerResponse"
 * import * as Layer from "effect/Layer"
 * import { NodeFastCgi, NodeFastCgiAccessLog } from "effect-fastcgi/node"
 *
 * const Routes = HttpRouter.add("GET", "/", HttpServerResponse.text("Hello"))
 *
 * export const Server = HttpRouter.serve(Routes).pipe(
 *   Layer.provide(NodeFastCgi.layer({ path: "/run/app/app.sock" })),
 *   Layer.provide(NodeFastCgiAccessLog.layer({ to: "/var/log/app/access.log", format: "combined" }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: NodeFastCgiAccessLogOptions
): Layer.Layer<never, FastCgiAccessLog.FastCgiAccessLogError | NodeFastCgiAccessLogError> =>
  Layer.unwrap(Effect.gen(function*() {
    // Before anything is opened.
    yield* Effect.fromResult(FastCgiAccessLog.check(options.format ?? "combined"))
    const { to } = options
    const log = {
      format: options.format,
      pool: options.pool,
      process: { pid: process.pid, parentPid: process.ppid, memory: () => process.memoryUsage.rss() }
    }
    if (to === "stderr") return FastCgiAccessLog.layer({ ...log, write: to })
    const run = Effect.runForkWith(yield* Effect.context())
    const name = to === "stdout" || to === "journal" ? to : JSON.stringify(to)
    const file = yield* Effect.acquireRelease(
      Effect.try({
        try: () =>
          new LogFile(to === "journal" || (to === "stdout" && isOutputLost()) ? 2 : to === "stdout" ? 1 : to, {
            onFailure: (why) => {
              run(Effect.logError(`the access log ${name} cannot be written, and lines are left out: ${why}`))
            },
            onRecovery: (leftOut) => {
              run(Effect.logInfo(`the access log ${name} is written again; ${leftOut} lines were left out`))
            }
          }),
        catch: (cause) =>
          new NodeFastCgiAccessLogError({
            message: `the access log ${name} cannot be opened: ${
              cause instanceof Error ? cause.message : String(cause)
            }`,
            cause
          })
      }),
      (file) => Effect.promise(() => file.close(closeTimeout))
    )
    yield* Effect.acquireRelease(
      Effect.sync(() => process.on("SIGHUP", file.reopen)),
      () => Effect.sync(() => process.off("SIGHUP", file.reopen))
    )
    return FastCgiAccessLog.layer({
      ...log,
      write: to === "journal" ? (line) => file.write(`<6>${line}`) : file.write
    })
  }))

/**
 * The options from settings of the environment: `FASTCGI_ACCESS_LOG` (without it there is no log), `FASTCGI_ACCESS_FORMAT` and
 * `FASTCGI_POOL`.
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<NodeFastCgiAccessLogOptions | undefined> = Config.map(
  Config.all({
    to: Settings.text("FASTCGI_ACCESS_LOG"),
    format: Settings.text("FASTCGI_ACCESS_FORMAT"),
    pool: Settings.text("FASTCGI_POOL")
  }),
  ({ to, ...others }) => to === undefined ? undefined : { ...others, to }
)

/**
 * Provides what `layer` does with the options of `config`, and nothing where the environment has no `FASTCGI_ACCESS_LOG`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  never,
  FastCgiAccessLog.FastCgiAccessLogError | NodeFastCgiAccessLogError | Config.ConfigError
> = Layer.unwrap(Effect.map(config, (options) => options === undefined ? Layer.empty : layer(options)))

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// How long a pipe or a disk that is slow holds up the end, in milliseconds.
const closeTimeout = 2000
