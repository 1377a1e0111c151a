/**
 * What the library itself costs a request, without a socket: `npm run bench:memory`. Prints nanoseconds a request, the
 * least and the median of the rounds. There is little noise in it, so it shows what a change to the hot path did: run it
 * before and after, in turns.
 *
 *     npm run bench:memory -- --rounds 40
 *     npm run bench:memory -- --only "handler, one"
 *
 * The last line is a fixed piece of work without the library (harness/calibration.ts). `--json` prints all of it as JSON, for
 * test/project/speed.test.ts.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import {
  FastCgiConnection,
  FastCgiEncoder,
  FastCgiParams,
  FastCgiRecord,
  FastCgiResponse,
  FastCgiServer,
  type FastCgiTransport
} from "effect-fastcgi"
import { FastCgiHttpServer } from "effect-fastcgi/http"
import { NodeFastCgiApp } from "effect-fastcgi/node"
import type * as Cause from "effect/Cause"
import * as Channel from "effect/Channel"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { setImmediate } from "node:timers/promises"
import { parseArgs } from "node:util"
import { work } from "./harness/calibration.ts"
import { type Accept, serveInMemory } from "./harness/memoryListener.ts"
import { nginxParams } from "./harness/nginxParams.ts"
import { hello } from "./servers/content.ts"
import { app as nodeApp } from "./servers/nodeApp.ts"
import { serve } from "./servers/routes.ts"

const { values: { json, only, requests, rounds } } = parseArgs({
  options: {
    only: { type: "string", default: "" },
    json: { type: "boolean", default: false },
    rounds: { type: "string", default: "25" },
    requests: { type: "string", default: "30000" }
  }
})

const encodeRequest = (keepConnection: boolean): Uint8Array =>
  Buffer.concat([
    FastCgiRecord.beginRequest(1, FastCgiRecord.Role.Responder, { keepConnection }),
    FastCgiRecord.params(1, FastCgiParams.encodePairs(nginxParams)),
    FastCgiRecord.params(1),
    FastCgiRecord.stdin(1)
  ].map((record) => FastCgiEncoder.encode(record)))

/** A peer that sends one request at a time and counts what it gets. */
class Peer implements FastCgiTransport.FastCgiTransport {
  readonly peer = Option.none()
  readonly pull = Effect.never
  private reader: FastCgiTransport.FastCgiTransportReader | undefined
  private observer: FastCgiTransport.FastCgiTransportObserver | undefined
  received = 0
  private ended = false

  send(bytes: Uint8Array): void {
    this.reader!.onRead([bytes])
    // What a web server does when the application has half-closed.
    if (this.ended) this.reader!.onReadEnd()
  }

  flowUnsafe(reader: FastCgiTransport.FastCgiTransportReader): void {
    this.reader = reader
  }

  observeUnsafe(observer: FastCgiTransport.FastCgiTransportObserver): void {
    this.observer = observer
  }

  writeUnsafe(chunks: ReadonlyArray<Uint8Array>): void {
    for (const chunk of chunks) this.received += chunk.length
  }

  pauseUnsafe(): void {}
  resumeUnsafe(): void {}
  pendingUnsafe = () => 0
  resetUnsafe(): void {}

  endUnsafe(): void {
    this.ended = true
  }

  destroyUnsafe(): void {
    this.observer?.onClose()
  }
}

const handlers = { responder: () => Effect.succeed(FastCgiResponse.make(hello)) }

const apps = {
  "handler": FastCgiServer.serve(handlers),
  "HttpRouter": serve.pipe(
    Layer.provide(FastCgiHttpServer.layerServer()),
    Layer.provide(NodeHttpServer.layerHttpServices)
  )
}

/** Apps whose requests are over in a later turn of the event loop only. */
const appsInTurns = {
  "serveNode": NodeFastCgiApp.layerNodeServer(nodeApp),
  "serveFetch": NodeFastCgiApp.layerFetchServer(() => new Response(hello))
}

const measure = (accept: Accept, keepConnection: boolean) => {
  const request = encodeRequest(keepConnection)
  const count = Number(requests)
  const samples: Array<number> = []
  for (let round = 0; round < Number(rounds); round++) {
    let peer = new Peer()
    if (keepConnection) accept(peer)
    const begin = process.hrtime.bigint()
    for (let i = 0; i < count; i++) {
      if (!keepConnection) {
        peer = new Peer()
        accept(peer)
      }
      peer.send(request)
    }
    samples.push(Number(process.hrtime.bigint() - begin) / count)
    if (peer.received === 0) throw new Error("a request was not answered at once")
  }
  return summary(samples)
}

