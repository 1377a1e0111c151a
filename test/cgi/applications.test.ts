/**
 * What real applications answered, read by the client's parts: php-fpm, fcgiwrap and one on libfcgi.
 */
import { assert, describe, it } from "@effect/vitest"
import { CgiResponse, FastCgiDecoder, type FastCgiRecord } from "effect-fastcgi"
import { concat, oneByOne } from "../protocol/support/cuts.ts"
import { list, read } from "../vectors/vectors.ts"

interface Answer {
  readonly status: number
  readonly headers: ReadonlyArray<readonly [string, string]>
  readonly body: string
}

/** The answers in a file by request id, each chunk of bytes decoded as if it had come alone. */
const answers = (chunks: Iterable<Uint8Array>): ReadonlyMap<number, Answer> => {
  const decoder = FastCgiDecoder.make()
  const stdout = new Map<
    number,
    { readonly parser: CgiResponse.CgiHeadParser; head?: CgiResponse.CgiHead; body: string }
  >()
  const ended = new Map<number, Answer>()
  for (const chunk of chunks) {
    const records: Array<FastCgiRecord.FastCgiRecord> = []
    assert.isUndefined(decoder.push(chunk, records))
    for (const record of records) {
      if (record._tag === "Stdout") {
        const request = stdout.get(record.requestId) ?? { parser: CgiResponse.makeHeadParser(), body: "" }
        stdout.set(record.requestId, request)
        if (record.content.length === 0) continue
        let content = record.content
        if (request.head === undefined) {
          const parsed = request.parser.push(content)
          if (parsed === undefined) continue
          if (parsed._tag !== "CgiHead") assert.fail(parsed.message)
          request.head = parsed
          content = parsed.rest
        }
        request.body += String.fromCharCode(...content)
      } else if (record._tag === "EndRequest" && record.protocolStatus === 0) {
        const { body, head } = stdout.get(record.requestId)!
        assert.isDefined(head, "the request ended before its head did")
        ended.set(record.requestId, { status: head!.status, headers: head!.headers, body })
        stdout.delete(record.requestId)
      }
    }
  }
  assert.isUndefined(decoder.end())
  return ended
}

const file = (name: string): Uint8Array => read(`server-side/${name}.out.bin`)

const php: Answer["headers"] = [["X-From", "fpm"], ["Content-type", "text/html; charset=UTF-8"]]
const wrap: Answer["headers"] = [["Content-Type", "text/plain"], ["X-From", "fcgiwrap"]]

describe("what applications answer", () => {
  it("decodes and parses, whole and one byte at a time", () => {
    const files = list("server-side")
    assert.isAbove(files.length, 50)
    for (const name of files) {
      const bytes = read(`server-side/${name}`)
      const whole = answers([bytes])
      assert.deepStrictEqual(answers(oneByOne(bytes)), whole, name)
    }
  })

  const rows: ReadonlyArray<readonly [name: string, id: number, Answer]> = [
    ["php-fpm-get", 1, { status: 200, headers: php, body: "php GET 0\n" }],
    ["php-fpm-post", 1, { status: 200, headers: php, body: "php POST 5\n" }],
    // It believes CONTENT_LENGTH, not the end of STDIN.
    ["php-fpm-post-no-cl", 1, { status: 200, headers: php, body: "php POST 0\n" }],
    ["php-fpm-id-65535", 65535, { status: 200, headers: php, body: "php GET 0\n" }],
    ["php-fpm-getvalues-then-request", 1, { status: 200, headers: php, body: "php GET 0\n" }],
    ["php-fpm-missing-script", 1, {
      status: 404,
      headers: [["Content-type", "text/html; charset=UTF-8"]],
      body: "File not found.\n"
    }],
    ["fcgiwrap-get", 1, { status: 200, headers: wrap, body: "cgi GET 0\n" }],
    ["fcgiwrap-post", 1, { status: 200, headers: wrap, body: "cgi POST 5\n" }],
    ["fcgiwrap-stderr", 1, { status: 200, headers: wrap, body: "cgi GET 0\n" }],
    ["fcgiwrap-missing-script", 1, {
      status: 403,
      headers: [["Content-Type", "text/plain"]],
      body: "403 Forbidden\r\n"
    }],
    // The second of two at once was refused (CANT_MPX_CONN), the first answered.
    ["fcgiwrap-mpx-two", 1, { status: 200, headers: wrap, body: "cgi GET 0\n" }],
    ["libfcgi-post", 1, {
      status: 200,
      headers: [["Content-Type", "text/plain"]],
      body: "pid=23016 n=7 role=RESPONDER stdin=5 uri=/ keep=0 data=-\n"
    }],
    ["libfcgi-filter", 1, {
      status: 200,
      headers: [["Content-Type", "text/plain"]],
      body: "pid=23016 n=11 role=FILTER stdin=0 uri=/ keep=0 data=4\n"
    }]
  ]
  for (const [name, id, answer] of rows) {
    it(name, () => assert.deepStrictEqual([...answers([file(name)])], [[id, answer]]))
  }

  it("nothing, in a few cases: the output ends without a head", () => {
    for (const name of ["php-fpm-unknown-role", "fcgiwrap-authorizer", "libfcgi-unknown-role"]) {
      assert.strictEqual(file(name).length, 0)
    }
    const error = CgiResponse.makeHeadParser().end()
    assert.strictEqual(error.reason._tag, "TruncatedHead")
    assert.match(error.message, /without a response head/)
  })

  it("php-fpm answers two requests on one connection, without the empty STDOUT between", () => {
    const bytes = file("php-fpm-keep-two-pipelined")
    const half = bytes.length / 2
    assert.deepStrictEqual([...bytes.subarray(0, half)], [...bytes.subarray(half)])
    assert.deepStrictEqual([...answers([bytes.subarray(0, half)])], [[1, {
      status: 200,
      headers: php,
      body: "php GET 0\n"
    }]])
    assert.deepStrictEqual(answers([concat([bytes])]).get(1)?.body, "php GET 0\n")
  })
})
