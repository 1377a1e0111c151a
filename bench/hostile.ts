/**
 * What input made to be dear costs: `npm run bench:hostile`. Prints nanoseconds of CPU a byte for each attack at the server,
 * the client and the gateway, beside what honest small requests cost there, and fails where that is exceeded tenfold.
 *
 *     npm run bench:hostile -- --only cookies --rounds 9
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import {
  FastCgiAdmission,
  FastCgiEncoder,
  FastCgiListener,
  FastCgiParams,
  FastCgiRecord as R,
  FastCgiResponse,
  FastCgiServer,
  type FastCgiTransport
} from "effect-fastcgi"
import { FastCgiGateway, FastCgiHttpClient } from "effect-fastcgi/client"
import { FastCgiHttpServer } from "effect-fastcgi/http"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Cookies from "effect/http/Cookies"
import * as Headers from "effect/http/Headers"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { parseArgs } from "node:util"
import { nginxParams } from "./harness/nginxParams.ts"
import { hello } from "./servers/content.ts"

const { values: { milliseconds, only, rounds } } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    milliseconds: { type: "string", default: "60" },
    only: { type: "string", default: "" }
  }
})

const KiB = 1024
const maxRatio = 10
const maxEach = 1.5

/** A way to send bytes to something, measured as often as it takes. */
interface Attack {
  readonly name: string
  /** Sends once, waits for all that it has set off, and gives how many bytes were taken. */
  readonly play: () => Promise<number>
  /**
   * What `play` sends many of, where each takes a few bytes: beyond `maxRatio` one may cost `maxEach` honest requests or
   * answers, which are what it is instead of.
   */
  readonly few?: readonly [count: number, what: "record" | "request"]
}

interface Side {
  readonly name: string
  /** Its `few` says how many requests or answers it is. */
  readonly honest: Attack
  readonly attacks: ReadonlyArray<Attack>
}

// -----------------------------------------------------------------------------
// Bytes
// -----------------------------------------------------------------------------

const encode = (...records: ReadonlyArray<R.FastCgiRecord>): Uint8Array =>
  Buffer.concat(records.map((record) => FastCgiEncoder.encode(record)))

const repeat = (content: Uint8Array, times: number): Uint8Array =>
  Buffer.concat(Array.from({ length: times }, () => content))

const latin1 = (text: string): Uint8Array => Buffer.from(text, "latin1")

/** A record with padding, which the encoder uses only for alignment. */
const padded = (type: number, id: number, content: Uint8Array, padding: number): Uint8Array =>
  Buffer.concat([
    Uint8Array.of(1, type, id >> 8, id & 255, content.length >> 8, content.length & 255, padding, 0),
    content,
    new Uint8Array(padding)
  ])

type Make = (requestId: number, content?: Uint8Array) => R.FastCgiRecord

/** A stream in records of this size, without its end. */
const inRecords = (make: Make, content: Uint8Array, size: number): Uint8Array => {
  const records: Array<R.FastCgiRecord> = []
  for (let at = 0; at < content.length; at += size) records.push(make(1, content.subarray(at, at + size)))
  return encode(...records)
}

type Pairs = ReadonlyArray<readonly [string, string | Uint8Array]>

const usualWith = (changes: Readonly<Record<string, string | Uint8Array>>): Pairs => [
  ...nginxParams.filter(([name]) => !(name in changes)),
  ...Object.entries(changes)
]

const begin = (id = 1, role: number = R.Role.Responder) => R.beginRequest(id, role, { keepConnection: true })

/** Params of any size, in as many records as they take. */
const params = (pairs: Pairs): Uint8Array => inRecords(R.params, FastCgiParams.encodePairs(pairs), 65_535)

const request = (pairs: Pairs): Uint8Array =>
  Buffer.concat([encode(begin()), params(pairs), encode(R.params(1), R.stdin(1))])

const notUtf8 = (length: number): Uint8Array => new Uint8Array(length).fill(0xff)

