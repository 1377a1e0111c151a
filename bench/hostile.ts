/**
 * What input made to be dear costs: `npm run bench:hostile`. Prints nanoseconds of CPU a byte for each attack at the server,
 * the client and the gateway, beside what honest small requests cost there, and fails where that is exceeded tenfold.
 *
 *     npm run bench:hostile -- --only cookies --rounds 9
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { parseArgs } from "node:util"
import { atClient, atGateway } from "./hostile/answers.ts"
import type { Attack } from "./hostile/attack.ts"
import { atServer } from "./hostile/server.ts"

const { values: { milliseconds, only, rounds } } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    milliseconds: { type: "string", default: "60" },
    only: { type: "string", default: "" }
  }
})

const maxRatio = 10
const maxEach = 1.5

const cpuNanoseconds = (): number => {
  const { system, user } = process.cpuUsage()
  return (user + system) * 1000
}

interface Cost {
  readonly perByte: number
  readonly perPlay: number
}

// What the first second of a function costs is its compilation.
const warmUp = async ({ play }: Attack, least: number): Promise<void> => {
  const begun = cpuNanoseconds()
  while (cpuNanoseconds() - begun < least) await play()
}

const measure = async (attack: Attack): Promise<ReadonlyArray<Cost>> => {
  const least = Number(milliseconds) * 1e6
  const samples: Array<Cost> = []
  for (let i = 0; i < Number(rounds); i++) {
    const begun = cpuNanoseconds()
    let bytes = 0
    let plays = 0
    let taken = 0
    do {
      bytes += await attack.play()
      plays++
      taken = cpuNanoseconds() - begun
    } while (taken < least)
    samples.push({ perByte: taken / bytes, perPlay: taken / plays })
  }
  return samples.sort((a, b) => a.perByte - b.perByte)
}

const scope = Scope.makeUnsafe()
const sides = await Effect.runPromise(
  Scope.provide(
    Effect.gen(function*() {
      return [...(yield* atServer), yield* atClient, ...(yield* atGateway)]
    }),
    scope
  )
)
let exceeded = 0
for (const { attacks, honest, name } of sides) {
  const chosen = attacks.filter((attack) => `${name}: ${attack.name}`.includes(only))
  if (chosen.length === 0) continue
  await warmUp(honest, 1e9)
  const [reference] = await measure(honest)
  const honestEach = reference.perPlay / (honest.few?.[0] ?? 1)
  console.log(`\n${name}`.padEnd(64) + "ns a byte   ratio")
  console.log(`  ${honest.name}`.padEnd(62) + reference.perByte.toFixed(2).padStart(10) + "    1.00")
  for (const attack of chosen) {
    await warmUp(attack, 2e8)
    const samples = await measure(attack)
    const cost = samples[samples.length >> 1]
    const ratio = cost.perByte / reference.perByte
    let line = `  ${attack.name}`.padEnd(62) + cost.perByte.toFixed(2).padStart(10) + ratio.toFixed(2).padStart(8)
    if (attack.few !== undefined) line += `  ${(cost.perPlay / attack.few[0]).toFixed(0)} ns a ${attack.few[1]}`
    if (ratio > maxRatio) {
      const each = attack.few === undefined ? Infinity : cost.perPlay / attack.few[0]
      if (each > maxEach * honestEach) {
        exceeded++
        line += "  TOO DEAR"
      } else line += `, of an honest one's ${honestEach.toFixed(0)}`
    }
    console.log(line)
  }
}
await Effect.runPromise(Scope.close(scope, Exit.void))
process.exit(exceeded === 0 ? 0 : 1)
