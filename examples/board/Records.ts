/**
 * The records of requests as they cross the wire, for the picture on the page. `layerListener` stands between a listener and
 * the server: it hands every connection on, and writes down what passes, in both directions.
 *
 * Nothing of a connection is changed, and little of it is kept: of each request the headers of some records and the first
 * bytes of their contents, until the request has ended. What a page has asked for is kept longer, for the last 100 pages.
 */
import { FastCgiListener, FastCgiRecord, type FastCgiRequest, FastCgiTransport } from "effect-fastcgi"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { createHash, randomUUID } from "node:crypto"

// Models

/** A record as its bytes: header, the beginning of its content, padding (SPEC 3.3). */
export interface WireRecord {
  readonly header: Uint8Array
  readonly type: number
  readonly contentLength: number
  /** The first bytes of the content, at most 64. */
  readonly start: Uint8Array
  readonly padding: Uint8Array
}

/** What has passed in one direction. */
export interface Passed {
  /** The first records, and the last. */
  readonly records: ReadonlyArray<WireRecord>
  /** How many between them are not kept. */
  readonly omitted: number
  /** All bytes, with headers and padding. */
  readonly bytes: number
  /** Reads of the transport, or writes to it, that brought them. */
  readonly batches: number
}

/** One request and its response. */
export interface Exchange {
  /** Nobody guesses it, so only who was shown the page sees its records. */
  readonly key: string
  /** Method and target. */
  readonly request: string
  /** Name-value pairs in PARAMS. */
  readonly pairs: number
  /** The fiber that answers it. */
  readonly fiber: number
  readonly received: Passed
  readonly sent: Passed
  /** Milliseconds from the first record that was received to the first that was sent; none before that. */
  readonly answeredAfter: number | undefined
  /** Whether END_REQUEST has been sent, or the connection was lost before. */
  readonly ended: boolean
}

// Service

export class Records extends Context.Service<Records, {
  /** Passes a connection on and writes it down. */
  readonly record: (transport: FastCgiTransport.FastCgiTransport) => FastCgiTransport.FastCgiTransport
  /** What has passed of the request that this fiber answers; none when its connection is not recorded. */
  readonly current: (
    request: Pick<FastCgiRequest.RequestBase, "requestId" | "params">
  ) => Effect.Effect<Option.Option<Exchange>>
  /** A request that a page has shown, when its last record has been sent, or two seconds later as it is then. */
  readonly ended: (key: string) => Effect.Effect<Option.Option<Exchange>>
}>()("effect-fastcgi/examples/Records") {}

/** Exchanges that are kept. */
const maxKept = 100

export const layer: Layer.Layer<Records> = Layer.sync(Records, () => {
  const connections = new Set<Connection>()
  const kept = new Map<string, Recording>()
  return Records.of({
    record: (transport) => {
      const connection = new Connection(() => connections.delete(connection))
      connections.add(connection)
      return recorded(transport, connection)
    },
    current: (request) =>
      Effect.withFiber((fiber) => {
        const params = createHash("sha256").update(request.params.bytes).digest("hex")
        for (const connection of connections) {
          const recording = connection.requests.get(request.requestId)
          if (recording?.params !== params || recording.key !== undefined) continue
          recording.key = randomUUID()
          recording.handler = {
            request: `${request.params.get("REQUEST_METHOD")} ${request.params.get("REQUEST_URI")}`,
            pairs: Array.from(request.params).length,
            fiber: fiber.id
          }
          kept.set(recording.key, recording)
          for (const key of kept.keys()) if (kept.size > maxKept) kept.delete(key)
          return Effect.succeedSome(recording.exchange(recording.key))
        }
        return Effect.succeedNone
      }),
    ended: (key) =>
      Effect.suspend(() => {
        const recording = kept.get(key)
        return recording === undefined ? Effect.succeedNone : recording.ended.await.pipe(
          Effect.timeoutOption("2 seconds"),
          Effect.map(() => Option.some(recording.exchange(key)))
        )
      })
  })
})

