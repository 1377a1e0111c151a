/**
 * What goes wrong: failing handlers, responses that cannot be sent, bodies that break, and what a client may see of it.
 */
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as HttpApiError from "effect/http-api/HttpApiError"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRespondable from "effect/http/HttpServerRespondable"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { Readable } from "node:stream"
import type { Cases } from "./support.ts"
import {
  assertBroken,
  empty,
  encode,
  get,
  getText,
  method,
  pattern,
  request,
  route,
  send,
  serve,
  serveLogged,
  status,
  testUnless,
  textStream
} from "./support.ts"

const secret = "a-secret-that-must-not-leak"

class Plain extends Data.TaggedError("Plain")<{ readonly detail: string }> {}

class Teapot extends Data.TaggedError("Teapot")<{ readonly note: string }> {
  [HttpServerRespondable.symbol]() {
    return Effect.succeed(HttpServerResponse.text(this.note, { status: 418, headers: { "x-tea": "green" } }))
  }
}

class Described extends Schema.TaggedError<Described>()("Described", { field: Schema.String }) {
  [HttpServerRespondable.symbol]() {
    return HttpServerResponse.schemaJson(Described)(this, { status: 422 })
  }
}

class BrokenAnswer extends Data.TaggedError("BrokenAnswer")<{}> {
  [HttpServerRespondable.symbol]() {
    return Effect.fail(new Plain({ detail: secret }))
  }
}

/** The whole response as text: head and body, to look for what must not be there. */
const everything = (response: HttpClientResponse.HttpClientResponse) =>
  Effect.map(response.text, (body) => JSON.stringify([response.headers, response.cookies, body]))

const failing = Layer.mergeAll(
  route("GET", "/fail", Effect.fail(new Plain({ detail: secret }))),
  route("GET", "/die", Effect.die(new Error(secret))),
  route(
    "GET",
    "/throw",
    Effect.sync((): HttpServerResponse.HttpServerResponse => {
      throw new TypeError(secret)
    })
  ),
  route("GET", "/string", Effect.fail(secret)),
  route("GET", "/interrupt", Effect.interrupt),
  route("GET", "/respondable", new Teapot({ note: "short and stout" })),
  route("GET", "/respondable/die", Effect.die(new Teapot({ note: "defect" }))),
  route("GET", "/respondable/schema", new Described({ field: "name" })),
  route("GET", "/respondable/broken", new BrokenAnswer()),
  route("GET", "/response/fail", Effect.fail(HttpServerResponse.text("failed", { status: 409 }))),
  route("GET", "/response/die", Effect.die(HttpServerResponse.text("died", { status: 410 }))),
  route("GET", "/api", new HttpApiError.Forbidden({})),
  route("GET", "/none", Effect.as(Effect.fromOption(Option.none()), empty)),
  route("GET", "/schema", Effect.as(Schema.decodeUnknownEffect(Schema.Number)("no"), empty)),
  route("GET", "/ok", HttpServerResponse.text("ok"))
)

