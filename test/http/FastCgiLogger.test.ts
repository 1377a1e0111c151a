/**
 * The logger that writes to a request's STDERR, as the web server sees it: record by record, in memory.
 */
import { assert, it } from "@effect/vitest"
import { FastCgiLogger } from "effect-fastcgi/http"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Stream from "effect/Stream"
import { settle } from "../server/support/serving.ts"
import { encode, serve } from "./suite/support.ts"

type Handler = Effect.Effect<HttpServerResponse.HttpServerResponse>

/** The message alone, so that a test reads what it has written. */
const plain = Logger.make(({ message }) => (message as ReadonlyArray<unknown>).map(String).join(" "))

/** Serves the handler with the logger, and gives a peer to ask it with. */
const serving = (handler: Handler, options?: FastCgiLogger.FastCgiLoggerOptions) =>
  Effect.gen(function*() {
    yield* serve(HttpRouter.add("*", "/*", handler)).pipe(
      Effect.provide(FastCgiLogger.layer({ format: plain, ...options }))
    )
    const memory = yield* FastCgiTest.FastCgiMemory
    return yield* memory.peer
  })

/** The records of an answer, as "STDERR text" and "STDOUT text", to END_REQUEST. */
const records = (peer: FastCgiTest.Peer) =>
  Effect.gen(function*() {
    const all: Array<readonly [kind: string, content: string]> = []
    while (true) {
      const record = yield* peer.receive
      if (record._tag === "EndRequest") return all
      if (record._tag === "Stdout" || record._tag === "Stderr") {
        all.push([record._tag, new TextDecoder().decode(record.content)])
      }
    }
  })

const kinds = (all: ReadonlyArray<readonly [kind: string, content: string]>) =>
  all.map(([kind, content]) => content === "" ? `${kind} end` : kind)

const test = (name: string, body: Effect.Effect<void, unknown, Effect.Services<ReturnType<typeof serving>>>) =>
  it.effect(name, () => Effect.provide(body, FastCgiTest.layerTest))

const logging = (...lines: ReadonlyArray<string>) =>
  Effect.as(Effect.forEach(lines, (line) => Effect.logInfo(line), { discard: true }), HttpServerResponse.text("hello"))

test(
  "writes each line of a request as a record of its own, in front of the head",
  Effect.gen(function*() {
    const peer = yield* serving(logging("one", "two"))
    yield* peer.request()
    const all = yield* records(peer)
    assert.deepStrictEqual(kinds(all), ["Stderr", "Stderr", "Stdout", "Stderr end", "Stdout end"])
    assert.deepStrictEqual(all.slice(0, 2), [["Stderr", "one\n"], ["Stderr", "two\n"]])
    assert.match(all[2]![1], /\r\n\r\nhello$/)
  })
)

test(
  "writes behind the head what does not fit in front of it",
  Effect.gen(function*() {
    const header = (size: number) =>
      Effect.as(Effect.logInfo("l".repeat(400)), HttpServerResponse.empty({ headers: { "x-big": "h".repeat(size) } }))
    for (const [size, order] of [[3000, ["Stderr", "Stdout"]], [3500, ["Stdout", "Stderr"]]] as const) {
      const peer = yield* serving(header(size))
      yield* peer.request()
      assert.deepStrictEqual(kinds(yield* records(peer)).slice(0, 2), [...order])
    }
    const peer = yield* serving(logging(...Array.from({ length: 10 }, () => "l".repeat(400))))
    yield* peer.request()
    const all = kinds(yield* records(peer))
    assert.strictEqual(all[0], "Stdout")
    assert.strictEqual(all.filter((kind) => kind === "Stderr").length, 10)
  })
)

