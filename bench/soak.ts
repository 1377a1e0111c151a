/**
 * `npm run soak`: mixed traffic at full speed, through nginx and directly, against one server for half an hour. Every answer is
 * checked. Every so often all of it stops for a moment, to see whether the server is as it was before. README.md says more.
 */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { parseArgs } from "node:util"
import { onPath } from "../test/support/programs.ts"
import { compileGenerator, fastCgi, http, type Sample, type Workload } from "./harness/load.ts"
import { startNginx } from "./harness/nginx.ts"
import { probe, residentBytes, type Server } from "./harness/processes.ts"
import { count, median, text } from "./harness/report.ts"
import { startServer } from "./harness/run.ts"
import { hello, large } from "./servers/content.ts"
import { beRude, type Tally } from "./soak/rudePeers.ts"
import { type Quiet, verdict } from "./soak/verdict.ts"

const usage = `npm run soak -- [options]

  --minutes N   how long (30)
  --every N     seconds of load between two looks at the server (30, or a fifth of all)
  --json FILE   also write what was seen to FILE

Exits with 1 when something was answered wrongly, or grew.
`

const { values: options } = parseArgs({
  options: {
    minutes: { type: "string", default: "30" },
    every: { type: "string" },
    json: { type: "string" },
    help: { type: "boolean", default: false }
  }
})

const total = Number(options.minutes) * 60
const every = Math.max(1, Number(options.every ?? Math.min(30, total / 3)))

const getHello = { path: "/bench/hello", body: 0, expect: { body: hello }, multiplex: 1, keepConnection: true } as const
const stream = { ...getHello, path: "/bench/stream", expect: { bytes: large.length } } as const
const upload = {
  ...getHello,
  path: "/bench/upload",
  body: large.length,
  expect: { body: String(large.length) }
} as const

const direct: ReadonlyArray<Workload> = [
  { name: "kept", ...getHello, connections: 8 },
  { name: "fresh", ...getHello, connections: 4, keepConnection: false },
  { name: "multiplexed", ...getHello, connections: 2, multiplex: 16 },
  { name: "uploads", ...upload, connections: 2 },
  { name: "uploads, multiplexed", ...upload, connections: 1, multiplex: 4 },
  { name: "streams", ...stream, connections: 2 }
]

/** Behind nginx; the port of the second kind has connections that are not kept. */
const browsers: ReadonlyArray<Workload> = [
  { name: "nginx kept", ...getHello, connections: 8 },
  { name: "nginx fresh", ...getHello, connections: 4, keepConnection: false },
  { name: "nginx uploads", ...upload, connections: 2 },
  { name: "nginx streams", ...stream, connections: 2 }
]

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds))

const descriptors = (pid: number): number => Fs.readdirSync(`/proc/${pid}/fd`).length

/** What the server has in use when its connections have gone, for which it has 20 seconds. */
const look = async (server: Server, expected: number): Promise<Quiet> => {
  const until = performance.now() + 20_000
  while (descriptors(server.pid) > expected && performance.now() < until) await pause(50)
  const { heapUsed } = await server.memory()
  return { heap: heapUsed, resident: residentBytes(server.pid), descriptors: descriptors(server.pid) }
}

interface Kind {
  readonly samples: Array<Sample>
}

const report = (kinds: ReadonlyMap<string, Kind>, tallies: ReadonlyMap<string, Array<Tally>>): string => {
  const most = (samples: ReadonlyArray<Sample>, name: "p99" | "p999") =>
    Math.max(...samples.map(({ latency }) => latency[name])) / 1000
  return text([
    ["traffic", "answered", "wrong", "p50 ms", "p99.9 ms, median", "p99.9 ms, most"],
    ...Array.from(kinds, ([name, { samples }]) => [
      name,
      count(samples.reduce((sum, { requests }) => sum + requests, 0)),
      `${samples.reduce((sum, { errors }) => sum + errors, 0)}`,
      (median(samples.map(({ latency }) => latency.p50)) / 1000).toFixed(2),
      (median(samples.map(({ latency }) => latency.p999)) / 1000).toFixed(1),
      most(samples, "p999").toFixed(1)
    ]),
    ...Array.from(tallies, ([name, all]) => [
      name,
      count(all.reduce((sum, { done }) => sum + done, 0)),
      `${all.reduce((sum, { complaints }) => sum + complaints.length, 0)}`,
      "",
      "",
      ""
    ])
  ])
}

