import { assert, describe, it } from "@effect/vitest"
import { FastCgiChannel, FastCgiDecoder, FastCgiEncoder, FastCgiRecord } from "effect-fastcgi"
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import { concat, cut, oneByOne } from "../protocol/support/cuts.ts"
import { read, vectors } from "../vectors/vectors.ts"

type Record = FastCgiRecord.FastCgiRecord

const begin = FastCgiRecord.beginRequest(1, FastCgiRecord.Role.Responder)
const body = FastCgiRecord.stdin(1, Uint8Array.of(1, 2, 3))
const end = FastCgiRecord.stdin(1)

const bytes = concat([begin, body, end].map((record) => FastCgiEncoder.encode(record)))

/** Decodes arrays of chunks; gives the arrays of records that came out, and how it ended. */
const decode = <E = never>(
  arrays: Stream.Stream<Uint8Array, E>,
  options?: FastCgiDecoder.FastCgiDecoderOptions
): Effect.Effect<{
  readonly arrays: Array<ReadonlyArray<Record>>
  readonly exit: Exit.Exit<void, E | FastCgiDecoder.FastCgiDecodeError>
}> =>
  Effect.gen(function*() {
    const received: Array<ReadonlyArray<Record>> = []
    const exit = yield* arrays.pipe(
      Stream.pipeThroughChannel(FastCgiChannel.decode<E>(options)),
      Stream.runForEachArray((records) =>
        Effect.sync(() => {
          received.push(records)
        })
      ),
      Effect.exit
    )
    return { arrays: received, exit }
  })

const fromArrays = (...arrays: ReadonlyArray<ReadonlyArray<Uint8Array>>): Stream.Stream<Uint8Array> =>
  Stream.fromArrays(...arrays as ReadonlyArray<Arr.NonEmptyReadonlyArray<Uint8Array>>)

const failure = <A, E>(exit: Exit.Exit<A, E>): E | undefined =>
  Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isFailReason)?.error : undefined