test(
  "writes at once while a body is being sent",
  Effect.gen(function*() {
    const latch = yield* Latch.make()
    const peer = yield* serving(Effect.succeed(HttpServerResponse.stream(
      Stream.concat(
        Stream.make(encode("begin")),
        Stream.fromEffect(
          Effect.logInfo("on the way").pipe(Effect.andThen(latch.await), Effect.as(encode("end")))
        )
      )
    )))
    yield* peer.request()
    assert.strictEqual((yield* peer.receive)._tag, "Stdout")
    assert.strictEqual((yield* peer.receive)._tag, "Stdout")
    const line = yield* peer.receive
    assert.isTrue(line._tag === "Stderr" && new TextDecoder().decode(line.content) === "on the way\n")
    yield* latch.open
    assert.deepStrictEqual(kinds(yield* records(peer)), ["Stdout", "Stderr end", "Stdout end"])
  })
)

test(
  "cuts long lines between characters, and makes one line of several",
  Effect.gen(function*() {
    const peer = yield* serving(
      logging("a".repeat(19) + "é", "b".repeat(20), "one\r\ntwo\0\x1b[31m\x9b\x85\u2028three\n"),
      {
        maxLineSize: 20
      }
    )
    yield* peer.request()
    assert.deepStrictEqual((yield* peer.reply()).stderr.split("\n"), [
      "a".repeat(19) + "...",
      "b".repeat(20),
      "one two [31m three",
      ""
    ])
  })
)

test(
  "writes so many lines of a request, and says that there were more",
  Effect.gen(function*() {
    const peer = yield* serving(logging("1", "2", "3", "4", "5"), { maxLines: 3 })
    for (let i = 0; i < 2; i++) {
      yield* peer.request()
      const reply = yield* peer.reply()
      assert.strictEqual(reply.stderr, "1\n2\n3\neffect-fastcgi: more log lines of this request are left out\n")
      assert.match(reply.stdout, /hello$/)
    }
    const unlimited = yield* serving(logging(...Array.from({ length: 1000 }, (_, i) => `${i} ${"x".repeat(2000)}`)))
    yield* unlimited.request()
    assert.isBelow((yield* unlimited.reply()).stderr.length, 52 * 1028)
  })
)

test(
  "writes from the given level on, and by default in logfmt without the time",
  Effect.gen(function*() {
    const peer = yield* serving(
      Effect.andThen(
        Effect.logInfo("quiet"),
        Effect.as(
          Effect.annotateLogs(Effect.logWarning("the \"disk\"\nis full"), { free: 3 }),
          HttpServerResponse.text("hello")
        )
      ),
      { format: undefined, minimumLogLevel: "Warn" }
    )
    yield* peer.request()
    assert.match(
      (yield* peer.reply()).stderr,
      /^level=WARN fiber=#\d+ message="the \\"disk\\"\\nis full" free=3\n$/
    )
  })
)

test(
  "tells the lines of requests on one connection apart, and finds those of child fibers",
  Effect.gen(function*() {
    const latch = yield* Latch.make()
    let count = 0
    const peer = yield* serving(Effect.suspend(() => {
      const mine = ++count
      const child = Effect.andThen(latch.await, Effect.logInfo(`request ${mine}`))
      return Effect.as(Effect.flatMap(Effect.forkChild(child), Fiber.join), HttpServerResponse.text("hello"))
    }))
    yield* peer.request({ requestId: 1 })
    yield* peer.request({ requestId: 2 })
    yield* settle
    yield* latch.open
    assert.strictEqual((yield* peer.reply(1)).stderr, "request 1\n")
    assert.strictEqual((yield* peer.reply(2)).stderr, "request 2\n")
  })
)

