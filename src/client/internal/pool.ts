/**
 * Connections to one application, reused last in first out. A request takes one that has room, or opens another.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import type { FastCgiTransport } from "../../connection/FastCgiTransport.ts"
import type { FastCgiClientRequest } from "../FastCgiClient.ts"
import type { FastCgiClientError } from "../FastCgiClientError.ts"
import type { BeginOptions, ClientRequest, ConnectionOptions } from "./clientRequest.ts"
import { fail } from "./failures.ts"
import { beginOptions, defaults, open, started } from "./request.ts"
import type { WebServerEnd } from "./webServerEnd.ts"

/** The part of the options that `FastCgiHttpClient` and `FastCgiGateway` have in common. */
export interface PoolOptions<E, R> {
  readonly connect: Effect.Effect<FastCgiTransport, E, R>
  readonly keepConnection?: boolean | undefined
  readonly maxRequests?: number | undefined
  readonly maxIdle?: number | undefined
  readonly idleTimeout?: Duration.Input | undefined
  readonly connectTimeout?: Duration.Input | undefined
}

/** A request that has been begun, and where. */
export interface Begun {
  readonly connection: WebServerEnd
  readonly request: ClientRequest
  /** Whether the connection has carried a request before. */
  readonly reused: boolean
  /** Says that the answer is complete: the request ends by itself, or is ended when it takes too long for that. */
  readonly leaveUnsafe: () => void
}

interface Entry {
  readonly connection: WebServerEnd
  readonly scope: Scope.Closeable
  used: boolean
  idleSince: number
}

const defaultMaxIdle = 16
const defaultIdleTimeout = 60_000
const defaultConnectTimeout = 30_000

// How long END_REQUEST may take, in milliseconds, once the answer is complete (by its Content-Length, say): a program may
// have things to do behind its answer.
const endTimeout = 30_000

// How long a kept connection has to have been idle, in milliseconds, before it takes a request that may not run twice.
// php-fpm ends a worker that has had its `pm.max_requests` right behind END_REQUEST, and the connection with it, a moment
// later: what was sent in between was lost.
const settledAfter = 50

export class Pool<R> {
  readonly keepConnection: boolean
  private readonly options: PoolOptions<unknown, R>
  private readonly connectionOptions: ConnectionOptions
  private readonly scope: Scope.Scope
  private readonly context: Context.Context<R | Scope.Scope>
  private readonly maxIdle: number
  private readonly idleTimeout: Duration.Duration
  private readonly connectTimeout: Duration.Duration
  // Least recently used first.
  private entries: Array<Entry> = []
  private connecting = 0
  private waiting = new Set<() => void>()
  private reaping = false

  constructor(options: PoolOptions<unknown, R>, scope: Scope.Scope, context: Context.Context<R | Scope.Scope>) {
    this.options = options
    this.connectionOptions = { ...defaults, maxRequests: options.maxRequests ?? defaults.maxRequests }
    this.keepConnection = options.keepConnection ?? false
    this.scope = scope
    this.context = context
    this.maxIdle = options.maxIdle ?? defaultMaxIdle
    this.idleTimeout = Duration.fromInputUnsafe(options.idleTimeout ?? defaultIdleTimeout)
    this.connectTimeout = Duration.fromInputUnsafe(options.connectTimeout ?? defaultConnectTimeout)
  }

  /**
   * Begins a request on a connection that has room, or, if that is none or `fresh`, on a new one. One that is not
   * `repeatable` takes no connection that its application may be about to close.
   */
  request<E, R2>(
    request: FastCgiClientRequest<E, R2>,
    fresh: boolean,
    repeatable: boolean
  ): Effect.Effect<Begun, FastCgiClientError, R2 | Scope.Scope> {
    const begin = beginOptions(request, this.keepConnection)
    return Effect.uninterruptibleMask((restore) => {
      const attempt: Effect.Effect<Begun, FastCgiClientError, R2 | Scope.Scope> = Effect.suspend(() => {
        const entry = fresh ? undefined : this.available(repeatable)
        if (entry !== undefined) return this.begin(entry, request, begin)
        // One connection may be enough for all of them: the first opens it, the others look again.
        if (this.connectionOptions.maxRequests > 1 && this.connecting > 0 && !fresh) {
          return Effect.flatMap(restore(this.untilConnected), () => attempt)
        }
        return Effect.flatMap(restore(this.connect()), (entry) => this.begin(entry, request, begin))
      })
      return attempt
    })
  }

  private begin<E, R2>(
    entry: Entry,
    request: FastCgiClientRequest<E, R2>,
    options: BeginOptions
  ): Effect.Effect<Begun, FastCgiClientError, R2 | Scope.Scope> {
    const { connection } = entry
    // It was there a moment ago.
    if (!connection.available) {
      return Effect.fail(
        fail({ _tag: "ConnectionLost", received: 0 }, "the application closed the connection as soon as it was opened")
      )
    }
    const reused = entry.used
    entry.used = true
    // Whoever has the end of this answer may begin the next request before `changed` has seen that it ended.
    entry.idleSince = Infinity
    return Effect.map(
      started(connection, connection.beginUnsafe(options), request, options),
      (request) => ({ connection, request, reused, leaveUnsafe: () => this.leave(connection, request) })
    )
  }

