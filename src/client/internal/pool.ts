/**
 * A pool in time: what `PoolState` decides is done here. Connections are opened, requests wait, and are sent again where that is
 * safe.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { millisecondsOf, Timers } from "../../connection/internal/timers.ts"
import type { FastCgiClientRequest } from "../FastCgiClient.ts"
import type { FastCgiClientError } from "../FastCgiClientError.ts"
import * as Metrics from "../FastCgiClientMetrics.ts"
import type { FastCgiPing, FastCgiPoolOptions, FastCgiUpstream, FastCgiUpstreamState } from "../FastCgiPool.ts"
import type { BeginOptions, ClientRequest, ConnectionOptions } from "./clientRequest.ts"
import { fail } from "./failures.ts"
import { pinging } from "./ping.ts"
import { Entry, type Opening, type Place, type Upstream, type Waiter, type Want } from "./poolModel.ts"
import { limitsOf, type PoolOptions, upstreamsOf } from "./poolOptions.ts"
import { PoolState } from "./poolState.ts"
import type { Repeats } from "./repeats.ts"
import { beginOptions, defaults, leave, open, started } from "./request.ts"
import type { WebServerEnd } from "./webServerEnd.ts"

/** Where a public pool has its inside. */
export const PoolTypeId = "~effect-fastcgi/FastCgiPool"

/** A request that has been begun, and where. */
export interface Begun {
  readonly connection: WebServerEnd
  readonly request: ClientRequest
  /** Whether the connection has carried a request before. */
  readonly reused: boolean
  readonly upstream: UpstreamOf
  /** The name of the upstream. */
  readonly name: string | undefined
  /** Says that the answer is complete: the request ends by itself, or is ended when it takes too long for that. */
  readonly leaveUnsafe: () => void
  /** Says that the head of the response is there. */
  readonly headUnsafe: () => void
}

type UpstreamOf = Upstream<WebServerEnd>
type EntryOf = Entry<WebServerEnd>
type OpeningOf = Opening<WebServerEnd>

interface Connector {
  readonly name: string | undefined
  readonly connect: FastCgiUpstream<unknown, Scope.Scope>["connect"]
  readonly totals: Metrics.Totals
}

interface Pending {
  readonly opened: Deferred.Deferred<EntryOf, FastCgiClientError>
  fiber: Fiber.Fiber<unknown, unknown> | undefined
}

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

interface PlaceFailure {
  readonly error: FastCgiClientError
  /** Where no connection could be opened. */
  readonly upstream?: UpstreamOf | undefined
}

interface Attempt extends Want<WebServerEnd> {
  /** It has been sent before. */
  readonly again: boolean
  /** And lost with a connection that was new. */
  readonly lost: boolean
}

// How long after a failure connections are opened in advance again, in milliseconds.
const spareDelay = 1000

export class Pool {
  readonly keepConnection: boolean
  private readonly state: PoolState<WebServerEnd>
  private readonly connectors: ReadonlyArray<Connector>
  private readonly connectionOptions: ConnectionOptions
  private readonly scope: Scope.Scope
  private readonly context: Context.Context<Scope.Scope>
  private readonly clock: Clock.Clock
  private readonly totals: Metrics.Totals
  private readonly timers: Timers<"reap" | "relieve" | "fill">
  // Who waits for it may ask when it is over.
  private readonly pending = new WeakMap<OpeningOf, Pending>()
  private readonly scopes = new WeakMap<EntryOf, Scope.Closeable>()
  private readonly connectTimeout: Duration.Duration
  private readonly repeatDelay: Duration.Duration
  private readonly waitTimeout: Duration.Duration
  private readonly idleTimeout: number
  private readonly maxRequestsPerConnection: number
  private closed = false

