/**
 * The processes that serve on the same sockets under one supervisor, as one of them sees the others: the supervisor's figures, and the
 * reports of each worker. A process without a supervisor is the only one.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"

/**
 * One worker, as its supervisor knows it.
 *
 * - `worker`: its place, from 1; a successor takes the place of the worker that it replaces
 * - `state`: `starting` until its app serves, `serving`, then `draining` while it finishes its requests
 * - `startedAt`: milliseconds since 1970
 * - `requests`: FastCGI requests that it has taken so far; `requestsOpen` of them have not ended
 * - `memory`: resident set, bytes
 * - `eventLoopDelay`: the longest delay of its event loop in the last second, milliseconds
 * - `cpu`: user and system time so far, milliseconds
 *
 * @category schemas
 * @since 0.1.0
 */
export const WorkerStatus = Schema.Struct({
  worker: Schema.Int,
  pid: Schema.Int,
  state: Schema.Literals(["starting", "serving", "draining"]),
  startedAt: Schema.Number,
  requests: Schema.Number,
  requestsOpen: Schema.Number,
  connections: Schema.Number,
  memory: Schema.Number,
  eventLoopDelay: Schema.Number,
  cpu: Schema.Number
})

/**
 * @category models
 * @since 0.1.0
 */
export interface WorkerStatus extends Schema.Schema.Type<typeof WorkerStatus> {}

/**
 * The figures of a supervisor.
 *
 * - `restarts`: workers that ended by themselves and were replaced
 * - `recycled`: workers replaced because of `maxRequestsPerWorker` or `maxMemoryPerWorker`
 * - `unresponsive`: workers killed because their event loop stood still
 * - `reloads`: reloads that have succeeded
 * - `requests`: FastCGI requests that all workers have taken so far, including workers that have ended
 *
 * @category schemas
 * @since 0.1.0
 */
export const SupervisorStatus = Schema.Struct({
  pid: Schema.Int,
  startedAt: Schema.Number,
  restarts: Schema.Int,
  recycled: Schema.Int,
  unresponsive: Schema.Int,
  reloads: Schema.Int,
  requests: Schema.Number,
  workers: Schema.Array(WorkerStatus)
})

/**
 * @category models
 * @since 0.1.0
 */
export interface SupervisorStatus extends Schema.Schema.Type<typeof SupervisorStatus> {}

/**
 * A kind of report of workers: a name that is unique in the app, and the shape of a report, as JSON.
 *
 * @category models
 * @since 0.1.0
 */
export interface Topic<A> {
  readonly name: string
  readonly schema: Schema.Codec<A, Schema.Json>
}

/**
 * Creates a topic.
 *
 * @category constructors
 * @since 0.1.0
 */
export const topic = <A>(name: string, schema: Schema.Codec<A, Schema.Json>): Topic<A> => ({ name, schema })

/**
 * The report of one worker, with its place (0 in a process without a supervisor).
 *
 * @category models
 * @since 0.1.0
 */
export interface Report<A> {
  readonly worker: number
  readonly value: A
}

/**
 * How a process reaches the others. Its methods take reports as they are sent; `report` and `gather` take topics.
 *
 * @category services
 * @since 0.1.0
 */
export interface FastCgiWorkers {
  /** The supervisor's figures; none in a process without a supervisor, or whose supervisor does not answer. */
  readonly supervisor: Effect.Effect<Option.Option<SupervisorStatus>>
  readonly register: (name: string, report: Effect.Effect<Schema.Json>) => Effect.Effect<void, never, Scope.Scope>
  readonly ask: (name: string) => Effect.Effect<ReadonlyArray<Report<Schema.Json>>>
}

/**
 * The workers of this process's supervisor. `NodeFastCgiWorkers.runMain` provides it. Without it, the process is alone.
 *
 * @category services
 * @since 0.1.0
 */
export const FastCgiWorkers: Context.Reference<FastCgiWorkers> = Context.Reference<FastCgiWorkers>(
  "effect-fastcgi/FastCgiWorkers",
  { defaultValue: () => alone() }
)

/**
 * The supervisor's figures; none where the process has no supervisor.
 *
 * @category accessors
 * @since 0.1.0
 */
export const supervisor: Effect.Effect<Option.Option<SupervisorStatus>> = Effect.flatMap(
  FastCgiWorkers,
  (workers) => workers.supervisor
)

/**
 * Sets this process's report for the topic, until the scope closes. A later report replaces an earlier one.
 *
 * @category operations
 * @since 0.1.0
 */
export const report = <A, R>(
  topic: Topic<A>,
  value: Effect.Effect<A, never, R>
): Effect.Effect<void, never, R | Scope.Scope> => {
  const encode = Schema.encodeEffect(topic.schema)
  return Effect.contextWith((context: Context.Context<R | Scope.Scope>) =>
    Effect.flatMap(FastCgiWorkers, (workers) =>
      workers.register(
        topic.name,
        Effect.provideContext(Effect.orDie(Effect.flatMap(value, (value) => encode(value))), context)
      ))
  )
}

/**
 * Asks all workers for their reports on the topic, this one included. Workers without a report, or without an answer within a second,
 * are left out: `supervisor` lists all workers.
 *
 * **Example** (The size of all workers' caches)
 *
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Schema from "effect/Schema"
 * import { FastCgiWorkers } from "effect-fastcgi"
 *
 * const Cached = FastCgiWorkers.topic("cached", Schema.Struct({ entries: Schema.Int }))
 *
 * export const reporting = FastCgiWorkers.report(Cached, Effect.succeed({ entries: 3 }))
 *
 * export const total = Effect.map(
 *   FastCgiWorkers.gather(Cached),
 *   (reports) => reports.reduce((sum, { value }) => sum + value.entries, 0)
 * )
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const gather = <A>(topic: Topic<A>): Effect.Effect<ReadonlyArray<Report<A>>> => {
  const decode = Schema.decodeOption(topic.schema)
  return Effect.flatMap(FastCgiWorkers, (workers) =>
    Effect.map(workers.ask(topic.name), (reports) =>
      // While a reload goes on, another version of the app may report another shape.
      reports.flatMap(({ value, worker }) =>
        Option.match(decode(value), {
          onNone: () => [],
          onSome: (value) => [{ worker, value }]
        })
      )))
}

/**
 * The reports of a process, by the name of the topic.
 *
 * @internal
 */
export class Reporters {
  private readonly reporters = new Map<string, Effect.Effect<Schema.Json>>()

  readonly register: FastCgiWorkers["register"] = (name, report) =>
    Effect.asVoid(Effect.acquireRelease(
      Effect.sync(() => this.reporters.set(name, report)),
      () =>
        Effect.sync(() => {
          if (this.reporters.get(name) === report) this.reporters.delete(name)
        })
    ))

  /** The report; none without a report on the topic. */
  readonly report = (name: string): Effect.Effect<Option.Option<Schema.Json>> => {
    const reporter = this.reporters.get(name)
    return reporter === undefined ? Effect.succeedNone : Effect.asSome(reporter)
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const alone = (): FastCgiWorkers => {
  const reporters = new Reporters()
  return {
    supervisor: Effect.succeedNone,
    register: reporters.register,
    ask: (name) =>
      Effect.map(
        reporters.report(name),
        (value) => Option.match(value, { onNone: () => [], onSome: (value) => [{ worker: 0, value }] })
      )
  }
}
