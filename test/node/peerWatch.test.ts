import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import { closedEnds, endsOf } from "../../src/node/internal/peerWatch.ts"
import { eventually, makePair } from "./sockets.ts"

describe("the ends of TCP connections that no process has open any more", () => {
  const row = (local: string, remote: string, state: string, inode: number) =>
    `   9: ${local} ${remote} ${state} 00000000:00000000 00:00000000 00000000     0        0 ${inode} 1 0 20 4 30 10 -1`

  it("are those that have been closed, whatever the state of the connection is", () => {
    const [a, b] = ["0100007F:1F90", "0100007F:8C1C"]
    const table = (state: string, inode: number) => closedEnds(`  sl  local_address ...\n${row(a, b, state, inode)}\n`)
    for (const state of ["04", "05", "06", "09", "0B"]) assert.deepStrictEqual([...table(state, 0)], [`${a} ${b}`])
    // Half-closed, and still open.
    for (const state of ["04", "05"]) assert.strictEqual(table(state, 4711).size, 0)
    // Open, not accepted yet, listening.
    for (const state of ["01", "02", "03", "0A"]) assert.strictEqual(table(state, 0).size, 0)
    assert.strictEqual(closedEnds("").size, 0)
    assert.strictEqual(closedEnds("no table\n\n1 2 3").size, 0)
  })

  it.skipIf(Os.endianness() !== "LE")("have the names of IPv4 also in the table of IPv6", () => {
    const mapped = "0000000000000000FFFF0000"
    const ends = closedEnds(row(`${mapped}0100007F:1F90`, `${mapped}0100007F:8C1C`, "04", 0))
    assert.deepStrictEqual([...ends], ["0100007F:1F90 0100007F:8C1C"])
  })

  it.live.skipIf(!Fs.existsSync("/proc/net/tcp"))(
    "are listed while their last bytes are not read",
    () =>
      Effect.gen(function*() {
        const { client, socket } = yield* makePair("tcp")
        socket.pause()
        client.socket.write(new Uint8Array(16_000_000))
        const listed = () => closedEnds(Fs.readFileSync("/proc/net/tcp", "latin1")).has(endsOf(socket)!)
        assert.isFalse(listed())
        client.socket.destroy()
        yield* eventually(listed, "the client's end in /proc/net/tcp")
      })
  )
})
