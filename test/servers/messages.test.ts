/**
 * The messages that the pages of docs/ explain are those that the web servers really write: each is provoked, and has to be in
 * their log and on the page.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { FastCgiEncoder, FastCgiRecord } from "../../src/index.ts"
import * as PhpFpm from "../client/phpFpm.ts"
import { projectRoot } from "../support/files.ts"
import { programFile } from "../support/programFile.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import * as Apache from "./support/apache.ts"
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

/** Something else than this application, which answers every connection with these bytes and closes it. */
const other = (path: string, bytes: Uint8Array) =>
  Effect.acquireRelease(
    Effect.callback<Net.Server>((resume) => {
      const server = Net.createServer((socket) => {
        socket.on("error", () => {})
        socket.on("data", () => socket.end(bytes))
      })
      server.listen(path, () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  )

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
      readonly args?: (folder: string) => ReadonlyArray<string>
      readonly prepare?: (folder: string) => Effect.Effect<unknown, unknown, Scope.Scope>
    } = {}
  ) =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      Fs.chmodSync(folder, 0o755)
      const socket = Path.join(folder, "app.sock")
      const port = yield* WebServers.freePort
      if (options.prepare === undefined) {
        const args = options.args?.(folder) ?? ["--mode", "600"]
        yield* Application.start(Path.join(folder, "control.sock"), "--path", socket, ...args)
      } else {
        yield* options.prepare(folder)
      }
      const directives = (options.directives ?? "fastcgi_pass unix:/run/app/app.sock;")
        .replaceAll("/run/app/app.sock", socket)
        .replaceAll("/srv", folder)
      const server = yield* Nginx.start(
        nginx!,
        folder,
        [`server { listen 127.0.0.1:${port}; location / { include /etc/nginx/fastcgi_params; ${directives} } }`],
        [port],
        options.user
      )
      const target = (options.target ?? "/hello").replace("/srv", folder)
      const response = yield* Effect.exit(request(port, target, options.request))
      assert.strictEqual(Exit.isSuccess(response) ? response.value.status : "cut off", status)
      yield* server.says(message.replace("/run/app/app.sock", socket).replace("/srv", folder))
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
      directives: "fastcgi_pass unix:/run/app/app.sock; fastcgi_read_timeout 2s; fastcgi_buffering off;",
      target: "/events?id=never"
    }))

  it.live("an application that dies before it has answered", () =>
    says("upstream prematurely closed connection while reading response header from upstream", 502, {
      prepare: (folder) => other(Path.join(folder, "app.sock"), Buffer.alloc(0))
    }))

  it.live("proxy_pass, which is answered in HTTP and leaves no message", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      Fs.chmodSync(folder, 0o755)
      const socket = Path.join(folder, "app.sock")
      const port = yield* WebServers.freePort
      yield* Application.start(Path.join(folder, "control.sock"), "--path", socket, "--mode", "600")
      yield* Nginx.start(
        nginx!,
        folder,
        [`server { listen 127.0.0.1:${port}; location / { proxy_pass http://unix:${socket}; } }`],
        [port]
      )
      for (const body of [undefined, new Uint8Array(100_000)]) {
        const response = yield* request(port, "/hello", body === undefined ? {} : { method: "POST", body })
        assert.strictEqual(response.status, 400)
        const [sentence] = response.text.trim().split(":")
        assert.strictEqual(sentence, "This port speaks FastCGI and no HTTP")
        assert.include(page("nginx.md"), `\`${sentence}\``)
      }
    }))

  it.live("a response that breaks off", () =>
    says("upstream sent invalid FastCGI record type: 11 while reading upstream", "cut off", {
      target: "/broken?id=at-once&fail"
    }))

  it.live("another application that has nothing to say", () =>
    says("upstream prematurely closed FastCGI stdout while reading response header from upstream", 502, {
      prepare: (folder) =>
        other(
          Path.join(folder, "app.sock"),
          Buffer.concat([
            FastCgiEncoder.encode(FastCgiRecord.stdout(1)),
            FastCgiEncoder.encode(FastCgiRecord.endRequest(1))
          ])
        )
    }))

  it.live("an application that is overloaded and says so in the protocol's way", () =>
    says("upstream sent unexpected FastCGI record: 3 while reading response header from upstream", 502, {
      prepare: (folder) =>
        other(
          Path.join(folder, "app.sock"),
          FastCgiEncoder.encode(FastCgiRecord.endRequest(1, 0, FastCgiRecord.ProtocolStatus.Overloaded))
        )
    }))

  it.live("something that speaks HTTP", () =>
    says("upstream sent unsupported FastCGI protocol version: 72 while reading response header from upstream", 502, {
      prepare: (folder) => other(Path.join(folder, "app.sock"), Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"))
    }))

  it.live("an application that is killed", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const socket = Path.join(folder, "app.sock")
      const { hears, id, program } = yield* Application.start(Path.join(folder, "control.sock"), "--path", socket)
      const port = yield* WebServers.freePort
      const block = `server { listen 127.0.0.1:${port}; location / {
        include /etc/nginx/fastcgi_params; fastcgi_pass unix:${socket}; } }`
      const server = yield* Nginx.start(nginx!, folder, [block], [port])
      const waiting = id()
      const response = yield* Effect.forkScoped(request(port, `/wait?id=${waiting}`), { startImmediately: true })
      yield* hears("Begun", waiting)
      process.kill(program.pid, "SIGKILL")
      assert.strictEqual((yield* Fiber.join(response)).status, 502)
      const message = "upstream prematurely closed connection while reading response header from upstream"
      yield* server.says(message)
      assert.include(page("nginx.md"), `\`${message}\``)
    }))

  it.live("no application of several", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const port = yield* WebServers.freePort
      const block = `upstream app { server unix:${folder}/a.sock; server unix:${folder}/b.sock; }
        server { listen 127.0.0.1:${port}; location / { include /etc/nginx/fastcgi_params; fastcgi_pass app; } }`
      const server = yield* Nginx.start(nginx!, folder, [block], [port])
      for (let i = 0; i < 2; i++) assert.strictEqual((yield* request(port, "/hello")).status, 502)
      const message = "no live upstreams while connecting to upstream"
      yield* server.says(message)
      assert.include(page("nginx.md"), `\`${message}\``)
    }))

  it.live("an authorizing application that is gone", () =>
    says("auth request unexpected status: 502 while sending to client", 500, {
      directives: "auth_request /auth; } location /auth { fastcgi_pass unix:/run/app/app.sock;",
      prepare: () => Effect.void
    }))

  /** The application names a file below `/srv/files`, and nginx looks for it as the user. */
  const named = (mode: number, alias: string, user?: string) => ({
    directives: `fastcgi_pass unix:/run/app/app.sock; } location /protected/ { internal; alias ${alias};`,
    target: "/file?path=/srv/files/a.txt",
    ...(user === undefined ? {} : { user }),
    args: (folder: string) => {
      Fs.mkdirSync(Path.join(folder, "files"))
      Fs.writeFileSync(Path.join(folder, "files/a.txt"), "a file")
      Fs.chmodSync(Path.join(folder, "files/a.txt"), mode)
      const root = { directory: `${folder}/files`, location: "/protected" }
      return ["--mode", "666", "--send-file", JSON.stringify({ header: "X-Accel-Redirect", roots: [root] })]
    }
  })

  it.live.skipIf(!asRoot)(
    "a file that nginx may not read",
    () =>
      says("open() \"/srv/files/a.txt\" failed (13: Permission denied)", 403, named(0o600, "/srv/files/", "www-data"))
  )

  it.live("a file that nginx looks for elsewhere", () =>
    says("open() \"/srv/other/a.txt\" failed (2: No such file or directory)", 404, named(0o644, "/srv/other/")))

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

