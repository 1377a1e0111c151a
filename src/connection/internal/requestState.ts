/**
 * The state of a request, at both ends of a connection, as a value: which phases there are, what a record of the peer does in
 * each, and what else moves a request from one phase to the next. Pure: no transport, no clock, no fiber.
 *
 * Each end looks its records up in its table, does what the cell says, and moves the request by an event. Of a request that
 * is over the id is inactive again.
 */
import { makeStates, type State, type Transitions } from "./stateMachine.ts"
// -----------------------------------------------------------------------------
// The application's end
// -----------------------------------------------------------------------------

/**
 * Phases of a request at the application's end.
 *
 * - `params`: BEGIN_REQUEST has come, PARAMS are coming
 * - `refused`: the same, and the answer is decided; it is sent when PARAMS end (SPEC 6.2)
 * - `ready`: PARAMS have ended, the request is admitted, nobody has started its handler
 * - `queued`: it waits for a permit to run (`concurrency`)
 * - `running`: its handler runs
 * - `interrupted`: ABORT_REQUEST came; what is written from then on is dropped; END_REQUEST follows when the handler's fiber has
 *   ended (SPEC 5.4)
 * - `abandoned`: the connection is gone, or will be; what is written from then on is dropped, and no END_REQUEST follows
 * - `withheld`: the response broke off behind its head; END_REQUEST would call it complete, so it is held back until the
 *   others on the connection have ended, and the connection ends with it
 * - `ended`: the answer is complete, and END_REQUEST has been appended
 * - `dropped`: over, by an abort, with its connection, or by `forgo`: what the handler still says counts for nothing
 * - `cutOff`: a response that broke off has ended with its connection
 */
export type ApplicationPhase =
  | "params"
  | "refused"
  | "ready"
  | "queued"
  | "running"
  | "interrupted"
  | "abandoned"
  | "withheld"
  | "ended"
  | "dropped"
  | "cutOff"

/** Records of a request that a web server may send. `Input` is STDIN or DATA, `…End` an empty record. */
export type ApplicationRecord = "Begin" | "Params" | "ParamsEnd" | "Input" | "InputEnd" | "Abort"

/**
 * What the application's end does with a record.
 *
 * - `begin`: admit the request, or refuse it
 * - `retry`: first start what is complete, for it may be answered at once; then the record again
 * - `break`: a connection error (SPEC 3.3, the id was still in use): close
 * - `decode`, `admit`: collect the params; start the handler, or refuse
 * - `count`, `answer`: drop the params, but not without end; send the answer that was decided
 * - `refuse`: 400, once PARAMS have ended
 * - `offer`, `complete`: input for the handler, its end
 * - `forget`: the last input of a request that has ended
 * - `abort`: END_REQUEST at once, and the id is free
 * - `interrupt`: interrupt the handler; END_REQUEST when its fiber has ended, and not before is the id free (SPEC 5.4)
 * - `ignore`
 */
export type ApplicationAction =
  | "begin"
  | "retry"
  | "break"
  | "decode"
  | "admit"
  | "count"
  | "answer"
  | "refuse"
  | "offer"
  | "complete"
  | "forget"
  | "abort"
  | "interrupt"
  | "ignore"

/** What the application's end does with each record. */
export type ApplicationRow = { readonly [R in ApplicationRecord]: ApplicationAction }

/** What the application's end does with the records of a web server, by the phase of the request with their id. */
export const applicationTable = {
  inactive: {
    Begin: "begin",
    Params: "ignore",
    ParamsEnd: "ignore",
    Input: "ignore",
    InputEnd: "forget",
    Abort: "ignore"
  },
  params: { Begin: "break", Params: "decode", ParamsEnd: "admit", Input: "refuse", InputEnd: "refuse", Abort: "abort" },
  refused: {
    Begin: "break",
    Params: "count",
    ParamsEnd: "answer",
    Input: "ignore",
    InputEnd: "ignore",
    Abort: "abort"
  },
  ready: {
    Begin: "retry",
    Params: "ignore",
    ParamsEnd: "ignore",
    Input: "offer",
    InputEnd: "complete",
    Abort: "abort"
  },
  queued: {
    Begin: "break",
    Params: "ignore",
    ParamsEnd: "ignore",
    Input: "offer",
    InputEnd: "complete",
    Abort: "abort"
  },
  running: {
    Begin: "break",
    Params: "ignore",
    ParamsEnd: "ignore",
    Input: "offer",
    InputEnd: "complete",
    Abort: "interrupt"
  },
  interrupted: {
    Begin: "break",
    Params: "ignore",
    ParamsEnd: "ignore",
    Input: "ignore",
    InputEnd: "ignore",
    Abort: "ignore"
  },
  // Its connection takes no record any more.
  abandoned: {
    Begin: "ignore",
    Params: "ignore",
    ParamsEnd: "ignore",
    Input: "ignore",
    InputEnd: "ignore",
    Abort: "ignore"
  },
  withheld: {
    Begin: "break",
    Params: "ignore",
    ParamsEnd: "ignore",
    Input: "ignore",
    InputEnd: "ignore",
    Abort: "abort"
  }
} as const satisfies { readonly [row: string]: ApplicationRow }

/**
 * What else moves a request.
 *
 * - `refuse`: an answer other than the handler's is decided
 * - `admit`: PARAMS have ended, and the request may run
 * - `queue`, `start`: it waits for a permit; its handler starts
 * - `fail`: the response breaks off behind its head
 * - `abort`: ABORT_REQUEST has come
 * - `lose`: the connection is gone, or closes
 * - `end`: the answer is complete, or the handler of an aborted request has ended
 * - `forgo`: the answer is complete, and the handler that goes on behind it is interrupted
 */
