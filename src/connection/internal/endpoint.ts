/**
 * One end of a connection: the transport, records read and dispatched, what is written, and who is told. `ApplicationEnd` and
 * `WebServerEnd` say what a record does.
 *
 *     onRead -> decode -> record, record, ... -> start what waited -> tell -> wake readers -> write -> settle
 *
 * Decide first, tell afterwards: a record, a handler or the transport changes the state of requests and of the connection, in
 * plain synchronous code. Then `settle` tells what has been decided, wakes readers, and decides about the connection, in that
 * order. Whoever is told may come back and change the state again: `settle` takes that in when the call has returned. The
 * application's end also tells right behind a record, because what a handler answers may free the id for the next one.
 */
import type * as Scheduler from "effect/Scheduler"
import * as FastCgiDecoder from "../../protocol/FastCgiDecoder.ts"
import type { FastCgiRecord } from "../../protocol/FastCgiRecord.ts"
import type { FastCgiTransport, FastCgiTransportObserver, FastCgiTransportReader } from "../FastCgiTransport.ts"
import { type ConnectionState, connectionStates } from "./connectionState.ts"
import type { Chunks, InputOwner } from "./inputStream.ts"
import { type OutputObserver, OutputQueue } from "./outputQueue.ts"
import type { ReadAhead } from "./readAhead.ts"
import { RequestTable } from "./requestTable.ts"

/** No records. */
export const noRecords: ReadonlyArray<FastCgiRecord> = []

// The records with their content in memory of their own.
const copied = (records: ReadonlyArray<FastCgiRecord>): ReadonlyArray<FastCgiRecord> => {
  let size = 0
  for (const record of records) if ("content" in record) size += record.content.length
  const bytes = new Uint8Array(size)
  let at = 0
  return records.map((record) => {
    if (!("content" in record) || record.content.length === 0) return record
    const start = at
    bytes.set(record.content, at)
    at += record.content.length
    return { ...record, content: bytes.subarray(start, at) }
  })
}

