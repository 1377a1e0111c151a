/**
 * `effect-fastcgi request ADDRESS [URL]`: curl for FastCGI.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Flags from "../internal/flags.ts"
import * as Target from "../internal/target.ts"

const flags = {
  address: Target.address,
  url: Argument.String("url").pipe(
    Argument.optional,
    Argument.map(Option.getOrUndefined),
    Argument.withDescription("Path and query, or a whole URL with the host for the application. Default \"/\".")
  ),
  method: Flags.text("request", "method", "The method. Default GET, and POST where there is a body.").pipe(
    Flag.withAlias("X")
  ),
  headers: Flags.several("header", "\"name: value\"", "A header of the request.").pipe(Flag.withAlias("H")),
  data: Flags.several("data", "data", "A form as the body; @FILE sends a file's content, @- standard input.").pipe(
    Flag.withAlias("d")
  ),
  form: Flags.several("form", "name=value", "A field of a multipart form; name=@FILE uploads a file.").pipe(
    Flag.withAlias("F")
  ),
  script: Flags.text("script", "file", "SCRIPT_FILENAME: the file that php-fpm runs, as a path on its host."),
  root: Flags.text("root", "directory", "DOCUMENT_ROOT: php-fpm runs the URL's path below it."),
  params: Flags.several("param", "NAME=VALUE", "Another param, or another value of one.").pipe(Flag.withAlias("p")),
  role: Flag.Literals("role", ["responder", "authorizer", "filter"]).pipe(
    Flag.withDefault("responder"),
    Flag.withMetavar("role"),
    Flag.withDescription("The role of the request. Default responder.")
  ),
  filter: Flags.text("filter-file", "file", "The file for a Filter: DATA, with its length and time."),
  timeout: Flags.maybeDuration("timeout", "How long everything may take: 5, 5s, 500ms. Default no limit."),
  fail: Flags.toggle("fail", "Exit with 1 and show no body when the status is 400 or more, or appStatus is not 0.")
    .pipe(
      Flag.withAlias("f")
    ),
  include: Flags.toggle("include", "Show the header block before the body.").pipe(Flag.withAlias("i")),
  head: Flags.toggle("head", "Ask with HEAD, and show the header block.").pipe(Flag.withAlias("I")),
  verbose: Flags.toggle("verbose", "Show the records as they come, and times, on stderr.").pipe(Flag.withAlias("v")),
  raw: Flags.toggle("raw", "Show STDOUT unchanged."),
  output: Flags.text("output", "file", "Write the body to a file.").pipe(Flag.withAlias("o")),
  json: Flags.json("the whole answer, with status, headers, body, stderr and times,")
}

/** The options of the command. */
export type RequestOptions = Command.Command.Config.Infer<typeof flags>

/** The command. */
export const request = Command.make(
  "request",
  flags,
  (options) => Effect.flatMap(Effect.promise(() => import("../request/run.ts")), ({ run }) => run(options))
).pipe(
  Command.withShortDescription("Send a request to an application: curl for FastCGI."),
  Command.withDescription(
    "Sends a request to a FastCGI application. Prints the body of the answer to stdout as it comes, and the " +
      "application's STDERR to stderr. Exits with 0 when the answer is complete, 1 when --fail finds a bad status, 3 when " +
      "nothing listens, 4 when --timeout is over, and 5 when the answer is no FastCGI or CGI."
  ),
  Command.withExamples([
    { command: "effect-fastcgi request /run/app.sock /users?page=2 -i", description: "A page, with its header block" },
    {
      command: "effect-fastcgi request 127.0.0.1:9000 --root /srv/www /index.php -d name=value",
      description: "A form for a script that php-fpm runs"
    },
    {
      command: "effect-fastcgi request /run/app.sock /health --fail --timeout 2s -o /dev/null",
      description: "A health check"
    },
    { command: "effect-fastcgi request /run/app.sock / -v", description: "The records on the connection" }
  ])
)
