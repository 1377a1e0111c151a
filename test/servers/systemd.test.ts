/**
 * What systemd is told, with `Type=notify`, by the program that systemd has for it. Nothing of systemd runs here but that.
 */
import { assert, it } from "@effect/vitest"
import { NodeSystemd } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { projectRoot } from "../support/files.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import { pidOf, start } from "../support/workers.ts"

const receiver = fileURLToPath(new URL("../node/fixtures/receive.pl", import.meta.url))

describeWith(["systemd-notify", "perl"], "Type=notify", (_, perl) => {
  const receiving = Effect.gen(function*() {
    const folder = yield* WebServers.temporaryDirectory
    const path = Path.join(folder, "notify.sock")
    const systemd = yield* WebServers.start({ name: "systemd", command: perl!, args: [receiver, path] })
    yield* systemd.says("listening")
    return { path, folder, systemd }
  })

  it.live("a supervisor tells that it serves, reloads, is alive and stops", () =>
    Effect.gen(function*() {
      const { folder, path: notify, systemd } = yield* receiving
      const path = Path.join(folder, "app.sock")
      const env = { NOTIFY_SOCKET: notify, WATCHDOG_USEC: "400000" }
      const supervisor = yield* start({ listen: { path }, workers: { workers: 1 } }, { env })
      yield* systemd.says("<READY=1 STATUS=1 worker serves>")
      // What a worker starts does not tell it.
      assert.notInclude(Fs.readFileSync(`/proc/${yield* pidOf({ path })}/environ`, "utf8"), "NOTIFY_SOCKET")
      yield* systemd.says(/(?:<WATCHDOG=1>[^]*){2}/)
      const since = systemd.log().length
      process.kill(supervisor.pid, "SIGHUP")
      const reloading = yield* systemd.says(/<RELOADING=1 MONOTONIC_USEC=\d+ STATUS=reloading>/, since)
      // The clock of both, in microseconds.
      const told = Number(/USEC=(\d+)/.exec(reloading)![1])
      assert.isAtMost(told, Number(process.hrtime.bigint() / 1000n))
      yield* systemd.says(/RELOADING[^]*<READY=1 STATUS=1 worker serves>/, since)
      assert.deepStrictEqual(yield* supervisor.stop(), { code: 0, signal: null })
      yield* systemd.says("<STOPPING=1>")
    }).pipe(Effect.scoped))

  it.live("a new supervisor is named as the main process", () =>
    Effect.gen(function*() {
      const { folder, path: notify, systemd } = yield* receiving
      const path = Path.join(folder, "app.sock")
      const supervisor = yield* start({ listen: { path }, workers: { workers: 1 } }, { env: { NOTIFY_SOCKET: notify } })
      process.kill(supervisor.pid, "SIGUSR2")
      const pid = Number(/\d+/.exec(yield* systemd.says(/<MAINPID=\d+>/))![0])
      assert.deepStrictEqual(yield* supervisor.ended, { code: 0, signal: null })
      assert.isTrue(WebServers.isRunning(pid))
      assert.notInclude(systemd.log(), "STOPPING")
      process.kill(pid, "SIGTERM")
      yield* systemd.says("<STOPPING=1>")
    }).pipe(Effect.scoped))

  it.live("an application of one process tells it by a layer", () =>
    Effect.gen(function*() {
      const { path, systemd } = yield* receiving
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          process.env["NOTIFY_SOCKET"] = path
        }),
        () =>
          Effect.sync(() => {
            delete process.env["NOTIFY_SOCKET"]
          })
      )
      yield* Effect.scoped(Effect.andThen(Layer.build(NodeSystemd.layer), systemd.says("<READY=1>")))
      yield* systemd.says("<STOPPING=1>")
      yield* NodeSystemd.notify("STATUS=reads its cache")
      yield* systemd.says("<STATUS=reads its cache>")
    }).pipe(Effect.scoped))
})

describeWith(["systemd-analyze"], "the unit of workers", (analyze) => {
  const unit = Fs.readFileSync(Path.join(projectRoot, "examples/systemd/workers.service"), "utf8")

  it("is what docs/workers.md says", () => {
    const page = Fs.readFileSync(Path.join(projectRoot, "docs/workers.md"), "utf8")
    assert.strictEqual(WebServers.documented(page, "ini", "workers that systemd watches"), unit)
    assert.isAbove(Number(/^TimeoutStopSec=(\d+)s$/m.exec(unit)?.[1]), 30)
  })

  it.live("is correct, and leaves little open", () =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const service = Path.join(folder, "app.service")
      Fs.writeFileSync(service, WebServers.fill(unit, [["/usr/bin/node", process.execPath]]))
      Fs.copyFileSync(Path.join(projectRoot, "examples/systemd/app.socket"), Path.join(folder, "app.socket"))
      const run = (...args: ReadonlyArray<string>) =>
        WebServers.run({ name: "systemd-analyze", command: analyze!, args: [...args, service] })
      assert.strictEqual((yield* run("verify", "--man=no")).log, "")
      const { log } = yield* run("security", "--offline=yes", "--no-pager")
      const [, exposure] = /Overall exposure level for app\.service: ([\d.]+) OK/.exec(log) ?? []
      assert.isAtMost(Number(exposure), 2, log)
    }).pipe(Effect.scoped))
})
