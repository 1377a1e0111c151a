/**
 * What a process takes from its start to its first response, in CPU time: others that run at the same time make it wait, and no more.
 * mod_fcgid gives an application 3 seconds.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { projectRoot } from "../support/files.ts"
import { call } from "./support/direct.ts"

// In milliseconds.
const bound = 2000

// As a user starts it: nothing compiled beforehand.
const env = { ...process.env, NODE_COMPILE_CACHE: undefined }

/** The CPU time of a process, of all its threads, in milliseconds: Linux counts hundredths of a second (proc_pid_stat(5)). */
const cpuTimeOf = (pid: number): number => {
  const [, user, system] = /\) \S(?: \S+){10} (\d+) (\d+) /.exec(Fs.readFileSync(`/proc/${pid}/stat`, "utf8"))!
  return (Number(user) + Number(system)) * 10
}

/** Starts node with the arguments on a listening socket, and measures what it takes until the request has been answered. */
const timed = <A, E>(args: ReadonlyArray<string>, ask: (port: number) => Effect.Effect<A, E>) =>
  Effect.scoped(Effect.gen(function*() {
    const server = yield* Effect.callback<Net.Server>((resume) => {
      const server = Net.createServer()
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    })
    const { port } = server.address() as Net.AddressInfo
    const { fd } = (server as unknown as { readonly _handle: { readonly fd: number } })._handle
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const child = ChildProcess.spawn(process.execPath, args, { env, stdio: [fd, "ignore", "inherit"] })
        server.close()
        return child
      }),
      (child) =>
        Effect.callback<void>((resume) => {
          child.on("exit", () => resume(Effect.void))
          child.kill("SIGTERM")
        })
    )
    const answer = yield* ask(port)
    return { answer, time: cpuTimeOf(child.pid!) }
  }))

/** The least of three: tests that run at the same time share the caches of the processor. */
const least = <A, E>(args: ReadonlyArray<string>, ask: (port: number) => Effect.Effect<A, E>, expected: A) =>
  Effect.gen(function*() {
    const times: Array<number> = []
    for (let i = 0; i < 3; i++) {
      const { answer, time } = yield* timed(args, ask)
      assert.deepStrictEqual(answer, expected)
      times.push(time)
    }
    return Math.min(...times)
  })

/** A program of Node alone that answers every connection. */
const bare = least(
  ["--eval", "require('node:net').createServer((socket) => socket.end('bare')).listen({ fd: 0 })"],
  (port) =>
    Effect.callback<string, Error>((resume) => {
      const socket = Net.connect(port, "127.0.0.1")
      socket.on("data", (bytes) => {
        socket.destroy()
        resume(Effect.succeed(String(bytes)))
      })
      socket.on("error", (error) => resume(Effect.fail(error)))
    }),
  "bare"
)

/** The command of docs/starting.md, which makes one file of an application. */
const bundle = (main: string, file: string): ReadonlyArray<string> => {
  const page = Fs.readFileSync(Path.join(projectRoot, "docs/starting.md"), "utf8")
  const command = /^npx (rolldown main\.js .*)$/m.exec(page)![1]!
  return command.split(" ").map((word) => word === "main.js" ? main : word === "app.mjs" ? file : word)
}

describe("an application that is one file", () => {
  it.live("answers, and starts faster than its modules do", () =>
    Effect.gen(function*() {
      const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-fastcgi-one-file-"))
      yield* Effect.addFinalizer(() => Effect.sync(() => Fs.rmSync(folder, { recursive: true })))
      const main = Path.join(projectRoot, "test/node/fixtures/app.ts")
      const file = Path.join(folder, "app.mjs")
      const [program, ...args] = bundle(main, file)
      ChildProcess.execFileSync(Path.join(projectRoot, "node_modules/.bin", program!), args, {
        cwd: projectRoot,
        stdio: "pipe"
      })
      const ask = (port: number) => Effect.map(call({ port }, "/none"), ({ status }) => status)
      const asRun = yield* least([main], ask, 404)
      const asOne = yield* least([file], ask, 404)
      console.log(`one file starts in ${(asOne / asRun).toFixed(2)} of the time`)
      assert.isBelow(asOne, asRun)
    }))
})

describe("an application that is started", () => {
  it.live.each(
    [
      ["of one route", "test/node/fixtures/app.ts", "/none"],
      ["of the tests", "test/servers/app.ts", "/status?code=404"]
    ] as const
  )("%s has answered after less than two seconds", ([name, file, target]) =>
    Effect.gen(function*() {
      const reference = yield* bare
      const time = yield* least(
        [Path.join(projectRoot, file)],
        (port) => Effect.map(call({ port }, target), ({ status }) => status),
        404
      )
      console.log(`the application ${name} is ${(time / reference).toFixed(1)} times as slow to start as bare node`)
      assert.isBelow(time, bound)
    }))
})
