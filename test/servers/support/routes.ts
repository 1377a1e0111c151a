/**
 * The application under test: an ordinary `HttpRouter` app that knows nothing of FastCGI, but for what it tells about the
 * request and for the line it writes to the web server's log.
 */
import * as ByteSize from "effect/ByteSize"
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpRouter from "effect/http/HttpRouter"
import { ClientAbort } from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as HttpStaticServer from "effect/http/HttpStaticServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import { FastCgiHttpServer, FastCgiLogger } from "../../../src/http/index.ts"
import { pieces } from "./content.ts"
import type { Digest, Event, Received, RequestPlace } from "./messages.ts"

/** The application's side of the conversation with the test. */
export class Control extends Context.Service<Control, {
  readonly send: (event: Event) => Effect.Effect<void>
  /** What the test says to the request. */
  readonly listen: (id: string) => Queue.Queue<Order>
  readonly forget: (id: string) => void
}>()("test/servers/Control") {}

/** What the test can say to a request. */
export type Order =
  | { readonly _tag: "Emit"; readonly text: string }
  | { readonly _tag: "Finish" }
  | { readonly _tag: "Fail" }

let begun = 0
let ended = 0

/** How many requests are being handled. */
export const running = (): number => begun - ended

/** How many requests have been handled. */
export const handled = (): number => ended

const request = HttpServerRequest.HttpServerRequest

const parameters = Effect.map(request, (request) => new URL(request.url, "http://localhost").searchParams)

const number = (parameters: URLSearchParams, name: string, otherwise: number) => {
  const value = parameters.get(name)
  return value === null ? otherwise : Number(value)
}

const place: Effect.Effect<RequestPlace | undefined, never, HttpServerRequest.HttpServerRequest> = Effect.map(
  FastCgiHttpServer.origin,
  (origin) => Option.isSome(origin) ? [origin.value.request.connectionId, origin.value.request.requestId] : undefined
)

class Failure extends Error {
  override readonly name = "Failure"
}