export type ApplicationEvent = "refuse" | "admit" | "queue" | "start" | "fail" | "abort" | "lose" | "end" | "forgo"

/** The phase after an event, by the phase before. An event that a row leaves out changes nothing. */
export const applicationTransitions: Transitions<ApplicationPhase, ApplicationEvent> = {
  params: { refuse: "refused", admit: "ready", abort: "dropped", lose: "dropped", end: "ended" },
  refused: { abort: "dropped", lose: "dropped", end: "ended" },
  ready: { queue: "queued", start: "running", abort: "dropped", lose: "dropped", end: "ended" },
  queued: { start: "running", abort: "dropped", lose: "dropped", end: "ended" },
  running: { fail: "withheld", abort: "interrupted", lose: "abandoned", end: "ended" },
  interrupted: { lose: "abandoned", end: "dropped" },
  abandoned: { end: "dropped" },
  withheld: { abort: "dropped", lose: "cutOff" },
  ended: { forgo: "dropped" },
  dropped: {},
  cutOff: {}
}

/** What holds in a phase. */
export interface ApplicationTraits {
  /** Whether what is written is sent. */
  readonly isOpen: boolean
  /** Whether the request has been admitted and is not over: it counts towards `maxRequests`. */
  readonly isAdmitted: boolean
  /** Whether the id is free. */
  readonly isOver: boolean
  /** Its row of the table. */
  readonly on: ApplicationRow
}

/** A phase of a request at the application's end. */
export type ApplicationState = State<ApplicationPhase, ApplicationEvent, ApplicationTraits>

const overPhases: ReadonlyArray<ApplicationPhase> = ["ended", "dropped", "cutOff"]
const openPhases: ReadonlyArray<ApplicationPhase> = ["params", "refused", "ready", "queued", "running"]
const admittedPhases: ReadonlyArray<ApplicationPhase> = ["ready", "queued", "running", "interrupted", "abandoned"]

/** The phases by name. */
export const applicationStates = makeStates(
  ["refuse", "admit", "queue", "start", "fail", "abort", "lose", "end", "forgo"],
  applicationTransitions,
  (phase): ApplicationTraits => ({
    isOpen: openPhases.includes(phase),
    isAdmitted: admittedPhases.includes(phase),
    isOver: overPhases.includes(phase),
    on: phase in applicationTable ? applicationTable[phase as keyof typeof applicationTable] : applicationTable.inactive
  })
)

// -----------------------------------------------------------------------------
// The web server's end
// -----------------------------------------------------------------------------

/**
 * Phases of a request at the web server's end.
 *
 * - `active`: it has begun, and somebody waits for its answer
 * - `left`: its reader has the whole answer; the request is still active, and told how it ends
 * - `aborted`: it has been given up; its id is free when END_REQUEST comes (SPEC 3.3), or with the end of the connection
 * - `ended`: END_REQUEST has come, or the connection has closed
 */
export type WebServerPhase = "active" | "left" | "aborted" | "ended"

/** Records of a request that an application may send; `StdoutEnd` is an empty one. */
export type WebServerRecord = "Stdout" | "StdoutEnd" | "Stderr" | "End"

/**
 * What the web server's end does with a record.
 *
 * - `deliver`, `complete`: output for the reader, its end
 * - `exceed`: drop it, and abort the request beyond 64 KiB
 * - `end`: the request is over, and its reader is told how it ended
 * - `free`: the id is free
 * - `ignore`
 */
export type WebServerAction = "deliver" | "complete" | "exceed" | "end" | "free" | "ignore"

/** What the web server's end does with each record. */
type WebServerRow = { readonly [R in WebServerRecord]: WebServerAction }

/** What the web server's end does with the records of an application, by the phase of the request with their id. */
export const webServerTable = {
  inactive: { Stdout: "ignore", StdoutEnd: "ignore", Stderr: "ignore", End: "ignore" },
  active: { Stdout: "deliver", StdoutEnd: "complete", Stderr: "deliver", End: "end" },
  left: { Stdout: "exceed", StdoutEnd: "ignore", Stderr: "deliver", End: "end" },
  aborted: { Stdout: "ignore", StdoutEnd: "ignore", Stderr: "ignore", End: "free" }
} as const satisfies { readonly [row: string]: WebServerRow }

/**
 * What else moves a request.
 *
 * - `leave`: its answer is complete for its reader
 * - `abort`: its reader has given it up
 * - `end`: END_REQUEST has come, or nothing more can
 */
export type WebServerEvent = "leave" | "abort" | "end"

/** The phase after an event, by the phase before. An event that a row leaves out changes nothing. */
export const webServerTransitions: Transitions<WebServerPhase, WebServerEvent> = {
  active: { leave: "left", abort: "aborted", end: "ended" },
  left: { abort: "aborted", end: "ended" },
  aborted: { end: "ended" },
  ended: {}
}

/** What holds in a phase. */
export interface WebServerTraits {
  /** Whether its reader may still be told how it ends. */
  readonly isActive: boolean
  /** Its row of the table. */
  readonly on: WebServerRow
}

/** A phase of a request at the web server's end. */
export type WebServerState = State<WebServerPhase, WebServerEvent, WebServerTraits>

/** The phases by name. */
export const webServerStates = makeStates(
  ["leave", "abort", "end"],
  webServerTransitions,
  (phase): WebServerTraits => ({
    isActive: phase === "active" || phase === "left",
    on: phase === "ended" ? webServerTable.inactive : webServerTable[phase]
  })
)
