/**
 * `gateway` and `serve`: what runs until it is told to end.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { addressForms, listenForms } from "../../node/internal/address.ts"
import * as Flags from "../internal/flags.ts"

const gatewayFlags = {
  address: Argument.String("address").pipe(
    Argument.optional,
    Argument.map(Option.getOrUndefined),
    Argument.withDescription(
      `Where the application listens: ${addressForms}. Without it, --php starts a php-fpm.`
    )
  ),
  php: Flags.text("php", "directory", "Serve the PHP site in this directory: its files, and its scripts by php-fpm."),
  port: Flag.Int("port").pipe(
    Flag.filter((port) => port >= 0 && port <= 65535, (port) => `--port takes a number up to 65535, not ${port}`),
    Flag.withDefault(8080),
    Flag.withMetavar("port"),
    Flag.withDescription("The port of the HTTP server; 0 takes a free one. Default 8080.")
  ),
  host: Flag.String("host").pipe(
    Flag.withDefault("127.0.0.1"),
    Flag.withMetavar("host"),
    Flag.withDescription("The address of the HTTP server. Default 127.0.0.1, which only this host can reach.")
  ),
  prefix: Flags.text("prefix", "path", "The path that the PHP site has in URLs. Default /."),
  frontController: Flags.text(
    "front-controller",
    "path",
    "The script that answers for paths without a file: /index.php."
  ),
  documentRoot: Flags.text("document-root", "directory", "DOCUMENT_ROOT: the path of the directory on php-fpm's host."),
  script: Flags.text("script", "file", "SCRIPT_FILENAME: the file that runs every request. Not with --php."),
  params: Flags.several("param", "NAME=VALUE", "Another param, or another value of one.").pipe(Flag.withAlias("p")),
  keepConn: Flags.toggle("keep-conn", "Keep connections for further requests."),
  quiet: Flags.toggle("quiet", "Log no requests.").pipe(Flag.withAlias("q"))
}

/** The options of `gateway`. */
export type GatewayOptions = Command.Command.Config.Infer<typeof gatewayFlags>

/** `gateway`. */
export const gateway = Command.make(
  "gateway",
  gatewayFlags,
  (options) => Effect.flatMap(Effect.promise(() => import("../serving/gateway.ts")), ({ run }) => run(options))
).pipe(
  Command.withShortDescription("Put an HTTP server in front of an application, for development."),
  Command.withDescription(
    "Listens for HTTP and passes every request on to a FastCGI application, or serves a PHP site as nginx and php-fpm do. " +
      "For development only: it has no TLS and no access rules. Ctrl-C ends it."
  ),
  Command.withExamples([
    { command: "effect-fastcgi gateway /run/app.sock", description: "An application on http://127.0.0.1:8080" },
    {
      command: "effect-fastcgi gateway --php ./public --front-controller /index.php",
      description: "A PHP site, with a php-fpm of its own"
    },
    {
      command: "effect-fastcgi gateway /run/php/php-fpm.sock --php /srv/www",
      description: "A PHP site, with a running php-fpm"
    }
  ])
)

const serveFlags = {
  module: Argument.String("module").pipe(
    Argument.withDescription("The app: a module with a default export. TypeScript needs no build.")
  ),
  listen: Flags.several(
    "listen",
    "address",
    `What to listen on: ${listenForms}. Default FASTCGI_LISTEN, or file descriptor 0.`
  ).pipe(Flag.withAlias("l")),
  mode: Flags.text("mode", "octal", "The file mode of UNIX sockets, such as 660."),
  basePath: Flags.text("base-path", "path", "The path at which the web server mounts the app."),
  workers: Flags.count("workers", 1, "How many processes to run."),
  watch: Flags.toggle(
    "watch",
    "Serve the new code when a module of the package changes, or the old code while the new does not start."
  ),
  as: Flag.Literals("as", ["auto", "effect", "fetch", "node"]).pipe(
    Flag.withDefault("auto"),
    Flag.withMetavar("kind"),
    Flag.withDescription(
      "The kind of the default export, if it is guessed wrong: a function of two parameters counts as node's."
    )
  ),
  log: Flags.toggle("log", "Log the requests of an HttpRouter.")
}

/** The options of `serve`. */
export type ServeOptions = Command.Command.Config.Infer<typeof serveFlags>

/** `serve`. */
export const serve = Command.make(
  "serve",
  serveFlags,
  (options) => Effect.flatMap(Effect.promise(() => import("../serving/serve.ts")), ({ run }) => run(options))
).pipe(
  Command.withShortDescription("Run an app behind a web server, and its new code after each change."),
  Command.withDescription(
    "Serves the default export of a module: a layer of routes of HttpRouter, an HTTP app as an Effect, an object with a " +
      "fetch function (Hono, Elysia, h3), an app of Express, Koa or Fastify, or a function of request and response. The " +
      "app runs in processes of its own, which share the socket. SIGHUP replaces them without losing a request. SIGTERM " +
      "lets them finish. Limits and timeouts are settings of the environment: docs/operations.md."
  ),
  Command.withExamples([
    { command: "effect-fastcgi serve app.ts --listen /run/app.sock --mode 660", description: "Behind nginx" },
    { command: "effect-fastcgi serve app.ts --listen 9000 --watch --log", description: "In development" },
    {
      command: "effect-fastcgi serve app.js --listen systemd --workers 4",
      description: "Four processes on systemd's socket"
    }
  ])
)
