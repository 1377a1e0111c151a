/**
 * Apps of other people's frameworks behind nginx and lighttpd: each of examples/ answers over FastCGI what it answers over
 * `node:http`, request by request. Where it does not, the reason is in docs/frameworks.md.
 */
import { assert, it } from "@effect/vitest"
import { createAdaptorServer } from "@hono/node-server"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as Http from "node:http"
import type * as Net from "node:net"
import * as Path from "node:path"
import { app as expressApp } from "../../examples/express/app.ts"
import { makeApp as makeFastifyApp } from "../../examples/fastify/app.ts"
import { app as honoApp } from "../../examples/hono/app.ts"
import { app as koaApp } from "../../examples/koa/app.ts"
import { NodeFastCgiApp } from "../../src/node/index.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import { request, type RequestOptions, type Response } from "./support/http.ts"
import * as Lighttpd from "./support/lighttpd.ts"
import * as Nginx from "./support/nginx.ts"

interface Case {
  readonly target: string
  readonly options?: RequestOptions
  readonly name: string
}

const one = (target: string, options?: RequestOptions, name?: string): Case => ({
  target,
  name: `${options?.method ?? "GET"} ${target}${name === undefined ? "" : `, ${name}`}`,
  ...options === undefined ? undefined : { options }
})

const post = (target: string, type: string, body: NonNullable<RequestOptions["body"]>, name: string) =>
  one(target, { method: "POST", headers: { "content-type": type }, body }, name)

const bytes = (size: number) => Buffer.alloc(size, "0123456789")

const boundary = "----of-the-tests"

/** The body of a form with a title and a file, as browsers send it. */
const multipart = (name: string, content: Uint8Array) =>
  Buffer.concat([
    Buffer.from(
      `--${boundary}\r\nContent-Disposition: form-data; name="title"\r\n\r\nGrüße\r\n` +
        `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${name}"\r\n` +
        "Content-Type: application/octet-stream\r\n\r\n"
    ),
    content,
    Buffer.from(`\r\n--${boundary}--\r\n`)
  ])

const cut = function*(body: Uint8Array, size: number) {
  for (let at = 0; at < body.length; at += size) yield body.subarray(at, at + size)
}

const form = (body: NonNullable<RequestOptions["body"]>, name: string) =>
  post("/form", `multipart/form-data; boundary=${boundary}`, body, name)

/** The list that is the same for all. */
const cases: ReadonlyArray<Case> = [
  ...[
    "/",
    "/html",
    "/json",
    "/empty",
    "/redirect",
    "/many",
    "/cookies",
    "/large",
    "/stream",
    "/events",
    "/files/page.css",
    "/throws",
    "/rejects",
    "/missing",
    "/ip",
    "/hints"
  ].flatMap((target) => [one(target), one(target, { method: "HEAD" })]),
  ...[201, 202, 404, 418, 500, 503].map((status) => one(`/status/${status}`)),
  ...["42", "a%20b", "%C3%BC", "a%2Fb", "a+b", "a.b"].map((id) => one(`/users/${id}`)),
  ...["?a=1&b=2", "?a=%20%26", "?q=%C3%BC", "?x=1&x=2", "?", "?a=b?c=d"].map((query) => one(`/echo${query}`)),
  one("/echo", { method: "OPTIONS" }),
  one("/echo", { method: "DELETE" }),
  one("/echo", { method: "PUT", headers: { "content-type": "text/plain" }, body: "put" }),
  one("/echo", { method: "PATCH", headers: { "content-type": "text/plain" }, body: "patch" }),
  post("/echo", "application/json", "{\"a\":[1,2,{\"b\":\"ü\"}]}", "JSON"),
  post("/echo", "application/json", "{\"a\":", "JSON that is none"),
  post("/echo", "application/json", [Buffer.from("{\"a\""), Buffer.from(":1}")], "JSON in chunks"),
  post("/echo", "application/x-www-form-urlencoded", "a=1&b=%C3%BC", "a form"),
  post("/echo", "text/plain", "grüße", "text"),
  one("/echo", { method: "POST", headers: { "content-length": "0" } }, "no body"),
  ...[1, 1000, 100_000, 5_000_000].map((size) =>
    post("/upload", "application/octet-stream", bytes(size), `${size} bytes`)
  ),
  post("/upload", "application/octet-stream", Array.from({ length: 50 }, () => bytes(20_011)), "in chunks"),
  one("/upload", {
    method: "POST",
    headers: { "content-type": "application/octet-stream" },
    body: bytes(10_000),
    expectContinue: true
  }, "Expect: 100-continue"),
  form(multipart("a.txt", Buffer.from("hello")), "a small file"),
  form(multipart("grüße & \u65e5.bin", bytes(900_001)), "900,001 bytes with a name in UTF-8"),
  form(multipart("empty", Buffer.alloc(0)), "an empty file"),
  form(multipart("crlf", Buffer.from(`\r\n--${boundary}x\r\n`.repeat(1000))), "a file full of lines like the boundary"),
  form(Array.from(cut(multipart("a.bin", bytes(300_000)), 7001)), "in chunks"),
  form(`--${boundary}\r\nContent-Disposition: form-data; name="title"\r\n\r\nalone\r\n--${boundary}--\r\n`, "no file"),
  form(`--${boundary}\r\nContent-Disposition: form-data; name="title"\r\n\r\nbroken o`, "a form that breaks off"),
  post("/form", "multipart/form-data", "x", "no boundary"),
  ...["plain", "a  b, c", "gr\xfc\xdfe", "x".repeat(2000)].map((value) =>
    one("/echo", { headers: { "x-test": value } }, `X-Test of ${value.length}`)
  ),
  ...["bytes=0-99", "bytes=-50", "bytes=99999999-", "bytes=0-1,3-4"].map((range) =>
    one("/files/page.css", { headers: { range } }, range)
  ),
  one("/files/page.css", { headers: { "if-modified-since": "Fri, 01 Jan 2100 00:00:00 GMT" } }, "not modified"),
  one("/files/page.css", { headers: { "accept-encoding": "gzip" } }, "gzip"),
  one("/files/missing.css"),
  one("/session", undefined, "without a cookie"),
  one("/session", { headers: { cookie: "sid=none; other=1" } }, "with a cookie of nobody"),
  one("/login", { method: "GET" })
]

