/**
 * Where workers ask their supervisor: for sockets, and about one another.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type { FastCgiListenerError, FastCgiListenerErrorReason } from "../../../server/FastCgiListener.ts"
import type { Report, SupervisorStatus } from "../../../server/FastCgiWorkers.ts"
import { listenerError } from "../listenerError.ts"
import type { FromWorker, ListenOn } from "./messages.ts"
import { keyOf, type Offer, type SharedSockets } from "./sharedSockets.ts"
import type { WorkerProcess } from "./workerProcess.ts"

/** The questions that are answered here: all but the messages about the worker itself. */
export type Asked = Exclude<FromWorker, { readonly _tag: "Ready" | "Alive" }>

type Reported = Option.Option<Schema.Json>

export class Desk {
  private readonly sockets: SharedSockets
  private readonly processes: ReadonlySet<WorkerProcess>
  private readonly status: () => SupervisorStatus
  private readonly fork: (effect: Effect.Effect<void>) => void
  // Answers that a worker still owes: that it listens, by its own question; its report, by the supervisor's.
  private readonly offers = new WeakMap<WorkerProcess, Map<number, Deferred.Deferred<void, FastCgiListenerError>>>()
  private readonly reports = new Map<number, Deferred.Deferred<Reported>>()
  private lastId = 0

  constructor(options: {
    readonly sockets: SharedSockets
    readonly processes: ReadonlySet<WorkerProcess>
    readonly status: () => SupervisorStatus
    readonly fork: (effect: Effect.Effect<void>) => void
  }) {
    this.sockets = options.sockets
    this.processes = options.processes
    this.status = options.status
    this.fork = options.fork
  }

  receive(process: WorkerProcess, message: Asked): void {
    switch (message._tag) {
      case "Listen":
        return this.fork(this.listen(process, message.id, message.on))
      case "Listening":
        return this.offered(process, message.id, Effect.void)
      case "NotListening":
        return this.offered(process, message.id, Effect.fail(failure(message)))
      case "Passed":
        return this.fork(this.passed(process, message.id, message.name))
      case "Ask":
        return this.fork(this.ask(process, message.id, message.topic))
      case "Report": {
        const report = this.reports.get(message.id)
        if (report !== undefined) Deferred.doneUnsafe(report, Effect.succeed(Option.fromUndefinedOr(message.value)))
        return
      }
      case "Status":
        return process.send({ _tag: "Status", id: message.id, status: this.status() })
    }
  }

  private listen(process: WorkerProcess, id: number, on: ListenOn): Effect.Effect<void> {
    const offer: Offer = (handle) => {
      const listens = Deferred.makeUnsafe<void, FastCgiListenerError>()
      const offers = this.offers.get(process) ?? new Map<number, typeof listens>()
      this.offers.set(process, offers.set(id, listens))
      process.send({ _tag: "Socket", id }, handle)
      return Deferred.await(listens).pipe(
        Effect.raceFirst(
          Effect.flatMap(
            Deferred.await(process.exited),
            (ended) => Effect.fail(listenerError("Unknown", `The worker has ended (${ended}).`))
          )
        ),
        Effect.ensuring(Effect.sync(() => offers.delete(id)))
      )
    }
    return Effect.match(this.sockets.share(on, offer), {
      onSuccess: (address) => {
        process.sockets.add(keyOf(on))
        process.send({ _tag: "Bound", id, address })
      },
      onFailure: ({ message, reason }) => process.send({ _tag: "Failed", id, reason: reason._tag, message })
    })
  }

  private offered(process: WorkerProcess, id: number, result: Effect.Effect<void, FastCgiListenerError>): void {
    const offer = this.offers.get(process)?.get(id)
    if (offer !== undefined) Deferred.doneUnsafe(offer, result)
  }

  private passed(process: WorkerProcess, id: number, name: string | undefined): Effect.Effect<void> {
    return Effect.match(this.sockets.passed(name), {
      onSuccess: (sockets) => process.send({ _tag: "Sockets", id, sockets }),
      onFailure: ({ message, reason }) => process.send({ _tag: "Failed", id, reason: reason._tag, message })
    })
  }

  private ask(process: WorkerProcess, id: number, topic: string): Effect.Effect<void> {
    const asked = Array.from(this.processes).filter(({ state }) => state !== "starting")
    return Effect.map(
      Effect.forEach(asked, (process) => this.reportOf(process, topic), { concurrency: "unbounded" }),
      (reports) => process.send({ _tag: "Reports", id, reports: reports.flat() })
    )
  }

  private reportOf(process: WorkerProcess, topic: string): Effect.Effect<ReadonlyArray<Report<Schema.Json>>> {
    return Effect.suspend(() => {
      const id = ++this.lastId
      const report = Deferred.makeUnsafe<Reported>()
      this.reports.set(id, report)
      process.send({ _tag: "Report", id, topic })
      return Deferred.await(report).pipe(
        Effect.raceFirst(Effect.as(Deferred.await(process.exited), Option.none<Schema.Json>())),
        Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.succeed(Option.none<Schema.Json>()) }),
        Effect.map((value) => Option.isSome(value) ? [{ worker: process.worker, value: value.value }] : []),
        Effect.ensuring(Effect.sync(() => this.reports.delete(id)))
      )
    })
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// How long a worker may take to report.
const patience = "1 second"

const failure = ({ message, reason }: { readonly message: string; readonly reason: string }): FastCgiListenerError =>
  listenerError(reason as FastCgiListenerErrorReason["_tag"], message)
