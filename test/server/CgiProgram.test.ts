/**
 * A plain CGI request as records, and records as what a CGI program writes.
 */
import { assert, describe, it } from "@effect/vitest"
import { CgiProgram, FastCgiDecoder, FastCgiEncoder, FastCgiParams, FastCgiRecord as R } from "effect-fastcgi"
import { concat } from "./support/wire.ts"

const decode = (bytes: Uint8Array): ReadonlyArray<R.FastCgiRecord> => {
  const records: Array<R.FastCgiRecord> = []
  assert.isUndefined(FastCgiDecoder.make().push(bytes, records))
  return records
}

const text = (value: string) => new TextEncoder().encode(value)

describe("a CGI program", () => {
  it("is one where GATEWAY_INTERFACE says CGI", () => {
    assert.isTrue(CgiProgram.isCgi({ GATEWAY_INTERFACE: "CGI/1.1" }))
    for (
      const environment of [{}, { GATEWAY_INTERFACE: "" }, { GATEWAY_INTERFACE: "FCGI" }, { REQUEST_METHOD: "GET" }]
    ) {
      assert.isFalse(CgiProgram.isCgi(environment), JSON.stringify(environment))
    }
  })

  it.each<[Record<string, string>, number | "unbounded"]>([
    [{}, 0],
    [{ CONTENT_LENGTH: "" }, 0],
    [{ CONTENT_LENGTH: "0" }, 0],
    [{ CONTENT_LENGTH: "1234" }, 1234],
    [{ CONTENT_LENGTH: "1234", HTTP_TRANSFER_ENCODING: "chunked" }, 1234],
    [{ HTTP_TRANSFER_ENCODING: "chunked" }, "unbounded"],
    [{ CONTENT_LENGTH: "", HTTP_TRANSFER_ENCODING: "chunked" }, "unbounded"],
    [{ CONTENT_LENGTH: "-1" }, 0],
    [{ CONTENT_LENGTH: "12 34" }, 0],
    [{ CONTENT_LENGTH: "0x10" }, 0],
    [{ CONTENT_LENGTH: "9".repeat(40) }, "unbounded"]
  ])("with %j reads %s bytes", (environment, size) => {
    assert.strictEqual(CgiProgram.bodySize(environment), size)
  })

  it("begins a request for a Responder, whose connection is not kept, with its environment", () => {
    const latin1 = Uint8Array.of(0x2f, 0xe9)
    const records = decode(concat(CgiProgram.opening([["REQUEST_METHOD", "GET"], [text("PATH_INFO"), latin1]])))
    assert.deepStrictEqual(records.map(({ _tag }) => _tag), ["BeginRequest", "Params", "Params"])
    assert.deepInclude(records[0], { role: R.Role.Responder, flags: 0, requestId: 1 })
    const params = FastCgiParams.fromBytes((records[1] as R.Params).content) as FastCgiParams.FastCgiParams
    assert.deepStrictEqual([...params], [["REQUEST_METHOD", "GET"], ["PATH_INFO", "/é"]])
    assert.strictEqual((records[2] as R.Params).content.length, 0)
    // An empty environment does not end PARAMS twice.
    assert.deepStrictEqual(decode(concat(CgiProgram.opening([]))).map(({ _tag }) => _tag), ["BeginRequest", "Params"])
  })

  it("passes on what is read, and its end", () => {
    const records = decode(concat([CgiProgram.stdin(text("abc")), CgiProgram.stdin(new Uint8Array(0))]))
    assert.deepStrictEqual(records.map((record) => `${record._tag} ${(record as R.Stdin).content.length}`), [
      "Stdin 3",
      "Stdin 0"
    ])
    // A read of Node's is a byte longer than a record can be.
    const long = decode(CgiProgram.stdin(new Uint8Array(65_536).fill(7)))
    assert.strictEqual(long.reduce((size, record) => size + (record as R.Stdin).content.length, 0), 65_536)
  })

  it("writes STDOUT and STDERR until END_REQUEST, however the bytes are cut", () => {
    const bytes = concat([
      R.stdout(1, text("Status: 200 OK\r\n\r\n")),
      R.stderr(1, text("oops")),
      R.stdout(1, new Uint8Array(3000).fill(0x61)),
      R.stderr(1),
      R.stdout(1),
      R.endRequest(1, 938),
      R.stdout(1, text("too late")),
      R.endRequest(1, 1)
    ].map((record) => FastCgiEncoder.encode(record)))
    for (const size of [1, 7, 8, 9, 1000, bytes.length]) {
      const said = { stdout: "", stderr: "", ends: [] as Array<number> }
      const answer = CgiProgram.makeAnswer({
        stdout: (content) => {
          assert.deepStrictEqual(said.ends, [])
          assert.isAbove(content.length, 0)
          said.stdout += new TextDecoder().decode(content)
        },
        stderr: (content) => {
          said.stderr += new TextDecoder().decode(content)
        },
        end: (appStatus) => said.ends.push(appStatus)
      })
      for (let at = 0; at < bytes.length; at += size) answer(bytes.subarray(at, at + size))
      assert.deepStrictEqual(said, {
        stdout: `Status: 200 OK\r\n\r\n${"a".repeat(3000)}`,
        stderr: "oops",
        ends: [938]
      })
    }
  })

  it("exits with the status, as far as an exit status can say it", () => {
    assert.deepStrictEqual([0, 1, 255, 256, 938, 0xffffffff].map(CgiProgram.exitStatus), [0, 1, 255, 255, 255, 255])
  })
})
