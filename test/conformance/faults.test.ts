/**
 * The suite itself: a server with one fault is found out, and in no other rows than those that the fault concerns.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiParams } from "effect-fastcgi"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Effect from "effect/Effect"
import * as Conformance from "../../src/conformance/Conformance.ts"
import * as Wire from "../../src/conformance/wire.ts"
import { App, connectThrough, type Fault, same } from "./support/faults.ts"

const [begin, abort, end, params, stdin, stdout, stderr, getValuesResult, unknownType] = [1, 2, 3, 4, 5, 6, 7, 10, 11]

/** The rows, with the results, of what was not passed. */
const found = (report: Conformance.Report): ReadonlyArray<string> =>
  report.lines.filter((line) => line.result !== "pass").map((line) => `${line.row} ${line.result}`).sort()

const run = (fault: () => Fault, only: ReadonlyArray<string>, more?: Partial<Conformance.Options>) =>
  Effect.flatMap(FastCgiTest.FastCgiMemory, (memory) =>
    Conformance.run({
      connect: Effect.provideService(connectThrough(fault), FastCgiTest.FastCgiMemory, memory),
      only,
      deadline: "300 millis",
      quiet: "10 millis",
      recovery: "100 millis",
      ...more
    })).pipe(Effect.provide(App))

const twice = (record: Wire.WireRecord) => Wire.concat([same(record), same(record)])

/** Passes records of other types than these on. */
const on = (types: ReadonlyArray<number>, change: Fault["sent"] & {}) => (record: Wire.WireRecord) =>
  types.includes(record.type) ? change(record) : same(record)

const nothing = () => Wire.nothing

interface Broken {
  readonly what: string
  readonly fault: () => Fault
  /** The rows that are tried. */
  readonly only: ReadonlyArray<string>
  /** What has to be found in them, and nothing else. */
  readonly finds: ReadonlyArray<string>
}

