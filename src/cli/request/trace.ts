/**
 * Shows the records of a connection as they come.
 */
import * as FastCgiTransport from "../../connection/FastCgiTransport.ts"
import { painter } from "../internal/output.ts"
import { Describer } from "../records/description.ts"
import { lines } from "../records/lines.ts"
import { isRecord, RecordReader } from "../records/recordReader.ts"

// Bytes of content that are shown of a record.
const contentShown = 512

/** Shows on stderr what passes a connection: ">" goes to the application, "<" comes from it. */
export const traced = (transport: FastCgiTransport.FastCgiTransport): FastCgiTransport.FastCgiTransport => {
  const paint = painter(process.stderr)
  const describer = new Describer()
  const direction = (prefix: string, from: "web server" | "application") => {
    const reader = new RecordReader()
    const options = { content: contentShown, paint, prefix: `${prefix} ` }
    const show = (found: ReturnType<RecordReader["push"]>) => {
      for (const one of found) {
        const description = isRecord(one) ? describer.record(one) : describer.noRecords(one, from)
        process.stderr.write(`${lines(description, options).join("\n")}\n`)
      }
    }
    return {
      push: (chunks: ReadonlyArray<Uint8Array>) => chunks.forEach((chunk) => show(reader.push(chunk))),
      end: (text: string) => {
        const left = reader.end()
        if (left !== undefined) show([left])
        process.stderr.write(`${prefix} ${paint("dim", text)}\n`)
      }
    }
  }
  const written = direction(">", "web server")
  const read = direction("<", "application")
  return FastCgiTransport.tap(transport, {
    onWrite: written.push,
    onEnd: () => written.end("we close our direction"),
    onRead: read.push,
    onReadEnd: () => read.end("the application closes its direction")
  })
}