// -----------------------------------------------------------------------------
// Server
// -----------------------------------------------------------------------------

/** A peer that takes all that it is sent, at once. */
class Peer implements FastCgiTransport.FastCgiTransport {
  readonly peer = Option.none()
  readonly pull = Effect.never
  private reader: FastCgiTransport.FastCgiTransportReader | undefined
  private observer: FastCgiTransport.FastCgiTransportObserver | undefined
  private paused = false
  over = false
  received = 0

  flowUnsafe(reader: FastCgiTransport.FastCgiTransportReader): void {
    this.reader = reader
  }

  observeUnsafe(observer: FastCgiTransport.FastCgiTransportObserver): void {
    this.observer = observer
  }

  /** Whether the server takes more now. */
  get flows(): boolean {
    return !this.paused && !this.over
  }

  send(bytes: Uint8Array): void {
    // A socket brings every read in memory of its own.
    this.reader!.onRead([bytes.slice()])
  }

  close(): void {
    this.over = true
    this.observer!.onClose()
  }

  writeUnsafe(chunks: ReadonlyArray<Uint8Array>): void {
    for (const chunk of chunks) this.received += chunk.length
  }

  pauseUnsafe(): void {
    this.paused = true
  }

  resumeUnsafe(): void {
    this.paused = false
  }

  pendingUnsafe = () => 0

  endUnsafe(): void {
    this.over = true
  }

  resetUnsafe(): void {
    this.over = true
  }

  destroyUnsafe(): void {
    this.over = true
    this.observer?.onClose()
  }
}

type Accept = (transport: FastCgiTransport.FastCgiTransport) => void
type Served = Layer.Layer<never, never, FastCgiListener.FastCgiListener | FastCgiAdmission.FastCgiAdmission>

interface Running {
  readonly accept: Accept
  readonly requests: () => number
}

// Lines are made and go nowhere.
const logs = Logger.layer([Logger.map(Logger.formatLogFmt, () => {})])

const start = Effect.fnUntraced(function*(app: Served, admission?: FastCgiAdmission.FastCgiAdmissionOptions) {
  let accept: Accept | undefined
  const listener = Layer.succeed(FastCgiListener.FastCgiListener, {
    address: NetAddress.unixPathAddress("memory"),
    addresses: [NetAddress.unixPathAddress("memory")],
    run: (onConnection) =>
      Effect.callback<never>(() => {
        accept = onConnection
      }),
    stopAccepting: Effect.void
  })
  const context = yield* Layer.build(
    app.pipe(Layer.provideMerge([listener, FastCgiAdmission.layer(admission)]), Layer.provide(logs))
  )
  const { requestsUnsafe } = yield* FastCgiAdmission.FastCgiAdmission.pipe(Effect.provide(context))
  const running: Running = { accept: accept!, requests: requestsUnsafe }
  return running
})

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

// What is sent is worked off in far fewer turns of the event loop.
const maxTurns = 100_000

const until = async (done: () => boolean, what: string): Promise<void> => {
  for (let turns = 0; !done(); turns++) {
    if (turns === maxTurns) throw new Error(`${what}: not within ${maxTurns} turns of the event loop`)
    await turn()
  }
}

/** Sends bytes on a connection of their own, for as long as the server takes them. */
const toServer = (
  { accept, requests }: Running,
  name: string,
  bytes: Uint8Array,
  options: { readonly few?: Attack["few"]; readonly hangs?: boolean; readonly answers?: number } = {}
): Attack => ({
  name,
  ...(options.few === undefined ? {} : { few: options.few }),
  play: async () => {
    const peer = new Peer()
    accept(peer)
    let at = 0
    while (at < bytes.length) {
      await until(() => peer.flows || peer.over, `${name}: the server reads on`)
      if (peer.over) break
      peer.send(bytes.subarray(at, at + 16 * KiB))
      at = Math.min(bytes.length, at + 16 * KiB)
    }
    if (options.hangs !== true) await until(() => requests() === 0, `${name}: the requests end`)
    if (options.answers !== undefined && (peer.over || peer.received < options.answers)) {
      throw new Error(`${name}: not answered`)
    }
    peer.close()
    await until(() => requests() === 0, `${name}: the requests end with their connection`)
    return at
  }
})

