/**
 * Counters: every one of them is an entity, which lives in one worker at a time, whichever worker is asked.
 */
import * as ClusterSchema from "effect/cluster/ClusterSchema"
import * as Entity from "effect/cluster/Entity"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Rpc from "effect/rpc/Rpc"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"

/** What a counter says. */
export const State = Schema.Struct({
  value: Schema.Int,
  /** The worker in which it lives, by its address in the cluster. */
  home: Schema.String
})

/** The protocol. An `Add` that is sent again with the same key, because its answer was lost, counts once. */
export const Counter = Entity.make("Counter", [
  Rpc.make("Add", {
    payload: { key: Schema.String, amount: Schema.Int },
    success: State,
    primaryKey: ({ key }) => key
  })
    // Kept in the database until it has been answered, with the answer.
    .annotate(ClusterSchema.Persisted, true)
    // What the handler writes and its answer are written together or not at all.
    .annotate(ClusterSchema.WithTransaction, true),
  Rpc.make("Get", { success: State })
])

/** Workers that start at the same time create it at the same time, and PostgreSQL fails all but one of them. */
const table = Layer.effectDiscard(
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL)`
  ).pipe(Effect.retry({ times: 3 }))
)

/**
 * A counter takes one message at a time, so it needs no lock. What it knows is in the database before it says so: when its worker is
 * gone, another one goes on where it stopped.
 */
export const layer = Counter.toLayer(
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const { entityId } = yield* Entity.CurrentAddress
    const { host, port } = yield* Entity.CurrentRunnerAddress
    const home = `${host}:${port}`
    const rows = yield* sql<{ readonly value: number }>`SELECT value FROM counters WHERE name = ${entityId}`
    let value = rows[0]?.value ?? 0

    return Counter.of({
      Add: ({ payload }) =>
        Effect.gen(function*() {
          // Added up in the database: a worker that was silent for a while, and comes back as if nothing had been, still has what
          // the counter was before it moved.
          const [row] = yield* sql<{ readonly value: number }>`
            INSERT INTO counters (name, value) VALUES (${entityId}, ${payload.amount})
            ON CONFLICT (name) DO UPDATE SET value = counters.value + ${payload.amount}
            RETURNING value`
          const next = row!.value
          yield* sql.afterCommit(Effect.sync(() => {
            value = next
          }))
          return { value: next, home }
        }).pipe(Effect.orDie),
      Get: () => Effect.sync(() => ({ value, home }))
    })
  }).pipe(Effect.orDie)
).pipe(Layer.provide(table))
