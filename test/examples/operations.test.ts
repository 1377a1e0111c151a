/**
 * The program of docs/operations.md: what it logs, what it is asked on its own port, and that the page has it as it is.
 */
import { assert, it } from "@effect/vitest"
import { FastCgiHttpClient } from "effect-fastcgi/client"
import { NodeFastCgiConnector } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { projectRoot } from "../support/files.ts"
import * as WebServers from "../support/webServers.ts"

const file = Path.join(projectRoot, "examples/operations/main.ts")

it("is on the page as it runs", () => {
  const page = Fs.readFileSync(Path.join(projectRoot, "docs/operations.md"), "utf8")
  const program = Fs.readFileSync(file, "utf8")
  assert.include(page, program.slice(program.indexOf("import ")))
})

it.live("logs JSON with the ids of the front end, and answers on a port of its own", () =>
  Effect.gen(function*() {
    const folder = yield* WebServers.temporaryDirectory
    const path = Path.join(folder, "app.sock")
    const port = yield* WebServers.freePort
    const client = yield* FastCgiHttpClient.make({ connect: NodeFastCgiConnector.connect({ path }) })
    const ask = (path: string) =>
      Effect.tryPromise(async () => {
        const response = await fetch(`http://127.0.0.1:${port}${path}`)
        return `${response.status} ${await response.text()}`
      })
    const program = yield* WebServers.start({
      name: "the program",
      command: process.execPath,
      args: ["--import", fileURLToPath(new URL("./support/onSources.ts", import.meta.url)), file],
      env: {
        FASTCGI_LISTEN: path,
        FASTCGI_STATUS_PATH: "/status",
        FASTCGI_ACCESS_LOG: "journal",
        FASTCGI_ACCESS_FORMAT: "json",
        FASTCGI_SLOW_TIMEOUT: "5 seconds",
        OPERATIONS_PORT: String(port)
      },
      // NodeHttpServer answers no request that comes between its listen and its first handler.
      ready: Effect.timeout(ask("/health"), "1 second")
    })
    const response = yield* client.get("http://localhost/", {
      headers: {
        "x-request-id": "a1b2",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
      }
    }).pipe(Effect.provideService(HttpClient.TracerPropagationEnabled, false))
    assert.strictEqual(yield* response.text, "Hello\n")
    const log = () => program.log().split("\n").filter((line) => line.includes("{"))
    yield* WebServers.until("the access log", () => log().some((line) => line.includes("http.response.status_code")))
    const greeted = JSON.parse(log().find((line) => line.includes("greeted"))!) as { readonly annotations: object }
    assert.deepInclude(greeted.annotations, { request_id: "a1b2", trace_id: "0af7651916cd43dd8448eb211c80319c" })
    const line = log().find((line) => line.includes("http.response.status_code"))!
    assert.include(line, "\"http.request.header.x-request-id\":\"a1b2\"")
    assert.strictEqual(yield* ask("/health"), "200 ok\n")
    const metrics = yield* ask("/metrics")
    assert.match(metrics, /\nfastcgi_requests 1\n/)
    assert.match(metrics, /\nhttp_server_request_duration_count\{[^}]*http_response_status_code="200"[^}]*\} 1\n/)
    assert.deepStrictEqual(yield* program.stop("SIGTERM"), { code: 0, signal: null })
  }))
