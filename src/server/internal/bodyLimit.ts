/**
 * The limit of a server on the bodies that its handlers read, which is counted and logged when it is reached.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { FastCgiParams } from "../../protocol/FastCgiParams.ts"
import * as FastCgiLimits from "../FastCgiLimits.ts"
import { limitsReached } from "../FastCgiMetrics.ts"
import { limited } from "../FastCgiRequest.ts"
import type { FastCgiRequestError } from "../FastCgiRequestError.ts"
import type { FastCgiServerOptions } from "../FastCgiServerOptions.ts"
import { LimitedLog } from "./limitedLog.ts"

/** One for all requests of a server. */
export class BodyLimit {
  readonly maxBodySize: number
  private server: Context.Context<never> | undefined
  private log: LimitedLog | undefined

  constructor(options: FastCgiServerOptions | undefined) {
    this.maxBodySize = FastCgiLimits.resolve(FastCgiLimits.server, options).maxBodySize
  }

  /** Says where the server counts and logs. A request's own context would be kept for as long as the server lives. */
  within<R>(context: Context.Context<R>): this {
    this.server ??= context as Context.Context<never>
    return this
  }

  /** Runs when a body is longer. */
  readonly exceeded: Effect.Effect<void> = Effect.sync(() => {
    const context = this.server ?? Context.empty()
    limitsReached.updateUnsafe("maxBodySize", context)
    this.log ??= new LimitedLog(context)
    this.log.log(
      "maxBodySize",
      Effect.logWarning(`a FastCGI request has a body of more than ${this.maxBodySize} bytes (maxBodySize)`)
    )
  })

  /** The body, limited. */
  apply(
    body: Stream.Stream<Uint8Array, FastCgiRequestError>,
    params: FastCgiParams
  ): Stream.Stream<Uint8Array, FastCgiRequestError> {
    return this.maxBodySize === Infinity ? body : limited(body, params, this.maxBodySize, this.exceeded)
  }
}
