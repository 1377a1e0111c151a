/**
 * Requests that nobody has answered when their connection comes to its end: END_REQUEST would say that they were complete.
 * Web servers ignore appStatus, and lighttpd and Apache take an empty answer of an Authorizer for leave to go on.
 */
import { assert, describe } from "@effect/vitest"
import { FastCgiRecord as R, FastCgiResponse } from "effect-fastcgi"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { bytes, connect, opening, type Peer, play, received, serve, tags, takeLogs } from "./support/serving.ts"

const ends: ReadonlyArray<readonly [string, (peer: Peer) => Effect.Effect<void>, logs: number]> = [
  ["half-closes", (peer) => peer.end, 0],
  ["sends what is no record", (peer) => peer.sendBytes(bytes(100, 7)), 1],
  ["begins an active request again", (peer) => peer.send(R.beginRequest(1, R.Role.Responder)), 1]
]

describe("a request without an answer, when the peer", () => {
  for (const [what, send, logs] of ends) {
    for (const role of [R.Role.Responder, R.Role.Authorizer]) {
      play(
        `${what}, ends without END_REQUEST (role ${role})`,
        serve({ responder: () => Effect.never, authorizer: () => Effect.never }),
        () =>
          Effect.gen(function*() {
            const peer = yield* connect
            yield* peer.send(...opening(1, { role }))
            yield* send(peer)
            assert.deepStrictEqual(tags(yield* peer.drain), [])
            assert.strictEqual((yield* takeLogs).length, logs)
          })
      )
    }

    play(
      `${what}, ends without END_REQUEST after its head`,
      serve({ responder: () => Effect.succeed(FastCgiResponse.make(Stream.never)) }),
      () =>
        Effect.gen(function*() {
          const peer = yield* connect
          yield* peer.send(...opening(1))
          assert.strictEqual((yield* received(peer))._tag, "Stdout")
          yield* send(peer)
          assert.deepStrictEqual(tags(yield* peer.drain), [])
          assert.strictEqual((yield* takeLogs).length, logs)
        })
    )
  }
})
