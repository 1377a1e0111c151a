/**
 * The web server's end of one connection: requests by id, the records they send and what comes back for them. Plain
 * synchronous code between one read and the next; an Effect starts where somebody waits.
 *
 * A request:
 *
 *     begin ──> active ── END_REQUEST ─────────────────────> ended
 *                 │  └─── connection lost, closed, failed ──> ended (stdout, stderr and end fail)
 *                 └─ given up while others run: ABORT_REQUEST ──> aborted ── END_REQUEST ──> (id is free again)
 *
 * An id is free when END_REQUEST has arrived, not before (SPEC 3.3). What has arrived of an answer that is complete
 * belongs to its reader and holds nobody up any more.
 */
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Pull from "effect/Pull"
import type { FastCgiTransport, FastCgiTransportError } from "../../connection/FastCgiTransport.ts"
import * as FastCgiDecoder from "../../protocol/FastCgiDecoder.ts"
import { encode } from "../../protocol/FastCgiEncoder.ts"
import * as FastCgiParams from "../../protocol/FastCgiParams.ts"
import * as FastCgiRecord from "../../protocol/FastCgiRecord.ts"
import { FastCgiClientError, type FastCgiClientErrorReason } from "../FastCgiClientError.ts"
import { Outgoing, requestHead, streamEnd } from "./outgoing.ts"
import { StreamBuffer } from "./streamBuffer.ts"

export interface ConnectionOptions {
  readonly maxRequests: number
  readonly maxUnread: number
  readonly maxUnreadMultiplexed: number
  readonly stallTimeout: Duration.Input
  /** Called whenever a request has ended or the connection is closed. */
  readonly onChange?: (() => void) | undefined
}

export interface BeginOptions {
  readonly role: number
  readonly params: Uint8Array
  readonly keepConnection: boolean
  readonly endAtClose: boolean
  /** The whole body; `undefined` when it is sent afterwards; `"none"` when there is not even an empty STDIN. */
  readonly body: Uint8Array | "none" | undefined
}

export interface RequestEnd {
  readonly appStatus: number
  readonly protocolStatus: number
}

// Ids are 16 bits, and 0 belongs to management records (SPEC 3.3).
const maxRequestId = 65535

// A writer above this many pending bytes waits; each writer appends up to `writeShare` whenever it is its turn.
const outputHighWaterMark = 256 * 1024
const writeShare = 128 * 1024

/** A body that is there and not longer than this leaves in the same write as the params. */
export const sameWriteLimit = 64 * 1000

// What an application may send beyond the end of its answer before its request is aborted.
const maxExcess = 64 * 1024

// STDERR that nobody reads is kept up to this many bytes and dropped beyond: it must not hold up an answer.
const maxStderrUnread = 64 * 1024

export const fail = (
  reason: FastCgiClientErrorReason,
  message: string,
  cause?: unknown
): FastCgiClientError => new FastCgiClientError(cause === undefined ? { reason, message } : { reason, message, cause })

export class ClientRequest {
  readonly id: number
  readonly keepConnection: boolean
  readonly endAtClose: boolean
  readonly stdout: StreamBuffer
  readonly stderr: StreamBuffer
  readonly end = Deferred.makeUnsafe<RequestEnd, FastCgiClientError>()
  phase: "active" | "aborted" | "ended" = "active"
  /** STDOUT bytes that have arrived. */
  received = 0
  /** Whether the last record of the request, the empty STDIN or DATA, has been written. */
  sent = false
  /** Whether the answer is complete for its reader, and the request is left to end by itself. */
  left = false
  /** STDOUT bytes that came after that. */
  excess = 0
  sender: Fiber.Fiber<unknown, unknown> | undefined
  /** What `end` is to be completed with. */
  outcome: RequestEnd | FastCgiClientError | undefined
  touched = false

  constructor(connection: Connection, id: number, options: BeginOptions) {
    this.id = id
    this.keepConnection = options.keepConnection
    this.endAtClose = options.endAtClose
    this.stdout = new StreamBuffer((size) => connection.takenUnsafe(this, size))
    this.stderr = new StreamBuffer(ignore)
  }
}

type ValuesWaiter = (effect: Effect.Effect<Readonly<Record<string, string>>, FastCgiClientError>) => void

