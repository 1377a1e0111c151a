/**
 * What the options of a pool amount to: limits with their defaults, one or more upstreams.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { FastCgiPoolOptions, FastCgiUpstream } from "../FastCgiPool.ts"
import type { PoolLimits, UpstreamLimits } from "./poolModel.ts"

/** What connecting needs is in the context of the pool. */
export type PoolOptions = FastCgiPoolOptions<unknown, Scope.Scope>

/** The limits of all upstreams together. */
export const limitsOf = (options: PoolOptions): PoolLimits => ({
  keepConnection: options.keepConnection ?? false,
  maxRequests: options.maxRequests ?? 1,
  minIdle: options.minIdle ?? 0,
  maxIdle: options.maxIdle ?? 16,
  idleTimeout: Duration.toMillis(options.idleTimeout ?? "60 seconds"),
  maxWaiting: options.maxWaiting ?? 10_000
})

/** Each upstream, with its limits. */
export const upstreamsOf = (options: PoolOptions) => {
  const { connect, failTimeout, maxConnections, maxFails } = options
  const upstreams: ReadonlyArray<FastCgiUpstream<unknown, Scope.Scope>> = Effect.isEffect(connect)
    ? [{ connect }]
    : connect
  return upstreams.map((upstream) => {
    const limits: UpstreamLimits = {
      weight: upstream.weight ?? 1,
      maxConnections: upstream.maxConnections ?? maxConnections ?? Infinity,
      maxFails: maxFails === "unbounded" ? Infinity : maxFails ?? 1,
      failTimeout: Duration.toMillis(failTimeout ?? "10 seconds")
    }
    return { name: upstream.name, connect: upstream.connect, limits }
  })
}
