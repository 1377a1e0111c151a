/**
 * Lists of who may connect: what they say, and what a listener in memory makes of them.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  FastCgiAccess,
  FastCgiAdmission,
  FastCgiListener,
  FastCgiRecord,
  FastCgiResponse,
  FastCgiServer
} from "effect-fastcgi"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Arbitrary from "effect/Arbitrary"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import { bodyOf, connect, getParams, play, settle, takeLogs } from "./support/serving.ts"

const networks = (result: Result.Result<FastCgiAccess.FastCgiAccess, FastCgiAccess.FastCgiAccessError>) =>
  Result.match(result, {
    onSuccess: ({ networks }) => networks.map(IpNetwork.format),
    onFailure: ({ message, reason }) => `${reason._tag}: ${message}`
  })

const peer = (address: string): NetAddress.SocketAddress => NetAddress.inetAddressFromIpStringUnsafe(address, 51_000)

const list = (...entries: ReadonlyArray<string>) => Result.getOrThrow(FastCgiAccess.fromEntries(entries))

const whatToGive = "Give 192.0.2.10, 10.1.0.0/16, 2001:db8::10 or 2001:db8::/32; names of hosts are not looked up."

describe("a list of addresses and networks", () => {
  it.each<[ReadonlyArray<string>, Array<string>]>([
    [["192.0.2.10"], ["192.0.2.10/32"]],
    [[" 192.0.2.10 ", "\t10.0.0.0/8"], ["192.0.2.10/32", "10.0.0.0/8"]],
    [["0.0.0.0/0", "::/0"], ["0.0.0.0/0", "::/0"]],
    [["2001:DB8:0:0:0:0:0:10", "2001:db8::/32"], ["2001:db8::10/128", "2001:db8::/32"]],
    [["::ffff:192.0.2.10", "::ffff:10.0.0.0/104", "::ffff:0:0/96"], ["192.0.2.10/32", "10.0.0.0/8", "0.0.0.0/0"]]
  ])("%j is %j", (entries, expected) => {
    assert.deepStrictEqual(networks(FastCgiAccess.fromEntries(entries)), expected)
  })

  it.each([
    ["", "expected exactly four decimal octets"],
    ["localhost", "expected exactly four decimal octets"],
    ["192.0.2", "expected exactly four decimal octets"],
    ["192.0.2.256", "octets must be at most 255"],
    ["192.0.2.010", "leading zeroes are not allowed"],
    ["192.0.2.1:80", "expected eight segments"],
    ["[::1]", "brackets and zone identifiers are not valid in a bare IPv6 address"],
    ["fe80::1%eth0", "brackets and zone identifiers are not valid in a bare IPv6 address"],
    ["10.0.0.0/", "a prefix length is a decimal number"],
    ["10.0.0.0/08", "a prefix length is a decimal number"],
    ["10.0.0.0/255.0.0.0", "a prefix length is a decimal number"],
    ["10.0.0.0/8/8", "a prefix length is a decimal number"],
    ["10.0.0.0/33", "prefix length must be an integer from 0 through 32"],
    ["::/129", "prefix length must be an integer from 0 through 128"]
  ])("%j is no entry", (entry, why) => {
    const result = networks(FastCgiAccess.fromEntries(["192.0.2.1", entry], { name: "webServers" }))
    assert.strictEqual(
      result,
      `NotAnAddress: webServers has ${
        JSON.stringify(entry)
      }, which is neither an address nor a network (${why}). ${whatToGive}`
    )
  })

  it("says which network is meant by an address with a prefix length", () => {
    assert.strictEqual(
      networks(FastCgiAccess.fromEntries(["10.1.2.3/16"])),
      "HostBits: allow has \"10.1.2.3/16\", which has bits set beyond its prefix of 16. The network is 10.1.0.0/16, " +
        "the address alone 10.1.2.3."
    )
  })

  it("has to have an entry", () => {
    assert.strictEqual(
      networks(FastCgiAccess.fromEntries([])),
      "Empty: allow is empty, so nobody could connect. Give the addresses of the web server, or leave it out."
    )
  })

  it("holds its addresses and no others", () => {
    const access = list("192.0.2.10", "10.1.0.0/16", "2001:db8::/33")
    for (const address of ["192.0.2.10", "10.1.0.0", "10.1.255.255", "::ffff:10.1.2.3", "2001:db8:7fff:ffff::"]) {
      assert.isTrue(FastCgiAccess.permits(access, peer(address)), address)
    }
    for (const address of ["192.0.2.11", "10.0.255.255", "10.2.0.0", "::192.0.2.10", "2001:db8:8000::", "::1"]) {
      assert.isFalse(FastCgiAccess.permits(access, peer(address)), address)
    }
    assert.isFalse(FastCgiAccess.permits(list("0.0.0.0/0"), peer("::1")))
    assert.isFalse(FastCgiAccess.permits(list("::/0"), peer("127.0.0.1")))
  })

  it("holds no peer whose address cannot be told, and UNIX sockets when it says so", () => {
    const all = list("0.0.0.0/0", "::/0")
    const unix = NetAddress.unixPathAddress("")
    assert.isFalse(FastCgiAccess.permits(all, undefined))
    assert.isFalse(FastCgiAccess.permits(all, unix))
    assert.isTrue(FastCgiAccess.permits({ ...all, unixSockets: true }, unix))
    assert.isFalse(FastCgiAccess.permits({ ...all, unixSockets: true }, undefined))
  })
})

const byte = Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 })))
const bytes = (size: number) => Arbitrary.array(byte, { minLength: size, maxLength: size })
const upTo = (maximum: number) => Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum })))

const ip = (octets: ReadonlyArray<number>): NetAddress.IpAddress =>
  octets.length === 4
    ? NetAddress.ipv4FromBytesUnsafe(Uint8Array.from(octets))
    : NetAddress.ipv6FromBytesUnsafe(Uint8Array.from(octets))

// The bits of an address as text: an oracle that shares nothing with what is tested.
const bits = (octets: ReadonlyArray<number>): string => octets.map((n) => n.toString(2).padStart(8, "0")).join("")

describe("a list of any network", () => {
  for (const [family, size] of [["IPv4", 4], ["IPv6", 16]] as const) {
    it.prop(
      `of ${family} holds an address exactly when their first bits are the same`,
      { network: bytes(size), other: bytes(size), prefix: upTo(size * 8), same: upTo(size * 8) },
      ({ network, other, prefix, same }) => {
        // The first `same` bits are those of the network, so that both outcomes occur.
        const address = other.map((n, i) => {
          const kept = Math.max(0, Math.min(8, same - i * 8))
          const mask = (0xff << (8 - kept)) & 0xff
          return (network[i] & mask) | (n & ~mask & 0xff)
        })
        const entry = IpNetwork.format(IpNetwork.fromAddressUnsafe(ip(network), prefix))
        assert.strictEqual(
          FastCgiAccess.permits(list(entry), peer(NetAddress.formatIp(ip(address)))),
          bits(address).slice(0, prefix) === bits(network).slice(0, prefix),
          `${entry} ${NetAddress.formatIp(ip(address))}`
        )
      }
    )
  }

  it.prop(
    "holds an IPv4 address however it is written",
    { network: bytes(4), address: bytes(4), prefix: upTo(32) },
    ({ address, network, prefix }) => {
      const mapped = (octets: ReadonlyArray<number>) => `::ffff:${octets.join(".")}`
      const masked = NetAddress.formatIp(IpNetwork.fromAddressUnsafe(ip(network), prefix).address)
      const entries = [`${masked}/${prefix}`, `::ffff:${masked}/${prefix + 96}`]
      const answers = entries.flatMap((entry) =>
        [address.join("."), mapped(address)].map((written) => FastCgiAccess.permits(list(entry), peer(written)))
      )
      assert.deepStrictEqual(new Set(answers).size, 1, `${entries.join(" ")} ${address.join(".")}`)
    }
  )
})

describe("a list of any text", () => {
  const alphabet = "0129af.:/,% []-x\t"
  const character = Arbitrary.map(upTo(alphabet.length - 1), (index) => alphabet[index])

  it.prop(
    "is a list or an error, and holds only what is an address",
    { characters: Arbitrary.array(character, { maxLength: 12 }), address: bytes(4) },
    ({ address, characters }) => {
      const text = characters.join("")
      const someone = peer(address.join("."))
      for (const result of [FastCgiAccess.fromEntries([text]), FastCgiAccess.fromWebServerAddrs(text)]) {
        if (Result.isSuccess(result)) FastCgiAccess.permits(result.success, someone)
        else assert.include(result.failure.message, result.failure.reason._tag === "Empty" ? "empty" : "which")
      }
      // What is none of the characters of an address does not make one.
      if (/[-x[\]%]/.test(text)) {
        assert.isTrue(Result.isFailure(FastCgiAccess.fromEntries([text])), text)
        assert.isTrue(Result.isFailure(FastCgiAccess.fromWebServerAddrs(text)), text)
      }
    }
  )
})

describe("FCGI_WEB_SERVER_ADDRS", () => {
  it.each<[string, Array<string>]>([
    // The example of SPEC 3.2.
    ["199.170.183.28,199.170.183.71", ["199.170.183.28/32", "199.170.183.71/32"]],
    ["127.0.0.1", ["127.0.0.1/32"]],
    [" 127.0.0.1 , 127.0.0.2 ", ["127.0.0.1/32", "127.0.0.2/32"]],
    ["0.0.0.0,255.255.255.255", ["0.0.0.0/32", "255.255.255.255/32"]]
  ])("%j is %j", (value, expected) => {
    assert.deepStrictEqual(networks(FastCgiAccess.fromWebServerAddrs(value)), expected)
  })

  it.each([
    ["::1", "::1", "expected exactly four decimal octets"],
    ["10.0.0.0/8", "10.0.0.0/8", "expected exactly four decimal octets"],
    ["localhost", "localhost", "expected exactly four decimal octets"],
    ["127.0.0.1,", "", "expected exactly four decimal octets"],
    [",", "", "expected exactly four decimal octets"],
    ["127.0.0.1 127.0.0.2", "127.0.0.1 127.0.0.2", "expected exactly four decimal octets"],
    ["127.0.0.1;127.0.0.2", "127.0.0.1;127.0.0.2", "expected exactly four decimal octets"],
    ["127.0.0.256", "127.0.0.256", "octets must be at most 255"],
    ["127.0.0.01", "127.0.0.01", "leading zeroes are not allowed"]
  ])("%j is an error", (value, entry, why) => {
    assert.strictEqual(
      networks(FastCgiAccess.fromWebServerAddrs(value)),
      `NotDottedQuad: FCGI_WEB_SERVER_ADDRS has ${JSON.stringify(entry)}, which is not an IPv4 address (${why}). ` +
        "It lists addresses such as 192.0.2.10, with commas between them; IPv6 addresses and networks go into the " +
        "option \"allow\"."
    )
  })

  it.each(["", "  "])("%j is an error, not everybody", (value) => {
    assert.match(String(networks(FastCgiAccess.fromWebServerAddrs(value))), /^Empty: FCGI_WEB_SERVER_ADDRS is empty/)
  })

  it.prop(
    "holds any addresses, and any change that makes one of them something else is an error",
    { addresses: Arbitrary.array(bytes(4), { minLength: 1, maxLength: 6 }), at: upTo(5), broken: upTo(3) },
    ({ addresses, at, broken }) => {
      const written = addresses.map((octets) => octets.join("."))
      const access = Result.getOrThrow(FastCgiAccess.fromWebServerAddrs(written.join(",")))
      for (const address of written) assert.isTrue(FastCgiAccess.permits(access, peer(address)))
      const wrong = ["", `${written[0]}.1`, `0${written[0]}`, "x"][broken]
      const changed = written.map((address, index) => index === at % written.length ? wrong : address)
      assert.isTrue(Result.isFailure(FastCgiAccess.fromWebServerAddrs(changed.join(","))), changed.join(","))
    }
  )

  const provided = (values: Record<string, string>) =>
    FastCgiAccess.webServerAddrs.pipe(
      Effect.provide(ConfigProvider.layer(ConfigProvider.fromUnknown(values, { preserveEmptyStrings: true }))),
      Effect.map(Option.map(({ networks }) => networks.map(IpNetwork.format)))
    )

  it.effect("is read from the configuration", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* provided({ OTHER: "1" }), Option.none())
      assert.deepStrictEqual(
        yield* provided({ FCGI_WEB_SERVER_ADDRS: "192.0.2.1,192.0.2.2" }),
        Option.some(["192.0.2.1/32", "192.0.2.2/32"])
      )
      assert.match((yield* Effect.flip(provided({ FCGI_WEB_SERVER_ADDRS: "" }))).message, /is empty/)
    }))
})

const restricted = (options: FastCgiAccess.FastCgiAccessOptions, ...allow: ReadonlyArray<string>) =>
  FastCgiServer.serve({ responder: () => Effect.succeed(FastCgiResponse.make("served")) }).pipe(
    Layer.provideMerge([
      Layer.provideMerge(FastCgiAccess.layer({ ...options, allow }), FastCgiTest.layerMemory),
      FastCgiAdmission.layer({ maxConnections: 1 })
    ]),
    Layer.orDie
  )

const connectFrom = (address: string) =>
  Effect.flatMap(FastCgiTest.FastCgiMemory, (memory) => memory.peerFrom(peer(address)))

const served = (from: FastCgiTest.Peer) =>
  Effect.gen(function*() {
    yield* from.request()
    assert.strictEqual(bodyOf((yield* from.reply()).stdout), "served")
  })

const refusedCount = Effect.map(Metric.value(FastCgiAccess.refusedConnections), ({ count }) => Number(count))

describe("a listener with a list", () => {
  play(
    "closes connections of others at once, and serves the rest",
    restricted({}, "192.0.2.0/24"),
    () =>
      Effect.gen(function*() {
        const before = yield* refusedCount
        const web = yield* connectFrom("192.0.2.10")
        yield* served(web)
        // The only connection that `maxConnections` lets in is taken: who is refused is not counted in, nor made to wait.
        const other = yield* connectFrom("198.51.100.7")
        assert.deepStrictEqual(yield* other.drain, [])
        yield* served(web)
        assert.strictEqual((yield* refusedCount) - before, 1)
        assert.deepStrictEqual((yield* takeLogs).map(({ level, message }) => `${level} ${message}`), [
          "Warn refused a connection on memory from 198.51.100.7, which is not in allow"
        ])
      })
  )

  play(
    "never shows what a refused connection has sent to the server",
    restricted({}, "192.0.2.10"),
    () =>
      Effect.gen(function*() {
        const other = yield* connectFrom("192.0.2.11")
        yield* other.send(
          FastCgiRecord.beginRequest(1, FastCgiRecord.Role.Responder, { keepConnection: true }),
          FastCgiRecord.params(1, getParams),
          FastCgiRecord.params(1),
          FastCgiRecord.stdin(1)
        )
        assert.deepStrictEqual(yield* other.drain, [])
        yield* takeLogs
      })
  )

  play("refuses peers without an address", restricted({}, "0.0.0.0/0", "::/0"), () =>
    Effect.gen(function*() {
      const other = yield* connect
      assert.deepStrictEqual(yield* other.drain, [])
      assert.deepStrictEqual((yield* takeLogs).map(({ message }) => message), [
        "refused a connection on memory from a UNIX socket, which is not in allow"
      ])
    }))

  play("serves them when told so", restricted({ unixSockets: true }, "192.0.2.10"), () =>
    Effect.gen(function*() {
      yield* Effect.scoped(Effect.flatMap(connect, served))
      yield* Effect.scoped(Effect.flatMap(connectFrom("192.0.2.10"), served))
      assert.deepStrictEqual(yield* (yield* connectFrom("192.0.2.11")).drain, [])
      yield* takeLogs
    }))

  play(
    "refuses a thousand, logs twice and keeps nothing",
    restricted({ name: "the list of web servers" }, "192.0.2.10"),
    () =>
      Effect.gen(function*() {
        const before = yield* refusedCount
        const web = yield* connectFrom("192.0.2.10")
        const flood = Effect.forEach(
          Array.from({ length: 500 }, (_, i) => `2001:db8::${(i + 1).toString(16)}`),
          (address) => Effect.scoped(Effect.flatMap(connectFrom(address), (other) => other.closed))
        )
        yield* flood
        yield* served(web)
        yield* TestClock.adjust("10 seconds")
        yield* flood
        yield* served(web)
        yield* settle
        const message = "refused a connection on memory from 2001:db8::1, which is not in the list of web servers"
        assert.deepStrictEqual((yield* takeLogs).map(({ annotations, message }) => [message, annotations]), [
          [message, {}],
          [message, { suppressed: 499 }]
        ])
        assert.strictEqual((yield* refusedCount) - before, 1000)
      })
  )

  const both = FastCgiServer.serve({ responder: () => Effect.succeed(FastCgiResponse.make("served")) }).pipe(
    Layer.provideMerge([
      Layer.provideMerge(
        Layer.effect(
          FastCgiListener.FastCgiListener,
          Effect.flatMap(FastCgiListener.FastCgiListener, (listener) =>
            FastCgiAccess.restrict(listener, [
              Result.getOrThrow(FastCgiAccess.fromEntries(["192.0.2.0/24"], { name: "first" })),
              Result.getOrThrow(FastCgiAccess.fromEntries(["192.0.2.10", "198.51.100.7"], { name: "second" }))
            ]))
        ),
        FastCgiTest.layerMemory
      ),
      FastCgiAdmission.layer()
    ])
  )
  play("lets in who is on every list, when it has two", both, () =>
    Effect.gen(function*() {
      yield* Effect.scoped(Effect.flatMap(connectFrom("192.0.2.10"), served))
      for (const [address, list] of [["192.0.2.11", "second"], ["198.51.100.7", "first"]] as const) {
        assert.deepStrictEqual(yield* (yield* connectFrom(address)).drain, [])
        // The log says who was refused at most once in ten seconds.
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual((yield* takeLogs).map(({ message }) => message), [
          `refused a connection on memory from ${address}, which is not in ${list}`
        ])
      }
    }))

  it.effect("is not made when the list does not parse", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.scoped(Layer.build(
        FastCgiAccess.layer({ allow: ["localhost"] }).pipe(Layer.provide(FastCgiTest.layerMemory))
      )))
      assert.strictEqual(error.reason._tag, "InvalidAccessList")
      assert.match(error.message, /^allow has "localhost", which is neither/)
    }))
})
