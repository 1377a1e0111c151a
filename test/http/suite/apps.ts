/** Whole apps: HttpApi with its typed client, and static files. */
import { assert } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiError from "effect/http-api/HttpApiError"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as HttpApiSecurity from "effect/http-api/HttpApiSecurity"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpStaticServer from "effect/http/HttpStaticServer"
import * as Multipart from "effect/http/Multipart"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { Cases } from "./support.ts"
import { assertSameBytes, encode, get, getText, head, pattern, post, send, serve, status } from "./support.ts"

class Note extends Schema.Class<Note>("Note")({ id: Schema.Number, title: Schema.String }) {}

class NoteNotFound extends Schema.TaggedError<NoteNotFound>()(
  "NoteNotFound",
  { id: Schema.Number },
  { httpApiStatus: 404 }
) {}

class CurrentUser extends Context.Service<CurrentUser, string>()("test/CurrentUser") {}

class Authorization extends HttpApiMiddleware.Service<Authorization, { provides: CurrentUser }>()(
  "test/Authorization",
  { security: { bearer: HttpApiSecurity.bearer }, error: HttpApiError.Unauthorized }
) {}

class Notes extends HttpApiGroup.make("notes")
  .add(
    HttpApiEndpoint.get("find", "/notes/:id", {
      params: { id: Schema.FiniteFromString },
      success: Note,
      error: NoteNotFound
    }),
    HttpApiEndpoint.get("search", "/notes", {
      query: { title: Schema.String, limit: Schema.optional(Schema.FiniteFromString) },
      success: Schema.Array(Note)
    }),
    HttpApiEndpoint.post("create", "/notes", {
      payload: Schema.Struct({ title: Schema.NonEmptyString }),
      success: Note.pipe(HttpApiSchema.status(201))
    }),
    HttpApiEndpoint.delete("remove", "/notes/:id", {
      params: { id: Schema.FiniteFromString },
      success: HttpApiSchema.NoContent
    }),
    HttpApiEndpoint.post("upload", "/upload", {
      payload: Schema.Struct({ title: Schema.String, file: Multipart.SingleFileSchema }).pipe(
        HttpApiSchema.asMultipart({ maxFileSize: 100_000 })
      ),
      success: Schema.Struct({ title: Schema.String, size: Schema.Number })
    }),
    HttpApiEndpoint.get("text", "/text", { success: Schema.String.pipe(HttpApiSchema.asText()) }),
    HttpApiEndpoint.get("bytes", "/bytes", { success: HttpApiSchema.StreamUint8Array() })
  )
{}

class Account extends HttpApiGroup.make("account")
  .add(HttpApiEndpoint.get("me", "/me", { success: Schema.String }))
  .middleware(Authorization)
{}

class Api extends HttpApi.make("api").add(Notes).add(Account) {}

const bytes = pattern(200_003)

const NotesLive = HttpApiBuilder.group(
  Api,
  "notes",
  Effect.fn(function*(handlers) {
    const fs = yield* FileSystem.FileSystem
    return handlers.handleAll({
      find: ({ params }) =>
        params.id === 1
          ? Effect.succeed(new Note({ id: 1, title: "first" }))
          : Effect.fail(new NoteNotFound({ id: params.id })),
      search: ({ query }) =>
        Effect.succeed(Array.from({ length: query.limit ?? 1 }, (_, id) => new Note({ id, title: query.title }))),
      create: ({ payload }) => Effect.succeed(new Note({ id: 2, title: payload.title })),
      remove: () => Effect.void,
      upload: ({ payload }) =>
        Effect.map(Effect.orDie(fs.stat(payload.file.path)), (info) => ({
          title: payload.title,
          size: Number(info.size)
        })),
      text: () => Effect.succeed("plain text"),
      bytes: () => Effect.succeed(Stream.fromIterable([bytes.subarray(0, 70_000), bytes.subarray(70_000)]))
    })
  })
)

const AccountLive = HttpApiBuilder.group(
  Api,
  "account",
  (handlers) => Effect.succeed(handlers.handleAll({ me: () => CurrentUser }))
)

const AuthorizationLive = Layer.succeed(Authorization)({
  bearer: (effect, { credential }) =>
    Redacted.value(credential) === "let-me-in"
      ? Effect.provideService(effect, CurrentUser, "ada")
      : Effect.fail(new HttpApiError.Unauthorized({}))
})