/** A listener that records the connections of the one that is provided to it. */
export const layerListener: Layer.Layer<
  FastCgiListener.FastCgiListener,
  never,
  FastCgiListener.FastCgiListener | Records
> = Layer.effect(
  FastCgiListener.FastCgiListener,
  Effect.gen(function*() {
    const records = yield* Records
    const listener = yield* FastCgiListener.FastCgiListener
    return FastCgiListener.FastCgiListener.of({
      ...listener,
      run: (onConnection) => listener.run((transport) => onConnection(records.record(transport)))
    })
  })
)

// A connection

/** Requests of one connection that are written down at once; further ones pass unseen. */
const maxRequests = 1000

class Connection {
  /** By request id, while they are not ended. */
  readonly requests = new Map<number, Recording>()
  private readonly gone: () => void
  private readonly received = new Splitter({
    begin: (id, record) => {
      if (record.type === FastCgiRecord.RecordType.BeginRequest && this.requests.size < maxRequests) {
        this.requests.set(id, new Recording())
      }
      this.requests.get(id)?.received.add(record)
    },
    content: (id, record, bytes) => {
      if (record.type === FastCgiRecord.RecordType.Params) this.requests.get(id)?.addParams(bytes)
    },
    end: (id, record) => {
      if (record.type === FastCgiRecord.RecordType.Params && record.contentLength === 0) {
        this.requests.get(id)?.endParams()
      }
    }
  })
  private readonly sent = new Splitter({
    begin: (id, record) => this.requests.get(id)?.answer(record),
    content: () => {},
    end: (id, record) => {
      if (record.type !== FastCgiRecord.RecordType.EndRequest) return
      this.requests.get(id)?.end()
      this.requests.delete(id)
    }
  })

  constructor(gone: () => void) {
    this.gone = gone
  }

  read(chunks: ReadonlyArray<Uint8Array>): void {
    for (const chunk of chunks) this.received.push(chunk)
    for (const request of this.requests.values()) request.received.endBatch()
  }

  wrote(chunks: ReadonlyArray<Uint8Array>): void {
    const before = Array.from(this.requests.values())
    for (const chunk of chunks) this.sent.push(chunk)
    for (const request of before) request.sent.endBatch()
  }

  closed(): void {
    for (const request of this.requests.values()) request.end()
    this.requests.clear()
    this.gone()
  }
}

/** The transport, and beside it somebody who is told what is read and written. */
const recorded = (
  transport: FastCgiTransport.FastCgiTransport,
  connection: Connection
): FastCgiTransport.FastCgiTransport =>
  FastCgiTransport.tap(transport, {
    onRead: (chunks) => connection.read(chunks),
    onWrite: (chunks) => connection.wrote(chunks),
    onClose: () => connection.closed()
  })

// A request

/** Records that are kept of one direction: so many from its beginning, and the last ones. */
const maxFirst = 8
const maxLast = 4

class Direction {
  private readonly first: Array<WireRecord> = []
  private readonly last: Array<WireRecord> = []
  private omitted = 0
  private bytes = 0
  private batches = 0
  private grown = false

  add(record: WireRecord): void {
    this.bytes += record.header.length + record.contentLength + record.header[6]!
    this.grown = true
    if (this.first.length < maxFirst) {
      this.first.push(record)
      return
    }
    this.last.push(record)
    if (this.last.length <= maxLast) return
    this.last.shift()
    this.omitted++
  }

  endBatch(): void {
    if (this.grown) this.batches++
    this.grown = false
  }

  passed(): Passed {
    return {
      records: [...this.first, ...this.last],
      omitted: this.omitted,
      bytes: this.bytes,
      // What is being read while the handler looks at it.
      batches: this.batches + (this.grown ? 1 : 0)
    }
  }
}

class Recording {
  readonly received = new Direction()
  readonly sent = new Direction()
  readonly ended = Latch.makeUnsafe()
  /** The SHA-256 of the pairs, once they are complete: by this the request is found, together with its id. */
  params: string | undefined
  /** Set when a page has asked for it. */
  key: string | undefined
  handler: Pick<Exchange, "request" | "pairs" | "fiber"> = { request: "", pairs: 0, fiber: 0 }
  private readonly hash = createHash("sha256")
  private readonly begun = performance.now()
  private answered: number | undefined

