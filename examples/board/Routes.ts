/** The board for people: pages, forms, uploads, downloads and the live stream, as routes of an HttpRouter. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Sse from "effect/encoding/Sse"
import * as HttpPlatform from "effect/http/HttpPlatform"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerError from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Multipart from "effect/http/Multipart"
import * as UrlParams from "effect/http/UrlParams"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as Stream from "effect/Stream"
import { randomUUID } from "node:crypto"
import { about } from "./About.ts"
import { Board, type BoardEvent, NewNote, NotFound } from "./Board.ts"
import * as Pages from "./Pages.ts"
import { Records } from "./Records.ts"
import * as Writing from "./Writing.ts"

const seeOther = (location: string) => HttpServerResponse.redirect(location, { status: 303 })

const idParam = Effect.gen(function*() {
  const { id } = yield* HttpRouter.params
  return /^\d{1,15}$/.test(id ?? "") ? Number(id) : 0
})

// Notes

const formatIssues = SchemaIssue.makeFormatterStandardSchemaV1()

/** `?deleted=note-12`: what the page says was deleted, and offers to restore. */
const Search = Schema.Struct({ deleted: Schema.optionalKey(Schema.String) })

const restorable = (board: Board["Service"], deleted: string | undefined) => {
  const match = /^(note|file)-(\d{1,15})$/.exec(deleted ?? "")
  return match === null
    ? Effect.undefined
    : Effect.map(board.deleted(match[1] === "note" ? "note" : "file", Number(match[2])), Option.getOrUndefined)
}

const notes = HttpRouter.use(Effect.fnUntraced(function*(router) {
  const board = yield* Board

  const page = Effect.fnUntraced(function*(options: Omit<Pages.BoardPage, "notes" | "files" | "about" | "writing">) {
    return Pages.board({
      ...options,
      notes: yield* board.notes,
      files: yield* board.files,
      about: yield* about,
      writing: (yield* Writing.available) ? Writing.path : undefined
    })
  })

  yield* router.add(
    "GET",
    "/",
    Effect.gen(function*() {
      const { deleted } = yield* HttpServerRequest.schemaSearchParams(Search)
      return yield* page({ deleted: yield* restorable(board, deleted) })
    })
  )

  yield* router.add(
    "POST",
    "/",
    Effect.gen(function*() {
      const request = yield* HttpServerRequest.HttpServerRequest
      const form = yield* request.urlParamsBody
      const sent = (name: string) => Option.getOrElse(UrlParams.getFirst(form, name), () => "")
      const author = sent("author")
      const text = sent("text")
      return yield* Schema.decodeUnknownEffect(NewNote)({ author, text }, { errors: "all" }).pipe(
        Effect.flatMap(board.addNote),
        Effect.map((note) => seeOther(`/#note-${note.id}`)),
        Effect.catchTag("SchemaError", (error) =>
          Effect.gen(function*() {
            const because = formatIssues(error.issue).issues.map((issue) => issue.message).join(". ")
            return yield* page({ refused: { author, text, because } })
          }))
      )
    }).pipe(Effect.provideService(HttpServerRequest.MaxBodySize, 64n * 1024n))
  )

  yield* router.add(
    "POST",
    "/notes/:id/delete",
    Effect.gen(function*() {
      const id = yield* idParam
      yield* board.deleteNote(id)
      return seeOther(`/?deleted=note-${id}`)
    })
  )

  yield* router.add(
    "POST",
    "/notes/:id/restore",
    Effect.gen(function*() {
      const id = yield* idParam
      yield* board.restoreNote(id)
      return seeOther(`/#note-${id}`)
    })
  )
}))

// Files

