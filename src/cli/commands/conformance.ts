/**
 * `effect-fastcgi conformance ADDRESS`: tries a FastCGI server against the specification.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { SubjectProcess } from "../../conformance/Conformance.ts"
import { addressForms, addressMistake, parseAddress } from "../../node/internal/address.ts"
import { type CommandFailure, ExitCode, fail, usage } from "../internal/failure.ts"
import * as Output from "../internal/output.ts"

const milliseconds = (name: string, byDefault: number, description: string) =>
  Flag.Int(name).pipe(
    Flag.filter((value) => value > 0, () => `--${name} takes a number of milliseconds above 0`),
    Flag.withDefault(byDefault),
    Flag.withMetavar("ms"),
    Flag.withDescription(`${description} Default ${byDefault} ms.`)
  )

/** The command. */
export const conformance = Command.make("conformance", {
  address: Argument.String("address").pipe(
    Argument.withDescription(`Where the server listens: ${addressForms}.`)
  ),
  start: Flag.String("start").pipe(
    Flag.withMetavar("command"),
    Flag.withDescription("Start the server with this command line, and again when a case has ended it."),
    Flag.optional
  ),
  pid: Flag.Int("pid").pipe(
    Flag.withDescription("The process id of a server that runs already, to watch its memory."),
    Flag.optional
  ),
  name: Flag.String("name").pipe(
    Flag.withDescription("Name and version of the server, for the report."),
    Flag.optional
  ),
  only: Flag.String("only").pipe(
    Flag.withMetavar("row"),
    Flag.withDescription("Only rows whose id begins with this (3.4, or 5.4-a). May be given more than once."),
    Flag.atLeast(0)
  ),
  deadline: milliseconds("deadline", 2000, "How long to wait for an expected answer."),
  quiet: milliseconds("quiet", 100, "How long to wait before \"nothing came\" is certain."),
  json: Flag.Boolean("json").pipe(Flag.withDefault(false), Flag.withDescription("Print the report as JSON.")),
  markdown: Flag.Boolean("markdown").pipe(
    Flag.withDefault(false),
    Flag.withDescription("Print the report as Markdown.")
  )
}, (options) =>
  Effect.scoped(Effect.gen(function*() {
    const address = parseAddress(options.address)
    if (address === undefined) return yield* usage(addressMistake(options.address))
    if (options.json && options.markdown) return yield* usage("--json and --markdown exclude each other.")
    // Only now, so that --help does not wait for it.
    const Conformance = yield* Effect.promise(() => import("../../conformance/Conformance.ts"))
    const unknown = options.only.find((row) => !Conformance.cases.some((one) => one.row.startsWith(row)))
    if (unknown !== undefined) return yield* usage(`No row begins with "${unknown}", which --only asks for.`)
    if (Option.isSome(options.start) && Option.isSome(options.pid)) {
      return yield* usage("--start and --pid exclude each other.")
    }

    const [Report, NodeFastCgiConnector, ServerProcess] = yield* Effect.promise(() =>
      Promise.all([
        import("../../conformance/report.ts"),
        import("../../node/NodeFastCgiConnector.ts"),
        import("../internal/serverProcess.ts")
      ])
    )
    const deadline = Duration.millis(options.deadline)
    const connect = NodeFastCgiConnector.connect({ ...address, connectTimeout: deadline })
    const process = Option.isSome(options.start)
      ? yield* ServerProcess.start(options.start.value)
      : Option.isSome(options.pid)
      ? ServerProcess.byId(options.pid.value)
      : undefined
    if (Option.isSome(options.start)) yield* listens(connect, process!)

    const text = !options.json && !options.markdown
    const report = yield* Effect.catchTag(
      Conformance.run({
        connect,
        process,
        server: Option.getOrElse(options.name, () => options.address),
        only: options.only.length === 0 ? undefined : options.only,
        deadline,
        quiet: Duration.millis(options.quiet),
        onLine: (line) => text ? Console.log(Report.formatLine(line)) : Effect.void
      }),
      "ConformanceError",
      (error) => usage(error.message)
    )
    yield* Console.log(
      options.json
        ? Output.json(report, 2)
        : options.markdown
        ? Report.comparison([report])
        : Report.formatTotals(report)
    )
    if (Conformance.totals(report).fail > 0) return yield* fail(ExitCode.Found)
  }))).pipe(
    Command.withShortDescription("Try a FastCGI server against the specification."),
    Command.withDescription(
      "Plays the web server against a FastCGI server, with a case for every row of the specification's checklist that can " +
        "be seen from outside, and prints what came. Exits with 1 when a \"must\" was not met. The server must run an " +
        "application with a few endpoints, which docs/conformance.md describes."
    ),
    Command.withExamples([
      { command: "effect-fastcgi conformance /run/app.sock", description: "A running server" },
      {
        command: "effect-fastcgi conformance /tmp/app.sock --start \"node app.js /tmp/app.sock\"",
        description: "A server that the command starts, watches, and starts again when a case has ended it"
      },
      { command: "effect-fastcgi conformance 127.0.0.1:9000 --only 5.4", description: "Aborts only" }
    ])
  )

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// How long a server may take from its start until it listens.
const startDeadline = Duration.seconds(10)

// A server that has just been started listens after a while, or ends.
const listens = (
  connect: Effect.Effect<unknown, { readonly message: string }, Scope.Scope>,
  process: SubjectProcess
): Effect.Effect<void, CommandFailure> =>
  Effect.gen(function*() {
    const attempt: Effect.Effect<void, CommandFailure> = Effect.flatMap(process.ended, (ended) =>
      ended !== undefined
        ? usage(`The server has ended instead of listening: ${ended}.`)
        : Effect.catch(
          Effect.asVoid(Effect.scoped(connect)),
          () => Effect.andThen(Effect.sleep(50), attempt)
        ))
    yield* Effect.timeoutOrElse(attempt, {
      duration: startDeadline,
      orElse: () => usage(`The server does not listen ${Duration.format(startDeadline)} after its start.`)
    })
  })
