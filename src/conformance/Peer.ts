/**
 * The web server's end of a connection, as the suite plays it: sends bytes, keeps every record that comes, and says in
 * words what came instead of what had to come.
 */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { FastCgiTransport } from "../connection/FastCgiTransport.ts"
import { ProtocolStatus, RecordType } from "../protocol/FastCgiRecord.ts"
import * as Wire from "./wire.ts"

/** The server did not do what the case asks for. The message says what came. */
export class Unmet extends Data.TaggedError("Unmet")<{ readonly message: string }> {
  /** The same, with what was tried in front. */
  prefixed(what: string): Unmet {
    return new Unmet({ message: `${what}: ${this.message}` })
  }
}

/** The case cannot be tried on this server. The message says why. */
export class NotApplicable extends Data.TaggedError("NotApplicable")<{ readonly message: string }> {}

/** How the waiting for END_REQUEST ended. */
export type Outcome = "ended" | "closed" | "reset" | "garbled" | "silence"

/** Everything that came for a request. */
export interface Reply {
  readonly outcome: Outcome
  readonly stdout: Uint8Array
  readonly stderr: Uint8Array
  /** Whether the empty record that ends STDOUT has come. */
  readonly stdoutEnded: boolean
  readonly appStatus: number
  readonly protocolStatus: number
  /** What `Status:` says, 200 without it; `undefined` when there is no header block. */
  readonly status: number | undefined
  readonly headers: string
  readonly body: Uint8Array
  readonly records: ReadonlyArray<Wire.WireRecord>
}

const noReply = (outcome: Outcome): Reply => ({
  outcome,
  stdout: Wire.nothing,
  stderr: Wire.nothing,
  stdoutEnded: false,
  appStatus: 0,
  protocolStatus: 0,
  status: undefined,
  headers: "",
  body: Wire.nothing,
  records: []
})

/** One connection to the server. */
export class Peer {
  /** Everything that has come, in order. */
  readonly log: Array<Wire.WireRecord> = []
  /** What has become of the connection. */
  state: "open" | "closed" | "reset" | "garbled" = "open"
  readonly deadline: Duration.Duration
  private readonly transport: FastCgiTransport
  private readonly splitter = new Wire.Splitter()
  // Where in the log the next reply of an id begins, and the next management record.
  private readonly from = new Map<number, number>()
  private managementFrom = 0
  // What waits until everything sent has been taken.
  private roomWaiter: (() => void) | undefined
  private gone = false

  constructor(transport: FastCgiTransport, deadline: Duration.Duration) {
    this.transport = transport
    this.deadline = deadline
    const wake = () => {
      const waiter = this.roomWaiter
      this.roomWaiter = undefined
      waiter?.()
    }
    transport.observeUnsafe({
      onDrain: wake,
      onClose: () => {
        this.gone = true
        wake()
      }
    })
  }

  /** Sends the bytes in one write. */
  send(...bytes: ReadonlyArray<Uint8Array>): Effect.Effect<void> {
    return Effect.sync(() => this.transport.writeUnsafe([Wire.concat(bytes)]))
  }

  /** Sends the bytes piece by piece, with a pause after each so that the server can read it alone. */
  sendCut(bytes: Uint8Array, size: number): Effect.Effect<void> {
    const next = (at: number): Effect.Effect<void> =>
      Effect.suspend(() => {
        this.transport.writeUnsafe([bytes.slice(at, at + size)])
        return at + size >= bytes.length ? Effect.void : Effect.andThen(Effect.sleep(1), next(at + size))
      })
    return next(0)
  }

  /** Sends much, waiting whenever the server does not take it. Ends early when the connection does. */
  sendAll(chunks: Iterable<Uint8Array>): Effect.Effect<void> {
    const iterator = chunks[Symbol.iterator]()
    const next: Effect.Effect<void> = Effect.suspend(() => {
      while (!this.gone && this.state === "open") {
        const chunk = iterator.next()
        if (chunk.done === true) return this.room
        this.transport.writeUnsafe([chunk.value])
        if (this.transport.pendingUnsafe() >= maxPending) return Effect.andThen(this.room, next)
      }
      return Effect.void
    })
    return next
  }

  /** Whether the connection is gone, whether or not that has been read. */
  get lost(): boolean {
    return this.gone || this.state !== "open"
  }

  /** Half-closes. */
  readonly end = Effect.sync(() => this.transport.endUnsafe())

  /** Closes both directions. */
  readonly close = Effect.sync(() => this.transport.destroyUnsafe())

  /** Everything until END_REQUEST of the id, or until the connection or the time ends. */
  reply(requestId = 1, deadline = this.deadline): Effect.Effect<Reply> {
    return Effect.map(
      this.until(() => this.takeReply(requestId), deadline),
      (reply) => reply ?? this.makeReply(requestId, this.log.length, this.state === "open" ? "silence" : this.state)
    )
  }

  /** Waits for a record that `look` finds something in, from the start of the log on. */
  find<A>(look: (record: Wire.WireRecord) => A | undefined, deadline = this.deadline): Effect.Effect<A | undefined> {
    return this.until(() => {
      for (const record of this.log) {
        const found = look(record)
        if (found !== undefined) return found
      }
      return undefined
    }, deadline)
  }

  /** The next record with id 0. Fails when none comes. */
  readonly management: Effect.Effect<Wire.WireRecord, Unmet> = Effect.suspend(() =>
    Effect.flatMap(
      this.until(() => {
        for (; this.managementFrom < this.log.length; this.managementFrom++) {
          const record = this.log[this.managementFrom]
          if (record.requestId === 0) {
            this.managementFrom++
            return record
          }
        }
        return undefined
      }, this.deadline),
      (record) => record === undefined ? Effect.fail(this.silent("no management record came")) : Effect.succeed(record)
    )
  )

