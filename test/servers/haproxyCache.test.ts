/**
 * HAProxy's cache in front of an application: what docs/caching.md says of it, in its configuration and in those that it warns of.
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Latch from "effect/Latch"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import {
  Application,
  breakingOff,
  Cache,
  cacheLayer,
  counting,
  forAMinute,
  forASecond,
  isKept,
  twice,
  until
} from "./support/caching.ts"
import * as HAProxy from "./support/haproxy.ts"
import * as Http from "./support/http.ts"

const conditions = "if { res.hdr(Cache-Control) -m found } !{ res.hdr(Set-Cookie) -m found }"

const title = "a cache in front of the application"

/** One HAProxy, with a frontend and a cache for each configuration. */
const haproxyLayer = (haproxy: string) =>
  cacheLayer({
    language: "haproxy",
    configurations: [
      ["documented", title],
      ["Status stays", title, [["http-response del-header Status ", "# "]]],
      ["everything", title, [[conditions, ""]]],
      ["no Vary", title, [["process-vary on", "process-vary off"]]]
    ],
    places: ({ application, number, port }) => [
      ["bind :80", `bind 127.0.0.1:${port}`],
      ["unix@/run/app/app.sock", application],
      ["cache pages\n", `cache pages${number}\n`],
      ["cache-use pages ", `cache-use pages${number} `],
      ["cache-store pages", `cache-store pages${number}`],
      ["fcgi-app app\n", `fcgi-app app${number}\n`],
      ["frontend web\n", `frontend web${number}\n`],
      ["backend app\n", `backend app${number}\n`]
    ],
    start: (folder, sections, ports) => HAProxy.start(haproxy, folder, sections, ports)
  })

