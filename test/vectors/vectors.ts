/**
 * Reads the wire vectors in this folder; README.md says what they are.
 */
import * as Fs from "node:fs"
import { FastCgiDecoder, FastCgiParams, type FastCgiRecord } from "effect-fastcgi"

/** A value as the index has it: long ones are not spelled out. */
export type IndexedValue = string | { readonly length: number; readonly sha256: string }

/** A request as the index has it. */
export interface IndexedRequest {
  readonly id: number
  readonly role: number
  readonly keepConn: boolean
  readonly params: ReadonlyArray<readonly [string, IndexedValue]> | null
  readonly paramRecords: number
  readonly paramBytes: number
  readonly paramsEnded: boolean
  readonly stdinRecords: number
  readonly stdinBytes: number
  readonly stdinEnded: boolean
  readonly aborted: boolean
  readonly stdinSha256: string | null
}

/** One recorded connection. */
export interface Vector {
  readonly file: string
  readonly peer: string
  readonly bytes: number
  readonly sha256: string
  readonly records: number
  readonly trailingBytes: number
  readonly management: ReadonlyArray<{ readonly type: number; readonly pairs: ReadonlyArray<readonly [string, string]> }>
  readonly requests: ReadonlyArray<IndexedRequest>
}

const at = (name: string): URL => new URL(name, import.meta.url)

/** All recorded connections. */
export const vectors: ReadonlyArray<Vector> = JSON.parse(Fs.readFileSync(at("index.json"), "utf8"))

/** The bytes of a file in this folder. */
export const read = (file: string): Uint8Array => new Uint8Array(Fs.readFileSync(at(file)))

/** The files in a folder of this folder. */
export const list = (folder: string): ReadonlyArray<string> => Fs.readdirSync(at(folder)).sort()

/** The records in a file that holds nothing else. */
export const recordsOf = (file: string): ReadonlyArray<FastCgiRecord.FastCgiRecord> => {
  const records: Array<FastCgiRecord.FastCgiRecord> = []
  const decoder = FastCgiDecoder.make()
  const error = decoder.push(read(file), records) ?? decoder.end()
  if (error !== undefined) throw error
  return records
}

/** The params of each request in a file, in the order the requests were begun. */
export const paramsOf = (file: string): ReadonlyArray<FastCgiParams.FastCgiParams> => {
  const decoders = new Map<number, FastCgiParams.FastCgiParamsDecoder>()
  const requests: Array<FastCgiParams.FastCgiParams> = []
  for (const record of recordsOf(file)) {
    if (record._tag === "BeginRequest") {
      decoders.set(record.requestId, FastCgiParams.makeDecoder())
    } else if (record._tag === "Params") {
      const decoder = decoders.get(record.requestId)!
      const result = record.content.length > 0 ? decoder.push(record.content) : decoder.end()
      if (result === undefined) continue
      if ("_tag" in result) throw result
      requests.push(result)
    }
  }
  return requests
}
