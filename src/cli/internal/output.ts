/**
 * The output of a command: bytes and lines to stdout, no faster than they are taken, lines to stderr, and colours where a person
 * looks.
 */
import * as Effect from "effect/Effect"
import { styleText } from "node:util"

/** The colours that are used, by what they mean. */
export const colors = {
  bold: "bold",
  dim: "dim",
  good: "green",
  bad: "red",
  warn: "yellow",
  request: "cyan",
  answer: "magenta"
} as const

/** A meaning of `colors`. */
export type Color = keyof typeof colors

/** Gives text a colour where the stream is a terminal, and NO_COLOR and its like do not say otherwise. */
export const painter = (stream: NodeJS.WriteStream): (color: Color, text: string) => string =>
  stream.isTTY === true || process.env["FORCE_COLOR"] !== undefined
    ? (color, text) => text === "" ? text : styleText(colors[color], text, { stream })
    : (_, text) => text

/** Writes to stdout, and waits until it has been taken. */
export const write = (data: Uint8Array | string): Effect.Effect<void> => writeTo(process.stdout, data)

/** Writes a line to stdout. */
export const line = (text = ""): Effect.Effect<void> => write(`${text}\n`)

/** Writes to stderr, and waits until it has been taken or nobody reads it any more. */
export const writeError = (data: Uint8Array | string): Effect.Effect<void> => writeTo(process.stderr, data)

/**
 * JSON that a terminal can show: DEL, the C1 controls and the characters that reorder or break lines are escaped, which
 * `JSON.stringify` leaves as they are.
 */
export const json = (value: unknown, indent?: number): string =>
  JSON.stringify(value, undefined, indent).replace(
    unprintable,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`
  )

/** Says something to the person at the terminal, on stderr. */
export const note = (text: string): Effect.Effect<void> => writeError(`${text}\n`)

/** Ends when nobody reads stdout any more, as after `| head`. */
export const untilClosed: Effect.Effect<void> = Effect.callback((resume) => {
  const onError = (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") resume(Effect.void)
    else resume(Effect.die(error))
  }
  process.stdout.on("error", onError)
  // A terminal that was closed: there is nobody to tell.
  process.stderr.on("error", () => {})
  return Effect.sync(() => process.stdout.off("error", onError).on("error", () => {}))
})

/** Rows of a table in columns as wide as their cells, without a border. The last column is as long as it is. */
export const columns = (rows: ReadonlyArray<ReadonlyArray<string>>, gap = "  "): ReadonlyArray<string> => {
  const widths: Array<number> = []
  for (const row of rows) {
    row.forEach((cell, i) => widths[i] = Math.max(widths[i] ?? 0, cell.length))
  }
  return rows.map((row) =>
    row.map((cell, i) => i === row.length - 1 ? cell : cell.padEnd(widths[i]!)).join(gap).trimEnd()
  )
}

/** A number of things whose plural has an s, for a person. */
export const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? "" : "s"}`

/** A number of bytes for a person. */
export const bytes = (count: number): string => {
  if (count < 1024) return `${count} B`
  const units = ["KiB", "MiB", "GiB", "TiB"]
  let value = count / 1024
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`
}

/** A time in milliseconds for a person. */
export const milliseconds = (value: number): string =>
  value < 1
    ? `${value.toFixed(3)} ms`
    : value < 100
    ? `${value.toFixed(1)} ms`
    : value < 10_000
    ? `${Math.round(value)} ms`
    : `${(value / 1000).toFixed(1)} s`

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const unprintable = /[\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g

const writeTo = (stream: NodeJS.WriteStream, data: Uint8Array | string): Effect.Effect<void> =>
  Effect.callback((resume) => {
    stream.write(data, (error) => {
      // An error of stdout is for `untilClosed`, which ends the command. Without a reader of its messages it goes on.
      if (error === undefined || error === null || stream !== process.stdout) resume(Effect.void)
    })
  })