describeWith(["nginx", "php-fpm8.2"], "docs/nginx.md, with PHP in place of the application", (nginx, command) => {
  it.live("php-fpm is asked for a script that there is none of", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const php = yield* PhpFpm.start(command!)
      const port = yield* WebServers.freePort
      const block = `server { listen 127.0.0.1:${port}; location / {
        include /etc/nginx/fastcgi_params;
        fastcgi_param SCRIPT_FILENAME /missing.php;
        fastcgi_pass unix:${php.socket};
      } }`
      const server = yield* Nginx.start(nginx!, folder, [block], [port])
      const response = yield* request(port, "/hello")
      assert.strictEqual(response.status, 404)
      assert.include(response.text, "File not found.")
      const message = "FastCGI sent in stderr: \"Primary script unknown\""
      yield* server.says(message)
      assert.include(page("nginx.md"), `\`${message}\``)
    }))
})

describeWith(["lighttpd"], "docs/lighttpd.md", (lighttpd) => {
  /** What lighttpd says; the client gets a 503 unless the options say otherwise. */
  const says = (
    message: string,
    backend: string,
    options: {
      readonly user?: string
      readonly target?: string
      readonly status?: number | "cut off"
      readonly prepare?: (folder: string) => Effect.Effect<unknown, unknown, Scope.Scope>
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
      const server = yield* Lighttpd.start(
        lighttpd!,
        folder,
        port,
        `server.modules += ( "mod_fastcgi" )
${options.user === undefined ? "" : `server.username = "${options.user}"\nserver.groupname = "${options.user}"`}
fastcgi.server = ( "/" => (( ${backend.replace("/run/app/app.sock", socket)}, "check-local" => "disable" )) )
`
      )
      const response = yield* Effect.exit(request(port, options.target ?? "/hello"))
      assert.strictEqual(Exit.isSuccess(response) ? response.value.status : "cut off", options.status ?? 503)
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

  it.live("no answer in time", () =>
    says("read timeout on socket: unix:/run/app/app.sock", `${socket}, "read-timeout" => 1`, {
      target: "/wait?id=never",
      status: 504
    }))

  it.live("something that speaks HTTP", () =>
    says("unexpected end-of-file (perhaps the fastcgi process died):pid: 0 socket: unix:/run/app/app.sock", socket, {
      status: 500,
      prepare: (folder) => other(Path.join(folder, "app.sock"), Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"))
    }))

  it.live("an application that is killed", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const socket = Path.join(folder, "app.sock")
      const { hears, id, program } = yield* Application.start(Path.join(folder, "control.sock"), "--path", socket)
      const port = yield* WebServers.freePort
      const server = yield* Lighttpd.start(
        lighttpd!,
        folder,
        port,
        `server.modules += ( "mod_fastcgi" )
fastcgi.server = ( "/" => (( "socket" => "${socket}", "check-local" => "disable" )) )
`
      )
      const waiting = id()
      const response = yield* Effect.forkScoped(request(port, `/wait?id=${waiting}`), { startImmediately: true })
      yield* hears("Begun", waiting)
      process.kill(program.pid, "SIGKILL")
      assert.strictEqual((yield* Fiber.join(response)).status, 500)
      yield* server.says(/response not received, request sent: \d+ on socket: unix:.* for \/wait.*, closing connection/)
      assert.include(
        page("lighttpd.md"),
        "`response not received, request sent: 476 on socket: unix:/run/app/app.sock for /hello?, closing connection`"
      )
    }))

  it.live("a response that breaks off", () =>
    says("FastCGI: header.type not handled: 11", socket, {
      target: "/broken?id=at-once&fail&length=20",
      status: "cut off"
    }))

  it.live("what the application writes to STDERR", () =>
    says("FastCGI-stderr:oh", socket, { target: "/stderr?text=oh", status: 200 }))

  it.live("a file that lighttpd may not send", () =>
    Effect.gen(function*() {
      const folder = Fs.realpathSync(yield* WebServers.temporaryDirectory)
      const file = Path.join(folder, "a.txt")
      Fs.writeFileSync(file, "a file")
      const path = Path.join(folder, "app.sock")
      const options = JSON.stringify({ header: "X-Sendfile", roots: [folder] })
      yield* Application.start(Path.join(folder, "control.sock"), "--path", path, "--send-file", options)
      const port = yield* WebServers.freePort
      const server = yield* Lighttpd.start(
        lighttpd!,
        folder,
        port,
        `server.modules += ( "mod_fastcgi" )
fastcgi.server = ( "/" => ((
  "socket" => "${path}", "check-local" => "disable", "x-sendfile" => "enable", "x-sendfile-docroot" => ( "/srv/files/" )
)) )
`
      )
      assert.strictEqual((yield* request(port, `/file?path=${file}`)).status, 403)
      const message = "X-Sendfile (/srv/other/a.txt) not under configured x-sendfile-docroot(s)"
      yield* server.says(message.replace("/srv/other/a.txt", file))
      assert.include(page("lighttpd.md"), `\`${message}\``)
    }))

  it.live("an application that ends by itself, and says why in server.breakagelog", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const port = yield* WebServers.freePort
      const log = Path.join(folder, "app.log")
      // Several listeners are asked for, and one of them is in vain.
      const app = [
        process.execPath,
        programFile("test/servers/app.ts"),
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
        const log = yield* Lighttpd.start(
          lighttpd!,
          folder,
          yield* WebServers.freePort,
          `server.modules += ( "mod_fastcgi" )
server.username = "www-data"
server.groupname = "www-data"
fastcgi.server = ( "/" => (( "socket" => "${path}", "bin-path" => "${options.program}", "max-procs" => 1 )) )
`
        ).pipe(
          // It listens before it looks at the rest, and may be found ready.
          Effect.flatMap((server) => Effect.map(server.ended, () => server.log())),
          Effect.catchTag("ProgramError", (error) => Effect.succeed(error.message))
        )
        assert.include(log, message.replace("/run/lighttpd/app.sock", path))
        assert.include(page("lighttpd.md"), `\`${message}\``)
      }))
  }
})

