/**
 * One request at the application's end, as `server/` and `http/` see it: what has come with it, and the only way to write
 * under its id. Once it is over every function does nothing, so a late write never appears under a reused id.
 *
 * Its phases, and what moves it from one to the next, stand in `connection/internal/requestState.ts`. Each function here
 * decides, and hands what is to be told to `ApplicationEnd`.
 */
import * as Effect from "effect/Effect"
import type { Deadline } from "../../connection/internal/deadlines.ts"
import { InputStream } from "../../connection/internal/inputStream.ts"
import { type ApplicationState, applicationStates } from "../../connection/internal/requestState.ts"
import type * as FastCgiParams from "../../protocol/FastCgiParams.ts"
import { inputsOf, ProtocolStatus, RecordType, Role } from "../../protocol/FastCgiRecord.ts"
import { FastCgiRequestError } from "../FastCgiRequestError.ts"
import type { FastCgiResponse } from "../FastCgiResponse.ts"
import type { ApplicationEnd } from "./applicationEnd.ts"
import type { LastInput } from "./dueInput.ts"
import type { Observation } from "./observation.ts"
import type { Refusal } from "./refusals.ts"

/** Why a request has been given up. */
export type AbortReason = "AbortRequest" | "ConnectionClosed" | "Shutdown"

/** Is called with the length of the head, in bytes, before that is appended, and without one when it has been. */
export type HeadListener = (headLength?: number) => void

/** The new owner of a client's connection, which the request carries. */
export interface TunnelOwner {
  /** The server stops: the tunnel is to be closed. */
  readonly onDrain: () => void
  /** The web server has closed its end, which is how a client goes. What is said now may still arrive. */
  readonly onPeerEnd: () => void
}

type MakeError = () => FastCgiRequestError

/** One request of a connection. */
export class ApplicationRequest {
  readonly owner: ApplicationEnd
  readonly requestId: number
  readonly role: number
  readonly keepConnection: boolean
  /** STDIN, where the role has it. */
  readonly stdin: InputStream<FastCgiRequestError> | undefined
  /** DATA, where the role has it. */
  readonly data: InputStream<FastCgiRequestError> | undefined
  /** Its observation, when something watches the server. */
  observation: Observation | undefined
  /** A page of the server itself that answers instead of a handler. It counts towards no limit. */
  page: Effect.Effect<FastCgiResponse> | undefined
  /** By when its PARAMS, or its answer, have to be there. */
  due: Deadline<ApplicationRequest> | undefined
  /** Work that is left for after the response. */
  afterwards: Array<Effect.Effect<void>> | undefined
  private current: ApplicationState = applicationStates.params
  private decoder: FastCgiParams.FastCgiParamsDecoder | undefined
  private decoded: FastCgiParams.FastCgiParams | undefined
  private paramsSize = 0
  private decidedAnswer: Refusal | undefined
  private wroteStdout = false
  private wroteStderr = false
  private headListeners: Array<HeadListener> | undefined
  private tunnel: TunnelOwner | undefined
  private interrupt: ((reason: AbortReason) => void) | undefined
  private givenUpFor: AbortReason | undefined

  constructor(
    owner: ApplicationEnd,
    requestId: number,
    role: number,
    keepConnection: boolean,
    decoder: FastCgiParams.FastCgiParamsDecoder
  ) {
    this.owner = owner
    this.requestId = requestId
    this.role = role
    this.keepConnection = keepConnection
    this.decoder = decoder
    const inputs = inputsOf(role)
    this.stdin = inputs.length > 0 ? new InputStream(owner) : undefined
    this.data = inputs.length > 1 ? new InputStream(owner) : undefined
  }

  // --- what it is ------------------------------------------------------------------------------

  /** The params. Only once they have ended. */
  get params(): FastCgiParams.FastCgiParams {
    return this.decoded!
  }

  /** Its phase. */
  get state(): ApplicationState {
    return this.current
  }

