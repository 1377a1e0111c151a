/** The board for programs: a typed JSON API. Its description is the value `api`, from which clients can be made. */
import * as Effect from "effect/Effect"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiError from "effect/http-api/HttpApiError"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { Board, BoardFile, NewNote, Note } from "./Board.ts"

const byId = { id: Schema.FiniteFromString.check(Schema.isInt()) }

export const api = HttpApi.make("board").add(
  HttpApiGroup.make("notes").add(
    HttpApiEndpoint.get("list", "/api/notes", { success: Schema.Array(Note) }),
    HttpApiEndpoint.post("create", "/api/notes", {
      payload: NewNote,
      success: Note.pipe(HttpApiSchema.status(201))
    }),
    HttpApiEndpoint.delete("remove", "/api/notes/:id", { params: byId, error: HttpApiError.NotFound })
  ),
  HttpApiGroup.make("files").add(
    HttpApiEndpoint.get("list", "/api/files", { success: Schema.Array(BoardFile) })
  )
).middleware(HttpApiMiddleware.ProblemDetails)

const notes = HttpApiBuilder.group(
  api,
  "notes",
  Effect.fnUntraced(function*(handlers) {
    const board = yield* Board
    return handlers
      .handle("list", () => board.notes)
      .handle("create", ({ payload }) => board.addNote(payload))
      .handle(
        "remove",
        ({ params }) => Effect.mapError(board.deleteNote(params.id), () => new HttpApiError.NotFound({}))
      )
  })
)

const files = HttpApiBuilder.group(
  api,
  "files",
  Effect.fnUntraced(function*(handlers) {
    const board = yield* Board
    return handlers.handle("list", () => board.files)
  })
)

export const layer = HttpApiBuilder.layer(api, { openapiPath: "/api/openapi.json" }).pipe(
  Layer.provide([notes, files]),
  Layer.provide(HttpApiMiddleware.layerProblemDetails({ includeDetails: true }))
)
