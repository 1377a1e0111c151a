/**
 * The status page: one table of figures, as text, HTML, JSON, XML and OpenMetrics.
 */
import type { SupervisorStatus } from "../FastCgiWorkers.ts"
import { commonTime } from "./commonTime.ts"
import type { OpenRequest, ProcessRow, RequestRow, StatusJson, WorkerFigures } from "./statusFigures.ts"

/** Everything on the page. Times are seconds since 1970. */
export interface Status {
  readonly pool: string
  readonly now: number
  readonly startTime: number
  readonly listenQueue: number
  readonly maxListenQueue: number
  readonly listenQueueLength: number
  readonly supervisor: SupervisorStatus | undefined
  readonly workers: ReadonlyArray<WorkerFigures>
}

/** A page that can be sent. */
export interface Page {
  readonly contentType: string
  readonly body: string
}

/** The page that a query asks for: `json`, `html`, `xml` or `openmetrics`, otherwise text; `full` with what is open. */
export const render = (status: Status, query: string): Page => {
  const words = new Set(query.split("&"))
  const full = words.has("full")
  if (words.has("openmetrics")) {
    return {
      contentType: "application/openmetrics-text; version=1.0.0; charset=utf-8",
      body: openMetrics(status)
    }
  }
  if (words.has("json")) return { contentType: "application/json", body: json(status, full) }
  if (words.has("xml")) return { contentType: "text/xml; charset=utf-8", body: xml(status, full) }
  return words.has("html")
    ? { contentType: "text/html; charset=utf-8", body: html(status, full) }
    : { contentType: "text/plain; charset=utf-8", body: text(status, full) }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

interface Field {
  /** As php-fpm would write it. */
  readonly name: keyof StatusJson
  readonly value: (status: Status) => number | string
  /** The family of OpenMetrics, if it is one. */
  readonly metric?: readonly [name: string, type: MetricType, help: string]
}

type MetricType = "gauge" | "counter" | "unknown"

type Figure = { [Name in keyof WorkerFigures]: WorkerFigures[Name] extends number ? Name : never }[keyof WorkerFigures]

const sum = (figure: Figure) => ({ workers }: Status): number =>
  workers.reduce((sum, worker) => sum + worker[figure], 0)

const most = (figure: Figure) => ({ workers }: Status): number =>
  workers.reduce((most, worker) => Math.max(most, worker[figure]), 0)

const count = (isOne: (worker: WorkerFigures) => boolean) => ({ workers }: Status): number =>
  workers.filter(isOne).length

const underscored = (name: string): string => name.replaceAll(" ", "_")

const field = (
  name: keyof StatusJson,
  value: (status: Status) => number,
  type: MetricType,
  help: string,
  metric = `fastcgi_${underscored(name)}`
): Field => ({ name, value, metric: [metric, type, help] })

// A counter of OpenMetrics would have to be called otherwise: what php-fpm counts is `unknown`.
const phpField = (
  name: keyof StatusJson,
  value: (status: Status) => number,
  type: "gauge" | "unknown",
  help: string,
  metric = underscored(name)
): Field => field(name, value, type, help, `phpfpm_${metric}`)

// php-fpm's, in its order.
const phpFields: ReadonlyArray<Field> = [
  { name: "pool", value: ({ pool }) => pool },
  { name: "process manager", value: () => "static" },
  { name: "start time", value: ({ startTime }) => startTime },
  phpField(
    "start since",
    ({ now, startTime }) => now - startTime,
    "unknown",
    "Seconds since the application was started."
  ),
  phpField(
    "accepted conn",
    sum("requests"),
    "unknown",
    "Requests that have been admitted: php-fpm counts them by this name.",
    "accepted_connections"
  ),
  phpField(
    "listen queue",
    ({ listenQueue }) => listenQueue,
    "gauge",
    "Connections that the operating system holds until they are accepted."
  ),
  phpField(
    "max listen queue",
    ({ maxListenQueue }) => maxListenQueue,
    "gauge",
    "The longest queue that a page has shown."
  ),
  phpField(
    "listen queue len",
    ({ listenQueueLength }) => listenQueueLength,
    "gauge",
    "How long the queue may be.",
    "listen_queue_length"
  ),
  phpField("idle processes", count(({ requestsOpen }) => requestsOpen === 0), "gauge", "Workers without a request."),
  phpField("active processes", count(({ requestsOpen }) => requestsOpen > 0), "gauge", "Workers with requests."),
  phpField("total processes", ({ workers }) => workers.length, "gauge", "Workers."),
  phpField(
    "max active processes",
    count(({ maxRequestsOpen }) => maxRequestsOpen > 0),
    "gauge",
    "Workers that have had a request."
  ),
  phpField(
    "max children reached",
    (status) => limitsOf(status).find(([name]) => name === "maxRequests")?.[1] ?? 0,
    "unknown",
    "Requests that were refused because of maxRequests."
  ),
  phpField("slow requests", sum("requestsSlow"), "unknown", "Requests that took longer than slowTimeout.")
]

const ownFields: ReadonlyArray<Field> = [
  field("requests", sum("requests"), "counter", "Requests that have been admitted."),
  field("requests open", sum("requestsOpen"), "gauge", "Requests that have not ended."),
  field("requests waiting", sum("requestsWaiting"), "gauge", "Requests whose handler waits (concurrency)."),
  field("requests running", sum("requestsRunning"), "gauge", "Requests whose handler runs."),
  field("requests responding", sum("requestsResponding"), "gauge", "Requests whose answer has begun."),
  field("max requests open", most("maxRequestsOpen"), "gauge", "The most requests that one worker has had open."),
  field("requests aborted", sum("requestsAborted"), "counter", "Requests that the web server aborted."),
  field("requests failed", sum("requestsFailed"), "counter", "Requests whose handler or body failed."),
  field("connections", sum("connections"), "gauge", "Connections that are open."),
  field(
    "connections waiting",
    sum("connectionsWaiting"),
    "gauge",
    "Connections that are not read yet (maxConnections)."
  ),
  field("connections accepted", sum("connectionsAccepted"), "counter", "Connections that have been accepted."),
  field(
    "connections refused",
    sum("connectionsRefused"),
    "counter",
    "Connections of peers that may not connect.",
    "fastcgi_refused_connections"
  ),
  field("connection errors", sum("connectionErrors"), "counter", "Connections whose peer broke the protocol."),
  field("accept failures", sum("acceptFailures"), "counter", "How often no connection could be accepted."),
  field("after response", sum("afterResponse"), "gauge", "Work behind responses that waits or runs."),
  field("after response failed", sum("afterResponseFailed"), "counter", "Work behind responses that failed."),
  field("memory", sum("memory"), "gauge", "Resident memory of all workers, in bytes.", "fastcgi_memory_bytes"),
  field(
    "event loop delay",
    most("eventLoopDelay"),
    "gauge",
    "The longest delay of an event loop in the last second, in milliseconds.",
    "fastcgi_event_loop_delay_milliseconds"
  )
]

const supervisorFields: ReadonlyArray<
  readonly [name: "restarts" | "recycled" | "unresponsive" | "reloads", help: string]
> = [
  ["restarts", "Workers that ended by themselves and were replaced."],
  ["recycled", "Workers that were replaced because of their requests or their memory."],
  ["unresponsive", "Workers that were killed because their event loop stood still."],
  ["reloads", "Reloads that have succeeded."]
]

const fieldsOf = ({ supervisor }: Status): ReadonlyArray<Field> =>
  supervisor === undefined ? [...phpFields, ...ownFields] : [
    ...phpFields,
    ...ownFields,
    ...supervisorFields.map(([name, help]): Field =>
      field(name, () => supervisor[name], "counter", help, `fastcgi_workers_${name}`)
    )
  ]

const limitsOf = ({ workers }: Status): ReadonlyArray<readonly [name: string, count: number]> => {
  const limits = new Map<string, number>()
  for (const { limitsReached } of workers) {
    for (const name of Object.keys(limitsReached)) limits.set(name, (limits.get(name) ?? 0) + limitsReached[name])
  }
  return [...limits].sort(([a], [b]) => a < b ? -1 : 1)
}

// php-fpm's fields of a process. For a process with many requests, they show the slowest one.
const processOf = (status: Status, worker: WorkerFigures): ProcessRow => {
  const request = worker.open[0]
  return {
    "pid": worker.pid,
    "state": request === undefined ? "Idle" : "Running",
    "start time": worker.startTime,
    "start since": status.now - worker.startTime,
    "requests": worker.requests,
    "request duration": request?.duration ?? 0,
    "request method": request?.method ?? "-",
    "request uri": request?.uri ?? "-",
    "content length": request?.contentLength ?? 0,
    "user": request?.user ?? "-",
    "script": request?.script ?? "-",
    "last request cpu": 0,
    "last request memory": 0,
    "requests open": worker.requestsOpen,
    "connections": worker.connections,
    "memory": worker.memory,
    "cpu time": worker.cpu,
    "event loop delay": worker.eventLoopDelay
  }
}

const requestOf = (worker: WorkerFigures, request: OpenRequest): RequestRow => ({
  "pid": worker.pid,
  "connection": request.connectionId,
  "request": request.requestId,
  "state": request.state,
  "request duration": request.duration,
  "queue time": request.queueTime,
  "request method": request.method,
  "request uri": request.uri,
  "content length": request.contentLength,
  "user": request.user,
  "script": request.script
})

type Row = Readonly<Record<string, string | number>>

const processesOf = (status: Status): ReadonlyArray<ProcessRow> =>
  status.workers.map((worker) => processOf(status, worker))

const requestsOf = (status: Status): ReadonlyArray<RequestRow> =>
  status.workers.flatMap((worker) => worker.open.map((request) => requestOf(worker, request)))

const shown = (name: string, value: string | number): string =>
  name === "start time" ? commonTime(Number(value)) : String(value)

const line = (name: string, value: string): string => `${`${name}:`.padEnd(28)} ${value}\n`

const text = (status: Status, full: boolean): string => {
  let text = ""
  for (const { name, value } of fieldsOf(status)) text += line(name, shown(name, value(status)))
  for (const [name, count] of limitsOf(status)) text += line(`limit ${name}`, String(count))
  if (full) {
    for (const row of [...processesOf(status), ...requestsOf(status)]) {
      text += "\n************************\n"
      for (const [name, value] of Object.entries<string | number>(row)) text += line(name, shown(name, value))
    }
  }
  return text
}

const json = (status: Status, full: boolean): string => {
  const all: Record<string, unknown> = {}
  for (const { name, value } of fieldsOf(status)) all[name] = value(status)
  all["limits reached"] = Object.fromEntries(limitsOf(status))
  if (full) {
    all["processes"] = processesOf(status)
    all["open requests"] = requestsOf(status)
  }
  return JSON.stringify(all)
}

const escapes: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  "\"": "&quot;",
  "'": "&#39;"
}