/** A framework's app on both servers, each listening where it is told to. */
interface Framework {
  readonly name: string
  readonly http: () => Promise<Http.Server>
  readonly fastCgi: (path: string) => Promise<{ readonly close: () => Promise<unknown> }>
}

const opened = async (server: Http.Server, ...where: ReadonlyArray<unknown>) => {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject)
    server.listen(...where as [], resolve)
  })
  return server
}

const closing = (server: Http.Server) => ({ close: () => new Promise((resolve) => server.close(resolve)) })

const onNode = (name: string, handler: NodeFastCgiApp.NodeHandler): Framework => ({
  name,
  http: () => opened(Http.createServer(handler as Http.RequestListener), 0, "127.0.0.1"),
  fastCgi: async (path) => closing(await opened(NodeFastCgiApp.createServer(handler), path))
})

const frameworks: ReadonlyArray<Framework> = [
  onNode("Express", expressApp),
  onNode("Koa", koaApp.callback()),
  {
    name: "Fastify",
    http: async () => {
      const app = makeFastifyApp()
      await app.listen({ port: 0, host: "127.0.0.1" })
      return app.server
    },
    fastCgi: async (path) => {
      const app = makeFastifyApp((handler) => NodeFastCgiApp.createServer(handler))
      await app.listen({ path })
      return app
    }
  },
  {
    name: "Hono",
    http: () =>
      opened(
        createAdaptorServer({ fetch: honoApp.fetch, overrideGlobalObjects: false }) as Http.Server,
        0,
        "127.0.0.1"
      ),
    fastCgi: async (path) => {
      const layer = NodeFastCgiApp.layerFetch((request, environment) => honoApp.fetch(request, environment), { path })
      const stop = new AbortController()
      const running = Effect.runPromiseExit(Layer.launch(layer), { signal: stop.signal })
      await Effect.runPromise(WebServers.accepts({ path }).pipe(Effect.eventually))
      return {
        close: () => {
          stop.abort()
          return running
        }
      }
    }
  }
]

/** What differs between two connections, or is the web server's own word. */
const ownHeaders = new Set(["date", "server", "connection", "keep-alive", "transfer-encoding", "set-cookie"])

const uuid = /[0-9a-f]{8}-[0-9a-f-]{27}/g

/** The headers that differ, each with its reason in docs/frameworks.md. */
const differences: ReadonlyArray<{ readonly where: RegExp; readonly case: RegExp; readonly header: string }> = [
  { where: /^lighttpd /, case: /./, header: "accept-ranges" },
  { where: /^lighttpd /, case: /./, header: "content-length" },
  { where: /^lighttpd /, case: /events/, header: "x-accel-buffering" },
  { where: / Hono$/, case: /^GET \/(large|stream)$/, header: "content-type" }
]

/** lighttpd cuts a range out of any response that is there as a whole, whatever the app makes of the header. */
const isCutByServer = (where: string, name: string) => where.startsWith("lighttpd ") && name.includes("bytes=")

