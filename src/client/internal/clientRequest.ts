/**
 * A connection's options, and one request of it, as the web server's end and the layers above it know them.
 */
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import type * as Fiber from "effect/Fiber"
import { type InputOwner, InputStream } from "../../connection/internal/inputStream.ts"
import { type WebServerState, webServerStates } from "../../connection/internal/requestState.ts"
import type { FastCgiClientError } from "../FastCgiClientError.ts"

export interface ConnectionOptions {
  readonly maxRequests: number
  readonly maxUnread: number
  readonly maxUnreadMultiplexed: number
  readonly stallTimeout: Duration.Input
  /** Called whenever a request has ended or been given up, an id is free, or the connection is closed. */
  readonly onChange?: (() => void) | undefined
  /** Called when a request has ended or been given up, with what it has ended with as its `outcome`, before `end` is completed. */
  readonly onEnd?: ((request: ClientRequest) => void) | undefined
}

export interface BeginOptions {
  readonly role: number
  /** Encoded, one character per byte. */
  readonly params: string
  readonly keepConnection: boolean
  readonly endAtClose: boolean
  /** The whole body; `undefined` when it is sent afterwards; `"none"` when there is not even an empty STDIN. */
  readonly body: Uint8Array | "none" | undefined
}

export interface RequestEnd {
  readonly appStatus: number
  readonly protocolStatus: number
}

/** How a request ends. */
export type Outcome = RequestEnd | FastCgiClientError

/** One request of a connection. Only `WebServerEnd` changes it. */
export class ClientRequest {
  readonly requestId: number
  readonly endAtClose: boolean
  readonly stdout: InputStream<FastCgiClientError>
  readonly stderr: InputStream<FastCgiClientError>
  readonly end = Deferred.makeUnsafe<RequestEnd, FastCgiClientError>()
  state: WebServerState = webServerStates.active
  /** When it was begun, in milliseconds, for whoever measures. */
  begunAt = 0
  /** STDOUT bytes that have arrived. */
  received = 0
  /** Whether the last record of the request, the empty STDIN or DATA, has been appended. Never, of one given up before. */
  sent = false
  /** STDOUT bytes that came after the answer was complete for its reader. */
  excess = 0
  /** What sends the body. */
  sender: Fiber.Fiber<unknown, unknown> | undefined
  /** What `end` is to be completed with. */
  outcome: Outcome | undefined

  constructor(requestId: number, options: BeginOptions, stdoutOwner: InputOwner, stderrOwner: InputOwner) {
    this.requestId = requestId
    this.endAtClose = options.endAtClose
    this.stdout = new InputStream(stdoutOwner)
    this.stderr = new InputStream(stderrOwner)
  }
}
