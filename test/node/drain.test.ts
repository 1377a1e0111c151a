/**
 * Connections that web servers keep, when the application stops: FastCGI has no way to say "no more requests on this one", so a
 * request may be under way when it is closed.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiAdmission, FastCgiRecord, FastCgiResponse, FastCgiServer } from "effect-fastcgi"
import { NodeFastCgiListener } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { readRecords } from "../server/support/wire.ts"
import { projectRoot } from "../support/files.ts"
import { type Client, connectClient, connectCode, eventually, temporaryDirectory, turns } from "./sockets.ts"

const { RecordType } = FastCgiRecord

/** A POST on a connection that is kept. */
const request = Fs.readFileSync(Path.join(projectRoot, "test/vectors/haproxy-post-small.bin"))

const statuses = (client: Client): number => client.received().toString("latin1").split("Status: 200").length - 1

describe("a server that stops, and connections that are kept", () => {
  it.live("answers one more request on each, and says that it was the last", () =>
    Effect.gen(function*() {
      const path = `${yield* temporaryDirectory}/app.sock`
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(
        FastCgiServer.serve({ responder: () => Effect.succeed(FastCgiResponse.make("done")) }).pipe(
          Layer.provide([NodeFastCgiListener.layerUnix({ path }), FastCgiAdmission.layer()])
        ),
        scope
      )
      const [used, unused] = yield* Effect.all([connectClient({ path }), connectClient({ path })])
      for (const client of [used, unused]) {
        client.socket.write(request)
        yield* eventually(() => statuses(client) === 1)
      }

      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      while ((yield* connectCode({ path })) === "") yield* turns(1)
      yield* turns(10)
      const before = used.received().length
      used.socket.write(request)
      yield* Effect.race(used.ended, used.closed)
      assert.strictEqual(statuses(used), 2)
      assert.deepStrictEqual(
        readRecords(used.received().subarray(before)).map(({ type }) => type),
        [RecordType.Stdout, RecordType.Stdout, RecordType.EndRequest, RecordType.GetValuesResult]
      )
      yield* Effect.race(unused.ended, unused.closed)
      assert.deepStrictEqual([...used.errors, ...unused.errors], [])
      yield* Fiber.join(closing)
    }))

  it.live("closes an idle one when for a moment nobody has asked on any", () =>
    Effect.gen(function*() {
      const path = `${yield* temporaryDirectory}/app.sock`
      const scope = yield* Scope.make()
      // Half of the moment and more: the third of them asks when the first moment has passed.
      const responder = () => Effect.delay(Effect.succeed(FastCgiResponse.make("done")), "60 millis")
      yield* Layer.buildWithScope(
        FastCgiServer.serve({ responder }).pipe(
          Layer.provide([NodeFastCgiListener.layerUnix({ path }), FastCgiAdmission.layer()])
        ),
        scope
      )
      const clients = yield* Effect.forEach([1, 2, 3, 4], () => connectClient({ path }))
      for (const client of clients) client.socket.write(request)
      for (const client of clients) yield* eventually(() => statuses(client) === 1)

      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      while ((yield* connectCode({ path })) === "") yield* turns(1)
      for (const client of clients) {
        client.socket.write(request)
        yield* Effect.race(client.ended, client.closed)
        // As nginx does, which keeps none that has ended.
        client.socket.destroy()
      }
      assert.deepStrictEqual(clients.map(statuses), [2, 2, 2, 2])
      assert.deepStrictEqual(clients.flatMap(({ errors }) => errors), [])
      yield* Fiber.join(closing)
    }))
})
