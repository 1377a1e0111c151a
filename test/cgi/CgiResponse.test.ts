import { assert, describe, it } from "@effect/vitest"
import { CgiResponse } from "effect-fastcgi"
import * as Arbitrary from "effect/Arbitrary"
import * as Headers from "effect/http/Headers"
import * as Schema from "effect/Schema"
import { ascii, cut, oneByOne, random } from "../protocol/support/cuts.ts"
import { cpuTime } from "../support/cpuTime.ts"

const encode = (
  status: number,
  headers: CgiResponse.CgiHeaders = {},
  setCookies: ReadonlyArray<string> = [],
  statusText?: string
): string | CgiResponse.CgiHeadError => CgiResponse.encodeHead(status, statusText, headers, setCookies)

const kind = (result: unknown): string =>
  result instanceof CgiResponse.CgiHeadError ? result.reason._tag : JSON.stringify(result)

describe("encodeHead", () => {
  it("is an explicit Status, the headers as they are named, and a blank line", () => {
    assert.strictEqual(encode(200), "Status: 200 OK\r\n\r\n")
    assert.strictEqual(
      encode(404, { "content-type": "text/plain", "X-Mixed": "a\tb", "x-empty": "" }),
      "Status: 404 Not Found\r\ncontent-type: text/plain\r\nX-Mixed: a\tb\r\nx-empty: \r\n\r\n"
    )
  })

  it("always has a reason phrase: the one given, the usual one, or one for the class", () => {
    const rows: ReadonlyArray<readonly [number, string | undefined, string]> = [
      [201, undefined, "Status: 201 Created\r\n\r\n"],
      [304, "", "Status: 304 Not Modified\r\n\r\n"],
      [299, undefined, "Status: 299 Success\r\n\r\n"],
      [399, undefined, "Status: 399 Redirection\r\n\r\n"],
      [498, undefined, "Status: 498 Client Error\r\n\r\n"],
      [599, undefined, "Status: 599 Server Error\r\n\r\n"],
      [200, "Fine", "Status: 200 Fine\r\n\r\n"],
      [200, "Trés bien", "Status: 200 Trés bien\r\n\r\n"],
      [200, undefined, "Status: 200 OK\r\n\r\n"]
    ]
    for (const [status, text, head] of rows) assert.strictEqual(encode(status, {}, [], text), head)
    for (let status = 200; status <= 599; status++) {
      assert.match(encode(status) as string, new RegExp(`^Status: ${status} [A-Z][A-Za-z' -]+\\r\\n\\r\\n$`))
    }
  })

  it("puts Location before Status: HAProxy 2.6 makes a 302 of a 201 otherwise", () => {
    for (const name of ["location", "Location", "LOCATION"]) {
      assert.strictEqual(
        encode(201, { "x-before": "1", [name]: "/new", "x-after": "2" }),
        `${name}: /new\r\nStatus: 201 Created\r\nx-before: 1\r\nx-after: 2\r\n\r\n`
      )
    }
  })

  it("gives every cookie a line of its own, even two that are equal", () => {
    assert.strictEqual(
      encode(200, { a: "b" }, ["x=1; Path=/", "x=1; Path=/", "y=2, z"]),
      "Status: 200 OK\r\na: b\r\nSet-Cookie: x=1; Path=/\r\nSet-Cookie: x=1; Path=/\r\nSet-Cookie: y=2, z\r\n\r\n"
    )
  })

  it("gives every value of a header a line of its own, and none to a header without values", () => {
    assert.strictEqual(
      encode(201, { Link: ["</a>", "</b>"], location: ["/new"], "x-none": [], "Set-Cookie": ["x=1"] }, ["y=2"]),
      "location: /new\r\nStatus: 201 Created\r\nLink: </a>\r\nLink: </b>\r\nSet-Cookie: x=1\r\nSet-Cookie: y=2\r\n\r\n"
    )
    assert.strictEqual(kind(encode(200, { Link: ["</a>", "</b>\r\nX: y"] })), "InvalidHeaderValue")
    assert.strictEqual(kind(encode(200, { "X Y": [] })), "InvalidHeaderName")
    assert.strictEqual(kind(encode(200, { "Content-Length": ["5", "5"] })), "InvalidHeaderValue")
    assert.strictEqual(encode(200, { "content-length": ["5"] }), "Status: 200 OK\r\ncontent-length: 5\r\n\r\n")
    assert.strictEqual(encode(200, { Connection: ["close", "x"], status: ["404"] }), "Status: 200 OK\r\n\r\n")
  })

  it("asks nginx not to collect server-sent events, unless the response says what to do", () => {
    for (const type of ["text/event-stream", "text/event-stream;charset=utf-8", "Text/Event-Stream ; a=b"]) {
      assert.strictEqual(
        encode(200, { "content-type": type, "x-a": "b" }),
        `Status: 200 OK\r\ncontent-type: ${type}\r\nx-a: b\r\nX-Accel-Buffering: no\r\n\r\n`
      )
    }
    for (
      const headers of [
        { "Content-Type": "text/event-stream", "x-accel-buffering": "yes" },
        { "X-Accel-Buffering": "no", "Content-Type": "text/event-stream" },
        { "Content-Type": "text/event-streams" },
        { "Content-Type": "text/html", "x-type": "text/event-stream" }
      ]
    ) {
      const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
      assert.strictEqual(encode(200, headers as never), `Status: 200 OK\r\n${lines.join("")}\r\n`)
    }
  })

  it("leaves out what belongs to one hop, and a header named Status", () => {
    for (
      const name of [
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "HTTP2-Settings",
        "Status"
      ]
    ) {
      for (const spelled of [name, name.toLowerCase(), name.toUpperCase()]) {
        assert.strictEqual(encode(200, { [spelled]: "200 x", a: "b" }), "Status: 200 OK\r\na: b\r\n\r\n", spelled)
        // It is remembered, and still left out.
        assert.strictEqual(encode(200, { [spelled]: "close" }), "Status: 200 OK\r\n\r\n", spelled)
      }
    }
    assert.isTrue(CgiResponse.isHopByHop("transfer-encoding"))
    assert.isFalse(CgiResponse.isHopByHop("content-length"))
  })

  it("end-to-end headers are neither of one hop nor named by Connection, but for Content-Length", () => {
    assert.deepStrictEqual(
      CgiResponse.endToEndHeaders([
        ["X-One", "1"],
        ["Connection", "close, x-one, Content-Length"],
        ["Content-Length", "5"],
        ["CONNECTION", "X-Two"],
        ["Transfer-Encoding", "identity"],
        ["x-two", "2"],
        ["X-Three", "3"]
      ]),
      [["Content-Length", "5"], ["X-Three", "3"]]
    )
  })

  it("takes Effect's Headers and objects without prototype as they are", () => {
    assert.strictEqual(encode(200, Headers.fromInput({ A: "b" })), "Status: 200 OK\r\na: b\r\n\r\n")
    assert.strictEqual(
      encode(200, Object.assign(Object.create(null) as Record<string, string>, { constructor: "x", toString: "y" })),
      "Status: 200 OK\r\nconstructor: x\r\ntoString: y\r\n\r\n"
    )
  })

  it("sends bytes above 0x7f as they are, and nothing above 0xff", () => {
    assert.strictEqual(encode(200, { a: "\u0080é\u00ff" }), "Status: 200 OK\r\na: \u0080é\u00ff\r\n\r\n")
    assert.strictEqual(kind(encode(200, { a: "€" })), "InvalidHeaderValue")
    assert.strictEqual(kind(encode(200, {}, ["a=\u0100"])), "InvalidHeaderValue")
    assert.strictEqual(kind(encode(200, {}, [], "€")), "InvalidStatusText")
  })

  it("refuses a status that is no final status", () => {
    for (
      const status of [
        0,
        100,
        101,
        199,
        600,
        1000,
        -200,
        200.5,
        Number.NaN,
        Infinity,
        undefined as never
      ]
    ) {
      assert.strictEqual(kind(encode(status)), "InvalidStatus", String(status))
      assert.strictEqual(kind(encode(status, {}, [], "x")), "InvalidStatus", String(status))
    }
  })

  it("takes as much as a record holds, and no byte more", () => {
    const size = "Status: 200 OK\r\nA: \r\n\r\n".length
    assert.strictEqual(
      CgiResponse.encodeHead(200, undefined, { A: "v".repeat(65_535 - size) }, []).toString().length,
      65_535
    )
    const error = CgiResponse.encodeHead(200, undefined, { A: "v".repeat(65_536 - size) }, [])
    assert.strictEqual(typeof error === "string" ? undefined : error.reason._tag, "HeadTooLarge")
  })

  describe("refuses what could end its line, or the head", () => {
    const controls = Array.from({ length: 32 }, (_, code) => String.fromCharCode(code)).filter((c) => c !== "\t")
      .concat("\x7f")
    const attacks = [
      "x\r\nSet-Cookie: admin=1",
      "x\nSet-Cookie: admin=1",
      "x\rSet-Cookie: admin=1",
      "x\r\n\r\n<script>",
      "\r\n",
      "x\0",
      "x\u010dset-cookie: admin=1", // U+010D and U+010A become CR and LF when the high byte is cut off.
      "x\u010aset-cookie: admin=1",
      ...controls.map((control) => `a${control}b`)
    ]
    it("in values", () => {
      for (const attack of attacks) {
        assert.strictEqual(
          kind(encode(200, { ok: "1", "x-value": attack })),
          "InvalidHeaderValue",
          JSON.stringify(attack)
        )
        assert.strictEqual(kind(encode(302, { location: attack })), "InvalidHeaderValue", JSON.stringify(attack))
      }
    })
    it("in cookies", () => {
      for (const attack of attacks) assert.strictEqual(kind(encode(200, {}, ["a=1", attack])), "InvalidHeaderValue")
    })
    it("in reason phrases", () => {
      for (const attack of attacks) assert.strictEqual(kind(encode(200, {}, [], attack)), "InvalidStatusText")
    })
    it("in names", () => {
      const names = [
        "",
        " ",
        "a b",
        "a:b",
        "a\r\nb",
        "a\n",
        "\0",
        "é",
        "a\t",
        ":status",
        "Status:",
        "(a)",
        "a/b",
        "a\"",
        "a,b"
      ]
      for (const name of [...names, ...attacks]) {
        assert.strictEqual(kind(encode(200, { [name]: "x" })), "InvalidHeaderName", JSON.stringify(name))
      }
      assert.strictEqual(typeof encode(200, { "!#$%&'*+-.^_`|~0aZ": "x" }), "string")
    })
    it("and says which header without repeating its value, nor its name as it is", () => {
      const value = encode(200, { "x-token": "secret\n" }) as CgiResponse.CgiHeadError
      assert.include(value.message, "\"x-token\"")
      assert.notInclude(value.message, "secret")
      const name = encode(200, { "a\r\nb": "x" }) as CgiResponse.CgiHeadError
      assert.include(name.message, "\"a\\r\\nb\"")
      assert.notInclude(name.message, "\n")
    })
  })

  it("stays right when more names are used than are remembered", () => {
    for (let i = 0; i < 3000; i++) {
      assert.strictEqual(encode(200, { [`x-${i}`]: "v" }), `Status: 200 OK\r\nx-${i}: v\r\n\r\n`)
    }
    assert.strictEqual(kind(encode(200, { "a b": "x" })), "InvalidHeaderName")
    assert.strictEqual(encode(200, { Connection: "close" }), "Status: 200 OK\r\n\r\n")
  })
})

