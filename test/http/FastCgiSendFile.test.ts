/**
 * Files that are left to the web server: what the app answers with, in memory, and when it sends the file itself.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, it } from "@effect/vitest"
import { FastCgiSendFile } from "effect-fastcgi/http"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Effect from "effect/Effect"
import type * as HttpPlatform from "effect/http/HttpPlatform"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as HttpStaticServer from "effect/http/HttpStaticServer"
import * as Layer from "effect/Layer"
import type * as Path from "effect/Path"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as NodePath from "node:path"
import { get, head, serve, type Services } from "./suite/support.ts"

/** Names that a web server which decodes, or does not encode, takes for others. */
const names = [
  "plain.txt",
  "a b+c.txt",
  "100%.txt",
  "%41.txt",
  "what?is#this.txt",
  "grüße €.txt",
  "semi;colon&amp,'\"().txt",
  "sub/deep/file.txt"
]

const directory = Effect.acquireRelease(
  Effect.sync(() => {
    const folder = Fs.realpathSync(Fs.mkdtempSync(NodePath.join(Os.tmpdir(), "fcgi-")))
    for (const name of [...names, "new\nline.txt"]) {
      const file = NodePath.join(folder, "files", name)
      Fs.mkdirSync(NodePath.dirname(file), { recursive: true })
      Fs.writeFileSync(file, `content of ${name}`)
    }
    Fs.mkdirSync(NodePath.join(folder, "filesystem"))
    Fs.writeFileSync(NodePath.join(folder, "filesystem/other.txt"), "another directory")
    Fs.writeFileSync(NodePath.join(folder, "secret.txt"), "a secret")
    return folder
  }),
  (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
)

/** Answers with the file that the query names, below the folder, whatever the name says. */
const fileRoute = (folder: string) =>
  HttpRouter.add(
    "GET",
    "/file",
    Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
      const query = new URL(request.url, "http://localhost").searchParams
      return HttpServerResponse.file(folder + "/" + query.get("name"), {
        ...(query.has("status") ? { status: Number(query.get("status")) } : {}),
        ...(query.has("offset") ? { offset: Number(query.get("offset")) } : {}),
        ...(query.has("type") ? { contentType: query.get("type")! } : {}),
        headers: { "x-own": "yes" }
      })
    })
  )

type SendFile = Layer.Layer<HttpPlatform.HttpPlatform, never, HttpPlatform.HttpPlatform | Path.Path>

const accel = (folder: string): FastCgiSendFile.FastCgiSendFileOptions => ({
  header: "X-Accel-Redirect",
  roots: [{ directory: `${folder}/files`, location: "/protected" }]
})

/** Runs the body against a server that leaves files to the web server as the options say. */
const test = (
  name: string,
  body: (folder: string) => Effect.Effect<void, unknown, Services>,
  options: (folder: string) => FastCgiSendFile.FastCgiSendFileOptions | undefined,
  transport: Layer.Layer<Services, unknown> = Layer.mergeAll(
    FastCgiTest.layerTest,
    NodeHttpServer.layerHttpServices
  )
) =>
  it.effect(name, () =>
    Effect.flatMap(directory, (folder) => {
      const chosen = options(folder)
      const sendFile: SendFile = chosen === undefined
        ? Layer.effectContext(Effect.context())
        : FastCgiSendFile.layer(chosen)
      return Effect.gen(function*() {
        yield* serve(Layer.mergeAll(
          fileRoute(folder),
          HttpStaticServer.layer({ root: `${folder}/files`, prefix: "/static" })
        ))
        yield* body(folder)
      }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(sendFile, transport)))
    }))

const fileUrl = (name: string, more = "") => `/file?name=${encodeURIComponent(name)}${more}`

test(
  "names a file below an internal location, percent-encoded",
  () =>
    Effect.gen(function*() {
      const values: Array<string | undefined> = []
      for (const name of names) {
        const response = yield* get(fileUrl(`files/${name}`))
        assert.strictEqual(response.status, 200)
        assert.strictEqual(response.headers["content-type"], "text/plain")
        assert.strictEqual(response.headers["content-length"], "0")
        assert.strictEqual(response.headers["x-own"], "yes")
        assert.match(response.headers["etag"] ?? "", /^(?:W\/)?".+"$/)
        assert.isFalse(Number.isNaN(Date.parse(response.headers["last-modified"] ?? "")))
        assert.strictEqual(yield* response.text, "")
        const value = response.headers["x-accel-redirect"]
        assert.strictEqual(decodeURIComponent(value ?? ""), `/protected/${name}`)
        values.push(value)
      }
      assert.deepStrictEqual(values, [
        "/protected/plain.txt",
        "/protected/a%20b%2Bc.txt",
        "/protected/100%25.txt",
        "/protected/%2541.txt",
        "/protected/what%3Fis%23this.txt",
        "/protected/gr%C3%BC%C3%9Fe%20%E2%82%AC.txt",
        "/protected/semi%3Bcolon%26amp%2C'%22().txt",
        "/protected/sub/deep/file.txt"
      ])
    }),
  accel
)

