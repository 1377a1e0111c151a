import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import { once } from "node:events"
import type { Readable } from "node:stream"
import { fileURLToPath } from "node:url"
import { programFile } from "../support/programFile.ts"

const fixture = programFile("test/node/fixtures/life.ts")
// Where a stack is looked at: its libraries are files of their own.
const inFiles = fileURLToPath(new URL("./fixtures/life.ts", import.meta.url))

interface Life {
  readonly process: ChildProcess.ChildProcess
  /** Waits until it has said the word, on descriptor 3. */
  readonly says: (word: string) => Effect.Effect<void>
  readonly words: () => ReadonlyArray<string>
  readonly stdout: () => string
  readonly stderr: () => string
  /** Waits for its end: the exit code, or the signal. */
  readonly ended: Effect.Effect<number | NodeJS.Signals>
}

const lead = (life: string, ...nodeOptions: ReadonlyArray<string>): Effect.Effect<Life, never, Scope.Scope> =>
  leadWith({}, life, ...nodeOptions)

const leadWith = (
  options: {
    readonly stdout?: "ignore"
    readonly env?: Readonly<Record<string, string>>
    readonly file?: string
  },
  life: string,
  ...nodeOptions: ReadonlyArray<string>
): Effect.Effect<Life, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = ChildProcess.spawn(process.execPath, [...nodeOptions, options.file ?? fixture, life], {
        env: { ...process.env, ...options.env },
        stdio: ["ignore", options.stdout ?? "pipe", "pipe", "pipe"]
      })
      const read = (stream: Readable | null) => {
        let text = ""
        stream?.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk
        })
        return () => text
      }
      const stdout = read(child.stdout)
      const stderr = read(child.stderr)
      const said = child.stdio[3] as Readable
      const text = read(said)
      const words = () => text().split("\n").filter((word) => word !== "")
      const ended = once(child, "close").then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals)
      return {
        process: child,
        words,
        stdout,
        stderr,
        ended: Effect.promise(() => ended),
        says: (word: string) =>
          Effect.promise(async () => {
            while (!words().includes(word)) {
              const [event] = await Promise.race([once(said, "data"), ended.then(() => ["ended"])])
              if (event === "ended" && !words().includes(word)) {
                throw new Error(`it has not said ${word}: ${stdout()}${stderr()}`)
              }
            }
          })
      }
    }),
    ({ ended, process }) =>
      Effect.suspend(() => {
        process.kill("SIGKILL")
        return ended
      })
  )

/** Sends a signal again and again until the process has ended: no other event tells that half a second has gone by. */
const insist = (life: Life, signal: NodeJS.Signals) =>
  Effect.raceFirst(
    life.ended,
    Effect.repeat(Effect.sync(() => life.process.kill(signal)), Schedule.spaced("50 millis")).pipe(
      Effect.andThen(Effect.never)
    )
  )

