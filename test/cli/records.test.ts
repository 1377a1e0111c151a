/**
 * What is shown of records: where each begins, what it says, and the lines and the JSON that are made of it.
 */
import { assert, describe, it } from "@effect/vitest"
import { type Answered, differences } from "../../src/cli/capture/answers.ts"
import { Show } from "../../src/cli/capture/show.ts"
import { Describer, type Description } from "../../src/cli/records/description.ts"
import { lines } from "../../src/cli/records/lines.ts"
import { isRecord, RecordReader } from "../../src/cli/records/recordReader.ts"
import * as FastCgiEncoder from "../../src/protocol/FastCgiEncoder.ts"
import * as FastCgiParams from "../../src/protocol/FastCgiParams.ts"
import * as FastCgiRecord from "../../src/protocol/FastCgiRecord.ts"

const text = (value: string) => Buffer.from(value)

const conversation = Buffer.concat([
  FastCgiEncoder.encode(FastCgiRecord.beginRequest(1, 1, { keepConnection: true })),
  FastCgiEncoder.encode(
    FastCgiRecord.params(1, FastCgiParams.encodePairs([["REQUEST_METHOD", "GET"], ["X", "a\x1bb"]]))
  ),
  FastCgiEncoder.encode(FastCgiRecord.params(1)),
  FastCgiEncoder.encode(FastCgiRecord.stdin(1)),
  FastCgiEncoder.encode(FastCgiRecord.stdout(1, text("Status: 200 OK\r\n\r\nhello\n"))),
  FastCgiEncoder.encode(FastCgiRecord.stdout(1, Buffer.from([0, 1, 2, 255]))),
  FastCgiEncoder.encode(FastCgiRecord.endRequest(1, 7, FastCgiRecord.ProtocolStatus.Overloaded)),
  FastCgiEncoder.encode(FastCgiRecord.unrecognized(99))
])

const describedIn = (bytes: Uint8Array, size: number): ReadonlyArray<Description> => {
  const reader = new RecordReader()
  const describer = new Describer()
  const found: Array<ReturnType<RecordReader["push"]>[number]> = []
  for (let at = 0; at < bytes.length; at += size) found.push(...reader.push(bytes.subarray(at, at + size)))
  const left = reader.end()
  return [...found, ...(left === undefined ? [] : [left])].map((one) =>
    isRecord(one) ? describer.record(one) : describer.noRecords(one, "web server")
  )
}