const api = HttpApiBuilder.layer(Api, { openapiPath: "/openapi.json" }).pipe(
  Layer.provide(NotesLive),
  Layer.provide(AccountLive),
  Layer.provide(AuthorizationLive)
)

/**
 * A folder to serve: an index, a style sheet, a file of digits, a folder with an index, and a secret beside the root.
 */
const makeSite = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const folder = yield* fs.makeTempDirectoryScoped()
  const root = path.join(folder, "site")
  yield* fs.makeDirectory(path.join(root, "guide"), { recursive: true })
  yield* fs.writeFileString(path.join(root, "index.html"), "<h1>home</h1>")
  yield* fs.writeFileString(path.join(root, "guide", "index.html"), "<h1>guide</h1>")
  yield* fs.writeFileString(path.join(root, "style.css"), "body {}")
  yield* fs.writeFileString(path.join(root, "digits.txt"), "0123456789")
  yield* fs.writeFileString(path.join(root, "grüße ä.txt"), "greetings")
  yield* fs.writeFileString(path.join(folder, "secret.txt"), "secret")
  return root
})

const serveSite = Effect.flatMap(
  makeSite,
  (root) => serve(HttpStaticServer.layer({ root, cacheControl: "max-age=60" }))
)

export const apps: Cases = (test, capabilities) => {
  test("serves an HttpApi to its own client: parameters, query, payload, no content, text and bytes", () =>
    Effect.gen(function*() {
      yield* serve(api)
      const client = yield* HttpApiClient.make(Api)
      assert.deepStrictEqual(yield* client.notes.find({ params: { id: 1 } }), new Note({ id: 1, title: "first" }))
      const found = yield* client.notes.search({ query: { title: "a b&c=ä", limit: 2 } })
      assert.deepStrictEqual(found.map((note) => note.title), ["a b&c=ä", "a b&c=ä"])
      const created = yield* client.notes.create({ payload: { title: "new" } })
      assert.deepStrictEqual(created, new Note({ id: 2, title: "new" }))
      assert.isUndefined(yield* client.notes.remove({ params: { id: 1 } }))
      assert.strictEqual(yield* client.notes.text(), "plain text")
      const streamed = yield* client.notes.bytes()
      assertSameBytes(Buffer.concat(yield* Stream.runCollect(streamed)), bytes)
    }))

  test("gives an HttpApi's declared error to its client, typed", () =>
    Effect.gen(function*() {
      yield* serve(api)
      const client = yield* HttpApiClient.make(Api)
      const error = yield* Effect.flip(client.notes.find({ params: { id: 404 } }))
      assert.deepStrictEqual(error, new NoteNotFound({ id: 404 }))
      assert.strictEqual(yield* status(get("/notes/404")), 404)
    }))

  test("answers 400 to requests an HttpApi cannot decode, and 201 where it says so", () =>
    Effect.gen(function*() {
      yield* serve(api)
      assert.strictEqual(yield* status(get("/notes/first")), 400)
      assert.strictEqual(yield* status(get("/notes")), 400)
      const create = (body: unknown) => status(send(HttpClientRequest.bodyJsonUnsafe(post("/notes"), body)))
      assert.strictEqual(yield* create({ title: "" }), 400)
      assert.strictEqual(yield* create({ title: "t" }), 201)
      assert.strictEqual(yield* status(send(HttpClientRequest.bodyText(post("/notes"), "{", "application/json"))), 400)
    }))

  test("takes a multipart upload through an HttpApi, within its limits", () =>
    Effect.gen(function*() {
      yield* serve(api)
      const client = yield* HttpApiClient.make(Api)
      const upload = (size: number) => {
        const form = new FormData()
        form.append("title", "a file")
        form.append("file", new File([pattern(size)], "a.bin"))
        return client.notes.upload({ payload: form })
      }
      assert.deepStrictEqual(yield* upload(50_000), { title: "a file", size: 50_000 })
      const exit = yield* Effect.exit(upload(500_000))
      assert.strictEqual(exit._tag, "Failure")
    }))

  test("asks for a bearer token through HttpApi security", () =>
    Effect.gen(function*() {
      yield* serve(api)
      const me = (token: string) => getText("/me", { authorization: `Bearer ${token}` })
      assert.strictEqual(yield* me("let-me-in"), "\"ada\"")
      assert.strictEqual(yield* status(get("/me", { authorization: "Bearer wrong" })), 401)
      assert.strictEqual(yield* status(get("/me")), 401)
    }))

  test("serves the OpenAPI description of an HttpApi", () =>
    Effect.gen(function*() {
      yield* serve(api)
      const description = (yield* (yield* get("/openapi.json")).json) as { paths: Record<string, unknown> }
      assert.includeMembers(Object.keys(description.paths), ["/notes/{id}", "/notes", "/upload", "/me"])
    }))

  test("serves static files with their types, an index, and cache headers", () =>
    Effect.gen(function*() {
      yield* serveSite
      const home = yield* get("/")
      assert.strictEqual(home.headers["content-type"], "text/html; charset=utf-8")
      assert.strictEqual(home.headers["cache-control"], "max-age=60")
      assert.strictEqual(yield* home.text, "<h1>home</h1>")
      const style = yield* get("/style.css?v=1")
      assert.strictEqual(style.headers["content-type"], "text/css; charset=utf-8")
      assert.strictEqual(yield* style.text, "body {}")
      assert.strictEqual(yield* getText("/guide/"), "<h1>guide</h1>")
      assert.strictEqual(yield* getText("/gr%C3%BC%C3%9Fe%20%C3%A4.txt"), "greetings")
    }))

  test("redirects a folder without its slash, within the site", () =>
    Effect.gen(function*() {
      yield* serveSite
      const response = yield* Effect.provideService(get("/guide?a=b"), FetchHttpClient.RequestInit, {
        redirect: "manual"
      })
      assert.strictEqual(response.status, 301)
      assert.strictEqual(response.headers["location"], "/guide/?a=b")
    }))

  test("answers 404 to files that are not there and to paths that lead out", () =>
    Effect.gen(function*() {
      yield* serveSite
      for (const url of ["/nothing.txt", "/%2e%2e/secret.txt"]) {
        assert.strictEqual(yield* status(get(url)), 404, url)
      }
      const out = capabilities.pathsOutRefused === undefined ? 404 : 400
      for (const url of ["/..%2fsecret.txt", "/guide/..%2f..%2fsecret.txt", "/%00"]) {
        // A client of FastCGI says so itself.
        const refused = Effect.catch(status(get(url)), (error) =>
          error.reason._tag === "InvalidUrlError" ? Effect.succeed(400) : Effect.fail(error))
        assert.strictEqual(yield* refused, out, url)
      }
    }))

  test("answers HEAD on a static file with its length and no body", () =>
    Effect.gen(function*() {
      yield* serveSite
      const response = yield* head("/digits.txt")
      assert.strictEqual(response.status, 200)
      assert.strictEqual(response.headers["content-length"], "10")
      assert.strictEqual(yield* response.text, "")
      assert.strictEqual(yield* getText("/digits.txt"), "0123456789")
    }))

  test("answers 304 to a client that has the file, and 412 to a failed precondition", () =>
    Effect.gen(function*() {
      yield* serveSite
      const first = yield* get("/digits.txt")
      assert.strictEqual(yield* first.text, "0123456789")
      const etag = first.headers["etag"]!
      const modified = first.headers["last-modified"]!
      for (const headers of [{ "if-none-match": etag }, { "if-modified-since": modified }]) {
        const response = yield* get("/digits.txt", headers)
        assert.strictEqual(response.status, 304)
        assert.strictEqual(response.headers["etag"], etag)
        assert.strictEqual(yield* response.text, "")
      }
      assert.strictEqual(yield* status(get("/digits.txt", { "if-none-match": "\"other\"" })), 200)
      assert.strictEqual(yield* status(get("/digits.txt", { "if-match": "\"other\"" })), 412)
    }))

  test("answers byte ranges with 206 and impossible ones with 416", () =>
    Effect.gen(function*() {
      yield* serveSite
      for (
        const [range, body, contentRange] of [
          ["bytes=2-4", "234", "bytes 2-4/10"],
          ["bytes=7-", "789", "bytes 7-9/10"],
          ["bytes=-2", "89", "bytes 8-9/10"]
        ] as const
      ) {
        const response = yield* get("/digits.txt", { range })
        assert.strictEqual(response.status, 206)
        assert.strictEqual(response.headers["content-range"], contentRange)
        assert.strictEqual(response.headers["content-length"], String(encode(body).length))
        assert.strictEqual(yield* response.text, body)
      }
      const impossible = yield* get("/digits.txt", { range: "bytes=10-" })
      assert.strictEqual(impossible.status, 416)
      assert.strictEqual(impossible.headers["content-range"], "bytes */10")
      assert.strictEqual(yield* impossible.text, "")
    }))
}
