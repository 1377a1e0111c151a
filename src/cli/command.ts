/**
 * The `effect-fastcgi` command: its subcommands, and how it ends.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { LogToStderr } from "effect/References"
import * as Runtime from "effect/Runtime"
import { bench } from "./commands/bench.ts"
import { dump, record, replay } from "./commands/capture.ts"
import { conformance } from "./commands/conformance.ts"
import { ping, status, values } from "./commands/health.ts"
import { request } from "./commands/request.ts"
import { gateway, serve } from "./commands/serving.ts"
import { CommandFailure, ExitCode } from "./internal/failure.ts"
import { stoppedCode } from "./internal/life.ts"
import * as Output from "./internal/output.ts"

const command = Command.make("effect-fastcgi").pipe(
  Command.withDescription("FastCGI from the command line: send requests, look at records, measure, serve."),
  Command.withExamples([
    {
      command: "effect-fastcgi request /run/app.sock /users?page=2 -v",
      description: "Send a request, and show the records"
    },
    { command: "effect-fastcgi ping /run/php/php-fpm.sock --response pong", description: "Check php-fpm" },
    { command: "effect-fastcgi gateway --php ./public", description: "Serve a PHP site on http://127.0.0.1:8080" },
    {
      command: "effect-fastcgi serve app.ts --listen 9000 --watch",
      description: "Serve an app, and its new code after each change"
    }
  ]),
  Command.withSubcommands([
    { group: "Requests", commands: [request, ping, values, status, bench] },
    { group: "Records", commands: [dump, record, replay] },
    { group: "Servers", commands: [gateway, serve, conformance] }
  ])
)

/** Runs the command line of this process. */
export const run = (version: string): void =>
  Command.run(command, { version }).pipe(
    Effect.tapError((error) =>
      error instanceof CommandFailure && error.message !== ""
        ? Output.note(`effect-fastcgi: ${error.message}`)
        : Effect.void
    ),
    Effect.raceFirst(Output.untilClosed),
    Effect.provideService(LogToStderr, true),
    Effect.provide(Layer.mergeAll(
      NodeServices.layer,
      CliOutput.layerPresenter(presenter),
      CliConfig.layer({ builtIns: [GlobalFlag.Help, versionFlag, GlobalFlag.Completions, GlobalFlag.LogLevel] })
    )),
    NodeRuntime.runMain({ teardown })
  )

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// Without the -v of Effect's own, which is --verbose here.
const versionFlag = GlobalFlag.Action({
  flag: Flag.Boolean("version").pipe(Flag.withDefault(false), Flag.withDescription("Show version information")),
  run: GlobalFlag.Version.run
})

// A sentence says what is wrong with a command line. The whole help text would push that sentence out of sight.
const presenter: CliOutput.Presenter = {
  present: (event) =>
    event._tag === "InvalidInvocation"
      ? Output.note(
        [
          ...event.errors.map((error) => `effect-fastcgi: ${error.message}`),
          `Usage: ${event.helpDoc.usage}`,
          `${event.commandPath.join(" ")} --help says more.`
        ].join("\n")
      )
      : CliOutput.defaultPresenter.present(event)
}

const teardown: Runtime.Teardown = (exit, onExit) =>
  exit._tag === "Failure" && CliError.isCliError(Cause.squash(exit.cause))
    ? onExit(ExitCode.Usage)
    : exit._tag === "Failure" && Cause.hasInterruptsOnly(exit.cause)
    ? onExit(stoppedCode())
    : Runtime.defaultTeardown(exit, onExit)