/** RFC 6266: a plain name for old clients, and the real one in UTF-8. */
const attachment = (name: string) => {
  const plain = name.replace(/[^\x20-\x7e]|["\\%]/g, "_")
  const encoded = encodeURIComponent(name).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
  return `attachment; filename="${plain}"; filename*=UTF-8''${encoded}`
}

const files = HttpRouter.use(Effect.fnUntraced(function*(router) {
  const board = yield* Board
  const platform = yield* HttpPlatform.HttpPlatform

  // Each part goes to disk as it arrives. No limit: the board makes room by deleting the oldest files.
  yield* router.add(
    "POST",
    "/files",
    Effect.gen(function*() {
      const request = yield* HttpServerRequest.HttpServerRequest
      const received = yield* request.multipartStream.pipe(
        // A form without a chosen file sends one part with an empty name.
        Stream.filter((part) => part._tag === "File" && part.name !== ""),
        Stream.mapEffect((part) =>
          part._tag === "File"
            ? board.receiveFile({
              // Browsers write a quote in a file name as %22.
              name: part.name.replaceAll("%22", "\""),
              contentType: part.contentType,
              content: part.content
            })
            : Effect.undefined
        ),
        // Otherwise Effect takes a JSON file for a field of text.
        Stream.provideService(Multipart.FieldMimeTypes, []),
        Stream.runCount
      )
      return received > 0 ? seeOther("/#files") : Pages.message({
        status: 400,
        title: "No file",
        text: "Choose a file first, then press Upload."
      })
    })
  )

  yield* router.add(
    "GET",
    "/files/:id",
    Effect.gen(function*() {
      const { file, path } = yield* board.file(yield* idParam)
      return yield* platform.fileResponse(path, {
        contentType: /^[\w.+-]+\/[\w.+-]+$/.test(file.contentType) ? file.contentType : "application/octet-stream",
        headers: {
          "content-disposition": attachment(file.name),
          // What people uploaded is never run as a page of this site, whatever type they gave it.
          "content-security-policy": "sandbox; default-src 'none'",
          "x-content-type-options": "nosniff"
        }
      })
    })
  )

  yield* router.add(
    "POST",
    "/files/:id/delete",
    Effect.gen(function*() {
      const id = yield* idParam
      yield* board.deleteFile(id)
      return seeOther(`/?deleted=file-${id}`)
    })
  )

  yield* router.add(
    "POST",
    "/files/:id/restore",
    Effect.gen(function*() {
      const id = yield* idParam
      yield* board.restoreFile(id)
      return seeOther(`/#file-${id}`)
    })
  )
}))

// The live stream

const toSse = (event: BoardEvent): string => {
  const write = (name: string, data: unknown) =>
    Sse.encoder.write({ _tag: "Event", event: name, id: undefined, data: JSON.stringify(data) })
  switch (event._tag) {
    case "Snapshot":
      return write("snapshot", {
        notes: Pages.noteItems(event.notes).text,
        files: Pages.fileItems(event.files).text
      })
    case "NoteAdded":
      return write("note", { id: event.note.id, html: Pages.noteItem(event.note).text })
    case "NoteDeleted":
      return write("note-deleted", { id: event.id })
    case "FileChanged":
      return write("file", { id: event.file.id, html: Pages.fileItem(event.file).text })
    case "FileDeleted":
      return write("file-deleted", { id: event.id })
    case "Tick":
      return write("tick", { time: event.time, watching: event.watching })
  }
}

const live = HttpRouter.use(Effect.fnUntraced(function*(router) {
  const board = yield* Board
  // A comment now and then, so that no proxy takes the stream for dead.
  const keepAlive = Stream.map(Stream.tick("15 seconds"), () => ": keep-alive\n\n")
  const body = Stream.make("retry: 1000\n\n").pipe(
    Stream.concat(Stream.map(board.watch, toSse)),
    Stream.merge(keepAlive, { haltStrategy: "left" }),
    Stream.encodeText
  )
  yield* router.add(
    "GET",
    "/events",
    HttpServerResponse.stream(body, {
      contentType: "text/event-stream",
      // The second header asks nginx not to collect the answer before it passes it on.
      headers: { "cache-control": "no-store", "x-accel-buffering": "no" }
    })
  )
}))

// The records of a page, with those of its response

const records = HttpRouter.add(
  "GET",
  "/records/:key",
  Effect.gen(function*() {
    const { key } = yield* HttpRouter.params
    const recorded = Option.map(yield* Effect.serviceOption(Records), (records) => records.ended(key ?? ""))
    const exchange = Option.flatten(yield* Effect.transposeOption(recorded))
    return Option.match(exchange, {
      onNone: () =>
        Pages.message({
          status: 404,
          title: "No records",
          text: "The records of that page are not kept any more. Load the board again for new ones."
        }),
      onSome: Pages.records
    })
  })
)

// What goes wrong

const broken = HttpRouter.add("GET", "/broken", () => Effect.die(new Error("This route fails on purpose")))

const titles: Record<number, string> = { 400: "Bad request", 404: "Not found", 413: "Too large" }

/**
 * Answers failures of the pages with a page. What is the client's fault gets its status; everything else is a 500
 * with an id, and the cause goes to the log under that id, never to the client.
 */
const errorPages = HttpRouter.middleware(
  Effect.succeed((handler) =>
    Effect.catchCause(handler, (cause) =>
      Effect.gen(function*() {
        if (Cause.hasInterruptsOnly(cause)) return yield* Effect.failCause(cause)
        const request = yield* HttpServerRequest.HttpServerRequest
        const [response] = yield* HttpServerError.causeResponse(cause)
        const error = Cause.squash(cause)
        const status = error instanceof NotFound ? 404 : response.status
        const id = randomUUID()
        if (status >= 500) yield* Effect.logError(`${request.method} ${request.url} failed, error ${id}`, cause)
        // Programs need no page.
        if (request.url.startsWith("/api/")) return HttpServerResponse.empty({ status })
        if (status >= 500) {
          return Pages.message({
            status,
            title: "Something went wrong",
            text: "The server failed while it made this page. Nothing you did was wrong.",
            id
          })
        }
        return Pages.message({
          status,
          title: titles[status] ?? "That did not work",
          text: error instanceof NotFound
            ? `${error.message} any more.`
            : status === 404
            ? `There is nothing at ${request.url}.`
            : `The server could not take the request (status ${status}).`
        })
      }))
  ),
  { global: true }
)

/** Other sites' pages can make a browser post here; browsers say so, and the answer is no. */
const refuseForeignPosts = HttpRouter.middleware(
  Effect.succeed((handler) =>
    Effect.flatMap(
      HttpServerRequest.HttpServerRequest,
      ({ headers, method }) =>
        method !== "GET" && method !== "HEAD" && headers["sec-fetch-site"] === "cross-site"
          ? Effect.succeed(Pages.message({
            status: 403,
            title: "Not from there",
            text: "Another site sent this request. Use the board itself."
          }))
          : handler
    )
  ),
  { global: true }
)

export const layer = Layer.mergeAll(notes, files, live, Writing.layer, records, broken, errorPages, refuseForeignPosts)
