/**
 * The connections of a pool in time: what `PoolState` decides is done here. They are opened, counted, pinged, closed when they
 * have been idle, and each upstream's health is noted and logged.
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
import type { FastCgiClientError } from "../FastCgiClientError.ts"
import * as Metrics from "../FastCgiClientMetrics.ts"
import type { FastCgiPing, FastCgiPoolOptions, FastCgiUpstream, FastCgiUpstreamState } from "../FastCgiPool.ts"
import type { ConnectionOptions } from "./clientRequest.ts"
import { fail } from "./failures.ts"
import { pinging } from "./ping.ts"
import type { Entry, Opening, PoolLimits, Upstream } from "./poolModel.ts"
import { limitsOf, type PoolOptions, upstreamsOf } from "./poolOptions.ts"
import { PoolState, reliefAfter } from "./poolState.ts"
import { defaults, open } from "./request.ts"
import type { WebServerEnd } from "./webServerEnd.ts"

export type PoolUpstream = Upstream<WebServerEnd>
export type PoolEntry = Entry<WebServerEnd>
export type PoolOpening = Opening<WebServerEnd>

/** How an upstream is reached, and what it amounts to. */
interface Connector {
  readonly name: string | undefined
  readonly connect: FastCgiUpstream<unknown, Scope.Scope>["connect"]
  readonly totals: Metrics.Totals
}

interface Pending {
  readonly opened: Deferred.Deferred<PoolEntry, FastCgiClientError>
  fiber: Fiber.Fiber<unknown, unknown> | undefined
}

// How long after a failure connections are opened in advance again, in milliseconds.
const spareDelay = 1000

export class PoolConnections {
  readonly state: PoolState<WebServerEnd>
  readonly connectors: ReadonlyArray<Connector>
  /** What is counted of no upstream. */
  readonly totals: Metrics.Totals
  readonly limits: PoolLimits
  private readonly connectionOptions: ConnectionOptions
  private readonly scope: Scope.Scope
  private readonly context: Context.Context<Scope.Scope>
  readonly clock: Clock.Clock
  private readonly timers: Timers<"reap" | "relieve" | "fill">
  // Who waits for it may ask when it is over.
  private readonly pending = new WeakMap<PoolOpening, Pending>()
  private readonly scopes = new WeakMap<PoolEntry, Scope.Closeable>()
  private readonly connectTimeout: Duration.Duration
  /** Nobody gets a connection any more. */
  closed = false

