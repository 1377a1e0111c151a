/**
 * What an access log and the like cost a request: `npm run bench:watched`. Each of them runs beside a server without, both are
 * asked at the same time, 100,000 requests a sample on 16 connections that are kept, and what counts is the CPU of the process
 * for a request, user and system.
 *
 *     npm run bench:watched -- --rounds 5 --only combined
 */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { compileGenerator } from "./harness/load.ts"
import { cpuSeconds, output, type Server, start } from "./harness/processes.ts"
import { hello } from "./servers/content.ts"

const { values: { only, requests, rounds } } = parseArgs({
  options: {
    only: { type: "string" },
    requests: { type: "string", default: "100000" },
    rounds: { type: "string", default: "5" }
  }
})

const server = fileURLToPath(new URL("servers/watchedServer.ts", import.meta.url))
const generator = await compileGenerator()
const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "watched-"))

interface Running extends Server {
  readonly socket: string
}

const begin = async (name: string, watchers: ReadonlyArray<string>): Promise<Running> => {
  const socket = Path.join(folder, `${name}.sock`)
  return { ...await start(process.execPath, [server, socket, ...watchers], { path: socket }), socket }
}

/** CPU of the server for a request, in microseconds. */
const measure = async ({ pid, socket }: Running, count: string): Promise<number> => {
  const before = cpuSeconds(pid)
  await output(generator, [
    ...["--unix", socket, "--uri", "/bench/hello?name=world&page=2", "--connections", "16"],
    ...["--requests", count, "--expect-body", hello]
  ])
  return (cpuSeconds(pid) - before) / Number(count) * 1e6
}

/** What a quarter of them is below: who else runs on the machine adds to them, and takes nothing away. */
const quarter = (numbers: ReadonlyArray<number>): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 4)]!

const median = (numbers: ReadonlyArray<number>): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!

for (const name of only?.split(",") ?? ["combined", "json", "metrics", "slow", "status"]) {
  const without = await begin("without", [])
  const watched = await begin(name, name.split("+"))
  for (const one of [without, watched, without, watched]) await measure(one, "20000")
  const plain: Array<number> = []
  const costs: Array<number> = []
  for (let round = 0; round < Number(rounds); round++) {
    const both = await Promise.all([measure(without, requests), measure(watched, requests)])
    plain.push(both[0])
    costs.push(both[1])
  }
  const [a, b] = [quarter(plain), quarter(costs)]
  console.log(
    `${name.padEnd(20)} ${b.toFixed(2)} µs, ${a.toFixed(2)} without: ${(b / a).toFixed(3)} times as much ` +
      `(of the medians ${(median(costs) / median(plain)).toFixed(3)})`
  )
  await without.stop()
  await watched.stop()
}
Fs.rmSync(folder, { recursive: true })