/** A few of the same on one connection. */
const times = (content: Uint8Array, size = 64 * KiB): readonly [Uint8Array, number] => {
  const count = Math.max(1, Math.ceil(size / content.length))
  return [repeat(content, count), count]
}

const attackWith = (running: Running, what: "record" | "request") => (name: string, content: Uint8Array): Attack => {
  const [bytes, count] = times(content)
  return toServer(running, name, bytes, { few: [count, what] })
}

/** Requests for a page, on one connection. Fails when one is not answered. */
const honestly = (running: Running, body: number, pairs: Pairs = nginxParams): Attack => {
  const [bytes, count] = times(request(pairs))
  return toServer(running, "honest requests", bytes, { few: [count, "request"], answers: count * body })
}

const atServer = Effect.gen(function*() {
  const handler = yield* start(FastCgiServer.serve({ responder: () => Effect.succeed(FastCgiResponse.make(hello)) }))
  const records = attackWith(handler, "record")
  const requests = attackWith(handler, "request")
  const many = (name: string, content: Uint8Array) => toServer(handler, name, times(content)[0])
  const names = (name: string | Uint8Array, count: number) =>
    encode(R.getValues(FastCgiParams.encodePairs(Array.from({ length: count }, () => [name, ""] as const))))
  const tiny = Uint8Array.of(1, 0, 0x41)
  const requestUnder = (id: number): Uint8Array =>
    encode(begin(id), R.params(id, FastCgiParams.encodePairs(nginxParams)), R.params(id), R.stdin(id))
  // What has to look at all requests of a connection must not do so for each record.
  const others = encode(...Array.from({ length: 1000 }, (_, i) => begin(i + 1)))
  const beside = (name: string, content: Uint8Array): Attack => {
    const [bytes, count] = times(content, 256 * KiB)
    return toServer(handler, `${name} beside 1,000 requests in PARAMS`, Buffer.concat([others, bytes]), {
      few: [count, "request"],
      hangs: true
    })
  }
  const side: Side = {
    name: "server, handler",
    honest: honestly(handler, hello.length),
    attacks: [
      records("GET_VALUES, one name that is known", names("FCGI_MPXS_CONNS", 1)),
      records("GET_VALUES without content", encode(R.getValues(new Uint8Array(0)))),
      many("GET_VALUES, 1,000 names of ASCII", names("FCGI_WHATEVER", 1000)),
      many("GET_VALUES, 1,000 names that are not UTF-8", names(notUtf8(15), 1000)),
      many("GET_VALUES, a name of 60 kB that is not UTF-8", names(notUtf8(60_000), 1)),
      many("GET_VALUES, 1,000 times a name that is known", names("FCGI_MPXS_CONNS", 1000)),
      many("GET_VALUES, 30,000 empty names", names("", 30_000)),
      many("GET_VALUES, no pairs", encode(R.getValues(Uint8Array.of(9)))),
      records("management records of unknown types", encode(R.unrecognized(100))),
      many(
        "management records of unknown types, 1,000 bytes each",
        padded(100, 0, new Uint8Array(1000), 0)
      ),
      toServer(handler, "1,000 times BEGIN_REQUEST", encode(...Array.from({ length: 1000 }, (_, i) => begin(i + 1))), {
        few: [1000, "record"],
        hangs: true
      }),
      toServer(handler, "5,000 times BEGIN_REQUEST", encode(...Array.from({ length: 5000 }, (_, i) => begin(i + 1))), {
        few: [1024, "record"],
        hangs: true
      }),
      requests("BEGIN_REQUEST and ABORT_REQUEST", encode(begin(), R.abortRequest(1))),
      requests("requests of an unknown role", encode(begin(1, 9))),
      requests("requests with empty PARAMS", encode(begin(), R.params(1), R.stdin(1))),
      requests(
        "requests whose PARAMS are no pairs",
        encode(begin(), R.params(1, Uint8Array.of(9)), R.params(1), R.stdin(1))
      ),
      requests("requests with input in PARAMS", encode(begin(), R.stdin(1), R.params(1))),
      many(
        "10,001 params, which is too many",
        Buffer.concat([
          encode(begin()),
          inRecords(R.params, repeat(tiny, 10_001), 65_535),
          encode(R.params(1), R.stdin(1))
        ])
      ),
      many(
        "10,000 params of 3 bytes",
        Buffer.concat([
          encode(begin()),
          inRecords(R.params, repeat(tiny, 10_000), 65_535),
          encode(R.params(1), R.stdin(1))
        ])
      ),
      many(
        "a million params of 3 bytes",
        Buffer.concat([
          encode(begin()),
          inRecords(R.params, repeat(tiny, 1_000_000), 65_535),
          encode(R.params(1), R.stdin(1))
        ])
      ),
      many("a param of 1 MB", request([["A", new Uint8Array(1_000_000)]])),
      many("a param of 3 MB, which is too long", request([["A", new Uint8Array(3_000_000)]])),
      toServer(
        handler,
        "PARAMS in records of one byte",
        Buffer.concat([
          encode(begin()),
          inRecords(R.params, FastCgiParams.encodePairs(usualWith({ A: new Uint8Array(20_000) })), 1),
          encode(R.params(1), R.stdin(1))
        ]),
        { few: [20_000, "record"] }
      ),
      toServer(
        handler,
        "STDIN in records of one byte, not read",
        Buffer.concat([
          encode(begin()),
          params(nginxParams),
          encode(R.params(1)),
          inRecords(R.stdin, new Uint8Array(20_000), 1),
          encode(R.stdin(1))
        ]),
        { few: [20_000, "record"] }
      ),
      records("STDIN of one byte for an id that is not active", encode(R.stdin(7, Uint8Array.of(1)))),
      records("empty records for an id that is not active", encode(R.stdin(7))),
      toServer(
        handler,
        "empty records, each for another id",
        encode(...Array.from({ length: 8000 }, (_, i) => R.stdin(i + 2))),
        { few: [8000, "record"] }
      ),
      toServer(
        handler,
        "requests refused by a protocol status, each under another id",
        encode(...Array.from({ length: 4000 }, (_, i) => begin(i + 1, 9))),
        { few: [4000, "request"] }
      ),
      records("records that only an application sends", encode(R.stdout(1, Uint8Array.of(1)))),
      many("nothing but padding", padded(R.RecordType.Stdin, 7, new Uint8Array(0), 255)),
      many("one byte and padding", padded(R.RecordType.Stdin, 7, Uint8Array.of(1), 255)),
      beside("BEGIN_REQUEST and ABORT_REQUEST", encode(begin(2000), R.abortRequest(2000))),
      beside("GET_VALUES", names("FCGI_MPXS_CONNS", 1)),
      beside("requests", requestUnder(2000)),
      toServer(
        handler,
        "requests of an unknown role beside 60,000 ids whose input is due",
        Buffer.concat([
          encode(...Array.from({ length: 60_000 }, (_, i) => begin(i + 1, 9))),
          repeat(encode(begin(65_000, 9)), 100_000)
        ]),
        { few: [160_000, "request"] }
      ),
      requests("requests whose header has CR and LF", request([["REQUEST_METHOD", "GET"], ["HTTP_A", "b\r\nC: d"]])),
      requests("requests whose method has NUL", request([["REQUEST_METHOD", "G\0T"]]))
    ]
  }

  const reading = yield* start(FastCgiServer.serve({
    responder: (request) => Effect.as(Effect.orDie(Stream.runDrain(request.stdin)), FastCgiResponse.make(hello))
  }))
  const upload = (content: Uint8Array, size: number): Uint8Array =>
    Buffer.concat([
      encode(begin()),
      params(usualWith({ REQUEST_METHOD: "POST", CONTENT_LENGTH: "" })),
      encode(R.params(1)),
      inRecords(R.stdin, content, size),
      encode(R.stdin(1))
    ])
  const readingSide: Side = {
    name: "server, handler that reads",
    honest: honestly(reading, hello.length),
    attacks: [
      toServer(reading, "STDIN in records of one byte", upload(new Uint8Array(20_000), 1), { few: [20_000, "record"] }),
      toServer(reading, "STDIN in records of 16 bytes", upload(new Uint8Array(100_000), 16), { few: [6250, "record"] }),
      toServer(reading, "STDIN of 1 MB", upload(new Uint8Array(1_000_000), 32 * KiB)),
      toServer(
        reading,
        "more STDIN than CONTENT_LENGTH",
        Buffer.concat([
          encode(begin()),
          params(usualWith({ REQUEST_METHOD: "POST", CONTENT_LENGTH: "1" })),
          encode(R.params(1)),
          inRecords(R.stdin, new Uint8Array(1_000_000), 32 * KiB),
          encode(R.stdin(1))
        ])
      )
    ]
  }

  const iterating = yield* start(FastCgiServer.serve({
    responder: (request) =>
      Effect.sync(() => {
        let length = 0
        for (const [name, value] of request.params) length += name.length + value.length
        return FastCgiResponse.make(String(length))
      })
  }))
  const iterated = (name: string, pairs: Pairs) => toServer(iterating, name, times(request(pairs))[0])
  const numbered = (count: number, value: string | Uint8Array): Pairs =>
    Array.from({ length: count }, (_, i) => [`HTTP_${i}`, value] as const)
  const iteratingSide: Side = {
    name: "server, handler that iterates params",
    honest: honestly(iterating, 1),
    attacks: [
      iterated("9,000 values that are not UTF-8", numbered(9000, notUtf8(20))),
      iterated(
        "9,000 names that are not UTF-8",
        Array.from({ length: 9000 }, () => [latin1("HTTP_\xff\xfe") as never, "1"])
      ),
      iterated("a value of 900 kB that is not UTF-8", [["HTTP_A", notUtf8(900_000)]]),
      iterated("10,000 empty pairs", Array.from({ length: 10_000 }, () => ["", ""])),
      iterated("9,000 pairs of the same name", Array.from({ length: 9000 }, () => ["HTTP_A", "1"]))
    ]
  }

  const app = Effect.gen(function*() {
    const request = yield* HttpServerRequest.HttpServerRequest
    const url = Option.getOrUndefined(HttpServerRequest.toURL(request))
    let length = request.originalUrl.length + (url?.searchParams.size ?? 0)
    for (const name of Object.keys(request.headers)) length += request.headers[name]!.length
    for (const name of Object.keys(request.cookies)) length += request.cookies[name].length
    return HttpServerResponse.text(String(length))
  })
  const router = yield* start(
    HttpRouter.serve(HttpRouter.add("*", "/*", app), { disableLogger: true, disableListenLog: true }).pipe(
      Layer.provide(FastCgiHttpServer.layerServer()),
      Layer.provide(NodeHttpServer.layerHttpServices)
    )
  )
  const routed = (name: string, changes: Readonly<Record<string, string | Uint8Array>>) =>
    toServer(router, name, times(request(usualWith(changes)))[0])
  const target = (name: string, path: string) =>
    routed(name, { REQUEST_URI: path, SCRIPT_NAME: "", DOCUMENT_URI: "", QUERY_STRING: path.split("?")[1] ?? "" })
  const length = 60_000
  const httpSide: Side = {
    name: "server, HttpRouter that reads headers, cookies and URL",
    honest: honestly(router, 1),
    attacks: [
      toServer(router, "9,000 headers", times(request([...nginxParams, ...numbered(9000, "1")]))[0]),
      toServer(
        router,
        "9,000 headers that are not UTF-8",
        times(request([...nginxParams, ...numbered(9000, notUtf8(20))]))[0]
      ),
      toServer(
        router,
        "9,000 headers of one name",
        times(request([...nginxParams, ...Array.from({ length: 9000 }, () => ["HTTP_A", "1"] as const)]))[0]
      ),
      toServer(
        router,
        "9,000 cookie headers",
        times(request([...nginxParams, ...Array.from({ length: 9000 }, () => ["HTTP_COOKIE", "a=b"] as const)]))[0]
      ),
      toServer(
        router,
        "9,000 headers that clash",
        times(request([...nginxParams, ...Array.from({ length: 9000 }, () => ["HTTP_A-B", "1"] as const)]))[0]
      ),
      routed("a header of 60 kB that is not UTF-8", { HTTP_A: notUtf8(length) }),
      routed("a header of many spaces", { HTTP_A: `a${" ".repeat(length)}b` }),
      routed("a header of CR and LF", { HTTP_A: "\r\n".repeat(length / 2) }),
      routed("30,000 cookies without a value", { HTTP_COOKIE: "a;".repeat(length / 2) }),
      routed("15,000 cookies", { HTTP_COOKIE: "a=b;".repeat(length / 4) }),
      routed("10,000 cookies of different names", {
        HTTP_COOKIE: Array.from({ length: 10_000 }, (_, i) => `${i}=`).join(";")
      }),
      routed("a cookie of many spaces", { HTTP_COOKIE: `a=${" ".repeat(length)}b` }),
      routed("a cookie of many quotes", { HTTP_COOKIE: `a=${"\"".repeat(length)}` }),
      routed("a cookie of percent escapes", { HTTP_COOKIE: `a=${"%20".repeat(length / 3)}` }),
      routed("cookies whose escapes are none", { HTTP_COOKIE: "a=%;".repeat(length / 4) }),
      target("a path of percent escapes", "/" + "%41".repeat(length / 3)),
      target("a path of escapes that are none", "/" + "%".repeat(length)),
      target("a path of escapes that are not UTF-8", "/" + "%ff".repeat(length / 3)),
      target("a path of slashes", "/".repeat(length)),
      target("a path of dots", "/..".repeat(length / 3)),
      target("a query of percent escapes", "/?a=" + "%41".repeat(length / 3)),
      target("a query of 30,000 params", "/?" + "a&".repeat(length / 2)),
      target("a query of 15,000 question marks and hashes", "/" + "?#".repeat(length / 2)),
      routed("a host of colons", { HTTP_HOST: ":".repeat(length) }),
      routed("a host of dots", { HTTP_HOST: "a.".repeat(length / 2) }),
      routed("a content type of semicolons", { CONTENT_TYPE: "text/plain" + ";".repeat(length) }),
      routed("a content length of digits", { CONTENT_LENGTH: "0".repeat(length) }),
      routed("an empty request", Object.fromEntries(nginxParams.map(([name]) => [name, ""])))
    ]
  }

  const busy = yield* start(
    FastCgiServer.serve({ responder: () => Effect.never }),
    { maxRequests: 1 }
  )
  const [refused, count] = times(encode(begin(2), R.params(2), R.stdin(2)))
  return [
    {
      ...side,
      attacks: [
        ...side.attacks,
        toServer(busy, "requests that are refused for the load", Buffer.concat([request(nginxParams), refused]), {
          few: [count, "request"],
          hangs: true
        })
      ]
    },
    readingSide,
    iteratingSide,
    httpSide
  ]
})