  addParams(bytes: Uint8Array): void {
    if (this.params === undefined) this.hash.update(bytes)
  }

  endParams(): void {
    this.params ??= this.hash.digest("hex")
  }

  answer(record: WireRecord): void {
    this.answered ??= performance.now()
    this.sent.add(record)
  }

  end(): void {
    this.ended.openUnsafe()
  }

  exchange(key: string): Exchange {
    return {
      key,
      ...this.handler,
      received: this.received.passed(),
      sent: this.sent.passed(),
      answeredAfter: this.answered === undefined ? undefined : this.answered - this.begun,
      ended: this.ended.isOpen()
    }
  }
}

// Bytes to records

/** How much is kept of a content. */
const maxStart = 64

interface SplitterEvents {
  /** A header is complete. `start` and `padding` of the record are filled later. */
  readonly begin: (requestId: number, record: WireRecord) => void
  readonly content: (requestId: number, record: WireRecord, bytes: Uint8Array) => void
  /** Its content is complete. */
  readonly end: (requestId: number, record: WireRecord) => void
}

interface Partial extends WireRecord {
  start: Uint8Array
  padding: Uint8Array
}

/**
 * Cuts bytes into records, wherever they have been cut by reads and writes. `FastCgiDecoder` gives typed records instead; a
 * picture of the wire takes the headers and the padding as well.
 */
class Splitter {
  private readonly events: SplitterEvents
  private header = new Uint8Array(FastCgiRecord.headerLength)
  private headerSize = 0
  private record: Partial | undefined
  private requestId = 0
  private content = 0
  private padding = 0
  private broken = false

  constructor(events: SplitterEvents) {
    this.events = events
  }

  push(chunk: Uint8Array): void {
    let rest = chunk
    while (rest.length > 0 && !this.broken) {
      if (this.content > 0) rest = this.takeContent(rest)
      else if (this.padding > 0) rest = this.takePadding(rest)
      else rest = this.takeHeader(rest)
    }
  }

  private takeHeader(bytes: Uint8Array): Uint8Array {
    const taken = bytes.subarray(0, this.header.length - this.headerSize)
    this.header.set(taken, this.headerSize)
    this.headerSize += taken.length
    // Whoever speaks something else is not recorded; what the server says to that is its business.
    if (this.header[0] !== FastCgiRecord.version) this.broken = true
    else if (this.headerSize === this.header.length) this.begin()
    return bytes.subarray(taken.length)
  }

  private begin(): void {
    const header = this.header
    this.header = new Uint8Array(FastCgiRecord.headerLength)
    this.headerSize = 0
    this.requestId = header[2]! << 8 | header[3]!
    this.content = header[4]! << 8 | header[5]!
    this.padding = header[6]!
    const nothing = new Uint8Array(0)
    this.record = { header, type: header[1]!, contentLength: this.content, start: nothing, padding: nothing }
    this.events.begin(this.requestId, this.record)
    if (this.content === 0) this.events.end(this.requestId, this.record)
  }

  private takeContent(bytes: Uint8Array): Uint8Array {
    const record = this.record!
    const taken = bytes.subarray(0, this.content)
    const missing = maxStart - record.start.length
    // Copied, because the bytes belong to the connection.
    if (missing > 0) record.start = new Uint8Array([...record.start, ...taken.subarray(0, missing)])
    this.events.content(this.requestId, record, taken)
    this.content -= taken.length
    if (this.content === 0) this.events.end(this.requestId, record)
    return bytes.subarray(taken.length)
  }

  private takePadding(bytes: Uint8Array): Uint8Array {
    const record = this.record!
    const taken = bytes.subarray(0, this.padding)
    record.padding = new Uint8Array([...record.padding, ...taken])
    this.padding -= taken.length
    return bytes.subarray(taken.length)
  }
}
