/**
 * A fixed piece of work of the kind that a request is, in plain JavaScript and with nothing of the library: a walk over records
 * and name-value pairs in bytes, a few strings and objects, and an answer put together. How long the library takes is compared
 * with it in the same process, so that a figure says something on any machine.
 *
 * It must not change: the limits of test/project/speed.test.ts are multiples of it.
 */

/** Reads the pairs of one request, whose records are in `bytes`, and writes an answer to it. Returns how long that is. */
export const work = (bytes: Uint8Array, into: Uint8Array): number => {
  const pairs = new Map<string, string>()
  let at = 0
  while (at < bytes.length) {
    const type = bytes[at + 1]
    const end = at + 8 + (bytes[at + 4]! << 8 | bytes[at + 5]!)
    if (type === 4) {
      let pair = at + 8
      while (pair < end) {
        const nameLength = bytes[pair]!
        const valueLength = bytes[pair + 1]!
        const name = text(bytes, pair + 2, nameLength)
        pairs.set(name, text(bytes, pair + 2 + nameLength, valueLength))
        pair += 2 + nameLength + valueLength
      }
    }
    at = end + bytes[at + 6]!
  }
  const body = `Hello ${pairs.get("REQUEST_URI")}`
  const head = `Status: 200\r\nContent-Type: text/plain\r\nContent-Length: ${body.length}\r\n\r\n${body}`
  for (let i = 0; i < head.length; i++) into[i] = head.charCodeAt(i)
  return head.length
}

const text = (bytes: Uint8Array, from: number, length: number): string => {
  let string = ""
  for (let i = from; i < from + length; i++) string += String.fromCharCode(bytes[i]!)
  return string
}
