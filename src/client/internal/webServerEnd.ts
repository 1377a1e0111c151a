/**
 * The web server's end of a connection: requests by id, what they send, and what the application's records do to them
 * (`webServerTable` in `connection/internal/requestState.ts`).
 *
 * An id is free when END_REQUEST has arrived, not before (SPEC 3.3). What has arrived of an answer that is complete belongs
 * to its reader and holds nobody up any more.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Pull from "effect/Pull"
import type * as Scheduler from "effect/Scheduler"
import type { FastCgiTransport, FastCgiTransportError } from "../../connection/FastCgiTransport.ts"
import { Endpoint } from "../../connection/internal/endpoint.ts"
import type { InputOwner } from "../../connection/internal/inputStream.ts"
import { webServerStates } from "../../connection/internal/requestState.ts"
import { type Fork, Timers } from "../../connection/internal/timers.ts"
import type * as FastCgiDecoder from "../../protocol/FastCgiDecoder.ts"
import * as FastCgiParams from "../../protocol/FastCgiParams.ts"
import { type EndRequest, type FastCgiRecord, ProtocolStatus, RecordType } from "../../protocol/FastCgiRecord.ts"
import { FastCgiClientError } from "../FastCgiClientError.ts"
import { AnswerPolicy } from "./answerPolicy.ts"
import { type BeginOptions, ClientRequest, type ConnectionOptions, type Outcome } from "./clientRequest.ts"
import { closedHere, fail, notOpen, refusal } from "./failures.ts"
import { paramsParts } from "./paramsParts.ts"
import { Shares } from "./shares.ts"

// Ids are 16 bits, and 0 belongs to management records (SPEC 3.3).
const maxRequestId = 65535

// A writer above this many pending bytes waits.
const outputHighWaterMark = 256 * 1024

/** A body that is there and not longer than this leaves in the same write as the params. */
export const sameWriteLimit = 64 * 1000

// What an application may send beyond the end of its answer before its request is aborted.
const maxExcess = 64 * 1024

// How long, in milliseconds, an application may take to end requests that have been aborted, when no others are on the connection.
const abortedTime = 1000

// STDERR that nobody reads is kept up to this many bytes and dropped beyond: it must not hold up an answer.
const maxStderrUnread = 64 * 1024

type ValuesWaiter = (effect: Effect.Effect<Readonly<Record<string, string>>, FastCgiClientError>) => void

/** The web server's end of one connection. */
export class WebServerEnd extends Endpoint<ClientRequest> {
  protected readonly readAhead: AnswerPolicy
  private readonly options: ConnectionOptions
  private readonly fork: Fork
  private readonly timers: Timers<"stall" | "abort">
  private lowestFree = 1
  // Requests in the table that nobody has given up.
  private live = 0
  // Opened when a request may be begun: made by the first who waits.
  private starters: Latch.Latch | undefined
  private readonly values: Array<ValuesWaiter> = []
  readonly closed = Deferred.makeUnsafe<void>()
  // What is to be told: logs that have grown, requests that have ended, answers to GET_VALUES, and whether anything changed.
  private readonly logs: Array<{ readonly wake: () => void }> = []
  private readonly ends: Array<ClientRequest> = []
  private due: Array<() => void> = []
  private changed = false
  // STDERR counts for nothing: it is bounded by itself.
  private readonly stderrOwner: InputOwner = {
    onConsumed: ignore,
    onAwaited: ignore,
    onTouched: (stream) => this.logs.push(stream)
  }

  constructor(
    transport: FastCgiTransport,
    options: ConnectionOptions,
    dispatcher: Scheduler.SchedulerDispatcher,
    fork: Fork
  ) {
    super(transport, dispatcher, outputHighWaterMark)
    this.options = options
    this.fork = fork
    this.timers = new Timers(fork)
    this.readAhead = new AnswerPolicy(this, options, this.timers)
  }

  /** Begins to read. */
  start(): void {
    this.transport.flowUnsafe(this)
  }

  // --- what the layer above says ----------------------------------------------------------------

  /** Whether a request can be begun now. */
  get available(): boolean {
    return this.state.isAccepting && this.requests.size < Math.min(this.options.maxRequests, maxRequestId)
  }

  /** Whether a request can be begun now or after another one has ended. */
  get open(): boolean {
    return this.state.isAccepting
  }

  /** Requests that have been begun and have not ended, without those that were given up. */
  get active(): number {
    return this.live
  }

  /** Requests whose ids are in use: those that are active, and those that were given up and have not ended. */
  get load(): number {
    return this.requests.size
  }

  /** Begins no further request, and closes when none is active. */
  finishUnsafe(): void {
    this.state = this.state.after.finish
    this.settle()
  }

