/** The gateway and the HttpClient in front of a real fcgiwrap, which runs whatever file it is told. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import { createServer } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as FastCgiGateway from "../../src/client/FastCgiGateway.ts"
import * as FastCgiHttpClient from "../../src/client/FastCgiHttpClient.ts"
import * as NodeFastCgiConnector from "../../src/node/NodeFastCgiConnector.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import { target } from "./target.ts"

const program = (text: string) =>
  `#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n${text} %s' "$QUERY_STRING"
`

describeWith(["fcgiwrap", "sh"], "fcgiwrap", (command) => {
  const start = Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => Fs.mkdtempSync(join(tmpdir(), "fcgiwrap-"))),
      (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
    )
    const documentRoot = join(folder, "www")
    Fs.mkdirSync(join(documentRoot, "sub"), { recursive: true })
    Fs.writeFileSync(join(documentRoot, "inside"), program("inside"), { mode: 0o755 })
    Fs.writeFileSync(join(folder, "outside"), program("outside"), { mode: 0o755 })
    const path = join(folder, "wrap.sock")
    const connect = NodeFastCgiConnector.connect({ path })
    yield* WebServers.start({
      name: "fcgiwrap",
      command,
      args: ["-s", `unix:${path}`],
      ready: Effect.scoped(connect)
    })
    const context = yield* Layer.build(
      FastCgiGateway.layer({ connect, documentRoot }).pipe(
        Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
      )
    )
    const { port } = Context.get(context, HttpServer.HttpServer).address as { readonly port: number }
    return { url: `http://127.0.0.1:${port}`, connect, documentRoot }
  })

  it.live("runs a program below the document root, however its path is written", () =>
    Effect.gen(function*() {
      const { url } = yield* start
      for (const path of ["/inside?x", "//inside?x", "/sub/../inside?x", "/sub%2f%2e%2e/%69nside?x"]) {
        assert.deepStrictEqual(yield* target(url, path), { status: 200, body: "inside x" }, path)
      }
    }))

  it.live("runs no program outside of it", () =>
    Effect.gen(function*() {
      const { connect, documentRoot, url } = yield* start
      const paths = [
        "/../outside",
        "/sub/../../outside",
        "/%2e%2e/outside",
        "/..%2foutside",
        "/sub%2F..%2F..%2Foutside"
      ]
      for (const path of paths) {
        const { body, status } = yield* target(url, path)
        assert.strictEqual(status, 400, path)
        assert.notMatch(body, /^outside/, path)
      }
      const client = yield* FastCgiHttpClient.make({ connect, documentRoot })
      const error = yield* Effect.flip(client.get("http://x.test/..%2foutside"))
      assert.strictEqual(error.reason._tag, "InvalidUrlError")
    }))
})
