/**
 * Who may connect: lists of addresses. A listener checks each connection after accepting it, before it reads a byte (SPEC 3.2).
 * FastCGI has no password, so these lists decide where the file mode of a UNIX socket cannot.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type { FastCgiTransport } from "../connection/FastCgiTransport.ts"
import { FastCgiListener, FastCgiListenerError } from "./FastCgiListener.ts"
import { LimitedLog } from "./internal/limitedLog.ts"

/**
 * The environment variable in which a web server says from which addresses it connects (SPEC 3.2).
 *
 * @category constants
 * @since 0.1.0
 */
export const webServerAddrsName = "FCGI_WEB_SERVER_ADDRS"

/**
 * Why a list is invalid:
 *
 * - `Empty`: it has no entries, so nobody could connect
 * - `NotAnAddress`: an entry is not an IPv4 or IPv6 address, alone or with a prefix length
 * - `HostBits`: an entry with a prefix length has bits set beyond it, so it is not clear which network is meant
 * - `NotDottedQuad`: an entry of FCGI_WEB_SERVER_ADDRS is not four decimal numbers with dots between them
 *
 * @category errors
 * @since 0.1.0
 */
export type FastCgiAccessErrorReason =
  | { readonly _tag: "Empty" }
  | { readonly _tag: "NotAnAddress" }
  | { readonly _tag: "HostBits" }
  | { readonly _tag: "NotDottedQuad" }

/**
 * A list of who may connect does not parse. `message` names the list and the entry, and says what was expected.
 *
 * @category errors
 * @since 0.1.0
 */
export class FastCgiAccessError extends Data.TaggedError("FastCgiAccessError")<{
  readonly reason: FastCgiAccessErrorReason
  readonly message: string
}> {}

/**
 * Who may connect.
 *
 * @category models
 * @since 0.1.0
 */
export interface FastCgiAccess {
  /** The name of the list in messages. */
  readonly name: string
  /** Peers with an address in one of these networks may connect. An IPv4-mapped IPv6 address counts as the IPv4 address. */
  readonly networks: ReadonlyArray<IpNetwork.IpNetwork>
  /** Whether peers over UNIX sockets may connect. */
  readonly unixSockets: boolean
}

/**
 * Options of `fromEntries`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiAccessOptions {
  /** The name of the list in messages. Default `allow`. */
  readonly name?: string | undefined
  /** Whether peers over UNIX sockets may connect. Default false. */
  readonly unixSockets?: boolean | undefined
}

/**
 * Makes a list from addresses, such as `"192.0.2.10"` and `"2001:db8::10"`, and from networks, such as `"10.1.0.0/16"`
 * and `"2001:db8::/32"`. Blanks around an entry are ignored. `"0.0.0.0/0"` is every IPv4 address and no IPv6 address.
 *
 * **Details**
 *
 * Fails when an entry is neither an address nor a network, and when there is no entry. Host names are not looked up. An address with
 * a zone (`fe80::1%eth0`) is invalid: a zone means something on one host only, so the check ignores the zones of peers as well.
 *
 * **Example** (Who is on a list)
 *
 * ```ts
 * import * as assert from "node:assert"
 * import * as NetAddress from "effect/net/NetAddress"
 * import * as Result from "effect/Result"
 * import { FastCgiAccess } from "effect-fastcgi"
 *
 * const list = Result.getOrThrow(FastCgiAccess.fromEntries(["192.0.2.10", "10.1.0.0/16"]))
 * const peer = NetAddress.inetAddressFromStringUnsafe
 *
 * assert.ok(FastCgiAccess.permits(list, peer("10.1.2.3:51000")))
 * assert.ok(FastCgiAccess.permits(list, peer("[::ffff:192.0.2.10]:51000")))
 * assert.ok(!FastCgiAccess.permits(list, peer("192.0.2.11:51000")))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromEntries = (
  entries: ReadonlyArray<string>,
  options?: FastCgiAccessOptions
): Result.Result<FastCgiAccess, FastCgiAccessError> => {
  const name = options?.name ?? "allow"
  return parse(name, entries, options?.unixSockets ?? false, (entry) => parseNetwork(name, entry))
}

/**
 * Makes a list from the value of FCGI_WEB_SERVER_ADDRS: IPv4 addresses in decimal with commas between them (SPEC 3.2).
 * Blanks around an address are ignored. Peers over UNIX sockets are not on it.
 *
 * **Details**
 *
 * Fails for everything else, also for an empty value: a list that does not parse must not let everybody in.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromWebServerAddrs = (value: string): Result.Result<FastCgiAccess, FastCgiAccessError> =>
  parse(
    webServerAddrsName,
    value.trim() === "" ? [] : value.split(","),
    false,
    (entry) =>
      Result.mapBoth(NetAddress.ipv4FromString(entry), {
        onSuccess: (address) => IpNetwork.makeUnsafe<NetAddress.IpAddress>(address, 32),
        onFailure: ({ message }) =>
          new FastCgiAccessError({
            reason: { _tag: "NotDottedQuad" },
            message: `${webServerAddrsName} has ${JSON.stringify(entry)}, which is not an IPv4 address (${message}). ` +
              "It lists addresses such as 192.0.2.10, with commas between them; IPv6 addresses and networks go into the " +
              "option \"allow\"."
          })
      })
  )

/**
 * Whether a peer may connect. `undefined` is a peer without an address, which is on no list. For example, a TCP peer that has already
 * reset its connection has no address any more, although its bytes can still be read.
 *
 * @category predicates
 * @since 0.1.0
 */