describeWith(["apache2", Apache.fcgidModule], "docs/apache.md", (apache) => {
  const onPage = (message: string) => assert.include(page("apache.md"), `\`${message}\``)

  interface Request {
    readonly status: number | "cut off"
    readonly target?: string
    readonly request?: RequestOptions
    readonly prepare?: (folder: string) => Effect.Effect<unknown, unknown>
  }

  const ask = (port: number, expected: Request) =>
    Effect.gen(function*() {
      const response = yield* Effect.exit(request(port, expected.target ?? "/hello", {
        ...expected.request,
        headers: { connection: "close" }
      }))
      assert.strictEqual(Exit.isSuccess(response) ? response.value.status : "cut off", expected.status)
    })

  const proxyPass = (options = "") => `ProxyPass "/" "unix:/run/app/app.sock|fcgi://localhost/" ${options}`

  /** What Apache says about the last of these requests to a host with these directives. */
  const proxySays = (message: string, directives: string, requests: ReadonlyArray<Request>, mode = "666") =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      Fs.chmodSync(folder, 0o755)
      const socket = Path.join(folder, "app.sock")
      const port = yield* WebServers.freePort
      const prepare = requests[0]!.prepare
      if (prepare === undefined) {
        yield* Application.start(Path.join(folder, "control.sock"), "--path", socket, "--mode", mode)
      } else {
        yield* prepare(folder)
      }
      const server = yield* Apache.start(
        apache!,
        folder,
        Apache.host(port, directives.replaceAll("/run/app/app.sock", socket)),
        [port],
        "mod_proxy_fcgi"
      )
      for (const expected of requests) yield* ask(port, expected)
      yield* server.says(message.replace("/run/app/app.sock", socket))
      onPage(message)
    })

  const nothing = { status: 503, prepare: () => Effect.void } as const

  it.live("no socket", () =>
    proxySays(
      "(2)No such file or directory: AH02454: FCGI: attempt to connect to Unix domain socket /run/app/app.sock",
      proxyPass(),
      [nothing]
    ))

  it.live.skipIf(!asRoot)("no permission", () =>
    proxySays(
      "(13)Permission denied: AH02454: FCGI: attempt to connect to Unix domain socket /run/app/app.sock",
      proxyPass(),
      [{ status: 503 }],
      "600"
    ))

  it.live("a socket that is left over", () =>
    proxySays(
      "(111)Connection refused: AH02454: FCGI: attempt to connect to Unix domain socket /run/app/app.sock",
      proxyPass(),
      [{
        status: 503,
        prepare: (folder) => {
          const path = Path.join(folder, "app.sock")
          return Effect.tap(leftOver(path), () => Effect.sync(() => Fs.chmodSync(path, 0o666)))
        }
      }]
    ))

  it.live("nothing at the port", () =>
    proxySays(
      "(111)Connection refused: AH00957: FCGI: attempt to connect to 127.0.0.1:1",
      `ProxyPass "/" "fcgi://127.0.0.1:1/"`,
      [nothing]
    ))

  it.live("a member of a balancer that rests", () =>
    proxySays(
      "AH00959: ap_proxy_connect_backend disabling worker for (localhost:8000) for 60s",
      `<Proxy "balancer://app">
        BalancerMember "unix:/run/app/app.sock|fcgi://localhost"
      </Proxy>
      ProxyPass "/" "balancer://app/"`,
      [nothing]
    ))

  it.live("no answer in time", () =>
    proxySays("(70007)The timeout specified has expired", proxyPass("timeout=1"), [
      { status: 504, target: "/wait?id=never" }
    ]))

  it.live("a response that breaks off", () =>
    proxySays("AH01069: Got bogus rid 0, expected 1", proxyPass("flushpackets=on"), [
      { status: "cut off", target: "/broken?id=at-once&fail" }
    ]))

  it.live("a line of the head that is too long", () =>
    proxySays("AH01070: Error parsing script headers", proxyPass(), [
      { status: 500, target: "/headers?size=9000&line=9000" }
    ]))

  it.live("STDERR", () =>
    proxySays("AH01071: Got error 'something'", proxyPass(), [{ status: 200, target: "/stderr?text=something" }]))

  it.live("no slash at the end of the URL", () =>
    proxySays("AH00898: DNS lookup failure for: localhost:3003hello", `ProxyPass "/" "fcgi://localhost:3003"`, [
      { status: 500, prepare: () => Effect.void }
    ]))

  it.live("nocanon", () =>
    proxySays("AH10414: To be forwarded path contains control characters or '?'", proxyPass("nocanon"), [
      { status: 403, target: "/hello?a=b" }
    ]))

  it.live("another protocol", () =>
    proxySays("AH01144: No protocol handler was valid for the URL", `ProxyPass "/" "http://127.0.0.1:1/"`, [
      { status: 500, prepare: () => Effect.void }
    ]))

  /** What Apache says when mod_fcgid starts this program. */
  const fcgidSays = (message: string, directives: string, expected: Request, command?: string) =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      Fs.chmodSync(folder, 0o755)
      const control = yield* Application.converse(Path.join(folder, "control.sock"))
      const port = yield* WebServers.freePort
      const program = command ?? [process.execPath, ...Application.command(control.path)].join(" ")
      const server = yield* Apache.start(
        apache!,
        folder,
        Apache.host(
          port,
          `${directives}
          <Location "/">
            ${directives.includes("Options") ? "" : "Options +ExecCGI"}
            SetHandler fcgid-script
            FcgidWrapper "${program}" virtual
          </Location>`
        ),
        [port],
        "mod_fcgid"
      )
      yield* ask(port, expected)
      yield* server.says(message)
      onPage(message)
    })

  it.live("mod_fcgid: a body that is too big", () =>
    fcgidSays("exceeds MaxRequestLen (131072)", "", {
      status: 500,
      target: "/digest",
      request: { method: "POST", body: new Uint8Array(200_000) }
    }))

  it.live("mod_fcgid: no answer in time", () =>
    fcgidSays("mod_fcgid: read data timeout in 1 seconds", "FcgidIOTimeout 1", {
      status: 500,
      target: "/wait?id=never"
    }))

  it.live("mod_fcgid: a response that breaks off", () =>
    fcgidSays("mod_fcgid: error reading data, FastCGI server closed connection", "FcgidOutputBufferSize 0", {
      status: 200,
      target: "/broken?id=at-once&fail"
    }))

  it.live("mod_fcgid: an application that ends by itself", () =>
    fcgidSays("End of script output before headers", "", { status: 500 }, "/bin/false"))

  it.live("mod_fcgid: a line of the head that is too long", () =>
    fcgidSays("Premature end of script headers", "", { status: 500, target: "/headers?size=9000&line=9000" }))

  it.live("mod_fcgid: STDERR", () =>
    fcgidSays("mod_fcgid: stderr: something", "", { status: 200, target: "/stderr?text=something" }))

  it.live("mod_fcgid: no ExecCGI", () =>
    fcgidSays(
      "does not have ExecCGI enabled",
      `<Directory "/">
      Options None
    </Directory>`,
      { status: 403 }
    ))

  it.live("mod_fcgid: no such program", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const port = yield* WebServers.freePort
      const error = yield* Effect.flip(
        Apache.start(apache!, folder, Apache.host(port, "FcgidWrapper /missing/node virtual"), [port], "mod_fcgid")
      )
      const message = "Wrapper /missing/node cannot be accessed: (2)No such file or directory"
      assert.include(error.message, message)
      onPage(message)
    }))
})
