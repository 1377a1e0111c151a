/**
 * Runs a server: takes connections from the listener, counts them and their requests in and out, starts a fiber per
 * request, and drains. What a request means is the business of its handler.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Metric from "effect/Metric"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import type { FastCgiTransport } from "../../connection/FastCgiTransport.ts"
import { Deadlines } from "../../connection/internal/deadlines.ts"
import { LinkedItem, LinkedList } from "../../connection/internal/linkedList.ts"
import type { FastCgiParams } from "../../protocol/FastCgiParams.ts"
import { ProtocolStatus } from "../../protocol/FastCgiRecord.ts"
import * as FastCgiAdmission from "../FastCgiAdmission.ts"
import type { FastCgiLimit } from "../FastCgiLimits.ts"
import { FastCgiListener } from "../FastCgiListener.ts"
import * as FastCgiMetrics from "../FastCgiMetrics.ts"
import type { Totals } from "../FastCgiMetrics.ts"
import { type FastCgiServerOptions, toLimits } from "../FastCgiServerOptions.ts"
import { AfterResponse, LeftWork } from "./afterResponse.ts"
import type { Application, ApplicationReport } from "./application.ts"
import { ApplicationEnd, mostInParams } from "./applicationEnd.ts"
import type { AbortReason, ApplicationRequest } from "./applicationRequest.ts"
import { closingMoment, type Shared } from "./connectionLife.ts"
import { annotationsOf, isBodyTooLarge, isCounted, messageOf } from "./handlerFailures.ts"
import { LimitedLog } from "./limitedLog.ts"
import {
  badParams,
  forbidden,
  handlerFailed,
  internalServerError,
  type Refusal,
  refuseWith,
  serviceUnavailable,
  tooLargeBody,
  tooLate
} from "./refusals.ts"
import * as Respond from "./respond.ts"
import { Stop } from "./stopping.ts"
import { valuesOf } from "./values.ts"
import { Watch, type WatchedServer, type Watcher, watchersOf } from "./watch.ts"

/** The work of an engine. */
export interface EngineOptions<R> extends FastCgiServerOptions {
  /** Whether there is a handler for the role. */
  readonly handles: (role: number) => boolean
  /**
   * Starts the fiber that handles a request: answers through its functions and ends it. When the fiber ends without having
   * ended the request, that is ended with success, or with 500 when it failed.
   */
  readonly fork: (request: ApplicationRequest, context: Context.Context<R>) => Fiber.Fiber<void, unknown>
  /**
   * What of a fiber's failure is one, for an application that answers for its failures itself; undefined when it has meant
   * that answer. Left out, a failure behind the answer is one that nobody has been told of.
   */
  readonly failureOf?:
    | ((cause: Cause.Cause<unknown>, request: ApplicationRequest) => Cause.Cause<unknown> | undefined)
    | undefined
  /** Says what is wrong with the params of a request, which is then answered with 400. Default nothing. */
  readonly invalid?: ((params: FastCgiParams) => string | undefined) | undefined
  /** The request that a fiber of an application works on. */
  readonly requestOf: (context: Context.Context<never>) => ApplicationRequest | undefined
  /** Watchers beside those in the context. */
  readonly watchers?: ReadonlyArray<Watcher> | undefined
  /** Annotations of the interruption of a request that the web server has given up. */
  readonly abortAnnotations?: Context.Context<never> | undefined
}

/** Serves until the scope closes, then drains. */
export const serve = <R>(
  options: EngineOptions<R>
): Effect.Effect<void, never, FastCgiListener | Scope.Scope | R> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<FastCgiListener | Scope.Scope | R>()
    const listener = Context.get(context, FastCgiListener)
    const engine = new Engine<R>(options, context, listener.addresses)
    // Nobody waits for this fiber: the listener stands already, so what can fail here is a socket that fails later.
    const accepting = Effect.runForkWith(context)(
      Effect.tapCause(listener.run(engine.accept), (cause) =>
        Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.logError("the FastCGI listener failed", cause))
    )
    yield* Scope.addFinalizer(
      Context.get(context, Scope.Scope),
      Effect.suspend(() =>
        engine.end(listener.stopAccepting, Fiber.interrupt(accepting))
      )
    )
  })

