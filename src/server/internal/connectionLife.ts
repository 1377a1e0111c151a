/**
 * How the application's end of a connection lives and ends: what the engine says to it, how long its peer may take, when it
 * closes, and how it closes so that no answer is lost and none looks complete that is not. `ApplicationEnd` adds what records
 * do.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import type * as Scheduler from "effect/Scheduler"
import type { FastCgiTransport } from "../../connection/FastCgiTransport.ts"
import type { Deadline, Deadlines } from "../../connection/internal/deadlines.ts"
import { Endpoint, noRecords } from "../../connection/internal/endpoint.ts"
import { type Fork, millisecondsOf, Timers } from "../../connection/internal/timers.ts"
import * as FastCgiParams from "../../protocol/FastCgiParams.ts"
import { RecordType, ValueName } from "../../protocol/FastCgiRecord.ts"
import type { Application, ApplicationReport, ConnectionLimit, ConnectionLimits } from "./application.ts"
import { type ApplicationRequest, inputAborted } from "./applicationRequest.ts"
import { DueInput } from "./dueInput.ts"
import { InputPolicy } from "./inputPolicy.ts"
import { serviceUnavailable } from "./refusals.ts"

// How long, in milliseconds, a half-closed connection waits for the peer to close its end when everything has been written and
// all input has come. Bytes that arrive behind a close are answered by RST over TCP, and a peer that has not read the answer
// yet loses it. A peer that reads too slowly has the same time when the server stops and its deadline is over.
export const closingMoment = 1000

// The content of the UNKNOWN_TYPE record that cuts a response off: some servers, Caddy for one, take any content for the body.
const cutOff = new Uint8Array(0)

// The record of `sayGoodbye`.
const noMultiplexing = FastCgiParams.encodePairs([[ValueName.MpxsConns, "0"]])

/** What all connections of an engine have in common. */
export interface Shared {
  readonly limits: ConnectionLimits
  readonly clock: Clock.Clock
  /** What the connections send at the end of a turn is sent in one go. */
  readonly dispatcher: Scheduler.SchedulerDispatcher
  readonly fork: Fork
  /** Connections whose peers have a moment left: to close, or to take what the server that stops still has for them. */
  readonly closing: Deadlines<ConnectionLife>
  /** Requests whose PARAMS have not come in one read. */
  readonly params: Deadlines<ApplicationRequest>
}

/** The application's end of one connection, but for what records do. */
export abstract class ConnectionLife extends Endpoint<ApplicationRequest> {
  protected readonly readAhead: InputPolicy
  protected readonly application: Application
  protected readonly limits: ConnectionLimits
  protected readonly shared: Shared
  protected readonly timers: Timers<"idle" | "write" | "close" | "stall" | "unread">
  // What has been decided and nobody has been told, in order.
  private untold: Array<() => void> | undefined
  // Ids of ended requests whose input is still on its way.
  protected readonly sending = new DueInput()
  // How many of the requests wait, without END_REQUEST, for the end of the others and with it of the connection.
  protected withheld = 0
  private saidGoodbye = false
  // The peer has ended, or is not waited for: the connection closes when all has been written.
  private nothingComes = false
  private hurrying = false
  // By when the peer has to have closed its direction of a closing connection.
  private due: Deadline<ConnectionLife> | undefined
  private defect: Cause.Cause<never> | undefined
  // When the last request has ended. Kept only where there is an idleTimeout.
  private idleSince = 0
  private whenFinished: ((defect: Cause.Cause<never> | undefined) => void) | undefined

  constructor(transport: FastCgiTransport, application: Application, shared: Shared) {
    super(transport, shared.dispatcher, shared.limits.outputHighWaterMark)
    this.application = application
    this.limits = shared.limits
    this.shared = shared
    this.timers = new Timers(shared.fork)
    this.readAhead = new InputPolicy(this, this.limits, this.timers)
  }

