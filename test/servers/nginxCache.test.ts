/**
 * nginx's cache in front of an application: what docs/caching.md says of it, in its configurations and in those that it warns of.
 */
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Latch from "effect/Latch"
import * as Path from "node:path"
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
import * as Http from "./support/http.ts"
import * as Nginx from "./support/nginx.ts"

const title = "a cache in front of the application"

/** One nginx, with a server block and a cache for each configuration. */
const nginxLayer = (nginx: string) =>
  cacheLayer({
    language: "nginx",
    configurations: [
      ["documented", title],
      ["HEAD as GET", "HEAD fills the cache for GET"],
      ["slices", "files in slices"],
      ["key without method", title, [["$scheme$request_method$host", "$scheme$host"]]],
      ["no key", title, [["fastcgi_cache_key ", "# "]]],
      ["no lock", title, [["fastcgi_cache_lock on;", ""]]],
      ["impatient lock", title, [[
        "fastcgi_cache_lock on;",
        "fastcgi_cache_lock on; fastcgi_cache_lock_timeout 100ms;"
      ]]],
      ["no bypass", title, [["fastcgi_cache_bypass", "# "], ["fastcgi_no_cache", "# "]]],
      ["cookies ignored", title, [[
        "fastcgi_cache app;",
        "fastcgi_cache app; fastcgi_ignore_headers Set-Cookie;"
      ]]],
      ["no revalidation", title, [
        ["fastcgi_cache_revalidate on;", ""],
        ["fastcgi_cache_background_update on;", ""],
        ["fastcgi_cache_use_stale updating error timeout http_500 http_503;", ""]
      ]],
      ["unbuffered", title, [["fastcgi_cache app;", "fastcgi_cache app; fastcgi_buffering off;"]]],
      ["valid", title, [["fastcgi_cache app;", "fastcgi_cache app; fastcgi_cache_valid 200 1m;"]]]
    ],
    places: ({ application, folder, number, port }) => [
      ["listen 80;", `listen 127.0.0.1:${port};`],
      ["/var/cache/nginx/app", Path.join(folder, `cache${number}`)],
      ["unix:/run/app/app.sock", application],
      ["keys_zone=app:", `keys_zone=app${number}:`],
      ["fastcgi_cache app;", `fastcgi_cache app${number};`],
      ["upstream app ", `upstream app${number} `],
      ["fastcgi_pass app;", `fastcgi_pass app${number};`],
      ["include fastcgi_params;", "include /etc/nginx/fastcgi_params;"]
    ],
    start: (folder, sections, ports) => Nginx.start(nginx, folder, sections, ports)
  })

