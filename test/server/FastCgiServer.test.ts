/**
 * How handlers end, by role, and what the web server gets in each case.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  FastCgiAdmission,
  FastCgiDecoder,
  type FastCgiListener,
  FastCgiParams,
  FastCgiRecord as R,
  FastCgiRequest,
  FastCgiResponse,
  FastCgiServer
} from "effect-fastcgi"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import {
  bodyOf,
  bytes,
  connect,
  exchange,
  type Handlers,
  opening,
  page,
  play,
  received,
  type Responder,
  serve,
  settle,
  tags,
  takeLogs
} from "./support/serving.ts"
import { allBytes, readRecords } from "./support/wire.ts"

const responder = (handler: NonNullable<Handlers["responder"]>) => serve({ responder: handler })

const text = (content: string) => new TextEncoder().encode(content)

const serverError = "Status: 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" +
  "500 Internal Server Error\n"

const unavailable =
  "Status: 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\n\r\n" +
  "503 Service Unavailable\n"

const complaint = "effect-fastcgi: the handler failed, see the application's log"

const secret = "a secret of the application"

describe("a responder", () => {
  play(
    "answers a request",
    responder(() => Effect.succeed(FastCgiResponse.make("hello"))),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        assert.deepStrictEqual(yield* peer.reply(), {
          stdout: page("hello"),
          stderr: "",
          appStatus: 0,
          protocolStatus: 0
        })
      })
  )

  for (
    const [what, headers] of [
      ["by name", { Link: ["</a>", "</b>"], "content-type": "text/plain", Vary: "Accept" }],
      ["as pairs", [["Link", "</a>"], ["content-type", "text/plain"], ["Vary", "Accept"], ["link", "</b>"]]]
    ] as ReadonlyArray<readonly [string, FastCgiResponse.FastCgiHeadersInput]>
  ) {
    play(
      `sends a header ${what} once for each of its values`,
      responder(() => Effect.succeed(FastCgiResponse.make("hello", { headers }))),
      () =>
        Effect.gen(function*() {
          const peer = yield* connect
          yield* peer.request()
          assert.strictEqual(
            (yield* peer.reply()).stdout,
            "Status: 200 OK\r\nLink: </a>\r\nLink: </b>\r\ncontent-type: text/plain\r\nVary: Accept\r\n\r\nhello"
          )
        })
    )
  }

  it("keeps any name that pairs have, and the length that one of them announces", () => {
    const { headers } = FastCgiResponse.make(undefined, {
      headers: [["__proto__", "a"], ["X", "b"], ["__PROTO__", "c"]]
    })
    assert.deepStrictEqual(Object.entries(headers), [["__proto__", ["a", "c"]], ["X", ["b"]]])
    // The Headers of fetch are pairs.
    assert.deepStrictEqual(
      Object.entries(
        FastCgiResponse.make(undefined, { headers: new Headers([["x-a", "1"], ["set-cookie", "c"]]) }).headers
      ),
      [["set-cookie", ["c"]], ["x-a", ["1"]]]
    )
  })

  play(
    "refuses pairs that cannot be sent, and a length in them that is not the body's",
    responder(({ params }) =>
      Effect.succeed(FastCgiResponse.make("hello", { headers: [["Content-Length", "5"], [params.get("NAME")!, "6"]] }))
    ),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        for (const NAME of ["X Y", "content-length"]) {
          yield* peer.request({ params: { NAME } })
          assert.strictEqual((yield* peer.reply()).stdout, serverError)
        }
        yield* takeLogs
      })
  )

  play(
    "sets the app status, up to 32 bits",
    responder(() => Effect.succeed(FastCgiResponse.make("", { appStatus: 0xfffffffe }))),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        assert.strictEqual((yield* peer.reply()).appStatus, 0xfffffffe)
      })
  )

  play(
    "sees its request",
    responder((request) =>
      Effect.succeed(FastCgiResponse.make(JSON.stringify([
        request.role,
        request.requestId,
        request.keepConnection,
        Option.isNone(request.peer),
        request.params.get("REQUEST_URI"),
        request.params.get("ABSENT") ?? null
      ])))
    ),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request({ requestId: 258, params: { REQUEST_URI: "/é" } })
        assert.strictEqual((yield* peer.reply(258)).stdout, page("[1,258,true,true,\"/é\",null]"))
      })
  )

  const numbers = new Set<number>()
  play(
    "is told apart by the connection it came on",
    responder((request) => {
      numbers.add(request.connectionId)
      return Effect.succeed(FastCgiResponse.make(""))
    }),
    () =>
      Effect.gen(function*() {
        const one = yield* connect
        const other = yield* connect
        for (const peer of [one, other, one, other]) {
          yield* peer.request()
          yield* peer.reply()
        }
        assert.strictEqual(numbers.size, 2)
      })
  )

  const failures: ReadonlyArray<readonly [string, NonNullable<Handlers["responder"]>, RegExp, string]> = [
    ["fails", () => Effect.fail(new Error(secret)), /a FastCGI handler failed/, serverError],
    [
      "fails later",
      () => Effect.andThen(Effect.yieldNow, Effect.fail(new Error(secret))),
      /handler failed/,
      serverError
    ],
    ["dies", () => Effect.die(new Error(secret)), /a FastCGI handler failed/, serverError],
    [
      "throws inside an Effect",
      () =>
        Effect.sync(() => {
          throw new Error(secret)
        }),
      /a FastCGI handler failed/,
      serverError
    ],
    [
      "throws before it has made an Effect",
      () => {
        throw new Error(secret)
      },
      /a FastCGI handler failed/,
      serverError
    ],
    ["interrupts itself", () => Effect.interrupt, /interrupted before it was answered/, unavailable],
    [
      "returns a header with a line break",
      () => Effect.succeed(FastCgiResponse.make("", { headers: { "X-A": "a\r\nStatus: 200 OK" } })),
      /handler failed/,
      serverError
    ],
    [
      "returns a header name that is none",
      () => Effect.succeed(FastCgiResponse.make("", { headers: { "X A": "a" } })),
      /handler failed/,
      serverError
    ],
    [
      "returns a cookie with a NUL",
      () => Effect.succeed(FastCgiResponse.make("", { setCookies: ["a=\0"] })),
      /handler failed/,
      serverError
    ],
    [
      "returns a status that is none",
      () => Effect.succeed(FastCgiResponse.make("", { status: 99 })),
      /handler failed/,
      serverError
    ],
    [
      "returns an interim status",
      () => Effect.succeed(FastCgiResponse.make("", { status: 103 })),
      /handler failed/,
      serverError
    ]
  ]
  for (const [name, handler, log, stdout] of failures) {
    play(
      `that ${name} is answered for, with the cause in the log and nowhere else`,
      serve({ responder: handler, authorizer: () => Effect.succeed(FastCgiResponse.allow()) }),
      () =>
        Effect.gen(function*() {
          const peer = yield* connect
          yield* peer.request()
          assert.deepStrictEqual(yield* peer.reply(), { stdout, stderr: complaint, appStatus: 1, protocolStatus: 0 })
          const logs = yield* takeLogs
          assert.strictEqual(logs.length, 1)
          assert.strictEqual(logs[0].level, "Error")
          assert.match(logs[0].message, log)
          if (!name.startsWith("returns") && !name.startsWith("interrupts")) assert.include(logs[0].cause, secret)
          // The connection and its other requests know nothing of it.
          yield* peer.request({ requestId: 2, role: R.Role.Authorizer })
          assert.match((yield* peer.reply(2)).stdout, /^Status: 200 OK\r\n/)
        })
    )
  }

  play(
    "that fails leaves in one write: STDERR, head, body and the end",
    responder(() => Effect.fail("no")),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        const sent = yield* peer.receiveBytes
        const records: Array<R.FastCgiRecord> = []
        assert.isUndefined(FastCgiDecoder.make().push(sent, records))
        assert.deepStrictEqual(tags(records), ["Stderr 1", "Stdout 1", "Stderr 1", "Stdout 1", "EndRequest 1"])
        yield* takeLogs
      })
  )

  const failing = Deferred.makeUnsafe<void>()
  play(
    "whose body fails after its head was sent is cut off, and logged",
    responder(() =>
      Effect.succeed(FastCgiResponse.make(
        Stream.concat(
          Stream.make(text("beginning")),
          Stream.fromEffect(Effect.andThen(Deferred.await(failing), Effect.fail(new Error(secret))))
        )
      ))
    ),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        const head = yield* received(peer)
        assert.strictEqual(head._tag, "Stdout")
        yield* Deferred.succeed(failing, undefined)
        assert.notInclude(tags(yield* peer.drain), "EndRequest 1")
        const logs = yield* takeLogs
        assert.strictEqual(logs.length, 1)
        assert.strictEqual(logs[0].level, "Error")
        assert.include(logs[0].cause, secret)
      })
  )

  const broken = (gate: Deferred.Deferred<void>) =>
    responder((request) =>
      request.requestId === 1
        ? Effect.succeed(FastCgiResponse.make(
          Stream.concat(Stream.make(text("beginning")), Stream.fail(new Error(secret)))
        ))
        : Effect.as(Deferred.await(gate), FastCgiResponse.make("fine"))
    )
  const goAway = FastCgiParams.encodePairs([["FCGI_MPXS_CONNS", "0"]])

  const beside = Deferred.makeUnsafe<void>()
  play(
    "whose body fails beside others is not ended, asks for other connections, and is cut off when the others have ended",
    broken(beside),
    () =>
      Effect.gen(function*() {
        const admission = yield* FastCgiAdmission.FastCgiAdmission
        const peer = yield* connect
        const records = yield* exchange(peer, ...opening(2), R.stdin(2), ...opening(1), R.stdin(1))
        assert.deepStrictEqual(tags(records), ["Stdout 1", "Stdout 1", "GetValuesResult 0"])
        assert.deepStrictEqual((records[2] as R.GetValuesResult).content, goAway)
        assert.strictEqual(admission.requestsUnsafe(), 1, "it takes no place from others")
        // What does not care still has its answer.
        yield* exchange(peer, ...opening(3), R.stdin(3))
        yield* Deferred.succeed(beside, undefined)
        assert.strictEqual((yield* peer.reply(2)).stdout, page("fine"))
        assert.strictEqual((yield* peer.reply(3)).stdout, page("fine"))
        assert.deepStrictEqual(yield* peer.drain, [])
        assert.strictEqual((yield* takeLogs).length, 1)
      })
  )

  const unread = Deferred.makeUnsafe<void>()
  play(
    "whose body fails does not take back what others have been answered and the peer has not read",
    broken(unread),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* exchange(peer, ...opening(2), R.stdin(2), ...opening(1), R.stdin(1))
        yield* peer.send(R.abortRequest(2))
        yield* settle
        assert.include(tags(yield* peer.drain), "EndRequest 2")
        yield* takeLogs
      })
  )

  const slow = Deferred.makeUnsafe<void>()
  play(
    "whose body fails ends in a record that no web server expects, for one that is slow to read",
    responder(() =>
      Effect.succeed(FastCgiResponse.make(
        Stream.concat(
          Stream.make(text("beginning")),
          Stream.fromEffect(Effect.andThen(Deferred.await(slow), Effect.fail(new Error(secret))))
        )
      ))
    ),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.setCapacity(0)
        yield* peer.request()
        yield* settle
        yield* Deferred.succeed(slow, undefined)
        yield* settle
        yield* peer.setCapacity(1 << 20)
        // A record without content, which the decoder takes for no record.
        assert.deepStrictEqual(readRecords(yield* allBytes(peer)).slice(-1).map(({ id, type }) => [type, id]), [
          [R.RecordType.UnknownType, 0]
        ])
        yield* takeLogs
      })
  )

  const given = Deferred.makeUnsafe<void>()
  play(
    "whose body fails beside others ends when the web server gives it up",
    broken(given),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* exchange(peer, ...opening(2), R.stdin(2), ...opening(1), R.stdin(1))
        yield* settle
        yield* exchange(peer)
        assert.deepStrictEqual(yield* exchange(peer, R.abortRequest(1)), [R.stdout(1), R.endRequest(1, 1)])
        yield* Deferred.succeed(given, undefined)
        assert.strictEqual((yield* peer.reply(2)).stdout, page("fine"))
        assert.deepStrictEqual(yield* peer.drain, [])
        assert.strictEqual((yield* takeLogs).length, 1)
      })
  )

  const lost = Deferred.makeUnsafe<void>()
  play(
    "whose body fails beside others is forgotten when the connection is lost",
    broken(lost),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* exchange(peer, ...opening(2), R.stdin(2), ...opening(1), R.stdin(1))
        yield* peer.reset
        yield* settle
        assert.strictEqual((yield* takeLogs).length, 1)
      })
  )

  play(
    "whose finalizer dies after the answer is logged",
    responder(() => Effect.as(Effect.addFinalizer(() => Effect.die(new Error(secret))), FastCgiResponse.make("hello"))),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        assert.strictEqual((yield* peer.reply()).stdout, page("hello"))
        yield* settle
        const logs = yield* takeLogs
        assert.strictEqual(logs.length, 1)
        assert.include(logs[0].cause, secret)
      })
  )

  const ended = Deferred.makeUnsafe<Exit.Exit<unknown, unknown>>()
  play(
    "that never ends is interrupted when the web server closes",
    responder(() => Effect.onExit(Effect.never, (exit) => Deferred.succeed(ended, exit))),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        yield* peer.close
        assert.isTrue(Exit.hasInterrupts(yield* Deferred.await(ended)))
      })
  )

  for (
    const [name, status, method] of [["204", 204, "GET"], ["205", 205, "GET"], ["304", 304, "GET"], [
      "HEAD",
      200,
      "HEAD"
    ]] as const
  ) {
    for (
      const [kind, body] of [["text", "body"], ["bytes", text("body")], ["stream", Stream.make(text("body"))]] as const
    ) {
      play(
        `answers ${name} without the body it has (${kind})`,
        responder(() => Effect.succeed(FastCgiResponse.make(body, { status, headers: { "X-A": "b" } }))),
        () =>
          Effect.gen(function*() {
            const peer = yield* connect
            yield* peer.request({ params: { REQUEST_METHOD: method, REQUEST_URI: "/" } })
            const { stdout } = yield* peer.reply()
            assert.match(stdout, new RegExp(`^Status: ${status} `))
            assert.include(stdout, "X-A: b\r\n")
            assert.isTrue(stdout.endsWith("\r\n\r\n"))
          })
      )
    }
  }

  play(
    "writes to STDERR, in records of at most 8 KiB that are padded by at least one byte",
    responder((request) =>
      Effect.andThen(
        Effect.forEach([1, 7, 8, 8191, 8192, 8193, 20_000], (length) => request.stderr("e".repeat(length))),
        Effect.succeed(FastCgiResponse.make("hello"))
      )
    ),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        const sent = yield* peer.receiveBytes
        const lengths: Array<number> = []
        for (let at = 0; at < sent.length;) {
          const [version, type, , id, high, low, padding, reserved] = sent.subarray(at, at + 8)
          const length = high << 8 | low
          assert.deepStrictEqual([version, id, reserved], [1, 1, 0])
          const end = at + 8 + length + padding
          assert.isTrue(sent.subarray(at + 8 + length, end).every((byte) => byte === 0), "padding is zero")
          assert.strictEqual(end % 8, 0)
          if (type === R.RecordType.Stderr) {
            lengths.push(length)
            assert.isAtLeast(padding, 1)
          }
          at = end
        }
        assert.deepStrictEqual(lengths, [1, 7, 8, 8191, 8192, 8192, 1, 8192, 8192, 3616, 0])
      })
  )

  play(
    "sends no STDERR record when it has nothing to say",
    responder(() => Effect.succeed(FastCgiResponse.make(""))),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        const records = [yield* received(peer), yield* received(peer), yield* received(peer)]
        assert.deepStrictEqual(tags(records), ["Stdout 1", "Stdout 1", "EndRequest 1"])
      })
  )

  let late: Responder | undefined
  play(
    "writes nothing after END_REQUEST, not even under an id that is used again",
    responder((request) => {
      if (late !== undefined) return Effect.never
      late = request
      return Effect.succeed(FastCgiResponse.make("first"))
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request({ stdin: "unread" })
        yield* peer.reply()
        yield* late!.stderr("late")
        assert.deepStrictEqual(yield* exchange(peer, ...opening(1), R.stdin(1)), [])
        yield* late!.stderr("later")
        const read = yield* Effect.flip(Stream.runDrain(late!.stdin))
        assert.strictEqual(read.reason._tag, "InputDiscarded")
        assert.deepStrictEqual(yield* exchange(peer), [])
      })
  )
})

describe("an authorizer", () => {
  const authorizer = (handler: NonNullable<Handlers["authorizer"]>) => serve({ authorizer: handler })

  const decide = (name: string, decision: FastCgiResponse.FastCgiAuthorization, stdout: string) =>
    play(name, authorizer(() => Effect.succeed(decision)), () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1, { role: R.Role.Authorizer }))
        assert.deepStrictEqual(yield* peer.reply(), { stdout, stderr: "", appStatus: 0, protocolStatus: 0 })
      }))

  decide("allows", FastCgiResponse.allow(), "Status: 200 OK\r\n\r\n")
  decide(
    "allows with variables",
    FastCgiResponse.allow({ REMOTE_USER: "ann", AUTH_METHOD: "token" }),
    "Status: 200 OK\r\nVariable-REMOTE_USER: ann\r\nVariable-AUTH_METHOD: token\r\n\r\n"
  )
  decide(
    "denies with 403 by itself",
    FastCgiResponse.deny(),
    "Status: 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n403 Forbidden\n"
  )
  decide(
    "denies with any response that is not 200",
    FastCgiResponse.deny(FastCgiResponse.make("log in", { status: 401, headers: { "WWW-Authenticate": "Basic" } })),
    "Status: 401 Unauthorized\r\nContent-Type: text/plain; charset=utf-8\r\nWWW-Authenticate: Basic\r\n\r\nlog in"
  )
  decide(
    "denies with 403 when the response says 200",
    FastCgiResponse.deny(FastCgiResponse.make("no", { status: 200, statusText: "OK" })),
    "Status: 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nno"
  )

  // lighttpd leaves out what stands before Status.
  decide(
    "redirects with Status first",
    FastCgiResponse.deny(
      FastCgiResponse.make(undefined, { status: 302, headers: { A: "b", Location: "/?Status: 1" } })
    ),
    "Status: 302 Found\r\nLocation: /?Status: 1\r\nA: b\r\n\r\n"
  )

  const injections: ReadonlyArray<readonly [string, Record<string, string>]> = [
    ["a line break in a value", { A: "a\r\nVariable-ADMIN: 1" }],
    ["a line feed in a value", { A: "a\nVariable-ADMIN: 1" }],
    ["a NUL in a value", { A: "a\0" }],
    ["a line break in a name", { "A: a\r\nVariable-ADMIN": "1" }],
    ["a colon in a name", { "A:B": "1" }],
    ["a space in a name", { "A B": "1" }],
    ["an empty name", { "": "1" }],
    ["a character beyond Latin-1 in a value", { A: "\u0100" }]
  ]
  for (const [name, variables] of injections) {
    play(
      `denies with 500 for ${name}`,
      authorizer(() => Effect.succeed(FastCgiResponse.allow(variables))),
      () =>
        Effect.gen(function*() {
          const peer = yield* connect
          yield* peer.send(...opening(1, { role: R.Role.Authorizer }))
          assert.strictEqual((yield* peer.reply()).stdout, serverError)
          assert.strictEqual((yield* takeLogs).length, 1)
        })
    )
  }

  const failures: ReadonlyArray<readonly [string, NonNullable<Handlers["authorizer"]>, string]> = [
    ["fails", () => Effect.fail("no"), serverError],
    ["dies", () => Effect.die("no"), serverError],
    ["throws", () => {
      throw new Error(secret)
    }, serverError],
    ["interrupts itself", () => Effect.interrupt, unavailable],
    [
      "denies with a response that cannot be sent",
      () => Effect.succeed(FastCgiResponse.deny(FastCgiResponse.make("", { status: 200, headers: { "a\n": "" } }))),
      serverError
    ]
  ]
  for (const [name, handler, stdout] of failures) {
    play(`that ${name} denies`, authorizer(handler), () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1, { role: R.Role.Authorizer }))
        assert.strictEqual((yield* peer.reply()).stdout, stdout)
        assert.strictEqual((yield* takeLogs).length, 1)
      }))
  }

  const asked = serve({
    authorizer: ({ apacheRole }) =>
      Effect.succeed(FastCgiResponse.allow({ ASKED: Option.getOrElse(apacheRole, () => "none") }))
  })
  for (
    const [value, expected] of [
      ["AUTHENTICATOR", "AUTHENTICATOR"],
      ["AUTHORIZER", "AUTHORIZER"],
      ["ACCESS_CHECKER", "ACCESS_CHECKER"],
      ["authorizer", "none"],
      [undefined, "none"]
    ] as const
  ) {
    play(`is told ${expected} when FCGI_APACHE_ROLE is ${value}`, asked, () =>
      Effect.gen(function*() {
        const peer = yield* connect
        const params = value === undefined ? {} : { FCGI_APACHE_ROLE: value }
        yield* peer.send(...opening(1, { role: R.Role.Authorizer, params }))
        assert.strictEqual((yield* peer.reply()).stdout, `Status: 200 OK\r\nVariable-ASKED: ${expected}\r\n\r\n`)
      }))
  }

  play(
    "is started without any STDIN, and leaves a kept connection open",
    authorizer(() => Effect.succeed(FastCgiResponse.allow())),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        for (let i = 0; i < 3; i++) {
          yield* peer.send(...opening(1, { role: R.Role.Authorizer }))
          yield* peer.reply()
        }
      })
  )
})

describe("a filter", () => {
  const collect = <E>(stream: Stream.Stream<Uint8Array, E>) =>
    Effect.map(Stream.mkUint8Array(stream), (content) => new TextDecoder().decode(content))

  const params = { REQUEST_METHOD: "POST", CONTENT_LENGTH: "5", FCGI_DATA_LENGTH: "4", FCGI_DATA_LAST_MOD: "8640000" }

  const both = serve({
    filter: (request) =>
      Effect.gen(function*() {
        const stdin = yield* collect(request.stdin)
        const data = yield* collect(request.data)
        return FastCgiResponse.make(
          JSON.stringify([
            stdin,
            data,
            Option.getOrNull(request.dataLength),
            Option.getOrNull(request.dataLastModified)
          ])
        )
      })
  })

  play("reads STDIN, then DATA", both, () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.send(...opening(1, { role: R.Role.Filter, params }))
      yield* peer.send(R.stdin(1, text("stdin")), R.stdin(1))
      yield* peer.send(R.data(1, text("da")))
      yield* peer.send(R.data(1, text("ta")), R.data(1))
      assert.strictEqual((yield* peer.reply()).stdout, page("[\"stdin\",\"data\",4,8640000]"))
    }))

  play(
    "reads no more DATA than FCGI_DATA_LENGTH, no more STDIN than CONTENT_LENGTH",
    both,
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(
          ...opening(1, { role: R.Role.Filter, params }),
          R.stdin(1, text("stdin and more")),
          R.stdin(1),
          R.data(1, text("data and more")),
          R.data(1)
        )
        assert.strictEqual((yield* peer.reply()).stdout, page("[\"stdin\",\"data\",4,8640000]"))
      })
  )

  play(
    "fails with TruncatedBody for less DATA than FCGI_DATA_LENGTH",
    serve({
      filter: (request) =>
        collect(request.data).pipe(
          Effect.catch((error) => Effect.succeed(error.reason._tag)),
          Effect.map((result) => FastCgiResponse.make(result))
        )
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(
          ...opening(1, { role: R.Role.Filter, params }),
          R.stdin(1, text("stdin")),
          R.stdin(1),
          R.data(1, text("dat")),
          R.data(1)
        )
        assert.strictEqual((yield* peer.reply()).stdout, page("TruncatedBody"))
      })
  )

  play(
    "reads both to their ends where no lengths are announced, or none that make sense",
    both,
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        for (const odd of [{}, { FCGI_DATA_LENGTH: "-1", FCGI_DATA_LAST_MOD: "" }, { FCGI_DATA_LENGTH: "0x4" }]) {
          yield* peer.send(
            ...opening(1, { role: R.Role.Filter, params: { REQUEST_METHOD: "GET", ...odd } }),
            R.stdin(1),
            R.data(1, text("data")),
            R.data(1)
          )
          assert.strictEqual((yield* peer.reply()).stdout, page("[\"\",\"data\",null,null]"))
        }
      })
  )

  play(
    "may answer without reading DATA, which is then ignored",
    serve({ filter: () => Effect.succeed(FastCgiResponse.make("cached")) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1, { role: R.Role.Filter, params }), R.stdin(1, text("stdin")), R.stdin(1))
        assert.strictEqual((yield* peer.reply()).stdout, page("cached"))
        assert.deepStrictEqual(yield* exchange(peer, R.data(1, bytes(50_000)), R.data(1)), [])
      })
  )
})

describe("roles", () => {
  play(
    "a role without a handler is answered with UNKNOWN_ROLE, and so is a number that is none",
    serve({ responder: () => Effect.succeed(FastCgiResponse.make("hello")) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        for (const role of [0, 3, 4, 255, 256, 65535]) {
          // All of the request comes: what follows BEGIN_REQUEST belongs to an id that is free again.
          assert.deepStrictEqual(
            yield* exchange(peer, ...opening(9, { role }), R.stdin(9, text("body")), R.stdin(9)),
            [R.endRequest(9, 0, R.ProtocolStatus.UnknownRole)],
            `role ${role}`
          )
        }
        yield* peer.request({ requestId: 9 })
        assert.strictEqual((yield* peer.reply(9)).stdout, page("hello"))
      })
  )

  for (
    const [why, options, before, protocolStatus, status] of [
      ["has no handler", {}, [], R.ProtocolStatus.UnknownRole, "403 Forbidden"],
      [
        "is one too many",
        { overload: "protocolStatus", maxConcurrentRequestsPerConnection: 1 },
        opening(1),
        2,
        "503 Service Unavailable"
      ],
      ["cannot be multiplexed", { multiplexing: false }, opening(1), 1, "503 Service Unavailable"]
    ] as const
  ) {
    play(
      `an Authorizer that ${why} is denied beside the protocol status, which lighttpd takes for leave to go on`,
      serve({
        responder: () => Effect.never,
        ...(why === "has no handler" ? {} : { authorizer: () => Effect.succeed(FastCgiResponse.allow()) })
      }, options),
      () =>
        Effect.gen(function*() {
          const peer = yield* connect
          yield* exchange(peer, ...before)
          yield* peer.send(...opening(9, { role: R.Role.Authorizer }))
          const reply = yield* peer.reply(9)
          assert.match(reply.stdout, new RegExp(`^Status: ${status}\r\n`))
          assert.strictEqual(reply.protocolStatus, protocolStatus)
          yield* takeLogs
        })
    )
  }

  play(
    "one server has three of them",
    serve({
      responder: () => Effect.succeed(FastCgiResponse.make("responder")),
      authorizer: () => Effect.succeed(FastCgiResponse.deny(FastCgiResponse.make("authorizer", { status: 401 }))),
      filter: () => Effect.succeed(FastCgiResponse.make("filter"))
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(
          ...opening(1, { role: 1 }),
          ...opening(2, { role: 2 }),
          ...opening(3, { role: 3 }),
          R.stdin(1),
          R.stdin(3),
          R.data(3)
        )
        const replies = [yield* peer.reply(1), yield* peer.reply(2), yield* peer.reply(3)]
        assert.deepStrictEqual(replies.map(({ stdout }) => bodyOf(stdout)), ["responder", "authorizer", "filter"])
      })
  )
})

describe("a response with a Content-Length of its own", () => {
  const declared = (body: string | Uint8Array | Stream.Stream<Uint8Array>) =>
    responder(() => Effect.succeed(FastCgiResponse.make(body, { headers: { "content-length": "5" } })))

  for (const body of ["x", "ten bytes!", new Uint8Array(6)]) {
    play(`of 5 and a body of ${body.length} is answered with 500`, declared(body), () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        assert.strictEqual((yield* peer.reply()).stdout, serverError)
        assert.match((yield* takeLogs)[0].cause, /Content-Length/)
      }))
  }

  play("that its body keeps to is sent", declared("five!"), () =>
    Effect.gen(function*() {
      const peer = yield* connect
      yield* peer.request()
      assert.strictEqual(bodyOf((yield* peer.reply()).stdout), "five!")
    }))

  for (const [what, chunks] of [["shorter", [bytes(4)]], ["longer", [bytes(4), bytes(2)]]] as const) {
    play(
      `and a stream that is ${what} is cut off`,
      declared(Stream.fromIterable(chunks)),
      () =>
        Effect.gen(function*() {
          const peer = yield* connect
          yield* peer.request()
          assert.notInclude(tags(yield* peer.drain), "EndRequest 1")
          yield* takeLogs
        })
    )
  }
})

describe("a handler that is an Effect", () => {
  const about = (request: FastCgiRequest.RequestBase) => `${request.requestId} ${request.params.get("REQUEST_METHOD")}`

  play(
    "asks for its request, in every role",
    serve({
      responder: Effect.map(FastCgiRequest.CurrentResponder, (request) => FastCgiResponse.make(about(request))),
      authorizer: Effect.map(
        FastCgiRequest.CurrentAuthorizer,
        (request) => FastCgiResponse.allow({ ABOUT: about(request) })
      ),
      filter: Effect.gen(function*() {
        const request = yield* FastCgiRequest.CurrentFilter
        return FastCgiResponse.make(yield* Stream.mkUint8Array(request.data))
      })
    }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.send(...opening(1), R.stdin(1), ...opening(2, { role: 2 }), ...opening(3, { role: 3 }))
        assert.strictEqual(bodyOf((yield* peer.reply(1)).stdout), "1 GET")
        assert.include((yield* peer.reply(2)).stdout, "Variable-ABOUT: 2 GET\r\n")
        yield* peer.send(R.stdin(3), R.data(3, text("filtered")), R.data(3))
        assert.strictEqual(bodyOf((yield* peer.reply(3)).stdout), "filtered")
      })
  )

  const current = Effect.map(FastCgiRequest.CurrentResponder, about)
  play(
    "or a function, whose helpers ask for it",
    serve({ responder: () => Effect.map(current, (text) => FastCgiResponse.make(text)) }),
    () =>
      Effect.gen(function*() {
        const peer = yield* connect
        yield* peer.request()
        assert.strictEqual(bodyOf((yield* peer.reply()).stdout), "1 GET")
      })
  )

  // @ts-expect-error: an Authorizer is not handling a Responder's request, so somebody else would have to provide it.
  const wrong: Layer.Layer<never, never, FastCgiListener.FastCgiListener | FastCgiAdmission.FastCgiAdmission> =
    FastCgiServer.serve({ authorizer: Effect.as(FastCgiRequest.CurrentResponder, FastCgiResponse.allow()) })
  void wrong
})
