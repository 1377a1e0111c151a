/**
 * FCGI_WEB_SERVER_ADDRS as the specification means it: lighttpd starts the application and tells it in the environment which
 * address it connects from (SPEC 2.3).
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { programFile } from "../support/programFile.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import { request } from "./support/http.ts"
import * as Lighttpd from "./support/lighttpd.ts"

const fixture = programFile("test/node/fixtures/app.ts")

/** What a request gets when lighttpd has started the application on a socket with this environment variable. */
const answer = (lighttpd: string, kind: "TCP" | "UNIX", addresses: string) =>
  Effect.gen(function*() {
    const folder = yield* WebServers.temporaryDirectory
    const port = yield* WebServers.freePort
    const socket = kind === "UNIX"
      ? `"socket" => "${folder}/app.sock"`
      : `"host" => "127.0.0.1", "port" => ${yield* WebServers.freePort}`
    const server = yield* Lighttpd.start(
      lighttpd,
      folder,
      port,
      `server.modules += ( "mod_fastcgi" )
server.breakagelog = "${folder}/app.log"
fastcgi.server = ( "/" => (( ${socket}, "max-procs" => 1, "check-local" => "disable",
  "bin-path" => "${process.execPath} ${fixture}",
  "bin-environment" => ( "FCGI_WEB_SERVER_ADDRS" => "${addresses}" ) )) )
`
    )
    const response = yield* request(port, "/pid")
    return { status: response.status, log: server.log() }
  })

describeWith(["lighttpd"], "an application that lighttpd starts", (lighttpd) => {
  it.live("serves lighttpd when that is on the list", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* answer(lighttpd!, "TCP", "127.0.0.1")).status, 200)
      assert.strictEqual((yield* answer(lighttpd!, "TCP", "192.0.2.1,127.0.0.1")).status, 200)
    }))

  it.live("does not when it is not, nor over a UNIX socket", () =>
    Effect.gen(function*() {
      assert.isAtLeast((yield* answer(lighttpd!, "TCP", "127.0.0.2")).status, 500)
      assert.isAtLeast((yield* answer(lighttpd!, "UNIX", "127.0.0.1")).status, 500)
    }))
})
