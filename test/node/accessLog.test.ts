/**
 * Where the access log goes on Node: files that rotate, disks that are full, pipes that nobody reads.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiHttpClient } from "effect-fastcgi/client"
import { NodeFastCgi, NodeFastCgiAccessLog, NodeFastCgiConnector } from "effect-fastcgi/node"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { LogFile } from "../../src/node/internal/logFile.ts"
import { LineWriter, literalOf } from "../../src/server/internal/lineWriter.ts"
import * as Pages from "../support/pages.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import { eventually, temporaryDirectory, turns } from "./sockets.ts"

/** A log, what it has said, and its lines. */
const open = (to: string, interval = 5) =>
  Effect.gen(function*() {
    const events: Array<string> = []
    const log = yield* Effect.acquireRelease(
      Effect.sync(() =>
        new LogFile(to, {
          onFailure: (why) => events.push(why),
          onRecovery: (leftOut) => events.push(`${leftOut} left out`)
        }, interval)
      ),
      (log) => Effect.promise(() => log.close(1000))
    )
    const lines = new LineWriter(log)
    const write = (text: string) => {
      lines.line([literalOf(text)], [], undefined)
      log.onLines(1)
    }
    return { log, write, events }
  })

const linesOf = (...files: ReadonlyArray<string>) =>
  files.flatMap((file) => Fs.readFileSync(file, "utf8").split("\n").slice(0, -1))

const numbers = (count: number) => Array.from({ length: count }, (_, i) => `line ${i}`)

describe("a log file", () => {
  it.live("loses no line in rotations, with the signal and without it", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* temporaryDirectory, "access.log")
      const count = 100_000
      const files: Array<string> = []
      yield* Effect.gen(function*() {
        const { events, log, write } = yield* open(path)
        for (let i = 0; i < count; i++) {
          write(`line ${i}`)
          if (i % 500 === 0) yield* turns(1)
          if (i % 10_000 === 9999) {
            const old = `${path}.${files.length}`
            Fs.renameSync(path, old)
            files.push(old)
            // As logrotate does, or by itself.
            if (i % 20_000 === 9999) log.reopen()
            yield* eventually(() => {
              log.onLines(0)
              return Fs.existsSync(path)
            }, "the file is there again")
          }
        }
        assert.deepStrictEqual(events, [])
      }).pipe(Effect.scoped)
      assert.deepStrictEqual(linesOf(...files, path), numbers(count))
      assert.strictEqual(Fs.statSync(files[0]!).mode & 0o777, 0o640)
    }))

  it.live("says once that the disk is full, and once that it is not any more", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryDirectory
      const path = Path.join(folder, "access.log")
      Fs.symlinkSync("/dev/full", path)
      const { events, write } = yield* open(path)
      for (let i = 0; i < 20_000; i++) write(`line ${i}`)
      yield* eventually(() => events.length > 0)
      yield* turns(20)
      assert.deepStrictEqual(events, ["ENOSPC: no space left on device, write"])
      Fs.unlinkSync(path)
      yield* eventually(() => {
        write("written")
        return events.length > 1
      })
      assert.match(events[1]!, /^2\d{4} left out$/)
      assert.deepStrictEqual([...new Set(linesOf(path))], ["written"])
    }))

  it.live("says once that its folder is gone, and once that it is there again", () =>
    Effect.gen(function*() {
      const folder = Path.join(yield* temporaryDirectory, "log")
      Fs.mkdirSync(folder)
      const path = Path.join(folder, "access.log")
      const { events, log, write } = yield* open(path)
      write("before")
      yield* eventually(() => linesOf(path).length === 1)
      Fs.renameSync(folder, `${folder}.old`)
      for (let i = 1; i <= 3; i++) {
        write(`without ${i}`)
        log.reopen()
        yield* eventually(() => linesOf(`${folder}.old/access.log`).length === 1 + i, `line ${i} in the old file`)
      }
      assert.deepStrictEqual(events.map((text) => text.split(":")[0]), ["ENOENT"])
      Fs.mkdirSync(folder)
      write("after")
      log.reopen()
      yield* eventually(() => events.length === 2)
      assert.deepStrictEqual(linesOf(path), ["after"])
    }))

  it.live("holds nobody up, and keeps 4 MiB, where a pipe is not read; then goes on", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* temporaryDirectory, "pipe")
      ChildProcess.execFileSync("mkfifo", [path])
      assert.throws(() => new LogFile(path, { onFailure: () => {}, onRecovery: () => {} }), /ENXIO/)
      const reader = Fs.openSync(path, Fs.constants.O_RDONLY | Fs.constants.O_NONBLOCK)
      const { events, write } = yield* open(path)
      const line = `${"x".repeat(999)}\n`
      const count = 20_000
      for (let i = 0; i < count; i++) {
        write(line.trimEnd())
        if (i % 100 === 0) yield* turns(1)
      }
      assert.deepStrictEqual(events, ["it takes too long to write to it"])
      let read = 0
      const buffer = Buffer.alloc(6 * 1024 * 1024)
      const take = () => {
        try {
          read += Fs.readSync(reader, buffer, read, buffer.length - read, null)
        } catch {
          // Nothing there.
        }
        return events.length > 1
      }
      yield* eventually(take, "the log goes on")
      const leftOut = Number(/^(\d+) left out$/.exec(events[1]!)![1])
      yield* eventually(() => take() && read === (count - leftOut) * 1000, "all that was kept has come")
      assert.isAtMost(read, 4.5 * 1024 * 1024)
      // Whole lines, whichever are left out.
      const lines = new Set(buffer.toString("latin1", 0, read).split("\n"))
      assert.deepStrictEqual([...lines], [line.trimEnd(), ""])
      Fs.closeSync(reader)
    }))
})

