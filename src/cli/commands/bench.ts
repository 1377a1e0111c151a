/**
 * `effect-fastcgi bench ADDRESS [URL]`: how fast an application answers.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Flags from "../internal/flags.ts"
import * as Target from "../internal/target.ts"

const flags = {
  address: Target.address,
  url: Argument.String("url").pipe(
    Argument.optional,
    Argument.map(Option.getOrUndefined),
    Argument.withDescription("Path and query. Default \"/\".")
  ),
  connections: Flags.count("connections", 8, "How many connections at once."),
  multiplex: Flags.count("multiplex", 1, "How many requests at once on each connection; the app must multiplex."),
  keepConn: Flags.toggle("keep-conn", "Keep connections for further requests. Default: one for each request."),
  body: Flag.String("body").pipe(
    Flag.filterMap(parseSize, (text) => `--body takes a size such as 4096, 64K or 2M, not "${text}"`),
    Flag.withMetavar("size"),
    Flag.withDescription("Send a body of this size, with POST. Default none."),
    Flag.optional,
    Flag.map(Option.getOrUndefined)
  ),
  duration: Flags.duration("seconds", "How long. Default 10.").pipe(Flag.withDefault(Duration.seconds(10))),
  timeout: Flags.duration("timeout", "How long an answer may take. Default 10 seconds.").pipe(
    Flag.withDefault(Duration.seconds(10))
  ),
  method: Flags.text("request", "method", "The method. Default GET, and POST where there is a body.").pipe(
    Flag.withAlias("X")
  ),
  headers: Flags.several("header", "\"name: value\"", "A header of the requests.").pipe(Flag.withAlias("H")),
  script: Flags.text("script", "file", "SCRIPT_FILENAME: the file that php-fpm runs, as a path on its host."),
  root: Flags.text("root", "directory", "DOCUMENT_ROOT: php-fpm runs the URL's path below it."),
  params: Flags.several("param", "NAME=VALUE", "Another param, or another value of one.").pipe(Flag.withAlias("p")),
  json: Flags.json("the figures")
}

/** The options of the command. */
export type BenchOptions = Command.Command.Config.Infer<typeof flags>

/** The command. */
export const bench = Command.make(
  "bench",
  flags,
  (options) => Effect.flatMap(Effect.promise(() => import("../bench/run.ts")), ({ run }) => run(options))
).pipe(
  Command.withShortDescription("Measure how fast an application answers."),
  Command.withDescription(
    "Sends the next request as soon as an answer has come, and checks every answer: complete, with a status below 400, " +
      "and as long as its Content-Length. Exits with 1 when a request failed. The command is written in JavaScript, and " +
      "needs a whole CPU for some ten thousand requests a second. It says so when it was the limit itself."
  ),
  Command.withExamples([
    {
      command: "effect-fastcgi bench /run/app.sock / --connections 16 --keep-conn",
      description: "As nginx with kept connections"
    },
    {
      command: "effect-fastcgi bench /run/app.sock / --connections 4 --multiplex 16 --keep-conn",
      description: "As HAProxy"
    },
    {
      command: "effect-fastcgi bench 127.0.0.1:9000 /upload.php --root /srv/www --body 1M --seconds 30",
      description: "Uploads to php-fpm"
    }
  ])
)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

function parseSize(text: string): Option.Option<number> {
  const match = /^(\d{1,9})([kKmM])?(?:i?B)?$/.exec(text)
  if (match === null) return Option.none()
  const unit = match[2]?.toLowerCase()
  return Option.some(Number(match[1]) * (unit === "k" ? 1024 : unit === "m" ? 1024 * 1024 : 1))
}
