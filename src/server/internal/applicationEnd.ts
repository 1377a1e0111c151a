/**
 * The application's end of a connection: what it does with each record of the web server, and with what its handlers say.
 * `ApplicationRequest` appends what is sent of a request, and `ConnectionLife` closes, drains, and tells what is in `tellLater`.
 *
 * The effect of a record on its request is in `applicationTable` (`connection/internal/requestState.ts`); `record` looks it
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
import type { InputStream } from "../../connection/internal/inputStream.ts"
import type { LinkedItem, LinkedList } from "../../connection/internal/linkedList.ts"
import {
  type ApplicationAction,
  type ApplicationRow,
  applicationTable
} from "../../connection/internal/requestState.ts"
import type * as FastCgiDecoder from "../../protocol/FastCgiDecoder.ts"
import * as FastCgiParams from "../../protocol/FastCgiParams.ts"
import { type FastCgiRecord, keepConnection, RecordType, Role, ValueName } from "../../protocol/FastCgiRecord.ts"
import type { FastCgiRequestError } from "../FastCgiRequestError.ts"
import type { ConnectionLimit } from "./application.ts"
import { ApplicationRequest, type TunnelOwner } from "./applicationRequest.ts"
import { ConnectionLife } from "./connectionLife.ts"
import { badRequest, lateParams, type Refusal, tooLargeParams, truncatedParams } from "./refusals.ts"

// How many times `maxParamsSize` of PARAMS are read of a request that has been refused: SPEC 6.2 forbids an answer before they
// have ended, and an end of the connection costs its other requests.
const paramsGrace = 2

// SPEC 4.1 has three variables. A record has room for 30,000 names.
const maxValueNames = 1024

// A request of HTTP begins with an upper-case letter. No record does.
const isHttp = (byte: number): boolean => byte >= 0x41 && byte <= 0x5a

const noHttpText =
  "This port speaks FastCGI and no HTTP: a web server goes in front of it (nginx: fastcgi_pass, not proxy_pass).\n"

const noHttp = new TextEncoder().encode(
  "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n" +
    `Content-Length: ${noHttpText.length}\r\nConnection: close\r\n\r\n${noHttpText}`
)

let lastConnectionId = 0

/** The application's end of one connection. */
export class ApplicationEnd extends ConnectionLife {
  /** A number that no other connection of this process has. */
  readonly id = ++lastConnectionId
  /** Requests that have begun and whose PARAMS have not ended. */
  inParams = 0
  /** Which of all connections have had requests in PARAMS for longer: a number that grows. */
  inParamsSince = 0
  // Requests that have begun in this read. PARAMS of one may not have ended in it.
  private readonly justBegun: Array<ApplicationRequest> = []
  // Requests whose PARAMS have ended, in order; those of them whose input is there as a whole start first.
  private readonly toStart: Array<ApplicationRequest> = []
  private readonly complete: Array<ApplicationRequest> = []
  private begun = 0
  // Whether the first byte is one of HTTP; undefined until it has come.
  private speaksHttp: boolean | undefined

  /** Gives up a connection whose peer begins requests and does not go on. */
  overrun(most: number): void {
    const message = `${most} requests have begun whose PARAMS have not ended, most of them here: ${this.inParams}`
    this.breakOff(message, "maxRequestsInParams")
  }

  // --- what its requests say --------------------------------------------------------------------

  /** A request is over: the last thing that its `end`, `abort` and `lose` do. `told` says whether the peer knows it. */
  onEnded(request: ApplicationRequest, wasAdmitted: boolean, told: boolean): void {
    this.requests.delete(request)
    if (request.isInParams) this.endParams(request)
    // Input of it that is still on its way: until that has come, a close waits longer.
    const lastInput = request.lastInput
    if (lastInput !== undefined) this.sending.set(request.requestId, lastInput)
    if (wasAdmitted) this.application.ended(request)
    if (!request.keepConnection) this.state = this.state.after.finish
    if (this.requests.size === 0) this.onIdle(told && request.keepConnection)
    if (this.state.name === "leaving") this.state = this.state.after.drain
    this.settle()
  }

  /**
   * The response of a request has broken off behind its head. No web server takes anything but the end of the connection for
   * the end of such a response: HAProxy, the only one that multiplexes, neither appStatus nor protocolStatus. So the request
   * stays without END_REQUEST until the others on the connection have ended.
   */
  onFailed(request: ApplicationRequest): void {
    this.withheld++
    this.application.ended(request)
    this.state = this.state.after.finish
    // HAProxy would put its next requests on a connection that ends as long as it sends input of others on it.
    if (this.readAhead.multiplexed || this.readAhead.mayMultiplex) this.sayGoodbye()
    this.settle()
  }

  /** A request has been given up that a handler, or a queue, knows of. */
  onGivenUp(request: ApplicationRequest): void {
    this.tellLater(() => request.tellInterrupt())
  }

  /** A request has been upgraded. */
  onUpgraded(tunnel: TunnelOwner): void {
    this.readAhead.tunnelled = true
    if (this.state.name !== "draining") return
    this.tellLater(tunnel.onDrain)
    this.settle()
  }

  // --- what the transport says ------------------------------------------------------------------

  override onRead(chunks: readonly [Uint8Array, ...Array<Uint8Array>]): void {
    this.speaksHttp ??= isHttp(chunks[0][0])
    super.onRead(chunks)
  }