const all: ReadonlyArray<Broken> = [
  {
    what: "pads with bytes that are not zero",
    fault: () => ({
      sent: ({ content, padding, requestId, type }) =>
        Wire.record(type, requestId, content, { padding: padding.length, fill: 1 })
    }),
    only: ["3.1", "3.3-e", "3.3-f", "3.3-m"],
    finds: ["3.3-f warn"]
  },
  {
    what: "does not pad",
    fault: () => ({ sent: ({ content, requestId, type }) => Wire.record(type, requestId, content) }),
    only: ["3.1", "3.3-e", "3.3-f", "3.3-m"],
    finds: ["3.3-e warn"]
  },
  {
    what: "sets reserved bytes",
    fault: () => ({
      sent: ({ content, padding, requestId, type }) =>
        Wire.record(type, requestId, content, { padding: padding.length, reserved: 1 })
    }),
    only: ["3.1", "3.3-e", "3.3-f", "3.3-m"],
    finds: ["3.3-f fail"]
  },
  {
    what: "does not end STDOUT",
    fault: () => ({ sent: on([stdout], (record) => record.content.length === 0 ? Wire.nothing : same(record)) }),
    only: ["3.1", "3.3-f", "3.3-m", "5.5-b"],
    finds: ["3.3-m fail"]
  },
  {
    what: "ends a request twice",
    fault: () => ({ sent: on([end], twice) }),
    only: ["5.4-a", "5.4-f"],
    // All steps of an abort but those that look at the first END_REQUEST only.
    finds: [...Array.from({ length: 7 }, () => "5.4-a fail"), "5.4-f fail"]
  },
  {
    what: "ignores ABORT_REQUEST",
    fault: () => ({ received: on([abort], nothing) }),
    only: ["5.4-a", "5.4-b"],
    finds: [...Array.from({ length: 7 }, () => "5.4-a fail"), "5.4-b warn", "5.4-b warn"]
  },
  {
    what: "does not learn that a connection has closed",
    fault: () => ({ staysOpen: true }),
    only: ["5.4-d"],
    finds: ["5.4-d fail", "5.4-d warn", "5.4-d warn", "5.4-d warn"]
  },
  {
    what: "closes after every request",
    fault: () => {
      let ended = false
      return {
        sent: (record) => {
          ended ||= record.type === end
          return same(record)
        },
        received: (record) => ended ? "close" : same(record)
      }
    },
    only: ["5.1-c", "5.1-d", "3.3-h"],
    finds: ["3.3-h fail", "3.3-h fail", "5.1-d fail", "5.1-d fail", "5.1-d fail"]
  },
  {
    what: "never closes",
    fault: () => ({
      received: on(
        [begin],
        ({ content, padding, requestId }) =>
          Wire.record(begin, requestId, Uint8Array.from(content, (byte, at) => at === 2 ? 1 : byte), {
            padding: padding.length
          })
      )
    }),
    only: ["5.1-c", "5.1-d", "3.3-h"],
    finds: ["5.1-c fail", "5.1-d fail"]
  },
  {
    what: "answers GET_VALUES twice",
    fault: () => ({ sent: on([getValuesResult], twice) }),
    only: ["4.1-b", "4.1-c", "4.1-d"],
    finds: ["4.1-b fail"]
  },
  {
    what: "answers GET_VALUES with everything it knows",
    fault: () => ({
      sent: on([getValuesResult], () =>
        Wire.record(
          getValuesResult,
          0,
          FastCgiParams.encodePairs([["FCGI_MAX_CONNS", "1"], ["FCGI_MAX_REQS", "1"], ["FCGI_MPXS_CONNS", "1"]])
        ))
    }),
    only: ["4.1-b", "4.1-c", "4.1-d"],
    finds: ["4.1-b fail", "4.1-c fail"]
  },
  {
    what: "answers GET_VALUES with numbers that are none",
    fault: () => ({
      sent: on([getValuesResult], ({ content }) => {
        const pairs = FastCgiParams.fromBytes(content)
        const worse = "_tag" in pairs ? [] : [...pairs].map(([name]) => [name, "-1"] as const)
        return Wire.record(getValuesResult, 0, FastCgiParams.encodePairs(worse))
      })
    }),
    only: ["4.1-d", "4.1-e", "4.1-f"],
    finds: ["4.1-d fail", "4.1-e fail", "4.1-f fail"]
  },
  {
    what: "does not answer unknown management records",
    fault: () => ({ sent: on([unknownType], nothing) }),
    only: ["4.2"],
    finds: ["4.2-a fail", "4.2-a fail", "4.2-a fail"]
  },
  {
    what: "takes any role",
    fault: () => ({
      received: on(
        [begin],
        ({ content, padding, requestId }) =>
          Wire.record(begin, requestId, Uint8Array.of(0, 1, ...content.subarray(2)), { padding: padding.length })
      )
    }),
    only: ["5.5-a", "5.5-b", "5.5-e", "6.3-g"],
    finds: ["5.5-e fail", "5.5-e warn", "6.3-g n/a"]
  },
  {
    what: "ends with an appStatus of 31 bits",
    fault: () => ({
      sent: on(
        [end],
        ({ content, requestId }) =>
          Wire.record(end, requestId, Uint8Array.of(content[0]! & 0x7f, ...content.subarray(1)))
      )
    }),
    only: ["5.5-a", "5.5-b"],
    finds: ["5.5-a fail"]
  },
  {
    what: "takes padding for content",
    fault: () => ({
      received: ({ content, padding, requestId, type, version }) =>
        type === begin
          ? Wire.record(type, requestId, content, { version })
          : Wire.record(type, requestId, Wire.concat([content, padding]), { version })
    }),
    only: ["3.3-d"],
    // BEGIN_REQUEST is left alone. Content of ABORT_REQUEST is no harm to who skips it.
    finds: ["3.3-d fail", "3.3-d fail", "3.3-d fail", "3.3-d fail", "3.3-d fail"]
  },
  {
    what: "takes every version for its own",
    fault: () => ({
      received: ({ content, padding, requestId, type }) =>
        Wire.record(type, requestId, content, { padding: padding.length })
    }),
    only: ["3.3-a", "3.3-b"],
    finds: ["3.3-b fail", "3.3-b fail", "3.3-b warn", "3.3-b warn"]
  },
  {
    what: "reads the first PARAMS record only",
    fault: () => {
      const seen = new Set<number>()
      return {
        received: (record) => {
          if (record.type === begin) seen.delete(record.requestId)
          if (record.type !== params || record.content.length === 0) return same(record)
          if (seen.has(record.requestId)) return Wire.nothing
          seen.add(record.requestId)
          return same(record)
        }
      }
    },
    only: ["3.4-e", "5.2-a", "6.2-a"],
    // The last row's own PARAMS come in two records as well.
    finds: ["3.4-e fail", "3.4-e fail"]
  },
  {
    what: "serves one request a connection, the first that comes",
    fault: () => {
      let first: number | undefined
      return {
        received: (record) => {
          if (record.type === begin) first ??= record.requestId
          return record.requestId === 0 || record.requestId === first ? same(record) : Wire.nothing
        }
      }
    },
    only: ["5.5-c", "3.3-g", "3.3-l"],
    finds: ["5.5-c fail", "5.5-c fail"]
  },
  {
    what: "writes to STDERR what nobody asked for",
    fault: () => ({
      sent: on([end], (record) => Wire.concat([Wire.record(stderr, record.requestId, Wire.utf8("done")), same(record)]))
    }),
    only: ["3.1", "6.1-c", "6.1-d"],
    finds: ["6.1-c fail", "6.1-d fail"]
  },
  {
    what: "loses STDERR",
    fault: () => ({ sent: on([stderr], nothing) }),
    only: ["3.1", "3.3-m", "6.1-c", "6.1-d"],
    finds: ["3.3-m fail", "6.1-c fail"]
  },
  {
    what: "sends nothing before a request has ended",
    fault: () => {
      const held: Array<Uint8Array> = []
      return {
        sent: (record) => {
          held.push(same(record))
          return record.type === end || record.requestId === 0 ? Wire.concat(held.splice(0)) : Wire.nothing
        }
      }
    },
    only: ["3.3-m", "6.1-f", "6.2-a"],
    finds: ["6.1-f fail", "6.1-f fail", "6.2-a warn"]
  },
  {
    what: "waits for STDIN before it begins",
    fault: () => {
      const held: Array<Uint8Array> = []
      return {
        received: (record) => {
          held.push(same(record))
          return record.type === params ? Wire.nothing : Wire.concat(held.splice(0))
        }
      }
    },
    only: ["3.3-m", "6.2-a"],
    finds: ["6.2-a warn"]
  },
  {
    what: "delivers a body cut short",
    fault: () => ({
      received: on([stdin], (record) =>
        // The probes' bodies are shorter.
        record.content.length < 100 ? same(record) : Wire.record(stdin, record.requestId, record.content.subarray(1)))
    }),
    only: ["3.1", "3.3-c", "3.3-m", "5.3-a"],
    finds: ["3.1-a fail", "3.3-c fail", "5.3-a fail"]
  }
]