  /** Waits until the server has closed its end. */
  ended(deadline = this.deadline): Effect.Effect<"open" | "closed" | "reset" | "garbled"> {
    return Effect.map(this.until(() => undefined, deadline), () => this.state)
  }

  /** What comes within the time. */
  during(time: Duration.Duration): Effect.Effect<ReadonlyArray<Wire.WireRecord>> {
    return Effect.suspend(() => {
      const start = this.log.length
      return Effect.map(this.until(() => undefined, time), () => this.log.slice(start))
    })
  }

  /** Waits for what `look` finds; `undefined` when the connection or the time ends first. */
  until<A>(look: () => A | undefined, deadline: Duration.Duration): Effect.Effect<A | undefined> {
    const next: Effect.Effect<A | undefined> = Effect.suspend(() => {
      const found = look()
      return found !== undefined || this.state !== "open"
        ? Effect.succeed(found)
        : Effect.andThen(this.read, next)
    })
    return Effect.map(Effect.timeoutOption(next, deadline), Option.getOrUndefined)
  }

  /** Says that nothing came, and what happened instead. */
  silent(what: string): Unmet {
    return new Unmet({
      message: this.state === "open" ? `${what} within ${Duration.format(this.deadline)}` : `${what}: ${this.state}`
    })
  }

  private get room(): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      if (this.gone || this.transport.pendingUnsafe() === 0) resume(Effect.void)
      else this.roomWaiter = () => resume(Effect.void)
    })
  }

  private readonly read: Effect.Effect<void> = Effect.suspend(() =>
    Effect.matchEffect(this.transport.pull, {
      onSuccess: (chunks) => {
        for (const chunk of chunks) this.splitter.push(chunk)
        for (let record = this.splitter.next(); record !== undefined; record = this.splitter.next()) {
          this.log.push(record)
          if (record.version !== 1) this.state = "garbled"
        }
        if (this.splitter.restFirst !== undefined && this.splitter.restFirst !== 1) this.state = "garbled"
        return Effect.void
      },
      onFailure: (error) => {
        this.state = this.splitter.rest > 0 ? "garbled" : Cause.isDone(error) ? "closed" : "reset"
        return Effect.void
      }
    })
  )

  private takeReply(requestId: number): Reply | undefined {
    for (let at = this.from.get(requestId) ?? 0; at < this.log.length; at++) {
      const record = this.log[at]
      if (record.requestId === requestId && record.type === RecordType.EndRequest) {
        const reply = this.makeReply(requestId, at + 1, "ended")
        this.from.set(requestId, at + 1)
        return reply
      }
    }
    return undefined
  }

  private makeReply(requestId: number, to: number, outcome: Outcome): Reply {
    const records = this.log.slice(this.from.get(requestId) ?? 0, to).filter((one) => one.requestId === requestId)
    if (records.length === 0) return noReply(outcome)
    const stdout = contentOf(records, RecordType.Stdout)
    const end = outcome === "ended" ? records[records.length - 1].content : undefined
    const text = Wire.latin1(stdout.subarray(0, 64 * 1024))
    const border = /\r?\n\r?\n/.exec(text)
    const headers = border === null ? "" : text.slice(0, border.index)
    const status = /^Status:\s*(\d{3})/im.exec(headers)
    return {
      outcome,
      records,
      stdout,
      stderr: contentOf(records, RecordType.Stderr),
      stdoutEnded: records.some((record) => record.type === RecordType.Stdout && record.content.length === 0),
      appStatus: end === undefined ? 0 : (end[0] << 24 | end[1] << 16 | end[2] << 8 | end[3]) >>> 0,
      protocolStatus: end === undefined ? 0 : end[4],
      status: border === null ? undefined : status === null ? 200 : Number(status[1]),
      headers,
      body: border === null ? Wire.nothing : stdout.subarray(border.index + border[0].length)
    }
  }
}

/** All bytes of a stream among the records. */
export const contentOf = (records: ReadonlyArray<Wire.WireRecord>, type: number): Uint8Array =>
  Wire.concat(records.filter((record) => record.type === type).map((record) => record.content))

const statusNames: Readonly<Record<number, string>> = {
  [ProtocolStatus.RequestComplete]: "REQUEST_COMPLETE",
  [ProtocolStatus.CantMpxConn]: "CANT_MPX_CONN",
  [ProtocolStatus.Overloaded]: "OVERLOADED",
  [ProtocolStatus.UnknownRole]: "UNKNOWN_ROLE"
}

/** The reply in a few words. */
export const describe = (reply: Reply): string => {
  const size = reply.body.length
  const output = reply.status !== undefined
    ? `${reply.status} with ${size === 1 ? "1 byte" : `${size} bytes`}`
    : reply.stdout.length > 0
    ? `${reply.stdout.length} bytes without a header block`
    : "no output"
  switch (reply.outcome) {
    case "ended":
      return reply.protocolStatus === ProtocolStatus.RequestComplete
        ? `${output}${reply.appStatus === 0 ? "" : `, appStatus ${reply.appStatus}`}`
        : statusNames[reply.protocolStatus] ?? `protocolStatus ${reply.protocolStatus}`
    case "silence":
      return reply.stdout.length === 0 ? "no answer" : `${output}, then no END_REQUEST`
    case "closed":
    case "reset": {
      const how = reply.outcome === "closed" ? "connection closed" : "connection reset"
      return reply.stdout.length === 0 ? `${how} without an answer` : `${output}, then ${how}`
    }
    case "garbled":
      return "bytes that are no FastCGI records"
  }
}

// Beyond this many bytes that the server has not taken, sending waits.
const maxPending = 1024 * 1024
