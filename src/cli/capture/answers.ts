/**
 * The requests of one connection and their answers, put together from the bytes of both directions.
 */
import { makeHeadParser } from "../../cgi/CgiResponse.ts"
import { RecordType } from "../../protocol/FastCgiRecord.ts"
import * as Output from "../internal/output.ts"
import { Describer, type Description } from "../records/description.ts"
import { isRecord, RecordReader } from "../records/recordReader.ts"

/** One request, and what came for it. */
export interface Answered {
  readonly requestId: number
  /** Such as "GET /users?page=2"; empty until PARAMS have come. */
  name: string
  /** Whether all of the request has come, or it was aborted. */
  sent: boolean
  readonly stdout: Array<Uint8Array>
  readonly stderr: Array<Uint8Array>
  /** The statuses of END_REQUEST. */
  end: { readonly appStatus: number; readonly protocolStatus: string } | undefined
}

/** Puts requests together. */
export class Answers {
  /** In the order in which they began. */
  readonly requests: Array<Answered> = []
  /** END_REQUEST, GET_VALUES_RESULT and UNKNOWN_TYPE: what a web server may have waited for. */
  answered = 0
  /** Requests and questions that have been asked as a whole. */
  asked = 0
  private readonly active = new Map<number, Answered>()
  private readonly describer = new Describer()
  private readonly client = new RecordReader()
  private readonly server = new RecordReader()

  push(fromClient: boolean, bytes: Uint8Array): void {
    for (const found of (fromClient ? this.client : this.server).push(bytes)) {
      if (isRecord(found)) this.record(this.describer.record(found), found.content, found.type)
    }
  }

  private record(description: Description, content: Uint8Array, type: number): void {
    const request = this.active.get(description.requestId)
    switch (type) {
      case RecordType.BeginRequest: {
        const begun: Answered = {
          requestId: description.requestId,
          name: "",
          sent: false,
          stdout: [],
          stderr: [],
          end: undefined
        }
        // An Authorizer's request ends with its params (SPEC 6.3), a Filter's with DATA.
        this.last.set(
          begun,
          description.role === "Authorizer" ? "PARAMS" : description.role === "Filter" ? "DATA" : "STDIN"
        )
        this.active.set(description.requestId, begun)
        this.requests.push(begun)
        return
      }
      case RecordType.Params:
      case RecordType.Stdin:
      case RecordType.Data:
        if (request === undefined) return
        if (description.pairs !== undefined) request.name = nameOf(description.pairs)
        if (description.end === true && this.last.get(request) === description.type) this.complete(request)
        return
      case RecordType.AbortRequest:
        if (request !== undefined) this.complete(request)
        return
      case RecordType.GetValues:
        this.asked++
        return
      case RecordType.Stdout:
        request?.stdout.push(content)
        return
      case RecordType.Stderr:
        request?.stderr.push(content)
        return
      case RecordType.EndRequest:
        this.answered++
        if (request === undefined) return
        request.end = { appStatus: description.appStatus ?? 0, protocolStatus: description.protocolStatus ?? "" }
        // An answer may come before the end of the body.
        this.complete(request)
        this.active.delete(description.requestId)
        return
      case RecordType.GetValuesResult:
      case RecordType.UnknownType:
        this.answered++
    }
  }

  private readonly last = new WeakMap<Answered, string>()

  private complete(request: Answered): void {
    if (request.sent) return
    request.sent = true
    this.asked++
  }
}

/** The differences between an answer and the recorded one: a sentence for each, none for equal answers. */
export const differences = (
  recorded: Answered,
  came: Answered,
  ignored: ReadonlySet<string>
): ReadonlyArray<string> => {
  const found: Array<string> = []
  const compare = (what: string, before: unknown, now: unknown) => {
    if (before !== now) found.push(`${what}: ${shown(now)}, recorded ${shown(before)}`)
  }
  const before = answerOf(recorded)
  const now = answerOf(came)
  compare("status", before.status, now.status)
  for (const name of new Set([...before.headers.keys(), ...now.headers.keys()])) {
    if (!ignored.has(name)) compare(name, before.headers.get(name), now.headers.get(name))
  }
  if (!before.body.equals(now.body)) {
    const at = firstDifference(before.body, now.body)
    found.push(`body: ${now.body.length} bytes, recorded ${before.body.length}, the first difference at byte ${at}`)
  }
  compare("appStatus", recorded.end?.appStatus, came.end?.appStatus)
  compare("protocolStatus", recorded.end?.protocolStatus, came.end?.protocolStatus)
  return found
}

/** The answer as HTTP has it. Without a header block all of STDOUT is the body, and there is no status. */
export const answerOf = (
  { stdout }: Answered
): { readonly status: string | undefined; readonly headers: ReadonlyMap<string, string>; readonly body: Buffer } => {
  const all = Buffer.concat(stdout)
  const head = makeHeadParser().push(all)
  if (head === undefined || head._tag === "CgiHeadError") return { status: undefined, headers: new Map(), body: all }
  const headers = new Map<string, string>()
  for (const [name, value] of head.headers) {
    const lower = name.toLowerCase()
    const known = headers.get(lower)
    headers.set(lower, known === undefined ? value : `${known}, ${value}`)
  }
  return { status: `${head.status} ${head.statusText}`, headers, body: Buffer.from(head.rest) }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const nameOf = (pairs: ReadonlyArray<readonly [string, string]>): string => {
  const params = new Map(pairs)
  return `${params.get("REQUEST_METHOD") ?? ""} ${params.get("REQUEST_URI") ?? params.get("SCRIPT_NAME") ?? ""}`.trim()
}

const shown = (value: unknown): string => value === undefined ? "none" : Output.json(value)

const firstDifference = (a: Uint8Array, b: Uint8Array): number => {
  let at = 0
  while (at < a.length && at < b.length && a[at] === b[at]) at++
  return at
}
