/**
 * Bytes to text and back, for the short strings of params and header blocks.
 *
 * Measured on Node 24, 800 bytes: `Buffer.prototype.latin1Slice` 90 ns, `TextDecoder` 940 ns, `String.fromCharCode`
 * 1900 ns. A header block of 80 bytes that has just been put together: `Buffer.prototype.latin1Write` 110 ns, character by
 * character 290 ns; a string of 512 characters 30 and 920 ns. So these two functions are used where the platform has them,
 * and nothing else of Buffer.
 */

type Latin1Slice = (this: Uint8Array, start: number, end: number) => string
type Latin1Write = (this: Uint8Array, text: string, at: number) => number

const buffer = (globalThis as {
  readonly Buffer?: { readonly prototype?: { readonly latin1Slice?: Latin1Slice; readonly latin1Write?: Latin1Write } }
}).Buffer?.prototype
const latin1Slice = buffer?.latin1Slice
const latin1Write = buffer?.latin1Write

// Far below the number of arguments that any engine accepts.
const applyLimit = 4096

/** The bytes from `start` to `end` as a string with one character per byte. */
export const latin1 = (bytes: Uint8Array, start: number, end: number): string => {
  if (latin1Slice !== undefined) return latin1Slice.call(bytes, start, end)
  let text = ""
  for (let at = start; at < end; at += applyLimit) {
    text += String.fromCharCode.apply(null, bytes.subarray(at, Math.min(at + applyLimit, end)) as never)
  }
  return text
}

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

/** The bytes of a string in UTF-8. */
export const utf8 = (text: string): Uint8Array => encoder.encode(text)

/**
 * The bytes as UTF-8, or `undefined` when they are not valid UTF-8. A fatal TextDecoder makes an exception of that, at 15 µs
 * each: one record of 20,000 such names stopped everybody for a third of a second.
 */
export const decodeUtf8 = (bytes: Uint8Array): string | undefined => isUtf8(bytes) ? decoder.decode(bytes) : undefined

// RFC 3629 §4: no sequence longer than it has to be, no surrogates, nothing above U+10FFFF.
const isUtf8 = (bytes: Uint8Array): boolean => {
  const length = bytes.length
  for (let at = 0; at < length;) {
    const first = bytes[at++]
    if (first < 0x80) continue
    // Behind the bytes is `undefined`, which is in no range.
    const second = bytes[at++]
    if (first < 0xe0) {
      if (first < 0xc2 || !isBetween(second, 0x80, 0xbf)) return false
    } else if (first < 0xf0) {
      const least = first === 0xe0 ? 0xa0 : 0x80
      const most = first === 0xed ? 0x9f : 0xbf
      if (!isBetween(second, least, most) || !isBetween(bytes[at++], 0x80, 0xbf)) return false
    } else {
      const least = first === 0xf0 ? 0x90 : 0x80
      const most = first === 0xf4 ? 0x8f : 0xbf
      if (first > 0xf4 || !isBetween(second, least, most)) return false
      if (!isBetween(bytes[at++], 0x80, 0xbf) || !isBetween(bytes[at++], 0x80, 0xbf)) return false
    }
  }
  return true
}

const isBetween = (byte: number | undefined, least: number, most: number): boolean =>
  byte !== undefined && byte >= least && byte <= most

/** Writes the characters of a string as bytes, which there is room for; what is above 0xFF in a character is lost. */
export const writeLatin1 = (bytes: Uint8Array, at: number, text: string): void => {
  if (latin1Write !== undefined) latin1Write.call(bytes, text, at)
  else for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i)
}

/** The characters of a string as bytes; what is above 0xFF in a character is lost. */
export const latin1Bytes = (text: string): Uint8Array => {
  const bytes = new Uint8Array(text.length)
  writeLatin1(bytes, 0, text)
  return bytes
}

// oxlint-disable-next-line no-control-regex -- the point is everything that is not ASCII
const notAscii = /[^\x00-\x7f]/

/** Whether text is the same in ASCII, in Latin-1 and in UTF-8. */
export const isAscii = (text: string): boolean => !notAscii.test(text)

/** A string as one character per byte of its UTF-8. */
export const utf8ToLatin1 = (text: string): string => {
  if (isAscii(text)) return text
  const bytes = utf8(text)
  return latin1(bytes, 0, bytes.length)
}

/** The same text, one character per byte, in memory of its own: a substring keeps the whole string it was cut from. */
export const copy = (text: string): string => latin1(latin1Bytes(text), 0, text.length)
