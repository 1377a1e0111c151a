/**
 * One workload on every server that is compared, over several starts: each start has fresh processes, and so has each workload,
 * for what a server has learnt from one workload must not slow down or speed up the next. Starts of the same build differ more
 * than measurements of one process do.
 */
import * as Fs from "node:fs"
import * as Http from "node:http"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import type { Group, Target } from "../cases.ts"
import { large } from "../servers/content.ts"
import type { Sample, Workload } from "./load.ts"
import { fastCgi, http } from "./load.ts"
import { startNginx } from "./nginx.ts"
import type { Server } from "./processes.ts"
import { start } from "./processes.ts"
import type { Series } from "./report.ts"

/** Programs of the machine; a server that needs one that is not there is left out. */
export interface Tools {
  readonly generator: string
  readonly wrk: string | undefined
  readonly nginx: string | undefined
  /** The compiled server in Go. */
  readonly go: string | undefined
}

/** How much is measured. */
export interface Plan {
  /** How often every server is started. */
  readonly starts: number
  /** Rounds of load on each server of a start before the ones that are measured. */
  readonly warmUp: number
  /** Measurements of each server in each start. */
  readonly rounds: number
  /**
   * How long a round loads one server while the others wait. After some eight seconds without a request V8 throws away code and
   * lowers its limits, and the seconds after that cost more: so all servers of a workload together must take less.
   */
  readonly seconds: number
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

/** Starts a server of servers/ on a socket of `folder`, and waits until it accepts. */
export const startServer = async (
  name: string,
  folder: string,
  tools: Tools,
  kind: string,
  nodeArgs: ReadonlyArray<string> = []
): Promise<Server & { readonly socket: string }> => {
  const socket = Path.join(folder, `${name}.sock`)
  // What was killed has not removed its socket.
  Fs.rmSync(socket, { force: true })
  const file = fileURLToPath(new URL(`../servers/${name}.ts`, import.meta.url))
  const server = name === "goFcgi"
    ? await start(tools.go!, [socket], { path: socket })
    : await start(process.execPath, [...nodeArgs, file, socket, kind], { path: socket })
  return { ...server, socket }
}

/** What is measured of a server, and what keeps it from being measured. */
export interface Measured {
  readonly series: ReadonlyArray<Series>
  readonly unmeasured: ReadonlyMap<string, string>
}

/** There in one start and back in the next, so that a machine that slows down or speeds up does so for everyone. */
const turns = <A>(all: ReadonlyArray<A>, index: number): ReadonlyArray<A> => index % 2 === 0 ? all : all.toReversed()

/** Measures the workload on all targets of the group that can take it. */
export const runWorkload = async (
  group: Group,
  workload: Workload,
  folder: string,
  tools: Tools,
  plan: Plan
): Promise<Measured> => {
  // What closes a connection after its first reply, whatever it was asked, can have nothing multiplexed on it.
  const targets = group.targets.filter((one) =>
    (one.keepConnection || workload.multiplex === 1) && (one.server !== "goFcgi" || tools.go !== undefined) &&
    (one.takes === undefined || one.takes(workload))
  )
  const unmeasured = new Map<string, string>()
  const samples = new Map(targets.map((one) => [one, [] as Array<Array<Sample>>]))
  const kind = Path.basename(workload.path)
  const load = (
    one: Target,
    server: { readonly pid: number; readonly socket: string },
    port: number | undefined,
    seconds: number
  ) => {
    const duration = { seconds, warmUp: 0 }
    return port === undefined
      ? fastCgi(
        tools.generator,
        one.keepConnection ? workload : { ...workload, keepConnection: false },
        server,
        duration
      )
      : http(tools.wrk!, workload, { port, pid: server.pid }, duration)
  }

  /** All servers of one start, loaded in turns. */
  const warm = async (index: number): Promise<void> => {
    const servers: Array<Server> = []
    try {
      const names = [...new Set(targets.map((one) => one.server))]
      const started = await Promise.all(turns(names, index).map((name) => startServer(name, folder, tools, kind)))
      servers.push(...started)
      const of = new Map(turns(names, index).map((name, at) => [name, started[at]!]))
      const ports = new Map<Target, number>()
      if (group.through === "nginx") {
        const upstreams = targets.map((one) => ({ ...one, socket: of.get(one.server)!.socket }))
        const nginx = await startNginx(tools.nginx!, Fs.mkdtempSync(Path.join(folder, "nginx-")), upstreams, "60s")
        servers.push(nginx.server)
        for (const [at, one] of targets.entries()) {
          ports.set(one, nginx.ports[at]!)
          const complaint = await verify(workload, nginx.ports[at]!)
          if (complaint !== undefined) unmeasured.set(one.name, complaint)
        }
      }
      const measured = targets.filter((one) => !unmeasured.has(one.name))
      for (const one of measured) samples.get(one)!.push([])
      for (let round = -plan.warmUp; round < plan.rounds; round++) {
        for (const one of turns(measured, index)) {
          const sample = await load(one, of.get(one.server)!, ports.get(one), plan.seconds)
          if (round >= 0) samples.get(one)!.at(-1)!.push(sample)
        }
      }
    } finally {
      await Promise.all(servers.map((server) => server.stop()))
    }
  }

  /** Each server by itself, from the moment it listens. */
  const cold = async (index: number, seconds: number): Promise<void> => {
    for (const one of turns(targets, index)) {
      const server = await startServer(one.server, folder, tools, kind)
      try {
        samples.get(one)!.push([await load(one, server, undefined, seconds)])
      } finally {
        await server.stop()
      }
    }
  }

  for (let index = 0; index < plan.starts; index++) {
    if (workload.fromStart === undefined) await warm(index)
    else await cold(index, workload.fromStart)
  }
  return {
    series: targets.filter((one) => !unmeasured.has(one.name)).map((one) => ({
      target: one.name,
      starts: samples.get(one)!
    })),
    unmeasured
  }
}
