/**
 * `npm run bench`: effect-fastcgi against a raw socket server, node-fastcgi, Go, Effect's NodeHttpServer and bare node:http.
 * README.md beside this file says what each figure means.
 */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { onPath } from "../test/support/programs.ts"
import { compileGenerator, compileGo } from "./harness/load.ts"
import { fillFile } from "./harness/page.ts"
import { svg } from "./harness/plot.ts"
import type { Plots } from "./harness/plots.ts"
import { output, withPriority } from "./harness/processes.ts"
import { markdown } from "./harness/report.ts"
import type { Plan } from "./harness/run.ts"
import { sections } from "./sections.ts"

const usage = `npm run bench -- [options]

  --starts N     how often each server is started (5)
  --warm-up N    rounds of load on each server of a start before it is measured (4)
  --rounds N     measurements of each server in each start (4)
  --seconds N    of each round (1)
  --only NAME    sections, workloads and servers whose name contains NAME (repeatable)
  --quick        one start, one round after one: to see that it works, not to compare
  --priority     servers and generators have real-time priority (chrt -r 10): for a machine that does other things, as root
  --json FILE    also write every sample and every figure to FILE
  --plot         also write charts to .bench/plots/
  --page         3 starts, and write tables and charts of docs/performance.md: half an hour
  --list         print the names
`

const { values: options } = parseArgs({
  options: {
    starts: { type: "string" },
    rounds: { type: "string" },
    seconds: { type: "string" },
    "warm-up": { type: "string" },
    only: { type: "string", multiple: true, default: [] },
    quick: { type: "boolean", default: false },
    priority: { type: "boolean", default: false },
    json: { type: "string" },
    plot: { type: "boolean", default: false },
    page: { type: "boolean", default: false },
    list: { type: "boolean", default: false },
    help: { type: "boolean", default: false }
  }
})

const preset: Plan = options.quick
  ? { starts: 1, warmUp: 1, rounds: 1, seconds: 1 }
  : { starts: options.page ? 3 : 5, warmUp: 4, rounds: 4, seconds: 1 }

const plan: Plan = {
  starts: Number(options.starts ?? preset.starts),
  rounds: Number(options.rounds ?? preset.rounds),
  seconds: Number(options.seconds ?? preset.seconds),
  warmUp: Number(options["warm-up"] ?? preset.warmUp)
}

const root = fileURLToPath(new URL("..", import.meta.url))

const writePlots = (folder: string, plots: Plots): void => {
  Fs.mkdirSync(folder, { recursive: true })
  for (const [name, plot] of Object.entries(plots)) Fs.writeFileSync(Path.join(folder, `${name}.svg`), svg(plot))
}

/** What was measured, where and how, as a sentence. */
const about = async (): Promise<string> => {
  const { model } = Os.cpus()[0]!
  const commit = await output("git", ["-C", root, "rev-parse", "--short", "HEAD"]).catch(() => "")
  return [
    `Measured on ${new Date().toISOString().slice(0, 10)}`,
    ...commit === "" ? [] : [` at commit ${commit.trim()}`],
    `, with Node ${process.version} on ${Os.cpus().length} cores (${model.trim()}): `,
    `${plan.starts} starts of every server, ${plan.rounds} rounds of ${plan.seconds} s each in turns, after ${plan.warmUp} that are not counted.`,
    ...options.priority
      ? [" Other programs ran on the machine; servers, nginx and load generators had priority over them."]
      : []
  ].join("")
}

const main = async (): Promise<void> => {
  const chosen = sections(options.only)
  if (options.priority) withPriority.chrt = onPath("chrt")
  const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-fastcgi-bench-"))
  const parts = new Map<string, string>()
  const data: Record<string, unknown> = {}
  try {
    const go = onPath("go")
    const tools = {
      generator: await compileGenerator(),
      wrk: onPath("wrk"),
      nginx: onPath("nginx"),
      go: go === undefined ? undefined : await compileGo(go)
    }
    console.log(await about())
    for (const section of chosen) {
      console.log(`\n# ${section.title}`)
      const lacks = section.lacks(tools)
      if (lacks !== undefined) {
        console.log(`left out: ${lacks}`)
        continue
      }
      const outcome = await section.run({ folder, tools, plan })
      if (outcome.failed) process.exitCode = 1
      data[section.name] = outcome.data
      parts.set(section.name, markdown(outcome.table))
      if (options.plot) writePlots(Path.join(root, ".bench/plots"), outcome.plots)
      if (options.page) writePlots(Path.join(root, "docs/performance"), outcome.plots)
    }
    if (options.page) {
      const page = Path.join(root, "docs/performance.md")
      fillFile(page, new Map([["about", await about()], ...parts]))
      await output(process.execPath, [Path.join(root, "node_modules/dprint/bin.cjs"), "fmt", page])
    }
    if (options.json !== undefined) {
      Fs.writeFileSync(options.json, JSON.stringify({ about: await about(), plan, data }, null, 2))
    }
  } finally {
    Fs.rmSync(folder, { recursive: true, force: true })
  }
}

if (options.help) {
  console.log(usage)
} else if (options.list) {
  for (const { name, parts, title } of sections([])) {
    console.log(`${name}: ${title}`)
    for (const part of parts) console.log(`  ${part}`)
  }
} else {
  await main()
}
