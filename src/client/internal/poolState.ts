/**
 * What a pool decides: which connection a request gets, who waits for how long in which order, what is opened and what is closed.
 * Pure: it is told the time and what has happened, and says what to do to `PoolActions`.
 *
 * A request gets a place: a connection that has room, or an opening, which is a connection that is being opened for it. Where
 * there is neither, it waits. Who waits is served in order, one for each place that is freed. A place is held from the moment it
 * is given until the request has begun on it, so that nobody else takes it.
 *
 *     take ──▶ Entry ── begun ──▶ (requests run) ── settle ──▶ idle, or for the next who waits, or closed
 *       │        ▲
 *       ├──▶ Opening ── opened ──┘   ── failed ──▶ (its requests go elsewhere)
 *       └──▶ wait ── a place is freed ──▶ Entry or Opening
 */
import { LinkedList } from "../../connection/internal/linkedList.ts"
import {
  type Answered,
  Entry,
  Opening,
  type Place,
  type PoolActions,
  type PooledConnection,
  type PoolLimits,
  Upstream,
  type UpstreamCounts,
  type UpstreamLimits,
  Waiter,
  type Want
} from "./poolModel.ts"
import { choose } from "./upstreams.ts"

// How long a kept connection has to have been idle before it takes a request that may not run twice. php-fpm ends a worker that
// has had its `pm.max_requests` right behind END_REQUEST, and the connection with it, a moment later: what was sent in between
// was lost.
const settledAfter = 50

// How long connecting, or the first request on a connection, may be without any sign of the application before idle connections
// are closed for it: php-fpm and its like give a worker to each connection, and nobody serves the one that waits in the backlog,
// or for room there, while all workers wait on connections that are idle.
export const reliefAfter = 100

export class PoolState<C extends PooledConnection> {
  readonly upstreams: ReadonlyArray<Upstream<C>>
  readonly waiting = new LinkedList<Waiter<C>>()
  private readonly limits: PoolLimits
  private readonly actions: PoolActions<C>
  private dispatching = false

  constructor(
    limits: PoolLimits,
    upstreams: ReadonlyArray<{ readonly limits: UpstreamLimits; readonly counts: UpstreamCounts }>,
    actions: PoolActions<C>
  ) {
    this.limits = limits
    this.upstreams = upstreams.map(({ counts, limits }, index) => new Upstream(index, limits, counts))
    this.actions = actions
  }

  // --- requests ---------------------------------------------------------------------------------

  /** A place for a request, at once; `undefined` where it has to wait. Nobody overtakes those who wait. */
  take(want: Want<C>, now: number): Place<C> | undefined {
    if (this.waiting.size > 0) return undefined
    const place = this.place(want, now)
    if (place !== undefined && this.limits.minIdle > 0) this.openSpares(place.upstream)
    return place
  }

  /** Whether nobody else may wait. */
  get full(): boolean {
    return this.waiting.size >= this.limits.maxWaiting
  }

  /** Waits for a place, behind the others; a request that is sent again has waited before, and comes first. */
  wait(want: Want<C>, now: number, first: boolean): Waiter<C> {
    const waiter = new Waiter<C>(want)
    if (first) this.waiting.unshift(waiter)
    else this.waiting.push(waiter)
    // What has become usable by the time alone shows when somebody asks.
    this.dispatch(now)
    return waiter
  }

  /** A request waits no more: it leaves the queue, or gives back what it has got. */
  leave(waiter: Waiter<C>, now: number): void {
    this.waiting.remove(waiter)
    if (waiter.place !== undefined) this.giveBack(waiter.place, now)
  }

  /** A place is not used. */
  giveBack(place: Place<C>, now: number): void {
    if (place instanceof Entry) {
      if (place.removed) return
      place.reserved--
      return this.settle(place, now)
    }
    if (place.over) return place.entry && this.giveBack(place.entry, now)
    place.joined--
    if (place.joined > 0) return place.upstream.joinable.push(place)
    const { upstream } = place
    upstream.spares++
    upstream.joinable.push(place)
    this.dispatch(now)
    if (place.joined > 0 || upstream.spares + upstream.idle.size <= this.limits.minIdle) return
    this.forget(place)
    this.actions.cancel(place)
    this.dispatch(now)
  }

  /** A request has begun on a connection that was its place. */
  begun(entry: Entry<C>, request: Answered, now: number): void {
    entry.reserved--
    entry.used++
    this.list(entry)
    if (entry.used > 1 || this.limits.maxRequests > 1 || !this.limits.keepConnection) return
    entry.first = request
    entry.unheardSince = now
    entry.upstream.unheard.push(entry)
  }

