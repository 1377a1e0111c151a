/**
 * How the application starts and ends: started, replaced and stopped by lighttpd; stopped while it works, and while others wait.
 */
import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { createHash, randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import * as Apache from "./support/apache.ts"
import * as Application from "./support/application.ts"
import { type HttpError, open, request, type Response } from "./support/http.ts"
import * as Lighttpd from "./support/lighttpd.ts"
import type { Digest, Received } from "./support/messages.ts"
import * as Nginx from "./support/nginx.ts"
import { Site } from "./support/site.ts"
import * as Wrk from "./support/wrk.ts"

const row = Lighttpd.matrix[2]!

/** lighttpd with two processes of the application that it has started. */
const lighttpdSite = (lighttpd: string) =>
  Effect.map(
    Layer.build(Layer.fresh(Lighttpd.layer(lighttpd, "bin-path", [row]))),
    (context) => Context.get(context, Site)
  )

const sockets = (folder: string) => Fs.readdirSync(folder).filter((name) => name.startsWith("app.sock"))

describeWith(["lighttpd"], "an application that lighttpd has started", (lighttpd) => {
  it.live("is told where it listens, and listens nowhere else", () =>
    Effect.gen(function*() {
      const site = yield* lighttpdSite(lighttpd!)
      assert.deepStrictEqual(sockets(site.folder).sort(), ["app.sock-0", "app.sock-1"])
      assert.deepStrictEqual(
        [...site.application.addresses()].sort(),
        ["app.sock-0", "app.sock-1"].map((name) => `unix://${site.folder}/${name}`)
      )
    }))

  it.live("ends with it: SIGTERM leaves no process and no socket", () =>
    Effect.gen(function*() {
      const site = yield* lighttpdSite(lighttpd!)
      const pids = yield* site.application.started(2)
      assert.strictEqual(pids.length, 2)
      for (const pid of pids) assert.isTrue(WebServers.isRunning(pid))
      assert.strictEqual((yield* request(site.port(row), "/hello")).text, "Hello world!")

      yield* site.server.stop("SIGTERM")
      for (const pid of pids) yield* WebServers.until(`the end of process ${pid}`, () => !WebServers.isRunning(pid))
      assert.deepStrictEqual(sockets(site.folder), [])
    }))

  it.live("finishes what it is doing when lighttpd stops at leisure (SIGINT)", () =>
    Effect.gen(function*() {
      const site = yield* lighttpdSite(lighttpd!)
      const pids = yield* site.application.started(2)
      const id = site.application.id()
      const response = yield* Effect.forkScoped(request(site.port(row), `/wait?id=${id}`), { startImmediately: true })
      yield* site.application.hears("Begun", id)
      process.kill(site.server.pid, "SIGINT")
      yield* WebServers.eventually(
        "lighttpd takes no more connections",
        Effect.flip(WebServers.accepts({ host: "127.0.0.1", port: site.port(row) }))
      )
      yield* site.application.say({ _tag: "Finish", id })
      assert.strictEqual((yield* Fiber.join(response)).text, "finished")
      yield* site.server.ended
      for (const pid of pids) yield* WebServers.until(`the end of process ${pid}`, () => !WebServers.isRunning(pid))
    }))

  it.live("is replaced when it dies", () =>
    Effect.gen(function*() {
      const site = yield* lighttpdSite(lighttpd!)
      const [first] = yield* site.application.started(2)
      process.kill(first!, "SIGKILL")
      // lighttpd looks after its children once a second.
      yield* site.application.started(3)
      for (let i = 0; i < 20; i++) assert.strictEqual((yield* request(site.port(row), "/hello")).status, 200)
    }))
})

describeWith(["nginx"], "an application that is stopped with SIGTERM", (nginx) => {
  const nginxRow = Nginx.matrix[0]!
  const nginxSite = Effect.map(
    Layer.build(Layer.fresh(Nginx.layer(nginx!, [nginxRow]))),
    (context) => Context.get(context, Site)
  )

  it.live("finishes the requests that run, takes no new ones, and exits with 0", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const path = Path.join(folder, "app.sock")
      const application = yield* Application.start(Path.join(folder, "control.sock"), "--path", path)
      const port = yield* WebServers.freePort
      yield* Nginx.start(nginx!, folder, [nginxRow.server({ port, socket: path, appPort: 1, upstream: "app" })], [port])

      const waiting = application.id()
      const streaming = application.id()
      const idle = yield* request(port, "/hello")
      assert.isTrue((JSON.parse((yield* request(port, "/keep")).text) as Received).keepConnection)
      assert.strictEqual(idle.text, "Hello world!")
      const response = yield* Effect.forkScoped(request(port, `/wait?id=${waiting}`), { startImmediately: true })
      const stream = yield* Effect.forkScoped(open(port, `/events?id=${streaming}&unbuffered`), {
        startImmediately: true
      })
      yield* application.hears("Begun", waiting)
      yield* application.hears("Begun", streaming)
      yield* application.say({ _tag: "Emit", id: streaming, text: "before" })
      const events = yield* Fiber.join(stream)
      yield* events.received(14)

      process.kill(application.program.pid, "SIGTERM")
      yield* WebServers.until("the socket is removed", () => !Fs.existsSync(path))
      assert.strictEqual((yield* request(port, "/hello")).status, 502)

      yield* application.say({ _tag: "Emit", id: streaming, text: "after" })
      yield* application.say({ _tag: "Finish", id: streaming })
      assert.strictEqual((yield* events.whole).text, "data: before\n\ndata: after\n\n")
      yield* application.say({ _tag: "Finish", id: waiting })
      assert.strictEqual((yield* Fiber.join(response)).text, "finished")

      assert.deepStrictEqual(yield* application.program.ended, { code: 0, signal: null })
      assert.strictEqual(application.program.log(), "")
    }))

  it.live("ends at once when nothing runs, although nginx keeps connections", () =>
    Effect.gen(function*() {
      const site = yield* nginxSite
      assert.strictEqual((yield* request(site.port(nginxRow), "/hello")).status, 200)
      const [pid] = yield* site.application.started(1)
      process.kill(pid!, "SIGTERM")
      yield* WebServers.until("the end of the application", () => !WebServers.isRunning(pid!))
    }))
})

