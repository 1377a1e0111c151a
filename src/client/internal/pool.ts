/**
 * The requests of a pool: each waits for a place on a connection, begins there, and is sent again where that is safe. What is open
 * and who is next are `PoolConnections` and `PoolState`.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { Deadlines } from "../../connection/internal/deadlines.ts"
import type { FastCgiClientRequest } from "../FastCgiClient.ts"
import type { FastCgiClientError } from "../FastCgiClientError.ts"
import type { FastCgiPoolOptions } from "../FastCgiPool.ts"
import type { BeginOptions, ClientRequest } from "./clientRequest.ts"
import { fail } from "./failures.ts"
import { poolClosed, PoolConnections, type PoolEntry, type PoolOpening, type PoolUpstream } from "./poolConnections.ts"
import { Entry, type Place, type Waiter, type Want } from "./poolModel.ts"
import type { PoolOptions } from "./poolOptions.ts"
import type { PoolState } from "./poolState.ts"
import type { Repeats } from "./repeats.ts"
import { beginOptions, leave, started } from "./request.ts"
import type { WebServerEnd } from "./webServerEnd.ts"

/** Where a public pool has its inside. */
export const PoolTypeId = "~effect-fastcgi/FastCgiPool"

/** A request that has been begun, and where. */
export interface Begun {
  readonly connection: WebServerEnd
  readonly request: ClientRequest
  /** Whether the connection has carried a request before. */
  readonly reused: boolean
  readonly upstream: PoolUpstream
  /** The name of the upstream. */
  readonly name: string | undefined
  /** Says that the answer is complete: the request ends by itself, or is ended when it takes too long for that. */
  readonly leaveUnsafe: () => void
  /** Says that the head of the response is there. */
  readonly headUnsafe: () => void
}

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

interface PlaceFailure {
  readonly error: FastCgiClientError
  /** Where no connection could be opened. */
  readonly upstream?: PoolUpstream | undefined
}

interface Attempt extends Want<WebServerEnd> {
  /** It has been sent before. */
  readonly again: boolean
  /** How often it has been lost with a connection that was new. */
  readonly lost: number
}

export class Pool {
  readonly connections: PoolConnections
  private readonly state: PoolState<WebServerEnd>
  private readonly maxRepeats: number
  private readonly repeatDelay: Duration.Duration
  private readonly waitTimeout: Duration.Duration
  private readonly maxRequestsPerConnection: number

  constructor(options: PoolOptions, context: Context.Context<Scope.Scope>) {
    this.connections = new PoolConnections(options, context)
    this.state = this.connections.state
    this.maxRepeats = options.maxRepeats ?? 1
    this.repeatDelay = Duration.fromInputUnsafe(options.repeatDelay ?? "100 millis")
    this.waitTimeout = Duration.fromInputUnsafe(options.waitTimeout ?? "60 seconds")
    this.maxRequestsPerConnection = options.maxRequestsPerConnection ?? Infinity
  }

