/**
 * The web server's end of a connection in memory, which a test plays record by record or byte by byte.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import type { MemoryTransport } from "../../connection/internal/memoryTransport.ts"
import * as FastCgiDecoder from "../../protocol/FastCgiDecoder.ts"
import * as FastCgiEncoder from "../../protocol/FastCgiEncoder.ts"
import * as FastCgiParams from "../../protocol/FastCgiParams.ts"
import * as FastCgiRecord from "../../protocol/FastCgiRecord.ts"
import { concat } from "../../protocol/internal/bytes.ts"

/**
 * How a request ended, with all output that came before.
 *
 * @category models
 * @since 0.1.0
 */
export interface PeerReply {
  readonly stdout: string
  readonly stderr: string
  readonly appStatus: number
  readonly protocolStatus: number
}

/**
 * A request for `Peer.request`.
 *
 * @category models
 * @since 0.1.0
 */
export interface PeerRequest {
  /** Default 1. */
  readonly requestId?: number | undefined
  /** Default Responder. */
  readonly role?: number | undefined
  /** Default true. */
  readonly keepConnection?: boolean | undefined
  /** Default `GET /`. */
  readonly params?: Readonly<Record<string, string>> | undefined
  /** The whole body. Default none, with STDIN ended; `"open"` leaves STDIN open. */
  readonly stdin?: string | Uint8Array | "open" | undefined
}

/**
 * The web server's end of a connection, which a test plays.
 *
 * @category models
 * @since 0.1.0
 */
export interface Peer {
  /** Sends the records in one write. */
  readonly send: (...records: ReadonlyArray<FastCgiRecord.FastCgiRecord>) => Effect.Effect<void>
  /** Sends bytes unchanged, in one write. */
  readonly sendBytes: (bytes: Uint8Array) => Effect.Effect<void>
  /** Sends a whole request in one write. */
  readonly request: (request?: PeerRequest) => Effect.Effect<void>
  /** The next record, with stream contents in fragments as they come. Waits; fails with `Done` when the server has closed. */
  readonly receive: Pull.Pull<FastCgiRecord.FastCgiRecord>
  /** The bytes that have arrived, instead of `receive`. Waits; fails with `Done` when the server has closed. */
  readonly receiveBytes: Pull.Pull<Uint8Array>
  /** All output until END_REQUEST of this id. Records of other ids are kept for their own call. Dies when no END_REQUEST comes. */
  readonly reply: (requestId?: number) => Effect.Effect<PeerReply>
  /** All records until the server closes. */
  readonly drain: Effect.Effect<ReadonlyArray<FastCgiRecord.FastCgiRecord>>
  /** Waits until the server has closed its end, and drops further output. */
  readonly closed: Effect.Effect<void>
  /** How many bytes this end takes before the script receives them. Default 64 KiB. */
  readonly setCapacity: (bytes: number) => Effect.Effect<void>
  /** How many of the sent bytes the server has not taken, beyond the 64 KiB that wait for it to read. */
  readonly pending: Effect.Effect<number>
  /** Half-closes: the server reads the end. */
  readonly end: Effect.Effect<void>
  /** Closes both directions. */
  readonly close: Effect.Effect<void>
  /** Loses the connection, like a RST. */
  readonly reset: Effect.Effect<void>
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

interface Collected {
  stdout: Array<Uint8Array>
  stderr: Array<Uint8Array>
}

/** @internal A peer over its end of the connection. */
export class ScriptedPeer implements Peer {
  private readonly end_: MemoryTransport
  private readonly decoder = FastCgiDecoder.make()
  private readonly records: Array<FastCgiRecord.FastCgiRecord> = []
  private readonly collected = new Map<number, Collected>()
  private readonly ended = new Map<number, FastCgiRecord.EndRequest>()

  constructor(end: MemoryTransport) {
    this.end_ = end
  }

  send(...records: ReadonlyArray<FastCgiRecord.FastCgiRecord>): Effect.Effect<void> {
    return Effect.sync(() => this.end_.writeUnsafe(records.map((record) => FastCgiEncoder.encode(record))))
  }

  sendBytes(bytes: Uint8Array): Effect.Effect<void> {
    return Effect.sync(() => this.end_.writeUnsafe([bytes]))
  }

