/**
 * Watchers of the requests of a server: a status page, an access log, a slow log, metrics. Each is a Layer that puts what it
 * wants to be told into the context, and each has a place of its own there, so that no two of them take each other's.
 */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as NetAddress from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import { LinkedList } from "../../connection/internal/linkedList.ts"
import { Role } from "../../protocol/FastCgiRecord.ts"
import type { FastCgiResponse } from "../FastCgiResponse.ts"
import type { ApplicationRequest } from "./applicationRequest.ts"
import { Observation } from "./observation.ts"
import type { Refusal } from "./refusals.ts"

/** The visible figures of a running server. */
export interface WatchedServer {
  readonly addresses: ReadonlyArray<NetAddress.SocketAddress>
  /** Connections that are open and read. */
  readonly connections: () => number
  /** Connections that `maxConnections` holds back. */
  readonly connectionsHeld: () => number
  /** The work that `FastCgiServer.afterResponse` has left. */
  readonly afterResponse: () => number
  /** Requests that were admitted and are not over. */
  readonly open: () => ReadonlyArray<Observation>
}

/** The events for a watcher. All synchronous: they are called between two records. */
export interface Watcher {
  /** A server begins. What is returned is called when it has ended. */
  readonly onServer?: ((server: WatchedServer) => () => void) | undefined
  /** A page that the server answers itself, whatever its limits are, or undefined. */
  readonly page?: ((request: ApplicationRequest) => Effect.Effect<FastCgiResponse> | undefined) | undefined
  /** A request has been admitted. */
  readonly onAdmitted?: ((observation: Observation) => void) | undefined
  /** The answer to a request that was admitted is complete: the last moment for its STDERR. */
  readonly onLast?: ((observation: Observation) => void) | undefined
  /** A request that was admitted is over, or one has been refused because of a limit. */
  readonly onEnded?: ((observation: Observation) => void) | undefined
  /** Whether it needs to know when a request has ended (`endedAt`, `duration`, `queueTime`). Default true; asking the clock costs 0.1 µs. */
  readonly needsEnd?: boolean | undefined
}

type Watchers = ReadonlyArray<Watcher>

const place = (name: string) =>
  Context.Reference<Watchers>(`effect-fastcgi/server/Watchers/${name}`, { defaultValue: () => [] })

/** The places of those who watch. */
export const places = {
  accessLog: place("accessLog"),
  metrics: place("metrics"),
  slowLog: place("slowLog"),
  status: place("status")
}

/** Adds a watcher to those that are there. */
export const layer = <E, R>(
  place: Context.Reference<Watchers>,
  watcher: Effect.Effect<Watcher, E, R>
): Layer.Layer<never, E, Exclude<R, Scope.Scope>> =>
  Layer.effect(
    place,
    Effect.flatMap(watcher, (watcher) => Effect.map(place, (others) => [...others, watcher]))
  )

/** All who watch in a context. */
export const watchersOf = (context: Context.Context<never>): Watchers =>
  Object.values(places).flatMap((place) => Context.get(context, place))

/** Tells all of them. */
export class Watch {
  private readonly watchers: Watchers
  private readonly clock: Clock.Clock
  private readonly needsEnd: boolean
  private readonly open = new LinkedList<Observation>()
  private readonly onLast: ReadonlyArray<(observation: Observation) => void>
  private leave: ReadonlyArray<() => void>

  constructor(watchers: Iterable<Watcher>, clock: Clock.Clock, server: Omit<WatchedServer, "open">) {
    this.watchers = [...new Set(watchers)]
    this.clock = clock
    this.needsEnd = this.watchers.some(({ needsEnd }) => needsEnd !== false)
    this.onLast = this.watchers.flatMap(({ onLast }) => onLast ?? [])
    const watched = { ...server, open: () => this.open.toArray() }
    this.leave = this.watchers.flatMap(({ onServer }) => onServer === undefined ? [] : [onServer(watched)])
  }

  /** Whether anybody watches. */
  get isOn(): boolean {
    return this.watchers.length > 0
  }

  /** The server has ended. */
  end(): void {
    for (const leave of this.leave) leave()
    this.leave = []
  }

  /** Notes the page that answers the request, and returns whether there is one. */
  hasPage(request: ApplicationRequest): boolean {
    if (request.role !== Role.Responder) return false
    for (const { page } of this.watchers) {
      const answer = page?.(request)
      if (answer !== undefined) {
        request.page = answer
        return true
      }
    }
    return false
  }

  admitted(request: ApplicationRequest): void {
    const observation = this.observe(request)
    this.open.push(observation)
    for (const { onAdmitted } of this.watchers) onAdmitted?.(observation)
  }

  refused(request: ApplicationRequest, refusal: Refusal): void {
    this.tellEnded(this.observe(request).refuse(refusal))
  }

  ended(observation: Observation): void {
    this.open.remove(observation)
    if (this.needsEnd) observation.onEnd()
    this.tellEnded(observation)
  }

  private observe(request: ApplicationRequest): Observation {
    const observation = request.observation = new Observation(request, this.clock)
    observation.onLast = this.onLast
    return observation
  }

  private tellEnded(observation: Observation): void {
    for (const { onEnded } of this.watchers) onEnded?.(observation)
  }
}
