/**
 * The records of FastCGI/1.0 as typed values (SPEC 3.3, 4, 5 and 8).
 *
 * A value of a stream record (Params, Stdin, Data, Stdout, Stderr) has a fragment of the content. A record that arrives in
 * several reads becomes several values. An empty `content` is the empty record that ends the stream.
 *
 * This module checks no order, no ids in use and no limits: the connection does. Roles and protocol statuses stay plain
 * numbers, because an application answers an unknown role and does not fail on it.
 *
 * @since 0.1.0
 */

/**
 * The one version of the protocol: FCGI_VERSION_1 (SPEC 8).
 *
 * @category constants
 * @since 0.1.0
 */
export const version = 1

/**
 * Bytes in a record header: FCGI_HEADER_LEN (SPEC 8).
 *
 * @category constants
 * @since 0.1.0
 */
export const headerLength = 8

/**
 * The largest content of one record, in bytes (SPEC 3.3).
 *
 * @category constants
 * @since 0.1.0
 */
export const maxContentLength = 65535

/**
 * The request id of management records: FCGI_NULL_REQUEST_ID (SPEC 8).
 *
 * @category constants
 * @since 0.1.0
 */
export const nullRequestId = 0

/**
 * The record types of SPEC 8, by their names there.
 *
 * @category constants
 * @since 0.1.0
 */
export const RecordType = {
  BeginRequest: 1,
  AbortRequest: 2,
  EndRequest: 3,
  Params: 4,
  Stdin: 5,
  Stdout: 6,
  Stderr: 7,
  Data: 8,
  GetValues: 9,
  GetValuesResult: 10,
  UnknownType: 11
} as const

/**
 * A record type number of SPEC 8.
 *
 * @category models
 * @since 0.1.0
 */
export type RecordType = typeof RecordType[keyof typeof RecordType]

/**
 * The roles of SPEC 6 and 8.
 *
 * @category constants
 * @since 0.1.0
 */
export const Role = {
  Responder: 1,
  Authorizer: 2,
  Filter: 3
} as const

/**
 * A role number of SPEC 6 and 8.
 *
 * @category models
 * @since 0.1.0
 */
export type Role = typeof Role[keyof typeof Role]

/**
 * The input streams of a request of the role, in their order (SPEC 6.2, 6.3, 6.4). A role that the specification does not have
 * has none.
 *
 * @category accessors
 * @since 0.1.0
 */
export const inputsOf = (role: number): ReadonlyArray<"Stdin" | "Data"> =>
  role === Role.Responder ? responderInputs : role === Role.Filter ? filterInputs : noInputs

const responderInputs = ["Stdin"] as const
const filterInputs = ["Stdin", "Data"] as const
const noInputs = [] as const

/**
 * The values of `protocolStatus` in END_REQUEST (SPEC 5.5).
 *
 * @category constants
 * @since 0.1.0
 */
export const ProtocolStatus = {
  /** Normal end of request. */
  RequestComplete: 0,
  /** The application does not multiplex and this connection already carries a request. */
  CantMpxConn: 1,
  /** The application has run out of some resource. */
  Overloaded: 2,
  /** The application has no handler for the role. */
  UnknownRole: 3
} as const

/**
 * A `protocolStatus` number of SPEC 5.5.
 *
 * @category models
 * @since 0.1.0
 */
export type ProtocolStatus = typeof ProtocolStatus[keyof typeof ProtocolStatus]

/**
 * The variables of FCGI_GET_VALUES that the specification names (SPEC 4.1).
 *
 * @category constants
 * @since 0.1.0
 */
export const ValueName = {
  MaxConns: "FCGI_MAX_CONNS",
  MaxReqs: "FCGI_MAX_REQS",
  MpxsConns: "FCGI_MPXS_CONNS"
} as const

/**
 * Starts a request (SPEC 5.1). `role` is any number that a peer has sent. `flags` has all eight bits; the specification defines
 * only KEEP_CONN.
 *
 * @category models
 * @since 0.1.0
 */