describeWith(["nginx", "wrk"], "two applications behind nginx", (nginx, wrk) => {
  it.live("lose no request when one of them is stopped", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const path = (name: string) => Path.join(folder, `${name}.sock`)
      const first = yield* Application.start(path("first-control"), "--path", path("first"))
      const second = yield* Application.start(path("second-control"), "--path", path("second"))
      const port = yield* WebServers.freePort
      yield* Nginx.start(nginx!, folder, [
        `upstream app { server unix:${path("first")}; server unix:${path("second")}; keepalive 16; }
        server { listen 127.0.0.1:${port}; location / {
          include /etc/nginx/fastcgi_params; fastcgi_pass app; fastcgi_keep_conn on; } }`
      ], [port])
      const stop = yield* Wrk.start({ wrk: wrk!, port })
      yield* Wrk.handled(first, 500)
      assert.deepStrictEqual(yield* first.program.stop("SIGTERM"), { code: 0, signal: null })
      yield* Wrk.handled(second, (yield* second.measure).handled + 500)
      assert.isAbove(yield* stop, 1000)
    }))
})

describeWith(["nginx", "spawn-fcgi"], "two processes on one socket behind nginx", (nginx, spawnFcgi) => {
  // Starts the application again whenever it has ended as it was told to, on the socket that the script has on descriptor 0.
  // What a shell runs in the background has /dev/null there.
  const supervisor = `#!/bin/sh
keep() { while "$@"; do :; done; }
exec 3<&0
keep "$@" <&3 3<&- &
keep "$@" <&3 3<&- &
wait
`

  const body = randomBytes(10_000)
  const sha256 = createHash("sha256").update(body).digest("hex")

  /** Asks again and again until told to stop. Gives the number of responses, and every one that is not as it should be. */
  const load = (port: number, clients: number) =>
    Effect.gen(function*() {
      let going = true
      let responses = 0
      const wrong: Array<string> = []
      const expect = (what: string, asking: Effect.Effect<Response, HttpError>, right: (text: string) => boolean) =>
        Effect.match(asking, {
          onSuccess: ({ status, text }) => {
            responses++
            if (status !== 200 || !right(text)) wrong.push(`${what}: ${status} ${text.slice(0, 80)}`)
          },
          onFailure: ({ message }) => {
            wrong.push(`${what}: ${message}`)
          }
        })
      const get = expect("GET", request(port, "/hello"), (text) => text === "Hello world!")
      const post = expect(
        "POST",
        request(port, "/digest", { method: "POST", body }),
        (text) => (JSON.parse(text) as Digest).sha256 === sha256
      )
      const running = yield* Effect.forkScoped(
        Effect.forEach(
          Array.from({ length: clients }, (_, i) => i % 2 === 0 ? get : post),
          (ask) => Effect.whileLoop({ while: () => going, body: () => ask, step: () => {} }),
          { concurrency: "unbounded", discard: true }
        ),
        { startImmediately: true }
      )
      return {
        responses: () => responses,
        stop: Effect.suspend(() => {
          going = false
          return Effect.as(Fiber.join(running), wrong)
        })
      }
    })

  for (
    const [name, keepConnection] of [
      ["a connection for each request", false],
      ["connections that are kept", true]
    ] as const
  ) {
    it.live(`lose no request when they are stopped and started in turn: ${name}`, () =>
      Effect.gen(function*() {
        const folder = yield* WebServers.temporaryDirectory
        const socket = Path.join(folder, "app.sock")
        const script = Path.join(folder, "supervisor")
        Fs.writeFileSync(script, supervisor, { mode: 0o755 })
        const application = yield* Application.converse(Path.join(folder, "control.sock"))
        yield* WebServers.start({
          name: "spawn-fcgi",
          command: spawnFcgi!,
          args: ["-n", "-s", socket, "--", script, process.execPath, ...Application.command(application.path)],
          ready: application.started(2)
        })
        const port = yield* WebServers.freePort
        const server = yield* Nginx.start(nginx!, folder, [
          `upstream app { server unix:${socket}; ${keepConnection ? "keepalive 16;" : ""} }
          server { listen 127.0.0.1:${port}; location / {
            include /etc/nginx/fastcgi_params; fastcgi_pass app;
            fastcgi_keep_conn ${keepConnection ? "on" : "off"}; } }`
        ], [port])

        const { responses, stop } = yield* load(port, 12)
        let pids = yield* application.started(2)
        for (let turn = 0; turn < 4; turn++) {
          const before = responses()
          yield* WebServers.until("the load goes on", () => responses() > before + 100)
          const pid = pids[turn]!
          process.kill(pid, "SIGTERM")
          yield* WebServers.until(`the end of process ${pid}`, () => !WebServers.isRunning(pid))
          pids = yield* application.started(3 + turn)
        }
        assert.deepStrictEqual(yield* stop, [], server.log().slice(-4000))
        assert.isAbove(responses(), 400)
        assert.strictEqual(new Set(pids).size, 6)
      }))
  }
})

