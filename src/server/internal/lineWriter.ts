/**
 * Lines as bytes, written one behind the other into memory that somebody takes them from.
 *
 * A line of Apache's combined format has some 170 bytes. Put together as a string and encoded afterwards, of ten pieces that are
 * strings themselves, it cost twice of what the same loop over bytes does.
 */
import { latin1Bytes, utf8 } from "../../protocol/internal/text.ts"

/** Where lines go: the first `length` bytes of `bytes` are written. Both change as lines are written and taken. */
export interface LineMemory {
  bytes: Uint8Array
  length: number
}

/** Writes a part of a line. */
export type Write<in Entry> = (line: LineWriter, entry: Entry) => void

/** Bytes that are written as they are, four at a time; the last four may have others behind them. */
export interface LiteralBytes {
  readonly size: number
  readonly words: Int32Array
}

/** The bytes of a text in UTF-8. */
export const literalOf = (text: string): LiteralBytes => {
  const bytes = utf8(text)
  const words = new Int32Array(Math.ceil(bytes.length / 4))
  const view = new DataView(words.buffer)
  bytes.forEach((byte, at) => view.setUint8(at, byte))
  for (let at = 0; at < words.length; at++) words[at] = view.getInt32(4 * at)
  return { size: bytes.length, words }
}

/** Writes lines. */
export class LineWriter {
  private readonly memory: LineMemory
  private bytes: Uint8Array
  private view: DataView
  private length = 0

  constructor(memory: LineMemory) {
    this.memory = memory
    this.bytes = memory.bytes
    this.view = viewOf(memory.bytes)
  }

  /** Writes a line: each of the texts, and behind each but the last what is written there. */
  line<Entry>(texts: ReadonlyArray<LiteralBytes>, writes: ReadonlyArray<Write<Entry>>, entry: Entry): void {
    const { memory } = this
    if (memory.bytes !== this.bytes) {
      this.bytes = memory.bytes
      this.view = viewOf(memory.bytes)
    }
    this.length = memory.length
    for (let i = 0; i < writes.length; i++) {
      if (texts[i].size > 0) this.literal(texts[i])
      writes[i](this, entry)
    }
    this.literal(texts[writes.length])
    this.byte(lineFeed)
    memory.bytes = this.bytes
    memory.length = this.length
  }

  /** One byte. */
  byte(byte: number): void {
    if (this.length === this.bytes.length) this.grow(1)
    this.bytes[this.length++] = byte
  }

  /** What is written as it is. */
  literal({ size, words }: LiteralBytes): void {
    if (this.length + size + 3 > this.bytes.length) this.grow(size + 3)
    const { length, view } = this
    for (let i = 0; i < words.length; i++) view.setInt32(length + 4 * i, words[i])
    this.length = length + size
  }

  /** Text of ASCII characters. */
  ascii(text: string): void {
    const size = text.length
    if (this.length + size > this.bytes.length) this.grow(size)
    const { bytes, length } = this
    for (let i = 0; i < size; i++) bytes[length + i] = text.charCodeAt(i)
    this.length = length + size
  }

  /** A whole number from 0 on, below 2 to the power of 53. */
  integer(value: number): void {
    if (value > 999_999_999) return this.ascii(String(value))
    let size = 1
    for (let rest = value; rest >= 10; rest = (rest / 10) | 0) size++
    this.digits(value, size)
  }

  /** The last digits of a whole number below 10 to the power of 9, with zeros in front where it has fewer. */
  digits(value: number, size: number): void {
    if (this.length + size > this.bytes.length) this.grow(size)
    const { bytes } = this
    let rest = value | 0
    for (let at = this.length += size; size > 0; size--) {
      const tens = (rest / 10) | 0
      bytes[--at] = zero + rest - tens * 10
      rest = tens
    }
  }

  /** A whole number of millionths, from 0 on, as a decimal fraction without zeros at its end. */
  millionths(value: number): void {
    const whole = Math.floor(value / 1e6)
    this.integer(whole)
    let rest = value - whole * 1e6
    if (rest === 0) return
    let size = 6
    for (; rest % 10 === 0; rest /= 10) size--
    this.byte(point)
    this.digits(rest, size)
  }