const app = (options: NodeFastCgiAccessLog.NodeFastCgiAccessLogOptions, path: string) =>
  HttpRouter.serve(HttpRouter.add("GET", "/*", HttpServerResponse.text("hello")), { disableLogger: true }).pipe(
    Layer.provide(NodeFastCgi.layer({ path })),
    Layer.provide(NodeFastCgiAccessLog.layer(options)),
    Layer.provide(Logger.layer([]))
  )

describe("the access log on Node", () => {
  it.live("has the lines of all requests when the server has stopped, and opens the file anew on SIGHUP", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryDirectory
      const to = Path.join(folder, "access.log")
      const path = Path.join(folder, "app.sock")
      // More than are written at a time.
      const others = Array.from({ length: 150 }, (_, number) => number)
      yield* Effect.gen(function*() {
        yield* Layer.build(app({ to, format: "%m %U %s %P" }, path))
        const client = yield* FastCgiHttpClient.make({ connect: NodeFastCgiConnector.connect({ path }) })
        yield* client.get("http://localhost/first")
        Fs.renameSync(to, `${to}.1`)
        process.emit("SIGHUP", "SIGHUP")
        yield* eventually(() => Fs.existsSync(to), "the file is there again")
        for (const number of others) yield* client.get(`http://localhost/${number}`)
      }).pipe(Effect.scoped)
      assert.deepStrictEqual(
        linesOf(`${to}.1`, to),
        ["first", ...others].map((name) => `GET /${name} 200 ${process.pid}`)
      )
      assert.strictEqual(process.listenerCount("SIGHUP"), 0)
    }))

  describeWith(["logrotate"], "rotated as docs/monitoring.md says", (logrotate) => {
    it.live("goes on in a new file", () =>
      Effect.gen(function*() {
        const folder = yield* temporaryDirectory
        const to = Path.join(folder, "access.log")
        const path = Path.join(folder, "app.sock")
        const rules = Path.join(folder, "rules")
        Fs.writeFileSync(
          rules,
          WebServers.fill(
            WebServers.documented(Pages.read("docs/monitoring.md"), "conf", "logrotate moves the file away"),
            [
              ["/var/log/app/access.log", to],
              ["systemctl kill --signal=HUP --kill-whom=main app.service", `kill -HUP ${process.pid}`]
            ]
          )
        )
        yield* Layer.build(app({ to, format: "%U" }, path))
        const client = yield* FastCgiHttpClient.make({ connect: NodeFastCgiConnector.connect({ path }) })
        yield* client.get("http://localhost/first")
        ChildProcess.execFileSync(logrotate!, ["--force", "--state", Path.join(folder, "state"), rules])
        yield* eventually(() => Fs.existsSync(to), "the file is there again")
        yield* client.get("http://localhost/second")
        // Lines are written in batches: the first is in one of the files.
        yield* eventually(() => linesOf(`${to}.1`, to).length === 2, "both lines")
        assert.deepStrictEqual(linesOf(`${to}.1`, to), ["/first", "/second"])
      }).pipe(Effect.scoped))
  })

  const failure = (options: NodeFastCgiAccessLog.NodeFastCgiAccessLogOptions) =>
    Effect.map(Effect.flip(Effect.scoped(Layer.build(NodeFastCgiAccessLog.layer(options)))), ({ message }) => message)

  it.live("says what is wrong with its file and its format", () =>
    Effect.gen(function*() {
      assert.strictEqual(
        yield* failure({ to: "/none/access.log" }),
        "the access log \"/none/access.log\" cannot be opened: its folder does not exist. Create the folder, owned by the user that " +
          "runs this program."
      )
      assert.include(yield* failure({ to: "/none/access.log", format: "%y" }), "\"%y\" at 1 is no directive")
    }))

  it.effect("has its settings in the environment", () =>
    Effect.gen(function*() {
      const config = (env: Record<string, string>) =>
        Effect.provide(NodeFastCgiAccessLog.config, ConfigProvider.layer(ConfigProvider.fromEnv({ env })))
      assert.deepStrictEqual(
        yield* config({ FASTCGI_ACCESS_LOG: "journal", FASTCGI_ACCESS_FORMAT: "json", FASTCGI_POOL: "shop" }),
        { to: "journal", format: "json", pool: "shop" }
      )
      assert.isUndefined(yield* config({}))
    }))
})