export class Connection {
  private readonly transport: FastCgiTransport
  private readonly options: ConnectionOptions
  private readonly decoder = FastCgiDecoder.make()
  private readonly requests = new Map<number, ClientRequest>()
  private records: Array<FastCgiRecord.FastCgiRecord> = []
  private touched: Array<ClientRequest> = []
  private lowestFree = 1
  // Requests in `requests` that nobody has given up.
  private live = 0
  // STDOUT bytes of live requests that their readers have not pulled.
  private unread = 0
  private accepting = true
  private closed = false
  private writable = true
  private resumeReading: (() => void) | undefined
  private writers = new Set<() => void>()
  private starters = new Set<() => void>()
  private due: Array<() => void> = []
  private changed = false
  private values: Array<ValuesWaiter> = []
  private readonly closing = Deferred.makeUnsafe<void>()

  constructor(transport: FastCgiTransport, options: ConnectionOptions) {
    this.transport = transport
    this.options = options
    transport.observeUnsafe({
      onDrain: () => this.wakeWriters(),
      // Whoever reads learns what happened; the writers only stop.
      onClose: () => {
        this.writable = false
      }
    })
  }

  // ---------------------------------------------------------------------------
  // Reading
  // ---------------------------------------------------------------------------

  /** Reads until the connection is gone. Exactly one fiber runs it. */
  readonly run: Effect.Effect<void> = Effect.suspend(() =>
    Pull.matchEffect(this.read, {
      onSuccess: () => Effect.void,
      onDone: () => Effect.sync(() => this.peerClosed()),
      onFailure: (cause) =>
        Effect.sync(() => {
          const failure = cause.reasons.find((reason) => reason._tag === "Fail")
          if (failure !== undefined) this.lost(failure.error)
        })
    })
  )

  private readonly read: Effect.Effect<void, FastCgiTransportError | Cause.Done> = Effect.suspend(() =>
    Effect.flatMap(this.transport.pull, (chunks): Effect.Effect<void, FastCgiTransportError | Cause.Done> => {
      this.receive(chunks)
      if (this.closed) return Effect.void
      return this.overfull() ? Effect.flatMap(this.untilRead(), () => this.read) : this.read
    })
  )

  private receive(chunks: ReadonlyArray<Uint8Array>): void {
    const records = this.records
    let error: FastCgiDecoder.FastCgiDecodeError | undefined
    for (let i = 0; i < chunks.length && error === undefined; i++) error = this.decoder.push(chunks[i], records)
    for (let i = 0; i < records.length && !this.closed; i++) this.dispatch(records[i])
    records.length = 0
    if (error !== undefined && !this.closed) {
      const outcome = fail(
        { _tag: "ProtocolError" },
        `the application does not answer in FastCGI: ${error.message}`,
        error
      )
      this.close(() => outcome)
    }
    this.wake()
  }

  private dispatch(record: FastCgiRecord.FastCgiRecord): void {
    switch (record._tag) {
      case "Stdout": {
        const request = this.requests.get(record.requestId)
        if (request === undefined) return
        this.touch(request)
        if (record.content.length === 0) request.stdout.end()
        else {
          request.received += record.content.length
          if (request.left) this.exceed(request, record.content.length)
          else this.unread += request.stdout.append(record.content)
        }
        return
      }
      case "Stderr": {
        const request = this.requests.get(record.requestId)
        if (request === undefined) return
        this.touch(request)
        if (record.content.length > 0 && request.stderr.unread < maxStderrUnread) request.stderr.append(record.content)
        return
      }
      case "EndRequest": {
        const request = this.requests.get(record.requestId)
        if (request !== undefined) this.ended(request, record)
        return
      }
      case "GetValuesResult":
        return this.answerValues(record.content)
      case "UnknownType":
        // SPEC 4.2: the application does not know GET_VALUES, the only management record that is ever sent here.
        return this.answerValues(undefined)
      default:
        // A record that only a web server sends, or of a type that SPEC 8 does not name: skipped, as every web server
        // but nginx does.
        return
    }
  }

  // Output behind the end of an answer, such as a body in the answer to HEAD, is dropped, but not without end.
  private exceed(request: ClientRequest, size: number): void {
    request.excess += size
    if (request.excess <= maxExcess || request.phase !== "active") return
    this.abort(request, fail({ _tag: "Aborted" }, "the application went on sending after the end of its answer"))
  }

  private ended(request: ClientRequest, record: FastCgiRecord.EndRequest): void {
    if (record.protocolStatus === FastCgiRecord.ProtocolStatus.RequestComplete || request.received > 0) {
      // After output every web server ignores protocolStatus; here the reader is told in `end`.
      this.finish(request, { appStatus: record.appStatus, protocolStatus: record.protocolStatus })
    } else {
      this.finish(request, refusal(record))
    }
    // Without the end of its input the application may still be reading it: only a multiplexing one is known to skip
    // what comes for an id that has ended (SPEC 3.3).
    if (!request.sent && this.requests.size === 0) this.accepting = false
    if (this.live === 0 && !this.accepting) this.close(closedHere)
    this.changed = true
  }

