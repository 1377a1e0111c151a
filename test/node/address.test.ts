/**
 * Addresses as people type them: one parser for the command and for settings, and what it says to a mistake.
 */
import { assert, describe, it } from "@effect/vitest"
import { addressMistake, parseAddress, parseListenAddress } from "../../src/node/internal/address.ts"

describe("an address", () => {
  it("is a path, a port, or a URL of either", () => {
    for (
      const [text, address] of [
        ["/run/app.sock", { path: "/run/app.sock" }],
        ["./app.sock", { path: "./app.sock" }],
        ["unix:app.sock", { path: "app.sock" }],
        ["unix:/run/app.sock", { path: "/run/app.sock" }],
        ["unix:///run/app.sock", { path: "/run/app.sock" }],
        ["@name", { path: "\0name" }],
        ["9000", { port: 9000 }],
        [":9000", { port: 9000 }],
        ["localhost:9000", { host: "localhost", port: 9000 }],
        ["[::1]:9000", { host: "::1", port: 9000 }],
        ["fcgi://localhost:9001", { host: "localhost", port: 9001 }],
        ["fcgi://localhost:9001/", { host: "localhost", port: 9001 }],
        ["fcgi://localhost", { host: "localhost", port: 9000 }],
        ["fcgi://[::1]", { host: "::1", port: 9000 }],
        ["fastcgi://127.0.0.1:9000", { host: "127.0.0.1", port: 9000 }],
        ["tcp://127.0.0.1:9000", { host: "127.0.0.1", port: 9000 }],
        ["fcgi:///run/app.sock", { path: "/run/app.sock" }]
      ] as const
    ) assert.deepStrictEqual(parseAddress(text), address, text)
  })

  it("to listen on may be a descriptor or systemd's as well", () => {
    assert.deepStrictEqual(parseListenAddress("fd:0"), { fd: 0 })
    assert.deepStrictEqual(parseListenAddress("systemd"), { systemd: true })
    assert.deepStrictEqual(parseListenAddress("systemd:web"), { systemd: "web" })
    assert.deepStrictEqual(parseListenAddress("./app.sock"), { path: "./app.sock" })
  })

  it("that is none says what may have been meant", () => {
    for (
      const [text, meant] of [
        ["", "An empty text"],
        ["localhost", "Did you mean localhost:9000, or the socket ./localhost?"],
        ["app.sock", "Did you mean ./app.sock?"],
        ["::1:9000", "Did you mean [::1]:9000?"],
        ["localhost:70000", "a port is a number from 1 to 65535"],
        ["0", "a port is a number from 1 to 65535"],
        ["http://localhost:8080/", "that is where a web server answers"],
        ["redis://localhost:6379", "give a UNIX socket path"],
        ["fcgi://localhost/app", "give a UNIX socket path"],
        ["localhost:http", "give a UNIX socket path"],
        ["unix:", "give a UNIX socket path"]
      ] as const
    ) {
      assert.isUndefined(parseAddress(text), text)
      assert.include(addressMistake(text), meant)
    }
  })
})