/** One end of a connection. */
export abstract class Endpoint<Request extends { readonly requestId: number }>
  implements FastCgiTransportObserver, FastCgiTransportReader, OutputObserver, InputOwner
{
  readonly transport: FastCgiTransport
  readonly output: OutputQueue
  readonly requests = new RequestTable<Request>()
  protected state: ConnectionState = connectionStates.open
  protected abstract readonly readAhead: ReadAhead
  private readonly decoder = FastCgiDecoder.make()
  // Streams whose readers are to be woken.
  private readonly touched: Array<{ readonly wake: () => void }> = []
  // Records that wait until there is room for the answers, and what has made those behind them unreadable.
  protected parked = noRecords
  private parkedError: FastCgiDecoder.FastCgiDecodeError | undefined
  private startsWait = false
  private awaitsRoom = false
  private settling = false
  private unsettled = false

  constructor(transport: FastCgiTransport, dispatcher: Scheduler.SchedulerDispatcher, outputHighWaterMark: number) {
    this.transport = transport
    this.output = new OutputQueue(transport, dispatcher, outputHighWaterMark, this)
    transport.observeUnsafe(this)
  }

  /** Takes one record: changes the state, and tells only what must not wait for the end of the read. */
  protected abstract record(record: FastCgiRecord): void

  /** Whether a record may be taken now; otherwise it and what is behind it wait until there is room for output. */
  protected abstract mayTake(record: FastCgiRecord): boolean

  /** The peer sent bytes that are no records, or ended inside of one. */
  protected abstract onMalformed(error: FastCgiDecoder.FastCgiDecodeError): void

  /** What was called here has thrown, which is a defect. */
  protected abstract onDefect(defect: unknown): void

  /** The peer has half-closed, or ended the connection behind what it sent. */
  protected abstract onPeerEnd(): void

  /** Tells what has been decided about requests. */
  protected abstract tell(): void

  /** Starts what there is room for, at the end of a read. Returns whether something waits for room. */
  protected abstract startWaiting(): boolean

  /** Decides about the connection, and tells that, when everything else has been told. */
  protected abstract settleConnection(): void

  /** The transport is gone, and with it the connection and its requests. */
  abstract onClose(): void
  abstract onDrain(): void
  abstract onPending(): void

  onRead(chunks: Chunks): void {
    // What is only read so that the peer can send it is not decoded: measured, 128 MiB of GET_VALUES that came while the
    // connection was closing took 300 MiB.
    if (!this.state.isOpen) return
    const records: Array<FastCgiRecord> = []
    let error: FastCgiDecoder.FastCgiDecodeError | undefined
    for (let i = 0; i < chunks.length && error === undefined; i++) error = this.decoder.push(chunks[i], records)
    this.dispatch(records, error)
    // They are views of the read, which the transport takes back.
    if (this.parked.length > 0) this.parked = copied(this.parked)
  }

  onReadEnd(): void {
    const error = this.state.isOpen ? this.decoder.end() : undefined
    this.decide(() => error === undefined ? this.onPeerEnd() : this.onMalformed(error))
  }

  onReadDefect(defect: unknown): void {
    this.settling = false
    this.onDefect(defect)
  }

  onBlocked(): void {
    this.readAhead.reconsider()
  }

  onConsumed(size: number): void {
    this.readAhead.onConsumed(size)
  }

  onAwaited(): void {
    this.readAhead.reconsider()
  }

  onTouched(stream: { readonly wake: () => void }): void {
    this.touched.push(stream)
  }

  private dispatch(records: ReadonlyArray<FastCgiRecord>, error?: FastCgiDecoder.FastCgiDecodeError): void {
    this.settling = true
    let at = this.takeFrom(records, 0)
    // The transport may have taken at once what was in the way.
    while (at < records.length && this.state.isOpen && !this.output.full) at = this.takeFrom(records, at)
    if (at < records.length && this.state.isOpen) {
      // Nothing is read before they have been taken.
      this.parked = at === 0 ? records : records.slice(at)
      this.parkedError = error
      this.readAhead.hold()
    }
    if (this.parked.length > 0 || this.startsWait) this.awaitRoom()
    this.settling = false
    this.settle()
    if (!this.state.isOpen || this.parked.length > 0) return
    if (error === undefined) this.readAhead.pauseIfFull()
    else this.decide(() => this.onMalformed(error))
  }

  // Takes records up to the first that has to wait. Returns where that is.
  private takeFrom(records: ReadonlyArray<FastCgiRecord>, from: number): number {
    let at = from
    this.output.beginBatch()
    for (; at < records.length && this.state.isOpen; at++) {
      const record = records[at]
      if (!this.mayTake(record)) break
      this.record(record)
    }
    this.startsWait = this.startWaiting()
    this.tell()
    this.wake()
    this.output.endBatch()
    return at
  }

  private awaitRoom(): void {
    if (this.awaitsRoom) return
    this.awaitsRoom = true
    this.output.whenRoom(() => this.goOn())
  }

  private goOn(): void {
    this.awaitsRoom = false
    const { parked, parkedError } = this
    this.parked = noRecords
    this.parkedError = undefined
    if (!this.state.isOpen) return
    this.readAhead.release()
    this.dispatch(parked, parkedError)
  }

  /** Makes several changes, and tells nobody before the last of them. */
  protected decide(changes: () => void): void {
    const { settling } = this
    this.settling = true
    changes()
    this.settling = settling
    this.settle()
  }

  /** Tells what has been decided, unless that is being done already. Called wherever something has been decided. */
  protected settle(): void {
    this.unsettled = true
    if (this.settling) return
    this.settling = true
    while (this.unsettled) {
      this.unsettled = false
      this.tell()
      this.wake()
      this.settleConnection()
    }
    this.settling = false
  }

  private wake(): void {
    const { touched } = this
    if (touched.length === 0) return
    for (let i = 0; i < touched.length; i++) touched[i].wake()
    touched.length = 0
  }
}
