/** The picture of one request: bytes, the records in them, the fiber that answers, the records of the response. */
import { FastCgiRecord } from "effect-fastcgi"
import { type Html, html } from "./Html.ts"
import type { Exchange, Passed, WireRecord } from "./Records.ts"

const Type = FastCgiRecord.RecordType

/** The specification's names. */
const names: Readonly<Record<number, string>> = {
  [Type.BeginRequest]: "BEGIN_REQUEST",
  [Type.AbortRequest]: "ABORT_REQUEST",
  [Type.EndRequest]: "END_REQUEST",
  [Type.Params]: "PARAMS",
  [Type.Stdin]: "STDIN",
  [Type.Stdout]: "STDOUT",
  [Type.Stderr]: "STDERR",
  [Type.Data]: "DATA"
}

const roles: Readonly<Record<number, string>> = {
  [FastCgiRecord.Role.Responder]: "Responder",
  [FastCgiRecord.Role.Authorizer]: "Authorizer",
  [FastCgiRecord.Role.Filter]: "Filter"
}

const statuses: Readonly<Record<number, string>> = {
  [FastCgiRecord.ProtocolStatus.RequestComplete]: "REQUEST_COMPLETE",
  [FastCgiRecord.ProtocolStatus.CantMpxConn]: "CANT_MPX_CONN",
  [FastCgiRecord.ProtocolStatus.Overloaded]: "OVERLOADED",
  [FastCgiRecord.ProtocolStatus.UnknownRole]: "UNKNOWN_ROLE"
}

const count = (number: number, noun: string) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`

const firstLine = (bytes: Uint8Array) => {
  const text = new TextDecoder("latin1").decode(bytes)
  const end = text.search(/[\r\n]/)
  return end === -1 ? text : text.slice(0, end)
}

/** What a record says. */
const meaning = ({ contentLength, start, type }: WireRecord, { pairs }: Exchange): string => {
  const view = new DataView(start.buffer, start.byteOffset, start.length)
  switch (type) {
    case Type.BeginRequest:
      return start.length < 8
        ? ""
        : `${roles[view.getUint16(0)] ?? "unknown role"}, then ${
          (start[2]! & 1) === 0 ? "close" : "keep"
        } the connection`
    case Type.Params:
      return contentLength === 0 ? "end of the params" : `of ${count(pairs, "name-value pair")}`
    case Type.Stdin:
      return contentLength === 0 ? "end of the body" : "of the body"
    case Type.Stdout:
      return contentLength === 0
        ? "end of the response"
        : /^(?:Status|Location|Content-Type):/i.test(firstLine(start))
        ? `${firstLine(start)} …`
        : "more of the response"
    case Type.Stderr:
      return contentLength === 0 ? "end of the log lines" : "for the web server's log"
    case Type.EndRequest:
      return start.length < 8 ? "" : `${statuses[start[4]!] ?? "unknown status"}, appStatus\u00a0${view.getUint32(0)}`
    default:
      return ""
  }
}

const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ")
const ascii = (bytes: Uint8Array) =>
  Array.from(bytes, (byte) => byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".").join("")

/** Lines of eight bytes; a header is as long as that. */
const maxLines = 8

const dump = (records: ReadonlyArray<WireRecord>): Html => {
  const lines: Array<Html> = []
  for (const { contentLength, header, padding, start } of records) {
    lines.push(html`<b>${hex(header)}</b>\n`)
    const rest = new Uint8Array([...start, ...padding])
    for (let at = 0; at < rest.length; at += 8) {
      const line = rest.subarray(at, at + 8)
      lines.push(html`${hex(line).padEnd(23)}  <i>${ascii(line)}</i>\n`)
    }
    // What comes next is not kept.
    if (contentLength > start.length) break
  }
  return html`${lines.slice(0, maxLines)}`
}

const list = (passed: Passed, exchange: Exchange, empty: Html): Html => {
  const rows = passed.records.map((record) =>
    html`<li><span><code>${names[record.type] ?? `type ${record.type}`}</code> ${
      count(record.contentLength, "byte")
    }</span> <span class="says">${meaning(record, exchange)}</span></li>`
  )
  if (passed.omitted > 0) {
    const omitted = html`<li class="says">${count(passed.omitted, "more record")} in between</li>`
    rows.splice(rows.length - 4, 0, omitted)
  }
  return rows.length === 0 ? empty : html`<ul>${rows}</ul>`
}

/** Until the response has been sent, `data-rest` and a link say where the whole picture is then. */
export const chain = (exchange: Exchange): Html => {
  const { answeredAfter, ended, fiber, received, request, sent } = exchange
  const pending =
    html`<p class="says" id="pending">The response is this page, which is not sent yet. <a href="/records/${exchange.key}">Show its records</a></p>`
  return html`<figure class="chain" id="chain"${ended ? undefined : html` data-rest="/records/${exchange.key}"`}>
<figcaption class="meta">The records of this request, as they crossed the socket.</figcaption>
<ol>
<li><h3>Bytes</h3><p class="says">${count(received.bytes, "byte")} in ${
    count(received.batches, "read")
  }. Bold: the header of a record, with its type, request id and length.</p>
<pre role="img" aria-label="The first bytes in hexadecimal">${dump(received.records)}…</pre></li>
<li><h3>Records</h3>${list(received, exchange, html`<p class="says">None</p>`)}</li>
<li><h3>Fiber</h3><p>Fiber ${fiber}</p><p class="says">answers <code>${request}</code></p>${
    answeredAfter === undefined
      ? undefined
      : html`<p class="says">first record sent ${answeredAfter.toFixed(1)} ms after the first received</p>`
  }</li>
<li><h3>Response</h3>${list(sent, exchange, pending)}${
    sent.bytes === 0
      ? undefined
      : html`<p class="says">${count(sent.bytes, "byte")} in ${count(sent.batches, "write")}</p>`
  }</li>
</ol>
</figure>`
}
