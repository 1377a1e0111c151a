/**
 * What an access log and the like cost a request: `npm run bench:watched`. A server without any of them and a server with each are
 * started together, several times, and asked in turns with FastCGI on 16 connections that are kept, and through nginx. What counts is
 * the CPU of the process for a request, user and system.
 *
 *     npm run bench:watched -- --starts 5 --only combined,json
 *     npm run bench:watched -- --before ../before    # and those of another tree
 */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { parseArgs } from "node:util"
import { onPath } from "../test/support/programs.ts"
import { compileGenerator, fastCgi, http, type Workload } from "./harness/load.ts"
import { startNginx } from "./harness/nginx.ts"
import { type Server, start, withPriority } from "./harness/processes.ts"
import { median } from "./harness/report.ts"
import { hello } from "./servers/content.ts"

const { values: { before, only, priority, rounds, seconds, starts } } = parseArgs({
  options: {
    starts: { type: "string", default: "5" },
    rounds: { type: "string", default: "4" },
    seconds: { type: "string", default: "1" },
    only: { type: "string", default: "combined,json,metrics,slow,status" },
    before: { type: "string" },
    priority: { type: "boolean", default: false }
  }
})

/** A server, and who watches its requests: nobody, one of them, or several with a plus sign between. */
interface Subject {
  readonly name: string
  readonly tree: string
  readonly watchers: ReadonlyArray<string>
}

const tree = Path.dirname(import.meta.dirname)
const watched = only.split(",")
const of = (tree: string, where: string): ReadonlyArray<Subject> =>
  watched.map((name) => ({ name: `${name}${where}`, tree, watchers: name.split("+") }))

const subjects: ReadonlyArray<Subject> = [
  { name: "without", tree, watchers: [] },
  ...of(tree, ""),
  ...before === undefined ? [] : of(Path.resolve(before), ", before")
]

const workload: Workload = {
  name: "hello",
  path: "/bench/hello",
  connections: 16,
  multiplex: 1,
  keepConnection: true,
  body: 0,
  expect: { body: hello },
  polling: true
}

if (priority) withPriority.chrt = onPath("chrt")
const generator = await compileGenerator()
const nginx = onPath("nginx")
const wrk = onPath("wrk")
const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "watched-"))

/** The CPU of each server for a request in one start, in microseconds. */
type Costs = ReadonlyArray<number>

/** Measures all of them in turns, there and back. */
const inTurns = async (count: number, measure: (index: number) => Promise<number>): Promise<Costs> => {
  const sums = Array.from({ length: count }, () => 0)
  for (let round = 0; round < Number(rounds); round++) {
    const order = sums.map((_, index) => index)
    for (const index of round % 2 === 0 ? order : order.toReversed()) sums[index]! += await measure(index)
  }
  return sums.map((sum) => sum / Number(rounds))
}

const direct: Array<Costs> = []
const throughNginx: Array<Costs> = []
for (let index = 0; index < Number(starts); index++) {
  const running: Array<Server> = []
  try {
    const servers = await Promise.all(subjects.map(async ({ tree, watchers }, at) => {
      const socket = Path.join(folder, `${index}-${at}.sock`)
      const server = Path.join(tree, "bench/servers/watchedServer.ts")
      return { ...await start(process.execPath, [server, socket, ...watchers], { path: socket }), socket }
    }))
    running.push(...servers)
    const time = { seconds: Number(seconds), warmUp: 0 }
    for (const server of servers) await fastCgi(generator, workload, server, { ...time, seconds: 2 })
    const checked = ({ complaint, cpu, errors }: { complaint: string; cpu: number; errors: number }) => {
      if (errors > 0) throw new Error(complaint)
      return cpu
    }
    direct.push(
      await inTurns(servers.length, async (at) => checked(await fastCgi(generator, workload, servers[at]!, time)))
    )
    if (nginx !== undefined && wrk !== undefined) {
      const { ports, server } = await startNginx(
        nginx,
        Fs.mkdtempSync(Path.join(folder, "nginx-")),
        servers.map(({ socket }, at) => ({
          name: subjects[at]!.name,
          socket,
          protocol: "fastcgi",
          keepConnection: true
        }))
      )
      running.push(server)
      throughNginx.push(
        await inTurns(
          servers.length,
          async (at) => checked(await http(wrk, workload, { port: ports[at]!, pid: servers[at]!.pid }, time))
        )
      )
    }
  } finally {
    await Promise.all(running.map((server) => server.stop()))
    for (const file of Fs.readdirSync(folder)) Fs.rmSync(Path.join(folder, file), { recursive: true, force: true })
  }
}
Fs.rmSync(folder, { recursive: true })

const print = (title: string, all: ReadonlyArray<Costs>): void => {
  if (all.length === 0) return
  console.log(`${title}: CPU of the server for a request, medians of ${all.length} starts`)
  for (const [at, { name }] of subjects.entries()) {
    const ratios = all.map((costs) => costs[at]! / costs[0]!)
    const range = `${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}`
    console.log(
      `  ${name.padEnd(20)} ${median(all.map((costs) => costs[at]!)).toFixed(2).padStart(6)} µs` +
        (at === 0 ? "" : `, ${median(ratios).toFixed(3)} times as much (${range})`)
    )
  }
}

print("FastCGI, 16 connections kept", direct)
print("through nginx, upstream kept", throughNginx)
