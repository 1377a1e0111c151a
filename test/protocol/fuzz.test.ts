/**
 * Bytes of web servers and applications, damaged: a million cases with `CI=true`. Nothing throws, whatever cuts the bytes they mean the
 * same, nothing comes out that did not go in, and what is kept is bounded. test/connection/fuzz.test.ts does the same with
 * whole connections.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { CgiResponse, FastCgiDecoder, FastCgiParams, type FastCgiRecord } from "effect-fastcgi"
import { list, read, vectors } from "../vectors/vectors.ts"
import { ascii, concat, random } from "./support/cuts.ts"
import { replay, seeds } from "./support/fuzz.ts"

type Next = () => number

/** Bytes that mean something where they happen to stand: types, roles, lengths, line ends. */
const telling = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 32, 58, 0x7f, 0x80, 0xff]

const longest = 160

/** Where records begin in the bytes. */
const recordsIn = (bytes: Uint8Array): ReadonlyArray<number> => {
  const starts: Array<number> = []
  for (let at = 0; at + 8 <= bytes.length;) {
    starts.push(at)
    at += 8 + (bytes[at + 4] << 8 | bytes[at + 5]) + bytes[at + 6]
  }
  return starts
}

const recorded = [
  ...vectors.map(({ file }) => read(file)),
  ...list("server-side").filter((file) => file.endsWith(".bin")).map((file) => read(`server-side/${file}`))
]

/** Pieces that begin with a record. */
const records = recorded.flatMap((bytes) =>
  recordsIn(bytes).slice(0, 40).map((start) => bytes.slice(start, start + longest))
)

const contents = (type: number) =>
  recorded.flatMap((bytes) =>
    recordsIn(bytes).filter((start) => bytes[start + 1] === type).slice(0, 10).map((start) =>
      bytes.slice(start + 8, start + 8 + Math.min(longest, bytes[start + 4] << 8 | bytes[start + 5]))
    )
  ).filter((content) => content.length > 0)

const params = contents(4)
const heads = [
  ...contents(6),
  ascii("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"),
  ascii("Status: 103 Early\n\nLocation: /x\n\nbody")
]

/** One of the seeds with some bytes set, cut out, or doubled. */
const damaged = (next: Next, from: ReadonlyArray<Uint8Array>): Uint8Array => {
  const below = (limit: number) => Math.floor(next() * limit)
  let bytes = from[below(from.length)].slice()
  for (let times = below(4); times > 0; times--) {
    const at = below(bytes.length)
    switch (below(5)) {
      case 0:
        bytes[at] = below(256)
        break
      case 1:
        bytes[at] = telling[below(telling.length)]
        break
      case 2:
        bytes.copyWithin(at, below(bytes.length))
        break
      case 3:
        bytes = bytes.slice(0, at + 1)
        break
      case 4: {
        const other = from[below(from.length)]
        bytes.set(other.subarray(0, bytes.length - at), at)
        break
      }
    }
  }
  return bytes
}

/** A number for a decoding, which does not depend on how the bytes came. */
class Digest {
  value = 0
  private last = ""

  add(byte: number): void {
    this.value = (Math.imul(this.value, 31) + byte) | 0
  }

  bytes(content: Uint8Array): void {
    for (let i = 0; i < content.length; i++) this.add(content[i])
  }

  record(record: FastCgiRecord.FastCgiRecord): void {
    const key = `${record._tag} ${record.requestId}`
    const content = "content" in record ? record.content : undefined
    // Fragments of one record are one, and so are records of one stream.
    if (content === undefined || content.length === 0 || key !== this.last) {
      for (let i = 0; i < key.length; i++) this.add(key.charCodeAt(i))
    }
    this.last = content === undefined || content.length === 0 ? "" : key
    if (content !== undefined) this.bytes(content)
    else if (record._tag === "BeginRequest") this.add(record.role * 256 + record.flags)
    else if (record._tag === "EndRequest") this.add(record.appStatus * 7 + record.protocolStatus)
    else if (record._tag === "Unrecognized" || record._tag === "UnknownType") this.add(record.type)
  }
}

