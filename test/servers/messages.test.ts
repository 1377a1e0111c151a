/**
 * The messages that docs/nginx.md and docs/lighttpd.md explain are those that nginx and lighttpd really write: each is provoked, and
 * has to be in their log and on the page.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { projectRoot } from "../support/files.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import * as Application from "./support/application.ts"
import { request, type RequestOptions } from "./support/http.ts"
import * as Lighttpd from "./support/lighttpd.ts"
import * as Nginx from "./support/nginx.ts"

const page = (name: string) => Fs.readFileSync(Path.join(projectRoot, "docs", name), "utf8")

/** A socket that nobody listens on any more, as a program leaves it that has been killed. */
const leftOver = (path: string) =>
  Effect.callback<void>((resume) => {
    const server = Net.createServer()
    server.listen(path, () => {
      Fs.renameSync(path, `${path}.kept`)
      server.close(() => {
        Fs.renameSync(`${path}.kept`, path)
        resume(Effect.void)
      })
    })
  })

/** Needed to start a web server as another user than the one who may use the socket. */
const asRoot = process.getuid?.() === 0

describeWith(["nginx"], "docs/nginx.md", (nginx) => {
  /** What nginx says about a request to a location with these directives, and the status that the client sees. */
  const says = (
    message: string,
    status: number | "cut off",
    options: {
      readonly directives?: string
      readonly target?: string
      readonly request?: RequestOptions
      readonly user?: string
      readonly prepare?: (folder: string) => Effect.Effect<unknown, unknown>
    } = {}
  ) =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      Fs.chmodSync(folder, 0o755)
      const socket = Path.join(folder, "app.sock")
      const port = yield* WebServers.freePort
      if (options.prepare === undefined) {
        yield* Application.start(Path.join(folder, "control.sock"), "--path", socket, "--mode", "600")
      } else {
        yield* options.prepare(folder)
      }
      const directives = (options.directives ?? "fastcgi_pass unix:/run/app/app.sock;")
        .replace("/run/app/app.sock", socket)
      const server = yield* Nginx.start(
        nginx!,
        folder,
        [`server { listen 127.0.0.1:${port}; location / { include /etc/nginx/fastcgi_params; ${directives} } }`],
        [port],
        options.user
      )
      const response = yield* Effect.exit(request(port, options.target ?? "/hello", options.request))
      assert.strictEqual(Exit.isSuccess(response) ? response.value.status : "cut off", status)
      yield* server.says(message.replace("/run/app/app.sock", socket))
      assert.include(page("nginx.md"), `\`${message}\``)
    })

  it.live("no socket", () =>
    says("connect() to unix:/run/app/app.sock failed (2: No such file or directory)", 502, {
      prepare: () => Effect.void
    }))

  it.live.skipIf(!asRoot)(
    "no permission",
    () => says("connect() to unix:/run/app/app.sock failed (13: Permission denied)", 502, { user: "www-data" })
  )

  it.live("a socket that is left over", () =>
    says("connect() to unix:/run/app/app.sock failed (111: Connection refused)", 502, {
      prepare: (folder) => leftOver(Path.join(folder, "app.sock"))
    }))

  it.live("nothing at the port", () =>
    says("connect() failed (111: Connection refused)", 502, {
      directives: "fastcgi_pass 127.0.0.1:1;",
      prepare: () => Effect.void
    }))

  it.live("a head that is too big", () =>
    says("upstream sent too big header while reading response header from upstream", 502, {
      target: "/headers?size=5000"
    }))

  it.live("a body that is too big", () =>
    says("client intended to send too large body", 413, {
      request: { method: "POST", body: new Uint8Array(1_100_000) }
    }))

  it.live("no answer in time", () =>
    says("upstream timed out (110: Connection timed out) while reading response header from upstream", 504, {
      directives: "fastcgi_pass unix:/run/app/app.sock; fastcgi_read_timeout 100ms;",
      target: "/wait?id=never"
    }))

  it.live("nothing more in time", () =>
    says("upstream timed out (110: Connection timed out) while reading upstream", "cut off", {
      directives: "fastcgi_pass unix:/run/app/app.sock; fastcgi_read_timeout 100ms; fastcgi_buffering off;",
      target: "/events?id=never"
    }))

  it.live("proxy_pass", () =>
    says("upstream prematurely closed connection while reading response header from upstream", 502, {
      directives: "proxy_pass http://unix:/run/app/app.sock;"
    }))

  it.live("a response that breaks off", () =>
    says("upstream sent invalid FastCGI record type: 11 while reading upstream", "cut off", {
      target: "/broken?id=at-once&fail"
    }))

  it.live("fastcgi_buffer_size alone", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const port = yield* WebServers.freePort
      const block = `server { listen 127.0.0.1:${port}; fastcgi_buffer_size 16k; }`
      const error = yield* Effect.flip(Nginx.start(nginx!, folder, [block], [port]))
      const message =
        "\"fastcgi_busy_buffers_size\" must be less than the size of all \"fastcgi_buffers\" minus one buffer"
      assert.include(error.message, message)
      assert.include(page("nginx.md"), `\`${message}\``)
    }))
})

