/**
 * Listening on a UNIX socket path, and giving the path back.
 *
 * The socket is bound under another name, in a directory that only this user may enter, and gets its own name by a hard
 * link when everything about it is right. So nobody can connect before its mode and owner are set, whatever the umask;
 * two programs that start at the same moment cannot take the path from each other; and when Node removes the name that
 * it bound, at close, it does not find it: by then the path may belong to a successor.
 */
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import type { FastCgiListenerError } from "../../server/FastCgiListener.ts"
import type { Bound } from "./acceptor.ts"
import { listen } from "./acceptor.ts"
import { type Database, findId } from "./accounts.ts"
import { errorCode, formatPath, listenerError, pathError } from "./listenerError.ts"
import type { SocketOwner } from "./listenerOptions.ts"
import { maxPathSize, pathProblem } from "./socketPath.ts"

/** The options of `bindUnix`. */
export interface BindUnixOptions {
  readonly path: string
  readonly mode: number | undefined
  readonly owner: SocketOwner | undefined
  readonly backlog: number
  readonly unlink: boolean
}

/** Makes the server listen on the path. */
export const bindUnix = (
  server: Net.Server,
  options: BindUnixOptions
): Effect.Effect<Bound, FastCgiListenerError> =>
  bindUnixWith(
    (path, failed) => listen(server, () => server.listen({ path, backlog: options.backlog }), failed),
    options
  )

/** Binds a socket to the path and has it listen. */
export type ListenAt = (
  path: string,
  failed: (cause: unknown) => FastCgiListenerError
) => Effect.Effect<void, FastCgiListenerError>

/** Gives the path to what `listenAt` makes listen, which it asks to do so under another name first. */
export const bindUnixWith = (
  listenAt: ListenAt,
  options: BindUnixOptions
): Effect.Effect<Bound, FastCgiListenerError> =>
  options.path.startsWith("\0") ? bindAbstract(listenAt, options) : bindPath(listenAt, options)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// How often to look again when somebody else takes and leaves the path at the same time.
const maxAttempts = 5

const bindAbstract = Effect.fnUntraced(function*(
  listenAt: ListenAt,
  { path }: BindUnixOptions
): Effect.fn.Return<Bound, FastCgiListenerError> {
  yield* checkPath(path)
  if (process.platform !== "linux") {
    return yield* listenerError(
      "AddressNotAvailable",
      `Cannot listen on ${formatPath(path)}: abstract sockets exist on Linux only. Give a path in the file system.`
    )
  }
  yield* listenAt(path, (cause) => pathError(path, cause))
  return { address: NetAddress.unixPathAddress(path) }
})

const bindPath = Effect.fnUntraced(function*(
  listenAt: ListenAt,
  options: BindUnixOptions
): Effect.fn.Return<Bound, FastCgiListenerError> {
  const { path } = options
  yield* checkPath(path)
  const failed = (cause: unknown) => pathError(path, cause)
  const attempt = <A>(f: () => A) => Effect.try({ try: f, catch: failed })

  const permissions = yield* permissionsOf(options)
  // The working directory may be another one when the socket is removed.
  const absolute = Path.resolve(path)
  yield* occupant(path)

  const directory = path.slice(0, path.lastIndexOf("/") + 1)
  const base = path.slice(directory.length)
  const { hideout, name } = yield* Effect.try({
    try: () => makeHideout(directory, base),
    catch: failed
  })
  return yield* Effect.gen(function*() {
    const bound = `${hideout}/${name}`
    yield* listenAt(bound, failed)
    yield* permissions(bound)
    const own = yield* attempt(() => Fs.lstatSync(bound, { bigint: true }))
    yield* place(path, bound, `${bound}-`)
    return {
      address: NetAddress.unixPathAddress(path),
      unlink: options.unlink ? () => unlinkOwn(absolute, own) : undefined
    }
  }).pipe(
    Effect.ensuring(Effect.sync(() => Fs.rmSync(hideout, { recursive: true, force: true })))
  )
})

