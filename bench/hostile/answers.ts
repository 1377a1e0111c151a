/** Attacks on the client by an application in memory, and on the gateway by that and by browsers. */
import { FastCgiParams, FastCgiRecord as R } from "effect-fastcgi"
import { FastCgiGateway, FastCgiHttpClient } from "effect-fastcgi/client"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Cookies from "effect/http/Cookies"
import * as Headers from "effect/http/Headers"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Stream from "effect/Stream"
import { type Attack, logs, type Side } from "./attack.ts"
import { encode, inRecords, KiB, latin1, notUtf8, padded, repeat } from "./bytes.ts"
import { AttackTransport } from "./transport.ts"

/** An application that answers every request with the same bytes, read by read. */
class Application extends AttackTransport {
  private readonly answer: Uint8Array
  private at: number

  constructor(answer: Uint8Array) {
    super()
    this.answer = answer
    this.at = answer.length
  }

  // The requests here are written at once, without a body behind them. A socket never brings the answer while they are.
  writeUnsafe(): void {
    this.at = 0
    queueMicrotask(() => this.deliver())
  }

  private deliver(): void {
    while (!this.paused && !this.over && this.at < this.answer.length) {
      // A socket brings every read in memory of its own.
      const chunk = this.answer.slice(this.at, this.at + 64 * KiB)
      this.at += chunk.length
      this.reader!.onRead([chunk])
    }
  }

  override resumeUnsafe(): void {
    super.resumeUnsafe()
    queueMicrotask(() => this.deliver())
  }
}

const pageHead = [
  "Status: 200 OK",
  "Content-Type: text/html; charset=utf-8",
  "Date: Sat, 28 Nov 2026 12:00:00 GMT",
  "Cache-Control: private, max-age=0",
  "ETag: \"33a64df551425fcc55e4d42a148795d9f25f89d4\"",
  "Last-Modified: Sat, 28 Nov 2026 11:00:00 GMT",
  "Vary: Accept-Encoding",
  "X-Content-Type-Options: nosniff",
  "Set-Cookie: session=0123456789abcdef0123456789abcdef; Path=/; HttpOnly; SameSite=Lax",
  "Content-Length: 300",
  "",
  ""
].join("\r\n")

const end = encode(R.stdout(1), R.endRequest(1, 0, 0))

/** An answer whose STDOUT comes in records of this size, with other records before it. */
const answer = (stdout: string | Uint8Array, size = 65_535, before: Uint8Array = new Uint8Array(0)): Uint8Array =>
  Buffer.concat([
    before,
    inRecords(R.stdout, typeof stdout === "string" ? latin1(stdout) : stdout, size),
    end
  ])

const honestAnswer = answer(pageHead + "x".repeat(300))

const headOf = (...lines: ReadonlyArray<string>): Uint8Array =>
  answer(["Status: 200 OK", "Content-Type: text/plain", ...lines, "", ""].join("\r\n"))