  /** Whether writing still means anything. */
  get isOpen(): boolean {
    return this.current.isOpen
  }

  /** Whether its id is free. */
  get isOver(): boolean {
    return this.current.isOver
  }

  /** Whether PARAMS have ended, the request is admitted, and nobody has been asked to run its handler. */
  get isReady(): boolean {
    return this.current.name === "ready"
  }

  /** Whether its PARAMS have not ended. */
  get isInParams(): boolean {
    return this.decoder !== undefined
  }

  /** Whether a STDOUT record has been appended. */
  get hasHead(): boolean {
    return this.wroteStdout
  }

  /** Whether nobody takes what the handler says, and nothing is wrong with that. */
  get isGivenUp(): boolean {
    return this.current.name === "interrupted" || this.current.name === "abandoned" || this.current.name === "dropped"
  }

  /** Whether its response has broken off behind its head. */
  get isBrokenOff(): boolean {
    return this.current.name === "withheld" || this.current.name === "cutOff"
  }

  /** The new owner of its client's connection, after an upgrade. */
  get upgradedTo(): TunnelOwner | undefined {
    return this.tunnel
  }

  /** Why it has been given up, when a handler or a queue has been told. */
  get reason(): AbortReason | undefined {
    return this.givenUpFor
  }

  /** The answer that has been decided before a handler was started. */
  get refusal(): Refusal | undefined {
    return this.decidedAnswer
  }

  /** The stream that will be the end of what the peer still sends for this request, unless everything has come. */
  get lastInput(): LastInput | undefined {
    // A peer that has given a request up sends nothing more for it.
    if (this.current.name !== "ended") return undefined
    // Of an Authorizer it is not known. Apache, which may keep the connection, sends it no STDIN; lighttpd, which sends an
    // empty one, does not.
    if (this.role === Role.Authorizer) return this.keepConnection ? undefined : "Stdin"
    return (this.data ?? this.stdin)?.isComplete !== false ? undefined : this.data === undefined ? "Stdin" : "Data"
  }

  /** Bytes of this request that have arrived and have not been pulled. */
  get unread(): number {
    return (this.stdin?.unread ?? 0) + (this.data?.unread ?? 0)
  }

  /** Whether its handler waits for DATA, which comes behind the STDIN that it may have left unread. */
  get awaitsData(): boolean {
    return this.data !== undefined && this.data.isAwaited && !this.stdin!.isComplete
  }

  // --- params and start ------------------------------------------------------------------------

  /** Takes content of PARAMS. Returns what is wrong with it. */
  decode(content: Uint8Array): FastCgiParams.FastCgiParamsError | undefined {
    this.paramsSize += content.length
    return this.decoder!.push(content)
  }

  /** Drops content of PARAMS, because the answer is decided. Returns how many bytes of PARAMS have come. */
  count(content: Uint8Array): number {
    return this.paramsSize += content.length
  }

  /** Says that PARAMS have ended, or will not be waited for. Returns what is wrong with them. */
  endParams(): FastCgiParams.FastCgiParamsError | undefined {
    const decoder = this.decoder!
    this.decoder = undefined
    if (this.current.name !== "params") return undefined
    const params = decoder.end()
    if ("_tag" in params) return params
    this.decoded = params
    return undefined
  }

  /** Decides that another answer than the handler's is sent when PARAMS have ended. */
  refuse(refusal: Refusal): void {
    this.current = this.current.after.refuse
    this.decidedAnswer = refusal
  }

  /** Says that the handler may run. */
  admit(): void {
    this.current = this.current.after.admit
  }

  /** Says that the request waits for a permit. `leave` gives its place up. */
  queue(leave: () => void): void {
    this.current = this.current.after.queue
    this.interrupt = leave
  }

  /** Says that the handler runs. `interrupt` interrupts it; `end` or `fail` has to follow. */
  start(interrupt: (reason: AbortReason) => void): void {
    this.current = this.current.after.start
    this.interrupt = interrupt
  }