/** Looks the owner up. What it gives sets the owner and the mode of the socket, under the name that it has then. */
export const permissionsOf = Effect.fnUntraced(function*(
  { mode, owner, path }: BindUnixOptions
): Effect.fn.Return<(socket: string) => Effect.Effect<void, FastCgiListenerError>, FastCgiListenerError> {
  const { gid, uid } = yield* ownerIds(path, owner)
  const refused = (cause: unknown) =>
    owner !== undefined && errorCode(cause) === "EPERM"
      ? listenerError(
        "PermissionDenied",
        `Cannot give ${path} to ${formatOwner(owner)}: only root may give a socket away, and ` +
          "others only to a group that they are in. Leave the owner out and set the mode, or start as root.",
        cause
      )
      : pathError(path, cause)
  return (socket) =>
    Effect.gen(function*() {
      if (owner !== undefined) yield* Effect.try({ try: () => Fs.chownSync(socket, uid, gid), catch: refused })
      if (mode !== undefined) {
        yield* Effect.try({ try: () => Fs.chmodSync(socket, mode), catch: (cause) => pathError(path, cause) })
      }
    })
})

// The id that means "unchanged" for chown(2).
const unchanged = -1

const ownerIds = Effect.fnUntraced(function*(
  path: string,
  owner: SocketOwner | undefined
): Effect.fn.Return<{ readonly uid: number; readonly gid: number }, FastCgiListenerError> {
  const idOf = Effect.fnUntraced(function*(
    database: Database,
    account: string | number | undefined
  ): Effect.fn.Return<number, FastCgiListenerError> {
    if (account === undefined) return unchanged
    const id = typeof account === "number" ? account : yield* findId(database, account)
    if (id !== undefined && Number.isInteger(id) && id >= 0 && id < highestId) return id
    const what = database === "passwd" ? "user" : "group"
    return yield* listenerError(
      "NoSuchOwner",
      `Cannot give ${formatPath(path)} to ${what} ${
        JSON.stringify(account)
      }: there is no such ${what}. Correct the name ` +
        `(getent ${database} lists them), or leave the owner out and set the mode.`
    )
  })
  return { uid: yield* idOf("passwd", owner?.user), gid: yield* idOf("group", owner?.group) }
})

// 2^32 - 1 is what chown(2) takes for "as it is".
const highestId = 2 ** 32 - 1

const formatOwner = ({ group, user }: SocketOwner): string =>
  [user === undefined ? [] : `user ${user}`, group === undefined ? [] : `group ${group}`].flat().join(" and ")

/** Fails for what is no path of a socket. */
export const checkPath = (path: string): Effect.Effect<void, FastCgiListenerError> => {
  const problem = pathProblem(path)
  if (problem === undefined) return Effect.void
  const where = problem.reason === "Empty" ? "Cannot listen" : `Cannot listen on ${formatPath(path)}`
  return Effect.fail(
    problem.reason === "TooLong"
      ? listenerError("PathTooLong", `${where}: ${problem.message} Choose a shorter one, below /run for instance.`)
      : listenerError("AddressNotAvailable", `${where}: ${problem.message}`)
  )
}

// A new directory beside the socket that only this user may enter, and the name to bind in it. The socket keeps its own
// file name there when there is room: that is what ss and lsof show.
const makeHideout = (directory: string, base: string): { readonly hideout: string; readonly name: string } => {
  const room = maxPathSize - Buffer.byteLength(directory)
  const wanted = 7 + 1 + Buffer.byteLength(base)
  for (let attempt = 1;; attempt++) {
    const random = randomBytes(8).toString("hex")
    const short = wanted > room
    const hideout = directory + (short ? random.slice(0, Math.max(1, Math.min(6, room - 2))) : `.${random.slice(0, 6)}`)
    try {
      Fs.mkdirSync(hideout, 0o700)
      return { hideout, name: short ? "s" : base }
    } catch (cause) {
      if (errorCode(cause) !== "EEXIST" || attempt === maxAttempts) throw cause
    }
  }
}

