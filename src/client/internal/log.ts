/**
 * What the log says of a request: which one it is, and what the application writes to STDERR, in a bounded amount. Clients and
 * applications decide what such a line holds, so nothing in it may end the line or speak to the reader's terminal.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { InputStream } from "../../connection/internal/inputStream.ts"
import type { FastCgiClientRequest } from "../FastCgiClient.ts"
import type { FastCgiClientError } from "../FastCgiClientError.ts"

// Control characters but HTAB, and what reorders or breaks a line in Unicode.
// oxlint-disable-next-line no-control-regex -- control characters are the point
const unprintable = /[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g

const escapeCharacter = (character: string): string => {
  const code = character.charCodeAt(0)
  return code < 0x100 ? "\\x" + code.toString(16).padStart(2, "0") : "\\u" + code.toString(16).padStart(4, "0")
}

/** Text on one line, its control characters in hexadecimal: "\x1b". */
export const printable = (text: string): string => text.replace(unprintable, escapeCharacter)

/** Method and target of a request, cut where they are long: a client may make them so, and each line repeats them. */
export const requestLine = (method: string, target: string): string => printable(cut(`${method} ${target}`))

const cut = (text: string): string => text.length > maxName ? text.slice(0, maxName) + "…" : text

/** Logs STDERR as warnings, a line each; what is left without a line end comes last. Reads to its end in any case. */
export const logStderr = (
  stderr: InputStream<FastCgiClientError>,
  params: FastCgiClientRequest["params"]
): Effect.Effect<void> => {
  // Most requests have none.
  let lines: Lines | undefined
  let annotations: Record<string, string> | undefined
  const log = (messages: ReadonlyArray<string>): Effect.Effect<void> => {
    if (messages.length === 0) return Effect.void
    annotations ??= annotationsOf(params)
    return Effect.annotateLogs(
      Effect.forEach(messages, (line) => Effect.logWarning(line), { discard: true }),
      annotations
    )
  }
  const read: Effect.Effect<void> = Effect.suspend(() =>
    Effect.matchCauseEffect(stderr.pull, {
      onSuccess: (chunks) =>
        Effect.andThen(
          Effect.flatMap(Clock.currentTimeMillis, (now) => log((lines ??= new Lines()).take(chunks, now))),
          read
        ),
      onFailure: () => lines === undefined ? Effect.void : log(lines.end())
    })
  )
  return read
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// Characters of a request's line and of a script's name.
const maxName = 256

// Bytes of a line; a longer one is logged in pieces.
const maxLine = 8192

// What may be logged of a request in ten seconds, and what a line costs beyond its text: the logger's own words.
const maxLogged = 64 * 1024
const interval = 10_000
const lineCost = 128

const annotationsOf = (params: FastCgiClientRequest["params"]): Record<string, string> => {
  const values = new Map<string, string>()
  const wanted = ["REQUEST_METHOD", "REQUEST_URI", "SCRIPT_FILENAME"]
  for (const [name, value] of params) {
    const key = typeof name === "string" ? name : decoder.decode(name)
    if (wanted.includes(key)) values.set(key, typeof value === "string" ? value : decoder.decode(value))
  }
  const script = values.get("SCRIPT_FILENAME")
  return {
    fastcgi: "stderr",
    request: requestLine(values.get("REQUEST_METHOD") ?? "", values.get("REQUEST_URI") ?? ""),
    ...script === undefined ? undefined : { script: printable(cut(script)) }
  }
}

const decoder = new TextDecoder()

class Lines {
  private readonly pending = new Uint8Array(maxLine)
  private length = 0
  private messages: Array<string> = []
  private since = -Infinity
  private logged = 0
  private leftOut = 0

  /** The lines that chunks complete, as far as they may be logged now. */
  take(chunks: ReadonlyArray<Uint8Array>, now: number): ReadonlyArray<string> {
    if (now - this.since >= interval) {
      this.since = now
      this.logged = 0
      this.tellLeftOut()
    }
    for (const chunk of chunks) this.split(chunk)
    return this.flush()
  }

  end(): ReadonlyArray<string> {
    if (this.logged < maxLogged) this.line()
    else this.leftOut += this.length
    this.tellLeftOut()
    return this.flush()
  }

  private split(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length;) {
      if (this.logged >= maxLogged) {
        this.leftOut += this.length + chunk.length - at
        this.length = 0
        return
      }
      const newline = chunk.indexOf(0x0a, at)
      const end = Math.min(newline === -1 ? chunk.length : newline, at + maxLine - this.length)
      this.pending.set(chunk.subarray(at, end), this.length)
      this.length += end - at
      at = end
      if (at === newline) {
        this.line()
        at++
      } else if (this.length === maxLine) {
        this.line()
      }
    }
  }

  private line(): void {
    const text = decoder.decode(this.pending.subarray(0, this.length))
    this.length = 0
    const line = text.endsWith("\r") ? text.slice(0, -1) : text
    if (line === "") return
    const message = printable(line)
    this.logged += message.length + lineCost
    this.messages.push(message)
  }

  private tellLeftOut(): void {
    if (this.leftOut > 0) this.messages.push(`${this.leftOut} bytes of STDERR have been left out`)
    this.leftOut = 0
  }

  private flush(): ReadonlyArray<string> {
    const messages = this.messages
    this.messages = []
    return messages
  }
}
