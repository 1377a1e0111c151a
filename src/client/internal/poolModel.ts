/**
 * What a pool consists of: upstreams, connections, openings, and requests that wait. `PoolState` alone changes them.
 */
import { Linked, LinkedList } from "../../connection/internal/linkedList.ts"
import { type UpstreamChoice, UpstreamHealth } from "./upstreams.ts"

/** What the pool sees of a connection. */
export interface PooledConnection {
  /** Whether further requests may begin, now or when one has ended. */
  readonly open: boolean
  /** Requests that somebody waits for. */
  readonly active: number
  /** Requests whose ids are in use. */
  readonly load: number
  readonly closeUnsafe: () => void
}

/** A request, and how much of its answer has come. */
export interface Answered {
  readonly received: number
}

/** Times in milliseconds. */
export interface PoolLimits {
  readonly keepConnection: boolean
  /** How many requests a connection carries at the same time. */
  readonly maxRequests: number
  readonly minIdle: number
  readonly maxIdle: number
  readonly idleTimeout: number
  readonly maxWaiting: number
}

/** How an upstream is used. */
export interface UpstreamLimits extends UpstreamChoice {
  readonly maxConnections: number
}

/** What an upstream amounts to. */
export interface UpstreamCounts {
  /** Connections that are open. */
  connections: number
  /** Those of them that carry nothing. */
  idle: number
}

/** What the state wants done. Nobody comes back to the state from within, but through `closeUnsafe` of a connection. */
export interface PoolActions<C extends PooledConnection> {
  /** Opens a connection, and calls `opened` or `openFailed`. */
  readonly open: (opening: Opening<C>) => void
  /** Gives an opening up. The state has forgotten it, or whoever waits for it has got its `entry` instead. */
  readonly cancel: (opening: Opening<C>) => void
  /** The connection is closed, or is closed now, and belongs to the pool no more. */
  readonly closed: (entry: Entry<C>) => void
  /** Whoever waits has got a place. */
  readonly grant: (waiter: Waiter<C>) => void
}

/** What a request asks for. */
export interface Want<C extends PooledConnection> {
  /** It may run twice: a connection that its application may be about to close will do. */
  readonly repeatable: boolean
  /** Only a connection that has carried nothing will do. */
  readonly fresh: boolean
  /** Where it has failed already: others are preferred. */
  readonly tried: ReadonlyArray<Upstream<C>>
}

/** Where a request begins. */
export type Place<C extends PooledConnection> = Entry<C> | Opening<C>

/** Somewhere to connect to. */
export class Upstream<C extends PooledConnection> {
  readonly index: number
  readonly limits: UpstreamLimits
  readonly counts: UpstreamCounts
  readonly health: UpstreamHealth
  /** Connections and openings. */
  size = 0
  openings = 0
  /** Least recently used first. */
  readonly idle = new LinkedList<Entry<C>>()
  /** Busy, with room for more. */
  readonly shared = new LinkedList<Entry<C>>()
  /** Busy with their first request, to which nothing has come so far. Who has waited longest first. */
  readonly unheard = new LinkedList<Entry<C>>()
  /** Openings with room for more requests. */
  readonly joinable = new LinkedList<Opening<C>>()
  /** Openings for a request that takes a connection that gets free as well. Oldest first. */
  readonly replaceable = new LinkedList<Opening<C>>()
  /** Openings for a request that takes no other connection. Who has waited longest first. */
  readonly required = new LinkedList<Opening<C>>()
  /** Openings that nobody waits for. */
  spares = 0
  /** Opening in advance has failed, and is to be tried later. */
  spareFailed = false

  constructor(index: number, limits: UpstreamLimits, counts: UpstreamCounts) {
    this.index = index
    this.limits = limits
    this.counts = counts
    this.health = new UpstreamHealth(limits)
  }
}

/** A connection of the pool. */
export class Entry<C extends PooledConnection> extends Linked<Entry<C>> {
  readonly upstream: Upstream<C>
  readonly connection: C
  /** Requests that are about to begin on it. */
  reserved: number
  /** Requests that have begun on it. */
  used = 0
  idleSince = 0
  first: Answered | undefined
  unheardSince = 0
  removed = false

  constructor(upstream: Upstream<C>, connection: C, reserved: number) {
    super()
    this.upstream = upstream
    this.connection = connection
    this.reserved = reserved
  }
}

/** A connection that is being opened. */
export class Opening<C extends PooledConnection> extends Linked<Opening<C>> {
  readonly upstream: Upstream<C>
  /** Requests that wait for it. */
  joined = 0
  since = 0
  /** It has come to an end, with a connection or without. */
  over = false
  entry: Entry<C> | undefined

  constructor(upstream: Upstream<C>) {
    super()
    this.upstream = upstream
  }
}

/** A request that waits for a place. */
export class Waiter<C extends PooledConnection> extends Linked<Waiter<C>> {
  readonly want: Want<C>
  /** What it has got. */
  place: Place<C> | undefined
  /** Tells it that it has, or that it will get nothing. */
  wake: (() => void) | undefined

  constructor(want: Want<C>) {
    super()
    this.want = want
  }
}
