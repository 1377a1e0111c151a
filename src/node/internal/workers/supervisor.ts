/**
 * Keeps a number of workers running on the same sockets: starts them, replaces those that end, hang or have done enough, and
 * all of them one after the other when they are to be reloaded. It never sees a request.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Semaphore from "effect/Semaphore"
import type * as FastCgiLimits from "../../../server/FastCgiLimits.ts"
import type { SupervisorStatus } from "../../../server/FastCgiWorkers.ts"
import { Desk } from "./desk.ts"
import { Failures } from "./failures.ts"
import type { FromWorker } from "./messages.ts"
import type { SharedSockets } from "./sharedSockets.ts"
import { type Ended, WorkerProcess, type WorkerProgram } from "./workerProcess.ts"
import { NodeFastCgiWorkersError } from "./workersError.ts"

/** The limits of a supervisor; Infinity is none. Durations in milliseconds, memory in bytes. */
export type Rules = { readonly workers: number } & { readonly [Limit in keyof typeof FastCgiLimits.workers]: number }

/** The messages to the outside of the process, such as systemd. */
export interface Notices {
  readonly reloading: Effect.Effect<void>
  readonly reloaded: Effect.Effect<void>
}

/** The place of a worker: who serves in it now. */
interface Place {
  readonly worker: number
  readonly lock: Semaphore.Semaphore
  readonly failures: Failures
  current: WorkerProcess | undefined
}

/** Runs actions one after the other. */
export type Order =
  | { readonly _tag: "Reload" }
  | { readonly _tag: "Recycle"; readonly process: WorkerProcess; readonly why: string }

export class Supervisor {
  private readonly rules: Rules
  private readonly program: WorkerProgram
  private readonly sockets: SharedSockets
  private readonly notices: Notices
  private readonly places: ReadonlyArray<Place>
  private readonly processes = new Set<WorkerProcess>()
  private readonly orders: Queue.Queue<Order>
  private readonly emergency = Deferred.makeUnsafe<never, NodeFastCgiWorkersError>()
  private readonly early: Failures
  private readonly desk: Desk
  private readonly fork: (effect: Effect.Effect<void>) => void
  private readonly startedAt = Date.now()
  private readonly counts = { restarts: 0, recycled: 0, unresponsive: 0, reloads: 0 }
  private requestsOfEnded = 0
  private stopping = false
  private reloadWaits = false

  constructor(options: {
    readonly rules: Rules
    readonly program: WorkerProgram
    readonly sockets: SharedSockets
    readonly notices: Notices
    readonly orders: Queue.Queue<Order>
    readonly fork: (effect: Effect.Effect<void>) => void
  }) {
    this.orders = options.orders
    this.rules = options.rules
    this.program = options.program
    this.sockets = options.sockets
    this.notices = options.notices
    this.fork = options.fork
    this.early = new Failures(this.rules.emergencyInterval)
    this.places = Array.from({ length: this.rules.workers }, (_, index) => ({
      worker: index + 1,
      lock: Semaphore.makeUnsafe(1),
      failures: new Failures(Infinity),
      current: undefined
    }))
    this.desk = new Desk({
      sockets: this.sockets,
      processes: this.processes,
      status: () => this.status,
      fork: this.fork
    })
  }

  /** The figures of all its workers. */
  get status(): SupervisorStatus {
    const workers = Array.from(this.processes, (process) => process.status)
    return {
      pid: process.pid,
      startedAt: this.startedAt,
      ...this.counts,
      requests: workers.reduce((sum, { requests }) => sum + requests, this.requestsOfEnded),
      workers
    }
  }

  /** Starts all workers: the first one, and the others when that serves. Fails when the first one can not serve. */
  readonly start: Effect.Effect<void, NodeFastCgiWorkersError> = Effect.suspend(() =>
    this.spawnInto(this.places[0]!).pipe(
      Effect.mapError((failure) =>
        new NodeFastCgiWorkersError({
          reason: { _tag: "NotStarted" },
          message: `The first worker ${failure}. Its own messages stand above.`
        })
      ),
      Effect.andThen(
        Effect.forEach(
          this.places.slice(1),
          (place) => Effect.catch(this.spawnInto(place), (failure) => this.failed(place, failure)),
          {
            concurrency: "unbounded",
            discard: true
          }
        )
      )
    )
  )

  /** Works until it is interrupted. Fails when no worker serves and none can be started. */
  readonly run: Effect.Effect<never, NodeFastCgiWorkersError> = Effect.suspend(() =>
    Effect.raceFirst(
      Deferred.await(this.emergency),
      Effect.andThen(
        Effect.all([this.obey, this.rules.unresponsiveTimeout === Infinity ? Effect.void : this.watch], {
          concurrency: "unbounded",
          discard: true
        }),
        Effect.never
      )
    )
  )

  /** Replaces all workers, one after the other. Unless that has been asked for already and waits. */
  readonly reload = (): void => {
    if (this.reloadWaits) return
    this.reloadWaits = true
    Queue.offerUnsafe(this.orders, { _tag: "Reload" })
  }

