/**
 * The soak in small: mixed traffic at full speed through nginx and directly, all of it checked, and nothing is left behind.
 * `FULL=1` takes five minutes instead of ten seconds.
 */
import { assert, describe, it } from "@effect/vitest"
import * as ChildProcess from "node:child_process"
import { type Quiet, verdict } from "../../bench/soak/verdict.ts"
import { projectRoot } from "../support/files.ts"
import { describeWith } from "../support/requirement.ts"

const seconds = process.env["FULL"] === "1" ? 300 : 10

const run = (args: ReadonlyArray<string>) =>
  new Promise<{ readonly code: number | null; readonly stdout: string }>((resolve) => {
    const child = ChildProcess.spawn(process.execPath, args, { cwd: projectRoot, stdio: ["ignore", "pipe", "pipe"] })
    let stdout = ""
    child.stdout.on("data", (bytes: Buffer) => stdout += bytes.toString())
    child.stderr.on("data", (bytes: Buffer) => stdout += bytes.toString())
    child.on("close", (code) => resolve({ code, stdout }))
  })

describeWith(["nginx", "wrk", "cc"], "the soak", () => {
  it("finds no wrong answer, and nothing that grew", async () => {
    const { code, stdout } = await run(["bench/soak.ts", "--minutes", `${seconds / 60}`])
    assert.strictEqual(code, 0, stdout)
    for (const kind of ["kept", "fresh", "multiplexed", "uploads", "streams", "nginx kept", "aborts", "stalls"]) {
      assert.match(stdout, new RegExp(`^${kind} +[\\d.]*[1-9]`, "m"), "traffic that was answered")
    }
  }, (seconds + 120) * 1000)
})

describe("the verdict of the soak", () => {
  const before: Quiet = { heap: 28e6, resident: 140e6, descriptors: 24 }
  const steady = Array.from({ length: 20 }, (_, at) => ({
    heap: 24e6 + at % 3 * 1e5,
    resident: 250e6 + at % 4 * 1e6,
    descriptors: 24
  }))
  const grown = (change: (sample: Quiet, at: number) => Partial<Quiet>) =>
    verdict(before, steady.map((sample, at) => ({ ...sample, ...change(sample, at) })))

  it("is content with what a server needs at first, and keeps", () => {
    assert.deepStrictEqual(verdict(before, steady), [])
    assert.deepStrictEqual(grown(({ heap }, at) => ({ heap: at < 4 ? heap / 2 : heap })), [])
  })

  it("sees a leak of heap, of other memory and of descriptors", () => {
    assert.match(grown(({ heap }, at) => ({ heap: heap + at * 5e5 })).join(), /^the live heap grew by 5\.\d MB$/)
    assert.match(grown(({ resident }, at) => ({ resident: resident + at * 6e6 })).join(), /^resident memory grew by 6/)
    assert.deepStrictEqual(grown((_, at) => ({ descriptors: at === 7 ? 25 : 24 })), [
      "1 file descriptors were left open"
    ])
    assert.lengthOf(verdict(before, steady.slice(0, 2)), 1)
  })
})
