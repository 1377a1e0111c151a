/**
 * A worker: it answers requests for any counter, and is the home of some of them.
 */
import * as NodeClusterSocket from "@effect/platform-node/NodeClusterSocket"
import { NodeFastCgi } from "effect-fastcgi/node"
import type * as RunnerAddress from "effect/cluster/RunnerAddress"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Counter from "./Counter.ts"
import * as Database from "./Database.ts"
import * as Routes from "./Routes.ts"

export interface WorkerOptions {
  /** Where it listens for FastCGI: a UNIX socket, or an address of this host and who may connect to it. */
  readonly listen: NodeFastCgi.NodeFastCgiOptions
  /** Where the other workers reach it. */
  readonly address: RunnerAddress.RunnerAddress
  /** See `Database.layer`. */
  readonly database: string
}

const cluster = ({ address, database }: WorkerOptions) =>
  NodeClusterSocket.layer({
    shardingConfig: {
      runnerAddress: Option.some(address),
      // A counter moves with its shard. SQLite has one writer, so there are few.
      shardsPerGroup: 16,
      // How soon a worker that has come or gone is noticed.
      refreshAssignmentsInterval: "500 millis",
      runnerHealthCheckInterval: "2 seconds",
      // How long the shards of a worker that has gone silent stay where nobody answers. PostgreSQL frees those of a process that
      // has died at once: they are locks of its connection.
      shardLockExpiration: "6 seconds",
      shardLockRefreshInterval: "2 seconds",
      // How soon the new home of a counter looks for what was left unanswered, beyond what it is told of.
      entityMessagePollInterval: "1 second"
    }
  }).pipe(Layer.provideMerge(Database.layer(database)))

export const layer = (options: WorkerOptions) =>
  HttpRouter.serve(Routes.layer, { disableLogger: true, disableListenLog: true }).pipe(
    Layer.provide(NodeFastCgi.layer(options.listen)),
    // Stopped in this order: what web servers have asked is answered, then the counters move out, then the database is closed.
    Layer.provide(Counter.layer),
    Layer.provide(cluster(options))
  )
