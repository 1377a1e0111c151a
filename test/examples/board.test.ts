import { NodeHttpClient, NodeHttpServer, NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { FastCgiHttpClient } from "effect-fastcgi/client"
import { FastCgiHttpServer } from "effect-fastcgi/http"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Sse from "effect/encoding/Sse"
import * as Fiber from "effect/Fiber"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as HttpServer from "effect/http/HttpServer"
import type { ServeError } from "effect/http/HttpServerError"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { createHash } from "node:crypto"
import { createServer } from "node:http"
import * as Api from "../../examples/board/Api.ts"
import * as App from "../../examples/board/App.ts"
import * as Board from "../../examples/board/Board.ts"
import * as Records from "../../examples/board/Records.ts"

// NodeHttpServer.layerTest, with a client that shows redirects instead of following them.
const overHttp = HttpServer.layerTestClient.pipe(
  Layer.provide(NodeHttpClient.layerNodeHttp),
  Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
)

// In memory, through real records, which are written down as in `npm start`.
const overFastCgi = Layer.effect(
  HttpClient.HttpClient,
  Effect.gen(function*() {
    const { connect } = yield* FastCgiTest.FastCgiMemory
    const client = yield* FastCgiHttpClient.make({ keepConnection: true, connect })
    return HttpClient.mapRequest(client, HttpClientRequest.prependUrl("http://localhost"))
  })
).pipe(
  Layer.provideMerge(FastCgiHttpServer.layerServer()),
  Layer.provide(Records.layerListener),
  Layer.provideMerge([FastCgiTest.layerMemory, Records.layer, NodeHttpServer.layerHttpServices])
)

const servers = [["NodeHttpServer", overHttp], ["FastCGI", overFastCgi]] as const

const appOn = (server: Layer.Layer<Layer.Success<typeof overHttp>, ServeError>, options?: Board.Options) =>
  App.endStreamsFirst.pipe(
    Layer.provideMerge(App.layer),
    Layer.provideMerge(Board.layer(options)),
    Layer.provideMerge(server)
  )

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex")

const post = (path: string, form: Record<string, string>) =>
  HttpClient.execute(HttpClientRequest.post(path).pipe(HttpClientRequest.bodyUrlParams(form)))

const page = Effect.flatMap(HttpClient.get("/"), (response) => response.text)

const alertOf = (html: string) => /role="alert">([^<]*)</.exec(html)?.[1]

const eventsOf = (response: HttpClientResponse.HttpClientResponse) => {
  const parsed: Array<Sse.AnyEvent> = []
  const parser = Sse.makeParser((event) => parsed.push(event))
  return response.stream.pipe(
    Stream.decodeText,
    Stream.flatMap((text) => {
      parser.feed(text)
      return Stream.fromIterable(parsed.splice(0))
    })
  )
}

/** What the events carry, all kinds of them together. */
interface Data {
  readonly id: number
  readonly html: string
  readonly notes: string
  readonly files: string
  readonly watching: number
}

/** Opens the live stream and gives its events one by one; ends with the scope. */
const watch = Effect.gen(function*() {
  const response = yield* HttpClient.get("/events")
  assert.strictEqual(response.status, 200)
  assert.strictEqual(response.headers["content-type"], "text/event-stream")
  const queue = yield* Queue.unbounded<Sse.AnyEvent>()
  yield* Stream.runForEach(eventsOf(response), (event) => Queue.offer(queue, event)).pipe(Effect.forkScoped)
  const next = (name: string): Effect.Effect<Data> =>
    Effect.flatMap(
      Queue.take(queue),
      (event) => event._tag === "Event" && event.event === name ? Effect.succeed(JSON.parse(event.data)) : next(name)
    )
  return { queue, next }
})

const boundary = "----a-boundary"
const multipart = (fileName: string, content: Stream.Stream<Uint8Array>, contentType = "text/plain") =>
  HttpClientRequest.post("/files").pipe(
    HttpClientRequest.bodyStream(
      Stream.make(
        `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${fileName}"\r\n` +
          `Content-Type: ${contentType}\r\n\r\n`
      ).pipe(
        Stream.encodeText,
        Stream.concat(content),
        Stream.concat(Stream.encodeText(Stream.make(`\r\n--${boundary}--\r\n`)))
      ),
      { contentType: `multipart/form-data; boundary=${boundary}` }
    )
  )

for (const [name, server] of servers) {
  describe(`board over ${name}`, () => {
    const onBoard = <A, E>(
      effect: Effect.Effect<A, E, Layer.Success<ReturnType<typeof appOn>> | Scope.Scope>,
      options?: Board.Options
    ) => effect.pipe(Effect.provide(appOn(server, options)), Effect.scoped)

    it.live("posts a note by a plain form and shows it", () =>
      onBoard(Effect.gen(function*() {
        const before = yield* page
        assert.include(before, `aria-relevant="additions" data-undo="60000"></ul>`)
        assert.include(before, `<form class="stack" id="write" method="post" action="/">`)

        const response = yield* post("/", { author: " Ada ", text: "Zwölf Boxkämpfer\n\nund ein 🦊" })
        assert.strictEqual(response.status, 303)
        assert.match(response.headers["location"]!, /^\/#note-\d+$/)

        const after = yield* page
        assert.include(after, `<p class="text">Zwölf Boxkämpfer\n\nund ein 🦊</p><div class="meta"><b>Ada</b>`)

        const id = response.headers["location"]!.slice("/#note-".length)
        const deleted = yield* post(`/notes/${id}/delete`, {})
        assert.strictEqual(deleted.status, 303)
        assert.strictEqual(deleted.headers["location"], `/?deleted=note-${id}`)
        assert.notInclude(yield* page, "Boxkämpfer")
        const again = yield* post(`/notes/${id}/delete`, {})
        assert.strictEqual(again.status, 404)
        assert.strictEqual(alertOf(yield* again.text), `There is no note ${id} any more.`)
      })))

    it.live("refuses a note without text, says why, and keeps what was typed", () =>
      onBoard(Effect.gen(function*() {
        const response = yield* post("/", { author: `O"Hara`, text: "  " })
        assert.strictEqual(response.status, 400)
        const html = yield* response.text
        assert.strictEqual(alertOf(html), "The note has no text")
        assert.include(html, `value="O&quot;Hara"`)

        const long = yield* post("/", { author: "x".repeat(61), text: "t".repeat(2001) })
        assert.strictEqual(long.status, 400)
        const longHtml = yield* long.text
        assert.include(alertOf(longHtml), "at most 60 characters")
        assert.include(alertOf(longHtml), "at most 2000 characters")
        assert.include(longHtml, "t".repeat(2001))

        assert.strictEqual((yield* post("/", { text: "t".repeat(100_000) })).status, 413)
        assert.deepStrictEqual(yield* Effect.flatMap(Board.Board, (board) => board.notes), [])
      })))

    it.live("escapes everything that people wrote", () =>
      onBoard(Effect.gen(function*() {
        const attack = `"><script>alert('1')</script><img src=x onerror=alert(1)>&amp;`
        const escaped =
          "&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&amp;amp;"
        const { next } = yield* watch
        yield* next("snapshot")
        yield* post("/", { author: attack.slice(0, 60), text: attack })
        const live = yield* next("note")
        assert.include(live.html, `<p class="text">${escaped}</p>`)
        yield* HttpClient.execute(multipart(attack.replaceAll("\"", "%22"), Stream.make(new Uint8Array(3))))
        const html = yield* page
        assert.include(html, `<p class="text">${escaped}</p>`)
        assert.include(html, `>${escaped}</a>`)
        assert.notInclude(html, "<img")
        assert.notInclude(html, "<script>alert")

        const refused = yield* (yield* post("/", { author: attack, text: `</textarea>${attack}` })).text
        assert.notInclude(refused, "<img")
        assert.notInclude(refused, "</textarea>\"")

        const missing = yield* HttpClient.get(`/<script>alert(1)</script>`)
        assert.strictEqual(missing.status, 404)
        assert.notInclude(yield* missing.text, "<script>")
      })))

    it.live("takes a file while it arrives, and gives it back", () =>
      onBoard(Effect.gen(function*() {
        const half = new Uint8Array(1 << 20).map((_, i) => i * 31)
        const whole = new Uint8Array(2 << 20)
        whole.set(half)
        whole.set(half, 1 << 20)
        const { next } = yield* watch
        yield* next("snapshot")

        // The second half is sent only when the board has told that the first is arriving.
        const arriving = yield* Deferred.make<void>()
        const upload = yield* HttpClient.execute(multipart(
          "Grüße %22zwei%22.txt",
          Stream.make(half).pipe(Stream.concat(Stream.unwrap(Effect.as(Deferred.await(arriving), Stream.make(half)))))
        )).pipe(Effect.forkScoped)
        const first = yield* next("file")
        assert.include(first.html, "arriving")
        assert.notInclude(first.html, "sha256")
        assert.strictEqual((yield* HttpClient.get(`/files/${first.id}`)).status, 404)
        yield* Deferred.succeed(arriving, undefined)
        const response = yield* Fiber.join(upload)
        assert.strictEqual(response.status, 303)

        const [file] = yield* Effect.flatMap(Board.Board, (board) => board.files)
        assert.strictEqual(file!.name, `Grüße "zwei".txt`)
        assert.strictEqual(file!.size, whole.length)
        assert.strictEqual(file!.sha256, sha256(whole))
        assert.strictEqual(file!.complete, true)
        assert.include(yield* page, `sha256 ${sha256(whole)}`)

        const download = yield* HttpClient.get(`/files/${file!.id}`)
        assert.strictEqual(download.status, 200)
        assert.strictEqual(download.headers["content-length"], String(whole.length))
        assert.strictEqual(download.headers["content-type"], "text/plain")
        assert.strictEqual(
          download.headers["content-disposition"],
          `attachment; filename="Gr__e _zwei_.txt"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%22zwei%22.txt`
        )
        assert.strictEqual(sha256(new Uint8Array(yield* download.arrayBuffer)), sha256(whole))

        const head = yield* HttpClient.head(`/files/${file!.id}`)
        assert.strictEqual(head.status, 200)
        assert.strictEqual(head.headers["content-length"], String(whole.length))
        assert.strictEqual(yield* head.text, "")

        assert.strictEqual((yield* post(`/files/${file!.id}/delete`, {})).status, 303)
        assert.strictEqual((yield* HttpClient.get(`/files/${file!.id}`)).status, 404)
      })))

    it.live("takes a JSON file for a file", () =>
      onBoard(Effect.gen(function*() {
        const upload = multipart("a.json", Stream.encodeText(Stream.make("[1]")), "application/json")
        assert.strictEqual((yield* HttpClient.execute(upload)).status, 303)
        const [file] = yield* Effect.flatMap(Board.Board, (board) => board.files)
        assert.strictEqual(file!.name, "a.json")
        assert.strictEqual(yield* Effect.flatMap(HttpClient.get(`/files/${file!.id}`), ({ text }) => text), "[1]")
      })))

    it.live("restores what was deleted, at its place, by a plain form", () =>
      onBoard(Effect.gen(function*() {
        for (const text of ["one", "two", "three"]) yield* post("/", { author: "Ada", text })
        yield* HttpClient.execute(multipart("a.txt", Stream.make(new Uint8Array(3))))
        const board = yield* Board.Board
        const [three, two, one] = yield* board.notes
        const [file] = yield* board.files
        for (
          const [path, name, before] of [
            [`/notes/${two!.id}`, "The note by <b>Ada</b> is deleted.", [three, two, one]],
            [`/files/${file!.id}`, "The file <b>a.txt</b> is deleted.", [file]]
          ] as const
        ) {
          const now = path.startsWith("/notes") ? board.notes : board.files
          const { headers } = yield* post(`${path}/delete`, {})
          assert.strictEqual((yield* now).length, before.length - 1)
          const html = yield* Effect.flatMap(HttpClient.get(headers["location"]!), (response) => response.text)
          assert.include(html, name)
          assert.include(html, `<form method="post" action="${path}/restore">`)
          const restored = yield* post(`${path}/restore`, {})
          assert.strictEqual(restored.status, 303)
          assert.deepStrictEqual(yield* now, before)
          // It is offered no more.
          const after = yield* Effect.flatMap(HttpClient.get(headers["location"]!), (response) => response.text)
          assert.notInclude(after, `id="deleted"`)
          assert.strictEqual((yield* post(`${path}/restore`, {})).status, 404)
        }
        assert.strictEqual((yield* HttpClient.get(`/files/${file!.id}`)).status, 200)
      })))

    it.live("folds a long note", () =>
      onBoard(Effect.gen(function*() {
        yield* post("/", { text: "word ".repeat(119) })
        assert.notInclude(yield* page, "<details class")
        for (const long of ["word ".repeat(130).trim(), Array.from({ length: 13 }, (_, i) => `line ${i}`).join("\n")]) {
          yield* post("/", { text: long })
          const html = yield* page
          const [, beginning, whole] = /class="text beginning">([^<]*) …<.*?<details.*?<p class="text">([^<]*)</s.exec(
            html
          )!
          assert.strictEqual(whole, long)
          assert.isAtMost(beginning!.length, 300)
          assert.isTrue(long.startsWith(beginning!))
        }
      })))

    it.live("keeps nothing of an upload that was cut off", () =>
      onBoard(Effect.gen(function*() {
        const { next } = yield* watch
        yield* next("snapshot")
        const upload = yield* HttpClient.execute(
          multipart("half.bin", Stream.concat(Stream.make(new Uint8Array(200_000)), Stream.never))
        ).pipe(Effect.forkScoped)
        const { id } = yield* next("file")
        yield* Fiber.interrupt(upload)
        assert.strictEqual((yield* next("file-deleted")).id, id)
        assert.deepStrictEqual(yield* Effect.flatMap(Board.Board, (board) => board.files), [])
      })))

    it.live("refuses a form without a file", () =>
      onBoard(Effect.gen(function*() {
        const response = yield* HttpClient.execute(multipart("", Stream.empty))
        assert.strictEqual(response.status, 400)
        assert.include(alertOf(yield* response.text), "Choose a file first")
        const plain = yield* post("/files", { file: "x" })
        assert.strictEqual(plain.status, 400)
      })))

    it.live("tells every open page what happens, and how many there are", () =>
      onBoard(Effect.gen(function*() {
        const one = yield* watch
        const retry = yield* Queue.take(one.queue)
        assert.strictEqual(retry._tag, "Retry")
        const { files, notes } = yield* one.next("snapshot")
        assert.deepStrictEqual({ files, notes }, { files: "", notes: "" })
        const two = yield* watch
        yield* two.next("snapshot")
        yield* post("/", { author: "Ada", text: "for both" })
        for (const { next } of [one, two]) {
          const note = yield* next("note")
          assert.include(note.html, "for both")
          assert.include(yield* page, note.html)
        }
        const tick = yield* one.next("tick")
        assert.strictEqual(tick.watching, 2)
        const response = yield* post("/notes/1/delete", {})
        assert.strictEqual(response.status, 303)
        assert.strictEqual((yield* two.next("note-deleted")).id, 1)
      })))

    it.live("counts a page no more when it is closed", () =>
      onBoard(Effect.gen(function*() {
        const one = yield* watch
        yield* Effect.scoped(Effect.flatMap(watch, (two) => two.next("snapshot")))
        const alone: Effect.Effect<void> = Effect.flatMap(
          one.next("tick"),
          ({ watching }) => watching === 1 ? Effect.void : alone
        )
        yield* alone
      })))

    it.live("answers a failure with a page that tells an id, and logs the cause under it", () => {
      const logged: Array<string> = []
      const log = Logger.make(({ cause, message }) => logged.push(`${message} ${Cause.pretty(cause)}`))
      return onBoard(Effect.gen(function*() {
        const response = yield* HttpClient.get("/broken")
        assert.strictEqual(response.status, 500)
        assert.include(response.headers["content-type"], "text/html")
        const html = yield* response.text
        assert.notInclude(html, "on purpose")
        const id = /<code>([0-9a-f-]{36})<\/code>/.exec(html)?.[1]
        assert.isString(id)
        const entry = logged.find((line) => line.includes(id!))
        assert.include(entry, "GET /broken")
        assert.include(entry, "This route fails on purpose")

        const missing = yield* HttpClient.get("/nowhere")
        assert.strictEqual(missing.status, 404)
        assert.strictEqual(alertOf(yield* missing.text), "There is nothing at /nowhere.")
        assert.strictEqual(logged.length, 1)
      })).pipe(Effect.provide(Logger.layer([log])))
    })

    it.live("refuses what another site's page posts", () =>
      onBoard(Effect.gen(function*() {
        const response = yield* HttpClient.execute(
          HttpClientRequest.post("/").pipe(
            HttpClientRequest.bodyUrlParams({ text: "spam" }),
            HttpClientRequest.setHeader("sec-fetch-site", "cross-site")
          )
        )
        assert.strictEqual(response.status, 403)
        assert.deepStrictEqual(yield* Effect.flatMap(Board.Board, (board) => board.notes), [])
      })))

    it.live("has a typed API", () =>
      onBoard(Effect.gen(function*() {
        const client = yield* HttpApiClient.make(Api.api)
        const note = yield* client.notes.create({ payload: { author: "", text: "hello" } })
        assert.strictEqual(note.author, "Anonymous")
        assert.strictEqual(note.text, "hello")
        assert.deepStrictEqual(yield* client.notes.list(), [note])
        assert.deepStrictEqual(yield* client.files.list(), [])

        const bad = yield* HttpClient.execute(
          HttpClientRequest.post("/api/notes").pipe(HttpClientRequest.bodyJsonUnsafe({ author: 7 }))
        )
        assert.strictEqual(bad.status, 400)
        assert.strictEqual(bad.headers["content-type"], "application/problem+json")
        const problem = yield* bad.json
        assert.deepNestedInclude(problem, { "errors[0].path": ["payload", "author"] })
        const broken = yield* HttpClient.execute(
          HttpClientRequest.post("/api/notes").pipe(HttpClientRequest.bodyText("{", "application/json"))
        )
        assert.strictEqual(broken.status, 400)

        yield* client.notes.remove({ params: { id: note.id } })
        const error = yield* Effect.flip(client.notes.remove({ params: { id: note.id } }))
        assert.strictEqual(error._tag, "NotFound")
        assert.strictEqual((yield* HttpClient.get("/api/nowhere")).status, 404)

        const openapi = yield* Effect.flatMap(HttpClient.get("/api/openapi.json"), (response) => response.json)
        assert.hasAllKeys((openapi as { readonly paths: object }).paths, [
          "/api/notes",
          "/api/notes/{id}",
          "/api/files"
        ])
      })))

    it.live("keeps only so many notes and so many bytes", () =>
      onBoard(
        Effect.gen(function*() {
          const board = yield* Board.Board
          for (const text of ["one", "two", "three"]) yield* post("/", { text })
          assert.deepStrictEqual((yield* board.notes).map((note) => note.text), ["three", "two"])
          for (const name of ["a", "b", "c"]) {
            yield* HttpClient.execute(multipart(name, Stream.make(new Uint8Array(400))))
          }
          assert.deepStrictEqual((yield* board.files).map((file) => file.name), ["c", "b"])
          // The newest stays even when it is too large alone.
          yield* HttpClient.execute(multipart("large", Stream.make(new Uint8Array(5000))))
          assert.deepStrictEqual((yield* board.files).map((file) => file.name), ["large"])
        }),
        { maxNotes: 2, maxBytes: 1000 }
      ))
  })
}

describe("the records of a page", () => {
  const chainOf = (html: string) => /<figure class="chain"[\s\S]*<\/figure>/.exec(html)![0]
  const bytesOf = (chain: string, name: string) =>
    [...chain.matchAll(new RegExp(`<code>${name}</code> ([\\d,]+) byte`, "g"))].map((match) =>
      Number(match[1]!.replaceAll(",", ""))
    )

  it.live("are shown with it, and those of its response afterwards", () =>
    Effect.gen(function*() {
      yield* post("/", { text: "x".repeat(2000) })
      const response = yield* HttpClient.get("/?a=1")
      const html = yield* response.text
      const chain = chainOf(html)
      assert.deepStrictEqual(bytesOf(chain, "BEGIN_REQUEST"), [8])
      assert.strictEqual(bytesOf(chain, "PARAMS").at(-1), 0)
      assert.deepStrictEqual(bytesOf(chain, "STDIN"), [0])
      assert.include(chain, "<code>GET /?a=1</code>")
      assert.include(chain, "not sent yet")
      const [, key] = /data-rest="(\/records\/[0-9a-f-]{36})"/.exec(chain)!

      const whole = chainOf(yield* Effect.flatMap(HttpClient.get(key!), (response) => response.text))
      const stdout = bytesOf(whole, "STDOUT")
      assert.strictEqual(stdout.at(-1), 0)
      const head = stdout.reduce((sum, size) => sum + size, 0) - new TextEncoder().encode(html).length
      assert.isAbove(head, 100)
      assert.isBelow(head, 2000)
      assert.deepStrictEqual(bytesOf(whole, "END_REQUEST"), [8])
      assert.include(whole, "REQUEST_COMPLETE, appStatus\u00a00")
      assert.include(whole, "Status: 200")
      assert.notInclude(whole, "data-rest")
      // The same request: what came in is what it was.
      const incoming = (chain: string) => chain.slice(chain.indexOf("<pre"), chain.indexOf("<h3>Response"))
      assert.strictEqual(incoming(whole).replace(/<p class="says">first record sent.*?<\/p>/, ""), incoming(chain))
    }).pipe(Effect.provide(appOn(overFastCgi)), Effect.scoped))

  it.live("are each page's own", () =>
    Effect.gen(function*() {
      const pages = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, i) => `/?page=${i}`),
        (url) => Effect.flatMap(HttpClient.get(url), (response) => Effect.map(response.text, (html) => [url, html])),
        { concurrency: "unbounded" }
      )
      for (const [url, html] of pages) assert.include(chainOf(html!), `<code>GET ${url}</code>`)
      const keys = pages.map(([, html]) => /data-rest="([^"]*)"/.exec(html!)![1]!)
      assert.strictEqual(new Set(keys).size, 20)
      for (const [i, key] of keys.entries()) {
        const html = yield* Effect.flatMap(HttpClient.get(key), (response) => response.text)
        assert.include(html, `<h1>The request GET /?page=${i}</h1>`)
      }
    }).pipe(Effect.provide(appOn(overFastCgi)), Effect.scoped))

  for (const [name, server] of servers) {
    it.live(`are not found under a wrong key, over ${name}`, () =>
      Effect.gen(function*() {
        const response = yield* HttpClient.get("/records/00000000-0000-0000-0000-000000000000")
        assert.strictEqual(response.status, 404)
      }).pipe(Effect.provide(appOn(server)), Effect.scoped))
  }
})