export const permits = (self: FastCgiAccess, peer: NetAddress.SocketAddress | undefined): boolean => {
  if (peer === undefined) return false
  if (NetAddress.isUnixPathAddress(peer)) return self.unixSockets
  const { address } = NetAddress.toCanonical(peer)
  return self.networks.some((network) => IpNetwork.contains(network, address))
}

/**
 * The list of FCGI_WEB_SERVER_ADDRS, or none when it is not set.
 *
 * **Details**
 *
 * The variable comes from the `ConfigProvider`, or else from the environment of the process. So an app with a configuration of its own
 * cannot open what the person who started it has closed. An empty variable in the environment is an error, although a
 * `ConfigProvider` takes it for unset.
 *
 * @category accessors
 * @since 0.1.0
 */
export const webServerAddrs: Effect.Effect<
  Option.Option<FastCgiAccess>,
  FastCgiAccessError | Config.ConfigError
> = Effect.gen(function*() {
  const provider = ConfigProvider.orElse(
    yield* ConfigProvider.ConfigProvider,
    ConfigProvider.fromEnv({ preserveEmptyStrings: true })
  )
  const value = yield* Config.option(Config.String(webServerAddrsName)).parse(provider)
  return Option.isNone(value)
    ? Option.none()
    : Option.some(yield* Effect.fromResult(fromWebServerAddrs(value.value)))
})

/**
 * How many connections were refused because their peer was not on a list.
 *
 * @category metrics
 * @since 0.1.0
 */
export const refusedConnections = Metric.counter("fastcgi_refused_connections", {
  description: "Connections that were closed when they had been accepted, because their peer may not connect",
  incremental: true
})

/**
 * Makes the check that a listener runs on every peer it accepts: true when the peer is on every list.
 *
 * **Details**
 *
 * A refused peer is counted in `refusedConnections` and logged as a warning, at most once in ten seconds. The annotation `suppressed`
 * says how many were left out since. `where` is the name of the listener in the message.
 *
 * @category constructors
 * @since 0.1.0
 */
export const guard = (
  lists: ReadonlyArray<FastCgiAccess>,
  where?: string
): Effect.Effect<(peer: NetAddress.SocketAddress | undefined) => boolean> =>
  Effect.map(Effect.context<never>(), (context) => {
    const on = where === undefined ? "" : ` on ${where}`
    const refusals = new LimitedLog(context)
    return (peer) => {
      const list = lists.find((list) => !permits(list, peer))
      if (list === undefined) return true
      refusedConnections.updateUnsafe(1, context)
      refusals.log(
        "refused",
        Effect.suspend(() =>
          Effect.logWarning(`refused a connection${on} from ${describe(peer)}, which is not in ${list.name}`)
        )
      )
      return false
    }
  })

/**
 * A listener that closes the connections of peers that are not on every list, before it reads a byte of them, and passes on the
 * others.
 *
 * **Gotchas**
 *
 * A transport without an address counts as a UNIX socket when `unixSockets` of a list is true. On a listener that also accepts over
 * TCP, this lets in peers that have already reset their connection.
 *
 * @category combinators
 * @since 0.1.0
 */
export const restrict = (
  listener: FastCgiListener["Service"],
  lists: ReadonlyArray<FastCgiAccess>
): Effect.Effect<FastCgiListener["Service"]> =>
  Effect.map(guard(lists, NetAddress.formatSocketAddress(listener.address)), (admits) =>
    FastCgiListener.of({
      ...listener,
      run: (onConnection) =>
        listener.run((transport: FastCgiTransport) => {
          if (admits(Option.getOrElse(transport.peer, () => unixSocket))) onConnection(transport)
          else transport.resetUnsafe()
        })
    }))