const parse = (
  chunks: Iterable<Uint8Array>,
  options?: CgiResponse.CgiHeadParserOptions
): CgiResponse.CgiHead | CgiResponse.CgiHeadError => {
  const parser = CgiResponse.makeHeadParser(options)
  for (const chunk of chunks) {
    const result = parser.push(chunk)
    if (result !== undefined) return result
  }
  return parser.end()
}

/** Parses text whole and one byte at a time, which has to be the same but for where the body begins to come. */
const parseText = (text: string): CgiResponse.CgiHead | CgiResponse.CgiHeadError => {
  const whole = parse([ascii(text)])
  const pieces = parse(oneByOne(ascii(text)))
  if (whole._tag === "CgiHead" && pieces._tag === "CgiHead") {
    assert.deepStrictEqual({ ...pieces, rest: undefined }, { ...whole, rest: undefined } as never)
    assert.strictEqual(pieces.rest.length, 0)
  } else {
    assert.strictEqual(kind(pieces), kind(whole))
  }
  return whole
}

const head = (text: string): {
  readonly status: number
  readonly statusText: string
  readonly headers: ReadonlyArray<readonly [string, string]>
  readonly local: string | undefined
  readonly body: string
} => {
  const parsed = parseText(text)
  if (parsed._tag !== "CgiHead") assert.fail(`${parsed.reason._tag}: ${parsed.message}`)
  return {
    status: parsed.status,
    statusText: parsed.statusText,
    headers: parsed.headers,
    local: parsed.localRedirect,
    body: String.fromCharCode(...parsed.rest)
  }
}