  /** Has all workers finish what runs, and waits until they have ended. */
  readonly stop: Effect.Effect<void> = Effect.suspend(() => {
    this.stopping = true
    return Effect.forEach(this.processes, (process) => this.retire(process), {
      concurrency: "unbounded",
      discard: true
    })
  })

  // --- one worker --------------------------------------------------------------------------------

  /** Starts a process and waits until it serves. Fails with what has become of it otherwise. */
  private spawn(worker: number): Effect.Effect<WorkerProcess, string> {
    return Effect.suspend(() => {
      const started = new WorkerProcess(worker, this.program, this.rules.maxRequestsPerWorker, {
        message: (process, message) => this.receive(process, message),
        exit: (process, ended) => this.exited(process, ended)
      })
      this.processes.add(started)
      const { startTimeout } = this.rules
      return Deferred.await(started.ready).pipe(
        Effect.raceFirst(
          Effect.flatMap(
            Deferred.await(started.exited),
            (ended) => Effect.fail(`(process ${started.pid}) has ended (${ended}) before it served`)
          )
        ),
        startTimeout === Infinity ? (self) => self : Effect.timeoutOrElse({
          duration: startTimeout,
          orElse: () =>
            Effect.fail(`(process ${started.pid}) did not serve within ${seconds(startTimeout)} (startTimeout)`)
        }),
        Effect.onError(() =>
          Effect.sync(() => {
            started.told = true
            started.kill("SIGKILL")
          })
        ),
        Effect.andThen(Effect.logInfo(`worker ${worker} serves: process ${started.pid}`)),
        Effect.as(started)
      )
    })
  }

  /** Starts a worker in a place where there is none. */
  private spawnInto(place: Place): Effect.Effect<void, string> {
    return place.lock.withPermit(Effect.suspend(() =>
      place.current !== undefined || this.stopping
        ? Effect.void
        : Effect.map(this.spawn(place.worker), (process) => {
          place.current = process
        })
    ))
  }

  /** Starts a successor, and lets the one before it finish. When the successor fails, everything stays as it is. */
  private replace(place: Place): Effect.Effect<void, string> {
    return place.lock.withPermit(Effect.flatMap(this.spawn(place.worker), (successor) =>
      Effect.sync(() => {
        const before = place.current
        place.current = successor
        if (before !== undefined) this.fork(this.retire(before))
      })))
  }