  /**
   * Begins to read. `whenFinished` is called once, when the connection is closed and all its requests have ended, with the
   * defect that has closed it, if it was one.
   */
  run(whenFinished: (defect: Cause.Cause<never> | undefined) => void): void {
    this.whenFinished = whenFinished
    this.idleSince = this.limits.idleTimeout === Infinity ? 0 : millisecondsOf(this.shared.clock)
    this.transport.flowUnsafe(this)
    this.settle()
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
    for (const { upgradedTo } of this.requests.values()) {
      if (upgradedTo !== undefined) this.tellLater(upgradedTo.onDrain)
    }
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

  // --- what is told -----------------------------------------------------------------------------

  report(report: ApplicationReport): void {
    this.tellLater(() => this.application.report(report))
  }

  protected tellLater(event: () => void): void {
    ;(this.untold ??= []).push(event)
  }

  protected tell(): void {
    const { untold } = this
    if (untold === undefined) return
    this.untold = undefined
    for (const event of untold) event()
  }

  protected settleConnection(): void {
    if (this.state.isOpen) {
      this.cutOffIfAlone()
      // Requests from before the stop are answered.
      if (this.state.closesWhenIdle && this.requests.size === 0 && this.parked.length === 0) this.close()
      if (this.state.isOpen) {
        if (this.requests.size === 0) this.watchIdle()
        this.readAhead.reconsider()
      }
    }
    // Nobody waits for room any more.
    if (this.isClosed) this.output.release()
    if (this.isClosed && this.requests.size === 0 && this.whenFinished !== undefined) {
      const tell = this.whenFinished
      this.whenFinished = undefined
      tell(this.defect)
    }
  }

  // --- what the transport says ------------------------------------------------------------------

  onDrain(): void {
    this.output.resume()
    if (this.state.isOpen || this.isClosed) return
    this.writeOut()
    if (this.isClosed || this.output.pending > 0) return
    // The time that the peer had to take the output is over, and the time for the rest of its input begins.
    this.timers.stop("close")
    this.watchClosing()
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
      const message = `the peer has taken none of ${this.output.pending} bytes for ${writeTimeout} ms`
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
    this.nothingComes = true
    if (!this.state.isOpen) return this.writeOut()
    const requests = this.requests.values()
    const { allowHalfOpen } = this.limits
    if (!requests.some(({ upgradedTo }) => allowHalfOpen || upgradedTo !== undefined)) return this.giveUp()
    this.state = this.state.after.finish
    for (const request of requests) {
      if (request.upgradedTo !== undefined) {
        request.stdin!.end()
        this.tellLater(request.upgradedTo.onPeerEnd)
      } else if (request.isInParams || !allowHalfOpen) request.lose()
      else request.cutInput(() => inputAborted("ConnectionClosed"))
    }
  }

  protected onIdle(mayBeReused: boolean): void {
    this.readAhead.multiplexed = false
    if (this.limits.idleTimeout !== Infinity) this.idleSince = millisecondsOf(this.shared.clock)
    if (mayBeReused && (this.state.name === "leaving" || this.state.name === "draining")) this.sayGoodbye()
  }

  // --- ends -------------------------------------------------------------------------------------

  // A connection error: what has been answered is sent, everything else is given up.
  protected breakOff(message: string, limit?: ConnectionLimit | undefined): void {
    this.report({ _tag: "ConnectionClosed", limit, message })
    this.giveUp()
  }

  protected giveUp(): void {
    this.decide(() => {
      for (const request of this.requests.values()) request.lose()
      this.close()
    })
  }

  // Says that this connection takes no further request. There is no record for that, but HAProxy obeys this one at any time,
  // and puts its next requests on other connections (measured, 2.6). nginx gives a kept connection its next request when it
  // has read END_REQUEST, which may be before it sees that the connection is closed, and then a POST is a 502; but with any
  // bytes behind END_REQUEST in the same write it does not keep the connection. The others ignore it.
  protected sayGoodbye(): void {
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
    if (this.output.pending > 0 || this.saidGoodbye) return this.giveUp()
    this.transport.resetUnsafe()
    this.onLost()
  }

  // Most connections are busy again before the time is over, so it is not stopped then, but measured anew.
  private watchIdle(): void {
    const { idleTimeout } = this.limits
    if (idleTimeout === Infinity) return
    const left = this.idleSince + idleTimeout - millisecondsOf(this.shared.clock)
    this.timers.start("idle", left, () => {
      if (!this.state.isOpen || this.requests.size > 0) return
      if (this.idleSince + idleTimeout > millisecondsOf(this.shared.clock)) return this.watchIdle()
      this.report({ _tag: "ConnectionIdle", limit: "idleTimeout", message: `no request for ${idleTimeout} ms` })
      this.drain()
    })
  }

  // Closes once everything is written out and the peer has ended. What it still sends is read and dropped: over TCP, closing with
  // unread input would be a RST, and cost the peer the answer.
  private close(): void {
    if (!this.state.isOpen) return
    // The peer wants the close, and has sent all its input.
    this.nothingComes ||= this.transport.deliversWhenClosed === true && this.state.name === "finishing" &&
      this.sending.size === 0
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
      if (!this.nothingComes || this.output.pending > 0) this.transport.endUnsafe()
    }
    if (this.nothingComes && this.output.pending === 0) this.destroy()
  }

  private watchClosing(): void {
    const { pending } = this.output
    if (this.hurrying || (pending === 0 && this.sending.size === 0)) {
      this.timers.stop("close")
      this.shared.closing.delete(this.due)
      this.due = this.shared.closing.add(this)
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
      this.shared.closing.delete(this.due)
      for (const request of this.requests.values()) request.lose()
      this.timers.stopAll()
    })
  }

  private get isClosed(): boolean {
    return this.state.name === "closed"
  }
}