/** Serves one connection until it has closed and its handlers have ended. Interrupting drains. */
export const serveConnection = <R>(
  options: EngineOptions<R>,
  transport: FastCgiTransport
): Effect.Effect<void, never, R> =>
  Effect.contextWith((context: Context.Context<R>) => {
    const engine = new Engine<R>(options, context)
    engine.accept(transport)
    return Effect.onInterrupt(engine.done, () => engine.end(Effect.void, Effect.void))
  })

class Engine<R> implements Application {
  private readonly options: EngineOptions<R>
  private readonly context: Context.Context<R>
  private readonly admission: FastCgiAdmission.FastCgiAdmission["Service"]
  private readonly limits: ReturnType<typeof toLimits>
  private readonly fork: <E>(effect: Effect.Effect<void, E, R>) => Fiber.Fiber<void, E>
  // Connections that run, and those that are held until they may.
  private readonly connections = new LinkedList<LinkedItem<ApplicationEnd>>()
  private readonly held = new LinkedList<LinkedItem<FastCgiTransport>>()
  private readonly handlers = new LinkedList<LinkedItem<Fiber.Fiber<void, unknown>>>()
  private readonly complaints: LimitedLog
  private readonly totals: Totals
  private readonly watch: Watch
  private readonly left: LeftWork
  private readonly deadlines: Deadlines<ApplicationRequest>
  private readonly shared: Shared
  // The variables of GET_VALUES, with their values. They do not change.
  private known: ReadonlyArray<readonly [string, string]> | undefined
  private leaving = false
  private draining = false
  // Requests of all connections that have begun and whose PARAMS have not ended.
  private inParams = 0
  private paramsBegins = 0
  private stopping = false
  private readonly stopped: Stop
  private whenIdle: (() => void) | undefined

  constructor(
    options: EngineOptions<R>,
    context: Context.Context<R>,
    addresses: WatchedServer["addresses"] = []
  ) {
    this.options = options
    this.admission = FastCgiAdmission.fromContext(context)
    this.limits = toLimits(options)
    this.left = new LeftWork({
      most: this.limits.maxAfterResponse,
      requestOf: options.requestOf,
      onFull: () =>
        this.reached(
          "maxAfterResponse",
          "a FastCGI response waits for work that was to follow it",
          "there is too much of it"
        ),
      onChange: (by) => {
        this.totals.afterResponse += by
        if (by < 0) this.idle()
      }
    })
    this.stopped = new Stop(this.limits.gracefulShutdownTimeout, () => ({
      requests: this.handlers.size,
      connections: this.connections.size
    }))
    this.context = this.stopped.addTo(Context.add(context, AfterResponse, this.left.take)) as Context.Context<R>
    this.fork = Effect.runForkWith(this.context)
    const { fork, limits } = this
    const clock = Context.get(this.context as Context.Context<never>, Clock.Clock)
    this.complaints = new LimitedLog(this.context as Context.Context<never>)
    this.totals = FastCgiMetrics.totals(this.context as Context.Context<never>)
    this.deadlines = new Deadlines(limits.handlerTimeout, clock, fork, (request) => this.late(request))
    this.shared = {
      limits,
      clock,
      dispatcher: Context.get(this.context as Context.Context<never>, Scheduler.Scheduler).makeDispatcher(),
      fork,
      closing: new Deadlines(closingMoment, clock, fork, (connection) => connection.destroy()),
      params: new Deadlines(limits.paramsTimeout, clock, fork, (request) => request.owner.onParamsLate(request))
    }
    const watchers = [...watchersOf(context as Context.Context<never>), ...options.watchers ?? []]
    this.watch = new Watch(watchers, clock, {
      addresses,
      connections: () => this.connections.size,
      connectionsHeld: () => this.held.size,
      afterResponse: () => this.left.size
    })
  }

