/**
 * A body of unknown length, gathered before it is sent so that CONTENT_LENGTH can be told: in memory up to a limit, beyond it
 * in a temporary file that goes with the scope.
 */
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type { PlatformError } from "effect/PlatformError"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { FastCgiExchangeOptions } from "../FastCgiHttpClient.ts"

export interface Gathered<E> {
  readonly stdin: Uint8Array | Stream.Stream<Uint8Array, E>
  /** `undefined` where nothing has been gathered. */
  readonly contentLength: number | undefined
}

const defaultMaxGatheredSize = 1024 * 1024

/** Whether a script is named: php-fpm or fcgiwrap is behind. */
export const namesScript = (
  { documentRoot, scriptFilename }: Pick<FastCgiExchangeOptions, "documentRoot" | "scriptFilename">,
  params: FastCgiExchangeOptions["params"]
): boolean =>
  documentRoot !== undefined || scriptFilename !== undefined || Object.hasOwn(params ?? {}, "SCRIPT_FILENAME")

/**
 * Reads a body to its end where bodies are gathered: php-fpm and fcgiwrap take one without CONTENT_LENGTH for none. `failed` makes an
 * error of a body that is too long to be kept, and of a file that is of no use.
 */
export const gather = Effect.fnUntraced(function*<E, E2>(
  body: Stream.Stream<Uint8Array, E>,
  options: FastCgiExchangeOptions,
  fileSystem: Option.Option<FileSystem.FileSystem>,
  failed: (message: string, cause?: PlatformError) => E2
): Effect.fn.Return<Gathered<E | E2>, E | E2, Scope.Scope> {
  if (!(options.gatherBody ?? namesScript(options, options.params))) return { stdin: body, contentLength: undefined }
  const maxInMemory = options.maxGatheredSize ?? defaultMaxGatheredSize
  const scope = yield* Effect.scope
  const fileFailed = (cause: PlatformError) => failed("the body cannot be kept in a temporary file", cause)
  const memory = new Memory(maxInMemory)
  let path: string | undefined
  let size = 0

  const file = yield* Effect.cached(Effect.gen(function*() {
    if (Option.isNone(fileSystem)) {
      return yield* Effect.fail(failed(`the body is longer than the ${maxInMemory} bytes that are kept of one`))
    }
    const { makeTempFileScoped, open } = fileSystem.value
    path = yield* Effect.mapError(Scope.provide(makeTempFileScoped({ prefix: "fastcgi-body-" }), scope), fileFailed)
    return yield* Effect.mapError(open(path, { flag: "w" }), fileFailed)
  }))
  const write = (bytes: Uint8Array) =>
    bytes.length === 0
      ? Effect.void
      : Effect.flatMap(file, (file) => Effect.mapError(file.writeAll(bytes), fileFailed))
  const append = (chunk: Uint8Array): Effect.Effect<void, E2, Scope.Scope> => {
    size += chunk.length
    if (memory.append(chunk)) return Effect.void
    return Effect.andThen(
      write(memory.take()),
      Effect.suspend(() => memory.append(chunk) ? Effect.void : write(chunk))
    )
  }

  yield* Effect.scoped(Effect.gen(function*() {
    yield* Stream.runForEachArray(body, (chunks) => Effect.forEach(chunks, append, { discard: true }))
    if (path !== undefined) yield* write(memory.take())
  }))
  return path === undefined || Option.isNone(fileSystem)
    ? { stdin: memory.take(), contentLength: size }
    : { stdin: Stream.mapError(fileSystem.value.stream(path), fileFailed), contentLength: size }
})

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// Bytes are copied: a chunk of a few may keep a whole read of 64 KiB in memory.
class Memory {
  private readonly limit: number
  private bytes = new Uint8Array(0)
  private length = 0

  constructor(limit: number) {
    this.limit = limit
  }

  /** Appends a chunk, unless that would go beyond the limit. */
  append(chunk: Uint8Array): boolean {
    const length = this.length + chunk.length
    if (length > this.limit) return false
    if (length > this.bytes.length) {
      const larger = new Uint8Array(Math.min(this.limit, Math.max(2 * this.bytes.length, length)))
      larger.set(this.bytes.subarray(0, this.length))
      this.bytes = larger
    }
    this.bytes.set(chunk, this.length)
    this.length = length
    return true
  }

  /** What is there, valid until the next `append`. */
  take(): Uint8Array {
    const taken = this.bytes.subarray(0, this.length)
    this.length = 0
    return taken
  }
}
