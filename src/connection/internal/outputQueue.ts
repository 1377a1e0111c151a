/**
 * Everything that a connection sends, in order: records are encoded as they are appended, small content copied behind its
 * header, large content passed on as a view, and all of it handed to the transport in one batch per turn.
 *
 * It never waits. Whoever produces much asks `room` and waits there; waiters go on in order, a share each.
 */
import * as Effect from "effect/Effect"
import type * as Scheduler from "effect/Scheduler"
import {
  beginRequestLength,
  endRequestLength,
  paddingTo8,
  writeBeginRequest,
  writeEndRequest,
  writeHeader
} from "../../protocol/FastCgiEncoder.ts"
import { beginRequest, headerLength, maxContentLength, RecordType } from "../../protocol/FastCgiRecord.ts"
import { latin1Bytes, writeLatin1 } from "../../protocol/internal/text.ts"
import type { FastCgiTransport } from "../FastCgiTransport.ts"
import { LinkedItem, LinkedList } from "./linkedList.ts"

// Encoded bytes go into slabs that all connections share, and that are replaced when full, never used again: bytes that
// the transport has taken are not overwritten, and padding, which nobody writes, is zero. One slab per connection would
// cost every idle connection as much.
const slabSize = 32 * 1024
let slab = new Uint8Array(slabSize)
let slabAt = 0

// Up to here a copy is cheaper than a second buffer in the write (bench/README.md).
const copyLimit = 2048

// What is queued is handed over at once from here on, so that a long answer is on its way while it is being made.
const flushSize = 64 * 1024

// What waits because the peer is slow is copied out of the slabs, which it would keep in memory as a whole, into blocks of
// this size. Measured: 2,000 replies of 16 bytes, each between answers to other peers, held 62 MiB of slabs.
const tailSize = 4096
// A part of a slab that is at least this long stays where it is.
const maxCopied = slabSize / 8

// Content of long records but of STDERR. With padding a record must stay below 64 KiB: HAProxy, when it skips what comes for a client that
// has gone, adds both up in 16 bits, and takes what is then left for records, of other requests for instance.
export const maxStreamContent = maxContentLength - 7

// HAProxy 2.6 crashes on STDERR records without padding, and on those of 16 KiB and more.
const maxStderrContent = 8 * 1024

const paddingOf = (type: RecordType, length: number): number =>
  type === RecordType.Stderr ? 8 - (length & 7) : paddingTo8(length)

const encoder = new TextEncoder()

/** Who is told what the queue waits for. */
export interface OutputObserver {
  /** A writer has begun to wait for room. */
  readonly onBlocked: () => void
  /** Something has been handed over that the operating system has not accepted at once. */
  readonly onPending: () => void
}

/** Encodes what one connection sends. */
export class OutputQueue {
  private readonly transport: FastCgiTransport
  private readonly dispatcher: Scheduler.SchedulerDispatcher
  private readonly highWaterMark: number
  private readonly observer: OutputObserver
  private chunks: Array<Uint8Array> = []
  private queued = 0
  private handedOver = 0
  // How many of `chunks` hold no part of a slab that is to be copied.
  private copied = 0
  // The last of these when it is a block that has room for more, and how much of it is in use.
  private tail: Uint8Array | undefined
  private tailLength = 0
  // The part of the slab that belongs to the end of `chunks` and is not in there yet.
  private open: Uint8Array | undefined
  private openStart = 0
  private openEnd = 0
  private batching = false
  private scheduled = false
  // Who waits for room, in order. Most connections never have one, nor a turn to wait for.
  private waiters: LinkedList<LinkedItem<() => void>> | undefined
  private turnEnded: (() => void) | undefined
  private copying = false
  private copyTurn: (() => void) | undefined

  constructor(
    transport: FastCgiTransport,
    dispatcher: Scheduler.SchedulerDispatcher,
    highWaterMark: number,
    observer: OutputObserver
  ) {
    this.transport = transport
    this.dispatcher = dispatcher
    this.highWaterMark = highWaterMark
    this.observer = observer
  }

  /** Bytes appended that the operating system has not accepted yet. */
  get pending(): number {
    return this.queued + this.transport.pendingUnsafe()
  }

  /** How many bytes the operating system has accepted since the beginning. */
  get accepted(): number {
    return this.handedOver - this.transport.pendingUnsafe()
  }

  /** Whether somebody waits for room. */
  get blocked(): boolean {
    return this.waiters !== undefined && this.waiters.size > 0
  }

  /** Whether so much is pending that nothing is to be begun that adds to it. */
  get full(): boolean {
    return this.pending >= this.highWaterMark
  }

  /** Whether everything that was appended has been handed over to the transport. */
  get handedOverAll(): boolean {
    return this.queued === 0
  }

  /** From here until `endBatch`, nothing is handed over. Returns whether that was not so before. */
  beginBatch(): boolean {
    const begins = !this.batching
    this.batching = true
    return begins
  }

  /** Hands over what the batch has appended. */
  endBatch(): void {
    this.batching = false
    if (this.queued > 0) this.flush()
  }

