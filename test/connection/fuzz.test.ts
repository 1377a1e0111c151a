/**
 * What real web servers sent, damaged: whatever comes, the connection ends in order, its requests with it, and no defect is
 * logged. A failure names its seed: `FUZZ_SEED=… npx vitest run test/connection/fuzz.test.ts` plays that one alone, and
 * `FUZZ_CASES` plays more, a connection for each 500 of them.
 */
import { assert, describe } from "@effect/vitest"
import { FastCgiAdmission, FastCgiResponse } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { cut, random } from "../protocol/support/cuts.ts"
import { replay, seeds } from "../protocol/support/fuzz.ts"
import {
  connect,
  fibersAtRest,
  type Handlers,
  idleFibers,
  play,
  serve,
  settle,
  takeLogs
} from "../server/support/serving.ts"
import { concat } from "../server/support/wire.ts"
import { read, vectors } from "../vectors/vectors.ts"

const handlers: Handlers = {
  responder: (request) =>
    request.params.get("REQUEST_METHOD") === "HEAD"
      ? Effect.never
      : Effect.succeed(FastCgiResponse.make(Stream.catch(request.stdin, () => Stream.empty))),
  authorizer: (request) => Effect.succeed(FastCgiResponse.allow({ QUERY: request.params.get("QUERY_STRING") ?? "" })),
  filter: (request) =>
    Effect.as(
      Effect.all([Stream.runDrain(request.stdin), Stream.runDrain(request.data)]),
      FastCgiResponse.make("filtered")
    )
}

const file = "connection/fuzz.test.ts"

// Large bodies are more of the same.
const recorded = vectors.map(({ file }) => read(file).slice(0, 20_000))

/** Bytes that mean something where they happen to stand: types, roles, lengths, the first of a long length. */
const telling = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x7f, 0x80, 0xff]

const damaged = (next: () => number): Uint8Array => {
  const below = (limit: number) => Math.floor(next() * limit)
  const seed = () => recorded[below(recorded.length)]
  let bytes = seed().slice()
  for (let times = below(6); times > 0; times--) {
    const at = below(bytes.length)
    const to = Math.min(bytes.length, at + below(300))
    switch (below(7)) {
      case 0:
        bytes[at] = below(256)
        break
      case 1:
        bytes[at] = telling[below(telling.length)]
        break
      case 2:
        bytes = concat([bytes.subarray(0, at), bytes.subarray(to)]) as Uint8Array<ArrayBuffer>
        break
      case 3:
        bytes = concat([bytes.subarray(0, to), bytes.subarray(at)]) as Uint8Array<ArrayBuffer>
        break
      case 4: {
        const other = seed()
        bytes = concat([bytes.subarray(0, at), other.subarray(below(other.length))]) as Uint8Array<ArrayBuffer>
        break
      }
      case 5:
        // Whole records of another connection, where a record begins: ids that meet, requests within requests.
        bytes = concat([seed(), bytes]) as Uint8Array<ArrayBuffer>
        break
      case 6:
        bytes = bytes.slice(0, at)
        break
    }
    if (bytes.length === 0) bytes = seed().slice()
  }
  return bytes
}

describe("a connection that brings what a web server sent, damaged", () => {
  const { first, last } = seeds(500)

  play(
    "ends in order",
    serve(handlers, {
      inputHighWaterMark: 2000,
      maxBufferedInput: 6000,
      outputHighWaterMark: 2000,
      maxParamsSize: 10_000
    }),
    () =>
      Effect.gen(function*() {
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        for (let seed = first; seed <= last; seed++) {
          const next = random(seed)
          const bytes = damaged(next)
          const points = Array.from({ length: Math.floor(next() * 8) }, () => Math.floor(next() * bytes.length))
          yield* Effect.scoped(Effect.gen(function*() {
            const peer = yield* connect
            yield* peer.setCapacity(next() < 0.5 ? 1 << 20 : 1 + Math.floor(next() * 3000))
            for (const piece of cut(bytes, points)) {
              yield* peer.sendBytes(piece)
              if (next() < 0.5) yield* Effect.yieldNow
            }
            if (next() < 0.2) yield* settle
            // What stalls, or never gets its PARAMS, has its time.
            if (next() < 0.1) yield* TestClock.adjust("31 seconds")
            if (next() < 0.3) yield* peer.end
            if (next() < 0.1) yield* peer.reset
          }))
          yield* settle
          assert.strictEqual(admission.requestsUnsafe(), 0, `requests, ${replay(seed, file)}`)
          assert.strictEqual(admission.connectionsUnsafe(), 0, `connections, ${replay(seed, file)}`)
          assert.strictEqual(yield* fibersAtRest, idleFibers, `fibers, ${replay(seed, file)}`)
          for (const { cause, level, message } of yield* takeLogs) {
            if (level === "Warn" || message === "a FastCGI handler failed" && !cause.includes("Error:")) continue
            // A Filter whose input was cut short, and variables that no header can hold.
            if (/FastCgiRequestError|CgiHeadError/.test(cause)) continue
            assert.fail(`${level} ${message} ${cause}, ${replay(seed, file)}`)
          }
        }
      })
  )
})