  constructor(options: PoolOptions, context: Context.Context<Scope.Scope>) {
    const limits = limitsOf(options)
    this.scope = Context.get(context, Scope.Scope)
    this.context = context
    this.clock = Context.get(context, Clock.Clock)
    this.timers = new Timers((effect) => this.fork(effect))
    this.connectionOptions = { ...defaults, maxRequests: limits.maxRequests }
    this.keepConnection = limits.keepConnection
    this.connectTimeout = Duration.fromInputUnsafe(options.connectTimeout ?? "30 seconds")
    this.repeatDelay = Duration.fromInputUnsafe(options.repeatDelay ?? "100 millis")
    this.waitTimeout = Duration.fromInputUnsafe(options.waitTimeout ?? "60 seconds")
    this.idleTimeout = limits.idleTimeout
    this.maxRequestsPerConnection = options.maxRequestsPerConnection ?? Infinity
    this.totals = Metrics.totals(context, undefined)
    const upstreams = upstreamsOf(options)
    this.connectors = upstreams.map(({ connect, name }) => ({ name, connect, totals: Metrics.totals(context, name) }))
    this.state = new PoolState(
      limits,
      upstreams.map(({ limits }, i) => ({ limits, counts: this.connectors[i].totals })),
      {
        open: (opening) => this.open(opening),
        cancel: (opening) => this.cancel(opening),
        closed: (entry) => this.closeScope(entry),
        grant: (waiter) => waiter.wake?.()
      }
    )
  }

  /** Opens what is to be open in advance, and pings. */
  start(ping: FastCgiPoolOptions["ping"]): void {
    for (const upstream of this.state.upstreams) {
      this.state.fill(upstream)
      if (ping !== undefined) this.ping(upstream, ping)
    }
  }

  /** Fails who waits. The connections are closed with their scopes. */
  close(): void {
    this.closed = true
    for (let waiter = this.state.waiting.first; waiter !== undefined; waiter = this.state.waiting.first) {
      this.state.waiting.remove(waiter)
      waiter.wake?.()
    }
  }

  statesUnsafe(): ReadonlyArray<FastCgiUpstreamState> {
    const now = this.now()
    return this.state.upstreams.map(({ health, idle, index, openings, size }, _, all) => {
      return {
        name: this.connectors[index].name,
        connections: size - openings,
        idle: idle.size,
        opening: openings,
        usable: all.length === 1 || health.usable(now)
      }
    })
  }

  get waiting(): number {
    return this.state.waiting.size
  }

  // --- requests ---------------------------------------------------------------------------------

  /**
   * Begins a request, and waits for `use`, which is to succeed when something has come of the answer. When the connection is lost
   * before that, the request is begun once more if it may be. All that is begun is given up with the scope. `fresh` takes a
   * connection that has not carried a request.
   */
  run<A, E, R, R2>(
    request: FastCgiClientRequest<E, R>,
    repeats: Repeats,
    use: (begun: Begun) => Effect.Effect<A, FastCgiClientError, R2>,
    fresh = false
  ): Effect.Effect<A, FastCgiClientError, R | R2 | Scope.Scope> {
    const begin = beginOptions(request, this.keepConnection)
    const attempt = (want: Attempt): Effect.Effect<A, FastCgiClientError, R | R2 | Scope.Scope> =>
      Effect.flatMap(this.begin(request, begin, want), (begun) =>
        Effect.matchCauseEffect(use(begun), {
          onSuccess: (answer) => {
            this.noting(begun.upstream, () => begun.upstream.health.succeeded())
            return Effect.succeed(answer)
          },
          onFailure: (cause) => {
            const error = cause.reasons.find(Cause.isFailReason)?.error
            const next = error === undefined ? undefined : this.afterFailure(error, begun, want, repeats)
            if (next === undefined) return Effect.failCause(cause)
            return this.isNowhereElse(next) ? Effect.delay(attempt(next), this.repeatDelay) : attempt(next)
          }
        }))
    return attempt({ repeatable: repeats.mayRunTwice, fresh, tried: [], again: false, lost: false })
  }

