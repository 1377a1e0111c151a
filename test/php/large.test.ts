/** Large bodies through the PHP front, both ways, with memory measured: 8 MB, and 200 MB with FULL=1. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import { createHash } from "node:crypto"
import { createServer, type IncomingMessage, request } from "node:http"
import { Readable } from "node:stream"
import { pipeline } from "node:stream/promises"
import * as FastCgiGateway from "../../src/client/FastCgiGateway.ts"
import * as PhpFpm from "../client/phpFpm.ts"
import { describeWith } from "../support/requirement.ts"
import { within } from "../support/within.ts"

const full = process.env["FULL"] === "1"
const size = full ? 200_000_000 : 8_000_000
// Beyond what there is before, of the client in this process as well: how much is let go of when is up to the garbage collector, so
// that only of a large body it can be told that it is never there as a whole.
const most = full ? size / 2 : Infinity

const block = new Uint8Array(100_000).map((_, i) => i * 31 >> 3)
const blocks = function*() {
  for (let sent = 0; sent < size; sent += block.length) yield block
}

const sha256 = (parts: Iterable<Uint8Array>) => {
  const hash = createHash("sha256")
  for (const part of parts) hash.update(part)
  return hash.digest("hex")
}

const sent = sha256(blocks())

/** The highest figure of memory that is not on the heap, while the effect runs, beyond what there was. */
const measured = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const before = process.memoryUsage().arrayBuffers
    let peak = before
    const timer = setInterval(() => {
      peak = Math.max(peak, process.memoryUsage().arrayBuffers)
    }, 2)
    return Effect.map(
      Effect.ensuring(effect, Effect.sync(() => clearInterval(timer))),
      (value) => [value, peak - before] as const
    )
  })

describeWith(["php-fpm8.2"], "a PHP site with large bodies", (command) => {
  const start = Effect.gen(function*() {
    const php = yield* PhpFpm.start(command)
    const app = Layer.unwrap(Effect.map(
      FastCgiGateway.php({ connect: php.connect, root: php.documentRoot, keepConnection: true, maxConnections: 4 }),
      (app) => HttpServer.serve(app)
    ))
    const context = yield* Layer.build(
      Layer.provideMerge(app, NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
    )
    const { address } = Context.get(context, HttpServer.HttpServer)
    assert.ok("port" in address)
    return address.port
  })

  const exchanged = (
    port: number,
    path: string,
    headers: Record<string, string | number>,
    parts?: Iterable<Uint8Array>
  ) =>
    Effect.promise(async () => {
      const sending = request({ host: "127.0.0.1", port, path, method: parts === undefined ? "GET" : "POST", headers })
      const answered = new Promise<IncomingMessage>((resolve, reject) => {
        sending.on("response", resolve).on("error", reject)
      })
      if (parts === undefined) sending.end()
      else await pipeline(Readable.from(parts), sending)
      const response = await answered
      const hash = createHash("sha256")
      let received = 0
      let text = ""
      for await (const part of response as AsyncIterable<Uint8Array>) {
        received += part.length
        hash.update(part)
        if (received < 10_000) text += Buffer.from(part).toString()
      }
      return { status: response.statusCode, received, sha256: hash.digest("hex"), text }
    }).pipe(within("the end of a large body", 90))

  it.live(`takes ${size / 1e6} MB up, with a length, in chunks and as a form, and ${size / 1e6} MB down`, () =>
    Effect.gen(function*() {
      const port = yield* start
      const boundary = "----boundary"
      const head = `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n` +
        "Content-Type: application/octet-stream\r\n\r\n"
      const form = function*() {
        yield Buffer.from(head)
        // upload_max_filesize
        for (let n = 0; n < 80; n++) yield block
        yield Buffer.from(`\r\n--${boundary}--\r\n`)
      }
      for (const headers of [{ "content-length": size }, { "transfer-encoding": "chunked" }]) {
        const [{ status, text }, memory] = yield* measured(exchanged(port, "/body.php", headers, blocks()))
        assert.strictEqual(status, 200)
        assert.deepStrictEqual(JSON.parse(text), { size, sha256: sent })
        assert.isBelow(memory, most, JSON.stringify(headers))
      }
      const type = `multipart/form-data; boundary=${boundary}`
      const [uploaded, formMemory] = yield* measured(exchanged(port, "/upload.php", { "content-type": type }, form()))
      assert.deepStrictEqual(JSON.parse(uploaded.text), {
        post: [],
        files: {
          file: {
            name: "a.bin",
            type: "application/octet-stream",
            size: 80 * block.length,
            sha256: sha256(Array.from({ length: 80 }, () => block))
          }
        }
      })
      assert.isBelow(formMemory, most)
      const line = Buffer.from("0123456789abcdef".repeat(4096))
      const whole = sha256(
        Array.from(
          { length: Math.ceil(size / line.length) },
          (_, i) => line.subarray(0, Math.min(line.length, size - i * line.length))
        )
      )
      for (const length of ["", "&length"]) {
        const [down, memory] = yield* measured(exchanged(port, `/large.php?size=${size}${length}`, {}))
        assert.strictEqual(down.received, size)
        assert.strictEqual(down.sha256, whole)
        assert.isBelow(memory, most, `down${length}`)
      }
    }).pipe(Effect.provide(NodeHttpServer.layerHttpServices)))
})