describeWith(["haproxy"], "HAProxy's cache", (haproxy) => {
  layer(haproxyLayer(haproxy!), { excludeTestServices: true })((it) => {
    it.effect("keeps what the application says may be kept, and nothing else", () =>
      Effect.gen(function*() {
        const kept = (headers: Record<string, string>, more?: { readonly status: number }) =>
          isKept("documented", counting(headers, more))
        assert.isTrue(yield* kept(forAMinute))
        assert.isTrue(yield* kept({ "cache-control": "s-maxage=60" }))
        for (const directive of ["private", "no-store", "no-cache", "max-age=0"]) {
          assert.isFalse(yield* kept({ "cache-control": `${directive}, s-maxage=60` }), directive)
        }
        assert.isFalse(yield* kept({}))
        assert.isFalse(yield* kept({ etag: "\"a\"" }))
        assert.isFalse(yield* kept({ ...forAMinute, "set-cookie": "a=b" }))
        assert.isFalse(yield* kept(forAMinute, { status: 404 }))
        assert.isFalse(yield* kept(forAMinute, { status: 500 }))
        assert.isFalse(yield* isKept("documented", counting(forAMinute), { method: "POST", body: "a" }))
        const large = HttpServerResponse.uint8Array(Buffer.alloc(1_000_001), { headers: forAMinute })
        assert.isFalse(yield* isKept("documented", () => Effect.succeed(large)))
      }))

    it.effect("tells hosts apart, and says what it has done", () =>
      Effect.gen(function*() {
        const same = yield* twice("documented", counting(forAMinute))
        assert.deepStrictEqual([same.one.headers["x-cache"], same.two.headers["x-cache"]], ["MISS", "HIT"])
        assert.isFalse(yield* isKept("documented", counting(forAMinute), {}, { headers: { host: "other.test" } }))
      }))

    it.effect("answers HEAD with what it has for GET, and keeps no response to HEAD", () =>
      Effect.gen(function*() {
        const head = { method: "HEAD" }
        const { asked, two } = yield* twice("documented", counting(forAMinute), {}, head)
        assert.deepStrictEqual([asked.length, two.status, two.headers["content-length"]], [1, 200, "5"])
        assert.isFalse(yield* isKept("documented", counting(forAMinute), head))
      }))

    it.effect("gives nothing of it to those who have logged in, and keeps nothing of theirs", () =>
      Effect.gen(function*() {
        const port = (yield* Cache).port("documented")
        for (const headers of [{ authorization: "Basic eDp5" }, { cookie: "session=1" }]) {
          const { asked, path } = yield* twice("documented", counting(forAMinute), { headers }, {})
          assert.strictEqual((yield* Http.request(port, path, { headers })).text, "GET 3")
          assert.strictEqual((yield* Http.request(port, path)).text, "GET 2")
          assert.strictEqual(asked.length, 3)
        }
      }))

    it.effect("keeps responses with Vary: Accept-Encoding, with process-vary, and none that vary with more", () =>
      Effect.gen(function*() {
        const application = yield* Application
        const port = (yield* Cache).port("documented")
        const gzip = { headers: { "accept-encoding": "gzip" } }
        const identity = { headers: { "accept-encoding": "identity" } }
        const plain = { ...forAMinute, vary: "Accept-Encoding" }
        const path = application.page((request, count) =>
          request.headers["accept-encoding"] === "gzip"
            ? counting({ ...plain, "content-encoding": "gzip" })(request, count)
            : counting(plain)(request, count)
        )
        // Who does not say what he takes gets what there is.
        for (const options of [gzip, identity, gzip, identity, {}]) yield* Http.request(port, path, options)
        assert.strictEqual(application.asked(path).length, 2)
        for (const vary of ["Accept-Language", "*"]) {
          assert.isFalse(yield* isKept("documented", counting({ ...forAMinute, vary })))
        }
        assert.isFalse(yield* isKept("no Vary", counting({ ...forAMinute, vary: "Accept-Encoding" })))
      }))

    it.effect("answers If-None-Match itself when it has the page, and passes it on when not", () =>
      Effect.gen(function*() {
        const match = { headers: { "if-none-match": "\"a\"" } }
        const answer = counting({ ...forAMinute, etag: "\"a\"" })
        const had = yield* twice("documented", answer, {}, match)
        assert.deepStrictEqual([had.two.status, had.asked.length], [304, 1])
        const { asked } = yield* twice("documented", (request, count) =>
          request.headers["if-none-match"] === "\"a\""
            ? Effect.succeed(HttpServerResponse.empty({ status: 304, headers: { etag: "\"a\"", ...forAMinute } }))
            : answer(request, count), match)
        assert.deepStrictEqual(asked.map(({ headers }) => headers["if-none-match"]), ["\"a\"", "\"a\""])
      }))

    it.effect("asks for what has expired without its ETag, and has nothing when the application fails", () =>
      Effect.gen(function*() {
        const application = yield* Application
        const port = (yield* Cache).port("documented")
        const path = application.page((request, count) =>
          count === 1
            ? counting({ ...forASecond, etag: "\"a\"" })(request, count)
            : Effect.succeed(HttpServerResponse.empty({ status: 503 }))
        )
        yield* Http.request(port, path)
        yield* until(port, path, "it has expired", ({ status }) => status === 503)
        assert.isUndefined(application.asked(path)[1]!.headers["if-none-match"])
      }))

    it.effect("asks as often as clients want the same at the same time", () =>
      Effect.gen(function*() {
        const application = yield* Application
        const port = (yield* Cache).port("documented")
        const answers = yield* Latch.make()
        const path = application.page((request, count) =>
          Effect.andThen(answers.await, counting(forAMinute)(request, count))
        )
        const ask = Http.request(port, path)
        const begun = WebServers.until("asked three times", () => application.asked(path).length === 3)
        yield* Effect.all([Effect.andThen(begun, answers.open), ask, ask, ask], { concurrency: "unbounded" })
      }))

    it.effect("keeps nothing of a response that breaks off", () =>
      Effect.gen(function*() {
        const application = yield* Application
        const path = application.page((request, count) =>
          count === 1 ? Effect.succeed(breakingOff()) : counting(forAMinute)(request, count)
        )
        const port = (yield* Cache).port("documented")
        yield* Effect.flip(Http.request(port, path))
        assert.strictEqual((yield* Http.request(port, path)).text, "GET 2")
      }))

    it.effect("passes ranges on, keeps none, and gives the whole of what it has", () =>
      Effect.gen(function*() {
        const range = { headers: { range: "bytes=0-4" } }
        const part = counting({ ...forAMinute, "content-range": "bytes 0-4/9" }, { status: 206 })
        const parts = yield* twice("documented", part, range)
        assert.deepStrictEqual(parts.asked.map(({ headers }) => headers["range"]), ["bytes=0-4", "bytes=0-4"])
        const whole = counting({ ...forAMinute, "accept-ranges": "bytes" })
        const { asked, two } = yield* twice("documented", whole, {}, range)
        assert.deepStrictEqual([asked.length, two.status, two.text], [1, 200, "GET 1"])
      }))

    it.effect("logs what is on STDERR once", () =>
      Effect.gen(function*() {
        const application = yield* Application
        const { port, program } = yield* Cache
        const warning = () =>
          application.page((request, count) =>
            Effect.andThen(Effect.logWarning(`a warning of ${request.url}.`), counting(forAMinute)(request, count))
          )
        const path = warning()
        const last = warning()
        for (const asked of [path, path, path, last]) yield* Http.request(port("documented"), asked)
        yield* program.says(`a warning of ${last}.`)
        assert.strictEqual(program.log().split(`a warning of ${path}.`).length - 1, 1)
      }))

    it.effect("in other configurations gives a Status header, and everybody the cookie of one", () =>
      Effect.gen(function*() {
        const plain = yield* twice("documented", counting(forAMinute))
        assert.deepStrictEqual([plain.asked.length, plain.two.headers["status"]], [1, undefined])
        const status = yield* twice("Status stays", counting(forAMinute))
        assert.deepStrictEqual([status.one.headers["status"], status.two.headers["status"]], [undefined, "200 OK"])

        const cookies = yield* twice(
          "everything",
          (request, count) => counting({ ...forAMinute, "set-cookie": `a=${count}` })(request, count)
        )
        assert.deepStrictEqual([cookies.asked.length, cookies.two.setCookies], [1, ["a=1"]])
        // Nobody has said that this may be kept.
        assert.isTrue(yield* isKept("everything", counting({ etag: "\"a\"" })))
        assert.isTrue(yield* isKept("everything", counting({ "last-modified": "Thu, 01 Jan 2026 00:00:00 GMT" })))
      }))
  })
})