  // What has failed counts against its upstream, and may be tried once more.
  private afterFailure(
    { reason }: FastCgiClientError,
    { request, reused, upstream }: Begun,
    want: Attempt,
    { inMemory, mayRunTwice }: Repeats
  ): Attempt | undefined {
    const elsewhere = { ...want, again: true, tried: [...want.tried, upstream] }
    switch (reason._tag) {
      case "ConnectionLost": {
        if (reason.received > 0) return undefined
        // A kept connection may be closed at any time.
        if (!reused) this.failed(upstream)
        if (!mayRunTwice || want.lost) return undefined
        const next = { ...(reused ? { ...want, again: true } : { ...elsewhere, lost: true }), fresh: true }
        if (this.isNowhereElse(next) && !Duration.isFinite(this.repeatDelay)) return undefined
        this.connectors[upstream.index].totals.repeated++
        return next
      }
      case "Overloaded":
        if (!inMemory || elsewhere.tried.length >= this.state.upstreams.length) return undefined
        this.connectors[upstream.index].totals.repeated++
        return elsewhere
      case "Timeout":
        if (request.received === 0) this.failed(upstream)
        return undefined
      case "ProtocolError":
        this.failed(upstream)
        return undefined
      default:
        return undefined
    }
  }

  // Whether what was lost with a new connection has been lost by every upstream.
  private isNowhereElse(next: Attempt): boolean {
    return next.lost && next.tried.length >= this.state.upstreams.length
  }

  private begin<E, R>(
    request: FastCgiClientRequest<E, R>,
    begin: BeginOptions,
    want: Attempt
  ): Effect.Effect<Begun, FastCgiClientError, R | Scope.Scope> {
    return Effect.uninterruptibleMask((restore) => {
      const attempt = (want: Attempt): Effect.Effect<Begun, FastCgiClientError, R | Scope.Scope> =>
        Effect.matchEffect(this.placeFor(want, restore), {
          onSuccess: (entry) => {
            if (entry.connection.available) return this.beginOn(entry, request, begin)
            this.state.giveBack(entry, this.now())
            // It was there a moment ago: nothing has been sent, so it goes elsewhere, but not for ever.
            if (entry.used > 0) return attempt(want)
            this.failed(entry.upstream)
            const message = "the application closed the connection as soon as it was opened"
            return elsewhere(want, entry.upstream, fail({ _tag: "ConnectionLost", received: 0 }, message))
          },
          onFailure: ({ error, upstream }) =>
            upstream === undefined ? Effect.fail(error) : elsewhere(want, upstream, error)
        })
      const elsewhere = (want: Attempt, upstream: UpstreamOf, error: FastCgiClientError) => {
        const tried = [...want.tried, upstream]
        return tried.length < this.state.upstreams.length ? attempt({ ...want, tried }) : Effect.fail(error)
      }
      return attempt(want)
    })
  }

  private beginOn<E, R>(
    entry: EntryOf,
    request: FastCgiClientRequest<E, R>,
    options: BeginOptions
  ): Effect.Effect<Begun, FastCgiClientError, R | Scope.Scope> {
    const { connection, upstream } = entry
    const { name, totals } = this.connectors[upstream.index]
    const reused = entry.used > 0
    const last = entry.used + 1 >= this.maxRequestsPerConnection
    // Beside other requests, the application would take them for ended, too.
    const tellsLast = last && this.connectionOptions.maxRequests === 1
    const now = this.now()
    totals.requests++
    totals.requestsOpen++
    const begun = connection.beginUnsafe(tellsLast ? { ...options, keepConnection: false } : options)
    begun.begunAt = now
    this.state.begun(entry, begun, now)
    if (last) connection.finishUnsafe()
    return Effect.map(started(connection, begun, request, options), (request) => ({
      connection,
      request,
      reused,
      upstream,
      name,
      leaveUnsafe: () => leave(connection, request, (effect) => this.fork(effect)),
      headUnsafe: () => totals.headTime.add(this.now() - request.begunAt)
    }))
  }

  // --- places -----------------------------------------------------------------------------------

  private placeFor(want: Attempt, restore: Restore): Effect.Effect<EntryOf, PlaceFailure> {
    return Effect.suspend(() => {
      const now = this.now()
      if (this.closed) return Effect.fail({ error: poolClosed() })
      const place = this.state.take(want, now)
      if (place instanceof Entry) return Effect.succeed(place)
      if (place !== undefined) return this.untilOpened(place, restore)
      if (this.state.full && !want.again) {
        this.totals.failed("PoolFull")
        const message = `all connections are in use, and ${this.state.waiting.size} requests wait for one already`
        return Effect.fail({ error: fail({ _tag: "PoolFull" }, message) })
      }
      // When its turn comes is late enough to know better who is alive.
      const waiter = this.state.wait({ ...want, tried: [] }, now, want.again)
      this.totals.waiting++
      return restore(this.untilPlaced(waiter)).pipe(
        Effect.onExit((exit) =>
          Effect.sync(() => {
            this.totals.waiting--
            this.totals.waitTime.add(this.now() - now)
            if (Exit.isFailure(exit)) this.state.leave(waiter, this.now())
          })
        ),
        Effect.flatMap((place) => place instanceof Entry ? Effect.succeed(place) : this.untilOpened(place, restore))
      )
    })
  }