const length = 60_000
const answers: ReadonlyArray<readonly [name: string, bytes: Uint8Array, records?: number]> = [
  ["a value with 60,000 spaces inside", headOf(`X: a${" ".repeat(length)}b`)],
  ["a value with 60,000 spaces around", headOf(`X:${" ".repeat(length / 2)}a${" ".repeat(length / 2)}`)],
  ["a value with 60,000 tabs and spaces", headOf(`X: a${" \t".repeat(length / 2)}b`)],
  ["HTTP/1.1 and 60,000 spaces", answer(`HTTP/1.1${" ".repeat(length)}\r\n\r\n`)],
  ["HTTP/1.1 200 and 60,000 spaces", answer(`HTTP/1.1 200${" ".repeat(length)}OK\r\n\r\n`)],
  ["Status: and 60,000 spaces", answer(`Status: 200${" ".repeat(length)}x\r\n\r\n`)],
  ["Status: and 60,000 digits", answer(`Status: ${"2".repeat(length)}\r\n\r\n`)],
  ["14,000 folded lines", headOf("X: a" + "\r\n b".repeat(14_000))],
  ["14,000 folded lines of space", headOf("X: a" + "\r\n  ".repeat(14_000))],
  ["12,000 short header lines", headOf(...Array.from({ length: 12_000 }, () => "a:b"))],
  ["8,000 header lines of different names", headOf(...Array.from({ length: 8000 }, (_, i) => `${i}:`))],
  ["3,000 Content-Type lines", headOf(...Array.from({ length: 3000 }, () => "Content-Type: a"))],
  ["15,000 lines without a colon", answer("a\r\n".repeat(15_000) + "\r\n")],
  ["30,000 lines feeds and carriage returns", answer("a:\r".repeat(20_000) + "\n\n")],
  ["4,000 interim heads", answer("Status: 103\n\n".repeat(4000) + pageHead + "x".repeat(300))],
  ["Location of 60 kB of slashes", headOf("Location: " + "/".repeat(length))],
  ["Connection with 20,000 names", headOf("Connection: " + "a, ".repeat(length / 3))],
  [
    "Connection with 10,000 different names",
    headOf("Connection: " + Array.from({ length: 10_000 }, (_, i) => i).join(","))
  ],
  ["Transfer-Encoding with 30,000 codings", headOf("Transfer-Encoding: " + ",".repeat(length))],
  ["Set-Cookie with 30,000 attributes", headOf("Set-Cookie: a=b" + ";a".repeat(length / 2))],
  ["Set-Cookie with 6,000 times Domain", headOf("Set-Cookie: a=b" + ";Domain=a".repeat(length / 9))],
  [
    "Set-Cookie with 1,600 times Expires",
    headOf("Set-Cookie: a=b" + ";Expires=Sat, 28 Nov 2026 12:00:00 GMT".repeat(1600))
  ],
  ["Set-Cookie with 60,000 spaces", headOf(`Set-Cookie: a=b${" ".repeat(length)}c`)],
  ["Set-Cookie with spaces in an attribute", headOf(`Set-Cookie: a=b; Path=a${" ".repeat(length)}c`)],
  ["Set-Cookie with 60,000 semicolons", headOf("Set-Cookie: a=b" + ";".repeat(length))],
  ["3,000 times Set-Cookie", headOf(...Array.from({ length: 3000 }, (_, i) => `Set-Cookie: ${i}=b`))],
  ["Content-Length of 60,000 digits", headOf("Content-Length: " + "1".repeat(length))],
  ["a head of 60 kB in records of one byte", answer(`X: ${"a".repeat(20_000)}\r\n\r\n`, 1), 20_000],
  ["a head of 60 kB in records of 100 bytes", answer(`X: ${"a".repeat(length)}\r\n\r\n`, 100)],
  ["a head of 70 kB, which is too long", answer(`X: ${"a".repeat(70_000)}\r\n\r\n`)],
  ["a body in records of one byte", answer(pageHead.replace("300", "20000") + "x".repeat(20_000), 1), 20_000],
  ["a body in records of 16 bytes", answer(pageHead.replace("300", "100000") + "x".repeat(100_000), 16), 6250],
  ["a body of 1 MB", answer(pageHead.replace("300", "1000000") + "x".repeat(1_000_000))],
  ["a body beyond Content-Length", answer(pageHead + "x".repeat(60_000))],
  ["empty records for another id", answer(pageHead + "x".repeat(300), 65_535, repeat(encode(R.stdout(2)), 8000)), 8000],
  [
    "STDERR in lines",
    answer(pageHead + "x".repeat(300), 65_535, repeat(encode(R.stderr(1, latin1("a\n".repeat(1000)))), 200))
  ],
  [
    "STDERR in empty lines",
    answer(pageHead + "x".repeat(300), 65_535, repeat(encode(R.stderr(1, latin1("\n".repeat(2000)))), 200))
  ],
  [
    "STDERR of control characters",
    answer(pageHead + "x".repeat(300), 65_535, repeat(encode(R.stderr(1, latin1("\x1b".repeat(2000)))), 200))
  ],
  [
    "STDERR that is not UTF-8",
    answer(pageHead + "x".repeat(300), 65_535, repeat(encode(R.stderr(1, notUtf8(2000))), 200))
  ],
  [
    "STDERR in records of one byte",
    answer(pageHead + "x".repeat(300), 65_535, repeat(encode(R.stderr(1, latin1("a"))), 20_000)),
    20_000
  ],
  [
    "management records of unknown types",
    answer(pageHead + "x".repeat(300), 65_535, repeat(encode(R.unrecognized(100)), 8000)),
    8000
  ],
  [
    "records of unknown types of 1,000 bytes",
    answer(pageHead + "x".repeat(300), 65_535, repeat(padded(100, 0, new Uint8Array(1000), 0), 100))
  ],
  [
    "UNKNOWN_TYPE that nobody waits for",
    answer(pageHead + "x".repeat(300), 65_535, repeat(encode(R.unknownType(9)), 8000)),
    8000
  ],
  [
    "GET_VALUES_RESULT that nobody waits for",
    answer(
      pageHead + "x".repeat(300),
      65_535,
      repeat(encode(R.getValuesResult(FastCgiParams.encodePairs([["A", "1"]]))), 4000)
    ),
    4000
  ],
  [
    "GET_VALUES_RESULT with 20,000 pairs",
    answer(
      pageHead + "x".repeat(300),
      65_535,
      repeat(encode(R.getValuesResult(repeat(Uint8Array.of(1, 0, 0xff), 20_000))), 4)
    )
  ],
  [
    "nothing but padding",
    answer(pageHead + "x".repeat(300), 65_535, repeat(padded(R.RecordType.Stdout, 2, new Uint8Array(0), 255), 400))
  ],
  ["no FastCGI", latin1("HTTP/1.1 200 OK\r\n\r\n" + "x".repeat(length))]
]

