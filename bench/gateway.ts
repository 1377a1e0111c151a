/**
 * What a request costs a process that speaks HTTP in front of an application: `npm run bench:gateway`. `FastCgiGateway` in
 * NodeHttpServer beside NodeHttpServer that answers with the same app itself, NodeHttpServer that passes requests on to an HTTP
 * server with Effect's client over undici, and NodeHttpServer that does the least that asking a FastCGI application takes.
 *
 *     npm run bench:gateway -- --starts 9 --path /bench/download --requests 1000
 *     npm run bench:gateway -- --before ../before    # and the gateway of another tree that is built
 */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { parseArgs } from "node:util"
import { cpuTimes, output, type Server, start } from "./harness/processes.ts"
import { inTurns, type Subject, table } from "./harness/turns.ts"

const { values: { before, path, requests, starts } } = parseArgs({
  options: {
    starts: { type: "string", default: "5" },
    requests: { type: "string", default: "20000" },
    path: { type: "string", default: "/bench/hello" },
    before: { type: "string" }
  }
})

/** An HTTP server that is measured. */
interface Front extends Subject {
  readonly tree: string
  readonly server: string
  readonly args: ReadonlyArray<string>
}

const here = import.meta.dirname
const tree = Path.dirname(here)
const client = Path.join(here, "clients/http.ts")
const directory = Fs.mkdtempSync(Path.join(Os.tmpdir(), "bench-gateway-"))
const fastCgi = Path.join(directory, "fastcgi.sock")
const http = Path.join(directory, "http.sock")

const gateways = (name: string, tree: string): ReadonlyArray<Front> => [
  { name: `${name}, a request a connection`, tree, server: "gateway.ts", args: [fastCgi, "1"] },
  { name: `${name}, 16 on a connection`, tree, server: "gateway.ts", args: [fastCgi, "16"] }
]

const fronts: ReadonlyArray<Front> = [
  { name: "NodeHttpServer that answers itself", tree, server: "nodeHttpServer.ts", args: [] },
  { name: "a proxy over undici", tree, server: "undiciProxy.ts", args: [http] },
  // It knows one answer.
  ...path === "/bench/hello"
    ? [{ name: "the least: node:net, nothing parsed", tree, server: "netProxy.ts", args: [fastCgi] }]
    : [],
  ...gateways("FastCgiGateway", tree),
  ...before === undefined ? [] : gateways("before", Path.resolve(before))
]

const apps = [
  await start(process.execPath, [Path.join(here, "servers/fastCgiHttpServer.ts"), fastCgi], { path: fastCgi }),
  await start(process.execPath, [Path.join(here, "servers/nodeHttpServer.ts"), http], { path: http })
]
const costs = await inTurns(fronts, Number(starts), async ({ args, server, tree }) => {
  const socket = Path.join(directory, "front.sock")
  const load = () => output(process.execPath, [client, socket, path, requests])
  const front: Server = await start(process.execPath, [Path.join(tree, "bench/servers", server), socket, ...args], {
    path: socket
  })
  await load()
  const begin = cpuTimes(front.pid)
  await load()
  const end = cpuTimes(front.pid)
  await front.stop()
  Fs.rmSync(socket, { force: true })
  if (front.complaint() !== "") console.error(front.complaint())
  const perRequest = (seconds: number) => seconds * 1e6 / Number(requests)
  return { user: perRequest(end.user - begin.user), system: perRequest(end.system - begin.system) }
})
for (const app of apps) await app.stop()
Fs.rmSync(directory, { recursive: true })

console.log(table(costs, "undici"))
