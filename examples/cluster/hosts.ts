/**
 * The whole picture of many hosts, on this one: nginx in front of two hosts with two workers each, which share PostgreSQL. The hosts
 * are two addresses of the loopback network. A worker that has died comes back after a while, as systemd or Kubernetes would do it.
 *
 *     node examples/cluster/hosts.ts
 *     node examples/cluster/hosts.ts --port 8081 --back-after 30
 *
 * It needs nginx and PostgreSQL (apt-get install nginx postgresql). What it starts is in a temporary folder, and ends with it.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { FastCgiHttpClient } from "effect-fastcgi/client"
import { NodeFastCgiConnector } from "effect-fastcgi/node"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import * as ChildProcess from "effect/process/ChildProcess"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { randomUUID } from "node:crypto"
import * as Program from "./Program.ts"

/** Something that this program needs is not there, or has not done what it was started for. */
class HostsError extends Data.TaggedError("HostsError")<{ readonly message: string }> {}

const front = "127.0.0.1"
const hosts = ["127.0.0.2", "127.0.0.3"]
const workersOfAHost = 2

/** How long everything gets to be ready. */
const patience = "60 seconds"

const everything = Effect.fnUntraced(
  function*(options: { readonly port: number; readonly backAfter: number }) {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const folder = yield* fs.makeTempDirectoryScoped({ prefix: "effect-fastcgi-" })
    // nginx and PostgreSQL run as users of their own.
    yield* fs.chmod(folder, 0o755)

    const database = yield* postgres(path.join(folder, "postgres"))
    yield* Console.log("PostgreSQL is ready")

    const places: Array<readonly [documented: string, place: string]> = []
    const ready: Array<Effect.Effect<void, HostsError>> = []
    for (const [index, host] of hosts.entries()) {
      for (let number = 1; number <= workersOfAHost; number++) {
        const listen = { host, port: yield* Program.freePort(host) }
        places.push([`10.0.0.1${index + 1}:900${number}`, `${host}:${listen.port}`])
        const serves = yield* Deferred.make<void, HostsError>()
        ready.push(Deferred.await(serves))
        yield* worker(`host ${host}, worker ${number}`, listen, database).pipe(
          Effect.tap(({ process }) => Effect.andThen(Deferred.succeed(serves, undefined), process.exitCode)),
          Effect.scoped,
          Effect.ignore,
          Effect.andThen(Console.log(`host ${host}, worker ${number} has ended; back in ${options.backAfter} seconds`)),
          Effect.andThen(Effect.sleep(options.backAfter * 1000)),
          Effect.forever,
          Effect.forkScoped
        )
      }
    }
    yield* inTime(Effect.all(ready, { concurrency: "unbounded", discard: true }))

    const port = options.port === 0 ? yield* Program.freePort(front) : options.port
    yield* nginx(folder, port, places)
    const url = `http://${front}:${port}/counters/visits`
    yield* Console.log(`
curl -X POST ${url}
curl ${url}

Kill both workers of a host (kill -9 PROCESS PROCESS) while you count: no number is left out, and none comes twice.
Ctrl-C stops it.`)
    return yield* Effect.never
  },
  Effect.scoped
)

const inTime = Effect.timeoutOrElse({
  duration: patience,
  orElse: () => Effect.fail(new HostsError({ message: `the workers do not serve after ${patience}` }))
})

// -----------------------------------------------------------------------------
// What it starts
// -----------------------------------------------------------------------------