  private peerClosed(): void {
    const cut = this.decoder.end()
    this.close((request) => {
      if (request === undefined) return fail({ _tag: "Closed" }, "the application closed the connection", cut)
      const received = request.received
      if (received === 0) {
        return fail(
          { _tag: "ConnectionLost", received },
          "the application closed the connection before it answered",
          cut
        )
      }
      if (request.endAtClose && cut === undefined) return { appStatus: 0, protocolStatus: 0 }
      const message = `the application closed the connection in the middle of its answer, after ${received} bytes`
      return fail({ _tag: "Truncated", received }, message, cut)
    })
    this.wake()
  }

  private lost(cause: FastCgiTransportError): void {
    this.close((request) => {
      const received = request?.received ?? 0
      const when = received === 0 ? "before the application answered" : `after ${received} bytes of the answer`
      return fail({ _tag: "ConnectionLost", received }, `the connection was lost ${when}: ${cause.message}`, cause)
    })
    this.wake()
  }

  // ---------------------------------------------------------------------------
  // Requests
  // ---------------------------------------------------------------------------

  /** Whether a request can be begun now. */
  get available(): boolean {
    return this.accepting && !this.closed && this.requests.size < Math.min(this.options.maxRequests, maxRequestId)
  }

  /** Whether a request can be begun now or after another one has ended. */
  get open(): boolean {
    return this.accepting && !this.closed
  }

  /** Requests that have been begun and have not ended, without those that were given up. */
  get active(): number {
    return this.live
  }

  /** Waits until a request may be begun, in order; the caller looks again afterwards. */
  readonly untilAvailable: Effect.Effect<void> = Effect.callback((resume) => {
    const start = () => resume(Effect.void)
    this.starters.add(start)
    return Effect.sync(() => {
      this.starters.delete(start)
    })
  })

  readonly untilClosed: Effect.Effect<void> = Effect.suspend(() => Deferred.await(this.closing))

  /** Begins a request. Only when `available`. */
  beginUnsafe(options: BeginOptions): ClientRequest {
    let id = this.lowestFree
    while (this.requests.has(id)) id++
    this.lowestFree = id + 1
    const request = new ClientRequest(this, id, options)
    this.requests.set(id, request)
    this.live++
    if (!options.keepConnection) this.accepting = false
    const out = [requestHead(id, options.role, options.keepConnection ? 1 : 0, options.params)]
    const body = options.body
    if (body === "none") request.sent = true
    else if (body !== undefined) {
      if (body.length > 0) new Outgoing([body]).next(FastCgiRecord.RecordType.Stdin, id, out)
      out.push(streamEnd(FastCgiRecord.RecordType.Stdin, id))
      request.sent = true
    }
    this.transport.writeUnsafe(out)
    // The limits of `overfull` are others now.
    this.resumeReading?.()
    return request
  }

  /** Writes chunks of STDIN or DATA and waits while the transport is full. */
  send(request: ClientRequest, type: number, chunks: ReadonlyArray<Uint8Array>): Effect.Effect<void> {
    const outgoing = new Outgoing(chunks)
    const step: Effect.Effect<void> = Effect.suspend(() => {
      while (!outgoing.done) {
        // The fiber is about to be interrupted, or should be as soon as reading has told what happened.
        if (request.phase !== "active" || !this.writable) return Effect.never
        const out: Array<Uint8Array> = []
        const before = this.transport.pendingUnsafe()
        for (let size = 0; size < writeShare && !outgoing.done;) {
          const from = out.length
          outgoing.next(type, request.id, out)
          for (let i = from; i < out.length; i++) size += out[i].length
        }
        this.transport.writeUnsafe(out)
        if (this.transport.pendingUnsafe() >= outputHighWaterMark || before >= outputHighWaterMark) {
          return Effect.flatMap(this.untilDrained, () => step)
        }
      }
      return Effect.void
    })
    return this.transport.pendingUnsafe() >= outputHighWaterMark ? Effect.flatMap(this.untilDrained, () => step) : step
  }

  /** Writes the empty record that ends STDIN or DATA. */
  sendEndUnsafe(request: ClientRequest, type: number, last: boolean): void {
    if (request.phase !== "active") return
    if (last) request.sent = true
    this.transport.writeUnsafe([streamEnd(type, request.id)])
  }

  /** Gives a request up, unless it has ended. */
  abortUnsafe(request: ClientRequest, error: FastCgiClientError): void {
    if (request.phase !== "active") return
    this.abort(request, error)
    this.wake()
  }

