/**
 * The multiplexer: one connection, records in, request fibers, records out (docs/architecture.md, One request).
 *
 * It owns the map of requests, and is the only one that closes. Records are dispatched in plain synchronous code, an array
 * at a time; an Effect runs per request and per wait.
 *
 * | record                  | id state          | outcome                                                     |
 * |-------------------------|-------------------|-------------------------------------------------------------|
 * | BEGIN_REQUEST           | inactive          | admit, or refuse                                            |
 * | BEGIN_REQUEST           | active            | connection error: close (SPEC 3.3, the id was still ours)   |
 * | PARAMS, STDIN, DATA     | inactive          | ignore (SPEC 3.3)                                           |
 * | STDIN, DATA             | active, in PARAMS | the request is refused with 400                             |
 * | PARAMS, STDIN, DATA     | after its end     | ignore                                                      |
 * | DATA to a non-Filter, STDIN to an Authorizer | active | ignore                                            |
 * | ABORT_REQUEST           | in PARAMS         | END_REQUEST at once                                         |
 * | ABORT_REQUEST           | running           | interrupt; END_REQUEST when the handler has ended (SPEC 5.4)|
 * | ABORT_REQUEST           | inactive          | ignore                                                      |
 * | GET_VALUES              | id 0              | GET_VALUES_RESULT with the names asked that are known       |
 * | unknown type            | id 0              | UNKNOWN_TYPE                                                |
 * | unknown type, GET_VALUES| id not 0          | ignore: not a management record                             |
 * | END_REQUEST, STDOUT, STDERR, UNKNOWN_TYPE, GET_VALUES_RESULT | any | ignore: never answer an answer       |
 * | not a record            |                   | decode error: close; HTTP at the start is answered in HTTP  |
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scheduler from "effect/Scheduler"
import * as FastCgiDecoder from "../../protocol/FastCgiDecoder.ts"
import * as FastCgiParams from "../../protocol/FastCgiParams.ts"
import { type FastCgiRecord, keepConnection, RecordType, Role, ValueName } from "../../protocol/FastCgiRecord.ts"
import type { FastCgiTransport, FastCgiTransportObserver, FastCgiTransportReader } from "../FastCgiTransport.ts"
import type { ConnectionEvent, ConnectionHandler, ConnectionLimit, ConnectionLimits } from "./connectionHandler.ts"
import { type AbortReason, ConnectionRequest, inputAborted, type RequestOwner } from "./connectionRequest.ts"
import type { Deadlines } from "./deadlines.ts"
import { DueInput } from "./dueInput.ts"
import type { InputBuffer } from "./inputBuffer.ts"
import { type OutputObserver, OutputQueue } from "./outputQueue.ts"
import { type ConnectionTimers, ReadAhead, type ReadAheadOwner } from "./readAhead.ts"
import { badRequest, lateParams, type Refusal, tooLargeParams, truncatedParams } from "./refusals.ts"
import { RequestTable } from "./requestTable.ts"
import { type Fork, millisecondsOf, Timers } from "./timers.ts"

// How many times `maxParamsSize` of PARAMS are read of a request that has been refused: SPEC 6.2 forbids an answer before they
// have ended, and an end of the connection costs its other requests.
const paramsGrace = 2

// How long, in milliseconds, a half-closed connection waits for the peer to close its end when everything has been written and
// all input has come. Bytes that arrive behind a close are answered by RST over TCP, and a peer that has not read the answer
// yet loses it. A peer that reads too slowly has the same time when the server stops and its deadline is over.
export const closingMoment = 1000

// The content of the UNKNOWN_TYPE record that cuts a response off: some servers, Caddy for one, take any content for the body.
const cutOff = new Uint8Array(0)

// SPEC 4.1 has three variables. A record has room for 30,000 names.
const maxValueNames = 1024

// What `goAway` says.
const noMultiplexing = FastCgiParams.encodePairs([[ValueName.MpxsConns, "0"]])

// What a request of HTTP begins with, an upper-case letter, no record does.
const isHttp = (byte: number): boolean => byte >= 0x41 && byte <= 0x5a

const noHttpText =
  "This port speaks FastCGI and no HTTP: a web server goes in front of it (nginx: fastcgi_pass, not proxy_pass).\n"

const noHttp = new TextEncoder().encode(
  "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n" +
    `Content-Length: ${noHttpText.length}\r\nConnection: close\r\n\r\n${noHttpText}`
)

const none: ReadonlyArray<ConnectionRequest> = []
const noRecords: ReadonlyArray<FastCgiRecord> = []

let lastConnectionId = 0

/**
 * One connection.
 *
 *            last request ends, KEEP_CONN=0 or draining             written out and half-closed,
 *            connection error                                       and the peer has ended, or time is over
 *    open ──┬─────────────────────────────────────────▶ closing ──────────────────────────────────────────▶ closed
 *           └─ lost, or a response is cut off by a reset ─────────────────────────────────────────────────▶ ┘
 */
