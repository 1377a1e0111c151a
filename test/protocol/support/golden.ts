/**
 * Bytes written down by hand.
 */
import { ascii } from "./cuts.ts"

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

/** Hexadecimal digits, and text in quotes, as one string of digits. */
export const golden = (...parts: ReadonlyArray<string>): string =>
  parts.map((part) => part.startsWith("'") ? hex(ascii(part.slice(1, -1))) : part.replaceAll(" ", "")).join("")

/** The same as bytes. */
export const goldenBytes = (...parts: ReadonlyArray<string>): Uint8Array =>
  new Uint8Array(Buffer.from(golden(...parts), "hex"))

export const zeros = (bytes: number): string => "00".repeat(bytes)
