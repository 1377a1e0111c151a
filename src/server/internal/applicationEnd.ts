/**
 * The application's end of a connection: what it does with each record of the web server, and with what its handlers say.
 *
 * What a record does to its request stands in `applicationTable` (`connection/internal/requestState.ts`); `record` looks it
 * up and does it. The others:
 *
 * | record                  | outcome                                                                       |
 * |-------------------------|-------------------------------------------------------------------------------|
 * | GET_VALUES, id 0        | GET_VALUES_RESULT with the names asked that are known                         |
 * | unknown type, id 0      | UNKNOWN_TYPE                                                                  |
 * | both, another id        | ignore: not a management record                                               |
 * | DATA to a non-Filter, STDIN to an Authorizer, behind PARAMS | ignore: the role has no such stream       |
 * | END_REQUEST, STDOUT, STDERR, UNKNOWN_TYPE, GET_VALUES_RESULT | ignore: never answer an answer           |
 * | not a record            | decode error: close; HTTP at the start is answered in HTTP                    |
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scheduler from "effect/Scheduler"
import type { FastCgiTransport } from "../../connection/FastCgiTransport.ts"
import type { Deadlines } from "../../connection/internal/deadlines.ts"
import { Endpoint, noRecords } from "../../connection/internal/endpoint.ts"
import type { InputStream } from "../../connection/internal/inputStream.ts"
import {
  type ApplicationAction,
  type ApplicationRow,
  applicationTable
} from "../../connection/internal/requestState.ts"
import { type Fork, millisecondsOf, Timers } from "../../connection/internal/timers.ts"
import type * as FastCgiDecoder from "../../protocol/FastCgiDecoder.ts"
import * as FastCgiParams from "../../protocol/FastCgiParams.ts"
import { type FastCgiRecord, keepConnection, RecordType, Role, ValueName } from "../../protocol/FastCgiRecord.ts"
import type { FastCgiRequestError } from "../FastCgiRequestError.ts"
import type { Application, ApplicationReport, ConnectionLimit, ConnectionLimits } from "./application.ts"
import { ApplicationRequest, inputAborted } from "./applicationRequest.ts"
import { DueInput } from "./dueInput.ts"
import { InputPolicy } from "./inputPolicy.ts"
import {
  badRequest,
  lateParams,
  type Refusal,
  serviceUnavailable,
  tooLargeParams,
  truncatedParams
} from "./refusals.ts"

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

let lastConnectionId = 0

/** The application's end of one connection. */
export class ApplicationEnd extends Endpoint<ApplicationRequest> {
  /** A number that no other connection of this process has. */
  readonly id = ++lastConnectionId
  /** Requests that have begun and whose PARAMS have not ended. */
  inParams = 0
  /** Which of all connections have had requests in PARAMS for longer: a number that grows. */
  inParamsSince = 0
  protected readonly readAhead: InputPolicy
  private readonly application: Application
  private readonly limits: ConnectionLimits
  private readonly clock: Clock.Clock
  private readonly timers: Timers<"params" | "idle" | "write" | "close" | "stall" | "unread">
  // Connections that have said everything and wait for their peers to close.
  private readonly closing: Deadlines<ApplicationEnd>
  // Requests whose PARAMS have ended, in order; those of them whose input is there as a whole start first.
  private readonly toStart: Array<ApplicationRequest> = []
  private readonly complete: Array<ApplicationRequest> = []
  // Requests that have been given up, and whose handlers have not been told.
  private givenUp: Array<ApplicationRequest> | undefined
  // What the application has not been told.
  private reports: Array<ApplicationReport> | undefined
  // Ids of ended requests whose input is still on its way.
  private readonly sending = new DueInput()
  private begun = 0
  // How many of the requests wait, without END_REQUEST, for the end of the others and with it of the connection.
  private withheld = 0
  private saidGoodbye = false
  private peerHasEnded = false
  private hurrying = false
  // Whether the first byte is one of HTTP; undefined until it has come.
  private speaksHttp: boolean | undefined
  private defect: Cause.Cause<never> | undefined
  // When the last request has ended. Kept only where there is an idleTimeout.
  private idleSince = 0
  private whenFinished: (() => void) | undefined