describe("makeHeadParser", () => {
  it("separates status, headers and the first of the body", () => {
    assert.deepStrictEqual(head("Status: 404 Not Found\r\nContent-Type: text/plain\r\nX-A: b\r\n\r\nbody\r\n\r\n"), {
      status: 404,
      statusText: "Not Found",
      headers: [["Content-Type", "text/plain"], ["X-A", "b"]],
      local: undefined,
      body: "body\r\n\r\n"
    })
  })

  it("accepts LF alone, and both mixed", () => {
    assert.deepStrictEqual(head("Status: 202 A\nX-A: b\n\nx").headers, [["X-A", "b"]])
    assert.strictEqual(head("Status: 202 A\nX-A: b\n\nx").body, "x")
    assert.strictEqual(head("X-A: b\r\n\nx").body, "x")
    assert.strictEqual(head("X-A: b\n\r\nx").body, "x")
    assert.deepStrictEqual(head("X-A: b\n\r\nx").headers, [["X-A", "b"]])
  })

  it("accepts any case, no space and many spaces", () => {
    assert.deepStrictEqual(
      head("sTATUS:202 Fine Enough  \r\ncontent-type:\t text/plain \t\r\nx-empty:\r\nx-b : c\r\n\r\n"),
      {
        status: 202,
        statusText: "Fine Enough",
        headers: [["content-type", "text/plain"], ["x-empty", ""], ["x-b", "c"]],
        local: undefined,
        body: ""
      }
    )
  })

  it("joins folded lines with a space", () => {
    assert.deepStrictEqual(head("X-Fold: one\r\n two\r\n\t three \r\nX-B:\r\n later\r\n\r\n").headers, [
      ["X-Fold", "one two three"],
      ["X-B", "later"]
    ])
  })

  it("accepts no header at all", () => {
    assert.deepStrictEqual(head("\r\nbody"), {
      status: 200,
      statusText: "OK",
      headers: [],
      local: undefined,
      body: "body"
    })
    assert.strictEqual(head("\nbody").body, "body")
  })

  it("keeps the order and the duplicates of headers, Set-Cookie among them", () => {
    assert.deepStrictEqual(head("Set-Cookie: a=1\r\nX: 1\r\nSet-Cookie: b=2\r\nX: 2\r\n\r\n").headers, [
      ["Set-Cookie", "a=1"],
      ["X", "1"],
      ["Set-Cookie", "b=2"],
      ["X", "2"]
    ])
  })

  it("has one character per byte", () => {
    assert.deepStrictEqual(head("X: Ã©\u0080\r\n\r\n").headers, [["X", "Ã©\u0080"]])
  })

  describe("status", () => {
    const rows: ReadonlyArray<readonly [text: string, status: number, statusText: string, local: string | undefined]> =
      [
        ["Status: 201\r\n\r\n", 201, "Created", undefined],
        ["Status: 599 Odd\r\n\r\n", 599, "Odd", undefined],
        ["X-A: b\r\nStatus: 299 My Own\r\n\r\n", 299, "My Own", undefined],
        ["Status: 200 OK\r\nStatus: 500 No\r\n\r\n", 200, "OK", undefined],
        ["HTTP/1.1 203 Other\r\nX-A: b\r\n\r\n", 203, "Other", undefined],
        ["HTTP/1.0 404\r\n\r\n", 404, "Not Found", undefined],
        ["HTTP/2 200 \r\n\r\n", 200, "OK", undefined],
        ["HTTP/1.1 203 Other\r\nStatus: 500 No\r\n\r\n", 203, "Other", undefined],
        ["X-A: b\r\n\r\n", 200, "OK", undefined],
        ["Location: http://other.test/x\r\n\r\n", 302, "Found", undefined],
        ["Location: relative\r\n\r\n", 302, "Found", undefined],
        ["location: /local?a=1\r\n\r\n", 302, "Found", "/local?a=1"],
        ["Location: //other.test/x\r\n\r\n", 302, "Found", undefined],
        ["Location: /new\r\nStatus: 201 Created\r\n\r\n", 201, "Created", undefined],
        ["Status: 303 See Other\r\nLocation: /new\r\n\r\n", 303, "See Other", undefined]
      ]
    for (const [text, status, statusText, local] of rows) {
      it(`${JSON.stringify(text)} is ${status} ${statusText}${local === undefined ? "" : ", a local redirect"}`, () => {
        const parsed = head(text)
        assert.strictEqual(parsed.status, status)
        assert.strictEqual(parsed.statusText, statusText)
        assert.strictEqual(parsed.local, local)
        assert.isFalse(parsed.headers.some(([name]) => name.toLowerCase() === "status"))
      })
    }

    it("of interim responses is not the status: they are skipped", () => {
      const text =
        "Status: 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nStatus: 200 OK\r\nX: 1\r\n\r\nbody"
      assert.deepStrictEqual(head(text), {
        status: 200,
        statusText: "OK",
        headers: [["X", "1"]],
        local: undefined,
        body: "body"
      })
      for (let point = 0; point <= text.length; point++) {
        const parsed = parse(cut(ascii(text), [point]))
        assert.strictEqual(parsed._tag === "CgiHead" ? parsed.status : parsed.reason._tag, 200, `cut at ${point}`)
      }
    })
  })

  it("keeps the blank line apart from the body at every cut, and passes on all of the body", () => {
    for (const newline of ["\r\n", "\n"]) {
      const text = `Status: 200 OK${newline}X: 1${newline}${newline}body${newline}${newline}more`
      const bytes = ascii(text)
      for (let point = 0; point <= bytes.length; point++) {
        const chunks = cut(bytes, [point])
        const parser = CgiResponse.makeHeadParser()
        let body = ""
        let found: CgiResponse.CgiHead | undefined
        for (const chunk of chunks) {
          if (found !== undefined) {
            body += String.fromCharCode(...chunk)
            continue
          }
          const parsed = parser.push(chunk)
          if (parsed === undefined) continue
          assert.strictEqual(parsed._tag, "CgiHead")
          found = parsed as CgiResponse.CgiHead
          body += String.fromCharCode(...found.rest)
        }
        assert.deepStrictEqual(found?.headers, [["X", "1"]])
        assert.strictEqual(body, `body${newline}${newline}more`)
      }
    }
  })

  describe("errors", () => {
    const rows: ReadonlyArray<readonly [text: string, kind: CgiResponse.CgiHeadErrorReason["_tag"]]> = [
      ["this is no header block\r\n\r\n", "InvalidHeaderName"],
      ["<html><body>hi</body></html>\n\n", "InvalidHeaderName"],
      ["PHP Fatal error:  Uncaught Error\n\n", "InvalidHeaderName"],
      ["X-A: b\r\nno colon\r\n\r\n", "InvalidHeaderName"],
      [": no name\r\n\r\n", "InvalidHeaderName"],
      [" folded first\r\n\r\n", "InvalidHeaderName"],
      [" X: folded first\r\n\r\n", "InvalidHeaderName"],
      ["X Y: z\r\n\r\n", "InvalidHeaderName"],
      ["X: a\0b\r\n\r\n", "InvalidHeaderValue"],
      ["X: a\rb\r\n\r\n", "InvalidHeaderValue"],
      ["X: a\r\r\n\r\n", "InvalidHeaderValue"],
      ["X: a\r\n b\x01\r\n\r\n", "InvalidHeaderValue"],
      ["Status: abc\r\n\r\n", "InvalidStatus"],
      ["Status: 200OK\r\n\r\n", "InvalidStatus"],
      ["Status: \r\n\r\n", "InvalidStatus"],
      ["Status: 99 x\r\n\r\n", "InvalidStatus"],
      ["Status: 600 x\r\n\r\n", "InvalidStatus"],
      ["Status: 1000\r\n\r\n", "InvalidStatus"],
      ["Status: 101 Switching Protocols\r\n\r\n", "InvalidStatus"],
      ["HTTP/1.1 abc\r\n\r\n", "InvalidStatus"],
      ["HTTP/1.1 200 a\0b\r\n\r\n", "InvalidStatusText"],
      ["Status: 200 OK\r\nHTTP/1.1 200 OK\r\n\r\n", "InvalidHeaderName"],
      ["Status: 200 OK\r\nX: 1\r\n", "TruncatedHead"],
      ["Status: 103 Early Hints\r\n\r\n", "TruncatedHead"],
      ["Status: 200", "TruncatedHead"],
      ["", "TruncatedHead"]
    ]
    for (const [text, expected] of rows) {
      it(`${JSON.stringify(text)} is ${expected}`, () => assert.strictEqual(kind(parseText(text)), expected))
    }

    it("say what came, in one line and not at length", () => {
      const error = parseText(`<html>${"x".repeat(500)}\x1b[31m\r\n\r\n`) as CgiResponse.CgiHeadError
      assert.include(error.message, "<html>xxx")
      assert.isBelow(error.message.length, 200)
      const status = parseText("Status: a\u0007c\r\n\r\n") as CgiResponse.CgiHeadError
      assert.notInclude(status.message, "\u0007")
    })
  })

  describe("size", () => {
    const text = "X: 123456\r\n\r\n"
    const size = text.length

    it("of exactly maxHeadSize is accepted, one byte more is not, whatever is cut where", () => {
      for (const chunks of [[ascii(text + "body")], oneByOne(ascii(text + "body")), cut(ascii(text + "body"), [5])]) {
        assert.strictEqual(parse(chunks, { maxHeadSize: size })._tag, "CgiHead")
        assert.strictEqual(kind(parse(chunks, { maxHeadSize: size - 1 })), "HeadTooLarge")
      }
    })

    it("of a head without an end is refused as soon as it is too long", () => {
      const parser = CgiResponse.makeHeadParser({ maxHeadSize: 100 })
      assert.isUndefined(parser.push(ascii("X: ".padEnd(100, "y"))))
      assert.strictEqual(kind(parser.push(ascii("y"))), "HeadTooLarge")
    })

    it("of the body that comes with the head does not count", () => {
      const parsed = parse([ascii(text + "b".repeat(1000))], { maxHeadSize: size })
      assert.strictEqual(parsed._tag === "CgiHead" ? parsed.rest.length : -1, 1000)
    })

    it("counts interim heads, so that they can not go on for ever", () => {
      const interim = ascii("Status: 103 Early Hints\r\n\r\n")
      const parser = CgiResponse.makeHeadParser({ maxHeadSize: 10 * interim.length })
      for (let i = 0; i < 10; i++) assert.isUndefined(parser.push(interim))
      assert.strictEqual(kind(parser.push(interim)), "HeadTooLarge")
    })

    it("is 64 KiB by default", () => {
      const long = (length: number) => ascii("X: ".padEnd(length - 4, "y") + "\r\n\r\n")
      assert.strictEqual(parse([long(65536)])._tag, "CgiHead")
      assert.strictEqual(kind(parse([long(65537)])), "HeadTooLarge")
    })
  })
})