describeWith(["nginx"], "nginx's cache", (nginx) => {
  layer(nginxLayer(nginx!), { excludeTestServices: true })((it) => {
    describe("in the configuration of docs/caching.md", () => {
      it.effect("keeps what the application says may be kept, and nothing else", () =>
        Effect.gen(function*() {
          const kept = (headers: Record<string, string>, more?: { readonly status: number }) =>
            isKept("documented", counting(headers, more))
          assert.isTrue(yield* kept(forAMinute))
          assert.isTrue(yield* kept({ "cache-control": "s-maxage=60, max-age=0" }))
          assert.isTrue(yield* kept({ "x-accel-expires": "60" }))
          assert.isTrue(yield* kept({ "x-accel-expires": "60", "cache-control": "max-age=0" }))
          assert.isTrue(yield* kept({ expires: "Thu, 01 Jan 2099 00:00:00 GMT" }))
          assert.isTrue(yield* kept(forAMinute, { status: 404 }))
          assert.isTrue(yield* kept(forAMinute, { status: 500 }))
          for (const directive of ["private", "no-store", "no-cache"]) {
            assert.isFalse(yield* kept({ "cache-control": `${directive}, max-age=60` }), directive)
          }
          assert.isFalse(yield* kept({ "cache-control": "max-age=0" }))
          assert.isFalse(yield* kept({}))
          assert.isFalse(yield* kept({ etag: "\"a\"" }))
          assert.isFalse(yield* kept({ ...forAMinute, "set-cookie": "a=b" }))
          assert.isFalse(yield* kept({ ...forAMinute, "x-accel-buffering": "no" }))
          assert.isFalse(yield* isKept("documented", counting(forAMinute), { method: "POST", body: "a" }))
          assert.isFalse(yield* isKept("unbuffered", counting(forAMinute)))
          assert.isTrue(yield* isKept("valid", counting({})))
        }))

      it.effect("tells hosts apart, and says what it has done", () =>
        Effect.gen(function*() {
          const same = yield* twice("documented", counting(forAMinute))
          assert.deepStrictEqual([same.one.headers["x-cache"], same.two.headers["x-cache"]], ["MISS", "HIT"])
          assert.isFalse(yield* isKept("documented", counting(forAMinute), {}, { headers: { host: "other.test" } }))
        }))

      it.effect("keeps one response for each value of the headers in Vary, and none of Vary: *", () =>
        Effect.gen(function*() {
          const german = { headers: { "accept-language": "de" } }
          const english = { headers: { "accept-language": "en" } }
          const varying = counting({ ...forAMinute, vary: "Accept-Language" })
          const { asked, path } = yield* twice("documented", varying, german, english)
          const port = (yield* Cache).port("documented")
          for (const language of [german, english, german]) yield* Http.request(port, path, language)
          assert.strictEqual(asked.length, 2)
          assert.isFalse(yield* isKept("documented", counting({ ...forAMinute, vary: "*" })))
        }))

      it.effect("gives nothing of it to those who have logged in, and keeps nothing of theirs", () =>
        Effect.gen(function*() {
          const port = (yield* Cache).port("documented")
          for (const headers of [{ authorization: "Basic eDp5" }, { cookie: "session=1" }]) {
            const { asked, path } = yield* twice("documented", counting(forAMinute), { headers }, {})
            assert.strictEqual(asked.length, 2)
            const again = yield* Http.request(port, path, { headers })
            assert.deepStrictEqual([again.text, again.headers["x-cache"]], ["GET 3", "BYPASS"])
            assert.strictEqual((yield* Http.request(port, path)).text, "GET 2")
          }
        }))

      it.effect("answers If-None-Match itself, and does not pass it on", () =>
        Effect.gen(function*() {
          const match = { headers: { "if-none-match": "\"a\"" } }
          const { asked, one, two } = yield* twice("documented", counting({ ...forAMinute, etag: "\"a\"" }), match)
          assert.deepStrictEqual([one.status, two.status, asked.length], [304, 304, 1])
          assert.isUndefined(asked[0]!.headers["if-none-match"])
        }))

      it.effect("asks with the ETag of what has expired, answers with that meanwhile, and keeps it on after a 304", () =>
        Effect.gen(function*() {
          const application = yield* Application
          const port = (yield* Cache).port("documented")
          const path = application.page((request, count) =>
            Effect.succeed(
              request.headers["if-none-match"] === "\"a\""
                ? HttpServerResponse.empty({ status: 304, headers: { etag: "\"a\"", ...forAMinute } })
                : HttpServerResponse.text(`GET ${count}`, { headers: { etag: "\"a\"", ...forASecond } })
            )
          )
          yield* Http.request(port, path)
          const stale = yield* until(port, path, "it has expired", ({ headers }) => headers["x-cache"] !== "HIT")
          assert.deepStrictEqual([stale.headers["x-cache"], stale.text], ["STALE", "GET 1"])
          const kept = yield* until(port, path, "it is valid again", ({ headers }) => headers["x-cache"] === "HIT")
          assert.strictEqual(kept.text, "GET 1")
          assert.deepStrictEqual(
            application.asked(path).map(({ headers }) => headers["if-none-match"]),
            [undefined, "\"a\""]
          )
        }))

      it.effect("answers with what has expired while the application fails", () =>
        Effect.gen(function*() {
          const application = yield* Application
          const port = (yield* Cache).port("documented")
          const path = application.page((request, count) =>
            count === 1
              ? counting(forASecond)(request, count)
              : Effect.succeed(HttpServerResponse.empty({ status: 503 }))
          )
          yield* Http.request(port, path)
          yield* until(port, path, "it has been asked for again", () => application.asked(path).length > 1)
          const stale = yield* Http.request(port, path)
          assert.deepStrictEqual([stale.status, stale.text], [200, "GET 1"])
        }))

      it.effect("asks once for what many want at the same time", () =>
        Effect.gen(function*() {
          const application = yield* Application
          const cache = yield* Cache
          const many = Effect.fnUntraced(function*(configuration: string, asked: number) {
            const answers = yield* Latch.make()
            const path = application.page((request, count) =>
              Effect.andThen(answers.await, counting(forAMinute)(request, count))
            )
            const ask = Http.request(cache.port(configuration), path)
            const begun = WebServers.until(`asked ${asked} times`, () => application.asked(path).length === asked)
            yield* Effect.all([Effect.andThen(begun, answers.open), ask, ask, ask], { concurrency: "unbounded" })
            assert.strictEqual(application.asked(path).length, asked)
          })
          yield* many("documented", 1)
          yield* many("no lock", 3)
          // Whoever has waited for fastcgi_cache_lock_timeout asks for himself.
          yield* many("impatient lock", 3)
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

      it.effect("cuts ranges out of what it has, when the response says that it has ranges", () =>
        Effect.gen(function*() {
          const range = { headers: { range: "bytes=0-2" } }
          const whole = yield* twice("documented", counting(forAMinute), range)
          assert.deepStrictEqual([whole.one.status, whole.two.status], [200, 200])
          const cut = yield* twice("documented", counting({ ...forAMinute, "accept-ranges": "bytes" }), range)
          assert.deepStrictEqual([cut.one.status, cut.two.status, cut.two.text, cut.asked.length], [206, 206, "GET", 1])
          assert.isUndefined(cut.asked[0]!.headers["range"])
        }))

      it.effect("logs what stands on STDERR in front of the head again with every hit", () =>
        Effect.gen(function*() {
          const { program } = yield* Cache
          const { asked, path } = yield* twice("documented", (request, count) =>
            Effect.andThen(Effect.logWarning(`a warning of ${request.url}`), counting(forAMinute)(request, count)))
          assert.strictEqual(asked.length, 1)
          const logged = () =>
            program.log().split(`FastCGI sent in stderr: "level=WARN`)
          yield* WebServers.until(
            "it is logged twice",
            () =>
              logged().filter((line) => line.includes(`a warning of ${path}"`)).length === 2
          )
        }))
    })

    describe("in other configurations", () => {
      it.effect("without the method in the key answers GET with the response to HEAD, which has no body", () =>
        Effect.gen(function*() {
          const application = yield* Application
          const port = (yield* Cache).port("key without method")
          const path = application.page(counting(forAMinute))
          yield* Http.request(port, path, { method: "HEAD" })
          // A client that keeps its connection waits for the rest.
          const closing = { headers: { connection: "close" }, agent: undefined }
          const failure = yield* Effect.flip(Http.request(port, path, closing))
          assert.match(failure.message, /cut off after 0 bytes/)
          assert.strictEqual(application.asked(path).length, 1)

          const { asked, two } = yield* twice("documented", counting(forAMinute), { method: "HEAD" }, {})
          assert.deepStrictEqual([asked.length, two.text], [2, "GET 2"])
        }))

      it.effect("that asks for GET where a client says HEAD keeps one response for both", () =>
        Effect.gen(function*() {
          const { asked, one, two } = yield* twice("HEAD as GET", counting(forAMinute), { method: "HEAD" }, {})
          assert.deepStrictEqual([one.text, one.headers["content-length"]], ["", "5"])
          assert.deepStrictEqual([two.text, two.headers["x-cache"]], ["GET 1", "HIT"])
          assert.deepStrictEqual(asked.map(({ method }) => method), ["GET"])
          const posts = yield* twice("HEAD as GET", counting(forAMinute), { method: "POST", body: "a" })
          assert.strictEqual(posts.two.text, "POST 2")
        }))

      it.effect("without a key warns, and gives one page for all paths", () =>
        Effect.gen(function*() {
          const application = yield* Application
          const { port, program } = yield* Cache
          assert.match(program.log(), /\[warn\].*no "fastcgi_cache_key" for "fastcgi_cache"/)
          const one = application.page(counting(forAMinute))
          const other = application.page(counting(forAMinute))
          yield* Http.request(port("no key"), one)
          yield* Http.request(port("no key"), other)
          assert.strictEqual(application.asked(other).length, 0)
        }))

      it.effect("without the bypass gives everybody the page of one who has logged in", () =>
        Effect.gen(function*() {
          const user = { headers: { authorization: "Basic eDp5" } }
          assert.isTrue(yield* isKept("no bypass", counting(forAMinute), user, {}))
        }))

      it.effect("that ignores Set-Cookie gives everybody the cookie of one", () =>
        Effect.gen(function*() {
          const { asked, two } = yield* twice("cookies ignored", (request, count) =>
            counting({ ...forAMinute, "set-cookie": `a=${count}` })(request, count))
          assert.deepStrictEqual([asked.length, two.setCookies], [1, ["a=1"]])
        }))

      it.effect("without revalidation asks without the ETag, and lets its clients wait", () =>
        Effect.gen(function*() {
          const application = yield* Application
          const port = (yield* Cache).port("no revalidation")
          const path = application.page(counting({ ...forASecond, etag: "\"a\"" }))
          yield* Http.request(port, path)
          const expired = yield* until(port, path, "it has expired", ({ headers }) => headers["x-cache"] !== "HIT")
          assert.deepStrictEqual([expired.headers["x-cache"], expired.text], ["EXPIRED", "GET 2"])
          assert.isUndefined(application.asked(path)[1]!.headers["if-none-match"])
        }))

      it.effect("asks for large files slice by slice", () =>
        Effect.gen(function*() {
          const application = yield* Application
          const content = Buffer.alloc(2_500_000, "0123456789")
          const path = application.page((request) => {
            const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers["range"] ?? "")!
            const part = content.subarray(Number(from), Number(to) + 1)
            return Effect.succeed(HttpServerResponse.uint8Array(part, {
              status: 206,
              headers: {
                ...forAMinute,
                etag: "\"a\"",
                "content-range": `bytes ${from}-${Number(from) + part.length - 1}/${content.length}`
              }
            }))
          })
          const ranges = () => application.asked(path).map(({ headers }) => headers["range"])
          const port = (yield* Cache).port("slices")
          const part = yield* Http.request(port, path, { headers: { range: "bytes=2000000-2000009" } })
          assert.deepStrictEqual([part.status, part.text], [206, "0123456789"])
          assert.deepStrictEqual(ranges(), ["bytes=1048576-2097151"])
          const whole = yield* Http.request(port, path)
          assert.isTrue(whole.body.equals(content))
          assert.deepStrictEqual(ranges(), ["bytes=1048576-2097151", "bytes=0-1048575", "bytes=2097152-3145727"])
        }))
    })
  })
})
