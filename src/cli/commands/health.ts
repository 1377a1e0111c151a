/**
 * `ping`, `values` and `status`: how an application is.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Flags from "../internal/flags.ts"
import * as Target from "../internal/target.ts"

const timeout = Flags.duration("timeout", "How long the answer may take. Default 5 seconds.").pipe(
  Flag.withDefault(Duration.seconds(5))
)

const watch = Flag.String("watch").pipe(
  Flag.withOptionalValue("1s"),
  Flag.filterMap(Flags.parseDuration, (text) => `--watch takes a time such as 2s or 500ms, not "${text}"`),
  Flag.withMetavar("time"),
  Flag.withDescription("Ask again and again until ctrl-C: every second, or --watch=5s."),
  Flag.optional,
  Flag.map(Option.getOrUndefined)
)

const pingFlags = {
  address: Target.address,
  path: Flags.text("path", "path", "The page that must answer 200. Default: /ping, and any answer will do."),
  response: Flags.text("response", "text", "The answer that the page must give, \"pong\" for php-fpm."),
  timeout,
  watch,
  json: Flags.json("what came")
}

/** The options of `ping`. */
export type PingOptions = Command.Command.Config.Infer<typeof pingFlags>

/** `ping`. */
export const ping = Command.make(
  "ping",
  pingFlags,
  (options) => Effect.flatMap(Effect.promise(() => import("../health/ping.ts")), ({ run }) => run(options))
).pipe(
  Command.withShortDescription("See whether an application answers: a health check."),
  Command.withDescription(
    "Requests php-fpm's ping page, or another page. Without --path and --response any answer is good, even an error " +
      "page. Exits with 0 when the answer is good, 1 when it is not, 3 when nothing listens, 4 when no answer came in " +
      "time, and 5 when the answer is no FastCGI."
  ),
  Command.withExamples([
    { command: "effect-fastcgi ping /run/php/php-fpm.sock --response pong", description: "php-fpm with ping.path" },
    { command: "effect-fastcgi ping 127.0.0.1:9000 --path /health --timeout 2s", description: "A page of an app" },
    { command: "effect-fastcgi ping /run/app.sock --watch", description: "Once a second" }
  ])
)

const valuesFlags = {
  address: Target.address,
  names: Argument.String("name").pipe(
    Argument.variadic(),
    Argument.withDescription("Which values. Default FCGI_MAX_CONNS, FCGI_MAX_REQS and FCGI_MPXS_CONNS.")
  ),
  timeout,
  json: Flags.json("the values")
}

/** The options of `values`. */
export type ValuesOptions = Command.Command.Config.Infer<typeof valuesFlags>

/** `values`. */
export const values = Command.make(
  "values",
  valuesFlags,
  (options) => Effect.flatMap(Effect.promise(() => import("../health/values.ts")), ({ run }) => run(options))
).pipe(
  Command.withShortDescription("Ask an application for its limits (GET_VALUES)."),
  Command.withDescription(
    "Sends GET_VALUES, which asks how many connections and requests the application takes at once, and whether it takes " +
      "several requests on one connection. php-fpm answers only the last. libfcgi answers only after a request."
  ),
  Command.withExamples([{
    command: "effect-fastcgi values /run/app.sock",
    description: "The values that the specification names"
  }])
)

const statusFlags = {
  address: Target.address,
  path: Flag.String("path").pipe(
    Flag.withDefault("/status"),
    Flag.withMetavar("path"),
    Flag.withDescription("Where the status page is: pm.status_path of a pool. Default /status.")
  ),
  workers: Flags.toggle("workers", "Show the workers and their requests."),
  openmetrics: Flags.toggle("openmetrics", "Print the page as OpenMetrics, for Prometheus."),
  timeout,
  watch,
  json: Flags.json("it, under php-fpm's own names,")
}

/** The options of `status`. */
export type StatusOptions = Command.Command.Config.Infer<typeof statusFlags>

/** `status`. */
export const status = Command.make(
  "status",
  statusFlags,
  (options) => Effect.flatMap(Effect.promise(() => import("../health/status.ts")), ({ run }) => run(options))
).pipe(
  Command.withShortDescription("Show how busy a php-fpm pool is, or an application of this package."),
  Command.withDescription(
    "Requests the status page of php-fpm (pm.status_path of the pool), or of an application of this package " +
      "(NodeFastCgiStatus). Exits with 0 when the page came, 1 when there is no such page, 3 when nothing listens, and 4 " +
      "when no worker was free in time."
  ),
  Command.withExamples([
    {
      command: "effect-fastcgi status /run/php/php-fpm.sock --workers --watch",
      description: "The workers and their requests"
    },
    { command: "effect-fastcgi status 127.0.0.1:9000 --openmetrics", description: "For Prometheus" }
  ])
)