describeWith(["apache2", Apache.fcgidModule], "an application that Apache has started", (apache) => {
  const fcgid = Apache.fcgidPages[0]!
  const apacheSite = Effect.map(
    Layer.build(Layer.fresh(Apache.layer(apache!, "mod_fcgid", [fcgid]))),
    (context) => Context.get(context, Site)
  )

  it.live("is told where it listens, and is started by the first request", () =>
    Effect.gen(function*() {
      const site = yield* apacheSite
      assert.lengthOf(site.application.addresses(), 1)
      assert.match(site.application.addresses()[0]!, new RegExp(`^unix://${site.folder}/apache/fcgid/`))
    }))

  it.live("answers one request at a time: others are answered by further processes", () =>
    Effect.gen(function*() {
      const site = yield* apacheSite
      const { application } = site
      const ids = [application.id(), application.id()]
      const responses = []
      for (const id of ids) {
        responses.push(
          yield* Effect.forkScoped(request(site.port(fcgid), `/wait?id=${id}`), { startImmediately: true })
        )
        yield* application.hears("Begun", id)
      }
      assert.isAtLeast((yield* application.started(2)).length, 2)
      for (const [i, id] of ids.entries()) {
        yield* application.say({ _tag: "Finish", id })
        assert.strictEqual((yield* Fiber.join(responses[i]!)).text, "finished")
      }
    }))

  it.live("ends with it", () =>
    Effect.gen(function*() {
      const site = yield* apacheSite
      const [pid] = yield* site.application.started(1)
      assert.isTrue(WebServers.isRunning(pid!))
      yield* site.server.stop("SIGTERM")
      yield* WebServers.until(`the end of process ${pid}`, () => !WebServers.isRunning(pid!))
    }))

  it.live("is replaced when it dies", () =>
    Effect.gen(function*() {
      const site = yield* apacheSite
      const [first] = yield* site.application.started(1)
      process.kill(first!, "SIGKILL")
      yield* WebServers.until(`the end of process ${first}`, () => !WebServers.isRunning(first!))
      // Apache may not know yet, and send it the next request.
      yield* WebServers.eventually(
        "an answer",
        Effect.filterOrFail(request(site.port(fcgid), "/hello"), ({ status }) => status === 200, ({ text }) => text)
      )
      yield* site.application.started(2)
    }))
})

