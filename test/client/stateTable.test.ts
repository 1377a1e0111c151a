/**
 * What the records of an application do at the web server's end, by the phase of the request with their id: each cell of
 * `webServerTable`, played against a connection in memory. The table itself is walked in `connection/requestState.test.ts`.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { FastCgiClientError } from "../../src/client/FastCgiClientError.ts"
import type { ClientRequest } from "../../src/client/internal/clientRequest.ts"
import { fail } from "../../src/client/internal/failures.ts"
import { beginOptions, defaults, open } from "../../src/client/internal/request.ts"
import type { WebServerEnd } from "../../src/client/internal/webServerEnd.ts"
import type { InputStream } from "../../src/connection/internal/inputStream.ts"
import {
  type WebServerAction,
  type WebServerRecord,
  webServerTable
} from "../../src/connection/internal/requestState.ts"
import * as FastCgiParams from "../../src/protocol/FastCgiParams.ts"
import * as Record from "../../src/protocol/FastCgiRecord.ts"
import * as Application from "./application.ts"
import { answer, bytesOf, params, reasonOf, textOfStream } from "./application.ts"

type Phase = keyof typeof webServerTable

const records = Object.keys(webServerTable.inactive) as ReadonlyArray<WebServerRecord>

const samples: { readonly [R in WebServerRecord]: Record.FastCgiRecord } = {
  Stdout: Record.stdout(1, bytesOf("out")),
  StdoutEnd: Record.stdout(1),
  Stderr: Record.stderr(1, bytesOf("log")),
  End: Record.endRequest(1, 3)
}

/** Request 1 in its phase beside request 2, which nothing of it may disturb. */
class Situation {
  readonly app: Application.Application
  readonly connection: WebServerEnd
  readonly request: ClientRequest
  readonly sibling: ClientRequest
  /** What the reader is to find, and how the request is to end. */
  seen = { stdout: "", stderr: "" }
  private questions = 0

  constructor(app: Application.Application, connection: WebServerEnd) {
    this.app = app
    this.connection = connection
    this.request = this.begin()
    this.sibling = this.begin()
  }

  begin(): ClientRequest {
    return this.connection.beginUnsafe(beginOptions({ params }, true))
  }

  /** Sends records, and waits until they have been dispatched. */
  send(...records: ReadonlyArray<Record.FastCgiRecord>): Effect.Effect<void, FastCgiClientError> {
    return Effect.gen({ self: this }, function*() {
      const asked = yield* Effect.forkChild(this.connection.getValues([]))
      yield* this.app.untilTag("GetValues", ++this.questions)
      yield* this.app.send(...records, Record.getValuesResult(FastCgiParams.encodePairs([])))
      yield* Fiber.join(asked)
    })
  }

  /** What is to be read of a stream that has ended. */
  read(stream: InputStream<FastCgiClientError>): Effect.Effect<string, FastCgiClientError> {
    return textOfStream(Stream.fromPull(Effect.succeed(stream.pull)))
  }

  /** How the request has ended, if it has. */
  get outcome() {
    return this.request.outcome
  }

  /** Request 1 has ended, with what `seen` says, and its id is free. */
  ended(appStatus: number): Effect.Effect<void, FastCgiClientError> {
    return Effect.gen({ self: this }, function*() {
      assert.deepStrictEqual(this.outcome, { appStatus, protocolStatus: 0 })
      assert.strictEqual(yield* this.read(this.request.stdout), this.seen.stdout)
      assert.strictEqual(yield* this.read(this.request.stderr), this.seen.stderr)
      this.freed()
    })
  }

  /** The id is free: the next request gets it. */
  freed(): void {
    assert.strictEqual(this.begin().requestId, 1)
  }
}

/** How request 1 gets into a phase, and what becomes of it there when nothing else comes of the record. */
interface Recipe {
  readonly enter: (it: Situation) => Effect.Effect<unknown, FastCgiClientError>
  readonly leave: (it: Situation) => Effect.Effect<unknown, FastCgiClientError>
}

const givenUp = fail({ _tag: "Aborted" }, "on purpose")