/**
 * Restricts the listener in the context to the addresses and networks of `allow`: see `fromEntries` and `restrict`. The
 * listeners of `effect-fastcgi/node` have the option themselves.
 *
 * **Example** (A listener of your own, for two web servers)
 *
 * ```ts
 * import * as Layer from "effect/Layer"
 * import { FastCgiAccess, type FastCgiListener } from "effect-fastcgi"
 *
 * declare const ListenerLive: Layer.Layer<FastCgiListener.FastCgiListener>
 *
 * export const Restricted = FastCgiAccess.layer({ allow: ["192.0.2.10", "192.0.2.11"] }).pipe(
 *   Layer.provide(ListenerLive)
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: FastCgiAccessOptions & { readonly allow: ReadonlyArray<string> }
): Layer.Layer<FastCgiListener, FastCgiListenerError, FastCgiListener> =>
  Layer.effect(
    FastCgiListener,
    Effect.gen(function*() {
      const list = yield* Effect.mapError(
        Effect.fromResult(fromEntries(options.allow, options)),
        ({ message }) => new FastCgiListenerError({ reason: { _tag: "InvalidAccessList" }, message })
      )
      return yield* restrict(yield* FastCgiListener, [list])
    })
  )

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const unixSocket = NetAddress.unixPathAddress("")

const describe = (peer: NetAddress.SocketAddress | undefined): string =>
  peer === undefined
    ? "a peer that has gone already"
    : NetAddress.isUnixPathAddress(peer)
    ? "a UNIX socket"
    : NetAddress.formatHost(NetAddress.toCanonical(peer))

const parse = (
  name: string,
  entries: ReadonlyArray<string>,
  unixSockets: boolean,
  parseEntry: (entry: string) => Result.Result<IpNetwork.IpNetwork, FastCgiAccessError>
): Result.Result<FastCgiAccess, FastCgiAccessError> => {
  if (entries.length === 0) {
    return Result.fail(
      new FastCgiAccessError({
        reason: { _tag: "Empty" },
        message: `${name} is empty, so nobody could connect. Give the addresses of the web server, or leave it out.`
      })
    )
  }
  return Result.map(
    Result.all(entries.map((entry) => parseEntry(entry.trim()))),
    (networks) => ({ name, networks, unixSockets })
  )
}

const parseNetwork = (name: string, entry: string): Result.Result<IpNetwork.IpNetwork, FastCgiAccessError> => {
  const slash = entry.indexOf("/")
  const address = NetAddress.ipFromString(slash === -1 ? entry : entry.slice(0, slash))
  if (Result.isFailure(address)) return notAnAddress(name, entry, address.failure.message)
  const ip = address.success
  const width = NetAddress.width(ip)
  if (slash !== -1 && !/^(0|[1-9]\d{0,2})$/.test(entry.slice(slash + 1))) {
    return notAnAddress(name, entry, "a prefix length is a decimal number")
  }
  const prefixLength = slash === -1 ? width : Number(entry.slice(slash + 1))
  const network = IpNetwork.fromAddress(ip, prefixLength)
  if (Result.isFailure(network)) return notAnAddress(name, entry, network.failure.message)
  if (Result.isFailure(IpNetwork.make(ip, prefixLength))) {
    return Result.fail(
      new FastCgiAccessError({
        reason: { _tag: "HostBits" },
        message: `${name} has ${JSON.stringify(entry)}, which has bits set beyond its prefix of ${prefixLength}. ` +
          `The network is ${IpNetwork.format(network.success)}, the address alone ${NetAddress.formatIp(ip)}.`
      })
    )
  }
  return Result.succeed(canonical(network.success))
}

// A peer with an IPv4 address is compared by it.
const canonical = (network: IpNetwork.IpNetwork): IpNetwork.IpNetwork => {
  const { address, prefixLength } = network
  if (!NetAddress.isIpv6Address(address) || prefixLength < 96) return network
  return Option.match(NetAddress.fromIpv4Mapped(address), {
    onNone: () => network,
    onSome: (ipv4) => IpNetwork.makeUnsafe<NetAddress.IpAddress>(ipv4, prefixLength - 96)
  })
}

const notAnAddress = (name: string, entry: string, why: string): Result.Result<never, FastCgiAccessError> =>
  Result.fail(
    new FastCgiAccessError({
      reason: { _tag: "NotAnAddress" },
      message: `${name} has ${JSON.stringify(entry)}, which is neither an address nor a network (${why}). Give ` +
        "192.0.2.10, 10.1.0.0/16, 2001:db8::10 or 2001:db8::/32; names of hosts are not looked up."
    })
  )
