import { assert, describe, it } from "@effect/vitest"
import { FastCgiDecoder, FastCgiEncoder, FastCgiRecord as R } from "effect-fastcgi"

describe("the constants (SPEC 8)", () => {
  it("have the numbers of the specification", () => {
    assert.deepStrictEqual({ ...R.RecordType }, {
      BeginRequest: 1,
      AbortRequest: 2,
      EndRequest: 3,
      Params: 4,
      Stdin: 5,
      Stdout: 6,
      Stderr: 7,
      Data: 8,
      GetValues: 9,
      GetValuesResult: 10,
      UnknownType: 11
    })
    assert.deepStrictEqual({ ...R.Role }, { Responder: 1, Authorizer: 2, Filter: 3 })
    assert.deepStrictEqual({ ...R.ProtocolStatus }, {
      RequestComplete: 0,
      CantMpxConn: 1,
      Overloaded: 2,
      UnknownRole: 3
    })
    assert.strictEqual(R.version, 1)
    assert.strictEqual(R.headerLength, 8)
    assert.strictEqual(R.maxContentLength, 65535)
    // FCGI_KEEP_CONN
    const flags = FastCgiEncoder.encode(R.beginRequest(1, 1, { keepConnection: true }))[10]
    assert.strictEqual(flags, 1)
    assert.deepStrictEqual(Object.values(R.ValueName).sort(), ["FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"])
  })

  it("are of the classes of the specification", () => {
    // Appendix A: what a record of each type without content is, and what its content of 8 bytes is when it comes in halves.
    const halves = (type: number) => {
      const records: Array<R.FastCgiRecord> = []
      const decoder = FastCgiDecoder.make()
      decoder.push(Uint8Array.of(1, type, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0), records)
      decoder.push(Uint8Array.of(0, 0, 0, 0), records)
      return records.length
    }
    const { AbortRequest, BeginRequest, Data, EndRequest, GetValues, GetValuesResult, Params, Stderr, Stdin, Stdout } =
      R.RecordType
    // Streams are passed on as they come; discrete records as a whole.
    for (const type of [Params, Stdin, Stdout, Stderr, Data]) assert.strictEqual(halves(type), 2, `type ${type}`)
    for (const type of [BeginRequest, AbortRequest, EndRequest, GetValues, GetValuesResult, R.RecordType.UnknownType]) {
      assert.strictEqual(halves(type), 1, `type ${type}`)
    }
    // Management records have no id of their own.
    for (
      const record of [R.getValues(new Uint8Array(0)), R.getValuesResult(new Uint8Array(0)), R.unknownType(12)]
    ) assert.strictEqual(record.requestId, 0)
  })
})
