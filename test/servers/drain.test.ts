/**
 * The end of the application, seen from its connections: what runs is finished, or interrupted at the deadline, or cut off.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as WebServers from "../support/webServers.ts"
import * as Application from "./support/application.ts"
import { call } from "./support/direct.ts"

/** The application, and a request to it that runs until it is told to finish. */
const running = (...args: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const folder = yield* WebServers.temporaryDirectory
    const path = Path.join(folder, "app.sock")
    const application = yield* Application.start(Path.join(folder, "control.sock"), "--path", path, ...args)
    const id = application.id()
    const response = yield* Effect.forkScoped(Effect.exit(call({ path }, `/wait?id=${id}`)), {
      startImmediately: true
    })
    yield* application.hears("Begun", id)
    return { application, id, path, response, process: application.program.pid }
  })

const removed = (path: string) => WebServers.until("the socket is removed", () => !Fs.existsSync(path))

describe("an application that is told to end while it works", () => {
  it.live.each([["SIGTERM"], ["SIGINT"], ["SIGUSR1"]] as const)(
    "finishes after %s, takes nothing new, and exits with 0",
    ([signal]) =>
      Effect.gen(function*() {
        const { application, id, path, process: pid, response } = yield* running()
        process.kill(pid, signal)
        yield* removed(path)
        assert.isTrue(Exit.isFailure(yield* Effect.exit(call({ path }, "/hello"))))
        assert.isUndefined(response.pollUnsafe())
        yield* application.say({ _tag: "Finish", id })
        assert.deepStrictEqual(yield* Fiber.join(response), Exit.succeed({ status: 200, text: "finished" }))
        assert.deepStrictEqual(yield* application.program.ended, { code: 0, signal: null })
        assert.strictEqual(application.program.log(), "")
      })
  )

  it.live("interrupts at the deadline what has not finished, answers 503, and exits with 0", () =>
    Effect.gen(function*() {
      const { application, id, process: pid, response } = yield* running("--graceful", "100")
      process.kill(pid, "SIGTERM")
      const exit = yield* Fiber.join(response)
      assert.strictEqual(Exit.isSuccess(exit) ? exit.value.status : exit, 503)
      assert.isFalse((yield* application.hears("Interrupted", id)).byClient)
      assert.deepStrictEqual(yield* application.program.ended, { code: 0, signal: null })
    }))

  it.live("cuts off what runs at a second signal, and exits with 143", () =>
    Effect.gen(function*() {
      const { application, path, process: pid, response } = yield* running()
      process.kill(pid, "SIGTERM")
      yield* removed(path)
      assert.isUndefined(response.pollUnsafe())
      // Again and again: in the first half of a second they are taken for the same. The process is gone a moment before its end is told.
      const ended = yield* Effect.raceFirst(
        application.program.ended,
        Effect.andThen(
          Effect.repeat(Effect.ignore(Effect.try(() => process.kill(pid, "SIGTERM"))), Schedule.spaced("50 millis")),
          Effect.never
        )
      )
      assert.deepStrictEqual(ended, { code: 143, signal: null })
      assert.isTrue(Exit.isFailure(yield* Fiber.join(response)))
    }))

  it.live("takes a signal that comes twice at once for one", () =>
    Effect.gen(function*() {
      const { application, id, path, process: pid, response } = yield* running()
      process.kill(pid, "SIGINT")
      process.kill(pid, "SIGUSR1")
      yield* removed(path)
      yield* application.say({ _tag: "Finish", id })
      assert.deepStrictEqual(yield* Fiber.join(response), Exit.succeed({ status: 200, text: "finished" }))
      assert.deepStrictEqual(yield* application.program.ended, { code: 0, signal: null })
    }))
})
