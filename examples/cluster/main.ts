/**
 * State that many processes share: counters that count right whichever worker answers, also while workers come and go.
 *
 *     node examples/cluster/main.ts                 two workers and an HTTP gateway in front of them
 *     node examples/cluster/main.ts --workers 4 --port 8081
 *     node examples/cluster/main.ts worker --path /run/app/1.sock --address 10.0.0.11:34431 --database /var/lib/app/cluster.db
 *
 * A worker listens twice: for FastCGI at --path, and for the other workers at --address. With a web server in front, only workers
 * are started, each with a path and an address of its own; docs/scale-out.md says more.
 */
import * as NodeClusterSocket from "@effect/platform-node/NodeClusterSocket"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { FastCgiGateway } from "effect-fastcgi/client"
import { NodeFastCgi, NodeFastCgiConnector } from "effect-fastcgi/node"
import * as Cause from "effect/Cause"
import * as RunnerAddress from "effect/cluster/RunnerAddress"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as ChildProcess from "effect/process/ChildProcess"
import * as References from "effect/References"
import * as Stream from "effect/Stream"
import { createServer } from "node:http"
import { type AddressInfo, createServer as createNetServer } from "node:net"
import { parseArgs } from "node:util"
import * as Counter from "./Counter.ts"
import * as Routes from "./Routes.ts"
import * as Sqlite from "./Sqlite.ts"

// -----------------------------------------------------------------------------
// A worker
// -----------------------------------------------------------------------------

interface Worker {
  /** The UNIX socket for FastCGI. */
  readonly path: string
  /** Where the other workers reach it. */
  readonly address: RunnerAddress.RunnerAddress
  readonly database: string
}

const cluster = ({ address, database }: Worker) =>
  NodeClusterSocket.layer({
    shardingConfig: {
      runnerAddress: Option.some(address),
      // A counter moves with its shard. SQLite has one writer, so there are few.
      shardsPerGroup: 16,
      // How soon a worker that has come or gone is noticed.
      refreshAssignmentsInterval: "500 millis",
      // How long the shards of a worker that has died, instead of stopping, stay where nobody answers.
      shardLockExpiration: "6 seconds",
      shardLockRefreshInterval: "2 seconds",
      runnerHealthCheckInterval: "2 seconds"
    }
  }).pipe(Layer.provideMerge(Sqlite.layer(database)))

const worker = (options: Worker) =>
  HttpRouter.serve(Routes.layer, { disableLogger: true, disableListenLog: true }).pipe(
    Layer.provide(NodeFastCgi.layer({ path: options.path })),
    // Stopped in this order: what web servers have asked is answered, then the counters move out, then the database is closed.
    Layer.provide(Counter.layer),
    Layer.provide(cluster(options)),
    Layer.launch
  )

// -----------------------------------------------------------------------------
// Workers and a gateway in front of them
// -----------------------------------------------------------------------------

const host = "127.0.0.1"

const everything = Effect.fnUntraced(function*(options: { readonly workers: number; readonly port: number }) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const folder = yield* fs.makeTempDirectoryScoped({ prefix: "effect-fastcgi-" })
  const database = path.join(folder, "cluster.db")

  const sockets: Array<string> = []
  for (let i = 1; i <= options.workers; i++) {
    const socket = path.join(folder, `${i}.sock`)
    const address = `${host}:${yield* freePort}`
    const child = yield* ChildProcess.make(
      process.execPath,
      [
        ...process.execArgv,
        import.meta.filename,
        "worker",
        "--path",
        socket,
        "--address",
        address,
        "--database",
        database
      ],
      { stdin: "ignore" }
    )
    yield* child.all.pipe(
      Stream.decodeText,
      Stream.splitLines,
      Stream.runForEach((line) => Console.error(`worker ${i}: ${line}`)),
      Effect.ignore,
      Effect.forkScoped
    )
    sockets.push(socket)
    yield* Console.log(`worker ${i} is process ${child.pid}, its home is ${address}`)
  }

  // One after the other, and the next one where one is not there.
  let last = 0
  const connect = Effect.suspend(() => {
    const from = last++
    const [first, ...others] = sockets.map((_, i) =>
      NodeFastCgiConnector.connect({ path: sockets[(from + i) % sockets.length]! })
    )
    return others.reduce((connect, next) => Effect.catch(connect, () => next), first!)
  })
  const front = yield* Layer.build(
    FastCgiGateway.layer({ connect }).pipe(
      Layer.provideMerge(NodeHttpServer.layer(createServer, { host, port: options.port }))
    )
  )
  const url = HttpServer.formatAddress(Context.get(front, HttpServer.HttpServer).address)
  yield* Console.log(`\ncurl -X POST ${url}/counters/visits\ncurl ${url}/counters/visits\n\nCtrl-C stops it.`)
  return yield* Effect.never
}, Effect.scoped)

