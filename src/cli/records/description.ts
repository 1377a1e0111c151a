/**
 * The description of a record, as data: the JSON of `dump --json`, and the source of the lines for people.
 */
import * as FastCgiParams from "../../protocol/FastCgiParams.ts"
import { inputsOf, ProtocolStatus, RecordType, Role } from "../../protocol/FastCgiRecord.ts"
import type { LocatedRecord, NoRecords } from "./recordReader.ts"

/** The sender of a record. */
export type Sender = "web server" | "application"

/** A record, in the words of the specification. */
export interface Description {
  /** The connection's number in a capture, from 1 on. */
  readonly connection?: number
  /** When it was captured: seconds since 1970. */
  readonly time?: number
  readonly from: Sender
  /** Where the record begins in its direction of the connection, in bytes. */
  readonly offset: number
  /** BEGIN_REQUEST and its like, or the number of a type that the specification does not have. */
  readonly type: string
  readonly requestId: number
  readonly contentLength: number
  readonly paddingLength: number
  readonly role?: string
  readonly keepConnection?: boolean
  readonly appStatus?: number
  readonly protocolStatus?: string
  /** The pairs of a request, with the record that ends PARAMS; of GET_VALUES and its result. */
  readonly pairs?: ReadonlyArray<readonly [name: string, value: string]>
  /** The type that UNKNOWN_TYPE tells. */
  readonly unknownType?: number
  /** The content of STDIN, STDOUT, STDERR and DATA where it is text in UTF-8. */
  readonly text?: string
  /** The content where it is something else. */
  readonly base64?: string
  /** The empty record that ends a stream. */
  readonly end?: true
  /** The error in the record. */
  readonly problem?: string
}

/** Describes the records of one connection, both directions. It keeps the PARAMS of requests that are not complete. */
export class Describer {
  private readonly params = new Map<number, FastCgiParams.FastCgiParamsDecoder>()

  record(record: LocatedRecord): Description {
    const { content, offset, padding, requestId, type } = record
    const common = {
      from: senderOf(type),
      offset,
      type: typeNames.get(type) ?? String(type),
      requestId,
      contentLength: content.length,
      paddingLength: padding.length
    }
    switch (type) {
      case RecordType.BeginRequest: {
        if (content.length !== 8) return { ...common, ...wrongLength(content) }
        this.params.delete(requestId)
        const role = content[0]! << 8 | content[1]!
        return {
          ...common,
          role: roleNames.get(role) ?? String(role),
          keepConnection: (content[2]! & 1) !== 0,
          ...(inputsOf(role).length === 0 && role !== Role.Authorizer ? { problem: "an unknown role" } : {})
        }
      }
      case RecordType.EndRequest: {
        if (content.length !== 8) return { ...common, ...wrongLength(content) }
        this.params.delete(requestId)
        const status = content[4]!
        return {
          ...common,
          appStatus: new DataView(content.buffer, content.byteOffset).getUint32(0),
          protocolStatus: statusNames.get(status) ?? String(status)
        }
      }
      case RecordType.Params: {
        const decoder = this.params.get(requestId) ?? FastCgiParams.makeDecoder()
        this.params.set(requestId, decoder)
        if (content.length > 0) {
          const error = decoder.push(content)
          return error === undefined ? common : { ...common, problem: error.message }
        }
        this.params.delete(requestId)
        const params = decoder.end()
        return "bytes" in params
          ? { ...common, pairs: Array.from(params), end: true }
          : { ...common, end: true, problem: params.message }
      }
      case RecordType.GetValues:
      case RecordType.GetValuesResult: {
        const pairs = FastCgiParams.fromBytes(content)
        return "bytes" in pairs ? { ...common, pairs: Array.from(pairs) } : { ...common, problem: pairs.message }
      }
      case RecordType.UnknownType:
        return content.length === 8
          ? { ...common, unknownType: content[0]! }
          : { ...common, ...wrongLength(content) }
      case RecordType.Stdin:
      case RecordType.Stdout:
      case RecordType.Stderr:
      case RecordType.Data:
        return content.length === 0 ? { ...common, end: true } : { ...common, ...contentOf(content) }
      case RecordType.AbortRequest:
        return content.length === 0 ? common : { ...common, ...contentOf(content) }
      default:
        return { ...common, ...contentOf(content), problem: "an unknown type" }
    }
  }

  /** Bytes that are no records, of a direction. */
  noRecords({ bytes, offset, truncated }: NoRecords, from: Sender): Description {
    return {
      from,
      offset,
      type: "none",
      requestId: 0,
      contentLength: bytes.length,
      paddingLength: 0,
      ...contentOf(bytes),
      problem: truncated
        ? "the bytes end inside a record"
        : looksLike(bytes) ?? `not FastCGI/1.0: version ${bytes[0]}`
    }
  }
}

/** The sender of records of this type. */
export const senderOf = (type: number): Sender =>
  type === RecordType.EndRequest || type === RecordType.Stdout || type === RecordType.Stderr ||
    type === RecordType.GetValuesResult || type === RecordType.UnknownType
    ? "application"
    : "web server"

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// BeginRequest is BEGIN_REQUEST in the specification, without its FCGI_.
const upper = (name: string): string => name.replace(/([a-z])([A-Z])/g, "$1_$2").toUpperCase()

const typeNames = new Map<number, string>(Object.entries(RecordType).map(([name, type]) => [type, upper(name)]))
const roleNames = new Map<number, string>(Object.entries(Role).map(([name, role]) => [role, name]))
const statusNames = new Map<number, string>(
  Object.entries(ProtocolStatus).map(([name, status]) => [status, upper(name)])
)

const wrongLength = (content: Uint8Array) => ({
  ...contentOf(content),
  problem: `${content.length} bytes of content instead of 8`
})

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

// A control character other than tab, line feed and carriage return: no text.
// oxlint-disable-next-line no-control-regex -- the control characters that text does not have
const binary = /[\u0000-\u0008\u000b\u000c\u000e-\u001a\u001c-\u001f\u007f]/

// A character that two records share makes neither of them text; that is seldom, and base64 loses nothing.
const contentOf = (content: Uint8Array): { readonly text: string } | { readonly base64: string } => {
  try {
    const text = utf8.decode(content)
    if (!binary.test(text)) return { text }
  } catch {
    // Bytes of another kind.
  }
  return { base64: Buffer.from(content).toString("base64") }
}

const looksLike = (bytes: Uint8Array): string | undefined => {
  const text = Buffer.from(bytes).toString("latin1")
  if (/^(?:(?:GET|HEAD|POST|PUT|DELETE|PATCH|OPTIONS|CONNECT|PRI) |HTTP\/)/.test(text)) {
    return "not FastCGI: this is HTTP"
  }
  if (bytes[0] === 0x16 && bytes[1] === 3) return "not FastCGI: this is TLS"
  return undefined
}
