/** Multipart bodies: persisted, streamed, with limits. */
import { assert } from "@effect/vitest"
import * as ByteSize from "effect/ByteSize"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Multipart from "effect/http/Multipart"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { Cases } from "./support.ts"
import { assertSameBytes, empty, encode, pattern, post, request, route, send, serve, status } from "./support.ts"

const json = HttpServerResponse.jsonUnsafe

/** A POST of a form; a list of values for one name gives several parts of that name. */
const form = (fields: Record<string, string | File | ReadonlyArray<string | File>>) => {
  const data = new FormData()
  for (const [name, value] of Object.entries(fields)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (typeof one === "string") data.append(name, one)
      else data.append(name, one, one.name)
    }
  }
  return HttpClientRequest.bodyFormData(post("/"), data)
}

const text = (content: string, name = "note.txt") => new File([content], name, { type: "text/plain" })

const persist = Effect.flatMap(request, (request) => request.multipart)

/** Limits, in bytes. */
const limits = (options: Multipart.withLimits.Options) => Effect.provideContext(Multipart.limitsServices(options))

export const multipart: Cases = (test) => {
  test("persists fields and files, and removes the files with the request", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const bytes = pattern(300_007)
      let path = ""
      const closed = yield* Deferred.make<void>()
      yield* serve(route(
        "POST",
        "/",
        Effect.gen(function*() {
          // Added first, so that it runs last: the files are gone by then.
          yield* Effect.addFinalizer(() => Deferred.succeed(closed, undefined))
          const parts = yield* persist
          const files = parts["file"]
          assert.isTrue(Array.isArray(files) && Multipart.isPersistedFile(files[0]))
          const [file] = files as ReadonlyArray<Multipart.PersistedFile>
          path = file!.path
          assertSameBytes(yield* fs.readFile(path), bytes)
          return json({ title: parts["title"], name: file!.name, type: file!.contentType, key: file!.key })
        })
      ))
      const response = yield* send(form({
        title: "grüße",
        file: new File([bytes], "päge.bin", { type: "application/x-page" })
      }))
      assert.deepStrictEqual(yield* response.json, {
        title: "grüße",
        name: "päge.bin",
        type: "application/x-page",
        key: "file"
      })
      yield* Deferred.await(closed)
      assert.isFalse(yield* fs.exists(path))
    }))

  test("persists repeated fields and several files of one name", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      yield* serve(route(
        "POST",
        "/",
        Effect.gen(function*() {
          const parts = yield* persist
          const files = parts["file"] as ReadonlyArray<Multipart.PersistedFile>
          const contents = yield* Effect.forEach(files, (file) => fs.readFileString(file.path))
          return json({ tags: parts["tag"], contents, paths: new Set(files.map((file) => file.path)).size })
        })
      ))
      const response = yield* send(form({ tag: ["a", "b"], file: [text("one"), text("two"), text("three")] }))
      assert.deepStrictEqual(yield* response.json, { tags: ["a", "b"], contents: ["one", "two", "three"], paths: 3 })
    }))

  test("gives the same parts when they are asked for twice", () =>
    Effect.gen(function*() {
      yield* serve(route(
        "POST",
        "/",
        Effect.gen(function*() {
          const first = yield* persist
          const second = yield* persist
          return json({ same: first === second, title: second["title"] })
        })
      ))
      const response = yield* send(form({ title: "once" }))
      assert.deepStrictEqual(yield* response.json, { same: true, title: "once" })
    }))

  test("decodes forms with schemas, and answers 400 when they do not fit", () =>
    Effect.gen(function*() {
      yield* serve(route(
        "POST",
        "/",
        Effect.map(
          HttpServerRequest.schemaBodyForm(Schema.Struct({
            count: Schema.FiniteFromString,
            file: Multipart.SingleFileSchema
          })),
          ({ count, file }) => json({ count, name: file.name })
        )
      ))
      const response = yield* send(form({ count: "3", file: text("x") }))
      assert.deepStrictEqual(yield* response.json, { count: 3, name: "note.txt" })
      assert.strictEqual(yield* status(send(form({ count: "many", file: text("x") }))), 400)
      assert.strictEqual(yield* status(send(form({ count: "3" }))), 400)
    }))

  test("decodes multipart bodies and a JSON field, as text and as a file", () =>
    Effect.gen(function*() {
      yield* serve(route(
        "POST",
        "/",
        Effect.map(HttpServerRequest.schemaBodyFormJson(Schema.Struct({ n: Schema.Number }))("data"), json)
      ))
      const asText = yield* send(form({ data: "{\"n\":1}" }))
      assert.deepStrictEqual(yield* asText.json, { n: 1 })
      const asFile = yield* send(form({ data: new File(["{\"n\":2}"], "data.json", { type: "application/json" }) }))
      assert.deepStrictEqual(yield* asFile.json, { n: 2 })
    }))

  test("streams parts in their order, fields whole and files in pieces", () =>
    Effect.gen(function*() {
      yield* serve(route(
        "POST",
        "/",
        Effect.gen(function*() {
          const { multipartStream } = yield* request
          const seen: Array<unknown> = []
          yield* Stream.runForEach(multipartStream, (part) =>
            part._tag === "Field"
              ? Effect.sync(() => seen.push([part.key, part.value]))
              : Effect.map(
                Stream.runFold(part.content, () => 0, (sum, bytes) => sum + bytes.length),
                (size) => seen.push([part.key, part.name, part.contentType, size])
              ))
          return json(seen)
        })
      ))
      const response = yield* send(form({
        first: "1",
        big: new File([pattern(5_000_003)], "big.bin", { type: "application/octet-stream" }),
        last: "é"
      }))
      assert.deepStrictEqual(yield* response.json, [
        ["first", "1"],
        ["big", "big.bin", "application/octet-stream", 5_000_003],
        ["last", "é"]
      ])
    }))

  test("hands over a part while the next one is still on its way", () =>
    Effect.gen(function*() {
      const rest = yield* Deferred.make<void>()
      yield* serve(route(
        "POST",
        "/",
        Effect.gen(function*() {
          const { multipartStream } = yield* request
          const seen: Array<string> = []
          yield* Stream.runForEach(multipartStream, (part) =>
            Effect.suspend(() => {
              seen.push(part.key)
              // The client sends the second part only when the first has arrived here.
              return Deferred.succeed(rest, undefined)
            }))
          return json(seen)
        })
      ))
      const part = (name: string) => `--cut\r\ncontent-disposition: form-data; name="${name}"\r\n\r\nvalue`
      const body = Stream.concat(
        // The first part is complete once the boundary behind it has been read.
        Stream.make(encode(`${part("one")}\r\n${part("two")}`)),
        Stream.fromEffect(Effect.as(Deferred.await(rest), encode(", the rest of it\r\n--cut--\r\n")))
      )
      const response = yield* send(
        HttpClientRequest.bodyStream(post("/"), body, { contentType: "multipart/form-data; boundary=cut" })
      )
      assert.deepStrictEqual(yield* response.json, ["one", "two"])
    }))

  for (
    const [name, options, fits, exceeds] of [
      ["a file", { maxFileSize: 1000 }, { file: text("x".repeat(500)) }, { file: text("x".repeat(5000)) }],
      ["a field", { maxFieldSize: 1000 }, { field: "x".repeat(500) }, { field: "x".repeat(5000) }],
      ["the number of parts", { maxParts: 2 }, { a: "1", b: "2" }, { a: "1", b: "2", c: "3" }],
      ["the whole body", { maxTotalSize: 20_000 }, { a: "x".repeat(10_000) }, { a: "x".repeat(30_000) }]
    ] as const
  ) {
    test(`answers 413 when ${name} exceeds its limit, and takes what fits`, () =>
      Effect.gen(function*() {
        yield* serve(route("POST", "/", limits(options)(Effect.as(persist, empty))))
        assert.strictEqual(yield* status(send(form(fits))), 204)
        assert.strictEqual(yield* status(send(form(exceeds))), 413)
        assert.strictEqual(yield* status(send(form(fits))), 204)
      }))
  }

  test("obeys limits given around the server, and names the limit in a typed error", () =>
    Effect.gen(function*() {
      yield* serve(route(
        "POST",
        "/",
        Effect.as(persist, empty).pipe(
          Effect.catchTag("MultipartError", (error) => Effect.succeed(HttpServerResponse.text(error.reason._tag)))
        )
      )).pipe(Effect.provideService(Multipart.MaxFileSize, ByteSize.fromInputUnsafe(10)))
      const response = yield* send(form({ file: text("x".repeat(2_000_000)) }))
      assert.strictEqual(yield* response.text, "FileTooLarge")
    }))

  test("answers 400 to a multipart body that is cut off or has no boundary", () =>
    Effect.gen(function*() {
      yield* serve(route("POST", "/", Effect.as(persist, empty)))
      const cut = "--b\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\nvalue without an end"
      assert.strictEqual(
        yield* status(send(HttpClientRequest.bodyText(post("/"), cut, "multipart/form-data; boundary=b"))),
        400
      )
      assert.strictEqual(yield* status(send(HttpClientRequest.bodyText(post("/"), cut, "multipart/form-data"))), 400)
    }))
}