describe("FastCgiChannel", () => {
  it.effect("decodes one array of chunks to one array of records", () =>
    Effect.gen(function*() {
      const { arrays, exit } = yield* decode(fromArrays(cut(bytes, [5, 20]), oneByOne(bytes)))
      assert.isTrue(Exit.isSuccess(exit))
      assert.strictEqual(arrays.length, 2)
      assert.deepStrictEqual(arrays[0], [begin, body, end])
      assert.strictEqual(arrays[1].length, 5, "three bytes of content that came one at a time are three fragments")
    }))

  it.effect("emits nothing for bytes that complete nothing, rather than an empty array", () =>
    Effect.gen(function*() {
      const { arrays, exit } = yield* decode(fromArrays(...oneByOne(bytes).map((chunk) => [chunk])))
      assert.isTrue(Exit.isSuccess(exit))
      assert.isTrue(arrays.every((records) => records.length === 1))
      assert.deepStrictEqual(arrays[0], [begin])
    }))

  it.effect("emits what was good before malformed bytes, and then fails", () =>
    Effect.gen(function*() {
      const { arrays, exit } = yield* decode(fromArrays([bytes, Uint8Array.of(9), bytes], [bytes]))
      assert.deepStrictEqual(arrays, [[begin, body, end]])
      const error = failure(exit)
      assert.strictEqual(error?.reason._tag, "UnsupportedVersion")
    }))

  it.effect("fails at once when nothing was good", () =>
    Effect.gen(function*() {
      const { arrays, exit } = yield* decode(fromArrays([Uint8Array.of(22, 3, 1)]))
      assert.deepStrictEqual(arrays, [])
      assert.strictEqual(failure(exit)?.reason._tag, "UnsupportedVersion")
    }))

  it.effect("fails when the bytes end inside a record", () =>
    Effect.gen(function*() {
      const { arrays, exit } = yield* decode(fromArrays([bytes, bytes.subarray(0, 3)]))
      assert.deepStrictEqual(arrays, [[begin, body, end]])
      assert.strictEqual(failure(exit)?.reason._tag, "TruncatedRecord")
    }))

  it.effect("passes the failure of the bytes on, inside a record too", () =>
    Effect.gen(function*() {
      const { arrays, exit } = yield* decode(
        Stream.concat(fromArrays([bytes, bytes.subarray(0, 3)]), Stream.fail("reset" as const))
      )
      assert.deepStrictEqual(arrays, [[begin, body, end]])
      assert.strictEqual(failure(exit), "reset")
    }))

  it.effect("obeys the decoder's limits", () =>
    Effect.gen(function*() {
      const { exit } = yield* decode(
        fromArrays([FastCgiEncoder.encode(FastCgiRecord.getValues(new Uint8Array(17)))]),
        { maxDiscreteContent: 16 }
      )
      assert.strictEqual(failure(exit)?.reason._tag, "ContentTooLong")
    }))

  it.effect("keeps the state of each run apart", () =>
    Effect.gen(function*() {
      const channel = FastCgiChannel.decode<never>()
      const run = (chunk: Uint8Array) =>
        fromArrays([chunk]).pipe(Stream.pipeThroughChannel(channel), Stream.runCollect, Effect.exit)
      assert.isTrue(Exit.isFailure(yield* run(bytes.subarray(0, 3))))
      const second = yield* run(bytes)
      assert.deepStrictEqual(Exit.isSuccess(second) ? [...second.value] : [], [begin, body, end])
    }))

  it.effect("encodes a chunk per record, padded or not", () =>
    Effect.gen(function*() {
      const encode = (options?: FastCgiEncoder.FastCgiEncoderOptions) =>
        Stream.make<ReadonlyArray<Record>>(begin, body, end).pipe(
          Stream.pipeThroughChannel(FastCgiChannel.encode<never, unknown>(options)),
          Stream.runCollect
        )
      assert.deepStrictEqual([...yield* encode()].map((chunk) => chunk.length), [16, 16, 8])
      assert.deepStrictEqual([...yield* encode({ alignment: 1 })].map((chunk) => chunk.length), [16, 11, 8])
      assert.deepStrictEqual(concat([...yield* encode()]), bytes)
    }))

  it.effect("decodes what it encodes", () =>
    Effect.gen(function*() {
      const records = yield* Stream.make<ReadonlyArray<Record>>(begin, body, end).pipe(
        Stream.pipeThroughChannel(FastCgiChannel.encode<never, unknown>()),
        Stream.pipeThroughChannel(FastCgiChannel.decode<never>()),
        Stream.runCollect
      )
      assert.deepStrictEqual([...records], [begin, body, end])
    }))
})

describe("decodeRaw and encodeRaw", () => {
  it.effect("give back every byte of what web servers have sent, cut anywhere", () =>
    Effect.gen(function*() {
      for (const { file: name } of vectors) {
        const bytes = read(name)
        const cuts = [1 + bytes.length % 7, 1000 + bytes.length % 500].filter((at) => at < bytes.length)
        const pieces = cut(bytes, cuts)
        const records = Stream.fromIterable(pieces).pipe(Stream.pipeThroughChannel(FastCgiChannel.decodeRaw<never>()))
        const exit = yield* Effect.exit(
          records.pipe(Stream.pipeThroughChannel(FastCgiChannel.encodeRaw()), Stream.mkUint8Array)
        )
        // Some captures end inside of a record.
        if (Exit.isSuccess(exit)) assert.strictEqual(Buffer.compare(exit.value, bytes), 0, name)
        else {
          const error = Cause.squash(exit.cause)
          assert.isTrue(
            error instanceof FastCgiDecoder.FastCgiDecodeError && error.reason._tag === "TruncatedRecord",
            name
          )
        }
      }
    }))

  it.effect("keep what is no record of FastCGI/1.0, padding and its bytes", () =>
    Effect.gen(function*() {
      const bytes = Uint8Array.of(7, 200, 1, 2, 0, 3, 5, 9, 1, 2, 3, 4, 5, 6, 7, 8)
      const records = yield* Stream.fromIterable([...bytes].map((byte) => Uint8Array.of(byte))).pipe(
        Stream.pipeThroughChannel(FastCgiChannel.decodeRaw<never>()),
        Stream.runCollect
      )
      assert.deepStrictEqual(records, [{
        version: 7,
        type: 200,
        requestId: 258,
        content: Uint8Array.of(1, 2, 3),
        padding: Uint8Array.of(4, 5, 6, 7, 8),
        reserved: 9
      }])
    }))
})