for (const header of ["X-Sendfile", "X-LIGHTTPD-send-file"] as const) {
  test(
    `names a file by its path with ${header}`,
    (folder) =>
      Effect.gen(function*() {
        const response = yield* get(fileUrl("files/what?is#this.txt"))
        assert.strictEqual(response.headers[header.toLowerCase()], `${folder}/files/what%3Fis%23this.txt`)
        assert.isUndefined(response.headers["x-accel-redirect"])
        assert.strictEqual(yield* response.text, "")
      }),
    (folder) => ({ header, roots: [`${folder}/files/`] })
  )
}

test(
  "sends the file itself when it is below none of the roots, however it is named",
  () =>
    Effect.gen(function*() {
      for (
        const [name, content] of [
          ["secret.txt", "a secret"],
          ["files/../secret.txt", "a secret"],
          ["files/sub/../../secret.txt", "a secret"],
          ["filesystem/other.txt", "another directory"],
          ["files/new\nline.txt", "content of new\nline.txt"]
        ] as const
      ) {
        const response = yield* get(fileUrl(name))
        assert.strictEqual(response.status, 200, name)
        assert.isUndefined(response.headers["x-accel-redirect"], name)
        assert.strictEqual(response.headers["content-length"], String(content.length))
        assert.strictEqual(yield* response.text, content)
      }
      // And below one in a roundabout way it leaves it.
      const response = yield* get(fileUrl("files/sub/../sub/./deep//file.txt"))
      assert.strictEqual(response.headers["x-accel-redirect"], "/protected/sub/deep/file.txt")
    }),
  accel
)

test(
  "sends parts of files, and those with another status, itself",
  () =>
    Effect.gen(function*() {
      const part = yield* get(fileUrl("files/plain.txt", "&offset=11"))
      assert.isUndefined(part.headers["x-accel-redirect"])
      assert.strictEqual(yield* part.text, "plain.txt")
      const notFound = yield* get(fileUrl("files/plain.txt", "&status=404"))
      assert.strictEqual(notFound.status, 404)
      assert.isUndefined(notFound.headers["x-accel-redirect"])
      assert.strictEqual(yield* notFound.text, "content of plain.txt")
    }),
  accel
)

test(
  "keeps the type that the app gives, and answers HEAD alike",
  () =>
    Effect.gen(function*() {
      const url = fileUrl("files/plain.txt", "&type=application/x-own")
      for (const response of [yield* get(url), yield* head(url)]) {
        assert.strictEqual(response.headers["content-type"], "application/x-own")
        assert.strictEqual(response.headers["x-accel-redirect"], "/protected/plain.txt")
      }
    }),
  accel
)

test(
  "fails for a file that is not there as without it",
  () =>
    Effect.gen(function*() {
      const response = yield* get(fileUrl("files/missing.txt"))
      assert.strictEqual(response.status, 500)
      assert.isUndefined(response.headers["x-accel-redirect"])
      assert.strictEqual((yield* get("/static/missing.txt")).status, 404)
    }),
  accel
)

test(
  "is used by HttpStaticServer, which still answers conditions and ranges itself",
  () =>
    Effect.gen(function*() {
      const response = yield* get("/static/gr%C3%BC%C3%9Fe%20%E2%82%AC.txt")
      assert.strictEqual(response.headers["x-accel-redirect"], "/protected/gr%C3%BC%C3%9Fe%20%E2%82%AC.txt")
      assert.strictEqual(response.headers["content-type"], "text/plain; charset=utf-8")
      // nginx says it itself.
      assert.isUndefined(response.headers["accept-ranges"])
      const unchanged = yield* get("/static/plain.txt", {
        "if-none-match": (yield* get("/static/plain.txt")).headers["etag"]!
      })
      assert.strictEqual(unchanged.status, 304)
      assert.isUndefined(unchanged.headers["x-accel-redirect"])
      const part = yield* get("/static/plain.txt", { range: "bytes=0-6" })
      assert.strictEqual(part.status, 206)
      assert.strictEqual(part.headers["accept-ranges"], "bytes")
      assert.strictEqual(yield* part.text, "content")
    }),
  accel
)

test(
  "takes the innermost of several roots, and resolves and encodes what the options say",
  () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* get(fileUrl("files/plain.txt"))).headers["x-accel-redirect"], "/all/plain.txt")
      assert.strictEqual(
        (yield* get(fileUrl("files/sub/deep/file.txt"))).headers["x-accel-redirect"],
        "/deep%20one/file.txt"
      )
    }),
  (folder) => ({
    header: "X-Accel-Redirect",
    roots: [
      { directory: `${folder}/files`, location: "all/" },
      { directory: `${folder}/x/../files/sub/deep/`, location: "/deep one" }
    ]
  })
)

test(
  "is off by default: the same app sends its files",
  () =>
    Effect.gen(function*() {
      for (const name of names) {
        const response = yield* get(fileUrl(`files/${name}`))
        assert.isUndefined(response.headers["x-accel-redirect"])
        assert.strictEqual(yield* response.text, `content of ${name}`)
      }
    }),
  () => undefined
)

test(
  "does nothing over another HTTP server",
  () =>
    Effect.gen(function*() {
      const response = yield* get(fileUrl("files/plain.txt"))
      assert.isUndefined(response.headers["x-accel-redirect"])
      assert.strictEqual(yield* response.text, "content of plain.txt")
    }),
  accel,
  NodeHttpServer.layerTest
)
