/**
 * The states of requests and connections, walked as data: no server, no Effect. What each cell does to a running server is in
 * `stateTable.test.ts`, and to a running client in `client/stateTable.test.ts`.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Struct from "effect/Struct"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { connectionStates } from "../../src/connection/internal/connectionState.ts"
import {
  applicationStates,
  applicationTable,
  webServerStates,
  webServerTable
} from "../../src/connection/internal/requestState.ts"
import { projectRoot } from "../support/files.ts"

interface AnyState {
  readonly name: string
  readonly after: { readonly [event: string]: AnyState }
}

/** Every state with every event. */
const steps = <S extends AnyState>(states: { readonly [name: string]: S }) =>
  Object.values(states).flatMap((from) =>
    Object.entries(from.after).map(([event, to]) => ({ from, event, to: to as S, name: `${from.name}, ${event}` }))
  )

const reachable = (start: AnyState): ReadonlySet<string> => {
  const found = new Set<string>()
  const visit = (state: AnyState) => {
    if (found.has(state.name)) return
    found.add(state.name)
    for (const next of Object.values(state.after)) visit(next)
  }
  visit(start)
  return found
}

/** Fails unless docs/specification.md prints a table, with these titles of its columns. */
const assertPrinted = <Row extends string>(
  titles: { readonly [R in Row]: string },
  rows: ReadonlyArray<readonly [name: string, row: { readonly [R in Row]: string }]>
) => {
  const columns = Struct.keys(titles)
  const cells = [
    ["phase", ...columns.map((column) => titles[column])],
    ...rows.map(([name, row]) => [name, ...columns.map((column) => row[column])])
  ]
  const widths = cells[0].map((_, at) => Math.max(...cells.map((line) => line[at].length)))
  const line = (row: ReadonlyArray<string>) => `| ${row.map((cell, at) => cell.padEnd(widths[at])).join(" | ")} |`
  const [head, ...body] = cells.map(line)
  const table = [head, `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...body].join("\n")
  assert.include(Fs.readFileSync(Path.join(projectRoot, "docs/specification.md"), "utf8"), table)
}

describe("the phases of a request at the application's end", () => {
  it("are all reached from its beginning", () => {
    assert.deepStrictEqual([...reachable(applicationStates.params)].sort(), Object.keys(applicationStates).sort())
  })

  it("never lead back: an id that is free stays free, output that is dropped stays dropped", () => {
    for (const { from, name, to } of steps(applicationStates)) {
      if (from.isOver) assert.isTrue(to.isOver, name)
      if (!from.isOpen) assert.isFalse(to.isOpen, name)
    }
  })

  it("count a request in by `admit` alone, and out once", () => {
    for (const { event, from, name, to } of steps(applicationStates)) {
      if (!from.isAdmitted && to.isAdmitted) assert.deepStrictEqual([event, from.name], ["admit", "params"], name)
      if (to.isOver) assert.isFalse(to.isAdmitted, name)
    }
  })

  it("end without END_REQUEST only when the connection goes with it", () => {
    for (const phase of Object.values(applicationStates)) {
      assert.isTrue(phase.after.lose.isOver || phase.name === "running" || !phase.isOpen, phase.name)
      // Whoever has not heard of a failure must not be told that all is well.
      if (phase.name === "withheld" || phase.name === "cutOff") assert.strictEqual(phase.after.end, phase)
    }
  })
})

describe("the table of records at the application's end", () => {
  const rows = Object.entries(applicationTable)

  it("has a row for each phase in which an id is taken, and one for an id that is free", () => {
    const taken = Object.values(applicationStates).filter(({ isOver }) => !isOver).map(({ name }) => name)
    assert.deepStrictEqual(rows.map(([name]) => name), ["inactive", ...taken])
    for (const phase of Object.values(applicationStates)) {
      assert.strictEqual(
        phase.on,
        phase.isOver ? applicationTable.inactive : rows.find(([name]) => name === phase.name)![1]
      )
    }
  })

  for (const [name, row] of rows) {
    const phase = Object.values(applicationStates).find((phase) => phase.name === name)
    it(`does in ${name} what the phase allows`, () => {
      // SPEC 3.3: the id is free when END_REQUEST has been sent, and not before.
      assert.strictEqual(row.Begin === "begin", phase === undefined)
      assert.strictEqual(row.Begin === "retry", phase === applicationStates.ready)
      // A connection that has failed takes no record that could break it.
      assert.strictEqual(row.Begin === "ignore", phase === applicationStates.abandoned)
      // SPEC 6.2: params before everything else, and no answer before they have ended.
      const { params, refused } = applicationStates
      assert.strictEqual(row.Params, phase === params ? "decode" : phase === refused ? "count" : "ignore")
      assert.strictEqual(row.ParamsEnd, phase === params ? "admit" : phase === refused ? "answer" : "ignore")
      // Input is for a handler that runs or may still run.
      const takes = phase?.isOpen === true && phase.isAdmitted
      assert.strictEqual(row.Input, takes ? "offer" : phase === params ? "refuse" : "ignore")
      const end = phase === undefined ? "forget" : phase === params ? "refuse" : "ignore"
      assert.strictEqual(row.InputEnd, takes ? "complete" : end)
      // SPEC 5.4: ABORT_REQUEST is answered once, at once or when the handler has ended.
      const aborted = phase?.after.abort
      const isNews = aborted !== undefined && aborted !== phase
      assert.strictEqual(row.Abort, isNews ? aborted.isOver ? "abort" : "interrupt" : "ignore")
    })
  }

  it("is the one that docs/specification.md prints", () => {
    assertPrinted({
      Begin: "BEGIN_REQUEST",
      Params: "PARAMS",
      ParamsEnd: "empty PARAMS",
      Input: "STDIN, DATA",
      InputEnd: "empty STDIN, DATA",
      Abort: "ABORT_REQUEST"
    }, rows)
  })
})

describe("the phases of a request at the web server's end", () => {
  it("are all reached from its beginning, and end in `ended`", () => {
    assert.deepStrictEqual([...reachable(webServerStates.active)].sort(), Object.keys(webServerStates).sort())
    for (const phase of Object.values(webServerStates)) assert.strictEqual(phase.after.end, webServerStates.ended)
  })

  it("never lead back: whoever has been told how a request ends is not told again", () => {
    for (const { from, name, to } of steps(webServerStates)) {
      if (!from.isActive) assert.isFalse(to.isActive, name)
      if (from.name === "ended") assert.strictEqual(to, from, name)
    }
  })
})

describe("the table of records at the web server's end", () => {
  const rows = Object.entries(webServerTable)

  it("has a row for each phase in which an id is taken, and one for an id that is free", () => {
    const { ended, ...taken } = webServerStates
    assert.deepStrictEqual(rows.map(([name]) => name), ["inactive", ...Object.keys(taken)])
    for (const { name, on } of Object.values(taken)) {
      assert.strictEqual(on, rows.find(([row]) => row === name)![1])
    }
    assert.strictEqual(ended.on, webServerTable.inactive)
  })

  for (const [name, row] of rows) {
    const phase = Object.values(webServerStates).find((phase) => phase.name === name)
    it(`does in ${name} what the phase allows`, () => {
      const { active, left } = webServerStates
      assert.strictEqual(row.Stdout, phase === active ? "deliver" : phase === left ? "exceed" : "ignore")
      assert.strictEqual(row.StdoutEnd, phase === active ? "complete" : "ignore")
      // A log is read to its end, also behind the answer.
      assert.strictEqual(row.Stderr, phase?.isActive === true ? "deliver" : "ignore")
      // SPEC 3.3: END_REQUEST frees the id of every request; only one that is not given up is told how it ended.
      assert.strictEqual(row.End, phase === undefined ? "ignore" : phase.isActive ? "end" : "free")
    })
  }

  it("is the one that docs/specification.md prints", () => {
    assertPrinted({ Stdout: "STDOUT", StdoutEnd: "empty STDOUT", Stderr: "STDERR", End: "END_REQUEST" }, rows)
  })
})

describe("the states of a connection", () => {
  it("are all reached from the beginning, and end in `closed`", () => {
    assert.deepStrictEqual([...reachable(connectionStates.open)].sort(), Object.keys(connectionStates).sort())
    for (const state of Object.values(connectionStates)) {
      assert.strictEqual(state.after.lose, connectionStates.closed)
      assert.isTrue(reachable(state).has("closed"))
    }
  })

  it("never lead back", () => {
    for (const { from, name, to } of steps(connectionStates)) {
      if (!from.isOpen) assert.isFalse(to.isOpen, name)
      if (!from.isAccepting) assert.isFalse(to.isAccepting, name)
      if (from.closesWhenIdle) assert.isTrue(to.closesWhenIdle || !to.isOpen, name)
    }
  })
})