  request(request: PeerRequest = {}): Effect.Effect<void> {
    const id = request.requestId ?? 1
    const params = request.params ?? { REQUEST_METHOD: "GET", REQUEST_URI: "/", SERVER_PROTOCOL: "HTTP/1.1" }
    const records: Array<FastCgiRecord.FastCgiRecord> = [
      FastCgiRecord.beginRequest(id, request.role ?? FastCgiRecord.Role.Responder, {
        keepConnection: request.keepConnection ?? true
      })
    ]
    const pairs = FastCgiParams.encodePairs(Object.entries(params))
    if (pairs.length > 0) records.push(FastCgiRecord.params(id, pairs))
    records.push(FastCgiRecord.params(id))
    const body = request.stdin
    if (body !== undefined && body !== "open" && body.length > 0) {
      records.push(FastCgiRecord.stdin(id, typeof body === "string" ? new TextEncoder().encode(body) : body))
    }
    if (body !== "open") records.push(FastCgiRecord.stdin(id))
    return this.send(...records)
  }

  readonly receive: Pull.Pull<FastCgiRecord.FastCgiRecord> = Effect.suspend(() => {
    const next = this.records.shift()
    if (next !== undefined) return Effect.succeed(next)
    return Effect.matchEffect(this.end_.pull, {
      onSuccess: (chunks) => {
        for (const chunk of chunks) {
          const error = this.decoder.push(chunk, this.records)
          if (error !== undefined) return Effect.die(error)
        }
        return this.receive
      },
      // A reset is an end as well, because the script only wants to know that no more output comes.
      onFailure: () => Cause.done()
    })
  })

  readonly receiveBytes: Pull.Pull<Uint8Array> = Effect.suspend(() =>
    Effect.matchEffect(this.end_.pull, {
      onSuccess: (chunks) => Effect.succeed(concat(chunks)),
      onFailure: () => Cause.done()
    })
  )

  reply(requestId = 1): Effect.Effect<PeerReply> {
    return Effect.suspend(() => {
      const end = this.ended.get(requestId)
      if (end !== undefined) {
        this.ended.delete(requestId)
        const collected = this.collect(requestId)
        this.collected.delete(requestId)
        return Effect.succeed({
          stdout: join(collected.stdout),
          stderr: join(collected.stderr),
          appStatus: end.appStatus,
          protocolStatus: end.protocolStatus
        })
      }
      return Pull.matchEffect(this.receive, {
        onSuccess: (record) => {
          this.keep(record)
          return this.reply(requestId)
        },
        onFailure: (cause) => Effect.failCause(cause),
        onDone: () => Effect.die(new Error(`the server closed before it ended request ${requestId}`))
      })
    })
  }

  readonly drain: Effect.Effect<ReadonlyArray<FastCgiRecord.FastCgiRecord>> = Effect.suspend(() => {
    const all: Array<FastCgiRecord.FastCgiRecord> = []
    const next: Effect.Effect<ReadonlyArray<FastCgiRecord.FastCgiRecord>> = Effect.suspend(() =>
      Pull.matchEffect(this.receive, {
        onSuccess: (record) => {
          all.push(record)
          return next
        },
        onFailure: (cause) => Effect.failCause(cause),
        onDone: () => Effect.succeed(all)
      })
    )
    return next
  })

  get closed(): Effect.Effect<void> {
    return Effect.asVoid(this.drain)
  }

  setCapacity(bytes: number): Effect.Effect<void> {
    return Effect.sync(() => this.end_.setCapacityUnsafe(bytes))
  }

  readonly pending = Effect.sync(() => this.end_.pendingUnsafe())

  readonly end = Effect.sync(() => this.end_.endUnsafe())

  readonly close = Effect.sync(() => this.end_.destroyUnsafe())

  readonly reset = Effect.sync(() => this.end_.resetUnsafe())

  private keep(record: FastCgiRecord.FastCgiRecord): void {
    if (record._tag === "Stdout") this.collect(record.requestId).stdout.push(record.content)
    else if (record._tag === "Stderr") this.collect(record.requestId).stderr.push(record.content)
    else if (record._tag === "EndRequest") this.ended.set(record.requestId, record)
  }

  private collect(requestId: number): Collected {
    let collected = this.collected.get(requestId)
    if (collected === undefined) {
      collected = { stdout: [], stderr: [] }
      this.collected.set(requestId, collected)
    }
    return collected
  }
}

const join = (chunks: ReadonlyArray<Uint8Array>): string => {
  const decoder = new TextDecoder()
  let text = ""
  for (const chunk of chunks) text += decoder.decode(chunk, { stream: true })
  return text + decoder.decode()
}