  // --- connections ------------------------------------------------------------------------------

  /** A connection has been opened. To be settled when those who wait for it have begun. */
  opened(opening: Opening<C>, connection: C): Entry<C> {
    const { upstream } = opening
    opening.over = true
    opening.list?.remove(opening)
    if (opening.joined === 0) upstream.spares--
    upstream.openings--
    const entry = new Entry(upstream, connection, opening.joined)
    opening.entry = entry
    upstream.counts.connections++
    upstream.spareFailed = false
    return entry
  }

  /** No connection could be opened. */
  openFailed(opening: Opening<C>, now: number): void {
    if (opening.over) return
    const { upstream } = opening
    if (opening.joined === 0) upstream.spareFailed = true
    upstream.health.failed(now)
    this.forget(opening)
    this.dispatch(now)
  }

  /** Something has ended on a connection, or it has closed. */
  settle(entry: Entry<C>, now: number): void {
    const { connection, upstream } = entry
    if (entry.removed) return
    if (!connection.open) {
      if (connection.active > 0) {
        this.unlist(entry)
      } else {
        this.remove(entry)
        this.dispatch(now)
      }
      return
    }
    const wasIdle = entry.list === upstream.idle
    if (connection.load === 0) entry.first = undefined
    this.list(entry, now)
    if (entry.list !== upstream.idle) return this.dispatch(now)
    if (wasIdle) return
    if (this.starves(upstream, now)) {
      this.close(entry)
      return this.dispatch(now)
    }
    const opening = upstream.replaceable.first
    if (opening !== undefined) {
      // Connecting may take long where the backlog is full, and this connection is here.
      this.forget(opening)
      opening.entry = this.reserve(entry)
      this.actions.cancel(opening)
    }
    this.dispatch(now)
    const { keepConnection, maxIdle, minIdle } = this.limits
    const most = keepConnection || entry.used > 0 ? Math.max(maxIdle, minIdle) : minIdle
    if (upstream.idle.size > most) {
      this.close(upstream.idle.first!)
      this.dispatch(now)
    }
  }

  /** Opens what `minIdle` says, again where that had failed. */
  fill(upstream: Upstream<C>): void {
    upstream.spareFailed = false
    this.openSpares(upstream)
  }

  /** Closes what has been idle for longer than `idleTimeout`. Returns whether something is idle still. */
  reap(now: number): boolean {
    const due = now - this.limits.idleTimeout
    let left = false
    for (const upstream of this.upstreams) {
      const { idle } = upstream
      while (idle.size > this.limits.minIdle && idle.first!.idleSince <= due) this.close(idle.first!)
      left ||= idle.size > this.limits.minIdle
    }
    this.dispatch(now)
    return left
  }

  /** Whether `relieve` may have something to do, in a while. */
  get mayStarve(): boolean {
    return this.upstreams.some(({ idle, required, unheard }) => idle.size > 0 && unheard.size + required.size > 0)
  }

  /** Closes an idle connection for each that its application does not serve. */
  relieve(now: number): void {
    for (const upstream of this.upstreams) {
      while (upstream.idle.size > 0 && this.starves(upstream, now)) this.close(upstream.idle.first!)
    }
    this.dispatch(now)
  }

  /** Holds a place for a connection to an upstream that is not for requests. Returns whether there is one. */
  hold(upstream: Upstream<C>): boolean {
    if (upstream.size >= upstream.limits.maxConnections) return false
    upstream.size++
    upstream.counts.connections++
    return true
  }

  /** That connection is closed. */
  free(upstream: Upstream<C>, now: number): void {
    upstream.size--
    upstream.counts.connections--
    this.dispatch(now)
  }

  // --- internal ---------------------------------------------------------------------------------

  // Serves who waits, in order, as long as there are places.
  private dispatch(now: number): void {
    // A connection that is closed to make room for another calls back.
    if (this.dispatching) return
    this.dispatching = true
    for (let waiter = this.waiting.first; waiter !== undefined; waiter = this.waiting.first) {
      const place = this.place(waiter.want, now)
      if (place === undefined) break
      this.waiting.remove(waiter)
      waiter.place = place
      this.actions.grant(waiter)
    }
    this.dispatching = false
    if (this.limits.minIdle > 0) { for (const upstream of this.upstreams) this.openSpares(upstream) }
  }

