/**
 * The state of a connection, at both ends, as a value. Pure: no transport, no clock, no fiber.
 */
import { makeStates, type State, type Transitions } from "./stateMachine.ts"

/**
 * States of a connection.
 *
 * - `open`: it takes requests
 * - `leaving`: it closes after the requests that are active, or else after the next one
 * - `finishing`: it closes when no request is active, because the peer wants that (KEEP_CONN=0) or cannot go on
 * - `draining`: it closes when no request is active, because this end wants that
 * - `closing`: what has been answered is being written; what comes is read and dropped
 * - `lingering`: all is written and this end half-closed; the peer has a time to close its end
 * - `closed`: the transport is gone
 */
export type ConnectionStateName = "open" | "leaving" | "finishing" | "draining" | "closing" | "lingering" | "closed"

/**
 * What moves a connection.
 *
 * - `leave`: the next request is the last one
 * - `finish`: no request comes any more, for a reason of the peer's
 * - `drain`: no request is wanted any more
 * - `close`: nothing is dispatched any more
 * - `halfClose`: the last byte has been written
 * - `lose`: the transport is gone
 */
export type ConnectionEvent = "leave" | "finish" | "drain" | "close" | "halfClose" | "lose"

/** The state after an event, by the state before. An event that a row leaves out changes nothing. */
export const connectionTransitions: Transitions<ConnectionStateName, ConnectionEvent> = {
  open: { leave: "leaving", finish: "finishing", drain: "draining", close: "closing", lose: "closed" },
  leaving: { finish: "draining", drain: "draining", close: "closing", lose: "closed" },
  finishing: { leave: "draining", drain: "draining", close: "closing", lose: "closed" },
  draining: { close: "closing", lose: "closed" },
  closing: { halfClose: "lingering", lose: "closed" },
  lingering: { lose: "closed" },
  closed: {}
}

/** What holds in a state. */
export interface ConnectionTraits {
  /** Whether records are dispatched. */
  readonly isOpen: boolean
  /** Whether requests may begin. */
  readonly isAccepting: boolean
  /** Whether the connection closes when no request is active. */
  readonly closesWhenIdle: boolean
}

/** A state of a connection. */
export type ConnectionState = State<ConnectionStateName, ConnectionEvent, ConnectionTraits>

/** The states by name. */
export const connectionStates = makeStates(
  ["leave", "finish", "drain", "close", "halfClose", "lose"],
  connectionTransitions,
  (name): ConnectionTraits => ({
    isOpen: name === "open" || name === "leaving" || name === "finishing" || name === "draining",
    isAccepting: name === "open",
    closesWhenIdle: name === "finishing" || name === "draining"
  })
)
