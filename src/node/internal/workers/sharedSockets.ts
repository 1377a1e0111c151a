/**
 * The listening sockets of a supervisor. It binds them and never accepts: what it holds is a handle of libuv that no event
 * loop looks at, so the operating system gives every connection to one of the workers, and connections wait while there is
 * none.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import type * as ChildProcess from "node:child_process"
import * as Dns from "node:dns"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { getSystemErrorName } from "node:util"
import type { FastCgiListenerError } from "../../../server/FastCgiListener.ts"
import { boundTo, checkHost } from "../inetSocket.ts"
import { checkFd, replaceStdin } from "../inheritedSocket.ts"
import { listenerError, tcpError } from "../listenerError.ts"
import { closeStdio, detachOutput } from "../stdio.ts"
import { type PassedSocket, systemdSockets } from "../systemdSockets.ts"
import { bindUnixWith, unlinkOwn } from "../unixSocket.ts"
import { type ListenOn, SharedAddress } from "./messages.ts"

/** A listening socket that is on its way to a worker. */
export type SharedHandle = ChildProcess.SendHandle & { readonly fd: number }

/** Gives a worker the handle and waits until it listens on it. */
export type Offer = (handle: SharedHandle) => Effect.Effect<void, FastCgiListenerError>

/** The environment variable in which a supervisor tells its successor of the sockets that it hands over. */
export const socketsVariable = "EFFECT_FASTCGI_SOCKETS"

const Passed = Schema.Array(Schema.Struct({ fd: Schema.Int, name: Schema.String }))

const Handed = Schema.fromJsonString(Schema.Struct({
  sockets: Schema.Array(Schema.Struct({
    key: Schema.String,
    fd: Schema.Int,
    address: SharedAddress,
    /** The absolute path of a socket whose name is taken away in the end. */
    unlink: Schema.optionalKey(Schema.String)
  })),
  /** The sockets of systemd, by the descriptors that the first supervisor had. */
  passed: Schema.optionalKey(Passed)
}))

export class SharedSockets {
  private readonly sockets = new Map<string, Shared>()
  // One socket after the other is bound: two workers that want the same one get the same one.
  private readonly binding = Semaphore.makeUnsafe(1)

  private handedPassed: typeof Passed.Type | undefined

  /** The sockets that another supervisor has handed over, where the environment tells of some. */
  static readonly adopted = (): SharedSockets => {
    const adopted = new SharedSockets()
    const text = process.env[socketsVariable]
    delete process.env[socketsVariable]
    const handed = text === undefined ? Option.none() : Schema.decodeOption(Handed)(text)
    if (Option.isNone(handed)) return adopted
    const { passed, sockets } = handed.value
    for (const { address, fd, key, unlink } of sockets) {
      const handle = open(null, null, null, fd)
      if (typeof handle === "number") continue
      adopted.sockets.set(key, { handle, address, unlink: unlink === undefined ? undefined : named(unlink) })
    }
    adopted.handedPassed = passed
    return adopted
  }

  /** The sockets that systemd has passed to this supervisor, or to one before it. */
  readonly passed = (name: string | undefined): Effect.Effect<ReadonlyArray<PassedSocket>, FastCgiListenerError> => {
    if (this.handedPassed === undefined) return systemdSockets(name)
    const named = this.handedPassed.filter((socket) => name === undefined || socket.name === name)
    return named.length > 0
      ? Effect.succeed(named)
      : Effect.fail(listenerError("NotASocket", `No socket that systemd has passed is named "${name}".`))
  }

  /** Offers the socket, which is bound when this is the first time that somebody wants it. */
  readonly share = (on: ListenOn, offer: Offer): Effect.Effect<SharedAddress, FastCgiListenerError> =>
    this.binding.withPermit(Effect.suspend(() => {
      const key = keyOf(on)
      const known = this.sockets.get(key)
      if (known !== undefined) return Effect.as(offer(known.handle), known.address)
      return Effect.map(bind(on, offer), (shared) => {
        this.sockets.set(key, shared)
        return shared.address
      })
    }))

  /** Closes the sockets that none of these wants any more. */
  readonly keep = (wanted: ReadonlySet<string>): void => {
    for (const [key, shared] of this.sockets) {
      if (wanted.has(key)) continue
      this.sockets.delete(key)
      shared.unlink?.remove()
      closeHandle(shared.handle)
    }
  }

  /** Takes the names away, so that nobody connects any more, and leaves the sockets to the workers. */
  readonly close = (): void => this.keep(new Set())

  /** Leaves everything to a successor that has been given `handed`. */
  readonly leave = (): void => {
    for (const { handle } of this.sockets.values()) closeHandle(handle)
    this.sockets.clear()
  }

  /** The message to a successor: its descriptors begin at `firstFd`, in the order of `handles`. */
  readonly handed = (
    firstFd: number
  ): Effect.Effect<{ readonly handles: ReadonlyArray<SharedHandle>; readonly text: string }> =>
    Effect.map(Effect.option(this.passed(undefined)), (passed) => {
      const all = [...this.sockets]
      return {
        handles: all.map(([, { handle }]) => handle),
        text: Schema.encodeSync(Handed)({
          sockets: all.map(([key, { address, unlink }], index) => ({
            key,
            address,
            fd: firstFd + index,
            ...(unlink === undefined ? {} : { unlink: unlink.path })
          })),
          ...(Option.isSome(passed) ? { passed: passed.value } : {})
        })
      }
    })
}

