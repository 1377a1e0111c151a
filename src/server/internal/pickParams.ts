/**
 * Several params in one walk over all of them, as text that may stand between quotes in a line of a log.
 *
 * An access log of Apache's combined format asks for eight of some 25 params. In memory, where a request took 5 µs, comparing
 * names of the same length took 1 µs and a regular expression for each value 0.3; this takes a third of it.
 */
import type { FastCgiParams } from "../../protocol/FastCgiParams.ts"

/** Escapes text for quotes: a control character, a quote and a backslash are written as Apache writes them. */
export const escape = (value: string): string => value.replace(unsafe, escapeOne)

/** Makes what finds these params, in their order: escaped, undefined where there is none. The last of several counts. */
export const makePicker = (
  names: ReadonlyArray<string>
): (params: FastCgiParams) => ReadonlyArray<string | undefined> => {
  const table: Array<Array<number>> = Array.from({ length: tableSize }, () => [])
  names.forEach((name, place) => table[hash(name, 0, name.length)].push(place))
  const none: ReadonlyArray<string | undefined> = names.map(() => undefined)
  return (params) => {
    const values = none.slice()
    params.scanLatin1((text, nameStart, valueStart, valueEnd) => {
      const places = table[hash(text, nameStart, valueStart)]
      for (let i = 0; i < places.length; i++) {
        const place = places[i]
        const name = names[place]
        if (isName(text, nameStart, valueStart, name)) values[place] = safeText(text, valueStart, valueEnd)
      }
    })
    return values
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const tableSize = 128

// The names that web servers send differ here.
const hash = (text: string, start: number, end: number): number =>
  end - start < 3
    ? end - start
    : (end - start + text.charCodeAt(end - 1) * 7 + text.charCodeAt(end - 3) * 31) & (tableSize - 1)

// `startsWith` is called, and took 60 ns.
const isName = (text: string, start: number, end: number, name: string): boolean => {
  if (end - start !== name.length) return false
  for (let i = 0; i < name.length; i++) if (text.charCodeAt(start + i) !== name.charCodeAt(i)) return false
  return true
}

const unsafe = /[^ !#-[\]-~]/g

// 1 for each character that is escaped.
const isUnsafe = Uint8Array.from(
  { length: 256 },
  (_, code) => code < 0x20 || code > 0x7e || code === 0x22 || code === 0x5c ? 1 : 0
)

const safeText = (text: string, start: number, end: number): string => {
  for (let at = start; at < end; at++) {
    if (isUnsafe[text.charCodeAt(at)] !== 0) return escape(text.substring(start, end))
  }
  return text.substring(start, end)
}

const escapeOne = (character: string): string => {
  switch (character) {
    case "\"":
    case "\\":
      return `\\${character}`
    case "\n":
      return "\\n"
    case "\r":
      return "\\r"
    case "\t":
      return "\\t"
    default:
      return `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`
  }
}