const quietText = ({ descriptors, heap, resident }: Quiet): string =>
  `heap ${(heap / 1e6).toFixed(1)} MB, RSS ${(resident / 1e6).toFixed(0)} MB, ${descriptors} descriptors`

const main = async (): Promise<void> => {
  const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-fastcgi-soak-"))
  const running: Array<Server> = []
  try {
    const wrk = onPath("wrk")
    const nginxProgram = onPath("nginx")
    if (wrk === undefined || nginxProgram === undefined) throw new Error("needs nginx and wrk")
    const generator = await compileGenerator()
    const server = await startServer(
      "fastCgiHttpServer",
      folder,
      { generator, wrk, nginx: nginxProgram, go: undefined },
      "hello",
      probe
    )
    running.push(server)
    await pause(200)
    const before = await look(server, descriptors(server.pid))
    console.log(`before: ${quietText(before)}`)
    const upstream = { name: "app", socket: server.socket, protocol: "fastcgi" as const }
    const nginx = await startNginx(nginxProgram, Fs.mkdtempSync(Path.join(folder, "nginx-")), [
      { ...upstream, keepConnection: true },
      { ...upstream, keepConnection: false }
    ], "1s")
    running.push(nginx.server)

    const kinds = new Map([...direct, ...browsers].map(({ name }) => [name, { samples: [] as Array<Sample> }]))
    const tallies = new Map<string, Array<Tally>>()
    const quiet: Array<Quiet> = []
    const complaints = new Set<string>()
    const duration = { seconds: every, warmUp: 0 }
    const begin = performance.now()
    while (performance.now() - begin < total * 1000) {
      const load = async (workload: Workload, sample: Promise<Sample>): Promise<void> => {
        const taken = await sample
        kinds.get(workload.name)!.samples.push(taken)
        if (taken.errors > 0) complaints.add(`${workload.name}: ${taken.complaint}`)
        if (taken.requests === 0) complaints.add(`${workload.name}: nothing was answered`)
      }
      const rude = beRude({ socket: server.socket, port: nginx.ports[0]! }, every)
      await Promise.all([
        ...direct.map((workload) => load(workload, fastCgi(generator, workload, server, duration))),
        ...browsers.map((workload) => {
          const port = nginx.ports[workload.keepConnection ? 0 : 1]!
          return load(workload, http(wrk, workload, { port, pid: server.pid }, duration))
        }),
        rude.then((ways) => {
          for (const [name, tally] of Object.entries(ways)) {
            tallies.set(name, [...tallies.get(name) ?? [], tally])
            for (const complaint of tally.complaints) complaints.add(`${name}: ${complaint}`)
          }
        })
      ])
      quiet.push(await look(server, before.descriptors))
      const minutes = ((performance.now() - begin) / 60_000).toFixed(1)
      console.log(`${minutes} min: ${quietText(quiet.at(-1)!)}`)
    }
    console.log(`\n${report(kinds, tallies)}`)
    const said = server.complaint()
    const wrong = [
      ...complaints,
      ...verdict(before, quiet),
      ...said === "" ? [] : [`the server wrote to stderr: ${said.slice(0, 500)}`]
    ]
    for (const one of wrong) console.log(`WRONG ${one}`)
    console.log(wrong.length === 0 ? "\nnothing was answered wrongly, and nothing grew" : "")
    if (wrong.length > 0) process.exitCode = 1
    if (options.json !== undefined) {
      const found = { before, quiet, kinds: Object.fromEntries(kinds), tallies: Object.fromEntries(tallies), wrong }
      Fs.writeFileSync(options.json, JSON.stringify(found, null, 2))
    }
  } finally {
    for (const server of running.toReversed()) await server.stop()
    Fs.rmSync(folder, { recursive: true, force: true })
  }
}

if (options.help) console.log(usage)
else await main()
