#!/usr/bin/env node
/**
 * The `effect-fastcgi` command.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as CliError from "effect/cli/CliError"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import * as Fs from "node:fs"
import { conformance } from "./conformance.ts"

const manifest = JSON.parse(Fs.readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  readonly version: string
}

// 1 is what a command found, 2 that it could not be understood or carried out.
const teardown: Runtime.Teardown = (exit, onExit) =>
  exit._tag === "Failure" && CliError.isCliError(Cause.squash(exit.cause))
    ? onExit(2)
    : Runtime.defaultTeardown(exit, onExit)

Command.make("effect-fastcgi").pipe(
  Command.withDescription("Tools for FastCGI applications and web servers."),
  Command.withSubcommands([conformance]),
  Command.run({ version: manifest.version }),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({ teardown })
)
