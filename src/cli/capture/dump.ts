/**
 * Runs `dump`.
 */
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Stream from "effect/Stream"
import type { DumpOptions } from "../commands/capture.ts"
import { type CommandFailure, ExitCode, fail } from "../internal/failure.ts"
import * as Output from "../internal/output.ts"
import { read } from "./file.ts"
import { Show } from "./show.ts"
import { CaptureSource } from "./source.ts"

/** Shows the records of a capture. */
export const run = (options: DumpOptions): Effect.Effect<void, CommandFailure, FileSystem.FileSystem> =>
  Effect.gen(function*() {
    const source = new CaptureSource()
    let show: Show | undefined
    const shown = (events: ReturnType<CaptureSource["push"]>) => {
      if (events.length === 0) return Effect.void
      show ??= new Show({
        json: options.json,
        named: source.isPcap,
        content: options.content,
        connection: options.connection,
        port: options.port,
        paint: Output.painter(process.stdout)
      })
      const text = show.events(events)
      return text === "" ? Effect.void : Output.write(text)
    }
    yield* Stream.runForEach(read(options.file, options.follow), (chunk) => shown(source.push(chunk)))
    yield* shown(source.end())
    const rest = show?.end() ?? ""
    if (rest !== "") yield* Output.write(rest)
    if (show?.broken === true) return yield* fail(ExitCode.Protocol)
  })
