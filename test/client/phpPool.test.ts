/** A pool in front of a real php-fpm: fewer workers than connections, workers that go, a backlog that is full. */
import { assert, it } from "@effect/vitest"
import type { FastCgiTransport } from "effect-fastcgi"
import { FastCgiClientError, FastCgiHttpClient, FastCgiPool } from "effect-fastcgi/client"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpBody from "effect/http/HttpBody"
import type * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientError from "effect/http/HttpClientError"
import * as Stream from "effect/Stream"
import { readFileSync } from "node:fs"
import { describeWith } from "../support/requirement.ts"
import { within } from "../support/within.ts"
import * as PhpFpm from "./phpFpm.ts"
import { sixtyFour } from "./sixtyFour.ts"
import { watched } from "./wire.ts"

const full = process.env["FULL"] === "1"

const range = (n: number): ReadonlyArray<number> => Array.from({ length: n }, (_, i) => i)

const text = (client: HttpClient.HttpClient, path: string) =>
  Effect.flatMap(client.get(`http://x.test${path}`), (response) => response.text)

/** Counts the connections that are open at the same time. */
const counted = <E, R>(connect: Effect.Effect<FastCgiTransport.FastCgiTransport, E, R>) => {
  const counts = { open: 0, most: 0, opened: 0 }
  const opened = Effect.acquireRelease(
    Effect.tap(connect, () =>
      Effect.sync(() => {
        counts.opened++
        counts.most = Math.max(counts.most, ++counts.open)
      })),
    () => Effect.sync(() => counts.open--),
    { interruptible: true }
  )
  return { connect: opened, counts }
}

const reasonOf = (error: HttpClientError.HttpClientError): string =>
  error.reason.cause instanceof FastCgiClientError.FastCgiClientError
    ? error.reason.cause.reason._tag
    : error.reason._tag

