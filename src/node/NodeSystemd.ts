/**
 * Messages of a service to systemd, with `Type=notify`: that it serves, reloads or stops, and that it is alive (sd_notify(3)).
 * `NodeFastCgiWorkers` sends all of them by itself. This module is for an application of one process.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Semaphore from "effect/Semaphore"
import * as ChildProcess from "node:child_process"

/**
 * Sends these assignments to systemd, such as `READY=1` and `STATUS=42 connections`. Does nothing where NOTIFY_SOCKET is not set.
 *
 * **Details**
 *
 * It runs the program `systemd-notify`, which is part of systemd, because the message is a datagram over a UNIX socket and Node has no
 * such sockets. It waits until systemd has read the message, at most 5 seconds. Messages are sent one after the other. A message that
 * cannot be sent is logged.
 *
 * **Gotchas**
 *
 * The message comes from a process that this one has started, so the unit must have `NotifyAccess=all`. A `systemd-notify` costs about
 * 5 ms of CPU, so send only values that change seldom.
 *
 * **Example** (A status line for `systemctl status`)
 *
 * ```ts
 * import { NodeSystemd } from "effect-fastcgi/node"
 *
 * export const told = NodeSystemd.notify("STATUS=reads its cache")
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const notify = (...assignments: ReadonlyArray<string>): Effect.Effect<void> =>
  Effect.suspend(() =>
    process.env["NOTIFY_SOCKET"] === undefined ? Effect.void : one.withPermit(
      Effect.catch(run(assignments), (reason) =>
        Effect.logWarning(
          `systemd could not be told ${
            assignments.join(" ")
          }: ${reason}. Type=notify needs the program systemd-notify, ` +
            "and NotifyAccess=all in the unit"
        ))
    )
  )

/**
 * Says that the service reloads. `READY=1` says that the reload is over. Works for `Type=notify-reload` as well.
 *
 * @category operations
 * @since 0.1.0
 */
export const reloading: Effect.Effect<void> = Effect.suspend(() =>
  // CLOCK_MONOTONIC, on Linux.
  notify("RELOADING=1", `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`, "STATUS=reloading")
)

/**
 * Says that this process is alive, as often as `WatchdogSec=` demands, while `isAlive` is true. Ends at once where systemd has no
 * watchdog for this service.
 *
 * @category operations
 * @since 0.1.0
 */
export const watchdog = (isAlive: () => boolean = () => true): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { WATCHDOG_PID: pid, WATCHDOG_USEC: interval } = process.env
    if (interval === undefined || !/^[1-9]\d{0,14}$/.test(interval)) return Effect.void
    if (pid !== undefined && pid !== "" && pid !== String(process.pid)) return Effect.void
    return Effect.forever(Effect.andThen(
      Effect.suspend(() => isAlive() ? notify("WATCHDOG=1") : Effect.void),
      // Half of the interval, as sd_watchdog_enabled(3) recommends.
      Effect.sleep(Number(interval) / 2000)
    ))
  })

/**
 * Tells systemd that the service serves when the layer is built, that it is alive while the layer is there, and that it stops when
 * the layer is closed. Build this layer after the server.
 *
 * **Example** (An application of one process, with `Type=notify`)
 *
 * ```ts
 * import * as HttpRouter from "effect/http/HttpRouter"
 * import * as HttpServerResponse from "effect/http/HttpServerResponse"
 * import * as Layer from "effect/Layer"
 * import { NodeFastCgi, NodeFastCgiRuntime, NodeSystemd } from "effect-fastcgi/node"
 *
 * const Server = HttpRouter.serve(HttpRouter.add("GET", "/", HttpServerResponse.text("Hello"))).pipe(
 *   Layer.provide(NodeFastCgi.layer({ path: "/run/app/app.sock" }))
 * )
 *
 * export const main = () =>
 *   NodeSystemd.layer.pipe(
 *     Layer.provide(Server),
 *     Layer.launch,
 *     NodeFastCgiRuntime.runMain
 *   )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never> = Layer.effectDiscard(Effect.gen(function*() {
  yield* Effect.acquireRelease(notify("READY=1"), () => notify("STOPPING=1"))
  yield* Effect.forkScoped(watchdog())
}))

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const one = Semaphore.makeUnsafe(1)

const run = (assignments: ReadonlyArray<string>): Effect.Effect<void, string> =>
  Effect.callback((resume) => {
    const child = ChildProcess.spawn("systemd-notify", assignments, { stdio: "ignore", timeout: 5000 })
    child.on("error", (error) => resume(Effect.fail(error.message)))
    child.on("exit", (code, signal) =>
      resume(code === 0 ? Effect.void : Effect.fail(`systemd-notify ended with ${signal ?? code}`)))
    return Effect.sync(() =>
      child.kill("SIGKILL")
    )
  })
