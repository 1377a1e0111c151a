/**
 * The access log on Node: a file that rotates, standard output, or the journal.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as FastCgiAccessLog from "../server/FastCgiAccessLog.ts"
import * as Settings from "../settings/settings.ts"
import { errorCode, errorText } from "./internal/listenerError.ts"
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
   * Where lines go: the path of a file, `"stdout"`, `"journal"` (stderr, each line at level info for systemd's journal), or
   * `"stderr"` (the STDERR of the request, and so the web server's error log).
   */
  readonly to: string
  /** The format of a line: see `FastCgiAccessLog.FastCgiAccessLogFormat`. Default `"combined"`. */
  readonly format?: FastCgiAccessLog.FastCgiAccessLogFormat | undefined
  /** The name of the pool (php-fpm's `%n`). Default `www`. */
  readonly pool?: string | undefined
}

/**
 * The file cannot be opened. `message` has its name and the reason.
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
 * Lines are written in batches, at the latest after a second, and when the layer closes. No request waits for a line. At most 4 MiB
 * of lines wait for a slow disk or pipe. Beyond that, and when the disk is full, lines are left out. The log says so in an error when
 * this begins, and again with the number of lines when writing works again.
 *
 * A file is opened to append, with mode 0640. It is opened anew on SIGHUP, and without a signal within a second after it was moved
 * away or removed. So a rotation loses no line: lines on their way are in the old file. (php-fpm opens its log on SIGUSR1. In an
 * application of FastCGI that signal ends the process, see `NodeFastCgiRuntime`.) With workers, SIGHUP to the supervisor replaces the
 * workers, and the new ones open the file.
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
            message: `the access log ${name} cannot be opened: ${whyNotOpened(cause)}`,
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
      prefix: to === "journal" ? "<6>" : "",
      write: file
    })
  }))

/**
 * The options from settings of the environment: `FASTCGI_ACCESS_LOG` (without it there is no log), `FASTCGI_ACCESS_FORMAT` and
 * `FASTCGI_POOL`. Logs a warning where there is a format and no log.
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<NodeFastCgiAccessLogOptions | undefined> = Config.mapEffect(
  Config.all({
    to: Settings.text("FASTCGI_ACCESS_LOG"),
    format: Settings.checked(
      "FASTCGI_ACCESS_FORMAT",
      "common, combined, json, php-fpm, or a format of Apache or php-fpm",
      (format) => Result.map(FastCgiAccessLog.check(format), () => format)
    ),
    pool: Settings.text("FASTCGI_POOL")
  }),
  ({ to, ...others }) => {
    if (to !== undefined) return Effect.succeed({ ...others, to })
    return others.format === undefined
      ? Effect.undefined
      : Effect.as(Settings.warnOfIdle("FASTCGI_ACCESS_FORMAT", "FASTCGI_ACCESS_LOG", "access log"), undefined)
  }
)

/**
 * Provides the same as `layer`, with the options of `config`. Without `FASTCGI_ACCESS_LOG` it provides no log.
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

const whyNotOpened = (cause: unknown): string => {
  switch (errorCode(cause)) {
    case "ENOENT":
      return "its folder does not exist. Create the folder, owned by the user that runs this program."
    case "ENOTDIR":
      return "a part of the path is a file, not a folder. Choose another path."
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return "this program's user may not write there. Give the user a folder of its own, or choose another path."
    case "EISDIR":
      return "it is a folder. Name a file in the folder."
    default:
      return errorText(cause)
  }
}

// How long a slow pipe or disk may hold up the end, in milliseconds.
const closeTimeout = 2000
