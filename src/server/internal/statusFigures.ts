/**
 * The figures of the status page, as workers send them to one another and as the page gives them away in JSON.
 */
import * as Schema from "effect/Schema"

/** One open request on the page. Times are microseconds. */
export const OpenRequest = Schema.Struct({
  requestId: Schema.Int,
  connectionId: Schema.Int,
  state: Schema.Literals(["Waiting", "Running", "Responding"]),
  duration: Schema.Finite,
  queueTime: Schema.Finite,
  method: Schema.String,
  uri: Schema.String,
  contentLength: Schema.Finite,
  user: Schema.String,
  script: Schema.String
})

/** One open request on the page. */
export type OpenRequest = typeof OpenRequest.Type

/** The counts of one worker. Sizes are bytes, `cpu` and `eventLoopDelay` milliseconds, `startTime` seconds since 1970. */
export const WorkerFigures = Schema.Struct({
  pid: Schema.Int,
  startTime: Schema.Finite,
  requests: Schema.Finite,
  requestsOpen: Schema.Finite,
  requestsWaiting: Schema.Finite,
  requestsRunning: Schema.Finite,
  requestsResponding: Schema.Finite,
  maxRequestsOpen: Schema.Finite,
  requestsAborted: Schema.Finite,
  requestsFailed: Schema.Finite,
  requestsSlow: Schema.Finite,
  connections: Schema.Finite,
  connectionsWaiting: Schema.Finite,
  connectionsAccepted: Schema.Finite,
  connectionsRefused: Schema.Finite,
  connectionErrors: Schema.Finite,
  acceptFailures: Schema.Finite,
  afterResponse: Schema.Finite,
  afterResponseFailed: Schema.Finite,
  limitsReached: Schema.Record(Schema.String, Schema.Finite),
  memory: Schema.Finite,
  cpu: Schema.Finite,
  eventLoopDelay: Schema.Finite,
  open: Schema.Array(OpenRequest)
})

/** The counts of one worker. */
export type WorkerFigures = typeof WorkerFigures.Type

/** A worker in the JSON of the page: php-fpm's figures of a process, and ours. Times are microseconds, as php-fpm has them. */
export const ProcessRow = Schema.Struct({
  "pid": Schema.Int,
  "state": Schema.String,
  "start time": Schema.Finite,
  "start since": Schema.Finite,
  "requests": Schema.Finite,
  "request duration": Schema.Finite,
  "request method": Schema.String,
  "request uri": Schema.String,
  "content length": Schema.Finite,
  "user": Schema.String,
  "script": Schema.String,
  "last request cpu": Schema.Finite,
  "last request memory": Schema.Finite,
  "requests open": Schema.Finite,
  "connections": Schema.Finite,
  "memory": Schema.Finite,
  "cpu time": Schema.Finite,
  "event loop delay": Schema.Finite
})

/** A worker in the JSON of the page. */
export type ProcessRow = typeof ProcessRow.Type

/** An open request in the JSON of the page. */
export const RequestRow = Schema.Struct({
  "pid": Schema.Int,
  "connection": Schema.Int,
  "request": Schema.Int,
  "state": Schema.String,
  "request duration": Schema.Finite,
  "queue time": Schema.Finite,
  "request method": Schema.String,
  "request uri": Schema.String,
  "content length": Schema.Finite,
  "user": Schema.String,
  "script": Schema.String
})

/** An open request in the JSON of the page. */
export type RequestRow = typeof RequestRow.Type

/** Figures that are numbers on every page. The page has them in this order. */
const figures = {
  "start time": Schema.Finite,
  "start since": Schema.Finite,
  "accepted conn": Schema.Finite,
  "listen queue": Schema.Finite,
  "max listen queue": Schema.Finite,
  "listen queue len": Schema.Finite,
  "idle processes": Schema.Finite,
  "active processes": Schema.Finite,
  "total processes": Schema.Finite,
  "max active processes": Schema.Finite,
  "max children reached": Schema.Finite,
  "slow requests": Schema.Finite,
  "requests": Schema.Finite,
  "requests open": Schema.Finite,
  "requests waiting": Schema.Finite,
  "requests running": Schema.Finite,
  "requests responding": Schema.Finite,
  "max requests open": Schema.Finite,
  "requests aborted": Schema.Finite,
  "requests failed": Schema.Finite,
  "connections": Schema.Finite,
  "connections waiting": Schema.Finite,
  "connections accepted": Schema.Finite,
  "connections refused": Schema.Finite,
  "connection errors": Schema.Finite,
  "accept failures": Schema.Finite,
  "after response": Schema.Finite,
  "after response failed": Schema.Finite,
  "memory": Schema.Finite,
  "event loop delay": Schema.Finite
}

/** Figures of the supervisor, which a page has only where one runs the workers. */
const supervisorFigures = {
  restarts: Schema.optionalKey(Schema.Finite),
  recycled: Schema.optionalKey(Schema.Finite),
  unresponsive: Schema.optionalKey(Schema.Finite),
  reloads: Schema.optionalKey(Schema.Finite)
}

/** The JSON of the page (`?json&full`). The names are those that the page shows; the rows are there with `full`. */
export const StatusJson = Schema.Struct({
  "pool": Schema.String,
  "process manager": Schema.String,
  ...figures,
  ...supervisorFigures,
  "limits reached": Schema.Record(Schema.String, Schema.Finite),
  "processes": Schema.optionalKey(Schema.Array(ProcessRow)),
  "open requests": Schema.optionalKey(Schema.Array(RequestRow))
})

/** The JSON of the page. */
export type StatusJson = typeof StatusJson.Type