/** The name of a socket: two that are bound to the same place have the same. */
export const keyOf = (on: ListenOn): string => {
  switch (on._tag) {
    case "Path":
      return on.path.startsWith("\0") ? on.path : `path ${Path.resolve(on.path)}`
    case "Port":
      return `port ${on.port} of ${on.host}${on.ipv6Only ? ", IPv6 only" : ""}`
    case "Fd":
      return `file descriptor ${on.fd}`
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

interface Shared {
  readonly handle: RawHandle
  readonly address: SharedAddress
  readonly unlink: Named | undefined
}

interface Named {
  readonly path: string
  readonly remove: () => void
}

type RawHandle = SharedHandle & {
  readonly close: () => void
  readonly getsockname?: (out: object) => number
}

const closeHandle = (handle: RawHandle): void => {
  const { fd } = handle
  handle.close()
  if (fd <= 2) closeStdio(fd)
}

// A name that is taken away while it is still this socket's.
const named = (path: string): Named => {
  const own = Fs.lstatSync(path, { bigint: true, throwIfNoEntry: false })
  return { path, remove: () => own !== undefined && unlinkOwn(path, own) }
}

/**
 * Binds a socket, or takes one by its descriptor, without listening. It is what node:cluster shares its sockets by, and the
 * only way of Node's to hold one without accepting.
 */
const open = (
  address: string | null,
  port: number | null,
  addressType: 4 | 6 | -1 | null,
  fd?: number,
  flags?: number
): RawHandle | number =>
  (Net as unknown as {
    readonly _createServerHandle: (
      address: string | null,
      port: number | null,
      addressType: number | null,
      fd?: number,
      flags?: number
    ) => RawHandle | number
  })._createServerHandle(address, port, addressType, fd, flags)

/** Uses the handle, which is closed unless that succeeds. */
const using = <A>(
  handle: RawHandle | number,
  failed: (cause: unknown) => FastCgiListenerError,
  use: (handle: RawHandle) => Effect.Effect<A, FastCgiListenerError>
): Effect.Effect<A, FastCgiListenerError> =>
  typeof handle === "number"
    ? Effect.fail(failed(systemError(handle)))
    : Effect.onError(use(handle), () => Effect.sync(() => handle.close()))

const systemError = (errno: number): Error =>
  Object.assign(new Error(getSystemErrorName(errno)), { code: getSystemErrorName(errno) })

const bind = (on: ListenOn, offer: Offer): Effect.Effect<Shared, FastCgiListenerError> => {
  switch (on._tag) {
    case "Path":
      return bindPath(on, offer)
    case "Port":
      return bindPort(on, offer)
    case "Fd":
      return Effect.andThen(
        checkFd(on.fd),
        using(
          open(null, null, null, on.fd),
          () => listenerError("NotASocket", `File descriptor ${on.fd} is not a listening socket.`),
          (handle) =>
            Effect.map(offer(handle), (): Shared => {
              // As in a process that listens on it: nothing may read it, or write to it.
              if (on.fd === 0) replaceStdin()
              detachOutput(on.fd)
              return { handle, address: { _tag: "Inherited" }, unlink: undefined }
            })
        )
      )
  }
}

const bindPath = (
  on: Extract<ListenOn, { readonly _tag: "Path" }>,
  offer: Offer
): Effect.Effect<Shared, FastCgiListenerError> =>
  Effect.suspend(() => {
    let opened: RawHandle | undefined
    // The worker listens before the socket has its name: one that nobody listens on would look like one that was left over.
    const listenAt = (path: string, failed: (cause: unknown) => FastCgiListenerError) =>
      using(open(path, -1, -1), failed, (handle) =>
        Effect.map(offer(handle), () => {
          opened = handle
        }))
    const owner = on.user === undefined && on.group === undefined ? undefined : { user: on.user, group: on.group }
    return Effect.map(
      Effect.onError(
        bindUnixWith(listenAt, { path: on.path, mode: on.mode, owner, backlog: on.backlog, unlink: on.unlink }),
        () => Effect.sync(() => opened?.close())
      ),
      ({ unlink }): Shared => ({
        handle: opened!,
        address: { _tag: "Path", path: on.path },
        unlink: unlink === undefined ? undefined : { path: Path.resolve(on.path), remove: unlink }
      })
    )
  })

const bindPort = Effect.fnUntraced(function*(
  on: Extract<ListenOn, { readonly _tag: "Port" }>,
  offer: Offer
): Effect.fn.Return<Shared, FastCgiListenerError> {
  const { host, ipv6Only, port } = on
  const failed = (cause: unknown) => tcpError(host, port, cause)
  yield* checkHost(host)
  const { address, family } = yield* Effect.tryPromise({ try: () => Dns.promises.lookup(host), catch: failed })
  const handle = open(address, port, family === 6 ? 6 : 4, undefined, ipv6Only ? onlyIpv6 : 0)
  return yield* using(
    handle,
    failed,
    Effect.fnUntraced(function*(handle) {
      // libuv tells here that somebody else has the port.
      const local: { address?: string; port?: number } = {}
      const errno = handle.getsockname?.(local) ?? 0
      if (errno !== 0) return yield* Effect.fail(failed(systemError(errno)))
      const address = { host: local.address ?? "", port: local.port ?? 0 }
      yield* boundTo({ address: address.host, port: address.port }, on)
      yield* offer(handle)
      return { handle, address: { _tag: "Inet" as const, ...address }, unlink: undefined }
    })
  )
})

// UV_TCP_IPV6ONLY
const onlyIpv6 = 1