const seen = (response: Response, where: string, name: string) => ({
  status: response.status,
  headers: Object.fromEntries(
    Object.entries(response.headers).filter(([header]) =>
      !ownHeaders.has(header) &&
      !differences.some((known) => known.header === header && known.where.test(where) && known.case.test(name))
    ).sort(([a], [b]) => a < b ? -1 : 1)
  ),
  cookies: response.setCookies.map((cookie) => cookie.replace(uuid, "ID")),
  body: response.body.length > 20_000 ? `${response.body.length} bytes` : response.text.replace(uuid, "ID")
})

const serve = (framework: Framework, folder: string) =>
  Effect.gen(function*() {
    const socket = Path.join(folder, `${framework.name.toLowerCase()}.sock`)
    yield* Effect.acquireRelease(
      Effect.promise(() => framework.fastCgi(socket)),
      (server) => Effect.promise(() => server.close())
    )
    const http = yield* Effect.acquireRelease(
      Effect.promise(framework.http),
      (server) =>
        Effect.promise(() => {
          server.closeAllConnections()
          return closing(server).close()
        })
    )
    return { socket, httpPort: (http.address() as Net.AddressInfo).port }
  })

const compare = (where: string, httpPort: number, port: number) =>
  Effect.gen(function*() {
    const wrong: Array<unknown> = []
    for (const { name, options, target } of cases) {
      const [expected, actual] = yield* Effect.all([
        Effect.exit(request(httpPort, target, options)),
        Effect.exit(request(port, target, options))
      ])
      if (Exit.isFailure(expected) || Exit.isFailure(actual)) {
        if (expected._tag !== actual._tag) wrong.push([name, String(expected), String(actual)])
        continue
      }
      const [a, b] = [seen(expected.value, where, name), seen(actual.value, where, name)]
      if (isCutByServer(where, name)) assert.include([200, 206, 416], b.status)
      else if (JSON.stringify(a) !== JSON.stringify(b)) wrong.push([name, a, b])
    }
    // A login, and what its session remembers.
    const login = post("/login", "application/x-www-form-urlencoded", "user=ada", "login").options
    for (const at of [httpPort, port]) {
      const logged = yield* request(at, "/login", login)
      assert.strictEqual(logged.status, 303)
      const cookie = logged.setCookies[0]!.split(";")[0]!
      for (const visits of [1, 2]) {
        const session = yield* request(at, "/session", { headers: { cookie } })
        assert.deepStrictEqual(JSON.parse(session.text), { user: "ada", visits })
      }
    }
    // What both say of an upload is what was sent.
    const content = bytes(900_001)
    const upload = form(multipart("grüße.bin", content), "upload").options
    const uploaded = yield* request(port, "/form", upload)
    assert.deepStrictEqual(JSON.parse(uploaded.text), {
      title: "Grüße",
      file: {
        name: "grüße.bin",
        type: "application/octet-stream",
        size: content.length,
        sha256: Crypto.createHash("sha256").update(content).digest("hex")
      }
    })
    assert.deepStrictEqual(wrong, [])
  })

it("compares at least 60 cases", () => {
  assert.isAtLeast(new Set(cases.map(({ name }) => name)).size, 60)
})

describeWith(["nginx"], "frameworks behind nginx", (nginx) => {
  for (const framework of frameworks) {
    it.live(`answer as over node:http: ${framework.name}`, () =>
      Effect.gen(function*() {
        const folder = yield* WebServers.temporaryDirectory
        const { httpPort, socket } = yield* serve(framework, folder)
        const port = yield* WebServers.freePort
        yield* Nginx.start(nginx!, folder, [
          `server {
            listen 127.0.0.1:${port};
            client_max_body_size 0;
            location / {
              include /etc/nginx/fastcgi_params;
              fastcgi_pass unix:${socket};
              fastcgi_buffer_size 32k;
              fastcgi_buffers 8 32k;
            }
          }`
        ], [port])
        yield* compare(`nginx ${framework.name}`, httpPort, port)
      }))
  }
})

describeWith(["lighttpd"], "frameworks behind lighttpd", (lighttpd) => {
  const page = Fs.readFileSync(new URL("../../docs/lighttpd.md", import.meta.url), "utf8")
  for (const framework of frameworks) {
    it.live(`answer as over node:http: ${framework.name}`, () =>
      Effect.gen(function*() {
        const folder = yield* WebServers.temporaryDirectory
        const { httpPort, socket } = yield* serve(framework, folder)
        const port = yield* WebServers.freePort
        const configuration = WebServers.fill(
          WebServers.documented(page, "lighttpd", "the smallest good configuration"),
          [["/run/app/app.sock", socket]]
        )
        yield* Lighttpd.start(lighttpd!, folder, port, configuration)
        yield* compare(`lighttpd ${framework.name}`, httpPort, port)
      }))
  }
})
