/** Attacks on the server, by a peer in memory. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import {
  type FastCgiAdmission,
  type FastCgiListener,
  FastCgiParams,
  FastCgiRecord as R,
  FastCgiResponse,
  FastCgiServer
} from "effect-fastcgi"
import { FastCgiHttpServer } from "effect-fastcgi/http"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { type Accept, serveInMemory } from "../harness/memoryListener.ts"
import { nginxParams } from "../harness/nginxParams.ts"
import { hello } from "../servers/content.ts"
import { type Attack, logs, type Side } from "./attack.ts"
import {
  begin,
  encode,
  inRecords,
  KiB,
  latin1,
  notUtf8,
  padded,
  type Pairs,
  params,
  repeat,
  request,
  usualWith
} from "./bytes.ts"
import { AttackTransport } from "./transport.ts"

/** A peer that takes all that it is sent, at once. */
class Peer extends AttackTransport {
  received = 0

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
}

type Served = Layer.Layer<never, never, FastCgiListener.FastCgiListener | FastCgiAdmission.FastCgiAdmission>

interface Running {
  readonly accept: Accept
  readonly requests: () => number
}

const start = (app: Served, options?: FastCgiAdmission.FastCgiAdmissionOptions) =>
  Effect.map(
    serveInMemory(Layer.provide(app, logs), options),
    ({ accept, admission }): Running => ({ accept, requests: admission.requestsUnsafe })
  )

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

export const atServer = Effect.gen(function*() {
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
