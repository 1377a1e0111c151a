/** 64 requests at once, each fifth of which is given up in the midst of its answer: the same for every application. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import * as Stream from "effect/Stream"

export const numbers: ReadonlyArray<number> = Array.from({ length: 64 }, (_, n) => n)

export const isGivenUp = (n: number): boolean => n % 5 === 4

/** `answering` answers with its number, `endless` with more than anybody reads. */
export const sixtyFour = (
  client: HttpClient.HttpClient,
  urls: { readonly answering: (n: number) => string; readonly endless: (n: number) => string }
) =>
  Effect.forEach(numbers, (n) =>
    isGivenUp(n)
      ? Effect.flatMap(
        client.get(urls.endless(n)),
        (response) => Stream.runFold(Stream.take(response.stream, 1), () => 0, (size, bytes) => size + bytes.length)
      ).pipe(Effect.map((size) => assert.isAbove(size, 0)))
      : Effect.flatMap(client.get(urls.answering(n)), (response) => response.text).pipe(
        Effect.map((text) => assert.strictEqual(text, String(n)))
      ), { concurrency: "unbounded", discard: true })
