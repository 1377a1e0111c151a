/**
 * WebSockets behind web servers: what docs/websockets.md says to do with those that carry none over FastCGI, what is answered behind
 * them when one is asked for all the same, and lighttpd where the installed one is new enough.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeWS from "@effect/platform-node/NodeWS"
import { assert, it } from "@effect/vitest"
import { NodeFastCgi } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Socket from "effect/socket/Socket"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import { createServer, type IncomingMessage, request } from "node:http"
import * as Path from "node:path"
import { nextEvent } from "../node/sockets.ts"
import { projectRoot } from "../support/files.ts"
import { describeWith, onPath } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import { within } from "../support/within.ts"
import * as Apache from "./support/apache.ts"
import * as Caddy from "./support/caddy.ts"
import * as H2o from "./support/h2o.ts"
import * as HAProxy from "./support/haproxy.ts"
import * as Lighttpd from "./support/lighttpd.ts"
import * as Nginx from "./support/nginx.ts"

const echo = Effect.gen(function*() {
  const { upgrade } = yield* HttpServerRequest.HttpServerRequest
  const socket = yield* upgrade
  const writer = yield* socket.writer
  const { pull } = yield* socket.reader
  return yield* Effect.forever(Effect.flatMap(pull, writer.writeAll))
}).pipe(Effect.catchIf(Socket.isSocketError, () => Effect.succeed(HttpServerResponse.empty())))

/** Where a web server listens, and where the app does: over FastCGI, and over HTTP. */
interface Places {
  readonly folder: string
  readonly port: number
  readonly fastCgi: number
  readonly http: number
}

const places = Effect.gen(function*() {
  const places: Places = {
    folder: yield* WebServers.temporaryDirectory,
    port: yield* WebServers.freePort,
    fastCgi: yield* WebServers.freePort,
    http: yield* WebServers.freePort
  }
  yield* Layer.build(Layer.mergeAll(
    HttpServer.serve(echo).pipe(Layer.provide(NodeFastCgi.layerServer({ port: places.fastCgi }))),
    HttpServer.serve(echo).pipe(
      Layer.provide(
        NodeHttpServer.layerServer(createServer, { host: "127.0.0.1", port: places.http, gracefulShutdownTimeout: 0 })
      )
    )
  ))
  return places
})

const page = Fs.readFileSync(Path.join(projectRoot, "docs/websockets.md"), "utf8")

const documented = (language: string, { http }: Places, more: ReadonlyArray<readonly [string, string]> = []): string =>
  WebServers.fill(WebServers.documented(page, language, "/live over HTTP"), [
    ["127.0.0.1:9080", `127.0.0.1:${http}`],
    ...more
  ])

const carries = Effect.fnUntraced(function*(port: number, path: string) {
  const client = new NodeWS.WebSocket(`ws://127.0.0.1:${port}${path}`)
  yield* Effect.addFinalizer(() => Effect.sync(() => client.terminate()))
  yield* nextEvent(client, "open")
  const answer = nextEvent(client, "message")
  client.send("hello")
  assert.strictEqual(String((yield* answer)[0]), "hello")
  const closed = nextEvent(client, "close")
  client.close(1000)
  yield* closed
})

// RFC 6455's own, and a protocol that nobody knows.
const refuses = (port: number, status: number, protocol = "websocket") =>
  Effect.suspend(() => {
    const asked = request({
      host: "127.0.0.1",
      port,
      path: "/fastcgi",
      headers: {
        connection: "Upgrade",
        upgrade: protocol,
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="
      }
    })
    asked.end()
    return Effect.flatMap(
      within(`an answer to Upgrade: ${protocol}`, 10)(nextEvent(asked, "response")),
      ([message]) => {
        const response = message as IncomingMessage
        assert.strictEqual(response.statusCode, status)
        response.resume()
        return within("the end of the answer", 10)(nextEvent(response, "end"))
      }
    )
  })

const refusesBoth = (port: number, status: number) =>
  Effect.andThen(refuses(port, status), refuses(port, status, "chat/1"))

describeWith(["nginx"], "nginx and WebSockets", (nginx) => {
  it.live("passes the path on over HTTP, and carries none over FastCGI", () =>
    Effect.gen(function*() {
      const at = yield* places
      const block = (port: number, buffering: "on" | "off") =>
        `server { listen 127.0.0.1:${port}; ${documented("nginx", at)}
         location / { include /etc/nginx/fastcgi_params; fastcgi_buffering ${buffering}; fastcgi_pass 127.0.0.1:${at.fastCgi}; } }`
      const unbuffered = yield* WebServers.freePort
      const ports = [at.port, unbuffered]
      yield* Nginx.start(nginx!, at.folder, [block(at.port, "on"), block(unbuffered, "off")], ports)
      yield* carries(at.port, "/live")
      for (const port of ports) yield* refusesBoth(port, 501)
    }))
})

