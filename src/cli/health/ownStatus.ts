/**
 * The status of an application of this package (`FastCgiStatus`), which says more than php-fpm's.
 */
import type { StatusJson } from "../../server/internal/statusFigures.ts"
import * as Output from "../internal/output.ts"
import { printable } from "../records/lines.ts"
import { elapsed } from "./time.ts"

/** The status as a person reads it; `all` adds the workers and the requests that are open. */
export const ownTable = (
  status: StatusJson,
  all: boolean,
  paint: (color: Output.Color, text: string) => string = (_, text) => text
): ReadonlyArray<string> => {
  const limits = Object.entries(status["limits reached"]).filter(([, count]) => count > 0)
  const head = Output.columns([
    [
      "Application",
      `${printable(status.pool)}, ${Output.counted(status["total processes"], "worker")}, up ${
        elapsed(status["start since"])
      }`
    ],
    [
      "Requests",
      `${paint("bold", `${status["requests open"]} open`)} (${status["requests waiting"]} wait, ${
        status["requests running"]
      } run, ` +
      `${status["requests responding"]} respond), ${status["max requests open"]} at most so far`
    ],
    [
      "",
      `${status.requests} in all, ${status["requests aborted"]} aborted, ` +
      paint(status["requests failed"] > 0 ? "bad" : "good", `${status["requests failed"]} failed`) +
      `, ${status["slow requests"]} slow`
    ],
    [
      "Connections",
      `${status.connections} open, ${status["connections waiting"]} wait, ${
        status["connections accepted"]
      } accepted, ` +
      `${status["connections refused"]} refused; ${status["listen queue"]} in the listen queue`
    ],
    [
      "Memory",
      `${Output.bytes(status.memory)}, event loop delayed by ${Output.milliseconds(status["event loop delay"])}`
    ],
    [
      "Limits",
      limits.length === 0
        ? "none reached"
        : paint("warn", limits.map(([name, count]) => `${name} ${count} times`).join(", "))
    ]
  ])
  if (!all) return head
  const { "open requests": openRequests = [], processes = [] } = status
  return [
    ...head,
    "",
    ...titled(
      ["PID", "STATE", "REQUESTS", "OPEN", "CONNECTIONS", "MEMORY", "CPU", "DELAY"],
      processes.map((one) => [
        String(one.pid),
        one.state,
        String(one.requests),
        String(one["requests open"]),
        String(one.connections),
        Output.bytes(one.memory),
        Output.milliseconds(one["cpu time"]),
        Output.milliseconds(one["event loop delay"])
      ]),
      paint
    ),
    ...(openRequests.length === 0 ? [] : [
      "",
      ...titled(
        ["PID", "STATE", "TIME", "REQUEST"],
        openRequests.map((one) => [
          String(one.pid),
          one.state,
          Output.milliseconds(one["request duration"] / 1000),
          printable(`${one["request method"]} ${one["request uri"]}`)
        ]),
        paint
      )
    ])
  ]
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const titled = (
  title: ReadonlyArray<string>,
  rows: ReadonlyArray<ReadonlyArray<string>>,
  paint: (color: Output.Color, text: string) => string
): ReadonlyArray<string> => {
  const [first, ...lines] = Output.columns([title, ...rows])
  return [paint("bold", first!), ...lines]
}
