/**
 * One client process of `bench/client.ts`: sends requests, so many at a time, and prints what CPU they took as JSON.
 *
 * It imports packages only: the benchmark runs its text in the directory of the tree that is to be measured.
 *
 *     node --input-type=module-typescript --eval TEXT -- KIND SOCKET REQUESTS
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { FastCgiHttpClient } from "effect-fastcgi/client"
import { NodeFastCgiConnector } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type * as Layer from "effect/Layer"

const [kind = "", path = "", requests = ""] = process.argv.slice(-3)
const concurrency = 16
const url = "http://localhost/bench/hello"
const hello = "Hello world!"

const fastCgi = (maxRequests: number) =>
  FastCgiHttpClient.layer({
    connect: NodeFastCgiConnector.connect({ path }),
    keepConnection: true,
    maxIdle: concurrency,
    maxRequests
  })

const clients: Readonly<Record<string, Layer.Layer<HttpClient.HttpClient>>> = {
  kept: fastCgi(1),
  multiplexed: fastCgi(concurrency),
  undici: NodeHttpClient.layerUndiciOptions({ connect: { socketPath: path }, connections: concurrency })
}

const program = Effect.gen(function*() {
  const client = yield* HttpClient.HttpClient
  const get = Effect.gen(function*() {
    const response = yield* client.get(url)
    const text = yield* response.text
    if (response.status !== 200 || text !== hello) throw new Error(`${response.status} ${text}`)
  })
  const send = (count: number) => {
    let left = count
    const one = Effect.whileLoop({ while: () => left-- > 0, body: () => get, step: () => {} })
    return Effect.all(Array.from({ length: concurrency }, () => one), { concurrency, discard: true })
  }
  // Opens one connection, and then as many as it takes.
  yield* get
  yield* send(Number(requests))
  const begin = performance.now()
  const before = process.cpuUsage()
  yield* send(Number(requests))
  const { system, user } = process.cpuUsage(before)
  const seconds = (performance.now() - begin) / 1000
  console.log(JSON.stringify({ user: user / Number(requests), system: system / Number(requests), seconds }))
})

await Effect.runPromise(Effect.provide(program, clients[kind]!))
process.exit()