describeWith(["apache2"], "Apache and WebSockets", (apache) => {
  it.live("passes the path on over HTTP, and carries none over FastCGI", () =>
    Effect.gen(function*() {
      const at = yield* places
      const configuration = `${Apache.loadModule("proxy_http")}
Listen 127.0.0.1:${at.port}
${documented("apache", at)}
ProxyPass "/" "fcgi://127.0.0.1:${at.fastCgi}/"
`
      yield* Apache.start(apache!, at.folder, configuration, [at.port], "mod_proxy_fcgi")
      yield* carries(at.port, "/live")
      yield* refusesBoth(at.port, 501)
    }))
})

describeWith(["haproxy"], "HAProxy and WebSockets", (haproxy) => {
  it.live("passes the path on over HTTP, and carries none over FastCGI", () =>
    Effect.gen(function*() {
      const at = yield* places
      const shown = yield* WebServers.freePort
      // With the headers passed on as well, which it hides otherwise.
      const application = (name: string, more: string) =>
        `fcgi-app ${name}\n  docroot /srv/www\n${more}\nbackend ${name}\n  use-fcgi-app ${name}\n  server app 127.0.0.1:${at.fastCgi} proto fcgi`
      yield* HAProxy.start(haproxy!, at.folder, [
        documented("haproxy", at, [["bind :80", `bind 127.0.0.1:${at.port}`]]),
        application("app", ""),
        `frontend shown\n  bind 127.0.0.1:${shown}\n  default_backend passing`,
        application("passing", "  pass-header upgrade\n  pass-header connection")
      ], [at.port, shown])
      yield* carries(at.port, "/live")
      yield* refusesBoth(at.port, 426)
      yield* refusesBoth(shown, 501)
    }))
})

describeWith(["caddy"], "Caddy and WebSockets", (caddy) => {
  it.live("passes the path on over HTTP, and carries none over FastCGI", () =>
    Effect.gen(function*() {
      const at = yield* places
      const site = `http://:${at.port} {\n\tbind 127.0.0.1\n${documented("caddyfile", at)}
	reverse_proxy 127.0.0.1:${at.fastCgi} {\n\t\ttransport fastcgi {\n\t\t\troot /srv/www\n\t\t}\n\t}\n}\n`
      yield* Caddy.start(caddy!, at.folder, [site], [at.port])
      yield* carries(at.port, "/live")
      yield* refusesBoth(at.port, 501)
    }))
})

describeWith(["h2o"], "h2o and WebSockets", (h2o) => {
  it.live("passes the path on over HTTP, and carries none over FastCGI", () =>
    Effect.gen(function*() {
      const at = yield* places
      const host = `  "127.0.0.1:${at.port}":
    listen:
      port: ${at.port}
      host: 127.0.0.1
    paths:
${documented("yaml", at).replace(/^(?=.)/gm, "      ")}
      "/":
        fastcgi.connect:
          host: 127.0.0.1
          port: ${at.fastCgi}
          type: tcp
`
      yield* H2o.start(h2o!, at.folder, [host], [at.port])
      yield* carries(at.port, "/live")
      yield* refusesBoth(at.port, 426)
    }))
})

/** Whether the installed lighttpd carries WebSockets: 1.4.74 is the first that does. */
const lighttpdVersion = (() => {
  const lighttpd = onPath("lighttpd")
  if (lighttpd === undefined) return [0, 0, 0]
  const [, ...numbers] = /lighttpd\/(\d+)\.(\d+)\.(\d+)/.exec(
    ChildProcess.execFileSync(lighttpd, ["-v"], { encoding: "utf8" })
  )!
  return numbers.map(Number)
})()

const carriesThem = lighttpdVersion[2]! >= 74 || lighttpdVersion[1]! > 4

describeWith(["lighttpd"], `lighttpd ${lighttpdVersion.join(".")} and WebSockets`, (lighttpd) => {
  // An older lighttpd does not know what the last line says, and takes it all the same.
  const configuration = ({ fastCgi }: Places) =>
    WebServers.fill(WebServers.documented(page, "lighttpd", "lighttpd 1.4.74 or later"), [
      ["\"socket\" => \"/run/app/app.sock\"", `"host" => "127.0.0.1", "port" => ${fastCgi}`]
    ])

  if (carriesThem) {
    it.live("carries them", () =>
      Effect.gen(function*() {
        const at = yield* places
        yield* Lighttpd.start(lighttpd!, at.folder, at.port, configuration(at))
        yield* Effect.forEach(Array.from({ length: 30 }), () => carries(at.port, "/live"), { concurrency: "unbounded" })
      }))
  } else {
    console.log(
      `skipped: WebSockets over lighttpd: ${
        lighttpdVersion.join(".")
      } is installed, 1.4.74 is the first that carries them`
    )
    it.skip("carries them (1.4.74 is the first that does)", () => {})

    it.live("carries none", () =>
      Effect.gen(function*() {
        const at = yield* places
        yield* Lighttpd.start(lighttpd!, at.folder, at.port, configuration(at))
        yield* refusesBoth(at.port, 501)
      }))
  }
})
