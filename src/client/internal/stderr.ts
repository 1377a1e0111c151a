/**
 * What an application writes to STDERR while its answer is waited for: logged in a bounded amount, kept for the error that the
 * request may fail with, and searched for what says that it has failed.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { FastCgiClientRequest } from "../FastCgiClient.ts"
import { FastCgiClientError } from "../FastCgiClientError.ts"
import type { ClientRequest } from "./clientRequest.ts"
import { annotationsOf, printable } from "./log.ts"

/** STDERR of one request. */
export class Stderr {
  private readonly request: ClientRequest
  private readonly params: FastCgiClientRequest["params"]
  private readonly wanted: ReadonlyArray<string>
  // Bytes of the longest of them.
  private readonly longest: number
  // The end of what has come, of a request that has written anything.
  private kept: Uint8Array = nothing
  private length = 0
  // How much of STDOUT had arrived when one of the texts was found.
  private foundAt = Infinity

  /** `start` runs the log, which is worth a fiber only where there is something to log. */
  constructor(
    request: ClientRequest,
    params: FastCgiClientRequest["params"],
    wanted: ReadonlyArray<string>,
    start: (log: Effect.Effect<void>) => void
  ) {
    this.request = request
    this.params = params
    this.wanted = wanted
    this.longest = wanted.length === 0 ? 0 : Math.max(...wanted.map((text) => encoder.encode(text).length))
    let started = false
    request.stderr.observe((content) => {
      this.keep(content)
      if (started) return
      started = true
      // It waits for what is noted here, and gets that with the rest of the read.
      start(this.log)
    })
  }

  /** Why the request has failed, where the application has said so before so much of STDOUT. */
  failureBefore(size: number): FastCgiClientError | undefined {
    if (this.foundAt >= size) return undefined
    const { text } = this
    const message = `the application failed: ${text}`
    return new FastCgiClientError({ reason: { _tag: "ApplicationError" }, message, stderr: text })
  }

  /** An error with what the application has said before. */
  described(error: FastCgiClientError): FastCgiClientError {
    if (this.length === 0 || error.stderr !== undefined) return error
    const { cause, message, reason } = error
    const { text } = this
    return new FastCgiClientError({
      reason,
      message: `${message}; it wrote to STDERR: ${text}`,
      stderr: text,
      ...(cause === undefined ? undefined : { cause })
    })
  }

  private get text(): string {
    const kept = this.kept.subarray(Math.max(0, this.length - maxKept), this.length)
    return decoder.decode(kept).trim().split(/\r?\n/).map(printable).join("\n")
  }

  private keep(content: Uint8Array): void {
    if (this.foundAt === Infinity && this.wanted.length > 0) {
      const text = decoder.decode(this.withBefore(content))
      if (this.wanted.some((wanted) => text.includes(wanted))) this.foundAt = this.request.received
    }
    if (this.length === 0) this.kept = new Uint8Array(2 * maxKept)
    const end = content.subarray(Math.max(0, content.length - maxKept))
    if (this.length + end.length > this.kept.length) {
      this.kept.copyWithin(0, this.length - maxKept, this.length)
      this.length = maxKept
    }
    this.kept.set(end, this.length)
    this.length += end.length
  }

  // A text may have begun before.
  private withBefore(content: Uint8Array): Uint8Array {
    const before = this.kept.subarray(Math.max(0, this.length - this.longest + 1), this.length)
    if (before.length === 0) return content
    const searched = new Uint8Array(before.length + content.length)
    searched.set(before)
    searched.set(content, before.length)
    return searched
  }

  // As warnings, a line each; what is left without a line end comes last. Reads to the end in any case.
  private get log(): Effect.Effect<void> {
    const lines = new Lines()
    const annotations = { fastcgi: "stderr", ...annotationsOf(this.params) }
    const log = (messages: ReadonlyArray<string>): Effect.Effect<void> =>
      messages.length === 0 ? Effect.void : Effect.annotateLogs(
        Effect.forEach(messages, (line) => Effect.logWarning(line), { discard: true }),
        annotations
      )
    const read: Effect.Effect<void> = Effect.suspend(() =>
      Effect.matchCauseEffect(this.request.stderr.pull, {
        onSuccess: (chunks) =>
          Effect.andThen(Effect.flatMap(Clock.currentTimeMillis, (now) => log(lines.take(chunks, now))), read),
        onFailure: () => log(lines.end())
      })
    )
    return read
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const nothing = new Uint8Array(0)

// Bytes of STDERR that an error tells: the last ones, which say why.
const maxKept = 4096

// Bytes of a line; a longer one is logged in pieces.
const maxLine = 8192

// What may be logged of a request in ten seconds, and what a line costs beyond its text: the logger's own words.
const maxLogged = 64 * 1024
const interval = 10_000
const lineCost = 128

const decoder = new TextDecoder()
const encoder = new TextEncoder()

class Lines {
  private readonly pending = new Uint8Array(maxLine)
  private length = 0
  private messages: Array<string> = []
  private since = -Infinity
  private logged = 0
  private leftOut = 0

  /** The lines that chunks complete, as far as they may be logged now. */
  take(chunks: ReadonlyArray<Uint8Array>, now: number): ReadonlyArray<string> {
    if (now - this.since >= interval) {
      this.since = now
      this.logged = 0
      this.tellLeftOut()
    }
    for (const chunk of chunks) this.split(chunk)
    return this.flush()
  }

  end(): ReadonlyArray<string> {
    if (this.logged < maxLogged) this.line()
    else this.leftOut += this.length
    this.tellLeftOut()
    return this.flush()
  }

  private split(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length;) {
      if (this.logged >= maxLogged) {
        this.leftOut += this.length + chunk.length - at
        this.length = 0
        return
      }
      // Measured, an empty line that went the way of the others would cost a hundred bytes of them.
      if (this.length === 0 && chunk[at] === 0x0a) {
        at++
        continue
      }
      const newline = chunk.indexOf(0x0a, at)
      const end = Math.min(newline === -1 ? chunk.length : newline, at + maxLine - this.length)
      this.pending.set(chunk.subarray(at, end), this.length)
      this.length += end - at
      at = end
      if (at === newline) {
        this.line()
        at++
      } else if (this.length === maxLine) {
        this.line()
      }
    }
  }

  private line(): void {
    const text = decoder.decode(this.pending.subarray(0, this.length))
    this.length = 0
    const line = text.endsWith("\r") ? text.slice(0, -1) : text
    if (line === "") return
    const message = printable(line)
    this.logged += message.length + lineCost
    this.messages.push(message)
  }

  private tellLeftOut(): void {
    if (this.leftOut > 0) this.messages.push(`${this.leftOut} bytes of STDERR have been left out`)
    this.leftOut = 0
  }

  private flush(): ReadonlyArray<string> {
    const messages = this.messages
    this.messages = []
    return messages
  }
}
