/**
 * Responder, Authorizer and Filter: order of the streams, lengths, output while input still comes (SPEC 6).
 */
import * as Effect from "effect/Effect"
import { RecordType } from "../../protocol/FastCgiRecord.ts"
import { aftermath, answered, type Case, expect, must, open, Role, serves, should, type Subject } from "../Case.ts"
import { describe, type Peer, type Unmet } from "../Peer.ts"
import * as Wire from "../wire.ts"

const body = Wire.utf8("hello, body")

const data = (id: number, content: Uint8Array = Wire.nothing) => Wire.record(RecordType.Data, id, content)

const filter = {
  role: Role.Filter,
  uri: "/filter",
  stdin: body,
  params: { FCGI_DATA_LAST_MOD: "847292400", FCGI_DATA_LENGTH: "4" }
} as const

// Waits until STDOUT has at least this many bytes.
const stdoutOf = (peer: Peer, id: number, size: number): Effect.Effect<number, Unmet> =>
  Effect.flatMap(
    peer.until(() => {
      let length = 0
      for (const record of peer.log) {
        if (record.requestId === id && record.type === RecordType.Stdout) length += record.content.length
      }
      return length >= size ? length : undefined
    }, peer.deadline),
    (length) => length === undefined ? Effect.fail(peer.silent("no output came")) : Effect.succeed(length)
  )

const outputs = (records: ReadonlyArray<Wire.WireRecord>): number =>
  records.filter((record) => record.type === RecordType.Stdout || record.type === RecordType.Stderr).length

// Asks /length with a body and a CONTENT_LENGTH that differ. Answered with the number of bytes that the handler has read.
const lengths = (t: Subject, announced: string | undefined, stdin: Uint8Array, role: number = Role.Responder) =>
  Effect.gen(function*() {
    const peer = yield* t.connect
    yield* peer.send(
      Wire.head({ role, uri: "/length", stdin, params: { CONTENT_LENGTH: announced } }),
      Wire.stdin(1, stdin),
      Wire.stdin(1)
    )
    return yield* peer.reply(1)
  })