/** A PostgreSQL server of its own in the folder; gives its URL. */
const postgres = Effect.fnUntraced(function*(folder: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const bin = path.dirname(yield* find("initdb", yield* debianPostgres))
  // PostgreSQL refuses to run as root.
  const root = process.getuid?.() === 0
  const asUser = (command: string, ...args: ReadonlyArray<string>): readonly [string, ...ReadonlyArray<string>] =>
    root ? ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", command, ...args] : [command, ...args]
  yield* fs.makeDirectory(folder)
  if (root) yield* run("chown", "postgres", folder)
  const password = randomUUID()
  const passwordFile = path.join(folder, "password")
  yield* fs.writeFileString(passwordFile, password)
  if (root) yield* run("chown", "postgres", passwordFile)
  const data = path.join(folder, "data")
  const auth = ["--username=cluster", `--pwfile=${passwordFile}`, "--auth=scram-sha-256"]
  yield* run(
    ...asUser(path.join(bin, "initdb"), "--pgdata", data, ...auth, "--no-sync", "--no-locale", "--encoding=UTF8")
  )
  yield* fs.remove(passwordFile)
  const port = yield* Program.freePort(front)
  const server = yield* start(
    "postgres",
    asUser(path.join(bin, "postgres"), "-D", data, "-h", front, "-p", String(port), "-k", folder),
    // At SIGTERM it would wait for its clients to leave.
    { killSignal: "SIGINT" }
  )
  yield* server.says("database system is ready to accept connections")
  return `postgres://cluster:${password}@${front}:${port}/postgres`
})

/** A worker that serves. */
const worker = Effect.fnUntraced(
  function*(name: string, listen: { readonly host: string; readonly port: number }, database: string) {
    const path = yield* Path.Path
    const { process: child } = yield* start(name, [
      process.execPath,
      ...process.execArgv,
      path.join(import.meta.dirname, "main.ts"),
      "worker",
      ...["--listen", `${listen.host}:${listen.port}`, "--allow", front],
      ...["--address", `${listen.host}:${yield* Program.freePort(listen.host)}`]
    ], { env: { DATABASE_URL: database }, extendEnv: true })
    const client = yield* FastCgiHttpClient.make({ connect: NodeFastCgiConnector.connect(listen) })
    yield* client.get("http://localhost/counters/ready").pipe(
      Effect.filterOrFail(({ status }) => status === 200),
      Effect.retry(Schedule.spaced("100 millis")),
      Effect.raceFirst(
        Effect.andThen(Effect.exit(child.exitCode), Effect.fail(new HostsError({ message: `${name} has ended` })))
      )
    )
    yield* Console.log(`${name}: process ${child.pid}`)
    return { process: child }
  }
)

/** nginx with nginx.conf, at these places instead of the documented ones. */
const nginx = Effect.fnUntraced(
  function*(folder: string, port: number, places: ReadonlyArray<readonly [documented: string, place: string]>) {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const command = yield* find("nginx", ["/usr/sbin", "/usr/local/sbin"])
    let text = yield* fs.readFileString(path.join(import.meta.dirname, "nginx.conf"))
    const changes = [...places, ["listen 80;", `listen ${front}:${port};`], [
      "include fastcgi_params;",
      "include /etc/nginx/fastcgi_params;"
    ]] as const
    for (const [documented, place] of changes) {
      if (!text.includes(documented)) {
        return yield* new HostsError({ message: `"${documented}" is not in nginx.conf any more` })
      }
      text = text.replaceAll(documented, place)
    }
    const temporary = ["client_body", "fastcgi", "proxy", "uwsgi", "scgi"]
      .map((name) => `  ${name}_temp_path ${path.join(folder, name)};`)
    const file = path.join(folder, "nginx.conf")
    yield* fs.writeFileString(
      file,
      ["daemon off;", `pid ${path.join(folder, "nginx.pid")};`, "error_log stderr notice;", "events { }", "http {"]
        .concat("  access_log off;", temporary, text, "}", "").join("\n")
    )
    const server = yield* start("nginx", [command, "-e", "stderr", "-p", folder, "-c", file])
    yield* server.says("start worker process ")
  }
)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