const patient = { deadline: "5 seconds", quiet: "100 millis" } as const

describe("a server that", () => {
  for (const { fault, finds, only, what } of all) {
    it.live(`${what} is found out`, () =>
      Effect.gen(function*() {
        const expected = [...finds].sort()
        // What comes late on a busy machine looks like what does not come: then once more, with time.
        const quick = found(yield* run(fault, only))
        if (quick.join() === expected.join()) return
        assert.deepStrictEqual(found(yield* run(fault, only, patient)), expected)
      }))
  }

  // Unknown types kill it, as they do node-fastcgi.
  const mortal = () => {
    const state = { dead: false, restarts: 0 }
    const fault = (): Fault => ({
      received: (record) => {
        state.dead ||= record.type > 11
        return state.dead ? "close" : same(record)
      }
    })
    return { state, fault }
  }

  it.live("dies is found out, and what could not be tried is skipped", () =>
    Effect.gen(function*() {
      const { fault } = mortal()
      const report = yield* run(fault, ["4.2-a", "5.5-c"])
      assert.deepStrictEqual(found(report), [
        "4.2-a fail",
        "4.2-a skipped",
        "4.2-a skipped",
        "5.5-c skipped",
        "5.5-c skipped"
      ])
      assert.include(report.lines[0]!.came, "then the server answered nobody any more")
    }))

  it.live("dies is started again where that is possible", () =>
    Effect.gen(function*() {
      const { fault, state } = mortal()
      const report = yield* run(fault, ["4.2-a", "5.5-c"], {
        process: {
          ended: Effect.sync(() => state.dead ? "exit 1" : undefined),
          restart: Effect.sync(() => {
            state.dead = false
            state.restarts++
          }),
          memory: Effect.succeed(undefined),
          peak: Effect.succeed(undefined)
        }
      })
      assert.deepStrictEqual(found(report), ["4.2-a fail", "4.2-a fail", "4.2-a fail"])
      assert.include(report.lines[0]!.came, "then the server was gone (exit 1)")
      assert.strictEqual(state.restarts, 3)
    }))

  it.live("takes memory for what is declared is found out", () =>
    Effect.gen(function*() {
      const report = yield* run(() => ({}), ["3.4-d"], {
        process: {
          ended: Effect.succeed(undefined),
          restart: undefined,
          memory: Effect.succeed(50_000_000),
          peak: Effect.succeed(250_000_000)
        }
      })
      const lines = report.lines.filter((line) => line.came.includes("memory grew by 191 MiB"))
      assert.deepStrictEqual(lines.map((line) => line.result), ["fail", "fail", "fail", "fail", "warn", "warn"])
    }))

  it.live("ends no request cannot be tried", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(run(() => ({ sent: on([end], nothing) }), ["3.1"]))
      assert.strictEqual(
        error.message,
        "the server does not answer POST /echo with the body it gets. docs/conformance.md says what the application has to do."
      )
    }))

  it.live("nobody can connect to cannot be tried", () =>
    Effect.gen(function*() {
      const connect = Effect.fail({ message: "Cannot connect to x: nothing listens on it." })
      const error = yield* Effect.flip(Conformance.run({ connect }))
      assert.strictEqual(error.message, "Cannot connect to x: nothing listens on it.")
    }))
})