export const roles: ReadonlyArray<Case> = [
  open("6.1-b", "STDIN before the end of PARAMS", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(
      Wire.begin(),
      Wire.stdin(1, body),
      Wire.params({ stdin: body }),
      Wire.stdin(1)
    )
    const came = yield* aftermath(peer, 1)
    const next = yield* Effect.option(serves(peer, 2))
    return next._tag === "Some" ? `${came}; the next request is answered` : `${came}; the next request is not answered`
  }),

  must("6.1-c", "STDERR arrives as written, beside STDOUT, before END_REQUEST", ["/stderr"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ uri: "/stderr" }))
    const reply = yield* peer.reply(1)
    yield* answered(reply)
    const text = Wire.latin1(reply.stderr).trim()
    yield* expect(text === "to stderr", text === "" ? "no STDERR" : `STDERR is "${text.slice(0, 40)}"`)
    return "as written"
  }),

  must("3.3-m", "STDERR that was used ends with an empty record", ["/stderr"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ uri: "/stderr" }))
    const reply = yield* peer.reply(1)
    yield* answered(reply)
    const stderr = reply.records.filter((record) => record.type === RecordType.Stderr)
    yield* expect(stderr.length > 0, "no STDERR")
    yield* expect(stderr[stderr.length - 1].content.length === 0, "it does not end")
    return "it does"
  }),

  must("6.1-d", "no STDERR, or one empty record, when nothing is reported", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ stdin: body }))
    yield* answered(yield* peer.reply(1), { body })
    const stderr = peer.log.filter((record) => record.type === RecordType.Stderr)
    yield* expect(stderr.length <= 1, `${stderr.length} STDERR records`)
    yield* expect(stderr.every((record) => record.content.length === 0), "STDERR has content")
    return stderr.length === 0 ? "none" : "one empty record"
  }),

  must("6.1-e", "a handler that writes nothing has an empty STDOUT", ["/nothing"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ uri: "/nothing" }))
    const reply = yield* peer.reply(1)
    yield* expect(reply.outcome === "ended", describe(reply))
    yield* expect(reply.stdoutEnded, "no STDOUT record at all")
    return reply.stdout.length === 0 ? "one empty record" : `the library answers ${describe(reply)}`
  }),

  must("6.1-f", "output begins while STDIN still comes", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.head({ stdin: body }), Wire.stdin(1, body.subarray(0, 4)))
    const head = yield* stdoutOf(peer, 1, 1)
    yield* peer.send(Wire.stdin(1, body.subarray(4)), Wire.stdin(1))
    yield* answered(yield* peer.reply(1), { body })
    return `${head} bytes came before the end of STDIN`
  }),

  should("6.2-a", "the handler starts at the end of PARAMS, before any STDIN", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.head({ stdin: body }))
    yield* stdoutOf(peer, 1, 1)
    yield* peer.send(Wire.stdin(1, body), Wire.stdin(1))
    return yield* answered(yield* peer.reply(1), { body })
  }),

  must("6.1-f", "an echo goes back and forth ten times in one request", ["/echo"], function*(t) {
    const peer = yield* t.connect
    const rounds = Wire.pattern(10)
    yield* peer.send(Wire.head({ stdin: rounds }), Wire.stdin(1, rounds.subarray(0, 1)))
    let length = yield* stdoutOf(peer, 1, 1)
    // The head may come by itself, before what is echoed.
    const first = yield* peer.during(t.quiet)
    length += first.reduce((size, record) => record.type === RecordType.Stdout ? size + record.content.length : size, 0)
    for (let round = 1; round < 10; round++) {
      yield* peer.send(Wire.stdin(1, rounds.subarray(round, round + 1)))
      length++
      yield* Effect.mapError(stdoutOf(peer, 1, length), (unmet) => unmet.prefixed(`round ${round + 1}`))
    }
    yield* peer.send(Wire.stdin(1))
    return yield* answered(yield* peer.reply(1), { body: rounds })
  }),

  should("6.1-h", "the response begins with a Status header", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ stdin: body }))
    const reply = yield* peer.reply(1)
    yield* answered(reply, { body })
    const first = reply.headers.split(/\r?\n/)[0]
    yield* expect(
      /^Status: \d{3}/.test(reply.headers) || /\nStatus: \d{3}/i.test(reply.headers),
      `it begins with "${first}"`
    )
    return first
  }),

  must("6.1-h", "the response has a CGI header block, not an HTTP status line", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ stdin: body }))
    const reply = yield* peer.reply(1)
    yield* answered(reply, { body })
    yield* expect(!reply.headers.startsWith("HTTP/"), "it begins with HTTP/")
    return reply.headers.split(/\r?\n/).length === 1 ? "one header" : `${reply.headers.split(/\r?\n/).length} headers`
  }),

  must("6.2-a", "nothing is written before the end of PARAMS", ["/echo"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.begin(), Wire.record(RecordType.Params, 1, Wire.pairs({ stdin: body })))
    const early = outputs(yield* peer.during(t.quiet))
    yield* expect(early === 0, `${early} records came`)
    yield* peer.send(Wire.record(RecordType.Params, 1), Wire.stdin(1, body), Wire.stdin(1))
    return yield* answered(yield* peer.reply(1), { body })
  }),

  must("6.2-b", "not more than CONTENT_LENGTH bytes are delivered", ["/length"], function*(t) {
    const reply = yield* lengths(t, "5", body)
    if (reply.outcome === "ended" && reply.status !== undefined && reply.status >= 400) return describe(reply)
    yield* answered(reply)
    const length = Number(Wire.latin1(reply.body))
    yield* expect(length <= 5, `${length} bytes of 5`)
    return `${length} bytes of 5`
  }),

  should("6.2-d", "less than CONTENT_LENGTH is an error for the handler, not a short body", ["/length"], function*(t) {
    const reply = yield* lengths(t, "50", body)
    const came = describe(reply)
    yield* expect(reply.outcome !== "silence", came)
    yield* expect(
      reply.outcome !== "ended" || reply.status === undefined || reply.status >= 400 || reply.appStatus !== 0,
      `read as ${Wire.latin1(reply.body).trim()} bytes of 50`
    )
    return came
  }),

  should("6.2-f", "without CONTENT_LENGTH the body goes on until the end of STDIN", ["/length"], function*(t) {
    const came: Array<string> = []
    for (const announced of [undefined, ""]) {
      const reply = yield* lengths(t, announced, body)
      yield* answered(reply, {}, announced === undefined ? "without it" : "with an empty one")
      const length = Number(Wire.latin1(reply.body))
      yield* expect(
        length === body.length,
        `${length} of ${body.length} bytes ${announced === undefined ? "without it" : "with an empty one"}`
      )
      came.push(announced === undefined ? "absent" : "empty")
    }
    return `the whole body: ${came.join(" and ")}`
  }),

  must("6.2-e", "16 MiB of STDIN are counted right", ["/length"], function*(t) {
    const peer = yield* t.connect
    const size = 16 * 1024 * 1024
    const chunk = Wire.stdin(1, Wire.pattern(65528))
    const count = Math.floor(size / 65528)
    const [, reply] = yield* Effect.all([
      peer.sendAll([
        Wire.head({ uri: "/length", stdin: "open", params: { CONTENT_LENGTH: String(count * 65528) } }),
        ...Array.from({ length: count }, () => chunk),
        Wire.stdin(1)
      ]),
      peer.reply(1, t.patience)
    ], { concurrency: 2 })
    yield* answered(reply)
    const length = Number(Wire.latin1(reply.body))
    yield* expect(length === count * 65528, `${length} of ${count * 65528} bytes`)
    return `${length} bytes`
  }),

  must("6.2-e", "16 MiB of STDOUT come whole, END_REQUEST last", ["/large"], function*(t) {
    const peer = yield* t.connect
    const size = 16 * 1024 * 1024
    yield* peer.send(Wire.request({ uri: `/large?n=${size}` }))
    const reply = yield* peer.reply(1, t.patience)
    const came = yield* answered(reply)
    yield* expect(reply.body.length === size, came)
    return came
  }),

  should(
    "6.1-f",
    "1 MiB is echoed to a web server that reads nothing before it has sent everything",
    ["/echo"],
    function*(t) {
      const peer = yield* t.connect
      const stdin = Wire.pattern(1024 * 1024)
      const all = yield* Effect.timeoutOption(
        peer.sendAll([Wire.head({ stdin }), Wire.stream(RecordType.Stdin, 1, stdin), Wire.stdin(1)]),
        t.deadline
      )
      yield* expect(all._tag === "Some", "not all of it is taken: both sides would wait for ever")
      return yield* answered(yield* peer.reply(1, t.patience), { body: stdin })
    }
  ),

  must("6.3-a", "an Authorizer that allows answers 200 with Variable- headers, without any STDIN", [
    "authorizer"
  ], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({
      role: Role.Authorizer,
      uri: "/allow",
      stdin: "none",
      params: { SCRIPT_NAME: undefined, PATH_INFO: undefined }
    }))
    const reply = yield* peer.reply(1)
    yield* answered(reply)
    yield* expect(/^Variable-X_CONFORMANCE:\s*yes\s*$/im.test(reply.headers), "no header Variable-X_CONFORMANCE: yes")
    return "200 with Variable-X_CONFORMANCE"
  }),

  must("6.3-g", "an Authorizer that denies answers with a status other than 200", ["authorizer"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ role: Role.Authorizer, uri: "/deny", stdin: "none" }))
    return yield* answered(yield* peer.reply(1), { status: 403 })
  }),

  must("6.3-b", "an Authorizer that gets an empty STDIN answers the same", ["authorizer"], function*(t) {
    const [first, second] = [yield* t.connect, yield* t.connect]
    yield* first.send(Wire.request({ role: Role.Authorizer, uri: "/allow" }))
    yield* answered(yield* first.reply(1), {}, "/allow")
    yield* second.send(Wire.request({ role: Role.Authorizer, uri: "/deny" }))
    yield* answered(yield* second.reply(1), { status: 403 }, "/deny")
    return "200 for /allow, 403 for /deny"
  }),

  must("6.4-b", "a Filter gets STDIN, then DATA", ["filter"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(
      Wire.request(filter),
      data(1, Wire.utf8("da")),
      data(1, Wire.utf8("ta")),
      data(1)
    )
    return yield* answered(yield* peer.reply(1), { body: `${body.length} 4\n` })
  }),

  must("6.4-b", "a Filter with an empty STDIN and DATA in records of one byte", ["filter"], function*(t) {
    const peer = yield* t.connect
    const content = Wire.pattern(500)
    yield* peer.send(
      Wire.request({ ...filter, stdin: Wire.nothing, params: { ...filter.params, FCGI_DATA_LENGTH: "500" } }),
      Wire.stream(RecordType.Data, 1, content, { size: 1 }),
      data(1)
    )
    return yield* answered(yield* peer.reply(1), { body: "0 500\n" })
  }),

  must("6.4-c", "a Filter may answer without reading DATA, and DATA that comes later is ignored", [
    "filter"
  ], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request({ ...filter, uri: "/cached" }), data(1, Wire.utf8("d")))
    const came = yield* answered(yield* peer.reply(1), {}, "from its cache")
    yield* peer.send(data(1, Wire.utf8("ata")), data(1))
    yield* serves(peer, 2)
    return came
  }),

  should("6.4-e", "a Filter's output waits for the end of STDIN, whatever the handler does", ["filter"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.head({ ...filter, uri: "/cached" }), Wire.stdin(1, body.subarray(0, 3)))
    const early = outputs(yield* peer.during(t.quiet))
    yield* expect(early === 0, `${early} records came before the end of STDIN`)
    yield* peer.send(Wire.stdin(1, body.subarray(3)), Wire.stdin(1), data(1, Wire.utf8("data")), data(1))
    return yield* answered(yield* peer.reply(1))
  }),

  must("6.4-d", "a Filter is given not more than FCGI_DATA_LENGTH bytes of DATA", ["filter"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request(filter), data(1, Wire.utf8("data and more")), data(1))
    const reply = yield* peer.reply(1)
    if (reply.outcome === "ended" && reply.status !== undefined && reply.status >= 400) return describe(reply)
    yield* answered(reply)
    const read = Number(Wire.latin1(reply.body).split(" ")[1])
    yield* expect(read <= 4, `${read} bytes of 4`)
    return `${read} bytes of 4`
  }),

  should("6.4-f", "less than FCGI_DATA_LENGTH is an error for the handler", ["filter"], function*(t) {
    const peer = yield* t.connect
    yield* peer.send(Wire.request(filter), data(1, Wire.utf8("da")), data(1))
    const reply = yield* peer.reply(1)
    yield* expect(reply.outcome !== "silence", describe(reply))
    yield* expect(
      reply.outcome !== "ended" || reply.status === undefined || reply.status >= 400 || reply.appStatus !== 0,
      `read as "${Wire.latin1(reply.body).trim()}"`
    )
    return describe(reply)
  })
]