// What took seconds to minutes when a run of spaces, or all of a folded value, was looked at again and again.
describe("a head that was made to be slow", () => {
  const many = 60_000
  const rows: ReadonlyArray<readonly [what: string, text: string, expected: string]> = [
    ["spaces inside of a value", `X: a${" ".repeat(many)}b\r\n\r\n`, "CgiHead"],
    ["tabs inside of a value", `X: a${"\t".repeat(many)}b\r\n\r\n`, "CgiHead"],
    ["spaces inside of a name", `X${" ".repeat(many)}Y: b\r\n\r\n`, "InvalidHeaderName"],
    ["spaces and no colon", `X${" ".repeat(many)}Y\r\n\r\n`, "InvalidHeaderName"],
    ["spaces behind the version", `HTTP/1.1${" ".repeat(many)}\rx\r\n\r\n`, "InvalidStatus"],
    ["spaces inside of a status line", `HTTP/1.1 200${" ".repeat(many)}\rx\r\n\r\n`, "InvalidStatusText"],
    ["digits of a version", `HTTP/${"1".repeat(many)}x 200\r\n\r\n`, "InvalidHeaderName"],
    ["dots of a version", `HTTP/${"1.".repeat(many / 2)} 200\r\n\r\n`, "InvalidHeaderName"],
    ["spaces inside of Status", `Status: 200${" ".repeat(many)}OK\r\n\r\n`, "CgiHead"],
    ["folded lines", `X: a\r\n${" b\r\n".repeat(14_000)}\r\n`, "CgiHead"],
    ["folded lines of one space", `X: a\n${" \n".repeat(30_000)}\n`, "CgiHead"],
    ["folded lines of spaces", `X:\n${`${" ".repeat(200)}b\n`.repeat(300)}\n`, "CgiHead"],
    ["short headers", `${"a:\n".repeat(20_000)}\n`, "CgiHead"],
    ["interim heads", `${"Status: 100\n\n".repeat(4_600)}\n`, "CgiHead"],
    ["statuses", `${"Status: 200\n".repeat(5_000)}\n`, "CgiHead"],
    ["locations", `${"Location: /\n".repeat(5_000)}\n`, "CgiHead"]
  ]
  for (const [what, text, expected] of rows) {
    for (const [how, chunks] of [["at once", [ascii(text)]], ["byte by byte", oneByOne(ascii(text))]] as const) {
      it(`is read in no time: ${what}, ${how}`, () => {
        const start = cpuTime()
        const parsed = parse(chunks)
        const took = cpuTime() - start
        assert.strictEqual(parsed._tag === "CgiHead" ? "CgiHead" : parsed.reason._tag, expected)
        assert.isBelow(took, 1000, "milliseconds")
      })
    }
  }

  it("has the value of all its folded lines", () => {
    assert.deepStrictEqual(head(`X: a\r\n${" b \r\n \r\n".repeat(3)}\tc\r\n\r\n`).headers, [["X", "a b b b c"]])
    assert.deepStrictEqual(head("X:\r\n \r\n\t\r\n\r\n").headers, [["X", ""]])
  })
})