  readonly accept = (transport: FastCgiTransport): void => {
    let waiting = true
    this.totals.connectionsAccepted++
    const held = new LinkedItem(transport)
    const giveUp = this.admission.connectUnsafe((release) => {
      waiting = false
      this.held.remove(held)
      this.connect(transport, release)
    })
    if (!waiting) return
    this.held.push(held)
    // Nobody reads it meanwhile. When it is closed its place in the queue is given up, and with it what it holds.
    transport.observeUnsafe({
      onDrain: () => {},
      onClose: () => {
        if (held.list === undefined) return
        this.held.remove(held)
        giveUp()
        this.idle()
      }
    })
    this.reached("maxConnections", "a FastCGI connection waits", `there are ${this.admission.maxConnections} already`)
  }

  private connect(transport: FastCgiTransport, release: () => void): void {
    const connection = new ApplicationEnd(transport, this, this.shared)
    const running = new LinkedItem(connection)
    this.connections.push(running)
    this.totals.connections++
    if (this.draining) connection.drain()
    else if (this.leaving) connection.leave()
    connection.run((defect) => {
      this.connections.remove(running)
      this.totals.connections--
      if (defect !== undefined) {
        this.complaints.log("ConnectionDefect", Effect.logError("a FastCGI connection ended with a defect", defect))
      }
      release()
      this.idle()
    })
  }

  // --- Application -----------------------------------------------------------------------------

  begin(role: number, active: number): ProtocolStatus | Refusal | undefined {
    if (!this.options.handles(role)) return refuseWith(role, ProtocolStatus.UnknownRole, forbidden)
    if (active > 0 && this.options.multiplexing === false) {
      return refuseWith(role, ProtocolStatus.CantMpxConn, serviceUnavailable)
    }
    const most = this.limits.maxConcurrentRequestsPerConnection
    if (active >= most) {
      return this.overloaded(role, "maxConcurrentRequestsPerConnection", `its connection has ${most} already`)
    }
    return undefined
  }

  // A request that holds memory before it can be admitted, refused or counted. A peer that begins many and ends none costs
  // the others none of theirs.
  paramsBegun(connection: ApplicationEnd): void {
    if (connection.inParams === 1) connection.inParamsSince = ++this.paramsBegins
    const most = this.limits.maxRequestsInParams
    if (++this.inParams <= most) return
    mostInParams(this.connections, connection).overrun(most)
  }

  paramsEnded(): void {
    this.inParams--
  }

  admit(request: ApplicationRequest): ProtocolStatus | Refusal | undefined {
    if (this.stopping) return serviceUnavailable
    if (this.watch.isOn && this.watch.hasPage(request)) return undefined
    if (!this.admission.beginUnsafe()) {
      if (this.watch.isOn) this.watch.refused(request, serviceUnavailable)
      return this.overloaded(request.role, "maxRequests", `there are ${this.admission.maxRequests} already`)
    }
    this.totals.requests++
    this.totals.requestsOpen++
    if (this.watch.isOn) this.watch.admitted(request)
    return undefined
  }

  private overloaded(role: number, limit: FastCgiLimit, why: string): ProtocolStatus | Refusal {
    this.reached(limit, "refused a FastCGI request", why)
    return this.options.overload === "protocolStatus"
      ? refuseWith(role, ProtocolStatus.Overloaded, serviceUnavailable)
      : serviceUnavailable
  }

  start(request: ApplicationRequest): void {
    const invalid = this.options.invalid?.(request.params)
    if (invalid !== undefined) {
      this.reached(undefined, `refused FastCGI request ${request.requestId}`, invalid)
      request.answer(badParams, 1)
      return
    }
    if (this.admission.concurrency === "unbounded" || request.page !== undefined) return this.run(request, undefined)
    const leave = this.admission.handleUnsafe((release) => {
      // The permit may come at the moment at which the request is given up.
      if (request.isOver) release()
      else this.run(request, release)
    })
    if (!request.isReady) return
    request.queue(leave)
    request.due = this.deadlines.add(request)
  }