  /** Tells a process to finish, and kills it when it takes too long. */
  private retire(process: WorkerProcess): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { stopTimeout } = this.rules
      // A second signal would end it at once, with the requests that it still finishes.
      if (!process.told) process.kill("SIGTERM")
      process.told = true
      const ended = Effect.asVoid(Deferred.await(process.exited))
      return stopTimeout === Infinity ? ended : Effect.timeoutOrElse(ended, {
        duration: stopTimeout,
        orElse: () =>
          Effect.logWarning(
            `killed worker ${process.worker} (process ${process.pid}): it had not ended ${
              seconds(stopTimeout)
            } after ` +
              "it was told to (stopTimeout)"
          ).pipe(
            Effect.andThen(Effect.sync(() => process.kill("SIGKILL"))),
            Effect.andThen(ended)
          )
      })
    })
  }

  /** A process has ended: whoever served in a place is replaced. */
  private exited(process: WorkerProcess, ended: Ended): void {
    this.processes.delete(process)
    this.requestsOfEnded += process.figures.requests
    const place = this.places.find(({ current }) => current === process)
    if (place === undefined) return
    place.current = undefined
    if (this.stopping) return
    this.counts.restarts++
    const early = performance.now() - process.readyAt < earlyEnd
    this.fork(
      Effect.andThen(
        Effect.logWarning(
          `worker ${process.worker} (process ${process.pid}) has ended by itself (${ended}): starting another one`
        ),
        early ? this.failed(place, `has ended (${ended}) as soon as it served`) : this.revive(place)
      )
    )
  }

  private revive(place: Place): Effect.Effect<void> {
    place.failures.forget()
    return Effect.catch(this.spawnInto(place), (failure) => this.failed(place, failure))
  }

  /** A worker could not be started: again, a little later each time. */
  private failed(place: Place, failure: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      const delay = Math.min(firstDelay * 2 ** place.failures.add(performance.now()), longestDelay)
      const { emergencyInterval, emergencyThreshold } = this.rules
      if (this.early.add(performance.now()) + 1 >= emergencyThreshold && !this.isServing) {
        return Effect.asVoid(Deferred.fail(
          this.emergency,
          new NodeFastCgiWorkersError({
            reason: { _tag: "Emergency" },
            message: `No worker serves, and ${emergencyThreshold} have failed within ${
              seconds(emergencyInterval)
            } (emergencyThreshold). The last one ${failure}.`
          })
        ))
      }
      return Effect.logError(`worker ${place.worker} ${failure}: trying again in ${seconds(delay)}`).pipe(
        Effect.andThen(Effect.sleep(delay)),
        Effect.andThen(Effect.catch(this.spawnInto(place), (failure) => this.failed(place, failure)))
      )
    })
  }

  /** Whether at least one worker serves. */
  get isServing(): boolean {
    return this.places.some(({ current }) => current !== undefined)
  }

  // --- what workers say --------------------------------------------------------------------------

  private receive(process: WorkerProcess, message: FromWorker): void {
    process.aliveAt = performance.now()
    switch (message._tag) {
      case "Ready":
        if (process.readyAt === 0) process.readyAt = performance.now()
        Deferred.doneUnsafe(process.ready, Effect.void)
        return
      case "Alive":
        process.figures = message.figures
        this.lookAt(process)
        return
      default:
        this.desk.receive(process, message)
    }
  }

  // Whether it has done enough. When it can not be replaced, that is looked at again after a while.
  private lookAt(process: WorkerProcess): void {
    const { maxMemoryPerWorker, maxRequestsPerWorker } = this.rules
    const { memory, requests } = process.figures
    if (process.told || process.readyAt === 0 || performance.now() < process.recycleAfter) return
    const why = requests >= maxRequestsPerWorker
      ? `it has taken ${requests} requests (maxRequestsPerWorker)`
      : memory >= maxMemoryPerWorker
      ? `it uses ${Math.round(memory / 2 ** 20)} MiB (maxMemoryPerWorker)`
      : undefined
    if (why === undefined) return
    process.recycleAfter = Infinity
    Queue.offerUnsafe(this.orders, { _tag: "Recycle", process, why })
  }

  // --- orders, one after the other ---------------------------------------------------------------

  private readonly obey = Effect.suspend(() =>
    Effect.forever(Effect.flatMap(Queue.take(this.orders), (order) => {
      if (order._tag === "Recycle") return this.recycle(order.process, order.why)
      this.reloadWaits = false
      return this.reloadAll
    }))
  )

  private readonly reloadAll = Effect.suspend(() => {
    const replaced = new Set<number>()
    return Effect.forEach(this.places, (place) =>
      Effect.mapError(
        Effect.tap(this.replace(place), () => Effect.sync(() => replaced.add(place.worker))),
        (failure) => ({ place, failure })
      ), { discard: true }).pipe(
        Effect.andThen(Effect.sync(() => {
          this.counts.reloads++
          this.closeUnused()
        })),
        Effect.andThen(Effect.logInfo(`reloaded: all ${this.places.length} workers are new`)),
        Effect.catch(({ failure, place }) =>
          Effect.logError(
            `the reload has stopped: a new worker ${place.worker} ${failure}. ` +
              `${this.places.length - replaced.size} of ${this.places.length} workers are the old ones, and serve on`
          )
        ),
        (reload) =>
          Effect.logInfo(`reloading ${this.places.length} ${this.places.length === 1 ? "worker" : "workers"}`).pipe(
            Effect.andThen(this.notices.reloading),
            Effect.andThen(reload),
            Effect.andThen(this.notices.reloaded)
          )
      )
  })

  private recycle(process: WorkerProcess, why: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      const place = this.places.find(({ current }) => current === process)
      if (place === undefined) return Effect.void
      return Effect.logInfo(`replacing worker ${process.worker} (process ${process.pid}): ${why}`).pipe(
        Effect.andThen(this.replace(place)),
        Effect.andThen(Effect.sync(() => {
          this.counts.recycled++
        })),
        Effect.catch((failure) => {
          process.recycleAfter = performance.now() + recycleAgain
          return Effect.logError(
            `worker ${process.worker} (process ${process.pid}) serves on: its successor ${failure}`
          )
        })
      )
    })
  }

  // Sockets on which the new code no longer listens. Workers that still finish have sockets of their own.
  private closeUnused(): void {
    this.sockets.keep(new Set(this.places.flatMap(({ current }) => [...current?.sockets ?? []])))
  }

  // --- who hangs ---------------------------------------------------------------------------------

  private readonly watch = Effect.suspend(() => {
    let before = performance.now()
    const look = Effect.suspend(() => {
      const now = performance.now()
      // This process has had no CPU, and has not heard yet what they have said.
      const late = now - before > 3 * watchInterval
      before = now
      if (late) {
        for (const process of this.processes) process.aliveAt = now
        return Effect.void
      }
      return Effect.forEach(this.processes, (process) => {
        if (process.state !== "serving" || now - process.aliveAt < this.rules.unresponsiveTimeout) return Effect.void
        this.counts.unresponsive++
        // Its exit starts another one.
        process.kill("SIGKILL")
        return Effect.logError(
          `killed worker ${process.worker} (process ${process.pid}): its event loop has stood still for ` +
            `${seconds(now - process.aliveAt)} (unresponsiveTimeout)`
        )
      }, { discard: true })
    })
    return Effect.forever(Effect.andThen(Effect.sleep(watchInterval), look))
  })
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// All in milliseconds.
const watchInterval = 1000
const firstDelay = 100
const longestDelay = 10_000
const recycleAgain = 10_000

// A worker that ends so soon after it serves has failed to start.
const earlyEnd = 1000

const seconds = (milliseconds: number): string => Duration.format(Duration.millis(Math.round(milliseconds)))
