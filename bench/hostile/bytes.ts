/** Records and requests as bytes, honest ones and others. */
import { FastCgiEncoder, FastCgiParams, FastCgiRecord as R } from "effect-fastcgi"
import { nginxParams } from "../harness/nginxParams.ts"

export const KiB = 1024

export const encode = (...records: ReadonlyArray<R.FastCgiRecord>): Uint8Array =>
  Buffer.concat(records.map((record) => FastCgiEncoder.encode(record)))

export const repeat = (content: Uint8Array, times: number): Uint8Array =>
  Buffer.concat(Array.from({ length: times }, () => content))

export const latin1 = (text: string): Uint8Array => Buffer.from(text, "latin1")

/** A record with padding, which the encoder uses only for alignment. */
export const padded = (type: number, id: number, content: Uint8Array, padding: number): Uint8Array =>
  Buffer.concat([
    Uint8Array.of(1, type, id >> 8, id & 255, content.length >> 8, content.length & 255, padding, 0),
    content,
    new Uint8Array(padding)
  ])

type Make = (requestId: number, content?: Uint8Array) => R.FastCgiRecord

/** A stream in records of this size, without its end. */
export const inRecords = (make: Make, content: Uint8Array, size: number): Uint8Array => {
  const records: Array<R.FastCgiRecord> = []
  for (let at = 0; at < content.length; at += size) records.push(make(1, content.subarray(at, at + size)))
  return encode(...records)
}

export type Pairs = ReadonlyArray<readonly [string, string | Uint8Array]>

export const usualWith = (changes: Readonly<Record<string, string | Uint8Array>>): Pairs => [
  ...nginxParams.filter(([name]) => !(name in changes)),
  ...Object.entries(changes)
]

export const begin = (id = 1, role: number = R.Role.Responder) => R.beginRequest(id, role, { keepConnection: true })

/** Params of any size, in as many records as they take. */
export const params = (pairs: Pairs): Uint8Array => inRecords(R.params, FastCgiParams.encodePairs(pairs), 65_535)

export const request = (pairs: Pairs): Uint8Array =>
  Buffer.concat([encode(begin()), params(pairs), encode(R.params(1), R.stdin(1))])

export const notUtf8 = (length: number): Uint8Array => new Uint8Array(length).fill(0xff)