  /** Deadlines of so many milliseconds for requests of the pool, each of which is a call. */
  deadlines(milliseconds: number): Deadlines<() => void> {
    const { connections } = this
    const fork = (effect: Effect.Effect<void>) => connections.fork(effect)
    // Requests that come one after the other would each stop a timer, and start the next.
    return new Deadlines<() => void>(milliseconds, connections.clock, fork, (expire) => expire(), false)
  }

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
    const begin = beginOptions(request, this.connections.limits.keepConnection)
    const attempt = (want: Attempt): Effect.Effect<A, FastCgiClientError, R | R2 | Scope.Scope> =>
      Effect.flatMap(this.begin(request, begin, want), (begun) =>
        Effect.matchCauseEffect(use(begun), {
          onSuccess: (answer) => {
            this.connections.noting(begun.upstream, () => begun.upstream.health.succeeded())
            return Effect.succeed(answer)
          },
          onFailure: (cause) => {
            const error = cause.reasons.find(Cause.isFailReason)?.error
            const next = error === undefined ? undefined : this.afterFailure(error, begun, want, repeats)
            if (next === undefined) return Effect.failCause(cause)
            return this.isNowhereElse(next) ? Effect.delay(attempt(next), this.repeatDelay) : attempt(next)
          }
        }))
    return attempt({ repeatable: repeats.mayRunTwice, fresh, tried: [], again: false, lost: 0 })
  }

  // What has failed counts against its upstream, and may be tried once more.
  private afterFailure(
    { reason }: FastCgiClientError,
    { request, reused, upstream }: Begun,
    want: Attempt,
    { inMemory, mayRunTwice }: Repeats
  ): Attempt | undefined {
    const again = { ...want, again: true }
    const elsewhere = { ...again, tried: [...want.tried, upstream] }
    const repeated = (next: Attempt) => {
      this.connections.connectors[upstream.index].totals.repeated++
      return next
    }
    switch (reason._tag) {
      case "ConnectionLost":
        if (reason.received > 0) return undefined
        // A kept connection may be closed at any time, which says nothing of the request or of the upstream.
        if (reused && !want.fresh) return mayRunTwice ? repeated({ ...again, fresh: true }) : undefined
        // Beside others, the connection is new for the first of them only. It is the same loss for all.
        if (!reused) this.connections.failed(upstream)
        if (!mayRunTwice || want.lost >= this.maxRepeats) return undefined
        return repeated({ ...elsewhere, fresh: true, lost: want.lost + 1 })
      case "Overloaded":
        if (!inMemory || elsewhere.tried.length >= this.state.upstreams.length) return undefined
        return repeated(elsewhere)
      case "Timeout":
        if (request.received === 0) this.connections.failed(upstream)
        return undefined
      case "ProtocolError":
        this.connections.failed(upstream)
        return undefined
      default:
        return undefined
    }
  }

  // Whether what was lost with a new connection has been lost by every upstream.
  private isNowhereElse(next: Attempt): boolean {
    return next.lost > 0 && next.tried.length >= this.state.upstreams.length
  }

  private begin<E, R>(
    request: FastCgiClientRequest<E, R>,
    begin: BeginOptions,
    want: Attempt
  ): Effect.Effect<Begun, FastCgiClientError, R | Scope.Scope> {
    return Effect.uninterruptibleMask((restore) => {
      const attempt = (want: Attempt): Effect.Effect<Begun, FastCgiClientError, R | Scope.Scope> => {
        const now = this.connections.now()
        if (this.connections.closed) return Effect.fail(poolClosed())
        const place = this.state.take(want, now)
        if (place instanceof Entry) return placed(want, place, now)
        return Effect.matchEffect(
          place === undefined ? this.wait(want, now, restore) : this.untilOpened(place, restore),
          {
            onSuccess: (entry) => placed(want, entry, this.connections.now()),
            onFailure: ({ error, upstream }) =>
              upstream === undefined ? Effect.fail(error) : elsewhere(want, upstream, error)
          }
        )
      }
      const placed = (want: Attempt, entry: PoolEntry, now: number) => {
        if (entry.connection.available) return this.beginOn(entry, request, begin, now)
        this.state.giveBack(entry, now)
        // It was there a moment ago: nothing has been sent, so it goes elsewhere, but not for ever.
        if (entry.used > 0) return Effect.suspend(() => attempt(want))
        this.connections.failed(entry.upstream)
        const message = "the application closed the connection as soon as it was opened"
        return elsewhere(want, entry.upstream, fail({ _tag: "ConnectionLost", received: 0 }, message))
      }
      const elsewhere = (want: Attempt, upstream: PoolUpstream, error: FastCgiClientError) => {
        const tried = [...want.tried, upstream]
        return tried.length < this.state.upstreams.length ? attempt({ ...want, tried }) : Effect.fail(error)
      }
      return attempt(want)
    })
  }

  private beginOn<E, R>(
    entry: PoolEntry,
    request: FastCgiClientRequest<E, R>,
    options: BeginOptions,
    now: number
  ): Effect.Effect<Begun, FastCgiClientError, R | Scope.Scope> {
    const { connections } = this
    const { connection, upstream } = entry
    const { name, totals } = connections.connectors[upstream.index]
    const reused = entry.used > 0
    const last = entry.used + 1 >= this.maxRequestsPerConnection
    // Beside other requests, the application would take them for ended, too.
    const tellsLast = last && connections.limits.maxRequests === 1
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
      leaveUnsafe: () => leave(connection, request, (effect) => connections.fork(effect)),
      headUnsafe: () => totals.headTime.add((connections.now() - request.begunAt) / 1000)
    }))
  }

  // --- places -----------------------------------------------------------------------------------

  // Waits for a place: there is none at once.
  private wait(want: Attempt, now: number, restore: Restore): Effect.Effect<PoolEntry, PlaceFailure> {
    if (this.state.full && !want.again) {
      this.connections.totals.failed("PoolFull")
      const message = `all connections are in use, and ${this.state.waiting.size} requests wait for one already`
      return Effect.fail({ error: fail({ _tag: "PoolFull" }, message) })
    }
    // When its turn comes is late enough to know better who is alive.
    const waiter = this.state.wait({ ...want, tried: [] }, now, want.again)
    this.connections.totals.waiting++
    return restore(this.untilPlaced(waiter)).pipe(
      Effect.onExit((exit) =>
        Effect.sync(() => {
          this.connections.totals.waiting--
          this.connections.totals.waitTime.add((this.connections.now() - now) / 1000)
          if (Exit.isFailure(exit)) this.state.leave(waiter, this.connections.now())
        })
      ),
      Effect.flatMap((place) => place instanceof Entry ? Effect.succeed(place) : this.untilOpened(place, restore))
    )
  }

  private untilPlaced(waiter: Waiter<WebServerEnd>): Effect.Effect<Place<WebServerEnd>, PlaceFailure> {
    const placed = Effect.callback<Place<WebServerEnd>, PlaceFailure>((resume) => {
      const tell = () =>
        resume(waiter.place === undefined ? Effect.fail({ error: poolClosed() }) : Effect.succeed(waiter.place))
      if (waiter.place === undefined) waiter.wake = tell
      else tell()
    })
    return Effect.timeoutOrElse(placed, {
      duration: this.waitTimeout,
      orElse: () => {
        this.connections.totals.failed("PoolTimeout")
        const message = `no connection to the application got free within ${Duration.format(this.waitTimeout)}`
        return Effect.fail({ error: fail({ _tag: "PoolTimeout" }, message) })
      }
    })
  }

  private untilOpened(opening: PoolOpening, restore: Restore): Effect.Effect<PoolEntry, PlaceFailure> {
    return restore(this.connections.untilOpened(opening)).pipe(
      Effect.onInterrupt(() => Effect.sync(() => this.state.giveBack(opening, this.connections.now()))),
      Effect.mapError((error) => ({ error, upstream: opening.upstream }))
    )
  }
}

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
    yield* Effect.addFinalizer(() => Effect.sync(() => pool.connections.close()))
    pool.connections.start(options.ping)
    return pool
  })