  private abort(request: ClientRequest, error: FastCgiClientError): void {
    this.detach(request, "aborted", error)
    request.stdout.discard()
    request.stderr.discard()
    // php-fpm and most others ignore ABORT_REQUEST, so the connection is closed where nobody else needs it.
    if (this.live > 0) this.transport.writeUnsafe([encode(FastCgiRecord.abortRequest(request.id))])
    else this.close(closedHere)
    this.changed = true
  }

  /** Gives a request up whose scope is closed, unless it has ended or been left. */
  releaseUnsafe(request: ClientRequest): void {
    if (!request.left) {
      this.abortUnsafe(request, fail({ _tag: "Aborted" }, "the request was given up before its end"))
      request.stderr.discard()
    }
    request.stdout.discard()
  }

  /**
   * Leaves a request whose answer is complete to end by itself, so that its connection can be kept. Not while it is
   * still sending its body, which nobody may ever read.
   */
  leaveUnsafe(request: ClientRequest): void {
    if (!request.sent) return
    request.left = true
    request.stdout.discard()
  }

  /** A reader has pulled `size` bytes of STDOUT. */
  takenUnsafe(request: ClientRequest, size: number): void {
    if (request.phase !== "active") return
    this.unread -= size
    this.resumeIfRead()
  }

  // Takes a request out of the connection: its id is free, what has arrived of it is its reader's own.
  private finish(request: ClientRequest, outcome: RequestEnd | FastCgiClientError): void {
    this.requests.delete(request.id)
    if (request.id < this.lowestFree) this.lowestFree = request.id
    if (request.phase === "active") this.detach(request, "ended", outcome)
    request.phase = "ended"
  }

  private detach(
    request: ClientRequest,
    phase: "aborted" | "ended",
    outcome: RequestEnd | FastCgiClientError
  ): void {
    request.phase = phase
    request.outcome = outcome
    this.live--
    this.unread -= request.stdout.unread
    if (outcome instanceof FastCgiClientError) {
      request.stdout.fail(outcome)
      request.stderr.fail(outcome)
    } else {
      request.stdout.end()
      request.stderr.end()
    }
    this.touch(request)
    this.resumeIfRead()
  }

  // ---------------------------------------------------------------------------
  // GET_VALUES
  // ---------------------------------------------------------------------------

  readonly getValues = (
    names: Iterable<string>
  ): Effect.Effect<Readonly<Record<string, string>>, FastCgiClientError> =>
    Effect.callback((resume) => {
      if (this.closed) return resume(Effect.fail(notOpen()))
      // A waiter that has been interrupted keeps its place: the answer may still come, and is not the next one's.
      this.values.push(resume)
      const pairs = FastCgiParams.encodePairs(Array.from(names, (name) => [name, ""] as const))
      this.transport.writeUnsafe([encode(FastCgiRecord.getValues(pairs))])
    })

  private answerValues(content: Uint8Array | undefined): void {
    const waiter = this.values.shift()
    const params = content === undefined ? FastCgiParams.empty : FastCgiParams.fromBytes(content)
    if (waiter === undefined) {
      // Unasked: an application that is about to close the connection wants no further request on it, as this package's
      // server does. HAProxy takes it for that as well.
      if (params instanceof FastCgiParams.FastCgiParamsError || params.get("FCGI_MPXS_CONNS") !== "0") return
      this.accepting = false
      if (this.live === 0) this.close(closedHere)
      return
    }
    if (params instanceof FastCgiParams.FastCgiParamsError) {
      const message = `the application's answer to GET_VALUES is malformed: ${params.message}`
      const error = fail({ _tag: "ProtocolError" }, message, params)
      this.due.push(() => waiter(Effect.fail(error)))
    } else this.due.push(() => waiter(Effect.succeed(params.toRecord())))
  }

  // ---------------------------------------------------------------------------
  // Closing
  // ---------------------------------------------------------------------------

  /** Closes the connection; requests that are still active fail with `Closed`. */
  closeUnsafe(): void {
    this.close(closedHere)
    this.wake()
  }

  // `outcomeOf` says how an active request ends; without one, how GET_VALUES fails.
  private close(outcomeOf: (request: ClientRequest | undefined) => RequestEnd | FastCgiClientError): void {
    if (this.closed) return
    this.closed = true
    this.accepting = false
    this.writable = false
    this.changed = true
    this.transport.destroyUnsafe()
    for (const request of Array.from(this.requests.values())) {
      if (request.phase === "active") this.finish(request, outcomeOf(request))
    }
    this.requests.clear()
    const values = this.values
    if (values.length > 0) {
      this.values = []
      const outcome = outcomeOf(undefined)
      const error = outcome instanceof FastCgiClientError ? outcome : notOpen()
      this.due.push(() => {
        for (const waiter of values) waiter(Effect.fail(error))
      })
    }
    this.due.push(() => Deferred.doneUnsafe(this.closing, Effect.void))
  }

