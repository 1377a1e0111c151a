/**
 * The status of an application of this package (`FastCgiStatus`), which says more than php-fpm's.
 */
import * as Schema from "effect/Schema"
import * as Output from "../internal/output.ts"
import { printable } from "../records/lines.ts"
import { elapsed } from "./time.ts"

/** The part of the page that is shown. */
export const OwnStatus = Schema.Struct({
  pool: Schema.String,
  startSince: Schema.Finite,
  activeProcesses: Schema.Finite,
  totalProcesses: Schema.Finite,
  slowRequests: Schema.Finite,
  listenQueue: Schema.Finite,
  requests: Schema.Finite,
  requestsOpen: Schema.Finite,
  requestsWaiting: Schema.Finite,
  requestsRunning: Schema.Finite,
  requestsResponding: Schema.Finite,
  maxRequestsOpen: Schema.Finite,
  requestsAborted: Schema.Finite,
  requestsFailed: Schema.Finite,
  connections: Schema.Finite,
  connectionsWaiting: Schema.Finite,
  connectionsAccepted: Schema.Finite,
  connectionsRefused: Schema.Finite,
  memory: Schema.Finite,
  eventLoopDelay: Schema.Finite,
  limitsReached: Schema.Record(Schema.String, Schema.Finite),
  processes: Schema.Array(
    Schema.Struct({
      pid: Schema.Int,
      state: Schema.String,
      requests: Schema.Finite,
      requestsOpen: Schema.Finite,
      connections: Schema.Finite,
      memory: Schema.Finite,
      cpuTime: Schema.Finite,
      eventLoopDelay: Schema.Finite
    }).pipe(Schema.encodeKeys({
      requestsOpen: "requests open",
      cpuTime: "cpu time",
      eventLoopDelay: "event loop delay"
    }))
  ),
  openRequests: Schema.Array(
    Schema.Struct({
      pid: Schema.Int,
      state: Schema.String,
      requestDuration: Schema.Finite,
      requestMethod: Schema.String,
      requestUri: Schema.String
    }).pipe(Schema.encodeKeys({
      requestDuration: "request duration",
      requestMethod: "request method",
      requestUri: "request uri"
    }))
  )
}).pipe(Schema.encodeKeys({
  startSince: "start since",
  activeProcesses: "active processes",
  totalProcesses: "total processes",
  slowRequests: "slow requests",
  listenQueue: "listen queue",
  requestsOpen: "requests open",
  requestsWaiting: "requests waiting",
  requestsRunning: "requests running",
  requestsResponding: "requests responding",
  maxRequestsOpen: "max requests open",
  requestsAborted: "requests aborted",
  requestsFailed: "requests failed",
  connectionsWaiting: "connections waiting",
  connectionsAccepted: "connections accepted",
  connectionsRefused: "connections refused",
  eventLoopDelay: "event loop delay",
  limitsReached: "limits reached",
  openRequests: "open requests"
}))

/** The part of the page that is shown. */
export type OwnStatus = typeof OwnStatus.Type

/** The status as a person reads it; `all` adds the workers and the requests that are open. */
export const ownTable = (
  status: OwnStatus,
  all: boolean,
  paint: (color: Output.Color, text: string) => string = (_, text) => text
): ReadonlyArray<string> => {
  const limits = Object.entries(status.limitsReached).filter(([, count]) => count > 0)
  const head = Output.columns([
    [
      "Application",
      `${printable(status.pool)}, ${counted(status.totalProcesses, "worker")}, up ${elapsed(status.startSince)}`
    ],
    [
      "Requests",
      `${
        paint("bold", `${status.requestsOpen} open`)
      } (${status.requestsWaiting} wait, ${status.requestsRunning} run, ` +
      `${status.requestsResponding} respond), ${status.maxRequestsOpen} at most so far`
    ],
    [
      "",
      `${status.requests} in all, ${status.requestsAborted} aborted, ` +
      paint(status.requestsFailed > 0 ? "bad" : "good", `${status.requestsFailed} failed`) +
      `, ${status.slowRequests} slow`
    ],
    [
      "Connections",
      `${status.connections} open, ${status.connectionsWaiting} wait, ${status.connectionsAccepted} accepted, ` +
      `${status.connectionsRefused} refused; ${status.listenQueue} in the listen queue`
    ],
    ["Memory", `${Output.bytes(status.memory)}, event loop delayed by ${Output.milliseconds(status.eventLoopDelay)}`],
    [
      "Limits",
      limits.length === 0
        ? "none reached"
        : paint("warn", limits.map(([name, count]) => `${name} ${count} times`).join(", "))
    ]
  ])
  if (!all) return head
  return [
    ...head,
    "",
    ...titled(
      ["PID", "STATE", "REQUESTS", "OPEN", "CONNECTIONS", "MEMORY", "CPU", "DELAY"],
      status.processes.map((one) => [
        String(one.pid),
        one.state,
        String(one.requests),
        String(one.requestsOpen),
        String(one.connections),
        Output.bytes(one.memory),
        Output.milliseconds(one.cpuTime),
        Output.milliseconds(one.eventLoopDelay)
      ]),
      paint
    ),
    ...(status.openRequests.length === 0 ? [] : [
      "",
      ...titled(
        ["PID", "STATE", "TIME", "REQUEST"],
        status.openRequests.map((one) => [
          String(one.pid),
          one.state,
          Output.milliseconds(one.requestDuration / 1000),
          printable(`${one.requestMethod} ${one.requestUri}`)
        ]),
        paint
      )
    ])
  ]
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? "" : "s"}`

const titled = (
  title: ReadonlyArray<string>,
  rows: ReadonlyArray<ReadonlyArray<string>>,
  paint: (color: Output.Color, text: string) => string
): ReadonlyArray<string> => {
  const [first, ...lines] = Output.columns([title, ...rows])
  return [paint("bold", first!), ...lines]
}
