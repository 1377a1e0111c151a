/**
 * Workers when something goes wrong, or is replaced.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { withListening } from "../node/children.ts"
import * as WebServers from "../support/webServers.ts"
import { answering, gone, others, pidOf, place, program, refusal, start, upload } from "../support/workers.ts"

const count = (text: string, part: string) => text.split(part).length - 1

describe("workers", () => {
  it.live("keep the old code when the new does not start", () =>
    Effect.gen(function*() {
      const { folder, path } = yield* place
      const broken = Path.join(folder, "broken")
      const supervisor = yield* start({ listen: { path }, workers: { workers: 2 }, broken })
      const first = yield* answering({ path }, 2)
      Fs.writeFileSync(broken, "")
      process.kill(supervisor.pid, "SIGHUP")
      yield* supervisor.says(
        /the reload has stopped: a new worker 1 \(process \d+\) has ended \(exit 1\) before it served/
      )
      yield* supervisor.says("2 of 2 workers are the old ones, and serve on")
      assert.deepStrictEqual(yield* answering({ path }, 2), first)
      // One dies, and its successor cannot start until the app is mended.
      const [dead] = first
      process.kill(dead!, "SIGKILL")
      yield* supervisor.says(/worker \d \(process \d+\) has ended \(exit 1\) before it served: trying again in \d+ms/)
      yield* supervisor.says("trying again in 400ms")
      assert.notStrictEqual(yield* pidOf({ path }), dead)
      Fs.rmSync(broken)
      yield* answering({ path }, 2, [dead!])
      assert.deepStrictEqual(yield* supervisor.stop(), { code: 0, signal: null })
    }).pipe(Effect.scoped))

  it.live("that cannot serve end their supervisor, which says so once", () =>
    Effect.gen(function*() {
      const { path } = yield* place
      Fs.writeFileSync(path, "a file")
      const ended = yield* WebServers.run(program({ listen: { path }, workers: { workers: 3 } }))
      assert.strictEqual(ended.code, 1)
      assert.strictEqual(count(ended.log, `Cannot listen on ${path}: a file is there`), 1)
      assert.match(ended.log, /The first worker \(process \d+\) has ended \(exit 1\) before it served/)
    }).pipe(Effect.scoped))

  it.live("give up when none serves and all fail", () =>
    Effect.gen(function*() {
      const { folder, path } = yield* place
      const broken = Path.join(folder, "broken")
      const supervisor = yield* start({ listen: { path }, workers: { workers: 1, emergencyThreshold: 2 }, broken })
      Fs.writeFileSync(broken, "")
      process.kill(yield* pidOf({ path }), "SIGKILL")
      assert.deepStrictEqual(yield* supervisor.ended, { code: 1, signal: null })
      assert.match(supervisor.log(), /No worker serves, and 2 have failed within 1m \(emergencyThreshold\)/)
      assert.isFalse(Fs.existsSync(path))
    }).pipe(Effect.scoped))

  it.live("are handed to a new supervisor by SIGUSR2, with the socket", () =>
    Effect.gen(function*() {
      const { path } = yield* place
      const inode = () => Fs.statSync(path).ino
      const supervisor = yield* start({ listen: { path }, workers: { workers: 1 } })
      const first = yield* pidOf({ path })
      const before = inode()
      process.kill(supervisor.pid, "SIGUSR2")
      const said = yield* supervisor.says(/the new supervisor, process \d+, serves: this one ends/)
      const successor = Number(/process (\d+)/.exec(said)![1])
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => WebServers.isRunning(successor) && process.kill(successor, "SIGKILL"))
      )
      assert.deepStrictEqual(yield* supervisor.ended, { code: 0, signal: null })
      assert.isFalse(WebServers.isRunning(first))
      const { status: { value: status } } = yield* others({ path })
      assert.strictEqual(status.pid, successor)
      assert.strictEqual(inode(), before)
      process.kill(successor, "SIGTERM")
      yield* gone(successor)
      assert.isFalse(Fs.existsSync(path))
    }).pipe(Effect.scoped))

  it.live("end, when they have finished, when their supervisor is killed", () =>
    Effect.gen(function*() {
      const { path } = yield* place
      const supervisor = yield* start({ listen: { path }, workers: { workers: 1 } })
      const pid = yield* pidOf({ path })
      const running = yield* upload({ path })
      yield* WebServers.eventually(
        "the upload has begun",
        Effect.filterOrFail(others({ path }), ({ status }) => status.value.workers[0]!.requestsOpen > 0)
      )
      process.kill(supervisor.pid, "SIGKILL")
      yield* supervisor.ended
      assert.strictEqual(yield* running.finish, `${pid} 10`)
      yield* gone(pid)
    }).pipe(Effect.scoped))

  it.live("share file descriptor 0, which the supervisor was started with", () =>
    Effect.gen(function*() {
      const { path } = yield* place
      const supervisor = yield* withListening(
        path,
        (fd) => start({ listen: {}, workers: { workers: 2 } }, { stdin: fd })
      )
      yield* answering({ path }, 2)
      assert.deepStrictEqual(yield* supervisor.stop(), { code: 0, signal: null })
      // The name is not theirs.
      assert.isTrue(Fs.existsSync(path))
      assert.strictEqual(yield* refusal({ path }), "ECONNREFUSED")
    }).pipe(Effect.scoped))
})