const reportEnd =
  (control: Control["Service"], id: string) => (exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> => {
    control.forget(id)
    return control.send(
      Exit.isFailure(exit) && Cause.hasInterrupts(exit.cause)
        ? { _tag: "Interrupted", id, byClient: isClientAbort(exit.cause) }
        : { _tag: "Ended", id }
    )
  }

const isClientAbort = (cause: Cause.Cause<unknown>) =>
  cause.reasons.some((reason) => reason._tag === "Interrupt" && reason.annotations.has(ClientAbort.key))

/** A stream that does what the test says, and tells the test how it begins and ends. */
const ordered = (
  control: Control["Service"],
  id: string,
  encode: (text: string) => Uint8Array,
  on?: RequestPlace
) => {
  const orders = control.listen(id)
  return Stream.onExit(
    Stream.onStart(
      Stream.mapEffect(
        Stream.takeWhile(Stream.fromQueue(orders), (order) => order._tag !== "Finish"),
        (order) =>
          order._tag === "Emit" ? Effect.succeed(encode(order.text)) : Effect.fail(new Failure("as the test said"))
      ),
      control.send({ _tag: "Begun", id, on })
    ),
    reportEnd(control, id)
  )
}

const encoder = new TextEncoder()

const encode = (text: string) => encoder.encode(text)

const hello = HttpRouter.add("GET", "/hello", HttpServerResponse.text("Hello world!"))

/** What the application has received, for every path and method that no other route has. */
const received = Effect.gen(function*() {
  const received = yield* request
  const origin = yield* FastCgiHttpServer.origin
  const body = yield* received.text
  const content: Received = {
    method: received.method,
    url: received.url,
    originalUrl: received.originalUrl,
    // A copy, because Effect's Headers hide what is secret when they are printed.
    headers: { ...received.headers },
    cookies: received.cookies,
    remoteAddress: Option.getOrUndefined(received.remoteAddress),
    body,
    keepConnection: Option.isSome(origin) && origin.value.request.keepConnection,
    on: yield* place,
    params: Option.isSome(origin) ? Array.from(origin.value.request.params) : []
  }
  return yield* HttpServerResponse.json(content)
})

// Not HEAD, which every route for GET answers.
const echo = HttpRouter.addAll(
  (["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] as const).map((method) =>
    HttpRouter.route(method, "/*", received)
  )
)

/** The same for every method there is. */
const any = HttpRouter.add("*", "/any", received)

/** The size and the hash of the body, read piece by piece. */
const digest = HttpRouter.add(
  "POST",
  "/digest",
  Effect.gen(function*() {
    const received = yield* request
    const hash = createHash("sha256")
    let size = 0
    yield* Stream.runForEachArray(received.stream, (chunks) =>
      Effect.sync(() => {
        for (const chunk of chunks) {
          hash.update(chunk)
          size += chunk.length
        }
      }))
    const content: Digest = { size, sha256: hash.digest("hex"), length: received.headers["content-length"] }
    return yield* HttpServerResponse.json(content)
  })
)

const download = HttpRouter.add(
  "GET",
  "/download",
  Effect.map(parameters, (parameters) => {
    const size = number(parameters, "size", 0)
    return HttpServerResponse.stream(
      Stream.fromIterable({ [Symbol.iterator]: () => pieces(size) }, { chunkSize: 1 }),
      parameters.has("length") ? { contentLength: size } : {}
    )
  })
)

/** Server-sent events, each when the test says so. */
const events = HttpRouter.add(
  "GET",
  "/events",
  Effect.gen(function*() {
    const query = yield* parameters
    return HttpServerResponse.stream(
      ordered(yield* Control, query.get("id") ?? "", (text) => encode(`data: ${text}\n\n`), yield* place),
      { contentType: "text/event-stream" }
    )
  })
)

/** A body of the announced length, or of none, that fails when the test says so, or at once. */
const broken = HttpRouter.add(
  "GET",
  "/broken",
  Effect.gen(function*() {
    const query = yield* parameters
    return HttpServerResponse.stream(
      query.has("fail")
        ? Stream.concat(Stream.succeed(encode("half of it")), Stream.fail(new Failure("at once")))
        : ordered(yield* Control, query.get("id") ?? "", encode, yield* place),
      {
        ...(query.has("length") ? { contentLength: number(query, "length", 0) } : {}),
        headers: query.has("unbuffered") ? { "x-accel-buffering": "no" } : {}
      }
    )
  })
)

/** Answers when the test says so, and not before. */
const wait = HttpRouter.add(
  "*",
  "/wait",
  Effect.gen(function*() {
    const id = (yield* parameters).get("id") ?? ""
    const control = yield* Control
    const orders = control.listen(id)
    yield* control.send({ _tag: "Begun", id, on: yield* place })
    yield* Effect.onExit(Queue.take(orders), reportEnd(control, id))
    return HttpServerResponse.text("finished")
  })
)

/** Reads its body and answers after so many milliseconds, as a handler does that asks a database. */
const delay = HttpRouter.add(
  "*",
  "/delay",
  Effect.gen(function*() {
    const query = yield* parameters
    const id = query.get("id")
    if (id !== null) yield* (yield* Control).send({ _tag: "Begun", id })
    const { length } = yield* Effect.flatMap(request, (request) => request.text)
    yield* Effect.sleep(number(query, "ms", 0))
    return HttpServerResponse.text(`${length} after a delay`)
  })
)

/** A body without end, or rather of 1 TiB. */
const endless = HttpRouter.add(
  "GET",
  "/endless",
  Effect.gen(function*() {
    const id = (yield* parameters).get("id") ?? ""
    const control = yield* Control
    yield* control.send({ _tag: "Begun", id })
    return HttpServerResponse.stream(Stream.onExit(
      Stream.fromIterable({ [Symbol.iterator]: () => pieces(2 ** 40) }, { chunkSize: 1 }),
      reportEnd(control, id)
    ))
  })
)

const status = HttpRouter.add(
  "*",
  "/status",
  Effect.map(parameters, (query) =>
    HttpServerResponse.empty({
      status: number(query, "code", 200),
      headers: query.has("etag") ? { etag: query.get("etag")! } : {}
    }))
)

const redirect = HttpRouter.add(
  "*",
  "/redirect",
  Effect.gen(function*() {
    const query = yield* parameters
    const id = query.get("id")
    if (id !== null) yield* (yield* Control).send({ _tag: "Begun", id })
    return HttpServerResponse.redirect(query.get("to") ?? "/", { status: number(query, "code", 302) })
  })
)

/** A page that has the web server include another one, named by `include`. */
const page = HttpRouter.add(
  "GET",
  "/page",
  Effect.map(
    parameters,
    (query) => HttpServerResponse.html(`<p><!--#include virtual="${query.get("include") ?? "/fragment"}" --></p>`)
  )
)

/** Hands the request on, `to` a path of the web server's. */
const forward = HttpRouter.add(
  "GET",
  "/forward",
  Effect.map(
    parameters,
    (query) => HttpServerResponse.empty({ headers: { "x-accel-redirect": query.get("to") ?? "/" } })
  )
)

/** As many cookies as asked for. */
const cookies = HttpRouter.add(
  "GET",
  "/cookies",
  Effect.map(parameters, (query) => {
    let response = HttpServerResponse.text("cookies")
    for (let i = 0; i < number(query, "count", 1); i++) {
      response = HttpServerResponse.setCookieUnsafe(response, `c${i}`, `v${i}`, { path: "/", httpOnly: true })
    }
    return response
  })
)

/** A response with header lines of about the size asked for in all, each of at most 1000 bytes, or `line`. */
const headers = HttpRouter.add(
  "GET",
  "/headers",
  Effect.map(parameters, (query) => {
    const lines: Record<string, string> = {}
    let left = number(query, "size", 0)
    for (let i = 0; left > 0; i++) {
      const size = Math.min(left, number(query, "line", 1000))
      lines[`x-big-${i}`] = "b".repeat(size)
      left -= size
    }
    return HttpServerResponse.text("headers", { headers: lines })
  })
)

/** Has the web server send the file, where it is configured so. */
const sendFile = HttpRouter.add(
  "GET",
  "/send-file",
  Effect.map(
    parameters,
    (query) => HttpServerResponse.empty({ status: 200, headers: { "x-sendfile": query.get("path") ?? "" } })
  )
)

/** A line on stdout, and one in the application's log. */
const print = HttpRouter.add(
  "GET",
  "/print",
  Effect.gen(function*() {
    const text = (yield* parameters).get("text") ?? ""
    yield* Console.log(text)
    yield* Effect.log(text)
    return HttpServerResponse.text("logged")
  })
)

/** A line in the web server's error log. */
const stderr = HttpRouter.add(
  "GET",
  "/stderr",
  Effect.gen(function*() {
    const query = yield* parameters
    const origin = yield* FastCgiHttpServer.origin
    if (Option.isSome(origin)) yield* origin.value.request.stderr(query.get("text") ?? "")
    return HttpServerResponse.text("logged")
  })
)

/** Lines to the application's log, before the response or between the two halves of its body. */
const log = HttpRouter.add(
  "GET",
  "/log",
  Effect.gen(function*() {
    const query = yield* parameters
    const text = query.get("text") ?? ""
    const logged = Effect.forEach(
      Array.from(
        { length: number(query, "lines", 1) },
        (_, i) => `${text}-${i} ${"l".repeat(number(query, "size", 0))}`
      ),
      (line) => Effect.logWarning(line),
      { discard: true }
    )
    // Where the application has no logger for it.
    const lines = query.has("own") ? Effect.provide(logged, Logger.layer([FastCgiLogger.make()])) : logged
    if (query.has("during")) {
      return HttpServerResponse.stream(
        Stream.concat(Stream.succeed(encode("log")), Stream.fromEffect(Effect.as(lines, encode("ged"))))
      )
    }
    yield* lines
    return HttpServerResponse.text("logged", { status: number(query, "code", 200) })
  })
)

/** A file, by its absolute path. */
const file = HttpRouter.add(
  "GET",
  "/file",
  Effect.flatMap(parameters, (query) =>
    HttpServerResponse.file(query.get("path") ?? "", {
      ...(query.has("type") ? { contentType: query.get("type")! } : {}),
      headers: { "content-disposition": "inline", "cache-control": "private, max-age=60" }
    }))
)

/** The directory whose files are at `/static`; none by default. */
export const StaticFiles = Context.Reference<string | undefined>("test/servers/StaticFiles", {
  defaultValue: () => undefined
})

const staticFiles = Layer.unwrap(Effect.map(
  StaticFiles,
  (root) => root === undefined ? Layer.empty : HttpStaticServer.layer({ root, prefix: "/static" })
))

/** Lets those in who say "let me in", and tells who they are. */
const auth = HttpRouter.add(
  "*",
  "/auth",
  Effect.map(request, ({ headers }) =>
    HttpServerResponse.empty(
      headers["authorization"] === "Bearer let me in"
        ? { status: 204, headers: { "x-user": "alice", "x-asked-for": headers["x-original-uri"] ?? "" } }
        : { status: 401, headers: { "www-authenticate": "Bearer" } }
    ))
)

const fail = HttpRouter.add("GET", "/fail", Effect.fail(new Failure("secret of the handler")))

const die = HttpRouter.add("GET", "/die", Effect.die(new Failure("secret of the handler")))

/** Takes bodies of at most 1 MiB; Effect answers 413 to others. */
const limited = HttpRouter.add(
  "POST",
  "/limited",
  Effect.flatMap(request, (request) => request.text).pipe(
    Effect.map((text) => HttpServerResponse.text(String(text.length))),
    Effect.provideService(HttpServerRequest.MaxBodySize, ByteSize.mebibytes(1))
  )
)

/** Answers without looking at the body. */
const early = HttpRouter.add("POST", "/early", HttpServerResponse.text("too large", { status: 413 }))

export const layer = HttpRouter.serve(
  Layer.mergeAll(
    hello,
    echo,
    any,
    digest,
    download,
    events,
    broken,
    wait,
    delay,
    endless,
    status,
    redirect,
    page,
    forward,
    cookies,
    headers,
    sendFile,
    print,
    stderr,
    log,
    file,
    staticFiles,
    auth,
    fail,
    die,
    limited,
    early
  ),
  {
    disableListenLog: true,
    disableLogger: true,
    middleware: (handler) =>
      Effect.flatMap(request, ({ method }) => {
        begun++
        // Effect's router has no route for a method that it does not know, not even "*".
        return Effect.ensuring(method === "FROBNICATE" ? received : handler, Effect.sync(() => ended++))
      })
  }
)