/** Whether the path is free, or has a socket on which nothing listens. Fails for any other file, which must stay. */
export const occupant = Effect.fnUntraced(function*(
  path: string
): Effect.fn.Return<Fs.BigIntStats | undefined, FastCgiListenerError> {
  const stat = yield* Effect.try({
    try: () => Fs.lstatSync(path, { bigint: true, throwIfNoEntry: false }),
    catch: (cause) => pathError(path, cause)
  })
  if (stat === undefined) return undefined
  if (!stat.isSocket()) {
    const kind = stat.isDirectory() ? "a directory" : stat.isSymbolicLink() ? "a symbolic link" : "a file"
    return yield* listenerError(
      "PathTaken",
      `Cannot listen on ${path}: ${kind} is there that is no socket, so it is not replaced. Choose another path.`
    )
  }
  const code = yield* probe(path)
  switch (code) {
    case "ECONNREFUSED":
      return stat
    case "ENOENT":
      return undefined
    case "EACCES":
    case "EPERM":
      return yield* listenerError(
        "PermissionDenied",
        `Cannot listen on ${path}: a socket is there that belongs to another user, and this program may not even ` +
          "connect to it to see whether a server listens. Remove it if it is left over, or choose another path."
      )
    case "EPROTOTYPE":
      return yield* listenerError(
        "PathTaken",
        `Cannot listen on ${path}: a socket of another kind is there. Choose another path.`
      )
    // Connected, or EAGAIN: a server listens, and its backlog is full.
    default:
      return yield* listenerError(
        "AddressInUse",
        `Cannot listen on ${path}: another process listens there. See which with: ss -lxp src ${path}. ` +
          "Stop it, or choose another path."
      )
  }
})

// The error code of connecting to the path, or "" when it succeeds.
const probe = (path: string): Effect.Effect<string> =>
  Effect.callback((resume) => {
    const socket = Net.connect({ path })
    socket.on("connect", () => {
      socket.destroy()
      resume(Effect.succeed(""))
    })
    socket.on("error", (cause) => resume(Effect.succeed(errorCode(cause))))
    return Effect.sync(() => socket.destroy())
  })

// Gives the bound socket its name. A link never replaces anything, so the path stays with whoever has it first; a stale
// socket is moved away, which only one can do, and looked at again when it can be nobody else's any more.
const place = Effect.fnUntraced(function*(
  path: string,
  bound: string,
  aside: string
): Effect.fn.Return<void, FastCgiListenerError> {
  const attempt = <A>(f: () => A) => Effect.try({ try: f, catch: (cause) => pathError(path, cause) })
  for (let round = 0; round < maxAttempts; round++) {
    const stale = yield* occupant(path)
    if (stale !== undefined) yield* attempt(() => takeAway(path, aside, stale))
    if (yield* attempt(() => link(bound, path))) return
  }
  return yield* listenerError(
    "AddressInUse",
    `Cannot listen on ${path}: other processes keep taking the path. Stop them, or choose another path.`
  )
})

/** Removes a socket that nobody listens on any more, and nothing else. */
export const takeAway = (path: string, aside: string, stale: Fs.BigIntStats): void => {
  // Another program may have replaced it since it was probed.
  const now = Fs.lstatSync(path, { bigint: true, throwIfNoEntry: false })
  if (now === undefined || !isSame(stale, now)) return
  try {
    Fs.renameSync(path, aside)
  } catch (cause) {
    if (errorCode(cause) === "ENOENT") return
    throw cause
  }
  // Or between these two calls: then it gets its name back.
  if (!isSame(stale, Fs.lstatSync(aside, { bigint: true }))) link(aside, path)
  Fs.unlinkSync(aside)
}

// False when there is something at the path.
const link = (existing: string, path: string): boolean => {
  try {
    Fs.linkSync(existing, path)
    return true
  } catch (cause) {
    switch (errorCode(cause)) {
      case "EEXIST":
        return false
      // A file system without hard links.
      case "EPERM":
      case "ENOSYS":
      case "ENOTSUP":
      case "EOPNOTSUPP":
      case "EMLINK":
        Fs.renameSync(existing, path)
        return true
      default:
        throw cause
    }
  }
}

// While the socket is open its inode cannot be another's, so this is called before it is closed.
export const unlinkOwn = (path: string, own: Fs.BigIntStats): void => {
  try {
    if (isSame(own, Fs.lstatSync(path, { bigint: true }))) Fs.unlinkSync(path)
  } catch {
    // Somebody else has removed it, or the directory: it is gone in any case.
  }
}

// The number of a file that has been removed may be the next one's.
const isSame = (a: Fs.BigIntStats, b: Fs.BigIntStats): boolean =>
  a.ino === b.ino && a.dev === b.dev && a.birthtimeNs === b.birthtimeNs
