/**
 * `npm run bench`: effect-fastcgi against a raw socket server, node-fastcgi, Effect's NodeHttpServer and bare node:http. README.md
 * beside this file says what each figure means.
 */
import * as Fs from "node:fs"
import * as Http from "node:http"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { onPath } from "../test/support/programs.ts"
import type { Sample, Workload } from "./harness/load.ts"
import { compileGenerator, fastCgi, http } from "./harness/load.ts"
import { startNginx } from "./harness/nginx.ts"
import type { Server } from "./harness/processes.ts"
import { start } from "./harness/processes.ts"
import type { Line } from "./harness/report.ts"
import { summarize, table } from "./harness/report.ts"
import { hello, large } from "./servers/content.ts"

const usage = `npm run bench -- [options]

  --rounds N     rounds of each workload (5); every server is measured once in each
  --seconds N    of each measurement (3)
  --only NAME    workloads and servers whose name contains NAME (repeatable); the baseline always runs
  --quick        2 rounds of 1 second: to see that it works, not to compare
  --json FILE    also write every sample and every figure to FILE
  --list         print the names of workloads and servers
`

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string" },
    seconds: { type: "string" },
    only: { type: "string", multiple: true, default: [] },
    quick: { type: "boolean", default: false },
    json: { type: "string" },
    list: { type: "boolean", default: false },
    help: { type: "boolean", default: false }
  }
})

const rounds = Number(options.rounds ?? (options.quick ? 2 : 5))
const seconds = Number(options.seconds ?? (options.quick ? 1 : 3))

interface Target {
  readonly name: string
  /** The file of servers/. */
  readonly server: string
  readonly protocol: "fastcgi" | "http"
  /** Whether its connections are kept from one request to the next. */
  readonly keepConnection: boolean
}

const target = (name: string, server: string, protocol: Target["protocol"], keepConnection = true): Target => ({
  name,
  server,
  protocol,
  keepConnection
})

interface Group {
  readonly name: string
  readonly title: string
  readonly through: "direct" | "nginx"
  readonly targets: ReadonlyArray<Target>
  readonly workloads: ReadonlyArray<Workload>
}

const getHello = { path: "/bench/hello", body: 0, expect: { body: hello } } as const
const upload = { path: "/bench/upload", body: large.length, expect: { body: String(large.length) } } as const
const download = { path: "/bench/download", body: 0, expect: { bytes: large.length } } as const

/** The first target of a group is its baseline. */
const groups: ReadonlyArray<Group> = [
  {
    name: "direct",
    title: "FastCGI over a UNIX socket, no web server; ratios to a hand-written loop over node:net",
    through: "direct",
    targets: [
      target("floor", "floor", "fastcgi"),
      target("effect-fastcgi handler", "fastCgiServer", "fastcgi"),
      target("effect-fastcgi HttpRouter", "fastCgiHttpServer", "fastcgi"),
      target("node-fastcgi, not kept", "nodeFastcgi", "fastcgi", false)
    ],
    workloads: [
      { name: "hello, 16 connections kept", ...getHello, connections: 16, multiplex: 1, keepConnection: true },
      {
        name: "hello, 4 connections × 16 multiplexed",
        ...getHello,
        connections: 4,
        multiplex: 16,
        keepConnection: true
      },
      {
        name: "hello, a connection a request, 16 at a time",
        ...getHello,
        connections: 16,
        multiplex: 1,
        keepConnection: false
      },
      { name: "1 MiB POST, 4 connections", ...upload, connections: 4, multiplex: 1, keepConnection: true },
      { name: "1 MiB reply, 4 connections", ...download, connections: 4, multiplex: 1, keepConnection: true }
    ]
  },
  {
    name: "nginx",
    title: "Behind nginx with one worker; ratios to Effect's NodeHttpServer with the same routes",
    through: "nginx",
    targets: [
      target("NodeHttpServer HttpRouter", "nodeHttpServer", "http"),
      target("effect-fastcgi HttpRouter", "fastCgiHttpServer", "fastcgi"),
      target("effect-fastcgi HttpRouter, not kept", "fastCgiHttpServer", "fastcgi", false),
      target("effect-fastcgi handler", "fastCgiServer", "fastcgi"),
      target("node:http", "nodeHttp", "http"),
      target("effect-fastcgi serveNode", "serveNode", "fastcgi"),
      target("floor", "floor", "fastcgi"),
      target("node-fastcgi, not kept", "nodeFastcgi", "fastcgi", false)
    ],
    workloads: [
      { name: "nginx hello, 64 browsers", ...getHello, connections: 64, multiplex: 1, keepConnection: true },
      { name: "nginx 1 MiB POST, 4 browsers", ...upload, connections: 4, multiplex: 1, keepConnection: true },
      { name: "nginx 1 MiB reply, 4 browsers", ...download, connections: 4, multiplex: 1, keepConnection: true }
    ]
  }
]

