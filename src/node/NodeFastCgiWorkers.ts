/**
 * Several processes of one application on the same sockets, and a supervisor that keeps them running, as php-fpm's master does:
 * `NodeFastCgiWorkers.runMain` in place of `NodeFastCgiRuntime.runMain`.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Os from "node:os"
import { isatty } from "node:tty"
import { fileURLToPath } from "node:url"
import * as CgiProgram from "../server/CgiProgram.ts"
import * as FastCgiLimits from "../server/FastCgiLimits.ts"
import { limits } from "../server/internal/settings.ts"
import { count } from "../settings/settings.ts"
import { SharedSockets } from "./internal/workers/sharedSockets.ts"
import { isSuccessor, startSuccessor, tellPredecessor } from "./internal/workers/successor.ts"
import { type Order, Supervisor } from "./internal/workers/supervisor.ts"
import { workerEnd } from "./internal/workers/workerEnd.ts"
import type { NodeFastCgiWorkersError } from "./internal/workers/workersError.ts"
import * as NodeFastCgiRuntime from "./NodeFastCgiRuntime.ts"
import * as NodeSystemd from "./NodeSystemd.ts"

export {
  /**
   * The supervisor has given up.
   *
   * @category errors
   * @since 0.1.0
   */
  NodeFastCgiWorkersError,
  /**
   * Why the supervisor has given up.
   *
   * @category errors
   * @since 0.1.0
   */
  type NodeFastCgiWorkersErrorReason
} from "./internal/workers/workersError.ts"

/**
 * How many workers run, what they run, and when one is replaced. Limits that are not given have the defaults of
 * `FastCgiLimits.workers`.
 *
 * @category options
 * @since 0.1.0
 */
