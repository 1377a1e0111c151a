/**
 * Effect's SqlClient on the SQLite that is part of Node: one connection, for one process at a time, to a file that several
 * processes of a host share. Between hosts it has to be a database that is reached over the network, such as PostgreSQL.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Semaphore from "effect/Semaphore"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import { classifySqliteError, SqlError } from "effect/sql/SqlError"
import * as Statement from "effect/sql/Statement"
import * as Stream from "effect/Stream"
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite"

/** How long a process waits while another one writes. In milliseconds, in which it does nothing else. */
const busyTimeout = 5000

interface SqliteConnection extends Connection {
  readonly isTransaction: () => boolean
}

const connect = (database: DatabaseSync): SqliteConnection => {
  const attempt = <A>(operation: string, run: () => A): Effect.Effect<A, SqlError> =>
    Effect.try({
      try: run,
      catch: (cause) =>
        new SqlError({ reason: classifySqliteError(withErrno(cause), { message: operation, operation }) })
    })

  const prepare = (sql: string, asArrays: boolean): StatementSync => {
    const statement = database.prepare(sql)
    statement.setReturnArrays(asArrays)
    return statement
  }

  const rows = (sql: string, params: ReadonlyArray<unknown>, asArrays: boolean) =>
    attempt("execute", () => {
      const statement = prepare(sql, asArrays)
      const values = params as ReadonlyArray<SQLInputValue>
      if (statement.columns().length > 0) {
        return statement.all(...values) as ReadonlyArray<unknown> as ReadonlyArray<never>
      }
      statement.run(...values)
      return []
    })

  const execute: Connection["execute"] = (sql, params, transform) =>
    transform === undefined ? rows(sql, params, false) : Effect.map(rows(sql, params, false), transform)
  const executeValues: Connection["executeValues"] = (sql, params) => rows(sql, params, true)

  return {
    execute,
    executeUnprepared: execute,
    executeValues,
    executeValuesUnprepared: executeValues,
    executeRaw: (sql, params) => attempt("execute", () => prepare(sql, false).run(...params as Array<SQLInputValue>)),
    executeStream: (sql, params, transform) =>
      Stream.unwrap(Effect.map(execute(sql, params, transform), Stream.fromIterable)),
    isTransaction: () => database.isTransaction
  }
}

// Node calls SQLite's number errcode, and the classifier looks for errno.
const withErrno = (cause: unknown): unknown =>
  cause instanceof Error && "errcode" in cause ? Object.assign(cause, { errno: cause.errcode }) : cause

/** Opens the file, which is created when it is not there. */
export const layer = (file: string): Layer.Layer<SqlClient.SqlClient> =>
  Layer.effectContext(Effect.gen(function*() {
    const database = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const database = new DatabaseSync(file, { timeout: busyTimeout })
        // Readers do not wait for the writer.
        database.exec("PRAGMA journal_mode = WAL")
        return database
      }),
      (database) => Effect.sync(() => database.close())
    )
    const semaphore = yield* Semaphore.make(1)
    const client = yield* SqlClient.make({
      ...SqlClient.makeSqliteAcquirers({
        connection: Effect.succeed(connect(database)),
        semaphore,
        isTransaction: (connection) => connection.isTransaction()
      }),
      compiler: Statement.makeCompilerSqlite(),
      driver: "node-sqlite",
      spanAttributes: [["db.system.name", "sqlite"]],
      // A transaction that begins as a reader cannot wait for its turn to write: it would have read what is old by then.
      beginTransaction: "BEGIN IMMEDIATE"
    })
    return Context.make(SqlClient.SqlClient, client)
  })).pipe(Layer.provide(Reactivity.layer))
