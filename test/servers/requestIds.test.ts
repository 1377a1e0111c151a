/**
 * Ids of requests that the front end makes, by the line for each that docs/operations.md has, and traces that pass through it.
 */
import { assert, it } from "@effect/vitest"
import { NodeFastCgi } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../support/files.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import * as Apache from "./support/apache.ts"
import * as Caddy from "./support/caddy.ts"
import * as HAProxy from "./support/haproxy.ts"
import { request } from "./support/http.ts"
import * as Nginx from "./support/nginx.ts"

const page = Fs.readFileSync(Path.join(projectRoot, "docs/operations.md"), "utf8")

/** The line of the table for this server. */
const lineFor = (server: string): string => new RegExp(`^\\| ${server} +\\| \`(.*?)\``, "m").exec(page)![1]!

const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

/** An app that answers with the id and the trace, and where it and its web server listen. */
const places = Effect.gen(function*() {
  const [port, app] = [yield* WebServers.freePort, yield* WebServers.freePort]
  yield* Layer.build(
    HttpServer.serve(Effect.map(HttpServerRequest.HttpServerRequest, ({ headers }) =>
      HttpServerResponse.jsonUnsafe({
        id: headers["x-request-id"],
        trace: headers["traceparent"]
      }))).pipe(Layer.provide(NodeFastCgi.layerServer({ port: app })))
  )
  return { folder: yield* WebServers.temporaryDirectory, port, app }
})

/** Each request has an id of its own, which is not the client's, and the client's trace. */
const check = Effect.fnUntraced(function*(port: number) {
  const ids = new Set<string>()
  for (let i = 0; i < 3; i++) {
    const { body } = yield* request(port, "/", { headers: { "X-Request-Id": "forged", "traceparent": trace } })
    const seen = JSON.parse(body.toString()) as { readonly id: string; readonly trace: string }
    assert.strictEqual(seen.trace, trace)
    assert.match(seen.id, /^[\w@-]{20,}$/)
    ids.add(seen.id)
  }
  assert.strictEqual(ids.size, 3)
})

describeWith(["nginx"], "ids of requests behind nginx", (nginx) => {
  it.live("are nginx's", () =>
    Effect.gen(function*() {
      const { app, folder, port } = yield* places
      yield* Nginx.start(nginx!, folder, [
        `server { listen 127.0.0.1:${port}; location / {
          include /etc/nginx/fastcgi_params; ${lineFor("nginx")} fastcgi_pass 127.0.0.1:${app}; } }`
      ], [port])
      yield* check(port)
    }))
})

describeWith(["apache2"], "ids of requests behind Apache", (apache) => {
  it.live("are Apache's", () =>
    Effect.gen(function*() {
      const { app, folder, port } = yield* places
      const configuration = `${Apache.loadModule("unique_id")}
${Apache.loadModule("headers")}
Listen 127.0.0.1:${port}
${lineFor("Apache")}
ProxyPass "/" "fcgi://127.0.0.1:${app}/"
`
      yield* Apache.start(apache!, folder, configuration, [port], "mod_proxy_fcgi")
      yield* check(port)
    }))
})

describeWith(["haproxy"], "ids of requests behind HAProxy", (haproxy) => {
  it.live("are HAProxy's", () =>
    Effect.gen(function*() {
      const { app, folder, port } = yield* places
      yield* HAProxy.start(haproxy!, folder, [
        `fcgi-app app\n  docroot /srv/www
frontend web\n  bind 127.0.0.1:${port}\n  ${lineFor("HAProxy")}\n  default_backend app
backend app\n  use-fcgi-app app\n  server app 127.0.0.1:${app} proto fcgi`
      ], [port])
      yield* check(port)
    }))
})

describeWith(["caddy"], "ids of requests behind Caddy", (caddy) => {
  it.live("are Caddy's", () =>
    Effect.gen(function*() {
      const { app, folder, port } = yield* places
      const site = `http://:${port} {\n\tbind 127.0.0.1\n\t${lineFor("Caddy")}
	reverse_proxy 127.0.0.1:${app} {\n\t\ttransport fastcgi {\n\t\t\troot /srv/www\n\t\t}\n\t}\n}\n`
      yield* Caddy.start(caddy!, folder, [site], [port])
      yield* check(port)
    }))
})
