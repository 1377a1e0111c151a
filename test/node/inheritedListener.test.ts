import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import type * as Net from "node:net"
import { programFile } from "../support/programFile.ts"
import { describeWith } from "../support/requirement.ts"
import { type Child, spawned, withListening } from "./children.ts"
import { connectClient, connectCode, temporaryDirectory } from "./sockets.ts"

const fixture = programFile("test/node/fixtures/inherited.ts")

const spawnFixture = (
  steps: ReadonlyArray<string>,
  stdin: number | "ignore" | "pipe",
  more: ReadonlyArray<number> = []
) =>
  spawned(() => ChildProcess.spawn(process.execPath, [fixture, ...steps], { stdio: [stdin, "pipe", "pipe", ...more] }))

const spawnShell = (command: string) =>
  spawned(() => ChildProcess.spawn("/bin/sh", ["-c", command, process.execPath, fixture], { stdio: "pipe" }))

const answer = (to: { readonly path: string } | { readonly host?: string; readonly port: number }) =>
  Effect.scoped(Effect.gen(function*() {
    const client = yield* connectClient(to)
    yield* Effect.race(client.ended, client.closed)
    return client.received().toString()
  }))

const whatToDo =
  "effect-fastcgi listens on file descriptor 0 by default, because web servers and spawn-fcgi start it " +
  "that way. Give { path: ... } or { port: ... } to make it listen on its own, or let something start it that listens: " +
  "spawn-fcgi -n -s /run/app.sock -- node app.js"

describe("a listener on file descriptor 0", () => {
  it.live("accepts on an inherited UNIX socket and finds out its path", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      // A path with a space and a letter of two bytes: as it is, not as somebody prints it.
      const path = `${directory}/é app.sock`
      const child = yield* withListening(path, (fd) => spawnFixture(["listen"], fd))
      assert.strictEqual(yield* child.line("listening"), `listening ${JSON.stringify(path)}`)
      assert.strictEqual(yield* answer({ path }), `pid ${child.process.pid}`)
    }))

  it.live.each(["127.0.0.1", "::1"])("accepts on an inherited TCP socket of %s", (host) =>
    Effect.gen(function*() {
      let port = 0
      const child = yield* withListening({ host }, (fd, server) => {
        port = (server.address() as Net.AddressInfo).port
        return spawnFixture(["listen"], fd)
      })
      const address = host === "::1" ? `[::1]:${port}` : `${host}:${port}`
      assert.strictEqual(yield* child.line("listening"), `listening ${JSON.stringify(address)}`)
      assert.strictEqual(yield* answer({ host, port }), `pid ${child.process.pid}`)
    }))

  it.live.each(["1>&-", "2>&-", "1>&- 2>&-"])(
    "keeps what it prints out of its connections when started with %s",
    (closed) =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const path = `${directory}/app.sock`
        const child = yield* withListening(path, (fd) =>
          spawned(() =>
            ChildProcess.spawn(
              "/bin/sh",
              ["-c", `exec "$0" "$1" listen print ${closed}`, process.execPath, fixture],
              { stdio: [fd, "pipe", "pipe"] }
            )
          ))
        for (let i = 0; i < 5; i++) assert.strictEqual(yield* answer({ path }), `pid ${child.process.pid}`)
        assert.isNull(child.process.exitCode)
      })
  )

  it.live.each([
    "listen stdin",
    "stdin listen",
    "listen terminal",
    "terminal listen",
    "stdin listen terminal",
    "terminal listen stdin"
  ])("lives with whatever looks at process.stdin: %s", (order) =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const steps = order.split(" ")
      for (const to of [`${directory}/app.sock`, { host: "127.0.0.1" }]) {
        let port = 0
        const child = yield* withListening(to, (fd, server) => {
          if (typeof to !== "string") port = (server.address() as Net.AddressInfo).port
          return spawnFixture(steps, fd)
        })
        yield* child.line("listening")
        for (const step of steps) {
          if (step !== "listen") yield* child.line(step)
        }
        yield* child.line("end of stdin")
        assert.strictEqual(
          yield* answer(typeof to === "string" ? { path: to } : { port }),
          `pid ${child.process.pid}`
        )
        assert.notInclude(child.lines(), "data on stdin")
        assert.strictEqual(child.stderr(), "")
      }
    }))

  it.live("shares the socket with other processes, and leaves it to them when it stops", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = `${directory}/app.sock`
      const [first, second] = yield* withListening(path, (fd) =>
        Effect.all([spawnFixture(["listen"], fd), spawnFixture(["listen"], fd)]))
      yield* first.line("listening")
      yield* second.line("listening")
      const others = new Set<string>()
      while (others.size < 2) {
        others.add(yield* answer({ path }))
      }
      first.process.kill("SIGTERM")
      yield* first.line("stopped")
      for (let i = 0; i < 50; i++) {
        assert.strictEqual(yield* answer({ path }), `pid ${second.process.pid}`)
      }
      // The last one closes the socket, although libuv never closes descriptor 0.
      second.process.kill("SIGTERM")
      yield* second.line("stopped")
      assert.strictEqual(yield* connectCode({ path }), "ECONNREFUSED")
      assert.isNull(second.process.exitCode)
    }))

  it.live("accepts on another descriptor when told so", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = `${directory}/app.sock`
      const child = yield* withListening(path, (fd) => spawnFixture(["listen:3"], "ignore", [fd]))
      yield* child.line("listening")
      assert.strictEqual(yield* answer({ path }), `pid ${child.process.pid}`)
      child.process.kill("SIGTERM")
      yield* child.line("stopped")
      assert.strictEqual(yield* connectCode({ path }), "ECONNREFUSED")
    }))
})