const recipes: { readonly [P in Phase]: Recipe } = {
  inactive: {
    enter: (it) =>
      Effect.gen(function*() {
        yield* it.send(...answer(1, "before"))
        it.seen.stdout = "before"
      }),
    leave: (it) => it.ended(0)
  },
  active: {
    enter: () => Effect.void,
    leave: (it) =>
      Effect.gen(function*() {
        assert.isUndefined(it.outcome)
        yield* it.send(Record.endRequest(1, 7))
        yield* it.ended(7)
      })
  },
  left: {
    enter: (it) =>
      Effect.gen(function*() {
        yield* it.send(Record.stdout(1, bytesOf("all of it")))
        yield* it.request.stdout.pull.pipe(Effect.orDie)
        assert.isTrue(it.connection.leaveUnsafe(it.request))
      }),
    leave: (it) =>
      Effect.gen(function*() {
        assert.isUndefined(it.outcome)
        yield* it.send(Record.endRequest(1, 7))
        assert.deepStrictEqual(it.outcome, { appStatus: 7, protocolStatus: 0 })
        assert.strictEqual(yield* it.read(it.request.stderr), it.seen.stderr)
        it.freed()
      })
  },
  aborted: {
    enter: (it) =>
      Effect.gen(function*() {
        it.connection.abortUnsafe(it.request, givenUp)
        yield* it.app.untilTag("AbortRequest")
      }),
    leave: (it) =>
      Effect.gen(function*() {
        assert.strictEqual(it.outcome, givenUp)
        assert.strictEqual(it.request.stdout.unread + it.request.stderr.unread, 0)
        // SPEC 3.3: the id is taken until END_REQUEST has come.
        assert.strictEqual(it.begin().requestId, 3)
        yield* it.send(Record.endRequest(1))
        it.freed()
      })
  }
}

type Outcome = (
  it: Situation,
  record: WebServerRecord,
  leave: Recipe["leave"]
) => Effect.Effect<unknown, FastCgiClientError>

/** What comes of a record: what the reader and the application see. */
const outcomes: { readonly [A in WebServerAction]: Outcome } = {
  deliver: (it, record, leave) =>
    Effect.gen(function*() {
      yield* it.send(samples[record])
      if (record === "Stderr") it.seen.stderr = "log"
      else it.seen.stdout = "out"
      yield* leave(it)
    }),
  complete: (it, record, leave) =>
    Effect.gen(function*() {
      yield* it.send(samples[record])
      assert.strictEqual(yield* it.read(it.request.stdout), "")
      yield* leave(it)
    }),
  exceed: (it, record) =>
    Effect.gen(function*() {
      yield* it.send(samples[record])
      assert.strictEqual(it.request.stdout.unread, 0)
      assert.isUndefined(it.outcome)
      // Up to 64 KiB in all.
      yield* it.send(Record.stdout(1, new Uint8Array(60_000)), Record.stdout(1, new Uint8Array(5533)))
      assert.isUndefined(it.outcome)
      yield* it.send(Record.stdout(1, new Uint8Array(1)))
      assert.strictEqual(reasonOf(yield* Effect.exit(Deferred.await(it.request.end))), "Aborted")
      yield* it.app.untilTag("AbortRequest")
    }),
  end: (it, record) =>
    Effect.gen(function*() {
      yield* it.send(samples[record])
      assert.deepStrictEqual(it.outcome, { appStatus: 3, protocolStatus: 0 })
      it.freed()
    }),
  free: (it, record) =>
    Effect.gen(function*() {
      yield* it.send(samples[record])
      // Who has given it up has been told by that.
      assert.strictEqual(it.outcome, givenUp)
      it.freed()
    }),
  ignore: (it, record, leave) => Effect.andThen(it.send(samples[record]), leave(it))
}

const play = (name: string, recipe: Recipe, body: Outcome, record: WebServerRecord) =>
  it.effect(name, () =>
    Effect.gen(function*(): Effect.fn.Return<void, FastCgiClientError, Scope.Scope> {
      const app = yield* Application.make()
      const connection = yield* open(app.connect, { ...defaults, maxRequests: 10 })
      const situation = new Situation(app, connection)
      yield* recipe.enter(situation)
      yield* body(situation, record, recipe.leave)
      // The sibling is answered, and the connection goes on.
      yield* app.send(...answer(2, "sibling"))
      const { sibling } = situation
      assert.strictEqual(yield* situation.read(sibling.stdout), "sibling")
      assert.isTrue(connection.available)
    }))

describe("a record of an application does what the table says", () => {
  for (const phase of Object.keys(webServerTable) as ReadonlyArray<Phase>) {
    for (const record of records) {
      const action: WebServerAction = webServerTable[phase][record]
      play(`${record} | ${phase} | ${action}`, recipes[phase], outcomes[action], record)
    }
  }
})