describeWith(["php-fpm8.2"], "a pool in front of php-fpm", (command) => {
  const start = (
    options: Omit<FastCgiHttpClient.FastCgiHttpClientOptions, "connect">,
    settings?: Parameters<typeof PhpFpm.start>[1]
  ) =>
    Effect.gen(function*() {
      const php = yield* PhpFpm.start(command, settings)
      const { connect, counts } = counted(php.connect)
      const pool = yield* FastCgiPool.make({ connect, ...options })
      const client = yield* FastCgiHttpClient.fromPool(pool, { documentRoot: php.documentRoot, ...options })
      return { php, client, counts, pool }
    })

  for (const maxConnections of [4, 8, undefined]) {
    it.live(`serves 64 at once with 4 workers and ${maxConnections ?? "any number of"} kept connections`, () =>
      Effect.gen(function*() {
        const { client, counts, pool } = yield* start({ keepConnection: true, maxConnections })
        const from = yield* Clock.currentTimeMillis
        const times: Array<number> = []
        const texts = yield* Effect.forEach(range(64), (n) =>
          Effect.tap(
            n % 4 === 3
              ? Effect.flatMap(
                client.post("http://x.test/sleep.php?us=10000", { body: HttpBody.urlParams({ n: String(n) }) }),
                (response) => response.text
              )
              : text(client, `/sleep.php?us=10000&n=${n}`),
            () => Effect.map(Clock.currentTimeMillis, (now) => times.push(now - from))
          ), { concurrency: "unbounded" }).pipe(
            within(() =>
              `64 answers, but ${times.length}; ${JSON.stringify([pool.statesUnsafe(), pool.waitingUnsafe()])}`
            )
          )
        assert.deepStrictEqual(texts, range(64).map(String))
        // 64 times 10 ms on 4 workers, and 100 ms until idle connections are closed for those whom no worker serves.
        assert.isBelow(Math.max(...times), 5000)
        if (maxConnections !== undefined) assert.isAtMost(counts.most, maxConnections)
      }))
  }

  it.live(`answers ${full ? 10_000 : 500} requests over a pool of 8, with 4 workers`, () =>
    Effect.gen(function*() {
      const { client, counts } = yield* start({ keepConnection: true, maxConnections: 8 })
      const n = full ? 10_000 : 500
      const texts = yield* within(() => "all answers", 100)(
        Effect.forEach(range(n), (i) => text(client, `/hello.php?name=${i}`), { concurrency: "unbounded" })
      )
      texts.forEach((text, i) => assert.strictEqual(text, `hello ${i}`))
      assert.isAtMost(counts.most, 8)
    }))

  it.live("never multiplexes, and answers 64 at once over 4 connections, with some given up", () =>
    Effect.gen(function*() {
      const php = yield* PhpFpm.start(command)
      const { connect, wire } = watched(php.connect)
      const options = { connect, documentRoot: php.documentRoot, keepConnection: true, maxConnections: 4 }
      const client = yield* FastCgiHttpClient.make(options)
      for (let times = 0; times < 2; times++) {
        yield* sixtyFour(client, {
          answering: (n) => `http://x.test/sleep.php?us=1000&n=${n}`,
          endless: () => "http://x.test/large.php?size=1000000000"
        }).pipe(within(() => `64 answers: ${JSON.stringify(wire)}`, 60))
      }
      assert.strictEqual(wire.mostAtOnce, 1)
      assert.isAtMost(wire.mostOpen, 4)
    }))

  it.live("repeats what is safe while php-fpm restarts, and reports the rest", () =>
    Effect.gen(function*() {
      const { client, php } = yield* start({ keepConnection: true, maxConnections: 8 })
      const load = { stopping: false }
      let got = 0
      const gets = yield* Effect.forEach(range(6), (i) =>
        Effect.forkScoped(Effect.gen(function*() {
          while (!load.stopping) {
            assert.strictEqual(yield* text(client, `/sleep.php?us=3000&n=${i}`), String(i))
            got++
          }
        })))
      const posts: Array<string> = []
      const reported: Array<string> = []
      const posting = yield* Effect.forEach(range(2), (i) =>
        Effect.forkScoped(Effect.gen(function*() {
          for (let n = 0; !load.stopping; n++) {
            const name = `${i}-${n}`
            yield* Effect.matchEffect(
              Effect.flatMap(client.post(`http://x.test/note.php?n=${name}`), (response) => response.text),
              {
                onSuccess: () => Effect.sync(() => posts.push(name)),
                onFailure: (error) => Effect.sync(() => reported.push(reasonOf(error)))
              }
            )
          }
        })))
      const served = (more: number) => {
        const enough = got + more
        return Effect.repeat(Effect.sleep(1), { while: () => got < enough })
      }
      yield* served(20)
      for (let reloads = 0; reloads < (full ? 20 : 3); reloads++) {
        yield* within(() => `the ${reloads + 1}th restart`)(php.reload)
        yield* within(() => `answers after the ${reloads + 1}th restart`)(served(20))
      }
      load.stopping = true
      // Not one GET has failed.
      yield* within(() => "the end of it")(Effect.forEach([...gets, ...posting], Fiber.join))
      const notes = readFileSync(`${php.documentRoot}/notes`, "utf8").trim().split("\n")
      assert.deepStrictEqual(notes, Array.from(new Set(notes)), "no POST has run twice")
      assert.deepStrictEqual(posts.filter((name) => !notes.includes(name)), [], "what was answered has run")
      for (const reason of reported) assert.match(reason, /^(ConnectionLost|DecodeError)$/)
    }))

  it.live("loses no POST where each worker ends after one request, with several at once", () =>
    Effect.gen(function*() {
      const php = yield* PhpFpm.start(command)
      const client = yield* FastCgiHttpClient.make({
        connect: php.connectRecycled,
        documentRoot: php.documentRoot,
        keepConnection: true,
        maxConnections: 3
      })
      const names = range(full ? 300 : 24)
      const texts = yield* within(() => "all answers", 60)(Effect.forEach(
        names,
        (n) => Effect.flatMap(client.post(`http://x.test/note.php?n=${n}`), (response) => response.text),
        { concurrency: 8 }
      ))
      assert.deepStrictEqual(texts, names.map(String))
      const notes = readFileSync(`${php.documentRoot}/notes`, "utf8").trim().split("\n")
      assert.strictEqual(notes.length, names.length)
    }))

  it.live("loses nothing where the backlog is full", () =>
    Effect.gen(function*() {
      for (const keepConnection of [false, true]) {
        const { client } = yield* start({ keepConnection }, { pool: () => ["listen.backlog = 1"] })
        const texts = yield* within(() => "all answers")(
          Effect.forEach(range(64), (n) => text(client, `/sleep.php?us=5000&n=${n}`), { concurrency: "unbounded" })
        )
        assert.deepStrictEqual(texts, range(64).map(String))
      }
    }))

  it.live.skipIf(!full)("takes 200 MB in bounded memory", () =>
    Effect.gen(function*() {
      const { client } = yield* start({ keepConnection: true, maxConnections: 4 })
      const chunk = new Uint8Array(1_000_000)
      const before = process.memoryUsage().arrayBuffers
      let most = 0
      const body = Stream.map(Stream.range(1, 200), () => {
        most = Math.max(most, process.memoryUsage().arrayBuffers)
        return chunk
      })
      const response = yield* client.post("http://x.test/body.php", {
        body: HttpBody.stream(body, "application/octet-stream", 200_000_000)
      })
      assert.strictEqual(((yield* response.json) as { readonly size: number }).size, 200_000_000)
      assert.isBelow(most - before, 100_000_000)
    }))
})
