/**
 * A captured file or stream as what happened on its connections: a pcap or pcapng file, or the bytes of one direction as they are.
 */
import { version } from "../../protocol/FastCgiRecord.ts"
import { senderOf } from "../records/description.ts"
import { kindOf, makeReader, type Packet, type PcapReader } from "./pcap.ts"
import { type Connection, type ConnectionEvent, Reassembly } from "./reassembly.ts"
import { segmentOf } from "./segment.ts"

/** The kind of the capture. */
export type SourceKind = "raw" | "pcap" | "pcapng"

/** A capture that cannot be read on. */
export interface SourceProblem {
  readonly _tag: "Problem"
  readonly problem: string
}

/** Reads a capture as it comes. */
export class CaptureSource {
  private head: Uint8Array = new Uint8Array(0)
  private kind: SourceKind | undefined
  private reader: PcapReader | undefined
  private readonly reassembly = new Reassembly(({ fromPort, payload, toPort }) =>
    // The server's port is the lower one where it is not FastCGI.
    fromWebServer(payload) ?? fromPort > toPort
  )
  private readonly raw: Connection = { number: 1, client: "", server: "", serverPort: 0 }
  private rawFromClient = true
  private time = 0

  /** Takes the next bytes. */
  push(chunk: Uint8Array): ReadonlyArray<ConnectionEvent | SourceProblem> {
    if (this.kind !== undefined) return this.read(chunk)
    this.head = Buffer.concat([this.head, chunk])
    if (this.head.length < 4) return []
    this.kind = kindOf(this.head) ?? "raw"
    const { head, kind } = this
    this.head = new Uint8Array(0)
    if (kind !== "raw") {
      this.reader = makeReader(kind)
      return this.read(head)
    }
    this.rawFromClient = fromWebServer(head) ?? true
    return [{ _tag: "Opened", connection: this.raw, time: 0 }, ...this.read(head)]
  }

  /** Says that no more bytes come. */
  end(): ReadonlyArray<ConnectionEvent | SourceProblem> {
    if (this.kind === undefined) {
      return this.head.length === 0 ? [] : [{ _tag: "Problem", problem: "the file ends after a few bytes" }]
    }
    return this.reassembly.end(this.time)
  }

  /** Whether connections have names and times: those of a pcap file have. */
  get isPcap(): boolean {
    return this.reader !== undefined
  }

  private read(chunk: Uint8Array): ReadonlyArray<ConnectionEvent | SourceProblem> {
    if (this.reader === undefined) {
      return [{ _tag: "Bytes", connection: this.raw, fromClient: this.rawFromClient, bytes: chunk, time: 0 }]
    }
    const packets: Array<Packet> = []
    const problem = this.reader.push(chunk, packets)
    const events = packets.flatMap((packet): ReadonlyArray<ConnectionEvent | SourceProblem> => {
      this.time = packet.time
      const segment = segmentOf(packet)
      return segment === undefined ? [] : this.reassembly.push(segment, packet.time)
    })
    return problem === undefined ? events : [...events, { _tag: "Problem", ...problem }]
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// `undefined` where it cannot be told.
const fromWebServer = (bytes: Uint8Array): boolean | undefined =>
  bytes.length >= 2 && bytes[0] === version && bytes[1]! >= 1 && bytes[1]! <= 11
    ? senderOf(bytes[1]!) === "web server"
    : undefined