  /** Waits until a request may be begun, in order; the caller looks again afterwards. */
  readonly untilAvailable: Effect.Effect<void> = Effect.suspend(() => (this.starters ??= Latch.makeUnsafe()).await)

  /** Begins a request. Only when `available`. */
  beginUnsafe(options: BeginOptions): ClientRequest {
    let id = this.lowestFree
    while (this.requests.get(id) !== undefined) id++
    this.lowestFree = id + 1
    const request = new ClientRequest(id, options, this, this.stderrOwner)
    this.requests.add(request)
    this.live++
    this.timers.stop("abort")
    const { body, keepConnection } = options
    if (!keepConnection) this.state = this.state.after.finish
    const { output } = this
    // Where it shares the write with nobody, it needs no turn of the scheduler to wait for others.
    const batch = this.options.maxRequests === 1 && body !== undefined && output.beginBatch()
    output.beginRequest(id, options.role, keepConnection)
    for (const part of paramsParts(options.params)) output.params(id, part)
    output.endStream(RecordType.Params, id)
    if (body === "none") request.sent = true
    else if (body !== undefined) {
      output.stream(RecordType.Stdin, id, body)
      this.sendEndUnsafe(request, RecordType.Stdin, true)
    }
    if (batch) output.endBatch()
    // More may be unread now.
    this.readAhead.reconsider()
    return request
  }

  /** Writes chunks of STDIN or DATA and waits while there is no room for more, in the way that `timed` says. */
  send(
    request: ClientRequest,
    type: RecordType,
    chunks: ReadonlyArray<Uint8Array>,
    timed: (room: Effect.Effect<void>) => Effect.Effect<void>
  ): Effect.Effect<void> {
    const shares = new Shares(chunks)
    const room = Effect.suspend(() => timed(this.output.room))
    const step: Effect.Effect<void> = Effect.suspend(() => {
      // The fiber is about to be interrupted.
      if (!request.state.isActive) return Effect.never
      if (shares.left === 0) return Effect.void
      this.output.gathered(type, request.requestId, shares.next())
      return Effect.flatMap(room, () => step)
    })
    return Effect.flatMap(room, () => step)
  }

  /** Writes the empty record that ends STDIN or DATA. */
  sendEndUnsafe(request: ClientRequest, type: RecordType, last: boolean): void {
    if (!request.state.isActive) return
    if (last) request.sent = true
    this.output.endStream(type, request.requestId)
  }

  /** Says which fiber sends the body of a request. It is interrupted when the request ends. */
  sendBy(request: ClientRequest, sender: Fiber.Fiber<unknown, unknown>): void {
    request.sender = sender
    // The answer may have been there before the fiber was.
    if (!request.state.isActive) sender.interruptUnsafe()
  }

  /**
   * Gives a request up, unless it has ended: its reader is told at once, its id stays taken until END_REQUEST comes or the
   * connection is closed, and what comes for it is dropped.
   */
  abortUnsafe(request: ClientRequest, error: FastCgiClientError): void {
    if (!request.state.isActive) return
    request.state = request.state.after.abort
    this.detach(request, error)
    request.stdout.discard(() => error)
    request.stderr.discard(() => error)
    // php-fpm and most others ignore ABORT_REQUEST, so the connection is closed where nobody else needs it. With others, the
    // record, an empty one, is written behind what is queued.
    if (this.live > 0) this.output.endStream(RecordType.AbortRequest, request.requestId)
    else this.close(closedHere)
    this.settle()
  }

  /** Gives up a request whose scope is closed, unless it has ended or been left. */
  releaseUnsafe(request: ClientRequest): void {
    if (request.state !== webServerStates.left) {
      // An error, with its stack, costs a fifth of a small request (measured): none is made of one that has ended.
      if (request.state.isActive) {
        this.abortUnsafe(request, fail({ _tag: "Aborted" }, "the request was given up before its end"))
      }
      request.stderr.discard(closedHere)
    }
    request.stdout.discard(closedHere)
    this.settle()
  }

  /**
   * Leaves a request whose answer is complete to end by itself, so that its connection can be kept. Not while it is
   * still sending its body, which nobody may ever read. Returns whether END_REQUEST is still to come.
   */
  leaveUnsafe(request: ClientRequest): boolean {
    if (!request.sent || request.state !== webServerStates.active) return false
    request.state = request.state.after.leave
    request.stdout.discard(closedHere)
    this.settle()
    return true
  }

  /** Asks the application for variables (SPEC 4.1). */
  getValues(names: Iterable<string>): Effect.Effect<Readonly<Record<string, string>>, FastCgiClientError> {
    return Effect.callback((resume) => {
      if (!this.state.isOpen) return resume(Effect.fail(notOpen()))
      // A waiter that has been interrupted keeps its place: the answer may still come, and is not the next one's.
      this.values.push(resume)
      const pairs = FastCgiParams.encodePairs(Array.from(names, (name) => [name, ""] as const))
      this.output.management(RecordType.GetValues, pairs, 0)
    })
  }