  constructor(
    transport: FastCgiTransport,
    application: Application,
    limits: ConnectionLimits,
    dispatcher: Scheduler.SchedulerDispatcher,
    clock: Clock.Clock,
    fork: Fork,
    closing: Deadlines<ApplicationEnd>
  ) {
    super(transport, dispatcher, limits.outputHighWaterMark)
    this.application = application
    this.limits = limits
    this.clock = clock
    this.closing = closing
    this.timers = new Timers(fork)
    this.readAhead = new InputPolicy(this, limits, this.timers)
  }

  /**
   * Runs the connection until it is closed and all its requests have ended. It is stopped by `drain`, `shutdown` and
   * `destroy`, not by interruption.
   */
  get run(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.transport.flowUnsafe(this)
      this.idleSince = this.limits.idleTimeout === Infinity ? 0 : millisecondsOf(this.clock)
      this.settle()
      return Effect.callback<void>((resume) => {
        this.whenFinished = () => resume(this.defect === undefined ? Effect.void : Effect.failCause(this.defect))
        this.settle()
      })
    })
  }

  // --- what the engine says ---------------------------------------------------------------------

  /** Closes after the requests that are active, or else after the next one. */
  leave(): void {
    this.state = this.state.after.leave
  }

  /** Closes as soon as no request is active. */
  drain(): void {
    const wasOpen = this.state.isOpen
    this.state = this.state.after.drain
    if (this.readAhead.multiplexed) this.sayGoodbye()
    // The server calls this when it has waited for what was on its way: nothing that comes later costs a peer an answer.
    const owesNothing = wasOpen || this.sending.size === 0
    if (this.requests.size === 0 && this.output.pending === 0 && owesNothing) this.destroy()
    else this.settle()
  }

  /**
   * Interrupts every handler; what they still answer is sent as far as the peer takes it within a moment, then the connection
   * closes.
   */
  shutdown(): void {
    this.decide(() => {
      this.hurrying = true
      this.parked = noRecords
      this.state = this.state.after.drain
      for (const request of this.requests.values()) request.shutDown(serviceUnavailable)
    })
    if (this.state.isOpen || this.isClosed) return
    if (this.output.pending === 0) this.destroy()
    else this.watchClosing()
  }

  /** Closes at once; every request is interrupted as if the peer had gone. */
  destroy(): void {
    this.transport.destroyUnsafe()
    this.onLost()
  }

  /** Gives up a connection whose peer begins requests and does not go on. */
  overrun(most: number): void {
    const message = `${most} requests have begun whose PARAMS have not ended, most of them here: ${this.inParams}`
    this.breakOff(message, "maxRequestsInParams")
  }

  // --- what its requests say --------------------------------------------------------------------

  report(report: ApplicationReport): void {
    ;(this.reports ??= []).push(report)
  }

  /** A request is over. `told` says whether the peer knows it. */
  onEnded(request: ApplicationRequest, wasAdmitted: boolean, told: boolean): void {
    this.requests.delete(request)
    if (request.isInParams) this.endParams(request)
    const lastInput = request.lastInput
    if (lastInput !== undefined) this.sending.set(request.requestId, lastInput)
    if (wasAdmitted) this.application.ended(request)
    if (!request.keepConnection) this.state = this.state.after.finish
    if (this.requests.size === 0) this.idle(told && request.keepConnection)
    if (this.state.name === "leaving") this.state = this.state.after.drain
    this.settle()
  }

  private idle(mayBeReused: boolean): void {
    this.readAhead.multiplexed = false
    if (this.limits.idleTimeout !== Infinity) this.idleSince = millisecondsOf(this.clock)
    if (mayBeReused && (this.state.name === "leaving" || this.state.name === "draining")) this.sayGoodbye()
  }

  /**
   * The response of a request has broken off behind its head. No web server takes anything but the end of the connection for
   * the end of such a response: HAProxy, the only one that multiplexes, neither appStatus nor protocolStatus. So the request
   * stays without END_REQUEST until the others on the connection have ended.
   */
  onFailed(request: ApplicationRequest): void {
    this.withheld++
    this.application.ended(request)
    this.report({
      _tag: "ResponseCutOff",
      requestId: request.requestId,
      message: "the response broke off behind its head"
    })
    this.state = this.state.after.finish
    // HAProxy would put its next requests on a connection that ends as long as it sends input of others on it.
    if (this.readAhead.multiplexed || this.readAhead.mayMultiplex) this.sayGoodbye()
    this.settle()
  }

  /** A request has been given up that a handler, or a queue, knows of. */
  onGivenUp(request: ApplicationRequest): void {
    ;(this.givenUp ??= []).push(request)
  }

  // --- what the transport says ------------------------------------------------------------------

  override onRead(chunks: readonly [Uint8Array, ...Array<Uint8Array>]): void {
    this.speaksHttp ??= isHttp(chunks[0][0])
    super.onRead(chunks)
  }

  onDrain(): void {
    this.output.resume()
    if (this.state.isOpen || this.isClosed) return
    this.writeOut()
    if (!this.isClosed && this.output.pending === 0) this.watchClosing()
  }

  private get isClosed(): boolean {
    return this.state.name === "closed"
  }

  onClose(): void {
    this.onLost()
  }

  onPending(): void {
    const { writeTimeout } = this.limits
    if (writeTimeout === Infinity || !this.state.isOpen) return
    const accepted = this.output.accepted
    this.timers.start("write", writeTimeout, () => {
      if (this.output.pending === 0) return
      if (this.output.accepted > accepted) return this.onPending()
      const message = `the peer has taken nothing of ${this.output.pending} bytes for ${writeTimeout} ms`
      this.report({ _tag: "ConnectionClosed", limit: "writeTimeout", message })
      this.transport.resetUnsafe()
      this.onLost()
    })
  }

  protected onDefect(defect: unknown): void {
    this.defect = Cause.die(defect)
    this.destroy()
  }

  protected onPeerEnd(): void {
    this.peerHasEnded = true
    if (!this.state.isOpen) return this.writeOut()
    if (!this.limits.allowHalfOpen || this.requests.size === 0) return this.giveUp()
    this.state = this.state.after.finish
    for (const request of this.requests.values()) {
      if (request.isInParams) request.lose()
      else request.cutInput(() => inputAborted("ConnectionClosed"))
    }
  }

  protected onMalformed(error: FastCgiDecoder.FastCgiDecodeError): void {
    // Where a client has gone, its web server may stop in the middle of a record.
    if (error.reason._tag === "TruncatedRecord") return this.onPeerEnd()
    // Somebody with a browser, or a web server that is told to proxy, waits for an answer that says what this is.
    if (this.speaksHttp === true) this.transport.writeUnsafe([noHttp])
    this.breakOff(error.message)
  }

  // --- records ----------------------------------------------------------------------------------

  // Records that are answered, now or by a request that they begin, wait until there is room for that.
  protected mayTake(record: FastCgiRecord): boolean {
    return !this.output.full ||
      (record._tag !== "BeginRequest" && record._tag !== "GetValues" && record._tag !== "Unrecognized")
  }

  // A handler is started, or interrupted, right behind the record that says so: what it answers may free the id, or the place,
  // for the next record.
  protected record(record: FastCgiRecord): void {
    this.take(record)
    this.tell()
  }

  private take(record: FastCgiRecord): void {
    switch (record._tag) {
      case "BeginRequest":
        return this.begin(record.requestId, record.role, keepConnection(record))
      case "Params": {
        const request = this.requests.get(record.requestId)
        const row = rowOf(request)
        return this.act(record.content.length > 0 ? row.Params : row.ParamsEnd, request, record.content)
      }
      case "Stdin":
      case "Data": {
        const request = this.requests.get(record.requestId)
        const row = rowOf(request)
        const action = record.content.length > 0 ? row.Input : row.InputEnd
        if (action === "forget") return this.sending.ended(record.requestId, record._tag)
        return this.act(action, request, record.content, record._tag === "Stdin" ? request?.stdin : request?.data)
      }
      case "AbortRequest": {
        const request = this.requests.get(record.requestId)
        return this.act(rowOf(request).Abort, request, nothing)
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

  private act(
    action: ApplicationAction,
    request: ApplicationRequest | undefined,
    content: Uint8Array,
    input?: InputStream<FastCgiRequestError>
  ): void {
    if (request === undefined) return
    switch (action) {
      case "decode":
        return this.decode(request, content)
      case "count":
        return this.count(request, content)
      case "admit":
        return this.admit(request)
      case "answer":
        return this.answer(request)
      case "refuse":
        return this.refuse(request, badRequest, "input came before the end of PARAMS")
      case "offer":
        if (input?.isComplete === false) this.readAhead.onArrived(input.offer(content))
        return
      case "complete":
        if (input?.isComplete === false) this.completeInput(request, input)
        return
      case "end":
        if (request.isBrokenOff) this.withheld--
        return request.abort()
      case "interrupt":
        return request.interruptHandler()
    }
  }

  private begin(requestId: number, role: number, keep: boolean): void {
    const active = this.requests.get(requestId)
    // A pipelined request: its predecessor of the same id is complete and may be answered at once.
    if (active?.state.on.Begin === "retry") this.start(active)
    const action: ApplicationAction = rowOf(active).Begin
    if (action !== "begin") {
      this.breakOff(`BEGIN_REQUEST for request ${requestId}, which has not ended`)
      return
    }
    this.sending.delete(requestId)
    const decision = this.application.begin(role, this.requests.size)
    if (typeof decision === "number") {
      this.output.endRequest(requestId, 0, decision)
      this.sending.set(requestId, role === Role.Filter ? "Data" : "Stdin")
      if (!keep) this.state = this.state.after.finish
      return
    }
    const request = new ApplicationRequest(this, requestId, role, keep, FastCgiParams.makeDecoder(this.limits))
    if (decision !== undefined) request.refuse(decision)
    this.requests.add(request)
    this.inParams++
    this.readAhead.kept = keep
    if (this.requests.size > 1) this.readAhead.multiplexed = true
    if (++this.begun === this.limits.maxRequestsPerConnection) {
      this.leave()
      // Whoever multiplexes would go on without a moment at which no request is active.
      if (this.readAhead.multiplexed) this.sayGoodbye()
    }
    this.application.paramsBegun(this)
  }

  private decode(request: ApplicationRequest, content: Uint8Array): void {
    const error = request.decode(content)
    if (error === undefined) return
    const limit = error.reason._tag === "TooMany" ? "maxParamsCount" : "maxParamsSize"
    this.refuse(request, tooLargeParams, error.message, limit)
  }

  private count(request: ApplicationRequest, content: Uint8Array): void {
    const size = request.count(content)
    if (size <= paramsGrace * this.limits.maxParamsSize) return
    this.breakOff(`PARAMS of request ${request.requestId} go on after ${size} bytes`, "maxParamsSize")
  }

  private answer(request: ApplicationRequest): void {
    this.endParams(request)
    request.answer(request.refusal!, 0)
  }

  private admit(request: ApplicationRequest): void {
    const error = this.endParams(request)
    if (error !== undefined) {
      this.refuse(request, truncatedParams, error.message)
      return request.answer(truncatedParams, 0)
    }
    const decision = this.application.admit(request.role)
    if (decision === undefined) {
      request.admit()
      this.toStart.push(request)
    } else if (typeof decision === "number") {
      request.end(0, decision)
    } else {
      request.answer(decision, 0)
    }
  }

  private completeInput(request: ApplicationRequest, input: InputStream<FastCgiRequestError>): void {
    input.end()
    // A handler starts when its input is there as a whole, or when everything has been taken that came with its PARAMS: it
    // never waits for STDIN (SPEC 6.2), and finds what has arrived.
    if (request.isReady && (request.data ?? input).isComplete) this.complete.push(request)
  }

  private start(request: ApplicationRequest): void {
    if (request.isReady && !(this.output.full && this.state.isOpen)) this.application.start(request)
  }

  private refuse(
    request: ApplicationRequest,
    refusal: Refusal,
    message: string,
    limit?: ConnectionLimit | undefined
  ): void {
    request.refuse(refusal)
    this.report({ _tag: "RequestRefused", requestId: request.requestId, limit, message })
  }

  private endParams(request: ApplicationRequest): FastCgiParams.FastCgiParamsError | undefined {
    this.inParams--
    this.application.paramsEnded()
    if (this.inParams === 0) this.timers.stop("params")
    return request.endParams()
  }

  // PARAMS come in one read as a rule. Only when they do not is there something to wait for.
  private watchParams(): void {
    if (this.timers.isRunning("params")) return
    const waiting = this.requests.values().filter((request) => request.isInParams)
    this.timers.start("params", this.limits.paramsTimeout, () =>
      this.decide(() => {
        for (const request of waiting) {
          if (!request.isInParams || request.isOver) continue
          const message = `PARAMS were not complete after ${this.limits.paramsTimeout} ms`
          // SPEC 6.2 wants no answer before the end of PARAMS. But lighttpd and Apache take an empty one of an Authorizer
          // for leave to go on.
          if (request.refusal === undefined) this.refuse(request, lateParams, message, "paramsTimeout")
          this.answer(request)
        }
      }))
  }

  private getValues(content: Uint8Array): void {
    const asked = FastCgiParams.fromBytes(content)
    if ("_tag" in asked) {
      this.breakOff(`GET_VALUES content is not name-value pairs: ${asked.message}`)
      return
    }
    let names = 0
    asked.scanLatin1(() => names++)
    if (names > maxValueNames) {
      this.breakOff(`GET_VALUES asks for ${names} variables, at most ${maxValueNames} are answered`)
      return
    }
    const values = this.application.values(asked)
    if (values.some(([name, value]) => name === ValueName.MpxsConns && value === "1")) {
      this.readAhead.mayMultiplex = true
    }
    this.output.management(RecordType.GetValuesResult, FastCgiParams.encodePairs(values))
  }

  // --- telling ----------------------------------------------------------------------------------

  protected tell(): void {
    const { complete, givenUp, reports } = this
    if (reports !== undefined) {
      this.reports = undefined
      for (const report of reports) this.application.report(report)
    }
    if (givenUp !== undefined) {
      this.givenUp = undefined
      for (const request of givenUp) request.tellInterrupt()
    }
    if (complete.length > 0) {
      for (let i = 0; i < complete.length; i++) this.start(complete[i])
      complete.length = 0
    }
  }

  protected startWaiting(): boolean {
    const { toStart } = this
    let started = 0
    while (started < toStart.length && !(this.output.full && this.state.isOpen)) this.start(toStart[started++])
    if (started === toStart.length) toStart.length = 0
    else if (started > 0) toStart.splice(0, started)
    return toStart.length > 0
  }

  protected settleConnection(): void {
    if (this.state.isOpen) {
      this.cutOffIfAlone()
      // What has come before the server was told to stop is answered.
      if (this.state.closesWhenIdle && this.requests.size === 0 && this.parked.length === 0) this.close()
      if (this.state.isOpen) {
        if (this.inParams > 0) this.watchParams()
        if (this.requests.size === 0) this.watchIdle()
        this.readAhead.reconsider()
      }
    }
    // Nobody waits for room any more.
    if (this.isClosed) this.output.release()
    if (this.isClosed && this.requests.size === 0 && this.whenFinished !== undefined) {
      const tell = this.whenFinished
      this.whenFinished = undefined
      tell()
    }
  }

  // --- ends -------------------------------------------------------------------------------------

  // A connection error: what has been answered is sent, everything else is given up.
  private breakOff(message: string, limit?: ConnectionLimit | undefined): void {
    this.report({ _tag: "ConnectionClosed", limit, message })
    this.giveUp()
  }

  private giveUp(): void {
    this.decide(() => {
      for (const request of this.requests.values()) request.lose()
      this.close()
    })
  }

  // Says that this connection takes no further request. There is no record for that, but HAProxy obeys this one at any time,
  // and puts its next requests on other connections (measured, 2.6). nginx gives a kept connection its next request when it
  // has read END_REQUEST, which may be before it sees that the connection is closed, and then a POST is a 502; but with any
  // bytes behind END_REQUEST in the same write it does not keep the connection. The others ignore it.
  private sayGoodbye(): void {
    if (this.saidGoodbye || !this.state.isOpen) return
    this.saidGoodbye = true
    this.output.management(RecordType.GetValuesResult, noMultiplexing)
  }

  // Ends the connection in a way that makes what is unfinished on it look unfinished.
  private cutOffIfAlone(): void {
    if (this.withheld === 0 || this.requests.size > this.withheld) return
    this.withheld = 0
    if (!this.saidGoodbye) {
      // nginx takes the end of a connection for the end of a response, and a UNIX socket cannot be reset. But a record that
      // it does not expect is an error to it; the others ignore this one, and see that END_REQUEST is missing.
      this.output.management(RecordType.UnknownType, cutOff)
      this.output.flush()
    }
    // A reset may take back what the peer has not read: that record, or the last of another response.
    const reset = this.output.pending === 0 && !this.saidGoodbye
    if (reset) this.transport.resetUnsafe()
    else this.close()
    for (const request of this.requests.values()) request.lose()
    if (reset) this.onLost()
  }

  // Most connections are busy again before the time is over, so it is not stopped then, but measured anew.
  private watchIdle(): void {
    const { idleTimeout } = this.limits
    if (idleTimeout === Infinity) return
    const left = this.idleSince + idleTimeout - millisecondsOf(this.clock)
    this.timers.start("idle", left, () => {
      if (!this.state.isOpen || this.requests.size > 0) return
      if (this.idleSince + idleTimeout > millisecondsOf(this.clock)) return this.watchIdle()
      this.report({ _tag: "ConnectionIdle", limit: "idleTimeout", message: `no request for ${idleTimeout} ms` })
      this.drain()
    })
  }

  // Closes once everything is written out and the peer has ended. What it still sends is read and dropped: closing with unread
  // input would be a RST, and cost the peer the answer.
  private close(): void {
    if (!this.state.isOpen) return
    this.state = this.state.after.close
    this.writeOut()
    if (this.isClosed) return
    this.watchClosing()
    // Records that are still parked are not taken any more.
    this.readAhead.release()
    this.readAhead.resume()
  }

  private writeOut(): void {
    this.output.flush()
    if (!this.output.handedOverAll || this.isClosed) return
    if (this.state.name === "closing") {
      this.state = this.state.after.halfClose
      // The end is written behind what is pending.
      if (!this.peerHasEnded || this.output.pending > 0) this.transport.endUnsafe()
    }
    // A transport both of whose directions have ended may be closed now.
    if (this.peerHasEnded && this.output.pending === 0) this.destroy()
  }

  private watchClosing(): void {
    const pending = this.output.pending
    if (pending === 0 && this.sending.size === 0) {
      this.timers.stop("close")
      this.closing.add(this)
    } else if (this.hurrying) {
      this.timers.stop("close")
      this.timers.start("close", closingMoment, () => this.destroy())
    } else {
      this.timers.start("close", this.limits.lingerTimeout, () => {
        if (this.output.pending < pending) this.watchClosing()
        else this.destroy()
      })
    }
  }

  // The transport is gone.
  private onLost(): void {
    this.decide(() => {
      this.state = this.state.after.lose
      this.parked = noRecords
      this.closing.delete(this)
      for (const request of this.requests.values()) request.lose()
      this.timers.stopAll()
    })
  }
}

const nothing = new Uint8Array(0)

// What records do to the request with their id, or when there is none. The cell of a record is read by its name: with a key
// that varies it takes 15 ns more (measured).
const rowOf = (request: ApplicationRequest | undefined): ApplicationRow =>
  request === undefined ? applicationTable.inactive : request.state.on