  // ---------------------------------------------------------------------------
  // Waiting
  // ---------------------------------------------------------------------------

  private limit(): number {
    return this.requests.size > 1 ? this.options.maxUnreadMultiplexed : this.options.maxUnread
  }

  private overfull(): boolean {
    return this.unread > this.limit()
  }

  private resumeIfRead(): void {
    if (this.resumeReading !== undefined && this.unread <= this.limit() / 2) this.resumeReading()
  }

  private untilRead(): Effect.Effect<void> {
    const room = Effect.callback<void>((resume) => {
      this.resumeReading = () => {
        this.resumeReading = undefined
        // Not inside of the fiber that has just pulled.
        resume(Effect.yieldNow)
      }
      return Effect.sync(() => {
        this.resumeReading = undefined
      })
    })
    // Alone on the connection, a reader may take its time. With others waiting behind it, it may not.
    return this.live > 1
      ? Effect.timeoutOrElse(room, {
        duration: this.options.stallTimeout,
        orElse: () => Effect.sync(() => this.abortStalled())
      })
      : room
  }

  private abortStalled(): void {
    let stalled: ClientRequest | undefined
    for (const request of this.requests.values()) {
      if (request.phase === "active" && (stalled === undefined || request.stdout.unread > stalled.stdout.unread)) {
        stalled = request
      }
    }
    if (stalled === undefined) return
    const message = `nobody read the answer to request ${stalled.id} while it held up others on the connection`
    this.abortUnsafe(stalled, fail({ _tag: "Stalled" }, message))
  }

  private readonly untilDrained: Effect.Effect<void> = Effect.callback((resume) => {
    const wake = () => resume(Effect.void)
    this.writers.add(wake)
    return Effect.sync(() => {
      this.writers.delete(wake)
    })
  })

  private wakeWriters(): void {
    const writers = this.writers
    this.writers = new Set()
    for (const wake of writers) wake()
  }

  private touch(request: ClientRequest): void {
    if (request.touched) return
    request.touched = true
    this.touched.push(request)
  }

  // Tells everybody what has happened, once the state is settled: what is woken here runs at once, and may come back.
  private wake(): void {
    const touched = this.touched
    if (touched.length > 0) {
      this.touched = []
      for (const request of touched) {
        request.touched = false
        const outcome = request.outcome
        // Whoever has the whole answer may close everything: the log comes first.
        request.stderr.wake()
        if (outcome !== undefined) {
          request.sender?.interruptUnsafe()
          Deferred.doneUnsafe(
            request.end,
            outcome instanceof FastCgiClientError ? Effect.fail(outcome) : Effect.succeed(outcome)
          )
        }
        request.stdout.wake()
      }
    }
    const due = this.due
    if (due.length > 0) {
      this.due = []
      for (const tell of due) tell()
    }
    if (this.changed) {
      this.changed = false
      const starters = this.starters
      if (starters.size > 0) {
        this.starters = new Set()
        for (const start of starters) start()
      }
      this.options.onChange?.()
    }
  }
}

const ignore = (_size: number): void => {}

const closedHere = (): FastCgiClientError =>
  fail({ _tag: "Closed" }, "the connection was closed before the request had ended")

export const notOpen = (): FastCgiClientError =>
  fail(
    { _tag: "Closed" },
    "the connection takes no further request: it is closed, or was to be closed after its last one"
  )

const refusal = (record: FastCgiRecord.EndRequest): FastCgiClientError => {
  switch (record.protocolStatus) {
    case FastCgiRecord.ProtocolStatus.Overloaded:
      return fail({ _tag: "Overloaded" }, "the application refused the request: it is overloaded (FCGI_OVERLOADED)")
    case FastCgiRecord.ProtocolStatus.CantMpxConn:
      return fail(
        { _tag: "CantMultiplex" },
        "the application refused the request: it takes one at a time on a connection (FCGI_CANT_MPX_CONN)"
      )
    case FastCgiRecord.ProtocolStatus.UnknownRole:
      return fail(
        { _tag: "UnknownRole" },
        "the application refused the request: it does not know the role (FCGI_UNKNOWN_ROLE)"
      )
    default:
      return fail(
        { _tag: "ProtocolError" },
        `the application ended the request with protocolStatus ${record.protocolStatus}, unknown to FastCGI/1.0`
      )
  }
}
