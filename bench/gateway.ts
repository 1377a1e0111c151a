/**
 * What a request costs a gateway: `npm run bench:gateway`. `FastCgiGateway` in NodeHttpServer, in front of the app, beside
 * NodeHttpServer that answers with the same app itself. The CPU of the process that speaks HTTP counts, the application's does not.
 *
 *     npm run bench:gateway -- --starts 9 --path /bench/download --requests 1000
 *     npm run bench:gateway -- --before ../before    # and the gateway of another tree that is built
 */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { parseArgs } from "node:util"
import { cpuSeconds, output, type Server, start } from "./harness/processes.ts"
import { median } from "./harness/report.ts"

const { values: { before, path, requests, starts } } = parseArgs({
  options: {
    starts: { type: "string", default: "5" },
    requests: { type: "string", default: "20000" },
    path: { type: "string", default: "/bench/hello" },
    before: { type: "string" }
  }
})

/** An HTTP server that is measured. */
interface Front {
  readonly name: string
  readonly tree: string
  readonly server: string
  readonly args: ReadonlyArray<string>
  /** Microseconds of CPU a request, one a start. */
  readonly samples: Array<number>
}

const here = import.meta.dirname
const tree = Path.dirname(here)
const client = Path.join(here, "clients/http.ts")
const directory = Fs.mkdtempSync(Path.join(Os.tmpdir(), "bench-gateway-"))
const application = Path.join(directory, "fastcgi.sock")

const front = (name: string, from: string, server: string, ...args: ReadonlyArray<string>): Front => ({
  name,
  tree: from,
  server,
  args,
  samples: []
})

const fronts: ReadonlyArray<Front> = [
  front("NodeHttpServer that answers itself", tree, "nodeHttpServer.ts"),
  front("FastCgiGateway, a request a connection", tree, "gateway.ts", application, "1"),
  front("FastCgiGateway, 16 on a connection", tree, "gateway.ts", application, "16"),
  ...before === undefined ? [] : [
    front("before, a request a connection", Path.resolve(before), "gateway.ts", application, "1"),
    front("before, 16 on a connection", Path.resolve(before), "gateway.ts", application, "16")
  ]
]

const load = (socket: string) => output(process.execPath, [client, socket, path, requests])

const measure = async ({ args, samples, server, tree }: Front): Promise<void> => {
  const socket = Path.join(directory, "http.sock")
  const running: Server = await start(process.execPath, [Path.join(tree, "bench/servers", server), socket, ...args], {
    path: socket
  })
  await load(socket)
  const begin = cpuSeconds(running.pid)
  await load(socket)
  samples.push((cpuSeconds(running.pid) - begin) * 1e6 / Number(requests))
  await running.stop()
  Fs.rmSync(socket, { force: true })
  if (running.complaint() !== "") console.error(running.complaint())
}

const report = ({ name, samples }: Front): string => {
  const ratios = samples.map((sample, i) => sample / fronts[0]!.samples[i]!)
  return [
    name.padEnd(42),
    median(samples).toFixed(1).padStart(6),
    `${Math.min(...samples).toFixed(1)}–${Math.max(...samples).toFixed(1)}`.padStart(12),
    median(ratios).toFixed(2).padStart(6),
    `${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}`.padStart(10)
  ].join(" ")
}

const app = await start(process.execPath, [Path.join(here, "servers/fastCgiHttpServer.ts"), application], {
  path: application
})
for (let round = 0; round < Number(starts); round++) {
  // There and back, so that a machine that gets busier does so for all of them.
  for (const front of round % 2 === 0 ? fronts : fronts.toReversed()) await measure(front)
}
await app.stop()
Fs.rmSync(directory, { recursive: true })

console.log(`${"CPU µs a request".padEnd(42)} median        range  ratio      range`)
for (const front of fronts) console.log(report(front))
