import { assert, describe, it } from "@effect/vitest"
import type { FastCgiListener } from "effect-fastcgi"
import { NodeFastCgiListener } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { bindUnix } from "../../src/node/internal/unixSocket.ts"
import { connectClient, connectCode, eventually, nextEvent, temporaryDirectory } from "./sockets.ts"

type Listener = FastCgiListener.FastCgiListener["Service"]

const isRoot = process.geteuid?.() === 0

const failure = (options: NodeFastCgiListener.UnixOptions) =>
  Effect.map(
    Effect.flip(Effect.scoped(NodeFastCgiListener.make(options))),
    ({ message, reason }) => ({ message, reason: reason._tag })
  )

// A listener with a scope of its own, so that a test can close it.
const open = (options: NodeFastCgiListener.UnixOptions) =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const listener = yield* Scope.provide(NodeFastCgiListener.make(options), scope)
    return { listener, close: Scope.close(scope, Exit.void) }
  })

// Whether it is this listener that a connection to the path reaches.
const reaches = (listener: Listener, path: string) =>
  Effect.scoped(Effect.gen(function*() {
    let reached = false
    yield* Effect.forkScoped(
      listener.run((transport) => {
        reached = true
        transport.destroyUnsafe()
      }),
      { startImmediately: true }
    )
    const client = yield* connectClient({ path })
    yield* eventually(() => reached || client.socket.destroyed)
    return reached
  }))

const plainServer = (path: string) =>
  Effect.gen(function*() {
    const server = yield* Effect.acquireRelease(
      Effect.sync(() => new Net.Server((socket) => socket.destroy())),
      (server) => Effect.sync(() => server.close())
    )
    const listening = nextEvent(server, "listening")
    server.listen(path)
    yield* listening
    return server
  })

// What a killed server leaves behind: a socket file that nobody listens on.
const leaveStale = (path: string) =>
  Effect.gen(function*() {
    const server = yield* plainServer(path)
    Fs.renameSync(path, `${path}.kept`)
    const closed = nextEvent(server, "close")
    server.close()
    yield* closed
    Fs.renameSync(`${path}.kept`, path)
    assert.strictEqual(yield* connectCode({ path }), "ECONNREFUSED")
  })

const asNobody = Effect.acquireRelease(
  Effect.sync(() => {
    if (isRoot) process.seteuid!(65534)
  }),
  () =>
    Effect.sync(() => {
      if (isRoot) process.seteuid!(0)
    })
)

