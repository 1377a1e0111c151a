/**
 * How far the web server's end of a connection reads ahead of those who read its answers. Alone on the connection, a reader
 * may take its time. With others waiting behind it, it may not.
 */
import * as Duration from "effect/Duration"
import { ReadAhead } from "../../connection/internal/readAhead.ts"
import type { Timers } from "../../connection/internal/timers.ts"
import type { ConnectionOptions } from "./clientRequest.ts"
import type { WebServerEnd } from "./webServerEnd.ts"

/** Decides when the web server's end reads. */
export class AnswerPolicy extends ReadAhead {
  declare protected readonly owner: WebServerEnd
  private readonly options: ConnectionOptions

  constructor(owner: WebServerEnd, options: ConnectionOptions, timers: Timers<"stall">) {
    super(owner, Duration.toMillis(options.stallTimeout), timers)
    this.options = options
  }

  protected get limit(): number {
    return this.owner.requests.size > 1 ? this.options.maxUnreadMultiplexed : this.options.maxUnread
  }

  protected get holdsUp(): boolean {
    return this.owner.active > 1
  }

  protected isStalled(): boolean {
    return this.holdsUp
  }

  protected drop(): void {
    this.owner.abortStalled()
  }
}
