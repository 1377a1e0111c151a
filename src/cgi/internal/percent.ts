/**
 * Percent-encoding over text with one character per byte (RFC 3986 §2.1).
 */

const encoded: ReadonlyArray<string> = Array.from(
  { length: 256 },
  (_, byte) => "%" + byte.toString(16).toUpperCase().padStart(2, "0")
)

const encodeByte = (character: string): string => encoded[character.charCodeAt(0)]

// What may stand in a request line: everything visible in ASCII. The rest would end the target, or the line.
const notInTarget = /[^\x21-\x7e]/g

// What is not pchar or "/" (RFC 3986 §3.3). "?", "#" and "%" are among it: in decoded text they are data.
const notInPath = /[^A-Za-z0-9\-._~!$&'()*+,;=:@/]/g

/** Encodes the bytes that can not stand in a request target, and nothing else: for text that is encoded already. */
export const encodeTarget = (text: string): string => text.replace(notInTarget, encodeByte)

/** Encodes a decoded path, one character per byte; "/" separates segments. */
export const encodePath = (text: string): string => text.replace(notInPath, encodeByte)

const hexadecimal = (code: number): number =>
  code >= 0x30 && code <= 0x39
    ? code - 0x30
    : (code | 0x20) >= 0x61 && (code | 0x20) <= 0x66
    ? (code | 0x20) - 0x57
    : -1

/** The byte that "%XX" at this place stands for; -1 when there is none. */
export const decodeAt = (text: string, at: number): number => {
  if (text.charCodeAt(at) !== 0x25) return -1
  const high = hexadecimal(text.charCodeAt(at + 1))
  const low = hexadecimal(text.charCodeAt(at + 2))
  return high === -1 || low === -1 ? -1 : high << 4 | low
}

/** Decodes "%XX" to the character of that byte. What is not followed by two hexadecimal digits stays. */
export const decode = (text: string): string => {
  let percent = text.indexOf("%")
  if (percent === -1) return text
  let decoded = ""
  let from = 0
  while (percent !== -1) {
    const high = percent + 2 < text.length ? hexadecimal(text.charCodeAt(percent + 1)) : -1
    const low = high === -1 ? -1 : hexadecimal(text.charCodeAt(percent + 2))
    if (low === -1) {
      percent = text.indexOf("%", percent + 1)
    } else {
      decoded += text.substring(from, percent) + String.fromCharCode(high << 4 | low)
      from = percent + 3
      percent = text.indexOf("%", from)
    }
  }
  return decoded + text.substring(from)
}
