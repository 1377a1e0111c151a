/**
 * A supervisor and its workers, as processes.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as WebServers from "../support/webServers.ts"
import { answering, get, gone, others, pidOf, place, refusal, start, upload } from "../support/workers.ts"

// The figures of workers count the question for them as well, when they are taken just then: of two requests that are open, one is
// an upload.
const twoUploads = (to: { readonly path: string }) =>
  Effect.tap(Effect.all([upload(to), upload(to)]), () =>
    WebServers.eventually(
      "one of two uploads has begun",
      Effect.filterOrFail(
        others(to),
        ({ status }) => status.value.workers.reduce((sum, { requestsOpen }) => sum + requestsOpen, 0) > 1
      )
    ))

describe("workers", () => {
  it.live("share a UNIX socket; one that dies is replaced, all are reloaded, and a stop lets them finish", () =>
    Effect.gen(function*() {
      const { path } = yield* place
      const supervisor = yield* start({ listen: { path, mode: 0o640 }, workers: { workers: 2 }, signals: true })
      assert.strictEqual(Fs.statSync(path).mode & 0o777, 0o640)
      const first = yield* answering({ path }, 2)
      assert.notInclude([...first], supervisor.pid)

      // What they know of one another.
      const { reports, status: { value: status } } = yield* others({ path })
      assert.deepStrictEqual(new Set(reports.map(({ value }) => value.pid)), first)
      assert.deepStrictEqual(reports.map(({ worker }) => worker).sort(), [1, 2])
      assert.strictEqual(status.pid, supervisor.pid)
      assert.deepStrictEqual(status.workers.map(({ state }) => state), ["serving", "serving"])
      assert.isAbove(status.workers[0]!.memory, 2 ** 20)

      // One dies.
      const [dead] = first
      process.kill(dead!, "SIGKILL")
      yield* supervisor.says(`(process ${dead}) has ended by itself (SIGKILL): starting another one`)
      const second = yield* answering({ path }, 2, [dead!])

      // All are replaced, and what runs is finished.
      const running = yield* twoUploads({ path })
      process.kill(supervisor.pid, "SIGHUP")
      yield* supervisor.says("reloaded: all 2 workers are new")
      const third = yield* answering({ path }, 2, [...second])
      const answers = yield* Effect.forEach(running, ({ finish }) => Effect.map(finish, (answer) => answer.split(" ")))
      assert.isTrue(answers.some(([by]) => second.has(Number(by))))
      for (const [, size] of answers) assert.strictEqual(size, "10")
      yield* Effect.forEach(second, gone)
      const { status: { value: after } } = yield* others({ path })
      assert.deepStrictEqual([after.restarts, after.reloads], [1, 1])

      // All are replaced, and then stopped while one of the replaced still finishes.
      const last = yield* twoUploads({ path })
      process.kill(supervisor.pid, "SIGHUP")
      yield* WebServers.eventually(
        "the next reload",
        Effect.filterOrFail(others({ path }), ({ status }) => status.value.reloads > 1)
      )
      const told = (pid: number) => `SIGTERM reaches process ${pid};`
      for (const pid of third) yield* supervisor.says(told(pid))
      const fourth = yield* answering({ path }, 2, [...third])
      const stopped = yield* Effect.forkScoped(supervisor.stop(), { startImmediately: true })
      for (const pid of fourth) yield* supervisor.says(told(pid))
      for (const { finish } of last) assert.strictEqual((yield* finish).split(" ")[1], "10")
      assert.deepStrictEqual(yield* Fiber.join(stopped), { code: 0, signal: null })
      assert.isFalse(Fs.existsSync(path))
      for (const pid of third) assert.isFalse(WebServers.isRunning(pid))
      // A second signal would end a worker at once, with the request that it still finishes.
      for (const pid of [...third, ...fourth]) assert.strictEqual(supervisor.log().split(told(pid)).length, 2)
    }).pipe(Effect.scoped))

  it.live("on a port: one that has taken its requests is replaced, and one that hangs", () =>
    Effect.gen(function*() {
      const port = yield* WebServers.freePort
      const supervisor = yield* start({
        listen: { port },
        workers: { workers: 1, maxRequestsPerWorker: 20, unresponsiveTimeout: "1500 millis" }
      })
      const first = yield* pidOf({ port })
      for (let i = 0; i < 25; i++) yield* pidOf({ port })
      yield* supervisor.says(/replacing worker 1 \(process \d+\): it has taken 2\d requests \(maxRequestsPerWorker\)/)
      const [second] = yield* answering({ port }, 1, [first])
      yield* gone(first)
      process.kill(second!, "SIGSTOP")
      yield* supervisor.says(`killed worker 1 (process ${second}): its event loop has stood still for`)
      yield* answering({ port }, 1, [second!])
      assert.deepStrictEqual(yield* supervisor.stop("SIGINT"), { code: 0, signal: null })
      assert.strictEqual(yield* refusal({ port, host: "127.0.0.1" }), "ECONNREFUSED")
    }).pipe(Effect.scoped))

  it.live("show on one page what all of them have done, and lose no line of their log when it is rotated", () =>
    Effect.gen(function*() {
      const { folder, path } = yield* place
      const log = Path.join(folder, "access.log")
      // Its socket is shared as well, and stays through a reload.
      const status = { path: Path.join(folder, "status.sock") }
      const supervisor = yield* start({ listen: { path }, workers: { workers: 3 }, log, status })
      const paths = Array.from({ length: 240 }, (_, number) => number % 6 === 0 ? "/fail" : "/pid")
      const exchange = Effect.forEach(paths, (target) => get({ path }, target), { concurrency: 4 })
      const page = Effect.map(
        get({ path }, "/status?json"),
        (text) => JSON.parse(text) as Readonly<Record<string, unknown>>
      )
      const before = yield* page
      yield* exchange
      const after = yield* page
      assert.strictEqual(after["total processes"], 3)
      assert.strictEqual(Number(after["accepted conn"]) - Number(before["accepted conn"]), paths.length)

      // By itself, and with a reload as logrotate asks for it, while requests go on.
      const more = yield* Effect.forkScoped(exchange, { startImmediately: true })
      Fs.renameSync(log, `${log}.1`)
      yield* WebServers.until("the file is there again", () => Fs.existsSync(log))
      Fs.renameSync(log, `${log}.2`)
      process.kill(supervisor.pid, "SIGHUP")
      const last = yield* Effect.forkScoped(exchange, { startImmediately: true })
      yield* supervisor.says("reloaded: all 3 workers are new")
      yield* Fiber.join(more)
      yield* Fiber.join(last)
      yield* WebServers.accepts(status)
      yield* supervisor.stop()
      const lines = [log, `${log}.1`, `${log}.2`].flatMap((file) =>
        Fs.readFileSync(file, "utf8").split("\n").slice(0, -1)
      )
      assert.deepStrictEqual(lines.sort(), [...paths, ...paths, ...paths].sort())
    }).pipe(Effect.scoped))

  it.live("are replaced when they use too much memory, and killed when they do not end", () =>
    Effect.gen(function*() {
      const { path } = yield* place
      const supervisor = yield* start({
        listen: { path },
        workers: { workers: 1, maxMemoryPerWorker: 300 * 2 ** 20, stopTimeout: "500 millis" }
      })
      const first = yield* pidOf({ path })
      assert.strictEqual(yield* get({ path }, "/grow"), "1")
      yield* supervisor.says(/replacing worker 1 \(process \d+\): it uses \d+ MiB \(maxMemoryPerWorker\)/)
      const [second] = yield* answering({ path }, 1, [first])
      yield* gone(first)
      const never = Effect.ignore(get({ path }, "/never"))
      yield* Effect.forkScoped(Effect.all([never, never], { concurrency: 2 }), { startImmediately: true })
      // The one that asks may be one of two.
      yield* WebServers.eventually(
        "a request has begun",
        Effect.filterOrFail(others({ path }), ({ status }) => status.value.workers[0]!.requestsOpen > 1)
      )
      process.kill(supervisor.pid, "SIGHUP")
      yield* supervisor.says(
        `killed worker 1 (process ${second}): it had not ended 500ms after it was told to (stopTimeout)`
      )
      yield* gone(second!)
      yield* answering({ path }, 1, [first, second!])
      assert.deepStrictEqual(yield* supervisor.stop(), { code: 0, signal: null })
    }).pipe(Effect.scoped))
})
