/**
 * What must hold behind every web server, in every one of its configurations: one case is one behaviour of HTTP, seen by a client
 * of the web server. How a row of the matrix differs is in its `differences`, with the reason.
 */
import type { Vitest } from "@effect/vitest"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { createHash } from "node:crypto"
import { CgiRequest, FastCgiParams } from "../../../src/index.ts"
import { digestOf, pieces } from "./content.ts"
import { open, type Opened, request, type RequestOptions, type Response, uploads } from "./http.ts"
import type { Digest, Received } from "./messages.ts"
import { type PathOutcome, type Row, Site } from "./site.ts"

/**
 * How soon the application must know that a client has gone away: on a quiet machine it takes milliseconds, and nothing that waits
 * for a time limit is as quick. Milliseconds.
 */
const abortDeadline = 10_000

const rawUtf8 = Buffer.from("/grüße", "utf8").toString("latin1")

const json = <A>(response: Response): A => JSON.parse(response.text) as A

/** Registers the cases for one row. */
export const cases = (it: Vitest.MethodsNonLive<Site>, row: Row): void => {
  const { differences } = row

  /** A request to this row. */
  const send = (target: string, options?: RequestOptions) =>
    Effect.flatMap(Site, (site) => request(site.port(row), target, options))

  const start = (target: string, options?: RequestOptions) =>
    Effect.flatMap(Site, (site) => open(site.port(row), target, options))

  const application = Effect.map(Site, (site) => site.application)

  const received = (target: string, options?: RequestOptions) =>
    Effect.map(send(target, options), (response) => {
      assert.strictEqual(response.status, 200, response.text)
      return json<Received>(response)
    })

  /** The Content-Length that the client sees of a response with this length. */
  const lengthOf = (length: number) => differences.dropsLength === undefined ? String(length) : undefined

  // --- requests ----------------------------------------------------------------------------------

  it.effect("answers GET", () =>
    Effect.gen(function*() {
      const response = yield* send("/hello")
      assert.strictEqual(response.status, 200)
      assert.strictEqual(response.text, "Hello world!")
      assert.strictEqual(response.headers["content-type"], "text/plain")
      assert.strictEqual(response.headers["content-length"], lengthOf(12))
      assert.isUndefined(response.headers["status"])
    }))

  it.effect("answers HEAD with the head of GET and no body", () =>
    Effect.gen(function*() {
      const response = yield* send("/hello", { method: "HEAD" })
      assert.strictEqual(response.status, 200)
      assert.strictEqual(response.headers["content-type"], "text/plain")
      assert.strictEqual(response.headers["content-length"], lengthOf(12))
      assert.strictEqual(response.body.length, 0)
      // And the connection is in order: the next response is not taken for the body of this one.
      assert.strictEqual((yield* send("/hello")).text, "Hello world!")
    }))

  for (const method of ["OPTIONS", "PUT", "PATCH", "DELETE"]) {
    it.effect(`passes ${method} on`, () =>
      Effect.gen(function*() {
        const request = yield* received("/method", { method, body: method === "OPTIONS" ? undefined : "a body" })
        assert.strictEqual(request.method, method)
        assert.strictEqual(request.body, method === "OPTIONS" ? "" : "a body")
      }))
  }

  const unknownMethods = differences.refusesUnknownMethods
  for (const method of ["PROPFIND", "REPORT", "FROBNICATE"]) {
    if (method === "FROBNICATE" && unknownMethods !== undefined) {
      it.effect(`answers ${unknownMethods[0]} to ${method} (${unknownMethods[1]})`, () =>
        Effect.gen(function*() {
          assert.strictEqual((yield* send("/any", { method })).status, unknownMethods[0])
        }))
    } else {
      it.effect(`passes ${method} on, with a body and without`, () =>
        Effect.gen(function*() {
          const request = yield* received("/any", { method, headers: { depth: "1" }, body: "<propfind/>" })
          assert.strictEqual(request.method, method)
          assert.strictEqual(request.headers["depth"], "1")
          assert.strictEqual(request.body, "<propfind/>")
          const empty = yield* received("/any", { method })
          assert.strictEqual(empty.method, method)
          assert.strictEqual(empty.body, "")
        }))
    }
  }

  it.effect("says 100 Continue to a client that waits for it, and passes its body on", () =>
    Effect.gen(function*() {
      const request = yield* received("/expected", { method: "POST", body: "the body", expectContinue: true })
      assert.strictEqual(request.body, "the body")
      assert.strictEqual(request.headers["content-length"], "8")
    }))

  it.effect("passes on a small body, its length and its type", () =>
    Effect.gen(function*() {
      const request = yield* received("/form", {
        method: "POST",
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: "name=J%C3%BCrgen&text=gr%C3%BC%C3%9Fe"
      })
      assert.strictEqual(request.body, "name=J%C3%BCrgen&text=gr%C3%BC%C3%9Fe")
      assert.strictEqual(request.headers["content-type"], "application/x-www-form-urlencoded")
      assert.strictEqual(request.headers["content-length"], "37")
    }))

  it.effect("passes on an empty body", () =>
    Effect.gen(function*() {
      const request = yield* received("/form", { method: "POST", body: "" })
      assert.strictEqual(request.method, "POST")
      assert.strictEqual(request.body, "")
    }))

  it.effect("gives a GET neither length nor type of a body", () =>
    Effect.gen(function*() {
      const request = yield* received("/get")
      assert.strictEqual(request.headers["content-length"], differences.getHasLength === undefined ? undefined : "0")
      assert.isUndefined(request.headers["content-type"])
    }))

  for (const size of [1, 8191, 65_535, 65_536, 1_000_003]) {
    it.effect(`passes on a body of ${size} bytes unchanged`, () =>
      Effect.gen(function*() {
        const response = yield* send("/digest", { method: "POST", body: Buffer.concat([...pieces(size)]) })
        assert.deepStrictEqual(json<Digest>(response), { size, sha256: digestOf(size), length: String(size) })
      }))
  }

  const refusal = differences.refusesChunks
  if (refusal !== undefined) {
    it.effect(`refuses a body in chunks (${refusal[1]})`, () =>
      Effect.gen(function*() {
        // Where it is the size that matters, not so much that the client is still sending when the server closes.
        const size = refusal[2] === undefined ? 3_000_017 : 3 * refusal[2]
        const response = yield* send("/digest", { method: "POST", body: pieces(size) })
        assert.strictEqual(response.status, refusal[0])
      }))
  }
  if (refusal === undefined || refusal[2] !== undefined) {
    for (const size of [0, 1, refusal?.[2] ?? 3_000_017]) {
      it.effect(`passes on a body of ${size} bytes in chunks`, () =>
        Effect.gen(function*() {
          const digest = json<Digest>(yield* send("/digest", { method: "POST", body: pieces(size) }))
          assert.strictEqual(digest.size, size)
          assert.strictEqual(digest.sha256, digestOf(size))
          const length = differences.chunksHaveNoLength === undefined ? String(size) : undefined
          // A small body may have arrived as a whole before the request is passed on.
          if (size > 1) assert.strictEqual(digest.length, length)
        }))
    }
  }

  if (refusal === undefined) {
    it.effect("keeps trailers from the application", () =>
      Effect.gen(function*() {
        const request = yield* received("/trailers", {
          method: "POST",
          body: [Buffer.from("one"), Buffer.from("two")],
          trailers: { "x-trailing": "too late", authorization: "Basic dTpw" }
        })
        assert.strictEqual(request.body, "onetwo")
        assert.isUndefined(request.headers["x-trailing"])
        assert.isUndefined(request.headers["authorization"])
        assert.strictEqual((yield* send("/hello")).text, "Hello world!")
      }))
  }

  // --- paths -------------------------------------------------------------------------------------

  const undecodable = [404, "Effect's router has no route for what it cannot decode"] as const
  const paths: ReadonlyArray<readonly [what: string, path: string, otherwise?: PathOutcome]> = [
    ["percent-encoded UTF-8", "/gr%C3%BC%C3%9Fe"],
    ["percent-encoded latin1", "/gr%FC%DFe", undecodable],
    // Byte for byte as it is sent: a letter of latin1 here is a byte of the request line.
    ["raw UTF-8", rawUtf8, ["/gr%C3%BC%C3%9Fe", "a URL has no other bytes than ASCII"]],
    ["an encoded slash", "/a%2Fb%2fc"],
    ["an encoded percent sign", "/100%25/%2541"],
    ["an encoded space and plus", "/a%20b+c"],
    ["an encoded question mark and number sign", "/what%3Fis%23this"],
    ["letters that need no encoding", "/%41%7e"],
    ["double slashes", "/a//b///c"],
    ["a slash at the end", "/a/b/"],
    ["dot segments", "/a/./b/../c"],
    ["an encoded line break", "/a%0d%0ab"],
    ["an encoded NUL", "/nul%00byte"],
    ["a broken escape", "/bad%zzescape", undecodable],
    ["reserved characters", "/a;b=1,c/(d)'e!*@:$&"]
  ]
  for (const [what, path, otherwise] of paths) {
    const [outcome, reason] = differences.paths?.[path] ?? otherwise ?? [path, undefined]
    if (typeof outcome === "number") {
      it.effect(`answers ${outcome} to a path with ${what} (${reason})`, () =>
        Effect.gen(function*() {
          assert.strictEqual((yield* send(path)).status, outcome)
        }))
    } else {
      it.effect(`passes on a path with ${what}${reason === undefined ? "" : `, as ${outcome} (${reason})`}`, () =>
        Effect.gen(function*() {
          const request = yield* received(path)
          assert.strictEqual(request.url, outcome)
          assert.strictEqual(request.originalUrl, `http://example.test${outcome}`)
        }))
    }
  }

  for (
    const query of ["?", "?a=1&a=2&b", "?q=gr%C3%BC%C3%9Fe+%26+%2B", "?x=%0d%0a", "?a=b?c=/d//e/../f", "?x=%00", "?%zz"]
  ) {
    const [outcome, reason] = differences.queries?.[query] ?? [query, undefined]
    it.effect(
      `${reason === undefined ? "passes on" : `answers ${outcome} to`} the query ${query}${
        reason === undefined ? "" : ` (${reason})`
      }`,
      () =>
        Effect.gen(function*() {
          const response = yield* send(`/query${query}`)
          if (typeof outcome === "number") assert.strictEqual(response.status, outcome)
          else assert.strictEqual(json<Received>(response).url, `/query${outcome}`)
        })
    )
  }

  it.effect("lets the application take off the path that it is mounted at", () =>
    Effect.gen(function*() {
      for (
        const [target, below] of [
          ["/mounted/a%20b/c?d=/e", "/a%20b/c?d=/e"],
          ["/mounted?x", "/?x"],
          ["/mounted/", "/"],
          ["/%6dounted/x", "/x"],
          ["/mountedness/x", "/mountedness/x"]
        ] as const
      ) {
        const request = yield* received(target)
        assert.strictEqual(request.url, target)
        // What the option of the server does.
        const url = CgiRequest.url(FastCgiParams.fromEntries(request.params), { basePath: "/mounted" })
        assert.strictEqual(url, below)
      }
    }))

  // --- headers -----------------------------------------------------------------------------------

  it.effect("passes on the client's headers", () =>
    Effect.gen(function*() {
      const request = yield* received("/headers-in", {
        headers: {
          "x-one": "one",
          "x-latin1": "gr\u00fc\u00dfe",
          "x-list": ["1", "2"],
          authorization: "Basic dTpw",
          "if-none-match": "\"tag\"",
          "x-long": "l".repeat(5000)
        }
      })
      assert.strictEqual(request.headers["x-one"], "one")
      assert.strictEqual(request.headers["x-latin1"], "gr\u00fc\u00dfe")
      assert.strictEqual(request.headers["x-list"], "1, 2")
      assert.strictEqual(request.headers["authorization"], "Basic dTpw")
      assert.strictEqual(request.headers["if-none-match"], "\"tag\"")
      assert.strictEqual(request.headers["x-long"], "l".repeat(5000))
      assert.strictEqual(request.headers["host"], "example.test")
    }))

  it.effect("passes on headers that come several times", () =>
    Effect.gen(function*() {
      const request = yield* received("/headers-in", {
        headers: { "x-list": ["1", "2", "3"], accept: ["a/b", "c/d"], cookie: ["a=1", "b=2"] }
      })
      assert.strictEqual(request.headers["x-list"], "1, 2, 3")
      assert.strictEqual(request.headers["accept"], "a/b, c/d")
      assert.strictEqual(
        request.headers["cookie"],
        differences.joinsCookiesByComma === undefined ? "a=1; b=2" : "a=1, b=2"
      )
    }))

  const underscores = differences.passesUnderscores
  it.effect(
    underscores === undefined
      ? "drops headers with an underscore in their name, which could pass for others"
      : `passes on headers with an underscore in their name, as if it were a dash (${underscores})`,
    () =>
      Effect.gen(function*() {
        const request = yield* received("/headers-in", { headers: { "x_under_score": "u", "x-dash": "d" } })
        assert.strictEqual(request.headers["x-under-score"], underscores === undefined ? undefined : "u")
        assert.isUndefined(request.headers["x_under_score"])
        assert.strictEqual(request.headers["x-dash"], "d")
      })
  )

  it.effect("keeps the header Proxy from the application", () =>
    Effect.gen(function*() {
      const request = yield* received("/httpoxy", { headers: { proxy: "http://evil.test/" } })
      assert.isUndefined(request.headers["proxy"])
    }))

  it.effect("says who the client is", () =>
    Effect.gen(function*() {
      const request = yield* received("/who", { headers: { "x-forwarded-for": "1.2.3.4", "x-real-ip": "1.2.3.4" } })
      assert.strictEqual(request.remoteAddress, "127.0.0.1")
      const variables = CgiRequest.variables(FastCgiParams.fromEntries(request.params))
      assert.isAbove(variables.remotePort ?? 0, 0)
      assert.isUndefined(variables.remoteUser)
      assert.strictEqual(variables.scheme, "http")
      assert.isUndefined(variables.ssl)
      assert.strictEqual(variables.serverProtocol, "HTTP/1.1")
      assert.strictEqual(variables.requestMethod, "GET")
      assert.strictEqual(CgiRequest.host(variables.params), "example.test")
    }))

  it.effect("passes on many cookies, also in several headers", () =>
    Effect.gen(function*() {
      const pairs = Array.from({ length: 60 }, (_, i) => `c${i}=value-${i}`)
      const request = yield* received("/cookies-in", { headers: { cookie: pairs.join("; ") } })
      assert.strictEqual(Object.keys(request.cookies).length, 60)
      assert.strictEqual(request.cookies["c0"], "value-0")
      assert.strictEqual(request.cookies["c59"], "value-59")
    }))

  it.effect("sends many cookies, each in a header of its own", () =>
    Effect.gen(function*() {
      const response = yield* send("/cookies?count=60")
      assert.deepStrictEqual(
        response.setCookies,
        Array.from({ length: 60 }, (_, i) => `c${i}=v${i}; Path=/; HttpOnly`)
      )
    }))

  const limit = differences.maxResponseHeaders
  it.effect("sends response headers of 3,500 bytes", () =>
    Effect.gen(function*() {
      const response = yield* send("/headers?size=3500")
      assert.strictEqual(response.status, 200)
      assert.strictEqual(response.headers["x-big-3"]?.length, 500)
      assert.strictEqual(response.text, "headers")
    }))
  if (limit === undefined || limit[0] > 12_000) {
    it.effect("sends response headers of 12,000 bytes", () =>
      Effect.gen(function*() {
        const response = yield* send("/headers?size=12000")
        assert.strictEqual(response.status, 200)
        assert.strictEqual(response.headers["x-big-11"]?.length, 1000)
      }))
  }
  if (limit === undefined) {
    it.effect("answers 500 for response headers that no record can hold", () =>
      Effect.gen(function*() {
        assert.strictEqual((yield* send("/headers?size=65536")).status, 500)
        assert.strictEqual((yield* send("/hello")).status, 200)
      }))
  } else {
    it.effect(`answers 502 for response headers above ${limit[0]} bytes (${limit[1]})`, () =>
      Effect.gen(function*() {
        assert.strictEqual((yield* send(`/headers?size=${limit[0] + 100}`)).status, 502)
        assert.strictEqual((yield* send("/hello")).status, 200)
      }))
  }

  it.effect("sends 500 in place of response headers that no record holds", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* send("/headers?size=66000")).status, 500)
      assert.strictEqual((yield* send("/hello")).status, 200)
    }))

  // --- responses ---------------------------------------------------------------------------------

  for (const code of [204, 304]) {
    it.effect(`sends ${code} without a body`, () =>
      Effect.gen(function*() {
        const response = yield* send(`/status?code=${code}&etag=tag`)
        assert.strictEqual(response.status, code)
        assert.strictEqual(response.headers["etag"], "tag")
        assert.strictEqual(response.body.length, 0)
        assert.strictEqual((yield* send("/hello")).text, "Hello world!")
      }))
  }

  for (const code of [201, 400, 404, 418, 503, 599]) {
    it.effect(`sends the status ${code}`, () =>
      Effect.gen(function*() {
        const response = yield* send(`/status?code=${code}`)
        assert.strictEqual(response.status, code)
        assert.strictEqual(response.body.length, 0)
      }))
  }

  for (
    const [code, to] of [[301, "/else?a=b"], [302, "https://other.test/x"], [303, "relative"], [307, "/a"], [
      201,
      "/new"
    ]] as const
  ) {
    it.effect(`sends ${code} with the location ${to}`, () =>
      Effect.gen(function*() {
        const response = yield* send(`/redirect?code=${code}&to=${encodeURIComponent(to)}`)
        assert.strictEqual(response.status, code)
        assert.strictEqual(response.headers["location"], to)
      }))
  }

  for (const target of ["/fail", "/die"]) {
    it.effect(`answers 500, and nothing of the reason, when the handler ${target === "/die" ? "dies" : "fails"}`, () =>
      Effect.gen(function*() {
        const response = yield* send(target)
        assert.strictEqual(response.status, 500)
        assert.notInclude(response.text, "secret")
        assert.notInclude(response.text, "routes.ts")
      }))
  }

  for (const length of ["", "&length"]) {
    it.effect(`sends a body of 5 MB unchanged, ${length === "" ? "without" : "with"} its length`, () =>
      Effect.gen(function*() {
        const response = yield* send(`/download?size=5000011${length}`)
        assert.strictEqual(response.status, 200)
        const expected = length !== ""
          ? lengthOf(5_000_011)
          : differences.addsLength === undefined
          ? undefined
          : "5000011"
        assert.strictEqual(response.headers["content-length"], expected)
        assert.isTrue(response.body.equals(Buffer.concat([...pieces(5_000_011)])), "the body has changed")
      }))
  }

  // --- streaming ---------------------------------------------------------------------------------

  const arrival = differences.responsesArrive
  if (arrival?.[0] === "at its end") {
    it.effect(`sends server-sent events together at their end (${arrival[1]})`, () =>
      Effect.gen(function*() {
        const app = yield* application
        const id = app.id()
        const response = yield* Effect.forkScoped(send(`/events?id=${id}`), { startImmediately: true })
        yield* app.hears("Begun", id)
        for (const text of ["1", "2"]) yield* app.say({ _tag: "Emit", id, text })
        yield* app.say({ _tag: "Finish", id })
        assert.strictEqual((yield* Fiber.join(response)).text, "data: 1\n\ndata: 2\n\n")
      }))
  } else {
    it.effect("sends server-sent events one by one", () =>
      Effect.gen(function*() {
        const app = yield* application
        const id = app.id()
        const opening = yield* Effect.forkScoped(start(`/events?id=${id}`), { startImmediately: true })
        yield* app.hears("Begun", id)
        let expected = ""
        let response: Opened | undefined
        for (let i = 0; i < 20; i++) {
          yield* app.say({ _tag: "Emit", id, text: `event ${i}` })
          expected += `data: event ${i}\n\n`
          // The next is not sent before the client has this one.
          response ??= yield* Fiber.join(opening)
          const body = yield* response.received(expected.length)
          assert.strictEqual(body.toString(), expected)
        }
        assert.strictEqual(response?.headers["content-type"], "text/event-stream")
        yield* app.say({ _tag: "Finish", id })
        assert.strictEqual((yield* response!.whole).text, expected)
        yield* app.hears("Ended", id)
      }))
  }

  const held = differences.slowClientHoldsUpOthers
  const others = held === undefined
    ? "answers others while a client takes nothing of a large response"
    : `answers others when a client goes on that takes nothing of a large response (${held})`
  it.effect(others, () =>
    Effect.gen(function*() {
      const size = 30_000_000
      const slow = yield* start(`/download?size=${size}`)
      const waiting = held === undefined
        ? undefined
        : yield* Effect.forkScoped(Effect.forEach([1, 2, 3, 4], () => send("/hello"), { concurrency: "unbounded" }))
      if (held === undefined) {
        for (let i = 0; i < 20; i++) assert.strictEqual((yield* send("/hello")).text, "Hello world!")
      }
      const hash = createHash("sha256")
      yield* slow.drain((chunk) => hash.update(chunk))
      assert.strictEqual(hash.digest("hex"), digestOf(size))
      if (waiting !== undefined) {
        for (const response of yield* Fiber.join(waiting)) assert.strictEqual(response.text, "Hello world!")
      }
    }))

  // --- the client goes away ----------------------------------------------------------------------

  /** The handler is interrupted, and soon. */
  const interrupted = (id: string) =>
    Effect.gen(function*() {
      const app = yield* application
      const { byClient } = yield* app.hears("Interrupted", id, abortDeadline)
      assert.isTrue(byClient, "the interruption says that the client has gone away")
    })

  const silentBefore = differences.silentBeforeResponse
  if (silentBefore === undefined) {
    it.effect("interrupts the handler at once when its client goes away before there is a response", () =>
      Effect.gen(function*() {
        const app = yield* application
        const id = app.id()
        const client = yield* Effect.forkScoped(Effect.exit(start(`/wait?id=${id}`)), { startImmediately: true })
        yield* app.hears("Begun", id)
        yield* Fiber.interrupt(client)
        yield* interrupted(id)
      }))

    const sizes = differences.silentDuringRequest === undefined
      ? [["200 kB", 200_000], ["4 MB", 4_000_000]] as const
      : []
    for (const [size, length] of sizes) {
      it.effect(`interrupts a handler that has not read a body of ${size} when its client goes away`, () =>
        Effect.gen(function*() {
          const app = yield* application
          const id = app.id()
          const upload = start(`/wait?id=${id}`, { method: "POST", body: new Uint8Array(length) })
          const client = yield* Effect.forkScoped(Effect.exit(upload), { startImmediately: true })
          yield* app.hears("Begun", id)
          yield* Fiber.interrupt(client)
          yield* interrupted(id)
        }))
    }
  } else {
    it.effect(`does not notice that a client has gone away before there is a response (${silentBefore})`, () =>
      Effect.gen(function*() {
        const app = yield* application
        const id = app.id()
        const client = yield* Effect.forkScoped(Effect.exit(start(`/wait?id=${id}`)), { startImmediately: true })
        yield* app.hears("Begun", id)
        yield* Fiber.interrupt(client)
        assert.isTrue(Exit.isFailure(yield* Effect.exit(app.hears("Interrupted", id, 300))))
        yield* app.say({ _tag: "Finish", id })
        yield* app.hears("Ended", id)
      }))
  }

  const silentDuring = differences.silentDuringResponse
  if (silentDuring === undefined) {
    it.effect("interrupts a response without end at once when its client goes away", () =>
      Effect.gen(function*() {
        const app = yield* application
        const id = app.id()
        const response = yield* start(`/endless?id=${id}`)
        yield* response.received(5_000_000)
        yield* response.leave
        yield* interrupted(id)
      }))
  }

  // Where a client sees nothing of a response before its end there is no idle stream that it could leave.
  if (silentDuring === undefined && arrival?.[0] !== "at its end") {
    const [writes, late] = differences.noticesAfterWrites ??
      (differences.noticesAtNextWrite === undefined ? [0, ""] : [1, differences.noticesAtNextWrite])
    it.effect(
      `interrupts ${
        writes === 0
          ? "a stream that has nothing to send at once when its client goes away"
          : `an idle stream whose client has gone away as soon as it has sent something${
            writes === 1 ? "" : ` ${writes} times`
          } (${late})`
      }`,
      () =>
        Effect.gen(function*() {
          const app = yield* application
          const id = app.id()
          const opening = yield* Effect.forkScoped(start(`/events?id=${id}&unbuffered`), { startImmediately: true })
          yield* app.hears("Begun", id)
          yield* app.say({ _tag: "Emit", id, text: "1" })
          const response = yield* Fiber.join(opening)
          yield* response.received(9)
          yield* response.leave
          for (let i = 0; i < writes; i++) {
            assert.isTrue(Exit.isFailure(yield* Effect.exit(app.hears("Interrupted", id, 300))))
            yield* app.say({ _tag: "Emit", id, text: "2" })
          }
          if (differences.noticesAtNextWrite !== undefined) {
            // The first write may be what makes the client's side say that it has gone.
            yield* Effect.ignore(app.hears("Interrupted", id, 300))
            yield* app.say({ _tag: "Emit", id, text: "3" })
          }
          yield* interrupted(id)
        })
    )
  }

  // --- answers before the end of the request -------------------------------------------------------

  for (const target of ["/early", "/limited"]) {
    it.effect(`sends the 413 of ${target} although the client still sends its body`, () =>
      Effect.gen(function*() {
        const body = Buffer.concat([...pieces(20_000_000)])
        const response = yield* send(target, { method: "POST", body, agent: uploads })
        assert.strictEqual(response.status, 413)
        assert.strictEqual((yield* send("/hello", { agent: uploads })).text, "Hello world!")
      }))
  }

  // --- what goes wrong in the application ------------------------------------------------------------

  const lost = differences.losesStderr
  const stderr = () =>
    Effect.gen(function*() {
      const { server } = yield* Site
      for (const text of ["short", "l".repeat(1500), "with%20spaces"]) {
        const since = server.log().length
        const response = yield* send(`/stderr?text=${row.name.length}-${text}`)
        assert.strictEqual(response.status, 200)
        assert.strictEqual(response.text, "logged")
        if (lost === undefined) {
          yield* server.says(`${row.name.length}-${decodeURIComponent(text).slice(0, 1000)}`, since)
        } else {
          assert.notInclude(server.log().slice(since), text.slice(0, 100))
        }
        // The records that end STDERR have done no harm to the connection.
        assert.strictEqual((yield* send("/hello")).text, "Hello world!")
      }
    })
  if (lost === undefined) it.effect("writes what the application writes to STDERR to the web server's log", stderr)
  else it.effect(`drops what the application writes to STDERR (${lost})`, stderr)

  it.effect("answers as ever when a request writes many log lines of any length to STDERR", () =>
    Effect.gen(function*() {
      for (const method of ["GET", "HEAD"]) {
        // Of many lengths, so that lines end at every place of a buffer.
        const lengths = Array.from({ length: 16 }, (_, i) => `lines=80&size=${20 + i}`)
        for (const query of ["lines=1", ...lengths, "lines=80&size=300", "lines=3&size=5000", "lines=80&during"]) {
          const response = yield* send(`/log?own&${query}`, { method })
          assert.strictEqual(response.status, 200, query)
          assert.strictEqual(response.text, method === "HEAD" ? "" : "logged", query)
        }
      }
      assert.strictEqual((yield* send("/hello")).text, "Hello world!")
    }))

  /** Starts a response, lets the client have the beginning when it can, and breaks it. */
  const breakOff = (query: string, text: string) =>
    Effect.gen(function*() {
      const app = yield* application
      const id = app.id()
      const client = yield* Effect.forkScoped(start(`/broken?id=${id}&unbuffered${query}`), { startImmediately: true })
      yield* app.hears("Begun", id)
      yield* app.say({ _tag: "Emit", id, text })
      if (arrival?.[0] !== "at its end" && arrival?.[0] !== "events only") {
        const response = yield* Fiber.join(client)
        yield* response.received(10)
      }
      yield* app.say({ _tag: "Fail", id })
      yield* app.hears("Ended", id)
      const response = yield* Fiber.join(client)
      return yield* Effect.exit(response.whole)
    })

  /** The client can tell, or is told more than the application has sent. */
  const cutOff = (exit: Exit.Exit<Response, unknown>) => {
    if (Exit.isFailure(exit) || exit.value.status >= 500) return
    assert.isDefined(differences.cutEndsInErrorPage, "a broken response looks complete")
    assert.include(exit.value.text, "<!DOCTYPE")
  }

  // What went wrong with one response is no matter to the next.
  const goesOn = Effect.gen(function*() {
    const next = send("/hello")
    const response = yield* differences.cutCostsTheNext === undefined ? next : Effect.retry(next, { times: 1 })
    assert.strictEqual(response.text, "Hello world!")
  })

  const looksComplete = differences.cutLooksComplete ?? differences.cutMayLookComplete
  for (
    const [what, text] of [["after some bytes", "half of it"], ["after a megabyte", "m".repeat(2 ** 20)]] as const
  ) {
    it.effect(`cuts a response off that breaks ${what}, before its announced length`, () =>
      Effect.gen(function*() {
        const exit = yield* breakOff(`&length=${text.length + 10}`, text)
        cutOff(exit)
        yield* goesOn
      }))

    it.effect(
      looksComplete === undefined
        ? `cuts a response off that breaks ${what} and has no length`
        : `${
          differences.cutMayLookComplete === undefined ? "can" : "may"
        } not cut off a response that breaks ${what} and ` +
          `has no length (${looksComplete})`,
      () =>
        Effect.gen(function*() {
          const exit = yield* breakOff("", text)
          if (looksComplete === undefined) {
            cutOff(exit)
          } else {
            assert.isTrue(
              Exit.isSuccess(exit)
                ? differences.cutMayLookComplete === undefined
                  ? exit.value.status === 200 && exit.value.text === text
                  : text.startsWith(exit.value.text) || exit.value.status >= 500
                : differences.cutMayLookComplete !== undefined
            )
          }
          yield* goesOn
        })
    )
  }
}