  // An application that never sends END_REQUEST would keep a connection for each of its answers.
  private leave(connection: WebServerEnd, request: ClientRequest): void {
    if (!connection.leaveUnsafe(request)) return
    const message = `the application did not end the request within ${endTimeout / 1000} seconds of its whole answer`
    this.fork(Effect.timeoutOrElse(Effect.exit(Deferred.await(request.end)), {
      duration: endTimeout,
      orElse: () => Effect.sync(() => connection.abortUnsafe(request, fail({ _tag: "Timeout" }, message)))
    }))
  }

  private available(repeatable: boolean): Entry | undefined {
    const settled = this.now() - settledAfter
    let unsettled: Entry | undefined
    for (let i = this.entries.length - 1; i >= 0; i--) {
      const entry = this.entries[i]
      if (!entry.connection.available) continue
      if (repeatable || !entry.used || entry.connection.active > 0 || entry.idleSince <= settled) return entry
      unsettled ??= entry
    }
    // php-fpm gives a worker to each connection: the new one must not wait until this one's is free.
    unsettled?.connection.closeUnsafe()
    return undefined
  }

  private connect(): Effect.Effect<Entry, FastCgiClientError> {
    return Effect.suspend(() => {
      const scope = Scope.forkUnsafe(this.scope)
      this.connecting++
      let entry: Entry | undefined
      return open(this.options.connect, {
        ...this.connectionOptions,
        onChange: () => entry !== undefined && this.changed(entry)
      }).pipe(
        Effect.timeoutOrElse({
          duration: this.connectTimeout,
          orElse: () =>
            Effect.fail(
              fail(
                { _tag: "Timeout" },
                `no connection to the application within ${Duration.format(this.connectTimeout)}`
              )
            )
        }),
        Effect.provide(Context.add(this.context, Scope.Scope, scope)),
        Effect.map((connection) => {
          entry = { connection, scope, used: false, idleSince: this.now() }
          this.entries.push(entry)
          return entry
        }),
        Effect.onExit((exit) => {
          this.connecting--
          const waiting = this.waiting
          this.waiting = new Set()
          for (const wake of waiting) wake()
          return Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void
        })
      )
    })
  }

  private readonly untilConnected: Effect.Effect<void> = Effect.callback((resume) => {
    const wake = () => resume(Effect.void)
    this.waiting.add(wake)
    return Effect.sync(() => {
      this.waiting.delete(wake)
    })
  })

  // A request has ended on the connection, or it is closed.
  private changed(entry: Entry): void {
    const { connection } = entry
    if (connection.active > 0) return
    const at = this.entries.indexOf(entry)
    if (at === -1) return
    if (!connection.open) {
      this.entries.splice(at, 1)
      this.fork(Scope.close(entry.scope, Exit.void))
      return
    }
    entry.idleSince = this.now()
    // To the end, where it is taken from first.
    this.entries.splice(at, 1)
    this.entries.push(entry)
    const idle = this.entries.filter(isIdle)
    if (idle.length > this.maxIdle) idle[0].connection.closeUnsafe()
    if (!this.reaping && Duration.isFinite(this.idleTimeout)) {
      this.reaping = true
      this.fork(this.reap)
    }
  }

  private readonly reap: Effect.Effect<void> = Effect.suspend(() =>
    Effect.flatMap(Effect.sleep(this.idleTimeout), () => {
      const due = this.now() - Duration.toMillis(this.idleTimeout)
      for (const entry of this.entries.slice()) {
        if (isIdle(entry) && entry.idleSince <= due) entry.connection.closeUnsafe()
      }
      if (this.entries.some(isIdle)) return this.reap
      this.reaping = false
      return Effect.void
    })
  )

  /** Runs an Effect in the background, for as long as the pool lives. */
  fork(effect: Effect.Effect<unknown>, context: Context.Context<never> = this.context): void {
    Fiber.runIn(Effect.runForkWith(context)(effect), this.scope)
  }

  private now(): number {
    return Context.get(this.context, Clock.Clock).currentTimeMillisUnsafe()
  }
}

const isIdle = ({ connection }: Entry): boolean => connection.open && connection.active === 0

/** Creates a pool whose connections are closed with the scope. */
export const make = <E, R>(
  options: PoolOptions<E, R>
): Effect.Effect<Pool<R>, never, Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.map(
    Effect.context<Exclude<R, Scope.Scope> | Scope.Scope>(),
    // Each connection gets a scope of its own.
    (context) => new Pool<R>(options, Context.get(context, Scope.Scope), context as Context.Context<R | Scope.Scope>)
  )
