/**
 * The bytes of a capture: of a file, of one that is still being written, or of standard input.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { CommandFailure, ExitCode, unreadable } from "../internal/failure.ts"

/** The bytes. `follow` waits for more where the file ends, until it is interrupted. */
export const read = (
  path: string,
  follow: boolean
): Stream.Stream<Uint8Array, CommandFailure, FileSystem.FileSystem> =>
  path === "-" ? standardInput : Stream.unwrap(Effect.gen(function*() {
    const failed = unreadable(path)
    const files = yield* FileSystem.FileSystem
    const file = yield* Effect.mapError(files.open(path, { flag: "r" }), failed)
    const next: Effect.Effect<Option.Option<Uint8Array>, CommandFailure> = Effect.flatMap(
      Effect.mapError(file.readAlloc(chunkSize), failed),
      (chunk) =>
        Option.isSome(chunk) || !follow
          ? Effect.succeed(chunk)
          : Effect.andThen(Effect.sleep(pause), next)
    )
    return Stream.unfold(
      undefined,
      () => Effect.map(next, (chunk) => Option.isSome(chunk) ? [chunk.value, undefined] as const : undefined)
    )
  }))

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const chunkSize = 64 * 1024

// In milliseconds: how soon what has been added to a file is shown.
const pause = 100

const standardInput = Stream.suspend(() =>
  Stream.fromAsyncIterable(
    process.stdin,
    (error) => new CommandFailure({ code: ExitCode.Usage, message: `Cannot read standard input: ${String(error)}` })
  )
)
