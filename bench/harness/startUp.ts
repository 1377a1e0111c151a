/**
 * How long a minimal app takes from the start of its process until it accepts a connection: as run, with what V8 has compiled
 * kept from the last start, and as one file.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { rolldown } from "rolldown"
import { cpuSeconds, start } from "./processes.ts"
import { median, type Table } from "./report.ts"

/** Milliseconds. */
export interface StartUp {
  readonly name: string
  readonly least: number
  readonly median: number
  /** CPU of the process until then, all its threads. */
  readonly cpu: number
}

interface Way {
  readonly name: string
  readonly file: string
  readonly env?: Readonly<Record<string, string>>
}

const app = (name: string) => fileURLToPath(new URL(`../startUp/${name}.js`, import.meta.url))

/** What `npx rolldown MAIN --platform node --minify --file FILE` writes. */
const bundle = async (name: string, folder: string): Promise<string> => {
  const file = Path.join(folder, `${name}.mjs`)
  const made = await rolldown({ input: app(name), platform: "node" })
  await made.write({ file, format: "esm", codeSplitting: false, minify: true })
  await made.close()
  return file
}

const ways = async (folder: string): Promise<ReadonlyArray<Way>> => {
  const kept = { NODE_COMPILE_CACHE: Path.join(folder, "compiled") }
  const fastCgi = app("fastCgi")
  const nodeHttpServer = app("nodeHttpServer")
  const fastCgiBundle = await bundle("fastCgi", folder)
  const nodeHttpServerBundle = await bundle("nodeHttpServer", folder)
  return [
    { name: "NodeHttpServer, as run", file: nodeHttpServer },
    { name: "effect-fastcgi, as run", file: fastCgi },
    { name: "NodeHttpServer, compile cache", file: nodeHttpServer, env: kept },
    { name: "effect-fastcgi, compile cache", file: fastCgi, env: kept },
    { name: "NodeHttpServer, one file", file: nodeHttpServerBundle },
    { name: "effect-fastcgi, one file", file: fastCgiBundle },
    { name: "effect-fastcgi, one file, compile cache", file: fastCgiBundle, env: kept },
    { name: "node:http", file: app("nodeHttp") },
    { name: "node:net", file: app("floor") }
  ]
}

/** Each way in turns, so many times. */
export const startUp = async (folder: string, times: number): Promise<ReadonlyArray<StartUp>> => {
  const all = await ways(folder)
  const taken = all.map(() => [] as Array<number>)
  const used = all.map(() => [] as Array<number>)
  // The first time fills the caches of compiled code and of the system, and is not counted.
  for (let i = -1; i < times; i++) {
    for (const [at, { env, file }] of all.entries()) {
      const path = Path.join(folder, "start.sock")
      Fs.rmSync(path, { force: true })
      const begin = performance.now()
      // A cache that the environment of the benchmark names would be everybody's.
      const server = await start(process.execPath, [file, path], { path }, {
        every: 1,
        env: { NODE_COMPILE_CACHE: "", ...env }
      })
      const time = performance.now() - begin
      const cpu = cpuSeconds(server.pid) * 1000
      await server.stop()
      if (i < 0) continue
      taken[at]!.push(time)
      used[at]!.push(cpu)
    }
  }
  return all.map(({ name }, at) => ({
    name,
    least: Math.min(...taken[at]!),
    median: median(taken[at]!),
    cpu: median(used[at]!)
  }))
}

export const startUpCells = (all: ReadonlyArray<StartUp>): Table => [
  ["app", "ms, median", "ms, least", "CPU ms", "to NodeHttpServer as run"],
  ...all.map((one) => [
    one.name,
    one.median.toFixed(0),
    one.least.toFixed(0),
    one.cpu.toFixed(0),
    (one.median / all[0]!.median).toFixed(2)
  ])
]