  // --- output ----------------------------------------------------------------------------------

  /** Adds a listener for the moment at which the head is appended. */
  onHead(listener: HeadListener): void {
    this.headListeners = [...this.headListeners ?? [], listener]
  }

  /** Waits until the connection has room for more output; at once when the output is dropped anyway. */
  get room(): Effect.Effect<void> {
    return this.isOpen ? this.owner.output.room : Effect.void
  }

  /** Appends the header block, and what is ready of the body. */
  head(head: string, body?: Uint8Array | string | undefined, bodyLength = 0): void {
    if (!this.isOpen) return
    const listeners = this.headListeners
    if (listeners !== undefined) { for (const listener of listeners) listener(head.length) }
    this.wroteStdout = true
    this.observation?.onHead(head, bodyLength)
    this.owner.output.head(this.requestId, head, body, bodyLength)
    if (listeners !== undefined) { for (const listener of listeners) listener() }
  }

  /**
   * Appends the header block of a 101: from here on STDIN and STDOUT are the two directions of another protocol, and STDIN goes
   * on to its end, whatever CONTENT_LENGTH says.
   */
  upgrade(head: string, tunnel: TunnelOwner): void {
    if (!this.isOpen) return
    this.tunnel = tunnel
    this.stdin!.expectAnything()
    this.owner.onUpgraded(tunnel)
    this.head(head)
  }

  /** Appends to STDOUT. */
  stdout(content: Uint8Array): void {
    if (!this.isOpen) return
    this.wroteStdout = true
    this.observation?.onStdout(content)
    this.owner.output.stream(RecordType.Stdout, this.requestId, content)
  }

  /** Appends to STDERR. */
  stderr(content: Uint8Array): void {
    if (!this.isOpen || content.length === 0) return
    this.wroteStderr = true
    this.owner.output.stream(RecordType.Stderr, this.requestId, content)
  }

  /** Appends an answer that is there as a whole, and ends the request. */
  answer({ body, head, protocolStatus }: Refusal, appStatus: number): void {
    this.head(head, body, body.length)
    this.end(appStatus, protocolStatus)
  }

  /** Ends the streams that have to be ended and the request. The id is free from here on. */
  end(appStatus: number, protocolStatus: number = ProtocolStatus.RequestComplete): void {
    if (this.isOver || this.current.name === "withheld") return
    const tells = this.current.name !== "abandoned"
    if (tells) this.writeEnd(appStatus, protocolStatus)
    this.finish("end", tells)
  }

  /**
   * Gives up a request whose output is incomplete and must not look complete. Its connection ends it, when no other request
   * is on it: `appStatus` alone is ignored by every web server.
   */
  fail(): void {
    if (this.isOver || this.current.name === "withheld") return
    if (!this.isOpen) return this.end(1)
    this.current = this.current.after.fail
    // The caller knows already.
    this.interrupt = undefined
    this.discardInput(inputDiscarded)
    this.owner.onFailed(this)
  }

  /** Ends a request whose client has gone, with what has been said to it, and interrupts the handler. */
  hangUp(): void {
    if (this.isOpen) this.end(0)
    if (this.current.name !== "ended") return
    this.current = this.current.after.forgo
    this.givenUpFor = "ConnectionClosed"
    this.interrupt?.("ConnectionClosed")
  }

  /** Says that whatever the handler still says is not waited for, once the request has ended. */
  forgo(): void {
    this.current = this.current.after.forgo
    this.interrupt?.("Shutdown")
  }

  // --- given up --------------------------------------------------------------------------------

  /** Obeys ABORT_REQUEST before a handler runs, or when it has failed: END_REQUEST at once. */
  abort(): void {
    this.writeEnd(1, ProtocolStatus.RequestComplete)
    this.giveUp("AbortRequest")
    this.finish("abort", true)
  }

