/**
 * Two applications behind HAProxy, under load: one of them is stopped, or HAProxy is reloaded. Nobody notices.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import * as Application from "./support/application.ts"
import * as HAProxy from "./support/haproxy.ts"

const script = fileURLToPath(new URL("./load.lua", import.meta.url))

describeWith(["haproxy", "wrk"], "behind HAProxy", (haproxy, wrk) => {
  // HAProxy closes kept connections when it is reloaded, and a client may be sending just then: a connection for each request.
  const underLoad = (...headers: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const path = (name: string) => Path.join(folder, `${name}.sock`)
      const first = yield* Application.start(path("first-control"), "--path", path("first"))
      yield* Application.start(path("second-control"), "--path", path("second"))
      const port = yield* WebServers.freePort
      const sections = HAProxy.sections("UNIX", "keep-conn")({ port, socket: path("first"), appPort: 1, suffix: "" })
        .replace(/^ {2}server .*$/m, (line) =>
          `  option redispatch 1\n${line} check\n  server second unix@${path("second")} proto fcgi check`)
      const server = yield* HAProxy.start(haproxy!, folder, [sections], [port], { args: ["-W", "-db"] })
      const running = yield* Effect.forkScoped(
        WebServers.run({
          name: "wrk",
          command: wrk!,
          args: [
            ...["-t1", "-c16", "-d3s", "--timeout", "10s"],
            ...headers.flatMap((header) => ["-H", header]),
            ...["-s", script, `http://127.0.0.1:${port}/hello`]
          ]
        }),
        { startImmediately: true }
      )
      yield* WebServers.eventually(
        "the load has begun",
        Effect.filterOrFail(first.measure, ({ handled }) =>
          handled > 300, () => "not yet")
      )
      return { first, server, running }
    })

  it.live("no request is lost when one of two applications is stopped", () =>
    Effect.gen(function*() {
      const { first, running } = yield* underLoad()
      assert.deepStrictEqual(yield* first.program.stop("SIGTERM"), { code: 0, signal: null })
      assert.match((yield* Fiber.join(running)).log, /RESULT requests=\d+ wrong=0 broken=0/)
    }))

  it.live("no request is lost when HAProxy is reloaded (SIGUSR2)", () =>
    Effect.gen(function*() {
      const { running, server } = yield* underLoad("Connection: close")
      const since = server.log().length
      process.kill(server.pid, "SIGUSR2")
      yield* server.says(/New worker|Loading success/, since)
      assert.match((yield* Fiber.join(running)).log, /RESULT requests=\d+ wrong=0 broken=0/)
    }))
})
