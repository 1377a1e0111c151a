/**
 * The notes board itself: notes and files, kept in memory and in one scratch directory, and everything that
 * happens to them as a stream of events. Nothing here knows about HTTP.
 *
 * Both collections are bounded: the oldest notes go when there are more than `maxNotes`, the oldest files when
 * they take more than `maxBytes` together. What a person deletes can be restored for `undoTime`, and counts until then.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import * as PubSub from "effect/PubSub"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"

// Models

export const Note = Schema.Struct({
  id: Schema.Int,
  author: Schema.String,
  text: Schema.String,
  /** Milliseconds since 1970. */
  createdAt: Schema.Int
})
export type Note = typeof Note.Type

/** What a person sends to make a note. The form and the JSON API decode the same schema. */
export const NewNote = Schema.Struct({
  author: Schema.Trim.check(
    Schema.isMaxLength(60, { message: "The name may have at most 60 characters" })
  ).pipe(Schema.withDecodingDefaultKey(Effect.succeed(""))),
  text: Schema.Trim.check(
    Schema.isMinLength(1, { message: "The note has no text" }),
    Schema.isMaxLength(2000, { message: "The note may have at most 2000 characters" })
  )
})
export type NewNote = typeof NewNote.Type

export const BoardFile = Schema.Struct({
  id: Schema.Int,
  name: Schema.String,
  contentType: Schema.String,
  /** Bytes; while the file is still arriving, the bytes so far. */
  size: Schema.Int,
  /** Of the whole file, in hexadecimal; none while the file is still arriving. */
  sha256: Schema.NullOr(Schema.String),
  complete: Schema.Boolean,
  /** Milliseconds since 1970. */
  createdAt: Schema.Int
})
export type BoardFile = typeof BoardFile.Type

export type BoardEvent =
  | { readonly _tag: "Snapshot"; readonly notes: ReadonlyArray<Note>; readonly files: ReadonlyArray<BoardFile> }
  | { readonly _tag: "NoteAdded"; readonly note: Note }
  | { readonly _tag: "NoteDeleted"; readonly id: number }
  | { readonly _tag: "FileChanged"; readonly file: BoardFile }
  | { readonly _tag: "FileDeleted"; readonly id: number }
  | { readonly _tag: "Tick"; readonly time: number; readonly watching: number }

export class NotFound extends Data.TaggedError("NotFound")<{ readonly what: "note" | "file"; readonly id: number }> {
  override get message() {
    return `There is no ${this.what} ${this.id}`
  }
}

// Service

export class Board extends Context.Service<Board, {
  /** Newest first. */
  readonly notes: Effect.Effect<ReadonlyArray<Note>>
  /** Newest first, with those still arriving. */
  readonly files: Effect.Effect<ReadonlyArray<BoardFile>>
  readonly addNote: (note: NewNote) => Effect.Effect<Note>
  readonly deleteNote: (id: number) => Effect.Effect<void, NotFound>
  /** Undoes `deleteNote` within `undoTime`. */
  readonly restoreNote: (id: number) => Effect.Effect<void, NotFound>
  /**
   * Writes a file as its bytes arrive and answers when all of it is on disk. Nothing of it stays behind when
   * `content` fails or the fiber is interrupted.
   */
  readonly receiveFile: <E>(file: {
    readonly name: string
    readonly contentType: string
    readonly content: Stream.Stream<Uint8Array, E>
  }) => Effect.Effect<BoardFile, E | PlatformError>
  /** A complete file and where it lies. */
  readonly file: (id: number) => Effect.Effect<{ readonly file: BoardFile; readonly path: string }, NotFound>
  readonly deleteFile: (id: number) => Effect.Effect<void, NotFound>
  /** Undoes `deleteFile` within `undoTime`. */
  readonly restoreFile: (id: number) => Effect.Effect<void, NotFound>
  /** What was deleted and can still be restored. */
  readonly deleted: (what: "note" | "file", id: number) => Effect.Effect<Option.Option<Note | BoardFile>>
  /**
   * A snapshot, then every change and a tick each second. A watcher that is too slow for the changes gets a new
   * snapshot instead of those it missed.
   */
  readonly watch: Stream.Stream<BoardEvent>
  /** Ends every `watch`, so that a server that drains need not wait for streams that never end. */
  readonly endWatching: Effect.Effect<void>
}>()("effect-fastcgi/examples/Board") {}