export interface BeginRequest {
  readonly _tag: "BeginRequest"
  readonly requestId: number
  readonly role: number
  readonly flags: number
}

/**
 * The web server gives up on a request (SPEC 5.4).
 *
 * @category models
 * @since 0.1.0
 */
export interface AbortRequest {
  readonly _tag: "AbortRequest"
  readonly requestId: number
}

/**
 * Ends a request (SPEC 5.5). `appStatus` is an unsigned 32-bit number. `protocolStatus` is any number that a peer has sent.
 *
 * @category models
 * @since 0.1.0
 */
export interface EndRequest {
  readonly _tag: "EndRequest"
  readonly requestId: number
  readonly appStatus: number
  readonly protocolStatus: number
}

/**
 * A fragment of one of the five byte streams (SPEC 5.2, 5.3). Empty content ends the stream.
 *
 * @category models
 * @since 0.1.0
 */
export interface StreamRecord<Tag extends string> {
  readonly _tag: Tag
  readonly requestId: number
  /** A view into the bytes that were read. It stays valid while it is held. */
  readonly content: Uint8Array
}

/**
 * A fragment of the request's name-value pairs (SPEC 5.2). A pair may begin in one fragment or record and end in another.
 *
 * @category models
 * @since 0.1.0
 */
export interface Params extends StreamRecord<"Params"> {}

/**
 * A fragment of the request's body (SPEC 5.3).
 *
 * @category models
 * @since 0.1.0
 */
export interface Stdin extends StreamRecord<"Stdin"> {}

/**
 * A fragment of the file that a Filter works on (SPEC 5.3, 6.4).
 *
 * @category models
 * @since 0.1.0
 */
export interface Data extends StreamRecord<"Data"> {}

/**
 * A fragment of the response (SPEC 5.3).
 *
 * @category models
 * @since 0.1.0
 */
export interface Stdout extends StreamRecord<"Stdout"> {}

/**
 * A fragment of the text that the application writes to the web server's log (SPEC 5.3).
 *
 * @category models
 * @since 0.1.0
 */
export interface Stderr extends StreamRecord<"Stderr"> {}

/**
 * The web server asks for variables of the application, by name (SPEC 4.1). `content` is encoded name-value pairs with
 * empty values.
 *
 * @category models
 * @since 0.1.0
 */
export interface GetValues {
  readonly _tag: "GetValues"
  readonly requestId: number
  readonly content: Uint8Array
}

/**
 * The application's answer to GET_VALUES (SPEC 4.1). `content` is encoded name-value pairs.
 *
 * @category models
 * @since 0.1.0
 */
export interface GetValuesResult {
  readonly _tag: "GetValuesResult"
  readonly requestId: number
  readonly content: Uint8Array
}

/**
 * The application's answer to a management record whose type it does not know (SPEC 4.2).
 *
 * @category models
 * @since 0.1.0
 */
export interface UnknownType {
  readonly _tag: "UnknownType"
  readonly requestId: number
  /** The type that the application does not know. */
  readonly type: number
}

/**
 * A record of a type that SPEC 8 does not name. The decoder has skipped its content.
 *
 * @category models
 * @since 0.1.0
 */
export interface Unrecognized {
  readonly _tag: "Unrecognized"
  readonly requestId: number
  readonly type: number
}

/**
 * Any record.
 *
 * @category models
 * @since 0.1.0
 */
export type FastCgiRecord =
  | BeginRequest
  | AbortRequest
  | EndRequest
  | Params
  | Stdin
  | Stdout
  | Stderr
  | Data
  | GetValues
  | GetValuesResult
  | UnknownType
  | Unrecognized

const keepConnectionFlag = 1 // FCGI_KEEP_CONN, SPEC 5.1

const noContent: Uint8Array = new Uint8Array(0)

