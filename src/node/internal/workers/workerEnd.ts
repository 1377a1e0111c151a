/**
 * The worker's end of the channel to its supervisor: gets the sockets that it listens on, says that it is alive, reports.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Net from "node:net"
import { monitorEventLoopDelay } from "node:perf_hooks"
import {
  FastCgiListener,
  type FastCgiListenerError,
  type FastCgiListenerErrorReason
} from "../../../server/FastCgiListener.ts"
import { FastCgiWorkers, type Report, Reporters, type SupervisorStatus } from "../../../server/FastCgiWorkers.ts"
import type { Bound } from "../acceptor.ts"
import { inetAddress } from "../inetAddress.ts"
import { bindFd } from "../inheritedSocket.ts"
import { listenerError } from "../listenerError.ts"
import type { PassedSocket } from "../systemdSockets.ts"
import {
  type Figures,
  FromSupervisor,
  type FromWorker,
  type ListenOn,
  unwrap,
  workerVariable,
  wrap
} from "./messages.ts"

/** The variables that make this process a worker. */
const Place = Schema.fromJsonString(Schema.Struct({
  worker: Schema.Int,
  /** After how many requests it says at once how many there were. */
  maxRequests: Schema.optionalKey(Schema.Int)
}))

/** Reads the environment of a worker. */
export const encodePlace: (place: typeof Place.Type) => string = Schema.encodeSync(Place)

/** The worker's end, in a process that a supervisor has started. The environment tells of it once. */
export const workerEnd = (): WorkerEnd | undefined => {
  if (taken === undefined) {
    const text = process.env[workerVariable]
    // Programs that this one starts are none.
    delete process.env[workerVariable]
    const place = text === undefined || process.send === undefined
      ? Option.none()
      : Schema.decodeOption(Place)(text)
    taken = { end: Option.isSome(place) ? new WorkerEnd(place.value) : undefined }
  }
  return taken.end
}

let taken: { readonly end: WorkerEnd | undefined } | undefined

interface Answer {
  readonly message: FromSupervisor
  readonly handle: unknown
}

export class WorkerEnd {
  readonly worker: number
  // Where the app counts its requests.
  private context: Context.Context<never> = Context.empty()
  /** Whether the app says itself when it serves. Otherwise it does as soon as one of its listeners is run. */
  saysReady = false

  private readonly maxRequests: number
  private readonly delays = monitorEventLoopDelay({ resolution: delayResolution })
  private readonly reporters = new Reporters()
  private readonly answers = new Map<number, Queue.Queue<Answer>>()
  private lastId = 0
  private isReady = false
  private isLeaving = false
  private spent: NodeJS.Timeout | undefined

  constructor(place: typeof Place.Type) {
    this.worker = place.worker
    this.maxRequests = place.maxRequests ?? Infinity
    process.on("message", (message, handle) => this.receive(unwrap(message), handle))
    process.on("disconnect", () => this.abandoned())
    // A reload is the supervisor's business; a terminal that is closed tells it of everybody.
    process.on("SIGHUP", () => {})
    process.channel?.unref()
    this.delays.enable()
    setInterval(() => this.alive(), interval).unref()
    if (place.maxRequests !== undefined) this.spent = setInterval(() => this.lookAtRequests(), spentInterval).unref()
  }

