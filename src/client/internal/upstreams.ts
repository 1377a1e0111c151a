/**
 * Which of several upstreams a request goes to: in turn, by weight, leaving out those that have failed of late. Pure: the time
 * is told.
 *
 * Both as nginx has them. Turns are smooth: of weights 5, 1, 1 the order is a a b a c a a, and not five times the same. An
 * upstream that has failed `maxFails` times within `failTimeout` is left out for `failTimeout`; then one request tries it, and
 * the others when that has gone well.
 */

/** How an upstream is chosen. */
export interface UpstreamChoice {
  readonly weight: number
  readonly maxFails: number
  /** In milliseconds. */
  readonly failTimeout: number
}

/** What is known of an upstream: its turn, and how it has been of late. */
export class UpstreamHealth {
  readonly choice: UpstreamChoice
  /** How much its turn is due. */
  due = 0
  fails = 0
  /** When it failed last. */
  private failedAt = -Infinity
  /** When it failed last, or was last tried after that. */
  private checkedAt = -Infinity
  /** What the last ping said. */
  pinged: "alive" | "dead" = "alive"

  constructor(choice: UpstreamChoice) {
    this.choice = choice
  }

  /** Whether a request may be sent to it. */
  usable(now: number): boolean {
    const { failTimeout, maxFails } = this.choice
    if (this.pinged === "dead") return false
    return this.fails < maxFails || now - this.checkedAt > failTimeout
  }

  /** A request is sent to it. */
  chosen(now: number): void {
    // The first after `failTimeout` tries for all others.
    if (now - this.checkedAt > this.choice.failTimeout) this.checkedAt = now
  }

  failed(now: number): void {
    // What lies further back than `failTimeout` does not count.
    if (now - this.failedAt > this.choice.failTimeout && this.fails < this.choice.maxFails) this.fails = 0
    this.fails++
    this.failedAt = now
    this.checkedAt = now
  }

  succeeded(): void {
    // One that was under way when it failed proves nothing.
    if (this.failedAt < this.checkedAt) this.fails = 0
  }

  ponged(alive: boolean): void {
    this.pinged = alive ? "alive" : "dead"
    if (alive) this.fails = 0
  }
}

/**
 * Chooses from upstreams that `mayServe`: those that are usable; where none is, all of them, for a request that is sent nowhere
 * fails for certain. `undefined` when none that counts may serve now.
 */
export const choose = <Upstream extends { readonly health: UpstreamHealth }>(
  upstreams: ReadonlyArray<Upstream>,
  now: number,
  tried: ReadonlyArray<Upstream>,
  mayServe: (upstream: Upstream) => boolean
): Upstream | undefined => {
  if (upstreams.length === 1) return mayServe(upstreams[0]) ? upstreams[0] : undefined
  const untried = tried.length === 0 || tried.length >= upstreams.length
    ? upstreams
    : upstreams.filter((upstream) => !tried.includes(upstream))
  const anyUsable = untried.some(({ health }) => health.usable(now))
  let chosen: Upstream | undefined
  let total = 0
  for (const upstream of untried) {
    const { health } = upstream
    if ((anyUsable && !health.usable(now)) || !mayServe(upstream)) continue
    health.due += health.choice.weight
    total += health.choice.weight
    if (chosen === undefined || health.due > chosen.health.due) chosen = upstream
  }
  if (chosen === undefined) return undefined
  chosen.health.due -= total
  chosen.health.chosen(now)
  return chosen
}
