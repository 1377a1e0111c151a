/**
 * Bytes to records and back as Effect `Channel`s over arrays: one array of byte chunks in, one array of records out. For tools and tests
 * that work on streams of bytes. The server's connections and the client use the decoder itself, which costs no Effect for each read.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Channel from "effect/Channel"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as FastCgiDecoder from "../protocol/FastCgiDecoder.ts"
import * as FastCgiEncoder from "../protocol/FastCgiEncoder.ts"
import { type FastCgiRecord, headerLength } from "../protocol/FastCgiRecord.ts"
import { RecordSplitter } from "./internal/recordSplitter.ts"

/**
 * Decodes arrays of byte chunks to arrays of records.
 *
 * **Details**
 *
 * Records in front of malformed bytes are emitted first, and then the channel fails. Bytes that end inside a record fail with the reason
 * `TruncatedRecord`.
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

/**
 * A record as it is on the wire, of any type, with its padding (SPEC 3.3).
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiRawRecord {
  /** 1 in FastCGI/1.0. */
  readonly version: number
  readonly type: number
  readonly requestId: number
  readonly content: Uint8Array
  /** The bytes of the padding, whatever they are. */
  readonly padding: Uint8Array
  /** The last byte of the header, usually 0. */
  readonly reserved: number
}

/**
 * Splits arrays of byte chunks into raw records, and loses nothing. It keeps the borders of records, unknown types, and padding with its
 * bytes, and `encodeRaw` gives the same bytes again. For tools that show, keep or pass on the bytes of others.
 *
 * **Details**
 *
 * A record is emitted when all of it has come, so the channel holds at most one: 65,798 bytes. It checks nothing. Bytes that end inside a
 * record fail with the reason `TruncatedRecord`, after the records before it have been emitted.
 *
 * **Example** (The records of a capture)
 *
 * ```ts
 * import * as Stream from "effect/Stream"
 * import { FastCgiChannel } from "effect-fastcgi"
 *
 * export const types = <E>(capture: Stream.Stream<Uint8Array, E>) =>
 *   capture.pipe(
 *     Stream.pipeThroughChannel(FastCgiChannel.decodeRaw<E>()),
 *     Stream.map(({ content, requestId, type }) => `${type} ${requestId} ${content.length}`)
 *   )
 * ```
 *
 * @category channels
 * @since 0.1.0
 */
export const decodeRaw = <IE>(): Channel.Channel<
  Arr.NonEmptyReadonlyArray<FastCgiRawRecord>,
  FastCgiDecoder.FastCgiDecodeError | IE,
  unknown,
  Arr.NonEmptyReadonlyArray<Uint8Array>,
  IE,
  unknown
> =>
  Channel.fromTransform((upstream, _scope) =>
    Effect.sync(() => {
      const splitter = new RecordSplitter()
      const pull: Pull.Pull<
        Arr.NonEmptyReadonlyArray<FastCgiRawRecord>,
        FastCgiDecoder.FastCgiDecodeError | IE,
        unknown
      > = Effect.suspend(() =>
        Pull.catchDone(
          Effect.flatMap(upstream, (chunks) => {
            const records: Array<FastCgiRawRecord> = []
            for (const chunk of chunks) splitter.push(chunk, records)
            return Arr.isArrayNonEmpty(records) ? Effect.succeed(records) : pull
          }),
          (done): Effect.Effect<never, FastCgiDecoder.FastCgiDecodeError | Cause.Done<unknown>> =>
            splitter.size === 0 ? Cause.done(done) : Effect.fail(truncated(splitter.size))
        )
      )
      return pull
    })
  )

/**
 * Joins raw records into byte chunks, a chunk per record: the inverse of `decodeRaw`.
 *
 * @category channels
 * @since 0.1.0
 */
export const encodeRaw = <IE, Done>(): Channel.Channel<
  Arr.NonEmptyReadonlyArray<Uint8Array>,
  IE,
  Done,
  Arr.NonEmptyReadonlyArray<FastCgiRawRecord>,
  IE,
  Done
> =>
  Channel.fromTransform((upstream, _scope) =>
    Effect.succeed(Effect.map(upstream, (records) => Arr.map(records, joined)))
  )

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const joined = (record: FastCgiRawRecord): Uint8Array => {
  const { content, padding, requestId, reserved, type, version } = record
  const bytes = new Uint8Array(headerLength + content.length + padding.length)
  bytes.set([version, type, requestId >>> 8, requestId, content.length >>> 8, content.length, padding.length, reserved])
  bytes.set(content, headerLength)
  bytes.set(padding, headerLength + content.length)
  return bytes
}

const truncated = (length: number): FastCgiDecoder.FastCgiDecodeError =>
  new FastCgiDecoder.FastCgiDecodeError({
    reason: { _tag: "TruncatedRecord" },
    message: `the bytes end ${length} bytes into a record`
  })
