/**
 * The application as others start it: the commands and the configuration are those of docs/starting.md.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { projectRoot } from "../support/files.ts"
import { programFile } from "../support/programFile.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import * as Application from "./support/application.ts"
import { call } from "./support/direct.ts"
import { request } from "./support/http.ts"
import * as Lighttpd from "./support/lighttpd.ts"

const page = Fs.readFileSync(Path.join(projectRoot, "docs/starting.md"), "utf8")

/** A command of the page, for a shell that becomes the program. */
const documentedCommand = (title: string) => {
  const lines = WebServers.documented(page, "sh", title).split("\n").filter((line) => !/^(#|$)/.test(line))
  assert.strictEqual(lines.length, 1)
  return `exec ${lines[0]}`
}

interface Places {
  readonly folder: string
  readonly socket: string
  readonly application: Application.Conversation
  /** What stands for `/usr/bin/node /srv/app/main.js`. */
  readonly app: (...args: ReadonlyArray<string>) => string
}

const places: Effect.Effect<Places, never, Scope.Scope> = Effect.gen(function*() {
  const folder = yield* WebServers.temporaryDirectory
  const application = yield* Application.converse(Path.join(folder, "control.sock"))
  return {
    folder,
    socket: Path.join(folder, "app.sock"),
    application,
    app: (...args) => [process.execPath, ...Application.command(application.path, ...args)].join(" ")
  }
})

/** Runs a command of the page at other places. */
const startDocumented = (
  title: string,
  { application, socket }: Places,
  more: ReadonlyArray<readonly [string, string]> = [],
  args: ReadonlyArray<string> = [],
  ready?: Effect.Effect<unknown, unknown>
) =>
  WebServers.start({
    name: title,
    command: "/bin/sh",
    args: [
      "-c",
      WebServers.fill(documentedCommand(title), [
        ["/usr/bin/node", process.execPath],
        ["/srv/app/main.js", Application.command(application.path, ...args).join(" ")],
        ...(more.length === 0 ? [["/run/app/app.sock", socket] as const] : more)
      ])
    ],
    ready
  })

/** Starts something that has the socket, and says when the application behind it has started. */
const underSpawnFcgi = (spawnFcgi: string, { application, socket }: Places, ...command: ReadonlyArray<string>) =>
  WebServers.start({
    name: "spawn-fcgi",
    command: spawnFcgi,
    args: ["-n", "-s", socket, "--", ...command],
    ready: application.started(1)
  })

const executable = (folder: string, name: string, text: string) => {
  const file = Path.join(folder, name)
  Fs.writeFileSync(file, text, { mode: 0o755 })
  return file
}

/** The script of the page, with the application in it. */
const wrapper = ({ app, folder }: Places, change: (text: string) => string = (text) => text) => {
  const text = /^```sh\n(#!\/bin\/sh\n# a wrapper script[\s\S]*?)^```$/m.exec(page)?.[1] ?? ""
  return executable(folder, "start", change(WebServers.fill(text, [["/usr/bin/node /srv/app/main.js", app()]])))
}

const gone = (pid: number) => WebServers.until(`the end of process ${pid}`, () => !WebServers.isRunning(pid))

describeWith(["spawn-fcgi"], "started by spawn-fcgi", (spawnFcgi) => {
  it.live("in the foreground, on a UNIX socket: serves, and ends with 0 at SIGTERM", () =>
    Effect.gen(function*() {
      const at = yield* places
      const program = yield* startDocumented("spawn-fcgi, in the foreground", at, [], [], at.application.started(1))
      assert.deepStrictEqual(yield* at.application.started(1), [program.pid])
      assert.deepStrictEqual(at.application.addresses(), [`unix://${at.socket}`])
      assert.strictEqual(Fs.statSync(at.socket).mode & 0o777, 0o660)
      assert.deepStrictEqual(yield* call({ path: at.socket }, "/hello"), { status: 200, text: "Hello world!" })
      assert.deepStrictEqual(yield* program.stop("SIGTERM"), { code: 0, signal: null })
      assert.strictEqual(program.log(), "")
      // It is spawn-fcgi's, which is no more.
      assert.isTrue(Fs.existsSync(at.socket))
    }))

  it.live("on a port", () =>
    Effect.gen(function*() {
      const at = yield* places
      const port = yield* WebServers.freePort
      const program = yield* startDocumented(
        "spawn-fcgi, a port",
        at,
        [["-p 9000", `-p ${port}`]],
        [],
        at.application.started(1)
      )
      assert.deepStrictEqual(at.application.addresses(), [`http://127.0.0.1:${port}`])
      assert.strictEqual((yield* call({ port }, "/hello")).status, 200)
      assert.deepStrictEqual(yield* program.stop("SIGINT"), { code: 0, signal: null })
    }))

  it.live("as a daemon, with two processes on one socket, of which one goes on when the other is stopped", () =>
    Effect.gen(function*() {
      const at = yield* places
      const pidFile = Path.join(at.folder, "app.pid")
      const program = yield* startDocumented("spawn-fcgi, as a daemon", at, [
        ["/run/app/app.sock", at.socket],
        ["/run/app/app.pid", pidFile]
      ])
      assert.deepStrictEqual(yield* program.ended, { code: 0, signal: null })
      const pids = yield* at.application.started(2)
      assert.deepStrictEqual(
        Fs.readFileSync(pidFile, "utf8").trim().split(/\s+/).map(Number).sort(),
        [...pids].sort()
      )
      for (const pid of pids) {
        for (const fd of [1, 2]) assert.strictEqual(Fs.readlinkSync(`/proc/${pid}/fd/${fd}`), "/dev/null")
      }
      process.kill(pids[0]!, "SIGTERM")
      yield* gone(pids[0]!)
      for (let i = 0; i < 20; i++) assert.strictEqual((yield* call({ path: at.socket }, "/hello")).status, 200)
      process.kill(pids[1]!, "SIGTERM")
      yield* gone(pids[1]!)
      const refused = yield* Effect.flip(WebServers.accepts({ path: at.socket }))
      assert.strictEqual((refused as NodeJS.ErrnoException).code, "ECONNREFUSED")
    }))

  it.live("by a script without arguments that ends with exec", () =>
    Effect.gen(function*() {
      const at = yield* places
      const program = yield* underSpawnFcgi(spawnFcgi!, at, wrapper(at))
      assert.deepStrictEqual(yield* at.application.started(1), [program.pid])
      assert.strictEqual(Fs.readlinkSync(`/proc/${program.pid}/cwd`), Fs.realpathSync(at.folder))
      assert.strictEqual((yield* call({ path: at.socket }, "/hello")).status, 200)
      assert.deepStrictEqual(yield* program.stop("SIGTERM"), { code: 0, signal: null })
    }))

  it.live("by a script without exec: is an orphan when the script is stopped", () =>
    Effect.gen(function*() {
      const at = yield* places
      // A shell may do for the last command of a script what exec does.
      const script = wrapper(at, (text) => `${text.replace("exec ", "")}exit $?\n`)
      const program = yield* underSpawnFcgi(spawnFcgi!, at, script)
      const [pid] = yield* at.application.started(1)
      assert.notStrictEqual(pid, program.pid)
      assert.deepStrictEqual(yield* program.stop("SIGTERM"), { code: null, signal: "SIGTERM" })
      assert.strictEqual((yield* call({ path: at.socket }, "/hello")).status, 200)
      assert.isTrue(WebServers.isRunning(pid!))
      process.kill(pid!, "SIGTERM")
      yield* gone(pid!)
    }))

  it.live("with an empty environment, without PATH and HOME", () =>
    Effect.gen(function*() {
      const at = yield* places
      const program = yield* underSpawnFcgi(spawnFcgi!, at, "/usr/bin/env", "-i", ...at.app().split(" "))
      assert.strictEqual(Fs.readFileSync(`/proc/${program.pid}/environ`, "utf8"), "")
      assert.strictEqual((yield* call({ path: at.socket }, "/hello")).status, 200)
      assert.deepStrictEqual(yield* program.stop("SIGTERM"), { code: 0, signal: null })
      assert.strictEqual(program.log(), "")
    }))

  it.live("with stdout and stderr closed: what it logs reaches no connection", () =>
    Effect.gen(function*() {
      const at = yield* places
      const script = executable(at.folder, "closed", "#!/bin/sh\nexec \"$@\" 1>&- 2>&-\n")
      const program = yield* underSpawnFcgi(spawnFcgi!, at, script, ...at.app().split(" "))
      for (const fd of [1, 2]) assert.strictEqual(Fs.readlinkSync(`/proc/${program.pid}/fd/${fd}`), "/dev/null")
      // Nobody but the connections that are open now could get what is logged.
      const bystander = yield* Effect.acquireRelease(
        Effect.sync(() => Net.connect(at.socket)),
        (socket) => Effect.sync(() => socket.destroy())
      )
      let received = ""
      bystander.on("data", (bytes) => {
        received += String(bytes)
      })
      for (let i = 0; i < 3; i++) {
        assert.deepStrictEqual(yield* call({ path: at.socket }, "/print?text=a-line"), { status: 200, text: "logged" })
      }
      assert.strictEqual((yield* call({ path: at.socket }, "/hello")).text, "Hello world!")
      assert.deepStrictEqual(yield* program.stop("SIGTERM"), { code: 0, signal: null })
      assert.strictEqual(received, "")
      assert.strictEqual(program.log(), "")
    }))

  it.live("without stdin, stdout and stderr, when it listens itself", () =>
    Effect.gen(function*() {
      const at = yield* places
      const program = yield* WebServers.start({
        name: "the application",
        command: "/bin/sh",
        args: ["-c", `exec ${at.app("--path", at.socket)} 0<&- 1>&- 2>&-`],
        ready: at.application.started(1)
      })
      assert.deepStrictEqual(yield* call({ path: at.socket }, "/print?text=a-line"), { status: 200, text: "logged" })
      assert.strictEqual((yield* call({ path: at.socket }, "/hello")).text, "Hello world!")
      assert.deepStrictEqual(yield* program.stop("SIGTERM"), { code: 0, signal: null })
    }))
})

describeWith(["spawn-fcgi", "multiwatch"], "started by multiwatch", (spawnFcgi, multiwatch) => {
  it.live("stops with it: it waits until every process has ended", () =>
    Effect.gen(function*() {
      const at = yield* places
      const program = yield* startDocumented("multiwatch: two processes", at, [], [], at.application.started(2))
      const pids = yield* at.application.started(2)
      assert.strictEqual(new Set(pids).size, 2)
      const id = at.application.id()
      const running = yield* Effect.forkScoped(call({ path: at.socket }, `/wait?id=${id}`), { startImmediately: true })
      yield* at.application.hears("Begun", id)
      process.kill(program.pid, "SIGTERM")
      // The one that has nothing to do ends, the other one finishes.
      yield* WebServers.until("the end of one process", () => pids.some((pid) => !WebServers.isRunning(pid)))
      assert.isTrue(pids.some(WebServers.isRunning))
      yield* at.application.say({ _tag: "Finish", id })
      assert.deepStrictEqual(yield* Fiber.join(running), { status: 200, text: "finished" })
      assert.deepStrictEqual(yield* program.ended, { code: 0, signal: null })
      for (const pid of pids) assert.isFalse(WebServers.isRunning(pid))
      assert.notInclude(program.log(), "Debugger")
    }))

  it.live("is started again when it dies", () =>
    Effect.gen(function*() {
      const at = yield* places
      const program = yield* underSpawnFcgi(spawnFcgi!, at, multiwatch!, "-f", "2", "--", ...at.app().split(" "))
      const [first] = yield* at.application.started(2)
      process.kill(first!, "SIGKILL")
      const pids = yield* at.application.started(3)
      for (let i = 0; i < 20; i++) assert.strictEqual((yield* call({ path: at.socket }, "/hello")).status, 200)
      assert.deepStrictEqual(yield* program.stop("SIGTERM"), { code: 0, signal: null })
      for (const pid of pids) assert.isFalse(WebServers.isRunning(pid))
    }))
})

describeWith(["systemd-socket-activate"], "started by systemd", () => {
  for (
    const [title, args] of [
      ["systemd-socket-activate: starts the application", ["--systemd", "''"]],
      ["systemd-socket-activate, as inetd does it", []]
    ] as const
  ) {
    it.live(title, () =>
      Effect.gen(function*() {
        const at = yield* places
        const program = yield* startDocumented(
          title,
          at,
          [],
          args,
          WebServers.until("it listens", () => WebServers.isListening({ path: at.socket }))
        )
        // The first connection starts it, and waits.
        assert.deepStrictEqual(yield* call({ path: at.socket }, "/hello"), { status: 200, text: "Hello world!" })
        assert.deepStrictEqual(yield* at.application.started(1), [program.pid])
        assert.deepStrictEqual(at.application.addresses(), [`unix://${at.socket}`])
        // In the second way stdout is the socket.
        assert.strictEqual((yield* call({ path: at.socket }, "/print?text=a-line")).text, "logged")
        yield* program.says(/INFO \(#\d+\): a-line/)
        assert.strictEqual((yield* call({ path: at.socket }, "/hello")).status, 200)
        assert.deepStrictEqual(yield* program.stop("SIGTERM"), { code: 0, signal: null })
      }))
  }
})

describeWith(["systemd-analyze"], "the units of examples/systemd", (analyze) => {
  const units = [
    ["app.socket", "app.socket: systemd listens"],
    ["app.service", "app.service: the application, on the socket"],
    ["app-listening.service", "app.service: the application, listening on its own"]
  ] as const

  it.each(units)("%s is what the page says", (file, title) => {
    assert.strictEqual(
      WebServers.documented(page, "ini", title),
      Fs.readFileSync(Path.join(projectRoot, "examples/systemd", file), "utf8")
    )
  })

  const verify = (...files: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      for (const file of files) {
        const text = Fs.readFileSync(Path.join(projectRoot, "examples/systemd", file), "utf8")
        Fs.writeFileSync(
          Path.join(folder, file),
          file.endsWith(".service") ? WebServers.fill(text, [["/usr/bin/node", process.execPath]]) : text
        )
      }
      return yield* WebServers.run({
        name: "systemd-analyze",
        command: analyze!,
        args: ["verify", "--man=no", ...files.map((file) => Path.join(folder, file))]
      })
    })

  it.live.each([[["app.socket", "app.service"]], [["app-listening.service"]]])(
    "%s are correct",
    ([files]) =>
      Effect.gen(function*() {
        // It exits with 0 whatever it has found.
        assert.deepStrictEqual(yield* verify(...files!), { code: 0, signal: null, log: "" })
      })
  )

  it("give the application longer than it takes at most", () => {
    for (const file of ["app.service", "app-listening.service"]) {
      const text = Fs.readFileSync(Path.join(projectRoot, "examples/systemd", file), "utf8")
      assert.isAbove(Number(/^TimeoutStopSec=(\d+)s$/m.exec(text)?.[1]), 20)
    }
  })
})

describeWith(["lighttpd"], "started by lighttpd with the configuration of the page", (lighttpd) => {
  it.live("serves, and has lighttpd send a file", () =>
    Effect.gen(function*() {
      const at = yield* places
      const port = yield* WebServers.freePort
      const file = Path.join(at.folder, "a file")
      Fs.writeFileSync(file, "what is in the file")
      const server = yield* Lighttpd.start(
        lighttpd!,
        at.folder,
        port,
        WebServers.fill(WebServers.documented(page, "lighttpd", "lighttpd starts the application, and sends files"), [
          ["/usr/bin/node /srv/app/main.js", at.app()],
          ["/run/lighttpd/app.sock", at.socket]
        ])
      )
      const [pid] = yield* at.application.started(1)
      assert.deepStrictEqual(at.application.addresses(), [`unix://${at.socket}-0`])
      // There is no such file: check-local is disabled.
      assert.strictEqual((yield* request(port, "/hello")).text, "Hello world!")
      const sent = yield* request(port, `/send-file?path=${encodeURIComponent(file)}`)
      assert.deepStrictEqual([sent.status, sent.text], [200, "what is in the file"])
      assert.isUndefined(sent.headers["x-sendfile"])
      yield* server.stop("SIGTERM")
      yield* gone(pid!)
    }))
})

describe("an application that cannot start", () => {
  const app = [process.execPath, programFile("test/servers/app.ts")].join(" ")

  /** It exits with 1, and all that it says is a line that begins so; the page has it. */
  const says = (
    beginning: string,
    command: string,
    place: readonly [documented: string, real: string] = ["", ""]
  ) =>
    Effect.gen(function*() {
      assert.include(page, `\`${beginning}`)
      const { code, log } = yield* WebServers.run({
        name: command,
        command: "/bin/sh",
        args: ["-c", `exec ${command}`]
      })
      const lines = log.trim().split(/\r?\n/)
      assert.strictEqual(lines.length, 1, log)
      const message = lines[0]!.replace(/^\[[\d:.]+\] ERROR \(#\d+\): /, "")
      const expected = place[0] === "" ? beginning : beginning.replace(place[0], place[1])
      assert.strictEqual(message.slice(0, expected.length), expected)
      assert.strictEqual(code, 1)
    })

  it.live("says that descriptor 0 is a device", () =>
    says(
      "File descriptor 0 is not a listening socket (it is a device such as /dev/null)",
      `${app} </dev/null`
    ))

  it.live("says that descriptor 0 is a connected socket", () =>
    Effect.gen(function*() {
      const beginning =
        "File descriptor 0 is not a listening socket (it is a socket, but a connected one or one that " +
        "cannot listen)"
      assert.include(page, `\`${beginning}`)
      // Node's pipes to its children are pairs of UNIX sockets.
      const [command, ...args] = app.split(" ")
      const { status, stderr } = ChildProcess.spawnSync(command!, args, { encoding: "utf8", stdio: "pipe" })
      assert.include(stderr, beginning)
      assert.strictEqual(status, 1)
    }))

  const other = (to: Net.ListenOptions) =>
    Effect.acquireRelease(
      Effect.callback<Net.Server>((resume) => {
        const server = Net.createServer()
        server.listen(to, () => resume(Effect.succeed(server)))
      }),
      (server) => Effect.sync(() => server.close())
    )

  it.live("says that somebody listens at the path", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* WebServers.temporaryDirectory, "app.sock")
      yield* other({ path })
      yield* says("Cannot listen on /run/app/app.sock: another process listens there", `${app} --path ${path}`, [
        "/run/app/app.sock",
        path
      ])
    }))

  it.live("says that somebody has the port", () =>
    Effect.gen(function*() {
      const server = yield* other({ port: 0, host: "127.0.0.1" })
      const { port } = server.address() as Net.AddressInfo
      yield* says("Cannot listen on 127.0.0.1:9000: another process has the port", `${app} --port ${port}`, [
        "9000",
        String(port)
      ])
    }))

  it.live("says that the directory does not exist", () =>
    says("Cannot listen on /run/app/app.sock: its directory does not exist", `${app} --path /missing/app.sock`, [
      "/run/app/app.sock",
      "/missing/app.sock"
    ]))

  it.live("says that a file is in the way", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* WebServers.temporaryDirectory, "app.sock")
      Fs.writeFileSync(path, "")
      yield* says(
        "Cannot listen on /run/app/app.sock: a file is there that is no socket, so it is not replaced",
        `${app} --path ${path}`,
        ["/run/app/app.sock", path]
      )
    }))

  it.live("says that systemd has passed nothing", () =>
    says("No socket was passed by systemd: LISTEN_FDS is not set", `${app} --systemd ''`))

  it.live("says that systemd has passed sockets to another process", () =>
    says(
      "The sockets that systemd has passed are for process",
      `env LISTEN_FDS=1 LISTEN_PID=1 ${app} --systemd ''`
    ))

  it.live("says which names systemd has passed", () =>
    says(
      "No socket that systemd has passed is named \"fastcgi\"",
      `sh -c 'export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=web; exec ${app} --systemd fastcgi'`
    ))

  describeWith(["script"], "in a terminal", (script) => {
    it.live("says so", () =>
      Effect.gen(function*() {
        const beginning = "File descriptor 0 is not a listening socket (it is a terminal)"
        assert.include(page, `\`${beginning}`)
        const child = ChildProcess.spawnSync(script!, ["-qec", app, "/dev/null"], { encoding: "utf8", stdio: "pipe" })
        assert.include(child.stdout, beginning)
        assert.strictEqual(child.stdout.trim().split("\n").length, 1)
        assert.strictEqual(child.status, 1)
      }))
  })
})