/** The bytes in up to three pieces. */
const pieces = (next: Next, bytes: Uint8Array): ReadonlyArray<Uint8Array> => {
  const one = Math.floor(next() * (bytes.length + 1))
  const two = one + Math.floor(next() * (bytes.length + 1 - one))
  return [bytes.slice(0, one), bytes.slice(one, two), bytes.slice(two)]
}

const decode = (chunks: ReadonlyArray<Uint8Array>, size: number): string => {
  const decoder = FastCgiDecoder.make()
  const digest = new Digest()
  const decoded: Array<FastCgiRecord.FastCgiRecord> = []
  let error: FastCgiDecoder.FastCgiDecodeError | undefined
  let held = 0
  for (let i = 0; i < chunks.length && error === undefined; i++) error = decoder.push(chunks[i], decoded)
  for (let i = 0; i < decoded.length; i++) {
    const record = decoded[i]
    digest.record(record)
    if ("content" in record) held += record.content.length
  }
  if (held > size) throw new Error(`${held} bytes of content out of ${size}`)
  const kind = (error ?? decoder.end())?.reason._tag ?? "complete"
  return `${digest.value} ${kind}`
}

const decodeParams = (chunks: ReadonlyArray<Uint8Array>): string => {
  const decoder = FastCgiParams.makeDecoder({ maxParamsSize: 1000, maxParamsCount: 50 })
  for (const chunk of chunks) {
    const error = chunk.length === 0 ? undefined : decoder.push(chunk)
    if (error !== undefined) return error.reason._tag
  }
  const result = decoder.end()
  if ("_tag" in result) return result.reason._tag
  const digest = new Digest()
  let pairs = 0
  for (const [name, value] of result) {
    pairs++
    for (let i = 0; i < name.length; i++) digest.add(name.charCodeAt(i))
    for (let i = 0; i < value.length; i++) digest.add(value.charCodeAt(i))
    if (pairs === 1 && !result.has(name)) throw new Error(`the name ${JSON.stringify(name)} is listed and not found`)
  }
  return `${digest.value} ${pairs} ${result.get("REQUEST_METHOD")}`
}

const parseHead = (chunks: ReadonlyArray<Uint8Array>): string => {
  const parser = CgiResponse.makeHeadParser({ maxHeadSize: 120 })
  for (let i = 0; i < chunks.length; i++) {
    const result = chunks[i].length === 0 ? undefined : parser.push(chunks[i])
    if (result === undefined) continue
    if (result._tag !== "CgiHead") return result.reason._tag
    const rest = concat([result.rest, ...chunks.slice(i + 1)])
    return `${result.status} ${result.statusText} ${result.headers.join()} ${rest.length}`
  }
  return parser.end().reason._tag
}

describe("damaged bytes", () => {
  // Half of the cases end in an error, whose stack takes longer than all of the rest.
  const { stackTraceLimit } = Error
  beforeAll(() => {
    Error.stackTraceLimit = 0
  })
  afterAll(() => {
    Error.stackTraceLimit = stackTraceLimit
  })

  it("never throw, and mean the same whatever cuts them", { timeout: 3_600_000 }, () => {
    const { first, last } = seeds()
    const ends = new Set<string>()
    for (let seed = first; seed <= last; seed++) {
      const next = random(seed)
      try {
        const kind = seed & 3
        const bytes = damaged(next, kind === 2 ? params : kind === 3 ? heads : records)
        const cut = pieces(next, bytes)
        const how = kind === 2 ?
          decodeParams :
          kind === 3 ?
          parseHead :
          (chunks: ReadonlyArray<Uint8Array>) => decode(chunks, bytes.length)
        const whole = how([bytes])
        const inPieces = how(cut)
        if (whole !== inPieces) {
          throw new Error(`whole: ${whole}; cut at ${cut.map(({ length }) => length)}: ${inPieces}`)
        }
        const end = whole.slice(whole.lastIndexOf(" ") + 1)
        if (/^[A-Z][A-Za-z]+$/.test(end)) ends.add(end)
      } catch (error) {
        throw new Error(replay(seed, "protocol/fuzz.test.ts"), { cause: error })
      }
    }
    // The damage reaches what it is to reach.
    if (last - first < 10_000) return
    for (
      const end of ["UnsupportedVersion", "TruncatedRecord", "ContentLength", "NullRequestId", "TooLarge", "Truncated"]
    ) {
      assert.include([...ends], end)
    }
  })
})