describe("a UNIX listener", () => {
  it.live("listens on the path, and leaves nothing behind when it closes", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = `${directory}/app.sock`
      const { close, listener } = yield* open({ path })
      assert.deepStrictEqual(listener.address, NetAddress.unixPathAddress(path))
      assert.deepStrictEqual(Fs.readdirSync(directory), ["app.sock"])
      assert.isTrue(yield* reaches(listener, path))
      yield* close
      assert.deepStrictEqual(Fs.readdirSync(directory), [])
    }))

  it.live("takes a relative path, and removes it wherever the program has gone meanwhile", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const home = process.cwd()
      yield* Effect.addFinalizer(() => Effect.sync(() => process.chdir(home)))
      process.chdir(directory)
      const { close, listener } = yield* open({ path: "app.sock" })
      assert.isTrue(yield* reaches(listener, `${directory}/app.sock`))
      process.chdir(home)
      yield* close
      assert.deepStrictEqual(Fs.readdirSync(directory), [])
    }))

  it.live("leaves the socket when told so", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const { close } = yield* open({ path: `${directory}/app.sock`, unlink: false })
      yield* close
      assert.deepStrictEqual(Fs.readdirSync(directory), ["app.sock"])
    }))

  it.live.each([0o600, 0o660, 0o666, 0o777])(
    "has exactly the mode %o that was asked for",
    (mode) =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const path = `${directory}/app.sock`
        for (const umask of [0o000, 0o022, 0o777]) {
          const before = process.umask(umask)
          const opened = yield* Effect.exit(open({ path, mode }))
          process.umask(before)
          assert.isTrue(Exit.isSuccess(opened))
          assert.strictEqual(Fs.statSync(path).mode & 0o777, mode)
          if (Exit.isSuccess(opened)) yield* opened.value.close
        }
      })
  )

  it.live("has the mode that the umask leaves when none was asked for", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const before = process.umask(0o027)
      yield* open({ path: `${directory}/app.sock` })
      process.umask(before)
      assert.strictEqual(Fs.statSync(`${directory}/app.sock`).mode & 0o777, 0o750)
    }))

  it.live("lets nobody else in before the mode is right", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = `${directory}/app.sock`
      const server = yield* Effect.acquireRelease(
        Effect.sync(() => new Net.Server()),
        (server) => Effect.sync(() => server.close())
      )
      // Clients can connect from here on, to those names of the socket that they can reach.
      const seen: Array<readonly [string, boolean, number]> = []
      server.on("listening", () => {
        for (const name of Fs.readdirSync(directory)) {
          const stat = Fs.statSync(`${directory}/${name}`)
          seen.push([name, stat.isDirectory(), stat.mode & 0o777])
        }
      })
      const before = process.umask(0)
      yield* bindUnix(server, { path, mode: 0o600, owner: undefined, backlog: 511, unlink: true })
      process.umask(before)
      assert.deepStrictEqual(seen.map(([, isDirectory, mode]) => [isDirectory, mode]), [[true, 0o700]])
      assert.strictEqual(Fs.statSync(path).mode & 0o777, 0o600)
    }))

  it.live.skipIf(!isRoot)("belongs to the owner that was asked for", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = `${directory}/app.sock`
      yield* open({ path, owner: { user: 12, group: 34 }, mode: 0o660 })
      const { gid, mode, uid } = Fs.statSync(path)
      assert.deepStrictEqual([uid, gid, mode & 0o777], [12, 34, 0o660])
      yield* open({ path: `${path}2`, owner: { group: "34" } })
      assert.deepStrictEqual([Fs.statSync(`${path}2`).uid, Fs.statSync(`${path}2`).gid], [0, 34])
    }))

  it.live.skipIf(!isRoot)("belongs to the user and the group of these names", () =>
    Effect.gen(function*() {
      const path = `${yield* temporaryDirectory}/app.sock`
      // Those of this system, whatever their ids are.
      const [user, , uid] = Fs.readFileSync("/etc/passwd", "utf8").trim().split("\n").at(-1)!.split(":")
      const [group, , gid] = Fs.readFileSync("/etc/group", "utf8").trim().split("\n").at(-1)!.split(":")
      yield* open({ path, owner: { user, group } })
      const stat = Fs.statSync(path)
      assert.deepStrictEqual([stat.uid, stat.gid], [Number(uid), Number(gid)])
    }))

  it.live("fails for a user or a group that there is not, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = `${directory}/app.sock`
      for (
        const [owner, what, database] of [
          [{ user: "nobody-of-that-name" }, "user \"nobody-of-that-name\"", "passwd"],
          [{ group: "nobody-of-that-name" }, "group \"nobody-of-that-name\"", "group"],
          [{ user: "--help" }, "user \"--help\"", "passwd"],
          [{ group: "a:b" }, "group \"a:b\"", "group"],
          [{ user: "" }, "user \"\"", "passwd"],
          [{ user: -1 }, "user -1", "passwd"],
          [{ group: 4_294_967_295 }, "group 4294967295", "group"],
          [{ user: 1.5 }, "user 1.5", "passwd"]
        ] as const
      ) {
        const kind = what.split(" ")[0]
        assert.deepStrictEqual(yield* failure({ path, owner }), {
          reason: "NoSuchOwner",
          message:
            `Cannot give ${path} to ${what}: there is no such ${kind}. Correct the name (getent ${database} lists ` +
            "them), or leave the owner out and set the mode."
        })
      }
      assert.deepStrictEqual(Fs.readdirSync(directory), [])
    }))

  it.live.skipIf(!isRoot)(
    "says that only root may give the socket away, and leaves nothing behind",
    () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        Fs.chmodSync(directory, 0o777)
        const path = `${directory}/app.sock`
        const error = yield* Effect.scoped(
          Effect.andThen(asNobody, failure({ path, owner: { user: 12, group: 34 } }))
        )
        assert.deepStrictEqual(error, {
          reason: "PermissionDenied",
          message:
            `Cannot give ${path} to user 12 and group 34: only root may give a socket away, and others only to a ` +
            "group that they are in. Leave the owner out and set the mode, or start as root."
        })
        assert.deepStrictEqual(Fs.readdirSync(directory), [])
        assert.strictEqual(yield* connectCode({ path }), "ENOENT")
      })
  )

  it.live("replaces a socket that a dead server left", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = `${directory}/app.sock`
      yield* leaveStale(path)
      const { listener } = yield* open({ path, mode: 0o600 })
      assert.isTrue(yield* reaches(listener, path))
      assert.deepStrictEqual(Fs.readdirSync(directory), ["app.sock"])
    }))

  it.live("leaves the path to the live server that has it", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = `${directory}/app.sock`
      const { listener } = yield* open({ path })
      assert.deepStrictEqual(yield* failure({ path }), {
        reason: "AddressInUse",
        message: `Cannot listen on ${path}: another process listens there. See which with: ss -lxp src ${path}. ` +
          "Stop it, or choose another path."
      })
      assert.isTrue(yield* reaches(listener, path))
      assert.deepStrictEqual(Fs.readdirSync(directory), ["app.sock"])
    }))

  it.live("gives the path to one of many that start at the same time", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      for (const stale of [false, true]) {
        for (let round = 0; round < 10; round++) {
          const path = `${directory}/${stale}-${round}.sock`
          if (stale) yield* leaveStale(path)
          const exits = yield* Effect.forEach(
            Array.from({ length: 8 }),
            () => Effect.exit(open({ path })),
            { concurrency: "unbounded" }
          )
          const opened = exits.filter(Exit.isSuccess)
          assert.strictEqual(opened.length, 1)
          assert.isTrue(yield* reaches(opened[0].value.listener, path))
          yield* opened[0].value.close
        }
      }
      assert.deepStrictEqual(Fs.readdirSync(directory), [])
    }))

  it.live("does not remove a successor's socket", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = `${directory}/app.sock`
      const first = yield* open({ path })
      Fs.unlinkSync(path)
      const second = yield* open({ path })
      yield* first.close
      assert.isTrue(yield* reaches(second.listener, path))

      // Nor one of another program, nor when the successor came by renaming.
      yield* plainServer(`${directory}/other.sock`)
      Fs.renameSync(`${directory}/other.sock`, path)
      yield* second.close
      assert.strictEqual(yield* connectCode({ path }), "")
    }))

  it.live("gives the path up as soon as it stops accepting, for a successor to take", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = `${directory}/app.sock`
      const first = yield* open({ path })
      yield* first.listener.stopAccepting
      const second = yield* open({ path })
      yield* first.close
      assert.isTrue(yield* reaches(second.listener, path))
    }))

  it.live("replaces nothing but sockets", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      Fs.writeFileSync(`${directory}/file`, "precious")
      Fs.mkdirSync(`${directory}/folder`)
      Fs.symlinkSync(`${directory}/nowhere`, `${directory}/link`)
      for (const [name, kind] of [["file", "a file"], ["folder", "a directory"], ["link", "a symbolic link"]]) {
        const path = `${directory}/${name}`
        assert.deepStrictEqual(yield* failure({ path }), {
          reason: "PathTaken",
          message:
            `Cannot listen on ${path}: ${kind} is there that is no socket, so it is not replaced. Choose another path.`
        })
      }
      assert.strictEqual((yield* failure({ path: `${directory}/` })).reason, "PathTaken")
      assert.strictEqual(Fs.readFileSync(`${directory}/file`, "utf8"), "precious")
      assert.deepStrictEqual(Fs.readdirSync(directory).sort(), ["file", "folder", "link"])
    }))

  it.live("says that the directory does not exist, or is none", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      Fs.writeFileSync(`${directory}/file`, "")
      assert.deepStrictEqual(yield* failure({ path: `${directory}/no/app.sock` }), {
        reason: "AddressNotAvailable",
        message:
          `Cannot listen on ${directory}/no/app.sock: its directory does not exist. Create it, owned by the user ` +
          "that runs this program, or choose another path."
      })
      assert.deepStrictEqual(yield* failure({ path: `${directory}/file/app.sock` }), {
        reason: "AddressNotAvailable",
        message: `Cannot listen on ${directory}/file/app.sock: a part of the path is a file, not a directory. Choose ` +
          "another path."
      })
    }))

  it.live("says that the user may not", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      Fs.chmodSync(directory, 0o555)
      const path = `${directory}/app.sock`
      const error = yield* Effect.scoped(Effect.andThen(asNobody, failure({ path })))
      Fs.chmodSync(directory, 0o755)
      assert.deepStrictEqual(error, {
        reason: "PermissionDenied",
        message: `Cannot listen on ${path}: this program's user may not create or replace files in that directory. ` +
          "Give the user a directory of its own, or choose another path."
      })
    }))

  it.live.skipIf(!isRoot)(
    "does not guess whether a socket lives that it may not connect to",
    () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        Fs.chmodSync(directory, 0o777)
        const path = `${directory}/app.sock`
        const { listener } = yield* open({ path, mode: 0o600 })
        const error = yield* Effect.scoped(Effect.andThen(asNobody, failure({ path })))
        assert.strictEqual(error.reason, "PermissionDenied")
        assert.match(error.message, /a socket is there that belongs to another user/)
        assert.isTrue(yield* reaches(listener, path))
      })
  )

  it.live("takes 107 bytes and says that 108 are too many", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const fill = (folder: string, size: number) => `${folder}/${"x".repeat(size - folder.length - 1)}`
      const max = process.platform === "linux" ? 107 : 103
      const deep = fill(directory, max - 4)
      Fs.mkdirSync(deep)
      // A long file name, a short one in a long directory, and letters of two bytes.
      for (const path of [fill(directory, max), `${deep}/app`, `${fill(directory, max - 4)}éé`]) {
        assert.strictEqual(Buffer.byteLength(path), max)
        const { close, listener } = yield* open({ path })
        assert.isTrue(yield* reaches(listener, path))
        yield* close
        const { message, reason } = yield* failure({ path: `${path}1` })
        assert.strictEqual(reason, "PathTooLong")
        assert.include(message, `the path has ${max + 1} bytes, and a UNIX socket's may have at most ${max}.`)
      }
      assert.deepStrictEqual(Fs.readdirSync(deep), [])
      assert.deepStrictEqual(Fs.readdirSync(directory), [Path.basename(deep)])
    }))

  it.live("says what is wrong with an empty path and with a NUL in it", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* failure({ path: "" }), {
        reason: "AddressNotAvailable",
        message: "Cannot listen: the socket path is empty."
      })
      assert.match((yield* failure({ path: "/tmp/a\0b" })).message, /contains a NUL byte/)
    }))
})

describe.skipIf(process.platform !== "linux")("an abstract UNIX listener", () => {
  it.live("listens on the name", () =>
    Effect.gen(function*() {
      const path = `\0effect-fastcgi-test-${process.pid}`
      const { close, listener } = yield* open({ path })
      assert.deepStrictEqual(listener.address, NetAddress.unixPathAddress(path))
      assert.isTrue(yield* reaches(listener, path))
      const { message, reason } = yield* failure({ path })
      assert.strictEqual(reason, "AddressInUse")
      assert.match(message, /^Cannot listen on @effect-fastcgi-test-\d+: another process listens there/)
      yield* close
      assert.strictEqual(yield* connectCode({ path }), "ECONNREFUSED")
    }))
})