describe("a description of records", () => {
  it("is the same however the bytes come", () => {
    const whole = describedIn(conversation, conversation.length)
    assert.strictEqual(whole.length, 8)
    for (const size of [1, 3, 8, 17]) assert.deepStrictEqual(describedIn(conversation, size), whole)
  })

  it("says what the specification says", () => {
    const [begin, params, paramsEnd, stdinEnd, stdout, binary, end, unknown] = describedIn(conversation, 1000)
    assert.deepStrictEqual(begin, {
      from: "web server",
      offset: 0,
      type: "BEGIN_REQUEST",
      requestId: 1,
      contentLength: 8,
      paddingLength: 0,
      role: "Responder",
      keepConnection: true
    })
    assert.isUndefined(params!.pairs)
    assert.deepStrictEqual(paramsEnd!.pairs, [["REQUEST_METHOD", "GET"], ["X", "a\x1bb"]])
    assert.isTrue(stdinEnd!.end)
    assert.strictEqual(stdout!.text, "Status: 200 OK\r\n\r\nhello\n")
    assert.strictEqual(stdout!.from, "application")
    assert.strictEqual(binary!.base64, "AAEC/w==")
    assert.include(end, { appStatus: 7, protocolStatus: "OVERLOADED" })
    assert.include(unknown, { type: "99", problem: "an unknown type" })
  })

  it("says where records end, and what comes instead", () => {
    const http = describedIn(Buffer.concat([conversation, text("GET / HTTP/1.1\r\n")]), 7)
    assert.include(http.at(-1), { offset: conversation.length, problem: "not FastCGI: this is HTTP" })
    const tls = describedIn(Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3]), 10)
    assert.include(tls.at(-1), { offset: 0, problem: "not FastCGI: this is TLS" })
    const cut = describedIn(conversation.subarray(0, 20), 20)
    assert.include(cut.at(-1), { offset: 16, problem: "the bytes end inside a record" })
    const wrong = describedIn(Buffer.from([1, 3, 0, 1, 0, 2, 0, 0, 0, 0]), 10)
    assert.include(wrong[0], { type: "END_REQUEST", problem: "2 bytes of content instead of 8" })
  })

  it("is lines that a terminal does not obey", () => {
    const shown = describedIn(conversation, 1000).flatMap((one) => lines(one, { content: 40, prefix: "> " }))
    assert.deepStrictEqual(shown.map((line) => line.trimEnd()), [
      "> 00000000  BEGIN_REQUEST      id 1            8  Responder, keep the connection",
      "> 00000010  PARAMS             id 1         25+7",
      "> 00000038  PARAMS             id 1            0  end, 2 pairs",
      ">           REQUEST_METHOD  GET",
      ">           X               a\\x1bb",
      "> 00000040  STDIN              id 1            0  end",
      "> 00000048  STDOUT             id 1           24",
      ">           | Status: 200 OK",
      ">           |",
      ">           | hello",
      "> 00000068  STDOUT             id 1          4+4",
      ">           00 01 02 ff                                      ....",
      "> 00000078  END_REQUEST        id 1            8  appStatus 7, ! OVERLOADED",
      "> 00000088  99                 id 0            0  ! an unknown type"
    ])
  })

  it("is JSON that a terminal does not obey either, and that is the same value", () => {
    const said = "a\x7f\x85\x9b2J\x1b[2J\u2028\u202e\u2066 é"
    const show = new Show({ json: true, named: false, content: 40, paint: (_, text) => text })
    const connection = { number: 1, client: "", server: "", serverPort: 0 }
    const shown = show.events([{ _tag: "Opened", connection, time: 0 }, {
      _tag: "Bytes",
      connection,
      time: 0,
      fromClient: false,
      bytes: FastCgiEncoder.encode(FastCgiRecord.params(1, FastCgiParams.encodePairs([["X", said]])))
    }, {
      _tag: "Bytes",
      connection,
      time: 0,
      fromClient: false,
      bytes: FastCgiEncoder.encode(FastCgiRecord.params(1))
    }])
    // oxlint-disable-next-line no-control-regex -- what a terminal would obey is control characters
    assert.notMatch(shown, /[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/)
    assert.deepStrictEqual(JSON.parse(shown.trimEnd().split("\n").at(-1)!).pairs, [["X", said]])
  })

  it("is compared with another answer, which may have no such header", () => {
    const answer = (head: string): Answered => ({
      requestId: 1,
      name: "GET /",
      sent: true,
      stdout: [Buffer.from(`${head}\r\n\r\n`, "latin1")],
      stderr: [],
      end: undefined
    })
    const [same, other] = [answer("Status: 200 OK\r\nX-A: 1"), answer("Status: 200 OK\r\nX-B: \x85")]
    assert.deepStrictEqual(differences(same!, same!, new Set()), [])
    assert.deepStrictEqual(differences(same!, other!, new Set()), [
      "x-a: none, recorded \"1\"",
      "x-b: \"\\u0085\", recorded none"
    ])
  })

  it("is cut where there is more than is to be shown", () => {
    const [record] = describedIn(FastCgiEncoder.encode(FastCgiRecord.stdout(1, text("a".repeat(100)))), 1000)
    assert.deepStrictEqual(lines(record!, { content: 10 }).slice(1).map((line) => line.trim()), [
      `| ${"a".repeat(10)}`,
      "… 90 more characters"
    ])
    assert.strictEqual(lines(record!, { content: 0 }).length, 1)
    assert.strictEqual(lines(record!, { content: "all" })[1]!.trim(), `| ${"a".repeat(100)}`)
  })
})