  /** The other workers, for the app. */
  readonly workers: FastCgiWorkers = {
    supervisor: Effect.suspend(() =>
      this.question<Option.Option<SupervisorStatus>>(
        (id) => ({ _tag: "Status", id }),
        ({ message }) => message._tag === "Status" ? Effect.succeedSome(message.status) : Effect.succeedNone
      )
    ).pipe(Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.succeedNone })),
    register: this.reporters.register,
    ask: (topic) =>
      Effect.suspend(() =>
        this.question<ReadonlyArray<Report<Schema.Json>>>(
          (id) => ({ _tag: "Ask", id, topic }),
          ({ message }) => Effect.succeed(message._tag === "Reports" ? message.reports : [])
        )
      ).pipe(Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.succeed([]) }))
  }

  /** Makes the server listen on a socket of the supervisor's, which binds it when it is the first time that it is asked for. */
  readonly bind = (
    server: Net.Server,
    on: ListenOn,
    backlog: number
  ): Effect.Effect<Bound, FastCgiListenerError> =>
    this.conversation((id, next) =>
      Effect.gen({ self: this }, function*() {
        this.send({ _tag: "Listen", id, on })
        const { handle } = yield* Effect.flatMap(next, unlessFailed)
        // Node gives the socket as a handle of libuv. It is left alone and closed with the process: the server has the
        // descriptor from here on.
        const { closed, address: own } = yield* Effect.tapError(
          bindFd(server, { fd: (handle as { readonly fd: number }).fd, backlog }),
          ({ message, reason }) =>
            Effect.sync(() => this.send({ _tag: "NotListening", id, reason: reason._tag, message }))
        )
        this.send({ _tag: "Listening", id })
        const { message } = yield* Effect.flatMap(next, unlessFailed)
        const address = message._tag === "Bound" ? message.address : undefined
        return {
          address: address?._tag === "Path"
            ? NetAddress.unixPathAddress(address.path)
            : address?._tag === "Inet"
            ? Option.getOrElse(inetAddress(address.host, address.port), () => own)
            : own,
          // The name is the supervisor's to take away.
          closed
        }
      })
    )

  /** The sockets that systemd has passed to the supervisor. */
  readonly passed = (name: string | undefined): Effect.Effect<ReadonlyArray<PassedSocket>, FastCgiListenerError> =>
    this.question(
      (id) => name === undefined ? { _tag: "Passed", id } : { _tag: "Passed", id, name },
      (answer) => Effect.map(unlessFailed(answer), ({ message }) => message._tag === "Sockets" ? message.sockets : [])
    )

  /** Says that the app serves. */
  readonly ready = (): void => {
    if (this.isReady) return
    this.isReady = true
    this.alive()
    this.send({ _tag: "Ready" })
  }

  /** The listener, of which the supervisor is told. */
  readonly watched = (listener: FastCgiListener["Service"]): FastCgiListener["Service"] =>
    FastCgiListener.of({
      address: listener.address,
      addresses: listener.addresses,
      run: (onConnection) =>
        Effect.suspend(() => {
          if (!this.saysReady) this.ready()
          return listener.run(onConnection)
        }),
      stopAccepting: Effect.suspend(() => {
        this.isLeaving = true
        return listener.stopAccepting
      })
    })

  /** The main program of the worker, which sees the others, and whose requests are counted to the end. */
  readonly runs = <A, E>(main: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.contextWith((context: Context.Context<never>) => {
      this.context = context
      return Effect.ensuring(main, this.last)
    }).pipe(Effect.provideService(FastCgiWorkers, this.workers))

  private readonly last = Effect.callback<void>((resume) => {
    if (!process.connected) return resume(Effect.void)
    process.send?.(wrap({ _tag: "Alive", figures: this.figures() }), undefined, undefined, () => resume(Effect.void))
  })

  private question<A, E = never>(
    message: (id: number) => FromWorker,
    answer: (answer: Answer) => Effect.Effect<A, E>
  ): Effect.Effect<A, E> {
    return this.conversation((id, next) => {
      this.send(message(id))
      return Effect.flatMap(next, answer)
    })
  }

  private conversation<A, E>(
    hold: (id: number, next: Effect.Effect<Answer>) => Effect.Effect<A, E>
  ): Effect.Effect<A, E> {
    return Effect.flatMap(Queue.unbounded<Answer>(), (queue) => {
      const id = ++this.lastId
      this.answers.set(id, queue)
      return Effect.ensuring(hold(id, Queue.take(queue)), Effect.sync(() => this.answers.delete(id)))
    })
  }

  private send(message: FromWorker): void {
    // Fails when the supervisor has just gone away, which "disconnect" tells.
    if (process.connected) process.send?.(wrap(message), undefined, undefined, () => {})
  }

  private receive(content: unknown, handle: unknown): void {
    const decoded = decode(content)
    if (Option.isNone(decoded)) return
    const message = decoded.value
    if (message._tag === "Report") {
      Effect.runForkWith(this.context)(
        Effect.map(this.reporters.report(message.topic), (value) =>
          this.send(
            Option.isSome(value)
              ? { _tag: "Report", id: message.id, value: value.value }
              : { _tag: "Report", id: message.id }
          ))
      )
      return
    }
    const queue = this.answers.get(message.id)
    if (queue !== undefined) Queue.offerUnsafe(queue, { message, handle })
  }

  private alive(): void {
    this.send({ _tag: "Alive", figures: this.figures() })
    this.delays.reset()
  }

  private lookAtRequests(): void {
    if (this.requests() < this.maxRequests) return
    clearInterval(this.spent)
    this.alive()
  }

  private figures(): Figures {
    const { system, user } = process.cpuUsage()
    // The histogram counts the time between two of its looks; without a delay that is its resolution.
    const longest = this.delays.max / 1e6 - delayResolution
    const count = countOf(Metric.snapshotUnsafe(this.context))
    return {
      requests: count("fastcgi_requests"),
      requestsOpen: count("fastcgi_requests_open"),
      connections: count("fastcgi_connections"),
      memory: process.memoryUsage.rss(),
      eventLoopDelay: Math.max(0, longest),
      cpu: (user + system) / 1000
    }
  }

  private requests(): number {
    return countOf(Metric.snapshotUnsafe(this.context))("fastcgi_requests")
  }

  // Nobody would end this process any more: as if the supervisor had said so.
  private abandoned(): void {
    if (this.isLeaving) return
    if (!process.emit("SIGTERM", "SIGTERM")) process.exit(1)
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// Milliseconds.
const interval = 1000
const spentInterval = 100
const delayResolution = 20

// How long an answer of the supervisor may take: it waits a second for the other workers.
const patience = "2 seconds"

const decode = Schema.decodeUnknownOption(FromSupervisor)

const unlessFailed = (answer: Answer): Effect.Effect<Answer, FastCgiListenerError> =>
  answer.message._tag === "Failed"
    ? Effect.fail(listenerError(answer.message.reason as FastCgiListenerErrorReason["_tag"], answer.message.message))
    : Effect.succeed(answer)

// Of all servers, whatever attributes they count with.
const countOf = (snapshot: ReadonlyArray<Metric.Metric.Snapshot>) => (id: string): number =>
  snapshot.reduce(
    (sum, metric) =>
      metric.id !== id
        ? sum
        : metric.type === "Counter"
        ? sum + Number(metric.state.count)
        : metric.type === "Gauge"
        ? sum + Number(metric.state.value)
        : sum,
    0
  )
