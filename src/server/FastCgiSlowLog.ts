/**
 * A record of every request that takes too long, made while the request runs: where it is, and what it waits for. php-fpm calls this
 * its slow log.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Tracer from "effect/Tracer"
import { type Deadline, Deadlines } from "../connection/internal/deadlines.ts"
import * as Settings from "../settings/settings.ts"
import * as FastCgiMetrics from "./FastCgiMetrics.ts"
import { annotationsOf } from "./internal/handlerFailures.ts"
import type { Observation } from "./internal/observation.ts"
import { frames, makeSpanTree, type SpanTree } from "./internal/slowRequest.ts"
import * as Watch from "./internal/watch.ts"

/**
 * Options of `layer`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiSlowLogOptions {
  /** How long a request may take, from the end of its params on (`request_slowlog_timeout`). */
  readonly slowTimeout: Duration.Input
  /** The most frames of the stack (`request_slowlog_trace_depth`). Default 20. */
  readonly traceDepth?: number | undefined
}

/**
 * Logs a warning for every request that takes longer than `slowTimeout`, on the servers that the layer is provided to, and counts it
 * (`FastCgiMetrics.requestsSlow`).
 *
 * **Details**
 *
 * The record is made when the time is over, so it shows what the request does at that moment. Its annotations are `http.method`,
 * `http.url` without the query, `fastcgi.duration` and `fastcgi.queue_time` in milliseconds, `fastcgi.state` (waiting for its turn,
 * running, or responding), `fastcgi.spans` and `fastcgi.stack`. A request that kept the event loop busy meanwhile is recorded when it
 * has ended.
 *
 * - `fastcgi.spans` is the tree of the spans that the request has begun so far, each with its duration or the time that it has been
 *   open. An HTTP app has a span for the request. `Effect.withSpan` and `Effect.fn` make more. Spans of a `Tracer` that is provided
 *   inside of this layer are not seen.
 * - `fastcgi.stack` is the call stack of the handler's fiber as Effect knows it: the places of its `Effect.withSpan` and `Effect.fn`,
 *   innermost first. Effect keeps no other frames. Fibers that a handler has forked appear only with their spans.
 *
 * **Example** (Requests that take longer than 5 seconds)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import { FastCgiResponse, FastCgiServer, FastCgiSlowLog } from "effect-fastcgi"
 * import { NodeFastCgiListener } from "effect-fastcgi/node"
 *
 * export const HelloLive = FastCgiServer.serve({ responder: Effect.succeed(FastCgiResponse.make("Hello\n")) }).pipe(
 *   Layer.provide(NodeFastCgiListener.layerUnix({ path: "/run/hello.sock" })),
 *   Layer.provide(FastCgiSlowLog.layer({ slowTimeout: "5 seconds" }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: FastCgiSlowLogOptions): Layer.Layer<never> =>
  Layer.unwrap(Effect.map(Tracer.Tracer, (tracer) => {
    const spans = makeSpanTree(tracer)
    return Layer.mergeAll(
      Layer.succeed(Tracer.Tracer, spans.tracer),
      Watch.layer(Watch.places.slowLog, makeWatcher(options, spans))
    )
  }))

/**
 * The options from settings of the environment: `FASTCGI_SLOW_TIMEOUT` (without it there is no log) and
 * `FASTCGI_SLOW_TRACE_DEPTH`. Logs a warning where there is only the latter.
 *
 * @category configuration
 * @since 0.1.0
 */
export const config: Config.Config<FastCgiSlowLogOptions | undefined> = Config.mapEffect(
  Config.all({
    slowTimeout: Settings.duration("FASTCGI_SLOW_TIMEOUT"),
    traceDepth: Settings.count("FASTCGI_SLOW_TRACE_DEPTH")
  }),
  ({ slowTimeout, traceDepth }) => {
    if (slowTimeout !== undefined) return Effect.succeed({ slowTimeout, traceDepth })
    return traceDepth === undefined
      ? Effect.undefined
      : Effect.as(Settings.warnOfIdle("FASTCGI_SLOW_TRACE_DEPTH", "FASTCGI_SLOW_TIMEOUT", "slow log"), undefined)
  }
)

/**
 * Provides the same as `layer`, with the options of `config`. Without `FASTCGI_SLOW_TIMEOUT` it provides no log.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<never, Config.ConfigError> = Layer.unwrap(
  Effect.map(config, (options) => options === undefined ? Layer.empty : layer(options))
)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const makeWatcher = ({ slowTimeout, traceDepth = 20 }: FastCgiSlowLogOptions, spans: SpanTree) =>
  Effect.gen(function*() {
    const context = yield* Effect.context<never>()
    const clock = yield* Clock.Clock
    const timeout = Duration.fromInputUnsafe(slowTimeout)
    const millis = Duration.toMillis(timeout)
    const limit = Duration.format(timeout)
    const run = Effect.runForkWith(context)

    const record = (observation: Observation): void => {
      const { request: { params }, duration, fiber, head, queueTime, startedAt } = observation
      FastCgiMetrics.requestsSlow.updateUnsafe(1, context)
      const begun = clock.currentTimeNanosUnsafe() - BigInt(Math.ceil(duration * 1e6))
      const running = observation.endedAt === undefined ? fiber : undefined
      run(Effect.annotateLogs(Effect.logWarning(`a FastCGI request takes longer than ${limit} (slowTimeout)`), {
        ...annotationsOf(params),
        "fastcgi.duration": Math.round(duration),
        "fastcgi.queue_time": Math.round(queueTime),
        "fastcgi.state": observation.endedAt !== undefined
          ? "ended"
          : head !== undefined
          ? "responding"
          : startedAt !== undefined
          ? "running"
          : "waiting",
        ...(running === undefined ? {} : {
          "fastcgi.spans": spans.of(running, begun, clock.currentTimeNanosUnsafe()),
          "fastcgi.stack": frames(running.cache.stackFrame, traceDepth)
        })
      }))
    }

    const deadlines = new Deadlines<Observation>(millis, clock, run, record)
    const due = new WeakMap<Observation, Deadline<Observation>>()
    yield* Effect.addFinalizer(() => Effect.sync(() => deadlines.stop()))
    const watcher: Watch.Watcher = {
      onAdmitted(observation) {
        const deadline = deadlines.add(observation)
        if (deadline !== undefined) due.set(observation, deadline)
      },
      onEnded(observation) {
        if (!observation.isRefused && deadlines.delete(due.get(observation)) && observation.duration > millis) {
          record(observation)
        }
      }
    }
    return watcher
  })
