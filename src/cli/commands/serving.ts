/**
 * `gateway` and `serve`: what runs until it is told to end.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { addressForms } from "../../node/internal/address.ts"
import * as Flags from "../internal/flags.ts"

const gatewayFlags = {
  address: Argument.String("address").pipe(
    Argument.optional,
    Argument.map(Option.getOrUndefined),
    Argument.withDescription(
      `Where the application listens: ${addressForms}. With --php it may be left out: a php-fpm is started.`
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
    Flag.withDescription("Its address. Default 127.0.0.1, which only this host reaches.")
  ),
  prefix: Flags.text("prefix", "path", "The path that the PHP site has in URLs. Default /."),
  frontController: Flags.text(
    "front-controller",
    "path",
    "The script for what is neither file nor directory: /index.php."
  ),
  documentRoot: Flags.text("document-root", "directory", "DOCUMENT_ROOT: what php-fpm calls the directory."),
  script: Flags.text("script", "file", "SCRIPT_FILENAME: the file that runs every request. Not with --php."),
  params: Flags.several("param", "NAME=VALUE", "Another param, or another value of one.").pipe(Flag.withAlias("p")),
  keepConn: Flags.toggle("keep-conn", "Keep connections for further requests."),
  quiet: Flags.toggle("quiet", "Log no requests.").pipe(Flag.withAlias("q"))
}

/** What the command line of `gateway` says. */
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
      "For development: it knows no TLS and no access rules. Ctrl-C ends it."
  ),
  Command.withExamples([
    { command: "effect-fastcgi gateway /run/app.sock", description: "An application on http://127.0.0.1:8080" },
    {
      command: "effect-fastcgi gateway --php ./public --front-controller /index.php",
      description: "A PHP site, with a php-fpm that is started and stopped"
    },
    { command: "effect-fastcgi gateway /run/php/php-fpm.sock --php /srv/www", description: "With one that runs" }
  ])
)
