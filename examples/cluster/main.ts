/**
 * State that many processes share: counters that count right whichever worker answers, also while workers come and go.
 *
 *     node examples/cluster/main.ts                 two workers and an HTTP gateway in front of them
 *     node examples/cluster/main.ts --workers 4 --port 8081
 *     node examples/cluster/main.ts worker --path /run/app/1.sock --address 127.0.0.1:34431 --database /var/lib/app/cluster.db
 *     DATABASE_URL=postgres://app:secret@10.0.0.5/app \
 *       node examples/cluster/main.ts worker --listen 10.0.0.11:9001 --allow 10.0.0.1 --address 10.0.0.11:34431
 *
 * A worker listens twice: for FastCGI at --path or --listen, and for the other workers at --address. With a web server in front,
 * only workers are started, each with places of its own; docs/scale-out.md says more. Two hosts, to be tried on one: hosts.ts.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { FastCgiGateway } from "effect-fastcgi/client"
import { NodeFastCgiConnector } from "effect-fastcgi/node"
import * as RunnerAddress from "effect/cluster/RunnerAddress"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Path from "effect/Path"
import * as ChildProcess from "effect/process/ChildProcess"
import * as References from "effect/References"
import * as Stream from "effect/Stream"
import { createServer } from "node:http"
import * as Program from "./Program.ts"
import * as Worker from "./Worker.ts"

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
    const address = `${host}:${yield* Program.freePort(host)}`
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

Options of a worker
  --path <file>         the UNIX socket for FastCGI, or
  --listen <ip:port>    the address for FastCGI
  --allow <ip>          who may connect there: the web server
  --address <ip:port>   where the other workers reach it
  --database <place>    the database that all of them share: a file of SQLite, or the URL of a PostgreSQL server, which is
                        better given as DATABASE_URL in the environment, where not everybody sees its password
`

/** What to run, or a sentence that says what is wrong with the options; `undefined` when help was asked for. */
const program = (): Effect.Effect<never, unknown, NodeServices.NodeServices> | string | undefined => {
  const parsed = Program.parse({
    allowPositionals: true,
    options: {
      path: { type: "string" },
      listen: { type: "string" },
      allow: { type: "string", multiple: true },
      address: { type: "string" },
      database: { type: "string" },
      workers: { type: "string", default: "2" },
      port: { type: "string", default: "8080" },
      help: { type: "boolean", short: "h" }
    }
  })
  if (typeof parsed === "string") return parsed
  const { positionals: [command, ...others], values: { address, allow, database, help, listen, path, port, workers } } =
    parsed
  if (help === true) return undefined
  if ((command !== undefined && command !== "worker") || others.length > 0) {
    return `the only command is "worker", not "${[command, ...others].join(" ")}"`
  }
  if (command === undefined) {
    if (!/^[1-9]\d?$/.test(workers)) return `--workers takes a number from 1 to 99, not "${workers}"`
    const mistake = Program.portMistake(port)
    if (mistake !== undefined) return mistake
    return everything({ workers: Number(workers), port: Number(port) })
  }
  const place = database ?? process.env["DATABASE_URL"]
  const home = address === undefined ? undefined : readAddress(address)
  const fastCgi = path !== undefined ? { path } : listen === undefined ? undefined : readAddress(listen)
  if (home === undefined || fastCgi === undefined || place === undefined) {
    return "a worker takes --path or --listen, --address, and --database or DATABASE_URL"
  }
  return Layer.launch(Worker.layer({
    listen: { ...fastCgi, allow },
    address: RunnerAddress.make(home.host, home.port),
    database: place
  }))
}

const readAddress = (text: string): { readonly host: string; readonly port: number } | undefined => {
  const match = /^(.+):(\d{1,5})$/.exec(text)
  return match === null ? undefined : { host: match[1]!, port: Number(match[2]) }
}

const main = program()
Program.run(
  "cluster",
  usage,
  Effect.isEffect(main) ? main.pipe(Effect.provide(NodeServices.layer), Effect.provide(logger)) : main
)