export class Connection
  implements RequestOwner, OutputObserver, FastCgiTransportObserver, FastCgiTransportReader, ReadAheadOwner
{
  readonly id = ++lastConnectionId
  readonly transport: FastCgiTransport
  readonly output: OutputQueue
  private readonly limits: ConnectionLimits
  private readonly handler: ConnectionHandler
  private readonly clock: Clock.Clock
  readonly requests = new RequestTable()
  private readonly readAhead: ReadAhead
  // Requests whose PARAMS have ended and whose handlers start at the end of the read, or when there is room for their answers.
  private readonly toStart: Array<ConnectionRequest> = []
  // Ids of ended requests whose input is still on its way.
  private readonly sending = new DueInput()
  // Inputs that have grown in this read and have a reader.
  private readonly touched: Array<InputBuffer> = []
  // Requests whose response is incomplete, and that wait for the end of the others, and with it of the connection.
  private withheld: ReadonlyArray<ConnectionRequest> = none
  private wentAway = false
  private phase: "open" | "closing" | "closed" = "open"
  // What ends a connection that is closing: the peer has ended, or time is over.
  private peerHasEnded = false
  private halfClosed = false
  private hurrying = false
  private readonly closing: Deadlines<Connection>
  // Whether the first byte is one of HTTP; undefined until it has come.
  private speaksHttp: boolean | undefined
  private dispatching = false
  private leaving = false
  private closeWhenIdle = false
  /** Requests that have begun and whose PARAMS have not ended. */
  inParams = 0
  /** Which of all connections have had requests in PARAMS for longer: a number that grows. */
  inParamsSince = 0
  // Records that wait until there is room for the answers, and what has made those behind them unreadable.
  private parked: ReadonlyArray<FastCgiRecord> = noRecords
  private parkedError: FastCgiDecoder.FastCgiDecodeError | undefined
  private awaitsRoom = false
  private readonly decoder = FastCgiDecoder.make()
  private defect: Cause.Cause<never> | undefined
  private readonly timers: ConnectionTimers
  // When the last request has ended. Kept only where there is an idleTimeout.
  private idleSince = 0
  private whenFinished: (() => void) | undefined

  constructor(
    transport: FastCgiTransport,
    handler: ConnectionHandler,
    limits: ConnectionLimits,
    dispatcher: Scheduler.SchedulerDispatcher,
    clock: Clock.Clock,
    fork: Fork,
    closing: Deadlines<Connection>
  ) {
    this.transport = transport
    this.handler = handler
    this.limits = limits
    this.clock = clock
    this.closing = closing
    this.timers = new Timers(fork)
    this.readAhead = new ReadAhead(this, limits, this.timers)
    this.output = new OutputQueue(transport, dispatcher, limits.outputHighWaterMark, this)
    transport.observeUnsafe(this)
  }

  onDrain(): void {
    this.output.drained()
    if (this.phase !== "closing") return
    this.writeOut()
    if (this.phase === "closing" && this.output.pending === 0) this.watchClosing()
  }

  onClose(): void {
    this.lost()
  }

  onBlocked(): void {
    this.readAhead.reconsider()
  }

  onPending(): void {
    const { writeTimeout } = this.limits
    if (writeTimeout === Infinity || this.phase !== "open") return
    const accepted = this.output.accepted
    this.timers.start("write", writeTimeout, () => {
      if (this.output.pending === 0) return
      if (this.output.accepted > accepted) return this.onPending()
      const message = `the peer has taken nothing of ${this.output.pending} bytes for ${writeTimeout} ms`
      this.handler.report({ _tag: "ConnectionClosed", limit: "writeTimeout", message })
      this.transport.resetUnsafe()
      this.lost()
    })
  }

  get dispatches(): boolean {
    return this.phase === "open"
  }

  report(event: ConnectionEvent): void {
    this.handler.report(event)
  }

  /**
   * Runs the connection until it is closed and all its requests have ended. It is stopped by `drain`, `shutdown` and
   * `destroy`, not by interruption.
   */
  get run(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.transport.flowUnsafe(this)
      this.watchIdle()
      return this.finished
    })
  }

  onRead(chunks: readonly [Uint8Array, ...Array<Uint8Array>]): void {
    // What is only read so that the peer can send it is not decoded: measured, 128 MiB of GET_VALUES that came while the
    // connection was closing took 300 MiB.
    if (this.phase !== "open") return
    this.speaksHttp ??= isHttp(chunks[0][0])
    const records: Array<FastCgiRecord> = []
    let error: FastCgiDecoder.FastCgiDecodeError | undefined
    for (let i = 0; i < chunks.length && error === undefined; i++) error = this.decoder.push(chunks[i], records)
    this.dispatch(records, error)
  }

  onReadDefect(defect: unknown): void {
    this.defect = Cause.die(defect)
    this.destroy()
  }

  onReadEnd(): void {
    const error = this.phase === "open" ? this.decoder.end() : undefined
    if (error === undefined) this.peerEnded()
    else this.malformed(error)
  }

  /** Closes after the requests that are active, or else after the next one. */
  leave(): void {
    this.leaving = true
  }

  /** Closes as soon as no request is active. */
  drain(): void {
    this.leaving = true
    this.closeWhenIdle = true
    if (this.readAhead.multiplexed) this.goAway()
    // The server calls this when it has waited for what was on its way: nothing that comes later costs a peer an answer.
    const owesNothing = this.phase === "open" || this.sending.size === 0
    if (this.requests.size === 0 && this.output.pending === 0 && owesNothing) this.closed()
    else this.closeIfIdle()
  }

  /**
   * Interrupts every handler; what they still answer is sent as far as the peer takes it within a moment, then the connection
   * closes.
   */
  shutdown(): void {
    this.hurrying = true
    this.parked = noRecords
    this.closeWhenIdle = true
    this.abortEvery("Shutdown")
    this.closeIfIdle()
    if (this.phase !== "closing") return
    if (this.output.pending === 0) this.closed()
    else this.watchClosing()
  }

  /** Closes at once; every request is interrupted as if the peer had gone. */
  destroy(): void {
    this.transport.destroyUnsafe()
    this.lost()
  }

  inputConsumed(size: number): void {
    this.readAhead.consumed(size)
  }

  dataAwaited(): void {
    this.readAhead.reconsider()
  }

  /** Gives up a connection whose peer begins requests and does not go on. */
  overrun(most: number): void {
    const message = `${most} requests have begun whose PARAMS have not ended, most of them here: ${this.inParams}`
    this.broken(message, "maxRequestsInParams")
  }

  requestEnded(request: ConnectionRequest): void {
    this.requests.delete(request)
    if (request.paramsDecoder !== undefined) this.paramsEnded(request)
    const lastInput = request.lastInput
    if (lastInput !== undefined) this.sending.set(request.requestId, lastInput)
    if (!request.keepConnection) this.closeWhenIdle = true
    if (this.requests.size === 0) this.readAhead.multiplexed = false
    this.leaveHandler(request)
    this.cutOffIfAlone()
    if (this.leaving) this.lastEnded(request)
    this.closeIfIdle()
    this.readAhead.reconsider()
    if (this.requests.size === 0) this.watchIdle()
    if (this.phase === "closed") this.whenFinished?.()
  }

  private lastEnded(request: ConnectionRequest): void {
    this.closeWhenIdle = true
    if (request.ended && request.keepConnection && this.requests.size === 0) this.goAway()
  }

  requestFailed(request: ConnectionRequest): void {
    // No web server takes anything but the end of the connection for the end of a response that is incomplete: HAProxy, the
    // only one that multiplexes, neither appStatus nor protocolStatus. So the request stays without END_REQUEST until the
    // others on the connection have ended.
    request.withhold()
    this.leaveHandler(request)
    this.handler.report({
      _tag: "ResponseCutOff",
      requestId: request.requestId,
      message: "the response broke off behind its head"
    })
    this.withheld = [...this.withheld, request]
    this.closeWhenIdle = true
    // HAProxy would put its next requests on a connection that ends as long as it sends input of others on it.
    if (this.readAhead.multiplexed || this.readAhead.mayMultiplex) this.goAway()
    this.cutOffIfAlone()
  }

  private leaveHandler(request: ConnectionRequest): void {
    if (!request.admitted) return
    request.admitted = false
    this.handler.ended(request)
  }

  // --- dispatch --------------------------------------------------------------------------------

  private dispatch(records: ReadonlyArray<FastCgiRecord>, error?: FastCgiDecoder.FastCgiDecodeError): void {
    this.dispatching = true
    let at = this.take(records, 0)
    // The transport may have taken at once what was in the way.
    while (at < records.length && this.phase === "open" && !this.output.full) at = this.take(records, at)
    if (at < records.length && this.phase === "open") {
      this.parked = at === 0 ? records : records.slice(at)
      this.parkedError = error
      this.readAhead.hold()
    }
    if (this.parked.length > 0 || this.toStart.length > 0) this.awaitRoom()
    this.dispatching = false
    this.cutOffIfAlone()
    this.closeIfIdle()
    if (this.inParams > 0) this.watchParams()
    if (this.phase !== "open" || this.parked.length > 0) return
    if (error !== undefined) this.malformed(error)
    else this.readAhead.pauseIfFull()
  }

  // Takes records up to the first that would add to output of which the peer has not taken enough. Returns where that is.
  private take(records: ReadonlyArray<FastCgiRecord>, from: number): number {
    let at = from
    this.output.beginBatch()
    for (; at < records.length && this.phase === "open"; at++) {
      const record = records[at]
      if (isAnswered(record) && this.output.full) break
      this.record(record)
    }
    this.startWaiting()
    const touched = this.touched
    for (let i = 0; i < touched.length; i++) touched[i].wake()
    touched.length = 0
    this.output.endBatch()
    return at
  }

  // Starts what has been waiting since its PARAMS have ended, for as long as there is room for what it answers.
  private startWaiting(): void {
    const { toStart } = this
    let started = 0
    while (started < toStart.length && !(this.output.full && this.phase === "open")) this.start(toStart[started++])
    if (started === toStart.length) toStart.length = 0
    else if (started > 0) toStart.splice(0, started)
  }

  private awaitRoom(): void {
    if (this.awaitsRoom) return
    this.awaitsRoom = true
    this.output.whenRoom(this.goOn)
  }

  private readonly goOn = (): void => {
    this.awaitsRoom = false
    const { parked, parkedError } = this
    this.parked = noRecords
    this.parkedError = undefined
    if (this.phase !== "open") return
    this.readAhead.release()
    this.dispatch(parked, parkedError)
  }

  private record(record: FastCgiRecord): void {
    switch (record._tag) {
      case "BeginRequest":
        return this.begin(record.requestId, record.role, keepConnection(record))
      case "Params": {
        const request = this.requests.get(record.requestId)
        if (request !== undefined) this.params(request, record.content)
        return
      }
      case "Stdin": {
        const request = this.requests.get(record.requestId)
        if (request !== undefined) this.input(request, request.stdin, record.content)
        else if (record.content.length === 0) this.sending.ended(record.requestId, "Stdin")
        return
      }
      case "Data": {
        const request = this.requests.get(record.requestId)
        if (request === undefined) {
          if (record.content.length === 0) this.sending.ended(record.requestId, "Data")
        } else if (request.data !== undefined) {
          this.input(request, request.data, record.content)
        }
        return
      }
      case "AbortRequest": {
        const request = this.requests.get(record.requestId)
        if (request !== undefined) this.abort(request, "AbortRequest")
        return
      }
      case "GetValues":
        if (record.requestId === 0) this.getValues(record.content)
        return
      case "Unrecognized":
        if (record.requestId === 0) {
          this.output.management(RecordType.UnknownType, Uint8Array.of(record.type, 0, 0, 0, 0, 0, 0, 0))
        }
        return
      case "EndRequest":
      case "Stdout":
      case "Stderr":
      case "GetValuesResult":
      case "UnknownType":
        return
    }
  }

  private begin(requestId: number, role: number, keep: boolean): void {
    // A pipelined request: its predecessor of the same id is complete and may be answered at once.
    const active = this.requests.get(requestId)
    if (active !== undefined) this.start(active)
    if (active !== undefined && !active.gone) {
      this.broken(`BEGIN_REQUEST for request ${requestId}, which has not ended`)
      return
    }
    this.sending.delete(requestId)
    const decision = this.handler.begin(role, this.requests.size)
    if (typeof decision === "number") {
      this.output.endRequest(requestId, 0, decision)
      this.sending.set(requestId, role === Role.Filter ? "Data" : "Stdin")
      if (!keep) this.closeWhenIdle = true
      return
    }
    const request = new ConnectionRequest(this, requestId, role, keep, FastCgiParams.makeDecoder(this.limits))
    request.refusal = decision
    this.requests.add(request)
    this.inParams++
    this.readAhead.kept = keep
    if (this.requests.size > 1) this.readAhead.multiplexed = true
    this.handler.paramsBegun(this)
  }

  private params(request: ConnectionRequest, content: Uint8Array): void {
    const decoder = request.paramsDecoder
    if (decoder === undefined) return
    if (content.length > 0) {
      request.paramsSize += content.length
      if (request.refusal !== undefined) {
        if (request.paramsSize > paramsGrace * this.limits.maxParamsSize) {
          this.broken(
            `PARAMS of request ${request.requestId} go on after ${request.paramsSize} bytes`,
            "maxParamsSize"
          )
        }
        return
      }
      const error = decoder.push(content)
      if (error !== undefined) {
        const limit = error.reason._tag === "TooMany" ? "maxParamsCount" : "maxParamsSize"
        this.refuse(request, tooLargeParams, error.message, limit)
      }
      return
    }
    this.paramsEnded(request)
    if (request.refusal === undefined) {
      const params = decoder.end()
      if ("_tag" in params) this.refuse(request, truncatedParams, params.message)
      else request.params = params
    }
    const decision = request.refusal ?? this.handler.admit(request.role)
    if (decision === undefined) {
      request.admitted = true
      request.starting = true
      this.toStart.push(request)
    } else if (typeof decision === "number") {
      request.end(0, decision)
    } else {
      this.answer(request, decision)
    }
  }

  // A handler starts when its input is there as a whole, or when everything has been taken that came with its PARAMS: it
  // never waits for STDIN (SPEC 6.2), and finds what has arrived.
  private start(request: ConnectionRequest): void {
    if (!request.starting || (this.output.full && this.phase === "open")) return
    request.starting = false
    if (!request.gone) this.handler.start(request)
  }

  private answer(request: ConnectionRequest, { body, head, protocolStatus }: Refusal): void {
    request.head(head, body, body.length)
    request.end(0, protocolStatus)
  }

  private input(request: ConnectionRequest, buffer: InputBuffer, content: Uint8Array): void {
    if (request.paramsDecoder !== undefined) {
      this.refuse(request, badRequest, "input came before the end of PARAMS")
      return
    }
    if (buffer.complete) return
    if (content.length > 0) {
      this.readAhead.arrived(buffer.offer(content))
    } else {
      buffer.end()
      if (request.lastInput === undefined) this.start(request)
    }
    if (buffer.awaited) this.touched.push(buffer)
  }

  private refuse(
    request: ConnectionRequest,
    refusal: Refusal,
    message: string,
    limit?: ConnectionLimit | undefined
  ): void {
    if (request.refusal !== undefined) return
    request.refusal = refusal
    this.handler.report({ _tag: "RequestRefused", requestId: request.requestId, limit, message })
  }

  private paramsEnded(request: ConnectionRequest): void {
    request.paramsDecoder = undefined
    this.inParams--
    this.handler.paramsEnded()
    if (this.inParams === 0) this.timers.stop("params")
  }

  // PARAMS come in one read as a rule. Only when they do not is there something to wait for.
  private watchParams(): void {
    if (this.timers.isRunning("params")) return
    const waiting = this.requests.values().filter((request) => request.paramsDecoder !== undefined)
    this.timers.start("params", this.limits.paramsTimeout, () => {
      for (const request of waiting) {
        if (request.paramsDecoder === undefined || request.gone) continue
        const message = `PARAMS were not complete after ${this.limits.paramsTimeout} ms`
        // SPEC 6.2 wants no answer before the end of PARAMS. But lighttpd and Apache take an empty one of an Authorizer
        // for leave to go on.
        this.refuse(request, lateParams, message, "paramsTimeout")
        this.paramsEnded(request)
        this.answer(request, request.refusal ?? lateParams)
      }
      if (this.inParams > 0) this.watchParams()
    })
  }

  private getValues(content: Uint8Array): void {
    const asked = FastCgiParams.fromBytes(content)
    if ("_tag" in asked) {
      this.broken(`GET_VALUES content is not name-value pairs: ${asked.message}`)
      return
    }
    let names = 0
    asked.scanLatin1(() => names++)
    if (names > maxValueNames) {
      this.broken(`GET_VALUES asks for ${names} variables, at most ${maxValueNames} are answered`)
      return
    }
    const values = this.handler.values(asked)
    if (values.some(([name, value]) => name === ValueName.MpxsConns && value === "1")) {
      this.readAhead.mayMultiplex = true
    }
    this.output.management(RecordType.GetValuesResult, FastCgiParams.encodePairs(values))
  }

  // --- ends ------------------------------------------------------------------------------------

  private abort(request: ConnectionRequest, reason: AbortReason): void {
    if (request.withheld) {
      if (reason === "Shutdown") return
      this.withheld = this.withheld.filter((other) => other !== request)
      request.withheld = false
      if (reason === "AbortRequest") request.end(1)
      else request.leave()
      return
    }
    if (request.aborted || request.gone) return
    if (request.onAbort === undefined) {
      request.aborted = true
      // An end without an answer, which may only come after PARAMS (SPEC 6.2), would allow what an Authorizer guards.
      if (reason === "AbortRequest") request.end(1)
      else request.leave()
      return
    }
    if (reason !== "Shutdown") request.aborted = true
    request.cutOff = reason === "ConnectionClosed"
    request.onAbort(reason)
    if (!request.gone) request.discardInput(() => inputAborted(reason))
  }

  private abortEvery(reason: AbortReason): void {
    const requests = this.requests.values()
    // First those that wait for a permit: they shall not get the one of a handler that is interrupted here.
    for (const request of requests) if (!request.running) this.abort(request, reason)
    for (const request of requests) this.abort(request, reason)
  }

  private peerEnded(): void {
    this.peerHasEnded = true
    if (this.phase !== "open") {
      this.writeOut()
      return
    }
    if (this.limits.allowHalfOpen && this.requests.size > 0) {
      this.closeWhenIdle = true
      for (const request of this.requests.values()) {
        if (request.paramsDecoder !== undefined) request.leave()
        else request.cutInput(() => inputAborted("ConnectionClosed"))
      }
      return
    }
    this.abortEvery("ConnectionClosed")
    this.close()
  }

  private malformed(error: FastCgiDecoder.FastCgiDecodeError): void {
    // Where a client has gone, its web server may stop in the middle of a record.
    if (error.reason._tag === "TruncatedRecord") this.peerEnded()
    else {
      // Somebody with a browser, or a web server that is told to proxy, waits for an answer that says what this is.
      if (this.speaksHttp === true) this.transport.writeUnsafe([noHttp])
      this.broken(error.message)
    }
  }

  // A connection error: what has been answered is sent, everything else is given up.
  private broken(message: string, limit?: ConnectionLimit | undefined): void {
    this.handler.report({ _tag: "ConnectionClosed", limit, message })
    this.abortEvery("ConnectionClosed")
    this.close()
  }

  // Says that this connection takes no further request. There is no record for that, but HAProxy obeys this one at any time,
  // and puts its next requests on other connections (measured, 2.6). nginx gives a kept connection its next request when it
  // has read END_REQUEST, which may be before it sees that the connection is closed, and then a POST is a 502; but with any
  // bytes behind END_REQUEST in the same write it does not keep the connection. The others ignore it.
  private goAway(): void {
    if (this.wentAway || this.phase !== "open") return
    this.wentAway = true
    this.output.management(RecordType.GetValuesResult, noMultiplexing)
  }

  // Ends the connection in a way that makes what is unfinished on it look unfinished.
  private cutOffIfAlone(): void {
    const { withheld } = this
    if (this.phase !== "open" || this.dispatching || withheld.length === 0) return
    if (this.requests.size > withheld.length) return
    this.withheld = none
    if (!this.wentAway) {
      // nginx takes the end of a connection for the end of a response, and a UNIX socket cannot be reset. But a record that
      // it does not expect is an error to it; the others ignore this one, and see that END_REQUEST is missing.
      this.output.management(RecordType.UnknownType, cutOff)
      this.output.flush()
    }
    // A reset may take back what the peer has not read: that record, or the last of another response.
    const reset = this.output.pending === 0 && !this.wentAway
    if (reset) this.transport.resetUnsafe()
    else this.close()
    for (const request of withheld) request.leave()
    if (reset) this.lost()
  }

  private closeIfIdle(): void {
    if (this.phase !== "open" || this.dispatching || !this.closeWhenIdle || this.requests.size > 0) return
    // What has come before the server was told to stop is answered.
    if (this.parked.length === 0) this.close()
  }

  // Most connections are busy again before the time is over, so it is not stopped then, but measured anew.
  private watchIdle(): void {
    const { idleTimeout } = this.limits
    if (idleTimeout === Infinity || this.phase !== "open") return
    this.idleSince = millisecondsOf(this.clock)
    this.timers.start("idle", idleTimeout, () => this.idled())
  }

  private idled(): void {
    if (this.phase !== "open" || this.requests.size > 0) return
    const { idleTimeout } = this.limits
    const left = this.idleSince + idleTimeout - millisecondsOf(this.clock)
    if (left > 0) {
      this.timers.start("idle", left, () => this.idled())
      return
    }
    this.handler.report({ _tag: "ConnectionIdle", limit: "idleTimeout", message: `no request for ${idleTimeout} ms` })
    this.drain()
  }

  // Closes once everything is written out and the peer has ended. What it still sends is read and dropped: closing with unread
  // input would be a RST, and cost the peer the answer.
  private close(): void {
    if (this.phase !== "open") return
    this.phase = "closing"
    this.writeOut()
    if (this.phase !== "closing") return
    this.watchClosing()
    // Records that are still parked are not taken any more.
    this.readAhead.release()
    this.readAhead.reconsider()
  }

  private writeOut(): void {
    this.output.flush()
    if (!this.output.handedOverAll) return
    if (!this.halfClosed) {
      this.halfClosed = true
      // The end is written behind what is pending.
      if (!this.peerHasEnded || this.output.pending > 0) this.transport.endUnsafe()
    }
    if (this.peerHasEnded && this.output.pending === 0) this.closed()
  }

  private watchClosing(): void {
    const pending = this.output.pending
    if (pending === 0 && this.sending.size === 0) {
      this.timers.stop("close")
      this.closing.add(this)
    } else if (this.hurrying) {
      this.timers.stop("close")
      this.timers.start("close", closingMoment, () => this.closed())
    } else {
      this.timers.start("close", this.limits.lingerTimeout, () => {
        if (this.output.pending < pending) this.watchClosing()
        else this.closed()
      })
    }
  }

  /** Ends a connection that is closing, whose peer has had its time. */
  closed(): void {
    if (this.phase !== "closed") this.transport.destroyUnsafe()
    this.lost()
  }

  // The transport is gone.
  private lost(): void {
    this.phase = "closed"
    this.parked = noRecords
    this.closing.delete(this)
    this.abortEvery("ConnectionClosed")
    this.output.release()
    this.timers.stopAll()
    this.whenFinished?.()
  }

  private get finished(): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      this.whenFinished = () => {
        if (this.phase !== "closed" || this.requests.size > 0) return
        this.whenFinished = undefined
        resume(this.defect === undefined ? Effect.void : Effect.failCause(this.defect))
      }
      this.whenFinished()
    })
  }
}

// Records that are answered, now or by a request that they begin.
const isAnswered = (record: FastCgiRecord): boolean =>
  record._tag === "BeginRequest" || record._tag === "GetValues" || record._tag === "Unrecognized"
