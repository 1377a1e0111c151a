/**
 * The observation of one request, while something watches the server: when it came, ran, began to answer and ended, and what it has been
 * answered with. Nothing of it is made where nobody watches.
 */
import type * as Clock from "effect/Clock"
import type * as Fiber from "effect/Fiber"
import { Linked } from "../../connection/internal/linkedList.ts"
import { millisecondsOf } from "../../connection/internal/timers.ts"
import type { ApplicationRequest } from "./applicationRequest.ts"
import type { Refusal } from "./refusals.ts"

// Of an answer of bytes the header block is gathered until its end, up to so many bytes.
const maxHeadSize = 64 * 1024

/** One request that is watched. Times are those of `millisecondsOf`, undefined until it is so far. */
export class Observation extends Linked<Observation> {
  readonly request: ApplicationRequest
  private readonly clock: Clock.Clock
  /** When its params were complete. */
  readonly admittedAt: number
  /** When its handler was started. */
  startedAt: number | undefined
  /** When it was over, where a watcher needs it. */
  endedAt: number | undefined
  /** Bytes of the body of its response. */
  bodySize = 0
  /** The fiber of its handler, unless that ended at once. */
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  /** Whether no handler was started, because a limit was reached. */
  isRefused = false
  /** Those who are told of its last moment. */
  onLast: ReadonlyArray<(observation: Observation) => void> = []
  /** The header block of the response, with its empty line; undefined until there is one. */
  head: string | undefined
  // Of an answer of bytes what there is of it until then.
  private gathered = ""
  private parsedStatus: number | undefined

  constructor(request: ApplicationRequest, clock: Clock.Clock) {
    super()
    this.request = request
    this.clock = clock
    this.admittedAt = millisecondsOf(clock)
  }

  /** The status of the response, 0 when there was none. */
  get status(): number {
    return this.head === undefined ? 0 : this.parsedStatus ??= statusOf(this.head)
  }

  /** How long it has taken, in milliseconds. */
  get duration(): number {
    return (this.endedAt ?? millisecondsOf(this.clock)) - this.admittedAt
  }

  /** How long its handler has waited to be started (`concurrency`), in milliseconds. */
  get queueTime(): number {
    return (this.startedAt ?? this.endedAt ?? millisecondsOf(this.clock)) - this.admittedAt
  }

  onStart(waited: boolean): void {
    this.startedAt = waited ? millisecondsOf(this.clock) : this.admittedAt
  }

  onHead(head: string, bodyLength: number): void {
    this.head = head
    this.bodySize = bodyLength
  }

  onStdout(content: Uint8Array): void {
    if (this.head === undefined) this.gather(content)
    else this.bodySize += content.length
  }

  /** Its answer is complete, and END_REQUEST follows: the last moment for its STDERR. */
  last(): void {
    for (const tell of this.onLast) tell(this)
  }

  onEnd(): void {
    this.endedAt = millisecondsOf(this.clock)
  }

  /** Is the whole of a request that no handler has seen. */
  refuse({ body, head }: Refusal): this {
    this.isRefused = true
    this.onHead(head, body.length)
    this.onEnd()
    return this
  }

  private gather(content: Uint8Array): void {
    let text = ""
    for (let i = 0; i < content.length && i < maxHeadSize; i++) text += String.fromCharCode(content[i])
    const before = this.gathered.length
    const head = this.gathered + text
    const end = /\r?\n\r?\n/.exec(head)
    if (end === null && head.length < maxHeadSize) {
      this.gathered = head
      return
    }
    const length = end === null ? head.length : end.index + end[0].length
    this.onHead(head.slice(0, length), before + content.length - length)
  }
}

// A header block without a Status line is a 200, or a redirect (RFC 3875 6.2).
const statusOf = (head: string): number => {
  if (head.startsWith("Status: ")) return threeDigits(head, "Status: ".length)
  const status = /^status:[ \t]*(\d{3})/im.exec(head)
  return status !== null ? Number(status[1]) : /^location:/im.test(head) ? 302 : 200
}

// A number of three digits there, 0 where there is none.
const threeDigits = (text: string, start: number): number => {
  let number = 0
  for (let at = start; at < start + 3; at++) {
    const digit = text.charCodeAt(at) - 0x30
    if (!(digit >= 0 && digit <= 9)) return 0
    number = number * 10 + digit
  }
  return number
}