/** The requests of several connections, each of which is sent its next when all have been answered. */
const measureInTurns = async (
  accept: Accept,
  keepConnection: boolean
) => {
  const request = encodeRequest(keepConnection)
  const count = Number(requests)
  const samples: Array<number> = []
  const connect = () => {
    const peer = new Peer()
    accept(peer)
    return peer
  }
  let peers = Array.from({ length: connectionsInTurns }, connect)
  for (let round = 0; round < Number(rounds); round++) {
    const begin = process.hrtime.bigint()
    for (let i = 0; i < count; i += peers.length) {
      if (!keepConnection) peers = peers.map(connect)
      const before = peers.map(({ received }) => received)
      for (const peer of peers) peer.send(request)
      while (peers.some(({ received }, index) => received === before[index])) await setImmediate()
      // What follows the response.
      await setImmediate()
    }
    samples.push(Number(process.hrtime.bigint() - begin) / count)
  }
  return summary(samples)
}

const connectionsInTurns = 16

type Bytes = readonly [Uint8Array, ...Array<Uint8Array>]

/** A channel between streams of bytes, one request at a time. */
const measureChannel = Effect.fnUntraced(function*(channel: Channel.Channel<Bytes, never, void, Bytes, never, void>) {
  const request = encodeRequest(true)
  const count = Number(requests)
  let given: Effect.Effect<Bytes> | undefined
  let wake: ((bytes: Effect.Effect<Bytes>) => void) | undefined
  const give = (bytes: Uint8Array) => {
    const resume = wake
    wake = undefined
    const taken: Effect.Effect<Bytes> = Effect.succeed([bytes])
    if (resume === undefined) given = taken
    else resume(taken)
  }
  const input = Effect.callback<Bytes, Cause.Done<void>>((resume) => {
    const taken = given
    given = undefined
    if (taken === undefined) wake = resume
    else resume(taken)
  })
  const output = yield* Channel.toTransform(channel)(input, yield* Effect.scope)
  const samples: Array<number> = []
  for (let round = 0; round < Number(rounds); round++) {
    const begin = process.hrtime.bigint()
    for (let i = 0; i < count; i++) {
      give(request)
      yield* output
    }
    samples.push(Number(process.hrtime.bigint() - begin) / count)
  }
  return summary(samples)
}, Effect.scoped)

/** Channels: the handler, and the least that one costs that passes on what it takes, at once or with a fiber that reads ahead. */
const channels = {
  "channel, one connection": FastCgiConnection.channel(handlers),
  "channel, nothing in it": Channel.identity<Bytes, never, void>(),
  "channel, a buffer": Channel.identity<Bytes, never, void>().pipe(Channel.bufferArray({ capacity: "unbounded" }))
}

/** Work that the library has no part in. */
const measureCalibration = () => {
  const request = encodeRequest(true)
  const into = new Uint8Array(4096)
  const count = Number(requests)
  const samples: Array<number> = []
  for (let round = 0; round < Number(rounds); round++) {
    let written = 0
    const begin = process.hrtime.bigint()
    for (let i = 0; i < count; i++) written += work(request, into)
    samples.push(Number(process.hrtime.bigint() - begin) / count)
    if (written === 0) throw new Error("nothing was written")
  }
  return summary(samples)
}

const summary = (samples: Array<number>) => {
  samples.sort((a, b) => a - b)
  return { least: samples[0]!, median: samples[samples.length >> 1]! }
}

const found: Record<string, ReturnType<typeof summary>> = {}

const print = async (
  label: string,
  measure: () => ReturnType<typeof summary> | Promise<ReturnType<typeof summary>>
) => {
  if (!label.includes(only)) return
  const { least, median } = found[label] = await measure()
  if (json) return
  console.log(
    `${label.padEnd(36)} ${least.toFixed(0).padStart(6)} ns least ${median.toFixed(0).padStart(6)} ns median`
  )
}

for (const [name, app] of Object.entries({ ...apps, ...appsInTurns })) {
  const scope = Scope.makeUnsafe()
  const { accept } = await Effect.runPromise(Scope.provide(serveInMemory(app), scope))
  for (const keepConnection of [true, false]) {
    await print(
      `${name}, ${keepConnection ? "one connection" : "a connection a request"}`,
      () => name in appsInTurns ? measureInTurns(accept, keepConnection) : measure(accept, keepConnection)
    )
  }
  await Effect.runPromise(Scope.close(scope, Exit.void))
}
for (const [name, channel] of Object.entries(channels)) {
  await print(name, () => Effect.runPromise(measureChannel(channel)))
}
await print("calibration", measureCalibration)
if (json) console.log(JSON.stringify(found))
process.exit()
