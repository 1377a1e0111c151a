/**
 * How far the web server's end of a connection reads ahead of those who read its answers. Alone on the connection, a reader
 * may take its time. With others waiting behind it, it may not.
 */
import * as Duration from "effect/Duration"
import type { FastCgiTransport } from "../../connection/FastCgiTransport.ts"
import { ReadAhead } from "../../connection/internal/readAhead.ts"
import type { Timers } from "../../connection/internal/timers.ts"
import type { ConnectionOptions } from "./clientRequest.ts"

/** What the policy looks at, and what it has done. */
interface AnswerPolicyOwner {
  readonly requests: { readonly size: number }
  /** Requests that somebody waits for. */
  readonly active: number
  /** Aborts the request whose reader holds the others up most. */
  readonly abortStalled: () => void
}

/** Decides when the web server's end reads. */
export class AnswerPolicy extends ReadAhead {
  private readonly owner: AnswerPolicyOwner
  private readonly options: ConnectionOptions

  constructor(
    transport: FastCgiTransport,
    owner: AnswerPolicyOwner,
    options: ConnectionOptions,
    timers: Timers<"stall">
  ) {
    super(transport, Duration.toMillis(options.stallTimeout), timers)
    this.owner = owner
    this.options = options
  }

  protected get limit(): number {
    return this.owner.requests.size > 1 ? this.options.maxUnreadMultiplexed : this.options.maxUnread
  }

  protected get holdsUp(): boolean {
    return this.owner.active > 1
  }

  protected get progress(): number {
    return 0
  }

  protected isStalled(): boolean {
    return this.holdsUp
  }

  protected drop(): void {
    this.owner.abortStalled()
  }
}
