/**
 * `npm run bench:workers`: requests a second of two workers against those of one, on a socket that the operating system shares out.
 * Load generator and workers compete for the cores: with two of them there is room for two workers only where a request costs the
 * application much more than the generator.
 */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { compileGenerator } from "./harness/load.ts"
import { output, start } from "./harness/processes.ts"
import { median } from "./harness/report.ts"

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "3" },
    /** A command in front of all processes, such as `chrt -f 10`, against what else runs on the machine. */
    prefix: { type: "string", default: "" }
  }
})

const workloads = [
  { name: "half a millisecond of work, 16 connections kept", path: "/bench/work", keep: true },
  { name: "half a millisecond of work, a connection a request", path: "/bench/work", keep: false },
  { name: "hello, a connection a request", path: "/bench/hello", keep: false }
]

const prefix = options.prefix === "" ? [] : options.prefix.split(" ")
const run = (...command: ReadonlyArray<string>) => [...prefix, ...command] as [string, ...Array<string>]

const generator = await compileGenerator()
const server = fileURLToPath(new URL("servers/workers.ts", import.meta.url))
const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "fcgi-"))
let started = 0

const measure = async (workers: number, { keep, path }: typeof workloads[number]): Promise<number> => {
  const socket = Path.join(folder, `${++started}.sock`)
  const [command, ...args] = run(process.execPath, server, socket, String(workers))
  const supervisor = await start(command, args, { path: socket })
  // The others follow the first.
  await new Promise((resolve) => setTimeout(resolve, 500 * workers))
  try {
    const [command, ...args] = run(
      generator,
      ...["--unix", socket, "--uri", path, "--connections", "16", "--keep-conn", keep ? "1" : "0"],
      ...["--expect-body", "Hello world!", "--warmup", "1", "--seconds", options.seconds, "--json"]
    )
    const report = JSON.parse(await output(command, args)) as { readonly good: number; readonly seconds: number }
    return report.good / report.seconds
  } finally {
    await supervisor.stop()
  }
}

console.log("| workload | one worker | two workers | ratio | of rounds |\n| --- | --- | --- | --- | --- |")
for (const workload of workloads) {
  const rounds: Array<readonly [one: number, two: number]> = []
  for (let i = 0; i < Number(options.rounds); i++) rounds.push([await measure(1, workload), await measure(2, workload)])
  const ratios = rounds.map(([one, two]) => two / one)
  console.log(
    `| ${workload.name} | ${Math.round(median(rounds.map(([one]) => one)))}/s | ${
      Math.round(median(rounds.map(([, two]) => two)))
    }/s | ${median(ratios).toFixed(2)} | ${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)} |`
  )
}
Fs.rmSync(folder, { recursive: true, force: true })