/**
 * What is left of a group after --only. A name that fits workloads chooses among them, one that fits servers chooses among those,
 * and a name that fits neither leaves the group out.
 */
const chosen = (group: Group): Group => {
  if (options.only.length === 0) return group
  const fits = (name: string) => options.only.some((part) => name.toLowerCase().includes(part.toLowerCase()))
  const workloads = group.workloads.filter((workload) => fits(workload.name) || fits(group.name))
  const targets = group.targets.filter((one, index) => index > 0 && fits(one.name))
  if (workloads.length === 0 && targets.length === 0) return { ...group, workloads: [] }
  return {
    ...group,
    workloads: workloads.length === 0 ? group.workloads : workloads,
    targets: targets.length === 0 ? group.targets : [group.targets[0]!, ...targets]
  }
}

/** One request, checked to the byte: a server that answers wrongly is not measured. */
const verify = (workload: Workload, port: number): Promise<string | undefined> =>
  new Promise((resolve) => {
    const request = Http.request(
      { host: "127.0.0.1", port, path: workload.path, method: workload.body > 0 ? "POST" : "GET", agent: false },
      (response) => {
        const chunks: Array<Buffer> = []
        response.on("data", (chunk: Buffer) => chunks.push(chunk))
        response.on("error", (error) => resolve(error.message))
        response.on("end", () => {
          const body = Buffer.concat(chunks)
          const expected = "body" in workload.expect ? Buffer.from(workload.expect.body) : Buffer.from(large)
          resolve(
            response.statusCode === 200 && body.equals(expected)
              ? undefined
              : `status ${response.statusCode}, ${body.length} bytes, expected 200 and ${expected.length}`
          )
        })
      }
    )
    request.setTimeout(10_000, () => request.destroy(new Error("no answer in 10 seconds")))
    request.on("error", (error) => resolve(error.message))
    request.end(workload.body > 0 ? Buffer.alloc(workload.body, "x") : undefined)
  })

interface Result {
  readonly group: string
  readonly workload: string
  readonly lines: ReadonlyArray<Line>
  readonly samples: Record<string, ReadonlyArray<Sample>>
}

const serverFile = (name: string) => fileURLToPath(new URL(`./servers/${name}.ts`, import.meta.url))

interface Tools {
  readonly generator: string
  readonly wrk: string | undefined
  readonly nginx: string | undefined
}

/**
 * One workload on fresh processes: what a server has learnt from one workload must not slow down or speed up the next.
 */
