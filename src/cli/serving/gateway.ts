/**
 * Runs `gateway`.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { FileSystem } from "effect/FileSystem"
import type { HttpPlatform } from "effect/http/HttpPlatform"
import * as HttpServer from "effect/http/HttpServer"
import { ServeError } from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import type * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import type * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Http from "node:http"
import * as FastCgiGateway from "../../client/FastCgiGateway.ts"
import { formatHost } from "../../node/internal/listenerError.ts"
import type { GatewayOptions } from "../commands/serving.ts"
import { CommandFailure, ExitCode, usage } from "../internal/failure.ts"
import { servesUntilStopped } from "../internal/life.ts"
import * as Output from "../internal/output.ts"
import * as Target from "../internal/target.ts"
import { printable } from "../records/lines.ts"
import * as PhpFpm from "./phpFpm.ts"

/** Serves HTTP in front of the application until it is told to end. */
export const run = (options: GatewayOptions): Effect.Effect<void, CommandFailure, FileSystem | Path.Path> =>
  Effect.scoped(Effect.gen(function*() {
    yield* check(options)
    const php = options.address === undefined ? yield* PhpFpm.start : undefined
    const target = yield* Target.parse(options.address ?? `unix:${php!.socket}`)
    const server = NodeHttpServer.layer(Http.createServer, { host: options.host, port: options.port })
    const name = php === undefined ? target.name : "a php-fpm of its own"
    const served = Layer.unwrap(
      Effect.map(makeApp(options, target), (app) => HttpServer.serve(options.quiet ? app : logged(app)))
    ).pipe(Layer.provideMerge(server))
    const context = yield* Effect.mapError(Layer.build(served), (error) => unavailable(options, error))
    yield* servesUntilStopped
    const { address } = Context.get(context, HttpServer.HttpServer)
    const port = NetAddress.isInetAddress(address) ? address.port : options.port
    // Not before: Node answers no request that comes between its listen and the first handler.
    yield* Output.note(
      `http://${formatHost(options.host)}:${port}${options.prefix ?? "/"} answers for ` +
        (options.php === undefined ? name : `${options.php}, with ${name}`) + ". Ctrl-C ends it."
    )
    yield* php === undefined ? Effect.never : php.lost
  }))

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const check = (options: GatewayOptions): Effect.Effect<void, CommandFailure> => {
  const { address, documentRoot, frontController, php, prefix, script } = options
  if (php === undefined) {
    return address === undefined
      ? usage("Give the address of an application, or --php DIRECTORY for a PHP site.")
      : prefix !== undefined || frontController !== undefined
      ? usage("--prefix and --front-controller are for --php.")
      : Effect.void
  }
  if (script !== undefined) return usage("--script and --php exclude each other: a site has many scripts.")
  if (address === undefined && documentRoot !== undefined) {
    return usage("--document-root is for a php-fpm that runs elsewhere: give its address as well.")
  }
  const info = Fs.statSync(php, { throwIfNoEntry: false })
  if (info === undefined) return usage(`There is no directory ${php}.`)
  return info.isDirectory() ? Effect.void : usage(`${php} is no directory. Give the one that it is in.`)
}

const makeApp = (
  options: GatewayOptions,
  target: Target.Target
): Effect.Effect<
  FastCgiGateway.FastCgiGateway,
  CommandFailure | PlatformError,
  FileSystem | HttpPlatform | Path.Path | Scope.Scope
> =>
  Effect.gen(function*() {
    const entries = yield* Effect.forEach(options.params, (text) => {
      const at = text.indexOf("=")
      return at < 1
        ? usage(`"${text}" is no param. Did you mean --param NAME=VALUE?`)
        : Effect.succeed([text.slice(0, at), text.slice(at + 1)] as const)
    })
    const common = {
      connect: target.connect,
      keepConnection: options.keepConn,
      params: Object.fromEntries(entries),
      documentRoot: options.documentRoot
    }
    return yield* options.php === undefined
      ? FastCgiGateway.make({ ...common, scriptFilename: options.script })
      : FastCgiGateway.php({
        ...common,
        root: Fs.realpathSync(options.php),
        prefix: options.prefix,
        frontController: options.frontController
      })
  })

// A line for each request, on stderr.
const logged = (app: FastCgiGateway.FastCgiGateway): FastCgiGateway.FastCgiGateway => {
  const paint = Output.painter(process.stderr)
  return Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ method, url }) => {
    const started = performance.now()
    const tell = (response: HttpServerResponse.HttpServerResponse) => {
      const time = new Date().toTimeString().slice(0, 8)
      const color = response.status >= 500 ? "bad" : response.status >= 400 ? "warn" : "good"
      const took = Output.milliseconds(performance.now() - started)
      return Output.note(`${time}  ${method} ${printable(url)}  ${paint(color, String(response.status))}  ${took}`)
    }
    return Effect.tap(app, tell)
  })
}

const unavailable = (options: GatewayOptions, error: unknown): CommandFailure => {
  if (error instanceof CommandFailure) return error
  const cause = error instanceof ServeError ? error.cause : error
  const code = typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined
  const where = `${formatHost(options.host)}:${options.port}`
  const message = code === "EADDRINUSE"
    ? `Cannot listen on ${where}: something listens there already. Give another --port; 0 takes a free one.`
    : code === "EACCES"
    ? `Cannot listen on ${where}: this user may not. Give a --port above 1023.`
    : `Cannot serve: ${cause instanceof Error ? cause.message : String(cause)}`
  return new CommandFailure({ code: ExitCode.Usage, message })
}