/**
 * Whether the web server keeps responsibility for the connection after this request: the FCGI_KEEP_CONN flag
 * (SPEC 5.1). Other flag bits are ignored.
 *
 * @category accessors
 * @since 0.1.0
 */
export const keepConnection = (record: BeginRequest): boolean => (record.flags & keepConnectionFlag) !== 0

/**
 * Creates a BEGIN_REQUEST record (SPEC 5.1). `keepConnection` is false by default.
 *
 * @category constructors
 * @since 0.1.0
 */
export const beginRequest = (
  requestId: number,
  role: number,
  options?: { readonly keepConnection?: boolean | undefined }
): BeginRequest => ({
  _tag: "BeginRequest",
  requestId,
  role,
  flags: options?.keepConnection === true ? keepConnectionFlag : 0
})

/**
 * Creates an ABORT_REQUEST record (SPEC 5.4).
 *
 * @category constructors
 * @since 0.1.0
 */
export const abortRequest = (requestId: number): AbortRequest => ({ _tag: "AbortRequest", requestId })

/**
 * Creates an END_REQUEST record (SPEC 5.5). `appStatus` is taken modulo 2^32.
 *
 * @category constructors
 * @since 0.1.0
 */
export const endRequest = (
  requestId: number,
  appStatus = 0,
  protocolStatus: number = ProtocolStatus.RequestComplete
): EndRequest => ({ _tag: "EndRequest", requestId, appStatus: appStatus >>> 0, protocolStatus })

/**
 * Creates a fragment of PARAMS (SPEC 5.2). Without content, it creates the end of PARAMS.
 *
 * @category constructors
 * @since 0.1.0
 */
export const params = (requestId: number, content = noContent): Params => ({ _tag: "Params", requestId, content })

/**
 * Creates a fragment of STDIN (SPEC 5.3). Without content, it creates the end of STDIN.
 *
 * @category constructors
 * @since 0.1.0
 */
export const stdin = (requestId: number, content = noContent): Stdin => ({ _tag: "Stdin", requestId, content })

/**
 * Creates a fragment of DATA (SPEC 5.3). Without content, it creates the end of DATA.
 *
 * @category constructors
 * @since 0.1.0
 */
export const data = (requestId: number, content = noContent): Data => ({ _tag: "Data", requestId, content })

/**
 * Creates a fragment of STDOUT (SPEC 5.3). Without content, it creates the end of STDOUT.
 *
 * @category constructors
 * @since 0.1.0
 */
export const stdout = (requestId: number, content = noContent): Stdout => ({ _tag: "Stdout", requestId, content })

/**
 * Creates a fragment of STDERR (SPEC 5.3). Without content, it creates the end of STDERR.
 *
 * @category constructors
 * @since 0.1.0
 */
export const stderr = (requestId: number, content = noContent): Stderr => ({ _tag: "Stderr", requestId, content })

/**
 * Creates a GET_VALUES record (SPEC 4.1) from encoded name-value pairs with empty values.
 *
 * @category constructors
 * @since 0.1.0
 */
export const getValues = (content: Uint8Array): GetValues => ({ _tag: "GetValues", requestId: nullRequestId, content })

/**
 * Creates a GET_VALUES_RESULT record (SPEC 4.1) from encoded name-value pairs.
 *
 * @category constructors
 * @since 0.1.0
 */
export const getValuesResult = (content: Uint8Array): GetValuesResult => ({
  _tag: "GetValuesResult",
  requestId: nullRequestId,
  content
})

/**
 * Creates an UNKNOWN_TYPE record (SPEC 4.2) that reports `type`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unknownType = (type: number): UnknownType => ({ _tag: "UnknownType", requestId: nullRequestId, type })

/**
 * Creates a record of a type that SPEC 8 does not name, without content.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unrecognized = (type: number, requestId: number = nullRequestId): Unrecognized => ({
  _tag: "Unrecognized",
  requestId,
  type
})