  protected onMalformed(error: FastCgiDecoder.FastCgiDecodeError): void {
    // Where a client has gone, its web server may stop in the middle of a record.
    if (error.reason._tag === "TruncatedRecord") return this.onPeerEnd()
    // Somebody with a browser, or a web server that is told to proxy, waits for an answer that says what this is.
    if (this.speaksHttp !== true) return this.breakOff(error.message)
    this.transport.writeUnsafe([noHttp])
    this.breakOff(`${error.message}: use fastcgi_pass or its like, not proxy_pass`)
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
    const request = this.requests.get(record.requestId)
    const row = rowOf(request)
    switch (record._tag) {
      case "BeginRequest":
        return this.begin(record.requestId, record.role, keepConnection(record), request)
      case "Params":
        return this.act(record.content.length > 0 ? row.Params : row.ParamsEnd, request, record.content)
      case "Stdin":
      case "Data": {
        const action = record.content.length > 0 ? row.Input : row.InputEnd
        if (action === "forget") return this.sending.ended(record.requestId, record._tag)
        return this.act(action, request, record.content, record._tag === "Stdin" ? request?.stdin : request?.data)
      }
      case "AbortRequest":
        return this.act(row.Abort, request, nothing)
      case "GetValues":
        if (record.requestId === 0) this.getValues(record.content)
        return
      case "Unrecognized":
        if (record.requestId === 0) {
          this.output.management(RecordType.UnknownType, Uint8Array.of(record.type, 0, 0, 0, 0, 0, 0, 0))
        }
        // The others are answers.
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
      case "abort":
        if (request.isBrokenOff) this.withheld--
        // Appends END_REQUEST with appStatus 1, and ends with `onEnded`.
        return request.abort()
      case "interrupt":
        // The handler is interrupted in `tell`; `request.end` follows when its fiber has ended.
        return request.interruptHandler()
    }
  }

  private begin(requestId: number, role: number, keep: boolean, active: ApplicationRequest | undefined): void {
    // A pipelined request: its predecessor of the same id is complete and may be answered at once.
    if (active?.state.on.Begin === "retry") this.start(active)
    const action: ApplicationAction = rowOf(active).Begin
    if (action !== "begin") return this.breakOff(`BEGIN_REQUEST for request ${requestId}, which has not ended`)
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
    this.justBegun.push(request)
    this.readAhead.kept = keep
    if (this.requests.size > 1) this.readAhead.multiplexed = true
    if (++this.begun === this.limits.maxRequestsPerConnection) {
      this.leave()
      // A peer that multiplexes would go on without a moment at which no request is active.
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
    const decision = this.application.admit(request)
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
    if (this.justBegun.at(-1) === request) this.justBegun.pop()
    else if (this.shared.params.delete(request.due)) request.due = undefined
    return request.endParams()
  }

  // PARAMS come in one read as a rule. Only when they do not is there something to wait for.
  private watchParams(): void {
    for (const request of this.justBegun) {
      if (request.isInParams) request.due = this.shared.params.add(request)
    }
    this.justBegun.length = 0
  }

  /** PARAMS have not come in time. */
  onParamsLate(request: ApplicationRequest): void {
    request.due = undefined
    this.decide(() => {
      const message = `PARAMS were not complete after ${this.limits.paramsTimeout} ms`
      // SPEC 6.2 wants no answer before the end of PARAMS. But lighttpd and Apache take an empty one of an Authorizer for leave
      // to go on.
      if (request.refusal === undefined) this.refuse(request, lateParams, message, "paramsTimeout")
      this.answer(request)
    })
  }

  private getValues(content: Uint8Array): void {
    const asked = FastCgiParams.fromBytes(content)
    if ("_tag" in asked) return this.breakOff(`GET_VALUES content is not name-value pairs: ${asked.message}`)
    let names = 0
    asked.scanLatin1(() => names++)
    if (names > maxValueNames) {
      return this.breakOff(`GET_VALUES asks for ${names} variables, at most ${maxValueNames} are answered`)
    }
    const values = this.application.values(asked)
    if (values.some(([name, value]) => name === ValueName.MpxsConns && value === "1")) {
      this.readAhead.mayMultiplex = true
    }
    this.output.management(RecordType.GetValuesResult, FastCgiParams.encodePairs(values))
  }

  protected override settleConnection(): void {
    super.settleConnection()
    if (this.justBegun.length > 0) this.watchParams()
  }

  // --- telling ----------------------------------------------------------------------------------

  protected override tell(): void {
    const { complete } = this
    super.tell()
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
}

const nothing = new Uint8Array(0)

// The effect of records on the request with their id, or without one. The cell of a record is read by its name: with a key
// that varies it takes 15 ns more (measured).
const rowOf = (request: ApplicationRequest | undefined): ApplicationRow =>
  request === undefined ? applicationTable.inactive : request.state.on

/** Of the connections with most requests in PARAMS the one that has had some for longest. `one` is one of them. */
export const mostInParams = (
  connections: LinkedList<LinkedItem<ApplicationEnd>>,
  one: ApplicationEnd
): ApplicationEnd => {
  let most = one
  for (let item = connections.first; item !== undefined; item = item.after) {
    const { value: other } = item
    if (
      other.inParams > most.inParams || (other.inParams === most.inParams && other.inParamsSince < most.inParamsSince)
    ) most = other
  }
  return most
}
