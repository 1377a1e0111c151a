/**
 * The example of many hosts: nginx, two hosts with two workers each, and PostgreSQL, as examples/cluster/hosts.ts starts them. A host
 * is killed while clients count: every client gets an answer, no number is left out, and none comes twice.
 *
 * `FULL=1` counts to 10,000 while one host after the other is killed, four times in all, and then is silent for a while, as if it had
 * lost its power.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import * as Http from "../servers/support/http.ts"
import { projectRoot } from "../support/files.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"

const folder = "/usr/lib/postgresql"
const versions = Fs.existsSync(folder) ? Fs.readdirSync(folder) : []
const initdb = versions.length === 0 ? "initdb" : Path.join(folder, versions[0]!, "bin/initdb")

const full = process.env["FULL"] === "1"
const posts = full ? 10_000 : 400
/** Times that a host is killed, and then times that one is silent for a while. */
const kills = full ? 4 : 1
const silences = full ? 2 : 0
const losses = kills + silences
const clients = 16
const counters = 24

/** The processes of a host, the last that it had of each worker. */
const processesOf = (log: string, host: string): ReadonlyArray<number> => {
  const processes = new Map<string, number>()
  for (
    const [, worker, pid] of log.matchAll(
      new RegExp(`^host ${host.replaceAll(".", "\\.")}, worker (\\d): process (\\d+)$`, "gm")
    )
  ) {
    processes.set(worker!, Number(pid))
  }
  return [...processes.values()]
}

const hosts = ["127.0.0.2", "127.0.0.3"]

describeWith(["nginx", initdb, "setpriv"], "two hosts behind nginx, with PostgreSQL", () => {
  it.live("lose nothing when one of them is killed", () =>
    Effect.gen(function*() {
      const program = yield* WebServers.start({
        name: "hosts",
        command: process.execPath,
        args: [
          "--import",
          fileURLToPath(new URL("./support/onSources.ts", import.meta.url)),
          Path.join(projectRoot, "examples/cluster/hosts.ts"),
          ...["--port", "0", "--back-after", full ? "1" : "600"]
        ]
      })
      yield* program.says("Ctrl-C stops it.")
      const port = Number(/http:\/\/127\.0\.0\.1:(\d+)/.exec(program.log())![1])

      const values = new Map<string, Array<number>>()
      const homes = new Set<string>()
      const homeOf = new Map<string, string>()
      const answered: Array<{ readonly at: number; readonly took: number }> = []
      const add = (number: number) =>
        Effect.gen(function*() {
          const counter = `counter-${number % counters}`
          const begun = performance.now()
          const response = yield* Http.request(port, `/counters/${counter}`, { method: "POST" })
          assert.strictEqual(response.status, 200, response.text)
          const { home, value } = JSON.parse(response.text) as { readonly value: number; readonly home: string }
          homeOf.set(counter, home.split(":")[0]!)
          homes.add(home.split(":")[0]!)
          values.set(counter, [...values.get(counter) ?? [], value])
          answered.push({ at: performance.now(), took: performance.now() - begun })
        })
      const load = Effect.forEach(Array.from({ length: posts }, (_, i) => i), add, {
        concurrency: clients,
        discard: true
      })

      const losing = Effect.gen(function*() {
        for (let loss = 0; loss < losses; loss++) {
          yield* WebServers.until("the load has begun", () => answered.length > posts * (loss + 0.5) / (losses + 1))
          const host = hosts[loss % 2]!
          const processes = processesOf(program.log(), host)
          assert.strictEqual(processes.length, 2)
          const signal = (name: NodeJS.Signals) => {
            for (const pid of processes) process.kill(pid, name)
          }
          if (loss >= kills) {
            // As if it had lost its power, and come back as if nothing had been: its counters have moved by then.
            const moved = [...homeOf].filter(([, home]) => home === host).map(([counter]) => counter)
            signal("SIGSTOP")
            yield* WebServers.until("its counters have moved", () => moved.some((name) => homeOf.get(name) !== host))
            signal("SIGCONT")
            continue
          }
          const since = program.log().length
          signal("SIGKILL")
          if (loss + 1 === losses) continue
          for (const worker of [1, 2]) yield* program.says(`host ${host}, worker ${worker}: process `, since)
        }
      })
      yield* Effect.all([load, losing], { concurrency: "unbounded" })

      assert.deepStrictEqual([...homes].sort(), hosts, "counters have lived on both hosts")
      for (const [counter, seen] of values) {
        assert.deepStrictEqual(seen.sort((a, b) => a - b), seen.map((_, index) => index + 1), counter)
        const last = yield* Http.request(port, `/counters/${counter}`)
        assert.include(JSON.parse(last.text), { value: seen.length })
      }
      const longest = Math.max(...answered.map(({ took }) => took))
      if (full) {
        console.log(
          `${posts} POSTs, ${kills} kills, ${silences} silences, the longest answer after ${Math.round(longest)} ms`
        )
      }
      assert.deepStrictEqual(yield* program.stop("SIGTERM"), { code: 0, signal: null }, program.log())
    }), full ? 600_000 : undefined)
})