// -----------------------------------------------------------------------------
// Client and gateway
// -----------------------------------------------------------------------------

/** An application that answers every request with the same bytes, read by read. */
class Application implements FastCgiTransport.FastCgiTransport {
  readonly peer = Option.none()
  readonly pull = Effect.never
  private readonly answer: Uint8Array
  private at: number
  private reader: FastCgiTransport.FastCgiTransportReader | undefined
  private observer: FastCgiTransport.FastCgiTransportObserver | undefined
  private paused = false
  private over = false

  constructor(answer: Uint8Array) {
    this.answer = answer
    this.at = answer.length
  }

  flowUnsafe(reader: FastCgiTransport.FastCgiTransportReader): void {
    this.reader = reader
  }

  observeUnsafe(observer: FastCgiTransport.FastCgiTransportObserver): void {
    this.observer = observer
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

  pauseUnsafe(): void {
    this.paused = true
  }

  resumeUnsafe(): void {
    this.paused = false
    queueMicrotask(() => this.deliver())
  }

  pendingUnsafe = () => 0

  endUnsafe(): void {
    this.over = true
  }

  resetUnsafe(): void {
    this.over = true
  }

  destroyUnsafe(): void {
    this.over = true
    this.observer?.onClose()
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

const atClient = Effect.gen(function*() {
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

const atGateway = Effect.gen(function*() {
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

// -----------------------------------------------------------------------------
// Measuring
// -----------------------------------------------------------------------------

const cpuNanoseconds = (): number => {
  const { system, user } = process.cpuUsage()
  return (user + system) * 1000
}

interface Cost {
  readonly perByte: number
  readonly perPlay: number
}

// What the first second of a function costs is its compilation.
const warmUp = async ({ play }: Attack, least: number): Promise<void> => {
  const begun = cpuNanoseconds()
  while (cpuNanoseconds() - begun < least) await play()
}

const measure = async (attack: Attack): Promise<ReadonlyArray<Cost>> => {
  const least = Number(milliseconds) * 1e6
  const samples: Array<Cost> = []
  for (let i = 0; i < Number(rounds); i++) {
    const begun = cpuNanoseconds()
    let bytes = 0
    let plays = 0
    let taken = 0
    do {
      bytes += await attack.play()
      plays++
      taken = cpuNanoseconds() - begun
    } while (taken < least)
    samples.push({ perByte: taken / bytes, perPlay: taken / plays })
  }
  return samples.sort((a, b) => a.perByte - b.perByte)
}

const scope = Scope.makeUnsafe()
const sides = await Effect.runPromise(
  Scope.provide(
    Effect.gen(function*() {
      return [...(yield* atServer), yield* atClient, ...(yield* atGateway)]
    }),
    scope
  )
)
let exceeded = 0
for (const { attacks, honest, name } of sides) {
  const chosen = attacks.filter((attack) => `${name}: ${attack.name}`.includes(only))
  if (chosen.length === 0) continue
  await warmUp(honest, 1e9)
  const [reference] = await measure(honest)
  const honestEach = reference.perPlay / (honest.few?.[0] ?? 1)
  console.log(`\n${name}`.padEnd(64) + "ns a byte   ratio")
  console.log(`  ${honest.name}`.padEnd(62) + reference.perByte.toFixed(2).padStart(10) + "    1.00")
  for (const attack of chosen) {
    await warmUp(attack, 2e8)
    const samples = await measure(attack)
    const cost = samples[samples.length >> 1]
    const ratio = cost.perByte / reference.perByte
    let line = `  ${attack.name}`.padEnd(62) + cost.perByte.toFixed(2).padStart(10) + ratio.toFixed(2).padStart(8)
    if (attack.few !== undefined) line += `  ${(cost.perPlay / attack.few[0]).toFixed(0)} ns a ${attack.few[1]}`
    if (ratio > maxRatio) {
      const each = attack.few === undefined ? Infinity : cost.perPlay / attack.few[0]
      if (each > maxEach * honestEach) {
        exceeded++
        line += "  TOO DEAR"
      } else line += `, of an honest one's ${honestEach.toFixed(0)}`
    }
    console.log(line)
  }
}
await Effect.runPromise(Scope.close(scope, Exit.void))
process.exit(exceeded === 0 ? 0 : 1)