/** How long what was deleted can be restored. */
export const undoTime = Duration.minutes(1)

export interface Options {
  /** Default 500. */
  readonly maxNotes?: number | undefined
  /**
   * Bytes of all files together, with those that were deleted and can be restored. The newest stays even if it alone is
   * larger. Default 4 GiB.
   */
  readonly maxBytes?: number | undefined
}

export const make = Effect.fnUntraced(function*(options?: Options) {
  const maxNotes = options?.maxNotes ?? 500
  const maxBytes = options?.maxBytes ?? 4 * 1024 ** 3
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "effect-fastcgi-board-" })
  const pathOf = (id: number) => path.join(directory, String(id))

  const scope = yield* Effect.scope
  const notes = new Map<number, Note>()
  const files = new Map<number, BoardFile>()
  const deletedNotes = new Map<number, Note>()
  const deletedFiles = new Map<number, BoardFile>()
  let lastId = 0
  let watching = 0

  // Sliding, so that nobody ever waits for a slow watcher; the numbers are how a watcher sees that it missed some.
  const events = yield* PubSub.sliding<{ readonly number: number; readonly event: BoardEvent }>(256)
  let lastNumber = 0
  const publish = (event: BoardEvent) => Effect.suspend(() => PubSub.publish(events, { number: ++lastNumber, event }))
  // By their ids, because what has been restored is the last in its map.
  const oldestFirst = <A extends { readonly id: number }>(map: Map<number, A>) =>
    Array.from(map.values()).sort((a, b) => a.id - b.id)
  const newestFirst = <A extends { readonly id: number }>(map: Map<number, A>) => oldestFirst(map).reverse()
  const snapshot = (): BoardEvent => ({ _tag: "Snapshot", notes: newestFirst(notes), files: newestFirst(files) })

  yield* Effect.sleep("1 second").pipe(
    Effect.andThen(Clock.currentTimeMillis),
    Effect.flatMap((time) => publish({ _tag: "Tick", time, watching })),
    Effect.forever,
    Effect.forkScoped
  )

  // First what was deleted, then the oldest, but not the one that has just come.
  const evictNotes = (newest: number) =>
    Effect.suspend(() => {
      let excess = notes.size + deletedNotes.size - maxNotes
      const evicted: Array<number> = []
      for (const { id } of [...oldestFirst(deletedNotes), ...oldestFirst(notes)]) {
        if (excess <= 0) break
        if (id === newest) continue
        excess--
        if (deletedNotes.delete(id)) continue
        notes.delete(id)
        evicted.push(id)
      }
      return Effect.forEach(evicted, (id) => publish({ _tag: "NoteDeleted", id }), { discard: true })
    })

  const forgetFile = (id: number) =>
    Effect.suspend(() => {
      deletedFiles.delete(id)
      return Effect.ignore(fs.remove(pathOf(id), { force: true }))
    })

  const removeFile = (id: number) =>
    Effect.suspend(() => {
      files.delete(id)
      return Effect.andThen(forgetFile(id), publish({ _tag: "FileDeleted", id }))
    })

  // The same for files.
  const evictFiles = Effect.gen(function*() {
    const newest = newestFirst(files)[0]?.id
    let excess = -maxBytes
    for (const file of [...files.values(), ...deletedFiles.values()]) excess += file.size
    for (const file of [...oldestFirst(deletedFiles), ...oldestFirst(files)]) {
      if (excess <= 0) break
      if (!file.complete || file.id === newest) continue
      excess -= file.size
      yield* deletedFiles.has(file.id) ? forgetFile(file.id) : removeFile(file.id)
    }
  })

  /** Moves an entry of one map to another one, as an object of its own: so `forgetLater` knows which deletion it is for. */
  const move = <A extends object>(from: Map<number, A>, to: Map<number, A>, what: "note" | "file", id: number) =>
    Effect.suspend(() => {
      const entry = from.get(id)
      if (entry === undefined) return Effect.fail(new NotFound({ what, id }))
      const moved = { ...entry }
      from.delete(id)
      to.set(id, moved)
      return Effect.succeed(moved)
    })

  /** Forgets what was deleted when `undoTime` is over, unless it has been restored meanwhile, or the board has ended. */
  const forgetLater = <A>(deleted: Map<number, A>, id: number, forget: Effect.Effect<void>) =>
    Effect.suspend(() => {
      const entry = deleted.get(id)
      const isSame = Effect.sync(() => deleted.get(id) === entry)
      return Effect.asVoid(Effect.forkIn(Effect.delay(Effect.when(forget, isSame), undoTime), scope))
    })

  return Board.of({
    notes: Effect.sync(() => newestFirst(notes)),
    files: Effect.sync(() => newestFirst(files)),
    addNote: Effect.fnUntraced(function*({ author, text }) {
      const createdAt = yield* Clock.currentTimeMillis
      const note: Note = { id: ++lastId, author: author === "" ? "Anonymous" : author, text, createdAt }
      notes.set(note.id, note)
      yield* publish({ _tag: "NoteAdded", note })
      yield* evictNotes(note.id)
      return note
    }),
    deleteNote: (id) =>
      move(notes, deletedNotes, "note", id).pipe(
        Effect.andThen(publish({ _tag: "NoteDeleted", id })),
        Effect.andThen(forgetLater(deletedNotes, id, Effect.sync(() => deletedNotes.delete(id))))
      ),
    restoreNote: (id) =>
      move(deletedNotes, notes, "note", id).pipe(
        Effect.flatMap((note) => publish({ _tag: "NoteAdded", note })),
        Effect.andThen(evictNotes(id))
      ),
    receiveFile: Effect.fnUntraced(function*({ content, contentType, name }) {
      const id = ++lastId
      const createdAt = yield* Clock.currentTimeMillis
      const hash = createHash("sha256")
      let size = 0
      let published = createdAt
      const change = (complete: boolean) => {
        const sha256 = complete ? hash.digest("hex") : null
        const file: BoardFile = { id, name, contentType, size, sha256, complete, createdAt }
        files.set(id, file)
        return Effect.as(publish({ _tag: "FileChanged", file }), file)
      }
      return yield* change(false).pipe(
        Effect.andThen(
          content.pipe(
            Stream.tap((bytes) => {
              hash.update(bytes)
              size += bytes.length
              return Effect.flatMap(Clock.currentTimeMillis, (now) => {
                if (now - published < 250) return Effect.void
                published = now
                return Effect.andThen(change(false), evictFiles)
              })
            }),
            Stream.run(fs.sink(pathOf(id)))
          )
        ),
        Effect.andThen(Effect.suspend(() => change(true))),
        Effect.onError(() => removeFile(id)),
        Effect.tap(() => evictFiles)
      )
    }),
    file: (id) =>
      Effect.suspend(() => {
        const file = files.get(id)
        return file?.complete === true
          ? Effect.succeed({ file, path: pathOf(id) })
          : Effect.fail(new NotFound({ what: "file", id }))
      }),
    deleteFile: (id) =>
      Effect.suspend(() =>
        files.get(id)?.complete === true
          ? move(files, deletedFiles, "file", id)
          : Effect.fail(new NotFound({ what: "file", id }))
      ).pipe(
        Effect.andThen(publish({ _tag: "FileDeleted", id })),
        Effect.andThen(forgetLater(deletedFiles, id, forgetFile(id)))
      ),
    restoreFile: (id) =>
      Effect.flatMap(
        move(deletedFiles, files, "file", id),
        (file) => Effect.asVoid(publish({ _tag: "FileChanged", file }))
      ),
    deleted: (what, id) =>
      Effect.sync(() => Option.fromUndefinedOr(what === "note" ? deletedNotes.get(id) : deletedFiles.get(id))),
    watch: Effect.gen(function*() {
      const subscription = yield* PubSub.subscribe(events)
      yield* Effect.acquireRelease(Effect.sync(() => watching++), () => Effect.sync(() => watching--))
      const start = lastNumber
      return Stream.fromSubscription(subscription).pipe(
        Stream.mapAccum(() => start, (seen, { event, number }) => {
          if (number <= seen) return [seen, []] as const
          if (number === seen + 1) return [number, [event]] as const
          return [lastNumber, [snapshot()]] as const
        }),
        Stream.prepend([snapshot()])
      )
    }).pipe(Stream.unwrap),
    endWatching: PubSub.shutdown(events)
  })
})

export const layer = (options?: Options): Layer.Layer<Board, PlatformError, FileSystem.FileSystem | Path.Path> =>
  Layer.effect(Board)(make(options))