export interface NodeFastCgiWorkersOptions extends FastCgiLimits.OptionsOf<typeof FastCgiLimits.workers> {
  /** How many processes serve. Default one for each core (`os.availableParallelism`). */
  readonly workers?: number | undefined
  /** The module that workers run, as a path or a URL. Default the main program of this process. */
  readonly exec?: string | URL | undefined
  /** Arguments of the module. Default those of this process. */
  readonly args?: ReadonlyArray<string> | undefined
  /** Options of Node for workers. Default those of this process. A debugger listens on any free port. */
  readonly execArgv?: ReadonlyArray<string> | undefined
  /** Variables for workers, added to the environment of this process. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined
}

/**
 * Runs an application as several processes, and is the main program of this one.
 *
 * **When to use**
 *
 * Use it in place of `Layer.launch` and `NodeFastCgiRuntime.runMain`. No other line of the application changes. The workers share the
 * socket of the application: `{ path }`, `{ port }`, `{ fd }` or `{ systemd }`.
 *
 * **Details**
 *
 * The process that is started becomes the supervisor. It starts the same program again for every worker, and only a worker builds the
 * layer. A worker that wants to listen gets the socket from the supervisor, which binds it the first time. The supervisor never
 * accepts. The operating system gives each connection to a worker, and connections wait while no worker runs.
 *
 * - A worker that ends by itself is replaced at once. A worker that fails to start is replaced after a pause of 100 milliseconds,
 *   which doubles up to 10 seconds. When `emergencyThreshold` workers have failed within `emergencyInterval` and none serves, the
 *   supervisor fails with `NodeFastCgiWorkersError`. It also fails when the very first worker cannot serve.
 * - SIGHUP reloads: the supervisor starts a successor for every worker, one after the other, with the code of that moment. When the
 *   successor serves, the old worker finishes its requests and ends. When it does not serve within `startTimeout`, the reload stops
 *   and the old workers serve on. No request is lost.
 * - A worker that has taken `maxRequestsPerWorker` or uses `maxMemoryPerWorker` is replaced in the same way.
 * - A worker whose event loop stands still for `unresponsiveTimeout` is killed and replaced.
 * - SIGUSR2 replaces the supervisor too: it starts its own command line again, hands the sockets over and ends when the new workers
 *   serve. The process id changes, as nginx's does.
 * - SIGTERM, SIGINT and SIGUSR1 let all workers finish their requests. Workers that have not ended after `stopTimeout` are killed. A
 *   second signal, half a second later or more, kills all of them at once.
 *
 * Logs of workers go to the supervisor's stderr. Through `FastCgiWorkers` workers see one another. When a supervisor is killed, its
 * workers finish their requests and end. Under `Type=notify` systemd is told of all this, see `NodeSystemd`. A process that was
 * started as a plain CGI program serves its one request itself.
 *
 * **Gotchas**
 *
 * The supervisor runs the main module too, with everything that the module does beside this call. Modules that open databases on
 * import do so in the supervisor as well.
 *
 * **Example** (A worker for each core)
 *
 * ```ts
 * import * as HttpRouter from "effect/http/HttpRouter"
 * import * as HttpServerResponse from "effect/http/HttpServerResponse"
 * import * as Layer from "effect/Layer"
 * import { NodeFastCgi, NodeFastCgiWorkers } from "effect-fastcgi/node"
 *
 * const Server = HttpRouter.serve(HttpRouter.add("GET", "/", HttpServerResponse.text("Hello"))).pipe(
 *   Layer.provide(NodeFastCgi.layer({ path: "/run/app/app.sock", mode: 0o660 }))
 * )
 *
 * export const main = () => NodeFastCgiWorkers.runMain(Server, { maxRequestsPerWorker: 100_000 })
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const runMain = <A, E>(
  layer: Layer.Layer<A, E>,
  options: NodeFastCgiWorkersOptions | Config.Config<NodeFastCgiWorkersOptions> = {},
  runOptions?: NodeFastCgiRuntime.RunMainOptions
): void => {
  const worker = workerEnd()
  if (worker === undefined) {
    return CgiProgram.isCgi(process.env)
      ? NodeFastCgiRuntime.runMain(Layer.launch(layer), runOptions)
      : NodeFastCgiRuntime.runMain(supervise(options), runOptions)
  }
  worker.saysReady = true
  NodeFastCgiRuntime.runMain(
    Effect.scoped(Effect.andThen(Layer.build(layer), Effect.andThen(Effect.sync(worker.ready), Effect.never))),
    runOptions
  )
}

/**
 * Runs as the supervisor until it is interrupted, or has handed everything over to a successor: see `runMain`. It is for workers that
 * run another module (`exec`). That module listens by layers of this package and runs by `NodeFastCgiRuntime.runMain`. A worker
 * serves as soon as one of its listeners does.
 *
 * **Example** (A supervisor that does not load the application)
 *
 * ```ts
 * import { NodeFastCgiRuntime, NodeFastCgiWorkers } from "effect-fastcgi/node"
 *
 * export const main = () =>
 *   NodeFastCgiRuntime.runMain(
 *     NodeFastCgiWorkers.supervise({ exec: new URL("./app.js", import.meta.url), workers: 4 })
 *   )
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const supervise = (
  options: NodeFastCgiWorkersOptions | Config.Config<NodeFastCgiWorkersOptions> = {}
): Effect.Effect<void, NodeFastCgiWorkersError | Config.ConfigError> =>
  Effect.scoped(Effect.flatMap(
    Config.isConfig(options) ? options as Config.Config<NodeFastCgiWorkersOptions> : Effect.succeed(options),
    supervising
  ))

/**
 * The number of workers and their limits from settings of the environment, each of which may be left out: `FASTCGI_WORKERS` and those
 * of `FastCgiLimits.workers`, such as `FASTCGI_MAX_REQUESTS_PER_WORKER`.
 *
 * **Example** (Workers that the environment configures)
 *
 * ```ts
 * import type * as Layer from "effect/Layer"
 * import { NodeFastCgiWorkers } from "effect-fastcgi/node"
 *
 * export const run = (Server: Layer.Layer<never>) => NodeFastCgiWorkers.runMain(Server, NodeFastCgiWorkers.config)
 * ```
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<NodeFastCgiWorkersOptions> = Config.map(
  Config.all([count("FASTCGI_WORKERS"), limits(FastCgiLimits.workers)]),
  ([workers, limits]) => ({ workers, ...limits })
)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const supervising = Effect.fnUntraced(function*(
  options: NodeFastCgiWorkersOptions
): Effect.fn.Return<void, NodeFastCgiWorkersError, Scope.Scope> {
  const succeeds = isSuccessor()
  const sockets = SharedSockets.adopted()
  const context = yield* Effect.context<never>()
  const scope = yield* Effect.scope
  const orders = yield* Queue.unbounded<Order>()
  const handedOver = yield* Deferred.make<void>()
  let upgrading = false
  let isLeft = false

  const fork = (effect: Effect.Effect<void>) => {
    Fiber.runIn(Effect.runForkWith(context)(effect), scope)
  }
  const workers = Math.max(1, options.workers ?? Os.availableParallelism())
  const ready = NodeSystemd.notify(
    "READY=1",
    `STATUS=${workers === 1 ? "1 worker serves" : `${workers} workers serve`}`
  )
  const supervisor = new Supervisor({
    rules: { workers, ...FastCgiLimits.resolve(FastCgiLimits.workers, options) },
    program: program(options),
    sockets,
    orders,
    fork,
    notices: { reloading: NodeSystemd.reloading, reloaded: ready }
  })

  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      if (!isLeft) sockets.close()
      return Effect.all([isLeft ? Effect.void : NodeSystemd.notify("STOPPING=1"), supervisor.stop], {
        concurrency: "unbounded",
        discard: true
      })
    })
  )

  const upgrade = Effect.suspend(() => {
    if (upgrading) return Effect.void
    if (process.pid === 1) {
      return Effect.logError(
        "SIGUSR2 asks for a new supervisor. This one is process 1, with which its container ends: replace the container"
      )
    }
    upgrading = true
    return Effect.logInfo("starting a new supervisor").pipe(
      Effect.andThen(startSuccessor(sockets)),
      Effect.flatMap((pid) =>
        Effect.sync(() => {
          isLeft = true
          sockets.leave()
        }).pipe(
          Effect.andThen(NodeSystemd.notify(`MAINPID=${pid}`)),
          Effect.andThen(Effect.logInfo(`the new supervisor, process ${pid}, serves: this one ends`)),
          Effect.andThen(Deferred.succeed(handedOver, undefined))
        )
      ),
      Effect.asVoid,
      Effect.catch((failure) => Effect.logError(`a new supervisor ${failure}: this one serves on`)),
      Effect.ensuring(Effect.sync(() => {
        upgrading = false
      }))
    )
  })

  const inTerminal = isatty(2)
  yield* onSignal("SIGHUP", () => {
    // A terminal that has been closed is no longer one.
    if (inTerminal && !isatty(2)) process.emit("SIGTERM", "SIGTERM")
    else supervisor.reload()
  })
  yield* onSignal("SIGUSR2", () => fork(upgrade))

  yield* supervisor.start
  yield* Effect.logInfo(`${workers === 1 ? "1 worker serves" : `${workers} workers serve`}: supervisor ${process.pid}`)
  yield* ready
  if (succeeds) yield* tellPredecessor
  yield* Effect.forkScoped(NodeSystemd.watchdog(() => supervisor.isServing))
  yield* Effect.raceFirst(supervisor.run, Deferred.await(handedOver))
})

const onSignal = (signal: NodeJS.Signals, listener: () => void): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(Effect.acquireRelease(
    Effect.sync(() => process.on(signal, listener)),
    () => Effect.sync(() => process.off(signal, listener))
  ))

const program = ({ args, env, exec, execArgv }: NodeFastCgiWorkersOptions) => ({
  exec: exec === undefined ? process.argv[1] ?? "" : exec instanceof URL ? fileURLToPath(exec) : exec,
  args: args ?? process.argv.slice(2),
  // Two processes cannot have a debugger on the same port.
  execArgv: execArgv ??
    process.execArgv.map((option) => option.replace(/^(--inspect(?:-brk|-wait)?)(?:=.*)?$/, "$1=0")),
  env: env ?? {}
})
