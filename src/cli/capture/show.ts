/**
 * The events on connections, record by record: lines for a person, or an object of JSON a line.
 */
import * as Output from "../internal/output.ts"
import { Describer, type Description } from "../records/description.ts"
import { lines } from "../records/lines.ts"
import { isRecord, type LocatedRecord, type NoRecords, RecordReader } from "../records/recordReader.ts"
import type { Connection, ConnectionEvent } from "./reassembly.ts"
import type { SourceProblem } from "./source.ts"

/** Which parts are shown, and how. */
export interface ShowOptions {
  readonly json: boolean
  /** Whether connections have names and times. */
  readonly named: boolean
  /** How many bytes of content are shown of each record. */
  readonly content: number | "all"
  /** The only connections that are shown, by number. */
  readonly connection?: number | undefined
  /** The only ones that are shown, by the application's port. */
  readonly port?: number | undefined
  readonly paint: (color: Output.Color, text: string) => string
}

/** Makes text of what happens. */
export class Show {
  /** Whether bytes came that are no records. */
  broken = false
  private readonly options: ShowOptions
  private readonly connections = new Map<number, Conversation>()
  private start: number | undefined

  constructor(options: ShowOptions) {
    this.options = options
  }

  events(events: ReadonlyArray<ConnectionEvent | SourceProblem>): string {
    let text = ""
    for (const event of events) for (const line of this.event(event)) text += `${line}\n`
    return text
  }

  private event(event: ConnectionEvent | SourceProblem): ReadonlyArray<string> {
    const { json, named, paint } = this.options
    if (event._tag === "Problem") {
      this.broken = true
      return [json ? Output.json({ problem: event.problem }) : paint("bad", `! ${event.problem}`)]
    }
    const { connection, time } = event
    if (!this.isWanted(connection)) return []
    this.start ??= time
    const prefix = (mark: string) =>
      named ? paint("dim", `${(time - this.start!).toFixed(6).padStart(11)} #${connection.number} ${mark} `) : ""
    const note = (mark: string, about: string, more: object = {}) =>
      json
        ? [Output.json({ connection: connection.number, ...(named ? { time } : {}), event: about, ...more })]
        : named
        ? [prefix(mark) + paint("dim", about)]
        : []
    switch (event._tag) {
      case "Opened":
        this.connections.set(connection.number, new Conversation())
        return json && !named
          ? []
          : note("*", json ? "opened" : `${connection.client} connects to ${connection.server}`, {
            client: connection.client,
            server: connection.server
          })
      case "Bytes": {
        const found = this.connections.get(connection.number)?.push(event.fromClient, event.bytes) ?? []
        return found.flatMap((one) => this.record(one, event, prefix(event.fromClient ? ">" : "<")))
      }
      case "Lost":
        this.broken = true
        this.connections.get(connection.number)?.lose(event.fromClient)
        return note(
          event.fromClient ? ">" : "<",
          json ? "lost" : `! ${event.count} bytes are not in the capture: what follows them cannot be told`,
          { from: event.fromClient ? "web server" : "application", count: event.count }
        )
      case "Ended": {
        const left = this.connections.get(connection.number)?.end(event.fromClient)
        const mark = event.fromClient ? ">" : "<"
        return [
          ...(left === undefined ? [] : this.record(left, event, prefix(mark))),
          ...note(mark, json ? "ended" : "closes", { from: event.fromClient ? "web server" : "application" })
        ]
      }
      case "Reset":
        return note(event.fromClient ? ">" : "<", json ? "reset" : "! resets the connection", {
          from: event.fromClient ? "web server" : "application"
        })
    }
  }

  /** Says that nothing more comes: where a direction ends inside a record, that is told. */
  end(): string {
    let text = ""
    for (const [number, conversation] of this.connections) {
      for (const fromClient of [true, false]) {
        const left = conversation.end(fromClient)
        if (left === undefined) continue
        const about = {
          connection: { number, client: "", server: "", serverPort: 0 },
          fromClient,
          time: this.start ?? 0
        }
        const prefix = this.options.named ? `${" ".repeat(11)} #${number} ${fromClient ? ">" : "<"} ` : ""
        for (const line of this.record(left, about, prefix)) text += `${line}\n`
      }
    }
    return text
  }

  private record(
    found: Description,
    { connection, time }: { readonly connection: Connection; readonly time: number },
    prefix: string
  ): ReadonlyArray<string> {
    const { content, json, named, paint } = this.options
    if (found.type === "none" && found.problem !== undefined && !found.problem.startsWith("the bytes end")) {
      this.broken = true
    }
    return json
      ? [Output.json(named ? { connection: connection.number, time, ...found } : found)]
      : lines(found, { content, paint, prefix })
  }

  private isWanted({ number, serverPort }: Connection): boolean {
    const { connection, port } = this.options
    return (connection === undefined || connection === number) && (port === undefined || port === serverPort)
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

/** The records of one connection. */
class Conversation {
  private readonly describer = new Describer()
  private readonly client = new RecordReader()
  private readonly server = new RecordReader()
  private readonly lost = new Set<boolean>()
  private readonly ended = new Set<boolean>()

  push(fromClient: boolean, bytes: Uint8Array): ReadonlyArray<Description> {
    if (this.lost.has(fromClient)) return []
    return this.reader(fromClient).push(bytes).map((one) => this.describe(one, fromClient))
  }

  lose(fromClient: boolean): void {
    this.lost.add(fromClient)
  }

  end(fromClient: boolean): Description | undefined {
    if (this.lost.has(fromClient) || this.ended.has(fromClient)) return undefined
    this.ended.add(fromClient)
    const left = this.reader(fromClient).end()
    return left === undefined ? undefined : this.describe(left, fromClient)
  }

  private reader(fromClient: boolean): RecordReader {
    return fromClient ? this.client : this.server
  }

  private describe(one: LocatedRecord | NoRecords, fromClient: boolean): Description {
    return isRecord(one)
      ? this.describer.record(one)
      : this.describer.noRecords(one, fromClient ? "web server" : "application")
  }
}
