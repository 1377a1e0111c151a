/**
 * What the log says of a request: which one it is. Clients and applications decide what such a line holds, so nothing in it may
 * end the line or speak to the reader's terminal.
 */
import type { FastCgiClientRequest } from "../FastCgiClient.ts"
import { paramOf } from "./requestParams.ts"

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

/** Which request it is, as annotations. */
export const annotationsOf = (params: FastCgiClientRequest["params"]): Record<string, string> => {
  const script = paramOf(params, "SCRIPT_FILENAME")
  return {
    request: requestLine(paramOf(params, "REQUEST_METHOD") ?? "", paramOf(params, "REQUEST_URI") ?? ""),
    ...script === undefined ? undefined : { script: printable(cut(script)) }
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const cut = (text: string): string => text.length > maxName ? text.slice(0, maxName) + "…" : text

// Characters of a request's line and of a script's name.
const maxName = 256