  /** Obeys ABORT_REQUEST while a handler runs: END_REQUEST follows when its fiber has ended (SPEC 5.4). */
  interruptHandler(): void {
    this.current = this.current.after.abort
    this.giveUp("AbortRequest")
    this.discardInput(() => inputAborted("AbortRequest"))
  }

  /** Gives the request up without a word, because nobody is there to hear it. */
  lose(): void {
    if (this.isOver || this.current.name === "abandoned") return
    const wasRunning = this.current.name === "running"
    if (this.current.name !== "interrupted") this.giveUp("ConnectionClosed")
    if (wasRunning || this.current.name === "interrupted") {
      this.current = this.current.after.lose
      if (wasRunning) this.discardInput(() => inputAborted("ConnectionClosed"))
    } else this.finish("lose", false)
  }

  /** Interrupts the handler, whose answer still counts. Without one, answers with `refusal` where an answer is allowed. */
  shutDown(refusal: Refusal): void {
    switch (this.current.name) {
      case "params":
      case "refused":
        return this.lose()
      case "ready":
      case "queued":
        this.giveUp("Shutdown")
        return this.answer(refusal, 1)
      case "running":
        this.giveUp("Shutdown")
        // The owner of the connection says goodbye on it, and waits for the answer.
        if (this.tunnel === undefined) this.discardInput(() => inputAborted("Shutdown"))
        return
    }
  }

  /** Tells the handler, or the queue, that the request has been given up. */
  tellInterrupt(): void {
    this.interrupt?.(this.givenUpFor!)
  }

  // --- input -----------------------------------------------------------------------------------

  /** Says that no more input comes, and why what has come is not all of it. */
  cutInput(failure: MakeError): void {
    this.stdin?.cut(failure)
    this.data?.cut(failure)
  }

  /** Drops the input that holds others up: of a Filter that waits for DATA, only what is before that. */
  discardStalled(failure: MakeError): void {
    if (this.awaitsData) this.stdin!.discard(failure)
    else this.discardInput(failure)
  }

  private discardInput(failure: MakeError): void {
    this.stdin?.discard(failure)
    this.data?.discard(failure)
  }

  private giveUp(reason: AbortReason): void {
    if (this.interrupt === undefined) return
    this.givenUpFor = reason
    this.owner.onGivenUp(this)
  }

  // SPEC 6.2: no STDOUT before the end of PARAMS. nginx takes one that is empty, and that no head is before, for an error.
  private writeEnd(appStatus: number, protocolStatus: number): void {
    const { output } = this.owner
    this.observation?.last()
    if (this.wroteStderr) output.endStream(RecordType.Stderr, this.requestId)
    if (this.decoder === undefined && (this.wroteStdout || protocolStatus === ProtocolStatus.RequestComplete)) {
      output.endStream(RecordType.Stdout, this.requestId)
    }
    output.endRequest(this.requestId, appStatus, protocolStatus)
  }

  private finish(event: "end" | "abort" | "lose", told: boolean): void {
    const { isAdmitted } = this.current
    this.current = this.current.after[event]
    this.discardInput(inputDiscarded)
    this.owner.onEnded(this, isAdmitted, told)
  }
}

const inputDiscarded = () =>
  new FastCgiRequestError({
    reason: { _tag: "InputDiscarded" },
    message: "the request ended before its input was read"
  })

/** Why the input of a request that has been given up is not complete. */
export const inputAborted = (reason: AbortReason) =>
  reason === "AbortRequest"
    ? new FastCgiRequestError({ reason: { _tag: "Aborted" }, message: "the web server aborted the request" })
    : reason === "ConnectionClosed"
    ? new FastCgiRequestError({
      reason: { _tag: "ConnectionClosed" },
      message: "the connection closed before the input was complete"
    })
    : new FastCgiRequestError({ reason: { _tag: "InputDiscarded" }, message: "the server is shutting down" })