  constructor(options: PoolOptions, context: Context.Context<Scope.Scope>) {
    this.limits = limitsOf(options)
    this.scope = Context.get(context, Scope.Scope)
    this.context = context
    this.clock = Context.get(context, Clock.Clock)
    this.timers = new Timers((effect) => this.fork(effect))
    this.connectionOptions = { ...defaults, maxRequests: this.limits.maxRequests }
    this.connectTimeout = Duration.fromInputUnsafe(options.connectTimeout ?? "30 seconds")
    this.totals = Metrics.totals(context, undefined)
    const upstreams = upstreamsOf(options)
    this.connectors = upstreams.map(({ connect, name }) => ({ name, connect, totals: Metrics.totals(context, name) }))
    this.state = new PoolState(
      this.limits,
      upstreams.map(({ limits }, i) => ({ limits, counts: this.connectors[i].totals })),
      {
        open: (opening) => this.open(opening),
        cancel: (opening) => this.cancel(opening),
        closed: (entry) => this.fork(Scope.close(this.scopes.get(entry)!, Exit.void)),
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
    return this.state.upstreams.map(({ health, idle, index, openings, size }, _, all) => ({
      name: this.connectors[index].name,
      connections: size - openings,
      idle: idle.size,
      opening: openings,
      usable: all.length === 1 || health.usable(now)
    }))
  }

  /** The connection, when it is open. */
  untilOpened(opening: PoolOpening): Effect.Effect<PoolEntry, FastCgiClientError> {
    return Deferred.await(this.pending.get(opening)!.opened)
  }

  // --- opening and closing ---------------------------------------------------------------------

  private open(opening: PoolOpening): void {
    // One in advance: nobody asks for a place any more.
    if (this.closed) return this.state.openFailed(opening, this.now())
    const { upstream } = opening
    const { connect, totals } = this.connectors[upstream.index]
    const pending: Pending = { opened: Deferred.makeUnsafe(), fiber: undefined }
    this.pending.set(opening, pending)
    const scope = Scope.forkUnsafe(this.scope)
    const startedAt = this.now()
    let entry: PoolEntry | undefined
    const opened = this.connected(connect, scope, {
      ...this.connectionOptions,
      onChange: () => entry !== undefined && this.settle(entry, this.now()),
      onEnd: ({ begunAt, outcome }) => {
        const now = this.now()
        totals.requestsOpen--
        totals.endTime.add((now - begunAt) / 1000)
        if (outcome !== undefined && "reason" in outcome) totals.failed(outcome.reason._tag)
        // Whoever has the end of this answer may begin the next request at once.
        if (entry !== undefined) this.settle(entry, now)
      }
    })
    pending.fiber = this.fork(Effect.onExit(opened, (exit) =>
      Effect.suspend(() => {
        const now = this.now()
        // Given up.
        if (opening.over) return Scope.close(scope, exit)
        if (Exit.isSuccess(exit)) {
          totals.opened++
          totals.connectTime.add((now - startedAt) / 1000)
          entry = this.state.opened(opening, exit.value)
          this.scopes.set(entry, scope)
          Deferred.doneUnsafe(pending.opened, Exit.succeed(entry))
          this.settle(entry, now)
          return Effect.void
        }
        totals.connectFailures++
        this.noting(upstream, () => this.state.openFailed(opening, now))
        Deferred.doneUnsafe(
          pending.opened,
          Cause.hasInterruptsOnly(exit.cause) ? Exit.fail(poolClosed()) : Exit.failCause(exit.cause)
        )
        if (upstream.spareFailed) this.timers.start("fill", spareDelay, this.fill)
        return Scope.close(scope, exit)
      })))
  }

  private cancel(opening: PoolOpening): void {
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
      Effect.timeoutOrElse({
        duration: connectTimeout,
        orElse: () => {
          const message = `no connection to the application within ${Duration.format(connectTimeout)}`
          return Effect.fail(fail({ _tag: "Timeout" }, message))
        }
      }),
      Effect.provide(Context.add(this.context, Scope.Scope, scope))
    )
  }

  // Something has ended on a connection, or it has closed.
  private settle(entry: PoolEntry, now: number): void {
    this.state.settle(entry, now)
    if (entry.upstream.idle.size === 0) return
    if (Number.isFinite(this.limits.idleTimeout)) this.timers.start("reap", this.limits.idleTimeout, this.reap)
    if (this.state.mayStarve) this.timers.start("relieve", reliefAfter, this.relieve)
  }

  private readonly reap = (): void => {
    if (this.state.reap(this.now())) this.timers.start("reap", this.limits.idleTimeout, this.reap)
  }

  private readonly relieve = (): void => {
    this.state.relieve(this.now())
    if (this.state.mayStarve) this.timers.start("relieve", reliefAfter, this.relieve)
  }

  private readonly fill = (): void => {
    for (const upstream of this.state.upstreams) if (upstream.spareFailed) this.state.fill(upstream)
  }

  private ping(upstream: PoolUpstream, options: FastCgiPing): void {
    const { connect } = this.connectors[upstream.index]
    this.fork(pinging(options, {
      connect: (scope) => this.connected(connect, scope, this.connectionOptions),
      hold: () => this.state.hold(upstream),
      free: () => this.state.free(upstream, this.now()),
      tell: (alive) => this.noting(upstream, () => upstream.health.ponged(alive))
    }))
  }

  // --- upstreams --------------------------------------------------------------------------------

  /** Counts a failure against it. */
  failed(upstream: PoolUpstream): void {
    this.noting(upstream, () => upstream.health.failed(this.now()))
  }

  /** Changes its health, and logs that it is left out from now on, or is not any more. */
  noting(upstream: PoolUpstream, change: () => void): void {
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

  /** Milliseconds. */
  now(): number {
    return millisecondsOf(this.clock)
  }
}

/** Nobody gets a connection any more. */
export const poolClosed = () => fail({ _tag: "Closed" }, "the pool is closed")