  private untilPlaced(waiter: Waiter<WebServerEnd>): Effect.Effect<Place<WebServerEnd>, PlaceFailure> {
    const placed = Effect.callback<Place<WebServerEnd>, PlaceFailure>((resume) => {
      const tell = () =>
        resume(waiter.place === undefined ? Effect.fail({ error: poolClosed() }) : Effect.succeed(waiter.place))
      if (waiter.place === undefined) waiter.wake = tell
      else tell()
    })
    if (!Duration.isFinite(this.waitTimeout)) return placed
    return Effect.timeoutOrElse(placed, {
      duration: this.waitTimeout,
      orElse: () => {
        this.totals.failed("PoolTimeout")
        const message = `no connection to the application got free within ${Duration.format(this.waitTimeout)}`
        return Effect.fail({ error: fail({ _tag: "PoolTimeout" }, message) })
      }
    })
  }

  private untilOpened(opening: OpeningOf, restore: Restore): Effect.Effect<EntryOf, PlaceFailure> {
    const { upstream } = opening
    const pending = this.pending.get(opening)
    if (pending === undefined) return Effect.die(new Error("a place without a connection that is being opened"))
    return restore(Deferred.await(pending.opened)).pipe(
      Effect.onInterrupt(() => Effect.sync(() => this.state.giveBack(opening, this.now()))),
      Effect.mapError((error) => ({ error, upstream }))
    )
  }

  // --- connections ------------------------------------------------------------------------------

  private open(opening: OpeningOf): void {
    const { upstream } = opening
    const { connect, totals } = this.connectors[upstream.index]
    const pending: Pending = { opened: Deferred.makeUnsafe(), fiber: undefined }
    this.pending.set(opening, pending)
    if (this.closed) {
      Deferred.doneUnsafe(pending.opened, Exit.fail(poolClosed()))
      return this.state.openFailed(opening, this.now())
    }
    const scope = Scope.forkUnsafe(this.scope)
    const startedAt = this.now()
    let entry: EntryOf | undefined
    const opened = this.connected(connect, scope, {
      ...this.connectionOptions,
      onChange: () => entry !== undefined && this.settle(entry),
      onEnd: ({ begunAt, outcome }) => {
        totals.requestsOpen--
        totals.endTime.add(this.now() - begunAt)
        if (outcome !== undefined && "reason" in outcome) totals.failed(outcome.reason._tag)
        // Whoever has the end of this answer may begin the next request at once.
        if (entry !== undefined) this.settle(entry)
      }
    })
    pending.fiber = this.fork(Effect.onExit(opened, (exit) =>
      Effect.suspend(() => {
        const now = this.now()
        // Given up.
        if (opening.over) return Scope.close(scope, exit)
        if (Exit.isSuccess(exit)) {
          totals.opened++
          totals.connectTime.add(now - startedAt)
          entry = this.state.opened(opening, exit.value)
          this.scopes.set(entry, scope)
          Deferred.doneUnsafe(pending.opened, Exit.succeed(entry))
          this.settle(entry)
          return Effect.void
        }
        totals.connectFailures++
        const failure = exit.cause.reasons.find(Cause.isFailReason)?.error
        this.noting(upstream, () => this.state.openFailed(opening, now))
        Deferred.doneUnsafe(pending.opened, Exit.fail(failure ?? poolClosed()))
        if (upstream.spareFailed) this.timers.start("fill", spareDelay, this.fill)
        return Scope.close(scope, exit)
      })))
  }

  private cancel(opening: OpeningOf): void {
    const { fiber, opened } = this.pending.get(opening)!
    if (opening.entry !== undefined) Deferred.doneUnsafe(opened, Exit.succeed(opening.entry))
    fiber?.interruptUnsafe()
  }

