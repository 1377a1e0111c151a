/**
 * The options of a server: the limits and timeouts of `FastCgiLimits.server`, and how it behaves.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Settings from "../settings/settings.ts"
import * as FastCgiLimits from "./FastCgiLimits.ts"
import type { ConnectionLimits } from "./internal/application.ts"
import { limits } from "./internal/settings.ts"

/**
 * Options of a server. What the limits and timeouts are, with their defaults, is said at `FastCgiLimits.server`. Sizes are
 * bytes.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiServerOptions extends FastCgiLimits.OptionsOf<typeof FastCgiLimits.server> {
  /**
   * Whether requests go on when the peer half-closes its connection. By default a half-close aborts them, because nginx, lighttpd and
   * Caddy have no other way to say that their client is gone. A request that is complete and can be answered at once is answered in
   * any case.
   */
  readonly allowHalfOpen?: boolean | undefined
  /** Whether a connection may carry several requests at a time. `false` answers CANT_MPX_CONN to the second one. Default true. */
  readonly multiplexing?: boolean | undefined
  /**
   * Further variables that FCGI_GET_VALUES answers. FCGI_MAX_CONNS, FCGI_MAX_REQS and FCGI_MPXS_CONNS always have the enforced values
   * (SPEC 4.1). Default none.
   */
  readonly values?: Readonly<Record<string, string>> | undefined
  /**
   * How requests above `maxRequests` are refused: with a complete answer, `Status: 503`, or with the protocol status OVERLOADED, on which
   * HAProxy closes the connection with all its requests. An Authorizer gets a denial in both cases. Default `"status"`.
   */
  readonly overload?: "status" | "protocolStatus" | undefined
  /** Interrupts running requests at once when shutting down, and leaves the listener listening. Default false. */
  readonly disablePreemptiveShutdown?: boolean | undefined
}

/**
 * The options from settings of the environment, each of which may be left out: `FASTCGI_MAX_PARAMS_SIZE` for
 * `maxParamsSize` and so on. Sizes are bytes or have a unit (`64 KiB`), durations have a unit (`30 seconds`).
 *
 * **Example** (A server that is configured by its environment)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import { FastCgiResponse, FastCgiServer, FastCgiServerOptions } from "effect-fastcgi"
 *
 * export const HelloLive = Layer.unwrap(Effect.map(FastCgiServerOptions.config, (options) =>
 *   FastCgiServer.serve({ responder: Effect.succeed(FastCgiResponse.make("Hello\n")) }, options)))
 * ```
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<FastCgiServerOptions> = Config.map(
  Config.all([
    limits(FastCgiLimits.server),
    Config.all({
      allowHalfOpen: Settings.flag("FASTCGI_ALLOW_HALF_OPEN"),
      multiplexing: Settings.flag("FASTCGI_MULTIPLEXING"),
      overload: Settings.oneOf("FASTCGI_OVERLOAD", ["status", "protocolStatus"]),
      disablePreemptiveShutdown: Settings.flag("FASTCGI_DISABLE_PREEMPTIVE_SHUTDOWN")
    })
  ]),
  ([amounts, others]) => ({ ...amounts, ...others })
)

/** @internal */
export const toLimits = (
  options: FastCgiServerOptions | undefined
): ConnectionLimits & { readonly [Name in keyof typeof FastCgiLimits.server]: number } => {
  const limits = FastCgiLimits.resolve(FastCgiLimits.server, options)
  return {
    ...limits,
    // With a mark of 0, no handler could ever write.
    outputHighWaterMark: Math.max(limits.outputHighWaterMark, 1),
    allowHalfOpen: options?.allowHalfOpen ?? false
  }
}