// Control characters are none of XML.
const escape = (value: string): string =>
  // oxlint-disable-next-line no-control-regex -- control characters are the point
  value.replace(/[&<>"']/g, (character) => escapes[character]!).replace(/[\x00-\x1f\x7f]/g, "?")

const xml = (status: Status, full: boolean): string => {
  const element = (name: string, content: string) => {
    const tag = name.replaceAll(" ", "-")
    return `<${tag}>${content}</${tag}>\n`
  }
  const row = (row: Row) => Object.keys(row).map((name) => element(name, escape(String(row[name])))).join("")
  let text = ""
  for (const { name, value } of fieldsOf(status)) text += element(name, escape(String(value(status))))
  text += element("limits reached", limitsOf(status).map(([name, count]) => element(name, String(count))).join(""))
  if (full) {
    text += element("processes", processesOf(status).map((one) => element("process", row(one))).join(""))
    text += element("open requests", requestsOf(status).map((one) => element("request", row(one))).join(""))
  }
  return `<?xml version="1.0" encoding="utf-8"?>\n<status>\n${text}</status>\n`
}

const html = (status: Status, full: boolean): string => {
  const pairs = (rows: ReadonlyArray<readonly [name: string, value: string]>) =>
    `<table>\n${
      rows.map(([name, value]) => `<tr><th scope="row">${escape(name)}</th><td>${escape(value)}</td></tr>\n`).join("")
    }</table>\n`
  const table = (caption: string, rows: ReadonlyArray<Row>) => {
    if (rows.length === 0) return `<h2>${caption}</h2>\n<p>none</p>\n`
    const names = Object.keys(rows[0])
    const head = names.map((name) => `<th scope="col">${escape(name)}</th>`).join("")
    const body = rows.map((row) =>
      `<tr>${names.map((name) => `<td>${escape(shown(name, row[name]))}</td>`).join("")}</tr>\n`
    ).join("")
    return `<h2>${caption}</h2>\n<table>\n<tr>${head}</tr>\n${body}</table>\n`
  }
  const limits = limitsOf(status)
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n" +
    "<meta name=\"viewport\" content=\"width=device-width\">\n" +
    `<title>${escape(status.pool)}: FastCGI status</title>\n<style>${style}</style>\n</head>\n<body>\n` +
    `<h1>${escape(status.pool)}</h1>\n` +
    pairs(fieldsOf(status).map(({ name, value }) => [name, shown(name, value(status))])) +
    "<h2>limits reached</h2>\n" +
    (limits.length === 0 ? "<p>none</p>\n" : pairs(limits.map(([name, count]) => [name, String(count)]))) +
    (full ? table("processes", processesOf(status)) + table("open requests", requestsOf(status)) : "") +
    "</body>\n</html>\n"
}

const style = "body{font:15px/1.4 system-ui,sans-serif;margin:1.5em;color:#1b1b1b;background:#fff}" +
  "table{border-collapse:collapse}th,td{padding:.15em .8em .15em 0;text-align:left;vertical-align:top;" +
  "border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}th{font-weight:600}" +
  "@media(prefers-color-scheme:dark){body{color:#eee;background:#1b1b1b}th,td{border-color:#444}}"

const label = (value: string): string =>
  value.replace(/[\\"]/g, (character) => `\\${character}`).replaceAll("\n", "\\n")

const openMetrics = (status: Status): string => {
  const pool = `pool="${label(status.pool)}"`
  let text = "# TYPE phpfpm_up gauge\n# HELP phpfpm_up Whether the application answers.\n" +
    `phpfpm_up{${pool}} 1\n`
  for (const { metric, value } of fieldsOf(status)) {
    if (metric === undefined) continue
    const [name, type, help] = metric
    const sample = type === "counter" ? `${name}_total` : name
    text += `# TYPE ${name} ${type}\n# HELP ${name} ${help}\n${sample}{${pool}} ${value(status)}\n`
  }
  text += "# TYPE fastcgi_limits_reached counter\n# HELP fastcgi_limits_reached How often limits have been reached.\n"
  for (const [name, count] of limitsOf(status)) {
    text += `fastcgi_limits_reached_total{${pool},limit="${label(name)}"} ${count}\n`
  }
  return `${text}# EOF\n`
}
