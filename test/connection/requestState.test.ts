/**
 * The states of requests and connections, walked as data: no server, no Effect. What each cell does to a running server is in
 * `stateTable.test.ts`.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { connectionStates } from "../../src/connection/internal/connectionState.ts"
import { applicationStates, applicationTable } from "../../src/connection/internal/requestState.ts"
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
      if (row.Begin === "settle") assert.strictEqual(phase, applicationStates.ready)
      // SPEC 6.2: params before everything else.
      const inParams = phase === applicationStates.params || phase === applicationStates.refused
      assert.strictEqual(row.Params !== "ignore", inParams)
      assert.strictEqual(row.ParamsEnd !== "ignore", inParams)
      // Input is for a handler that runs or may still run.
      const takes = phase?.isOpen === true && phase.isAdmitted
      assert.strictEqual(row.Input === "offer", takes)
      assert.strictEqual(row.InputEnd === "complete", takes)
      assert.strictEqual(row.Input === "refuse", phase === applicationStates.params)
      // SPEC 5.4: ABORT_REQUEST is answered once, at once or when the handler has ended.
      const aborted = phase?.after.abort
      if (row.Abort === "end") assert.isTrue(aborted!.isOver && !phase!.isOver)
      else if (row.Abort === "interrupt") assert.strictEqual(aborted, applicationStates.interrupted)
      else assert.strictEqual(aborted, phase)
    })
  }

  it("is the one that docs/specification.md prints", () => {
    const columns = ["Begin", "Params", "ParamsEnd", "Input", "InputEnd", "Abort"] as const
    const titles = [
      "phase",
      "BEGIN_REQUEST",
      "PARAMS",
      "empty PARAMS",
      "STDIN, DATA",
      "empty STDIN, DATA",
      "ABORT_REQUEST"
    ]
    const cells = [titles, ...rows.map(([name, row]) => [name, ...columns.map((column) => row[column])])]
    const widths = titles.map((_, at) => Math.max(...cells.map((line) => line[at].length)))
    const line = (row: ReadonlyArray<string>) => `| ${row.map((cell, at) => cell.padEnd(widths[at])).join(" | ")} |`
    const table = [
      line(titles),
      `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`,
      ...cells.slice(1).map(line)
    ]
    assert.include(Fs.readFileSync(Path.join(projectRoot, "docs/specification.md"), "utf8"), table.join("\n"))
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
