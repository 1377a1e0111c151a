/**
 * `npm run bench:scale-out`: every configuration of two applications behind a web server, with one of them killed, stopped and
 * replaced under load. Prints how many requests failed, as the table of docs/scale-out.md.
 */
import * as Effect from "effect/Effect"
import { parseArgs } from "node:util"
import { type Event, experiment, type Tally } from "../test/servers/support/scaleOut.ts"
import { type Setup, setups } from "../test/servers/support/scaleOutSetups.ts"
import { onPath } from "../test/support/programs.ts"

const { values: options } = parseArgs({
  options: {
    /** Configurations whose server or name contains it. */
    only: { type: "string", default: "" }
  }
})

const columns = [
  { event: "kill", method: "GET" },
  { event: "kill", method: "POST" },
  { event: "stop", method: "GET" },
  { event: "stop", method: "POST" },
  // Where a server that is there again is not noticed within seconds, this would never end.
  { event: "restart", method: "POST", recommendedOnly: true }
] as const

const cell = ({ failed, longest, repeated, requests }: Tally): string => {
  const remarks = [
    ...(failed > 100 ? [`of ${requests}`] : []),
    ...(longest > 1000 ? [`up to ${(longest / 1000).toFixed(1)} s`] : []),
    ...(repeated > 0 ? [`${repeated} ran twice`] : [])
  ]
  return remarks.length === 0 ? String(failed) : `${failed} (${remarks.join(", ")})`
}

const row = (setup: Setup, cells: ReadonlyArray<string>): void => {
  const name = `${setup.server}: ${setup.name}`
  console.log(`| ${[setup.recommended ? `**${name}**` : name, ...cells].join(" | ")} |`)
}

console.log(`| configuration | ${columns.map(({ event, method }) => `${event} ${method}`).join(" | ")} |`)
console.log(`| --- |${" --- |".repeat(columns.length)}`)

const measure = (setup: Setup, event: Event, method: "GET" | "POST"): Promise<string> =>
  Effect.runPromise(
    experiment({ setup, event, method }).pipe(
      Effect.scoped,
      Effect.map((tally) => {
        if (tally.failed > 0) console.error(`${setup.server}, ${setup.name}, ${event} ${method}:`, tally)
        return cell(tally)
      }),
      Effect.catch((error) =>
        Effect.sync(() => {
          console.error(error.message)
          return "?"
        })
      )
    )
  )

for (const setup of setups) {
  if (!`${setup.server} ${setup.name}`.includes(options.only)) continue
  if (onPath(setup.server) === undefined) {
    console.error(`${setup.server} is not installed`)
    continue
  }
  const cells: Array<string> = []
  for (const column of columns) {
    const left = "recommendedOnly" in column && !setup.recommended
    cells.push(left ? "" : await measure(setup, column.event, column.method))
  }
  row(setup, cells)
}
