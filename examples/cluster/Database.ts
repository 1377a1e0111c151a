/**
 * The database that all workers share: SQLite where all of them are on one host, PostgreSQL where they are on several.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import type * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Sqlite from "./Sqlite.ts"

/** By its place: a file of SQLite, or the URL of a PostgreSQL server, `postgres://user:password@host/database`. */
export const layer = (place: string): Layer.Layer<SqlClient.SqlClient, SqlError> =>
  /^postgres(?:ql)?:\/\//.test(place)
    ? PgClient.layer({ url: Redacted.make(place), applicationName: "cluster", maxConnections: 10 })
    : Sqlite.layer(place)
