/**
 * A PHP site that moves to TypeScript route by route: what Effect answers by now, and php-fpm for the rest.
 *
 *     node examples/php/main.ts /run/php/php-fpm.sock 8080
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { FastCgiGateway, FastCgiHttpClient, FastCgiPool } from "effect-fastcgi/client"
import { NodeFastCgiConnector } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { createServer } from "node:http"
import { fileURLToPath } from "node:url"

const usage =
  "node examples/php/main.ts [SOCKET [PORT]]: a PHP site and two routes of Effect on http://127.0.0.1:PORT/\n" +
  "SOCKET is php-fpm's, by default /run/php/php-fpm.sock; PORT is 8080 by default; --help says this"

const [socket = "/run/php/php-fpm.sock", port = "8080"] = process.argv.slice(2)

const root = fileURLToPath(new URL("site", import.meta.url))

const Session = Schema.Struct({ name: Schema.NullOr(Schema.String) })

/** Calls a script of the site's own with the visitor's cookies. */
const internal = (script: string) =>
  Effect.flatMap(
    HttpServerRequest.HttpServerRequest,
    ({ headers }) =>
      HttpClient.get(`http://localhost/internal/${script}`, {
        headers: headers.cookie === undefined ? {} : { cookie: headers.cookie }
      })
  )

/** Who the visitor is, from the session that PHP keeps. */
const session = Effect.flatMap(internal("session.php"), HttpClientResponse.schemaBodyJson(Session))

const Account = HttpRouter.add(
  "GET",
  "/account",
  Effect.map(session, ({ name }) =>
    name === null
      ? HttpServerResponse.redirect("/", { status: 303 })
      : HttpServerResponse.text(`You are ${name}, says PHP. Effect made this page.\n`)).pipe(Effect.orDie)
)

// PHP writes its session, and the visitor gets the cookie that PHP sets.
const Logout = HttpRouter.add(
  "POST",
  "/logout",
  Effect.map(internal("logout.php"), ({ cookies }) => HttpServerResponse.redirect("/", { status: 303, cookies })).pipe(
    Effect.orDie
  )
)

const Site = FastCgiGateway.layerPhpFromPool({ root, frontController: "/index.php", deny: ["/internal"] })

// One pool for both, with no more connections than php-fpm has workers (pm.max_children).
const Php = FastCgiHttpClient.layerFromPool({ documentRoot: root }).pipe(
  Layer.provideMerge(FastCgiPool.layer({
    connect: NodeFastCgiConnector.connect({ path: socket }),
    keepConnection: true,
    maxConnections: 4
  }))
)

if (socket === "--help") console.log(usage)
else {
  HttpRouter.serve(Layer.mergeAll(Account, Logout, Site)).pipe(
    Layer.provide(Php),
    Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: Number(port) })),
    Layer.launch,
    NodeRuntime.runMain
  )
}