  /** Closes the connection; requests that are still active fail with `Closed`. */
  closeUnsafe(): void {
    this.close(closedHere)
    this.settle()
  }

  // --- what the transport says ------------------------------------------------------------------

  onDrain(): void {
    this.output.resume()
  }

  onPending(): void {}

  // What has arrived can still be read, and says what happened: an answer that is complete is one.
  onClose(): void {
    if (!this.state.isOpen) return
    const rest: Effect.Effect<void, FastCgiTransportError> = Pull.matchEffect(this.transport.pull, {
      onSuccess: (chunks) =>
        Effect.suspend(() => {
          this.onRead(chunks)
          return this.state.isOpen ? rest : Effect.void
        }),
      onDone: () => Effect.sync(() => this.onReadEnd()),
      onFailure: Effect.failCause
    })
    this.fork(Effect.catchCause(rest, (cause) =>
      Effect.sync(() => {
        const failure = cause.reasons.find(Cause.isFailReason)
        return failure === undefined ? this.onReadDefect(Cause.squash(cause)) : this.onLost(failure.error)
      })))
  }

  protected onDefect(defect: unknown): void {
    const error = fail({ _tag: "ProtocolError" }, "the client failed while it read", defect)
    this.close(() => error)
    this.settle()
  }

  protected onPeerEnd(): void {
    this.onEnd(undefined)
  }

  protected onMalformed(error: FastCgiDecoder.FastCgiDecodeError): void {
    if (error.reason._tag === "TruncatedRecord") return this.onEnd(error)
    const outcome = fail(
      { _tag: "ProtocolError" },
      `the application does not answer in FastCGI: ${error.message}`,
      error
    )
    this.close(() => outcome)
  }

  private onEnd(cut: FastCgiDecoder.FastCgiDecodeError | undefined): void {
    this.close((request) => {
      if (request === undefined) return fail({ _tag: "Closed" }, "the application closed the connection", cut)
      const { received } = request
      if (received === 0) {
        const message = "the application closed the connection before it answered"
        return fail({ _tag: "ConnectionLost", received }, message, cut)
      }
      if (request.endAtClose && cut === undefined) return { appStatus: 0, protocolStatus: 0 }
      const message = `the application closed the connection in the middle of its answer, after ${received} bytes`
      return fail({ _tag: "Truncated", received }, message, cut)
    })
  }

  private onLost(cause: FastCgiTransportError): void {
    this.close((request) => {
      const received = request?.received ?? 0
      const when = received === 0 ? "before the application answered" : `after ${received} bytes of the answer`
      return fail({ _tag: "ConnectionLost", received }, `the connection was lost ${when}: ${cause.message}`, cause)
    })
    this.settle()
  }

  // --- records ----------------------------------------------------------------------------------

  // Nothing that an application sends is answered.
  protected mayTake(): boolean {
    return true
  }