const runWorkload = async (group: Group, workload: Workload, folder: string, tools: Tools): Promise<Result> => {
  const servers: Array<Server> = []
  // node-fastcgi closes a connection after its first reply, whatever it was asked, so nothing can be multiplexed on it.
  const wanted = group.targets.filter((one) => one.keepConnection || workload.multiplex === 1)
  const unmeasured = new Map<string, string>()
  try {
    const sockets = new Map<string, { readonly socket: string; readonly pid: number }>()
    for (const server of new Set(wanted.map((one) => one.server))) {
      const socket = Path.join(folder, `${server}.sock`)
      const kind = Path.basename(workload.path)
      const started = await start(process.execPath, [serverFile(server), socket, kind], { path: socket })
      servers.push(started)
      sockets.set(server, { socket, pid: started.pid })
    }
    let measured = wanted
    const ports = new Map<Target, number>()
    if (group.through === "nginx") {
      const upstreams = wanted.map((one) => ({ ...one, socket: sockets.get(one.server)!.socket }))
      const nginx = await startNginx(tools.nginx!, Fs.mkdtempSync(Path.join(folder, "nginx-")), upstreams)
      servers.push(nginx.server)
      for (const [index, one] of wanted.entries()) {
        ports.set(one, nginx.ports[index]!)
        const complaint = await verify(workload, nginx.ports[index]!)
        if (complaint !== undefined) unmeasured.set(one.name, complaint)
      }
      measured = wanted.filter((one) => !unmeasured.has(one.name))
    }
    const samples = new Map(measured.map((one) => [one, [] as Array<Sample>]))
    for (let round = 0; round < rounds; round++) {
      // There and back, so that a machine that slows down or speeds up does so for everyone.
      for (const one of round % 2 === 0 ? measured : [...measured].reverse()) {
        const { pid, socket } = sockets.get(one.server)!
        samples.get(one)!.push(
          group.through === "direct"
            ? await fastCgi(
              tools.generator,
              one.keepConnection ? workload : { ...workload, keepConnection: false },
              { socket, pid },
              seconds
            )
            : await http(tools.wrk!, workload, { port: ports.get(one)!, pid }, seconds)
        )
      }
    }
    const lines = summarize(measured.map((one) => ({ target: one.name, samples: samples.get(one)! })))
    console.log(`\n${workload.name}\n${table(lines)}`)
    for (const [name, complaint] of unmeasured) console.log(`${name}: not measured: ${complaint}`)
    if (unmeasured.size > 0) process.exitCode = 1
    return {
      group: group.name,
      workload: workload.name,
      lines,
      samples: Object.fromEntries(measured.map((one) => [one.name, samples.get(one)!]))
    }
  } finally {
    for (const server of servers.reverse()) await server.stop()
    // What was killed has not removed its socket.
    for (const file of Fs.readdirSync(folder)) {
      if (file.endsWith(".sock")) Fs.rmSync(Path.join(folder, file))
    }
  }
}

const runGroup = async (group: Group, folder: string, tools: Tools): Promise<ReadonlyArray<Result>> => {
  if (group.workloads.length === 0) return []
  console.log(`\n# ${group.title}`)
  if (group.through === "nginx" && (tools.nginx === undefined || tools.wrk === undefined)) {
    console.log("left out: needs nginx and wrk")
    return []
  }
  const results: Array<Result> = []
  for (const workload of group.workloads) results.push(await runWorkload(group, workload, folder, tools))
  return results
}

if (options.help) {
  console.log(usage)
} else if (options.list) {
  for (const group of groups) {
    console.log(`${group.name}\n  workloads: ${group.workloads.map((workload) => workload.name).join("; ")}`)
    console.log(`  servers: ${group.targets.map((one) => one.name).join("; ")}`)
  }
} else {
  const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-fastcgi-bench-"))
  try {
    const tools = { generator: await compileGenerator(), wrk: onPath("wrk"), nginx: onPath("nginx") }
    console.log(`Node ${process.version}, ${Os.cpus().length} cores, ${rounds} rounds of ${seconds} s`)
    const results: Array<Result> = []
    for (const group of groups) results.push(...await runGroup(chosen(group), folder, tools))
    if (options.json !== undefined) {
      Fs.writeFileSync(options.json, JSON.stringify({ node: process.version, rounds, seconds, results }, null, 2))
    }
  } finally {
    Fs.rmSync(folder, { recursive: true, force: true })
  }
}
