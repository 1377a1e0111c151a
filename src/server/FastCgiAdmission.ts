/**
 * How much runs at once, as a service: how many connections are read, how many requests are open, and how many handlers run.
 * FCGI_GET_VALUES reports these numbers, so the advertised limits are the enforced ones (SPEC 4.1).
 *
 * A server uses the admission that is provided, or else one of its own with the defaults.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { LinkedItem, LinkedList } from "../connection/internal/linkedList.ts"
import * as FastCgiLimits from "./FastCgiLimits.ts"
import * as Settings from "./internal/settings.ts"

/**
 * Options of `layer`: the limits of `FastCgiLimits.admission`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiAdmissionOptions extends FastCgiLimits.OptionsOf<typeof FastCgiLimits.admission> {}

/**
 * Counts open connections, requests and handlers, and says whether more may begin. All functions are synchronous: they run between
 * two records.
 *
 * **Details**
 *
 * No server requires it, see `fromContext`. Provide one to set limits, to look at the counts, or to share the limits among several
 * servers.
 *
 * @category services
 * @since 0.1.0
 */
export class FastCgiAdmission extends Context.Service<FastCgiAdmission, {
  readonly maxConnections: number | "unbounded"
  readonly maxRequests: number | "unbounded"
  readonly concurrency: number | "unbounded"
  /** Requests that are open now. */
  readonly requestsUnsafe: () => number
  /** Connections that are read now. */
  readonly connectionsUnsafe: () => number
  /**
   * Calls `start` when the connection may be read: at once, or when another one has closed. `start` gets a function, which must be
   * called once when the connection has closed. Returns a function that gives up the place of a connection that still waits.
   */
  readonly connectUnsafe: (start: (release: () => void) => void) => () => void
  /** Counts a request in, or returns false when there are `maxRequests` already. */
  readonly beginUnsafe: () => boolean
  /** Counts a request out that `beginUnsafe` counted in. */
  readonly endUnsafe: () => void
  /**
   * Calls `start` when a handler may run: at once, or when another one has ended. `start` gets a function, which must be called once
   * when the handler has ended. Returns a function that gives up the place of a handler that still waits.
   */
  readonly handleUnsafe: (start: (release: () => void) => void) => () => void
}>()("effect-fastcgi/FastCgiAdmission") {}

/**
 * Creates an admission with the given limits.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeUnsafe = (options?: FastCgiAdmissionOptions): FastCgiAdmission["Service"] => {
  const { admission } = FastCgiLimits
  const maxConnections = options?.maxConnections ?? admission.maxConnections.default
  const maxRequests = options?.maxRequests ?? admission.maxRequests.default
  const concurrency = options?.concurrency ?? admission.concurrency.default
  const connections = new Gate(maxConnections)
  const handlers = new Gate(concurrency)
  const most = maxRequests === "unbounded" ? Infinity : maxRequests
  let requests = 0
  return FastCgiAdmission.of({
    maxConnections,
    maxRequests,
    concurrency,
    requestsUnsafe: () => requests,
    connectionsUnsafe: () => connections.running,
    connectUnsafe: (start) => connections.enter(start),
    beginUnsafe() {
      if (requests >= most) return false
      requests++
      return true
    },
    endUnsafe() {
      requests--
    },
    handleUnsafe: (start) => handlers.enter(start)
  })
}

/**
 * Provides an admission with the given limits.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: FastCgiAdmissionOptions): Layer.Layer<FastCgiAdmission> =>
  Layer.effect(FastCgiAdmission, Effect.sync(() => makeUnsafe(options)))

/**
 * The admission that a server with this context uses: the one in the context, or a new one with the defaults. Servers with the same
 * admission share its limits. Servers without one do not know of each other.
 *
 * @category accessors
 * @since 0.1.0
 */
export const fromContext = <R>(context: Context.Context<R>): FastCgiAdmission["Service"] =>
  Option.getOrElse(Context.getOption(context as Context.Context<never>, FastCgiAdmission), () => makeUnsafe())

/**
 * The options from settings of the environment, each of which may be left out: `FASTCGI_MAX_CONNECTIONS`,
 * `FASTCGI_MAX_REQUESTS` and `FASTCGI_CONCURRENCY`, a whole number or `unbounded`.
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<FastCgiAdmissionOptions> = Settings.limits(FastCgiLimits.admission)

/**
 * Provides an admission with the limits of `config`, or of another `Config` value.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: Config.Wrap<FastCgiAdmissionOptions> = config
): Layer.Layer<FastCgiAdmission, Config.ConfigError> =>
  Layer.effect(FastCgiAdmission, Effect.map(Config.unwrap(options), makeUnsafe))

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// Lets at most `most` in at a time; the others wait in order.
class Gate {
  readonly most: number
  running = 0
  private readonly waiting = new LinkedList<LinkedItem<(release: () => void) => void>>()
  private handingOn = false

  constructor(most: number | "unbounded") {
    this.most = most === "unbounded" ? Infinity : most
  }

  enter(start: (release: () => void) => void): () => void {
    if (this.running < this.most) {
      this.letIn(start)
      return nothing
    }
    const waiter = new LinkedItem(start)
    this.waiting.push(waiter)
    return () => this.waiting.remove(waiter)
  }

  private letIn(start: (release: () => void) => void): void {
    this.running++
    if (this.most === Infinity) return start(this.leave)
    let left = false
    start(() => {
      if (left) return
      left = true
      this.leave()
      this.handOn()
    })
  }

  private readonly leave = (): void => {
    this.running--
  }

  // A started one may be done before `start` returns. Then this loop lets the next one in. Recursion instead would nest as deep as the
  // queue is long, and overflow the stack.
  private handOn(): void {
    if (this.handingOn) return
    this.handingOn = true
    for (let { first } = this.waiting; first !== undefined && this.running < this.most; first = this.waiting.first) {
      this.waiting.remove(first)
      this.letIn(first.value)
    }
    this.handingOn = false
  }
}

const nothing = (): void => {}
