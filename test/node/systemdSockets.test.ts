import { assert, describe, it } from "@effect/vitest"
import { readPassed } from "../../src/node/internal/systemdSockets.ts"

describe("the sockets that systemd passes", () => {
  const read = (env: Record<string, string>) => readPassed({ LISTEN_PID: "7", ...env }, 7)

  it("are counted from 3 and have the names of their units", () => {
    assert.deepStrictEqual(read({ LISTEN_FDS: "1", LISTEN_FDNAMES: "app.socket" }), [{ fd: 3, name: "app.socket" }])
    assert.deepStrictEqual(read({ LISTEN_FDS: "3", LISTEN_FDNAMES: "a:b:a" }), [
      { fd: 3, name: "a" },
      { fd: 4, name: "b" },
      { fd: 5, name: "a" }
    ])
  })

  it("are unknown where nobody has named them", () => {
    assert.deepStrictEqual(read({ LISTEN_FDS: "1" }), [{ fd: 3, name: "unknown" }])
    assert.deepStrictEqual(read({ LISTEN_FDS: "2", LISTEN_FDNAMES: "a" }), [
      { fd: 3, name: "a" },
      { fd: 4, name: "unknown" }
    ])
  })

  it("are none without the variables, and when their number is none", () => {
    assert.match(
      String(readPassed({}, 7)),
      /^No socket was passed by systemd: LISTEN_FDS is not set\. Start the program by/
    )
    assert.match(String(readPassed({ LISTEN_FDS: "1" }, 7)), /LISTEN_PID is not set/)
    for (const count of ["0", "", "-1", "1x", "99999999999"]) {
      assert.strictEqual(
        read({ LISTEN_FDS: count }),
        `No socket was passed by systemd: LISTEN_FDS is "${count}".`
      )
    }
  })

  it("are not taken when they are for another process", () => {
    assert.match(
      String(read({ LISTEN_FDS: "1", LISTEN_PID: "8" })),
      /^The sockets that systemd has passed are for process 8, and this is process 7\. /
    )
  })
})
