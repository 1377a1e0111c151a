/**
 * What is compared with what: servers, and what they are asked to do. README.md says what each is for.
 */
import type { Workload } from "./harness/load.ts"
import { hello, large } from "./servers/content.ts"

export interface Target {
  readonly name: string
  /** The file of servers/. */
  readonly server: string
  readonly protocol: "fastcgi" | "http"
  /** Whether its connections are kept from one request to the next. */
  readonly keepConnection: boolean
  /** The only workloads that it is measured in. */
  readonly takes?: (workload: Workload) => boolean
}

const fastcgi = (name: string, server: string, more: Partial<Target> = {}): Target => ({
  name,
  server,
  protocol: "fastcgi",
  keepConnection: true,
  ...more
})

const http = (name: string, server: string, more: Partial<Target> = {}): Target => ({
  ...fastcgi(name, server, more),
  protocol: "http"
})

/** The first target of a group is the one that ratios are to. */
export interface Group {
  readonly name: string
  readonly title: string
  readonly through: "direct" | "nginx"
  readonly targets: ReadonlyArray<Target>
  readonly workloads: ReadonlyArray<Workload>
}

const getHello = {
  path: "/bench/hello",
  body: 0,
  expect: { body: hello },
  connections: 16,
  multiplex: 1,
  keepConnection: true
} as const

const fewLarge = {
  body: 0,
  expect: { bytes: large.length },
  connections: 4,
  multiplex: 1,
  keepConnection: true
} as const

const upload = {
  ...fewLarge,
  path: "/bench/upload",
  body: large.length,
  expect: { body: String(large.length) }
} as const

const floor = fastcgi("floor", "floor")
const handler = fastcgi("effect-fastcgi handler", "fastCgiServer")
const router = fastcgi("effect-fastcgi HttpRouter", "fastCgiHttpServer")
const nodeHttpServer = http("NodeHttpServer HttpRouter", "nodeHttpServer")
const nodeHttp = http("node:http", "nodeHttp")

/** A workload with a generator that sleeps until there is something to read, and with one that does not. */
const both = (workload: Workload): ReadonlyArray<Workload> => [
  workload,
  { ...workload, name: `${workload.name}, polling`, polling: true }
]

const isHello = ({ path }: Workload): boolean => path === getHello.path

const serveNode = fastcgi("effect-fastcgi serveNode", "serveNode", { takes: isHello })

const keptName = "hello, 16 connections kept"

export const groups: ReadonlyArray<Group> = [
  {
    name: "nginx",
    title: "Behind nginx with one worker; ratios to Effect's NodeHttpServer with the same routes",
    through: "nginx",
    targets: [
      nodeHttpServer,
      router,
      handler,
      nodeHttp,
      serveNode,
      { ...floor, takes: isHello }
    ],
    workloads: [
      { name: "nginx hello, 32 clients, upstream kept", ...getHello, connections: 32 },
      { name: "nginx 1 MiB POST, 4 clients", ...upload },
      { name: "nginx 1 MiB reply, 4 clients", ...fewLarge, path: "/bench/download" }
    ]
  },
  {
    name: "nginx's default",
    title: "Behind nginx, a connection a request on both sides; ratios to Effect's NodeHttpServer with the same routes",
    through: "nginx",
    targets: [
      ...[nodeHttpServer, router, handler, nodeHttp, serveNode],
      ...[fastcgi("node-fastcgi", "nodeFastcgi"), floor]
    ].map((one) => ({ ...one, keepConnection: false })),
    workloads: [{ name: "nginx hello, 32 clients, upstream not kept", ...getHello, connections: 32 }]
  },
  {
    name: "direct",
    title: "FastCGI over a UNIX socket, no web server; ratios to a hand-written loop over node:net",
    through: "direct",
    targets: [
      floor,
      handler,
      router,
      fastcgi("Go net/http/fcgi", "goFcgi", { takes: ({ name }) => name === keptName }),
      fastcgi("node-fastcgi", "nodeFastcgi", {
        keepConnection: false,
        takes: ({ keepConnection, polling }) => !keepConnection && polling !== true
      })
    ],
    workloads: [
      ...both({ name: keptName, ...getHello }),
      { name: "hello, 16 connections, the first two seconds", ...getHello, fromStart: 2 },
      ...both({ name: "hello, 4 connections × 16 multiplexed", ...getHello, connections: 4, multiplex: 16 }),
      ...both({ name: "hello, a connection a request, 16 at a time", ...getHello, keepConnection: false }),
      { name: "1 MiB POST, 4 connections", ...upload },
      { name: "1 MiB reply, 4 connections", ...fewLarge, path: "/bench/download" },
      { name: "1 MiB reply as 16 × 64 KiB stream, 4 connections", ...fewLarge, path: "/bench/stream" }
    ]
  }
]

/** How the cost of a request grows with how many there are at once. */
export interface Sweep {
  readonly name: string
  readonly title: string
  /** What grows. */
  readonly axis: string
  readonly targets: ReadonlyArray<Target>
  readonly points: ReadonlyArray<number>
  readonly workload: (point: number) => Workload
}

export const sweeps: ReadonlyArray<Sweep> = [
  {
    name: "busy connections",
    title: "Hello on busy connections, one request at a time on each",
    axis: "connections",
    targets: [floor, handler, router],
    points: [1, 10, 100, 1000, 10_000],
    workload: (connections) => ({ name: `${connections} connections`, ...getHello, connections })
  },
  {
    name: "ids on one connection",
    title: "Hello, that many requests at once on one connection",
    axis: "requests at once",
    targets: [floor, handler, router],
    points: [1, 16, 64, 256, 1000],
    workload: (multiplex) => ({ name: `${multiplex} ids`, ...getHello, connections: 1, multiplex })
  }
]