  private run(request: ApplicationRequest, release: (() => void) | undefined): void {
    // The handler starts to run inside `fork`, and what it wakes there may end its own request.
    let running: Fiber.Fiber<void, unknown> | undefined
    let early: AbortReason | undefined
    request.start((reason) => {
      if (running === undefined) early ??= reason
      else this.interrupt(running, reason)
    })
    const { observation, page } = request
    observation?.onStart(release !== undefined)
    const fiber = running = page === undefined
      ? this.options.fork(request, this.context)
      : this.fork(Effect.flatMap(page, (response) => Respond.send(request, response)))
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) {
      this.handled(request, exit)
      release?.()
      return
    }
    const handler = new LinkedItem(fiber)
    this.handlers.push(handler)
    if (observation !== undefined) observation.fiber = fiber
    if (!request.isOver) request.due ??= this.deadlines.add(request)
    fiber.addObserver((exit) => {
      this.handlers.remove(handler)
      this.handled(request, exit)
      release?.()
      this.idle()
    })
    if (early !== undefined) this.interrupt(fiber, early)
  }

  private interrupt(fiber: Fiber.Fiber<void, unknown>, reason: AbortReason): void {
    if (reason !== "Shutdown") this.count(FastCgiMetrics.requestsAborted, 1)
    fiber.interruptUnsafe(undefined, reason === "Shutdown" ? undefined : this.options.abortAnnotations)
  }

  // The handler is interrupted, and what it makes of that is not waited for: it may be long, or never end.
  private late(request: ApplicationRequest): void {
    if (request.hasHead || !request.isOpen) return
    this.reached("handlerTimeout", `interrupted FastCGI request ${request.requestId}`, "it was not answered in time")
    request.stderr(tooLate)
    request.answer(serviceUnavailable, 1)
    request.forgo()
  }

  private handled(request: ApplicationRequest, exit: Exit.Exit<void, unknown>): void {
    if (Exit.isSuccess(exit)) return request.end(0)
    if (isBodyTooLarge(exit.cause) && !request.hasHead && request.isOpen) return request.answer(tooLargeBody, 0)
    const { failureOf } = this.options
    const cause = failureOf === undefined ? exit.cause : failureOf(exit.cause, request)
    if (cause !== undefined) this.failed(request, cause)
    if (request.hasHead || !request.isOpen) return request.fail()
    request.stderr(handlerFailed)
    request.answer(Cause.hasInterruptsOnly(exit.cause) ? serviceUnavailable : internalServerError, 1)
  }

  private failed(request: ApplicationRequest, cause: Cause.Cause<unknown>): void {
    if (isCounted(request, cause)) this.count(FastCgiMetrics.requestsFailed, 1)
    const message = messageOf(request, cause, this.options.failureOf !== undefined)
    if (message === undefined) return
    const log = Effect.annotateLogs(Effect.logError(message, cause), annotationsOf(request.params))
    this.fork(log as Effect.Effect<void>)
  }

  ended(request: ApplicationRequest): void {
    const { afterwards, observation, page } = request
    this.deadlines.delete(request.due)
    // Why is logged where it failed.
    if (request.isBrokenOff) this.count(FastCgiMetrics.requestsFailed, 1)
    if (page !== undefined) return
    if (observation !== undefined) this.watch.ended(observation)
    if (afterwards !== undefined) this.left.ended(request)
    this.admission.endUnsafe()
    this.totals.requestsOpen--
  }

  values(asked: FastCgiParams): ReadonlyArray<readonly [string, string]> {
    // Looked for in what is asked, and not the other way round: no text is made of names that nobody knows.
    return (this.known ??= valuesOf(this.admission, this.options)).filter(([name]) => asked.has(name))
  }

  report({ _tag, limit, message, requestId }: ApplicationReport): void {
    switch (_tag) {
      case "ConnectionClosed":
        if (limit === undefined) this.count(FastCgiMetrics.connectionErrors, 1)
        return this.reached(limit, "closed a FastCGI connection", message)
      case "ConnectionIdle":
        // Nothing is wrong with it.
        return this.count(FastCgiMetrics.limitsReached, "idleTimeout")
      case "RequestRefused":
        return this.reached(limit, `refused FastCGI request ${requestId}`, message)
      case "InputDiscarded":
        return this.reached(limit, `dropped input of FastCGI request ${requestId}`, message)
    }
  }

  // Reports an action and its reason: counted if it was a limit, and logged not too often.
  private reached(limit: FastCgiLimit | undefined, what: string, why: string): void {
    if (limit !== undefined) this.count(FastCgiMetrics.limitsReached, limit)
    this.complaints.log(
      limit ?? what.replace(/ \d+$/, ""),
      Effect.logWarning(`${what}: ${why}${limit === undefined ? "" : ` (${limit})`}`)
    )
  }

  private count<Input>(metric: Metric.Metric<Input, unknown>, input: Input): void {
    metric.updateUnsafe(input, this.context as Context.Context<never>)
  }

  // --- ends ------------------------------------------------------------------------------------

  /** Ends as the options say. */
  end(stopAccepting: Effect.Effect<void>, interruptAccepting: Effect.Effect<void>): Effect.Effect<void> {
    return this.options.disablePreemptiveShutdown === true
      ? Effect.andThen(interruptAccepting, this.stop)
      : this.drain(stopAccepting, interruptAccepting)
  }

  /**
   * Makes the next request of every connection its last, stops accepting, closes what is idle then, and lets what runs finish.
   * All that for a time, then interrupts it.
   */
  private drain(stopAccepting: Effect.Effect<void>, interruptAccepting: Effect.Effect<void>): Effect.Effect<void> {
    this.leaving = true
    for (const { value: connection } of this.connections.toArray()) connection.leave()
    const destroyHeld = Effect.sync(() => {
      for (const held of this.held.toArray()) {
        held.value.destroyUnsafe()
        this.held.remove(held)
      }
    })
    const finish = Effect.suspend(() => {
      this.draining = true
      for (const { value: connection } of this.connections.toArray()) connection.drain()
      // Who begins anew with another server, as the reader of a live stream does, no longer comes to this one.
      this.stopped.tell()
      return this.whenDone
    })
    const closed = Effect.andThen(stopAccepting, interruptAccepting)
    const finished = Effect.andThen(closed, Effect.andThen(destroyHeld, finish))
    return this.stopped.wait(finished, (what) => {
      this.reached("gracefulShutdownTimeout", "interrupted requests that were still running", what)
    }).pipe(
      Effect.provideContext(this.context as Context.Context<never>),
      Effect.andThen(interruptAccepting),
      Effect.andThen(destroyHeld),
      Effect.andThen(this.stop)
    )
  }

  /** Interrupts what runs and waits until its finalizers have run. */
  readonly stop: Effect.Effect<void> = Effect.suspend(() => {
    this.draining = true
    this.stopping = true
    for (const { value: connection } of this.connections.toArray()) connection.shutdown()
    for (const { value: fiber } of this.handlers.toArray()) fiber.interruptUnsafe()
    this.left.interrupt()
    return this.done
  })

  private get busy(): number {
    return this.connections.size + this.held.size + this.handlers.size + this.left.size
  }

  private idle(): void {
    if (this.busy === 0) this.whenIdle?.()
  }

  /** Waits until there is no connection and no handler. */
  get done(): Effect.Effect<void> {
    return Effect.tap(this.whenDone, () =>
      Effect.sync(() => {
        this.shared.closing.stop()
        this.shared.params.stop()
        this.deadlines.stop()
        this.watch.end()
      }))
  }

  private readonly whenDone: Effect.Effect<void> = Effect.suspend(() =>
    this.busy === 0 ? Effect.void : Effect.callback<void>((resume) => {
      this.whenIdle = () => resume(Effect.void)
    })
  )
}