const integer = (minimum: number, maximum: number) =>
  Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum, maximum })))

describe("both", () => {
  // What has to be refused is rare enough that most heads are sent.
  const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ--__--__%%%% :;,=\t\r\n\0é€\"/"
  const string = Arbitrary.map(
    Arbitrary.array(integer(0, alphabet.length - 1), { maxLength: 12 }),
    (indexes) => indexes.map((index) => alphabet[index]).join("")
  )
  const trimmed = (value: string) => value.replace(/^[ \t]+|[ \t]+$/g, "")

  it.prop(
    "what is encoded is what is parsed, and nothing that was not there gets in",
    {
      status: integer(150, 650),
      text: string,
      headers: Arbitrary.array(Arbitrary.all([string, string]), { maxLength: 4 }),
      cookies: Arbitrary.array(string, { maxLength: 2 })
    },
    ({ cookies, headers, status, text }) => {
      const record = Object.fromEntries(headers)
      const encoded = CgiResponse.encodeHead(status, text, record, cookies)
      if (typeof encoded !== "string") {
        const invalidStatus = status < 200 || status > 599
        const invalid = (value: string) => /[\r\n\0€]/.test(value)
        assert.isTrue(
          invalidStatus || invalid(text) || cookies.some(invalid) ||
            Object.entries(record).some(([name, value]) => !/^[A-Za-z\-_%]+$/.test(name) || invalid(value)),
          `${encoded.reason._tag}: nothing to refuse`
        )
        return
      }
      const parsed = parse([ascii(encoded)])
      if (parsed._tag !== "CgiHead") assert.fail(parsed.message)
      assert.strictEqual(parsed.status, status)
      assert.strictEqual(parsed.rest.length, 0)
      assert.deepStrictEqual(parsed.headers, [
        // Of the names that chance makes, "te" and "status" may not pass.
        ...Object.entries(record).filter(([name]) => name.toLowerCase() !== "te" && name.toLowerCase() !== "status")
          .map(([name, value]) => [name, trimmed(value)] as const),
        ...cookies.map((cookie) => ["Set-Cookie", trimmed(cookie)] as const)
      ])
    },
    { arbitrary: { runs: 500 } }
  )

  it.prop(
    "arbitrary bytes never throw, and are the same head at any fragmentation",
    { bytes: Arbitrary.array(integer(0, 15), { maxLength: 60 }), seed: integer(0, 1_000_000) },
    ({ bytes, seed }) => {
      const pieces = [
        "\r\n",
        "\n",
        ":",
        " ",
        "X",
        "Status: 200 OK",
        "Status: 103",
        "HTTP/1.1 ",
        "Location: /",
        "\r",
        "\0",
        "a",
        "é",
        "\t",
        "\r\n\r\n",
        "404"
      ]
      const text = ascii(bytes.map((index) => pieces[index]).join(""))
      const options = { maxHeadSize: 200 }
      const whole = parse([text], options)
      const next = random(seed)
      const points = Array.from({ length: 5 }, () => Math.floor(next() * text.length))
      for (const chunks of [oneByOne(text), cut(text, points)]) {
        const cutUp = parse(chunks, options)
        if (whole._tag === "CgiHead" && cutUp._tag === "CgiHead") {
          assert.deepStrictEqual({ ...cutUp, rest: 0 }, { ...whole, rest: 0 } as never)
        } else {
          assert.strictEqual(kind(cutUp), kind(whole))
        }
      }
    },
    { arbitrary: { runs: 500, size: 60 } }
  )
})
