/**
 * Runs `values`.
 */
import * as Effect from "effect/Effect"
import * as FastCgiClient from "../../client/FastCgiClient.ts"
import { ValueName } from "../../protocol/FastCgiRecord.ts"
import type { ValuesOptions } from "../commands/health.ts"
import { clientFailure, type CommandFailure } from "../internal/failure.ts"
import * as Output from "../internal/output.ts"
import * as Target from "../internal/target.ts"

/** Asks for the values and shows them. */
export const run = (options: ValuesOptions): Effect.Effect<void, CommandFailure> =>
  Effect.scoped(Effect.gen(function*() {
    const target = yield* Target.parse(options.address, options.timeout)
    const names = options.names.length === 0 ? Object.values(ValueName) : options.names
    const values = yield* FastCgiClient.make({ connect: target.connect }).pipe(
      Effect.flatMap((client) => client.getValues(names, { timeout: options.timeout })),
      Effect.mapError(clientFailure)
    )
    if (options.json) return yield* Output.line(Output.json(values, 2))
    const rows = names.map((name) => {
      const value = values[name]
      return [name, value ?? "not sent", value === undefined ? "" : meaning(name, value)]
    })
    for (const line of Output.columns(rows)) yield* Output.line(line)
  }))

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const meaning = (name: string, value: string): string => {
  switch (name) {
    case ValueName.MaxConns:
      return `connections at once`
    case ValueName.MaxReqs:
      return `requests at once`
    case ValueName.MpxsConns:
      return value === "1" ? "several requests on one connection" : "one request at a time on a connection"
    default:
      return ""
  }
}