test(
  "writes nothing outside of a request, nor when the request has ended, and other loggers still do",
  Effect.gen(function*() {
    const latch = yield* Latch.make()
    const others: Array<string> = []
    const other = Logger.make(({ message }) => {
      others.push(String(message))
    })
    const late = Effect.andThen(latch.await, Effect.logInfo("late"))
    const handler = Effect.gen(function*() {
      yield* Effect.logInfo("early")
      yield* Effect.forkDetach(late)
      return HttpServerResponse.text("hello")
    })
    const peer = yield* serving(handler).pipe(Effect.provide(Logger.layer([other])))
    yield* Effect.logInfo("outside").pipe(
      Effect.provide(Layer.provideMerge(FastCgiLogger.layer({ format: plain }), Logger.layer([other])))
    )
    yield* peer.request()
    assert.strictEqual((yield* peer.reply()).stderr, "early\n")
    yield* latch.open
    yield* settle
    // The id is used again, and gets nothing of the line that is too late.
    yield* peer.request({ params: { REQUEST_METHOD: "GET", REQUEST_URI: "/again" } })
    assert.strictEqual((yield* peer.reply()).stderr, "early\n")
    yield* settle
    assert.deepStrictEqual(others, ["outside", "early", "late", "early", "late"])
  })
)

test(
  "writes what was logged in front of a handler's failure, and nothing when the client has gone away",
  Effect.gen(function*() {
    const peer = yield* serving(Effect.andThen(Effect.logInfo("about to fail"), Effect.die(new Error("secret"))))
    yield* peer.request()
    const reply = yield* peer.reply()
    assert.match(reply.stdout, /^Status: 500/)
    assert.include(reply.stderr, "about to fail\n")

    const gone = yield* serving(
      Effect.onInterrupt(Effect.never, () => Effect.logInfo("interrupted")).pipe(Effect.as(HttpServerResponse.empty()))
    )
    yield* gone.request({ stdin: "open" })
    yield* settle
    yield* gone.end
    assert.notInclude((yield* gone.drain).map((record) => record._tag), "Stderr")
  })
)

const named = (name: string) => Logger.map(plain, (line) => `${name} ${line}`)

test(
  "two of them, of two levels say, lose nothing: their lines stay in order",
  Effect.gen(function*() {
    const handler = Effect.gen(function*() {
      yield* Effect.logInfo("one")
      yield* Effect.logError("two")
      yield* Effect.logInfo("three")
      return HttpServerResponse.text("hello")
    })
    yield* serve(HttpRouter.add("*", "/*", handler)).pipe(
      Effect.provide(FastCgiLogger.layer({ format: named("all") })),
      Effect.provide(FastCgiLogger.layer({ format: named("errors"), minimumLogLevel: "Error" })),
      // Of each only so many.
      Effect.provide(FastCgiLogger.layer({ format: named("first"), maxLines: 1 }))
    )
    const peer = yield* (yield* FastCgiTest.FastCgiMemory).peer
    yield* peer.request()
    const lines = (yield* records(peer)).filter(([kind]) => kind === "Stderr").map(([, line]) => line.trimEnd())
    for (const [name, expected] of [["all", 3], ["errors", 1], ["first", 1]] as const) {
      assert.strictEqual(lines.filter((line) => line.startsWith(name)).length, expected, name)
    }
    const all = lines.filter((line) => line.startsWith("all"))
    assert.deepStrictEqual(all, ["all one", "all two", "all three"])
    assert.isBelow(lines.indexOf("all one"), lines.indexOf("errors two"))
    assert.isBelow(lines.indexOf("errors two"), lines.indexOf("all three"))
  })
)

test(
  "two of them do not put more in front of the head than one may",
  Effect.gen(function*() {
    const handler = Effect.as(Effect.logInfo("l".repeat(900)), HttpServerResponse.text("hello"))
    yield* serve(HttpRouter.add("*", "/*", Effect.andThen(Effect.logInfo("l".repeat(900)), handler))).pipe(
      Effect.provide(FastCgiLogger.layer({ format: plain })),
      Effect.provide(FastCgiLogger.layer({ format: plain, maxLineSize: 1000 })),
      Effect.provide(FastCgiLogger.layer({ format: plain, maxLineSize: 1001 }))
    )
    const peer = yield* (yield* FastCgiTest.FastCgiMemory).peer
    yield* peer.request()
    const all = kinds(yield* records(peer))
    assert.strictEqual(all[0], "Stdout")
    assert.strictEqual(all.filter((kind) => kind === "Stderr").length, 6)
  })
)
