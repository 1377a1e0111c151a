import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import { programFile } from "../support/programFile.ts"
import { describeWith } from "../support/requirement.ts"
import { freePort, isListening, until } from "../support/webServers.ts"
import { spawned } from "./children.ts"
import { connectClient, connectCode, temporaryDirectory } from "./sockets.ts"

const fixture = programFile("test/node/fixtures/activated.ts")

type To = { readonly path: string } | { readonly port: number }

const answer = (to: To) =>
  Effect.scoped(Effect.gen(function*() {
    const client = yield* connectClient(to)
    yield* Effect.race(client.ended, client.closed)
    return client.received().toString()
  }))

const place = (to: To) => "path" in to ? to.path : `127.0.0.1:${to.port}`

describeWith(["systemd-socket-activate"], "a listener on the sockets of systemd", (activate) => {
  /** Starts the program for the sockets. It runs from the first connection on. */
  const activated = (
    sockets: ReadonlyArray<To>,
    options: ReadonlyArray<string>,
    listeners: ReadonlyArray<string>,
    program: ReadonlyArray<string> = [process.execPath, fixture]
  ) =>
    Effect.gen(function*() {
      const child = yield* spawned(() =>
        ChildProcess.spawn(
          activate!,
          [...sockets.map((to) => `--listen=${place(to)}`), ...options, ...program, ...listeners],
          { stdio: ["ignore", "pipe", "pipe"] }
        )
      )
      // Looked at, because a connection would start the program.
      yield* until("it listens", () => sockets.every(isListening))
      return child
    })

  const places = Effect.gen(function*() {
    const directory = yield* temporaryDirectory
    return [{ path: `${directory}/1.sock` }, { port: yield* freePort }, { path: `${directory}/2.sock` }] as const
  })

  it.live("accepts on one, in the process that systemd has started, and stops", () =>
    Effect.gen(function*() {
      const [to] = yield* places
      const child = yield* activated([to], [], ["*"])
      assert.strictEqual(yield* answer(to), `pid ${child.process.pid}`)
      child.process.kill("SIGTERM")
      assert.deepStrictEqual(yield* child.exited, [0, null])
      assert.strictEqual(yield* connectCode(to), "ECONNREFUSED")
      assert.include(child.stderr(), `\nlistening * ${to.path}\n`)
      assert.deepStrictEqual(child.lines(), [])
    }))

  it.live("accepts on all of several, and has the addresses of all", () =>
    Effect.gen(function*() {
      const all = yield* places
      const child = yield* activated(all, [], ["*"])
      for (const to of [...all, ...all]) assert.strictEqual(yield* answer(to), `pid ${child.process.pid}`)
      child.process.kill("SIGTERM")
      assert.deepStrictEqual(yield* child.exited, [0, null])
      for (const to of all) assert.strictEqual(yield* connectCode(to), "ECONNREFUSED")
      assert.include(child.stderr(), `\nlistening * ${all[0].path} 127.0.0.1:${all[1].port} ${all[2].path}\n`)
    }))

  it.live("chooses by name, also several of one name", () =>
    Effect.gen(function*() {
      const all = yield* places
      const child = yield* activated(all, ["--fdname=web:admin:web"], ["admin", "web"])
      for (const to of all) assert.strictEqual(yield* answer(to), `pid ${child.process.pid}`)
      assert.include(
        child.stderr(),
        `\nlistening admin 127.0.0.1:${all[1].port}\nlistening web ${all[0].path} ${all[2].path}\n`
      )
    }))

  it.live("leaves alone what has another name", () =>
    Effect.gen(function*() {
      const [first, second] = yield* places
      const child = yield* activated([first, second], ["--fdname=web:admin"], ["web"])
      assert.strictEqual(yield* answer(first), `pid ${child.process.pid}`)
      // The other one is open, and nobody accepts from it: what is sent is not answered.
      const client = yield* connectClient(second)
      child.process.kill("SIGTERM")
      yield* child.exited
      yield* Effect.race(client.ended, client.closed)
      assert.strictEqual(client.received().toString(), "")
    }))

  it.live("tells the programs that it starts nothing of them, and gives them none", () =>
    Effect.gen(function*() {
      const [to] = yield* places
      const child = yield* activated([to], [], ["*"])
      yield* answer(to)
      child.process.kill("SIGTERM")
      yield* child.exited
      assert.include(child.stderr(), "\ntold false false\n")
    }))

  const fails = (
    message: string | RegExp,
    options: ReadonlyArray<string>,
    listeners: ReadonlyArray<string>,
    program?: ReadonlyArray<string>
  ) =>
    Effect.gen(function*() {
      const [to] = yield* places
      const child = yield* activated([to], options, listeners, program)
      yield* Effect.exit(answer(to))
      if (options.includes("--accept")) {
        yield* until("the program says why", () => child.stderr().includes("ERROR"))
      } else assert.deepStrictEqual(yield* child.exited, [1, null])
      const said = /ERROR \(#\d+\): (.*)/.exec(child.stderr())?.[1] ?? ""
      if (typeof message === "string") assert.strictEqual(said, message)
      else assert.match(said, message)
    })

  it.live("fails when no socket has the name", () =>
    fails(
      "No socket that systemd has passed is named \"web\". There is \"admin\" (file descriptor 3). " +
        "Set FileDescriptorName=web in the socket unit.",
      ["--fdname=admin"],
      ["web"]
    ))

  it.live("fails when a socket is listened on already", () =>
    fails(/^Cannot listen on file descriptor 3: this program uses it already/, [], ["*", "*"]))

  it.live("fails in a process that systemd has not started itself", () =>
    fails(/^The sockets that systemd has passed are for process \d+, and this is process \d+\. /, [], ["*"], [
      "/bin/sh",
      "-c",
      "\"$@\"; exit $?",
      "sh",
      process.execPath,
      fixture
    ]))

  it.live("fails when it is started for one connection", () =>
    fails(
      /^File descriptor 3 is not a listening socket \(it is a socket, but a connected one or one that cannot listen\)\. /,
      ["--accept"],
      ["*"]
    ))
})

describeWith(["systemd-socket-activate"], "a listener that inetd has started", (activate) => {
  it.live("puts /dev/null in the place of stdout, which is its socket", () =>
    Effect.gen(function*() {
      const path = `${yield* temporaryDirectory}/app.sock`
      const app = programFile("test/node/fixtures/inherited.ts")
      const child = yield* spawned(() =>
        // `writes` writes to stdout, before and after.
        ChildProcess.spawn(activate!, ["--inetd", `--listen=${path}`, process.execPath, app, "listen", "writes"], {
          stdio: ["ignore", "pipe", "pipe"]
        })
      )
      yield* until("it listens", () => isListening({ path }))
      assert.strictEqual(yield* answer({ path }), `pid ${child.process.pid}`)
      assert.strictEqual(Fs.readlinkSync(`/proc/${child.process.pid}/fd/1`), "/dev/null")
      assert.match(child.stderr(), /Execing .*\n$/)
    }))
})