  protected record(record: FastCgiRecord): void {
    switch (record._tag) {
      case "Stdout": {
        const request = this.requests.get(record.requestId)
        if (request !== undefined) this.stdout(request, record.content)
        return
      }
      case "Stderr": {
        const request = this.requests.get(record.requestId)
        if (request?.state.on.Stderr === "deliver" && request.stderr.unread < maxStderrUnread) {
          request.stderr.offer(record.content)
        }
        return
      }
      case "EndRequest": {
        const request = this.requests.get(record.requestId)
        if (request !== undefined) this.endRequest(request, record)
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

  private stdout(request: ClientRequest, content: Uint8Array): void {
    const { length } = content
    const { on } = request.state
    switch (length > 0 ? on.Stdout : on.StdoutEnd) {
      case "deliver":
        request.received += length
        return this.readAhead.onArrived(request.stdout.offer(content))
      case "complete":
        return request.stdout.end()
      case "exceed":
        // Output behind the end of an answer, such as a body in the answer to HEAD, is dropped, but not without end.
        request.received += length
        request.excess += length
        if (request.excess <= maxExcess) return
        return this.abortUnsafe(
          request,
          fail({ _tag: "Aborted" }, "the application sent more after the end of its answer")
        )
    }
  }

  private endRequest(request: ClientRequest, record: EndRequest): void {
    // After output every web server ignores protocolStatus; here the reader is told in `end`.
    const isAnswer = record.protocolStatus === ProtocolStatus.RequestComplete || request.received > 0
    this.finish(
      request,
      () => isAnswer ? { appStatus: record.appStatus, protocolStatus: record.protocolStatus } : refusal(record)
    )
    // Without the end of its input the application may still be reading it: only a multiplexing one is known to skip
    // what comes for an id that has ended (SPEC 3.3).
    if (!request.sent && this.requests.size === 0) this.state = this.state.after.finish
    // An application that obeys ABORT_REQUEST ends the requests that are left soon. Another may never, and nobody needs the connection.
    if (this.requests.size === 0) this.timers.stop("abort")
    else if (this.live === 0) this.timers.start("abort", abortedTime, () => this.closeUnsafe())
    this.changed = true
  }

  // Takes a request out of the connection: its id is free, what has arrived of it is its reader's own.
  private finish(request: ClientRequest, outcomeOf: () => Outcome): void {
    this.requests.delete(request)
    if (request.requestId < this.lowestFree) this.lowestFree = request.requestId
    const action = request.state.on.End
    request.state = request.state.after.end
    if (action === "end") this.detach(request, outcomeOf())
  }

  private detach(request: ClientRequest, outcome: Outcome): void {
    const { stderr, stdout } = request
    request.outcome = outcome
    this.live--
    this.ends.push(request)
    if (outcome instanceof FastCgiClientError) {
      stdout.cut(() => outcome)
      stderr.cut(() => outcome)
    } else {
      stdout.end()
      stderr.end()
    }
    stdout.disown()
    this.readAhead.onConsumed(stdout.unread)
    this.changed = true
  }

  private answerValues(content: Uint8Array | undefined): void {
    const waiter = this.values.shift()
    const params = content === undefined ? FastCgiParams.empty : FastCgiParams.fromBytes(content)
    if (waiter === undefined) {
      // Unasked: an application that is about to close the connection wants no further request on it, as this package's
      // server does. HAProxy takes it for that as well.
      if (params instanceof FastCgiParams.FastCgiParamsError || params.get("FCGI_MPXS_CONNS") !== "0") return
      this.state = this.state.after.finish
      return
    }
    if (params instanceof FastCgiParams.FastCgiParamsError) {
      const message = `the application's answer to GET_VALUES is malformed: ${params.message}`
      const error = fail({ _tag: "ProtocolError" }, message, params)
      this.due.push(() => waiter(Effect.fail(error)))
    } else this.due.push(() => waiter(Effect.succeed(params.toRecord())))
  }

  // `outcomeOf` says how an active request ends; without one, how GET_VALUES fails.
  private close(outcomeOf: (request: ClientRequest | undefined) => Outcome): void {
    if (!this.state.isOpen) return
    this.state = this.state.after.lose
    this.changed = true
    this.transport.destroyUnsafe()
    this.timers.stopAll()
    for (const request of this.requests.values()) this.finish(request, () => outcomeOf(request))
    if (this.values.length > 0) {
      const outcome = outcomeOf(undefined)
      const failed = Effect.fail(outcome instanceof FastCgiClientError ? outcome : notOpen())
      for (const waiter of this.values.splice(0)) this.due.push(() => waiter(failed))
    }
    this.due.push(() => Deferred.doneUnsafe(this.closed, Effect.void))
  }

  // --- telling ----------------------------------------------------------------------------------

  protected startWaiting(): boolean {
    return false
  }

  // Whoever has the whole answer may close everything: the log comes first.
  protected tell(): void {
    const { ends, logs } = this
    for (let i = 0; i < logs.length; i++) logs[i].wake()
    logs.length = 0
    for (let i = 0; i < ends.length; i++) {
      const { end, outcome, sender } = ends[i]
      sender?.interruptUnsafe()
      this.options.onEnd?.(ends[i])
      Deferred.doneUnsafe(end, outcome instanceof FastCgiClientError ? Effect.fail(outcome) : Effect.succeed(outcome!))
    }
    ends.length = 0
  }

  protected settleConnection(): void {
    if (this.live === 0 && this.state.closesWhenIdle) this.close(closedHere)
    if (!this.state.isOpen) this.output.release()
    const { due } = this
    if (due.length > 0) {
      this.due = []
      for (const tell of due) tell()
    }
    if (!this.changed) return
    this.changed = false
    const { starters } = this
    this.starters = undefined
    starters?.openUnsafe()
    this.options.onChange?.()
  }

  /** Aborts the request whose reader holds the others up most. */
  abortStalled(): void {
    let stalled: ClientRequest | undefined
    for (const request of this.requests.values()) {
      if (request.state.isActive && (stalled === undefined || request.stdout.unread > stalled.stdout.unread)) {
        stalled = request
      }
    }
    if (stalled === undefined) return
    const message = `request ${stalled.requestId} held up others on the connection: no reader took its answer`
    this.abortUnsafe(stalled, fail({ _tag: "Stalled" }, message))
  }
}

const ignore = (): void => {}