/** A port that nobody listens on at this moment. */
const freePort = Effect.callback<number>((resume) => {
  const server = createNetServer().listen(0, host, () => {
    const { port } = server.address() as AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

// Only what went wrong is logged.
const logger = Layer.mergeAll(
  Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)]),
  Layer.succeed(References.MinimumLogLevel, "Warn")
)

// -----------------------------------------------------------------------------
// The command line
// -----------------------------------------------------------------------------

const usage = `Counters that many processes share.

  node examples/cluster/main.ts            workers, and an HTTP gateway in front of them
  node examples/cluster/main.ts worker     one worker, for a web server in front

Options
  --workers <number>    how many workers (default 2)
  --port <number>       the gateway's port on 127.0.0.1, 0 for any free one (default 8080)
  --help                this text

Options of a worker, all of them needed
  --path <file>         the UNIX socket for FastCGI
  --address <ip:port>   where the other workers reach it
  --database <file>     the SQLite database that all of them share
`

const readArguments = () =>
  parseArgs({
    allowPositionals: true,
    options: {
      path: { type: "string" },
      address: { type: "string" },
      database: { type: "string" },
      workers: { type: "string", default: "2" },
      port: { type: "string", default: "8080" },
      help: { type: "boolean", short: "h" }
    }
  })

/** What to run, or a sentence that says what is wrong with the options; `undefined` when help was asked for. */
const program = (): Effect.Effect<never, unknown, NodeServices.NodeServices> | string | undefined => {
  let parsed
  try {
    parsed = readArguments()
  } catch (error) {
    return error instanceof Error ? error.message.replace(/\.? To specify.*$/s, "") : String(error)
  }
  const { positionals: [command, ...others], values: { address, database, help, path, port, workers } } = parsed
  if (help === true) return undefined
  if ((command !== undefined && command !== "worker") || others.length > 0) {
    return `the only command is "worker", not "${[command, ...others].join(" ")}"`
  }
  if (command === undefined) {
    if (!/^[1-9]\d?$/.test(workers)) return `--workers takes a number from 1 to 99, not "${workers}"`
    if (!/^\d{1,5}$/.test(port) || Number(port) > 65535) return `--port takes a number from 0 to 65535, not "${port}"`
    return everything({ workers: Number(workers), port: Number(port) })
  }
  const separator = address?.lastIndexOf(":") ?? -1
  if (path === undefined || address === undefined || separator < 0 || database === undefined) {
    return "a worker takes --path, --address and --database"
  }
  return worker({
    path,
    address: RunnerAddress.make(address.slice(0, separator), Number(address.slice(separator + 1))),
    database
  })
}

const main = program()
if (main === undefined) {
  process.stdout.write(usage)
} else if (typeof main === "string") {
  process.stderr.write(`cluster: ${main}\n\n${usage}`)
  process.exitCode = 2
} else {
  main.pipe(
    Effect.provide(NodeServices.layer),
    Effect.provide(logger),
    NodeRuntime.runMain({
      // A signal is the way to stop it, so it is a success.
      teardown: (exit, onExit) => onExit(exit._tag === "Success" || Cause.hasInterruptsOnly(exit.cause) ? 0 : 1)
    })
  )
}