  /** Appends content as records of the stream `type`. Empty content appends nothing. */
  stream(type: RecordType, requestId: number, content: Uint8Array): void {
    const length = content.length
    if (length === 0) return
    const most = type === RecordType.Stderr ? maxStderrContent : maxStreamContent
    for (let at = 0; at < length; at += most) {
      this.record(type, requestId, length <= most ? content : content.subarray(at, at + most))
    }
    this.appended()
  }

  /** Appends PARAMS, one byte per character. Measured, bytes to copy them from would cost 0.8 µs. */
  params(requestId: number, content: string): void {
    const { length } = content
    if (length > copyLimit) return this.stream(RecordType.Params, requestId, latin1Bytes(content))
    if (length === 0) return
    const padding = paddingTo8(length)
    const at = this.reserve(headerLength + length + padding)
    writeHeader(slab, at, RecordType.Params, requestId, length, padding)
    writeLatin1(slab, at + headerLength, content)
    this.appended()
  }

  /** Appends chunks as records of the stream `type`: those that fit one record share it. */
  gathered(type: RecordType, requestId: number, chunks: ReadonlyArray<Uint8Array>): void {
    for (let i = 0; i < chunks.length;) {
      const first = i
      let length = 0
      while (i < chunks.length && length + chunks[i].length <= maxStreamContent) length += chunks[i++].length
      if (i - first <= 1) {
        this.stream(type, requestId, chunks[first])
        i = first + 1
      } else if (length > 0) {
        const at = this.reserve(headerLength)
        writeHeader(slab, at, type, requestId, length, paddingTo8(length))
        for (let n = first; n < i; n++) this.append(chunks[n])
        this.reserve(paddingTo8(length))
      }
    }
    this.appended()
  }

  /** Appends BEGIN_REQUEST. Not padded: libfcgi loses the params behind one that is. */
  beginRequest(requestId: number, role: number, keepConnection: boolean): void {
    const at = this.reserve(beginRequestLength)
    writeBeginRequest(slab, at, beginRequest(requestId, role, { keepConnection }))
    this.appended()
  }

  /** Appends the record that ends the stream `type`, or says ABORT_REQUEST. */
  endStream(type: RecordType, requestId: number): void {
    const padding = paddingOf(type, 0)
    const at = this.reserve(headerLength + padding)
    writeHeader(slab, at, type, requestId, 0, padding)
    this.appended()
  }

  /** Appends END_REQUEST. */
  endRequest(requestId: number, appStatus: number, protocolStatus: number): void {
    const at = this.reserve(endRequestLength)
    writeEndRequest(slab, at, requestId, appStatus, protocolStatus)
    this.appended()
  }

  /**
   * Appends a header block, one byte per character and no longer than a record holds, and the start of the body, in as few
   * STDOUT records as hold them: one as a rule. HAProxy 2.6 crashes when a record ends before the header block does.
   */
  head(requestId: number, head: string, body: Uint8Array | string | undefined, bodyLength: number): void {
    const headLength = head.length
    const length = headLength + bodyLength
    if (length > copyLimit) return this.longHead(requestId, head, body)
    const padding = paddingTo8(length)
    let at = this.reserve(headerLength + length + padding)
    const bytes = slab
    writeHeader(bytes, at, RecordType.Stdout, requestId, length, padding)
    at += headerLength
    writeLatin1(bytes, at, head)
    if (bodyLength > 0) {
      at += headLength
      if (typeof body !== "string") bytes.set(body!, at)
      else if (body.length !== bodyLength) encoder.encodeInto(body, bytes.subarray(at, at + bodyLength))
      else writeLatin1(bytes, at, body)
    }
    this.appended()
  }

  /** Appends a management record, which is small by nature. */
  management(type: RecordType, content: Uint8Array, padding?: number): void {
    this.record(type, 0, content, padding)
    this.appended()
  }

  /** Waits until there is room for more, seen from now. Interrupting gives the place in the queue up. */
  get room(): Effect.Effect<void> {
    if (!this.full && !this.blocked) return Effect.void
    if (!this.batching && this.queued > 0) {
      this.flush()
      if (!this.full && !this.blocked) return Effect.void
    }
    return Effect.callback<void>((resume) => {
      const waiter = this.whenRoom(() => resume(Effect.void))
      return Effect.sync(() => this.waiters?.remove(waiter))
    })
  }

  /** Calls `wake` once when there is room and those have had their turn who waited before. */
  whenRoom(wake: () => void): LinkedItem<() => void> {
    const waiters = this.waiters ??= new LinkedList()
    const waiter = new LinkedItem(wake)
    waiters.push(waiter)
    if (waiters.size === 1) this.observer.onBlocked()
    // Nothing is pending below us, so nothing would call `resume`.
    if (this.transport.pendingUnsafe() === 0) this.schedule()
    return waiter
  }

  /** Hands over what has waited, and lets those go on who wait for room, in order, for as long as there is room. */
  resume(): void {
    this.flush()
    const { waiters } = this
    if (waiters === undefined) return
    // Who writes and waits again has had its turn: where all of it is taken at once, or dropped, this would never end.
    for (let turns = waiters.size; turns > 0 && waiters.first !== undefined && !this.full; turns--) {
      const { first } = waiters
      waiters.remove(first)
      first.value()
    }
  }