  /** Bytes as a string of JSON, if all of them are plain. Nothing is written, and false returned, where one is not. */
  plainJson(source: DataView, start: number, end: number): boolean {
    const size = end - start
    if (this.length + size + 2 > this.bytes.length) this.grow(size + 2)
    const { bytes, view } = this
    let at = this.length
    bytes[at++] = quote
    let from = start
    for (; from <= end - 4; from += 4) {
      const word = source.getInt32(from)
      if (!arePlain(word)) return false
      view.setInt32(at, word)
      at += 4
    }
    for (; from < end; from++) {
      const byte = source.getUint8(from)
      if (kinds[byte] !== plain) return false
      bytes[at++] = byte
    }
    bytes[at++] = quote
    this.length = at
    return true
  }

  /** Bytes that may stand between quotes: others than printable ASCII, quotes and backslashes are written as Apache does. */
  escaped(source: DataView, start: number, end: number): void {
    const most = escapeLength * (end - start)
    if (this.length + most > this.bytes.length) this.grow(most)
    const { bytes, view } = this
    let at = this.length
    let from = start
    while (from < end) {
      if (from <= end - 4) {
        const word = source.getInt32(from)
        if (arePlain(word)) {
          view.setInt32(at, word)
          at += 4
          from += 4
          continue
        }
      }
      const byte = source.getUint8(from++)
      if (kinds[byte] === plain) bytes[at++] = byte
      else at = escapeAt(bytes, at, byte)
    }
    this.length = at
  }

  /** Text, one character a byte, as by `escaped`. */
  escapedText(text: string): void {
    this.escaped(viewOf(latin1Bytes(text)), 0, text.length)
  }

  /** Text as a string of JSON. */
  json(text: string): void {
    const bytes = utf8(escapedJson(text))
    if (this.length + bytes.length > this.bytes.length) this.grow(bytes.length)
    this.bytes.set(bytes, this.length)
    this.length += bytes.length
  }

  private grow(size: number): void {
    const grown = new Uint8Array(Math.max(this.length + size, 2 * this.bytes.length))
    grown.set(this.bytes.subarray(0, this.length))
    this.bytes = grown
    this.view = viewOf(grown)
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length)

// Whether four bytes are printable ASCII, and none of them a quote or a backslash. Each term has the highest bit of a byte set that is
// above 0x7f, is 0x7f, is below 0x20, is a quote or is a backslash. What a term carries to the next byte comes from one that has it set.
const arePlain = (word: number): boolean =>
  ((word | word + 0x01010101 | word - 0x20202020 | (word ^ 0x22222222) - 0x01010101 |
    (word ^ 0x5c5c5c5c) - 0x01010101) &
    0x80808080) === 0

// JSON has its own escapes for the first 32 only. The others would speak to the terminal of whoever reads the log, or break or reorder
// its lines.
const unprintable = /[\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g

const escapedJson = (text: string): string =>
  JSON.stringify(text).replace(
    unprintable,
    (character) => "\\u" + character.charCodeAt(0).toString(16).padStart(4, "0")
  )

// \x1f is the longest.
const escapeLength = 4

const zero = 0x30
const point = 0x2e
const lineFeed = 0x0a
const quote = 0x22
const backslash = 0x5c
const plain = 0

// What stands for each byte that is not plain: a letter behind a backslash, or 1 for its number.
const kinds = Uint8Array.from({ length: 256 }, (_, byte) => {
  switch (byte) {
    case quote:
    case backslash:
      return byte
    case lineFeed:
      return 0x6e
    case 0x0d:
      return 0x72
    case 0x09:
      return 0x74
    default:
      return byte < 0x20 || byte > 0x7e ? 1 : plain
  }
})

const digits = latin1Bytes("0123456789abcdef")

const escapeAt = (bytes: Uint8Array, at: number, byte: number): number => {
  bytes[at++] = backslash
  const kind = kinds[byte]
  if (kind !== 1) {
    bytes[at++] = kind
    return at
  }
  bytes[at++] = 0x78
  bytes[at++] = digits[byte >>> 4]
  bytes[at++] = digits[byte & 0xf]
  return at
}
