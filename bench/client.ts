/**
 * What a request costs the process that sends it: `npm run bench:client`. `FastCgiHttpClient` beside Effect's own HTTP client
 * over undici, each against the same app in a process of its own.
 *
 *     npm run bench:client -- --starts 9
 *     npm run bench:client -- --before ../before    # and the client of another tree that is built
 */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { parseArgs } from "node:util"
import { output, start } from "./harness/processes.ts"
import { median } from "./harness/report.ts"

const { values: { before, requests, starts } } = parseArgs({
  options: {
    starts: { type: "string", default: "5" },
    requests: { type: "string", default: "20000" },
    before: { type: "string" }
  }
})

/** Microseconds of CPU a request, and how long all of them took. */
interface Sample {
  readonly user: number
  readonly system: number
  readonly seconds: number
}

/** A client that is measured: which one, from which tree, against which app. */
interface Client {
  readonly name: string
  readonly kind: "kept" | "multiplexed" | "undici"
  readonly tree: string
  readonly samples: Array<Sample>
}

const here = import.meta.dirname
const tree = Path.dirname(here)
const text = Fs.readFileSync(Path.join(here, "clients/client.ts"), "utf8")
const directory = Fs.mkdtempSync(Path.join(Os.tmpdir(), "bench-client-"))
const fastCgi = Path.join(directory, "fastcgi.sock")
const http = Path.join(directory, "http.sock")

const client = (name: string, kind: Client["kind"], from: string): Client => ({ name, kind, tree: from, samples: [] })

const clients: ReadonlyArray<Client> = [
  client("undici, 16 connections", "undici", tree),
  client("FastCgiHttpClient, 16 connections", "kept", tree),
  client("FastCgiHttpClient, 16 on one connection", "multiplexed", tree),
  ...before === undefined ? [] : [
    client("before, 16 connections", "kept", Path.resolve(before)),
    client("before, 16 on one connection", "multiplexed", Path.resolve(before))
  ]
]

const measure = async (client: Client): Promise<void> => {
  const socket = client.kind === "undici" ? http : fastCgi
  const args = ["--input-type=module-typescript", "--eval", text, "--", client.kind, socket, requests]
  // In the directory of the tree, so that its packages are found.
  client.samples.push(JSON.parse(await output("env", ["-C", client.tree, process.execPath, ...args])) as Sample)
}

const total = ({ system, user }: Sample): number => user + system

const report = (client: Client): string => {
  const { samples } = client
  const ratios = samples.map((sample, i) => total(sample) / total(clients[0]!.samples[i]!))
  const cpu = samples.map(total)
  return [
    client.name.padEnd(42),
    median(cpu).toFixed(1).padStart(6),
    `${Math.min(...cpu).toFixed(1)}–${Math.max(...cpu).toFixed(1)}`.padStart(12),
    median(samples.map((sample) => sample.user)).toFixed(1).padStart(6),
    median(samples.map((sample) => sample.system)).toFixed(1).padStart(6),
    median(ratios).toFixed(2).padStart(6),
    `${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}`.padStart(10)
  ].join(" ")
}

const apps = [
  await start(process.execPath, [Path.join(here, "servers/fastCgiHttpServer.ts"), fastCgi], { path: fastCgi }),
  await start(process.execPath, [Path.join(here, "servers/nodeHttpServer.ts"), http], { path: http })
]
for (let round = 0; round < Number(starts); round++) {
  // There and back, so that a machine that gets busier does so for all of them.
  for (const client of round % 2 === 0 ? clients : clients.toReversed()) await measure(client)
}
for (const app of apps) await app.stop()
Fs.rmSync(directory, { recursive: true })

console.log(`${"CPU µs a request".padEnd(42)} median        range   user system  ratio      range`)
for (const client of clients) console.log(report(client))