describeWith(["ss"], "the backlog of a listener on a descriptor", (ss) => {
  it.live.each([["listen", "511"], ["listen:0:77", "77"]])(
    "with %s is %s, whatever it was before",
    ([step, backlog]) =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const path = `${directory}/app.sock`
        const child = yield* withListening(path, (fd) => spawnFixture([step], fd))
        yield* child.line("listening")
        // State Recv-Q Send-Q …: for a listening socket the third is its backlog.
        const line = ChildProcess.execFileSync(ss, ["-lxH"], { encoding: "utf8" }).split("\n")
          .find((line) => line.includes(path))
        assert.strictEqual(/LISTEN\s+\d+\s+(\d+)/.exec(line ?? "")?.[1], backlog)
      })
  )
})

describe("a listener without free descriptors", () => {
  it.live("survives, and accepts again when there are some", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = `${directory}/app.sock`
      const child = yield* withListening(path, (fd) =>
        spawned(() =>
          ChildProcess.spawn(
            "/bin/sh",
            ["-c", "ulimit -n 100; exec \"$0\" \"$@\"", process.execPath, fixture, "listen", "exhaust"],
            { stdio: [fd, "pipe", "pipe"] }
          )
        ))
      yield* child.line("exhausted")
      const answers = yield* Effect.forEach(Array.from({ length: 20 }), () => answer({ path }), { concurrency: 20 })
      assert.deepStrictEqual(answers, answers.map(() => ""))
      child.process.kill("SIGUSR2")
      yield* child.line("released")
      assert.strictEqual(yield* answer({ path }), `pid ${child.process.pid}`)
      assert.strictEqual(child.stderr(), "")
    }))
})

describe("a listener on a descriptor that does not listen", () => {
  const failed = (child: Child, kind: string) =>
    Effect.gen(function*() {
      assert.strictEqual(
        yield* child.line("failed"),
        `failed NotASocket File descriptor 0 is not a listening socket (it is ${kind}). ${whatToDo}`
      )
      assert.strictEqual(child.stderr(), "")
    })

  it.live("says that it is a device", () =>
    Effect.flatMap(spawnFixture(["listen"], "ignore"), (child) => failed(child, "a device such as /dev/null")))

  it.live("says that it is a connected socket", () =>
    // Node's pipes to its children are pairs of UNIX sockets.
    Effect.flatMap(
      spawnFixture(["listen"], "pipe"),
      (child) => failed(child, "a socket, but a connected one or one that cannot listen")
    ))

  it.live("says that it is a pipe", () =>
    Effect.flatMap(spawnShell("cat /dev/null | \"$0\" \"$1\" listen"), (child) => failed(child, "a pipe")))

  it.live("says that it is a file", () =>
    Effect.flatMap(spawnShell("exec \"$0\" \"$1\" listen < \"$1\""), (child) => failed(child, "a file")))

  it.live("says that another one is closed", () =>
    Effect.gen(function*() {
      const child = yield* spawnFixture(["listen:77"], "ignore")
      assert.strictEqual(
        yield* child.line("failed"),
        "failed NotASocket File descriptor 77 is not a listening socket (it is closed). Give { path: ... } or " +
          "{ port: ... } to make it listen on its own, or let something start it that listens."
      )
    }))

  describeWith(["script"], "in a terminal", (script) => {
    it.live("says that it is a terminal", () =>
      Effect.gen(function*() {
        const child = yield* spawned(() =>
          ChildProcess.spawn(script, ["-qec", `"${process.execPath}" "${fixture}" listen`, "/dev/null"], {
            stdio: "pipe"
          })
        )
        const line = yield* child.line("failed")
        assert.strictEqual(
          line.trimEnd(),
          `failed NotASocket File descriptor 0 is not a listening socket (it is a terminal). ${whatToDo}`
        )
      }))
  })
})

describeWith(["spawn-fcgi"], "started by spawn-fcgi", (spawnFcgi) => {
  it.live("accepts on its path", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = `${directory}/app.sock`
      const child = yield* spawned(() =>
        ChildProcess.spawn(spawnFcgi, ["-n", "-s", path, "--", process.execPath, fixture, "listen", "terminal"], {
          stdio: "pipe"
        })
      )
      assert.strictEqual(yield* child.line("listening"), `listening ${JSON.stringify(path)}`)
      assert.strictEqual(yield* answer({ path }), `pid ${child.process.pid}`)
    }))
})