  private place(want: Want<C>, now: number): Place<C> | undefined {
    const upstream = choose(this.upstreams, now, want.tried, serves)
    if (upstream === undefined) return undefined
    const { idle, joinable, limits, shared } = upstream
    if (!want.fresh) {
      const entry = shared.last ?? (want.repeatable ? idle.last : settled(idle, now))
      if (entry !== undefined) return this.reserve(entry)
    }
    if (joinable.last !== undefined) return this.join(joinable.last, want, now)
    const full = upstream.size >= limits.maxConnections
    // What is alive with the requests of others is not what has just been lost.
    if (full && idle.last === undefined) return this.reserve(shared.last!)
    // php-fpm gives a worker to each connection: the new one must not wait until that of an idle one is free.
    if (idle.last !== undefined && (full || !want.fresh)) this.close(idle.last)
    const opening = this.join(this.opening(upstream), want, now)
    this.actions.open(opening)
    return opening
  }

  private opening(upstream: Upstream<C>): Opening<C> {
    upstream.size++
    upstream.openings++
    upstream.spares++
    return new Opening<C>(upstream)
  }

  private reserve(entry: Entry<C>): Entry<C> {
    entry.reserved++
    this.list(entry)
    return entry
  }

  private join(opening: Opening<C>, want: Want<C>, now: number): Opening<C> {
    const { upstream } = opening
    if (opening.joined === 0) upstream.spares--
    opening.joined++
    opening.since = now
    if (opening.joined < this.limits.maxRequests) upstream.joinable.push(opening)
    else if (this.limits.maxRequests > 1) upstream.joinable.remove(opening)
    else if (want.repeatable && !want.fresh) upstream.replaceable.push(opening)
    else upstream.required.push(opening)
    return opening
  }

  // Puts a connection where it is looked for.
  private list(entry: Entry<C>, now = 0): void {
    const { connection, upstream } = entry
    const load = connection.load + entry.reserved
    if (!connection.open || load >= this.limits.maxRequests) {
      if (entry.list !== upstream.unheard) this.unlist(entry)
      return
    }
    if (load > 0) {
      if (entry.list !== upstream.shared) {
        this.unlist(entry)
        upstream.shared.push(entry)
      }
    } else if (entry.list !== upstream.idle) {
      entry.idleSince = now
      upstream.idle.push(entry)
      upstream.counts.idle++
    }
  }

  private unlist(entry: Entry<C>): void {
    const { list, upstream } = entry
    if (list === undefined) return
    if (list === upstream.idle) upstream.counts.idle--
    list.remove(entry)
  }

  private openSpares(upstream: Upstream<C>): void {
    const { limits } = upstream
    while (
      !upstream.spareFailed && upstream.size < limits.maxConnections &&
      upstream.idle.size + upstream.spares < this.limits.minIdle
    ) {
      const opening = this.opening(upstream)
      upstream.joinable.push(opening)
      this.actions.open(opening)
    }
  }

  private forget(opening: Opening<C>): void {
    const { upstream } = opening
    opening.over = true
    upstream.size--
    upstream.openings--
    if (opening.joined === 0) upstream.spares--
    opening.list?.remove(opening)
  }

  private close(entry: Entry<C>): void {
    this.remove(entry)
    entry.connection.closeUnsafe()
  }

  private remove(entry: Entry<C>): void {
    if (entry.removed) return
    const { upstream } = entry
    this.unlist(entry)
    entry.removed = true
    upstream.size--
    upstream.counts.connections--
    this.actions.closed(entry)
  }

  // Each request that waits for its application is a reason to close one, and another one when it has waited that long again.
  private starves({ required, unheard }: Upstream<C>, now: number): boolean {
    for (let entry = unheard.first; entry !== undefined; entry = unheard.first) {
      if (entry.first === undefined || entry.first.received > 0) {
        unheard.remove(entry)
      } else if (now - entry.unheardSince < reliefAfter) {
        break
      } else {
        entry.unheardSince = now
        unheard.push(entry)
        return true
      }
    }
    const opening = required.first
    if (opening === undefined || now - opening.since < reliefAfter) return false
    opening.since = now
    required.push(opening)
    return true
  }
}

const serves = <C extends PooledConnection>(upstream: Upstream<C>): boolean =>
  upstream.idle.size > 0 || upstream.shared.size > 0 || upstream.joinable.size > 0 ||
  upstream.size < upstream.limits.maxConnections

// From the last used on: a connection that has been idle for long may be about to be closed for that.
const settled = <C extends PooledConnection>(idle: LinkedList<Entry<C>>, now: number): Entry<C> | undefined => {
  for (let entry = idle.last; entry !== undefined; entry = entry.before) {
    if (entry.used === 0 || entry.idleSince <= now - settledAfter) return entry
  }
  return undefined
}
