/**
 * Lines as bytes, written one behind the other into memory that somebody takes them from.
 *
 * A line of Apache's combined format has some 170 bytes. Put together as a string and encoded afterwards, of ten pieces that are
 * strings themselves, it cost twice of what the same loop over bytes does.
 */
import { latin1Bytes, utf8 } from "../../protocol/internal/text.ts"
import type { ParamsPicker } from "./pickParams.ts"

/** Where lines go: the first `length` bytes of `bytes` are written. Both change as lines are written and taken. */
export interface LineMemory {
  bytes: Uint8Array
  length: number
}

/** A piece of a line: what is written as it is, the value of a param, or what a function writes. */
export type Piece<Entry> =
  | { readonly kind: typeof Literal; readonly bytes: Uint8Array }
  | ParamPiece
  | { readonly kind: typeof Written; readonly write: (line: LineWriter, entry: Entry) => void }

/** The value of a param, escaped; `-` where there is none. */
export interface ParamPiece {
  readonly kind: typeof Param
  /** Its place, and that of the one that is written where it has no value, or -1. */
  readonly place: number
  readonly otherwise: number
  /** Whether an empty value is `-` too. */
  readonly dashIfEmpty: boolean
}

/** The kinds of pieces. */
export const Literal = 0
export const Param = 1
export const Written = 2

/** Writes lines. */
export class LineWriter {
  private readonly memory: LineMemory
  private bytes: Uint8Array
  private length = 0

  constructor(memory: LineMemory) {
    this.memory = memory
    this.bytes = memory.bytes
  }

  /** Writes a line of these pieces. */
  line<Entry>(pieces: ReadonlyArray<Piece<Entry>>, params: ParamsPicker, entry: Entry): void {
    const { memory } = this
    this.bytes = memory.bytes
    this.length = memory.length
    for (let i = 0; i < pieces.length; i++) {
      const piece = pieces[i]
      if (piece.kind === Written) piece.write(this, entry)
      else if (piece.kind === Literal) this.literal(piece.bytes)
      else this.param(piece, params)
    }
    this.byte(lineFeed)
    memory.bytes = this.bytes
    memory.length = this.length
  }

  /** The value of a param. */
  param(piece: ParamPiece, params: ParamsPicker): void {
    const { ends, starts } = params
    let { place } = piece
    let start = starts[place]
    let end = ends[place]
    if (end <= start && piece.otherwise !== -1) {
      place = piece.otherwise
      start = starts[place]
      end = ends[place]
    }
    if (end > start) this.escaped(params.bytes, start, end)
    else if (piece.dashIfEmpty || end === -1) this.byte(dash)
  }

  /** One byte. */
  byte(byte: number): void {
    if (this.length === this.bytes.length) this.grow(1)
    this.bytes[this.length++] = byte
  }

  /** What is written as it is. */
  literal(literal: Uint8Array): void {
    const size = literal.length
    if (this.length + size > this.bytes.length) this.grow(size)
    const { bytes, length } = this
    for (let i = 0; i < size; i++) bytes[length + i] = literal[i]
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
    if (this.length + size > this.bytes.length) this.grow(size)
    const { bytes } = this
    let rest = value | 0
    for (let at = this.length += size; size > 0; size--) {
      const tens = (rest / 10) | 0
      bytes[--at] = 0x30 + rest - tens * 10
      rest = tens
    }
  }

  /** Bytes that may stand between quotes: others than printable ASCII, quotes and backslashes are written as Apache does. */
  escaped(source: Uint8Array, start: number, end: number): void {
    const most = escapeLength * (end - start)
    if (this.length + most > this.bytes.length) this.grow(most)
    const { bytes } = this
    let at = this.length
    for (let i = start; i < end; i++) {
      const byte = source[i]
      if (kinds[byte] === plain) bytes[at++] = byte
      else at = escapeAt(bytes, at, byte)
    }
    this.length = at
  }

  /** Text, one character a byte, as by `escaped`. */
  escapedText(text: string): void {
    this.escaped(latin1Bytes(text), 0, text.length)
  }

  /** Text as a string of JSON. */
  json(text: string): void {
    const size = text.length
    if (this.length + size + 2 > this.bytes.length) this.grow(size + 2)
    const { bytes } = this
    let at = this.length
    bytes[at++] = quote
    for (let i = 0; i < size; i++) {
      const code = text.charCodeAt(i)
      // Seldom: the whole of it anew.
      if (code > 0x7e || kinds[code] !== plain) return this.literal(utf8(escapedJson(text)))
      bytes[at++] = code
    }
    bytes[at++] = quote
    this.length = at
  }

  private grow(size: number): void {
    const grown = new Uint8Array(Math.max(this.length + size, 2 * this.bytes.length))
    grown.set(this.bytes.subarray(0, this.length))
    this.bytes = grown
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

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

const dash = 0x2d
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
