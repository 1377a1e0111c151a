/**
 * What the two programs of this example share: how they read their command line, how they end, and free ports.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { type AddressInfo, createServer } from "node:net"
import { parseArgs, type ParseArgsConfig } from "node:util"

/** The command line, or a sentence that says what is wrong with it. */
export const parse = <const Config extends ParseArgsConfig>(config: Config) => {
  try {
    return parseArgs(config)
  } catch (error) {
    return error instanceof Error ? error.message.replace(/\.? To specify.*$/s, "") : String(error)
  }
}

/** What is wrong with the text of `--port`, if anything is. */
export const portMistake = (port: string): string | undefined =>
  /^\d{1,5}$/.test(port) && Number(port) <= 65535 ? undefined : `--port takes a number from 0 to 65535, not "${port}"`

/** A port of an address of this host that nobody listens on at this moment. */
export const freePort = (host: string) =>
  Effect.callback<number>((resume) => {
    const server = createServer().listen(0, host, () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resume(Effect.succeed(port)))
    })
  })

/** Runs a program. A sentence is what is wrong with the command line, and `undefined` asks for the help text. */
export const run = <E>(
  name: string,
  usage: string,
  main: Effect.Effect<unknown, E> | string | undefined,
  options: { readonly disableErrorReporting?: boolean } = {}
): void => {
  if (main === undefined) {
    process.stdout.write(usage)
  } else if (typeof main === "string") {
    process.stderr.write(`${name}: ${main}\n\n${usage}`)
    process.exitCode = 2
  } else {
    NodeRuntime.runMain(main, {
      ...options,
      // A signal is the way to stop it, so it is a success.
      teardown: (exit, onExit) => onExit(exit._tag === "Success" || Cause.hasInterruptsOnly(exit.cause) ? 0 : 1)
    })
  }
}