  private connected(
    connect: Connector["connect"],
    scope: Scope.Scope,
    options: ConnectionOptions
  ): Effect.Effect<WebServerEnd, FastCgiClientError> {
    const { connectTimeout } = this
    return open(connect, options).pipe(
      (opened) =>
        !Duration.isFinite(connectTimeout) ? opened : Effect.timeoutOrElse(opened, {
          duration: connectTimeout,
          orElse: () =>
            Effect.fail(
              fail({ _tag: "Timeout" }, `no connection to the application within ${Duration.format(connectTimeout)}`)
            )
        }),
      Effect.provide(Context.add(this.context, Scope.Scope, scope))
    )
  }

  // Something has ended on a connection, or it has closed.
  private settle(entry: EntryOf): void {
    this.state.settle(entry, this.now())
    if (entry.upstream.idle.size === 0) return
    if (Number.isFinite(this.idleTimeout)) this.timers.start("reap", this.idleTimeout, this.reap)
    if (this.state.mayStarve) this.timers.start("relieve", PoolState.reliefAfter, this.relieve)
  }

  private readonly reap = (): void => {
    if (this.state.reap(this.now())) this.timers.start("reap", this.idleTimeout, this.reap)
  }

  private readonly relieve = (): void => {
    this.state.relieve(this.now())
    if (this.state.mayStarve) this.timers.start("relieve", PoolState.reliefAfter, this.relieve)
  }

  private readonly fill = (): void => {
    for (const upstream of this.state.upstreams) if (upstream.spareFailed) this.state.fill(upstream)
  }

  private closeScope(entry: EntryOf): void {
    const scope = this.scopes.get(entry)
    if (scope !== undefined) this.fork(Scope.close(scope, Exit.void))
  }

  private ping(upstream: UpstreamOf, options: FastCgiPing): void {
    const { connect } = this.connectors[upstream.index]
    this.fork(pinging(options, {
      connect: (scope) => this.connected(connect, scope, this.connectionOptions),
      hold: () => this.state.hold(upstream),
      free: () => this.state.free(upstream, this.now()),
      tell: (alive) => this.noting(upstream, () => upstream.health.ponged(alive))
    }))
  }

  // --- upstreams --------------------------------------------------------------------------------

  private failed(upstream: UpstreamOf): void {
    this.noting(upstream, () => upstream.health.failed(this.now()))
  }

  // Logs that an upstream is left out from now on, or is not any more.
  private noting(upstream: UpstreamOf, change: () => void): void {
    if (this.connectors.length === 1) return change()
    const before = upstream.health.usable(this.now())
    change()
    const after = upstream.health.usable(this.now())
    if (before === after) return
    const name = this.connectors[upstream.index].name ?? `number ${upstream.index + 1}`
    this.fork(
      after
        ? Effect.logInfo(`the FastCGI upstream ${name} gets requests again`)
        : Effect.logWarning(`the FastCGI upstream ${name} has failed, and gets no requests for a while`)
    )
  }

  // --- internal ---------------------------------------------------------------------------------

  /** Runs an Effect in the background, for as long as the pool lives. */
  fork<A, E>(effect: Effect.Effect<A, E>, context: Context.Context<never> = this.context): Fiber.Fiber<A, E> {
    return Fiber.runIn(Effect.runForkWith(context)(effect), this.scope)
  }

  private now(): number {
    return millisecondsOf(this.clock)
  }
}

const poolClosed = () => fail({ _tag: "Closed" }, "the pool is closed")

/** Creates a pool whose connections are closed with the scope. Each has a scope of its own, and the rest of the context. */
export const make = <E, R>(
  options: FastCgiPoolOptions<E, R>
): Effect.Effect<Pool, never, Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<Exclude<R, Scope.Scope> | Scope.Scope>()
    // Each connection gets a scope of its own.
    // Everything that it does is interrupted when it is closed already.
    const scope = yield* Scope.fork(Context.get(context, Scope.Scope))
    const pool = new Pool(options as PoolOptions, Context.add(context, Scope.Scope, scope))
    yield* Effect.addFinalizer(() => Effect.sync(() => pool.close()))
    pool.start(options.ping)
    return pool
  })
