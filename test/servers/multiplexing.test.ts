/**
 * Several requests at once on one connection: what HAProxy does with `mpxs-conns`, and nobody else. They do not hear of each other.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Path from "node:path"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import * as Application from "./support/application.ts"
import { digestOf, pieces } from "./support/content.ts"
import * as HAProxy from "./support/haproxy.ts"
import { open, request, type RequestOptions } from "./support/http.ts"
import type { Digest, Received, RequestPlace } from "./support/messages.ts"

describeWith(["haproxy"], "requests that HAProxy multiplexes", (haproxy) => {
  /** HAProxy, whose threads would each have connections of their own, with an application behind it. */
  const multiplexed = (...args: ReadonlyArray<string>) => multiplexedWith(HAProxy.sections("UNIX", "mpxs-conns"), args)

  const multiplexedWith = (sectionsOf: ReturnType<typeof HAProxy.sections>, args: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const socket = Path.join(folder, "app.sock")
      const application = yield* Application.start(Path.join(folder, "control.sock"), "--path", socket, ...args)
      const port = yield* WebServers.freePort
      const sections = sectionsOf({ port, socket, appPort: 1, suffix: "" })
      const server = yield* HAProxy.start(haproxy!, folder, [sections], [port], { global: "nbthread 1" })

      /** Sends a request to `/wait` and waits until it is being handled. */
      const waiting = (options?: RequestOptions) =>
        Effect.gen(function*() {
          const id = application.id()
          const response = yield* Effect.forkScoped(request(port, `/wait?id=${id}`, options), {
            startImmediately: true
          })
          return { id, response, on: (yield* application.hears("Begun", id)).on! }
        })
      /** Opens a stream and waits until it is being handled. */
      const streaming = (path: string) =>
        Effect.gen(function*() {
          const id = application.id()
          const opening = yield* Effect.forkScoped(open(port, `${path}?id=${id}`), { startImmediately: true })
          const { on } = yield* application.hears("Begun", id)
          yield* application.say({ _tag: "Emit", id, text: "first" })
          return { id, response: yield* Fiber.join(opening), on: on! }
        })
      const finish = (id: string) => application.say({ _tag: "Finish", id })
      const where = Effect.flatMap(
        request(port, "/where"),
        ({ status, text }) =>
          status === 200
            ? Effect.succeed((JSON.parse(text) as Received).on!)
            : Effect.fail(new Error(`answered ${status}`))
      )
      return { application, port, server, waiting, streaming, finish, where }
    })

  const connectionsOf = (places: ReadonlyArray<{ readonly on: RequestPlace }>) => new Set(places.map(({ on }) => on[0]))
  const idsOf = (places: ReadonlyArray<{ readonly on: RequestPlace }>) => new Set(places.map(({ on }) => on[1]))

  it.live("are on one connection, and answered in any order", () =>
    Effect.gen(function*() {
      const { finish, waiting, where } = yield* multiplexed()
      const requests = yield* Effect.replicateEffect(waiting(), 12)
      assert.strictEqual(connectionsOf(requests).size, 1)
      assert.strictEqual(idsOf(requests).size, 12)
      // Handlers that take their time hold nobody up.
      assert.strictEqual((yield* where)[0], requests[0]!.on[0])
      for (const { id, response } of requests.toReversed()) {
        yield* finish(id)
        assert.strictEqual((yield* Fiber.join(response)).text, "finished")
      }
    }))

  it.live("have a connection each where the application says FCGI_MPXS_CONNS=0", () =>
    Effect.gen(function*() {
      const { finish, waiting } = yield* multiplexed("--no-multiplexing")
      const requests = yield* Effect.replicateEffect(waiting(), 5)
      assert.strictEqual(connectionsOf(requests).size, 5)
      for (const { id, response } of requests) {
        yield* finish(id)
        assert.strictEqual((yield* Fiber.join(response)).text, "finished")
      }
    }))

  it.live("stream beside each other, record by record", () =>
    Effect.gen(function*() {
      const { application, finish, streaming } = yield* multiplexed()
      const streams = yield* Effect.replicateEffect(streaming("/events"), 4)
      assert.strictEqual(connectionsOf(streams).size, 1)
      const expected = streams.map(() => "data: first\n\n")
      for (let i = 0; i < 10; i++) {
        for (const [n, { id, response }] of streams.entries()) {
          const text = `event ${i} of ${n}`
          yield* application.say({ _tag: "Emit", id, text })
          expected[n] += `data: ${text}\n\n`
          assert.strictEqual((yield* response.received(expected[n]!.length)).toString(), expected[n])
        }
      }
      for (const [n, { id, response }] of streams.entries()) {
        yield* finish(id)
        assert.strictEqual((yield* response.whole).text, expected[n])
      }
    }))

  it.live("go on when the client of one of them has gone, whose handler hears of it when they have ended", () =>
    Effect.gen(function*() {
      const { application, finish, streaming, waiting } = yield* multiplexed()
      const other = yield* waiting()
      const stream = yield* streaming("/events")
      assert.strictEqual(connectionsOf([other, stream]).size, 1)
      yield* stream.response.leave
      // What is sent to nobody costs nobody anything.
      for (let i = 0; i < 5; i++) {
        yield* application.say({ _tag: "Emit", id: stream.id, text: "m".repeat(100_000) })
        assert.isTrue(Exit.isFailure(yield* Effect.exit(application.hears("Interrupted", stream.id, 100))))
      }
      yield* finish(other.id)
      assert.strictEqual((yield* Fiber.join(other.response)).text, "finished")
      yield* application.say({ _tag: "Emit", id: stream.id, text: "last" })
      assert.isTrue((yield* application.hears("Interrupted", stream.id)).byClient)
    }))

  it.live("are not held up by an upload that its handler does not read", () =>
    Effect.gen(function*() {
      const { finish, port, waiting, where } = yield* multiplexed()
      const upload = yield* waiting({ method: "POST", body: Buffer.concat([...pieces(500_000)]) })
      for (let i = 0; i < 10; i++) assert.strictEqual((yield* where)[0], upload.on[0])
      yield* finish(upload.id)
      assert.strictEqual((yield* Fiber.join(upload.response)).text, "finished")
      // And one that is read arrives as a whole.
      const { text } = yield* request(port, "/digest", { method: "POST", body: Buffer.concat([...pieces(500_000)]) })
      assert.strictEqual((JSON.parse(text) as Digest).sha256, digestOf(500_000))
    }))

  it.live("are not held up by an upload where HAProxy has not asked whether it may multiplex", () =>
    Effect.gen(function*() {
      const { finish, waiting, where } = yield* multiplexedWith(
        (site) => HAProxy.sections("UNIX", "mpxs-conns")(site).replace(/^.*option get-values\n/m, ""),
        []
      )
      const upload = yield* waiting({ method: "POST", body: Buffer.concat([...pieces(200_000)]) })
      for (let i = 0; i < 10; i++) assert.strictEqual((yield* where)[0], upload.on[0])
      yield* finish(upload.id)
      assert.strictEqual((yield* Fiber.join(upload.response)).text, "finished")
    }))

  it.live("are held up for stallTimeout by an upload of which more comes than the application keeps", () =>
    Effect.gen(function*() {
      const { application, finish, streaming, waiting, where } = yield* multiplexed("--stall-timeout", "500")
      const stream = yield* streaming("/events")
      const upload = yield* waiting({ method: "POST", body: Buffer.concat([...pieces(5_000_000)]) })
      assert.strictEqual(connectionsOf([stream, upload]).size, 1)
      // Responses go on in any case.
      yield* application.say({ _tag: "Emit", id: stream.id, text: "beside" })
      yield* stream.response.received("data: first\n\ndata: beside\n\n".length)
      yield* application.program.says("stallTimeout")
      // Until its buffers are empty, HAProxy answers 500 to new ones.
      assert.strictEqual((yield* WebServers.eventually("an answer", where))[0], stream.on[0])
      for (const { id } of [upload, stream]) yield* finish(id)
      assert.strictEqual((yield* Fiber.join(upload.response)).text, "finished")
      assert.strictEqual((yield* stream.response.whole).text, "data: first\n\ndata: beside\n\n")
    }))

  it.live("are whole when a response beside them breaks, which is cut off when they have ended", () =>
    Effect.gen(function*() {
      const { application, finish, streaming, waiting, where } = yield* multiplexed()
      const other = yield* waiting()
      const stream = yield* streaming("/events")
      const broken = yield* streaming("/broken")
      assert.strictEqual(connectionsOf([other, stream, broken]).size, 1)
      yield* application.say({ _tag: "Fail", id: broken.id })
      yield* application.hears("Ended", broken.id)
      const cut = yield* Effect.forkScoped(Effect.exit(broken.response.whole), { startImmediately: true })

      // What comes now goes elsewhere, so that they end one day.
      yield* WebServers.eventually(
        "another connection",
        Effect.filterOrFail(where, ([connection]) => connection !== broken.on[0], () => "the same connection")
      )
      yield* application.say({ _tag: "Emit", id: stream.id, text: "after" })
      yield* stream.response.received("data: first\n\ndata: after\n\n".length)
      yield* finish(stream.id)
      assert.strictEqual((yield* stream.response.whole).text, "data: first\n\ndata: after\n\n")
      assert.isUndefined(cut.pollUnsafe())
      yield* finish(other.id)
      assert.strictEqual((yield* Fiber.join(other.response)).text, "finished")
      assert.isTrue(Exit.isFailure(yield* Fiber.join(cut)), "a broken response looks complete")
    }))

  it.live("of every kind at once leave HAProxy alive", () =>
    Effect.gen(function*() {
      const { port, server } = yield* multiplexed()
      // Small: while uploads fill its buffers, HAProxy 2.6 answers 500 to others on the connection.
      const body = Buffer.concat([...pieces(1000)])
      const kinds: ReadonlyArray<readonly [target: string, options: RequestOptions, expected: number]> = [
        ["/hello", {}, 12],
        [`/stderr?text=${"e".repeat(500)}`, {}, 6],
        ["/headers?size=12000", {}, 7],
        ["/download?size=300000", {}, 300_000],
        ["/download?size=300000&length", {}, 300_000],
        ["/digest", { method: "POST", body }, 0],
        ["/early", { method: "POST", body }, 9],
        ["/hello", { method: "HEAD" }, 0],
        ["/status?code=304", {}, 0],
        ["/fail", {}, 0]
      ]
      const send = (i: number) => {
        const [target, options, expected] = kinds[i % kinds.length]!
        return Effect.map(request(port, target, options), (response) => {
          if (target !== "/digest") assert.strictEqual(response.body.length, expected, target)
        })
      }
      yield* Effect.forEach(Array.from({ length: 500 }, (_, i) => i), send, { concurrency: 16 })
      assert.isTrue(WebServers.isRunning(server.pid))
      assert.strictEqual((yield* request(port, "/hello")).text, "Hello world!")
    }))
})
