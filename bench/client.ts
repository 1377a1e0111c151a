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
import { type CpuTimes, output, start } from "./harness/processes.ts"
import { inTurns, type Subject, table } from "./harness/turns.ts"

const { values: { before, requests, starts } } = parseArgs({
  options: {
    starts: { type: "string", default: "5" },
    requests: { type: "string", default: "20000" },
    before: { type: "string" }
  }
})

/** A client that is measured: which one, from which tree. */
interface Client extends Subject {
  readonly kind: "kept" | "multiplexed" | "undici"
  readonly tree: string
}

const here = import.meta.dirname
const tree = Path.dirname(here)
const text = Fs.readFileSync(Path.join(here, "clients/client.ts"), "utf8")
const directory = Fs.mkdtempSync(Path.join(Os.tmpdir(), "bench-client-"))
const fastCgi = Path.join(directory, "fastcgi.sock")
const http = Path.join(directory, "http.sock")

const fastCgiClients = (name: string, tree: string): ReadonlyArray<Client> => [
  { name: `${name}, 16 connections`, kind: "kept", tree },
  { name: `${name}, 16 on one connection`, kind: "multiplexed", tree }
]

const clients: ReadonlyArray<Client> = [
  { name: "undici, 16 connections", kind: "undici", tree },
  ...fastCgiClients("FastCgiHttpClient", tree),
  ...before === undefined ? [] : fastCgiClients("before", Path.resolve(before))
]

const apps = [
  await start(process.execPath, [Path.join(here, "servers/fastCgiHttpServer.ts"), fastCgi], { path: fastCgi }),
  await start(process.execPath, [Path.join(here, "servers/nodeHttpServer.ts"), http], { path: http })
]
const costs = await inTurns(clients, Number(starts), async ({ kind, tree }) => {
  const socket = kind === "undici" ? http : fastCgi
  const args = ["--input-type=module-typescript", "--eval", text, "--", kind, socket, requests]
  // In the directory of the tree, so that its packages are found.
  return JSON.parse(await output("env", ["-C", tree, process.execPath, ...args])) as CpuTimes
})
for (const app of apps) await app.stop()
Fs.rmSync(directory, { recursive: true })

console.log(table(costs))