describe("Board", () => {
  const onBoard = Effect.provide(Layer.provide(Board.layer(), NodeServices.layer))

  it.effect("restores for a minute", () =>
    Effect.gen(function*() {
      const board = yield* Board.Board
      const note = yield* board.addNote({ author: "a", text: "b" })
      yield* board.deleteNote(note.id)
      yield* TestClock.adjust("50 seconds")
      yield* board.restoreNote(note.id)
      yield* board.deleteNote(note.id)
      // A minute after the first time, which does not count any more.
      yield* TestClock.adjust("20 seconds")
      yield* board.restoreNote(note.id)
      assert.deepStrictEqual(yield* board.notes, [note])
      yield* board.deleteNote(note.id)
      yield* TestClock.adjust("60 seconds")
      assert.strictEqual((yield* Effect.flip(board.restoreNote(note.id)))._tag, "NotFound")
    }).pipe(Effect.scoped, onBoard))

  it.effect("gives a watcher that was too slow a snapshot instead of what it missed", () =>
    Effect.gen(function*() {
      const board = yield* Board.Board
      const pull = yield* Stream.toPull(Stream.rechunk(board.watch, 1))
      const [first] = yield* pull
      assert.strictEqual(first._tag, "Snapshot")
      for (let i = 0; i < 300; i++) yield* board.addNote({ author: "a", text: String(i) })
      const [second] = yield* pull
      assert.strictEqual(second._tag, "Snapshot")
      assert.lengthOf(second._tag === "Snapshot" ? second.notes : [], 300)
      // Nothing that the snapshot holds is told again.
      const note = yield* board.addNote({ author: "a", text: "after" })
      const [third] = yield* pull
      assert.deepStrictEqual(third, { _tag: "NoteAdded", note })
    }).pipe(Effect.scoped, onBoard))
})
