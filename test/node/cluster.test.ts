/**
 * Workers of node:cluster, which have no supervisor of ours.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiLimits } from "effect-fastcgi"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Module from "node:module"
import * as Net from "node:net"
import * as Path from "node:path"
import { bindInCluster } from "../../src/node/internal/clusterSocket.ts"
import * as Pages from "../support/pages.ts"
import { programFile } from "../support/programFile.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import { answering, gone, refusal } from "../support/workers.ts"
import { spawned, withListening } from "./children.ts"
import { turns } from "./sockets.ts"

const fixture = programFile("test/node/fixtures/cluster.ts")

const start = (options: object, ...policy: ReadonlyArray<string>) =>
  Effect.tap(
    WebServers.start({
      name: "the cluster",
      command: process.execPath,
      args: [fixture, JSON.stringify(options), ...policy]
    }),
    (cluster) => cluster.says("3 listen")
  )

describe("three workers of node:cluster", () => {
  it.live.each([["by its primary"], ["none"]] as const)(
    "share a UNIX socket until the last has gone (%s)",
    ([policy]) =>
      Effect.gen(function*() {
        const path = Path.join(yield* WebServers.temporaryDirectory, "app.sock")
        // One that a program has left over is in the way of none of them.
        yield* withListening(path, () => Effect.void)
        assert.isTrue(Fs.existsSync(path))
        const cluster = yield* start({ path, mode: 0o640 }, policy!)
        assert.strictEqual(Fs.statSync(path).mode & 0o777, 0o640)
        const pids = [...yield* answering({ path }, 3)]
        process.kill(pids[0]!, "SIGTERM")
        yield* cluster.says(`worker ${pids[0]} exit 0`)
        yield* answering({ path }, 2, [pids[0]!])
        // As pm2 stops a worker.
        process.kill(pids[1]!, "SIGINT")
        yield* cluster.says(`worker ${pids[1]} exit 0`)
        assert.deepStrictEqual([...yield* answering({ path }, 1)], [pids[2]])
        assert.deepStrictEqual(yield* cluster.stop(), { code: 0, signal: null })
        yield* gone(pids[2]!)
        assert.isFalse(Fs.existsSync(path))
        assert.notMatch(cluster.log(), /Cannot|exit 1/)
      }).pipe(Effect.scoped)
  )

  it.live("are what the file for pm2 on docs/workers.md asks for, and have time to stop and to start", () =>
    Effect.gen(function*() {
      const file = Path.join(yield* WebServers.temporaryDirectory, "ecosystem.config.cjs")
      Fs.writeFileSync(
        file,
        WebServers.documented(Pages.read("docs/workers.md"), "js", "ecosystem.config.cjs, for pm2")
      )
      // As pm2 reads it.
      const { apps } = Module.createRequire(file)(file) as { readonly apps: ReadonlyArray<Record<string, unknown>> }
      const [{ kill_timeout, listen_timeout, name, script, ...mode }] = apps as [Record<string, unknown>]
      // With this mode pm2 forks the script by node:cluster. Every other name would be one that pm2 does not know.
      assert.deepStrictEqual(mode, { exec_mode: "cluster", instances: 4 })
      assert.deepStrictEqual([name, script], ["app", "main.js"])
      // Milliseconds. What runs may take as long, and output that nobody takes a second more.
      const stops = Duration.toMillis(FastCgiLimits.server.gracefulShutdownTimeout.default) + 1000
      assert.isAbove(Number(kill_timeout), stops)
      assert.isAtLeast(Number(listen_timeout), Duration.toMillis(FastCgiLimits.workers.startTimeout.default))
    }).pipe(Effect.scoped))

  it.live("share a port", () =>
    Effect.gen(function*() {
      const port = yield* WebServers.freePort
      const cluster = yield* start({ port })
      yield* answering({ port }, 3)
      assert.deepStrictEqual(yield* cluster.stop(), { code: 0, signal: null })
      assert.strictEqual(yield* refusal({ port, host: "127.0.0.1" }), "ECONNREFUSED")
    }).pipe(Effect.scoped))

  it.live("do not take a path that another program listens on", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* WebServers.temporaryDirectory, "app.sock")
      yield* withListening(path, () =>
        Effect.gen(function*() {
          const cluster = yield* WebServers.start({
            name: "the cluster",
            command: process.execPath,
            args: [fixture, JSON.stringify({ path })]
          })
          yield* cluster.says(/(?:worker \d+ exit 1[^]*){3}/)
          assert.include(cluster.log(), `Cannot listen on ${path}: another process listens there.`)
        }))
    }).pipe(Effect.scoped))
})

describeWith(["perl"], "a worker of node:cluster", (perl) => {
  // Has the worker listen on a path that is bound, as its primary's is for a moment before the first worker listens on it.
  const besideBound = Effect.gen(function*() {
    const path = Path.join(yield* WebServers.temporaryDirectory, "app.sock")
    const other = yield* spawned(() => ChildProcess.spawn(perl!, ["-e", boundOnly, path]))
    yield* other.line("bound")
    const server = yield* Effect.acquireRelease(
      Effect.sync(() => new Net.Server()),
      (server) => Effect.sync(() => server.close())
    )
    const binding = yield* Effect.forkScoped(
      bindInCluster(server, { path, mode: undefined, owner: undefined, backlog: 1, unlink: false })
    )
    const inode = () => Fs.statSync(path).ino
    const first = inode()
    /** Lets so many milliseconds go by, and the worker look at the path between them. */
    const pass = (millis: number) =>
      Effect.forEach(
        Array.from({ length: millis / 10 }),
        () => Effect.andThen(TestClock.adjust(10), turns(2)),
        { discard: true }
      )
    return {
      binding,
      pass,
      isSame: () => inode() === first,
      listens: Effect.suspend(() => {
        other.process.stdin!.write("\n")
        return other.line("listens")
      })
    }
  })

  it.effect("leaves a path alone that is bound, and listened on in less than a second", () =>
    Effect.gen(function*() {
      const { binding, isSame, listens, pass } = yield* besideBound
      yield* pass(900)
      yield* listens
      yield* pass(200)
      const error = yield* Effect.flip(Fiber.join(binding))
      assert.strictEqual(error.reason._tag, "AddressInUse")
      assert.isTrue(isSame())
    }).pipe(Effect.scoped))

  it.effect("takes the path of one that does not listen for a second", () =>
    Effect.gen(function*() {
      const { binding, isSame, pass } = yield* besideBound
      while (binding.pollUnsafe() === undefined) yield* pass(100)
      yield* Fiber.join(binding)
      assert.isFalse(isSame())
    }).pipe(Effect.scoped))
})

// Binds a path, and listens there at a line from its standard input.
const boundOnly = `
use Socket;
$| = 1;
socket(my $socket, AF_UNIX, SOCK_STREAM, 0) or die $!;
bind($socket, pack_sockaddr_un($ARGV[0])) or die $!;
print "bound\n";
<STDIN>;
listen($socket, 1) or die $!;
print "listens\n";
<STDIN>;
`