/** Runs to its end, whatever that is. */
const run = <A, E>(effect: Effect.Effect<A, E>): Promise<Exit.Exit<A, E>> =>
  Effect.runPromise(Effect.provide(Effect.exit(effect), logs))

/** Runs something that ends with the status of a response. */
const fromApplication = <E>(
  name: string,
  bytes: Uint8Array,
  records: number | undefined,
  exchange: Effect.Effect<number, E>
): Attack => ({
  name,
  ...(records === undefined ? {} : { few: [records, "record"] as const }),
  play: async () => {
    await run(exchange)
    return bytes.length
  }
})

/** The same, which fails unless the status is 200. */
const honestly200 = <E>(name: string, bytes: number, exchange: Effect.Effect<number, E>): Attack => ({
  name,
  play: async () => {
    const exit = await run(exchange)
    if (Exit.isSuccess(exit) && exit.value === 200) return bytes
    throw new Error(`${name}: ${Exit.isSuccess(exit) ? exit.value : String(exit.cause)}`)
  }
})

export const atClient = Effect.gen(function*() {
  const exchangeWith = Effect.fnUntraced(function*(bytes: Uint8Array) {
    const client = yield* FastCgiHttpClient.make({
      connect: Effect.sync(() => new Application(bytes)),
      keepConnection: true
    })
    return Effect.flatMap(
      client.get("http://localhost/bench/hello?name=world&page=2"),
      (response) =>
        Effect.map(response.arrayBuffer, () => {
          // Made when they are asked for.
          void response.headers
          void response.cookies
          return response.status
        })
    )
  })
  const side: Side = {
    name: "client",
    honest: honestly200("honest answers", honestAnswer.length, yield* exchangeWith(honestAnswer)),
    attacks: yield* Effect.forEach(
      answers,
      ([name, bytes, records]) =>
        Effect.map(exchangeWith(bytes), (exchange) => fromApplication(name, bytes, records, exchange))
    )
  }
  return side
})

const browser: Readonly<Record<string, string>> = {
  host: "localhost",
  "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
  accept: "text/html,application/xhtml+xml",
  "accept-encoding": "gzip, deflate, br",
  "accept-language": "en-US,en;q=0.9",
  cookie: "session=0123456789abcdef0123456789abcdef; theme=dark",
  connection: "keep-alive"
}

const headSize = (url: string, headers: Readonly<Record<string, string>>): number =>
  Object.entries(headers).reduce((size, [name, value]) => size + name.length + value.length + 4, url.length + 17)

