/**
 * One request of a connection, from BEGIN_REQUEST to END_REQUEST: its phase, its input, and the only way to write under
 * its id. Once it is gone every function does nothing, so a late write can never appear under a reused id.
 *
 *               PARAMS end                      END_REQUEST appended
 *    params ───────────────────▶ running ──────────────────────────▶ gone
 *      │ ABORT, refused                ▲ │ ABORT, connection lost        ▲
 *      └───────────────────────────────┼─┼────────────────────────────▶ │
 *                                      │ └─▶ aborted: the handler is interrupted, its output dropped
 */
import * as Effect from "effect/Effect"
import type * as FastCgiParams from "../../protocol/FastCgiParams.ts"
import { ProtocolStatus, RecordType, Role } from "../../protocol/FastCgiRecord.ts"
import { FastCgiRequestError } from "../FastCgiRequestError.ts"
import type { FastCgiTransport } from "../FastCgiTransport.ts"
import { InputBuffer, type MakeError } from "./inputBuffer.ts"
import type { OutputQueue } from "./outputQueue.ts"
import type { Refusal } from "./refusals.ts"

/** Why a request's handler is to be interrupted. */
export type AbortReason = "AbortRequest" | "ConnectionClosed" | "Shutdown"

/** What a request needs of its connection. */
export interface RequestOwner {
  /** A number that no other connection of this process has. */
  readonly id: number
  readonly transport: FastCgiTransport
  readonly output: OutputQueue
  readonly inputConsumed: (size: number) => void
  /** A Filter waits for DATA. */
  readonly dataAwaited: () => void
  readonly requestEnded: (request: ConnectionRequest) => void
  readonly requestFailed: (request: ConnectionRequest) => void
}

/** One request of a connection. */
export class ConnectionRequest {
  readonly requestId: number
  readonly role: number
  readonly keepConnection: boolean
  readonly stdin: InputBuffer
  readonly data: InputBuffer | undefined
  params: FastCgiParams.FastCgiParams | undefined
  paramsDecoder: FastCgiParams.FastCgiParamsDecoder | undefined
  /** Bytes of PARAMS that have come. */
  paramsSize = 0
  /** Whether the layer above has admitted it, and is to be told when it has ended. */
  admitted = false
  /** Whether PARAMS have ended and the handler has not been started. */
  starting = false
  /** Whether its handler has been started, and not only put in the queue for a permit. */
  running = false
  /** Set when the request is refused before it has started. */
  refusal: Refusal | undefined
  /** Set by whoever runs the handler: interrupts it. `end` has to follow. */
  onAbort: ((reason: AbortReason) => void) | undefined
  /** Called before the head is appended, with its length in bytes, and again, without one, when it has been. */
  onHead: ((headLength?: number) => void) | undefined
  /** Whether the output is dropped, because nobody is there to take it. */
  aborted = false
  /** Whether the connection comes to its end, and with it this request: END_REQUEST would call it complete. */
  cutOff = false
  /** Whether its response is incomplete, and END_REQUEST, which would call it complete, is not sent. */
  withheld = false
  /** Whether END_REQUEST has been appended, or can no longer be. */
  gone = false
  /** Whether END_REQUEST has been appended. */
  ended = false
  /** Whether a STDOUT record has been appended. */
  headSent = false
  readonly owner: RequestOwner
  private stderrUsed = false

  constructor(
    owner: RequestOwner,
    requestId: number,
    role: number,
    keepConnection: boolean,
    paramsDecoder: FastCgiParams.FastCgiParamsDecoder
  ) {
    this.owner = owner
    this.requestId = requestId
    this.role = role
    this.keepConnection = keepConnection
    this.paramsDecoder = paramsDecoder
    const consumed = (size: number) => owner.inputConsumed(size)
    this.stdin = new InputBuffer(consumed)
    this.data = role === Role.Filter ? new InputBuffer(consumed, () => owner.dataAwaited()) : undefined
    // SPEC 6.3: an Authorizer has no STDIN; lighttpd sends an empty one, Apache none.
    if (role === Role.Authorizer) this.stdin.end()
  }

