/**
 * The example with shared state: two workers, as processes, each asked over its own FastCGI socket. On the sources.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiHttpClient } from "effect-fastcgi/client"
import { NodeFastCgiConnector } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { projectRoot } from "../support/files.ts"
import * as WebServers from "../support/webServers.ts"

interface Answer {
  readonly value: number
  /** Where the counter lives. */
  readonly home: string
  readonly answeredBy: number
}

/** A worker that is ready, and questions to it. */
const startWorker = (folder: string, name: string) =>
  Effect.gen(function*() {
    const path = Path.join(folder, `${name}.sock`)
    const address = `127.0.0.1:${yield* WebServers.freePort}`
    const client = yield* FastCgiHttpClient.make({ connect: NodeFastCgiConnector.connect({ path }) })
    const ask = (request: HttpClientRequest.HttpClientRequest) =>
      Effect.gen(function*() {
        const response = yield* client.execute(request)
        const text = yield* response.text
        assert.strictEqual(response.status, 200, text)
        return JSON.parse(text) as Answer
      })
    const get = (counter: string) => ask(HttpClientRequest.get(`http://localhost/counters/${counter}`))
    const add = (counter: string, key?: string) => {
      const request = HttpClientRequest.post(`http://localhost/counters/${counter}`)
      return ask(key === undefined ? request : HttpClientRequest.setHeader(request, "idempotency-key", key))
    }
    const program = yield* WebServers.start({
      name: `worker ${name}`,
      command: process.execPath,
      args: [
        "--import",
        fileURLToPath(new URL("./support/onSources.ts", import.meta.url)),
        Path.join(projectRoot, "examples/cluster/main.ts"),
        "worker",
        "--path",
        path,
        "--address",
        address,
        "--database",
        Path.join(folder, "cluster.db")
      ],
      ready: get("ready")
    })
    return { address, get, add, program }
  })

const counters = Array.from({ length: 24 }, (_, i) => `counter-${i}`)

/** Two workers, and a counter that lives in the first. */
const cluster = Effect.gen(function*() {
  const folder = yield* WebServers.temporaryDirectory
  const first = yield* startWorker(folder, "first")
  const second = yield* startWorker(folder, "second")
  // The second one has been given its share when some counters live in it.
  const homes = yield* WebServers.eventually(
    "counters live in both workers",
    Effect.filterOrFail(
      Effect.forEach(counters, second.get),
      (states) => new Set(states.map(({ home }) => home)).size === 2,
      () => "not yet"
    )
  )
  const counter = counters[homes.findIndex(({ home }) => home === first.address)]!
  return { first, second, counter }
})

describe("the cluster example", () => {
  it.live("counts right whichever worker is asked, and while one of them stops", () =>
    Effect.gen(function*() {
      const { counter, first, second } = yield* cluster

      const one = yield* first.add(counter)
      const two = yield* second.add(counter)
      assert.deepStrictEqual([one.value, two.value], [1, 2])
      assert.deepStrictEqual([one.home, two.home], [first.address, first.address])
      assert.notStrictEqual(one.answeredBy, two.answeredBy)

      const asked = yield* Effect.forEach(
        Array.from({ length: 40 }, (_, i) => i % 2 === 0 ? first : second),
        (worker) => worker.add(counter),
        { concurrency: 8 }
      )
      const values = asked.map(({ value }) => value).sort((a, b) => a - b)
      assert.deepStrictEqual(values, Array.from({ length: 40 }, (_, i) => i + 3))

      // A web server that repeats a request, at another worker.
      yield* first.add("repeated", "the same")
      assert.strictEqual((yield* second.add("repeated", "the same")).value, 1)
      assert.strictEqual((yield* second.add("repeated", "another")).value, 2)

      let answered = 0
      const load = yield* Effect.forkChild(
        Effect.forEach(
          Array.from({ length: 60 }),
          () => Effect.tap(second.add(counter), () => Effect.sync(() => answered++)),
          { concurrency: 4 }
        ),
        { startImmediately: true }
      )
      yield* WebServers.until("the load has begun", () => answered >= 10)
      const ended = yield* first.program.stop("SIGTERM")
      assert.deepStrictEqual(ended, { code: 0, signal: null }, first.program.log())
      const moved = yield* Fiber.join(load)
      assert.strictEqual(new Set(moved.map(({ value }) => value)).size, 60)
      const last = yield* second.add(counter)
      assert.strictEqual(last.value, 42 + 60 + 1)
      assert.strictEqual(last.home, second.address)
      assert.strictEqual((yield* second.get("repeated")).value, 2)
    }))

  it.live("goes on where a worker was that has died", () =>
    Effect.gen(function*() {
      const { counter, first, second } = yield* cluster
      for (let i = 1; i <= 5; i++) assert.strictEqual((yield* first.add(counter)).value, i)
      yield* first.program.stop("SIGKILL")
      const next = yield* second.add(counter)
      assert.deepStrictEqual([next.value, next.home], [6, second.address])
    }))
})