export const atGateway = Effect.gen(function*() {
  const gatewayTo = Effect.fnUntraced(function*(bytes: Uint8Array) {
    const gateway = yield* FastCgiGateway.make({
      connect: Effect.sync(() => new Application(bytes)),
      keepConnection: true,
      documentRoot: "/srv/www"
    })
    return (url: string, headers: Readonly<Record<string, string>>) => {
      const request = HttpServerRequest.fromWeb(new Request("http://localhost/")).modify({
        url,
        headers: Headers.fromInput(headers)
      })
      return gateway.pipe(
        Effect.provideService(HttpServerRequest.HttpServerRequest, request),
        Effect.flatMap((response) => {
          // As the HTTP server does.
          Cookies.toSetCookieHeaders(response.cookies)
          return response.body._tag === "Stream"
            ? Effect.as(Stream.runDrain(response.body.stream), response.status)
            : Effect.succeed(response.status)
        }),
        Effect.scoped
      )
    }
  })
  const usualUrl = "/bench/hello?name=world&page=2"
  const honest = yield* gatewayTo(honestAnswer)
  const asked = (name: string, url: string, headers: Readonly<Record<string, string>> = {}): Attack => {
    const all = { ...browser, ...headers }
    const size = headSize(url, all) + honestAnswer.length
    return { name, play: () => run(honest(url, all)).then(() => size) }
  }
  const numbers = Array.from({ length: 3000 }, (_, i) => i)
  const side: Side = {
    name: "gateway",
    honest: honestly200(
      "honest requests",
      headSize(usualUrl, browser) + honestAnswer.length,
      honest(usualUrl, browser)
    ),
    attacks: [
      asked("a path of slashes", "/".repeat(length)),
      asked("a path of dots", "/" + ".".repeat(length)),
      asked("a path of . parts", "/.".repeat(length / 2)),
      asked("a path of .. parts", "/..".repeat(length / 3)),
      asked("a path that goes down and up", "/a/..".repeat(length / 5)),
      asked("a path that goes down, then up", "/a".repeat(length / 5) + "/..".repeat(length / 5)),
      asked("a path of percent escapes", "/" + "%41".repeat(length / 3)),
      asked("a path of escaped slashes and dots", "/a" + "%2f%2e%2e%2fa".repeat(length / 13)),
      asked("a path of escapes that are not UTF-8", "/" + "%ff".repeat(length / 3)),
      asked("a path of escapes that are none", "/" + "%".repeat(length)),
      asked("a path of text that is not ASCII", "/" + "\u00e9".repeat(length)),
      asked("a query of percent escapes", "/?" + "%41".repeat(length / 3)),
      asked("a query of question marks", "/" + "?".repeat(length)),
      asked("a path of NUL", "/" + "%00".repeat(length / 3)),
      asked("a target that is no path", "a".repeat(length)),
      asked("3,000 headers", usualUrl, Object.fromEntries(numbers.map((i) => [`x-${i}`, "1"]))),
      asked("3,000 headers named in Connection", usualUrl, {
        ...Object.fromEntries(numbers.map((i) => [`x-${i}`, "1"])),
        connection: numbers.map((i) => `x-${i}`).join(",")
      }),
      asked("Connection with 20,000 names", usualUrl, { connection: "a, ".repeat(length / 3) }),
      asked("Connection of commas", usualUrl, { connection: ",".repeat(length) }),
      asked("Connection of spaces", usualUrl, { connection: `a${" ".repeat(length)}b` }),
      asked("a header of 60 kB", usualUrl, { "x-a": "\xff".repeat(length) }),
      asked("a cookie of 60 kB", usualUrl, { cookie: "a=b;".repeat(length / 4) }),
      asked("a host of dots", usualUrl, { host: "a.".repeat(length / 2) }),
      asked("a host of colons", usualUrl, { host: "[" + ":".repeat(length) }),
      asked("a host of digits", usualUrl, { host: "a:" + "1".repeat(length) }),
      asked("Transfer-Encoding of commas", usualUrl, { "transfer-encoding": ",".repeat(length) }),
      asked("Content-Length of spaces", usualUrl, { "content-length": `${" ".repeat(length)}0` })
    ]
  }
  const peer: Side = {
    name: "gateway, answers",
    honest: honestly200("honest answers", honestAnswer.length, honest(usualUrl, browser)),
    attacks: yield* Effect.forEach(
      answers,
      ([name, bytes, records]) =>
        Effect.map(gatewayTo(bytes), (gateway) => fromApplication(name, bytes, records, gateway(usualUrl, browser)))
    )
  }
  return [side, peer]
})