/** Starts a program that lives as long as the scope. What it says is written to stderr, and can be waited for. */
const start = Effect.fnUntraced(
  function*(name: string, command: ReadonlyArray<string>, options: ChildProcess.CommandOptions = {}) {
    const child = yield* ChildProcess.make(command[0]!, command.slice(1), {
      ...options,
      stdin: "ignore",
      forceKillAfter: "10 seconds"
    })
    const waiting = new Map<string, Deferred.Deferred<void>>()
    yield* child.all.pipe(
      Stream.decodeText,
      Stream.splitLines,
      Stream.runForEach((line) => {
        for (const [words, said] of waiting) {
          if (line.includes(words)) Deferred.doneUnsafe(said, Effect.void)
        }
        return isNews(line) ? Console.error(`${name}: ${line}`) : Effect.void
      }),
      Effect.ignore,
      Effect.forkScoped
    )
    const says = (words: string) =>
      Effect.gen(function*() {
        const said = yield* Deferred.make<void>()
        waiting.set(words, said)
        yield* Deferred.await(said).pipe(
          Effect.raceFirst(
            Effect.andThen(Effect.exit(child.exitCode), Effect.fail(new HostsError({ message: `${name} has ended` })))
          ),
          Effect.timeoutOrElse({
            duration: patience,
            orElse: () => Effect.fail(new HostsError({ message: `${name} is not ready after ${patience}` }))
          })
        )
      })
    return { process: child, says }
  }
)

/**
 * nginx and PostgreSQL tell of every step. What PostgreSQL refuses its client knows as well: workers that start at the same time
 * make the same tables, and try again.
 */
const isNews = (line: string) =>
  !/\[notice\]/.test(line) && !/^\t|^\d{4}-\d\d-\d\d [\d:.]+ UTC \[\d+\] (?:LOG|ERROR|DETAIL|STATEMENT):/.test(line)

/** Runs a program to its end. */
const run = (...[command, ...args]: readonly [string, ...ReadonlyArray<string>]) =>
  Effect.scoped(Effect.gen(function*() {
    const child = yield* ChildProcess.make(command, args, { stdin: "ignore" })
    const said = yield* child.all.pipe(Stream.decodeText, Stream.mkString)
    const code = yield* child.exitCode
    if (code !== 0) {
      return yield* new HostsError({ message: `${command} ${args.join(" ")}: exit code ${code}\n${said}` })
    }
  }))

/** The absolute path of a program, on PATH or in one of the folders. */
const find = Effect.fnUntraced(function*(command: string, folders: ReadonlyArray<string>) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  for (const folder of [...(process.env["PATH"] ?? "").split(":"), ...folders]) {
    const file = path.join(folder, command)
    if (yield* fs.exists(file)) return file
  }
  return yield* new HostsError({ message: `${command} is not installed: apt-get install nginx postgresql` })
})

/** Debian has the programs of each version of PostgreSQL in a folder of its own, which is not on PATH. */
const debianPostgres = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const folder = "/usr/lib/postgresql"
  const versions = yield* Effect.orElseSucceed(fs.readDirectory(folder), () => [])
  return versions.map((version) => `${folder}/${version}/bin`)
})

// -----------------------------------------------------------------------------
// The command line
// -----------------------------------------------------------------------------

const usage = `nginx, two hosts with workers, and PostgreSQL, on this host.

Options
  --port <number>          nginx's port on ${front}, 0 for any free one (default 8080)
  --back-after <seconds>   how long a worker that has died is away (default 10)
  --help                   this text
`

const program = () => {
  const parsed = Program.parse({
    options: {
      port: { type: "string", default: "8080" },
      "back-after": { type: "string", default: "10" },
      help: { type: "boolean", short: "h" }
    }
  })
  if (typeof parsed === "string") return parsed
  const { "back-after": backAfter, help, port } = parsed.values
  if (help === true) return undefined
  const mistake = Program.portMistake(port)
  if (mistake !== undefined) return mistake
  if (!/^\d{1,4}$/.test(backAfter)) return `--back-after takes a number of seconds, not "${backAfter}"`
  return everything({ port: Number(port), backAfter: Number(backAfter) }).pipe(
    Effect.catchTag(
      "HostsError",
      ({ message }) => Effect.andThen(Console.error(`hosts: ${message}`), Effect.interrupt)
    ),
    Effect.provide(NodeServices.layer)
  )
}

Program.run("hosts", usage, program(), { disableErrorReporting: true })
