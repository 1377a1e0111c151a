/**
 * Two applications behind HAProxy, under load: one of them is stopped, or HAProxy is reloaded. Nobody notices.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Path from "node:path"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import * as Application from "./support/application.ts"
import * as HAProxy from "./support/haproxy.ts"
import * as Wrk from "./support/wrk.ts"

describeWith(["haproxy", "wrk"], "behind HAProxy", (haproxy, wrk) => {
  // HAProxy closes kept connections when it is reloaded, and a client may be sending just then: a connection for each request.
  const underLoad = (...headers: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const path = (name: string) => Path.join(folder, `${name}.sock`)
      const first = yield* Application.start(path("first-control"), "--path", path("first"))
      const second = yield* Application.start(path("second-control"), "--path", path("second"))
      const port = yield* WebServers.freePort
      const sections = HAProxy.sections("UNIX", "keep-conn")({ port, socket: path("first"), appPort: 1, suffix: "" })
        .replace(/^ {2}server .*$/m, (line) =>
          `  option redispatch 1\n${line} check\n  server second unix@${path("second")} proto fcgi check`)
      const server = yield* HAProxy.start(haproxy!, folder, [sections], [port], { args: ["-W", "-db"] })
      const stop = yield* Wrk.start({ wrk: wrk!, port, headers })
      yield* Wrk.handled(first, 300)
      return { first, second, server, stop }
    })

  it.live("no request is lost when one of two applications is stopped", () =>
    Effect.gen(function*() {
      const { first, second, stop } = yield* underLoad()
      assert.deepStrictEqual(yield* first.program.stop("SIGTERM"), { code: 0, signal: null })
      yield* Wrk.handled(second, (yield* second.measure).handled + 300)
      assert.isAbove(yield* stop, 600)
    }))

  it.live("no request is lost when HAProxy is reloaded (SIGUSR2)", () =>
    Effect.gen(function*() {
      const { first, server, stop } = yield* underLoad("Connection: close")
      const since = server.log().length
      process.kill(server.pid, "SIGUSR2")
      yield* server.says(/New worker|Loading success/, since)
      yield* Wrk.handled(first, (yield* first.measure).handled + 300)
      assert.isAbove(yield* stop, 600)
    }))
})