export const failures: Cases = (test, capabilities) => {
  for (const [name, serve_] of [["", serve], [", with the default middleware", serveLogged]] as const) {
    test(`answers 500 to a failure, a defect, a throw and a failing answer, and says nothing of the cause${name}`, () =>
      Effect.gen(function*() {
        yield* serve_(failing)
        for (const url of ["/fail", "/die", "/throw", "/string", "/respondable/broken"]) {
          const response = yield* get(url)
          assert.strictEqual(response.status, 500, url)
          assert.isFalse((yield* everything(response)).includes(secret), url)
        }
        assert.strictEqual(yield* getText("/ok"), "ok")
      }))

    test(`answers with what an error, a defect or a response in their place says${name}`, () =>
      Effect.gen(function*() {
        yield* serve_(failing)
        const teapot = yield* get("/respondable")
        assert.strictEqual(teapot.status, 418)
        assert.strictEqual(teapot.headers["x-tea"], "green")
        assert.strictEqual(yield* teapot.text, "short and stout")
        const schema = yield* get("/respondable/schema")
        assert.strictEqual(schema.status, 422)
        assert.deepStrictEqual(yield* schema.json, { _tag: "Described", field: "name" })
        for (
          const [url, code, body] of [
            ["/respondable/die", 418, "defect"],
            ["/response/fail", 409, "failed"],
            ["/response/die", 410, "died"]
          ] as const
        ) {
          const response = yield* get(url)
          assert.strictEqual(response.status, code, url)
          assert.strictEqual(yield* response.text, body, url)
        }
      }))

    test(`answers 503 when a handler interrupts itself${name}`, () =>
      Effect.gen(function*() {
        yield* serve_(failing)
        assert.strictEqual(yield* status(get("/interrupt")), 503)
        assert.strictEqual(yield* getText("/ok"), "ok")
      }))
  }

  test("answers 403, 404 and 400 to the errors of HttpApi, Option and Schema", () =>
    Effect.gen(function*() {
      yield* serve(failing)
      assert.strictEqual(yield* status(get("/api")), 403)
      assert.strictEqual(yield* status(get("/none")), 404)
      assert.strictEqual(yield* status(get("/schema")), 400)
    }))

  test("turns a tagged error into a response where the handler says so", () =>
    Effect.gen(function*() {
      yield* serve(route(
        "GET",
        "/",
        Effect.fail(new Plain({ detail: "known" })).pipe(
          Effect.catchTag("Plain", (error) => Effect.succeed(HttpServerResponse.text(error.detail, { status: 402 })))
        )
      ))
      const response = yield* get("/")
      assert.strictEqual(response.status, 402)
      assert.strictEqual(yield* response.text, "known")
    }))

  test("answers 500 to a header value with CR, LF or NUL, and sends nothing of it", () =>
    Effect.gen(function*() {
      const values: Record<string, string> = {
        "/crlf": "a\r\nset-cookie: stolen=1",
        "/lf": "a\nx-injected: 1",
        "/cr": "a\rx-injected: 1",
        "/nul": "a\u0000b",
        "/body": "a\r\n\r\n<script>injected</script>",
        "/wide": "not latin1: \u20ac"
      }
      yield* HttpServer.serveEffect(Effect.map(request, ({ url }) =>
        HttpServerResponse.text("body", { headers: { "x-value": values[url] ?? "fine", "x-other": "dropped" } })))
      for (const url of Object.keys(values)) {
        const response = yield* get(url)
        assert.strictEqual(response.status, 500, url)
        assert.isUndefined(response.headers["x-value"], url)
        assert.isUndefined(response.headers["x-injected"], url)
        assert.isUndefined(response.headers["x-other"], url)
        assert.isUndefined(response.headers["set-cookie"], url)
        assert.strictEqual(yield* response.text, "", url)
      }
      assert.strictEqual(yield* getText("/fine"), "body")
    }))

  test("answers 500 to a header name that is no token and to a broken cookie header", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(Effect.map(request, ({ url }) => {
        switch (url) {
          case "/name":
            return HttpServerResponse.text("body", { headers: { "x bad": "1" } })
          case "/name-crlf":
            return HttpServerResponse.text("body", { headers: { "x-a\r\nx-injected": "1" } })
          case "/name-colon":
            return HttpServerResponse.text("body", { headers: { "x:y": "1" } })
          default:
            return HttpServerResponse.text("body", { headers: { "set-cookie": "a=b\r\nx-injected: 1" } })
        }
      }))
      for (const url of ["/name", "/name-crlf", "/name-colon", "/cookie"]) {
        const response = yield* get(url)
        assert.strictEqual(response.status, 500, url)
        assert.isUndefined(response.headers["x-injected"], url)
        assert.strictEqual(yield* response.text, "", url)
      }
    }))

  test("sends nothing of a status text with CR or LF in it", () =>
    Effect.gen(function*() {
      yield* serve(Layer.mergeAll(
        route("GET", "/", HttpServerResponse.text("body", { statusText: "Fine\r\nx-injected: 1" })),
        route("GET", "/ok", HttpServerResponse.text("ok"))
      ))
      // A 500 is right; node:http keeps the status text it has refused, and can then only close the connection.
      const exit = yield* Effect.exit(get("/"))
      if (exit._tag === "Success") {
        assert.strictEqual(exit.value.status, 500)
        assert.isUndefined(exit.value.headers["x-injected"])
        assert.strictEqual(yield* exit.value.text, "")
      }
      assert.strictEqual(yield* getText("/ok"), "ok")
    }))

  test("answers 500 to a status that is not final, with none of the response's headers", () =>
    Effect.gen(function*() {
      yield* HttpServer.serveEffect(Effect.map(request, ({ url }) =>
        HttpServerResponse.text("body", { status: Number(url.slice(1)), headers: { "x-other": "dropped" } })))
      for (const code of [0, 100, 101, 103, 199, 600, 999]) {
        const response = yield* get(`/${code}`)
        assert.strictEqual(response.status, 500, String(code))
        assert.isUndefined(response.headers["x-other"])
        assert.strictEqual(yield* response.text, "")
      }
      const onHead = yield* send(method("HEAD", "/100"))
      assert.strictEqual(onHead.status, 500)
    }))

  test("does not let a body pass for complete that is shorter than its length", () =>
    Effect.gen(function*() {
      yield* serve(Layer.mergeAll(
        route("GET", "/stream", HttpServerResponse.stream(textStream("12345"), { contentLength: 10 })),
        route("GET", "/nothing", HttpServerResponse.stream(Stream.empty, { contentLength: 10 })),
        route(
          "GET",
          "/readable",
          Effect.sync(() => HttpServerResponse.raw(Readable.from([encode("12345")]), { contentLength: 10 }))
        ),
        route("GET", "/text", HttpServerResponse.setHeader(HttpServerResponse.text("12345"), "content-length", "10")),
        route("GET", "/raw", HttpServerResponse.raw("12345", { contentLength: 10 })),
        route("GET", "/ok", HttpServerResponse.text("ok"))
      ))
      for (const url of ["/stream", "/nothing", "/readable", "/text", "/raw"]) {
        yield* assertBroken(get(url))
        assert.strictEqual(yield* getText("/ok"), "ok")
      }
    }))

  testUnless(test, capabilities.cutOffTakesTheNext)(
    "does not let a body pass for complete that is longer than its length",
    () =>
      Effect.gen(function*() {
        yield* serve(Layer.mergeAll(
          route(
            "GET",
            "/stream",
            HttpServerResponse.stream(textStream("12345", "67890", "12345", "67890"), { contentLength: 10 })
          ),
          route(
            "GET",
            "/readable",
            Effect.sync(() =>
              HttpServerResponse.raw(Readable.from([encode("12345"), encode("1234567890")]), { contentLength: 10 })
            )
          ),
          route(
            "GET",
            "/text",
            HttpServerResponse.setHeader(HttpServerResponse.text("1234567890"), "content-length", "5")
          ),
          route("GET", "/ok", HttpServerResponse.text("ok"))
        ))
        // A client that stops at the tenth byte may be content; more than the declared length it may never see.
        for (const [url, length] of [["/stream", 10], ["/readable", 10], ["/text", 5]] as const) {
          // What has not begun when it breaks off may also be a 500, in one piece.
          const read = yield* Effect.exit(
            Effect.flatMap(
              get(url),
              (response) => Effect.map(response.text, (text) => response.status === 500 ? "" : text)
            )
          )
          if (read._tag === "Success") assert.isAtMost(read.value.length, length, url)
          assert.strictEqual(yield* getText("/ok"), "ok")
        }
      })
  )

  test("does not let a body pass for complete whose stream fails or dies after the head", () =>
    Effect.gen(function*() {
      const first = Stream.make(pattern(1000))
      yield* serve(Layer.mergeAll(
        route(
          "GET",
          "/fail",
          HttpServerResponse.stream(Stream.concat(first, Stream.fail(new Plain({ detail: secret }))))
        ),
        route("GET", "/die", HttpServerResponse.stream(Stream.concat(first, Stream.die(new Error(secret))))),
        route(
          "GET",
          "/interrupt",
          HttpServerResponse.stream(Stream.concat(first, Stream.fromEffect(Effect.interrupt)))
        ),
        route(
          "GET",
          "/length",
          HttpServerResponse.stream(Stream.concat(first, Stream.fail("late")), { contentLength: 2000 })
        ),
        route("GET", "/readable", Effect.sync(() => HttpServerResponse.raw(Readable.from(failingChunks())))),
        route("GET", "/ok", HttpServerResponse.text("ok"))
      ))
      for (const url of ["/fail", "/die", "/interrupt", "/length", "/readable"]) {
        yield* assertBroken(get(url))
        assert.strictEqual(yield* getText("/ok"), "ok")
      }
    }))

  test("does not let a response pass for complete whose stream fails before its first chunk", () =>
    Effect.gen(function*() {
      yield* serve(Layer.mergeAll(
        route("GET", "/", HttpServerResponse.stream(Stream.fail(new Plain({ detail: secret })))),
        route("GET", "/ok", HttpServerResponse.text("ok"))
      ))
      // The head counts as sent: either nothing comes, or a response that breaks off, or a 500: never a complete 200.
      const exit = yield* Effect.exit(Effect.flatMap(get("/"), (response) => Effect.as(response.text, response.status)))
      if (exit._tag === "Success") assert.strictEqual(exit.value, 500)
      else assert.isFalse(Cause.pretty(exit.cause).includes(secret))
      assert.strictEqual(yield* getText("/ok"), "ok")
    }))

  test("does not let an empty response pass for complete that declares a length", () =>
    Effect.gen(function*() {
      yield* serve(Layer.mergeAll(
        route("GET", "/", HttpServerResponse.empty({ status: 200, headers: { "content-length": "5" } })),
        route("GET", "/ok", HttpServerResponse.text("ok"))
      ))
      yield* assertBroken(get("/"))
      assert.strictEqual(yield* getText("/ok"), "ok")
    }))
}

function* failingChunks() {
  yield encode("first")
  throw new Error(secret)
}
