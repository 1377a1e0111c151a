/**
 * TCP connections of a capture, put together from their segments: each direction's bytes in order and once.
 */
import type { Segment } from "./segment.ts"

/** A connection that was captured. */
export interface Connection {
  /** From 1 on, in the order in which they began. */
  readonly number: number
  /** The web server, which has opened the connection, and the application. */
  readonly client: string
  readonly server: string
  readonly serverPort: number
}

/** An event on a connection. */
export type ConnectionEvent =
  & { readonly connection: Connection; readonly time: number }
  & (
    | { readonly _tag: "Opened" }
    | { readonly _tag: "Bytes"; readonly fromClient: boolean; readonly bytes: Uint8Array }
    /** Bytes that the capture does not have. */
    | { readonly _tag: "Lost"; readonly fromClient: boolean; readonly count: number }
    /** A direction has been closed in order. */
    | { readonly _tag: "Ended"; readonly fromClient: boolean }
    | { readonly _tag: "Reset"; readonly fromClient: boolean }
  )

/**
 * Puts connections together. What comes out of order waits, up to 4 MiB and 4096 segments a direction; then what is missing counts
 * as lost.
 */
export class Reassembly {
  private readonly pairs = new Map<string, Pair>()
  private opened = 0
  private readonly isClient: (segment: Segment) => boolean

  /** `isClient` tells of a segment with content whether its sender has opened the connection, where its SYN was not captured. */
  constructor(isClient: (segment: Segment) => boolean) {
    this.isClient = isClient
  }

  push(segment: Segment, time: number): ReadonlyArray<ConnectionEvent> {
    const events: Array<ConnectionEvent> = []
    const key = segment.from < segment.to ? `${segment.from} ${segment.to}` : `${segment.to} ${segment.from}`
    let pair = this.pairs.get(key)
    const opens = segment.syn && !segment.ack
    // The port is used once more, for another connection; a SYN that is sent again opens none.
    if (opens && pair !== undefined && !pair.isFirst(segment)) {
      pair.finish(time, events)
      pair = undefined
    }
    if (pair === undefined) {
      if (!segment.syn && segment.payload.length === 0) return events
      const fromClient = segment.syn ? !segment.ack : this.isClient(segment)
      pair = new Pair({
        number: ++this.opened,
        client: fromClient ? segment.from : segment.to,
        server: fromClient ? segment.to : segment.from,
        serverPort: fromClient ? segment.toPort : segment.fromPort
      })
      this.pairs.set(key, pair)
      events.push({ _tag: "Opened", connection: pair.connection, time })
    }
    pair.push(segment, time, events)
    if (pair.closed) this.pairs.delete(key)
    return events
  }

  /** Says that nothing more comes: what waits for bytes that are missing is handed out behind a `Lost`. */
  end(time: number): ReadonlyArray<ConnectionEvent> {
    const events: Array<ConnectionEvent> = []
    for (const pair of this.pairs.values()) pair.finish(time, events)
    this.pairs.clear()
    return events
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const maxWaitingBytes = 4 * 1024 * 1024
const maxWaitingSegments = 4096

class Pair {
  readonly connection: Connection
  private readonly client: Direction
  private readonly server: Direction
  private reset = false

  constructor(connection: Connection) {
    this.connection = connection
    this.client = new Direction(connection, true)
    this.server = new Direction(connection, false)
  }

  get closed(): boolean {
    return this.reset || (this.client.ended && this.server.ended)
  }

  /** Whether a SYN of the client is the one that the connection began with. */
  isFirst(segment: Segment): boolean {
    return segment.from === this.connection.client && this.client.beganWith(segment.sequence)
  }

  push(segment: Segment, time: number, events: Array<ConnectionEvent>): void {
    const fromClient = segment.from === this.connection.client
    const direction = fromClient ? this.client : this.server
    direction.push(segment, time, events)
    if (!segment.reset || this.reset) return
    direction.finish(time, events)
    this.reset = true
    events.push({ _tag: "Reset", connection: this.connection, fromClient, time })
  }

  finish(time: number, events: Array<ConnectionEvent>): void {
    this.client.finish(time, events)
    this.server.finish(time, events)
  }
}

// The distance from one sequence number to another, which may be on the other side of 2^32. Half of that is as far ahead as behind:
// it counts as ahead from both, so that a segment that is so far off is one that has been there.
const distance = (from: number, to: number): number => {
  const signed = (to - from) | 0
  return signed === -0x80000000 ? 0x80000000 : signed
}

class Direction {
  ended = false
  private readonly connection: Connection
  private readonly fromClient: boolean
  // The sequence number of the next byte.
  private next: number | undefined
  private first: number | undefined
  private waiting: Array<{ readonly sequence: number; readonly payload: Uint8Array; readonly missing: number }> = []
  private waitingBytes = 0
  private endsAt: number | undefined

  constructor(connection: Connection, fromClient: boolean) {
    this.connection = connection
    this.fromClient = fromClient
  }

  beganWith(sequence: number): boolean {
    return this.first === sequence
  }

  push(segment: Segment, time: number, events: Array<ConnectionEvent>): void {
    if (this.ended) return
    const { missing, payload } = segment
    // SYN and FIN take a number each.
    const sequence = (segment.sequence + (segment.syn ? 1 : 0)) >>> 0
    this.first ??= segment.sequence
    this.next ??= sequence
    const length = payload.length + missing
    if (segment.fin) this.endsAt ??= (sequence + length) >>> 0
    if (length > 0) {
      this.waiting.push({ sequence, payload, missing })
      this.waitingBytes += payload.length
    }
    this.release(time, events)
    while (this.waitingBytes > maxWaitingBytes || this.waiting.length > maxWaitingSegments) this.skip(time, events)
  }

  finish(time: number, events: Array<ConnectionEvent>): void {
    while (!this.ended && this.waiting.length > 0) this.skip(time, events)
  }

  // Hands out what follows without a gap.
  private release(time: number, events: Array<ConnectionEvent>): void {
    const { connection, fromClient } = this
    for (let at = this.following(); at !== -1; at = this.following()) {
      const [{ missing, payload, sequence }] = this.waiting.splice(at, 1) as [(typeof this.waiting)[number]]
      this.waitingBytes -= payload.length
      // The part that has come before is not handed out again.
      const known = distance(sequence, this.next!)
      if (known < payload.length) {
        events.push({ _tag: "Bytes", connection, fromClient, bytes: payload.subarray(known), time })
        this.next = (sequence + payload.length) >>> 0
      }
      const lost = distance(this.next!, (sequence + payload.length + missing) >>> 0)
      if (lost > 0) {
        events.push({ _tag: "Lost", connection, fromClient, count: lost, time })
        this.next = (this.next! + lost) >>> 0
      }
    }
    if (this.endsAt !== undefined && distance(this.endsAt, this.next!) >= 0) {
      this.ended = true
      this.waiting = []
      this.waitingBytes = 0
      events.push({ _tag: "Ended", connection, fromClient, time })
    }
  }

  private following(): number {
    return this.waiting.findIndex(({ sequence }) => distance(sequence, this.next!) >= 0)
  }

  // Gives up what is missing in front of the first segment that waits.
  private skip(time: number, events: Array<ConnectionEvent>): void {
    let nearest = Infinity
    for (const { sequence } of this.waiting) nearest = Math.min(nearest, distance(this.next!, sequence))
    if (nearest > 0 && nearest !== Infinity) {
      const { connection, fromClient } = this
      events.push({ _tag: "Lost", connection, fromClient, count: nearest, time })
      this.next = (this.next! + nearest) >>> 0
    }
    this.release(time, events)
  }
}
