/**
 * An app that web servers start as a plain CGI program: lighttpd's mod_cgi, which passes a file or a pipe, and Apache's
 * mod_cgid, which passes one socket as input and output.
 */
import { assert, it, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { projectRoot } from "../support/files.ts"
import { programFile } from "../support/programFile.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import { type HttpError, request, type RequestOptions } from "./support/http.ts"
import * as Lighttpd from "./support/lighttpd.ts"

const page = Fs.readFileSync(Path.join(projectRoot, "docs/cgi.md"), "utf8")

const fixture = programFile("test/node/fixtures/cgi.ts")

class CgiServer extends Context.Service<CgiServer, {
  readonly program: WebServers.Program
  readonly ports: ReadonlyArray<number>
}>()("effect-fastcgi/test/CgiServer") {}

/** The script of the page, with the app in it. */
const documentedScript = /^```sh\n(#!\/bin\/sh\n# app\.cgi[\s\S]*?)^```$/m.exec(page)?.[1] ?? ""

/** A folder with the app as a script. */
const script = Effect.gen(function*() {
  const folder = yield* WebServers.temporaryDirectory
  Fs.chmodSync(folder, 0o755)
  const file = Path.join(folder, "app.cgi")
  Fs.writeFileSync(
    file,
    WebServers.fill(documentedScript, [["/usr/bin/node /srv/app/main.js", `"${process.execPath}" "${fixture}"`]])
  )
  Fs.chmodSync(file, 0o755)
  return { folder, file }
})

const lighttpd = (command: string) =>
  Layer.effect(
    CgiServer,
    Effect.gen(function*() {
      const { folder } = yield* script
      const [collected, streamed] = [yield* WebServers.freePort, yield* WebServers.freePort]
      const program = yield* Lighttpd.start(
        command,
        folder,
        collected,
        `${WebServers.documented(page, "lighttpd", "lighttpd starts the program for every request")}
$SERVER["socket"] == "127.0.0.1:${streamed}" {
  server.stream-request-body = 2
  server.stream-response-body = 2
}
`
      )
      return CgiServer.of({ program, ports: [collected, streamed] })
    })
  )

const apache = (command: string) =>
  Layer.effect(
    CgiServer,
    Effect.gen(function*() {
      const { file, folder } = yield* script
      const port = yield* WebServers.freePort
      const own = Path.join(folder, "apache")
      Fs.mkdirSync(own)
      Fs.chmodSync(own, 0o777)
      const user = process.getuid?.() === 0 ? "www-data" : Os.userInfo().username
      const configuration = Path.join(folder, "apache.conf")
      Fs.writeFileSync(
        configuration,
        `ServerRoot "${own}"
ServerName example.test
PidFile "${own}/apache.pid"
DefaultRuntimeDir "${own}"
ScriptSock "${own}/cgid.sock"
Mutex file:${own}
ErrorLog "|$/bin/cat >&2"
User ${user}
Group ${user}
DocumentRoot "${own}"
Listen 127.0.0.1:${port}
${
          ["mpm_event", "authz_core", "alias"].map((name) =>
            `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`
          ).join("\n")
        }
${
          WebServers.fill(WebServers.documented(page, "apache", "Apache starts the program for every request"), [
            ["/srv/app/app.cgi/", `${file}/`]
          ])
        }`
      )
      const program = yield* WebServers.start({
        name: "Apache",
        command,
        args: ["-D", "FOREGROUND", "-f", configuration],
        ready: WebServers.accepts({ host: "127.0.0.1", port })
      })
      return CgiServer.of({ program, ports: [port] })
    })
  )

const options = { excludeTestServices: true } as const

const bytes = (size: number): Buffer => {
  const content = Buffer.alloc(size)
  for (let i = 0; i < size; i++) content[i] = (i * 31 + (i >>> 8) * 7) & 0xff
  return content
}

/** Asks at every port of the server. */
const ask = <E>(
  target: string,
  requestOptions: RequestOptions,
  check: (response: Effect.Success<ReturnType<typeof request>>) => void
): Effect.Effect<void, HttpError | E, CgiServer> =>
  Effect.flatMap(
    CgiServer,
    ({ ports }) =>
      Effect.forEach(ports, (port) => Effect.map(request(port, target, requestOptions), check), { discard: true })
  )

const suite = (name: string, server: Layer.Layer<CgiServer, WebServers.ProgramError>) =>
  layer(server, options)(name, (it) => {
    it.effect("GET and HEAD", () =>
      Effect.gen(function*() {
        yield* ask("/hello", { headers: { "x-name": "you" } }, (response) => {
          assert.strictEqual(response.status, 200)
          assert.strictEqual(response.text, "hello you\n")
          assert.strictEqual(response.headers["content-type"], "text/plain")
        })
        yield* ask("/hello", { method: "HEAD" }, (response) => {
          assert.strictEqual(response.status, 200)
          assert.strictEqual(response.body.length, 0)
          // Apache drops it.
          assert.include(["13", undefined], response.headers["content-length"])
        })
      }))

    it.effect("POST, with bodies from none to several megabytes", () =>
      Effect.gen(function*() {
        // mod_cgid reads nothing before it has sent the whole body, so a longer echo would wait for itself.
        for (const size of [0, 1, 500_000]) {
          const body = bytes(size)
          yield* ask("/echo", { method: "POST", body }, (response) => {
            assert.strictEqual(response.status, 200)
            assert.isTrue(response.body.equals(body), `${response.body.length} of ${size} bytes`)
          })
        }
        yield* ask("/size", { method: "POST", body: bytes(4_000_000) }, (response) => {
          assert.strictEqual(response.text, "4000000 bytes")
        })
      }))

    it.effect("a response of four megabytes", () =>
      ask("/big", {}, (response) => {
        assert.strictEqual(response.body.length, 64 * 65_536)
        for (let i = 0; i < 64; i++) assert.strictEqual(response.body[i * 65_536 + 1], i)
      }))

    it.effect("an answer before the body has been read", () =>
      ask("/early", { method: "POST", body: bytes(4_000_000) }, (response) => {
        assert.strictEqual(response.status, 413)
        assert.strictEqual(response.text, "too early")
      }))

    it.effect("a defect, and the programs that end in good order", () =>
      Effect.gen(function*() {
        const { ports, program } = yield* CgiServer
        const since = program.log().length
        yield* ask("/defect", {}, (response) => {
          assert.strictEqual(response.status, 500)
          assert.notInclude(response.text, "something is wrong")
        })
        for (const _ of ports) yield* program.says("closed in good order", since)
      }))

    it.effect("a header `Proxy` is no proxy of the program", () =>
      ask("/variables", { headers: { proxy: "http://192.0.2.66:8080" } }, (response) => {
        assert.deepInclude(JSON.parse(response.text), { gateway: "CGI/1.1" })
        assert.notProperty(JSON.parse(response.text), "proxyVariable")
      }))
  })

it("answers one request in a terminal, as the page says", () => {
  const command = WebServers.fill(WebServers.documented(page, "sh", "one request, in a terminal"), [
    ["REQUEST_URI=/ ", "REQUEST_URI=/hello "],
    ["node main.js", `"${process.execPath}" "${fixture}"`]
  ])
  const { status, stdout } = ChildProcess.spawnSync("/bin/sh", ["-c", command], { encoding: "utf8" })
  assert.strictEqual(status, 0)
  assert.match(stdout, /^Status: 200 OK\r\n[^]*\r\n\r\nhello nobody\n$/)
})

describeWith(["lighttpd"], "mod_cgi of lighttpd", (command) => suite("with a file and with pipes", lighttpd(command!)))

describeWith(["apache2"], "mod_cgid of Apache", (command) => suite("with a socket", apache(command!)))