describeWith(["apache2", "wrk", Apache.fcgidModule], "behind Apache", (apache, wrk) => {
  // Apache closes kept connections when it restarts, and a client may be sending just then: a connection for each request.
  const load = (port: number) => Wrk.start({ wrk: wrk!, port, headers: ["Connection: close"] })

  const pairSite = Effect.gen(function*() {
    const folder = yield* WebServers.temporaryDirectory
    Fs.chmodSync(folder, 0o755)
    const path = (name: string) => Path.join(folder, `${name}.sock`)
    const start = (name: string, control = `${name}-control`) =>
      Application.start(path(control), "--path", path(name), "--mode", "666")
    const applications = [yield* start("one"), yield* start("two")] as const
    const port = yield* WebServers.freePort
    const balancer = Apache.host(
      port,
      Apache.documentedContents("several applications", [
        ["/run/app/one.sock", path("one")],
        ["/run/app/two.sock", path("two")]
      ])
    )
    const server = yield* Apache.start(apache!, folder, balancer, [port], "mod_proxy_fcgi")
    return { applications, port, server, start }
  })

  it.live("two applications lose no request when one is replaced and then the other", () =>
    Effect.gen(function*() {
      const { applications: [first, second], port, start } = yield* pairSite
      const stop = yield* load(port)
      yield* Wrk.handled(first, 300)
      yield* Wrk.handled(second, 300)
      assert.deepStrictEqual(yield* first.program.stop("SIGTERM"), { code: 0, signal: null })
      const successor = yield* start("one", "successor-control")
      yield* Wrk.handled(successor, 300)
      assert.deepStrictEqual(yield* second.program.stop("SIGTERM"), { code: 0, signal: null })
      yield* Wrk.handled(successor, (yield* successor.measure).handled + 300)
      assert.isAbove(yield* stop, 1000)
    }))

  it.live("no request is lost when Apache is restarted gracefully (SIGUSR1)", () =>
    Effect.gen(function*() {
      const { applications: [first], port, server } = yield* pairSite
      const stop = yield* load(port)
      yield* Wrk.handled(first, 300)
      const since = server.log().length
      process.kill(server.pid, "SIGUSR1")
      yield* server.says("resuming normal operations", since)
      yield* Wrk.handled(first, (yield* first.measure).handled + 300)
      assert.isAbove(yield* stop, 1000)
    }))
})
