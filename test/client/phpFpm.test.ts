/** The client, the HttpClient and the gateway in front of a real php-fpm. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Cookies from "effect/http/Cookies"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type { Scope } from "effect/Scope"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import { readFileSync, watch, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import { join } from "node:path"
import * as FastCgiClient from "../../src/client/FastCgiClient.ts"
import * as FastCgiGateway from "../../src/client/FastCgiGateway.ts"
import * as FastCgiHttpClient from "../../src/client/FastCgiHttpClient.ts"
import * as FastCgiPhp from "../../src/client/FastCgiPhp.ts"
import * as NodeFastCgiConnector from "../../src/node/NodeFastCgiConnector.ts"
import { describeWith } from "../support/requirement.ts"
import { concat, textOf } from "./application.ts"
import * as PhpFpm from "./phpFpm.ts"
import { target } from "./target.ts"

type Variables = Readonly<Record<string, string>>

// What env.php answers.
interface Env {
  readonly server: Variables
  readonly get: unknown
  readonly post: unknown
  readonly cookies: unknown
}

class Php extends Context.Service<Php, PhpFpm.PhpFpm>()("test/Php") {}

const pattern = (size: number): Uint8Array<ArrayBuffer> => {
  const bytes = new Uint8Array(size)
  for (let i = 0; i < size; i++) bytes[i] = i * 31 >> 3
  return bytes
}
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex")

const sum = <E>(stream: Stream.Stream<Uint8Array, E>) =>
  Stream.runFold(stream, () => 0, (size, bytes) => size + bytes.length)

// Waits until a file is there.
const untilFile = (folder: string, name: string) =>
  Effect.callback<void>((resume) => {
    const watcher = watch(folder, (_, changed) => {
      if (changed === name) resume(Effect.void)
    })
    return Effect.sync(() => watcher.close())
  })

describeWith(["php-fpm8.2"], "php-fpm", (command) => {
  it.layer(Layer.effect(Php, PhpFpm.start(command)), { excludeTestServices: true })((it) => {
    const http = (
      options?: Partial<FastCgiHttpClient.FastCgiHttpClientOptions<NodeFastCgiConnector.FastCgiConnectError, Scope>>
    ) =>
      Effect.flatMap(Php, ({ connect, documentRoot }) => FastCgiHttpClient.make({ connect, documentRoot, ...options }))

    it.effect("tells its status and answers a ping", () =>
      Effect.gen(function*() {
        const { connect } = yield* Php
        const client = yield* FastCgiClient.make({ connect })
        const { pool, processes, processManager, totalProcesses } = yield* FastCgiPhp.status(client)
        assert.deepStrictEqual({ pool, processManager, totalProcesses }, {
          pool: "www",
          processManager: "static",
          totalProcesses: 4
        })
        assert.deepStrictEqual(
          processes.filter(({ state }) => state === "Running").map(({ requestUri }) => requestUri),
          ["/status?json&full"]
        )
        assert.deepStrictEqual((yield* FastCgiPhp.status(client, { full: false })).processes, [])
        assert.strictEqual(yield* FastCgiPhp.ping(client, { response: "pong" }), "pong")
      }))

    it.effect("says that it has no status page and no ping page", () =>
      Effect.gen(function*() {
        const { connectRecycled } = yield* Php
        const ask = <A, E>(ask: (client: FastCgiClient.FastCgiClient) => Effect.Effect<A, E>) =>
          Effect.flip(Effect.flatMap(FastCgiClient.make({ connect: connectRecycled }), ask))
        assert.strictEqual((yield* ask((client) => FastCgiPhp.status(client))).reason._tag, "NotConfigured")
        assert.strictEqual((yield* ask((client) => FastCgiPhp.ping(client))).reason._tag, "NotConfigured")
      }))

    it.effect("answers a request of the plain client", () =>
      Effect.gen(function*() {
        const { connect, documentRoot } = yield* Php
        const client = yield* FastCgiClient.make({ connect })
        const response = yield* client.request({
          params: [
            ["SCRIPT_FILENAME", `${documentRoot}/hello.php`],
            ["REQUEST_METHOD", "GET"],
            ["QUERY_STRING", "name=x"]
          ]
        })
        const stdout = textOf(concat(yield* Stream.runCollect(response.stdout)))
        assert.match(stdout, /\r\nX-From: fpm\r\n[^]*\r\n\r\nhello x$/)
        assert.deepStrictEqual(yield* response.end, { appStatus: 0, protocolStatus: 0 })
        assert.isTrue(client.openUnsafe())
      }))

    it.effect("says that it does not multiplex, and answers a request on the same connection", () =>
      Effect.gen(function*() {
        const { connect, documentRoot } = yield* Php
        const client = yield* FastCgiClient.make({ connect })
        const values = yield* client.getValues(["FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"])
        assert.deepStrictEqual({ ...values }, { FCGI_MPXS_CONNS: "0" })
        const response = yield* client.request({
          params: [["SCRIPT_FILENAME", `${documentRoot}/hello.php`], ["REQUEST_METHOD", "GET"]]
        })
        assert.match(textOf(concat(yield* Stream.runCollect(response.stdout))), /hello nobody$/)
      }))

    it.effect("answers 500 requests on one kept connection", () =>
      Effect.gen(function*() {
        const { connect } = yield* Php
        let opened = 0
        const client = yield* http({
          connect: Effect.tap(connect, () => Effect.sync(() => opened++)),
          keepConnection: true
        })
        for (let i = 0; i < 500; i++) {
          const response = yield* client.get(`http://x.test/hello.php?name=${i}`)
          assert.strictEqual(yield* response.text, `hello ${i}`)
        }
        assert.strictEqual(opened, 1)
      }))

    it.effect("answers many at once, with and without keeping connections", () =>
      Effect.gen(function*() {
        for (const keepConnection of [false, true]) {
          const client = yield* http({ keepConnection })
          const texts = yield* Effect.forEach(
            Array.from({ length: 200 }, (_, i) => i),
            (i) => Effect.flatMap(client.get(`http://x.test/hello.php?name=${i}`), (response) => response.text),
            // As many as php-fpm has workers: each kept connection holds one.
            { concurrency: 4 }
          )
          texts.forEach((text, i) => assert.strictEqual(text, `hello ${i}`))
        }
      }))

    it.effect("gets the request's variables, headers, cookies and form", () =>
      Effect.gen(function*() {
        const client = yield* http({ remoteAddress: "192.0.2.1", remotePort: 4711, params: { X_OWN: "own" } })
        const response = yield* client.execute(
          HttpClientRequest.post("https://example.test:8443/env.php?a=1&b[]=2&b[]=%C3%BC", {
            headers: { cookie: "c=d; e=f", "x-thing": "thing" },
            body: HttpBody.urlParams({ field: "v & w" })
          })
        )
        const { cookies, get, post, server } = (yield* response.json) as unknown as Env
        assert.deepStrictEqual(get, { a: "1", b: ["2", "ü"] })
        assert.deepStrictEqual(post, { field: "v & w" })
        assert.deepStrictEqual(cookies, { c: "d", e: "f" })
        assert.strictEqual(server["REQUEST_URI"], "/env.php?a=1&b[]=2&b[]=%C3%BC")
        assert.strictEqual(server["HTTPS"], "on")
        assert.strictEqual(server["HTTP_HOST"], "example.test:8443")
        assert.strictEqual(server["SERVER_PORT"], "8443")
        assert.strictEqual(server["REMOTE_ADDR"], "192.0.2.1")
        assert.strictEqual(server["REMOTE_PORT"], "4711")
        assert.strictEqual(server["HTTP_X_THING"], "thing")
        assert.strictEqual(server["X_OWN"], "own")
      }))

    it.effect("sends status, headers and cookies", () =>
      Effect.gen(function*() {
        const client = yield* http()
        const response = yield* client.get("http://x.test/hello.php")
        assert.strictEqual(response.status, 200)
        assert.strictEqual(response.headers["x-from"], "fpm")
        assert.deepStrictEqual(Cookies.toRecord(response.cookies), { a: "1", b: "2" })
        for (const code of [201, 204, 302, 404, 500, 503]) {
          const response = yield* client.get(`http://x.test/status.php?code=${code}`)
          assert.strictEqual(response.status, code)
          assert.strictEqual(yield* response.text, code === 204 ? "" : `status ${code}`)
        }
      }))

    it.effect("sends an error status for a script that is not there, and logs it", () =>
      Effect.gen(function*() {
        const lines: Array<string> = []
        const logger = Logger.make(({ message }) => {
          lines.push(String(message))
        })
        yield* Effect.gen(function*() {
          const client = yield* http()
          const response = yield* client.get("http://x.test/missing.php")
          assert.strictEqual(response.status, 404)
          assert.include(yield* response.text, "File not found")
          assert.strictEqual(yield* Effect.flatMap(client.get("http://x.test/stderr.php"), (_) => _.text), "done")
        }).pipe(Effect.scoped, Effect.provide(Logger.layer([logger])))
        assert.isTrue(lines.some((line) => line.includes("Primary script unknown")), lines.join("\n"))
        assert.isTrue(lines.some((line) => line.includes("something odd")), lines.join("\n"))
      }))

    it.effect("takes a POST of 10 MB, in memory and streamed", () =>
      Effect.gen(function*() {
        const client = yield* http()
        const body = pattern(10_000_000)
        const chunks = Array.from({ length: 100 }, (_, i) => body.subarray(i * 100_000, (i + 1) * 100_000))
        for (
          const sent of [
            HttpBody.uint8Array(body),
            HttpBody.stream(Stream.fromIterable(chunks), "application/octet-stream", body.length)
          ]
        ) {
          const response = yield* client.post("http://x.test/body.php", { body: sent })
          assert.deepStrictEqual(yield* response.json, { size: body.length, sha256: sha256(body) })
        }
      }))

    it.effect("takes a body of unknown length, kept in memory and in a file", () =>
      Effect.gen(function*() {
        const client = yield* http()
        for (const size of [1_000_000, 5_000_000]) {
          const body = pattern(size)
          const response = yield* client.post("http://x.test/body.php", { body: HttpBody.stream(Stream.make(body)) })
          assert.deepStrictEqual(yield* response.json, { size: body.length, sha256: sha256(body) })
        }
      }).pipe(Effect.provide(NodeFileSystem.layer)))

    it.effect("takes FormData with files", () =>
      Effect.gen(function*() {
        const client = yield* http()
        const file = pattern(3_000_000)
        const form = new FormData()
        form.append("text", "grüße\nzwei")
        form.append("file", new File([file], "dä ta.bin", { type: "application/x-data" }))
        const response = yield* client.post("http://x.test/upload.php", { body: HttpBody.formData(form) })
        assert.deepStrictEqual(yield* response.json, {
          post: { text: "grüße\r\nzwei" },
          files: { file: { name: "dä ta.bin", type: "application/x-data", size: file.length, sha256: sha256(file) } }
        })
      }))

    it.effect("takes params of more than 64 KiB, in several records", () =>
      Effect.gen(function*() {
        const client = yield* http()
        const headers: Record<string, string> = {}
        for (let i = 0; i < 40; i++) headers[`x-long-${i}`] = String(i).padStart(5000, "v")
        const response = yield* client.get("http://x.test/env.php", { headers })
        const { server } = (yield* response.json) as unknown as Env
        for (let i = 0; i < 40; i++) assert.strictEqual(server[`HTTP_X_LONG_${i}`], headers[`x-long-${i}`])
      }))

    it.effect("streams output event by event", () =>
      Effect.gen(function*() {
        const { folder } = yield* Php
        const client = yield* http()
        const gate = join(folder, "gate-")
        const response = yield* client.get(`http://x.test/events.php?gate=${encodeURIComponent(gate)}`)
        assert.strictEqual(response.headers["content-type"], "text/event-stream;charset=UTF-8")
        const pull = yield* Stream.toPull(response.stream)
        for (let i = 0; i < 5; i++) {
          assert.strictEqual(textOf(concat(yield* pull)), `data: ${i}\n\n`)
          writeFileSync(gate + i, "")
        }
      }))

    it.effect("streams 200 MB through bounded memory", () =>
      Effect.gen(function*() {
        const client = yield* http()
        const size = 200_000_000
        const before = process.memoryUsage().arrayBuffers
        let most = 0
        const response = yield* client.get(`http://x.test/large.php?size=${size}&length`)
        assert.strictEqual(response.headers["content-length"], String(size))
        const total = yield* Stream.runFoldEffect(response.stream, () => 0, (total, bytes) =>
          Effect.sync(() => {
            most = Math.max(most, process.memoryUsage().arrayBuffers)
            return total + bytes.length
          }))
        assert.strictEqual(total, size)
        // Well below the whole of it; how much is let go of when is up to the garbage collector.
        assert.isBelow(most - before, size / 2)
      }))

    it.effect("is aborted when the reader goes away", () =>
      Effect.gen(function*() {
        const { documentRoot } = yield* Php
        const client = yield* http({ keepConnection: true })
        const aborted = yield* Effect.forkScoped(untilFile(documentRoot, "aborted"), { startImmediately: true })
        const response = yield* client.get("http://x.test/large.php?size=1000000000")
        yield* Stream.runDrain(Stream.take(response.stream, 3))
        yield* Fiber.join(aborted)
      }))

    it.effect("closing in the middle of an answer is an error with a cause", () =>
      Effect.gen(function*() {
        const client = yield* http()
        const error = yield* Effect.flip(client.get("http://x.test/crash.php"))
        assert.strictEqual(error.reason._tag, "TransportError")
        assert.match(error.message, /closed the connection before it answered|the connection was lost before/)
        // The worker is replaced.
        assert.strictEqual(yield* Effect.flatMap(client.get("http://x.test/hello.php"), (_) => _.text), "hello nobody")
      }))

    it.effect("loses no POST where each worker ends after one request, and makes none wait", () =>
      Effect.gen(function*() {
        const { connectRecycled, documentRoot } = yield* Php
        const client = yield* http({ connect: connectRecycled, keepConnection: true, headTimeout: "20 seconds" })
        const workers = new Set<string>()
        for (let i = 0; i < 40; i++) {
          const response = yield* client.post("http://x.test/count.php", { body: HttpBody.text("x") })
          workers.add(yield* response.text)
        }
        assert.strictEqual(workers.size, 40)
        assert.strictEqual(readFileSync(`${documentRoot}/count`, "utf8"), "x".repeat(40))
      }))

    it.effect("ends a script that exits with a status", () =>
      Effect.gen(function*() {
        const client = yield* http()
        assert.strictEqual(yield* Effect.flatMap(client.get("http://x.test/exit.php"), (_) => _.text), "partial")
      }))

    const gateway = (
      options?: Partial<FastCgiGateway.FastCgiGatewayOptions<NodeFastCgiConnector.FastCgiConnectError, Scope>>
    ) =>
      Effect.gen(function*() {
        const { connect, documentRoot } = yield* Php
        const context = yield* Layer.build(
          FastCgiGateway.layer({ connect, documentRoot, ...options }).pipe(
            Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
          )
        )
        const { address } = Context.get(context, HttpServer.HttpServer)
        return `http://127.0.0.1:${(address as { readonly port: number }).port}`
      })

    const fetched = (url: string, init?: RequestInit) => Effect.promise((signal) => fetch(url, { signal, ...init }))
    const textOfFetch = (response: Response) => Effect.promise(() => response.text())

    it.effect("is a web site behind the gateway", () =>
      Effect.gen(function*() {
        const url = yield* gateway()
        const hello = yield* fetched(`${url}/hello.php?name=gateway`)
        assert.strictEqual(hello.status, 200)
        assert.strictEqual(yield* textOfFetch(hello), "hello gateway")
        assert.deepStrictEqual(hello.headers.getSetCookie(), ["a=1", "b=2; path=/x; HttpOnly"])
        const env = yield* fetched(`${url}/env.php?x=%20y`, { headers: { cookie: "c=d", "x-a": "b" } })
        const { server } = (yield* Effect.promise(() => env.json())) as Env
        assert.strictEqual(server["REQUEST_URI"], "/env.php?x=%20y")
        assert.strictEqual(server["REMOTE_ADDR"], "127.0.0.1")
        assert.match(server["REMOTE_PORT"], /^\d+$/)
        assert.strictEqual(`http://${server["HTTP_HOST"]}`, url)
        assert.strictEqual(server["SERVER_PORT"], url.slice(url.lastIndexOf(":") + 1))
        assert.strictEqual(server["SERVER_PROTOCOL"], "HTTP/1.1")
        assert.strictEqual(server["HTTP_COOKIE"], "c=d")
        assert.strictEqual(server["HTTP_X_A"], "b")
        const missing = yield* fetched(`${url}/missing.php`)
        assert.strictEqual(missing.status, 404)
        assert.include(yield* textOfFetch(missing), "File not found")
        const head = yield* fetched(`${url}/hello.php`, { method: "HEAD" })
        assert.strictEqual(head.status, 200)
        assert.strictEqual(head.headers.get("x-from"), "fpm")
      }))

    it.effect("runs no script outside of the document root, and none that a NUL cuts off", () =>
      Effect.gen(function*() {
        const { documentRoot } = yield* Php
        writeFileSync(join(documentRoot, "..", "outside.php"), "<?php echo 'outside';")
        const url = yield* gateway()
        for (
          const path of [
            "/../outside.php",
            "/%2e%2e/outside.php",
            "/..%2foutside.php",
            "/x/..%2f..%2foutside.php",
            "/hello.php%00.png"
          ]
        ) {
          const { body, status } = yield* target(url, path)
          assert.strictEqual(status, 400, path)
          assert.notInclude(body, "outside", path)
        }
        assert.deepStrictEqual(yield* target(url, "/x/..//%2e/hello.php?name=resolved"), {
          status: 200,
          body: "hello resolved"
        })
        const client = yield* http()
        const error = yield* Effect.flip(client.get("http://x.test/..%2foutside.php"))
        assert.strictEqual(error.reason._tag, "InvalidUrlError")
      }))

    it.effect("takes uploads through the gateway, with a length and chunked", () =>
      Effect.gen(function*() {
        const url = yield* gateway()
        const body = pattern(10_000_000)
        const expected = { size: body.length, sha256: sha256(body) }
        const whole = yield* fetched(`${url}/body.php`, { method: "POST", body })
        assert.deepStrictEqual(yield* Effect.promise(() => whole.json()), expected)
        const chunked = yield* fetched(`${url}/body.php`, {
          method: "POST",
          body: new Blob([body]).stream(),
          duplex: "half"
        } as RequestInit)
        assert.deepStrictEqual(yield* Effect.promise(() => chunked.json()), expected)
        const form = new FormData()
        form.append("file", new File([body], "a.bin"))
        const upload = yield* fetched(`${url}/upload.php`, { method: "POST", body: form })
        const { files } = (yield* Effect.promise(() => upload.json())) as {
          readonly files: { readonly file: Variables }
        }
        assert.strictEqual(files.file["sha256"], expected.sha256)
        const posted = yield* fetched(`${url}/env.php`, {
          method: "POST",
          body: new Blob(["a=1&b=2"]).stream(),
          headers: { "content-type": "application/x-www-form-urlencoded" },
          duplex: "half"
        } as RequestInit)
        const { post } = (yield* Effect.promise(() => posted.json())) as Env
        assert.deepStrictEqual(post, { a: "1", b: "2" })
      }))

    it.effect("streams through the gateway event by event, and 200 MB", () =>
      Effect.gen(function*() {
        const { folder } = yield* Php
        const url = yield* gateway()
        const gate = join(folder, "gateway-gate-")
        const events = yield* fetched(`${url}/events.php?gate=${encodeURIComponent(gate)}`)
        const reader = events.body!.getReader()
        for (let i = 0; i < 5; i++) {
          const { value } = yield* Effect.promise(() => reader.read())
          assert.strictEqual(textOf(value!), `data: ${i}\n\n`)
          writeFileSync(gate + i, "")
        }
        for (const length of ["", "&length"]) {
          const large = yield* fetched(`${url}/large.php?size=200000000${length}`)
          assert.strictEqual(large.headers.get("content-length"), length === "" ? null : "200000000")
          const size = yield* sum(
            Stream.fromReadableStream({ evaluate: () => large.body!, onError: (cause) => ({ cause }) })
          )
          assert.strictEqual(size, 200_000_000)
        }
      }))

    it.effect("is aborted when the gateway's client goes away", () =>
      Effect.gen(function*() {
        const { documentRoot } = yield* Php
        const url = yield* gateway()
        const aborted = yield* Effect.forkScoped(untilFile(documentRoot, "aborted"), { startImmediately: true })
        const controller = new AbortController()
        const large = yield* Effect.promise(() =>
          fetch(`${url}/large.php?size=1000000000`, { signal: controller.signal })
        )
        yield* Effect.promise(() => large.body!.getReader().read())
        controller.abort()
        yield* Fiber.join(aborted)
      }))

    it.effect("is a 502 with a cause in words when it crashes or is not there", () =>
      Effect.gen(function*() {
        const { folder } = yield* Php
        const url = yield* gateway()
        const crash = yield* fetched(`${url}/crash.php`)
        assert.strictEqual(crash.status, 502)
        assert.include(yield* textOfFetch(crash), "closed the connection before it answered")
        const nobody = yield* gateway({ connect: NodeFastCgiConnector.connect({ path: join(folder, "nobody.sock") }) })
        const missing = yield* fetched(`${nobody}/`)
        assert.strictEqual(missing.status, 502)
        assert.strictEqual(missing.headers.get("content-type"), "text/html; charset=utf-8")
        const page = yield* textOfFetch(missing)
        assert.notInclude(page, "nobody.sock")
        assert.include(page, "cannot be reached")
      }))
  })
})
