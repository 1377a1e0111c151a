/**
 * What connections and requests weigh in a server: on real sockets, after garbage collections.
 */
import { begin, close, open, type Protocol } from "./hold.ts"
import { probe, residentBytes } from "./processes.ts"
import { median, type Table } from "./report.ts"
import { startServer, type Tools } from "./run.ts"

export interface Weight {
  readonly target: string
  /** Bytes of live heap of a connection that has carried one request. */
  readonly connection: number
  /** Bytes of live heap, and outside of it, that a request in flight adds to its connection. */
  readonly request: number
  readonly requestOutside: number
  /** Bytes of resident memory of a connection that has carried one request, among 10,000 of them. */
  readonly resident: number
  /** Resident memory with so many connections, in bytes. */
  readonly curve: ReadonlyArray<readonly [connections: number, bytes: number]>
}

const servers: ReadonlyArray<readonly [target: string, server: string, protocol: Protocol]> = [
  ["floor", "floor", "fastcgi"],
  ["effect-fastcgi handler", "fastCgiServer", "fastcgi"],
  ["effect-fastcgi HttpRouter", "fastCgiHttpServer", "fastcgi"],
  ["NodeHttpServer HttpRouter", "nodeHttpServer", "http"],
  ["node:http", "nodeHttp", "http"]
]

const live = ({ arrayBuffers, external, heapUsed }: NodeJS.MemoryUsage) => ({
  heap: heapUsed,
  outside: Math.max(external, arrayBuffers)
})

/** Waits until the server has noticed that its connections were closed. */
const settle = () => new Promise((resolve) => setTimeout(resolve, 300))

const weighHeap = async (server: string, protocol: Protocol, folder: string, tools: Tools) => {
  const count = 2000
  const { memory, socket, stop } = await startServer(server, folder, tools, "hello", probe)
  try {
    // What the first connections leave behind for good is not what a connection weighs.
    for (let i = 0; i < 2; i++) await close(await open(socket, protocol, count))
    await settle()
    const before = live(await memory())
    const connections = await open(socket, protocol, count)
    const idle = live(await memory())
    let busy = idle
    // The floor answers everything.
    if (server !== "floor") {
      await begin(socket, protocol, connections)
      busy = live(await memory())
    }
    await close(connections)
    return {
      connection: (idle.heap - before.heap) / count,
      request: (busy.heap - idle.heap) / count,
      requestOutside: (busy.outside - idle.outside) / count
    }
  } finally {
    await stop()
  }
}

const weighResident = async (server: string, protocol: Protocol, folder: string, tools: Tools) => {
  const { pid, socket, stop } = await startServer(server, folder, tools, "hello")
  const connections: Array<Awaited<ReturnType<typeof open>>[number]> = []
  try {
    // A server that has served, a few at a time; no garbage is collected by order.
    for (let i = 0; i < 200; i++) await close(await open(socket, protocol, 10))
    await settle()
    const curve: Array<readonly [number, number]> = [[0, residentBytes(pid)]]
    for (const count of [1000, 2500, 5000, 10_000]) {
      connections.push(...await open(socket, protocol, count - connections.length))
      curve.push([count, residentBytes(pid)])
    }
    return { curve, resident: (curve.at(-1)![1] - curve[0]![1]) / curve.at(-1)![0] }
  } finally {
    await close(connections)
    await stop()
  }
}

/** Each server in fresh processes, `starts` times, the medians. */
export const weigh = async (folder: string, tools: Tools, starts: number): Promise<ReadonlyArray<Weight>> => {
  const weights: Array<Weight> = []
  for (const [target, server, protocol] of servers) {
    const heaps: Array<Awaited<ReturnType<typeof weighHeap>>> = []
    const residents: Array<Awaited<ReturnType<typeof weighResident>>> = []
    for (let i = 0; i < starts; i++) {
      heaps.push(await weighHeap(server, protocol, folder, tools))
      residents.push(await weighResident(server, protocol, folder, tools))
    }
    weights.push({
      target,
      connection: median(heaps.map((one) => one.connection)),
      request: median(heaps.map((one) => one.request)),
      requestOutside: median(heaps.map((one) => one.requestOutside)),
      resident: median(residents.map((one) => one.resident)),
      curve: residents[0]!.curve.map(([count], at) => [count, median(residents.map((one) => one.curve[at]![1]))])
    })
  }
  return weights
}

const kilobytes = (bytes: number): string => (bytes / 1000).toFixed(1)

export const weightCells = (weights: ReadonlyArray<Weight>): Table => [
  [
    "server",
    "heap of an idle connection, KB",
    "heap of a request in flight, KB",
    "outside the heap, KB",
    "RSS an idle connection of 10,000, KB",
    "RSS with 10,000, MB"
  ],
  ...weights.map((one) => [
    one.target,
    kilobytes(one.connection),
    one.request === 0 ? "" : kilobytes(one.request),
    one.request === 0 ? "" : kilobytes(one.requestOutside),
    kilobytes(one.resident),
    (one.curve.at(-1)![1] / 1e6).toFixed(0)
  ])
]