describeWith(["lighttpd"], "docs/lighttpd.md", (lighttpd) => {
  /** What lighttpd says when the application is there; the client gets a 503. */
  const says = (
    message: string,
    backend: string,
    options: { readonly user?: string; readonly prepare?: (folder: string) => Effect.Effect<unknown, unknown> } = {}
  ) =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      Fs.chmodSync(folder, 0o755)
      const socket = Path.join(folder, "app.sock")
      const port = yield* WebServers.freePort
      if (options.prepare === undefined) {
        yield* Application.start(Path.join(folder, "control.sock"), "--path", socket, "--mode", "600")
      } else {
        yield* options.prepare(folder)
      }
      const server = yield* Lighttpd.start(
        lighttpd!,
        folder,
        port,
        `server.modules += ( "mod_fastcgi" )
${options.user === undefined ? "" : `server.username = "${options.user}"\nserver.groupname = "${options.user}"`}
fastcgi.server = ( "/" => (( ${backend.replace("/run/app/app.sock", socket)}, "check-local" => "disable" )) )
`
      )
      assert.strictEqual((yield* request(port, "/hello")).status, 503)
      yield* server.says(message.replace("/run/app/app.sock", socket))
      assert.include(page("lighttpd.md"), `\`${message}\``)
    })

  const socket = "\"socket\" => \"/run/app/app.sock\""

  it.live("no socket", () =>
    says("establishing connection failed: socket: unix:/run/app/app.sock: No such file or directory", socket, {
      prepare: () => Effect.void
    }))

  it.live.skipIf(!asRoot)(
    "no permission",
    () =>
      says("establishing connection failed: socket: unix:/run/app/app.sock: Permission denied", socket, {
        user: "www-data"
      })
  )

  it.live("a socket that is left over", () =>
    says("establishing connection failed: socket: unix:/run/app/app.sock: Connection refused", socket, {
      prepare: (folder) => leftOver(Path.join(folder, "app.sock"))
    }))

  it.live("an application that ends by itself, and says why in server.breakagelog", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const port = yield* WebServers.freePort
      const log = Path.join(folder, "app.log")
      // Several listeners are asked for, and one of them is in vain.
      const app = [
        process.execPath,
        Path.join(projectRoot, "test/servers/app.ts"),
        "--fd",
        "0",
        "--path",
        "/missing/app.sock"
      ]
      const server = yield* Lighttpd.start(
        lighttpd!,
        folder,
        port,
        `server.modules += ( "mod_fastcgi" )
server.breakagelog = "${log}"
fastcgi.server = ( "/" => ((
  "socket" => "${folder}/app.sock", "bin-path" => "${app.join(" ")}", "max-procs" => 1, "check-local" => "disable"
)) )
`
      )
      yield* server.says(`child exited: 1 unix:${folder}/app.sock-0`)
      assert.include(page("lighttpd.md"), "`child exited: 1 unix:/run/lighttpd/app.sock-0`")
      assert.include(Fs.readFileSync(log, "utf8"), "Cannot listen on /missing/app.sock: its directory does not exist.")
    }))

  for (
    const [what, message, options] of [
      [
        "no permission to create the socket",
        "bind failed for: unix:/run/lighttpd/app.sock-0: Permission denied",
        { socket: "private/app.sock", program: "/bin/cat" }
      ],
      [
        "no such program",
        "check that file exists, is regular file, and is executable by lighttpd",
        { socket: "app.sock", program: "/missing/node" }
      ]
    ] as const
  ) {
    it.live.skipIf(!asRoot)(`${what}: lighttpd does not start`, () =>
      Effect.gen(function*() {
        const folder = yield* WebServers.temporaryDirectory
        Fs.mkdirSync(Path.join(folder, "private"), { mode: 0o700 })
        Fs.chmodSync(folder, 0o777)
        const path = Path.join(folder, options.socket)
        const error = yield* Effect.flip(Lighttpd.start(
          lighttpd!,
          folder,
          yield* WebServers.freePort,
          `server.modules += ( "mod_fastcgi" )
server.username = "www-data"
server.groupname = "www-data"
fastcgi.server = ( "/" => (( "socket" => "${path}", "bin-path" => "${options.program}", "max-procs" => 1 )) )
`
        ))
        assert.include(error.message, message.replace("/run/lighttpd/app.sock", path))
        assert.include(page("lighttpd.md"), `\`${message}\``)
      }))
  }
})
