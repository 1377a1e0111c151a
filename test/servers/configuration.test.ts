/**
 * What a person sees who has started the application in a way that cannot work: one message that says what to do, no stack trace of
 * the library, and an exit code that says that it has failed.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { programFile } from "../support/programFile.ts"
import { describeWith } from "../support/requirement.ts"
import { freePort, type ProgramOptions, run, temporaryDirectory } from "../support/webServers.ts"
import * as Application from "./support/application.ts"

const app = programFile("test/servers/app.ts")

/** Starts the application, which has to fail, and gives what it says. */
const complaint = (args: ReadonlyArray<string>, options?: Partial<ProgramOptions>) =>
  Effect.gen(function*() {
    const { code, log } = yield* run({
      name: "the application",
      command: process.execPath,
      args: [app, ...args],
      ...options
    })
    assert.strictEqual(code, 1, log)
    const message = /^\[[\d:.]+\] ERROR \(#\d+\): (.*)\r?\n$/.exec(log)
    assert.isNotNull(message, log)
    return message![1]!
  })

const notASocket = (kind: string) =>
  `File descriptor 0 is not a listening socket (it is ${kind}). effect-fastcgi listens on file descriptor 0 by default, because ` +
  "web servers and spawn-fcgi start it that way. Give { path: ... } or { port: ... } to make it listen on its own, or let " +
  "something start it that listens: spawn-fcgi -n -s /run/app.sock -- node app.js"

/** A directory of `user`, or of everybody's. */
const directory: Effect.Effect<string, never, Scope.Scope> = Effect.tap(
  temporaryDirectory,
  (path) => Effect.sync(() => Fs.chmodSync(path, 0o755))
)

/** Debian's nobody, whom nothing belongs to. */
const nobody = { uid: 65_534, gid: 65_534 }
const asRoot = process.getuid?.() === 0

/** Containers often allow every port to everybody. */
const portsAreGuarded = (): boolean => {
  try {
    return Number(Fs.readFileSync("/proc/sys/net/ipv4/ip_unprivileged_port_start", "utf8")) > 1
  } catch {
    return true
  }
}

describe("an application that cannot listen says what to do about it", () => {
  it.live("file descriptor 0 is a file", () =>
    Effect.gen(function*() {
      const file = Fs.openSync(app, "r")
      const message = yield* complaint([], { stdin: file }).pipe(Effect.ensuring(Effect.sync(() => Fs.closeSync(file))))
      assert.strictEqual(message, notASocket("a file"))
    }))

  it.live("file descriptor 0 is a device", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* complaint([]), notASocket("a device such as /dev/null"))
    }))

  it.live("file descriptor 0 is a pipe", () =>
    Effect.gen(function*() {
      const message = yield* complaint([], {
        command: "/bin/sh",
        args: ["-c", ": | \"$0\" \"$1\"", process.execPath, app]
      })
      assert.strictEqual(message, notASocket("a pipe"))
    }))

  it.live("another program listens at the path", () =>
    Effect.gen(function*() {
      const folder = yield* directory
      const path = Path.join(folder, "app.sock")
      yield* Application.start(Path.join(folder, "control.sock"), "--path", path)
      assert.strictEqual(
        yield* complaint(["--path", path]),
        `Cannot listen on ${path}: another process listens there. See which with: ss -lxp src ${path}. ` +
          "Stop it, or choose another path."
      )
      assert.isTrue(Fs.lstatSync(path).isSocket(), "the live program has lost its socket")
    }))

  it.live("another program has the port", () =>
    Effect.gen(function*() {
      const folder = yield* directory
      const port = String(yield* freePort)
      yield* Application.start(Path.join(folder, "control.sock"), "--port", port)
      assert.strictEqual(
        yield* complaint(["--port", port]),
        `Cannot listen on 127.0.0.1:${port}: another process has the port. See which with: ss -ltnp 'sport = :${port}'. ` +
          "Stop it, or choose another port."
      )
    }))

  it.live("a file is at the path, and stays there", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* directory, "app.sock")
      Fs.writeFileSync(path, "precious")
      assert.strictEqual(
        yield* complaint(["--path", path]),
        `Cannot listen on ${path}: a file is there that is no socket, so it is not replaced. Choose another path.`
      )
      assert.strictEqual(Fs.readFileSync(path, "utf8"), "precious")
    }))

  it.live("the path is too long", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* directory, "x".repeat(100))
      assert.strictEqual(
        yield* complaint(["--path", path]),
        `Cannot listen on ${path}: the path has ${path.length} bytes, and a UNIX socket's may have at most 107. ` +
          "Choose a shorter one, below /run for instance."
      )
    }))

  it.live("the directory does not exist", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* directory, "missing/app.sock")
      assert.strictEqual(
        yield* complaint(["--path", path]),
        `Cannot listen on ${path}: its directory does not exist. Create it, owned by the user that runs this program, or ` +
          "choose another path."
      )
    }))

  it.live.skipIf(!asRoot)("the user may not write to the directory", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* directory, "app.sock")
      assert.strictEqual(
        yield* complaint(["--path", path], { user: nobody }),
        `Cannot listen on ${path}: this program's user may not create or replace files in that directory. Give the user a ` +
          "directory of its own, or choose another path."
      )
    }))

  it.live.skipIf(!asRoot || !portsAreGuarded())("the port is for root only", () =>
    Effect.gen(function*() {
      assert.strictEqual(
        yield* complaint(["--port", "1"], { user: nobody }),
        "Cannot listen on 127.0.0.1:1: ports below 1024 are for root and for processes with CAP_NET_BIND_SERVICE. Choose a " +
          "higher port: a FastCGI application is reached through its web server, so any will do."
      )
    }))
})

describeWith(["script"], "an application started in a terminal", (script) => {
  it.live("says that it is one, and what to do about it", () =>
    Effect.gen(function*() {
      const message = yield* complaint([], {
        command: script!,
        args: ["-qec", `"${process.execPath}" "${app}"`, "/dev/null"]
      })
      assert.strictEqual(message.trim(), notASocket("a terminal"))
    }))
})
