/**
 * Every recorded connection decodes to what the index says, however its bytes are cut.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiDecoder, FastCgiParams, FastCgiRecord } from "effect-fastcgi"
import * as Crypto from "node:crypto"
import { type IndexedRequest, type IndexedValue, read, type Vector, vectors } from "../vectors/vectors.ts"
import { cut, random } from "./support/cuts.ts"

const sha256 = (bytes: Uint8Array | string): string =>
  Crypto.createHash("sha256").update(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes).digest("hex")

interface Request {
  readonly id: number
  readonly role: number
  readonly keepConn: boolean
  readonly paramsDecoder: FastCgiParams.FastCgiParamsDecoder
  params: FastCgiParams.FastCgiParams | undefined
  paramBytes: number
  readonly stdin: Array<Uint8Array>
  stdinBytes: number
  stdinEnded: boolean
  aborted: boolean
}

/** What arrived on a connection, told in the words of the index. */
class Received {
  readonly requests: Array<Request> = []
  readonly management: Array<Vector["management"][number]> = []
  records = 0
  private readonly active = new Map<number, Request>()

  add(record: FastCgiRecord.FastCgiRecord): void {
    this.records++
    if (record._tag === "GetValues") {
      const pairs = FastCgiParams.fromBytes(record.content)
      assert.isFalse("_tag" in pairs)
      this.management.push({
        type: FastCgiRecord.RecordType.GetValues,
        pairs: [...pairs as FastCgiParams.FastCgiParams]
      })
      return
    }
    if (record._tag === "BeginRequest") {
      const request: Request = {
        id: record.requestId,
        role: record.role,
        keepConn: FastCgiRecord.keepConnection(record),
        paramsDecoder: FastCgiParams.makeDecoder(),
        params: undefined,
        paramBytes: 0,
        stdin: [],
        stdinBytes: 0,
        stdinEnded: false,
        aborted: false
      }
      this.requests.push(request)
      this.active.set(record.requestId, request)
      return
    }
    const request = this.active.get(record.requestId)
    assert.isDefined(request, `${record._tag} for a request that was not begun`)
    switch (record._tag) {
      case "Params": {
        if (record.content.length > 0) {
          request!.paramBytes += record.content.length
          assert.isUndefined(request!.paramsDecoder.push(record.content))
        } else {
          const params = request!.paramsDecoder.end()
          assert.isFalse("_tag" in params)
          request!.params = params as FastCgiParams.FastCgiParams
        }
        break
      }
      case "Stdin":
        if (record.content.length === 0) request!.stdinEnded = true
        request!.stdin.push(record.content)
        request!.stdinBytes += record.content.length
        break
      case "AbortRequest":
        request!.aborted = true
        break
      default:
        assert.fail(`${record._tag} from a web server`)
    }
  }
}

const indexed = (value: string): IndexedValue =>
  value.length > 400 ? { length: value.length, sha256: sha256(value) } : value

const describeRequest = (request: Request, as: IndexedRequest): Partial<IndexedRequest> => {
  let params: Array<readonly [string, IndexedValue]> | null = null
  request.params?.forEachLatin1((name, value) => {
    params ??= []
    const wanted = as.params?.[params.length]?.[1]
    params.push([name, typeof wanted === "string" ? value : indexed(value)])
  })
  return {
    id: request.id,
    role: request.role,
    keepConn: request.keepConn,
    params,
    paramBytes: request.paramBytes,
    paramsEnded: request.params !== undefined,
    stdinBytes: request.stdinBytes,
    stdinEnded: request.stdinEnded,
    aborted: request.aborted,
    stdinSha256: request.stdinBytes === 0 ? null : sha256(Buffer.concat(request.stdin))
  }
}

const expectRequest = (request: IndexedRequest): Partial<IndexedRequest> => {
  const { paramRecords: _, stdinRecords: __, stdinSha256, ...rest } = request
  return { ...rest, stdinSha256: request.stdinBytes === 0 ? null : stdinSha256 }
}

const check = (vector: Vector, chunks: Iterable<Uint8Array>): Received => {
  const received = new Received()
  const decoder = FastCgiDecoder.make()
  const records: Array<FastCgiRecord.FastCgiRecord> = []
  for (const chunk of chunks) {
    assert.isUndefined(decoder.push(chunk, records))
    for (const record of records) received.add(record)
    records.length = 0
  }
  assert.strictEqual(vector.trailingBytes, 0)
  assert.isUndefined(decoder.end())
  assert.deepStrictEqual(received.management, vector.management)
  assert.strictEqual(received.requests.length, vector.requests.length)
  received.requests.forEach((request, index) => {
    const wanted = vector.requests[index]
    assert.deepStrictEqual(describeRequest(request, wanted), expectRequest(wanted))
  })
  return received
}

// Where records begin, found without the decoder.
const recordStarts = (bytes: Uint8Array): ReadonlyArray<number> => {
  const starts: Array<number> = []
  for (let at = 0; at < bytes.length; at += 8 + (bytes[at + 4] << 8 | bytes[at + 5]) + bytes[at + 6]) starts.push(at)
  return starts
}

// One byte at a time; of long contents only the parts next to a header, so that a megabyte does not take a second.
const singleBytes = (bytes: Uint8Array): ReadonlyArray<number> => {
  const points = new Set<number>()
  const starts = [...recordStarts(bytes), bytes.length]
  for (let i = 0; i + 1 < starts.length; i++) {
    const short = starts[i + 1] - starts[i] < 1024
    for (let at = starts[i]; at < starts[i + 1]; at++) {
      if (short || at < starts[i] + 64 || at >= starts[i + 1] - 16) points.add(at)
    }
  }
  return [...points]
}

describe("what web servers send", () => {
  it("is recorded in full", () => {
    assert.isAtLeast(vectors.length, 200)
    for (const server of ["nginx", "lighttpd", "apache", "fcgid", "haproxy", "caddy", "cgi-fcgi"]) {
      assert.isTrue(vectors.some((vector) => vector.file.startsWith(server + "-")), server)
    }
  })

  for (const vector of vectors) {
    it(`${vector.file} decodes at any fragmentation`, () => {
      const bytes = read(vector.file)
      assert.strictEqual(sha256(bytes), vector.sha256)

      // In one piece: then every record is one value.
      assert.strictEqual(check(vector, [bytes]).records, vector.records)

      check(vector, cut(bytes, singleBytes(bytes)))

      const next = random(bytes.length)
      for (let round = 0; round < 3; round++) {
        const points = Array.from({ length: 1 + Math.floor(next() * 20) }, () => Math.floor(next() * bytes.length))
        check(vector, cut(bytes, points))
      }
    })
  }
})
