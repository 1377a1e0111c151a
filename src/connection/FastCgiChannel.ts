/**
 * Bytes to records and back as Effect `Channel`s over arrays: one array of byte chunks in, one array of records out.
 * For tools and tests that work on streams of bytes; the server's connections and the client use the decoder itself, which
 * costs no Effect a read.
 *
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Channel from "effect/Channel"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as FastCgiDecoder from "../protocol/FastCgiDecoder.ts"
import * as FastCgiEncoder from "../protocol/FastCgiEncoder.ts"
import type { FastCgiRecord } from "../protocol/FastCgiRecord.ts"

/**
 * Decodes arrays of byte chunks to arrays of records.
 *
 * **Details**
 *
 * What was good before malformed bytes is emitted first; then the channel fails. Bytes that end inside a record fail
 * with the kind `TruncatedRecord`.
 *
 * **Example** (Decoding a stream of bytes)
 *
 * ```ts
 * import * as Stream from "effect/Stream"
 * import { FastCgiChannel, FastCgiEncoder, FastCgiRecord } from "effect-fastcgi"
 *
 * const bytes = FastCgiEncoder.encode(FastCgiRecord.abortRequest(1))
 *
 * export const records = Stream.make(bytes).pipe(
 *   Stream.pipeThroughChannel(FastCgiChannel.decode<never>())
 * )
 * ```
 *
 * @category channels
 * @since 0.1.0
 */
export const decode = <IE>(
  options?: FastCgiDecoder.FastCgiDecoderOptions
): Channel.Channel<
  Arr.NonEmptyReadonlyArray<FastCgiRecord>,
  FastCgiDecoder.FastCgiDecodeError | IE,
  unknown,
  Arr.NonEmptyReadonlyArray<Uint8Array>,
  IE,
  unknown
> =>
  Channel.fromTransform((upstream, _scope) =>
    Effect.sync(() => {
      const decoder = FastCgiDecoder.make(options)
      let failed: FastCgiDecoder.FastCgiDecodeError | undefined
      const step = (chunks: Arr.NonEmptyReadonlyArray<Uint8Array>): typeof pull => {
        const records: Array<FastCgiRecord> = []
        for (let i = 0; i < chunks.length && failed === undefined; i++) {
          failed = decoder.push(chunks[i], records)
        }
        if (records.length > 0) return Effect.succeed(records as unknown as Arr.NonEmptyReadonlyArray<FastCgiRecord>)
        return failed === undefined ? pull : Effect.fail(failed)
      }
      const pull: Pull.Pull<
        Arr.NonEmptyReadonlyArray<FastCgiRecord>,
        FastCgiDecoder.FastCgiDecodeError | IE,
        unknown
      > = Effect.suspend(() =>
        failed === undefined
          ? Pull.catchDone(
            Effect.flatMap(upstream, step),
            (done): Effect.Effect<never, FastCgiDecoder.FastCgiDecodeError | Cause.Done<unknown>> => {
              const error = decoder.end()
              return error === undefined ? Cause.done(done) : Effect.fail(error)
            }
          )
          : Effect.fail(failed)
      )
      return pull
    })
  )

/**
 * Encodes arrays of records to arrays of byte chunks, a chunk per record.
 *
 * @category channels
 * @since 0.1.0
 */
export const encode = <IE, Done>(
  options?: FastCgiEncoder.FastCgiEncoderOptions
): Channel.Channel<
  Arr.NonEmptyReadonlyArray<Uint8Array>,
  IE,
  Done,
  Arr.NonEmptyReadonlyArray<FastCgiRecord>,
  IE,
  Done
> =>
  Channel.fromTransform((upstream, _scope) =>
    Effect.succeed(
      Effect.map(upstream, (records) =>
        records.map((record) => FastCgiEncoder.encode(record, options)) as unknown as Arr.NonEmptyReadonlyArray<
          Uint8Array
        >)
    )
  )