  /** Whether writing still means anything. */
  get open(): boolean {
    return !this.gone && !this.aborted
  }

  /** The stream that will be the end of what the peer still sends for this request, unless everything has come. */
  get lastInput(): "Stdin" | "Data" | undefined {
    if (this.aborted) return undefined
    if (this.data !== undefined) return this.data.complete ? undefined : "Data"
    // Of an Authorizer it is not known. Apache, which may keep the connection, sends it no STDIN; lighttpd, which sends an
    // empty one, does not.
    if (this.role === Role.Authorizer) return this.keepConnection ? undefined : "Stdin"
    return this.stdin.complete ? undefined : "Stdin"
  }

  /** Bytes of this request that have arrived and have not been pulled. */
  get unread(): number {
    return this.stdin.unread + (this.data === undefined ? 0 : this.data.unread)
  }

  /** Whether its handler waits for DATA, which comes behind the STDIN that it may have left unread. */
  get awaitsData(): boolean {
    return this.data !== undefined && this.data.awaited && !this.stdin.complete
  }

  /** Waits until the connection has room for more output; at once when the output is dropped anyway. */
  get room(): Effect.Effect<void> {
    return this.open ? this.owner.output.room : Effect.void
  }

  /** Appends the header block, and what is ready of the body. */
  head(head: string, body?: Uint8Array | string | undefined, bodyLength = 0): void {
    if (!this.open) return
    this.onHead?.(head.length)
    this.headSent = true
    this.owner.output.head(this.requestId, head, body, bodyLength)
    this.onHead?.()
  }

  /** Appends to STDOUT. */
  stdout(content: Uint8Array): void {
    if (!this.open) return
    this.headSent = true
    this.owner.output.stream(RecordType.Stdout, this.requestId, content)
  }

  /** Appends to STDERR. */
  stderr(content: Uint8Array): void {
    if (!this.open || content.length === 0) return
    this.stderrUsed = true
    this.owner.output.stream(RecordType.Stderr, this.requestId, content)
  }

  /** Ends the streams that have to be ended and the request. The id is free from here on. */
  end(appStatus: number, protocolStatus: number = ProtocolStatus.RequestComplete): void {
    if (this.gone || this.withheld) return
    if (this.cutOff) {
      this.leave()
      return
    }
    const output = this.owner.output
    // SPEC 6.2: no STDOUT before the end of PARAMS. nginx takes one that is empty, and that no head is before, for an error.
    if (this.paramsDecoder === undefined && (this.headSent || protocolStatus === ProtocolStatus.RequestComplete)) {
      if (this.stderrUsed) output.endStream(RecordType.Stderr, this.requestId)
      output.endStream(RecordType.Stdout, this.requestId)
    }
    output.endRequest(this.requestId, appStatus, protocolStatus)
    this.ended = true
    this.leave()
  }

  /** Says that no more input comes, and why what has come is not all of it. */
  cutInput(failure: MakeError): void {
    this.stdin.cut(failure)
    this.data?.cut(failure)
  }

  /** Drops all input that has not been pulled, and what still comes. */
  discardInput(failure = inputDiscarded): void {
    this.stdin.discard(failure)
    this.data?.discard(failure)
  }

  /** Drops the input that holds others up: of a Filter that waits for DATA, only what is before that. */
  discardStalled(failure: MakeError): void {
    if (this.awaitsData) this.stdin.discard(failure)
    else this.discardInput(failure)
  }

  /**
   * Gives up a request whose output is incomplete and must not look complete. Its connection ends it, when no other request
   * is on it: `appStatus` alone is ignored by every web server.
   */
  fail(): void {
    if (this.gone || this.withheld) return
    if (!this.open) {
      this.end(1)
      return
    }
    this.owner.requestFailed(this)
  }

  /** Drops what is written and what is read from here on. */
  withhold(): void {
    this.withheld = true
    this.aborted = true
    this.discardInput()
  }

  /** Forgets the request without a word, because nobody is there to hear it. */
  leave(): void {
    if (this.gone) return
    this.gone = true
    this.discardInput()
    this.owner.requestEnded(this)
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