describe("a program that NodeFastCgiRuntime runs", () => {
  it.live.each([["SIGTERM"], ["SIGINT"], ["SIGUSR1"]] as const)(
    "is interrupted by %s and exits with 0",
    ([signal]) =>
      Effect.gen(function*() {
        const life = yield* lead("runs")
        yield* life.says("running")
        life.process.kill(signal)
        assert.strictEqual(yield* life.ended, 0)
        assert.deepStrictEqual(life.words(), ["running", "interrupted"])
        assert.strictEqual(life.stdout() + life.stderr(), "")
      })
  )

  it.live("may take its time to end", () =>
    Effect.gen(function*() {
      const life = yield* lead("finishes")
      yield* life.says("running")
      life.process.kill("SIGTERM")
      yield* life.says("finishing")
      life.process.kill("SIGUSR2")
      assert.strictEqual(yield* life.ended, 0)
      assert.deepStrictEqual(life.words(), ["running", "finishing", "finished"])
    }))

  it.live("takes signals that come together for one", () =>
    Effect.gen(function*() {
      const life = yield* lead("finishes")
      yield* life.says("running")
      // Ctrl-C in a terminal, and what multiwatch makes of it.
      life.process.kill("SIGINT")
      life.process.kill("SIGUSR1")
      yield* life.says("finishing")
      life.process.kill("SIGUSR2")
      assert.strictEqual(yield* life.ended, 0)
    }))

  it.live.each([["SIGTERM", 143], ["SIGINT", 130], ["SIGUSR1", 138]] as const)(
    "is ended at once by a second %s, with %i",
    ([signal, code]) =>
      Effect.gen(function*() {
        const life = yield* lead("finishes")
        yield* life.says("running")
        life.process.kill(signal)
        yield* life.says("finishing")
        assert.strictEqual(yield* insist(life, signal), code)
        assert.notInclude(life.words(), "finished")
      })
  )

  it.live("is ended by its shutdownTimeout when it is stuck", () =>
    Effect.gen(function*() {
      const life = yield* lead("stuck")
      yield* life.says("running")
      life.process.kill("SIGTERM")
      assert.strictEqual(yield* life.ended, 143)
    }))

  it.live("exits with 1 when a signal does not end it well", () =>
    Effect.gen(function*() {
      const life = yield* lead("fails at its end")
      yield* life.says("running")
      life.process.kill("SIGTERM")
      assert.strictEqual(yield* life.ended, 1)
      assert.include(life.stderr(), "TypeError: a bug")
    }))

  it.live.each(
    [
      ["succeeds", 0, ""],
      ["fails", 1, "CannotStart: cannot reach the database: connect ECONNREFUSED"],
      ["chooses", 42, "Chosen: as I say"],
      ["interrupted", 130, ""]
    ] as const
  )("that %s exits with %i and says why in a line", ([what, code, message]) =>
    Effect.gen(function*() {
      const life = yield* lead(what)
      assert.strictEqual(yield* life.ended, code)
      assert.strictEqual(life.stdout(), "")
      assert.strictEqual(
        life.stderr().replace(/^\[[\d:.]+\] ERROR \(#\d+\): /, ""),
        message === "" ? "" : `${message}\n`
      )
    }))

  it.live("shows where a defect is, and nothing of the libraries between", () =>
    Effect.gen(function*() {
      const life = yield* leadWith({ file: inFiles }, "dies")
      assert.strictEqual(yield* life.ended, 1)
      assert.match(
        life.stderr(),
        /^\[[\d:.]+\] ERROR \(#\d+\): TypeError: a bug\n( {4}at .*fixtures\/life\.ts:\d+:\d+\)?\n)+$/
      )
    }))

  it.live("logs to stderr", () =>
    Effect.gen(function*() {
      const life = yield* lead("logs")
      assert.strictEqual(yield* life.ended, 0)
      assert.strictEqual(life.stdout(), "")
      assert.match(life.stderr(), /^\[[\d:.]+\] INFO \(#\d+\): a line\n$/)
    }))

  it.live("outlives whoever reads its stdout and stderr, and SIGPIPE", () =>
    Effect.gen(function*() {
      const life = yield* lead("writes")
      yield* life.says("running")
      life.process.stdout!.destroy()
      life.process.stderr!.destroy()
      life.process.kill("SIGPIPE")
      life.process.kill("SIGUSR2")
      yield* life.says("written")
      life.process.kill("SIGTERM")
      assert.strictEqual(yield* life.ended, 0)
    }))

  it.live("ends at a SIGUSR1 that has opened Node's debugger, while the program was being loaded", () =>
    Effect.gen(function*() {
      const life = yield* lead("loading", "--inspect-port=0")
      yield* life.says("loading")
      life.process.kill("SIGUSR1")
      assert.strictEqual(yield* life.ended, 0)
      assert.deepStrictEqual(life.words(), ["loading", "loaded"])
    }))

  it.live("leaves the debugger alone when it was asked for", () =>
    Effect.gen(function*() {
      const life = yield* lead("runs", "--inspect=0")
      yield* life.says("running")
      life.process.kill("SIGTERM")
      assert.strictEqual(yield* life.ended, 0)
      assert.include(life.stderr(), "Debugger listening")
    }))
})

describe("a program whose stdout is /dev/null, as lighttpd starts it", () => {
  it.live("has the lines of every logger on stderr", () =>
    Effect.gen(function*() {
      const life = yield* leadWith({ stdout: "ignore" }, "logs JSON")
      assert.strictEqual(yield* life.ended, 0)
      const [line, word] = life.stderr().trimEnd().split("\n")
      assert.strictEqual((JSON.parse(line!) as { readonly message: string }).message, "a line")
      assert.strictEqual(word, "a word")
    }))

  it.live("has them on stdout where somebody reads that", () =>
    Effect.gen(function*() {
      const life = yield* lead("logs JSON")
      assert.strictEqual(yield* life.ended, 0)
      assert.strictEqual(life.stderr(), "")
      assert.match(life.stdout(), /"a line".*\na word\n$/)
    }))
})

describe("a setting that is wrong", () => {
  for (
    const [life, env, message] of [
      ["reads a setting", { FASTCGI_BACKLOG: "many" }, "FASTCGI_BACKLOG=\"many\": expected a whole number from 1"],
      [
        "reads a setting",
        { FASTCGI_IDLE_TIMEOUT: "30" },
        "FASTCGI_IDLE_TIMEOUT=\"30\": expected a duration with its unit, such as \"30 seconds\" or \"500 millis\", or \"unbounded\""
      ],
      ["reads a setting of its own", { APP_PORT: "http" }, "APP_PORT: Expected "],
      ["reads a setting of its own", { APP_PORT: "1" }, "APP_NAME: Expected "]
    ] as const
  ) {
    it.live(`is reported by its name, and nothing else is said: ${message}`, () =>
      Effect.gen(function*() {
        const said = yield* leadWith({ env }, life)
        assert.strictEqual(yield* said.ended, 1)
        assert.strictEqual(said.stdout(), "")
        assert.include(said.stderr(), message)
        assert.notMatch(said.stderr(), /SchemaError|SourceError|ConfigError|\n\s+at /)
        assert.strictEqual(said.stderr().trimEnd().split("\n").length, 1, said.stderr())
      }))
  }
})