  /** Lets everybody go on who waits for room, because nothing will be sent any more. */
  release(): void {
    const { waiters } = this
    if (waiters === undefined) return
    for (let { first } = waiters; first !== undefined; first = waiters.first) {
      waiters.remove(first)
      first.value()
    }
  }

  /**
   * Hands over now what is queued. While something is pending below us it stays here instead, where small parts cost no more
   * than their bytes from the next turn on, until `resume` is called.
   */
  flush(): void {
    if (this.queued === 0) return
    if (this.transport.pendingUnsafe() > 0) return this.copySoon()
    this.seal()
    if (this.tail !== undefined) this.sealTail()
    const chunks = this.chunks
    this.chunks = []
    this.copied = 0
    this.handedOver += this.queued
    this.queued = 0
    this.transport.writeUnsafe(chunks)
    if (this.transport.pendingUnsafe() > 0) this.observer.onPending()
  }

  private longHead(requestId: number, head: string, body: Uint8Array | string | undefined): void {
    const headBytes = latin1Bytes(head)
    const bodyBytes = body === undefined ? noContent : typeof body === "string" ? encoder.encode(body) : body
    const share = Math.min(bodyBytes.length, Math.max(maxStreamContent - headBytes.length, 0))
    const length = headBytes.length + share
    const padding = Math.min(paddingTo8(length), maxContentLength - length)
    const at = this.reserve(headerLength)
    writeHeader(slab, at, RecordType.Stdout, requestId, length, padding)
    this.append(headBytes)
    this.append(share === bodyBytes.length ? bodyBytes : bodyBytes.subarray(0, share))
    this.reserve(padding)
    if (share < bodyBytes.length) this.stream(RecordType.Stdout, requestId, bodyBytes.subarray(share))
    else this.appended()
  }

  private record(
    type: RecordType,
    requestId: number,
    content: Uint8Array,
    padding = paddingOf(type, content.length)
  ): void {
    const at = this.reserve(headerLength)
    writeHeader(slab, at, type, requestId, content.length, padding)
    this.append(content)
    this.reserve(padding)
  }

  // Appends content behind what has been reserved before.
  private append(content: Uint8Array): void {
    const { length } = content
    if (length <= copyLimit) {
      const at = this.reserve(length)
      slab.set(content, at)
      return
    }
    this.seal()
    this.chunks.push(content)
    this.queued += length
  }

  // Makes room for `length` bytes at the end, in the slab; returns where.
  private reserve(length: number): number {
    if (slabAt + length > slabSize) {
      slab = new Uint8Array(slabSize)
      slabAt = 0
    }
    if (this.open !== slab || this.openEnd !== slabAt) {
      this.seal()
      this.open = slab
      this.openStart = slabAt
    }
    const at = slabAt
    slabAt += length
    this.openEnd = slabAt
    this.queued += length
    return at
  }

  // Another queue may use the slab next, so the part that is ours becomes a chunk.
  private seal(): void {
    if (this.open === undefined) return
    if (this.openEnd > this.openStart) this.chunks.push(this.open.subarray(this.openStart, this.openEnd))
    this.open = undefined
  }

  // What is taken within the turn need not be copied: of a peer that is not slow, a part of what was sent may be pending still when
  // its next request is answered. Measured, to copy such an answer at once took a fifth of a request.
  private copySoon(): void {
    if (this.copying) return
    this.copying = true
    this.copyTurn ??= () => {
      this.copying = false
      if (this.queued > 0 && this.transport.pendingUnsafe() > 0) this.copyOut()
    }
    this.dispatcher.scheduleTask(this.copyTurn, 0)
  }

  // Copies what has come since the last time out of the slabs.
  private copyOut(): void {
    this.seal()
    const { chunks, copied } = this
    if (copied === chunks.length) return
    const fresh = chunks.splice(copied)
    for (const chunk of fresh) {
      if (chunk.length > maxCopied || chunk.buffer.byteLength !== slabSize) {
        this.sealTail()
        chunks.push(chunk)
      } else {
        if (this.tail === undefined || this.tailLength + chunk.length > tailSize) {
          this.sealTail()
          this.tail = new Uint8Array(tailSize)
          chunks.push(this.tail)
        }
        this.tail.set(chunk, this.tailLength)
        this.tailLength += chunk.length
      }
      this.copied = chunks.length
    }
  }

  // Ends the block that what waits is copied into.
  private sealTail(): void {
    if (this.tail === undefined) return
    this.chunks[this.copied - 1] = this.tail.subarray(0, this.tailLength)
    this.tail = undefined
    this.tailLength = 0
  }

  private appended(): void {
    if (this.batching) return
    if (this.queued >= flushSize) this.flush()
    else this.schedule()
  }

  private schedule(): void {
    if (this.scheduled) return
    this.scheduled = true
    this.turnEnded ??= () => {
      this.scheduled = false
      this.resume()
    }
    this.dispatcher.scheduleTask(this.turnEnded, 0)
  }
}

const noContent = new Uint8Array(0)
